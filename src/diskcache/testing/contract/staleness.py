"""Values in grace, early refreshes, limits of time, failures that are remembered.

Time passes by the clock of the test alone.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from datetime import timedelta

import pytest

from diskcache import ENOVAL, LoaderError, LoaderTimeoutError
from diskcache.testing.contract import Contract, asks_for
from diskcache.testing.contract.together import (
    in_threads,
    until_alone,
    until_expected,
    until_landed,
)


class Source:
    """A function that counts its calls, and raises if told to."""

    def __init__(self):
        self.count = 0
        self.error = None

    def __call__(self, *_):
        self.count += 1
        if self.error is not None:
            raise self.error
        return self.count


class NotFoundError(LookupError):
    """An error of the user's."""


class StalenessContract(Contract):
    @pytest.fixture
    def source(self):
        return Source()

    # -- Grace: get stays strict --

    def test_get_of_a_value_in_grace_is_a_miss_unless_asked(self, cache, clock):
        cache.set("k", [1], expire=10, tag="t", grace=60)
        assert cache.get("k", stale=True) == [1]

        clock.advance(11)

        assert cache.get("k") is None
        assert "k" not in cache
        assert cache.add("other", 1)
        assert cache.get("k", stale=True) == [1]
        assert cache.get("k", tag=True, stale=True) == ([1], "t")
        assert list(cache.keys()) == ["other"]

        clock.advance(60)

        assert cache.get("k", "gone", stale=True) == "gone"

    @pytest.mark.parametrize("value", [1, 1.5, "text", b"bytes", None, {"a": [1]}, bytes(40_000)])
    def test_value_of_every_kind_is_kept_in_grace(self, cache, clock, value):
        cache.set("k", value, expire=10, grace=60)
        assert cache["k"] == value
        assert cache.get_many(["k"]) == {"k": value}

        clock.advance(11)

        assert cache.get("k", "gone", stale=True) == value

    @pytest.mark.parametrize("grace", [0, -5, None, float("nan")])
    def test_value_without_a_grace_above_zero_has_none(self, cache, clock, grace):
        cache.set("k", 1, expire=10, grace=grace)
        cache.set("forever", 1, grace=60)
        assert (cache["k"], cache["forever"]) == (1, 1)
        clock.advance(11)

        assert cache.get("k", "gone", stale=True) == "gone"

    def test_value_has_a_grace_of_any_length(self, cache, clock):
        cache.set("k", 1, expire=10, grace=float("inf"))
        cache.set("short", 1, expire=10, grace=0.1)
        clock.advance(10.5)

        assert cache.get("short", stale=True) == 1

        clock.advance(10**9)

        assert cache.get("k", stale=True) == 1

    def test_value_in_grace_outlives_the_removal_of_expired_ones(self, cache, clock):
        cache.set("graced", 1, expire=10, grace=60)
        cache.set("plain", 1, expire=10)
        clock.advance(11)
        cache["new"] = 1

        assert cache.expire() in {0, 1}
        assert cache.peekitem(last=False)[0] == "new"
        assert cache.get("graced", stale=True) == 1
        assert len(cache) == 2

        clock.advance(60)

        assert cache.expire() == 1
        assert len(cache) == 1

    def test_value_in_grace_is_removed_by_a_write_when_that_is_over(self, cache, clock):
        for number in range(30):
            cache.set(number, 1, expire=10, grace=60)
        clock.advance(71)
        for number in range(100, 130):
            cache.set(number, 1)

        assert len(cache) == 30

    @pytest.mark.parametrize(
        "remove",
        [
            lambda cache: cache.delete("k"),
            lambda cache: cache.pop("k"),
            lambda cache: cache.delete_many(["k"]),
            lambda cache: cache.evict("t"),
            lambda cache: cache.clear(),
            lambda cache: cache.set("k", "other", expire=-1),
            lambda cache: cache.delete("k") or cache.add("k", "other", expire=-1),
            lambda cache: cache.incr("k", expire=-1) == 1 or cache.delete("k"),
        ],
    )
    @pytest.mark.parametrize("seconds", [0, 11])
    def test_value_that_was_removed_or_replaced_is_never_served_stale(
        self, cache, clock, remove, seconds
    ):
        cache.set("k", 1, expire=10, tag="t", grace=60)
        clock.advance(seconds)
        remove(cache)
        clock.advance(11)

        assert cache.get("k", "gone", stale=True) == "gone"

    def test_delete_of_a_value_in_grace_is_false(self, cache, clock):
        cache.set("k", 1, expire=10, grace=60)
        clock.advance(11)

        assert cache.delete("k") is False

    def test_touch_moves_the_grace_too(self, cache, clock):
        cache.set("k", 1, expire=10, grace=60)
        cache.touch("k", expire=100)
        clock.advance(101)

        assert cache.get("k", stale=True) == 1

    def test_value_in_grace_survives_reopening_and_check(self, make_cache, clock):
        cache = make_cache()
        cache.set("k", 1, expire=10, grace=60)
        clock.advance(11)
        cache.close()
        again = make_cache()

        assert again.check(fix=True) == []
        assert again.get("k", stale=True) == 1

    # -- Grace: computing --

    def test_failure_gives_the_value_in_grace(self, cache, clock, source):
        function = cache.memoize("f", expire=10, grace=60)(source)
        assert function() == 1
        clock.advance(11)
        source.error = ZeroDivisionError()

        assert [function(), function()] == [1, 1]
        assert source.count == 3
        assert function.cache_info().stale == 2

        clock.advance(60)

        with pytest.raises(ZeroDivisionError):
            function()

    def test_success_replaces_the_value_in_grace(self, cache, clock, source):
        function = cache.memoize("f", expire=10, grace=60)(source)
        function()
        clock.advance(11)

        assert [function(), function()] == [2, 2]

    def test_callers_get_the_value_in_grace_while_one_computes(self, cache, clock):
        entered, go_on = threading.Event(), threading.Event()
        values = iter(["old", "new"])

        @cache.memoize("f", expire=10, grace=timedelta(minutes=1))
        def function():
            value = next(values)
            if value == "new":
                entered.set()
                go_on.wait(60)
            return value

        def others():
            entered.wait(60)
            try:
                return [function(), function()]
            finally:
                go_on.set()

        function()
        clock.advance(11)

        assert in_threads(function, others) == ["new", ["old", "old"]]
        assert function() == "new"

    def test_backoff_leaves_the_function_alone_after_a_failure(self, cache, clock, source):
        function = cache.memoize("f", expire=10, grace=600, backoff=30)(source)
        function()
        clock.advance(11)
        source.error = ZeroDivisionError()
        assert [function(), function()] == [1, 1]
        assert source.count == 2

        clock.advance(29)
        function()
        assert source.count == 2

        clock.advance(2)
        source.error = None

        assert function() == 3

    def test_value_in_grace_that_is_deleted_is_computed(self, cache, clock, source):
        function = cache.memoize("f", expire=10, grace=60)(source)
        function()
        clock.advance(11)
        function.invalidate()
        source.error = ZeroDivisionError()

        with pytest.raises(ZeroDivisionError):
            function()

    def test_get_or_set_with_grace_serves_stale(self, cache, clock, source):
        terms = {"expire": 10, "grace": 60}
        cache.get_or_set("k", source, **terms)
        clock.advance(11)
        source.error = ZeroDivisionError()

        assert cache.get_or_set("k", source, **terms) == 1

    # -- Soft and hard timeouts --

    def test_soft_timeout_gives_the_value_in_grace_and_the_computation_goes_on(self, cache, clock):
        go_on = threading.Event()
        values = iter(["old", "new"])

        @cache.memoize("f", expire=10, grace=60, soft_timeout=0.01)
        def function():
            value = next(values)
            if value == "new":
                go_on.wait(60)
            return value

        function()
        clock.advance(11)
        assert [function(), function()] == ["old", "old"]
        go_on.set()
        until_landed()

        assert function() == "new"

    def test_hard_timeout_raises_and_the_computation_goes_on(self, cache):
        go_on = threading.Event()

        def slow():
            go_on.wait(60)
            return "late"

        with pytest.raises(LoaderTimeoutError, match=r"'k' was not computed within 0\.01 s"):
            cache.get_or_set("k", slow, hard_timeout=0.01)
        go_on.set()
        until_landed()

        assert cache["k"] == "late"

    @pytest.mark.parametrize("lock", [True, False])
    def test_hard_timeout_that_is_kept_changes_nothing(self, cache, source, lock):
        assert cache.get_or_set("k", source, hard_timeout=60, lock=lock) == 1
        source.error = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            cache.get_or_set("other", source, hard_timeout=60, lock=lock)
        until_landed()

    @asks_for("transactions")
    def test_hard_timeout_in_a_transaction_is_none(self, cache, source):
        with cache.transact():
            assert cache.get_or_set("k", source, hard_timeout=0) == 1

        assert cache["k"] == 1

    def test_hard_timeout_holds_for_those_who_wait_too(self, cache):
        entered, go_on = threading.Event(), threading.Event()

        def slow():
            entered.set()
            go_on.wait(60)
            return "slow"

        def other():
            entered.wait(60)
            try:
                with pytest.raises(LoaderTimeoutError):
                    cache.get_or_set("k", slow, hard_timeout=0.01)
            finally:
                go_on.set()

        assert in_threads(lambda: cache.get_or_set("k", slow), other) == ["slow", None]

    def test_hard_timeout_holds_over_several_failures(self, cache, clock):
        go_on, calls = threading.Event(), []

        def fail():
            calls.append(1)
            if len(calls) == 1:
                until_expected(3)
                clock.advance(100)
            else:
                assert go_on.wait(60)
            raise NotFoundError

        def ask():
            with pytest.raises((NotFoundError, LoaderTimeoutError)) as caught:
                cache.get_or_set("k", fail, share_errors=False, hard_timeout=99)
            return caught.type

        try:
            # The first one too is late if it looks at the clock only after that was set forward.
            assert in_threads(ask, ask, ask).count(LoaderTimeoutError) >= 2
        finally:
            go_on.set()
            until_landed()

    def test_failure_after_the_hard_timeout_is_logged(self, cache, caplog):
        go_on = threading.Event()

        def slow():
            go_on.wait(60)
            raise ZeroDivisionError

        with pytest.raises(LoaderTimeoutError):
            cache.get_or_set("k", slow, hard_timeout=0.01)
        go_on.set()
        until_landed()

        assert "computing 'k' in the background failed" in caplog.text

    # -- Refreshing --

    def test_refresh_computes_anew_in_the_background_near_the_end(self, cache, clock, source):
        function = cache.memoize("f", expire=10, refresh=0.8)(source)
        function()
        clock.advance(7)
        assert function() == 1
        until_landed()
        assert source.count == 1

        clock.advance(2)
        assert function() == 1
        until_landed()

        assert function() == 2
        assert source.count == 2
        assert cache.get(function.__cache_key__(), expire_time=True)[1] == clock.time() + 10

    def test_refresh_that_fails_is_logged_and_leaves_the_value(self, cache, clock, source, caplog):
        function = cache.memoize("f", expire=10, refresh=0.5, errors={ZeroDivisionError: 5})(source)
        function()
        clock.advance(6)
        source.error = ZeroDivisionError()
        assert function() == 1
        until_landed()

        assert "failed" in caplog.text
        source.error = None
        assert function() == 1
        until_landed()
        assert function() == 3

    def test_refresh_carries_context_variables(self, cache, clock):
        variable = ContextVar("variable", default="none")
        function = cache.memoize("f", expire=10, refresh=0.5)(variable.get)
        function()
        clock.advance(6)
        variable.set("set")
        function()
        until_landed()

        assert function() == "set"

    def test_refresh_of_a_coroutine_function_is_a_task(self, cache, clock, source):
        @cache.memoize("f", expire=10, refresh=0.5)
        async def function():
            return source()

        async def ask():
            await function()
            clock.advance(6)
            first = await function()
            await until_alone(lambda: source.count == 2)
            return first, await function()

        assert asyncio.run(ask()) == (1, 2)

    def test_soft_timeout_of_a_coroutine_function(self, cache, clock):
        go_on = asyncio.Event()
        values = iter(["old", "new"])

        @cache.memoize("f", expire=10, grace=60, soft_timeout=0, hard_timeout=60)
        async def function():
            value = next(values)
            if value == "new":
                await go_on.wait()
            return value

        async def ask():
            await function()
            clock.advance(11)
            first = await function()
            go_on.set()
            await until_alone()
            return first, await function()

        assert asyncio.run(ask()) == ("old", "new")

    # -- What is kept, and how long --

    def test_jitter_shortens_lives_at_random(self, cache, clock, source):
        function = cache.memoize("f", expire=100, jitter=0.5)(source)
        lives = set()
        for number in range(20):
            function(number)
            _, until = cache.get(function.__cache_key__(number), expire_time=True)
            lives.add(until - clock.time())

        assert len(lives) > 10
        assert 50 <= min(lives) <= max(lives) <= 100

    def test_when_says_what_is_stored(self, cache, source):
        function = cache.memoize("f", when=lambda result: result > 1)(source)

        assert [function(), function(), function()] == [1, 2, 2]

    def test_errors_are_remembered_for_a_while(self, cache, clock, source):
        function = cache.memoize("f", errors={NotFoundError: 5})(source)
        source.error = NotFoundError("no such thing", 7)
        for _ in "abc":
            with pytest.raises(NotFoundError) as caught:
                function()
            assert caught.value.args == ("no such thing", 7)

        assert source.count == 1
        assert cache.get(function.__cache_key__(), "gone", stale=True) == "gone"
        assert function.__cache_key__() not in cache

        clock.advance(6)
        source.error = None

        assert function() == 2

    def test_error_that_is_not_named_is_not_remembered(self, cache, source):
        function = cache.memoize("f", errors={NotFoundError: 5})(source)
        source.error = ValueError("no name")
        for _ in "ab":
            with pytest.raises(ValueError, match="no name"):
                function()

        assert source.count == 2

    def test_errors_of_a_class_are_those_of_its_subclasses_too(self, cache, clock, source):
        class NarrowError(NotFoundError):
            pass

        function = cache.memoize("f", errors={LookupError: 5})(source)
        source.error = NarrowError("no such thing", 7)
        for _ in "ab":
            with pytest.raises(NarrowError) as caught:
                function()
            assert (type(caught.value), caught.value.args) == (NarrowError, ("no such thing", 7))

        assert source.count == 1
        clock.advance(6)
        with pytest.raises(NarrowError):
            function()
        assert source.count == 2

    @pytest.mark.parametrize("is_narrow_first", [True, False])
    def test_errors_of_a_class_and_its_base_last_as_long_as_the_class_says(
        self, cache, clock, source, is_narrow_first
    ):
        pairs = [(NotFoundError, 5), (LookupError, 60), (Exception, 600)]
        errors = dict(pairs if is_narrow_first else reversed(pairs))
        function = cache.memoize("f", errors=errors)(source)
        counts = []
        for error, life in [(NotFoundError(), 5), (KeyError(), 60), (ValueError(), 600)]:
            source.count, source.error = 0, error
            for seconds in (0, life - 1, 2):
                clock.advance(seconds)
                with pytest.raises(type(error)):
                    function()
                counts.append(source.count)
            function.invalidate()

        assert counts == [1, 1, 2] * 3

    def test_error_that_cannot_be_made_again_comes_back_as_loader_error(self, cache, source):
        class NarrowError(NotFoundError):
            def __init__(self, one, two):
                super().__init__(one)

        function = cache.memoize("f", errors={LookupError: timedelta(seconds=5)})(source)
        source.error = NarrowError("what", "ever")
        with pytest.raises(NarrowError):
            function()
        with pytest.raises(LoaderError, match="what") as caught:
            function()

        assert caught.value.name.endswith("NarrowError")
        assert caught.value.text == "what"

    @pytest.mark.parametrize(
        "forget",
        [
            lambda _, function: function.invalidate(),
            lambda cache, _: cache.evict("t"),
            lambda cache, function: cache.set(function.__cache_key__(), 2),
        ],
    )
    def test_error_that_is_remembered_can_be_forgotten(self, cache, source, forget):
        function = cache.memoize("f", tag="t", errors={NotFoundError: 5})(source)
        source.error = NotFoundError()
        with pytest.raises(NotFoundError):
            function()
        source.error = None
        forget(cache, function)

        assert function() == 2

    @pytest.mark.parametrize("seconds", [float("inf"), 3e9, timedelta.max])
    def test_error_that_is_remembered_for_ever_is_no_value(self, cache, source, seconds):
        function = cache.memoize("f", errors={NotFoundError: seconds})(source)
        source.error = NotFoundError()
        for _ in "ab":
            with pytest.raises(NotFoundError):
                function()

        assert source.count == 1
        assert function.__cache_key__() not in cache
        assert function.peek() is ENOVAL

    def test_errors_that_make_no_sense_are_refused_at_once(self, cache, source):
        for errors in ({"KeyError": 5}, {KeyboardInterrupt: 5}, {(KeyError,): 5}):
            with pytest.raises(TypeError, match="must name classes of exceptions"):
                cache.memoize("f", errors=errors)(source)
        for seconds in (-1, float("nan")):
            with pytest.raises(ValueError, match=r"errors\[KeyError\] must be a number of seconds"):
                cache.memoize("f", errors={KeyError: seconds})(source)

    def test_time_limits_without_end_are_none(self, cache, clock, source):
        limits = {"grace": 60, "backoff": float("inf"), "lock": True}
        limits |= dict.fromkeys(("hard_timeout", "soft_timeout", "lock_timeout"), float("inf"))
        function = cache.memoize("f", expire=10, **limits)(source)
        assert function() == 1
        clock.advance(11)
        source.error = ValueError()

        assert function() == function() == 1
        assert source.count == 2
        until_landed()

    def test_error_is_not_a_value_when_the_clock_is_set_back(self, cache, clock, source):
        function = cache.memoize("f", errors={NotFoundError: 5})(source)
        source.error = NotFoundError()
        with pytest.raises(NotFoundError):
            function()
        clock.advance(-100_000)

        assert function.__cache_key__() not in cache
        with pytest.raises(NotFoundError):
            function()
