"""Locks of tasks: one holder, no thread that waits, nothing held for who was cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from diskcache import (
    AsyncBoundedSemaphore,
    AsyncCache,
    AsyncFanoutCache,
    AsyncLock,
    AsyncRLock,
    AsyncSemaphore,
    FanoutCache,
    GateError,
    KeyInUseError,
    Lock,
    LockReleaseError,
    RLock,
)
from diskcache.recipes import liveness
from tests.support.loops import LOOPS, runner_of

KINDS = [AsyncLock, AsyncRLock, AsyncBoundedSemaphore, AsyncSemaphore]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


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
    before = dict(liveness._kept)
    yield made
    asyncio.run(made.aclose())
    assert liveness._kept == before


@each_kind
def test_lock_has_one_holder_at_a_time(go, cache, kind):
    lock = kind(cache, "k")
    inside, most = [], []

    async def work():
        async with lock:
            inside.append(1)
            most.append(len(inside))
            await asyncio.sleep(0)
            inside.pop()

    async def use():
        await asyncio.gather(*[work() for _ in range(20)])
        return await lock.locked()

    assert go(use()) is False
    assert most == [1] * 20


@each_kind
def test_lock_that_is_taken_is_not_had_without_waiting_or_in_time(go, cache, kind):
    async def use():
        one, other = kind(cache, "k"), kind(cache, "k")
        async with one:
            # An `RLock` is had again by its own task.
            attempts = [other.acquire(blocking=False), other.acquire(timeout=0.01)]
            found = [await asyncio.create_task(attempt) for attempt in attempts]
            taken = await asyncio.create_task(other.locked())
        return found, taken, await other.acquire(), await other.release()

    found, taken, fence, _ = go(use())

    assert found == [False, False]
    assert taken is True
    assert fence > 0


def test_lock_is_that_of_threads_and_processes(go, cache, ordinary):
    ordinary_lock, lock = Lock(ordinary, "k"), AsyncLock(ordinary, "k")

    async def use():
        async with lock:
            assert ordinary_lock.acquire(blocking=False) is False
        assert ordinary_lock.acquire() > 0
        waiting = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        ordinary_lock.release()
        assert await waiting > 0
        await lock.release()

    go(use())


def test_rlock_belongs_to_its_task(go, cache):
    async def use():
        lock = AsyncRLock(cache, "k")
        first = await lock.acquire()
        assert await AsyncRLock(cache, "k").acquire() == first
        with pytest.raises(LockReleaseError):
            await asyncio.create_task(lock.release())
        await lock.release()
        assert await lock.locked()
        await lock.release()
        return await lock.locked()

    assert go(use()) is False


def test_rlock_of_a_task_is_not_that_of_a_thread(go, cache, ordinary):
    async def use():
        async with AsyncRLock(cache, "k"):
            return RLock(ordinary, "k").acquire(blocking=False)

    assert go(use()) is False


def test_semaphore_gives_as_many_permits_as_it_has(go, cache):
    async def use():
        semaphore = AsyncBoundedSemaphore(cache, "k", value=3)
        got = [await semaphore.acquire(blocking=False) for _ in range(4)]
        await semaphore.release(3)
        with pytest.raises(LockReleaseError):
            await semaphore.release()
        return [bool(fence) for fence in got]

    assert go(use()) == [True, True, True, False]


def test_semaphore_that_is_released_first_wakes_who_waits(go, cache):
    async def use():
        ready = AsyncSemaphore(cache, "k", value=0)
        waiting = asyncio.create_task(ready.acquire())
        await asyncio.sleep(0.01)
        await ready.release()
        return await waiting

    assert go(use()) > 0


@pytest.mark.parametrize("make", [lambda c: AsyncBoundedSemaphore(c, "k", -1)], ids=["value"])
def test_arguments_that_cannot_be_are_refused(cache, make):
    with pytest.raises(ValueError):
        make(cache)
    with pytest.raises(TypeError):
        AsyncLock("not a cache", "k")
    with pytest.raises(ValueError):
        asyncio.run(AsyncLock(cache, "k", expire=0).acquire())
    with pytest.raises(ValueError):
        asyncio.run(AsyncBoundedSemaphore(cache, "k").release(0))
    with pytest.raises(ValueError):
        asyncio.run(AsyncLock(cache, "k").acquire(blocking=False, timeout=1))


def test_key_of_another_entry_raises(cache, ordinary):
    ordinary["k"] = "mine"

    with pytest.raises(KeyInUseError):
        asyncio.run(AsyncLock(cache, "k").acquire())


def test_lock_that_is_not_held_cannot_be_released(cache):
    with pytest.raises(LockReleaseError):
        asyncio.run(AsyncLock(cache, "k").release())


def test_waiting_in_a_block_raises_gate_error(go, cache, ordinary):
    async def use():
        lock = Lock(ordinary, "k")
        lock.acquire()
        try:
            async with cache.transact():
                with pytest.raises(GateError):
                    await AsyncLock(cache, "k").acquire()
        finally:
            await asyncio.to_thread(lock.release)

    go(use())


def test_no_thread_is_kept_while_tasks_wait(go, cache, ordinary):
    held = Lock(ordinary, "k")

    async def use():
        held.acquire()
        waiting = [asyncio.create_task(AsyncLock(cache, "k").acquire()) for _ in range(50)]
        await asyncio.sleep(0.02)
        # Writes are not kept waiting by those fifty.
        stored = await asyncio.gather(*[cache.set(n, n) for n in range(20)])
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        held.release()
        return stored

    assert go(use()) == [True] * 20


@each_kind
@pytest.mark.parametrize("steps", range(10))
def test_cancelled_at_any_step_a_lock_is_free_again(cache, kind, steps):
    lock = kind(cache, "k")

    async def take():
        await lock.acquire()
        await lock.release()

    async def use():
        task = asyncio.create_task(take())
        for _ in range(steps):
            await asyncio.sleep(0)
        # The lock may be taken in this pause, without the loop having told the task.
        threading.Event().wait(0.001 * (steps % 3))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await lock.acquire(timeout=60)
        await lock.release()

    asyncio.run(use())


def test_cancelled_while_it_is_held_a_lock_is_given_back(go, cache):
    async def use():
        lock, inside = AsyncLock(cache, "k"), asyncio.Event()

        async def work():
            async with lock:
                inside.set()
                await asyncio.sleep(1000)

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        # Also if the task is cancelled again while it gives the lock back.
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await lock.acquire(timeout=60), await lock.release()

    assert go(use())[0] > 0


def test_waiting_tasks_get_the_lock_in_the_order_in_which_they_came(go, cache):
    order, came = [], []

    async def use():
        lock = AsyncLock(cache, "k")
        turn = lock._turn
        # Called by each who waits, right before it takes its place.
        lock._turn = lambda: came.append(1) or turn()
        await lock.acquire()

        async def work(number):
            async with lock:
                order.append(number)

        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(work(number)))
            while len(came) <= number:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        await lock.release()
        await asyncio.gather(*tasks)

    go(use())

    assert order == [0, 1, 2, 3, 4]


def test_lock_in_a_cache_of_shards(go, directory):
    with FanoutCache(directory, shards=2) as ordinary:
        cache = AsyncFanoutCache(ordinary)

        async def use():
            async with AsyncLock(cache, "k"), AsyncLock(ordinary, "other"):
                found = await AsyncLock(cache, "k").locked()
            await cache.aclose()
            return found

        assert go(use()) is True
