"""Operations on one key, and the shapes of what they return."""

from __future__ import annotations

import pytest

from diskcache import ENOVAL
from diskcache.testing.contract import Contract

SHAPES = [
    pytest.param(False, False, id="value"),
    pytest.param(True, False, id="expire_time"),
    pytest.param(False, True, id="tag"),
    pytest.param(True, True, id="both"),
]


def shaped(value, expire_time, tag, with_expire_time, with_tag):
    """Return the shape that the two flags ask for."""
    extra = (expire_time,) * with_expire_time + (tag,) * with_tag
    return (value, *extra) if extra else value


class SetContract(Contract):
    def test_set_returns_true_for_new_and_existing_key(self, cache):
        assert cache.set("a", 1) is True
        assert cache.set("a", 2) is True

    def test_set_without_expire_and_tag_drops_those_of_the_old_entry(self, cache):
        cache.set("a", 1, expire=10, tag="t")
        cache.set("a", 2)

        assert cache.get("a", expire_time=True, tag=True) == (2, None, None)

    def test_set_existing_key_keeps_its_place(self, cache):
        for key in "abc":
            cache[key] = 0
        cache.set("a", 1)

        assert list(cache) == ["a", "b", "c"]

    def test_set_expired_key_keeps_its_place(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache.set("a", 0, expire=10)
        cache["b"] = 0
        clock.advance(11)
        cache.set("a", 1)

        assert list(cache) == ["a", "b"]
        assert cache["a"] == 1

    def test_set_takes_all_arguments_by_position(self, cache, clock):
        assert cache.set("a", 1, 10, False, "t", True) is True
        assert cache.get("a", None, False, True, True) == (1, clock.time() + 10, "t")


class AddContract(Contract):
    def test_add_missing_key_stores_and_returns_true(self, cache):
        assert cache.add("a", 1) is True
        assert cache["a"] == 1

    def test_add_live_key_returns_false_and_changes_nothing(self, cache, clock):
        cache.set("a", 1, expire=10, tag="t")

        assert cache.add("a", 2, expire=99, tag="u") is False
        assert cache.get("a", expire_time=True, tag=True) == (1, clock.time() + 10, "t")

    def test_add_expired_key_stores_value_in_its_place(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache.set("a", 1, expire=10, tag="t")
        cache["b"] = 0
        clock.advance(11)

        assert cache.add("a", 2) is True
        assert cache.get("a", expire_time=True, tag=True) == (2, None, None)
        assert list(cache) == ["a", "b"]

    def test_add_key_that_holds_none_returns_false(self, cache):
        cache["a"] = None

        assert cache.add("a", 1) is False

    def test_add_stores_expiry_and_tag(self, cache, clock):
        cache.add("a", 1, expire=10, tag="t")

        assert cache.get("a", expire_time=True, tag=True) == (1, clock.time() + 10, "t")


class GetContract(Contract):
    @pytest.mark.parametrize(("expire_time", "tag"), SHAPES)
    def test_get_hit_returns_the_shape_asked_for(self, cache, clock, expire_time, tag):
        cache.set("a", "value", expire=10, tag="red")

        result = cache.get("a", expire_time=expire_time, tag=tag)

        assert result == shaped("value", clock.time() + 10, "red", expire_time, tag)

    @pytest.mark.parametrize(("expire_time", "tag"), SHAPES)
    def test_get_hit_without_expiry_and_tag_fills_the_shape_with_none(
        self, cache, expire_time, tag
    ):
        cache["a"] = "value"

        assert cache.get("a", expire_time=expire_time, tag=tag) == shaped(
            "value", None, None, expire_time, tag
        )

    @pytest.mark.parametrize("expired", [False, True], ids=["missing", "expired"])
    @pytest.mark.parametrize(("expire_time", "tag"), SHAPES)
    def test_get_miss_returns_the_default_in_the_same_shape(
        self, cache, clock, expire_time, tag, expired
    ):
        if expired:
            cache.set("a", 1, expire=10, tag="red")
            clock.advance(11)

        result = cache.get("a", default="none", expire_time=expire_time, tag=tag)

        assert result == shaped("none", None, None, expire_time, tag)

    def test_get_miss_without_default_returns_none(self, cache):
        assert cache.get("a") is None

    def test_get_miss_returns_the_default_object_itself(self, cache):
        default = object()

        assert cache.get("a", default) is default
        assert cache.get("a", default=ENOVAL) is ENOVAL

    def test_get_stored_none_is_not_the_default(self, cache):
        cache["a"] = None

        assert cache.get("a", default=1) is None


class PopContract(Contract):
    @pytest.mark.parametrize(("expire_time", "tag"), SHAPES)
    def test_pop_hit_returns_the_shape_asked_for_and_removes(self, cache, clock, expire_time, tag):
        cache.set("a", "value", expire=10, tag="red")

        result = cache.pop("a", expire_time=expire_time, tag=tag)

        assert result == shaped("value", clock.time() + 10, "red", expire_time, tag)
        assert "a" not in cache
        assert len(cache) == 0

    @pytest.mark.parametrize(("expire_time", "tag"), SHAPES)
    def test_pop_miss_returns_the_default_in_the_same_shape(self, cache, expire_time, tag):
        result = cache.pop("a", default="none", expire_time=expire_time, tag=tag)

        assert result == shaped("none", None, None, expire_time, tag)

    def test_pop_miss_without_default_returns_none(self, cache):
        assert cache.pop("a") is None

    def test_pop_expired_key_returns_the_default(self, cache, clock):
        cache.set("a", 1, expire=10)
        clock.advance(11)

        assert cache.pop("a", default="none") == "none"

    def test_pop_removes_only_its_key(self, cache):
        cache["a"] = 1
        cache["b"] = 2
        cache.pop("a")

        assert list(cache) == ["b"]


class DeleteContract(Contract):
    def test_delete_stored_key_returns_true_and_removes(self, cache):
        cache["a"] = 1

        assert cache.delete("a") is True
        assert "a" not in cache
        assert len(cache) == 0

    def test_delete_missing_key_returns_false(self, cache):
        assert cache.delete("a") is False

    def test_delete_expired_key_returns_false(self, cache, clock):
        cache.set("a", 1, expire=10)
        clock.advance(11)

        assert cache.delete("a") is False

    def test_delete_takes_retry(self, cache):
        cache["a"] = 1

        assert cache.delete("a", retry=True) is True


class TouchContract(Contract):
    def test_touch_live_key_sets_a_new_expiry(self, cache, clock):
        cache.set("a", 1, expire=10)
        clock.advance(5)

        assert cache.touch("a", expire=20) is True
        assert cache.get("a", expire_time=True) == (1, clock.time() + 20)

    def test_touch_without_expire_makes_the_entry_permanent(self, cache, clock):
        cache.set("a", 1, expire=10)

        assert cache.touch("a") is True

        clock.advance(1e9)

        assert cache.get("a", expire_time=True) == (1, None)

    def test_touch_gives_a_permanent_entry_an_expiry(self, cache, clock):
        cache["a"] = 1
        cache.touch("a", expire=10)
        clock.advance(11)

        assert "a" not in cache

    def test_touch_missing_key_returns_false(self, cache):
        assert cache.touch("a", expire=10) is False
        assert len(cache) == 0

    def test_touch_expired_key_returns_false_and_does_not_revive_it(self, cache, clock):
        cache.set("a", 1, expire=10)
        clock.advance(11)

        assert cache.touch("a", expire=100) is False
        assert "a" not in cache

    def test_touch_keeps_value_tag_and_place(self, cache):
        cache.set("a", [1], tag="t")
        cache["b"] = 0
        cache.touch("a", expire=10)

        assert cache.get("a", tag=True) == ([1], "t")
        assert list(cache) == ["a", "b"]

    def test_touch_with_zero_expires_the_entry(self, cache):
        cache["a"] = 1

        assert cache.touch("a", expire=0) is True
        assert "a" not in cache


class ReadContract(Contract):
    def test_read_plain_value_returns_it(self, cache):
        cache["a"] = [1, 2]

        assert cache.read("a") == [1, 2]

    def test_read_missing_key_raises_key_error(self, cache):
        with pytest.raises(KeyError):
            cache.read("a")

    def test_read_expired_key_raises_key_error(self, cache, clock):
        cache.set("a", 1, expire=10)
        clock.advance(11)

        with pytest.raises(KeyError):
            cache.read("a")
