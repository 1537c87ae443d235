"""A copy of a cache directory, as of one moment, while others go on writing.

Implementation note.

The database is copied by SQLite's backup, from one read transaction. Value files are not in it:
a writer removes those that it replaced right after its commit, under the gate. So they are copied
first, in passes without any lock; each pass copies what rows name by then and is not there yet,
so each is shorter than the one before. The last pass is made with the gate in hand, in the read
transaction that the database is then copied from: nobody removes a file meanwhile, and what the
rows of that moment name is there. After it the gate is free again, and the database is copied
while others write.

A copy is made under the name `cache.db.new` and renamed at the end, so that half a copy is no
cache. What was copied and then replaced is removed again; an entry whose file is missing or
damaged in the original is left out, and counted.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import apsw

from diskcache.engines.base import Copied
from diskcache.engines.sqlite import opening, reading
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import CLOSED, Link
from diskcache.engines.sqlite.errors import directory_error, file_error, translate
from diskcache.engines.sqlite.gate import GateClosed
from diskcache.engines.sqlite.hardening import harden
from diskcache.engines.sqlite.site import DATABASE
from diskcache.errors import DirectoryError, DiskCacheError, LockedError, SettingError
from diskcache.files import ValueFiles, is_safe

PASSES: Final = 8
"""Passes without the gate, at most."""
FEW: Final = 16
"""Files copied in a pass from which another one is made before the gate is taken."""
PAGE: Final = 500
STEP: Final = 256
"""Pages of the database that are copied at a time."""
TRIES: Final = 20
"""Times that a copy is begun anew because a fork closed its connection, or, where there is no gate
to take, because a file was replaced."""

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do, in bytes, as far as it is known."""


class DirectoryCopy:
    """A cache directory being copied. `gather`, `hold`, `freeze`, `release`, `finish`, in order.

    Args:
        place: The cache.
        destination: A directory that is missing or empty.
        progress: Told how far it is.

    Raises:
        DirectoryError: The destination cannot be used.
    """

    def __init__(self, place: opening.Place, destination: str, progress: Progress) -> None:
        self.directory = place.directory
        self._place = place
        self._target = destination
        self._progress = progress
        self._lost: list[Any] = []
        """What rows name whose files are missing or damaged, or are none."""
        self._bytes = 0
        self._is_new, mode = make_target(place.directory, destination)
        self._files = ValueFiles(destination, mode)
        self._mode = mode & 0o666
        self._link = opening.open_link(place, create=False)
        self._gate = self._link.site.gate

    # -- The steps --

    def gather(self) -> None:
        """Copy value files that are there now, without a lock."""
        for _ in range(PASSES):
            if self._copy_files(is_final=False) < FEW:
                return

    def hold(self, wait: float | None) -> None:
        """Keep others from writing, unless the cache is only read."""
        link = self._connected()
        if link.con.in_transaction:
            link.execute("ROLLBACK")
        if not self._place.readonly:
            self._gate = link.site.gate
            self._gate.acquire(wait, self)

    def freeze(self) -> None:
        """Fix the moment of the copy, and complete its value files. Call it while holding."""
        self._lost.clear()
        link = self._link
        link.execute("BEGIN")
        # The first read decides which state the transaction sees.
        link.execute(sql.LAST_ROWID).fetchall()
        self._copy_files(is_final=True)

    @property
    def may_have_moved(self) -> bool:
        """Whether files that `freeze` missed may have been replaced rather than lost."""
        return bool(self._lost) and self._place.readonly

    def release(self) -> None:
        """Let others write again; may be repeated."""
        self._gate.release(self)

    def finish(self) -> Copied:
        """Copy the database as of that moment, and give it its name."""
        path = os.path.join(self._target, DATABASE)
        connection = apsw.Connection(
            f"{path}.new",
            flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOFOLLOW,
        )
        try:
            self._copy_database(connection)
            os.chmod(f"{path}.new", self._mode)
            harden(connection)
            copied = self._settle(connection)
        finally:
            connection.close()
        os.rename(f"{path}.new", path)
        _flush(self._target)
        return copied

    def close(self) -> None:
        """End the read transaction, and disconnect."""
        self.release()
        self._link.close()

    def discard(self) -> None:
        """Remove what was copied: it is not complete."""
        empty(self._target, self._is_new)

    # -- Value files --

    def _copy_files(self, *, is_final: bool) -> int:
        """Copy the value files that are missing in the copy; return how many there were."""
        copied = 0
        for name, size, checksum in self._named(is_final):
            is_ours = is_safe(name) and reading.is_measured(size, checksum)
            if is_ours and os.path.exists(os.path.join(self._target, name)):
                continue
            if is_ours and self._copy_file(name, size, checksum):
                copied += 1
            elif is_final:
                self._lost.append(name)
        return copied

    def _named(self, is_final: bool) -> Iterator[tuple[Any, Any, Any]]:
        after: object = ""
        while True:
            # In the end all has to be seen in one transaction, so of one connection.
            link = self._link if is_final else self._connected()
            statement = sql.FILES_AFTER.replace("> ?", f"> {reading.placeholder(after)}")
            rows = reading.fetch(link.execute, statement, (after, PAGE))
            yield from rows
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def _copy_file(self, name: str, size: int, checksum: int | None) -> bool:
        """Copy one value file, unless it is missing or damaged."""
        expected = None if checksum is None else size
        try:
            reader = self._place.files.open(name, expected)
        except OSError:
            return False
        with reader:
            staged = self._files.stage_stream(reader.read, name)
        if checksum is not None and (staged.size, staged.checksum) != (size, checksum):
            self._files.discard(staged)
            return False
        self._files.publish(staged)
        _flush(os.path.join(self._target, name))
        self._bytes += staged.size
        self._progress(self._bytes, 0)
        return True

    # -- The database --

    def _connected(self) -> Link:
        """Return the connection, or another one if a fork closed it."""
        if self._link.is_closed:
            self._link = opening.open_link(self._place, create=False)
        return self._link

    def _copy_database(self, target: apsw.Connection) -> None:
        size = self._link.page_size
        try:
            with target.backup("main", self._link.con, "main") as backup:
                while not backup.done:
                    backup.step(STEP)
                    done = (backup.page_count - backup.remaining) * size
                    self._progress(self._bytes + done, self._bytes + backup.page_count * size)
            self._link.execute("COMMIT")
        except (apsw.Error, ValueError) as exc:
            if self._link.is_closed:
                raise _Moved from exc
            raise

    def _settle(self, connection: apsw.Connection) -> Copied:
        """Make database and files of the copy agree; return what it holds."""
        execute = connection.execute
        execute("PRAGMA synchronous = 2").fetchall()
        for name in self._lost:
            statement = sql.FORGET_FILE.replace("= ?", f"= {reading.placeholder(name)}")
            execute(statement, (name,))
        for folder, _, names in os.walk(self._target):
            for each in names:
                name = os.path.relpath(os.path.join(folder, each), self._target)
                name = name.replace(os.sep, "/")
                if not name.startswith(DATABASE) and execute(sql.NAMES_FILE, (name,)).get is None:
                    self._files.remove(name)
        return Copied(
            entries=execute(sql.COUNT).get,
            files=execute(sql.FILE_COUNT).get,
            volume=execute(sql.FILE_BYTES).get + os.stat(connection.filename).st_size,
            lost=len(self._lost),
        )


def copy_together(copies: list[DirectoryCopy], wait: float | None) -> list[Copied]:
    """Bring several copies to an end, all as of one moment; remove them if that fails.

    Raises:
        Timeout: The write lock was not free within *wait* seconds.
        DiskCacheError: Something could not be read or written.
    """
    try:
        for copy in copies:
            copy.gather()
        return _finished(copies, wait)
    except BaseException as exc:
        for copy in copies:
            copy.discard()
        told = _told(exc, copies[0].directory)
        if told is exc:
            raise
        raise told from exc
    finally:
        for copy in copies:
            copy.close()


def _told(exc: BaseException, directory: str) -> BaseException:
    """Return the error of this library that says what a foreign one says."""
    if isinstance(exc, apsw.Error):
        return translate(exc, directory)
    if isinstance(exc, OSError) and not isinstance(exc, DiskCacheError):
        return file_error(exc, directory)
    return exc


def _finished(copies: list[DirectoryCopy], wait: float | None) -> list[Copied]:
    for tries in range(TRIES):
        try:
            _freeze(copies, wait, is_last=tries == TRIES - 1)
            return [copy.finish() for copy in copies]
        except (*CLOSED, GateClosed, _Moved):
            continue
    raise LockedError(
        f"cache {copies[0].directory!r} cannot be copied: its process forks too often"
    )


class _Moved(Exception):  # noqa: N818 - it is a signal, not an error
    """Somebody wrote where nobody could be kept from it, or a fork closed the connection."""


def _freeze(copies: list[DirectoryCopy], wait: float | None, *, is_last: bool) -> None:
    try:
        for copy in copies:
            copy.hold(wait)
        for copy in copies:
            copy.freeze()
            if copy.may_have_moved and not is_last:
                raise _Moved
    finally:
        for copy in copies:
            copy.release()


def make_target(directory: str, destination: str) -> tuple[bool, int]:
    """Make the directory of a copy; return whether it is new, and the mode its files follow.

    Raises:
        DirectoryError: It is something already, or cannot be made.
        SettingError: It lies inside the original.
    """
    is_new = not os.path.lexists(destination)
    inside = os.path.realpath(destination) + os.sep
    if inside.startswith(os.path.realpath(directory) + os.sep):
        raise SettingError(
            f"the destination must lie outside the cache: got {destination!r} in {directory!r}"
        )
    try:
        if os.path.lexists(destination) and os.listdir(destination):
            raise DirectoryError(
                errno.ENOTEMPTY, "the destination must be missing or empty", destination
            )
    except OSError as exc:
        if isinstance(exc, DiskCacheError):
            raise
        raise directory_error(exc.errno or 0, destination) from exc
    mode = opening.prepare_directory(directory, 0o700, True)
    return is_new, opening.prepare_directory(destination, mode, False)


def empty(directory: str, is_new: bool) -> None:
    """Remove all that is in a directory, and with *is_new* the directory itself."""
    with suppress(OSError):
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        if is_new:
            os.rmdir(directory)


def _flush(path: str) -> None:
    """Have the system write a file, or a folder, to the disk."""
    with suppress(PermissionError):  # Windows opens no folders.
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
