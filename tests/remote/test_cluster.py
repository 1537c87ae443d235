"""A cluster answers rightly or not at all, while a slot moves and while a master dies."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from redis.crc import key_slot

from diskcache import DiskCacheError, ServerUnavailableError, aio, connect
from tests.support.cluster import Cluster
from tests.support.servers import need_server


@pytest.fixture(scope="module")
def cluster():
    need_server()
    made = Cluster()
    yield made
    made.remove()


@pytest.fixture
def cache(cluster, request):
    with connect(cluster.url(f"test-{request.node.name}"), timeout=30) as cache:
        yield cache
        cache.clear()


@pytest.fixture
def doomed_cluster():
    """A cluster of one test, which kills a part of it."""
    need_server()
    made = Cluster()
    yield made
    made.remove()


def test_every_kind_of_operation_works(cache):
    cache.set_many({number: number for number in range(100)}, tag="even")
    cache.set("other", [1], tag="odd", expire=60)

    assert len(cache) == 101
    assert cache.get_many(range(50, 60)) == {number: number for number in range(50, 60)}
    assert sorted(cache.keys(tag="even")) == list(range(100))
    assert cache.incr("count") + cache.incr("count", 2**62) == 2**62 + 2
    assert [cache.push(value, prefix="jobs") for value in "ab"] == [
        "jobs-500000000000000",
        "jobs-500000000000001",
    ]
    assert cache.pull(prefix="jobs") == ("jobs-500000000000000", "a")
    assert cache.pop("other", tag=True) == ([1], "odd")
    assert list(cache.iterkeys(prefix="jobs")) == ["jobs-500000000000001"]
    assert cache.evict("even") == 100
    assert cache.check() == []
    assert cache.clear() == 2
    assert len(cache) == 0


def test_every_kind_of_operation_is_awaited(cluster, cache, monkeypatch):
    def start(self):
        raise AssertionError(f"a thread was started: {self.name}")

    async def main():
        async with aio.connect(
            cluster.url(cache._namespace), timeout=30, memory_limit=0
        ) as awaited:
            await awaited.set_many({number: number for number in range(300)}, tag="even")
            found = await asyncio.gather(*(awaited.get(number) for number in range(300)))
            listed = [key async for key in awaited.keys(tag="even")]
            pushed = await awaited.push("job", prefix="jobs"), await awaited.pull(prefix="jobs")
            evicted, left = await awaited.evict("even"), await awaited.len()
            return found, sorted(listed), pushed, evicted, left, await awaited.check()

    monkeypatch.setattr(threading.Thread, "start", start)
    found, listed, pushed, evicted, left, findings = asyncio.run(main())

    assert found == listed == list(range(300))
    assert pushed == ("jobs-500000000000000", ("jobs-500000000000000", "job"))
    assert (evicted, left, findings) == (300, 0, [])


def test_entries_are_spread_over_all_masters(cluster, cache):
    cache.set_many({number: number for number in range(300)})
    sizes = [cluster.run(number, "DBSIZE") for number in range(3)]

    assert all(sizes)
    assert cache.info().sqlite.startswith("Redis")


def test_entry_written_again_with_another_tag_leaves_the_old_one(cache):
    for tag in ("a", "b", None, "c"):
        cache.set("key", tag, tag=tag)

    assert cache.evict("a") + cache.evict("b") == 0
    assert cache["key"] == "c"
    assert cache.evict("c") == 1
    assert "key" not in cache


def count(cache, key, done, wrong):
    """Count up, and note what the counter cannot have been."""
    known = possible = 0
    while not done.is_set():
        try:
            found = cache[key]
            if not known <= found <= possible:
                wrong.append((key, known, found, possible))
            known, possible = found, possible + 1
            known = cache.incr(key)
        except ServerUnavailableError:
            pass
        except (DiskCacheError, KeyError) as exc:
            wrong.append(exc)


def test_answers_are_right_while_a_slot_moves(cluster, cache):
    """Each counter belongs to one thread: it may fail to move, but never falls or jumps."""
    shard = cache._engine.parts[5]
    keys = [number for number in range(600) if cache._engine._place((number, 1))[0] is shard]
    slot = key_slot(shard.versions)
    source = cluster.owner_of(slot)
    cache.set_many(dict.fromkeys(keys, 0), tag="t")
    wrong, done = [], threading.Event()
    counters = [threading.Thread(target=count, args=(cache, key, done, wrong)) for key in keys[:3]]
    for thread in counters:
        thread.start()
    cluster.move(slot, source, (source + 1) % 3, lambda: time.sleep(0.01))
    done.set()
    for thread in counters:
        thread.join(60)

    assert wrong == []
    assert cluster.run((source + 1) % 3, "CLUSTER", "COUNTKEYSINSLOT", slot) > len(keys)
    assert cache.get_many(keys[3:]) == dict.fromkeys(keys[3:], 0)
    assert cache.evict("t") == len(keys)


def test_replica_takes_the_place_of_a_master_that_is_killed(doomed_cluster):
    with connect(doomed_cluster.url("test"), timeout=30) as cache:
        kill_and_go_on(doomed_cluster, cache)


def kill_and_go_on(cluster, cache):
    cache.set_many({number: number for number in range(200)})
    # What the replica has not received when its master dies would be lost.
    cluster.await_replica()
    wrong, after = [], []

    cluster.kill_first()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(after) < 200:
        try:
            after = [cache[number] for number in range(200)]
            cache.set_many({number: number for number in range(200, 400)})
        except ServerUnavailableError:
            after = []
            time.sleep(0.05)
        except KeyError as exc:
            wrong.append(exc)
            break

    assert wrong == []
    assert after == list(range(200))
    assert [cache[number] for number in range(200, 400)] == list(range(200, 400))


def test_replica_takes_the_place_of_a_master_also_in_an_event_loop(doomed_cluster):
    async def main():
        async with aio.connect(doomed_cluster.url("test"), timeout=30) as cache:
            return await kill_and_await(doomed_cluster, cache)

    after, later = asyncio.run(main())

    assert after == list(range(200))
    assert later == {number: number for number in range(200, 400)}


async def kill_and_await(cluster, cache):
    await cache.set_many({number: number for number in range(200)})
    cluster.await_replica()
    cluster.kill_first()
    async with asyncio.timeout(60):
        while True:
            try:
                after = await asyncio.gather(*(cache.getitem(number) for number in range(200)))
                await cache.set_many({number: number for number in range(200, 400)})
            except ServerUnavailableError:
                await asyncio.sleep(0.05)
            else:
                return after, await cache.get_many(range(200, 400))
