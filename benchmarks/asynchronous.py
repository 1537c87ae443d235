"""Rows for event loops: this version's `AsyncCache`, and 5.6.3 in the threads of the loop.

That is what users of 5.6.3 write: `await loop.run_in_executor(None, cache.get, key)`. As
`operations`, this module runs under both versions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from operations import HOT, Bench, Place, Row, fill, repeated, value_of

AT_ONCE = 100
"""Operations that tasks wait for at the same time."""


class Threaded:
    """A cache of version 5 as its users await it."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    async def get(self, key: str) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, self._cache.get, key)

    async def set(self, key: str, value: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, self._cache.set, key, value)

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        get = self._cache.get
        return await asyncio.get_running_loop().run_in_executor(
            None, lambda: {key: get(key) for key in keys}
        )

    async def aclose(self) -> None:
        self._cache.close()


def awaited(cache: Any) -> Any:
    """Return the cache as the users of its version await it."""
    try:
        from diskcache import AsyncCache
    except ImportError:
        return Threaded(cache)
    return AsyncCache(cache)


def in_a_loop(
    work: Callable[[Any, list[str]], Awaitable[object]],
    hot: bool = True,
    **settings: Any,
) -> Callable[[Place], Bench]:
    """Return a row that does *work* in a loop that has been running for a while."""

    def make(place: Place) -> Bench:
        ordinary = place.cache(**settings)
        keys = fill(ordinary)
        chosen = repeated(keys[:HOT] if hot else keys, place.n)
        cache = awaited(ordinary)
        loop = asyncio.new_event_loop()

        def run() -> None:
            loop.run_until_complete(work(cache, chosen))

        def close() -> None:
            loop.run_until_complete(cache.aclose())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            ordinary.close()

        run()
        return Bench(run, len(chosen), close=close)

    return make


async def get_each(cache: Any, keys: list[str]) -> None:
    get = cache.get
    for key in keys:
        await get(key)


async def set_each(cache: Any, keys: list[str]) -> None:
    for number, key in enumerate(keys):
        await cache.set(key, value_of(number))


async def get_together(cache: Any, keys: list[str]) -> None:
    for start in range(0, len(keys), AT_ONCE):
        await asyncio.gather(*[cache.get(key) for key in keys[start : start + AT_ONCE]])


async def set_together(cache: Any, keys: list[str]) -> None:
    for start in range(0, len(keys), AT_ONCE):
        chosen = keys[start : start + AT_ONCE]
        await asyncio.gather(*[cache.set(key, value_of(n)) for n, key in enumerate(chosen)])


async def get_many(cache: Any, keys: list[str]) -> None:
    for start in range(0, len(keys), AT_ONCE):
        await cache.get_many(keys[start : start + AT_ONCE])


def without_memory(
    work: Callable[[Any, list[str]], Awaitable[object]],
) -> Callable[[Place], Bench]:
    """Return a row in which every read goes to the database."""

    def make(place: Place) -> Bench:
        try:
            import diskcache

            _ = diskcache.AsyncCache
        except AttributeError:
            return in_a_loop(work, hot=False)(place)
        return in_a_loop(work, hot=False, memory_limit=0)(place)

    return make


ROWS = (
    Row("async get, hot", 20_000, in_a_loop(get_each), final=10),
    Row("async get, from the database", 2000, without_memory(get_each), final=1.5),
    Row("async set, key exists", 2000, in_a_loop(set_each), final=1.5),
    Row("async get, 100 at once", 5000, without_memory(get_together), final=1.5),
    Row("async set, 100 at once", 5000, in_a_loop(set_together), final=1.5),
    Row("async get_many, 100 keys", 10_000, without_memory(get_many), final=1.5),
)
