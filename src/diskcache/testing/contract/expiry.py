"""Entries expire when their time has passed, and not before."""

from __future__ import annotations

import math

import pytest

from diskcache.testing.contract import Contract


class PassingReader:
    """A file whose reading takes time."""

    def __init__(self, clock, seconds):
        self._clock = clock
        self._seconds = seconds
        self._parts = [b"data"]

    def read(self, size):
        self._clock.advance(self._seconds)
        return self._parts.pop() if self._parts else b""


class ExpiryContract(Contract):
    def test_set_with_expire_is_a_hit_before_its_time(self, cache, clock):
        cache.set("a", 1, expire=10)
        clock.advance(9.99)

        assert cache["a"] == 1
        assert "a" in cache

    def test_set_with_expire_is_a_miss_at_its_time(self, cache, clock):
        cache.set("a", 1, expire=10)
        clock.advance(10)

        assert cache.get("a") is None
        assert "a" not in cache

    @pytest.mark.parametrize("expire", [1, 0.25, 3600])
    def test_set_records_the_absolute_time(self, cache, clock, expire):
        cache.set("a", 1, expire=expire)

        _, expire_time = cache.get("a", expire_time=True)

        assert type(expire_time) is float
        assert expire_time == clock.time() + expire

    @pytest.mark.since6("version 5 has no such methods")
    @pytest.mark.parametrize("options", [{}, {"lock": False}, {"hard_timeout": 60}])
    @pytest.mark.parametrize("expire", [math.nan, lambda _: math.nan], ids=["number", "function"])
    def test_value_computed_with_a_time_that_never_comes_never_expires(
        self, cache, clock, options, expire
    ):
        options = options | {"expire": expire}
        function = cache.memoize("f", **options)(lambda: 2)
        assert (cache.get_or_set("b", lambda: 1, **options), function()) == (1, 2)
        clock.advance(1e12)

        assert (cache["b"], function.peek()) == (1, 2)

    def test_every_write_with_a_time_that_never_comes_never_expires(self, cache, clock):
        cache.add("a", 1, expire=math.nan)
        cache.set("t", 1, expire=10)
        cache.touch("t", expire=math.nan)
        key = cache.push(1, expire=math.nan)
        clock.advance(1e12)

        assert (cache["a"], cache["t"], cache[key]) == (1, 1, 1)

    def test_set_with_zero_stores_nothing_that_can_be_read(self, cache):
        assert cache.set("a", 1, expire=0) is True
        assert cache.get("a") is None
        assert "a" not in cache

    def test_set_with_negative_expire_leaves_nothing(self, cache):
        assert cache.set("a", 1, expire=-1) is True
        assert len(cache) == 0

    def test_set_with_negative_expire_removes_the_old_value(self, cache):
        cache["a"] = 1
        cache.set("a", 2, expire=-1)

        assert "a" not in cache

    @pytest.mark.parametrize("expire", [math.inf, math.nan], ids=["inf", "nan"])
    def test_set_with_a_time_that_never_comes_never_expires(self, cache, clock, expire):
        cache.set("a", 1, expire=expire)
        clock.advance(1e12)

        assert cache["a"] == 1

    def test_set_with_text_as_expire_raises_type_error(self, cache):
        with pytest.raises(TypeError):
            cache.set("a", 1, expire="10")

        assert len(cache) == 0

    def test_set_counts_the_time_from_its_call(self, cache, clock):
        start = clock.time()
        cache.set("a", PassingReader(clock, 5), read=True, expire=50)

        _, expire_time = cache.get("a", expire_time=True)

        assert expire_time == start + 50

    def test_expired_entries_are_counted_until_removed(self, cache, clock):
        cache.set("a", 1, expire=10)
        cache["b"] = 2
        clock.advance(11)

        assert len(cache) == 2
        assert list(cache) == ["a", "b"]
        assert list(reversed(cache)) == ["b", "a"]
        assert list(cache.iterkeys()) == ["a", "b"]

    def test_misses_of_expired_entries_do_not_remove_them(self, cache, clock):
        cache.set("a", 1, expire=10)
        clock.advance(11)
        cache.get("a")
        cache.pop("a")
        cache.delete("a")
        cache.touch("a")

        assert "a" not in cache
        assert len(cache) == 1

    def test_write_removes_expired_entries_oldest_expiry_first(self, make_cache, clock):
        cache = make_cache(cull_limit=2)
        for key, expire in [("c", 30), ("a", 10), ("d", 40), ("b", 20)]:
            cache.set(key, 0, expire=expire)
        clock.advance(100)
        cache["new"] = 0

        assert list(cache) == ["c", "d", "new"]

    @pytest.mark.parametrize(
        "write",
        [
            lambda cache: cache.set("new", 1),
            lambda cache: cache.add("new", 1),
            lambda cache: cache.incr("new"),
            lambda cache: cache.push(1),
        ],
        ids=["set", "add", "incr", "push"],
    )
    def test_each_write_of_a_new_entry_removes_expired_ones(self, cache, clock, write):
        for number in range(5):
            cache.set(f"old{number}", 0, expire=10)
        clock.advance(11)
        write(cache)

        assert len(cache) == 1

    def test_write_with_cull_limit_zero_removes_nothing(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache.set("a", 1, expire=10)
        clock.advance(11)
        cache["b"] = 2

        assert list(cache) == ["a", "b"]


class ExpireContract(Contract):
    def test_expire_removes_expired_entries_and_returns_the_count(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        for number in range(5):
            cache.set(number, number, expire=10)
        cache.set("later", 1, expire=100)
        cache["never"] = 1
        clock.advance(11)

        assert cache.expire() == 5
        assert list(cache) == ["later", "never"]

    def test_expire_with_nothing_to_remove_returns_zero(self, cache):
        cache.set("a", 1, expire=10)

        assert cache.expire() == 0
        assert len(cache) == 1

    def test_expire_at_the_very_moment_keeps_the_entry_stored(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache.set("a", 1, expire=10)
        clock.advance(10)

        assert cache.expire() == 0

        clock.advance(0.001)

        assert cache.expire() == 1

    def test_expire_with_a_given_moment_judges_by_it(self, cache, clock):
        cache.set("a", 1, expire=10)
        cache.set("b", 1, expire=30)

        assert cache.expire(now=clock.time() + 20) == 1
        assert list(cache) == ["b"]

    def test_expire_with_zero_means_now(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache.set("a", 1, expire=10)
        clock.advance(11)

        assert cache.expire(now=0) == 1

    def test_expire_many_entries_removes_all(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        for number in range(250):
            cache.set(number, 0, expire=10 + number / 1000)
        clock.advance(100)

        assert cache.expire() == 250
        assert len(cache) == 0

    @pytest.mark.since6("version 5 stops after 100 entries of one expire_time")
    def test_expire_many_entries_of_one_moment_removes_all(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache.set_many(dict.fromkeys(range(250), 0), expire=10)
        clock.advance(11)

        assert cache.expire() == 250
        assert len(cache) == 0
