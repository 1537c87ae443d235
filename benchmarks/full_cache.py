"""What a full cache costs under each eviction policy: the time of a `set` and of a hit.

For each policy a cache is filled to its limit; then entries are set under new keys, one timed by
one, in rounds that take turns between the policies, so that what disturbs the machine disturbs all.
Between two sets some entries are read, as a cache is. Hits are timed together, in memory and
without. Statements are counted in a round of their own.

    python benchmarks/full_cache.py [--limit size|count] [--rounds N] [--reads N] [--json FILE]

Two shorter measurements print what each policy costs beside the first one, by processor time, which
is steadier on a busy machine: of a hit in memory, the least of the rounds; and of `set` into small
caches full by number of entries, each set timed by itself.

    python benchmarks/full_cache.py --hits [--rounds N]
    python benchmarks/full_cache.py --entries 24 128 1024 4000 [--rounds N] [--reads N]
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

from report import aligned

from diskcache import Cache

POLICIES = ("least-recently-stored", "least-recently-used", "least-frequently-used", "s3-fifo")
BYTES = 8 << 20
ENTRIES = 4000
VALUE = 1000
SETS = 1000
"""Entries that are set in one round."""
SMALL_SETS = 400
"""The same of a small cache."""
HITS = 20_000


class Figures(NamedTuple):
    """Microseconds, and statements of one set."""

    p50: float
    p99: float
    mean: float
    hit: float
    hit_without_memory: float
    statements: float


class Filled:
    """A full cache of one policy, and what was measured of it."""

    def __init__(self, folder: str, policy: str, limit: str, entries: int = ENTRIES) -> None:
        limits = {"size_limit": BYTES} if limit == "size" else {"count_limit": entries}
        self.directory = str(Path(folder, policy))
        self.settings: dict[str, Any] = {"eviction_policy": policy, **limits}
        self.cache = Cache(self.directory, **self.settings)
        self.dice = random.Random(7)
        self.payload = self.dice.randbytes(VALUE)
        self.made = 0
        self.entries = entries
        self.clock: Callable[[], float] = perf_counter
        self.times: list[float] = []
        self.hits: dict[int, list[float]] = {0: [], 1: []}
        while len(self.cache) == self.made:
            self.cache.set(self.fresh(), self.payload)
        for _ in range(2 * len(self.cache)):
            self.cache.set(self.fresh(), self.payload)

    def fresh(self) -> str:
        self.made += 1
        return f"key-{self.made * 2654435761 % 2**32:010d}"

    def some(self) -> str:
        """Return the key of an entry that was set not long ago, some more often than others."""
        back = int(min(self.dice.paretovariate(0.7), self.entries))
        return f"key-{max(self.made - back, 1) * 2654435761 % 2**32:010d}"

    def set_some(self, reads: int, number: int = SETS) -> None:
        store, get, payload, times = self.cache.set, self.cache.get, self.payload, self.times
        clock = self.clock
        for _ in range(number):
            for _ in range(reads):
                get(self.some())
            key = self.fresh()
            began = clock()
            store(key, payload)
            times.append(clock() - began)

    def hit_some(self) -> None:
        for with_memory in (0, 1):
            memory = {} if with_memory else {"memory_limit": 0}
            cache = Cache(self.directory, **self.settings, **memory)
            keys = list(cache)[-100:]
            for key in keys * 2:
                cache.get(key)
            read, wanted = cache.get, keys * (HITS // 100 if with_memory else HITS // 1000)
            began = perf_counter()
            for key in wanted:
                read(key)
            self.hits[with_memory].append((perf_counter() - began) / len(wanted))
            cache.close()

    def statements(self, number: int = 500) -> float:
        """Return how many statements a set runs, on average."""
        seen = 0

        def note(*_: object) -> bool:
            nonlocal seen
            seen += 1
            return True

        engine: Any = self.cache._engine  # noqa: SLF001 - there is no other way to see them
        connection = engine._link().con  # noqa: SLF001
        connection.exec_trace = note
        times, self.times = self.times, []
        self.set_some(0, number)
        self.times = times
        connection.exec_trace = None
        return seen / number

    def spread(self) -> tuple[float, float, float]:
        """Return median, the time that 99 % are below, and mean of the sets, microseconds."""
        times = sorted(self.times)
        middle, late = times[len(times) // 2], times[len(times) * 99 // 100]
        return middle * 1e6, late * 1e6, statistics.fmean(times) * 1e6

    def figures(self) -> Figures:
        return Figures(
            *self.spread(),
            min(self.hits[1]) * 1e6,
            min(self.hits[0]) * 1e6,
            self.statements(),
        )


def measured(limit: str, rounds: int, reads: int, only: str) -> dict[str, Figures]:
    with tempfile.TemporaryDirectory() as folder:
        caches = {name: Filled(folder, name, limit) for name in POLICIES if only in name}
        turns: list[Callable[[Filled], None]] = [
            lambda cache: cache.set_some(reads),
            lambda cache: cache.hit_some(),
        ]
        for _ in range(rounds):
            for turn in turns:
                for cache in caches.values():
                    turn(cache)
        found = {name: cache.figures() for name, cache in caches.items()}
        for cache in caches.values():
            cache.cache.close()
        return found


def hits_in_memory(rounds: int) -> list[tuple[str, ...]]:
    """Return for each policy nanoseconds of a hit by `get` and by `[]`, and multiples."""
    keys = [f"key-{number:08d}" for number in range(100)]
    ways: dict[str, Callable[[Cache], Callable[[str], object]]] = {
        "get": lambda cache: cache.get,
        "[]": lambda cache: cache.__getitem__,
    }
    best = {(name, way): float("inf") for name in POLICIES for way in ways}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        caches: dict[str, Cache] = {}
        for name in POLICIES:
            cache = stack.enter_context(Cache(Path(folder, name), eviction_policy=name))
            cache.set_many(dict.fromkeys(keys, "a value"))
            for key in keys * 8:  # Each is in memory, and noted as often as it is to be.
                cache.get(key)
            caches[name] = cache
        for _ in range(rounds):
            for (name, way), least in best.items():
                read, wanted = ways[way](caches[name]), keys * 20
                began = process_time()
                for key in wanted:
                    read(key)
                best[name, way] = min(least, (process_time() - began) / len(wanted))
    lines = [("hit in memory, ns", *(cell for way in ways for cell in (way, "ratio")))]
    for name in POLICIES:
        found = [(best[name, way], best[POLICIES[0], way]) for way in ways]
        cells = (cell for own, base in found for cell in (f"{own * 1e9:.0f}", f"{own / base:.2f}"))
        lines.append((name, *cells))
    return lines


def sets_into_small(entries: list[int], rounds: int, reads: int) -> list[tuple[str, ...]]:
    """Return for each size and policy microseconds of a `set`, and multiples of the first."""
    lines = [("entries", "policy", "set p50", "ratio", "p99", "ratio", "mean", "ratio")]
    for number in entries:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            caches = {name: Filled(folder, name, "count", number) for name in POLICIES}
            for cache in caches.values():
                stack.callback(cache.cache.close)
                cache.clock = process_time
            for _ in range(rounds):
                for cache in caches.values():
                    cache.set_some(reads, SMALL_SETS)
        base = caches[POLICIES[0]].spread()
        for name, cache in caches.items():
            cells = (
                cell
                for own, least in zip(cache.spread(), base, strict=True)
                for cell in (f"{own:.0f}", f"{own / least:.2f}")
            )
            lines.append((str(number), name, *cells))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--limit", choices=("size", "count"), default="size")
    parser.add_argument("--rounds", type=int, help="default: 8; with --hits 100")
    parser.add_argument("--reads", type=int, default=2, help="reads between two sets")
    parser.add_argument("--only", default="", help="policies whose names contain this")
    parser.add_argument("--hits", action="store_true", help="only hits in memory, beside another")
    parser.add_argument(
        "--entries", type=int, nargs="+", metavar="N", help="only sets, into caches of N entries"
    )
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    # Of small caches it says that they are small.
    logging.getLogger("diskcache").setLevel(logging.ERROR)
    if options.hits:
        print(aligned(hits_in_memory(options.rounds or 100)))
        return
    rounds = options.rounds or 8
    if options.entries:
        print(aligned(sets_into_small(options.entries, rounds, options.reads)))
        return
    found = measured(options.limit, rounds, options.reads, options.only)
    header = ("policy", "set p50", "p99", "mean", "hit", "hit, no memory", "statements")
    lines = [
        (name, *(f"{value:.2f}" if 0 < value < 3 else f"{value:.1f}" for value in figures))
        for name, figures in found.items()
    ]
    print(aligned([header, *lines]))
    if options.json:
        Path(options.json).write_text(
            json.dumps({name: figures._asdict() for name, figures in found.items()}, indent=1)
        )


if __name__ == "__main__":
    main()
