"""Everything that can go wrong, grouped by when it happens.

Every error derives from `DiskCacheError` and from the built-in or standard error that code
written for version 5 catches. What version 5 raised as `sqlite3.OperationalError` or
`sqlite3.DatabaseError` is still an instance of those, although the database is not reached
through the standard library's `sqlite3`.
"""

from __future__ import annotations

import errno
import pickle
import sqlite3


class DiskCacheError(Exception):
    """Base of every error of this library."""


# -- Opening ---------------------------------------------------------------------------------


class SettingError(DiskCacheError, ValueError):
    """A setting has a value that is not allowed."""


class UnknownPolicyError(DiskCacheError, KeyError):
    """The eviction policy is not registered."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class MissingExtraError(DiskCacheError, ImportError):
    """An optional part was used whose packages are not installed; the message names the extra."""


class UnsafeSQLiteError(DiskCacheError, sqlite3.OperationalError):
    """The SQLite library that apsw brings still has the WAL-reset corruption bug."""


class DirectoryError(DiskCacheError, OSError, sqlite3.OperationalError):
    """The cache directory cannot be used; `errno` and `filename` say more."""


class DirectoryPermissionError(DirectoryError, PermissionError):
    """The cache directory, or a file in it, may not be read or written by this user."""


class DirectoryMissingError(DirectoryError, FileNotFoundError):
    """The cache directory vanished, or a parent of it cannot exist."""


class DirectoryNotADirectoryError(DirectoryError, NotADirectoryError):
    """The path of the cache directory, or a parent of it, is a file."""


class CacheFormatError(DiskCacheError, sqlite3.DatabaseError):
    """The database is not one that this library wrote; it is left untouched."""


class NewerFormatError(CacheFormatError):
    """The directory was written by a newer version of this library; it is left untouched."""


class OlderFormatError(CacheFormatError):
    """The directory was written by an older version and was not upgraded; it is left untouched."""


# -- Reading ---------------------------------------------------------------------------------


class CacheCorruptError(DiskCacheError, sqlite3.DatabaseError):
    """The database is damaged."""


class CodecError(DiskCacheError, ValueError):
    """Stored bytes cannot be decoded: they are damaged, forged, or of a class that is gone."""


class UnavailableError(CodecError):
    """An entry cannot be decoded in this process: a type is not registered, or an extra missing.

    The entry is sound, and another process may well read it.
    """


class ArchiveError(DiskCacheError, ValueError):
    """An archive is damaged, truncated, or not one; what was read before it stays imported."""


class UntrustedPickleError(DiskCacheError, pickle.UnpicklingError):
    """A stored pickle has no valid signature and was not loaded.

    Attributes:
        reason: `'unsigned'`, `'unknown-key'`, `'bad-tag'` or `'refused'` (pickle='never').
    """

    def __init__(self, message: str, reason: str = "unsigned") -> None:
        super().__init__(message)
        self.reason = reason


# -- Writing ---------------------------------------------------------------------------------


class NotPlainError(DiskCacheError, TypeError):
    """A value or key is not plain data and may not be pickled here."""


class RegistrationError(DiskCacheError, TypeError, ValueError):
    """A type cannot be registered: it is none, is known already, or its name is taken."""


class PickleKeyError(DiskCacheError, pickle.PicklingError):
    """A value must be pickled and signed, but no key to sign with is available."""


class TagTypeError(DiskCacheError, TypeError, sqlite3.ProgrammingError):
    """A tag is not an int, float, str, bytes or None."""


class TooLargeError(DiskCacheError, ValueError):
    """A value is larger than the cache accepts."""


class QueueFullError(DiskCacheError, sqlite3.IntegrityError):
    """A queue has no key left at the side where an entry was pushed."""


class QueueKeyError(DiskCacheError, ValueError):
    """A key inside the range of a queue does not end in a number."""


class QueueSideError(DiskCacheError, KeyError):
    """The side of a queue is neither `'front'` nor `'back'`."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class IntegerRangeError(DiskCacheError, OverflowError):
    """A counter would leave the range of 64-bit integers."""


class ReadOnlyError(DiskCacheError, PermissionError, sqlite3.OperationalError):
    """The cache was opened with `readonly=True`, or its files may not be written."""


class CacheFullError(DiskCacheError, OSError, sqlite3.OperationalError):
    """The disk is full; `errno` is ENOSPC."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.ENOSPC, message)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.strerror,)


# -- Locking and transactions ----------------------------------------------------------------


class Timeout(DiskCacheError):  # noqa: N818 - the name is version 5's
    """The write lock was not free in time.

    `args` is empty, or holds the number of entries removed so far by a bulk operation.
    """


class GateError(Timeout, RuntimeError):
    """This thread already holds the write lock of the directory through another object.

    Or this task does: it is in a block of `transact` of an asynchronous cache, and something in it
    uses an ordinary one on the same directory.

    Waiting would never end, so it is raised at once, even where waiting without limit was asked.
    """


class TransactionError(DiskCacheError, sqlite3.OperationalError):
    """The transaction is gone: it was rolled back by an error inside it, or closed."""


class LockReleaseError(DiskCacheError, RuntimeError, AssertionError, ValueError):
    """A lock was released by somebody who does not hold it.

    The standard library raises RuntimeError for a lock and ValueError for a semaphore.
    """


class RateLimitError(DiskCacheError, RuntimeError):
    """A throttled function was called too often, and was told not to wait.

    Attributes:
        retry_after: Seconds after which a call will be let through, if nobody else calls.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LoaderError(DiskCacheError, RuntimeError):
    """What computes a value failed in another process, or earlier, with an error not known here.

    Attributes:
        name: Module and qualified name of the class of that error.
        text: What the error said.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.name = name
        self.text = text

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


class LoaderTimeoutError(DiskCacheError, TimeoutError):
    """A value was not computed within `hard_timeout`; the computation goes on."""


class RecursiveLoaderError(DiskCacheError, RecursionError):
    """What computes a value waits for that very value, or for more threads than there may be."""


class KeyInUseError(DiskCacheError, ValueError):
    """The key of a lock, or of another recipe, is that of an entry of another kind."""


class LockedError(DiskCacheError, sqlite3.OperationalError):
    """Another program holds a lock on the database that this library does not take part in."""


class EngineError(DiskCacheError, sqlite3.OperationalError):
    """The database reported an error that has no class of its own."""


# -- A server instead of a directory ---------------------------------------------------------


class ServerError(EngineError):
    """The server reported an error that has no class of its own."""


class ServerUnavailableError(ServerError, ConnectionError):
    """The server cannot be reached, or does not serve now; `on_error='miss'` goes on without it.

    Attributes:
        is_sent: Whether the operation may have happened all the same.
    """

    def __init__(self, message: str, is_sent: bool = False) -> None:
        super().__init__(message)
        self.is_sent = is_sent


class ServerTimeoutError(ServerUnavailableError, TimeoutError):
    """The server did not answer within `timeout` seconds."""


class ServerAccessError(ServerError, PermissionError):
    """The server refused the password, or what this user wants to do."""


class ServerReadOnlyError(ServerError, ReadOnlyError):
    """The server is a replica, which may not be written."""


class ServerKeyError(ServerError, TypeError):
    """A key of the namespace holds something that this library did not write."""


class ServerPolicyError(ServerError, ValueError):
    """The server may evict entries that must not be lost: those of structures and locks."""


class UnsupportedError(DiskCacheError, NotImplementedError):
    """What was asked for cannot be had on a server; the message names the alternative."""


# -- Private names of version 5 --------------------------------------------------------------


class PrivateNameError(DiskCacheError, AttributeError):
    """A private name of version 5 is not there; the message says what to use instead."""


class StatementError(DiskCacheError, sqlite3.OperationalError):
    """A statement that was given to `Cache._sql` does not read only, or cannot be run."""


# -- Warnings --------------------------------------------------------------------------------


class DiskCacheWarning(UserWarning):
    """Base of every warning of this library, except the two that version 5 already had."""


class UnknownFileWarning(UserWarning):
    """A file in the cache directory belongs to no entry."""


class EmptyDirWarning(UserWarning):
    """A folder in the cache directory is empty."""


class UnknownSettingWarning(DiskCacheWarning):
    """A keyword is not a setting; it only became an attribute of the object."""


class StringIterableWarning(DiskCacheWarning):
    """A `Deque` was made of the characters of a string that looks like a path."""


class UntrustedPickleWarning(DiskCacheWarning):
    """An entry is a pickle without a valid signature and was treated as missing."""


class UnavailableWarning(DiskCacheWarning):
    """An entry needs a registered type or an extra that is not here, and was treated as missing."""


class UnsafePickleWarning(DiskCacheWarning):
    """The cache was opened with pickle='unsafe'."""


class InsecureDirectoryWarning(DiskCacheWarning):
    """Others can change the cache directory: by its mode, its owner, or because it is a link."""


class NetworkFilesystemWarning(DiskCacheWarning):
    """The cache directory is on a network file system."""


class CacheCorruptionWarning(DiskCacheWarning):
    """A damaged database was set aside."""
