"""Leases: of all machines that want a value, one computes it.

Implementation note.

While a value is computed, `:c:NAME` in the slot of its key holds the token of who does, 32
hexadecimal digits, and what the flight waits for (`flight.py`). The server removes it after `TERM`
seconds, so that a process that died is replaced. One that lives renews it every `BEAT`, by a thread
that all leases of an engine share, and that ends when there have been none for a while.

It is taken with `SET NX`, and given back by a script, which removes it only if the token is the own
one. A flight that ends leaves `:c:NAME:TOKEN` for a while: the word that its value is stored, or
was not kept, or its exception. Who waited for that token reads it there, and a crowd that waited
does not queue up for the lease to look.

*A lease may be lost*: the server evicts it or forgets it in a failover, the process sleeps, or its
threads do not get to run for longer than the term. Then a second process computes too. For that
case `must_yield` is set: what is computed under a lease is stored only where no live value is, so
it replaces none that somebody stored meanwhile. What was stored meanwhile, and has expired or was
removed before this computation ends, cannot be seen: the older result is then stored.

*Event loops* take leases and give them back where the driver may wait. Where a task is cancelled,
which waits for nothing more, it is left to the renewing thread to give them back.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from diskcache.bridging import here
from diskcache.clock import SYSTEM_CLOCK
from diskcache.engines.redis.looped import LOOK, nap
from diskcache.engines.redis.scripts import LEASE_END, LEASE_WRITE, Script
from diskcache.errors import DiskCacheError, ServerUnavailableError
from diskcache.flight import running_loop
from diskcache.signs import STORED, Landing, Place, landing_of, packed, parsed

TERM: Final = 1250
"""Milliseconds after which the server frees a lease that is not renewed."""
BEAT: Final = 0.25
"""Seconds between two renewals."""
LINGER: Final = 4
"""Beats without a lease after which the renewing thread ends."""
KEPT: Final = 10_000
"""Milliseconds for which an exception is there for those who waited."""
KEPT_SHORTLY: Final = 1000
"""Milliseconds for which it is said that a value is stored."""
LONGEST_NAP: Final = 0.1
"""Seconds between two looks of who waits at most: what a thousand of them ask bears down on one
slot."""
TOKEN: Final = 32
"""Characters of a token."""


class Sender(Protocol):
    """What a driver does for leases."""

    def command(self, *command: Any) -> Any:
        """Send a command, and return the answer."""
        ...

    def answers(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send many commands, and return their answers, or errors of single ones."""
        ...

    def evaluate(
        self, script: Script, keys: Sequence[bytes], args: Sequence[Any], safe: bool
    ) -> Any:
        """Run a script, and return its answer."""
        ...

    def evaluate_all(
        self, script: Script, calls: Sequence[tuple[Sequence[bytes], Sequence[Any]]]
    ) -> list[Any]:
        """Run a script for each of many keys and arguments, and return the answers."""
        ...


class Lease:
    """The sign of a flight on a server.

    Args:
        sender: Sends commands.
        keeper: Renews it.
        key: Where it is, `:c:NAME`.
    """

    is_slow = True
    must_yield = True
    longest_nap = LONGEST_NAP

    def __init__(self, sender: Sender, keeper: Keeper, key: bytes) -> None:
        self.key = key
        self.token = secrets.token_hex(TOKEN // 2).encode()
        self._sender = sender
        self._keeper = keeper
        self.is_mine = False
        """Whether it is held."""
        self._is_over = False
        """Whether nobody wants it any more."""
        self._awaited = b""
        """Token of the flight that is waited for."""

    def take(self) -> bool | Landing:
        """Take the lease if it is free; return how the flight that was waited for ended.

        Raises:
            ServerUnavailableError: The server is away, or does not let it be written.
        """
        try:
            if not self._awaited:
                return self._try()
            keys = self.key, self._outcome(self._awaited)
            held, outcome = self._sender.command("MGET", *keys)
            landing = landing_of(parsed(outcome)) if outcome else None
            if landing is not None:
                self._awaited = b""
                return landing
            if held is None:
                return self._try()
            self._awaited = held[:TOKEN]
        except OSError:
            raise
        except DiskCacheError as exc:
            raise ServerUnavailableError(str(exc)) from exc
        return False

    def _try(self) -> bool:
        (taken,) = self._try_all([self])
        if isinstance(taken, DiskCacheError):
            raise taken
        return taken

    def take_all(self, signs: Sequence[Lease]) -> list[bool | None]:
        """Take those of many leases of the engine that are free: two round trips at most."""
        try:
            found = self._try_all(signs)
        except DiskCacheError:
            return [None] * len(signs)
        return [None if isinstance(taken, DiskCacheError) else taken for taken in found]

    def _try_all(self, leases: Sequence[Lease]) -> list[bool | DiskCacheError]:
        """Take leases; tell of each whether it was free, or why it cannot be taken."""
        try:
            asked = [("SET", each.key, each.token, "NX", "PX", TERM) for each in leases]
            granted = self._sender.answers(asked)
            rest = [each for each, answer in zip(leases, granted, strict=True) if answer is None]
            held = self._sender.answers([("GET", each.key) for each in rest])
        except BaseException as exc:
            # Where a task was cancelled the server may have granted them.
            if not isinstance(exc, Exception):
                for each in leases:
                    self._keeper.later(each, ())
            raise
        found = dict(zip(rest, held, strict=True))
        return [each.note(found.get(each, each.token)) for each in leases]

    def note(self, held: Any) -> bool | DiskCacheError:
        """Take note of what is under the key; tell whether it is the own token."""
        if isinstance(held, DiskCacheError):
            return held
        if held is None:
            return False
        if held[:TOKEN] != self.token:
            self._awaited = held[:TOKEN]
            return False
        self.is_mine = True
        self._keeper.add(self)
        if self._is_over:
            # A task that had a thread take it was cancelled meanwhile.
            self.release(())
        return True

    def _outcome(self, token: bytes) -> bytes:
        return self.key + b":" + token

    def write(self, record: tuple[Any, ...]) -> None:
        """Say what the flight waits for; who is in a ring and does not learn of it waits longer."""
        if self.is_mine:
            with suppress(DiskCacheError):
                args = self.token, packed(record)
                self._sender.evaluate(LEASE_WRITE, (self.key,), args, True)

    def peek(self) -> tuple[Any, ...]:
        """Return what the flight of another one waits for."""
        with suppress(DiskCacheError):
            return parsed((self._sender.command("GET", self.key) or b"")[TOKEN:])
        return ()

    def release(self, record: tuple[Any, ...]) -> None:
        """Give the lease back; leave the record for those who wait."""
        self._is_over = True
        if not self.is_mine:
            return
        self.is_mine = False
        is_in_loop = running_loop() is not None and here.call is None
        if is_in_loop and self._keeper.later(self, record):
            return
        self._keeper.drop(self)
        self.give_back(record)

    def release_all(self, signs: Sequence[tuple[Lease, tuple[Any, ...]]]) -> None:
        """Give many leases of the engine back, each with its record: one round trip."""
        held = [(lease, record) for lease, record in signs if lease.is_mine]
        for lease, _ in signs:
            lease.close()
        try:
            if len(held) == 1:
                ((lease, record),) = held
                lease.give_back(record)
            else:
                calls = [lease.ending(record) for lease, record in held]
                with suppress(DiskCacheError):
                    self._sender.evaluate_all(LEASE_END, calls)
        except BaseException:
            # A task that was cancelled waits for nothing more.
            for lease, record in held:
                self._keeper.later(lease, record)
            raise

    def give_back(self, record: tuple[Any, ...]) -> None:
        """Remove the lease on the server, where it ends by itself if that fails."""
        with suppress(DiskCacheError):
            self._sender.evaluate(LEASE_END, *self.ending(record), True)

    def ending(self, record: tuple[Any, ...]) -> tuple[tuple[bytes, ...], tuple[Any, ...]]:
        """Return keys and arguments of the script that ends the lease."""
        kept = KEPT if record != STORED else KEPT_SHORTLY
        return (self.key, self._outcome(self.token)), (self.token, packed(record), kept)

    def close(self) -> None:
        """Think no more of it."""
        self._is_over = True
        self.is_mine = False
        self._keeper.drop(self)


class Keeper:
    """Renews the leases of one engine in one process, in a thread that is there while needed.

    The thread is a daemon: the exit of the interpreter does not wait for it, and the leases of a
    process that ends run out. A forked child has no leases.

    Args:
        sender: Sends commands.
    """

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._leases: set[Lease] = set()
        self._to_do: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None
        self._is_closing = False

    def add(self, lease: Lease) -> None:
        """Renew a lease from now on."""
        if self._pid != os.getpid():
            self._forget()
        with self._changed:
            self._leases.add(lease)
            self._start()

    def drop(self, lease: Lease) -> None:
        """Renew a lease no more."""
        if self._pid == os.getpid():
            with self._changed:
                self._leases.discard(lease)

    def _holds(self, lease: Lease) -> bool:
        with self._changed:
            return lease in self._leases

    def later(self, lease: Lease, record: tuple[Any, ...]) -> bool:
        """Give a lease back soon; tell whether there is a thread that will."""
        if self._pid != os.getpid():
            return False
        with self._changed:
            self._leases.discard(lease)
            if not self._start():
                return False
            self._to_do.append(lambda: lease.give_back(record))
            self._changed.notify()
        return True

    def close(self) -> None:
        """End the thread, unless a lease is held, and wait for that."""
        if self._pid != os.getpid():
            return
        with self._changed:
            thread, self._is_closing = self._thread, not self._leases
            self._changed.notify()
            if not self._is_closing or thread is threading.current_thread():
                return
        # Whoever takes a lease meanwhile keeps the thread.
        while thread is not None and thread.is_alive() and self._is_closing:
            if here.call is not None:
                nap(SYSTEM_CLOCK, LOOK)
            else:
                thread.join(BEAT)

    def _start(self) -> bool:
        self._is_closing = False
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="diskcache leases", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No thread can be had: the lease lasts one term.
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        idle = 0
        while True:
            with self._changed:
                if not self._to_do and not self._is_closing:
                    self._changed.wait(BEAT)
                to_do, self._to_do = self._to_do, []
                leases = list(self._leases)
                idle = 0 if leases or to_do else idle + 1
                if idle > LINGER or (self._is_closing and not to_do):
                    self._thread = None
                    return
            for step in to_do:
                step()
            if leases:
                self._renew(leases)

    def _renew(self, leases: list[Lease]) -> None:
        """Renew leases that are still held, and take again what the server has forgotten."""
        with suppress(DiskCacheError):
            found = self._sender.answers([("GET", lease.key) for lease in leases])
            commands: list[tuple[Any, ...]] = []
            for lease, held in zip(leases, found, strict=True):
                if held is None:
                    commands.append(("SET", lease.key, lease.token, "NX", "PX", TERM))
                elif holder_in(held) == lease.token:
                    commands.append(("PEXPIRE", lease.key, TERM))
            self._sender.answers(commands)
            # One that was given back just now may have been taken again here.
            for lease in leases:
                if not self._holds(lease):
                    lease.give_back(())


def holder_in(answer: Any) -> bytes:
    """Return the token in what was found under the key of a lease; none in something foreign."""
    return answer[:TOKEN] if isinstance(answer, bytes) else b""


def key_in(place: Place, prefix: bytes) -> bytes:
    """Return where the lease of a place is, in the shard whose keys have a prefix."""
    return prefix + b"c:" + place.name.encode()
