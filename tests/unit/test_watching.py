"""Listening and bypassing leave no trace, reach tasks, and leave alone what may lose nothing."""

from __future__ import annotations

import asyncio
import sys

import pytest

from diskcache import (
    AsyncCache,
    Averager,
    Cache,
    CacheFullError,
    Deque,
    Event,
    FanoutCache,
    Index,
    Lock,
)
from diskcache.engines.sqlite.engine import SqliteEngine
from diskcache.testing import faulty


def frames_of(call):
    names = []
    sys.setprofile(lambda frame, event, _: event == "call" and names.append(frame.f_code.co_name))
    try:
        call()
    finally:
        sys.setprofile(None)
    return [name for name in names if name not in ("<lambda>", "__exit__")]


def paths(cache, new="new"):
    cache["k"] = cache["n"] = 1
    for _ in range(3):
        cache.get("k")
    return [
        frames_of(lambda: cache.get("k")),
        frames_of(lambda: cache.set("k", 1)),
        frames_of(lambda: cache.get(new)),
        frames_of(lambda: cache.delete("k")),
        frames_of(lambda: cache.incr("n")),
    ]


@pytest.mark.usefixtures("no_looks")
@pytest.mark.parametrize("kind", [Cache, FanoutCache])
def test_paths_are_those_of_a_cache_that_nobody_ever_listened_to(tmp_path, kind):
    with kind(tmp_path / "a") as cache, kind(tmp_path / "b") as other:
        off = other.on("hit", print)
        with other.bypass():
            assert paths(other) != paths(cache)
        off()
        other.clear()
        cache.clear()

        # The first use of a shard looks at its directory too, the second one of a key at memory.
        assert any(paths(other, new) == paths(cache, new) for new in "abcdefgh")
        part = getattr(other, "_shards", [other])[0]
        assert type(part._engine) is SqliteEngine
        assert part._shown is part._switch is None


def test_victims_in_other_shards_are_told_as_those_of_the_write(tmp_path):
    with FanoutCache(tmp_path / "a", shards=4, count_limit=3) as cache:
        told = []
        cache.on("cull", told.append)
        for number in range(40):
            cache[number] = 0

        assert sum(event.count for event in told) == 37
        assert sum(event.young for event in told) == cache.info().culled_young == 37


def test_fanout_transaction_tells_when_all_shards_are_free(tmp_path):
    told = []
    with FanoutCache(tmp_path / "a", shards=4) as cache:

        def write(event):
            told.append(event.key)
            assert not any(shard.in_transaction() for shard in cache._shards)

        off = cache.on("set", write)
        with cache.transact():
            for number in range(8):
                cache[number] = 1
            assert told == []
        off()

    assert told == list(range(8))


def test_error_of_the_engine_is_told_and_raised(tmp_path):
    told = []
    full = CacheFullError("the disk is full")
    with Cache(tmp_path / "a") as cache, faulty(cache) as faults:
        off = cache.on("error", told.append)
        faults.fail("put", full)
        with pytest.raises(CacheFullError):
            cache["a"] = 1
        off()

    assert told == [Event("error", error=full)]


def test_bypass_of_a_task_is_not_that_of_another(tmp_path):
    async def main():
        async with AsyncCache(tmp_path / "a") as cache:
            await cache.set("a", 1)
            inside, leave = asyncio.Event(), asyncio.Event()

            async def bypassing():
                with cache.bypass():
                    inside.set()
                    found = await cache.get("a")
                    await leave.wait()
                    return found

            task = asyncio.create_task(bypassing())
            await inside.wait()
            beside = await cache.get("a")
            leave.set()
            return await task, beside, await cache.get("a")

    assert asyncio.run(main()) == (None, 1, 1)


def test_averages_are_neither_bypassed_nor_told(cache):
    told = []
    cache.on("set", told.append)
    averager = Averager(cache, "average")
    with cache.bypass():
        averager.add(1)
        averager.add(3)
        assert averager.get() == 2

    assert averager.pop() == 2
    assert told == []


def test_structures_and_locks_are_not_bypassed(tmp_path, monkeypatch):
    monkeypatch.setenv("DISKCACHE_DISABLE", "1")
    deque, index = Deque([1, 2], tmp_path / "deque"), Index(str(tmp_path / "index"), a=1)
    with Cache(tmp_path / "cache") as cache:
        lock, other = Lock(cache, "lock"), Index.fromcache(cache, b=2)
        with lock:
            assert lock.locked()

        assert (list(deque), dict(index), other["b"]) == ([1, 2], {"a": 1}, 2)
    deque._cache.close()
    index._cache.close()
