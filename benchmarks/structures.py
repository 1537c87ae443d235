"""Rows for what stands on a cache: shards, deques, indexes, locks and the other recipes.

As `operations`, this module runs under both versions and uses only what both offer.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from operations import (
    KINDS,
    Bench,
    Fresh,
    Place,
    Row,
    fill,
    inserting_in,
    memoized_in,
    overwriting_in,
    reading_in,
    value_of,
)

if TYPE_CHECKING:
    from diskcache import Cache, Deque, FanoutCache, Index

SHARDS = 8
LENGTH = 1000
"""Items in a deque that is indexed or rotated."""
PLENTY = 1e9
"""Calls per second that a throttle lets through without waiting."""


def fanout(place: Place) -> FanoutCache:
    from diskcache import FanoutCache

    # Version 5 waits for 10 ms by default, and drops a write behind a slow checkpoint.
    return FanoutCache(os.path.join(place.folder, "fanout"), shards=SHARDS, timeout=60)


def deque(place: Place) -> Deque:
    from diskcache import Deque

    return Deque(directory=os.path.join(place.folder, "deque"))


def index(place: Place) -> Index:
    from diskcache import Index

    return Index(os.path.join(place.folder, "index"))


# -- FanoutCache --


def reading_fanout(place: Place) -> Bench:
    cache = fanout(place)
    return reading_in(cache, cache.get, place.n)


def overwriting_fanout(place: Place) -> Bench:
    cache = fanout(place)
    return overwriting_in(cache, cache.set, place.n)


def inserting_fanout(place: Place) -> Bench:
    return inserting_in(fanout(place), place.n)


def memoizing_fanout(place: Place) -> Bench:
    return memoized_in(fanout(place), place.n)


# -- Deque --


def passing(place: Place) -> Bench:
    """Append at one end and take from the other: the deque as a queue."""
    queue = deque(place)
    queue.extend(value_of(number) for number in range(LENGTH))

    def run() -> None:
        append, popleft = queue.append, queue.popleft
        for number in range(place.n):
            append(number)
            popleft()

    return Bench(run, place.n, close=queue.cache.close)


def indexing(place: Place) -> Bench:
    """Read items at places all over a deque."""
    queue = deque(place)
    queue.extend(value_of(number) for number in range(LENGTH))
    chance = random.Random(7)
    places = [chance.randrange(LENGTH) for _ in range(place.n)]

    def run() -> None:
        for number in places:
            queue[number]

    return Bench(run, len(places), close=queue.cache.close)


def rotating(place: Place) -> Bench:
    """Rotate by a hundred, one way and the other in turn; time is that of one item moved."""
    steps = 100
    queue = deque(place)
    queue.extend(value_of(number) for number in range(LENGTH))
    turns = max(place.n // steps, 1)

    def run() -> None:
        for number in range(turns):
            queue.rotate(-steps if number % 2 else steps)

    return Bench(run, turns * steps, close=queue.cache.close)


# -- Index --


def reading_index(place: Place) -> Bench:
    found = index(place)
    return reading_in(found.cache, found.__getitem__, place.n)


def overwriting_index(place: Place) -> Bench:
    found = index(place)
    return overwriting_in(found.cache, found.__setitem__, place.n)


def emptying_index(place: Place) -> Bench:
    """Take the last entry, and the first, in turn."""
    found = index(place)
    turn = Fresh(KINDS)

    def before() -> None:
        fill(found.cache, place.n, turn.take(place.n)[0])

    def run() -> None:
        for number in range(place.n):
            found.popitem(last=bool(number % 2))

    return Bench(run, place.n, before=before, close=found.cache.close)


# -- Recipes --


def taking(make: Callable[[Cache], Any]) -> Callable[[Place], Bench]:
    """Return a row that takes a free lock and gives it back."""

    def prepare(place: Place) -> Bench:
        cache = place.cache(eviction_policy="none")
        fill(cache)
        lock = make(cache)

        def run() -> None:
            acquire, release = lock.acquire, lock.release
            for _ in range(place.n):
                acquire()
                release()

        return Bench(run, place.n, close=cache.close)

    return prepare


def lock(cache: Cache) -> Any:
    from diskcache import Lock

    return Lock(cache, "lock")


def rlock(cache: Cache) -> Any:
    from diskcache import RLock

    return RLock(cache, "rlock")


def semaphore(cache: Cache) -> Any:
    from diskcache import BoundedSemaphore

    return BoundedSemaphore(cache, "semaphore", value=4)


def averaging(place: Place) -> Bench:
    from diskcache import Averager

    cache = place.cache(eviction_policy="none")
    fill(cache)
    latency = Averager(cache, "latency")

    def run() -> None:
        add = latency.add
        for number in range(place.n):
            add(number)

    return Bench(run, place.n, close=cache.close)


def throttling(place: Place) -> Bench:
    """Call a throttled function whose bucket never runs out."""
    from diskcache import throttle

    cache = place.cache(eviction_policy="none")
    fill(cache)

    @throttle(cache, count=PLENTY, seconds=1)
    def ask() -> None:
        return None

    def run() -> None:
        for _ in range(place.n):
            ask()

    return Bench(run, place.n, close=cache.close)


ROWS: tuple[Row, ...] = (
    Row("FanoutCache get, hot", 10_000, reading_fanout, final=20),
    # As many as make each shard copy its log: eight times those of a Cache.
    Row("FanoutCache set, key exists", 16_000, overwriting_fanout, stage=3, final=4),
    Row("FanoutCache set, new key", 16_000, inserting_fanout, stage=3, final=4),
    Row("FanoutCache memoize, hit", 5000, memoizing_fanout, stage=3, final=20),
    Row("Deque append + popleft", 1000, passing, stage=2.5, final=2.5),
    Row("Deque [i]", 500, indexing),
    Row("Deque rotate", 1000, rotating),
    Row("Index [], hot", 10_000, reading_index, final=15),
    Row("Index []=, key exists", 2000, overwriting_index),
    Row("Index popitem", 1000, emptying_index),
    Row("Lock acquire + release", 1000, taking(lock)),
    Row("RLock acquire + release", 1000, taking(rlock)),
    Row("BoundedSemaphore acquire + release", 1000, taking(semaphore)),
    Row("Averager add", 1000, averaging),
    Row("throttle, call", 1000, throttling),
)
"""In the order of the report. Targets: docs/benchmarks.md."""
