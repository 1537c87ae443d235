"""Many processes, or many threads, on one cache; runs under this version and under 5.6.3.

Each of them works for the same time, and notes how long every call took. Keeping time costs both
versions the same, about a tenth of a microsecond.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
from array import array
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from operations import ENTRIES, Bench, Place, Row, fill, key_of, opened, percentile, value_of
from worker import serve

SECONDS_PER_N = 0.001
"""What `n` of a row means here: milliseconds that each of them works."""
PLANNED = 1000
"""Operations that are drawn by lot beforehand, and then repeated."""
PROCESSES, THREADS = "processes", "threads"


class Done(NamedTuple):
    """What one process or thread did."""

    elapsed: float
    reads: array[float]
    """Seconds of each."""
    writes: array[float]


def plan(seed: int, share: float) -> list[tuple[bool, str, Any]]:
    """Return operations at random: whether to write, the key, the value."""
    chance = random.Random(seed)
    count = round(PLANNED * share)
    kinds = [True] * count + [False] * (PLANNED - count)
    chance.shuffle(kinds)
    numbers = [chance.randrange(ENTRIES) for _ in kinds]
    return [
        (is_write, key_of(number), value_of(number + 3 * seed))
        for is_write, number in zip(kinds, numbers, strict=True)
    ]


def work(cache: Any, seed: int, share: float, seconds: float) -> Done:
    """Read and write for *seconds*."""
    operations = plan(seed, share)
    get, put = cache.get, cache.set
    reads, writes = array("d"), array("d")
    began = now = perf_counter()
    deadline = began + seconds
    while now < deadline:
        for is_write, key, value in operations:
            start = perf_counter()
            if is_write:
                put(key, value)
            else:
                get(key)
            now = perf_counter()
            (writes if is_write else reads).append(now - start)
            # Whoever writes has written once, also if it was held up at first.
            if now >= deadline and (writes or not share):
                break
    return Done(now - began, reads, writes)


def child(directory: str, seed: int, share: float, seconds: float, together: Any, out: Any) -> None:
    with opened(directory) as cache:
        cache.get(key_of(0))
        together.wait()
        done = work(cache, seed, share, seconds)
    out.put((done.elapsed, done.reads.tobytes(), done.writes.tobytes()))


def by_processes(directory: str, count: int, share: float, seconds: float) -> list[Done]:
    """Have processes work at once, each with an object of its own."""
    context = multiprocessing.get_context("fork")
    together, out = context.Barrier(count), context.SimpleQueue()
    children = [
        context.Process(target=child, args=(directory, seed, share, seconds, together, out))
        for seed in range(count)
    ]
    for process in children:
        process.start()
    found = [out.get() for _ in children]
    for process in children:
        process.join()
    return [
        Done(elapsed, array("d", reads), array("d", writes)) for elapsed, reads, writes in found
    ]


def by_threads(directory: str, count: int, share: float, seconds: float) -> list[Done]:
    """Have threads work at once, through one object."""
    together, found = threading.Barrier(count), list[Done]()
    with opened(directory) as cache:

        def one(seed: int) -> None:
            cache.get(key_of(0))
            together.wait()
            found.append(work(cache, seed, share, seconds))

        threads = [threading.Thread(target=one, args=(seed,)) for seed in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found


WAYS: dict[str, Callable[[str, int, float, float], list[Done]]] = {
    PROCESSES: by_processes,
    THREADS: by_threads,
}


def summary(done: Sequence[Done]) -> dict[str, float]:
    """Return percentiles, and how even the writers were served."""
    facts: dict[str, float] = {}
    for name, samples in (
        ("reads", sorted(second for one in done for second in one.reads)),
        ("writes", sorted(second for one in done for second in one.writes)),
    ):
        if samples:
            facts |= {
                f"{name} p{part:g} us": percentile(samples, part / 100) * 1e6
                for part in (50, 99, 99.9)
            }
    rates = [len(one.writes) / one.elapsed for one in done]
    if any(rates):
        facts["slowest writer of mean"] = min(rates) * len(rates) / sum(rates)
    return facts


def name_of(way: str, count: int, percent: int) -> str:
    return f"{count} {way}, {percent} % writes"


def row_named(name: str) -> Row:
    """Return the row called *name*."""
    count, way, percent = name.replace(",", "").split()[:3]

    def make(place: Place) -> Bench:
        directory = os.path.join(place.folder, "cache")
        with opened(directory) as cache:
            fill(cache)

        def run() -> float:
            done = WAYS[way](directory, int(count), int(percent) / 100, place.n * SECONDS_PER_N)
            bench.operations = sum(len(one.reads) + len(one.writes) for one in done)
            bench.facts = summary(done)
            return max(one.elapsed for one in done)

        bench = Bench(run, 1)
        return bench

    return Row(name, 1000, make)


if __name__ == "__main__":
    serve(row_named)
