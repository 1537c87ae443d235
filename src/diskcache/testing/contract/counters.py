"""Counters."""

from __future__ import annotations

import pytest

from diskcache.testing.contract import Contract


class CounterContract(Contract):
    def test_incr_missing_key_starts_from_zero(self, cache):
        assert cache.incr("a") == 1
        assert cache["a"] == 1

    def test_incr_live_key_adds_and_returns_the_sum(self, cache):
        cache["a"] = 5

        assert cache.incr("a") == 6
        assert cache.incr("a", 10) == 16
        assert cache["a"] == 16

    def test_incr_missing_key_adds_to_the_default(self, cache):
        assert cache.incr("a", delta=3, default=100) == 103

    def test_incr_live_key_ignores_the_default(self, cache):
        cache["a"] = 1

        assert cache.incr("a", default=100) == 2

    def test_incr_missing_key_with_default_none_raises_key_error(self, cache):
        with pytest.raises(KeyError) as raised:
            cache.incr("a", default=None)

        assert raised.value.args == ("a",)
        assert len(cache) == 0

    def test_incr_expired_key_with_default_none_raises_key_error(self, cache, clock):
        cache.set("a", 5, expire=10)
        clock.advance(11)

        with pytest.raises(KeyError):
            cache.incr("a", default=None)

    def test_incr_expired_key_starts_anew_without_expiry_and_tag(self, cache, clock):
        cache.set("a", 5, expire=10, tag="t")
        clock.advance(11)

        assert cache.incr("a") == 1
        assert cache.get("a", expire_time=True, tag=True) == (1, None, None)

    def test_incr_live_key_keeps_expiry_tag_and_place(self, cache, clock):
        cache.set("a", 5, expire=10, tag="t")
        cache["b"] = 0
        cache.incr("a")

        assert cache.get("a", expire_time=True, tag=True) == (6, clock.time() + 10, "t")
        assert list(cache) == ["a", "b"]

    @pytest.mark.parametrize("step", [1, 0.5])
    def test_number_that_is_counted_or_updated_keeps_its_grace(self, cache, clock, step):
        cache.set("k", 1, expire=10, grace=60)

        assert cache.incr("k", step) == 1 + step
        assert cache.update("k", lambda number: number + 1) == 2 + step

        clock.advance(11)

        assert (cache.get("k"), cache.get("k", stale=True)) == (None, 2 + step)

    @pytest.mark.since6("version 5 keeps some sums that are no numbers")
    @pytest.mark.parametrize("old", [None, 5], ids=["missing", "live"])
    def test_incr_by_what_is_no_number_raises_and_keeps_the_old_value(self, cache, old):
        if old is not None:
            cache["a"] = old

        with pytest.raises(TypeError, match="counters are numbers"):
            cache.incr("a", 1j)

        assert cache.get("a") == old

    def test_incr_with_a_fraction_gives_a_float(self, cache):
        cache["a"] = 1

        result = cache.incr("a", 0.5)

        assert result == 1.5
        assert cache["a"] == 1.5

    def test_incr_of_a_float_stays_a_float(self, cache):
        cache["a"] = 1.0

        assert type(cache.incr("a")) is float
        assert type(cache["a"]) is float

    def test_incr_with_negative_delta_subtracts(self, cache):
        cache["a"] = 5

        assert cache.incr("a", -7) == -2

    def test_decr_subtracts(self, cache):
        cache["a"] = 5

        assert cache.decr("a") == 4
        assert cache.decr("a", 10) == -6

    def test_decr_missing_key_goes_below_zero(self, cache):
        assert cache.decr("a") == -1

    def test_decr_missing_key_with_default_none_raises_key_error(self, cache):
        with pytest.raises(KeyError):
            cache.decr("a", default=None)

    @pytest.mark.parametrize(
        "value",
        [None, True, [1], {"a": 1}, 2**70, "1", b"1", "x" * 40_000],
        ids=["none", "bool", "list", "dict", "big", "text", "bytes", "file"],
    )
    def test_incr_of_what_is_no_number_raises_type_error_and_keeps_it(self, cache, value):
        cache["a"] = value

        with pytest.raises(TypeError):
            cache.incr("a")
        assert cache["a"] == value

    @pytest.mark.parametrize(("start", "delta"), [(2**63 - 1, 1), (-(2**63), -1), (1, 2**63)])
    def test_incr_beyond_64_bits_raises_overflow_error_and_keeps_the_value(
        self, cache, start, delta
    ):
        cache["a"] = start

        with pytest.raises(OverflowError):
            cache.incr("a", delta)
        assert cache["a"] == start

    @pytest.mark.parametrize("limit", [2**63 - 1, -(2**63)])
    def test_incr_reaches_the_ends_of_64_bits(self, cache, limit):
        cache["a"] = 0

        assert cache.incr("a", limit) == limit
        assert cache["a"] == limit

    def test_incr_of_equal_number_keys_counts_one_entry(self, cache):
        cache.incr(1)
        cache.incr(1.0)

        assert len(cache) == 1
        assert cache[1] == 2

    def test_incr_is_seen_by_other_objects(self, cache, make_cache):
        other = make_cache()
        cache.incr("a")
        other.incr("a")

        assert cache["a"] == 2
