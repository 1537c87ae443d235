"""What an attacker with write access to a cache directory can do, and how it is noticed.

An attacker has no use for the library: rows are written through SQLite itself, with every check
switched off, and files as files.
"""

from __future__ import annotations

import pickle
import sqlite3
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SECRET = b"the secret of whoever is attacked"
"""Of the victim; the attacker does not know it."""

ROW = {
    "key": "k",
    "raw": 1,
    "store_time": 1.0,
    "expire_time": None,
    "access_time": None,
    "access_count": 0,
    "tag": None,
    "size": 0,
    "mode": 1,
    "file": None,
    "checksum": None,
    "value": None,
    "version": 1,
    "rank": None,
}


class Payload:
    """An object whose unpickling leaves a marker behind."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return _mark, (self._marker,)

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Payload)


def _mark(path: str) -> str:
    Path(path).touch()
    return "executed"


def payloads(marker: Path) -> dict[str, bytes]:
    """Return pickles, dressed up in the ways in which one may be mistaken for something else."""
    bare = {f"protocol {n}": pickle.dumps(Payload(marker), n) for n in range(6)}
    newest = bare["protocol 5"]
    return {
        **bare,
        "with an empty signature": b"\x01" + bytes(20) + newest,
        "with a signature of ones": b"\x01" + b"\xff" * 20 + newest,
        "of a key": b"\x02" + newest,
        "compressed": zlib.compress(newest),
    }


@contextmanager
def database(directory: Path | str) -> Iterator[sqlite3.Connection]:
    """Open the database of a cache that nobody has open, as an attacker does."""
    connection = sqlite3.connect(Path(directory) / "cache.db", isolation_level=None)
    connection.execute("PRAGMA synchronous = 0")
    connection.execute("PRAGMA ignore_check_constraints = 1")
    connection.execute("PRAGMA trusted_schema = 1")
    try:
        yield connection
    finally:
        connection.close()


def insert(directory: Path | str, **columns: Any) -> None:
    """Write one row, whatever is in its columns; `control` then knows nothing of it.

    A column given as a `Text` is stored as text of these bytes.
    """
    row = {**ROW, **columns}
    with database(directory) as connection:
        places = ", ".join("CAST(? AS TEXT)" if type(v) is Text else "?" for v in row.values())
        connection.execute(
            f"INSERT OR REPLACE INTO Cache ({', '.join(row)}) VALUES ({places})",
            [bytes(v) if type(v) is Text else v for v in row.values()],
        )
    recount(directory)


class Text(bytes):
    """Bytes that are to be stored as text, whether or not they are UTF-8."""


def recount(directory: Path | str) -> None:
    """Have the totals counted again, as after a writer that died between two words."""
    with (Path(directory) / "control").open("r+b") as control:
        control.seek(5 * 8)
        begin = int.from_bytes(control.read(8), sys.byteorder)
        control.seek(5 * 8)
        control.write(((begin + 1) % 2**64).to_bytes(8, sys.byteorder))


def file_row(directory: Path | str, name: str, **columns: Any) -> None:
    """Write a row that names a value file, with the length and checksum of what is there."""
    path = Path(directory) / name
    data = b""
    with suppress(OSError):
        data = path.read_bytes() if path.is_file() else b""
    insert(
        directory,
        **{"file": name, "size": len(data), "checksum": zlib.crc32(data), "mode": 2, **columns},
    )


def execute(directory: Path | str, *statements: str, allow_schema: bool = True) -> None:
    """Run statements on the database."""
    with database(directory) as connection:
        if allow_schema:
            connection.execute("PRAGMA writable_schema = 1")
        for statement in statements:
            connection.execute(statement)


def snapshot(root: Path) -> dict[str, Any]:
    """Return what lies below a directory: kinds, contents and times."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[path.relative_to(root).as_posix()] = (info.st_mode, info.st_mtime_ns, content)
    return found


def attempt(call: Callable[[], Any]) -> Any:
    """Run a call to its end; return its result, or the error that it raised."""
    try:
        result = call()
        if isinstance(result, Iterator):
            return list(result)
        return result
    except Exception as exc:  # noqa: BLE001 - whatever it is, the caller asks
        return exc
