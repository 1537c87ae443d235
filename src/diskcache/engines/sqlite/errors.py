"""The one place where errors of the database library become errors of this one."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

import apsw

from diskcache.errors import (
    CacheCorruptError,
    CacheFormatError,
    CacheFullError,
    DirectoryError,
    DirectoryMissingError,
    DirectoryNotADirectoryError,
    DirectoryPermissionError,
    DiskCacheError,
    EngineError,
    LockedError,
    ReadOnlyError,
    TransactionError,
)

DAMAGE: Final = (apsw.CorruptError, apsw.NotADBError)
"""What SQLite says of a damaged database, and of nothing else."""
DESCRIPTORS: Final = 8
"""Files that are open at a time while a cache is opened."""


def translate(exc: apsw.Error | UnicodeDecodeError, directory: str) -> DiskCacheError:
    """Return the error of this library that says what *exc* says, with a remedy.

    Text that is damaged is met by whoever fetches it, not by SQLite.
    """
    text = str(exc)
    if isinstance(exc, apsw.FullError) or _has_no_room_for_index(exc):
        return full(directory)
    if isinstance(exc, (apsw.BusyError, apsw.LockedError)):
        return LockedError(
            f"cache {directory!r} is locked by another program ({text}): close programs that"
            " have its cache.db open, such as a database browser"
        )
    if isinstance(exc, (apsw.ReadOnlyError, apsw.PermissionsError)):
        return read_only(directory)
    if isinstance(exc, apsw.NotADBError):
        return CacheFormatError(
            f"{os.path.join(directory, 'cache.db')!r} is not a database: choose another"
            " directory, or remove this one if nothing in it is needed"
        )
    if isinstance(exc, (apsw.CorruptError, UnicodeDecodeError)):
        return damaged(directory, text)
    if isinstance(exc, apsw.CantOpenError):
        return cannot_open(directory)
    return EngineError(f"cache {directory!r}: the database reports: {text}")


def _has_no_room_for_index(exc: Exception) -> bool:
    """Tell whether the index of the log could not be made as long as it must be."""
    extended: int = getattr(exc, "extendedresult", 0)
    return extended == apsw.SQLITE_IOERR_SHMSIZE


def is_over_quota(exc: BaseException, connection: apsw.Connection) -> bool:
    """Tell whether an error is want of room that SQLite does not see: a quota is used up."""
    with suppress(apsw.Error):
        return isinstance(exc, apsw.IOError) and connection.system_errno == errno.EDQUOT
    return False


def damaged(directory: str, problem: str) -> CacheCorruptError:
    """Return the error of a database that is one of a cache, but cannot be read."""
    return CacheCorruptError(
        f"the database of cache {directory!r} is damaged ({problem}): run"
        f" 'python -m diskcache check --fix {directory}', which keeps what can still be read, or"
        " remove the directory"
    )


def reason_of(exc: CacheCorruptError) -> str:
    """Return the problem that `damaged` was told."""
    return str(exc).partition("damaged (")[2].partition("): run")[0]


def full(directory: str) -> CacheFullError:
    """Return the error of a full disk."""
    return CacheFullError(
        f"the disk that holds cache {directory!r} is full: what was stored before is intact;"
        " free some space, or lower size_limit and call cull()"
    )


def read_only(directory: str) -> ReadOnlyError:
    """Return the error of a cache that may not be written."""
    return ReadOnlyError(
        f"cache {directory!r} cannot be written: it was opened with readonly=True, or its files"
        " or their file system are read-only for this user"
    )


def cannot_open(directory: str) -> DiskCacheError:
    """Return the error that says why a cache directory cannot be opened."""
    path = os.path.join(directory, "cache.db")
    try:
        os.stat(path)
        number = 0
    except OSError as exc:
        number = exc.errno or 0
    if number == 0:
        readable = os.access(path, os.R_OK) and os.access(directory, os.X_OK)
        is_allowed = readable and os.access(directory, os.W_OK)
        number = _lack_of_descriptors() or errno.EIO if is_allowed else errno.EACCES
    elif number == errno.ENOENT and os.path.isdir(directory) and not os.access(directory, os.W_OK):
        number = errno.EACCES
    return directory_error(number, directory)


def _lack_of_descriptors() -> int:
    """Return the error number of having too many files open; 0 if a cache can be opened.

    SQLite does not tell, and what it had opened itself is closed by now.
    """
    opened: list[int] = []
    try:
        opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(DESCRIPTORS))
    except OSError as exc:
        return exc.errno or 0
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return 0


_REMEDIES = {
    errno.EACCES: "give this user the right to read and write it, or choose another directory",
    errno.EPERM: "give this user the right to read and write it, or choose another directory",
    errno.EROFS: "its file system is read-only; pass readonly=True to read an existing cache",
    errno.ENOENT: "the directory was removed; make a new Cache to start again",
    errno.ENOTDIR: "the path, or a parent of it, is a file; choose another directory",
    errno.EEXIST: "the path is a file; choose another directory",
    errno.EMFILE: "this process has too many files open; close some, or raise its limit",
    errno.ENFILE: "all processes together have too many files open; close some",
    errno.ENAMETOOLONG: "choose a directory with a shorter path",
    errno.EILSEQ: "its path is not UTF-8, as SQLite wants it; choose another directory",
}
_IN_THE_WAY = (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EINVAL)
"""A link, a pipe or whatever else is where a file or a folder of a cache belongs."""
_CLASSES: dict[int, type[DirectoryError]] = {
    errno.EACCES: DirectoryPermissionError,
    errno.EPERM: DirectoryPermissionError,
    errno.ENOENT: DirectoryMissingError,
    errno.ENOTDIR: DirectoryNotADirectoryError,
}


def directory_error(number: int, directory: str) -> DiskCacheError:
    """Return the error of a directory that cannot be used, for an error number of the system."""
    if number in (errno.ENOSPC, errno.EDQUOT):
        return full(directory)
    remedy = _REMEDIES.get(number, "check the disk")
    kind = _CLASSES.get(number, DirectoryError)
    return kind(number, f"cannot use cache directory ({os.strerror(number)}): {remedy}", directory)


def file_error(exc: OSError, directory: str) -> Exception:
    """Return what to raise for an error of the file system while a value file is written."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return full(directory)
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.ENFILE):
        return directory_error(exc.errno, directory)
    if exc.errno == errno.ENOENT and not os.path.isdir(directory):
        return directory_error(errno.ENOENT, directory)
    if exc.errno in _IN_THE_WAY:
        return DirectoryError(
            exc.errno,
            f"cannot use cache directory ({exc.strerror}: {exc.filename!r} is not what this library"
            " makes): remove it, or choose another directory",
            directory,
        )
    return exc


def transaction_lost(directory: str) -> TransactionError:
    """Return the error of an operation in a transaction that no longer exists."""
    return TransactionError(
        f"the transaction on cache {directory!r} is gone: an error inside it rolled it back, or"
        " the cache was closed in it; nothing of it was stored, so run it again"
    )
