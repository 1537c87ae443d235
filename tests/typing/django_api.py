"""What type checkers know about `DjangoCache`. Checked, never run."""

from __future__ import annotations

from typing import Any, assert_type

from diskcache import Cache, Deque, DjangoCache, FanoutInfo, Index


def synchronous(cache: DjangoCache) -> None:
    assert_type(cache.set("k", 1, timeout=60, tag="t", retry=False), bool)
    assert_type(cache.get("k", version=2), Any)
    assert_type(cache.get_many(["k"]), dict[Any, Any])
    assert_type(cache.set_many({"k": 1}, timeout=None), list[Any])
    assert_type(cache.incr_version("k"), int)
    assert_type(cache.get_backend_timeout(), float | None)
    assert_type(cache.evict("t"), int)
    assert_type(cache.stats(), tuple[int, int])
    assert_type(cache.info(), FanoutInfo)
    assert_type(cache.cache("c"), Cache)
    assert_type(cache.deque("d"), Deque)
    assert_type(cache.index("i"), Index)


async def asynchronous(cache: DjangoCache) -> None:
    assert_type(await cache.aset("k", 1, timeout=60, tag="t", retry=False), bool)
    assert_type(await cache.aget_many(["k"], version=2), dict[Any, Any])
    assert_type(await cache.aset_many({"k": 1}), list[Any])
    assert_type(await cache.aclear(), int)


def memoizing(cache: DjangoCache) -> None:
    @cache.memoize(timeout=60)
    def double(number: int) -> str:
        return str(2 * number)

    assert_type(double(1), str)
    assert_type(double.__cache_key__(1), tuple[Any, ...])
