"""Entries that the library keeps for itself outlive eviction and culling."""

from __future__ import annotations

import pytest

from diskcache.entry import GUARD


@pytest.fixture
def guarded(cache):
    """A cache with one guard among ordinary entries, without tags and with one."""
    for number in range(5):
        cache.set(number, b"x" * 500, tag="t" if number % 2 else None)
    engine = cache._engine
    engine.put(("guard", 1), (1 | GUARD, "kept", None), None, None, cache._now(), None)
    engine.put(("tagged", 1), (1 | GUARD, "kept", None), None, "t", cache._now(), None)
    return cache


def test_guard_is_read_like_any_entry(guarded):
    assert guarded["guard"] == "kept"
    assert "guard" in guarded


@pytest.mark.parametrize(("tag", "removed"), [(None, 3), ("t", 2)])
def test_evict_keeps_guards(guarded, tag, removed):
    assert guarded.evict(tag) == removed
    assert guarded["guard"] == "kept"
    assert guarded["tagged"] == "kept"


@pytest.mark.parametrize(
    "policy", ["least-recently-stored", "least-recently-used", "least-frequently-used"]
)
def test_cull_keeps_guards(guarded, policy):
    guarded.reset("eviction_policy", policy)
    guarded.reset("size_limit", 0)

    assert guarded.cull() == 5
    assert list(guarded) == ["guard", "tagged"]
    guarded.reset("size_limit", 2**30)


def test_guard_stored_while_entries_are_ranked_is_never_a_victim(guarded):
    guarded.reset("size_limit", guarded.volume())
    guarded["more"] = 1
    engine = guarded._engine
    engine.put(("late", 1), (1 | GUARD, "kept", None), None, None, guarded._now(), None)
    for number in range(100):
        guarded.set(("k", number), b"x" * 400)

    assert guarded["late"] == "kept"
    assert guarded["guard"] == "kept"


def test_clear_removes_guards(guarded):
    assert guarded.clear() == 7


def test_expired_guard_is_removed(guarded):
    guarded.touch("guard", -1)

    assert guarded.expire() == 1
