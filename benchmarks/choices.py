"""What the choices of the engine cost, each against what it was chosen over, on plain apsw.

    python benchmarks/choices.py [--rounds 7] [--n 2000] [--only PATTERN] [--clock cpu]

The variants of a choice have a database each and are measured in turns; the least of the rounds
counts, in microseconds per operation. Checkpoints happen between rounds and are not counted.
The choice "gate" runs writer processes and prints writes per second and the slowest waits.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain, count
from time import perf_counter, process_time
from typing import Any

import apsw

from diskcache.clock import SYSTEM_CLOCK
from diskcache.engines.sqlite import schema
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.gate import Gate

Act = Callable[[apsw.Connection, list[str]], object]

VALUE = "a value of about forty bytes, like many"
NOW = 1_790_000_000.25
FILL = 2000
WRITERS = 8
SECONDS = 3.0


def made(path: str, *extra: str) -> apsw.Connection:
    """Return a database with the schema of a cache."""
    connection = apsw.Connection(path)
    execute = connection.execute
    execute(f"PRAGMA page_size = {schema.PAGE_SIZE}").fetchall()
    execute("PRAGMA auto_vacuum = 2").fetchall()
    execute("PRAGMA journal_mode = wal").fetchall()
    execute("PRAGMA synchronous = 1").fetchall()
    execute("PRAGMA cache_size = -32768").fetchall()
    execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    for statement in (*schema.TABLES.values(), *extra):
        execute(statement)
    return connection


def simple(key: str) -> tuple[Any, ...]:
    return (key, 1, NOW, 1, VALUE)


# -- Acts: what is done to a list of keys ----------------------------------------------------------


def upsert(connection: apsw.Connection, keys: list[str]) -> None:
    for key in keys:
        connection.execute(sql.UPSERT_SIMPLE, simple(key))


def upsert_begun(connection: apsw.Connection, keys: list[str]) -> None:
    execute = connection.execute
    for key in keys:
        execute("BEGIN IMMEDIATE")
        execute(sql.UPSERT_SIMPLE, simple(key))
        execute("COMMIT")


UPDATE = (
    "UPDATE Cache SET store_time = ?, expire_time = NULL, access_time = NULL, access_count = 0,"
    f" tag = NULL, mode = 1, value = ?, version = {sql.VERSION}, rank = NULL WHERE rowid = ?"
)
INSERT = (
    "INSERT INTO Cache (key, raw, store_time, mode, value, rank, version) VALUES (?, ?, ?, ?, ?, ?,"
    f" {sql.VERSION})"
)


def select_then_write(connection: apsw.Connection, keys: list[str]) -> None:
    execute = connection.execute
    for key in keys:
        execute("BEGIN IMMEDIATE")
        found = execute(sql.FIND, (key, 1)).get
        if found is None:
            execute(INSERT, (*simple(key), None))
        else:
            execute(UPDATE, (NOW, VALUE, found[0]))
        execute("COMMIT")


def together(act: Act) -> Act:
    """Do it in one transaction."""

    def done(connection: apsw.Connection, keys: list[str]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        act(connection, keys)
        connection.execute("COMMIT")

    return done


def upsert_many(connection: apsw.Connection, keys: list[str]) -> None:
    for start in range(0, len(keys), 200):
        part = keys[start : start + 200]
        connection.executemany(sql.UPSERT_SIMPLE, [simple(key) for key in part])


def numbered(statement: str, rows: int = 1) -> Act:
    """Return an act that stores 200 rows at a time, some by each statement, versions numbered."""

    def stored(connection: apsw.Connection, keys: list[str]) -> None:
        for start in range(0, len(keys), 200):
            part = [
                (*simple(key), version) for version, key in enumerate(keys[start:][:200], 2**46)
            ]
            flat = list(chain.from_iterable(part))
            width = 6 * rows
            values = [flat[first : first + width] for first in range(0, len(flat), width)]
            connection.executemany(statement, values)

    return together(stored)


def of_rows(rows: int) -> str:
    one = "(?, ?, ?, ?, ?, ?)"
    return sql.UPSERT_SIMPLE_NUMBERED.replace(one, ", ".join([one] * rows))


UPDATE_BY_KEY = (
    "UPDATE Cache SET store_time = ?3, expire_time = NULL, access_time = NULL, access_count = 0,"
    " tag = NULL, mode = ?4, value = ?5, version = ?6, rank = NULL"
    " WHERE key = ?1 AND raw = ?2 AND file IS NULL"
)
only_old = numbered(UPDATE_BY_KEY)


def expiring(connection: apsw.Connection, keys: list[str]) -> None:
    for key in keys:
        expires = NOW + 60 + next(moments) / 1e5
        values = (key, 1, NOW, expires, None, None, 1, VALUE, None)
        connection.execute(sql.UPSERT, values)


moments = count()


def lock_in_transactions(connection: apsw.Connection, keys: list[str]) -> None:
    execute = connection.execute
    for key in keys:
        execute("BEGIN IMMEDIATE")
        _ = execute(sql.GET, (key, 1, NOW)).get
        execute(sql.FIND_VERSION, (key, 1, NOW))
        execute(sql.UPSERT, (key, 1, NOW, None, None, None, 69, VALUE, None))
        execute("COMMIT")
        execute("BEGIN IMMEDIATE")
        _ = execute(sql.GET, (key, 1, NOW)).get
        execute(sql.DELETE, (key, 1, NOW))
        execute("COMMIT")


def lock_alone(connection: apsw.Connection, keys: list[str]) -> None:
    execute = connection.execute
    for key in keys:
        _ = execute(sql.GET, (key, 1, NOW)).get
        execute(sql.INSERT_OWN, (key, 1, NOW, None, None, 69, VALUE))
        row = execute(sql.GET, (key, 1, NOW)).get
        execute(sql.DELETE_OWN, (row[8], row[7]))


def lock_blindly(connection: apsw.Connection, keys: list[str]) -> None:
    execute = connection.execute
    for key in keys:
        execute(sql.INSERT_OWN, (key, 1, NOW, None, None, 69, VALUE))
        execute("DELETE FROM Cache WHERE rowid = ?", (connection.last_insert_rowid(),))


def insert_ranked(connection: apsw.Connection, keys: list[str]) -> None:
    for number, key in enumerate(keys):
        connection.execute(INSERT, (*simple(key), NOW + number))


def insert_unranked(connection: apsw.Connection, keys: list[str]) -> None:
    for key in keys:
        connection.execute(INSERT, (*simple(key), None))


def insert_counted(connection: apsw.Connection, keys: list[str]) -> None:
    execute = connection.execute
    for key in keys:
        execute("BEGIN IMMEDIATE")
        execute(INSERT, (*simple(key), None))
        execute("UPDATE Settings SET value = value + 1 WHERE key = 'count'")
        execute("COMMIT")


def add_returning(connection: apsw.Connection, keys: list[str]) -> None:
    for key in keys:
        _ = connection.execute(sql.ADD_SIMPLE, (1, NOW, key, 1, -BOUND, BOUND, NOW)).get


def add_read(connection: apsw.Connection, keys: list[str]) -> None:
    execute = connection.execute
    for key in keys:
        execute("BEGIN IMMEDIATE")
        rowid, total = execute(READ_NUMBER, (key,)).get
        execute("UPDATE Cache SET value = ? WHERE rowid = ?", (total + 1, rowid))
        execute("COMMIT")


def add_blind(connection: apsw.Connection, keys: list[str]) -> None:
    for key in keys:
        connection.execute("UPDATE Cache SET value = value + 1 WHERE key = ? AND raw = 1", (key,))


def queue_by_two(connection: apsw.Connection, keys: list[str]) -> None:
    execute = connection.execute
    for _ in keys:
        last = execute(sql.QUEUE_LAST, (0, BOUND)).get
        execute(INSERT, (1 if last is None else last + 1, *simple("")[1:], None))
    for _ in keys:
        execute(sql.DELETE_ROW, (execute(sql.PULL_FIRST, (0, BOUND)).get[-1],))


def queue_by_one(connection: apsw.Connection, keys: list[str]) -> None:
    execute = connection.execute
    for _ in keys:
        _ = execute(PUSH, (0, BOUND, NOW, VALUE)).get
    for _ in keys:
        _ = execute(PULL, (0, BOUND)).get


def remove(connection: apsw.Connection, keys: list[str]) -> None:
    upsert(connection, keys)
    for key in keys:
        connection.execute(sql.DELETE_SIMPLE, (key, 1, NOW))


def remove_read(connection: apsw.Connection, keys: list[str]) -> None:
    execute = connection.execute
    upsert(connection, keys)
    for key in keys:
        execute("BEGIN IMMEDIATE")
        execute(sql.DELETE_ROW, (execute(sql.FIND, (key, 1)).get[0],))
        execute("COMMIT")


def remove_later(connection: apsw.Connection, keys: list[str]) -> None:
    upsert(connection, keys)
    for key in keys:
        connection.execute("UPDATE Cache SET expire_time = 0 WHERE key = ? AND raw = 1", (key,))
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM Cache WHERE expire_time = 0")
    connection.execute("COMMIT")


FIRST = "SELECT rowid FROM Cache WHERE rank IS NOT NULL ORDER BY rank LIMIT 1"
LAST = "SELECT max(rowid) FROM Cache"
LONG = random.Random(1).randbytes(1000)
"""The value of entries of a full cache."""
IN_PLACE = (
    "UPDATE Cache SET key = ?, store_time = ?, value = ?, version = random() >> 24, rank = ?"
    " WHERE rowid = ?"
)
AS_LAST = IN_PLACE.replace("SET", "SET rowid = ?,")


def replaced(step: Callable[[Callable[..., Any], tuple[Any, ...], float], object]) -> Act:
    """Store an entry of each key, and remove the one with the least rank, in a transaction."""

    def done(connection: apsw.Connection, keys: list[str]) -> None:
        execute = connection.execute
        # Once: entries that were there before have short values, and no rank.
        execute("UPDATE Cache SET rank = rowid, value = ? WHERE rank IS NULL", (LONG,))
        last = float(execute("SELECT max(rank) FROM Cache").get)
        for number, key in enumerate(keys, 1):
            execute("BEGIN IMMEDIATE")
            step(execute, (key, 1, NOW, 1, LONG), last + number)
            execute("COMMIT")

    return done


def insert_first(execute: Callable[..., Any], row: tuple[Any, ...], rank: float) -> None:
    execute(INSERT, (*row, rank))
    execute(sql.DELETE_ROW, (execute(FIRST).get,))


def delete_first(execute: Callable[..., Any], row: tuple[Any, ...], rank: float) -> None:
    execute(sql.DELETE_ROW, (execute(FIRST).get,))
    execute(INSERT, (*row, rank))


def take_its_row(execute: Callable[..., Any], row: tuple[Any, ...], rank: float) -> None:
    execute(IN_PLACE, (row[0], NOW, LONG, rank, execute(FIRST).get))


def take_its_row_as_last(execute: Callable[..., Any], row: tuple[Any, ...], rank: float) -> None:
    values = (execute(LAST).get + 1, row[0], NOW, LONG, rank, execute(FIRST).get)
    execute(AS_LAST, values)


BOUND = 2**62
READ_NUMBER = "SELECT rowid, value FROM Cache WHERE key = ? AND raw = 1"
PUSH = (
    "INSERT INTO Cache (key, raw, store_time, mode, value, version) SELECT coalesce("
    "(SELECT max(key) FROM Cache WHERE ?1 < key AND key < ?2 AND raw = 1), 0) + 1, 1, ?3, 1, ?4, 1"
    " RETURNING key"
)
PULL = (
    "DELETE FROM Cache WHERE rowid = (SELECT rowid FROM Cache WHERE ?1 < key AND key < ?2"
    " AND raw = 1 ORDER BY key LIMIT 1) RETURNING key, value, mode, file, size, checksum,"
    " expire_time, tag"
)

# -- Choices ---------------------------------------------------------------------------------------

COUNT_ROW = "INSERT INTO Settings VALUES ('count', 0, 'state')"
TRIGGER = (
    "CREATE TRIGGER {name} AFTER INSERT ON Cache BEGIN"
    " UPDATE Settings SET value = value + {more} WHERE key = '{name}'; END"
)
TRIGGERS = (
    COUNT_ROW,
    TRIGGER.format(name="count", more="1"),
    TRIGGER.format(name="size", more="NEW.size"),
)

REPLACED: dict[str, tuple[Act, tuple[str, ...]]] = {
    "INSERT, DELETE": (replaced(insert_first), ()),
    "DELETE, INSERT": (replaced(delete_first), ()),
    "UPDATE of the row of the one that goes": (replaced(take_its_row), ()),
    "the same, with the next row number": (replaced(take_its_row_as_last), ()),
}

NO_EXPIRY_INDEX = ("DROP INDEX Cache_expire_time",)
MINUTES = (
    "CREATE INDEX minutes ON Cache (CAST(expire_time / 60 AS INTEGER))"
    " WHERE expire_time IS NOT NULL"
)


CHOICES: dict[str, dict[str, tuple[Act, tuple[str, ...]]]] = {
    "a write, its own transaction": {
        "one UPSERT": (upsert, ()),
        "BEGIN IMMEDIATE, UPSERT, COMMIT": (upsert_begun, ()),
        "BEGIN IMMEDIATE, SELECT, UPDATE or INSERT, COMMIT": (select_then_write, ()),
    },
    "writes in one transaction": {
        "executemany, 200 at a time": (together(upsert_many), ()),
        "the same, versions numbered": (numbered(sql.UPSERT_SIMPLE_NUMBERED), ()),
        "UPDATE, where all keys have entries": (only_old, ()),
        "5 rows a statement": (numbered(of_rows(5), 5), ()),
        "20 rows a statement": (numbered(of_rows(20), 20), ()),
        "100 rows a statement": (numbered(of_rows(100), 100), ()),
        "one by one": (together(upsert), ()),
    },
    "rank of a new entry": {
        "NULL, not in the partial index": (insert_unranked, ()),
        "in the partial index": (insert_ranked, ()),
    },
    "the sum of a number": {
        "UPDATE, RETURNING": (add_returning, ()),
        "BEGIN IMMEDIATE, SELECT, UPDATE, COMMIT": (add_read, ()),
        "UPDATE, and the sum stays unknown": (add_blind, ()),
    },
    "pushed and pulled": {
        "SELECT and INSERT, SELECT and DELETE": (queue_by_two, ()),
        "INSERT, RETURNING; DELETE, RETURNING": (queue_by_one, ()),
    },
    "stored and removed": {
        "DELETE": (remove, ()),
        "BEGIN IMMEDIATE, SELECT, DELETE, COMMIT": (remove_read, ()),
        "UPDATE to expired; later DELETE of all": (remove_later, ()),
    },
    "one comes to a full cache, one goes": REPLACED,
    "a write with an expiry": {
        "index on the moment": (expiring, ()),
        "index on the minute": (expiring, (*NO_EXPIRY_INDEX, MINUTES)),
        "no index": (expiring, NO_EXPIRY_INDEX),
        "no expiry": (upsert, ()),
    },
    "a lock taken and given back": {
        "in transactions": (lock_in_transactions, ()),
        "statements of their own, under the gate": (lock_alone, ()),
        "without a look": (lock_blindly, ()),
    },
    "totals of a new entry": {
        "outside the database": (insert_unranked, ()),
        "a row, updated by a statement": (insert_counted, (COUNT_ROW,)),
        "a row, updated by triggers": (insert_unranked, TRIGGERS),
    },
}


NUMBERS = {add_returning, add_read, add_blind}
ONLY_OLD = {*NUMBERS, only_old}
ONLY_NEW = {
    insert_ranked, insert_unranked, insert_counted,
    queue_by_one, queue_by_two, remove, remove_read, remove_later,
    lock_in_transactions, lock_alone, lock_blindly,
    *(act for act, _ in REPLACED.values()),
}  # fmt: skip


def measure(
    variants: dict[str, tuple[Act, tuple[str, ...]]],
    folder: str,
    rounds: int,
    n: int,
    clock: Callable[[], float],
) -> Iterator[tuple[str, float, float]]:
    """Yield each variant with microseconds for existing and for new keys."""
    links = {
        name: made(os.path.join(folder, f"{number}.db"), *extra)
        for number, (name, (_, extra)) in enumerate(variants.items())
    }
    old = [f"key-{number:08d}" for number in range(FILL)]
    for connection in links.values():
        together(upsert)(connection, old)
        if NUMBERS & {act for act, _ in variants.values()}:
            connection.execute("UPDATE Cache SET value = 0")
    best = {(name, kind): float("inf") for name in variants for kind in ("old", "new")}
    for turn in range(rounds):
        chosen = random.Random(turn).choices(old, k=n)
        fresh = [f"new-{turn}-{number:08d}" for number in range(n)]
        for name, connection in links.items():
            act = variants[name][0]
            for kind, keys in (("old", chosen), ("new", fresh)):
                if act in (ONLY_NEW if kind == "old" else ONLY_OLD):
                    continue
                start = clock()
                act(connection, keys)
                taken = (clock() - start) / n * 1e6
                best[name, kind] = min(best[name, kind], taken)
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    for name in variants:
        yield name, best[name, "old"], best[name, "new"]


# -- The gate --------------------------------------------------------------------------------------


def no_gate(wait: float | None) -> None:
    """Let everybody pass, to meet at BEGIN IMMEDIATE."""


def write_for_a_while(path: str, wait: float | None, has_gate: bool, start: Any, out: Any) -> None:
    connection = apsw.Connection(path)
    connection.set_busy_timeout(60_000)
    connection.execute("PRAGMA synchronous = 1").fetchall()
    gate = Gate(os.open(path + ".gate", os.O_RDWR | os.O_CREAT, 0o600), SYSTEM_CLOCK)
    acquire, release = (gate.acquire, gate.release) if has_gate else (no_gate, lambda: None)
    keys = [f"key-{number:08d}" for number in range(FILL)]
    waits = []
    start.wait()
    end = perf_counter() + SECONDS
    while (began := perf_counter()) < end:
        acquire(wait)
        upsert_begun(connection, [random.choice(keys)])
        release()
        waits.append(perf_counter() - began)
    out.put(waits)


def measure_gate(folder: str) -> None:
    context = multiprocessing.get_context("spawn")
    print(f"{WRITERS} processes that write    writes/s  99.9 %, ms  longest, ms  slowest to mean")
    for name, wait, has_gate in (
        ("gate, with a timeout", 60.0, True),
        ("gate, without limit", None, True),
        ("busy handler of SQLite", None, False),
    ):
        path = os.path.join(folder, re.sub(r"\W", "-", name))
        connection = made(path)
        together(upsert)(connection, [f"key-{number:08d}" for number in range(FILL)])
        connection.execute("PRAGMA wal_autocheckpoint = 2000").fetchall()
        start, results = context.Barrier(WRITERS), context.Queue()
        processes = [
            context.Process(target=write_for_a_while, args=(path, wait, has_gate, start, results))
            for _ in range(WRITERS)
        ]
        for process in processes:
            process.start()
        found = [results.get() for _ in processes]
        for process in processes:
            process.join()
        waits = sorted(wait for one in found for wait in one)
        least = min(map(len, found)) / (len(waits) / WRITERS)
        late = waits[int(len(waits) * 0.999)] * 1000
        print(
            f"{name:26} {len(waits) / SECONDS:10.0f} {late:11.1f} {waits[-1] * 1000:12.0f}"
            f" {least:16.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--only", default="", help="choices whose name matches")
    parser.add_argument(
        "--clock", choices=("elapsed", "cpu"), default="elapsed", help="cpu: on a busy machine"
    )
    options = parser.parse_args()
    clock = process_time if options.clock == "cpu" else perf_counter
    for choice, variants in CHOICES.items():
        if re.search(options.only, choice):
            print(f"{choice:52} existing     new")
            with tempfile.TemporaryDirectory() as folder:
                for name, old, new in measure(variants, folder, options.rounds, options.n, clock):
                    shown = [f"{us:8.1f}" if us < float("inf") else f"{'':8}" for us in (old, new)]
                    print(f"  {name:50} {' '.join(shown).rstrip()}")
            print()
    if re.search(options.only, "gate"):
        with tempfile.TemporaryDirectory() as folder:
            measure_gate(folder)


if __name__ == "__main__":
    main()
