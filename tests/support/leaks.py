"""What a test must not leave behind: stray files, open descriptors, threads."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import apsw

from diskcache.testing.directories import open_below, value_files

__all__ = [
    "assert_tidy",
    "empty_folders",
    "extra_threads",
    "left_open",
    "named_files",
    "open_below",
    "present_files",
    "value_files",
]

LOOKS, PAUSE = 400, 0.01
"""How often, and after how many seconds, it is looked whether threads have ended, and files are
closed. Looks are counted: what holds up the whole process takes nothing from the time that its
threads have."""

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
    """Return the live threads that are not in *before*, and do not end by themselves at once."""
    extra = [thread for thread in threading.enumerate() if thread not in before]
    for _ in range(LOOKS):
        extra = [thread for thread in extra if thread.is_alive()]
        if not extra:
            break
        extra[0].join(PAUSE)
    return extra


def left_open(directory: Path) -> list[str]:
    """Return the files below *directory* that stay open.

    A thread that ends may be in the middle of closing them.
    """
    found = list(map(str, open_below(directory)))
    for _ in range(LOOKS):
        if not found:
            break
        gc.collect()
        time.sleep(PAUSE)
        found = list(map(str, open_below(directory)))
    return found
