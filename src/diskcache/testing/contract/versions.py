"""Compare and set: an entry is replaced only if it is still the one that was read."""

from __future__ import annotations

import functools
import random

import pytest

from diskcache import TooLargeError, UntrustedPickleWarning
from diskcache.testing.contract import Contract, asks_for
from diskcache.testing.contract.together import in_threads


class VersionsContract(Contract):
    def test_get_with_version_returns_it_last(self, cache, clock):
        cache.set("k", [1], expire=10, tag="t")
        value, version = cache.get("k", version=True)

        assert value == [1]
        assert type(version) is int
        assert cache.get("k", expire_time=True, tag=True, version=True) == (
            [1], clock.time() + 10, "t", version,
        )  # fmt: skip
        assert cache.get("missing", 0, version=True) == (0, None)

    @pytest.mark.parametrize(
        "change",
        [
            lambda cache: cache.set("k", 1),
            lambda cache: cache.set("k", bytes(40_000)),
            lambda cache: cache.touch("k", 5),
            lambda cache: cache.incr("k"),
            lambda cache: cache.set_many({"k": 1}),
            lambda cache: (cache.delete("k"), cache.set("k", 1)),
            lambda cache: (cache.pop("k"), cache.add("k", 1)),
            lambda cache: cache.set("k", 1, if_version=cache.get("k", version=True)[1]),
        ],
    )
    def test_set_under_a_version_that_is_over_stores_nothing(self, cache, change):
        cache["k"] = 1
        for _ in "abc":
            cache.get("k")
        _, version = cache.get("k", version=True)
        change(cache)
        before = cache.get("k")

        assert cache.set("k", "lost", if_version=version) is False
        assert cache.get("k") == before

    @pytest.mark.parametrize("value", [2, "text", bytes(40_000)])
    def test_set_under_the_version_of_the_entry_replaces_it(self, cache, value):
        cache.set("k", bytes(40_000))
        _, version = cache.get("k", version=True)

        assert cache.set("k", value, if_version=version, expire=60, tag="t") is True
        assert cache.get("k", tag=True) == (value, "t")

    def test_set_under_no_version_needs_that_there_is_no_live_entry(self, cache, clock):
        assert cache.set("k", 1, expire=10, if_version=None) is True
        assert cache.set("k", 2, if_version=None) is False
        clock.advance(11)
        assert cache.set("k", 3, if_version=None) is True
        assert cache["k"] == 3

    def test_set_under_the_version_of_an_expired_entry_stores_nothing(self, cache, clock):
        cache.set("k", 1, expire=10)
        _, version = cache.get("k", version=True)
        clock.advance(11)

        assert cache.set("k", 2, if_version=version) is False

    @asks_for("transactions")
    def test_set_under_a_version_in_a_transaction(self, cache):
        with cache.transact():
            cache["k"] = 1
            _, version = cache.get("k", version=True)
            assert cache.set("k", 2, if_version=version) is True
            assert cache.set("k", 3, if_version=version) is False

        assert cache["k"] == 2

    @asks_for("transactions")
    @pytest.mark.parametrize(
        "write",
        [
            lambda cache: cache.set("k", 2),
            lambda cache: cache.set("k", 2, expire=60, tag="t"),
            lambda cache: cache.set("k", bytes(40_000)),
            lambda cache: cache.set_many({"k": 2}),
            lambda cache: cache.touch("k", 60),
            lambda cache: (cache.delete("k"), cache.add("k", 2)),
            lambda cache: cache.set("k", 2, if_version=cache.get("k", version=True)[1]),
            lambda cache: (cache.pop("k"), cache.incr("k"), cache.incr("k")),
        ],
    )
    @pytest.mark.parametrize("first", [1, bytes(40_000)])
    def test_version_of_an_undone_write_is_that_of_no_other_one(self, cache, write, first):
        cache["k"] = first
        versions = []
        for _ in "ab":
            with pytest.raises(ZeroDivisionError), cache.transact():
                write(cache)
                versions.append(cache.get("k", version=True)[1])
                raise ZeroDivisionError
        write(cache)
        before, last = cache.get("k", version=True)

        assert len({*versions, last}) == 3
        assert not any(cache.set("k", "lost", if_version=version) for version in versions)
        assert cache["k"] == before

    def test_version_does_not_depend_on_the_seed_that_a_program_chooses(self, cache):
        versions = []
        for _ in "ab":
            random.seed(1)
            cache.delete("k")
            cache.set("k", 1)
            versions.append(cache.get("k", version=True)[1])

        assert len(set(versions)) == 2

    @pytest.mark.parametrize("version", ["1", 1.0, True, object()])
    def test_set_under_what_is_no_version_raises(self, cache, version):
        with pytest.raises(TypeError, match="if_version must be"):
            cache.set("k", 1, if_version=version)

    def test_update_replaces_and_returns_the_value(self, cache, clock):
        assert cache.update("k", lambda value: [*value, 1], [], expire=10, tag="t") == [1]
        clock.advance(5)
        assert cache.update("k", lambda value: [*value, 2], [], expire=99, tag="u") == [1, 2]
        assert cache.get("k", expire_time=True, tag=True) == ([1, 2], clock.time() + 5, "t")

    def test_update_of_a_missing_key_gives_none_or_the_default(self, cache):
        assert cache.update("a", lambda value: value is None) is True
        assert cache.update("b", lambda value: value + 1, 41) == 42

    def test_update_that_raises_changes_nothing(self, cache):
        cache["k"] = 0
        with pytest.raises(ZeroDivisionError):
            cache.update("k", lambda value: 1 / value)

        assert cache["k"] == 0

    def test_update_that_another_write_comes_before_is_tried_again(self, cache):
        calls = []

        def func(value):
            calls.append(value)
            if len(calls) == 1:
                cache["k"] = 10
            return value + 1

        assert cache.update("k", func, 0) == 11
        assert calls == [0, 10]

    def test_update_by_what_nobody_would_await_raises_and_changes_nothing(self, cache):
        async def func(value):
            return value

        cache["k"] = 1
        with pytest.raises(TypeError, match="called, not awaited"):
            cache.update("k", func)

        assert cache["k"] == 1

    @asks_for("culling")
    def test_update_of_what_is_too_large_raises_and_changes_nothing(self, make_cache):
        cache = make_cache(size_limit=100_000)
        cache["k"] = 1
        with pytest.raises(TooLargeError):
            cache.update("k", lambda _: bytes(200_000))

        assert cache["k"] == 1

    def test_update_of_what_cannot_be_loaded_gives_the_default(self, make_cache):
        one, other = make_cache(), make_cache(pickle="never")
        one.set("k", functools.partial(int))

        with pytest.warns(UntrustedPickleWarning):
            assert other.update("k", lambda value: value + 1, 0) == 1
        assert one["k"] == 1

    @asks_for("transactions")
    def test_update_in_a_transaction(self, cache):
        with cache.transact():
            cache["k"] = 1
            assert cache.update("k", lambda value: value + 1) == 2

        assert cache["k"] == 2

    def test_update_by_threads_loses_none(self, cache):
        def work():
            for _ in range(25):
                cache.update("k", lambda value: value + 1, 0)

        in_threads(*[work] * 4)

        assert cache["k"] == 100
