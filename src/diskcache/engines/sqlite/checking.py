"""What must be true of a cache directory: small named checks, each with its repair."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from diskcache.coherence import settle
from diskcache.engines.base import Finding
from diskcache.engines.sqlite import reading
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.control import ALL_SLOTS, BYTES, COUNT
from diskcache.engines.sqlite.culling import forget
from diskcache.engines.sqlite.errors import DAMAGE
from diskcache.engines.sqlite.ranking import stored_queues
from diskcache.entry import DbValue
from diskcache.files import DAMAGE_FOLDER, LOCKS, OWN_NAME, RESERVED, TEMPORARY, is_safe

T = TypeVar("T")

OWN_FOLDERS: Final = (TEMPORARY, LOCKS)
"""Folders that come and go by rules of their own."""
LEFTOVER: Final = re.compile(
    r"(?:cache\.db|cache\.db\.5|cache\.db\.old|control)\.new(?:-journal|-wal|-shm)?"
)
"""What a process that was killed while it made or upgraded a cache may leave."""

OWN_FOLDER: Final = re.compile(r"[0-9a-f]{2}(?:[/\\][0-9a-f]{2})?")

ROWS_WITH_FILES: Final = "SELECT rowid, file, size, key, raw FROM Cache WHERE file IS NOT NULL"
UNKNOWN_KINDS: Final = (
    "SELECT count(*) FROM Cache WHERE typeof(mode) = 'integer'"
    " AND (mode & 15 NOT BETWEEN 1 AND 9 OR mode & 48 = 48 OR mode < 1"
    " OR (mode > 127 AND (mode & 128 = 0 OR expire_time IS NULL)))"
)
UNSOUND: Final = (
    "SELECT rowid, file, size, key FROM Cache WHERE typeof(mode) <> 'integer'"
    " OR typeof(raw) <> 'integer' OR raw NOT IN (0, 1) OR key IS NULL"
    " OR typeof(expire_time) IN ('text', 'blob') OR (file IS NULL) = (value IS NULL)"
    " OR (file IS NOT NULL AND (typeof(size) <> 'integer' OR size < 0"
    " OR typeof(checksum) NOT IN ('integer', 'null')))"
)
"""Rows that no version of this library wrote, nor will; see `reading.sound`."""
QUEUED: Final = (
    f"SELECT count(*), CAST(total({sql.COST}) AS INTEGER) FROM Cache WHERE {{}}"
    " AND NOT (rowid > ? AND rowid <= ?)"
)
TEXTS: Final = (
    "SELECT rowid, file, size, key, tag, value FROM Cache WHERE rowid > ?"
    " AND 'text' IN (typeof(key), typeof(tag), typeof(value)) ORDER BY rowid LIMIT 200"
)


class Write(Protocol):
    """Runs a step in a write transaction."""

    def __call__(self, wait: float | None, step: Callable[..., T], *args: Any) -> T:
        """Run *step* with the connection and *args*."""
        ...


def check(link: Link, write: Write, fix: bool, wait: float | None) -> list[Finding]:
    """Return what is wrong; with *fix*, mend what can be mended without touching strangers' files.

    Beside live writers it raises no false alarm: everything is compared in one transaction, and
    files are published and removed only inside one.
    """
    if fix:
        with suppress(OSError):
            link.files.sweep_temporary(link.clock.time() - 60)
    return write(wait, _check_all, fix)


def look(link: Link) -> list[Finding]:
    """Return what is wrong, without the write lock.

    Beside a live writer a file that it is just publishing or removing may be reported.
    """
    if findings := damage(link):
        return findings
    link.execute("BEGIN")
    try:
        return _check_all(link, False)
    finally:
        link.execute("COMMIT")


def damage(link: Link) -> list[Finding]:
    """Return what SQLite says of its file: nothing can be said about the rows of a damaged one."""
    try:
        texts = [text for (text,) in link.execute("PRAGMA integrity_check").fetchall()]
    except DAMAGE as exc:
        texts = [str(exc)]
    return [Finding("data", f"the database is damaged: {text}") for text in texts if text != "ok"]


def _check_all(link: Link, fix: bool) -> list[Finding]:
    findings: list[Finding] = []
    for named in (
        _rows_have_files,
        _values_are_sound,
        # After all that drops rows: what only those named goes with them.
        _files_have_rows,
        _totals_are_exact,
        _queues_are_exact,
        _generations_are_even,
    ):
        findings += named(link, fix)
    return findings


def _rows_have_files(link: Link, fix: bool) -> Iterator[Finding]:
    """Every row that names a file has it, with the recorded length."""
    for rowid, file, size, key, _ in reading.fetch(link.execute, ROWS_WITH_FILES):
        if not is_safe(file):
            yield Finding("data", f"not the name of a value file: {file!r}")
            _drop(link, fix, rowid, file, size, key)
            continue
        path = os.path.join(link.site.directory, file)
        found = _regular_size(path)
        if found is None:
            yield Finding("data", f"file not found: {path}")
            _drop(link, fix, rowid, file, size, key)
        elif found != size:
            yield Finding("data", f"wrong file size: {path}, {found} != {size}")
            if fix:
                forget(link, rowid, file, size, key)


def _drop(link: Link, fix: bool, rowid: int, file: object, size: object, key: DbValue) -> None:
    """With *fix*, remove a row whose file, if it names one, is not there or not ours."""
    if fix:
        forget(link, rowid, None, 0, key)
        if file is not None:
            link.size -= reading.whole(size)


def _regular_size(path: str) -> int | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _files_have_rows(link: Link, fix: bool) -> Iterator[Finding]:
    """Every file in the directory belongs to a row; folders are not empty.

    A folder that holds a cache of its own is left alone. Only files with names of ours are
    removed: what a user put here stays.
    """
    walked = list(_walk(link.site.directory))
    # What was found after another cache had taken the place of this one may be of that.
    fix = fix and link.site.is_current()
    for folder, _, files in walked:
        relative = os.path.relpath(folder, link.site.directory).replace(os.sep, "/")
        for name in sorted(files):
            yield from _check_file(link, name if relative == "." else f"{relative}/{name}", fix)
    yield from _check_folders(link, walked, fix)


def _walk(directory: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield folders, the folders in them and the files in them, but for what is known."""
    for folder, folders, files in os.walk(directory, topdown=True):
        if folder == directory:
            files = [name for name in files if name not in RESERVED]
            folders[:] = [name for name in folders if name not in OWN_FOLDERS]
        elif DAMAGE_FOLDER.fullmatch(os.path.relpath(folder, directory)):
            folders.clear()  # A database that was set aside; what is in it is evidence.
            continue
        elif "cache.db" in files:
            folders.clear()
            # It is not empty; what is in it is the business of that cache.
            yield folder, ["cache.db"], []
            continue
        yield folder, list(folders), files


def _check_file(link: Link, name: str, fix: bool) -> Iterator[Finding]:
    if name in link.doomed or _is_named(link, name):
        return
    yield Finding("file", f"unknown file: {os.path.join(link.site.directory, name)}")
    if fix and (OWN_NAME.fullmatch(name) or LEFTOVER.fullmatch(name)):
        link.doomed.append(name)


def _is_named(link: Link, name: str) -> bool:
    """Tell whether a row names a file; none can, if the name is not UTF-8."""
    with suppress(UnicodeEncodeError):
        return link.execute(sql.NAMES_FILE, (name,)).get is not None
    return False


def _check_folders(
    link: Link, walked: list[tuple[str, list[str], list[str]]], fix: bool
) -> Iterator[Finding]:
    directory = link.site.directory
    doomed = {os.path.join(directory, name) for name in link.doomed}
    empty: set[str] = set()
    emptied: set[str] = set()
    for folder, folders, files in reversed(walked[1:]):
        inside = [os.path.join(folder, name) for name in (*folders, *files)]
        if all(path in empty for path in inside):
            yield Finding("directory", f"empty directory: {folder}")
            empty.add(folder)
            if fix and OWN_FOLDER.fullmatch(os.path.relpath(folder, directory)):
                with suppress(OSError):
                    os.rmdir(folder)
        elif all(path in empty or path in emptied or path in doomed for path in inside):
            emptied.add(folder)


def _values_are_sound(link: Link, fix: bool) -> Iterator[Finding]:
    """Every row has columns of the right types, a value in one place, and of a known kind."""
    unsound = [*reading.fetch(link.execute, UNSOUND), *_torn(link)]
    rows = {rowid: (rowid, file, size, key) for rowid, file, size, key, *_ in unsound}
    if rows:
        yield Finding("data", f"{len(rows)} entries have no value, two, or columns of wrong types")
        for row in rows.values():
            _drop(link, fix, *row)
    unknown = link.execute(UNKNOWN_KINDS).get
    if unknown:
        # Another version may know them.
        yield Finding("data", f"{unknown} entries are of an unknown kind")


def _torn(link: Link) -> Iterator[tuple[Any, ...]]:
    """Yield the rows that hold text that is not UTF-8."""
    after = -(2**63)
    while rows := reading.fetch(link.execute, TEXTS, (after,)):
        yield from (row for row in rows if reading.Torn in map(type, row[3:]))
        after = rows[-1][0]


def _totals_are_exact(link: Link, fix: bool) -> Iterator[Finding]:
    """The totals of the control file are those of the rows."""
    control = link.site.control
    if control is None or not control.is_clean:
        return
    # What this transaction repaired is not in the words yet, but is in the rows.
    for name, word, statement, delta in (
        ("count", COUNT, sql.COUNT, link.rows),
        ("size", BYTES, sql.FILE_BYTES, link.size),
    ):
        actual = link.execute(statement).get
        recorded = control.words[word] + delta
        if recorded != actual:
            yield Finding("data", f"{name} of entries is {recorded}, should be {actual}")
            if fix:
                control.words[word] = max(actual - delta, 0)
                link.has_changes = True


def _queues_are_exact(link: Link, fix: bool) -> Iterator[Finding]:
    """The state of s3-fifo counts the rows of both queues, and what it remembers."""
    queues = link.queues or stored_queues(link)
    if queues is None:
        return
    actual: dict[str, int] = {}
    for queue, condition in (("small", "rank < 0"), ("main", "rank >= 0 AND rank < 9e999")):
        found = link.execute(QUEUED.format(condition), (queues.done, queues.goal)).get
        actual[queue], actual[f"{queue}_bytes"] = found
    actual["ghosts"] = link.execute("SELECT count(*) FROM Ghost").get
    for name, number in actual.items():
        recorded = getattr(queues, name)
        if recorded != number:
            yield Finding("data", f"s3-fifo: {name} is {recorded}, should be {number}")
            if fix:
                setattr(queues, name, number)
                link.has_changes = True


def _generations_are_even(link: Link, fix: bool) -> Iterator[Finding]:
    """No generation says that a write is going on: this transaction is the only one."""
    control = link.site.control
    if control is None or not control.is_clean:
        return
    odd = [slot for slot in ALL_SLOTS if control.words[slot] & 1]
    if odd:
        yield Finding("data", f"{len(odd)} generations are odd though nobody writes")
        if fix:
            settle(control.words, odd)
