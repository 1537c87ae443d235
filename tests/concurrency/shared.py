"""Objects that threads and processes share in the tests of start methods, and what they do."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from diskcache import (
    Averager,
    BoundedSemaphore,
    Cache,
    Deque,
    FanoutCache,
    Index,
    Lock,
    RLock,
    Semaphore,
    barrier,
    memoize_stampede,
    throttle,
)
from tests.support.crew import in_threads

STEPS = 15
"""How often each thread uses each object."""
THREADS = 2
LARGE = 40_000

MODULE = "memoized_by_a_test"
SOURCE = """
from pathlib import Path
from diskcache import Cache, FanoutCache, Index
here = Path({directory!r})
def noted(name, number):
    with open(here / 'calls', 'a') as file:
        print(name, number, file=file)
    return number * 2
owners = [Cache(here / 'a'), FanoutCache(here / 'b', 2), Index(here / 'c')]
@owners[0].memoize()
def by_cache(number):
    return noted('cache', number)
@owners[1].memoize(expire=6000)
def by_fanout(number):
    return noted('fanout', number)
@owners[2].memoize()
def by_index(number):
    return noted('index', number)
"""


class Kind(NamedTuple):
    """A kind of object: how it is made and used, and what it holds after so many uses."""

    make: Callable[[Path], Any]
    use: Callable[[Any, Any, int], object]
    """Called with the object, the name of the thread, and the number of the step."""
    left: Callable[[Any], Any]
    """What there is to see afterwards."""
    expected: Callable[[list[Any], int], Any]
    """What that is after threads of these names have each done so many steps."""


def _count(cache: Any, name: Any, step: int) -> None:
    cache.incr("total")
    cache[name, step] = bytes([step]) * LARGE
    assert cache[name, step] == bytes([step]) * LARGE


def _counted(cache: Any) -> Any:
    return cache["total"], len(cache), len(cache.check())


def _put(deque: Deque, name: Any, step: int) -> None:
    deque.append((name, step))
    deque.rotate(1)


def _store(index: Index, name: Any, step: int) -> None:
    index[name, step] = step
    index.setdefault((name, "first"), step)


def _guard(pair: Any, name: Any, step: int) -> None:
    """Change a number in two steps, which only the lock keeps together."""
    lock, cache = pair
    with lock:
        cache["number"] = cache["number"] + 1


def _guarded(kind: Any) -> Kind:
    def make(directory: Path) -> Any:
        cache = Cache(directory)
        cache["number"] = 0
        return kind(cache, "lock"), cache

    return Kind(
        make,
        _guard,
        lambda pair: (pair[1]["number"], pair[0].locked()),
        lambda names, steps: (len(names) * steps, False),
    )


def _sums(directory: Path) -> Any:
    return Averager(Cache(directory), "average")


def _functions(directory: Path) -> Any:
    module = importlib.import_module(MODULE)
    return [module.by_cache, module.by_fanout, module.by_index]


def _call(functions: Any, name: Any, step: int) -> None:
    assert [function(step) for function in functions] == [step * 2] * 3


def _decorated(cache: Any, name: Any, step: int) -> None:
    """Decorators are made where they are used; what they share is in the cache."""

    @barrier(cache, RLock, name="barrier")
    def add() -> None:
        cache["number"] = cache.get("number", 0) + 1

    @throttle(cache, count=10_000, seconds=1, name="throttle")
    def ask() -> int:
        return step

    @memoize_stampede(cache, expire=6000, name="stampede")
    def once(number: int) -> int:
        return number

    add()
    assert (ask(), once(step)) == (step, step)


KINDS = {
    "Cache": Kind(
        Cache,
        _count,
        _counted,
        lambda names, steps: (total(names, steps), 1 + total(names, steps), 0),
    ),
    "FanoutCache": Kind(
        lambda directory: FanoutCache(directory, 3),
        _count,
        _counted,
        lambda names, steps: (total(names, steps), 1 + total(names, steps), 0),
    ),
    "Deque": Kind(
        lambda directory: Deque(directory=directory),
        _put,
        lambda deque: sorted(deque),
        lambda names, steps: sorted((name, step) for name in names for step in range(steps)),
    ),
    "Index": Kind(
        Index,
        _store,
        lambda index: (len(index), sum(index[key] for key in index if key[1] == "first")),
        lambda names, steps: (total(names, steps) + len(names), 0),
    ),
    "Lock": _guarded(Lock),
    "RLock": _guarded(RLock),
    "BoundedSemaphore": _guarded(BoundedSemaphore),
    "Semaphore": _guarded(Semaphore),
    "Averager": Kind(
        _sums,
        lambda averager, _, step: averager.add(step),
        lambda averager: averager.get(),
        lambda _, steps: (steps - 1) / 2,
    ),
    "memoized": Kind(
        _functions,
        _call,
        lambda functions: [function(1) for function in functions],
        lambda *_: [2, 2, 2],
    ),
    "decorators": Kind(
        Cache,
        _decorated,
        lambda cache: cache["number"],
        lambda names, steps: total(names, steps),
    ),
}


def close(objects: dict[str, Any]) -> None:
    """Close the caches behind objects; they connect again if they are used once more."""
    for name, thing in objects.items():
        if name == "memoized":
            owners = importlib.import_module(MODULE).owners
        else:
            owners = [thing[1] if isinstance(thing, tuple) else thing]
        for owner in owners:
            cache = owner
            while not hasattr(cache, "close"):
                cache = cache._cache
            cache.close()


def total(names: list[Any], steps: int) -> int:
    """Return how many steps there were."""
    return len(names) * steps


def use_in_threads(objects: dict[str, Any], process: int) -> list[Any]:
    """Use all objects in several threads; return the names of the threads."""
    names = [f"{process}-{thread}" for thread in range(THREADS)]

    def work(name: str) -> None:
        for step in range(STEPS):
            for kind, thing in objects.items():
                KINDS[kind].use(thing, name, step)

    in_threads(*[lambda name=name: work(name) for name in names])
    return names


def use_given(objects: dict[str, Any], process: int) -> tuple[list[Any], bytes]:
    """Use objects that were pickled, or inherited; return names of threads, and the objects."""
    names = use_in_threads(objects, process)
    return names, pickle.dumps(objects)
