"""What type checkers know about `AsyncCache` and its kin. Checked, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, assert_type

from diskcache import (
    AsyncCache,
    AsyncDeque,
    AsyncFanoutCache,
    AsyncIndex,
    AsyncLock,
    AsyncSemaphore,
    Cache,
    CacheInfo,
    Disk,
    FanoutCache,
)

Tag = str | bytes | int | float | None


async def reading(cache: AsyncCache) -> None:
    assert_type(await cache.get("k"), Any)
    assert_type(await cache.get("k", expire_time=True), tuple[Any, float | None])
    assert_type(await cache.get("k", tag=True), tuple[Any, Tag])
    assert_type(await cache.get("k", expire_time=True, tag=True), tuple[Any, float | None, Tag])
    assert_type(await cache.pop("k", tag=True), tuple[Any, Tag])
    assert_type(await cache.pull("q", expire_time=True), tuple[Any, float | None])
    assert_type(await cache.peek(expire_time=True), tuple[Any, float | None])
    assert_type(await cache.peekitem(expire_time=True, tag=True), tuple[Any, float | None, Tag])
    assert_type(await cache.contains("k"), bool)
    assert_type(await cache["k"], Any)
    assert_type(await cache.get_many(["a"]), dict[Any, Any])
    await cache.get()  # type: ignore[call-overload]
    await cache.get("k", unknown=1)  # type: ignore[call-overload]


async def writing(cache: AsyncCache, shards: AsyncFanoutCache) -> None:
    assert_type(await cache.set("k", 1, expire=1.5, tag="t"), bool)
    assert_type(await cache.push(1, prefix="jobs"), int | str)
    assert_type(await shards.push(1, prefix="jobs"), int | str | None)
    assert_type(await cache.set_many({"a": 1}), int)
    assert_type(await cache.delete_many(["a"]), int)
    await cache.set()  # type: ignore[call-arg]
    await cache.set("k", 1, unknown=1)  # type: ignore[call-arg]
    await cache.expire(retry="no")  # type: ignore[arg-type]


async def number() -> int:
    return 1


async def the_rest(cache: AsyncCache, shards: AsyncFanoutCache) -> None:
    assert_type(await cache.stats(), tuple[int, int])
    assert_type(await cache.info(), CacheInfo)
    assert_type(cache.disk, Disk)
    assert_type(cache.size_limit, float)
    assert_type(cache.sync, Cache)
    assert_type(shards.sync, FanoutCache)
    assert_type(cache.items(), AsyncIterator[tuple[Any, Any]])
    assert_type(shards.cache("users"), AsyncCache)
    assert_type(shards.deque("names"), AsyncDeque)
    assert_type(shards.index("births"), AsyncIndex)
    assert_type(await cache.get_or_set("k", number), int)
    async for key, value in cache.items(tag="t"):
        assert_type((key, value), tuple[Any, Any])
    async with cache as same, cache.transact(retry=True) as nothing:
        assert_type(same, AsyncCache)
        assert_type(nothing, None)


async def structures(deque: AsyncDeque, index: AsyncIndex) -> None:
    assert_type(await deque.popleft(), Any)
    assert_type(await deque.count(1), int)
    assert_type(await index.popitem(), tuple[Any, Any])
    await deque.append()  # type: ignore[call-arg]


async def locks(cache: AsyncCache, ordinary: FanoutCache) -> None:
    async with AsyncLock(cache, "k") as nothing, AsyncSemaphore(ordinary, "s", value=2):
        assert_type(nothing, None)
    assert_type(await AsyncLock(cache, "k").acquire(timeout=1), int)


def memoizing(cache: AsyncCache) -> None:
    @cache.memoize(expire=60, tag="t")
    async def double(number: int, *, label: str = "") -> float:
        return number * 2.0

    assert_type(double.__cache_key__(1), tuple[Any, ...])
