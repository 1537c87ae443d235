"""Files in the folder `locks` of a cache directory: made, opened and looked at through no link.

Who holds a lock is a file there that a process has locked: the kernel unlocks it when the process
ends, however it ends. `diskcache.recipes.liveness` and `diskcache.flight` say what the files are.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from diskcache import host
from diskcache.files import LOCKS, TEMPORARY, Folder

OPEN: Final = os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Flags for existing files; a planted pipe must not hang who opens it."""


def open_or_make(folder: Folder, name: str) -> int:
    """Open a file for reading and writing; make it if it is not there."""
    mode = os.fstat(folder.fd).st_mode if folder.fd is not None else 0o700
    flags = OPEN | os.O_CREAT | os.O_EXCL
    with suppress(FileExistsError):
        return host.open_file(folder.path(name), flags, mode & 0o666, folder.fd)
    return host.open_file(folder.path(name), OPEN, dir_fd=folder.fd)


def is_there(directory: str, name: str, descriptor: int) -> bool:
    """Tell whether an open file is still at its path."""
    return is_at(os.path.join(directory, LOCKS, name), identity_of(os.fstat(descriptor)))


def is_at(path: str, ident: tuple[int, int]) -> bool:
    """Tell whether a path leads to the file with that identity."""
    try:
        return identity_of(os.lstat(path)) == ident
    except OSError:
        return False


def identity_of(found: os.stat_result) -> tuple[int, int]:
    """Return what no other file has while this one is there, or open."""
    return found.st_dev, found.st_ino


@contextmanager
def open_folder(directory: str, *, make: bool = False) -> Iterator[Folder]:
    """Yield the folder of the files, reached through no symbolic link below *directory*."""
    path = os.path.join(directory, LOCKS)
    if make:
        host.make_folder(path, _mode(directory))
    if not host.HAS_DIR_FD:  # pragma: no cover - other platform
        yield Folder(path, None)
        return
    descriptor = os.open(path, host.OPEN_DIRECTORY)
    try:
        yield Folder(None, descriptor)
    finally:
        os.close(descriptor)


def _mode(directory: str) -> int:
    """Return the mode of the folders in a cache directory."""
    try:
        found = os.lstat(os.path.join(directory, TEMPORARY))
    except OSError:
        found = os.stat(directory)
    return stat.S_IMODE(found.st_mode) & 0o777
