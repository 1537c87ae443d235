"""Replays a trace through one cache: `get`, and `set` after a miss.

Runs in the environment of this project, and in that of version 5.6.3, as a worker for each cell.
A row is named by what the cache is, its limit, and how many processes share it.

Many processes: request i is that of process i modulo their number. They work at once, each with a
cache object of its own on one directory, and meet after every `RUN` requests of each, so that none
is ahead of another by more than that and the order is nearly that of the trace.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from eviction_traces import Trace, read
from operations import Bench, Place, Row
from worker import serve, versions

TRACE = "DISKCACHE_BENCH_TRACE"
"""Variable that names the file of the trace."""
RUN = 16
"""Requests that each process does before it waits for the others."""
SEPARATOR = "/"
MODEL = "model of "
"""A contender that is a model of a policy, see `eviction_model`."""
OPTIMUM = "Belady"
OLD_MARK = "5.6.3 "
LEFT = "rows left"
"""Entries after a replay."""

Call = Callable[..., Any]


class Store(NamedTuple):
    """A cache that is open."""

    get: Call
    """Returns None on a miss."""
    set: Call
    count: Callable[[], int]
    """Returns how many entries there are."""


class Wanted(NamedTuple):
    """What cache to open."""

    directory: str
    policy: str
    limit: int
    by_bytes: bool


class Tally(NamedTuple):
    """How a replay went."""

    misses: int = 0
    missed_bytes: int = 0
    wrong: int = 0
    """Hits that gave another value than was stored."""


class Requests(NamedTuple):
    """A trace, and what is stored."""

    trace: Trace
    filler: bytes
    """As long as the largest value."""

    def value(self, place: int) -> Any:
        """Return what belongs to a request: the key again, or as many bytes as the trace says."""
        sizes = self.trace.sizes
        return self.trace.keys[place] if sizes is None else self.filler[: sizes[place]]

    def size(self, place: int) -> int:
        return 1 if self.trace.sizes is None else self.trace.sizes[place]


def loaded(path: str, count: int) -> Requests:
    trace = read(Path(path), count)
    return Requests(trace, bytes(max(trace.sizes or array("i", [0]))))


# -- The caches --


@contextmanager
def current(wanted: Wanted) -> Iterator[Store]:
    """Open a cache of this version."""
    from diskcache import Cache

    limits = {"size_limit" if wanted.by_bytes else "count_limit": wanted.limit}
    with Cache(wanted.directory, eviction_policy=wanted.policy, **limits) as cache:
        yield Store(cache.get, cache.set, lambda: len(cache))


@contextmanager
def old(wanted: Wanted) -> Iterator[Store]:
    """Open a cache of version 5.6.3.

    It has no limit on the number of entries, but asks its public method `volume` how full it is,
    and removes `cull_limit` entries, ten, when that is not below its size limit. So `volume` is
    told to count entries, and the cache holds as many as wanted at most.
    """
    from diskcache import Cache

    class Counting(Cache):
        def volume(self) -> int:
            return len(self)

    kind, most = (Cache, wanted.limit) if wanted.by_bytes else (Counting, wanted.limit + 1)
    with kind(wanted.directory, eviction_policy=wanted.policy, size_limit=most) as cache:
        yield Store(cache.get, cache.set, lambda: len(cache))


@contextmanager
def theine(wanted: Wanted) -> Iterator[Store]:
    from theine import Cache

    cache: Any = Cache(wanted.limit)
    find = cache.get
    yield Store(lambda key: find(key)[0], cache.set, lambda: len(cache))
    cache.close()


@contextmanager
def cachebox(wanted: Wanted) -> Iterator[Store]:
    import cachebox as package

    kinds = {"LRU": package.LRUCache, "LFU": package.LFUCache}
    cache: Any = kinds[wanted.policy](wanted.limit)
    yield Store(cache.get, cache.__setitem__, lambda: len(cache))


@contextmanager
def model(wanted: Wanted) -> Iterator[Store]:
    from eviction_model import MODELS

    made = MODELS[wanted.policy](wanted.limit, by_bytes=wanted.by_bytes)
    yield Store(made.get, made.set, lambda: len(made))


PACKAGES = {"theine": theine, "cachebox": cachebox}
"""Caches in memory, which are of one process and count entries."""


def opener(contender: str) -> tuple[Call, str]:
    """Return what opens a contender, and the policy to open it with."""
    if contender.startswith(OLD_MARK):
        return old, contender.removeprefix(OLD_MARK)
    if contender.startswith(MODEL):
        return model, contender.removeprefix(MODEL)
    package, _, policy = contender.partition(" ")
    return (PACKAGES[package], policy) if package in PACKAGES else (current, contender)


# -- Replaying --


def replay(store: Store, requests: Requests, places: Sequence[int]) -> Tally:
    """Do some of the requests."""
    get, put, keys, value_of = store.get, store.set, requests.trace.keys, requests.value
    misses = missed = wrong = 0
    for place in places:
        key = keys[place]
        found = get(key)
        if found is None:
            misses += 1
            missed += requests.size(place)
            put(key, value_of(place))
        elif found != value_of(place):
            wrong += 1
    return Tally(misses, missed, wrong)


def total(tallies: Sequence[Tally]) -> Tally:
    return Tally(*map(sum, zip(*tallies, strict=True))) if tallies else Tally()


def child(
    opened: Call, requests: Requests, number: int, count: int, together: Any, results: Any
) -> None:
    """Do every *count*-th request, in step with the others."""
    done = []
    length = len(requests.trace.keys)
    try:
        with opened() as store:
            for start in range(number, length + number, count * RUN):
                places = range(start, min(start + count * RUN, length), count)
                done.append(replay(store, requests, places))
                together.wait()
    except Exception as error:  # noqa: BLE001 - whatever a version raises is its result
        together.abort()
        results.put(f"{type(error).__name__}: {error}")
    else:
        results.put(total(done))


def by_processes(opened: Call, requests: Requests, count: int) -> Tally:
    """Have processes share one directory."""
    context = multiprocessing.get_context("fork")
    together, results = context.Barrier(count), context.Queue()
    children = [
        context.Process(target=child, args=(opened, requests, number, count, together, results))
        for number in range(count)
    ]
    for process in children:
        process.start()
    found = [answer(results, children) for _ in children]
    for process in children:
        process.join()
    failed = [result for result in found if isinstance(result, str)]
    if failed:
        raise RuntimeError("; ".join(failed))
    return total(found)


def answer(results: Any, children: Sequence[Any]) -> Any:
    """Wait for a result; an error if a process ended without one."""
    while True:
        try:
            return results.get(timeout=1)
        except queue.Empty:
            if any(process.exitcode for process in children):
                return "a process was killed"


def row_named(name: str) -> Row:
    """Return the row called *name*."""
    contender, limit, count = name.split(SEPARATOR)

    def make(place: Place) -> Bench:
        requests = loaded(os.environ[TRACE], place.n)
        bench = Bench(lambda: None, len(requests.trace.keys))

        def run() -> None:
            if contender == OPTIMUM:
                bench.facts = looked_ahead(requests.trace, int(limit))
                return
            how, policy = opener(contender)
            directory = os.path.join(place.folder, "cache")
            by_bytes = requests.trace.sizes is not None
            wanted = Wanted(directory, policy, int(limit), by_bytes)
            bench.facts = replayed(lambda: how(wanted), requests, int(count))

        bench.run = run
        return bench

    return Row(name, 0, make)


def looked_ahead(trace: Trace, limit: int) -> dict[str, float]:
    """Return what is missed if the entry that is needed last goes first."""
    from eviction_model import farthest

    return Tally(*farthest(trace.keys, trace.sizes, limit))._asdict()


def replayed(opened: Call, requests: Requests, count: int) -> dict[str, float]:
    """Replay all; return the tally, and how many entries there are afterwards."""
    if count > 1:
        with opened():
            pass
        tally = by_processes(opened, requests, count)
        with opened() as store:
            return {**tally._asdict(), LEFT: store.count()}
    with opened() as store:
        tally = replay(store, requests, range(len(requests.trace.keys)))
        return {**tally._asdict(), LEFT: store.count()}


def hello() -> dict[str, Any]:
    """Return versions, those of the packages in memory too where they are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = versions()
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    serve(row_named, hello)
