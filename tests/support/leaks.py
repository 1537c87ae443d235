"""What a test must not leave behind: stray files, open descriptors, threads."""

from __future__ import annotations

import threading
from pathlib import Path

import apsw

from diskcache.testing.directories import open_below, value_files

__all__ = [
    "assert_tidy",
    "empty_folders",
    "extra_threads",
    "named_files",
    "open_below",
    "present_files",
    "value_files",
]

KNOWN = {"cache.db", "cache.db.5", "control", "gate.lock", "users.lock", "reserve", "locks/fence"}


def named_files(directory: Path) -> set[str]:
    """Return the value files that entries name."""
    connection = apsw.Connection(
        f"file:{directory / 'cache.db'}?mode=ro",
        flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
    )
    try:
        rows = connection.execute("SELECT file FROM Cache WHERE file IS NOT NULL")
        return {name for (name,) in rows}
    finally:
        connection.close()


def present_files(directory: Path) -> set[str]:
    """Return every file below *directory*, by relative name."""
    return {
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    }


def empty_folders(directory: Path) -> set[str]:
    """Return every empty folder below *directory*, by relative name."""
    return {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_dir() and not any(path.iterdir())
    }


def assert_tidy(directory: Path) -> None:
    """Fail if a closed cache's directory holds a file that it should not, or lacks one."""
    present = present_files(directory) - KNOWN
    named = named_files(directory)

    assert present - named == set(), "files that no entry names"
    assert named - present == set(), "entries whose file is missing"
    assert empty_folders(directory) - {"tmp", "locks"} == set(), "empty folders"


def extra_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return the live threads that are not in *before*."""
    return [thread for thread in threading.enumerate() if thread not in before]
