"""What one process shares about one cache directory: gate, control file, open connections.

Implementation note.

*Identity.* A `Site` is found by the real path of the directory and checked against the file that
is at `gate.lock` now: a directory that was removed and made again is another site, and objects
that still have the old one open keep it until they close or notice.

*Life.* Every process holds `users.lock` shared while it has a connection. Whoever closes its last
connection and gets the lock for itself alone is the last of all: its connection then removes the
write-ahead log. The others leave the log in place, so that no process ever deletes it under
another one that lost its locks because somebody opened and closed the database file.

*Fork.* See forking.py. What a child still inherits it parks for the rest of its life; it closes its
copies of the lock descriptors (which keeps the parent's locks; unlocking would not), and connects
anew.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import apsw

from diskcache import host
from diskcache.clock import Clock
from diskcache.coherence import Tally
from diskcache.engines.sqlite import control as control_file
from diskcache.engines.sqlite import guard
from diskcache.engines.sqlite.control import BOOT, FILES, HITS, MASK, MISSES, OPEN
from diskcache.engines.sqlite.errors import directory_error
from diskcache.engines.sqlite.gate import Gate, GateClosed
from diskcache.errors import LockedError, Timeout

if TYPE_CHECKING:
    from diskcache.engines.sqlite.connection import Link

DATABASE: Final = "cache.db"
GATE: Final = "gate.lock"
USERS: Final = "users.lock"
LONGEST_CLOSING: Final = 60.0
"""Seconds to wait for the last process that had the directory open to close it."""

CLOSERS: Final = 20
"""Looks, a millisecond apart, whether others who are about to close have come to their end."""

_sites: dict[str, Site] = {}
"""The current site of each directory."""
_open: set[Site] = set()
"""Every site with connections, those of removed directories and of readers included."""
_parked: list[object] = []
_uncounted: dict[str, Tally] = {}
"""Reads of sites that were closed before they could be written down."""


class Registry:
    """The lock under which sites and connections are opened and closed.

    It is used by `with registry.lock`, never through a method of this class: no signal handler
    can raise between the taking of a lock by `with` and the beginning of the block.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def renew(self) -> None:
        """Make another lock: a thread that is not in this process may hold the old one."""
        self.lock = threading.RLock()


registry: Final = Registry()


class Forgetful(Protocol):
    """Something that must forget its connections in a forked child."""

    def forget(self) -> None:
        """Drop every reference to a connection without closing it."""
        ...


_forgetful: weakref.WeakSet[Forgetful] = weakref.WeakSet()


class Site:
    """One cache directory as this process has it open."""

    def __init__(self, directory: str, clock: Clock, mode: int, readonly: bool = False) -> None:
        self.directory = directory
        self.mode = mode
        self.pid = os.getpid()
        self.links: set[Link] = set()
        self.off: dict[str, str] = {}
        self.control: control_file.Control | None = None
        self.control_path = os.path.join(directory, control_file.NAME)
        self.is_shared_memory_safe = not readonly
        self.is_far = False
        """Whether other machines may see the directory too."""
        self.look_at = 0.0
        """Moment from which the control file at the path must be looked at again."""
        self.database = 0
        """Number of the database file, once it is open: another may come in its place."""
        self.database_path = os.path.join(directory, DATABASE)
        self.tally = Tally()
        self.guard: guard.Guard | None = None
        """What keeps the locks of SQLite, where there is a log."""
        self._gate_path = os.path.join(directory, GATE)
        self._gate_descriptor = self._users = -1
        self._identity = (0, 0)
        self._is_alone = False
        self.gate = Gate(-1, clock)
        _open.add(self)
        if readonly:
            # Nobody gets through: what would write takes the way that says why.
            self.gate.close()
            return
        self._open_locks(clock)
        if kind := host.network_filesystem(directory):
            self.is_shared_memory_safe, self.is_far = False, True
            self.off["control"] = self.off["log"] = f"{kind} is a network file system"

    def _open_locks(self, clock: Clock) -> None:
        try:
            self._gate_descriptor = _open_lock(self.directory, GATE, self.mode)
            self.gate = Gate(self._gate_descriptor, clock)
            self._identity = _identity(os.fstat(self._gate_descriptor))
            self._users = _open_lock(self.directory, USERS, self.mode)
            self._join()
        except BaseException:
            self._close()
            raise

    def _join(self) -> None:
        """Become one of the users, when nobody is just removing the log as the last one."""
        deadline = time.monotonic() + LONGEST_CLOSING
        while not host.lock(self._users, shared=True):
            if time.monotonic() > deadline:
                raise LockedError(
                    f"cache {self.directory!r} is being closed by a process that does not come to"
                    f" an end: stop the process that holds {USERS}"
                )
            time.sleep(0.001)

    def is_in_place(self) -> bool:
        """Tell whether the directory is still the one that was opened, whatever its database is."""
        with suppress(OSError):
            return _identity(os.stat(self._gate_path)) == self._identity
        return False

    def is_current(self) -> bool:
        """Tell whether the directory at this path is still the one that was opened."""
        try:
            found = os.stat(self._gate_path)
        except OSError:
            return False
        # No other file gets these numbers as long as this one is open.
        return _identity(found) == self._identity and (
            not self.database or control_file.inode_of(self.database_path) == self.database
        )

    def protect(self) -> None:
        """Lock a second time what SQLite locks while it has the database open with a log.

        Call it before a new connection is added.
        """
        with registry.lock:
            if self.guard is None:
                self.guard = guard.join(self.database_path, self)
                if self.guard is not None:
                    self.database = self.database or self.guard.key[1]
            if self.guard is not None:
                sharing = [here for here in list(_open) if here.guard is self.guard]
                # Another thread may be in the middle of closing what was the last one. (Copies, as
                # connections of threads that have ended may be collected at any moment.)
                is_first = all(link.is_closed for here in sharing for link in list(here.links))
                self.guard.resume(is_first=is_first)
            # Who only reads has nothing to be kept, as long as nobody is there who writes.
            if self.guard is None or not (self.guard.is_held or self._users < 0):
                self.off["locks"] = "locks of SQLite cannot be kept if others open its files"

    def look_at_locks(self, link: Link) -> None:
        """Notice that something dropped the locks of SQLite while *link* was open."""
        if self.guard is not None:
            self.guard.look(link)

    def attach_control(self, cache_id: bytes) -> None:
        """Map the control file if it is not mapped yet and there is one; the database is open."""
        self.database = self.database or control_file.inode_of(self.database_path)
        if self.control is None and self.is_shared_memory_safe:
            self.use(control_file.attach(self.directory, cache_id))

    def use(self, control: control_file.Control | None) -> None:
        """Work with a mapping instead of the one there was."""
        self._give_up_control()
        self.control = control
        if control is None:
            self.off["control"] = "there is no control file that can be used; a writer makes one"
        else:
            control.source.tally = self.tally
            self.off.pop("control", None)

    def _give_up_control(self) -> None:
        if self.control is not None:
            self.control.source.retire()
            # Threads may be looking at the mapping: the last one to let go of it unmaps it.
            self.control = None

    def renew_control(self, cache_id: bytes) -> control_file.Control | None:
        """Map the control file that is at the path now, making one if there is none.

        Call it only inside a write transaction.
        """
        if not self.is_shared_memory_safe:
            return None
        self.use(
            control_file.attach(self.directory, cache_id)
            or control_file.create(self.directory, cache_id, self.mode & 0o666)
        )
        if self.control is None:
            self.off["control"] = "the control file cannot be made or mapped"
            try:
                control_file.withdraw(self.directory)
            except OSError as exc:
                raise directory_error(exc.errno or 0, self.directory) from exc
        return self.control

    def confirm_control(self, cache_id: bytes) -> None:
        """See to it that the mapping is that of the file at the path, unless somebody writes.

        Where it is not, nothing in memory is believed any more. Another file that is there already
        is mapped; a new one is made by the next writer.
        """
        control = self.control
        path = self.control_path
        if control is not None and control_file.inode_of(path) == control.inode:
            return
        if control is not None:
            control.source.retire()
        holder = object()
        try:
            self.gate.acquire(0, holder)
            if self.is_shared_memory_safe:
                self.use(control_file.attach(self.directory, cache_id))
            self.look_at = 0.0
        except (Timeout, GateClosed):
            pass  # Whoever writes sees to it.
        finally:
            self.gate.release(holder)

    def add(self, link: Link) -> None:
        """Take note of an open connection."""
        with registry.lock:
            self.links.add(link)

    def leave(self) -> None:
        """Close the site if opening a connection failed and there is no other."""
        with registry.lock:
            if not self.links:
                self._close()

    def is_last(self, link: Link) -> bool:
        """Tell whether *link* is the last connection of all processes, and keep others out.

        Processes that want to open the directory wait until `remove` is called.
        """
        with registry.lock:
            self._is_alone = self.links == {link} and host.lock(self._users)
            if self._is_alone and self.guard is not None:
                self.guard.step_aside(self)
            return self._is_alone

    def is_deserted(self, link: Link) -> bool:
        """Tell whether *link*, closed by now, was the last one, and left the log all the same.

        Two processes that close at the same moment each find that the other one is still there.
        """
        with registry.lock:
            if self._users < 0 or not os.path.exists(self.database_path + "-wal"):
                return False
            return self.is_last(link)

    def distrust(self) -> None:
        """Have the rows counted if nobody closed the database, and yet there is no log.

        Call it when the database is open, if there was no log before.
        """
        control = self.control
        if control is None or not control.words[OPEN] or not self._is_alone_now():
            return
        # As after a restart of the machine; and files may be there that no row names.
        control.words[BOOT] = 0
        control.is_of_this_boot = False
        control.words[FILES] = 1

    def _is_alone_now(self) -> bool:
        with registry.lock:
            is_alone = not self.links and host.lock(self._users)
            # A lock that could not be made exclusive is lost, and somebody else may have it now.
            self._join()
            return is_alone

    def note_closed(self) -> None:
        """Say that the last connection of all processes has closed the database."""
        if self.control is not None and self.control.words[OPEN]:
            self.control.words[OPEN] = 0

    def stay(self) -> None:
        """Let other processes open the directory again."""
        with registry.lock:
            if self._is_alone:
                self._is_alone = False
                self._join()
                if self.guard is not None:
                    self.guard.resume()

    def part_from(self, link: Link, remove_log: Callable[[str], None]) -> None:
        """Take note of a closed connection, and remove the log if the last ones left it.

        In one step: of two threads that close at once, the second finds that it is the last.
        """
        with registry.lock:
            if self._is_alone:
                self._remove_left_log(remove_log)
            elif self.is_current() and self.is_deserted(link):
                with suppress(apsw.Error):
                    remove_log(self.directory)
                    self.note_closed()
            self.remove(link)

    def _remove_left_log(self, remove_log: Callable[[str], None]) -> None:
        """Remove a log that is there although the last connection was closed.

        One that closed at the same moment had it open a little longer, and cannot see that it was
        the last one, as long as this one keeps others out.
        """
        for _ in range(CLOSERS):
            if not os.path.exists(self.database_path + "-wal") or not self.is_current():
                return
            with suppress(apsw.Error):
                remove_log(self.directory)
            time.sleep(0.001)

    def remove(self, link: Link) -> None:
        """Take note of a closed connection; the last one of this process closes the site."""
        with registry.lock:
            self.links.discard(link)
            if not self.links:
                self._close()
            else:
                # Another thread connected while this one was closing.
                self.stay()

    def _close(self) -> None:
        _open.discard(self)
        if self._users >= 0 and (self.tally.hits or self.tally.misses):
            _uncounted[self.directory] = self.tally
        if _sites.get(self.directory) is self:
            del _sites[self.directory]
        self._give_up_control()
        if self.guard is not None:
            guard.leave(self.guard, self)
            self.guard = None
        self.gate.close()
        users, self._users = self._users, -1
        if users >= 0:
            os.close(users)

    def park(self) -> None:
        """Give up everything in a forked child, without a trace in the parent."""
        _parked.extend(self.links)
        _parked.append(self)
        if self.control is not None:
            self.control.source.retire()
        for descriptor in (self._gate_descriptor, self._users):
            with suppress(OSError):
                os.close(descriptor)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _open_lock(directory: str, name: str, mode: int) -> int:
    path = os.path.join(directory, name)
    try:
        with suppress(FileNotFoundError):
            return host.open_file(path, os.O_RDWR)
        with suppress(FileExistsError):
            return host.open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode & 0o666)
        return host.open_file(path, os.O_RDWR)
    except OSError as exc:
        raise directory_error(exc.errno or 0, directory) from exc


def enter(directory: str, clock: Clock, mode: int) -> Site:
    """Return the site of a directory, opening it if this process has not."""
    with registry.lock:
        site = _sites.get(directory)
        if site is None or site.pid != os.getpid() or not site.is_current():
            site = _sites[directory] = Site(directory, clock, mode)
            site.tally = _uncounted.pop(directory, site.tally)
        return site


def enter_readonly(directory: str, clock: Clock) -> Site:
    """Return a site of its own for a connection that never writes: no lock, no control file."""
    return Site(directory, clock, 0, readonly=True)


def save_statistics(tally: Tally, words: memoryview[int]) -> None:
    """Add the reads of this process to those of all. The gate is held."""
    hits, misses, tally.hits, tally.misses = tally.hits, tally.misses, 0, 0
    words[HITS] = (words[HITS] + hits) & MASK
    words[MISSES] = (words[MISSES] + misses) & MASK


def remember(engine: Forgetful) -> None:
    """Have *engine* told in forked children."""
    _forgetful.add(engine)


def after_fork_in_child() -> None:
    """Park all that was inherited."""
    registry.renew()
    for site in list(_open):
        site.park()
    _open.clear()
    _sites.clear()
    _uncounted.clear()
    guard.after_fork_in_child()
    for engine in list(_forgetful):
        engine.forget()


def opened() -> list[Site]:
    """Return every site with connections."""
    return list(_open)


def close_all() -> None:
    """Close every connection of this process, rolling back what is unfinished."""
    with registry.lock:
        for site in list(_open):
            for link in list(site.links):
                link.close()


atexit.register(close_all)
