"""What is timed in a cache of many entries; runs in a worker, one for each size.

The cache is made by `scale`, beside the worker's own folder. Keys are scattered: neighbours in time
are far apart in the index, as hashed keys of a real cache are. Entries 0, 1, … are there; a row
that removes some puts them back, and what a row adds it removes, so that the size stays.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from typing import Any

from operations import HOT, Bench, Fresh, Place, Row, opened, repeated, value_of
from worker import serve

ENTRIES = "DISKCACHE_BENCH_ENTRIES"
"""Variable that says how many entries the cache has."""
UNLIMITED = 1 << 42
WARMING = 10
"""Rounds of reads before those that count, where the pages of a database are to be at hand."""
RANKED_AT_ONCE = 1000
"""Entries that a write gives a rank, once a cache is half full."""


def key_at(number: int) -> str:
    """Return the key of an entry: no two are equal, and neighbours are far apart."""
    return f"key-{number * 2654435761 % 2**32:010d}"


def entries_at(numbers: Iterable[int], shift: int = 0) -> dict[str, Any]:
    return {key_at(number): value_of(number + shift) for number in numbers}


def count() -> int:
    return int(os.environ[ENTRIES])


def folder_of(place: Place) -> str:
    return os.path.dirname(place.folder)


def big(place: Place, **settings: Any) -> Any:
    """Open the cache of this size."""
    return opened(os.path.join(folder_of(place), "cache"), size_limit=UNLIMITED, **settings)


def used_memory() -> dict[str, float]:
    """Return megabytes of this process that are in memory; nothing where that cannot be told."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            pages = int(statm.read().split()[1])
    except OSError:
        return {}
    return {"RSS MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6}


def noting(bench: Bench) -> Bench:
    """Have the memory of the process noted after each round."""
    after = bench.after

    def noted() -> None:
        bench.facts.update(used_memory())
        after()

    bench.after = noted
    return bench


class Chance:
    """Entries at random: others in every round."""

    def __init__(self, n: int) -> None:
        self.n = min(n, count() // 2)
        self._random = random.Random(11)

    def some(self) -> list[int]:
        return self._random.sample(range(count()), self.n)


def hot(place: Place) -> Bench:
    cache = big(place)
    keys = repeated([key_at(number) for number in range(HOT)], place.n)

    def run() -> None:
        get = cache.get
        for key in keys:
            get(key)

    run()
    return Bench(run, len(keys), close=cache.close)


def cold(place: Place) -> Bench:
    """Read entries at random, once each, through a new object."""
    chance, keys, caches = Chance(place.n), list[str](), list[Any]()

    def before() -> None:
        caches.append(big(place))
        keys[:] = map(key_at, chance.some())

    def run() -> None:
        get = caches[-1].get
        for key in keys:
            if get(key) is None:
                raise ValueError(f"{key} is gone")

    return Bench(run, chance.n, before=before, after=lambda: caches.pop().close())


def warm(place: Place) -> Bench:
    """Read entries at random through an object that has read many, and keeps no values itself."""
    cache, chance, keys = big(place, memory_limit=0), Chance(place.n), list[str]()
    for _ in range(WARMING):
        for number in chance.some():
            cache.get(key_at(number))

    def before() -> None:
        keys[:] = map(key_at, chance.some())

    def run() -> None:
        get = cache.get
        for key in keys:
            get(key)

    return Bench(run, chance.n, before=before, close=cache.close)


def existing(place: Place) -> Bench:
    cache, chance, turn = big(place), Chance(place.n), Fresh(1)
    entries: dict[str, Any] = {}

    def before() -> None:
        entries.clear()
        entries.update(entries_at(chance.some(), shift=3 * turn.take(1)[0]))

    def run() -> None:
        for key, value in entries.items():
            cache.set(key, value)

    return Bench(run, chance.n, before=before, close=cache.close)


def fresh(place: Place) -> Bench:
    cache, numbers = big(place), Fresh(count())
    entries: dict[str, Any] = {}

    def before() -> None:
        entries.clear()
        entries.update(entries_at(numbers.take(place.n)))

    def run() -> None:
        for key, value in entries.items():
            cache.set(key, value)

    def after() -> None:
        cache.delete_many(entries)

    return Bench(run, place.n, before=before, after=after, close=cache.close)


def deleting(place: Place) -> Bench:
    cache, chance = big(place), Chance(place.n)
    numbers: list[int] = []
    keys: list[str] = []

    def before() -> None:
        numbers[:] = chance.some()
        keys[:] = map(key_at, numbers)

    def run() -> None:
        for key in keys:
            cache.delete(key)

    def after() -> None:
        cache.set_many(entries_at(numbers))

    return Bench(run, chance.n, before=before, after=after, close=cache.close)


def counting(place: Place) -> Bench:
    cache = big(place)
    names = [f"counter-{number}" for number in range(HOT)]
    cache.set_many(dict.fromkeys(names, 0))
    chosen = repeated(names, place.n)

    def run() -> None:
        for name in chosen:
            cache.incr(name)

    def close() -> None:
        cache.delete_many(names)
        cache.close()

    return Bench(run, len(chosen), close=close)


def opening(place: Place) -> Bench:
    def run() -> None:
        for _ in range(place.n):
            big(place).close()

    return Bench(run, place.n)


def asking(question: Callable[[Any], object]) -> Callable[[Place], Bench]:
    def make(place: Place) -> Bench:
        cache = big(place)

        def run() -> None:
            for _ in range(place.n):
                question(cache)

        return Bench(run, place.n, close=cache.close)

    return make


def full(place: Place, **settings: Any) -> Any:
    """Open the copy that is at its limit, with all its entries in their order."""
    path = os.path.join(folder_of(place), "full")
    with opened(path) as cache:
        if cache.size_limit == UNLIMITED:
            # Half full, entries get their ranks; then there is no room for more.
            cache.reset("size_limit", int(cache.volume() * 1.9))
            for number in Fresh(count()).take(count() // RANKED_AT_ONCE + 10):
                cache.set(key_at(number), value_of(number))
            cache.reset("size_limit", cache.volume())
    return opened(path, **settings)


def crowding(place: Place) -> Bench:
    """Store new entries, and so remove others."""
    cache, numbers = full(place, cull_limit=10), Fresh(2 * count())
    facts: dict[str, float] = {}
    entries: dict[str, Any] = {}
    held = [0]

    def before() -> None:
        held[0] = len(cache)
        entries.clear()
        entries.update(entries_at(numbers.take(place.n)))

    def run() -> None:
        for key, value in entries.items():
            cache.set(key, value)

    def after() -> None:
        facts["culled per set"] = 1 + (held[0] - len(cache)) / place.n

    return Bench(run, place.n, before=before, after=after, close=cache.close, facts=facts)


def culling(place: Place) -> Bench:
    """Remove what is over the limit: time of one entry removed."""
    cache, numbers = full(place, cull_limit=0), Fresh(3 * count())

    def before() -> None:
        cache.set_many(entries_at(numbers.take(place.n)))

    def run() -> None:
        bench.operations = max(cache.cull(), 1)

    bench = Bench(run, place.n, before=before, close=cache.close)
    return bench


FULL = frozenset({"set, at the limit", "cull, an entry"})
"""Rows that need the copy."""

ROWS = (
    Row("get, hot", 10_000, hot),
    Row("get, new object", 2000, cold),
    Row("get, at random", 2000, warm),
    Row("set, key exists", 2000, existing),
    Row("set, new key", 2000, fresh),
    Row("delete", 2000, deleting),
    Row("incr", 2000, counting),
    Row("set, at the limit", 2000, crowding),
    Row("cull, an entry", 2000, culling),
    Row("open + close", 20, opening),
    Row("len", 2000, asking(len)),
    Row("volume", 2000, asking(lambda cache: cache.volume())),
)


def row_named(name: str) -> Row:
    """Return the row called *name*, with the memory of the process among its facts."""
    row = next(row for row in ROWS if row.name == name)
    return row._replace(make=lambda place: noting(row.make(place)))


if __name__ == "__main__":
    serve(row_named)
