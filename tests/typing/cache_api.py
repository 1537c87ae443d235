"""What type checkers know about `Cache`. Checked, never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_type

from diskcache import Cache, CacheInfo, Disk

Tag = str | bytes | int | float | None


def reading(cache: Cache) -> None:
    assert_type(cache.get("k"), Any)
    assert_type(cache.get("k", expire_time=True), tuple[Any, float | None])
    assert_type(cache.get("k", tag=True), tuple[Any, Tag])
    assert_type(cache.get("k", expire_time=True, tag=True), tuple[Any, float | None, Tag])
    assert_type(cache.pop("k"), Any)
    assert_type(cache.pop("k", expire_time=True), tuple[Any, float | None])
    assert_type(cache.pop("k", tag=True), tuple[Any, Tag])
    assert_type(cache.pop("k", expire_time=True, tag=True), tuple[Any, float | None, Tag])
    assert_type(cache.pull("q", tag=True), tuple[Any, Tag])
    assert_type(cache.peek(expire_time=True), tuple[Any, float | None])
    assert_type(cache.peekitem(expire_time=True, tag=True), tuple[Any, float | None, Tag])
    assert_type("k" in cache, bool)
    assert_type(cache["k"], Any)
    assert_type(Cache.get(cache, "k", tag=True), tuple[Any, Tag])
    cache.get()  # type: ignore[call-overload]
    cache.get("k", unknown=1)  # type: ignore[call-overload]


def writing(cache: Cache) -> None:
    assert_type(cache.set("k", 1, expire=1.5, tag="t"), bool)
    assert_type(cache.add("k", 1), bool)
    assert_type(cache.touch("k"), bool)
    assert_type(cache.delete("k"), bool)
    assert_type(cache.push(1, prefix="jobs"), int | str)
    assert_type(cache.set_many({"a": 1}), int)
    assert_type(cache.get_many(["a"]), dict[Any, Any])
    assert_type(cache.delete_many(["a"]), int)


def the_rest(cache: Cache) -> None:
    assert_type(cache.stats(), tuple[int, int])
    assert_type(cache.volume(), int)
    assert_type(cache.info(), CacheInfo)
    assert_type(cache.disk, Disk)
    assert_type(cache.items(), Iterator[tuple[Any, Any]])
    with cache as same, cache.transact() as nothing:
        assert_type(same, Cache)
        assert_type(nothing, None)


def memoizing(cache: Cache) -> None:
    @cache.memoize(expire=60, tag="t")
    def double(number: int, *, label: str = "") -> float:
        return number * 2.0

    assert_type(double(1, label="x"), float)
    assert_type(double.__cache_key__(1), tuple[Any, ...])
    double("text")  # type: ignore[arg-type]
