"""Values that are too large for the database: one file each, confined to the cache directory.

Format. A value file is named `ab/cd/<28 hex digits>.val`, all of them random, and holds the bytes
of the value and nothing else, so that a web server can send it. One process puts up to 256 files
into one folder before it takes another. Length and CRC-32 of a file are kept with the entry. A file
being written lies in `tmp/` under `<32 hex digits>.tmp`, locked by its writer for as long as the
writer lives.

Every file is reached relative to a descriptor of its folder and never through a symbolic link,
so neither a planted link nor a name in the database leads outside.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final, NamedTuple

from diskcache import host
from diskcache.entry import Staged

BLOCK: Final = 2**22
"""Bytes copied at a time from a stream to a file."""

TEMPORARY: Final = "tmp"
LOCKS: Final = "locks"
"""Folder of the processes that hold locks; see `diskcache.recipes.liveness`."""
KEPT: Final = "cache.db.5"
"""Copy of the database of version 5, where it is kept; see `diskcache.engines.sqlite.upgrade`."""
OWN_NAME: Final = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")
TEMPORARY_NAME: Final = re.compile(TEMPORARY + r"/[0-9a-f]{32}\.tmp")
DAMAGE_FOLDER: Final = re.compile(r"damaged-[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")
"""Folder of a damaged database; see `diskcache.engines.sqlite.quarantine`."""
SAFE_PART: Final = re.compile(r"(?!\.{1,2}\Z)[^/\\\0]{1,255}")
RESERVED: Final = frozenset(
    {"cache.db", "cache.db-wal", "cache.db-shm", "cache.db-journal", "control", TEMPORARY, LOCKS}
    | {"gate.lock", "users.lock", "reserve", KEPT}
)
DATABASES: Final = frozenset(name for name in RESERVED if name.startswith("cache.db"))
FOLDER: Final = 256
"""Files that one process puts into one folder before it takes another: making a folder for each
file, and removing it, would take longer than writing the file."""
TRIES: Final = 10
"""Attempts to create a file in a folder that others may remove because it is empty."""


def new_name() -> str:
    """Return a name that no other value file has."""
    digits = secrets.token_hex(16)
    return f"{digits[:2]}/{digits[2:4]}/{digits[4:]}.val"


def new_damage_folder(now: float) -> str:
    """Return the name of a folder for a database that is set aside now."""
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
    return f"damaged-{moment}-{secrets.token_hex(4)}"


def is_safe(name: object) -> bool:
    """Tell whether what a row names can only lead to a value file inside the directory.

    The names of the library's own files are not free in any case: some file systems take
    `CACHE.DB` for `cache.db`. Nor is a database in a folder: to open it as a file would drop the
    locks that SQLite holds on it.
    """
    if type(name) is not str:
        return False
    parts = name.casefold().split("/")
    return (
        parts[0] not in RESERVED
        and DATABASES.isdisjoint(parts)
        and all(map(SAFE_PART.fullmatch, parts))
    )


def _split(name: str) -> tuple[list[str], str]:
    """Split a relative name into its folders and its last part.

    Raises:
        OSError: It could lead outside the directory.
    """
    parts = name.split("/") if type(name) is str else [""]
    if not all(map(SAFE_PART.fullmatch, parts)):
        raise OSError(errno.EINVAL, "name leads outside the cache directory", name)
    return parts[:-1], parts[-1]


class Folder(NamedTuple):
    """An open folder, or its path where folders cannot be opened."""

    base: str | None
    fd: int | None

    def path(self, name: str) -> str:
        """Return what to pass, together with `fd`, to reach *name* in the folder."""
        return name if self.base is None else os.path.join(self.base, name)


class ValueFiles:
    """The value files of one cache directory. Safe to share between threads."""

    def __init__(self, directory: str, mode: int = 0o700) -> None:
        self._directory = directory
        self._folder_mode = mode
        self._file_mode = mode & 0o666
        self._outer = ""
        self._room = 0

    # -- Writing --

    def stage(self, data: bytes, name: str | None = None) -> Staged:
        """Write *data* to a temporary file, to be published later."""
        return self._stage(lambda write: write(data), name)

    def stage_stream(self, read: Callable[[int], bytes], name: str | None = None) -> Staged:
        """Copy what *read* returns, until it returns nothing, to a temporary file."""

        def copy(write: Callable[[bytes], None]) -> None:
            while chunk := read(BLOCK):
                write(chunk)

        return self._stage(copy, name)

    def _stage(
        self, produce: Callable[[Callable[[bytes], None]], None], name: str | None
    ) -> Staged:
        temporary = f"{TEMPORARY}/{secrets.token_hex(16)}.tmp"
        descriptor = self._create(temporary)
        size = checksum = 0

        def write(chunk: bytes) -> None:
            nonlocal size, checksum
            checksum = zlib.crc32(chunk, checksum)
            view = memoryview(chunk).cast("B")
            size += len(view)
            while view:
                view = view[os.write(descriptor, view) :]

        try:
            host.lock(descriptor)
            produce(write)
        except BaseException:
            os.close(descriptor)
            self.remove(temporary)
            raise
        os.close(descriptor)
        return Staged(name or self._new_name(), temporary, size, checksum)

    def _new_name(self) -> str:
        """Return a name that no other value file has, in a folder that is likely to be there."""
        if not self._room:
            self._outer, self._room = new_name()[:6], FOLDER
        self._room -= 1
        return self._outer + new_name()[6:]

    def _create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        folders, last = _split(name)
        for _ in range(TRIES):
            try:
                with self._folder(folders, make=True) as folder:
                    return host.open_file(folder.path(last), flags, self._file_mode, folder.fd)
            except FileNotFoundError:
                continue  # Another process removed the folder between its making and its use.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._directory)

    def publish(self, staged: Staged) -> None:
        """Give a staged file its final name. Call it only with the write lock held.

        Raises:
            OSError: The name leads outside the directory, or the file cannot be moved.
        """
        if staged.temporary is None:
            return
        folders, last = _split(staged.name)
        if not is_safe(staged.name):
            raise OSError(errno.EINVAL, "not the name of a value file", staged.name)
        from_folders, temporary = _split(staged.temporary)
        for attempt in range(TRIES):
            try:
                with (
                    self._folder(from_folders) as source,
                    self._folder(folders, make=True) as target,
                ):
                    os.rename(
                        source.path(temporary),
                        target.path(last),
                        src_dir_fd=source.fd,
                        dst_dir_fd=target.fd,
                    )
            except FileNotFoundError:
                if attempt == TRIES - 1:
                    # The file went with its directory; another one may be there by now.
                    self._prune(folders)
                    raise
            except OSError:
                self._prune(folders)
                raise
            else:
                return

    def adopt(self, name: str, source: ValueFiles) -> None:
        """Have a file of another directory here too, under the same name.

        It is linked, or copied where that cannot be. Call it only with the write lock held.

        Raises:
            OSError: It is not there, or cannot be made here.
        """
        folders, last = _split(name)
        with source._folder(folders) as old, self._folder(folders, make=True) as new:
            try:
                os.link(
                    old.path(last),
                    new.path(last),
                    src_dir_fd=old.fd,
                    dst_dir_fd=new.fd,
                    follow_symlinks=False,
                )
            except FileExistsError:
                return
            except OSError:
                pass
            else:
                return
        with source.open(name) as file:
            self.publish(self.stage_stream(file.read, name))

    def discard(self, staged: Staged | None) -> None:
        """Remove a staged file that will not be published."""
        if staged is not None:
            self.remove(staged.temporary or staged.name)

    @contextmanager
    def _folder(self, parts: list[str], make: bool = False) -> Iterator[Folder]:
        """Yield the folder *parts* below the directory, reached through no symbolic link."""
        if not host.HAS_DIR_FD:  # pragma: no cover - other platform
            path = os.path.join(self._directory, *parts)
            if make:
                os.makedirs(path, self._folder_mode, exist_ok=True)
            yield Folder(path, None)
            return
        descriptor = -1
        try:
            # The directory itself may be reached through a link: that is for its owner to decide.
            for part in parts:
                path = os.path.join(self._directory, part) if descriptor < 0 else part
                inner = self._open_folder(path, None if descriptor < 0 else descriptor, make)
                outer, descriptor = descriptor, inner
                if outer >= 0:
                    os.close(outer)
            yield Folder(None, descriptor) if parts else Folder(self._directory, None)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _open_folder(self, path: str, parent: int | None, make: bool) -> int:
        try:
            return os.open(path, host.OPEN_DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            if not make:
                raise
        host.make_folder(path, self._folder_mode, parent)
        return os.open(path, host.OPEN_DIRECTORY, dir_fd=parent)

    # -- Reading --

    def open(self, name: str, size: int | None = None) -> BinaryIO:
        """Open a value file for reading; its `name` is the real path.

        Raises:
            OSError: It is missing, not a regular file, not of *size* bytes, or outside.
        """
        descriptor = self._open(name)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or size not in (None, found.st_size):
                raise OSError(errno.EIO, "value file is damaged", name)
        except BaseException:
            os.close(descriptor)
            raise
        path = os.path.join(self._directory, name)
        return open(path, "rb", opener=lambda *_: descriptor)

    def read(self, name: str, size: int, checksum: int | None) -> bytes:
        """Return the verified bytes of a value file.

        Raises:
            OSError: It is missing, or its length or checksum is not the recorded one.
        """
        descriptor = self._open(name)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or (checksum is not None and found.st_size != size):
                raise OSError(errno.EIO, "value file is damaged", name)
            data = _read_all(descriptor, found.st_size)
        finally:
            os.close(descriptor)
        if checksum is not None and zlib.crc32(data) != checksum:
            raise OSError(errno.EIO, "value file is damaged", name)
        return data

    def exists(self, name: str) -> bool:
        """Tell whether a value file is there."""
        with suppress(OSError):
            os.close(self._open(name))
            return True
        return False

    def _open(self, name: str) -> int:
        folders, last = _split(name)
        if not is_safe(name):
            raise OSError(errno.EINVAL, "not the name of a value file", name)
        # O_NONBLOCK: a planted pipe must not hang the reader; it means nothing for files.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with self._folder(folders) as folder:
            return os.open(folder.path(last), flags | host.OPEN_SAFE, dir_fd=folder.fd)

    # -- Removing --

    def remove(self, name: object) -> None:
        """Remove a file and its folders while they are empty; a missing one is no error.

        What is no name of a value file is left alone. `tmp/` stays: it would have to be made
        again for the next file.
        """
        if type(name) is not str or not (is_safe(name) or TEMPORARY_NAME.fullmatch(name)):
            return
        with suppress(OSError):
            folders, last = _split(name)
            with self._folder(folders) as folder:
                os.unlink(folder.path(last), dir_fd=folder.fd)
            if folders != [TEMPORARY]:
                self._prune(folders)

    def move_into(self, folder: str, name: str) -> None:
        """Move a file into a folder of the directory, keeping its name; a missing one is no error.

        Call it only with the write lock held.
        """
        folders, last = _split(name)
        with suppress(FileNotFoundError):
            with (
                self._folder(folders) as source,
                self._folder([folder, *folders], make=True) as target,
            ):
                os.rename(
                    source.path(last), target.path(last), src_dir_fd=source.fd, dst_dir_fd=target.fd
                )
            self._prune(folders)

    def _prune(self, folders: list[str]) -> None:
        """Remove a folder, and those around it, while they are empty."""
        with suppress(OSError):
            while folders:
                *folders, last = folders
                with self._folder(folders) as folder:
                    os.rmdir(folder.path(last), dir_fd=folder.fd)

    def prune(self, folder: str | None = None) -> None:
        """Remove a folder of value files if it is empty; without a name, the outer ones."""
        for name in _folders(self._directory) if folder is None else [folder]:
            self._prune(name.split("/"))

    # -- Listing --

    def listed(self) -> Iterator[str]:
        """Yield the names of the files here that look like value files."""
        for outer in _folders(self._directory):
            for inner in _folders(os.path.join(self._directory, outer)):
                yield from self.listed_in(f"{outer}/{inner}")

    def listed_in(self, folder: str) -> Iterator[str]:
        """Yield the value files of one innermost folder."""
        with suppress(OSError), os.scandir(os.path.join(self._directory, folder)) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if OWN_NAME.fullmatch(name) and entry.is_file(follow_symlinks=False):
                    yield name

    def folders(self) -> Iterator[str]:
        """Yield the innermost folders that may hold value files."""
        for outer in _folders(self._directory):
            for inner in _folders(os.path.join(self._directory, outer)):
                yield f"{outer}/{inner}"

    def sweep_temporary(self, older_than: float) -> int:
        """Remove files of dead writers from `tmp/`; return how many.

        A writer locks its file, so a file that can be locked has none; *older_than* (seconds
        since the epoch) spares one that is just being made.
        """
        removed = 0
        with suppress(OSError):
            # Most often there is nothing, and no folder to be reached with care.
            if not os.listdir(os.path.join(self._directory, TEMPORARY)):
                return 0
        with suppress(OSError), self._folder([TEMPORARY]) as folder:
            where = folder.base if folder.fd is None else folder.fd
            for name in filter(_is_temporary, os.listdir(where)):
                removed += _sweep_one(folder, name, older_than)
        return removed


def _is_temporary(name: str) -> bool:
    return TEMPORARY_NAME.fullmatch(f"{TEMPORARY}/{name}") is not None


def _sweep_one(folder: Folder, name: str, older_than: float) -> int:
    """Remove a temporary file if nobody is writing it; return how many were removed."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | host.OPEN_SAFE
    try:
        found = os.stat(folder.path(name), dir_fd=folder.fd, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) or found.st_mtime >= older_than:
            return 0
        descriptor = os.open(folder.path(name), flags, dir_fd=folder.fd)
    except OSError:
        return 0
    try:
        if not host.lock(descriptor):
            return 0
        os.unlink(folder.path(name), dir_fd=folder.fd)
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return 1


def _folders(path: str) -> list[str]:
    """Return the two-digit folders in *path*."""
    found: list[str] = []
    with suppress(OSError), os.scandir(path) as entries:
        found.extend(
            entry.name
            for entry in entries
            if re.fullmatch("[0-9a-f]{2}", entry.name) and entry.is_dir(follow_symlinks=False)
        )
    return found


def _read_all(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size + 1)
    if len(data) == size:
        return data
    chunks = [data]
    while data:
        data = os.read(descriptor, BLOCK)
        chunks.append(data)
    return b"".join(chunks)


def is_lost(exc: OSError) -> bool:
    """Tell whether an error means that a file is gone or damaged, not that it is out of reach."""
    return exc.errno in (errno.ENOENT, errno.EIO, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)
