"""What culling leaves alone."""

from __future__ import annotations


def test_nothing_is_culled_by_policy_none_whatever_order_entries_had(make_cache):
    cache = make_cache(size_limit=200_000)
    for number in range(300):
        cache[number] = b"x" * 1000
    full = len(cache)
    cache.reset("eviction_policy", "none")
    for number in range(300, 500):
        cache[number] = b"x" * 1000

    assert cache.volume() > 200_000
    assert cache.cull() == 0
    assert len(cache) == full + 200


def test_expired_entries_are_culled_by_policy_none(make_cache, clock):
    cache = make_cache(eviction_policy="none", cull_limit=0)
    cache.set("short", 1, expire=1)
    cache.set("long", 1)
    clock.advance(2)

    assert cache.cull() == 1
    assert list(cache) == ["long"]
