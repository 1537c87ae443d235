"""Who is alive: every process that holds a lock holds a locked file beside it.

Format. The folder `locks` of a cache directory holds

    <32 hex digits>    empty; locked exclusively for as long as the process that made it, and
                       wrote this name into the entries of its locks, is alive and needs it
    fence              two 64-bit words, big-endian: the boot in which the last fencing number
                       was given, and that number

The kernel unlocks the file of a process that dies, however it dies. That needs neither process
ids, which are used again and mean something else in every container, nor clocks.

*Making and sweeping.* A name is never used twice. Whoever finds a file that nobody has locked
removes it, with the lock in hand; whoever makes one locks it, and then looks whether it is still
there. So a file that is at its path and locked belongs to a process that lives.

*Fork.* A child closes its copies of the descriptors, which keeps the locks of the parent, and has
a name of its own once it needs one. No child is made while a descriptor is open but not recorded.

*Fencing numbers* are given under the write lock of the cache. The upper 32 bits are one more in
every new boot, and flushed to the disk then: what a power failure loses is smaller.
"""

from __future__ import annotations

import os
import re
import secrets
import struct
import threading
import weakref
from contextlib import suppress
from typing import Final

from diskcache import host
from diskcache.files import LOCKS, Folder
from diskcache.lockfiles import (
    OPEN,
    identity_of,
    is_at,
    is_there,
    open_folder,
    open_or_make,
)

TOKEN: Final = re.compile(r"[0-9a-f]{32}")
FENCE: Final = "fence"
FENCE_WORDS: Final = struct.Struct(">QQ")
EPOCH: Final = 1 << 32
"""Fencing numbers that are skipped when the machine has started again."""

LAST: Final = 1 << 63
"""No fencing number is as large: one that is was not written by this library."""

TRIES: Final = 10
"""Attempts to make a file that others may take for a stale one."""


class _Open:
    """The descriptors of this process: of its file, which is locked, and of `fence`."""

    __slots__ = ("descriptor", "directory", "fence", "ident", "path", "pid", "token")

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.pid = os.getpid()
        self.token, self.descriptor = _make(directory)
        self.path = os.path.join(directory, LOCKS, self.token)
        self.ident = identity_of(os.fstat(self.descriptor))
        self.fence = -1
        _opened.add(self)
        try:
            with open_folder(directory) as folder:
                self.fence = open_or_make(folder, FENCE)
        except BaseException:
            self.retire()
            raise

    def close(self) -> None:
        """Close the descriptors; what is locked through copies of them stays locked."""
        for name in ("descriptor", "fence"):
            descriptor = getattr(self, name)
            # Its number soon means another file, in this process and in a child made just now.
            setattr(self, name, -1)
            if descriptor >= 0:
                os.close(descriptor)

    def retire(self) -> None:
        """Remove the file and close it, unless another process made it."""
        if self.pid != os.getpid():
            return
        with suppress(OSError), open_folder(self.directory) as folder:
            os.unlink(folder.path(self.token), dir_fd=folder.fd)
        _opened.discard(self)
        self.close()


class Owner:
    """This process, as a holder of locks in one directory.

    The file is there for as long as the object is. `keep` it while it is named in an entry.
    """

    __slots__ = ("__weakref__", "_open")

    def __init__(self, directory: str) -> None:
        self._open = _Open(directory)
        # Runs at the exit of the interpreter too.
        weakref.finalize(self, self._open.retire)

    @property
    def token(self) -> str:
        """Name of the file, 32 hexadecimal digits; nothing in a forked child."""
        return self._open.token if self._open.pid == os.getpid() else ""

    def is_current(self) -> bool:
        """Tell whether the file is this process's, and still at its path."""
        opened = self._open
        return opened.pid == os.getpid() and is_at(opened.path, opened.ident)

    def next_fence(self, above: int) -> int:
        """Return a number larger than *above*, and than any that was returned in the directory.

        Call it only with the write lock of the cache in hand.

        Raises:
            OSError: It cannot be recorded.
        """
        boot, descriptor = host.boot_id(), self._open.fence
        found = host.pread(descriptor, FENCE_WORDS.size, 0)
        is_sound = len(found) == FENCE_WORDS.size
        last_boot, last = FENCE_WORDS.unpack(found) if is_sound else (boot, 0)
        last = max(last, above) if last < LAST else above
        is_new_boot = last_boot != boot
        number: int = (last // EPOCH + 1) * EPOCH if is_new_boot else last + 1
        host.pwrite(descriptor, FENCE_WORDS.pack(boot, number), 0)
        if is_new_boot or not is_sound:
            os.fsync(descriptor)
        return number


_opened: set[_Open] = set()
_owners: weakref.WeakValueDictionary[str, Owner] = weakref.WeakValueDictionary()
_kept: dict[Owner, int] = {}
_guard = threading.RLock()


def owner_of(directory: str) -> Owner:
    """Return this process as a holder of locks in *directory*.

    Raises:
        OSError: The file cannot be made.
    """
    with _guard:
        owner = _owners.get(directory)
        if owner is None or not owner.is_current():
            sweep(directory)
            owner = _owners[directory] = Owner(directory)
        return owner


def known_owner(directory: str) -> Owner | None:
    """Return what `owner_of` last returned, if it is still there."""
    return _owners.get(directory)


def keep(owner: Owner) -> None:
    """Keep *owner* alive until `let_go` is called as often: an entry names it."""
    with _guard:
        _kept[owner] = _kept.get(owner, 0) + 1


def let_go(owner: Owner, times: int = 1) -> None:
    """Undo that many calls of `keep`."""
    with _guard:
        count = _kept.pop(owner, 0)
        if count > times:
            _kept[owner] = count - times


def is_dead(directory: str, token: str) -> bool:
    """Tell whether the process that called itself *token* is gone; remove its file then.

    One whose file cannot be looked at, for want of permission say, counts as alive.
    """
    if not TOKEN.fullmatch(token):
        return True
    with _guard:
        try:
            with open_folder(directory) as folder:
                return _is_free(folder, token)
        except FileNotFoundError:
            return True
        except OSError:
            return False


def sweep(directory: str) -> int:
    """Remove the files of processes that are gone; return how many."""
    removed = 0
    with suppress(OSError), open_folder(directory) as folder:
        for name in os.listdir(folder.fd if folder.base is None else folder.base):
            if TOKEN.fullmatch(name):
                with suppress(OSError):
                    removed += _is_free(folder, name)
    return removed


def _make(directory: str) -> tuple[str, int]:
    """Make a file of this process, and lock it."""
    for _ in range(TRIES):
        token = secrets.token_hex(16)
        with open_folder(directory, make=True) as folder:
            descriptor = open_or_make(folder, token)
        if host.lock(descriptor) and is_there(directory, token, descriptor):
            return token, descriptor
        os.close(descriptor)
    raise OSError(f"the folder {LOCKS!r} of {directory!r} does not keep files")


def _is_free(folder: Folder, token: str) -> bool:
    """Tell whether nobody has a file locked, and remove it then.

    Raises:
        OSError: It cannot be opened.
    """
    descriptor = host.open_file(folder.path(token), OPEN, dir_fd=folder.fd)
    try:
        if not host.lock(descriptor):
            return False
        with suppress(OSError):
            os.unlink(folder.path(token), dir_fd=folder.fd)
        return True
    finally:
        os.close(descriptor)


def _before_fork() -> None:
    _guard.acquire()


def _after_fork_in_parent() -> None:
    _guard.release()


def _after_fork_in_child() -> None:
    """Let go of the parent's files, which stay locked by the parent."""
    global _guard  # noqa: PLW0603 - a thread that is not in this process may hold the old one
    _guard = threading.RLock()
    for opened in list(_opened):
        opened.close()
    _opened.clear()
    _owners.clear()
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
