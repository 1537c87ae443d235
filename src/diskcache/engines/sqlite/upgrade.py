"""Taking over a directory of version 5: in place, in one transaction, alone.

How it goes.

1. *Alone among upgraders.* The directory itself is locked with `flock`; no file is made for it.
2. *Alone in the database.* Version 5 keeps a shared lock on the file for as long as a connection is
   open, as every connection to a write-ahead log does. A connection in locking mode EXCLUSIVE
   needs the file for itself already to read it. So a live process of version 5 is noticed before
   anything changes, and a later one waits and then finds a database that is none of its own.
   (With a rollback journal an idle connection holds no lock: there the statements of a live process
   fail from then on, since they name a column that is gone.) All shards of a `FanoutCache` are
   taken before the first of them changes.
3. *The old database is copied* to `cache.db.5`, by SQLite's own means, where nothing may get
   lost: where the eviction policy is 'none', as for `Deque` and `Index`.
4. *One transaction* makes format 6 of it. Columns are renamed and added, rows stay where they are;
   triggers and indexes of version 5 go; `Settings` is made anew. Rows whose key or value is a
   pickle are visited, and encoded anew if the converter says so. SQLite may write pages before the
   commit, so memory stays bounded; the registry is locked meanwhile, so nothing forks.
5. *The commit* is the moment at which the directory is one of this version. What dies before it
   leaves the old database, what dies after it the new one, whole.

Value files stay where they are, under their names. Their checksum is NULL: it is not known, and
reading them all would take hours for a large cache. Files of entries that were dropped because
version 5 kept equal keys apart are removed after the commit.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final, NamedTuple, Protocol

import apsw

from diskcache import host
from diskcache.clock import SYSTEM_CLOCK, Clock
from diskcache.engines.sqlite import schema, site
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.errors import directory_error, translate
from diskcache.engines.sqlite.hardening import connect, harden, verify
from diskcache.engines.sqlite.opening import connect_to_look, refuse_odd_files
from diskcache.engines.sqlite.site import DATABASE
from diskcache.entry import DbValue
from diskcache.errors import LockedError, OlderFormatError
from diskcache.files import KEPT, ValueFiles, is_safe

PATIENCE: Final = 2.0
"""Seconds in which a process of version 5 may still close its connections."""
NAP: Final = 0.02
LONGEST_UPGRADE: Final = 600.0
"""Seconds for which another process may be upgrading a directory, or have it locked itself."""

BATCH_ROWS: Final = 1000
BATCH_BYTES: Final = 2**24
LONGEST_KEY: Final = 2**20
"""Bytes of a pickled key beyond which nobody looks into it."""
LONGEST_VALUE: Final = 2**23
"""Bytes of a pickle in the database beyond which it stays as it is."""

PICKLED: Final = "(raw IS NOT 1 OR key IS NULL OR (file IS NULL AND (mode = 4 OR value IS NULL)))"
_ROWS: Final = (
    "SELECT rowid, key, raw, mode, file, octet_length(value) > ?1,"
    " CASE WHEN octet_length(value) <= ?1 THEN value END FROM Cache"
    " WHERE rowid > ?2 AND ifnull(octet_length(key), 0) <= ?3"
)
_UNREAD_KEYS: Final = (
    "UPDATE Cache SET key = CAST(x'02' || key AS BLOB)"
    " WHERE raw = 0 AND typeof(key) = 'blob' AND octet_length(key) > ?"
)
_LEFT: Final = (
    "SELECT count(*) FROM Cache WHERE mode & 15 = 4 OR (raw = 0 AND substr(key, 1, 1) = x'02')"
)


class Converter(Protocol):
    """What keys, values and settings of version 5 are in this version."""

    writer: str
    """Name of the disk that the directory is marked with."""
    visits_all: bool
    """Whether every row is shown to it, not only those with pickles."""

    def check(self, keys: Sequence[tuple[DbValue, int]]) -> None:
        """Look at a few keys; raise if the directory is one that another converter is for."""

    def key(self, key: DbValue, raw: int) -> tuple[DbValue, int]:
        """Return the database key of this version."""

    def value(self, mode: int, file: str | None, value: DbValue) -> tuple[int, DbValue]:
        """Return mode and value of this version; *value* is None if it is in a file."""

    def settings(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is taken over of the settings."""

    def keeps(self, settings: Mapping[str, Any]) -> bool:
        """Tell whether the old database is to be copied first."""


class Upgraded(NamedTuple):
    """What an upgrade did."""

    directory: str
    entries: int
    keys: int
    """Keys that were encoded anew."""
    values: int
    """Values that were encoded anew."""
    duplicates: int
    """Entries dropped for a newer one whose key is equal, which version 5 kept apart."""
    left: int
    """Entries that still hold a pickle of version 5."""
    backup: str | None
    """Path of the copy of the old database."""


def reached(step: str) -> None:
    """Do nothing; tests end the process here."""


Progress = Callable[[int, int], None]


def upgrade(
    directories: Sequence[str],
    converter: Converter,
    clock: Clock = SYSTEM_CLOCK,
    progress: Progress | None = None,
) -> list[Upgraded]:
    """Make format 6 of those *directories* that are of version 5.

    Cost: some 2 us per entry, and 10 us more for one whose value is a pickle.

    Args:
        directories: Real paths; all shards of a cache together.
        converter: What entries become.
        clock: Waits.
        progress: Told how many rows have been visited, and how many there are.

    Raises:
        LockedError: A process of version 5 has one of them open; nothing was changed.
        DiskCacheError: One cannot be read or written; it was not changed.
    """
    done: list[Upgraded] = []
    with ExitStack() as stack:
        for directory in directories:
            stack.enter_context(alone(directory))
        stack.enter_context(site.registry.lock)
        taken: list[tuple[str, apsw.Connection]] = []
        deadline = clock.monotonic() + PATIENCE
        for directory in directories:
            with _translated(directory):
                connection = _take(directory, deadline, clock)
            if connection is not None:
                stack.callback(connection.close)
                taken.append((directory, connection))
        for directory, connection in taken:
            with _translated(directory):
                reached("taken")
                done.append(_Upgrade(directory, connection, converter, progress).run())
    return done


Visit = Callable[[DbValue, int, int, "str | None", DbValue], None]


def survey(directory: str, visit: Visit) -> int | None:
    """Show *visit* every entry with a pickle, without changing anything.

    It is given key, raw, mode, file and value; the value is None if it is in a file, or too long
    to be looked into.

    Returns:
        The number of entries; None if the directory is not one of version 5.

    Raises:
        DiskCacheError: It is no cache, or somebody is just writing to it.
    """
    refuse_odd_files(directory)
    with _translated(directory):
        connection = connect_to_look(directory)
        try:
            if not _is_old(connection, directory):
                return None
            statement = _ROWS.replace("file", "filename") + " AND (raw IS NOT 1 OR mode = 4)"
            bounds = (LONGEST_VALUE, -(2**63), LONGEST_KEY)
            for _, key, raw, mode, file, _, value in connection.execute(statement, bounds):
                visit(key, raw, mode, file, value)
            count: int = connection.execute(sql.COUNT).get
        finally:
            connection.close()
    return count


@contextmanager
def alone(directory: str) -> Iterator[None]:
    """Return a context in which no other process of this version upgrades the directory.

    Raises:
        LockedError: Another one has it locked, and does not come to an end.
    """
    descriptor = -1
    try:
        # Where a directory cannot be opened or locked, SQLite's locks alone must do.
        with suppress(OSError):
            descriptor = os.open(directory, host.OPEN_DIRECTORY)
        if descriptor >= 0:
            _lock(descriptor, directory)
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int, directory: str) -> None:
    deadline = time.monotonic() + LONGEST_UPGRADE
    with suppress(OSError):
        while not host.lock(descriptor):
            if time.monotonic() > deadline:
                raise LockedError(
                    f"cache directory {directory!r} has been locked by another process for"
                    f" {LONGEST_UPGRADE:g} s: wait for the one that upgrades it from version 5, or"
                    " stop the program that has locked the directory itself"
                )
            time.sleep(NAP)


@contextmanager
def _translated(directory: str) -> Iterator[None]:
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as exc:
        raise translate(exc, directory) from exc


def _take(directory: str, deadline: float, clock: Clock) -> apsw.Connection | None:
    """Return a connection that nobody else can be beside; None if nothing is to be done.

    Raises:
        LockedError: Somebody has the database open.
    """
    while _may_be_old(directory):
        connection = connect(directory)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            # The lock stays after the end of this transaction.
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
            if _is_old(connection, directory):
                return connection
        except apsw.BusyError:
            if clock.monotonic() >= deadline:
                connection.close()
                raise LockedError(
                    f"cache {directory!r} was written by diskcache 5, and is to be upgraded, but"
                    " another process has it open: stop the processes that still use version 5;"
                    " nothing was changed"
                ) from None
        except BaseException:
            connection.close()
            raise
        connection.close()
        clock.sleep(NAP)
    return None


def _may_be_old(directory: str) -> bool:
    """Look without asking for the database alone: other processes may have a new one open."""
    refuse_odd_files(directory)
    with suppress(apsw.Error):
        connection = connect_to_look(directory)
        try:
            return _is_old(connection, directory)
        finally:
            connection.close()
    # Busy, or with a journal that must be undone first: whoever takes it alone will see.
    return True


def _is_old(connection: apsw.Connection, directory: str) -> bool:
    try:
        verify(connection, directory)
    except OlderFormatError:
        return True
    return False


class _Upgrade:
    """The upgrade of one database, on a connection that has it for itself."""

    def __init__(
        self,
        directory: str,
        connection: apsw.Connection,
        converter: Converter,
        progress: Progress | None,
    ) -> None:
        self.directory = directory
        self.con = connection
        self.run_sql: Callable[..., Any] = connection.execute
        self.converter = converter
        self.progress = progress
        self.total = 0
        self.keys = self.values = self.duplicates = 0
        self.doomed: list[str] = []

    def run(self) -> Upgraded:
        execute = self.run_sql
        stored = dict(execute("SELECT key, value FROM Settings").fetchall())
        self.converter.check(execute("SELECT key, raw FROM Cache LIMIT 20").fetchall())
        settings = self.converter.settings(stored)
        backup = self._back_up() if self.converter.keeps(settings) else None
        execute("PRAGMA cache_size = -65536").fetchall()
        execute("PRAGMA synchronous = 2").fetchall()
        execute("BEGIN IMMEDIATE")
        reached("begun")
        try:
            self._change_tables()
            self._convert()
            left = execute(_LEFT).get
            self._finish(settings, left)
            entries = execute(sql.COUNT).get
            reached("finished")
            execute("COMMIT")
        except BaseException:
            with suppress(apsw.Error):
                execute("ROLLBACK")
            raise
        reached("committed")
        self.con.close()
        reached("closed")
        self._remove_files()
        return Upgraded(
            self.directory, entries, self.keys, self.values, self.duplicates, left, backup
        )

    def _back_up(self) -> str:
        """Copy the old database beside itself; the value files stay what they are."""
        path = os.path.join(self.directory, KEPT)
        temporary = f"{path}.new"
        _remove_database(temporary)
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOFOLLOW
        target = apsw.Connection(temporary, flags=flags)
        try:
            harden(target)
            with target.backup("main", self.con, "main") as backup:
                backup.step()
            # One file alone: the old database may have had a log.
            target.execute("PRAGMA journal_mode = delete").fetchall()
        finally:
            target.close()
        mode = os.stat(os.path.join(self.directory, DATABASE)).st_mode & 0o666
        try:
            os.chmod(temporary, mode)
            reached("copied")
            os.rename(temporary, path)
        except OSError as exc:
            raise directory_error(exc.errno or 0, self.directory) from exc
        reached("kept")
        return path

    # -- Tables --

    def _change_tables(self) -> None:
        execute = self.run_sql
        for kind, name in execute(
            "SELECT type, name FROM sqlite_schema WHERE type IN ('trigger', 'index')"
            " AND sql IS NOT NULL"
        ).fetchall():
            if name not in schema.VERSION_5_TABLES:
                execute(f"DROP {kind} {name}")
        if execute("PRAGMA auto_vacuum").get == 1:
            # Otherwise the commit would fill the room of the old indexes with pages from the end.
            execute("PRAGMA auto_vacuum = 2").fetchall()
        execute("ALTER TABLE Cache RENAME COLUMN filename TO file")
        execute("ALTER TABLE Cache ADD COLUMN checksum INTEGER")
        execute("ALTER TABLE Cache ADD COLUMN version INTEGER DEFAULT 0")
        execute("ALTER TABLE Cache ADD COLUMN rank REAL")
        execute("DROP TABLE Settings")
        reached("altered")

    def _finish(self, settings: Mapping[str, Any], left: int) -> None:
        execute = self.run_sql
        for name, statement in schema.TABLES.items():
            if name not in schema.UPGRADED:
                execute(statement)
        if settings.get("tag_index"):
            execute(schema.OPTIONAL["Cache_tag"])
        reached("indexed")
        for name, value in settings.items():
            execute(sql.STORE, (name, value, "setting"))
        states = {
            "cache_id": secrets.token_bytes(16),
            "version_5": self.total,
            "legacy": left or None,
            "disk": self.converter.writer or None,
        }
        for name, value in states.items():
            if value is not None:
                execute(sql.STORE, (name, value, "state"))
        execute(f"PRAGMA application_id = {schema.APPLICATION_ID}").fetchall()
        execute(f"PRAGMA user_version = {schema.FORMAT}").fetchall()
        verify(self.con, self.directory)

    # -- Rows --

    def _convert(self) -> None:
        execute = self.run_sql
        condition = "" if self.converter.visits_all else f" AND {PICKLED}"
        self.total = execute(sql.COUNT).get
        visited, last = 0, -(2**63)
        if os.sep != "/":  # pragma: no cover - other platform
            execute("UPDATE Cache SET file = replace(file, ?, '/')", (os.sep,))
        while rows := self._batch(condition, last):
            for row in rows:
                self._convert_row(*row)
            last = rows[-1][0]
            visited += len(rows)
            reached("converted")
            if self.progress is not None:
                self.progress(visited, self.total)
        if not self.converter.visits_all:
            execute(_UNREAD_KEYS, (LONGEST_KEY,))

    def _batch(self, condition: str, after: int) -> list[tuple[Any, ...]]:
        """Return the next rows to be visited, not more than fit in memory easily."""
        rows: list[tuple[Any, ...]] = []
        size = 0
        cursor = self.con.cursor()
        bounds = (LONGEST_VALUE, after, LONGEST_KEY)
        for row in cursor.execute(f"{_ROWS}{condition} ORDER BY rowid", bounds):
            rows.append(row)
            size += sum(len(part) for part in (row[1], row[6]) if isinstance(part, (str, bytes)))
            if len(rows) >= BATCH_ROWS or size >= BATCH_BYTES:
                break
        cursor.close()
        return rows

    def _convert_row(
        self,
        rowid: int,
        key: DbValue,
        raw: int,
        mode: int,
        file: str | None,
        is_long: int | None,
        value: DbValue,
    ) -> None:
        new_key = self.converter.key(key, raw)
        new_value = (mode, value) if is_long else self.converter.value(mode, file, value)
        if new_value != (mode, value) or type(new_value[1]) is not type(value):
            self.run_sql(
                "UPDATE Cache SET mode = ?, value = ? WHERE rowid = ?", (*new_value, rowid)
            )
            self.values += 1
        if new_key == (key, raw):
            return
        statement = "UPDATE OR IGNORE Cache SET key = ?, raw = ? WHERE rowid = ?"
        self.run_sql(statement, (*new_key, rowid))
        self.keys += 1
        if not self.con.changes():
            self._settle_duplicate(rowid, new_key)

    def _settle_duplicate(self, rowid: int, key: tuple[DbValue, int]) -> None:
        """Keep the newer one of two entries whose keys are equal in this version."""
        if self.run_sql("SELECT 1 FROM Cache WHERE rowid = ?", (rowid,)).get is None:
            return  # It was the older one of two, earlier in this batch.
        found = self.run_sql(sql.FIND, key).get
        if found is None:
            raise apsw.CorruptError("the index on keys has entries that are not there")
        other = found[0]
        newest = self.run_sql(
            "SELECT rowid FROM Cache WHERE rowid IN (?, ?) ORDER BY store_time DESC, rowid DESC"
            " LIMIT 1",
            (rowid, other),
        ).get
        loser = other if newest == rowid else rowid
        file = self.run_sql("DELETE FROM Cache WHERE rowid = ? RETURNING file", (loser,)).get
        if loser == other:
            self.run_sql("UPDATE Cache SET key = ?, raw = ? WHERE rowid = ?", (*key, rowid))
        self.duplicates += 1
        if isinstance(file, str) and is_safe(file):
            self.doomed.append(file)

    def _remove_files(self) -> None:
        files = ValueFiles(self.directory)
        for name in self.doomed:
            files.remove(name)


def _remove_database(path: str) -> None:
    for name in (path, path + "-journal", path + "-wal", path + "-shm"):
        with suppress(OSError):
            os.unlink(name)
