"""Connections that a hostile database cannot hurt: hardened, and compared with the schema."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from typing import Any, Final

import apsw

from diskcache import host
from diskcache.engines.sqlite import schema
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.errors import damaged
from diskcache.engines.sqlite.site import DATABASE
from diskcache.errors import (
    CacheFormatError,
    NewerFormatError,
    OlderFormatError,
    UnsafeSQLiteError,
)

LARGEST_VALUE: Final = 2**30
LOG_BEGIN: Final = bytes.fromhex("377f06")
LOG_HEAD: Final = 56
"""Bytes of the head of a log, and of the head of its first page; both have the same salt."""
SHORTEST_LOG: Final = 32
"""Bytes of the head of a log: in a shorter file there is none yet."""
OPEN_FLAGS: Final = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW


def check_library() -> None:
    """Refuse a SQLite that can lose what was written.

    Versions 3.7.0 to 3.51.2 may reset the write-ahead log while another connection copies it.

    Raises:
        UnsafeSQLiteError: The library has that bug.
    """
    if not _is_safe(apsw.sqlite_lib_version()):
        raise UnsafeSQLiteError(
            f"SQLite {apsw.sqlite_lib_version()} can lose data (WAL-reset bug): versions from"
            " 3.51.3 on are safe; install a wheel of apsw: pip install --upgrade 'apsw>=3.54'"
        )


@lru_cache(maxsize=1)
def _is_safe(name: str) -> bool:
    version = tuple(int(part) for part in name.split("."))
    return (
        version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    )


def connect(directory: str, flags: int = OPEN_FLAGS, query: str = "") -> apsw.Connection:
    """Open the database of a directory and harden it before any statement runs.

    *query* holds options of SQLite's file URIs.
    """
    path = os.path.join(directory, DATABASE)
    if query:
        path, flags = f"file://{_uri_quote(path)}?{query}", flags | apsw.SQLITE_OPEN_URI
    return connect_file(path, flags)


def connect_file(path: str, flags: int = OPEN_FLAGS) -> apsw.Connection:
    """Open a database by its path and harden it."""
    connection = apsw.Connection(path, flags=flags)
    harden(connection)
    return connection


def _uri_quote(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


_SWITCHES: Final = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DML, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DDL, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, 0),
)
_LIMITS: Final = (
    (apsw.SQLITE_LIMIT_LENGTH, LARGEST_VALUE),
    (apsw.SQLITE_LIMIT_ATTACHED, 0),
    (apsw.SQLITE_LIMIT_TRIGGER_DEPTH, 1),
    (apsw.SQLITE_LIMIT_EXPR_DEPTH, 64),
    (apsw.SQLITE_LIMIT_VDBE_OP, 25_000),
)


def harden(connection: apsw.Connection) -> None:
    """Make a connection safe to use on a database that a stranger may have written."""
    for switch, value in _SWITCHES:
        connection.config(switch, value)
    connection.drop_modules(None)
    for limit, value in _LIMITS:
        connection.limit(limit, value)


def verify(connection: apsw.Connection, directory: str) -> dict[str, str]:
    """Check that a database is one of ours, before anything else is asked of it.

    Returns:
        Its schema: SQL by name.

    Raises:
        CacheFormatError: It is not, or it is of another format.
        CacheCorruptError: It is one of ours, but for a few bits.
    """
    version = connection.execute("PRAGMA user_version").get
    try:
        found = {name: text for name, text in connection.execute(sql.SCHEMA) if text is not None}
    except UnicodeDecodeError:
        rows: list[Any] = connection.execute(sql.SCHEMA_AS_BYTES).fetchall()
        # No text of ours has the mark that stands for what is no character.
        found = {str(name, errors="replace"): str(text, errors="replace") for name, text in rows}
    if version == schema.FORMAT and schema.is_known(found):
        return found
    if (version == schema.FORMAT and schema.is_bent(found)) or (
        schema.is_known(found) and not 0 <= version <= schema.LAST_FORMAT
    ):
        raise damaged(directory, "what it says of itself cannot be")
    if schema.is_version_5(found):
        raise OlderFormatError(
            f"cache {directory!r} was written by diskcache 5: open it once without readonly=True,"
            f' or run "python -m diskcache migrate {directory}", to upgrade it'
        )
    if isinstance(version, int) and version > schema.FORMAT and "Cache" in found:
        raise NewerFormatError(
            f"cache {directory!r} has format {version}, newer than this library's"
            f" {schema.FORMAT}: upgrade diskcache"
        )
    raise not_a_cache(directory)


def not_a_cache(directory: str) -> CacheFormatError:
    """Return the error of a database of somebody else."""
    return CacheFormatError(
        f"{os.path.join(directory, DATABASE)!r} is a database, but not of a cache: its tables are"
        " not exactly those of format 6; choose another directory"
    )


def connect_to_judge(directory: str) -> apsw.Connection:
    """Open a database that may be damaged, or of somebody else; closing it changes nothing."""
    connection = connect(directory)
    leave_alone(connection)
    return connection


def leave_alone(connection: apsw.Connection) -> None:
    """Have the closing of a connection neither copy nor remove the log of its database."""
    persist_log(connection, True)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


_SWITCH: Final = (ctypes.c_int(0), ctypes.c_int(1))


def persist_log(connection: apsw.Connection, wanted: bool) -> None:
    """Choose whether closing a connection may remove the write-ahead log.

    It must not, while another process has the database open: should that one have lost its locks
    (any `open` and `close` of the file in its process drops them), what it writes would be lost.
    """
    pointer = ctypes.addressof(_SWITCH[wanted])
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, pointer)


def has_log(path: str) -> bool:
    """Tell whether there is a log that SQLite reads: its head, and the first page, are of one kind.

    No lock is kept on a log, so it may be opened.
    """
    try:
        descriptor = host.open_file(path + "-wal", os.O_RDONLY)
    except OSError:
        return False
    try:
        head = os.read(descriptor, LOG_HEAD)
    finally:
        os.close(descriptor)
    return len(head) == LOG_HEAD and head[:3] == LOG_BEGIN and head[16:24] == head[40:48]


def may_have_log(path: str) -> bool:
    """Tell whether there is a log, or the beginning of one: SQLite reads no other.

    One that only reads would wait ten seconds for a file that is none to become one.
    """
    try:
        descriptor = host.open_file(path + "-wal", os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        head = os.read(descriptor, SHORTEST_LOG)
    finally:
        os.close(descriptor)
    return len(head) < SHORTEST_LOG or head[:3] == LOG_BEGIN


def remove_log(directory: str) -> None:
    """Remove the log that processes left which all closed at once. Nobody has it open."""
    if os.path.lexists(os.path.join(directory, DATABASE + "-journal")):
        return  # A stranger's: SQLite would open it, and wait if it is a pipe.
    connection = connect(directory)
    try:
        persist_log(connection, False)
        connection.execute("PRAGMA schema_version").fetchall()
    finally:
        connection.close()
