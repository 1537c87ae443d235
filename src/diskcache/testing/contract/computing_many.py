"""The values of many keys are returned, or computed by one call, and stored together."""

from __future__ import annotations

import functools
import threading

import pytest

from diskcache.testing.contract import Contract
from diskcache.testing.contract.computing import Unstorable, in_each
from diskcache.testing.contract.together import in_threads, until_expected


class ComputingManyContract(Contract):
    def test_get_or_set_many_computes_what_is_missing_with_one_call(self, cache):
        cache["a"] = 1
        calls = []

        def func(keys):
            calls.append(keys)
            return {key: key * 2 for key in keys}

        assert cache.get_or_set_many(["a", "b", "c", "b"], func, expire=9, tag="t") == {
            "a": 1, "b": "bb", "c": "cc",
        }  # fmt: skip
        assert calls == [["b", "c"]]
        assert cache.get("c", tag=True) == ("cc", "t")

    def test_get_or_set_many_is_counted_once(self, make_cache):
        cache = make_cache(statistics=True)
        cache.get_or_set_many("abc", lambda keys: {key: key for key in keys})
        cache.get_or_set_many("abc", lambda keys: {key: key for key in keys})

        assert cache.stats() == (3, 3)

    def test_get_or_set_many_leaves_out_what_the_function_does_not_know(self, cache):
        assert cache.get_or_set_many(["a", "b"], lambda _: {"b": None}) == {"b": None}
        assert "a" not in cache

    def test_get_or_set_many_that_raises_may_be_repeated(self, cache):
        with pytest.raises(ZeroDivisionError):
            cache.get_or_set_many("ab", lambda _: 1 / 0)

        assert cache.get_or_set_many("ab", dict.fromkeys) == {"a": None, "b": None}

    def test_get_or_set_many_keeps_each_value_as_long_as_it_says(self, cache):
        func = {"a": 5, "b": 0, "c": 7}.copy
        cache.get_or_set_many("abc", lambda _: func(), expire=lambda value: value, tag="t")

        assert [cache.get(key, tag=True)[1] for key in "abc"] == ["t", None, "t"]
        expires = [cache.get(key, expire_time=True)[1] for key in "ac"]
        assert expires[1] - expires[0] == pytest.approx(2)

    @pytest.mark.parametrize("option", ["when", "expire"])
    def test_get_or_set_many_whose_option_fails_for_one_keeps_all_others(self, cache, option):
        error = KeyError("b")

        def judge(value):
            if value == "b":
                raise error
            return 60

        with pytest.raises(KeyError) as caught:
            cache.get_or_set_many("abc", lambda keys: {key: key for key in keys}, **{option: judge})

        assert caught.value is error
        assert cache.get_many("abc") == {"a": "a", "c": "c"}

    def test_get_or_set_many_returns_what_cannot_be_stored_and_keeps_all_others(self, cache):
        values = {"a": 1, "b": Unstorable(), "c": 3}

        assert cache.get_or_set_many("abc", lambda _: values) == values
        assert cache.get_many("abc") == {"a": 1, "c": 3}

    def test_who_waits_for_one_of_many_gets_its_value_although_another_one_fails(self, cache):
        begun = threading.Event()

        def func(keys):
            begun.set()
            until_expected(2)
            return {key: key for key in keys}

        def judge(value):
            return 1 if value == "b" else 1 / 0

        def ask_many():
            with pytest.raises(ZeroDivisionError):
                cache.get_or_set_many("ab", func, when=judge)

        def ask(key):
            begun.wait(60)
            return cache.get_or_set(key, lambda: "own", share_errors=False)

        asks = [functools.partial(ask, key) for key in "ab"]
        assert in_threads(ask_many, *asks) == [None, "own", "b"]

    def test_get_or_set_many_by_threads_computes_each_key_once(self, cache):
        both, calls = threading.Barrier(2), []

        def func(keys):
            calls.extend(keys)
            return {key: key for key in keys}

        def ask(keys):
            both.wait(60)
            return list(cache.get_or_set_many(keys, func))

        assert in_each(ask, ["abc", "cba"]) == [["a", "b", "c"], ["c", "b", "a"]]
        assert sorted(calls) == ["a", "b", "c"]
