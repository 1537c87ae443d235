"""`barrier`, `throttle` and `memoize_stampede` around coroutine functions."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random

import pytest

from diskcache import (
    BoundedSemaphore,
    Lock,
    RateLimitError,
    RLock,
    Semaphore,
    barrier,
    memoize_stampede,
    throttle,
)
from diskcache.testing.contract.together import until_alone


@pytest.mark.parametrize(
    ("factory", "most"),
    [
        (Lock, 1),
        (functools.partial(BoundedSemaphore, value=2), 2),
        (functools.partial(Semaphore, value=2), 2),
    ],
)
def test_barrier_lets_as_many_tasks_through_as_the_lock_does(cache, factory, most):
    inside, seen = [], []

    @barrier(cache, factory, name="b")
    async def work(number):
        inside.append(number)
        seen.append(len(inside))
        # Who is first waits for as many as may come, and for any that may not.
        while max(seen) < most:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.002)
        inside.remove(number)
        return number + 1

    async def ask():
        return await asyncio.gather(*map(work, range(5)))

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(ask()) == [1, 2, 3, 4, 5]
    assert max(seen) == most
    assert not factory(cache, "b").locked()


class Page:
    """What is called like a coroutine function, and is none."""

    def __init__(self, inside):
        self.inside = inside

    async def __call__(self, number):
        self.inside.append(number)
        await asyncio.sleep(0)
        self.inside.remove(number)
        return [number, *self.inside]


@pytest.mark.parametrize(
    "decorated",
    [
        lambda cache: barrier(cache, Lock, name="page"),
        lambda cache: throttle(cache, 100, 1, name="page"),
        lambda cache: memoize_stampede(cache, 60, name="page"),
        lambda cache: cache.memoize(name="page"),
        lambda cache: cache.memoize(name="page", lock=True),
    ],
    ids=["barrier", "throttle", "stampede", "memoize", "lock"],
)
def test_object_that_is_called_and_awaited_is_decorated_as_a_coroutine_function(cache, decorated):
    page = decorated(cache)(Page([]))

    async def ask():
        return await page(1), await page(1)

    assert asyncio.run(ask()) == ([1], [1])


def test_barrier_is_held_until_an_object_that_is_awaited_returns(cache):
    page = barrier(cache, Lock, name="page")(Page([]))

    async def ask():
        return await asyncio.gather(page(1), page(2), page(3))

    assert asyncio.run(ask()) == [[1], [2], [3]]


def test_barrier_of_a_thread_is_refused_around_a_coroutine_function(cache):
    async def work():
        pass

    with pytest.raises(TypeError, match="got RLock; use Lock"):
        barrier(cache, RLock)(work)


def test_barrier_of_a_task_that_fails_or_is_cancelled_is_given_back(cache):
    started = []

    @barrier(cache, Lock, name="b")
    async def work(seconds):
        started.append(seconds)
        await asyncio.sleep(seconds)
        raise ZeroDivisionError

    async def ask():
        tasks = [asyncio.create_task(work(60)) for _ in range(3)]
        while not started:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(ZeroDivisionError):
            await work(0)

    asyncio.run(ask())

    assert not Lock(cache, "b").locked()


def test_throttle_makes_tasks_wait_for_a_token(cache, clock):
    @throttle(cache, count=2, seconds=1)
    async def work():
        return clock.monotonic()

    async def ask():
        return [await work() for _ in range(4)]

    first, *_, last = asyncio.run(ask())

    assert last - first == pytest.approx(1)


def test_throttle_awaits_what_the_sleep_function_gives(cache, clock):
    naps = []

    async def nap(seconds):
        naps.append(seconds)
        clock.advance(seconds)

    @throttle(cache, count=1, seconds=1, sleep_func=nap)
    async def work():
        return 1

    async def ask():
        return await work() + await work()

    assert asyncio.run(ask()) == 2
    assert naps == [1.0]


def test_throttle_that_does_not_block_raises_in_a_task(cache):
    @throttle(cache, count=1, seconds=60, blocking=False)
    async def work():
        return 1

    async def ask():
        assert await work() == 1
        with pytest.raises(RateLimitError):
            await work()

    asyncio.run(ask())


def test_stampede_of_a_coroutine_function_renews_in_a_task(cache, clock, monkeypatch):
    calls = []

    @memoize_stampede(cache, expire=60, name="f")
    async def page(name):
        calls.append(name)
        clock.advance(1)
        return f"{name} {len(calls)}"

    async def ask():
        first = await page("a")
        monkeypatch.setattr(random, "random", lambda: 0.0)
        early = await page("a")
        monkeypatch.setattr(random, "random", lambda: 1.0)
        late = await page("a")
        await until_alone()
        monkeypatch.setattr(random, "random", lambda: 0.0)
        return first, early, late, await page("a")

    assert asyncio.run(ask()) == ("a 1", "a 1", "a 1", "a 2")
    assert page.__cache_key__("a") in cache


def test_stampede_of_a_coroutine_function_that_fails_behind_is_logged(
    cache, clock, monkeypatch, caplog
):
    calls = []

    @memoize_stampede(cache, expire=60, name="f")
    async def page():
        calls.append(1)
        clock.advance(1)
        return 1 // (2 - len(calls))

    async def ask():
        await page()
        monkeypatch.setattr(random, "random", lambda: 1.0)
        again = await page()
        await until_alone()
        return again

    assert asyncio.run(ask()) == 1
    assert "renewing" in caplog.text
