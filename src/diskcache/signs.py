"""What tells other processes that a value is being computed: a sign of the flight.

Implementation note. `flight.py` describes what is in the file, and in which order it is taken,
removed and unlocked. A sign on a server is in `engines/redis/lease.py`.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from diskcache import host
from diskcache.codecs import plain
from diskcache.codecs.keys import key_bytes
from diskcache.entry import EncodedKey
from diskcache.errors import CodecError
from diskcache.failures import Failure
from diskcache.lockfiles import is_there, open_folder, open_or_make

LONGEST_NAP: Final = 0.025
"""Seconds between two looks later on: what is waited in vain at most."""
LONGEST: Final = 4096
"""Bytes of a file that are read."""


STORED: Final = ("stored",)
"""What is left for those who wait, where the value is there for them."""


class Place(NamedTuple):
    """Where a value is kept."""

    directory: str
    """Absolute path of the directory of the cache."""
    name: str
    """What the key is called in the folder of locks."""


def place_of(directory: str, key: EncodedKey) -> Place:
    """Return the place of a key in the cache of a directory."""
    return Place(directory, blake2b(key_bytes(*key), digest_size=16, person=b"flight").hexdigest())


class Landing(NamedTuple):
    """How a flight ended: with an exception, or a value."""

    value: Any = None
    error: Exception | None = None
    is_elsewhere: bool = False
    """Whether another process had the value, and did not store it."""
    is_stored: bool = False
    """Whether another process had the value, and stored it."""


class Sign(Protocol):
    """What stands for a flight between processes."""

    is_slow: bool
    """Whether it is waited for: then no event loop calls `take`, `write` and `peek` itself."""
    must_yield: bool
    """Whether it may be lost while it is held: then a value replaces none that is there."""
    longest_nap: float
    """Seconds between two attempts to take it at most."""

    def take(self) -> bool | Landing:
        """Take it if it is free; return how the flight that was waited for ended, if it did.

        Raises:
            OSError: There is no place for it.
        """
        ...

    def write(self, record: tuple[Any, ...]) -> None:
        """Say what the flight waits for, if it is taken here."""
        ...

    def peek(self) -> tuple[Any, ...]:
        """Return what whoever has taken it says; nothing if nobody has."""
        ...

    def release(self, record: tuple[Any, ...]) -> None:
        """Say how the flight ended, and give it back."""
        ...

    def close(self) -> None:
        """Think no more of it."""
        ...

    def take_all(self, signs: Sequence[Any]) -> list[bool | None]:
        """Take those of many signs of one share that are free; tell of each whether it was.

        None for one that there is no place for: whoever computes does without it.
        """
        ...

    def release_all(self, signs: Sequence[tuple[Any, tuple[Any, ...]]]) -> None:
        """Release many signs of one share, each with its record."""
        ...


Share: TypeAlias = Callable[[Place], Sign]
"""Makes the sign of a place; where None is given instead, other processes have no say."""


def record_of(landing: Landing | None, is_stored: bool) -> tuple[Any, ...]:
    """Return what is left for those who wait."""
    if landing is None:
        return ()
    if is_stored:
        return STORED
    if landing.error is not None:
        return ("failed", *Failure.of(landing.error))
    return ("kept",)


class LockFile:
    """The file that stands for a flight between processes."""

    is_slow = False
    must_yield = False
    longest_nap = LONGEST_NAP

    def __init__(self, place: Place) -> None:
        self._place = place
        self._descriptor = -1
        self._is_mine = False
        # The number of a descriptor that was closed soon means another file.
        self._in_use = threading.RLock()

    def take(self) -> bool | Landing:
        """Lock the file if it is free; return how the flight that was waited for ended, if it did.

        Raises:
            OSError: It cannot be made.
        """
        while True:
            if self._descriptor < 0:
                self._open()
            if not host.lock(self._descriptor):
                return False
            record = parsed(_content(self._descriptor))
            if is_there(*self._place, self._descriptor):
                self._is_mine = True
                if record:
                    self.write(())
                return True
            self.close()
            landing = landing_of(record)
            if landing is not None:
                return landing

    def _open(self) -> None:
        # No child is made while a descriptor is open but not recorded.
        with _forking:
            if len(_open_files) >= host.spare_descriptors():
                raise OSError(errno.EMFILE, "functions need descriptors, too")
            try:
                self._make(make=False)
            except FileNotFoundError:
                self._make(make=True)
            _open_files.add(self)

    def _make(self, *, make: bool) -> None:
        with open_folder(self._place.directory, make=make) as folder:
            self._descriptor = open_or_make(folder, self._place.name)

    def write(self, record: tuple[Any, ...]) -> None:
        """Replace the content of a file that is locked here."""
        data = packed(record)
        with self._in_use, suppress(OSError):
            if self._is_mine:
                os.ftruncate(self._descriptor, 0)
                os.lseek(self._descriptor, 0, os.SEEK_SET)
                os.write(self._descriptor, data)

    def peek(self) -> tuple[Any, ...]:
        """Return what the file at the path says; nothing if there is none."""
        try:
            with open_folder(self._place.directory) as folder:
                descriptor = host.open_file(folder.path(self._place.name), _READ, dir_fd=folder.fd)
        except OSError:
            return ()
        try:
            return parsed(_content(descriptor))
        finally:
            os.close(descriptor)

    def release(self, record: tuple[Any, ...]) -> None:
        """Say how the flight ended, remove the file, and unlock it."""
        if self._is_mine:
            # Who gets the lock of a file looks for the value anyway.
            if record and record != STORED:
                self.write(record)
            with suppress(OSError), open_folder(self._place.directory) as folder:
                os.unlink(folder.path(self._place.name), dir_fd=folder.fd)
        self.close()

    def close(self) -> None:
        """Close the file; a lock is given back."""
        with _forking, self._in_use:
            descriptor, self._descriptor = self._descriptor, -1
            _open_files.discard(self)
            if descriptor >= 0:
                # A child made by a program in C may have a copy: closing ours would not unlock it.
                if self._is_mine:
                    host.unlock(descriptor)
                os.close(descriptor)
            self._is_mine = False

    def take_all(self, signs: Sequence[LockFile]) -> list[bool | None]:
        """Lock those of many files that are free."""
        found: list[bool | None] = []
        for sign in signs:
            try:
                found.append(sign.take() is True)
            except OSError:
                found.append(None)
        return found

    def release_all(self, signs: Sequence[tuple[LockFile, tuple[Any, ...]]]) -> None:
        """Release many files, each with its record."""
        for sign, record in signs:
            sign.release(record)

    def forget(self) -> None:
        """Close the copy of a file that the parent has locked."""
        descriptor, self._descriptor = self._descriptor, -1
        self._is_mine = False
        if descriptor >= 0:
            os.close(descriptor)


_READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _content(descriptor: int) -> bytes:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.read(descriptor, LONGEST)
    except OSError:
        return b""


def packed(record: tuple[Any, ...]) -> bytes:
    """Return a record as bytes; none of one that is too long."""
    data = plain.dumps(record) if record else b""
    return data if len(data) <= LONGEST else b""


def parsed(content: bytes) -> tuple[Any, ...]:
    """Return the record in a file; nothing if there is none, or it is being written."""
    if not content:
        return ()
    try:
        record = plain.loads(content)
    except CodecError:
        return ()
    return record if isinstance(record, tuple) else ()


def landing_of(record: tuple[Any, ...]) -> Landing | None:
    """Return how a flight of another process ended, as a record says; None if it tells nothing."""
    match record:
        case ("failed", *parts):
            failure = Failure.parsed(tuple(parts))
            if failure is not None:
                return Landing(error=failure.revived((), NOTE))
        case ("kept",):
            return Landing(is_elsewhere=True)
        case ("stored",):
            return Landing(is_stored=True)
    return None


NOTE: Final = "raised in another process, which computed the value"


_open_files: set[LockFile] = set()
_forking = threading.RLock()


def _before_fork() -> None:
    _forking.acquire()


def _after_fork_in_parent() -> None:
    _forking.release()


def _after_fork_in_child() -> None:
    """Close copies of what the parent has locked."""
    global _forking  # noqa: PLW0603 - a thread that is not here may hold it
    _forking = threading.RLock()
    for file in list(_open_files):
        file.forget()
    _open_files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
