"""Making and opening the database of a cache directory."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import apsw

from diskcache import host
from diskcache import settings as rules
from diskcache.clock import Clock
from diskcache.engines.sqlite import control as control_file
from diskcache.engines.sqlite import guard, reading, room, schema, site
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Found, Link
from diskcache.engines.sqlite.errors import (
    DAMAGE,
    cannot_open,
    damaged,
    directory_error,
    full,
    is_over_quota,
    translate,
)
from diskcache.engines.sqlite.hardening import (
    check_library,
    connect,
    harden,
    has_log,
    leave_alone,
    may_have_log,
    not_a_cache,
    persist_log,
    verify,
)
from diskcache.engines.sqlite.site import DATABASE
from diskcache.errors import CacheFormatError, CacheFullError, DiskCacheError, SettingError
from diskcache.files import TEMPORARY, ValueFiles, new_damage_folder

LONGEST_OPENING: Final = 60.0
"""Seconds that opening waits for another process that is making the same cache."""

DEAD_AFTER: Final = 60.0
"""Seconds after which a file being written may belong to a writer that died."""

LONGEST_PATH: Final = int(apsw.vfs_details()[0]["mxPathname"]) - len(f"/{DATABASE}.new-journal")
"""Bytes in the path of a directory: SQLite takes no longer names of files."""
SMALLEST: Final = 512
"""No database has fewer bytes."""
COMPANIONS: Final = ("-journal", "-wal", "-shm")
"""What the names of the files end in that belong to a database."""

CONNECTED: Final = (
    "sqlite_cache_size",
    "sqlite_journal_mode",
    "sqlite_mmap_size",
    "sqlite_synchronous",
)
"""Settings of which a connection has to be told."""
PAGE_SIZE: Final = "PRAGMA page_size"
PAGE_COUNT: Final = "PRAGMA page_count"
PRAGMA_NAME: Final = re.compile(r"[a-z_]{1,64}")
JOURNAL_END: Final = bytes.fromhex("d9d505f920a163d7")
"""What follows the name of another journal at the end of one."""
TABLES: Final = "SELECT name FROM sqlite_schema WHERE type = 'table' LIMIT 100"
READ_ONLY: Final = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW


class Place(NamedTuple):
    """Everything needed to open connections to one directory."""

    directory: str
    files: ValueFiles
    clock: Clock
    mode: int
    settings: Mapping[str, Any]
    readonly: bool
    pragmas: Mapping[str, Any]
    """Pragmas beyond the settings, without the prefix `sqlite_`."""

    def journal(self, settings: Mapping[str, Any], here: site.Site) -> str:
        """Return the journal mode to use: no log where its index cannot be shared."""
        return "delete" if here.is_far else str(settings["sqlite_journal_mode"]).lower()


def prepare_directory(directory: str, mode: int, readonly: bool) -> int:
    """Make the directory if it is missing; return the mode that its files follow.

    Raises:
        DirectoryError: It cannot be made or used; `errno` says why.
    """
    _refuse_path(directory)
    try:
        found = _mode_of(directory)
        if found is None:
            if readonly:
                raise directory_error(errno.ENOENT, directory)
            # Another process may have made it just now, and not yet set its mode.
            if host.make_folders(directory, mode) or os.path.isdir(directory):
                return mode
            raise directory_error(errno.ENOTDIR, directory)
    except DiskCacheError:
        raise
    except OSError as exc:
        raise directory_error(exc.errno or 0, directory) from exc
    # Others are let in by the keyword, not by a directory whose mode is a habit.
    return 0o700 | found & (0o070 | mode & 0o007)


def _refuse_path(directory: str) -> None:
    """Refuse a path that SQLite cannot take, before anything is made there."""
    try:
        length = len(directory.encode())
    except UnicodeEncodeError as exc:
        raise directory_error(errno.EILSEQ, directory) from exc
    if length > LONGEST_PATH:
        raise directory_error(errno.ENAMETOOLONG, directory)


def _mode_of(directory: str) -> int | None:
    try:
        found = os.stat(directory).st_mode
    except (OSError, ValueError):
        return None  # To make it will tell why.
    return stat.S_IMODE(found) if stat.S_ISDIR(found) else None


def open_link(place: Place, *, create: bool) -> Link:
    """Open a connection to the cache of a directory, making the cache if *create*.

    Cost: 13 statements; no write if the cache exists.

    Raises:
        DiskCacheError: It cannot be opened; the class and the message say why.
    """
    check_library()
    directory = place.directory
    path = os.path.join(directory, DATABASE)
    sizes = _sizes_of_files(path)
    is_ours = os.path.exists(os.path.join(directory, site.GATE))
    try:
        if is_short(directory) if is_ours else is_empty(directory):
            raise damaged(directory, "its file is empty")
        if sizes.get("-journal"):
            _refuse_other_tables(directory)
        if not sizes and not os.path.isdir(directory):
            raise directory_error(errno.ENOENT, directory)
        return _open_readonly(place) if place.readonly else _open_known(place, create, is_ours)
    except (apsw.Error, UnicodeDecodeError) as exc:
        if is_ours and isinstance(exc, DAMAGE):
            raise damaged(directory, str(exc)) from exc
        raise translate(exc, directory) from exc
    except CacheFormatError as exc:
        if is_ours and has_foreign_log(directory):
            raise damaged(directory, "its log is that of another database") from exc
        raise


def _open_known(place: Place, create: bool, is_ours: bool) -> Link:
    if not is_ours and os.path.exists(os.path.join(place.directory, DATABASE)):
        _refuse_strangers(place.directory)
    return _enter_frugally(place, create)


def _enter_frugally(place: Place, create: bool) -> Link:
    """Open a cache; on a full disk, in the room that was kept for that."""
    try:
        return _enter(place, create)
    except (apsw.Error, DiskCacheError) as exc:
        error = translate(exc, place.directory) if isinstance(exc, apsw.Error) else exc
        if not isinstance(error, CacheFullError) or not room.spend(place.directory):
            raise
    link = _enter(place, create)
    room.note_spent(link)
    return link


def _enter(place: Place, create: bool) -> Link:
    directory = place.directory
    with site.registry.lock:
        here = site.enter(directory, place.clock, place.mode)
        try:
            if not os.path.exists(here.database_path):
                if not create:
                    raise directory_error(errno.ENOENT, directory)
                _create(place, here)
            return _open(place, here)
        except BaseException:
            here.leave()
            raise


def has_foreign_log(directory: str) -> bool:
    """Tell whether a database that is not one of a cache would be, if there were no log."""
    path = os.path.join(directory, DATABASE)
    if not has_log(path) or os.path.exists(path + "-journal"):
        return False
    with suppress(apsw.Error, DiskCacheError):
        connection = connect_without_log(directory)
        try:
            verify(connection, directory)
        finally:
            connection.close()
        return True
    return False


def connect_without_log(directory: str) -> apsw.Connection:
    """Open a database as if there were nothing beside it, to read what was copied from its log."""
    return connect(directory, READ_ONLY, "immutable=1")


def is_empty(directory: str) -> bool:
    """Tell whether the file of the database is there, but nothing is in it, nor beside it."""
    path = os.path.join(directory, DATABASE)
    return _is_shorter(path, 1) and not any(os.path.exists(path + each) for each in COMPANIONS)


def is_short(directory: str) -> bool:
    """Tell whether the file of our database is shorter than any, and no journal makes it longer.

    A log does not: the database is made before it.
    """
    path = os.path.join(directory, DATABASE)
    return _is_shorter(path, SMALLEST) and not os.path.exists(path + "-journal")


def _is_shorter(path: str, least: int) -> bool:
    try:
        return os.stat(path).st_size < least
    except OSError:
        return False


def _refuse_strangers(directory: str, *, readonly: bool = False) -> None:
    """Look at a database of unknown origin, without leaving a trace beside it.

    What the journal of a process that died undoes must be undone before anybody can look.
    """
    has_journal = os.path.exists(os.path.join(directory, DATABASE + "-journal"))
    look = connect if has_journal and not readonly else connect_to_look
    connection = look(directory)
    try:
        verify(connection, directory)
    finally:
        connection.close()


def _refuse_other_tables(directory: str) -> None:
    """Refuse a database of somebody else before SQLite undoes what its journal says.

    The journal may be needed to read it, and then says nothing here.
    """
    with suppress(apsw.Error, UnicodeDecodeError):
        connection = connect_without_log(directory)
        try:
            names = {name for (name,) in connection.execute(TABLES)}
        finally:
            connection.close()
        if names and names.isdisjoint(schema.TABLES):
            raise not_a_cache(directory)


def _open(place: Place, here: site.Site) -> Link:
    is_first = not here.links
    if is_first:
        place.files.sweep_temporary(place.clock.time() - DEAD_AFTER)
    had_log = not is_first or has_log(here.database_path)
    connection = connect(place.directory)
    try:
        connection.set_busy_timeout(int(LONGEST_OPENING * 1000))
        cache_id, found = read_found(connection, place.directory)
        if not had_log:
            _refuse_short(place.directory, found.page_size, found.pages)
        is_logged = configure(connection, place, here, _of_connections(found.settings))
    except BaseException as exc:
        has_no_room = is_over_quota(exc, connection)
        if had_log:
            with suppress(apsw.Error):
                leave_alone(connection)
        connection.close()
        if has_no_room:
            raise full(place.directory) from exc
        raise
    if is_logged:
        here.protect()
    here.attach_control(cache_id)
    if not had_log:
        here.distrust()
    return Link(connection, here, cache_id, place.files, place.clock, found)


def _of_connections(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return those of the stored settings that connections have, as far as they are believed."""
    return rules.believed({name: stored[name] for name in CONNECTED if name in stored})[0]


def refuse_short(connection: apsw.Connection, directory: str) -> None:
    """Refuse a database whose end is missing: SQLite would read zeros there.

    Raises:
        CacheCorruptError: It is.
    """
    _refuse_short(directory, *_lengths(connection))


def _lengths(connection: apsw.Connection) -> tuple[int, int]:
    """Return the bytes of a page, and how many pages there should be."""
    return connection.execute(PAGE_SIZE).get, connection.execute(PAGE_COUNT).get


def _refuse_short(directory: str, page: int, pages: int) -> None:
    path = os.path.join(directory, DATABASE)
    size = os.stat(path).st_size
    if size % page or (size < page * pages and not has_log(path)):
        raise damaged(directory, "its end is missing")


def read_found(connection: apsw.Connection, directory: str) -> tuple[bytes, Found]:
    """Verify a database, and read what everybody who opens it needs, in one transaction."""
    connection.execute("BEGIN")
    known = verify(connection, directory)
    rows = reading.fetch(connection.execute, sql.ALL_SETTINGS)
    lengths = _lengths(connection)
    connection.execute("COMMIT")
    kinds: dict[str, dict[str, Any]] = {"setting": {}, "state": {}}
    cache_id = None
    for name, value, kind in rows:
        if name == "cache_id":
            cache_id = value
        if kind in kinds and type(name) is str:
            kinds[kind][name] = value
    settings, marks = kinds.values()
    if not isinstance(cache_id, bytes) or len(cache_id) != 16:
        raise damaged(directory, "it has no valid id")
    return cache_id, Found(settings, "Cache_tag" in known, marks, *lengths)


def _open_readonly(place: Place) -> Link:
    directory = place.directory
    path = os.path.join(directory, DATABASE)
    if not os.path.exists(path):
        raise cannot_open(directory)
    _refuse_strangers(directory, readonly=True)
    connection = connect_to_look(directory)
    try:
        connection.set_busy_timeout(int(LONGEST_OPENING * 1000))
        cache_id, found = read_found(connection, directory)
        connection.execute("PRAGMA query_only = 1")
    except BaseException:
        connection.close()
        raise
    here = site.enter_readonly(directory, place.clock)
    if may_have_log(path):
        here.protect()
    here.control = control_file.attach(directory, cache_id, readonly=True)
    return Link(connection, here, cache_id, place.files, place.clock, found)


def connect_to_look(directory: str) -> apsw.Connection:
    """Open a database without leaving a trace.

    Without a log nobody has it open, and opening it as usual would make one. Readers look again
    whether that is still so. With a log, the index of the log is only read.
    """
    if os.path.exists(os.path.join(directory, DATABASE + "-journal")):
        return connect(directory, READ_ONLY)
    if not may_have_log(os.path.join(directory, DATABASE)):
        return connect(directory, READ_ONLY, "immutable=1")
    if os.path.exists(os.path.join(directory, DATABASE + "-shm")):
        return connect(directory, READ_ONLY, "readonly_shm=1")
    return connect(directory, READ_ONLY)


def refuse_odd_files(directory: str) -> None:
    """Refuse a directory before SQLite waits for ever at a pipe in it, or follows a link.

    Raises:
        CacheFormatError: What is in the place of a database, its log or journal is no file.
    """
    _sizes_of_files(os.path.join(directory, DATABASE))


def _sizes_of_files(path: str) -> dict[str, int]:
    """Return how long the files of a database are, by what their names end in.

    Refuses what is no regular file: to open a pipe would hang, a link leads elsewhere.
    """
    sizes = {}
    for suffix in ("", *COMPANIONS):
        name = path + suffix
        try:
            found = os.lstat(name)
        except OSError:
            continue  # Opening it will tell why.
        if not stat.S_ISREG(found.st_mode):
            raise CacheFormatError(
                f"{name!r} is not a regular file: choose another directory, or remove it"
            )
        if suffix == "-journal" and found.st_size and _names_another(name):
            raise CacheFormatError(
                f"{name!r} names another journal, which this library's never do, and SQLite might"
                " remove that: choose another directory, or remove it"
            )
        sizes[suffix] = found.st_size
    return sizes


def _names_another(path: str) -> bool:
    """Tell whether a rollback journal belongs to a transaction on several databases.

    Some versions of SQLite remove the file that it names, wherever that is. No lock is kept on a
    journal, so it may be opened.
    """
    descriptor = host.open_file(path, os.O_RDONLY)
    try:
        os.lseek(descriptor, -min(len(JOURNAL_END), os.fstat(descriptor).st_size), os.SEEK_END)
        return os.read(descriptor, len(JOURNAL_END)) == JOURNAL_END
    finally:
        os.close(descriptor)


def configure(
    connection: apsw.Connection,
    place: Place,
    here: site.Site,
    stored: Mapping[str, Any] | None = None,
) -> bool:
    """Set what a connection does not remember. Each statement is run to its end.

    *stored* settings, if given, win over those of the place: while a cache is being opened, those
    are not settled yet.

    Returns:
        Whether there is a write-ahead log that others may use too.
    """
    execute, settings = connection.execute, {**place.settings, **(stored or {})}
    # A page written to the log before its commit would be undone by a forked child that closes.
    execute(
        "PRAGMA cache_spill = 0; PRAGMA cell_size_check = 1;"
        f" PRAGMA mmap_size = {int(settings['sqlite_mmap_size'])};"
        f" PRAGMA cache_size = {int(settings['sqlite_cache_size'])};"
        f" PRAGMA synchronous = {int(settings['sqlite_synchronous'])}"
    ).fetchall()
    journal = place.journal(settings, here)
    if execute("PRAGMA journal_mode").get != journal:
        _change_journal(connection, place.directory, journal)
    if journal == "wal":
        persist_log(connection, True)
    # Without a log, readers and writers stop each other, and wait.
    connection.set_busy_timeout(0 if journal == "wal" else int(LONGEST_OPENING * 1000))
    for name, value in sorted(place.pragmas.items()):
        run_pragma(connection, name, value)
    is_alone = str(place.pragmas.get("locking_mode")).lower() == "exclusive"
    return journal == "wal" and not is_alone


def _change_journal(connection: apsw.Connection, directory: str, journal: str) -> None:
    second = guard.of(os.path.join(directory, DATABASE))
    if second is not None:
        # Nobody may have the database open meanwhile.
        second.step_aside()
    try:
        # A log that is to persist would keep the database in its mode.
        persist_log(connection, False)
        connection.execute(f"PRAGMA journal_mode = {journal}").fetchall()
    finally:
        if second is not None and connection.execute("PRAGMA journal_mode").get == "wal":
            second.resume()


def run_pragma(connection: apsw.Connection, name: str, value: Any) -> None:
    """Run one pragma that a user chose by keyword.

    Raises:
        SettingError: The name or the value cannot be part of a pragma.
    """
    if not PRAGMA_NAME.fullmatch(name) or not _is_pragma_value(value):
        raise SettingError(
            f"sqlite_{name} must be the name of a pragma, with a number or a word: got {value!r}"
        )
    connection.execute(f"PRAGMA {name} = {value}").fetchall()


def _is_pragma_value(value: object) -> bool:
    return isinstance(value, (bool, int)) or (
        isinstance(value, str) and re.fullmatch(r"\w{1,32}", value) is not None
    )


def _create(place: Place, here: site.Site) -> None:
    """Make the database under another name and move it into place, so that none is half made."""
    directory = place.directory
    path = os.path.join(directory, DATABASE)
    # With the gate in hand nobody else makes one, so a file of this name is that of a dead maker.
    temporary = os.path.join(directory, f"{DATABASE}.new")
    try:
        here.gate.acquire(LONGEST_OPENING, here)
        if os.path.exists(path):
            return
        host.make_folder(os.path.join(directory, TEMPORARY), place.mode)
        cache_id = secrets.token_bytes(16)
        remove_database(temporary)
        build(temporary, place, here, cache_id)
        os.chmod(temporary, place.mode & 0o666)
        if here.is_shared_memory_safe:
            here.use(control_file.create(directory, cache_id, place.mode & 0o666, is_new=True))
        _move_companions(place, path)
        room.keep(directory, place.mode)
        os.rename(temporary, path)
    except OSError as exc:
        raise directory_error(exc.errno or 0, directory) from exc
    finally:
        try:
            if here.gate.is_mine:
                remove_database(temporary)
        finally:
            here.gate.release(here)


def _move_companions(place: Place, path: str) -> None:
    """Put away the log of a database that is gone: SQLite would take it for that of the new one."""
    left = [suffix for suffix in COMPANIONS if os.path.lexists(path + suffix)]
    if not left:
        return
    folder = os.path.join(place.directory, new_damage_folder(place.clock.time()))
    host.make_folder(folder, place.mode)
    for suffix in left:
        os.rename(path + suffix, os.path.join(folder, DATABASE + suffix))


def remove_database(path: str) -> None:
    """Remove a database that is not one of a cache yet, or no longer."""
    for name in (path, *(path + suffix for suffix in COMPANIONS)):
        with suppress(OSError):
            os.unlink(name)


def build(path: str, place: Place, here: site.Site, cache_id: bytes) -> None:
    """Make the database of an empty cache; nobody may have the file open."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOFOLLOW
    connection = apsw.Connection(path, flags=flags)
    try:
        harden(connection)
        execute = connection.execute
        execute("PRAGMA synchronous = 1")
        execute(f"PRAGMA page_size = {schema.PAGE_SIZE}").fetchall()
        execute(f"PRAGMA auto_vacuum = {int(place.settings['sqlite_auto_vacuum'])}").fetchall()
        execute("PRAGMA journal_mode = memory").fetchall()
        execute("BEGIN IMMEDIATE")
        execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        execute(f"PRAGMA user_version = {schema.FORMAT}")
        for statement in schema.TABLES.values():
            execute(statement)
        execute(sql.STORE, ("cache_id", cache_id, "state"))
        execute("COMMIT")
        journal = place.journal(place.settings, here)
        execute(f"PRAGMA journal_mode = {journal}").fetchall()
    except apsw.IOError as exc:
        if is_over_quota(exc, connection):
            raise full(place.directory) from exc
        raise
    finally:
        connection.close()
