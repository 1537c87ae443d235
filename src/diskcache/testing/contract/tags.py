"""Entries carry a tag, and are removed by it."""

from __future__ import annotations

import enum
import math
import sqlite3

import pytest

from diskcache.testing.contract import Contract


class Colour(str):
    """A tag of a subclass, which prints otherwise than it is."""

    __slots__ = ()

    def __str__(self):
        return "a colour"


class Number(enum.IntEnum):
    ONE = 1


class TagContract(Contract):
    @pytest.mark.parametrize("tag", ["red", "", "é", 1, 0, -7, 2.5, b"red", b"", None], ids=repr)
    def test_tag_comes_back_with_its_type(self, cache, tag):
        cache.set("a", 1, tag=tag)

        _, found = cache.get("a", tag=True)

        assert found == tag
        assert type(found) is type(tag)

    def test_tag_true_comes_back_as_one(self, cache):
        cache.set("a", 1, tag=True)

        _, found = cache.get("a", tag=True)

        assert found == 1

    @pytest.mark.parametrize(
        ("tag", "plain"), [(Colour("red"), "red"), (Number.ONE, 1)], ids=["str", "int"]
    )
    def test_tag_of_a_subclass_is_its_plain_value(self, cache, tag, plain):
        cache.set("a", 1, tag=tag)
        cache.push("b", tag=tag)
        _, found = cache.get("a", tag=True)

        assert (found, type(found)) == (plain, type(plain))
        assert cache.evict(tag) == 2

    @pytest.mark.parametrize(
        "tag", [("a",), ["a"], {"a": 1}, object()], ids=["tuple", "list", "dict", "object"]
    )
    def test_tag_of_another_type_raises_and_stores_nothing(self, cache, tag):
        with pytest.raises(sqlite3.ProgrammingError):
            cache.set("a", b"x" * 100_000, tag=tag)

        assert len(cache) == 0

    @pytest.mark.since6("version 5's error is not a TypeError")
    def test_tag_of_another_type_raises_type_error(self, cache):
        with pytest.raises(TypeError, match="tag"):
            cache.set("a", 1, tag=("a",))


class EvictContract(Contract):
    @pytest.fixture(params=[0, 1], ids=["unindexed", "indexed"])
    def cache(self, make_cache, request):
        return make_cache(tag_index=request.param)

    def test_evict_removes_the_entries_of_the_tag_and_returns_the_count(self, cache):
        for number in range(10):
            cache.set(number, 0, tag="odd" if number % 2 else "even")

        assert cache.evict("odd") == 5
        assert list(cache) == [0, 2, 4, 6, 8]

    def test_evict_unknown_tag_returns_zero(self, cache):
        cache.set("a", 1, tag="red")

        assert cache.evict("blue") == 0
        assert len(cache) == 1

    def test_evict_of_a_tag_that_equals_none_removes_nothing(self, cache):
        cache["a"] = 1
        cache.set("b", 2, tag=math.nan)

        assert cache.evict(math.nan) == 0
        assert len(cache) == 2

    def test_evict_tag_of_another_type_raises(self, cache):
        with pytest.raises(sqlite3.ProgrammingError):
            cache.evict(("a",))

    def test_evict_many_entries_removes_all(self, cache):
        cache.set_many(dict.fromkeys(range(350), 0), tag="t")
        cache["other"] = 1

        assert cache.evict("t") == 350
        assert list(cache) == ["other"]

    def test_evict_removes_expired_entries_too(self, cache, clock):
        cache.set("a", 1, tag="t", expire=10)
        clock.advance(11)

        assert cache.evict("t") == 1
        assert len(cache) == 0

    def test_evict_takes_equal_numbers_for_one_tag(self, cache):
        cache.set("int", 0, tag=1)
        cache.set("float", 0, tag=1.0)
        cache.set("bool", 0, tag=True)
        cache.set("text", 0, tag="1")

        assert cache.evict(1) == 3
        assert list(cache) == ["text"]

    def test_evict_tells_text_from_bytes(self, cache):
        cache.set("text", 0, tag="a")
        cache.set("bytes", 0, tag=b"a")

        assert cache.evict("a") == 1
        assert list(cache) == ["bytes"]
        assert cache.evict(b"a") == 1

    @pytest.mark.since6("version 5 removes nothing")
    def test_evict_none_removes_the_entries_without_a_tag(self, cache):
        cache.set("tagged", 0, tag="t")
        cache.set("empty", 0, tag="")
        cache.set("zero", 0, tag=0)
        for number in range(150):
            cache[number] = 0

        assert cache.evict(None) == 150
        assert list(cache) == ["tagged", "empty", "zero"]

    def test_evict_after_the_tag_was_replaced_leaves_the_entry(self, cache):
        cache.set("a", 1, tag="old")
        cache.set("a", 2, tag="new")

        assert cache.evict("old") == 0
        assert cache.evict("new") == 1

    def test_evict_removes_value_files(self, cache):
        cache.set("a", b"x" * 100_000, tag="t")
        before = cache.volume()

        assert cache.evict("t") == 1
        assert cache.volume() <= before - 100_000


class TagIndexContract(Contract):
    needs = frozenset({"settings"})

    def test_create_tag_index_returns_none_and_turns_the_setting_on(self, cache, make_cache):
        assert cache.tag_index == 0
        assert cache.create_tag_index() is None
        assert cache.tag_index == 1
        assert make_cache().tag_index == 1

    def test_drop_tag_index_returns_none_and_turns_the_setting_off(self, make_cache):
        cache = make_cache(tag_index=True)

        assert cache.drop_tag_index() is None
        assert cache.tag_index == 0
        assert make_cache().tag_index == 0

    def test_create_tag_index_with_entries_keeps_evict_right(self, cache):
        for number in range(20):
            cache.set(number, 0, tag=number % 2)
        cache.create_tag_index()

        assert cache.evict(1) == 10

        cache.drop_tag_index()

        assert cache.evict(0) == 10

    def test_create_and_drop_tag_index_may_be_repeated(self, cache):
        cache.create_tag_index()
        cache.create_tag_index()
        cache.drop_tag_index()
        cache.drop_tag_index()

        assert cache.tag_index == 0
