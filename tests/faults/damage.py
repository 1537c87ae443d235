"""Ways to damage the database of a directory that nobody has open."""

from __future__ import annotations

import os
import random
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


def newer(directory: Path) -> None:
    connection = sqlite3.connect(directory / "cache.db")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
