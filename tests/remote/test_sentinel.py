"""Sentinels: the cache finds the master that they name, also after another one took its place."""

from __future__ import annotations

import asyncio
import time

import pytest

from diskcache import DiskCacheError, ServerUnavailableError, aio, connect
from tests.support.sentinel import Watched
from tests.support.servers import need_server


@pytest.fixture
def watched():
    need_server()
    made = Watched()
    yield made
    made.remove()


def test_cache_goes_on_with_the_replica_that_sentinels_choose(watched):
    with connect(watched.url("test"), timeout=30) as cache:
        cache.set_many({number: number for number in range(100)}, tag="t")
        assert cache.push("job", prefix="jobs") == "jobs-500000000000000"
        watched.await_replica()
        watched.kill_master()
        wrong, done = [], None
        deadline = time.monotonic() + 60
        while done is None and time.monotonic() < deadline:
            try:
                done = cache.incr("after"), cache.get_many(range(100))
            except ServerUnavailableError:
                time.sleep(0.05)
            except DiskCacheError as exc:
                wrong.append(exc)
                time.sleep(0.05)

        assert done == (1, {number: number for number in range(100)})
        assert [type(exc).__name__ for exc in wrong if "replica" not in str(exc)] == []
        assert cache.pull(prefix="jobs") == ("jobs-500000000000000", "job")
        assert cache.evict("t") == 100
        assert watched.replica.client().info("replication")["role"] == "master"


def test_master_that_no_sentinel_knows_is_named(watched):
    with pytest.raises(ServerUnavailableError, match="No master found") as caught:
        connect(watched.url("test").replace("/watched", "/unknown"), timeout=1)
    assert "cannot be reached" in str(caught.value)


def test_sentinel_with_a_password_of_its_own_is_asked_with_that(watched):
    with watched.sentinel.client() as client:
        client.execute_command("ACL", "SETUSER", "asks", "on", ">word", "~*", "&*", "+@all")
        client.execute_command("ACL", "SETUSER", "default", "off")
    url = watched.url("test")
    with pytest.raises(ServerUnavailableError):
        connect(url, timeout=1)
    named = f"{url}&sentinel_username=asks&sentinel_password=word"
    with connect(named, timeout=30) as cache:
        cache["k"] = 1
        assert cache["k"] == 1
        assert "word" not in cache.directory.replace("password", "")
    assert asyncio.run(leave(aio.connect(named, timeout=30), "k")) == 1


def test_sentinel_that_is_away_is_passed_over(watched):
    address = watched.url("test").replace("//", "//127.0.0.1:1,")
    with connect(address, timeout=30) as cache:
        cache["k"] = 1
        assert cache["k"] == 1


async def numbers_after(cache, wrong):
    """Ask until the cache goes on; note what is raised that nobody expects meanwhile."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await cache.incr("after"), await cache.get_many(range(100))
            except ServerUnavailableError:
                pass
            except DiskCacheError as exc:
                if "replica" not in str(exc):
                    wrong.append(exc)
            await asyncio.sleep(0.05)


def test_event_loop_goes_on_with_the_replica_that_sentinels_choose(watched):
    wrong, found = [], []

    async def main():
        async with aio.connect(watched.url("test"), timeout=30) as cache:
            await cache.set_many({number: number for number in range(100)}, tag="t")
            assert await cache.push("job", prefix="jobs") == "jobs-500000000000000"
            assert await cache.get_or_set("made", lambda: 5) == 5
            watched.await_replica()
            watched.kill_master()
            found.append(await numbers_after(cache, wrong))
            # Tasks that come at once find the same master.
            assert set(await asyncio.gather(*[cache.get(5) for _ in range(100)])) == {5}
            assert await cache.pull(prefix="jobs") == ("jobs-500000000000000", "job")
            assert await cache.evict("t") == 100
        # Another loop, with connections of its own.
        return cache

    cache = asyncio.run(main())
    assert found == [(1, {number: number for number in range(100)})]
    assert wrong == []
    assert asyncio.run(leave(cache, "made")) == 5
    assert watched.replica.client().info("replication")["role"] == "master"


async def leave(cache, key):
    """Read a key in a loop of its own, and close the connections of that."""
    async with cache:
        return await cache.get(key)


def test_event_loop_is_told_of_a_master_that_no_sentinel_knows(watched):
    url = watched.url("test").replace("/watched", "/unknown")
    with pytest.raises(ServerUnavailableError, match="No master found"):
        asyncio.run(leave(aio.connect(url, timeout=1), "k"))


def test_event_loop_passes_over_a_sentinel_that_is_away(watched):
    url = watched.url("test").replace("//", "//127.0.0.1:1,")
    with connect(url, timeout=30) as cache:
        cache["k"] = 1
    assert asyncio.run(leave(aio.connect(url, timeout=30), "k")) == 1
