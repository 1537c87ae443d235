"""A full cache gives up entries in the order of its policy."""

from __future__ import annotations

import pytest

from diskcache import EVICTION_POLICY
from diskcache.testing.contract import Contract

SMALL_LIMIT = 1000
"""Less than an empty cache takes, so that a cache with this limit is always full."""

EVICTING = ["least-recently-stored", "least-recently-used", "least-frequently-used"]


class CullingContract(Contract):
    needs = frozenset({"culling"})

    @pytest.fixture
    def fill(self, make_cache, clock):
        """Make a cache of entries a to e, stored a second apart, that is full from now on."""

        def filled(policy, cull_limit=1, keys="abcde"):
            cache = make_cache(eviction_policy=policy, cull_limit=cull_limit)
            for key in keys:
                cache[key] = 0
                clock.advance(1)
            cache.reset("size_limit", SMALL_LIMIT)
            return cache

        return filled

    def test_policies_are_those_four_at_least(self):
        assert set(EVICTION_POLICY) >= {"none", *EVICTING}

    @pytest.mark.parametrize("policy", EVICTING)
    def test_write_to_a_full_cache_removes_the_oldest_of_equals(self, fill, clock, policy):
        cache = fill(policy)
        for key in "xy":
            cache[key] = 0
            clock.advance(1)

        assert list(cache) == ["c", "d", "e", "x", "y"]

    def test_policy_none_removes_nothing(self, fill):
        cache = fill("none")
        for number in range(20):
            cache[number] = 0

        assert len(cache) == 25

    def test_cull_limit_zero_removes_nothing(self, fill):
        cache = fill("least-recently-stored", cull_limit=0)
        cache["x"] = 0

        assert len(cache) == 6

    @pytest.mark.parametrize("budget", [1, 2, 3])
    def test_write_removes_no_more_than_cull_limit(self, fill, budget):
        cache = fill("least-recently-stored", cull_limit=budget)
        cache["x"] = 0

        assert list(cache) == [*"abcde"[budget:], "x"]

    def test_expired_entries_go_first_and_count_against_the_budget(self, make_cache, clock):
        cache = make_cache(cull_limit=2)
        cache["a"] = 0
        clock.advance(1)
        cache.set("b", 0, expire=1)
        cache["c"] = 0
        clock.advance(10)
        cache.reset("size_limit", SMALL_LIMIT)
        cache["x"] = 0

        assert list(cache) == ["c", "x"]

    def test_least_recently_stored_ignores_reads(self, fill):
        cache = fill("least-recently-stored")
        cache.get("a")
        cache["x"] = 0

        assert "a" not in cache

    def test_least_recently_stored_takes_set_for_stored_anew(self, fill):
        cache = fill("least-recently-stored")
        cache.cull_limit = 0
        cache["a"] = 1
        cache.cull_limit = 1
        cache["x"] = 0

        assert list(cache) == ["a", "c", "d", "e", "x"]

    def test_least_recently_stored_takes_incr_for_stored_anew(self, fill):
        cache = fill("least-recently-stored")
        cache.incr("a")
        cache["x"] = 0

        assert list(cache) == ["a", "c", "d", "e", "x"]

    @pytest.mark.parametrize(
        "use",
        [
            lambda cache: cache.get("a"),
            lambda cache: cache["a"],
            lambda cache: cache.read("a"),
            lambda cache: cache.incr("a"),
        ],
        ids=["get", "getitem", "read", "incr"],
    )
    def test_least_recently_used_spares_what_was_used(self, fill, use):
        cache = fill("least-recently-used")
        use(cache)
        cache["x"] = 0

        assert list(cache) == ["a", "c", "d", "e", "x"]

    @pytest.mark.parametrize("policy", ["least-recently-used", "least-frequently-used"])
    @pytest.mark.parametrize(
        "look",
        [
            lambda cache: "a" in cache,
            lambda cache: cache.touch("a"),
            lambda cache: cache.peekitem(last=False),
            lambda cache: list(cache),
            lambda cache: cache.get("missing"),
        ],
        ids=["contains", "touch", "peekitem", "iter", "miss"],
    )
    def test_operations_that_are_no_use_spare_nothing(self, fill, policy, look):
        cache = fill(policy)
        for key in "bcde":
            cache.get(key)
        look(cache)
        cache["x"] = 0

        assert "a" not in cache

    @pytest.mark.since6("version 5 removes the entry just written")
    def test_least_frequently_used_removes_what_was_read_least(self, fill):
        cache = fill("least-frequently-used")
        for key, times in [("a", 3), ("b", 1), ("c", 2), ("d", 4), ("e", 2)]:
            for _ in range(times):
                cache.get(key)
        cache["x"] = 0

        assert "b" not in cache
        assert len(cache) == 5

    @pytest.mark.since6("version 5 removes the entry just written")
    def test_least_frequently_used_forgets_the_reads_when_set_again(self, fill):
        cache = fill("least-frequently-used", keys="ab")
        for _ in range(5):
            cache.get("a")
        cache.get("b")
        cache.get("b")
        cache.cull_limit = 0
        cache["a"] = 1
        cache.get("a")
        cache.cull_limit = 1
        cache["x"] = 0

        assert "a" not in cache
        assert "b" in cache

    @pytest.mark.since6("version 5 may remove the entry just written")
    @pytest.mark.parametrize("policy", EVICTING)
    def test_write_to_a_full_cache_keeps_the_entry_just_written(self, fill, policy):
        cache = fill(policy, cull_limit=10)
        for key in "abcde":
            cache.get(key)
        cache["x"] = 0

        assert list(cache) == ["x"]

    @pytest.mark.since6("version 5 uses the whole budget")
    def test_write_stops_removing_once_the_volume_is_under_the_limit(self, make_cache, clock):
        cache = make_cache(cull_limit=10)
        for number in range(20):
            cache[number] = b"x" * 100_000
            clock.advance(1)
        cache.reset("size_limit", cache.volume() - 50_000)
        cache["x"] = 0

        assert len(cache) == 20
        assert 0 not in cache

    def test_write_of_values_in_files_keeps_the_volume_near_the_limit(self, make_cache, clock):
        cache = make_cache(size_limit=1_000_000)
        for number in range(60):
            cache[number] = b"x" * 50_000
            clock.advance(1)

        assert cache.volume() < 1_100_000
        assert list(cache) == list(range(60 - len(cache), 60))
        assert len(cache) >= 9

    @pytest.mark.since6("version 5 grows to many times the limit")
    def test_large_values_after_small_ones_keep_the_volume_near_the_limit(self, make_cache):
        cache = make_cache(size_limit=2_000_000)
        cache.set_many(dict.fromkeys(range(12000), b"x" * 50))
        largest = 0
        for number in range(25):
            cache["large", number] = b"x" * 200_000
            largest = max(largest, cache.volume())

            assert ("large", number) in cache
        assert largest <= 2_500_000

    @pytest.mark.since6("version 5 stores it and removes others, or it")
    def test_value_larger_than_the_limit_is_refused(self, make_cache):
        cache = make_cache(size_limit=200_000)
        cache["a"] = 1

        assert cache.set("b", b"x" * 300_000) is False
        assert cache.add("b", b"x" * 300_000) is False
        with pytest.raises(ValueError):
            cache["b"] = b"x" * 300_000
        assert list(cache) == ["a"]


class CullContract(Contract):
    needs = frozenset({"culling"})

    @pytest.mark.parametrize("policy", EVICTING)
    def test_cull_removes_until_the_volume_is_within_the_limit(self, make_cache, clock, policy):
        cache = make_cache(eviction_policy=policy, cull_limit=0)
        for number in range(30):
            cache[number] = b"x" * 50_000
            clock.advance(1)
        cache.reset("size_limit", cache.volume() // 2)

        removed = cache.cull()

        assert cache.volume() <= cache.size_limit
        assert len(cache) == 30 - removed
        assert 10 <= removed <= 25
        if policy != "least-frequently-used":
            assert list(cache) == list(range(removed, 30))

    def test_cull_within_the_limit_removes_expired_entries_alone(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache.set("a", 0, expire=10)
        cache["b"] = 0
        clock.advance(11)

        assert cache.cull() == 1
        assert list(cache) == ["b"]

    def test_cull_with_a_limit_that_cannot_be_met_removes_everything(self, make_cache):
        cache = make_cache(cull_limit=0)
        for number in range(25):
            cache[number] = 0
        cache.reset("size_limit", 0)

        assert cache.cull() == 25
        assert len(cache) == 0

    @pytest.mark.since6("version 5 returns 0")
    def test_cull_with_policy_none_returns_the_expired_count(self, make_cache, clock):
        cache = make_cache(eviction_policy="none", cull_limit=0)
        for number in range(3):
            cache.set(number, 0, expire=10)
        cache["b"] = 0
        clock.advance(11)

        assert cache.cull() == 3
        assert list(cache) == ["b"]


class PolicyContract(Contract):
    needs = frozenset({"culling", "settings"})

    def test_unknown_policy_raises_key_error(self, make_cache):
        with pytest.raises(KeyError):
            make_cache(eviction_policy="random")

    @pytest.mark.since6("version 5 raises at the next write")
    def test_reset_to_an_unknown_policy_raises_key_error_and_changes_nothing(self, cache):
        with pytest.raises(KeyError):
            cache.reset("eviction_policy", "random")

        assert cache.eviction_policy == "least-recently-stored"
        assert cache.reset("eviction_policy") == "least-recently-stored"

    def test_reset_to_another_policy_takes_effect(self, make_cache, clock):
        cache = make_cache(cull_limit=1)
        for key in "abc":
            cache[key] = 0
            clock.advance(1)
        cache.reset("eviction_policy", "none")
        cache.reset("size_limit", SMALL_LIMIT)
        cache["d"] = 0

        assert len(cache) == 4

        cache.reset("eviction_policy", "least-recently-stored")
        cache["e"] = 0

        assert list(cache) == ["b", "c", "d", "e"]

    def test_policy_made_by_the_user_decides(self, cache, monkeypatch, clock):
        monkeypatch.setitem(
            EVICTION_POLICY,
            "lifo",
            {
                "init": None,
                "get": None,
                "cull": "SELECT {fields} FROM Cache ORDER BY store_time DESC LIMIT ?",
            },
        )
        for number in range(30):
            cache[number] = b"x" * 50_000
            clock.advance(1)
        cache.reset("eviction_policy", "lifo")
        cache.reset("size_limit", cache.volume() // 2)

        removed = cache.cull()

        assert list(cache) == list(range(30 - removed))
