"""A server that evicts what it likes makes a cache forget, and never makes it lie."""

from __future__ import annotations

import random

import pytest

from diskcache import Deque, Index, Lock, ServerPolicyError, connect
from tests.support.servers import Server, need_server


@pytest.fixture(scope="module")
def forgetful():
    """A small server that may evict any key."""
    need_server()
    made = Server("--maxmemory", "5mb", "--maxmemory-policy", "allkeys-lru")
    yield made
    made.remove()


@pytest.fixture
def cache(forgetful):
    forgetful.client().flushall()
    with connect(forgetful.url()) as cache:
        yield cache


def test_full_cache_gives_what_was_stored_last_or_nothing(forgetful, cache):
    """What was cleared, evicted by tag or replaced never comes back, whatever the server keeps."""
    rng = random.Random(1)
    known = {}
    for number in range(6000):
        key, tag = rng.randrange(3000), f"tag-{rng.randrange(20)}"
        if number % 500 == 499:
            cache.evict(tag)
            known = {k: v for k, v in known.items() if v[1] != tag}
        elif number == 3000:
            cache.clear()
            known = {}
        elif rng.random() < 0.6:
            known[key] = (number, tag)
            cache.set(key, (number, b"x" * 8000), tag=tag)
        else:
            found = cache.get(key)
            assert found is None or (key in known and found[0] == known[key][0])
    evicted = forgetful.client().info("stats")["evicted_keys"]
    there = [key for key in known if key in cache]

    assert evicted > 500
    assert there
    assert all(cache[key][0] == known[key][0] for key in there)


@pytest.mark.parametrize("name", ["order", "keys", "times", "versions"])
def test_lists_and_versions_that_are_gone_lose_entries_at_most(cache, name):
    cache.set_many({"a": 1, "b": 2}, tag="t", expire=60)
    shard = cache._engine.parts[0]
    cache._engine.driver.command("DEL", getattr(shard, name))

    assert cache.get("a") in ((None,) if name == "versions" else (1,))
    cache.set("c", 3, tag="t")
    assert cache["c"] == 3
    cache.evict("t")
    assert not any(key in cache for key in "abc")


def test_version_of_a_tag_that_is_gone_makes_its_entries_misses(cache):
    cache.set("a", 1, tag="t")
    cache._engine.driver.command("DEL", cache._engine.parts[0].tag_version(b"2t"))

    assert "a" not in cache
    cache.set("b", 2, tag="t")
    assert cache.get("a") is None
    assert cache["b"] == 2


def test_check_finds_and_mends_lists(cache):
    cache.set_many({"a": 1, "b": 2, "c": 3}, tag="t")
    cache.set("d", 4, expire=60)
    shard, driver = cache._engine.parts[0], cache._engine.driver
    driver.command("ZREM", shard.order, b"2a", b"2d")
    driver.command("ZREM", shard.keys, b"2a")
    driver.command("DEL", shard.entry + b"2b")

    assert len(cache.check()) == 3
    cache.check(fix=True)
    assert cache.check() == []
    assert sorted(cache) == ["a", "c", "d"]
    assert list(cache.iterkeys()) == ["a", "c", "d"]
    assert cache.get("d", expire_time=True)[1] is not None


def test_lists_do_not_outgrow_the_entries(forgetful, cache):
    """Entries that the server evicts leave idents, which later writes remove."""
    for number in range(8000):
        cache.set(number, b"x" * 2000, tag="t")
    shard, driver = cache._engine.parts[0], cache._engine.driver
    entries = sum(1 for _ in forgetful.client().scan_iter(shard.entry + b"*", count=1000))

    assert entries < 3000
    for listed in (shard.order, shard.keys, shard.tagged(b"2t")):
        assert driver.command("ZCARD", listed) < 3 * entries


def test_set_of_a_tag_forgets_what_expired(make_cache, clock):
    cache = make_cache()
    for number in range(300):
        cache.set(number, 0, tag="t", expire=1)
        clock.advance(0.5)
    shard, driver = cache._engine.parts[0], cache._engine.driver

    assert driver.command("ZCARD", shard.tagged(b"2t")) < 50


@pytest.mark.parametrize(
    "make", [Deque.fromcache, Index.fromcache, lambda cache: Lock(cache, "a", expire=1)]
)
def test_what_must_not_be_lost_refuses_the_server(cache, make):
    with pytest.raises(ServerPolicyError, match="allkeys-lru"):
        make(cache)


def test_info_says_what_the_server_may_do(cache):
    assert "allkeys-lru" in cache.info().off["order, len and prefixes"]
