"""Hits and misses are counted when asked for."""

from __future__ import annotations

import contextlib

import pytest

from diskcache.testing.contract import Contract


class StatisticsContract(Contract):
    @pytest.fixture
    def cache(self, make_cache):
        cache = make_cache(statistics=True)
        cache["a"] = 1
        return cache

    def test_stats_of_a_new_cache_are_zero(self, make_cache):
        assert make_cache().stats() == (0, 0)

    def test_stats_counts_hits_and_misses_of_get_getitem_and_read(self, cache):
        cache.get("a")
        assert cache["a"] == 1
        cache.read("a")
        cache.get("b")
        with contextlib.suppress(KeyError):
            cache["b"]
        with contextlib.suppress(KeyError):
            cache.read("b")

        assert cache.stats() == (3, 3)

    def test_stats_counts_an_expired_entry_as_a_miss(self, cache, clock):
        cache.set("b", 1, expire=10)
        clock.advance(11)
        cache.get("b")

        assert cache.stats() == (0, 1)

    @pytest.mark.parametrize(
        "operation",
        [
            lambda cache: "a" in cache,
            lambda cache: "b" in cache,
            lambda cache: cache.pop("a"),
            lambda cache: cache.pop("b"),
            lambda cache: cache.incr("a"),
            lambda cache: cache.touch("a"),
            lambda cache: cache.delete("b"),
            lambda cache: cache.pull(),
            lambda cache: cache.peek(),
            lambda cache: cache.peekitem(),
            lambda cache: list(cache),
        ],
        ids=[
            "in-hit", "in-miss", "pop-hit", "pop-miss", "incr", "touch", "delete", "pull", "peek",
            "peekitem", "iter",
        ],
    )  # fmt: skip
    def test_stats_does_not_count_other_operations(self, cache, operation):
        operation(cache)

        assert cache.stats() == (0, 0)

    def test_stats_are_not_counted_by_default(self, make_cache):
        cache = make_cache()
        cache.get("a")

        assert cache.stats() == (0, 0)

    def test_stats_called_bare_starts_counting(self, make_cache):
        cache = make_cache()
        cache.stats()
        cache.get("a")

        assert cache.stats() == (0, 1)

    def test_stats_with_enable_false_stops_counting(self, cache):
        cache.get("a")

        assert cache.stats(enable=False) == (1, 0)

        cache.get("a")

        assert cache.stats(enable=False) == (1, 0)

    def test_stats_with_reset_returns_the_counts_before_and_starts_from_zero(self, cache):
        cache.get("a")
        cache.get("b")

        assert cache.stats(reset=True) == (1, 1)
        assert cache.stats() == (0, 0)

    def test_stats_gives_two_plain_ints(self, cache):
        cache.get("a")

        hits, misses = cache.stats()

        assert (type(hits), type(misses)) == (int, int)

    def test_stats_are_kept_with_the_cache(self, cache, make_cache):
        cache.get("a")
        cache.get("b")
        cache.close()

        assert make_cache().stats() == (1, 1)

    def test_stats_setting_is_kept_with_the_cache(self, cache, make_cache):
        other = make_cache()
        other.get("a")
        other.close()

        assert cache.stats() == (1, 0)

    def test_stats_counts_more_reads_than_are_written_down_at_once(self, cache):
        for _ in range(2500):
            cache.get("a")

        assert cache.stats() == (2500, 0)
