"""Plain data against pickle: microseconds per call, both measured in turns, best of several.

    python benchmarks/codec.py [--rounds 15] [--json]

`ratio` is plain / pickle: below 1 plain data is faster. Pickle uses its highest protocol.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import json
import pickle
import random
import sqlite3
import timeit
import uuid
from collections.abc import Callable
from typing import Any

from diskcache.codecs import keys, plain


def json_like(items: int) -> dict[str, Any]:
    chance = random.Random(1)
    return {
        "id": 12345,
        "name": "A customer",
        "active": True,
        "parent": None,
        "tags": [f"tag-{n}" for n in range(10)],
        "items": [
            {
                "sku": f"SKU-{n:05d}",
                "title": f"An article with a title, number {n}",
                "price": round(chance.random() * 100, 2),
                "quantity": n % 7,
                "sizes": [1, 2, 3],
                "options": {"gift": False, "note": None},
            }
            for n in range(items)
        ],
    }


def rows(count: int) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (id, name, price, stock, city, note)")
    chance = random.Random(2)
    connection.executemany(
        "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)",
        (
            (n, f"name {n}", round(chance.random() * 100, 2), n * 37, f"city {n % 9}", None)
            for n in range(count)
        ),
    )
    return connection.execute("SELECT * FROM t").fetchall()


NOW = datetime.datetime(2024, 5, 6, 7, 8, 9, 123456)

VALUES: dict[str, Any] = {
    "None": None,
    "small dict": {"user": 17, "name": "x", "admin": False},
    "JSON 6 kB": json_like(40),
    "JSON 6 kB, 150 floats": {**json_like(40), "scores": [0.1 * n / 7 for n in range(110)]},
    "JSON 600 kB": json_like(4000),
    "dict of dicts": {f"k{n}": {"x": n, "y": "value"} for n in range(50)},
    "int keys": {n: f"value {n}" for n in range(100)},
    "HTTP reply": {"status": 200, "headers": {"ETag": "a", "Vary": "b"}, "body": b"x" * 2000},
    "flat tuple": (17, "x", 2.5, None),
    "pair (result, 0.01)": ({"a": 1}, 0.0123),
    "100 rows": rows(100),
    "10,000 rows": rows(10_000),
    "100 ints": [*range(1000, 1100)],
    "768 floats": [random.Random(3).random() for _ in range(768)],
    "100 strings": [f"string number {n}" for n in range(100)],
    "non-ASCII text": {f"clé {n}": "čeština, łódź, 日本語" for n in range(20)},
    "set of 100 ints": set(range(100)),
    "datetime": NOW,
    "datetime UTC": NOW.replace(tzinfo=datetime.UTC),
    "date": NOW.date(),
    "100 rows with datetime": [(n, NOW + datetime.timedelta(n), "x") for n in range(100)],
    "dict with datetime": {"id": 1, "created": NOW, "changed": NOW, "name": "x"},
    "Decimal": decimal.Decimal("12.50"),
    "UUID": uuid.UUID(int=2**100 + 1),
    "nested tuples": {"shape": (3, 4), "points": ((1, 2), (3, 4), (5, 6))},
}

KEYS: dict[str, Any] = {
    "str": "user:17",
    "non-ASCII str": "clé:17",
    "int": 17,
    "memoize": ("mod.func", 1, "x", None),
    "memoize kwargs": ("package.module.function", 1, "x", None, "limit", 10, "order", "asc"),
    "memoize float": ("package.module.function", 0.5, None),
    "memoize typed": ("package.module.function", 1, "x", None, int, str),
    "memoize nested": ("package.module.function", (1, 2), [3, 4], None, "axis", 0),
    "memoize dict": ("package.module.function", {"b": 1, "a": 2}, None),
    "memoize int dict": ("package.module.function", {1: 1, 2: 2}, None),
    "memoize datetime": ("package.module.function", NOW, None),
}


def best_of(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return microseconds per call; each round times every call once."""
    timers = {name: timeit.Timer(call) for name, call in calls.items()}
    slowest = max(timer.timeit(1) for timer in timers.values())
    number = max(1, min(20_000, int(0.01 / max(slowest, 1e-7))))
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, timer in timers.items():
            best[name] = min(best[name], timer.timeit(number) / number * 1e6)
    return best


def measure_value(value: Any, rounds: int) -> dict[str, float]:
    # Once through pickle: no two strings are one object, as after reading them from somewhere.
    value = pickle.loads(pickle.dumps(value, 0))
    pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    data = plain.dumps(value)
    result = best_of(
        {
            "dumps": lambda: plain.dumps(value),
            "pickle.dumps": lambda: pickle.dumps(value, pickle.HIGHEST_PROTOCOL),
            "loads": lambda: plain.loads(data),
            "pickle.loads": lambda: pickle.loads(pickled),
        },
        rounds,
    )
    return {**result, "bytes": len(data), "pickle bytes": len(pickled)}


def measure_key(key: Any, rounds: int) -> dict[str, float]:
    db_key, raw = keys.encode_key(key)
    data = pickle.dumps(key, pickle.HIGHEST_PROTOCOL)
    result = best_of(
        {
            "dumps": lambda: keys.encode_key(key),
            "pickle.dumps": lambda: pickle.dumps(key, pickle.HIGHEST_PROTOCOL),
            "loads": lambda: keys.decode_key(db_key, raw),
            "pickle.loads": lambda: pickle.loads(data),
        },
        rounds,
    )
    size = len(db_key) if isinstance(db_key, bytes) else 0
    return {**result, "bytes": size, "pickle bytes": len(data)}


def print_table(title: str, results: dict[str, dict[str, float]]) -> None:
    header = ("encode", "pickle", "ratio", "decode", "pickle", "ratio", "bytes", "pickle")
    widths = (9, 9, 6, 9, 9, 6, 8, 8)
    cells = [f"{name:>{width}}" for name, width in zip(header, widths, strict=True)]
    print(f"{title:24}", *cells)
    for name, row in results.items():
        print(
            f"{name:24} {row['dumps']:9.2f} {row['pickle.dumps']:9.2f} "
            f"{row['dumps'] / row['pickle.dumps']:6.2f} "
            f"{row['loads']:9.2f} {row['pickle.loads']:9.2f} "
            f"{row['loads'] / row['pickle.loads']:6.2f} "
            f"{row['bytes']:8} {row['pickle bytes']:8}"
        )
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    values = {name: measure_value(value, options.rounds) for name, value in VALUES.items()}
    tuples = {name: measure_key(key, options.rounds) for name, key in KEYS.items()}
    if options.json:
        print(json.dumps({"values": values, "keys": tuples}, indent=2))
    else:
        print_table("value", values)
        print_table("key", tuples)


if __name__ == "__main__":
    main()
