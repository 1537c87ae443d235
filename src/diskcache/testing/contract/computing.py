"""A value is returned or computed: by one of all who ask, and kept under the key of the call."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from datetime import timedelta

import pytest

from diskcache import ENOVAL, LoaderError, RecursiveLoaderError
from diskcache.background import COMPUTATIONS
from diskcache.testing.contract import Contract, asks_for
from diskcache.testing.contract.together import (
    in_threads,
    until_expected,
    until_landed,
    until_true,
)


class Counted:
    """A function that counts its calls, and gives their number."""

    def __init__(self):
        self.count = 0

    def __call__(self, *_, **__):
        self.count += 1
        return self.count


def assert_raised_as_it_is(cache, error):
    """Fail unless an exception of a function is raised by whatever calls it."""

    def func(*_):
        raise error

    for options in ({}, {"lock": False}, {"hard_timeout": 60}):
        for ask in (
            lambda: cache.get_or_set("k", func, **options),  # noqa: B023 - asked at once
            lambda: cache.get_or_set("k", lambda: 1, when=func, **options),  # noqa: B023
            lambda: cache.get_or_set("k", lambda: 1, expire=func, **options),  # noqa: B023
            lambda: cache.memoize("f", **options)(func)(),  # noqa: B023
            lambda: cache.memoize("f", **options)(func).refresh(),  # noqa: B023
            lambda: cache.get_or_set_many(["k"], func),
        ):
            with pytest.raises(type(error)) as caught:
                ask()
            assert caught.value is error
            assert caught.value.__cause__ is caught.value.__context__ is None


class Unstorable:
    """An object that cannot be pickled."""

    def __reduce__(self):
        raise TypeError("not to be stored")


def in_each(function, items):
    """Call a function with each of some items, in threads that start together."""
    return in_threads(*(functools.partial(function, item) for item in items))


class ComputingContract(Contract):
    @pytest.fixture
    def counted(self):
        return Counted()

    def test_get_or_set_computes_once_and_stores(self, cache, counted):
        assert cache.get_or_set("k", counted, expire=60, tag="t") == 1
        assert cache.get_or_set("k", counted) == 1
        assert cache.get("k", tag=True) == (1, "t")

    @pytest.mark.parametrize("lock", [True, False])
    def test_get_or_set_of_none_is_a_value(self, cache, lock):
        assert cache.get_or_set("k", lambda: None, lock=lock) is None
        assert "k" in cache
        assert cache.get_or_set("k", lambda: 1 / 0, lock=lock) is None

    def test_get_or_set_is_counted_once(self, make_cache):
        cache = make_cache(statistics=True)
        for _ in "abc":
            cache.get_or_set("k", lambda: 1)

        assert cache.stats() == (2, 1)

    def test_get_or_set_of_no_value_returns_it_and_stores_nothing(self, cache):
        assert cache.get_or_set("k", lambda: ENOVAL) is ENOVAL
        assert "k" not in cache

    @pytest.mark.parametrize("key", [None, (1, None), 1.5, b"", "", [1, 2]])
    def test_get_or_set_takes_keys_of_every_kind(self, cache, counted, key):
        assert [cache.get_or_set(key, counted), cache.get_or_set(key, counted)] == [1, 1]

    @pytest.mark.parametrize(
        ("expire", "seconds"),
        [(10, 10), (timedelta(minutes=1), 60), (lambda value: value * 5, 5), (None, None)],
    )
    def test_get_or_set_takes_expire_in_every_form(self, cache, clock, counted, expire, seconds):
        cache.get_or_set("k", counted, expire=expire)

        until = None if seconds is None else clock.time() + seconds
        assert cache.get("k", expire_time=True) == (1, until)

    @pytest.mark.parametrize("expire", [0, -1, timedelta(0), lambda _: 0])
    def test_get_or_set_with_expire_not_above_zero_stores_nothing(self, cache, counted, expire):
        assert [cache.get_or_set("k", counted, expire=expire) for _ in "ab"] == [1, 2]
        assert len(cache) == 0

    def test_get_or_set_of_a_value_that_is_stored_meanwhile_returns_that(self, cache):
        def func():
            cache["other"] = 1
            return cache.get_or_set("other", lambda: 1 / 0)

        assert cache.get_or_set("k", func) == 1

    def test_get_or_set_that_raises_stores_nothing_and_may_be_repeated(self, cache, counted):
        for _ in "ab":
            with pytest.raises(ZeroDivisionError):
                cache.get_or_set("k", lambda: 1 / 0)

        assert cache.get_or_set("k", counted) == 1

    def test_get_or_set_that_is_interrupted_may_be_repeated(self, cache, counted):
        def func():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cache.get_or_set("k", func)

        assert cache.get_or_set("k", counted) == 1

    def test_get_or_set_of_a_coroutine_function_raises(self, cache):
        async def func():
            pass

        with pytest.raises(TypeError, match="is a coroutine function"):
            cache.get_or_set("k", func)

        assert len(cache) == 0

    def test_get_or_set_of_what_cannot_be_stored_returns_it(self, cache, caplog):
        thing = Unstorable()

        assert cache.get_or_set("k", lambda: thing) is thing
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "'k' was not stored" in caplog.text

    def test_get_or_set_of_what_is_refused_returns_it(self, make_cache):
        cache = make_cache(pickle="never")
        thing = object()

        assert cache.get_or_set("k", lambda: thing) is thing

    @asks_for("culling")
    def test_get_or_set_of_what_is_too_large_returns_it(self, make_cache):
        cache = make_cache(size_limit=50_000)

        assert len(cache.get_or_set("k", lambda: bytes(100_000))) == 100_000
        assert "k" not in cache

    def test_get_or_set_of_the_same_key_in_its_function_raises(self, cache, counted):
        def func():
            return cache.get_or_set("k", func)

        with pytest.raises(RecursiveLoaderError, match="'k' asks for that value itself"):
            cache.get_or_set("k", func)

        assert cache.get_or_set("k", counted) == 1

    def test_recursion_with_a_hard_timeout_deeper_than_there_are_threads_raises(self, cache):
        """It would wait for threads of its own callers: it does not, however long it may."""

        @cache.memoize("f", hard_timeout=60)
        def depth(number):
            return number and depth(number - 1) + 1

        with pytest.raises(RecursiveLoaderError, match="8 computations in the background wait"):
            depth(COMPUTATIONS)
        until_landed()

        assert depth(COMPUTATIONS - 1) == COMPUTATIONS - 1

    def test_get_or_set_of_another_key_in_its_function_works(self, cache):
        assert cache.get_or_set("a", lambda: cache.get_or_set("b", lambda: 1) + 1) == 2
        assert cache["b"] == 1

    @asks_for("transactions")
    def test_get_or_set_in_a_transaction_computes_at_once(self, cache, counted):
        with cache.transact():
            assert [cache.get_or_set("k", counted), cache.get_or_set("k", counted)] == [1, 1]

        assert cache["k"] == 1

    @asks_for("transactions")
    def test_get_or_set_in_a_transaction_that_is_rolled_back_stores_nothing(self, cache, counted):
        with pytest.raises(KeyError), cache.transact():
            cache.get_or_set("k", counted)
            raise KeyError

        assert cache.get_or_set("k", counted) == 2

    def test_get_or_set_in_a_readonly_cache_computes_and_stores_nothing(self, make_cache, counted):
        make_cache().close()
        cache = make_cache(readonly=True)

        assert [cache.get_or_set("k", counted) for _ in "ab"] == [1, 2]

    def test_get_or_set_leaves_no_file_behind(self, cache, counted, directory):
        cache.get_or_set("k", counted)

        assert [path.name for path in directory.rglob("locks/*")] == []

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("jitter", 2), ("jitter", -0.1), ("refresh", 1.5), ("grace", -1), ("hard_timeout", -1),
            ("lock_timeout", float("nan")), ("backoff", 1), ("soft_timeout", 1), ("refresh", 0.5),
        ],
    )  # fmt: skip
    def test_get_or_set_with_an_option_out_of_range_raises(self, cache, option, value):
        with pytest.raises(ValueError, match=option):
            cache.get_or_set("k", int, **{option: value})

    # -- One of many --

    def test_get_or_set_by_threads_computes_once(self, cache, counted):
        started = threading.Barrier(4)

        def func():
            return [counted(), threading.get_ident()]

        def ask(_):
            started.wait(60)
            return cache.get_or_set("k", func)

        results = in_each(ask, range(4))

        assert counted.count == 1
        assert all(result == results[0] for result in results)

    def test_get_or_set_gives_each_caller_a_value_of_its_own(self, cache):
        def func():
            until_expected()
            return []

        one, two = in_each(lambda _: cache.get_or_set("k", func), range(2))

        assert one == two == []
        assert one is not two

    @pytest.mark.parametrize("share", [True, False])
    def test_get_or_set_by_threads_shares_an_exception_or_tries_again(self, cache, share):
        calls = []

        def func():
            calls.append(threading.get_ident())
            if len(calls) == 1:
                until_expected()
            raise ZeroDivisionError

        def ask(_):
            with pytest.raises(ZeroDivisionError):
                cache.get_or_set("k", func, share_errors=share)

        in_each(ask, range(2))

        assert len(calls) == (1 if share else 2)

    @pytest.mark.parametrize("error", [RecursiveLoaderError("its own"), LoaderError("a.B", "b")])
    def test_get_or_set_raises_the_very_exception_of_its_function(self, cache, error):
        assert_raised_as_it_is(cache, error)

    def test_get_or_set_raises_the_stop_iteration_of_its_function(self, cache):
        assert_raised_as_it_is(cache, StopIteration(5))

    def test_get_or_set_by_threads_shares_a_stop_iteration(self, cache):
        def func():
            until_expected()
            raise StopIteration(5)

        def ask(_):
            with pytest.raises(StopIteration) as caught:
                cache.get_or_set("k", func, errors={StopIteration: 60})
            return caught.value.value

        assert in_each(ask, range(2)) == [5, 5]
        # It is remembered, too.
        assert ask(0) == 5

    def test_get_or_set_by_threads_takes_over_from_one_that_is_interrupted(self, cache):
        entered = threading.Event()

        def interrupted():
            entered.set()
            until_expected()
            raise SystemExit

        def ask(number):
            if number:
                entered.wait(60)
                return cache.get_or_set("k", lambda: "second")
            with pytest.raises(SystemExit):
                cache.get_or_set("k", interrupted)
            return "first"

        assert in_each(ask, range(2)) == ["first", "second"]

    def test_get_or_set_of_two_keys_in_both_orders_comes_to_an_end(self, cache):
        both = threading.Barrier(2)

        def ask(pair):
            mine, other = pair

            def func():
                both.wait(60)
                return cache.get_or_set(other, lambda: "ring")

            return cache.get_or_set(mine, func)

        assert in_each(ask, ["ab", "ba"]) == ["ring", "ring"]

    def test_get_or_set_waits_no_longer_than_it_is_told(self, cache):
        entered, go_on = threading.Event(), threading.Event()

        def slow():
            entered.set()
            go_on.wait(60)
            return "slow"

        def ask(number):
            if not number:
                return cache.get_or_set("k", slow)
            entered.wait(60)
            try:
                return cache.get_or_set("k", lambda: "own", lock_timeout=0)
            finally:
                go_on.set()

        assert in_each(ask, range(2)) == ["slow", "own"]

    # -- Memoizing --

    def test_memoize_with_lock_computes_once_for_all_threads(self, cache, counted):
        function = cache.memoize("f", lock=True)(counted)
        both = threading.Barrier(3)

        def ask(_):
            both.wait(60)
            return function(1)

        assert in_each(ask, range(3)) == [1, 1, 1]
        assert function.cache_info()[:2] == (2, 1)

    def test_memoize_controls(self, cache, counted):
        function = cache.memoize("f")(counted)

        assert function.peek(1) is ENOVAL
        assert function(1) == 1
        assert function.peek(1) == 1
        assert function.bypass(1) == 2
        assert function(1) == 1
        assert function.refresh(1) == 3
        assert function(1) == 3
        assert function.invalidate(1) is True
        assert function.invalidate(1) is False
        assert function(1) == 4
        assert function.cache_info()._asdict() == {
            "hits": 2, "misses": 2, "stale": 0, "refreshed": 1, "failed": 0,
        }  # fmt: skip

    def test_memoize_clear_removes_the_results_of_the_function_alone(self, cache, counted):
        one, two = cache.memoize("one")(counted), cache.memoize("one more")(counted)
        for args in [(), (1,), (1, 2), ([1], {"a": 2}), ("x" * 300,), tuple(range(40))]:
            one(*args)
            one(*args, a=1)
            two(*args)
        cache["one"] = "kept"
        cache[("one",)] = "not a call"

        assert one.clear() == 12
        assert one.clear() == 0
        assert len(cache) == 8

    def test_memoize_clear_removes_results_under_pickled_keys(self, cache, counted):
        one, two = cache.memoize("one")(counted), cache.memoize("two")(counted)
        one(functools.partial(int)), two(functools.partial(int))

        assert one.clear() == 1
        assert len(cache) == 1

    def test_memoize_with_key_makes_it_of_the_arguments(self, cache, counted):
        by_function = cache.memoize("f", key=lambda user, **_: user["id"])(counted)
        assert by_function({"id": 7}, trace=1) == by_function({"id": 7, "name": "ada"})
        assert by_function.__cache_key__({"id": 7}) == ("f", 7)
        assert by_function.clear() == 1

    def test_memoize_with_a_template_makes_the_key_of_it(self, cache):
        @cache.memoize("g", key="{number.real}-{unit}")
        def shown(number, unit="m", *, session=None):
            return f"{number} {unit}"

        assert shown.__cache_key__(3, session=object()) == ("g", "3-m")
        assert shown(3) == shown(number=3, unit="m", session=1) == "3 m"

    def test_memoize_with_key_and_ignore_raises(self, cache, counted):
        with pytest.raises(ValueError, match="leave out typed and ignore"):
            cache.memoize("f", key="{x}", ignore={0})(counted)

    def test_memoize_with_another_version_computes_anew(self, cache, counted):
        first, second = (cache.memoize("f", version=number)(counted) for number in (1, 2))

        assert (first(5), second(5), first(5)) == (1, 2, 1)
        assert second.clear() == 1
        assert first(5) == 1

    def test_memoize_of_a_generator_hands_out_its_items_each_time(self, cache):
        calls = []

        @cache.memoize("f")
        def numbers(end):
            calls.append(end)
            yield from range(end)

        assert [list(numbers(3)), list(numbers(3)), calls] == [[0, 1, 2], [0, 1, 2], [3]]
        assert list(numbers.refresh(3)) == [0, 1, 2]
        numbers.refresh(4)
        assert numbers.peek(4) == [0, 1, 2, 3]
        assert calls == [3, 3, 4]

    def test_memoize_of_methods_of_every_kind(self, cache):
        class Shop:
            @cache.memoize("price", ignore={"self"})
            def price(self, name):
                return len(name)

            @cache.memoize("tax")
            @classmethod
            def tax(cls, amount):
                return amount / 2

            @cache.memoize("rate")
            @staticmethod
            def rate(amount):
                return amount * 2

        # A class as an argument is a key by its name.
        assert (Shop().price("pear"), Shop.rate(2), Shop().rate(2)) == (4, 4, 4)
        assert Shop.price.peek(None, "pear") == 4

    # -- Coroutine functions --

    def test_memoize_of_a_coroutine_function_by_tasks_computes_once(self, cache, counted):
        @cache.memoize("f", lock=True)
        async def double(number):
            counted()
            await asyncio.sleep(0.01)
            return [number * 2]

        async def ask():
            results = await asyncio.gather(*(double(3) for _ in range(5)))
            info = double.cache_info()
            return results, info, await double(3), await double.invalidate(3), await double.peek(3)

        results, info, again, was_there, left = asyncio.run(ask())

        assert (results, again, counted.count) == ([[6]] * 5, [6], 1)
        assert info[:2] == (4, 1)
        assert (was_there, left) == (True, ENOVAL)

    def test_memoize_of_a_coroutine_function_by_tasks_and_threads_computes_once(
        self, cache, counted
    ):
        def blocking():
            return counted()

        async def awaited():
            await asyncio.sleep(0.01)
            return counted()

        one = cache.memoize("f", lock=True)(blocking)
        two = cache.memoize("f", lock=True)(awaited)

        async def ask():
            return await asyncio.gather(
                two(), asyncio.to_thread(one), two(), asyncio.to_thread(one)
            )

        assert asyncio.run(ask()) == [1, 1, 1, 1]

    def test_memoize_of_a_coroutine_function_that_is_cancelled_is_taken_over(self, cache):
        @cache.memoize("f", lock=True)
        async def slow(name):
            names.append(name)
            await asyncio.sleep(0 if len(names) > 1 else 60)
            return name

        names = []

        async def ask():
            first = asyncio.create_task(slow(1))
            await until_true(lambda: names)
            second, third = asyncio.create_task(slow(1)), asyncio.create_task(slow(1))
            await asyncio.sleep(0.02)
            second.cancel()
            first.cancel()
            done = await asyncio.gather(first, second, third, return_exceptions=True)
            return [type(one) for one in done[:2]], done[2]

        assert asyncio.run(ask()) == ([asyncio.CancelledError] * 2, 1)
        assert names == [1, 1]

    def test_memoize_of_a_coroutine_function_that_asks_for_itself_raises(self, cache):
        @cache.memoize("f", lock=True)
        async def forever(number):
            return await asyncio.create_task(forever(number))

        with pytest.raises(RecursiveLoaderError):
            asyncio.run(forever(1))

    def test_blocking_call_in_the_loop_does_not_wait_for_a_task_of_it(self, cache):
        blocking = cache.memoize("f", lock=True)(lambda: "own")

        async def ask():
            entered, go_on = asyncio.Event(), asyncio.Event()

            @cache.memoize("f", lock=True)
            async def slow():
                entered.set()
                await go_on.wait()
                return "task"

            task = asyncio.create_task(slow())
            await entered.wait()
            found = blocking()
            go_on.set()
            return found, await task

        assert asyncio.run(ask()) == ("own", "task")

    @pytest.mark.parametrize("first", ["the thread waits", "the loop waits"])
    def test_blocking_call_in_the_loop_and_a_thread_that_wait_for_each_other_come_to_an_end(
        self, cache, first
    ):
        begun = threading.Event()

        def thread():
            begun.set()
            if first == "the loop waits":
                until_expected()
            return cache.memoize("task", lock=True, hard_timeout=60)(lambda: "own")()

        async def ask():
            entered, go_on = asyncio.Event(), asyncio.Event()

            @cache.memoize("task", lock=True)
            async def task():
                entered.set()
                await go_on.wait()
                return "task"

            computing = asyncio.create_task(task())
            await entered.wait()
            function = cache.memoize("thread", lock=True)(thread)
            running = asyncio.create_task(asyncio.to_thread(function))
            await until_true(begun.is_set)
            if first == "the thread waits":
                until_expected()
            found = cache.memoize("thread", lock=True, hard_timeout=60)(lambda: "own")()
            go_on.set()
            return found, await running, await computing

        found = asyncio.run(ask())
        assert (found[0], found[2]) == ("own", "task")

    def test_memoize_of_an_asynchronous_generator_hands_out_its_items_each_time(
        self, cache, counted
    ):
        @cache.memoize("f")
        async def numbers(end):
            counted()
            for number in range(end):
                yield number

        async def ask():
            return [[n async for n in numbers(3)] for _ in "ab"], [
                n async for n in await numbers.refresh(3)
            ]

        assert asyncio.run(ask()) == ([[0, 1, 2], [0, 1, 2]], [0, 1, 2])
        assert counted.count == 2
