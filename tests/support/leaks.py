"""What a test must not leave behind: stray files, open descriptors, threads."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import apsw

KNOWN = {"cache.db", "cache.db.5", "control", "gate.lock", "users.lock", "locks/fence"}
VALUE_FILE = re.compile(r"([0-9]{3}/)?[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")


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


def value_files(directory: Path | str) -> list[Path]:
    """Return the value files in *directory*."""
    root = Path(directory)
    return sorted(
        path for path in root.rglob("*") if VALUE_FILE.fullmatch(path.relative_to(root).as_posix())
    )


def assert_tidy(directory: Path) -> None:
    """Fail if a closed cache's directory holds a file that it should not, or lacks one."""
    present = present_files(directory) - KNOWN
    named = named_files(directory)

    assert present - named == set(), "files that no entry names"
    assert named - present == set(), "entries whose file is missing"
    assert empty_folders(directory) - {"tmp", "locks"} == set(), "empty folders"


def open_below(directory: Path) -> list[str]:
    """Return what descriptors of this process point to below *directory*."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if target.startswith(f"{directory}{os.sep}"):
            found.append(target)
    return found


def extra_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return the live threads that are not in *before*."""
    return [thread for thread in threading.enumerate() if thread not in before]
