"""Locks that stay when something in this process drops those of SQLite.

Implementation note.

SQLite's locks are POSIX locks: they belong to the process, and closing any descriptor of a file
drops all that the process has on it. A copy of the directory, a checksum of `cache.db`, or the
module `sqlite3` of the standard library, which is another SQLite with a book of its own, do that
to an open cache. Without the locks it looks closed to everybody else: the next connection of a
program that does not know of `users.lock` removes the log when it closes, and whatever this
process writes from then on is lost.

So what SQLite locks for as long as a connection is open is locked a second time, by descriptors
(`F_OFD_SETLK`), which only their own closing unlocks. There are two such locks: one on `cache.db`,
which keeps others from removing the log; and one on the index of the log, which keeps others from
making it anew. Both are shared, so that they are in the way of nothing but an exclusive lock. Such
is needed by the last of all processes, as it closes, and to change the journal: who does so steps
aside before.

*Noticing.* Beside them one byte far behind the end of each file is locked the POSIX way. Once it is
no longer, SQLite's locks are gone too. That is logged, because what protects one statement while it
runs was lost as well; only a statement that was running at that moment can have met it.

*Life.* The descriptors are closed when this process has no connection to the database any more:
closing them drops the locks of SQLite like any other closing does. So all objects that have
the same file open share one guard, also those that read a directory that was made anew.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from contextlib import suppress
from typing import Final, Protocol

from diskcache import host

log: Final = logging.getLogger("diskcache")

LOCKED: Final = {"": (0x4000_0002, 510), "-shm": (128, 1)}
"""Bytes that SQLite locks while a connection is open, as start and length: of the database (its
"shared" bytes), and of the index of the log (its "dead man's switch")."""
FAR: Final = 2**61
"""Where no lock of SQLite is."""
REPORT_EVERY: Final = 60.0
"""Seconds between two messages."""


class Closable(Protocol):
    """A connection, as far as it matters here."""

    is_closed: bool
    """Whether it is closed, or about to be."""


_guards: dict[tuple[int, int], Guard] = {}
# The end of a thread's connection may come at any moment, also in the middle of these functions.
_lock = threading.RLock()


class Guard:
    """The second locks on one database, for all of this process that have it open."""

    def __init__(self, path: str, key: tuple[int, int], files: dict[str, int]) -> None:
        self.path = path
        self.key = key
        self.lost = 0
        """How often the locks of SQLite were lost."""
        self._files = files
        self._place = FAR + secrets.randbits(60)
        self.is_held = False
        """Whether the second locks are there."""
        self._users: set[object] = set()
        self._report_at = float("-inf")
        self._unreported = 0

    def resume(self, *, is_first: bool = False) -> None:
        """Lock a second time what SQLite has locked.

        With *is_first*, the connection that was just opened is the only one: then SQLite itself has
        unlocked everything since the last look.
        """
        with _lock:
            if self.is_held:
                if is_first:
                    self._missing()
            elif len(self._files) == len(LOCKED):
                self._hold()

    def _hold(self) -> None:
        with suppress(OSError):
            if not host.is_planted(self._files["-shm"], LOCKED["-shm"][0]):
                # SQLite only reads, and nobody is there who writes: it does not lock the index of a
                # process that died, nor believe it. It would, if it found it locked.
                return
            for suffix, (start, length) in LOCKED.items():
                descriptor = self._files[suffix]
                host.hold_range(descriptor, start, length)
                host.plant(descriptor, self._place)
            self.is_held = True

    def step_aside(self, user: object | None = None) -> None:
        """Let this process lock exclusively, if it has the database open for nobody but *user*."""
        with _lock:
            if not self.is_held or (user is not None and self._users != {user}):
                return
            self.is_held = False
            with suppress(OSError):
                for suffix, (start, length) in LOCKED.items():
                    host.give_range_back(self._files[suffix], start, length)

    def look(self, link: Closable) -> None:
        """Notice that locks of SQLite were lost while *link* was open, and log it.

        Cost: two system calls.
        """
        with _lock:
            lost = self._missing() if self.is_held else []
        # Another thread may have closed the last connection: then SQLite has unlocked by itself.
        if lost and not link.is_closed:
            self._report(lost)

    def _missing(self) -> list[str]:
        """Return the files on which locks were lost, and lock the byte that tells again."""
        lost = []
        with suppress(OSError):
            for suffix, descriptor in self._files.items():
                if not host.is_planted(descriptor, self._place):
                    host.plant(descriptor, self._place)
                    lost.append(os.path.basename(self.path) + suffix)
        return lost

    def _report(self, names: list[str]) -> None:
        self.lost += 1
        now = time.monotonic()
        if now < self._report_at:
            self._unreported += 1
            return
        more = f" ({self._unreported} more times since the last report)" if self._unreported else ""
        log.error(
            "cache %r: something in this process opened and closed %s, which drops the locks of"
            ' SQLite%s: copy a cache with backup(), and look into it with "python -m diskcache".'
            " What was written stays visible and safe, because it is locked a second time",
            os.path.dirname(self.path),
            " and ".join(names),
            more,
        )
        self._report_at, self._unreported = now + REPORT_EVERY, 0

    def close(self) -> None:
        """Close the descriptors. In a forked child, this leaves the parent's locks alone."""
        self.is_held = False
        files, self._files = self._files, {}
        for descriptor in files.values():
            with suppress(OSError):
                os.close(descriptor)


def join(path: str, user: object) -> Guard | None:
    """Return what locks the database at *path*, which this process has open with a log, again.

    It does when it is told to `resume`.

    Returns:
        None where the system has no such locks.
    """
    if not host.HAS_RANGE_LOCKS:
        return None
    with _lock:
        try:
            found = os.stat(path)
            key = (found.st_dev, found.st_ino)
            guard = _guards.get(key)
            if guard is None:
                guard = _guards[key] = Guard(path, key, _opened(path))
        except OSError:
            return None
        guard._users.add(user)  # noqa: SLF001 - a part of that class
        return guard


def _opened(path: str) -> dict[str, int]:
    """Return descriptors; what was opened must stay open, even if the next one cannot be."""
    files: dict[str, int] = {}
    with suppress(OSError):
        for suffix in LOCKED:
            files[suffix] = host.open_file(path + suffix, os.O_RDONLY)
    return files


def leave(guard: Guard, user: object) -> None:
    """Let go of a guard; the last one who does closes it, after its last connection."""
    with _lock:
        guard._users.discard(user)  # noqa: SLF001 - a part of that class
        if not guard._users:  # noqa: SLF001
            if _guards.get(guard.key) is guard:
                del _guards[guard.key]
            guard.close()


def of(path: str) -> Guard | None:
    """Return the guard of a database, if this process has one."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _guards.get((found.st_dev, found.st_ino))


def after_fork_in_child() -> None:
    """Close what was inherited; nothing in the parent changes."""
    global _lock  # noqa: PLW0603 - a thread that is not in this process may hold the old one
    _lock = threading.RLock()
    for guard in _guards.values():
        guard.close()
    _guards.clear()
