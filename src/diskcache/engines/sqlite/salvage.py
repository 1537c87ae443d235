"""Reading what can still be read of a damaged database.

The table is read in the order of its row numbers, without any index. Where a page cannot be read,
the range of row numbers behind it is halved until what is readable on both sides of it is found. A
row is believed if its columns hold what this library writes there, and if the file that it names
is there and has the recorded length; its checksum is compared when it is read, as ever.

Where not even the first page can be read, a copy of the database is read whose first page is that
of a new one: the tables of format 6 are always made in the same order, and so begin at the same
pages.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from time import monotonic
from typing import Any, Final, NamedTuple

import apsw

from diskcache.engines.sqlite import reading
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.errors import DAMAGE
from diskcache.engines.sqlite.hardening import connect_file, connect_to_judge, persist_log, verify
from diskcache.engines.sqlite.opening import SMALLEST, connect_without_log, refuse_short
from diskcache.engines.sqlite.site import DATABASE
from diskcache.errors import DiskCacheError
from diskcache.files import is_safe

FAILURES: Final = 5000
"""Reads in a row that fail before nothing more is expected."""
HIGHEST: Final = 2**40
"""Row number beyond which nobody looks if the largest one cannot be read."""
BLOCK: Final = 2**20
LARGEST_PAGE: Final = 65536
UNREADABLE: Final = (*DAMAGE, UnicodeDecodeError)

ROWS: Final = (
    "SELECT rowid, key, raw, store_time, expire_time, access_time, access_count, tag, size, mode,"
    " file, checksum, value, version FROM Cache NOT INDEXED WHERE rowid BETWEEN ? AND ?"
    " ORDER BY rowid"
)
KEEP: Final = (
    "INSERT OR IGNORE INTO Cache (rowid, key, raw, store_time, expire_time, access_time,"
    " access_count, tag, size, mode, file, checksum, value, version)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Rest(NamedTuple):
    """What was read of a damaged database."""

    settings: dict[str, tuple[Any, str]] | None
    """Value and kind of what the table Settings holds; None if it cannot be read."""
    entries: int


def settings_of(connection: apsw.Connection) -> dict[str, tuple[Any, str]] | None:
    """Return the table Settings; None if it cannot be read."""
    try:
        rows = reading.fetch(connection.execute, sql.ALL_SETTINGS)
    except UNREADABLE:
        return None
    return {
        name: (value, kind)
        for name, value, kind in rows
        if type(name) is type(kind) is str and not name.startswith("rank_")
    }


def source_of(directory: str, fresh: str, copy: str) -> apsw.Connection | None:
    """Open a damaged database, or a mended copy; None if neither can be read.

    The copy says how many pages there are, and has the first page of a *fresh* one if need be.
    """
    ways: tuple[Callable[[], apsw.Connection], ...] = (
        lambda: _whole(directory),
        lambda: _mended(directory, os.path.join(directory, DATABASE), copy),
        lambda: _mended(directory, fresh, copy),
        # Its log may be that of another database.
        lambda: connect_without_log(directory),
    )
    for open_it in ways:
        connection = None
        try:
            connection = open_it()
            if not connection.readonly("main"):
                persist_log(connection, True)
            connection.execute("PRAGMA cell_size_check = 1").fetchall()
            verify(connection, directory)
        except (*UNREADABLE, DiskCacheError):
            if connection is not None:
                connection.close()
        else:
            return connection
    return None


def _whole(directory: str) -> apsw.Connection:
    """Open a database that has all its pages: those that are missing would be read as zeros."""
    connection = connect_to_judge(directory)
    try:
        refuse_short(connection, directory)
    except BaseException:
        connection.close()
        raise
    return connection


def _mended(directory: str, head_from: str, copy: str) -> apsw.Connection:
    path = os.path.join(directory, DATABASE)
    source = _opened(head_from)
    try:
        head = bytearray(source.xRead(min(LARGEST_PAGE, source.xFileSize()), 0))
    finally:
        source.xClose()
    # One stands for the largest size.
    size = int.from_bytes(head[16:18], "big")
    size = LARGEST_PAGE if size == 1 else size
    if size < SMALLEST or len(head) < size:
        raise apsw.CorruptError("there is no first page")
    pages = _copied(path, copy) // size
    # Pages there are; the first page of the list of free ones, and their number: none is used.
    head[28:32], head[32:40] = pages.to_bytes(4, "big"), bytes(8)
    head[92:96] = head[24:28]
    with open(copy, "r+b") as file:
        file.write(head[:size])
        file.truncate(max(pages, 1) * size)
    if os.path.exists(f"{path}-wal"):
        _copied(f"{path}-wal", f"{copy}-wal")
    return connect_file(copy)


def _opened(path: str) -> apsw.VFSFile:
    return apsw.VFSFile("", path, [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])


def _copied(path: str, target: str) -> int:
    """Copy a file through SQLite, which knows of the locks that closing it would drop.

    What is nothing but zeros takes no room: a file may claim to be larger than the disk.
    """
    source = _opened(path)
    try:
        size = source.xFileSize()
        with open(target, "wb") as file:
            for start in range(0, size, BLOCK):
                data = source.xRead(min(BLOCK, size - start), start)
                if data.count(0) < len(data):
                    file.seek(start)
                    file.write(data)
            file.truncate(size)
    finally:
        source.xClose()
    return size


def rescue(
    source: apsw.Connection, target: apsw.Connection, directory: str, seconds: float | None
) -> Rest:
    """Copy what verifies from a damaged database to an empty one; stop after *seconds*."""
    deadline = math.inf if seconds is None else monotonic() + seconds
    settings = settings_of(source)
    before = target.total_changes()
    target.execute("BEGIN IMMEDIATE")
    try:
        with closing(_rows(source, deadline)) as rows:
            target.executemany(KEEP, (row for row in rows if _is_sound(row, directory)))
        entries = target.total_changes() - before
        for name, (value, kind) in (settings or {}).items():
            if name != "cache_id":
                target.execute(sql.STORE, (name, value, kind))
        target.execute("COMMIT")
    except BaseException:
        with suppress(apsw.Error):
            target.execute("ROLLBACK")
        raise
    return Rest(settings, entries)


def _rows(source: apsw.Connection, deadline: float) -> Generator[tuple[Any, ...], None, None]:
    """Yield the rows that can be read, by row number."""
    try:
        highest = source.execute(sql.LAST_ROWID).get or 0
    except UNREADABLE:
        highest = HIGHEST
    spans, failures = [(1, highest)], 0
    while spans and failures < FAILURES and monotonic() < deadline:
        low, high = spans.pop()
        cursor = source.cursor()
        try:
            for row in cursor.execute(ROWS, (low, high)):
                low, failures = row[0] + 1, 0
                yield row
                if monotonic() >= deadline:
                    return
        except UNREADABLE:
            failures += 1
            if low < high:
                middle = (low + high) // 2
                spans += [(middle + 1, high), (low, middle)]
        finally:
            cursor.close(True)


def _is_sound(row: tuple[Any, ...], directory: str) -> bool:
    """Tell whether the columns hold what this library writes there."""
    key, raw, stored, expires, used, uses, tag, size, mode, file, checksum, value, version = row[1:]
    return (
        reading.sound_key((key, raw)) is not reading.UNREADABLE
        and type(stored) is float
        and 0 < stored < math.inf
        and all(time is None or type(time) is float for time in (expires, used))
        and type(mode) is int
        and 1 <= mode & 15 <= 9
        and 0 < mode < 128
        and type(uses) is type(version) is int
        and reading.sound((mode, value, file, size, checksum, expires, tag, version, row[0]))[0]
        == mode
        and (file is None or _has_file(directory, file, size))
    )


def _has_file(directory: str, name: str, size: int) -> bool:
    if not is_safe(name):
        return False
    try:
        found = os.lstat(os.path.join(directory, name))
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size
