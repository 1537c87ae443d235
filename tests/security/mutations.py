"""What can be done to a cache directory, as data: Hypothesis makes lists of it and shrinks them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from diskcache import DEFAULT_SETTINGS, Cache, Lock
from tests.security import hostile, paths

COLUMNS = tuple(hostile.ROW)
FILES = ("cache.db", "cache.db-wal", "cache.db-shm", "cache.db-journal", "control")
OTHERS = ("gate.lock", "users.lock", "tmp", "locks", "locks/fence")
WORDS = 4160
NAMES = (
    "../outside/file",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a//b",
    "cache.db",
    "CACHE.DB",
    "000/cache.db",
    "control",
    "tmp/x",
    "ab",
    "ab/cd",
    "ab/cd/" + "0" * 28 + ".val",
    "x\0y",
    "n" * 300,
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
)
NUMBERS = (0, 1, -1, 2**31, 2**62, 2**63 - 1, -(2**63), 15, 64, 69, 255)


class Thing:
    """A value that must be pickled."""

    def __init__(self) -> None:
        self.name = "thing"


def make_template(directory: Path) -> Path:
    """Make a cache with entries of every kind."""
    with Cache(directory, secret=hostile.SECRET, disk_min_file_size=200, tag_index=1) as cache:
        cache["k"] = 1
        cache.set("float", 1.5, expire=1e9, tag="planted")
        cache.set("text", "text", tag=5)
        cache["bytes"] = b"bytes"
        cache["plain"] = {"a": (1, None, {2}), "b": [1.5] * 20}
        cache[1, "tuple"] = 1
        cache["object"] = Thing()
        cache[paths.MEMO] = 5
        cache.set("file", "x" * 300, expire=1e9)
        cache["binary"] = bytes(300)
        cache["object in a file"] = [Thing(), "x" * 300]
        cache.set("expired", 1, expire=-1)
        for prefix in (None, "q"):
            for value in ("one", bytes(300), Thing(), ("x",)):
                cache.push(value, prefix)
        lock = Lock(cache, "lock", expire=0.001)
        lock.acquire()
        assert cache.get("k") == 1
    options = {"compress": "zlib", "compress_min": 100, "disk_min_file_size": 200}
    with Cache(directory, secret=hostile.SECRET, **options) as cache:
        cache["packed"] = "text " * 100
        cache["packed plain data"] = list(range(500))
        cache["packed object"] = [Thing(), "x" * 300]
    return directory


def values() -> st.SearchStrategy[Any]:
    """Return what may be written into a column."""
    return st.one_of(
        st.none(),
        st.sampled_from(NUMBERS),
        st.integers(-(2**63), 2**63 - 1),
        st.sampled_from([0.5, -1.0, 1e300, float("inf"), -float("inf")]),
        st.sampled_from(NAMES),
        st.text(max_size=20).filter(lambda text: text.isprintable()),
        st.binary(max_size=40),
        st.binary(max_size=8).map(lambda data: hostile.Text(data + b"\xff")),
        st.sampled_from(["payload 0", "payload 5", "payload signed"]).map(Planted),
    )


@dataclass(frozen=True)
class Planted:
    """Stands for a pickle that leaves a mark, which depends on the directory."""

    name: str

    def data(self, directory: Path) -> bytes:
        """Return the bytes."""
        made = hostile.payloads(directory.parent / "executed")
        return made[
            {"payload 0": "protocol 0", "payload 5": "protocol 5"}.get(
                self.name, "with an empty signature"
            )
        ]


@dataclass(frozen=True)
class Column:
    """Another value in a column of a row."""

    row: int
    column: str
    value: Any

    def apply(self, directory: Path) -> None:
        """Do it."""
        value, place = bound(self.value, directory)
        row = "(SELECT rowid FROM Cache ORDER BY rowid LIMIT 1 OFFSET ?)"
        statement = f"UPDATE OR IGNORE Cache SET {self.column} = {place} WHERE rowid = {row}"
        run(directory, statement, value, self.row)


@dataclass(frozen=True)
class Rowid:
    """Another number of a row."""

    row: int
    number: int

    def apply(self, directory: Path) -> None:
        """Do it."""
        run(
            directory, "UPDATE OR IGNORE Cache SET rowid = ? WHERE rowid = ?", self.number, self.row
        )


@dataclass(frozen=True)
class Stored:
    """A row of the table of settings."""

    name: Any
    value: Any
    kind: Any

    def apply(self, directory: Path) -> None:
        """Do it."""
        (name, a), (value, b), (kind, c) = (
            bound(part, directory) for part in (self.name, self.value, self.kind)
        )
        statement = f"INSERT OR REPLACE INTO Settings (key, value, kind) VALUES ({a}, {b}, {c})"
        run(directory, statement, name, value, kind)


@dataclass(frozen=True)
class Overwritten:
    """Bytes somewhere in a file."""

    file: str
    place: float
    data: bytes

    def apply(self, directory: Path) -> None:
        """Do it."""
        path = pick(directory, self.file)
        with suppress(OSError):
            if not os.path.lexists(path) and not path.parent.is_symlink():
                path.touch()
            # Not all is read: a file may claim to be large.
            if is_regular(path):
                with path.open("r+b") as file:
                    file.seek(int(self.place * path.stat().st_size))
                    file.write(self.data)


@dataclass(frozen=True)
class Cut:
    """A file that is shorter, or longer."""

    file: str
    part: float

    def apply(self, directory: Path) -> None:
        """Do it."""
        path = pick(directory, self.file)
        if is_regular(path):
            os.truncate(path, int(self.part * path.stat().st_size))


@dataclass(frozen=True)
class Word:
    """A word of the control file."""

    number: int
    value: int

    def apply(self, directory: Path) -> None:
        """Do it."""
        if is_regular(directory / "control"):
            with (directory / "control").open("r+b") as file:
                file.seek(self.number * 8)
                file.write(self.value.to_bytes(8, "little"))


@dataclass(frozen=True)
class Instead:
    """Something else in the place of a file or a folder."""

    file: str
    kind: str

    def apply(self, directory: Path) -> None:
        """Do it."""
        path = pick(directory, self.file)
        if path.parent.is_symlink():
            return
        outside = directory.parent / "outside"
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(
                missing_ok=True
            )
        makers: dict[str, Callable[[], object]] = {
            "nothing": lambda: None,
            "pipe": lambda: os.mkfifo(path),
            "folder": path.mkdir,
            "link": lambda: path.symlink_to(outside / "file"),
            "link to a folder": lambda: path.symlink_to(outside),
            "device": lambda: path.symlink_to("/dev/zero"),
            "sparse": lambda: sparse(path),
        }
        with suppress(OSError):
            makers[self.kind]()


@dataclass(frozen=True)
class Schema:
    """A statement that changes the schema."""

    statement: str

    def apply(self, directory: Path) -> None:
        """Do it."""
        if is_openable(directory):
            with suppress(sqlite3.Error, ValueError):
                hostile.execute(directory, self.statement)


def sparse(path: Path) -> None:
    """Make a file that claims to be large."""
    with path.open("wb") as file:
        file.truncate(2**33)


def bound(value: Any, directory: Path) -> tuple[Any, str]:
    """Return what to bind for a value, and where to."""
    if isinstance(value, Planted):
        return value.data(directory), "?"
    if type(value) is hostile.Text:
        return bytes(value), "CAST(? AS TEXT)"
    return value, "?"


def run(directory: Path, statement: str, *values: Any) -> None:
    """Run a statement on the database, if there still is one."""
    if is_openable(directory):
        # A database that is damaged already may raise anything.
        with suppress(sqlite3.Error, ValueError), hostile.database(directory) as database:
            database.execute(statement, values)


def is_openable(directory: Path) -> bool:
    """Tell whether SQLite may be let in: it waits at a pipe for ever, and follows links."""
    files = [directory / name for name in FILES]
    return all(is_regular(path) or not os.path.lexists(path) for path in files)


def is_regular(path: Path) -> bool:
    """Tell whether a file is one, and lies here: what is outside is nobody's to change."""
    return path.is_file() and not path.is_symlink() and not path.parent.is_symlink()


def pick(directory: Path, name: str) -> Path:
    """Return the file that a name stands for: one of that name, or the n-th value file."""
    if not name.isdigit():
        return directory / name
    found = sorted(directory.glob("??/??/*.val"))
    return found[int(name) % len(found)] if found else directory / "none"


SCHEMA = (
    "CREATE VIEW v AS SELECT 1",
    "CREATE TRIGGER t AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END",
    "ALTER TABLE Cache ADD COLUMN more",
    "CREATE INDEX more ON Cache (value)",
    "CREATE TABLE more (a)",
    "DROP INDEX Cache_file",
    "DROP TABLE Ghost",
    "UPDATE sqlite_schema SET sql = 'CREATE VIEW Cache AS SELECT 1' WHERE name = 'Cache'",
    "UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'Cache'",
    "UPDATE sqlite_schema SET rootpage = 2",
    "UPDATE sqlite_schema SET sql = CAST(x'ff' AS TEXT)",
    "PRAGMA user_version = 7",
    "PRAGMA user_version = -1",
)


def mutations() -> st.SearchStrategy[Any]:
    """Return what may be done to a directory."""
    files = st.sampled_from([*FILES, *FILES, *OTHERS, *"01234567"])
    names = st.one_of(
        st.sampled_from([*DEFAULT_SETTINGS, "cache_id", "disk", "rank_policy"]),
        st.sampled_from(["rank_done", "rank_goal", "hits", "recovered", "shards"]),
        values(),
    )
    part = st.floats(0, 1, allow_nan=False)
    return st.one_of(
        st.builds(Column, st.integers(0, 24), st.sampled_from(COLUMNS), values()),
        st.builds(Column, st.integers(0, 24), st.sampled_from(COLUMNS), values()),
        st.builds(Column, st.integers(0, 24), st.sampled_from(COLUMNS), values()),
        st.builds(Rowid, st.integers(1, 24), st.sampled_from([2**63 - 1, -(2**63), 0])),
        st.builds(Stored, names, values(), st.sampled_from(["setting", "state", "statistics"])),
        st.builds(Overwritten, files, part, st.binary(min_size=1, max_size=64)),
        st.builds(Overwritten, st.just("cache.db"), part, st.binary(min_size=1, max_size=4)),
        st.builds(Cut, files, st.floats(0, 3, allow_nan=False)),
        st.builds(
            Word,
            st.integers(0, 20),
            st.one_of(st.sampled_from([0, 1, 2**64 - 1, 2**63]), st.integers(0, 2**64 - 1)),
        ),
        st.builds(
            Instead,
            files,
            st.sampled_from(
                ["nothing", "pipe", "folder", "link", "link to a folder", "device", "sparse"]
            ),
        ),
        st.builds(Schema, st.sampled_from(SCHEMA)),
    )
