"""A cache feels like a dict."""

from __future__ import annotations

import pytest

from diskcache.testing.contract import Contract


class MappingContract(Contract):
    def test_getitem_stored_key_returns_value(self, cache):
        cache["a"] = 1

        assert cache["a"] == 1

    def test_getitem_missing_key_raises_key_error_with_the_key(self, cache):
        with pytest.raises(KeyError) as raised:
            cache["missing"]

        assert raised.value.args == ("missing",)

    def test_getitem_expired_key_raises_key_error(self, cache, clock):
        cache.set("a", 1, expire=10)
        clock.advance(11)

        with pytest.raises(KeyError) as raised:
            cache["a"]
        assert raised.value.args == ("a",)

    def test_setitem_existing_key_replaces_value(self, cache):
        cache["a"] = 1
        cache["a"] = "two"

        assert cache["a"] == "two"
        assert len(cache) == 1

    def test_setitem_existing_key_drops_expiry_and_tag(self, cache):
        cache.set("a", 1, expire=10, tag="t")
        cache["a"] = 2

        assert cache.get("a", expire_time=True, tag=True) == (2, None, None)

    def test_delitem_stored_key_removes_it(self, cache):
        cache["a"] = 1
        del cache["a"]

        assert "a" not in cache
        assert len(cache) == 0

    def test_delitem_missing_key_raises_key_error_with_the_key(self, cache):
        with pytest.raises(KeyError) as raised:
            del cache["missing"]

        assert raised.value.args == ("missing",)

    def test_delitem_expired_key_raises_key_error(self, cache, clock):
        cache.set("a", 1, expire=10)
        clock.advance(11)

        with pytest.raises(KeyError):
            del cache["a"]

    def test_delitem_called_by_name_takes_retry_and_returns_true(self, cache):
        cache["a"] = 1

        assert cache.__delitem__("a", retry=False) is True

    def test_contains_tells_stored_from_missing(self, cache):
        cache["a"] = None

        assert "a" in cache
        assert "b" not in cache

    def test_contains_expired_key_is_false(self, cache, clock):
        cache.set("a", 1, expire=10)
        clock.advance(11)

        assert "a" not in cache

    def test_len_counts_entries(self, cache):
        for number in range(7):
            cache[number] = number
        del cache[3]

        assert len(cache) == 6

    def test_bool_of_empty_cache_is_false(self, cache):
        assert not cache

        cache["a"] = 1

        assert cache

    def test_equality_is_identity(self, cache, make_cache):
        other = make_cache()

        assert cache != other
        assert cache == cache  # noqa: PLR0124 - the operator is the subject
        assert len({cache, other}) == 2

    def test_two_objects_on_one_directory_share_entries(self, cache, make_cache):
        other = make_cache()
        cache["a"] = 1

        assert other["a"] == 1

        del other["a"]

        assert "a" not in cache
        assert len(cache) == 0

    def test_value_changed_after_storing_does_not_change_the_entry(self, cache):
        value = [1]
        cache["a"] = value
        value.append(2)

        assert cache["a"] == [1]

    def test_value_changed_after_reading_does_not_change_the_entry(self, cache):
        cache["a"] = {"numbers": [1]}
        cache["a"]["numbers"].append(2)
        cache.get("a")["numbers"].append(3)

        assert cache["a"] == {"numbers": [1]}

    def test_clear_removes_everything_and_returns_the_count(self, cache):
        for number in range(250):
            cache[number] = number

        assert cache.clear() == 250
        assert len(cache) == 0
        assert list(cache) == []
        assert cache.clear() == 0

    def test_clear_removes_expired_entries_too(self, cache, clock):
        cache.set("a", 1, expire=10)
        cache["b"] = 2
        clock.advance(11)

        assert cache.clear() == 2

    @pytest.mark.since6("version 5 has the default repr")
    def test_repr_shows_the_directory(self, cache):
        assert repr(cache) == f"Cache({cache.directory!r})"
