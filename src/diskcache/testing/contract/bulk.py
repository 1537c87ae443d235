"""Many keys in one step."""

from __future__ import annotations

import pickle

import pytest

from diskcache.testing.contract import Contract, asks_for

UNPICKLABLE = (TypeError, AttributeError, pickle.PicklingError)


@pytest.mark.since6("version 5 has no bulk operations")
class BulkContract(Contract):
    def test_get_many_returns_the_live_entries(self, cache, clock):
        cache["a"] = 1
        cache["b"] = [2]
        cache.set("gone", 3, expire=10)
        clock.advance(11)

        assert cache.get_many(["a", "missing", "b", "gone"]) == {"a": 1, "b": [2]}

    def test_get_many_with_a_default_gives_it_for_missing_keys(self, cache):
        cache["a"] = None

        assert cache.get_many(["missing", "a"], default=5) == {"missing": 5, "a": None}

    def test_get_many_counts_hits_and_misses(self, make_cache):
        cache = make_cache(statistics=True)
        cache["a"] = 1
        cache.get_many(["a", "b", "c"])

        assert cache.stats() == (1, 2)

    def test_get_many_of_no_keys_is_empty(self, cache):
        assert cache.get_many([]) == {}

    def test_get_many_takes_any_iterable(self, cache):
        cache["a"] = 1

        assert cache.get_many(key for key in "a") == {"a": 1}

    def test_get_many_of_more_keys_than_a_statement_takes(self, cache):
        cache.set_many({number: number for number in range(2500)})

        assert cache.get_many(range(2500)) == {number: number for number in range(2500)}

    def test_set_many_stores_all_and_returns_the_count(self, cache):
        assert cache.set_many({"a": 1, "b": "two", ("t", 3): None}) == 3
        assert dict(cache.items()) == {"a": 1, "b": "two", ("t", 3): None}

    def test_set_many_of_nothing_returns_zero(self, cache):
        assert cache.set_many({}) == 0

    def test_set_many_gives_each_entry_the_expiry_and_tag(self, cache, clock):
        cache.set_many({"a": 1, "b": 2}, expire=10, tag="t")

        assert cache.get("a", expire_time=True, tag=True) == (1, clock.time() + 10, "t")
        assert cache.get("b", expire_time=True, tag=True) == (2, clock.time() + 10, "t")

    def test_set_many_replaces_and_keeps_places(self, cache):
        for key in "abc":
            cache[key] = 0
        cache.set_many({"d": 4, "a": 1})

        assert list(cache.items()) == [("a", 1), ("b", 0), ("c", 0), ("d", 4)]

    def test_set_many_with_large_values_stores_them(self, cache):
        values = {number: bytes([number]) * 50_000 for number in range(5)}
        cache.set_many(values)

        assert dict(cache.items()) == values

    def test_set_many_with_a_value_that_cannot_be_stored_stores_nothing(self, cache):
        cache["a"] = "old"

        with pytest.raises(UNPICKLABLE):
            cache.set_many({"a": b"x" * 50_000, "b": lambda: None, "c": 1})
        assert dict(cache.items()) == {"a": "old"}

    def test_set_many_with_a_tag_of_another_type_stores_nothing(self, cache):
        with pytest.raises(TypeError):
            cache.set_many({"a": b"x" * 50_000}, tag=("t",))

        assert len(cache) == 0

    def test_delete_many_removes_and_returns_how_many_there_were(self, cache, clock):
        cache.set_many({"a": 1, "b": 2, "c": b"x" * 50_000})
        cache.set("gone", 1, expire=10)
        clock.advance(11)

        assert cache.delete_many(["a", "c", "missing", "gone", "a"]) == 2
        assert list(cache.keys()) == ["b"]

    def test_delete_many_of_nothing_returns_zero(self, cache):
        assert cache.delete_many([]) == 0

    @asks_for("transactions")
    def test_bulk_writes_take_part_in_a_transaction(self, cache):
        cache["a"] = 1
        with pytest.raises(ZeroDivisionError), cache.transact():
            cache.set_many({"a": 2, "b": 3})
            cache.delete_many(["a"])
            raise ZeroDivisionError

        assert dict(cache.items()) == {"a": 1}
