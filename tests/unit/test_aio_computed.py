"""Get or compute in an event loop: one computes, also when others are cancelled, or are threads."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from diskcache import (
    ENOVAL,
    AsyncCache,
    AsyncFanoutCache,
    FanoutCache,
    RecursiveLoaderError,
    flight,
    signs,
)
from diskcache.engines.sqlite import session
from diskcache.signs import LockFile
from diskcache.testing.clock import ManualClock
from diskcache.testing.contract.together import until_expected, until_true
from tests.support.loops import LOOPS, runner_of


@pytest.fixture(params=LOOPS)
def go(request):
    """What runs a coroutine, in each kind of loop."""
    return runner_of(request.param)


@pytest.fixture
def ordinary(make_cache):
    return make_cache()


@pytest.fixture
def cache(ordinary):
    made = AsyncCache(ordinary)
    yield made
    asyncio.run(made.aclose())


def expected():
    """Return how many wait for what somebody computes."""
    return sum(len(one._futures) for one in list(flight._flights.values()))


class Function:
    """A coroutine function that takes its time, and counts its calls."""

    def __init__(self, error=None, others=0):
        self.calls = 0
        self.begun = asyncio.Event()
        self.error = error
        self.others = others
        """How many have to wait for it before it comes to its end."""

    async def __call__(self, keys=None):
        self.calls += 1
        self.begun.set()
        await asyncio.sleep(0.01)
        await until_true(lambda: expected() >= self.others)
        if self.error:
            raise self.error
        return self.calls if keys is None else {key: str(key) for key in keys}


def test_of_many_tasks_one_computes(go, cache, ordinary):
    function = Function()

    async def use():
        return await asyncio.gather(*[cache.get_or_set("k", function) for _ in range(100)])

    assert go(use()) == [1] * 100
    assert ordinary["k"] == 1


async def _begin(cache, function):
    task = asyncio.ensure_future(cache.get_or_set("k", function))
    await function.begun.wait()
    return task


class Endless(Function):
    """A coroutine function that never comes to its end."""

    async def __call__(self):
        self.begun.set()
        await asyncio.Event().wait()


def test_computation_that_a_closed_loop_left_is_taken_over(cache, ordinary):
    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(_begin(cache, Endless()))
    loop.run_until_complete(cache.aclose())
    loop.close()

    assert ordinary.get_or_set("k", lambda: "anew") == "anew"
    assert not left.done()
    assert asyncio.run(cache.get_or_set("other", Function())) == 1


def test_thread_that_waits_for_a_loop_that_is_closed_takes_over(cache, ordinary):
    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(_begin(cache, Endless()))
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(ordinary.get_or_set, "k", lambda: "anew")
        until_expected(1)
        loop.run_until_complete(cache.aclose())
        loop.close()

        assert found.result(60) == "anew"
    assert not left.done()


def test_function_that_is_no_coroutine_function_is_called_in_the_loop(go, cache):
    async def use():
        return await cache.get_or_set("k", lambda: threading.get_ident(), expire=60)

    assert go(use()) == threading.get_ident()


def test_hit_in_memory_keeps_no_thread(cache, ordinary, monkeypatch):
    # It is believed, however long the test is held up.
    monkeypatch.setattr(session, "LOOK_EVERY", 1e6)
    ordinary["k"] = 1
    for _ in range(2):
        ordinary.get("k")

    async def use():
        return await cache.get_or_set("k", Function()), set(threading.enumerate()) - before

    before = set(threading.enumerate())
    assert asyncio.run(use()) == (1, set())


def test_error_is_that_of_all_who_ask(go, cache):
    function = Function(ValueError("no"), others=9)

    async def use():
        asked = [cache.get_or_set("k", function) for _ in range(10)]
        return await asyncio.gather(*asked, return_exceptions=True)

    assert {str(error) for error in go(use())} == {"no"}
    assert function.calls == 1


def test_tasks_and_threads_wait_for_each_other(cache, ordinary):
    function = Function()

    async def use():
        task = asyncio.create_task(cache.get_or_set("k", function))
        await function.begun.wait()
        other = await asyncio.to_thread(ordinary.get_or_set, "k", lambda: "mine")
        return await task, other

    assert asyncio.run(use()) == (1, 1)


def test_one_who_computes_and_is_cancelled_is_replaced(go, cache):
    async def use():
        first = await _begin(cache, Endless())
        second = asyncio.create_task(cache.get_or_set("k", Function()))
        await until_true(lambda: expected() == 1)
        first.cancel()
        return await second

    assert go(use()) == 1


def test_in_a_block_nobody_waits_and_all_is_undone(go, cache, ordinary):
    function = Function()

    async def use():
        with pytest.raises(ZeroDivisionError):
            async with cache.transact():
                value = await cache.get_or_set("k", function)
                raise ZeroDivisionError
        return value

    assert go(use()) == 1
    assert "k" not in ordinary


def test_many_keys_are_computed_by_one_call(go, cache, ordinary):
    function = Function()
    ordinary["a"] = "old"

    async def use():
        return await cache.get_or_set_many(["a", "b", "c"], function)

    assert go(use()) == {"a": "old", "b": "b", "c": "c"}
    assert function.calls == 1


def test_many_keys_do_not_hold_up_the_loop(go, cache, monkeypatch):
    """Between two turns of another task, few files are made or removed."""
    turns, seen = [0], []

    def noted(name):
        bare = getattr(LockFile, name)

        def method(self, *args):
            seen.append((name, turns[0]))
            return bare(self, *args)

        monkeypatch.setattr(LockFile, name, method)

    noted("take")
    noted("release")

    async def use():
        asking = asyncio.ensure_future(cache.get_or_set_many(range(100), dict.fromkeys))
        while not asking.done():
            turns[0] += 1
            await asyncio.sleep(0)
        return await asking

    assert go(use()) == dict.fromkeys(range(100))
    assert len(seen) == 200
    assert max(Counter(seen).values()) <= 8


def test_many_keys_of_a_task_that_is_cancelled_at_any_turn_are_free(go, cache):
    async def use():
        for turns in range(60):
            asking = asyncio.ensure_future(cache.get_or_set_many(range(30), dict.fromkeys))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert (flight._flights, signs._open_files) == ({}, set())
            await cache.delete_many(range(30))

    go(use())


def test_update_and_versions(go, cache):
    async def use():
        await cache.update("k", lambda old: old + 1, default=0)
        value, version = await cache.get("k", version=True)
        return value, await cache.set("k", 5, if_version=version), await cache.get("k")

    assert go(use()) == (1, True, 5)


def test_memoize_takes_coroutine_functions(cache):
    calls = []

    @cache.memoize(lock=True)
    async def double(number):
        calls.append(number)
        await asyncio.sleep(0.01)
        return number * 2

    async def use():
        found = await asyncio.gather(*[double(4) for _ in range(10)])
        await asyncio.get_running_loop().shutdown_default_executor()
        return found

    assert asyncio.run(use()) == [8] * 10
    assert calls == [4]


@pytest.mark.parametrize("lock", [False, True])
@pytest.mark.parametrize("kind", [AsyncCache, AsyncFanoutCache])
def test_memoized_coroutine_function_in_a_transaction_is_part_of_it(go, directory, kind, lock):
    cache = kind(directory)

    @cache.memoize(name="f", lock=lock, expire=60, grace=60)
    async def double(number):
        return number * 2

    async def in_a_block():
        async with cache.transact():
            await cache.set("other", 1)
            assert (await double(1), await double(1)) == (2, 2)
            assert (await double.peek(1), await double.refresh(3)) == (2, 6)
            assert (await double.invalidate(3), await double.peek(3)) == (True, ENOVAL)
            raise ZeroDivisionError

    async def use():
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(in_a_block(), 60)
        assert await double.peek(1) is ENOVAL
        assert await double(1) == 2
        async with cache.transact():
            await cache.delete(double.__cache_key__(1))
            assert await double.peek(1) is ENOVAL
            assert await double.clear() == 0
        await cache.aclose()
        await asyncio.get_running_loop().shutdown_default_executor()

    go(use())
    assert double.cache_info().misses == 2


def test_cache_of_shards(go, directory):
    function = Function()
    with FanoutCache(directory, shards=2) as ordinary:
        cache = AsyncFanoutCache(ordinary)

        async def use():
            found = await asyncio.gather(*[cache.get_or_set("k", function) for _ in range(20)])
            await cache.aclose()
            return found

        assert go(use()) == [1] * 20


def test_refresh_that_is_cancelled_before_it_begins_gives_way(go, make_cache):
    clock = ManualClock()
    ordinary = make_cache(clock=clock)
    calls = []

    @ordinary.memoize("f", expire=10, refresh=0.5)
    async def function():
        calls.append(1)
        return len(calls)

    async def use():
        await function()
        clock.advance(9)
        assert await function() == 1
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        await asyncio.wait([task])
        assert calls == [1]
        assert not flight._flights

    go(use())


def test_function_that_asks_for_its_own_key_gets_an_error(go, cache):
    async def compute():
        return await cache.get_or_set("k", compute)

    with pytest.raises(RecursiveLoaderError):
        go(cache.get_or_set("k", compute))


def test_function_that_asks_for_another_key_gets_it(go, cache):
    async def compute():
        return await cache.get_or_set("other", Function()) + 1

    assert go(cache.get_or_set("k", compute)) == 2


def test_functions_that_ask_for_each_other_come_to_an_end(go, cache):
    async def ask(key, other):
        async def compute():
            await asyncio.sleep(0.01)
            return await cache.get_or_set(other, lambda: "inner")

        return await cache.get_or_set(key, compute)

    async def use():
        return await asyncio.wait_for(asyncio.gather(ask("a", "b"), ask("b", "a")), 60)

    assert "inner" in go(use())
