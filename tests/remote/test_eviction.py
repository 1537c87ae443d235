"""A server that evicts what it likes makes a cache forget, and never makes it lie."""

from __future__ import annotations

import random

import pytest

from diskcache import Deque, Index, Lock, ServerPolicyError, connect
from diskcache.engines.redis import commands
from tests.support.servers import Server, need_server, shared_server


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
    known, hits = {}, 0
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
            hits += found is not None
    evicted = forgetful.client().info("stats")["evicted_keys"]
    # Reading has the server evict more, the versions of all entries included.
    there = {key: cache.get(key) for key in range(3000)}

    assert evicted > 500
    assert hits > 100
    assert all(found is None or found[0] == known[key][0] for key, found in there.items())


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
    driver.command("ZREM", shard.keys, b"2c")
    driver.command("ZADD", shard.keys, 0, b"2nothing")

    assert len(cache.check()) == 5
    cache.check(fix=True)
    assert cache.check() == []
    assert sorted(cache) == ["a", "c", "d"]
    assert list(cache.iterkeys()) == ["a", "c", "d"]
    assert driver.command("ZCARD", shard.keys) == 3
    assert cache.get("d", expire_time=True)[1] is not None


def test_lists_do_not_outgrow_the_entries(cache):
    """Entries that the server evicts leave idents, which later writes remove."""
    shard, driver = cache._engine.parts[0], cache._engine.driver
    for number in range(3000):
        cache.set(str(number), b"x", tag="t")
        # As the server does it, which tells nobody.
        driver.command("DEL", shard.entry + b"2%d" % (number - 100))
    lists = (shard.order, shard.keys, shard.tagged(b"2t"))
    lengths = [driver.command("ZCARD", listed) for listed in lists]

    assert len(list(cache)) == 100
    # About twice as many, by chance.
    assert min(lengths) >= 100
    assert max(lengths) < 400, lengths


def test_set_of_a_tag_forgets_what_expired(make_cache, clock):
    cache = make_cache()
    for number in range(300):
        cache.set(number, 0, tag="t", expire=1)
        clock.advance(0.5)
    shard, driver = cache._engine.parts[0], cache._engine.driver

    assert driver.command("ZCARD", shard.tagged(b"2t")) < 50


ENDS = """
local left, t = redis.call('PTTL', KEYS[1]), redis.call('TIME')
return left < 0 and left or t[1] * 1000 + math.floor(t[2] / 1000) + left
"""


def listed_tags(cache):
    """Return the keys that are there because of tags, and until when: milliseconds, -1 for ever."""
    client, shard = shared_server().client(), cache._engine.parts[0]
    starts = shard.tagged(b""), shard.tag_version(b"")
    found = [key for start in starts for key in client.scan_iter(start + b"*")]
    return {key[len(shard.prefix) :]: client.eval(ENDS, 1, key) for key in found}


def now_of_server():
    seconds, micros = shared_server().client().time()
    return seconds * 1000 + micros // 1000


def test_tag_of_entries_that_expire_goes_with_them(make_cache):
    """What is known of it lasts as long as the longest of them, and as long again."""
    cache = make_cache(clock=None)
    began = now_of_server()
    cache.set("a", 1, tag="t", expire=100)
    first = listed_tags(cache)
    cache.set("b", 2, tag="t", expire=200)
    second = listed_tags(cache)
    cache.set("c", 3, tag="t", expire=1000, grace=500)
    longer = listed_tags(cache)
    cache.touch("a", 9000)
    longest = listed_tags(cache)

    assert (
        sorted(first) == sorted(second) == sorted(longer) == sorted(longest) == [b"g:2t", b"t:2t"]
    )
    # Of a minute more, a little is gone when the server is told of the life of an entry.
    took = now_of_server() - began
    for seconds, until in ((260, first), (260, second), (3060, longer), (18060, longest)):
        assert all(-60_000 <= at - began - 1000 * seconds <= took for at in until.values())
    assert cache.evict("t") == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda cache: cache.set("b", 2, tag="t"),
        lambda cache: cache.touch("a", None),
    ],
)
def test_tag_of_an_entry_that_stays_stays(make_cache, make):
    cache = make_cache(clock=None)
    cache.set("a", 1, tag="t", expire=100)
    make(cache)
    cache.set("c", 2, tag="t", expire=100)

    assert listed_tags(cache) == {b"g:2t": -1, b"t:2t": -1}


def test_tag_that_no_entry_has_any_more_is_forgotten(make_cache):
    cache = make_cache(clock=None)
    cache.set_many({"a": 1, "b": 2, "c": 3}, tag="t")
    cache.delete("a")
    cache.set("b", 2, tag="u")
    assert sorted(listed_tags(cache)) == [b"g:2t", b"g:2u", b"t:2t", b"t:2u"]
    assert cache.pop("c") == 3
    assert sorted(listed_tags(cache)) == [b"g:2u", b"t:2u"]
    cache.set("b", 2)
    assert listed_tags(cache) == {}
    cache.set("d", 4, tag="t")
    assert cache["d"] == 4
    cache.clear()

    assert listed_tags(cache) == {}


def test_tag_whose_set_was_evicted_is_kept(make_cache):
    """Others may have it."""
    cache = make_cache(clock=None)
    cache.set_many({"a": 1, "b": 2}, tag="t")
    shared_server().client().delete(cache._engine.parts[0].tagged(b"2t"))
    cache.delete("a")

    assert cache["b"] == 2


def test_entry_stored_in_the_same_step_as_the_last_one_with_its_tag_goes_is_there(make_cache):
    cache = make_cache(clock=None)
    cache.set("a", 1, tag="t")
    engine = cache._engine
    shard, now = engine.parts[0], engine.clock.time()
    changes = [
        commands.delete_change(("a", 1)),
        commands.put_change(("b", 1), (1, 2, None), None, "t", now),
    ]
    assert engine._apply(shard, changes, now, None) == [1, 1]

    assert cache["b"] == 2
    assert cache.evict("t") == 1


def test_check_forgets_tags_of_entries_that_expired(make_cache):
    """One that had an entry without expiry does not go by itself."""
    cache = make_cache(clock=None)
    cache.set_many({"a": 1, "b": 2}, tag="t")
    cache.set_many({"c": 3, "d": 4}, tag="u")
    shard, client = cache._engine.parts[0], shared_server().client()
    client.delete(shard.entry + b"2a", shard.entry + b"2b", shard.entry + b"2c")
    client.zrem(shard.order, b"2a", b"2b", b"2c")
    client.zrem(shard.keys, b"2a", b"2b", b"2c")
    assert cache.check() == []
    assert len(listed_tags(cache)) == 4
    assert cache.check(fix=True) == []

    assert listed_tags(cache) == {b"g:2u": -1, b"t:2u": -1}
    assert client.zrange(shard.tagged(b"2u"), 0, -1) == [b"2d"]


def test_entry_that_gets_its_tag_back_while_that_is_evicted_stays_listed(make_cache, monkeypatch):
    cache, other = make_cache(clock=None), make_cache(clock=None)
    cache.set("a", 1, tag="t")
    shard, apply = cache._engine.parts[0], cache._engine._apply

    def stored_meanwhile(*args):
        found = apply(*args)
        other.set("a", 2, tag="t")
        return found

    monkeypatch.setattr(cache._engine, "_apply", stored_meanwhile)
    assert cache.evict("t") == 1

    assert shared_server().client().zrange(shard.tagged(b"2t"), 0, -1) == [b"2a"]
    assert other["a"] == 2


@pytest.mark.parametrize(
    "make", [Deque.fromcache, Index.fromcache, lambda cache: Lock(cache, "a", expire=1)]
)
def test_what_must_not_be_lost_refuses_the_server(cache, make):
    with pytest.raises(ServerPolicyError, match="allkeys-lru"):
        make(cache)


def test_info_says_what_the_server_may_do(cache):
    assert "allkeys-lru" in cache.info().off["order, len and prefixes"]
