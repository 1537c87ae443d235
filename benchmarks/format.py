"""Page size and auto_vacuum: what each choice costs, on plain apsw with the columns of a cache.

Both are fixed when a database is made, so they are chosen by measurement. All variants are open at
once and measured in turns; the table holds the best of the rounds, in microseconds per operation,
with the share of one checkpoint per 4 MiB of log.

    python benchmarks/format.py [--rounds N] [--scale X] [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import apsw

SCHEMA = """CREATE TABLE Cache (
 rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL, expire_time REAL, tag BLOB,
 size INTEGER DEFAULT 0, mode INTEGER DEFAULT 0, filename TEXT, checksum INTEGER,
 version INTEGER DEFAULT 0, rank REAL, hits INTEGER DEFAULT 0, value BLOB)"""
KEY_INDEX = "CREATE UNIQUE INDEX Cache_key_raw ON Cache (key, raw)"
RANK_INDEX = "CREATE INDEX Cache_rank ON Cache (rank)"

SELECT = (
    "SELECT mode, value, filename, size, checksum, expire_time, tag, version, rowid"
    " FROM Cache WHERE key = ? AND raw = 1"
)
FIND = "SELECT rowid, filename, version FROM Cache WHERE key = ? AND raw = 1"
INSERT = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, tag, size, mode, filename, checksum,"
    " version, rank, hits, value) VALUES (?, 1, ?, NULL, NULL, 0, 1, NULL, NULL, 1 << 40, ?, 0, ?)"
)
UPDATE = (
    "UPDATE Cache SET store_time = ?, expire_time = NULL, tag = NULL, size = 0, mode = 1,"
    " filename = NULL, checksum = NULL, version = version + 1, value = ? WHERE rowid = ?"
)
DELETE = "DELETE FROM Cache WHERE rowid = ?"

LOG_BYTES = 4 << 20
"""Size of the log at which it is checkpointed: the same for every page size."""
TOGETHER = 200
"""Writes in one transaction where several are put together."""
CACHE_KIB = 32 << 10
"""Page cache, in KiB, so that a page size does not change how many bytes are cached."""

STORE_TIME = 1_790_000_000.25
"""As stored for real: SQLite keeps 1.0 in no byte, and a row whose length changes is moved."""

OPERATIONS = (
    "get",
    "get cold",
    "get foreign",
    "existing key",
    "other length",
    "new key",
    "delete",
    "in transact",
)


class Variant(NamedTuple):
    """What is permanent in a database."""

    page_size: int
    auto_vacuum: int
    rank_index: bool = False

    def __str__(self) -> str:
        text = f"{self.page_size} av{self.auto_vacuum}"
        return text + " +rank" if self.rank_index else text


class Load(NamedTuple):
    """What is stored."""

    value_bytes: int
    key_chars: int
    rows: int
    n: int
    """Reads per round."""
    share: float = 1.0
    """Part of the log that is filled between two checkpoints."""

    def __str__(self) -> str:
        return f"value {self.value_bytes} B, key {self.key_chars}"


class Cost(NamedTuple):
    """Seconds per operation."""

    loop: float
    checkpoint: float

    @property
    def total(self) -> float:
        return self.loop + self.checkpoint


def connect(path: str, variant: Variant) -> apsw.Connection:
    """Open a database as a cache does; one statement per call, each exhausted."""
    connection = apsw.Connection(path)
    for pragma in (
        f"page_size = {variant.page_size}",
        f"auto_vacuum = {variant.auto_vacuum}",
        "journal_mode = wal",
        "synchronous = 1",
        f"cache_size = -{CACHE_KIB}",
        "cache_spill = OFF",
        "mmap_size = 0",
        "wal_autocheckpoint = 0",
    ):
        connection.execute("PRAGMA " + pragma).fetchall()
    return connection


@contextmanager
def transaction(execute: Callable[..., Any]) -> Iterator[None]:
    """Take the write lock at once, as a writer must."""
    execute("BEGIN IMMEDIATE")
    yield
    execute("COMMIT")


class Subject:
    """One database, filled, with the operations to be measured on it."""

    def __init__(self, folder: str, variant: Variant, load: Load, seed: int) -> None:
        self.variant = variant
        self.load = load
        self.path = os.path.join(folder, "cache.db")
        self.random = random.Random(seed)
        self.connection = connect(self.path, variant)
        self.execute = self.connection.execute
        self.keys = [self.key() for _ in range(load.rows)]
        self.value = self.random.randbytes(load.value_bytes)
        self.other = self.value[::-1]
        self.fill()
        self.frames: dict[str, float] = self.count_frames()

    def key(self) -> str:
        """Return a new random key of the wanted length."""
        return f"{self.random.getrandbits(80):020x}".ljust(self.load.key_chars, "x")

    def fill(self) -> None:
        """Create the schema and the rows that are there before anything is measured."""
        self.execute(SCHEMA)
        self.execute(KEY_INDEX)
        if self.variant.rank_index:
            self.execute(RANK_INDEX)
        with transaction(self.execute):
            for number, key in enumerate(self.keys):
                self.execute(INSERT, (key, STORE_TIME, number + 0.5, self.value))
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def round(self) -> dict[str, Cost]:
        """Run every operation once over."""
        known = {name: self.sample(name) for name in OPERATIONS}
        fresh = [self.key() for _ in range(self.count("new key"))]
        return {
            "get": Cost(timed(self.get, known["get"]), 0.0),
            "get cold": Cost(timed(self.cold, known["get cold"]), 0.0),
            "get foreign": Cost(self.foreign(known["get foreign"]), 0.0),
            "existing key": self.written(self.update, known["existing key"]),
            "other length": self.written(self.resize, known["other length"]),
            "new key": self.written(self.insert, fresh),
            "delete": self.written(self.delete, fresh),
            "in transact": self.written(self.transact, known["in transact"]),
        }

    def count(self, operation: str) -> int:
        """Return how many operations fill the log once, so that each window has one checkpoint."""
        frames = self.frames.get(operation)
        if frames is None:
            return self.load.n
        return max(int(LOG_BYTES / (frames * self.variant.page_size) * self.load.share), 20)

    def sample(self, operation: str) -> list[str]:
        """Return keys that are there."""
        return self.random.sample(self.keys, min(self.count(operation), len(self.keys)))

    def written(self, step: Callable[[Sequence[str]], None], keys: Sequence[str]) -> Cost:
        """Time the writes and, apart from them, the checkpoint that they have to pay for."""
        loop = timed(step, keys)
        start = perf_counter()
        self.connection.wal_checkpoint(None, apsw.SQLITE_CHECKPOINT_PASSIVE)
        return Cost(loop, (perf_counter() - start) / len(keys))

    def get(self, keys: Sequence[str]) -> None:
        execute = self.execute
        for key in keys:
            execute(SELECT, (key,)).fetchall()

    def cold(self, keys: Sequence[str]) -> None:
        """Read through a new connection: no page is cached by SQLite."""
        connection = connect(self.path, self.variant)
        execute = connection.execute
        for key in keys:
            execute(SELECT, (key,)).fetchall()
        connection.close()

    def foreign(self, keys: Sequence[str]) -> float:
        """Read while another connection writes before every tenth read: the cache is dropped."""
        other = connect(self.path, self.variant)
        spent = 0.0
        for start in range(0, len(keys) - 10, 10):
            with transaction(other.execute):
                other.execute(UPDATE, (STORE_TIME, self.value, 1 + start))
            spent += timed(self.get, keys[start : start + 10]) * 10
        other.close()
        return spent / (len(keys) - 10)

    def change(self) -> None:
        """Take another value of the same length: SQLite writes no page that stays as it is."""
        self.value, self.other = self.other, self.value

    def update(self, keys: Sequence[str]) -> None:
        self.change()
        execute = self.execute
        for key in keys:
            execute("BEGIN IMMEDIATE")
            ident = execute(FIND, (key,)).fetchall()[0][0]
            execute(UPDATE, (STORE_TIME, self.value, ident))
            execute("COMMIT")

    def resize(self, keys: Sequence[str]) -> None:
        """Replace values by shorter ones; the updates in a transaction bring the length back."""
        full, other = self.value, self.other
        self.value, self.other = full, other[: len(other) * 9 // 10]
        self.update(keys)
        self.value, self.other = full, other

    def insert(self, keys: Sequence[str]) -> None:
        execute = self.execute
        for key in keys:
            execute("BEGIN IMMEDIATE")
            execute(FIND, (key,)).fetchall()
            execute(INSERT, (key, STORE_TIME, 1e9 + 0.5, self.value))
            execute("COMMIT")

    def delete(self, keys: Sequence[str]) -> None:
        execute = self.execute
        for key in keys:
            execute("BEGIN IMMEDIATE")
            ident = execute(FIND, (key,)).fetchall()[0][0]
            execute(DELETE, (ident,))
            execute("COMMIT")

    def transact(self, keys: Sequence[str]) -> None:
        self.change()
        execute = self.execute
        for start in range(0, len(keys), TOGETHER):
            with transaction(execute):
                for key in keys[start : start + TOGETHER]:
                    ident = execute(FIND, (key,)).fetchall()[0][0]
                    execute(UPDATE, (STORE_TIME, self.value, ident))

    def count_frames(self) -> dict[str, float]:
        """Return how many log frames one operation writes."""
        known = self.random.sample(self.keys, 50)
        fresh = [self.key() for _ in range(50)]
        result: dict[str, float] = {}
        for name, step, keys in (
            ("existing key", self.update, known),
            ("other length", self.resize, known),
            ("new key", self.insert, fresh),
            ("delete", self.delete, fresh),
            ("in transact", self.transact, known),
        ):
            self.connection.wal_checkpoint(None, apsw.SQLITE_CHECKPOINT_TRUNCATE)
            step(keys)
            log, _ = self.connection.wal_checkpoint(None, apsw.SQLITE_CHECKPOINT_PASSIVE)
            result[name] = log / len(keys)
        return result


def timed(step: Callable[[Sequence[str]], None], keys: Sequence[str]) -> float:
    """Return seconds per key."""
    start = perf_counter()
    step(keys)
    return (perf_counter() - start) / len(keys)


class Result(NamedTuple):
    """What one load showed: variant, then operation."""

    best: dict[str, dict[str, Cost]]
    frames: dict[str, dict[str, float]]
    file_bytes: dict[str, int]


def measure(load: Load, variants: Sequence[Variant], rounds: int) -> Result:
    """Measure all *variants* under one *load*, in turns."""
    folders = [tempfile.mkdtemp(prefix="diskcache-format-") for _ in variants]
    try:
        subjects = [Subject(f, v, load, 7) for f, v in zip(folders, variants, strict=True)]
        sizes = {str(s.variant): os.stat(s.path).st_size for s in subjects}
        samples: dict[str, dict[str, list[Cost]]] = {str(v): {} for v in variants}
        for number in range(rounds + 1):
            for subject in subjects[:: 1 if number % 2 else -1]:
                gc.collect()
                for name, cost in subject.round().items():
                    if number:  # the first round warms up
                        samples[str(subject.variant)].setdefault(name, []).append(cost)
        best = {
            variant: {name: fastest(costs) for name, costs in operations.items()}
            for variant, operations in samples.items()
        }
        frames = {str(s.variant): s.frames for s in subjects}
        for subject in subjects:
            subject.connection.close()
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return Result(best, frames, sizes)


def fastest(costs: Sequence[Cost]) -> Cost:
    """Return the least of both parts: noise in a checkpoint has nothing to do with the loop."""
    return Cost(min(c.loop for c in costs), min(c.checkpoint for c in costs))


def table(load: Load, result: Result) -> str:
    """Return one load as text."""
    lines = [
        f"{load!s}, {load.rows} rows: us per operation, of which checkpoint; [log frames each]",
        f"{'variant':16}" + "".join(f"{name:>21}" for name in OPERATIONS) + f"{'file B/row':>12}",
    ]
    for variant, operations in result.best.items():
        cells = []
        for name in OPERATIONS:
            cost = operations[name]
            cell = f"{cost.total * 1e6:.1f}"
            if cost.checkpoint:
                cell += f" ({cost.checkpoint * 1e6:.1f}) [{result.frames[variant][name]:.1f}]"
            cells.append(cell.rjust(21))
        row_bytes = result.file_bytes[variant] / load.rows
        lines.append(f"{variant:16}" + "".join(cells) + f"{row_bytes:12.0f}")
    return "\n".join(lines)


PAGES = (1024, 2048, 4096, 8192)
LOADS = (
    Load(20, 20, 20_000, 1000),
    Load(200, 60, 20_000, 1000),
    Load(500, 60, 10_000, 1000),
    Load(1000, 20, 10_000, 1000),
    Load(2000, 60, 10_000, 1000),
    Load(6000, 20, 4000, 500),
    Load(30_000, 20, 2000, 200),
    Load(100, 300, 10_000, 1000),
    Load(100, 1000, 10_000, 1000),
)


def plans(which: str) -> list[tuple[Load, list[Variant]]]:
    """Return what to measure: every load by page size, and two loads by auto_vacuum and index."""
    pages = [(load, [Variant(size, 2) for size in PAGES]) for load in LOADS]
    vacuum = [
        (load, [Variant(size, mode) for size in (1024, 2048, 4096) for mode in (0, 1, 2)])
        for load in (LOADS[0], LOADS[5])
    ]
    index = [(LOADS[0], [Variant(s, 2, i) for s in (1024, 2048, 4096) for i in (False, True)])]
    chosen = {"pages": pages, "vacuum": vacuum, "index": index}
    return chosen[which] if which != "all" else pages + vacuum + index


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--plan", choices=("pages", "vacuum", "index", "all"), default="all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies rows and operations")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    document = []
    for load, variants in plans(options.plan):
        scaled = load._replace(
            rows=max(int(load.rows * options.scale), 100),
            n=max(int(load.n * options.scale), 50),
            share=options.scale,
        )
        result = measure(scaled, variants, options.rounds)
        print(table(scaled, result), "\n", flush=True)
        document.append({"load": scaled._asdict(), **result._asdict()})
    if options.json:
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
