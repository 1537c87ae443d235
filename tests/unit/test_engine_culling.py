"""What culling leaves alone."""

from __future__ import annotations

import apsw
import pytest


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank_policy", "of-a-stranger"),
        ("rank_policy", 5),
        ("rank_policy", "none"),
        ("rank_done", "text"),
        ("rank_goal", b"bytes"),
        ("rank_goal", None),
    ],
)
def test_an_order_that_cannot_be_is_made_anew(make_cache, directory, name, value):
    cache = make_cache(size_limit=200_000)
    for number in range(300):
        cache[number] = b"x" * 1000
    cache.close()
    with apsw.Connection(str(directory / "cache.db")) as connection:
        connection.execute("UPDATE Settings SET value = ? WHERE key = ?", (value, name))
        assert connection.changes() == 1
    connection.close()
    for number in range(300, 500):
        cache[number] = b"x" * 1000

    assert cache.volume() <= 200_000
    assert list(cache) == list(range(500 - len(cache), 500))
