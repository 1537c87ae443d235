"""Ways to damage the database of a directory that nobody has open."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

PAGE = 2048

Damage = Callable[[Path], None]


def overwritten(offset: int, data: bytes) -> Damage:
    def damage(directory: Path) -> None:
        with open(directory / "cache.db", "r+b") as file:
            file.seek(offset)
            file.write(data)

    return damage


def truncated(length: int) -> Damage:
    return lambda directory: os.truncate(directory / "cache.db", length)


def without(name: str) -> Damage:
    return lambda directory: (directory / name).unlink()


def flipped(seed: int, bits: int, size: int) -> Damage:
    """Flip some bits at random positions."""
    dice = random.Random(seed)
    places = [(dice.randrange(size), 1 << dice.randrange(8)) for _ in range(bits)]

    def damage(directory: Path) -> None:
        data = bytearray((directory / "cache.db").read_bytes())
        for offset, mask in places:
            data[offset] ^= mask
        (directory / "cache.db").write_bytes(data)

    return damage


def pages_of_garbage(size: int) -> Iterator[Damage]:
    """Yield one damage for each page."""
    dice = random.Random(1)
    for offset in range(0, size, PAGE):
        yield overwritten(offset, dice.randbytes(PAGE))


def foreign(directory: Path) -> None:
    """Put the database of another program there."""
    for name in os.listdir(directory):
        if name.startswith("cache.db"):
            (directory / name).unlink()
    with sqlite3.connect(directory / "cache.db") as connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.execute("INSERT INTO notes VALUES ('mine')")
    connection.close()


def foreign_in_use(directory: Path, mode: str = "WAL") -> None:
    """Put the database of another program there, and what it left when it was killed."""
    made = directory / "made"
    connection = sqlite3.connect(made)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE notes (text)")
    connection.executemany("INSERT INTO notes VALUES (?)", [("mine" * 500,)] * 100)
    connection.commit()
    # Not all that is to change fits in memory, so that some of it is in the file already.
    connection.execute("PRAGMA cache_size = 5")
    connection.execute("UPDATE notes SET text = zeroblob(2000)")
    for suffix in ("", "-wal", "-shm", "-journal"):
        if os.path.exists(f"{made}{suffix}"):
            shutil.copy(f"{made}{suffix}", directory / f"cache.db{suffix}")
    connection.rollback()
    connection.close()
    made.unlink()


def newer(directory: Path) -> None:
    connection = sqlite3.connect(directory / "cache.db")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
