"""Who may hold a lock: processes of one machine, or of all that share a server.

On one machine a holder that dies is seen to be dead at once (see `liveness`), and leases are
measured in uptime. On a server nobody sees that: a lease is all there is, it is measured by the
server's clock, and without one a lock cannot be had. Fencing numbers are counted by the server; a
replica that takes the place of its master may not know the last ones, and then numbers are given
again. Whoever stores the largest number that it has seen, and refuses smaller ones, is not hurt.
"""

from __future__ import annotations

import os
import secrets
from typing import Any, Final, Protocol

from diskcache import host
from diskcache.clock import uptime
from diskcache.errors import SettingError
from diskcache.recipes import liveness
from diskcache.recipes.rows import Cell

ON_SERVER: Final = 0
"""Stands for the boot in which a lease is measured, where it is the server that measures."""


class Owner(Protocol):
    """A process as a holder."""

    @property
    def token(self) -> str:
        """Its name; nothing in a forked child."""
        ...


class Parties(Protocol):
    """What a lock asks about holders."""

    def owner(self) -> Owner:
        """Return this process as a holder."""
        ...

    def known_owner(self) -> Owner | None:
        """Return what `owner` last returned, if it still holds something."""
        ...

    def next_fence(self, owner: Owner, above: int) -> int:
        """Return a fencing number that is larger than *above* and all before it."""
        ...

    def confirmed(self, fence: int) -> int:
        """Return the number of a hold that was just stored: that, or a later one if it is late."""
        ...

    def keep(self, owner: Owner) -> None:
        """Keep *owner* alive until `let_go` is called as often."""
        ...

    def let_go(self, owner: Owner, times: int) -> None:
        """Undo that many calls of `keep`."""
        ...

    def lease(self, expire: float | None) -> tuple[int, float | None]:
        """Return by which clock a lease is measured, and when it ends."""
        ...

    def is_over(self, token: str, boot: int, until: float | None) -> bool:
        """Tell whether a holder counts no more: it is dead, or its lease is over."""
        ...


class OfThisMachine:
    """Processes that share a directory."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def owner(self) -> liveness.Owner:
        """Return this process, with a locked file."""
        return liveness.owner_of(self._cell.directory)

    def known_owner(self) -> liveness.Owner | None:
        """Return this process, if it has a file."""
        return liveness.known_owner(self._cell.directory)

    def next_fence(self, owner: Any, above: int) -> int:
        """Return the next number; the write lock of the cache is held."""
        number: int = owner.next_fence(above)
        return number

    def confirmed(self, fence: int) -> int:
        """Return the same: nobody took a number meanwhile."""
        return fence

    def keep(self, owner: Any) -> None:
        """Keep the file."""
        liveness.keep(owner)

    def let_go(self, owner: Any, times: int) -> None:
        """Let go of the file."""
        liveness.let_go(owner, times)

    def lease(self, expire: float | None) -> tuple[int, float | None]:
        """Return this boot, and an uptime."""
        until = None if expire is None else float(uptime(self._cell.clock) + expire)
        return host.boot_id(), until

    def is_over(self, token: str, boot: int, until: float | None) -> bool:
        """Tell whether the process is gone, or the lease of this boot is over."""
        if until is not None and boot == host.boot_id() and uptime(self._cell.clock) >= until:
            return True
        return liveness.is_dead(self._cell.directory, token)


class _Process:
    """A process without a file. A forked child is another one."""

    def __init__(self) -> None:
        self._pid, self._token = os.getpid(), secrets.token_hex(16)

    @property
    def token(self) -> str:
        """Thirty-two hexadecimal digits; nothing in a forked child."""
        return self._token if self._pid == os.getpid() else ""


class OfServer:
    """Processes of all machines that share a server."""

    _process: _Process | None = None

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def owner(self) -> _Process:
        """Return this process."""
        if OfServer._process is None or not OfServer._process.token:
            OfServer._process = _Process()
        return OfServer._process

    def known_owner(self) -> _Process:
        """Return this process."""
        return self.owner()

    def next_fence(self, owner: Any, above: int) -> int:
        """Let the server count."""
        del owner
        return self._cell.next_fence(above)

    def confirmed(self, fence: int) -> int:
        """Return the same if nobody took a number since, else one that is later still.

        Somebody else may have taken the lock and given it back between the drawing of a number
        and the storing of its holder, which then finds all as it was.
        """
        latest = self._cell.next_fence(fence)
        return fence if latest == fence + 1 else latest

    def keep(self, owner: Any) -> None:
        """Do nothing: a lease is all there is."""

    def let_go(self, owner: Any, times: int) -> None:
        """Do nothing: a lease is all there is."""

    def lease(self, expire: float | None) -> tuple[int, float | None]:
        """Return a moment of the server's clock."""
        return ON_SERVER, None if expire is None else self._cell.clock.time() + expire

    def is_over(self, token: str, boot: int, until: float | None) -> bool:
        """Tell whether a lease is over; one that is not of a server's lock never is."""
        del token
        return boot == ON_SERVER and until is not None and self._cell.clock.time() >= until


def parties_of(cell: Cell, expire: float | None) -> Parties:
    """Return who may hold a lock that is kept in *cell*.

    Raises:
        SettingError: It is on a server, and there is no lease.
        ServerPolicyError: The server may evict it.
    """
    if cell.is_on_one_machine:
        return OfThisMachine(cell)
    if expire is None:
        raise SettingError(
            "a lock on a server needs a lease, since nobody sees there that its holder died: pass"
            " expire=SECONDS, longer than the work takes"
        )
    cell.refuse_eviction("a lock")
    return OfServer(cell)
