"""A cache is a set of queues."""

from __future__ import annotations

import sqlite3

import pytest

from diskcache.testing.contract import Contract
from diskcache.testing.contract.single import SHAPES
from diskcache.testing.directories import value_files

START = 500_000_000_000_000
LAST = 999_999_999_999_998


def shaped(pair, expire_time, tag, with_expire_time, with_tag):
    """Return the shape that the two flags ask for."""
    extra = (expire_time,) * with_expire_time + (tag,) * with_tag
    return (pair, *extra) if extra else pair


class PushContract(Contract):
    def test_push_to_an_empty_queue_starts_in_the_middle(self, cache):
        assert cache.push("a") == START
        assert cache[START] == "a"

    def test_push_back_counts_up_and_push_front_counts_down(self, cache):
        assert cache.push("a") == START
        assert cache.push("b") == START + 1
        assert cache.push("c", side="front") == START - 1
        assert cache.push("d", side="back") == START + 2

    def test_push_with_prefix_makes_text_keys_of_fifteen_digits(self, cache):
        assert cache.push("a", prefix="jobs") == "jobs-500000000000000"
        assert cache.push("b", prefix="jobs") == "jobs-500000000000001"
        assert cache.push("c", prefix="jobs", side="front") == "jobs-499999999999999"

    def test_push_with_empty_prefix_makes_keys_with_a_dash(self, cache):
        assert cache.push("a", prefix="") == "-500000000000000"

    def test_push_of_one_prefix_does_not_see_another(self, cache):
        cache.push("a", prefix="x")
        cache.push("b")

        assert cache.push("c", prefix="y") == "y-500000000000000"
        assert cache.push("d", prefix="x") == "x-500000000000001"
        assert cache.push("e") == START + 1

    def test_push_to_a_drained_queue_starts_in_the_middle_again(self, cache):
        for value in "abc":
            cache.push(value)
        for _ in "abc":
            cache.pull()

        assert cache.push("d") == START

    def test_push_counts_from_any_number_in_the_range(self, cache):
        cache[5] = "foreign"

        assert cache.push("a") == 6
        assert cache.push("b", side="front") == 4

    @pytest.mark.parametrize("key", [0, -3, 10**15, 2**62, "7", b"7", (7,), True], ids=repr)
    def test_push_does_not_see_keys_outside_the_range(self, cache, key):
        cache[key] = "foreign"

        assert cache.push("a") == START

    def test_push_counts_from_expired_entries_too(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache.push("a", expire=10)
        clock.advance(11)

        assert cache.push("b") == START + 1

    def test_push_stores_expiry_and_tag(self, cache, clock):
        key = cache.push("a", expire=10, tag="t")

        assert cache.get(key, expire_time=True, tag=True) == ("a", clock.time() + 10, "t")

    def test_push_with_an_unknown_side_raises_key_error(self, cache):
        with pytest.raises(KeyError):
            cache.push("a", side="left")

        assert len(cache) == 0

    def test_push_with_a_prefix_that_is_no_text_raises_type_error(self, cache):
        with pytest.raises(TypeError):
            cache.push("a", prefix=5)

        assert len(cache) == 0

    def test_push_behind_the_last_number_raises_integrity_error(self, cache):
        cache[LAST - 1] = "foreign"

        with pytest.raises(sqlite3.IntegrityError):
            for _ in range(3):
                cache.push("a")

    def test_push_before_the_first_number_raises_integrity_error(self, cache):
        cache[2] = "foreign"

        with pytest.raises(sqlite3.IntegrityError):
            for _ in range(3):
                cache.push("a", side="front")

    @pytest.mark.since6("version 5 makes keys at the ends that are outside the range")
    def test_push_at_the_ends_makes_no_key_that_pull_cannot_see(self, cache):
        cache[LAST] = "foreign"

        with pytest.raises(sqlite3.IntegrityError):
            cache.push("a")
        assert list(cache) == [LAST]

    def test_push_behind_a_text_key_without_number_raises_value_error(self, cache):
        cache["a-5xyz"] = "foreign"

        with pytest.raises(ValueError):
            cache.push("b", prefix="a")
        assert len(cache) == 1

    def test_push_large_value_comes_back_whole(self, cache):
        value = b"x" * 100_000
        key = cache.push(value)

        assert cache.pull() == (key, value)


class PullContract(Contract):
    def test_pull_returns_the_oldest_first(self, cache):
        keys = [cache.push(value) for value in "abc"]

        assert [cache.pull() for _ in "abc"] == list(zip(keys, "abc", strict=True))
        assert len(cache) == 0

    def test_pull_from_the_back_returns_the_newest_first(self, cache):
        keys = [cache.push(value) for value in "abc"]

        assert cache.pull(side="back") == (keys[2], "c")
        assert cache.pull(side="front") == (keys[0], "a")

    def test_pull_with_prefix_returns_entries_of_that_queue(self, cache):
        cache.push(1)
        key = cache.push(2, prefix="jobs")

        assert cache.pull(prefix="jobs") == (key, 2)
        assert cache.pull(prefix="jobs") == (None, None)
        assert len(cache) == 1

    def test_pull_of_stored_none_is_not_the_default(self, cache):
        key = cache.push(None)

        assert cache.pull(default="empty") == (key, None)

    def test_pull_removes_expired_entries_that_it_meets(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache.push("a", expire=10)
        cache.push("b", expire=10)
        key = cache.push("c")
        clock.advance(11)

        assert cache.pull() == (key, "c")
        assert len(cache) == 0

    def test_pull_takes_any_number_in_the_range(self, cache):
        cache[7] = "foreign"
        cache["text"] = "other"

        assert cache.pull() == (7, "foreign")
        assert cache.pull() == (None, None)
        assert list(cache) == ["text"]

    def test_pull_with_an_unknown_side_raises_key_error(self, cache):
        cache.push("a")

        with pytest.raises(KeyError):
            cache.pull(side="left")
        assert len(cache) == 1


@pytest.mark.parametrize("operation", ["pull", "peek"])
class PullAndPeekShapesContract(Contract):
    @pytest.mark.parametrize(("expire_time", "tag"), SHAPES)
    def test_hit_returns_the_shape_asked_for(self, cache, clock, operation, expire_time, tag):
        key = cache.push("a", expire=10, tag="t")

        result = getattr(cache, operation)(expire_time=expire_time, tag=tag)

        assert result == shaped((key, "a"), clock.time() + 10, "t", expire_time, tag)

    @pytest.mark.parametrize(("expire_time", "tag"), SHAPES)
    def test_empty_queue_returns_the_default_in_the_same_shape(
        self, cache, operation, expire_time, tag
    ):
        result = getattr(cache, operation)(expire_time=expire_time, tag=tag)

        assert result == shaped((None, None), None, None, expire_time, tag)

    @pytest.mark.parametrize(("expire_time", "tag"), SHAPES)
    def test_given_default_is_not_taken_apart(self, cache, operation, expire_time, tag):
        result = getattr(cache, operation)(default="empty", expire_time=expire_time, tag=tag)

        assert result == shaped("empty", None, None, expire_time, tag)


class PeekContract(Contract):
    def test_peek_returns_an_end_and_removes_nothing(self, cache):
        keys = [cache.push(value) for value in "abc"]

        assert cache.peek() == (keys[0], "a")
        assert cache.peek(side="back") == (keys[2], "c")
        assert len(cache) == 3

    def test_peek_with_prefix_returns_entries_of_that_queue(self, cache):
        cache.push(1)
        key = cache.push(2, prefix="jobs")

        assert cache.peek(prefix="jobs") == (key, 2)

    def test_peek_removes_expired_entries_that_it_meets(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache.push("a", expire=10)
        key = cache.push("b")
        clock.advance(11)

        assert cache.peek() == (key, "b")
        assert len(cache) == 1

    def test_peek_with_an_unknown_side_raises_key_error(self, cache):
        with pytest.raises(KeyError):
            cache.peek(side="left")


class PeekitemContract(Contract):
    needs = frozenset({"ordered"})

    def test_peekitem_returns_the_last_entry_by_default(self, cache):
        for key in "abc":
            cache[key] = key.upper()

        assert cache.peekitem() == ("c", "C")
        assert cache.peekitem(last=False) == ("a", "A")
        assert len(cache) == 3

    @pytest.mark.parametrize(("expire_time", "tag"), SHAPES)
    def test_peekitem_returns_the_shape_asked_for(self, cache, clock, expire_time, tag):
        cache.set("a", 1, expire=10, tag="t")

        result = cache.peekitem(expire_time=expire_time, tag=tag)

        assert result == shaped(("a", 1), clock.time() + 10, "t", expire_time, tag)

    def test_peekitem_of_an_empty_cache_raises_key_error(self, cache):
        with pytest.raises(KeyError):
            cache.peekitem()

    def test_peekitem_removes_expired_entries_that_it_meets(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache["a"] = 1
        cache.set("b", 2, expire=10)
        clock.advance(11)

        assert cache.peekitem() == ("a", 1)
        assert len(cache) == 1

    def test_peekitem_of_expired_entries_alone_raises_key_error(self, make_cache, clock):
        cache = make_cache(cull_limit=0)
        cache.set("a", 1, expire=10)
        clock.advance(11)

        with pytest.raises(KeyError):
            cache.peekitem()

    def test_peekitem_returns_keys_of_any_type(self, cache):
        cache["a", 1] = "tuple"

        assert cache.peekitem() == (("a", 1), "tuple")


class LostFileContract(Contract):
    """What the queue methods do when somebody removed a value file behind the cache's back."""

    needs = frozenset({"files"})

    @pytest.fixture
    def cache(self, cache):
        """A queue whose first value has lost its file."""
        cache.push(b"x" * 100_000)
        for path in value_files(cache.directory):
            path.unlink()
            path.parent.rmdir()
            path.parent.parent.rmdir()
        cache.push("second")
        return cache

    def test_pull_goes_on_to_the_next_entry(self, cache):
        assert cache.pull() == (START + 1, "second")
        assert len(cache) == 0

    @pytest.mark.since6("version 5 hangs")
    def test_peek_goes_on_to_the_next_entry(self, cache):
        assert cache.peek() == (START + 1, "second")

    @pytest.mark.since6("version 5 hangs")
    def test_peekitem_goes_on_to_the_next_entry(self, cache):
        assert cache.peekitem(last=False) == (START + 1, "second")
