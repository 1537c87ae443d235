"""What type checkers know about recipes and memoized functions. Checked, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from datetime import timedelta
from typing import Any, assert_type

from diskcache import (
    Averager,
    BoundedSemaphore,
    Cache,
    FanoutCache,
    Lock,
    RLock,
    Semaphore,
    barrier,
    memoize_stampede,
    throttle,
)


def locks(cache: Cache) -> None:
    for lock in (
        Lock(cache, "k", expire=5, tag="t"),
        RLock(cache, ("k", 1)),
        BoundedSemaphore(cache, "k", value=3),
        Semaphore(cache, "k", 0),
    ):
        assert_type(lock.acquire(), int)
        assert_type(lock.acquire(blocking=True, timeout=0.5), int)
        assert_type(lock.locked(), bool)
        lock.release()
        with lock as nothing:
            assert_type(nothing, None)
    BoundedSemaphore(cache, "k").release(2)
    Lock({}, "k")  # type: ignore[arg-type]


def averager(cache: Cache) -> None:
    numbers = Averager(cache, "k", expire=5)
    numbers.add(1)
    assert_type(numbers.get(), float | None)
    assert_type(numbers.pop(), float | None)


def decorators(cache: Cache) -> None:
    @barrier(cache, Lock, expire=5)
    def one(number: int) -> str:
        return str(number)

    @throttle(cache, count=2, seconds=1, blocking=False)
    def two(number: int) -> str:
        return str(number)

    @memoize_stampede(cache, expire=60, beta=0.5)
    def three(number: int, *, label: str = "") -> str:
        return label * number

    assert_type(one(1), str)
    assert_type(two(1), str)
    assert_type(three(1, label="x"), str)
    assert_type(three.__cache_key__(1), tuple[Any, ...])
    one("x")  # type: ignore[arg-type]
    two("x")  # type: ignore[arg-type]
    three("x")  # type: ignore[arg-type]


def computing(cache: Cache, shards: FanoutCache) -> None:
    assert_type(cache.get_or_set("k", lambda: 1, expire=timedelta(seconds=5), grace=9), int)
    assert_type(shards.get_or_set("k", lambda: "x", errors={KeyError: 5}), str)
    assert_type(cache.get_or_set_many(["a"], lambda keys: dict.fromkeys(keys, 1)), dict[Any, Any])
    assert_type(cache.get("k", version=True), tuple[Any, int | None])
    assert_type(cache.get("k", stale=True), Any)
    assert_type(cache.set("k", 1, if_version=3), bool)
    cache.set("k", 1, if_version="x")  # type: ignore[arg-type]
    cache.get_or_set("k", 1)  # type: ignore[arg-type]


def controls(cache: Cache) -> None:
    @cache.memoize(lock=True, refresh=0.5, expire=lambda number: number)
    def double(number: int) -> float:
        return number * 2.0

    assert_type(double(1), float)
    assert_type(double.refresh(1), float)
    assert_type(double.bypass(1), float)
    assert_type(double.invalidate(1), bool)
    assert_type(double.clear(), int)
    assert_type(double.cache_info().hits, int)
    double.invalidate("x")  # type: ignore[arg-type]

    @cache.memoize()
    def numbers(end: int) -> Iterator[int]:
        yield from range(end)

    assert_type(numbers(3), Iterator[int])


async def asynchronous(cache: Cache) -> None:
    @cache.memoize(lock=True)
    async def double(number: int) -> float:
        return number * 2.0

    assert_type(await double(1), float)
    assert_type(await double.refresh(1), float)
    assert_type(await double.invalidate(1), bool)
    assert_type(await double.clear(), int)
    assert_type(double.__cache_key__(1), tuple[Any, ...])
    await double("x")  # type: ignore[arg-type]

    @cache.memoize()
    async def numbers(end: int) -> AsyncGenerator[int, None]:
        for number in range(end):
            yield number

    async for number in numbers(3):
        assert_type(number, int)

    @barrier(cache, Lock)
    async def guarded(number: int) -> str:
        return str(number)

    assert_type(await guarded(1), str)


async def asynchronous_iterator(cache: Cache) -> None:
    @cache.memoize()
    async def words(end: int) -> AsyncIterator[str]:
        for number in range(end):
            yield str(number)

    async for word in words(3):
        assert_type(word, str)
    assert_type(await words.invalidate(3), bool)
