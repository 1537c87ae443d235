"""Order and iteration."""

from __future__ import annotations

import types

import pytest

from diskcache.testing.contract import Contract


class IterationContract(Contract):
    needs = frozenset({"ordered"})

    def test_iter_gives_keys_in_insertion_order(self, cache):
        keys = ["b", 3, "a", b"x", 2.5, ("t", 1), None]
        for key in keys:
            cache[key] = 0

        assert list(cache) == keys
        assert list(reversed(cache)) == keys[::-1]

    def test_delete_and_set_again_moves_the_key_last(self, cache):
        for key in "abc":
            cache[key] = 0
        del cache["a"]
        cache["a"] = 1

        assert list(cache) == ["b", "c", "a"]

    def test_iter_of_an_empty_cache_stops_at_once(self, cache):
        with pytest.raises(StopIteration):
            next(iter(cache))
        with pytest.raises(StopIteration):
            next(reversed(cache))

    def test_iter_gives_generators(self, cache):
        assert isinstance(iter(cache), types.GeneratorType)
        assert isinstance(reversed(cache), types.GeneratorType)
        assert isinstance(cache.iterkeys(), types.GeneratorType)

    def test_iter_of_many_entries_gives_each_once(self, cache):
        cache.set_many({number: number for number in range(350)})

        assert list(cache) == list(range(350))
        assert list(reversed(cache)) == list(range(349, -1, -1))

    def test_iter_does_not_see_keys_added_after_the_call(self, cache):
        cache["a"] = 0
        cache["b"] = 0
        keys = iter(cache)
        cache["c"] = 0

        assert list(keys) == ["a", "b"]

    def test_iter_does_not_see_keys_removed_ahead_of_it(self, cache):
        cache.set_many(dict.fromkeys(range(300), 0))
        keys = iter(cache)
        first = next(keys)
        del cache[250]

        assert [first, *keys] == [number for number in range(300) if number != 250]

    def test_iter_while_deleting_each_key_empties_the_cache(self, cache):
        for number in range(250):
            cache[number] = 0
        for key in cache:
            del cache[key]

        assert len(cache) == 0

    def test_iter_while_adding_keys_ends(self, cache):
        cache[0] = 0
        cache[1] = 0
        seen = []
        for key in cache:
            seen.append(key)
            cache[key + 100] = 0

        assert seen == [0, 1]
        assert len(cache) == 4

    def test_two_iterators_do_not_disturb_each_other(self, cache):
        for key in "abc":
            cache[key] = 0

        assert [(x, y) for x in cache for y in cache] == [(x, y) for x in "abc" for y in "abc"]


class IterkeysContract(Contract):
    needs = frozenset({"ordered"})

    def test_iterkeys_sorts_numbers_by_value_then_text_by_utf8_then_bytes(self, cache):
        keys = ["é", 3, "a", b"\xff", -1, "Z", 2.5, b"a", "ab", 2**62, "\U0001f600", "\uffff"]
        for key in keys:
            cache[key] = 0

        expected = [-1, 2.5, 3, 2**62, "Z", "a", "ab", "é", "\uffff", "\U0001f600", b"a", b"\xff"]

        assert list(cache.iterkeys()) == expected
        assert list(cache.iterkeys(reverse=True)) == expected[::-1]

    def test_iterkeys_gives_keys_of_other_types_after_text(self, cache):
        for key in [("t",), "text", None, 5]:
            cache[key] = 0

        keys = list(cache.iterkeys())

        assert keys[:2] == [5, "text"]
        assert set(keys[2:]) == {("t",), None}

    def test_iterkeys_of_many_entries_gives_each_once(self, cache):
        cache.set_many(dict.fromkeys(range(350, 0, -1), 0))

        assert list(cache.iterkeys()) == list(range(1, 351))
        assert list(cache.iterkeys(reverse=True)) == list(range(350, 0, -1))

    def test_iterkeys_does_nothing_until_first_used(self, cache):
        cache["a"] = 0
        keys = cache.iterkeys()
        cache["b"] = 0

        assert list(keys) == ["a", "b"]

    def test_iterkeys_sees_keys_added_ahead_of_it(self, cache):
        cache.set_many(dict.fromkeys(range(250), 0))
        keys = cache.iterkeys()
        next(keys)
        cache[1000] = 0

        assert list(keys)[-1] == 1000

    def test_iterkeys_of_an_empty_cache_is_empty(self, cache):
        assert list(cache.iterkeys()) == []
        assert list(cache.iterkeys(reverse=True)) == []


@pytest.mark.since6("version 5 has no keys, values and items")
class KeysValuesItemsContract(Contract):
    needs = frozenset({"ordered"})

    def test_keys_values_and_items_give_live_entries_in_insertion_order(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache["b"] = 1
        cache.set("gone", 2, expire=10)
        cache["a"] = [3]
        clock.advance(11)

        assert list(cache.keys()) == ["b", "a"]
        assert list(cache.values()) == [1, [3]]
        assert list(cache.items()) == [("b", 1), ("a", [3])]

    def test_keys_values_and_items_of_many_entries_give_each_once(self, cache):
        cache.set_many({number: -number for number in range(350)})

        assert list(cache.keys()) == list(range(350))
        assert list(cache.values()) == [-number for number in range(350)]
        assert dict(cache.items()) == {number: -number for number in range(350)}

    def test_keys_with_prefix_gives_text_keys_that_start_with_it_sorted(self, cache):
        for key in ["user:2", "use", "user:1", "user;", "USER:3", b"user:4", 5, ("user:",)]:
            cache[key] = str(key)

        assert list(cache.keys(prefix="user:")) == ["user:1", "user:2"]
        assert list(cache.values(prefix="user:")) == ["user:1", "user:2"]
        assert list(cache.items(prefix="user:")) == [("user:1", "user:1"), ("user:2", "user:2")]

    @pytest.mark.parametrize("prefix", ["%", "_", "a*", "[", "\U0010ffff", "é", "a'b"])
    def test_keys_with_prefix_takes_every_character_as_itself(self, cache, prefix):
        for key in [prefix + "1", "b" + prefix, "x", "\U0010ffff\U0010ffff"]:
            cache[key] = 0

        expected = [key for key in cache.iterkeys() if key.startswith(prefix)]

        assert expected
        assert list(cache.keys(prefix=prefix)) == expected

    def test_keys_with_tag_gives_entries_of_the_tag(self, cache):
        cache.set("a", 1, tag="red")
        cache.set("b", 2, tag="blue")
        cache.set("c", 3, tag="red")
        cache["d"] = 4

        assert list(cache.keys(tag="red")) == ["a", "c"]
        assert list(cache.values(tag="red")) == [1, 3]
        assert list(cache.items(tag="red")) == [("a", 1), ("c", 3)]

    def test_keys_with_prefix_and_tag_takes_both(self, cache):
        cache.set("x1", 1, tag="red")
        cache.set("x2", 2, tag="blue")
        cache.set("y1", 3, tag="red")

        assert list(cache.keys(prefix="x", tag="red")) == ["x1"]

    def test_items_while_deleting_each_key_empties_the_cache(self, cache):
        for number in range(250):
            cache[number] = number
        for key, _ in cache.items():
            del cache[key]

        assert len(cache) == 0
