"""What is measured on a cache: one row per operation, the same code for both versions.

This module runs in two environments, this project's and that of version 5.6.3, and uses nothing but
the standard library and what both versions of `diskcache` offer. Where one lacks a method
(`set_many`), the row does what a user of that version would write instead.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from diskcache import Cache, FanoutCache

ENTRIES = 2000
"""Entries in a cache before anything is measured."""
HOT = 100
"""Keys that are read again and again."""
FULL_BYTES = 32 << 20
"""Size limit of the cache that is full."""
TOGETHER = 100
"""Entries that are stored in one transaction where a cache is filled."""
LARGE_BYTES = 200_000
KINDS = 3
"""Kinds of small value; a value is replaced by another one of its kind."""


class Row(NamedTuple):
    """One line of the report."""

    name: str
    n: int
    """Operations per round at scale 1."""
    make: Callable[[Place], Bench]
    stage: float | None = None
    """How many times faster than 5.6.3 it must be without the memory tier."""
    final: float | None = None
    """How many times faster it must be in the end."""


class Place(NamedTuple):
    """Where a row works, and how much it does."""

    folder: str
    n: int

    def cache(self, **settings: Any) -> Cache:
        return opened(os.path.join(self.folder, "cache"), **settings)


def opened(directory: str, **settings: Any) -> Cache:
    """Open a cache; the list of rows can be had without any version installed."""
    from diskcache import Cache

    return Cache(directory, **settings)


@dataclass
class Bench:
    """A row that is set up."""

    run: Callable[[], float | None]
    """Does the operations; returns seconds only if it keeps the time itself."""
    operations: int
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None
    close: Callable[[], object] = lambda: None
    facts: dict[str, float] = field(default_factory=dict)
    """What the last round showed besides the time."""


def key_of(number: int) -> str:
    return f"key-{number:08d}"


def value_of(number: int) -> int | str | bytes:
    """Return a small native value: a number, a text or bytes, in turn."""
    kind = number % KINDS
    if kind == 0:
        return number
    text = f"value number {number:08d} of the benchmark"
    return text if kind == 1 else text.encode()


def dict_of(number: int) -> dict[str, Any]:
    """Return a small record, as a web service would keep."""
    return {
        "id": number,
        "name": f"user {number}",
        "active": True,
        "score": number / 7,
        "tags": ["red", "green"],
    }


def fill(
    cache: Cache | FanoutCache,
    count: int = ENTRIES,
    first: int = 0,
    make: Callable[[int], Any] = value_of,
) -> list[str]:
    """Store entries quickly; return their keys."""
    keys = [key_of(number) for number in range(first, first + count)]
    with cache.transact():
        for number, key in enumerate(keys, first):
            cache.set(key, make(number))
    return keys


def repeated(items: Sequence[str], n: int) -> list[str]:
    """Return *n* of *items*, in an order that is the same in every run."""
    shuffled = list(items)
    random.Random(5).shuffle(shuffled)
    return [shuffled[number % len(shuffled)] for number in range(n)]


# -- Reading --


def reading(
    call: Callable[[Cache], Callable[[str], Any]],
    keys: Callable[[list[str]], list[str]] = lambda keys: keys[:HOT],
    **settings: Any,
) -> Callable[[Place], Bench]:
    """Return a row that reads hot keys through the method that *call* picks."""

    def make(place: Place) -> Bench:
        cache = place.cache(**settings)
        return reading_in(cache, call(cache), place.n, keys)

    return make


def reading_in(
    cache: Cache | FanoutCache,
    method: Callable[[str], Any],
    n: int,
    keys: Callable[[list[str]], list[str]] = lambda keys: keys[:HOT],
) -> Bench:
    """Read keys of *cache* with *method*, again and again."""
    chosen = repeated(keys(fill(cache)), n)

    def run() -> None:
        for key in chosen:
            method(key)

    run()
    return Bench(run, len(chosen), close=cache.close)


def absent(keys: list[str]) -> list[str]:
    return ["absent-" + key for key in keys[:HOT]]


def cold(make_value: Callable[[int], Any]) -> Callable[[Place], Bench]:
    """Return a row that reads every key once, through a new object."""

    def make(place: Place) -> Bench:
        with place.cache() as cache:
            keys = repeated(fill(cache, place.n, make=make_value), place.n)
        caches: list[Cache] = []

        def run() -> None:
            get = caches[-1].get
            for key in keys:
                get(key)

        return Bench(
            run,
            len(keys),
            before=lambda: caches.append(place.cache()),
            after=lambda: caches.pop().close(),
        )

    return make


def memoized(place: Place) -> Bench:
    return memoized_in(place.cache(), place.n)


def memoized_in(cache: Cache | FanoutCache, n: int) -> Bench:
    """Call a memoized function whose results are there."""

    @cache.memoize()
    def area(width: int, height: int, unit: str = "mm") -> tuple[int, str]:
        return width * height, unit

    arguments = [(number % HOT, 3) for number in range(n)]

    def run() -> None:
        for width, height in arguments:
            area(width, height, unit="cm")

    run()
    return Bench(run, len(arguments), close=cache.close)


# -- Writing --


def overwriting(
    make_value: Callable[[int], Any] = value_of, **arguments: Any
) -> Callable[[Place], Bench]:
    """Return a row that sets keys that exist, to values of the same kind."""

    def make(place: Place) -> Bench:
        cache = place.cache()
        return overwriting_in(cache, cache.set, place.n, make_value, **arguments)

    return make


def overwriting_in(
    cache: Cache | FanoutCache,
    store: Callable[..., Any],
    n: int,
    make_value: Callable[[int], Any] = value_of,
    **arguments: Any,
) -> Bench:
    """Store under keys that *cache* has with *store*: values of the same kind."""
    keys = repeated(fill(cache, make=make_value), n)
    numbers = [int(key.rpartition("-")[2]) for key in keys]
    values: list[Any] = []
    turn = Fresh(1)

    def before() -> None:
        shift = KINDS * turn.take(1)[0]
        values[:] = [make_value(number + shift) for number in numbers]

    def run() -> None:
        for key, value in zip(keys, values, strict=True):
            store(key, value, **arguments)

    return Bench(run, len(keys), before=before, close=cache.close)


class Fresh:
    """Numbers that no round has used yet."""

    def __init__(self, first: int = 10_000_000) -> None:
        self.next = first

    def take(self, count: int) -> range:
        self.next += count
        return range(self.next - count, self.next)


def inserting(place: Place) -> Bench:
    return inserting_in(place.cache(), place.n)


def inserting_in(cache: Cache | FanoutCache, n: int) -> Bench:
    """Store keys that were never there."""
    fill(cache)
    fresh = Fresh()
    entries: list[tuple[str, Any]] = []

    def before() -> None:
        entries[:] = [(key_of(number), value_of(number)) for number in fresh.take(n)]

    def run() -> None:
        store = cache.set
        for key, value in entries:
            store(key, value)

    return Bench(run, n, before=before, close=cache.close)


def together(*, new: bool, bulk: bool) -> Callable[[Place], Bench]:
    """Return a row that sets many entries in one transaction: in a block, or in one call."""

    def make(place: Place) -> Bench:
        cache = place.cache()
        fill(cache, place.n)
        fresh = Fresh()
        entries: dict[str, Any] = {}
        turn = Fresh(1)

        def before() -> None:
            entries.clear()
            shift = KINDS * turn.take(1)[0]
            numbers = fresh.take(place.n) if new else range(place.n)
            entries.update((key_of(number), value_of(number + shift)) for number in numbers)

        def run() -> None:
            if bulk and hasattr(cache, "set_many"):
                cache.set_many(entries)
                return
            with cache.transact():
                store = cache.set
                for key, value in entries.items():
                    store(key, value)

        return Bench(run, place.n, before=before, close=cache.close)

    return make


def deleting(place: Place) -> Bench:
    cache = place.cache()
    fill(cache)
    fresh = Fresh()
    keys: list[str] = []

    def before() -> None:
        numbers = fresh.take(place.n)
        keys[:] = fill(cache, place.n, numbers[0])

    def run() -> None:
        delete = cache.delete
        for key in keys:
            delete(key)

    return Bench(run, place.n, before=before, close=cache.close)


def counting(place: Place) -> Bench:
    cache = place.cache()
    fill(cache)
    names = [f"counter-{number}" for number in range(HOT)]
    for name in names:
        cache.set(name, 0)
    chosen = repeated(names, place.n)

    def run() -> None:
        incr = cache.incr
        for name in chosen:
            incr(name)

    return Bench(run, len(chosen), close=cache.close)


def crowding(place: Place) -> Bench:
    """Set new keys in a cache that has reached its size limit."""
    cache = place.cache(size_limit=FULL_BYTES)
    fresh = Fresh()
    payload = random.Random(3).randbytes(1000)
    made = 0
    while len(cache) == made:  # until the first entry is culled
        with cache.transact():
            for number in fresh.take(TOGETHER):
                cache.set(key_of(number), payload)
        made += TOGETHER
    keys: list[str] = []
    facts: dict[str, float] = {}
    held = [0]

    def before() -> None:
        keys[:] = [key_of(number) for number in fresh.take(place.n)]
        held[0] = len(cache)

    def run() -> None:
        store = cache.set
        for key in keys:
            store(key, payload)

    def after() -> None:
        facts["culled per set"] = (held[0] + place.n - len(cache)) / place.n
        facts["volume of limit"] = cache.volume() / FULL_BYTES

    return Bench(run, place.n, before=before, after=after, close=cache.close, facts=facts)


def large(*, write: bool) -> Callable[[Place], Bench]:
    """Return a row with values that are kept in files."""

    def make(place: Place) -> Bench:
        cache = place.cache()
        names = [f"large-{number}" for number in range(4)]
        values = [random.Random(number).randbytes(LARGE_BYTES) for number in range(5)]
        for name in names:
            cache.set(name, values[0])

        def run() -> None:
            for number in range(place.n):
                if write:
                    cache.set(names[number % 4], values[number % 5])
                else:
                    cache.get(names[number % 4])

        run()
        return Bench(run, place.n, close=cache.close)

    return make


def queueing(place: Place) -> Bench:
    cache = place.cache()
    fill(cache)

    def run() -> None:
        for number in range(place.n):
            cache.push(number)
            cache.pull()

    return Bench(run, place.n, close=cache.close)


def opening(place: Place) -> Bench:
    with place.cache() as cache:
        fill(cache)

    def run() -> None:
        for _ in range(place.n):
            place.cache().close()

    return Bench(run, place.n)


# -- Many at once --


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return the value below which *part* of the sorted samples lies."""
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


Task: TypeAlias = "Callable[[Cache, int, int], list[float]]"
"""What one process does: cache, its number, operations; returns seconds of single operations."""


def mixed_task(cache: Cache, seed: int, n: int) -> list[float]:
    """Read nine times and write once, over and over."""
    chance = random.Random(seed)
    keys = [key_of(chance.randrange(ENTRIES)) for _ in range(n)]
    get, store = cache.get, cache.set
    for number, key in enumerate(keys):
        if number % 10:
            get(key)
        else:
            store(key, value_of(number))
    return []


def writer_task(cache: Cache, seed: int, n: int) -> list[float]:
    """Write, and note how long each write took."""
    chance = random.Random(seed)
    keys = [key_of(chance.randrange(ENTRIES)) for _ in range(n)]
    store, seconds = cache.set, []
    for number, key in enumerate(keys):
        start = perf_counter()
        store(key, value_of(number))
        seconds.append(perf_counter() - start)
    return seconds


def child(directory: str, task: Task, seed: int, n: int, barrier: Any, results: Any) -> None:
    """Run *task* in a process of its own, at the same time as the others."""
    with opened(directory) as cache:
        cache.get(key_of(0))
        barrier.wait()
        start = perf_counter()
        seconds = task(cache, seed, n)
        results.put((start, perf_counter(), seconds))


def processes(count: int, task: Task) -> Callable[[Place], Bench]:
    """Return a row for several processes on one directory: elapsed time per operation of any."""

    def make(place: Place) -> Bench:
        with place.cache() as cache:
            fill(cache)
        directory = os.path.join(place.folder, "cache")
        each = max(place.n // count, 1)
        context = multiprocessing.get_context("fork")
        facts: dict[str, float] = {}

        def run() -> float:
            barrier, results = context.Barrier(count), context.SimpleQueue()
            children = [
                context.Process(target=child, args=(directory, task, seed, each, barrier, results))
                for seed in range(count)
            ]
            for process in children:
                process.start()
            done = [results.get() for _ in children]
            for process in children:
                process.join()
            facts.update(spread(done))
            return float(max(end for _, end, _ in done) - min(start for start, _, _ in done))

        return Bench(run, each * count, facts=facts)

    return make


def spread(done: Sequence[tuple[float, float, list[float]]]) -> dict[str, float]:
    """Return percentiles, and how even the processes were served."""
    samples = sorted(second for _, _, seconds in done for second in seconds)
    if not samples:
        return {}
    times = [end - start for start, end, _ in done]
    return {
        "p50 us": percentile(samples, 0.5) * 1e6,
        "p99 us": percentile(samples, 0.99) * 1e6,
        "p99.9 us": percentile(samples, 0.999) * 1e6,
        "slowest of mean speed": sum(times) / len(times) / max(times),
    }


def threaded(count: int) -> Callable[[Place], Bench]:
    """Return a row for several threads that read through one object."""

    def make(place: Place) -> Bench:
        cache = place.cache()
        each = max(place.n // count, 1)
        keys = repeated(fill(cache)[:HOT], each)

        def run() -> float:
            barrier = threading.Barrier(count)
            spans: list[tuple[float, float]] = []

            def read() -> None:
                get = cache.get
                get(keys[0])
                barrier.wait()
                start = perf_counter()
                for key in keys:
                    get(key)
                spans.append((start, perf_counter()))

            threads = [threading.Thread(target=read) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return max(end for _, end in spans) - min(start for start, _ in spans)

        return Bench(run, each * count, close=cache.close)

    return make


LEAST_RECENTLY = "least-recently-used"
LEAST_FREQUENTLY = "least-frequently-used"

ROWS: tuple[Row, ...] = (
    Row("get, hot", 10_000, reading(lambda c: c.get), final=25),
    Row("[], hot", 10_000, reading(lambda c: c.__getitem__), final=20),
    Row("in, hot", 10_000, reading(lambda c: c.__contains__), final=15),
    Row("get, missing key", 10_000, reading(lambda c: c.get, absent), final=12),
    Row("get, cold", 5000, cold(value_of), stage=1.5, final=2),
    Row("get, cold, small dict", 5000, cold(dict_of), stage=1.5, final=2),
    Row("set, key exists", 2000, overwriting(), stage=3, final=4),
    Row("set, key exists, small dict", 2000, overwriting(dict_of), stage=3, final=4),
    Row("set, new key", 2000, inserting, stage=2.5, final=3),
    Row("set, with expire", 2000, overwriting(expire=3600), final=4),
    Row("set in transact", 2000, together(new=False, bulk=False), stage=6, final=8),
    Row("set in transact, new key", 2000, together(new=True, bulk=False), stage=6, final=8),
    Row("set_many", 2000, together(new=False, bulk=True), stage=6, final=8),
    Row("set_many, new key", 2000, together(new=True, bulk=True), stage=6, final=8),
    Row("delete", 2000, deleting, stage=2.5, final=3),
    Row("incr", 2000, counting, final=2.3),
    Row("get, hot, LRU", 2000, reading(lambda c: c.get, eviction_policy=LEAST_RECENTLY), final=100),
    Row(
        "get, hot, LFU", 2000, reading(lambda c: c.get, eviction_policy=LEAST_FREQUENTLY), final=100
    ),
    Row("get, hot, statistics", 2000, reading(lambda c: c.get, statistics=True), final=60),
    Row("set, full cache", 2000, crowding, final=4),
    Row("memoize, hit", 5000, memoized, stage=3, final=20),
    Row("set, 200 kB", 50, large(write=True), final=2),
    Row("get, 200 kB", 500, large(write=False), final=1.5),
    Row("push + pull", 1000, queueing),
    Row("open + close", 50, opening, stage=3, final=4),
    Row("4 processes, 90 % get", 12_000, processes(4, mixed_task), final=4),
    Row("8 threads, get", 16_000, threaded(8), final=15),
    Row("8 writer processes", 6400, processes(8, writer_task)),
)
"""In the order of the report. Targets: docs/benchmarks.md."""
