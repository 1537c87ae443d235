"""Blocks of `transact`: which tasks are in them, how they end, and who takes turns."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from diskcache import (
    ENOVAL,
    AsyncCache,
    AsyncDeque,
    AsyncFanoutCache,
    AsyncIndex,
    Cache,
    FanoutCache,
    GateError,
    Lock,
    Timeout,
    TransactionError,
    barrier,
    memoize_stampede,
    throttle,
)
from diskcache.aio import pool as pools
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


def test_block_is_committed_as_a_whole(go, cache, ordinary):
    async def use():
        async with cache.transact():
            await cache.set("a", 1)
            await cache.set("b", 2)
            inside = await cache.get("a"), [key async for key in cache]
            outside = await asyncio.to_thread(ordinary.get, "a")
        return inside, outside, await cache.get("a")

    assert go(use()) == ((1, ["a", "b"]), None, 1)


def test_error_in_a_block_undoes_it_and_comes_through(go, cache, ordinary):
    async def use():
        async with cache.transact():
            await cache.set("a", 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        go(use())
    assert len(ordinary) == 0


def test_another_task_is_not_in_the_block(go, cache, ordinary):
    async def use():
        inside, done = asyncio.Event(), asyncio.Event()

        async def other():
            await inside.wait()
            seen = await cache.get("a")
            writing = asyncio.create_task(cache.set("mine", 1))
            await asyncio.sleep(0.02)
            waits = not writing.done()
            done.set()
            await writing
            return seen, waits

        task = asyncio.create_task(other())
        with pytest.raises(ZeroDivisionError):
            async with cache.transact():
                await cache.set("a", 1)
                inside.set()
                await done.wait()
                raise ZeroDivisionError
        return await task

    assert go(use()) == (None, True)
    assert list(ordinary.items()) == [("mine", 1)]


def test_task_that_was_started_in_the_block_is_in_it(go, cache, ordinary):
    async def use():
        with pytest.raises(ZeroDivisionError):
            async with cache.transact():
                await asyncio.gather(*[cache.incr("n") for _ in range(10)])
                await asyncio.wait_for(cache.set("w", 1), 60)
                seen = await cache.get_many(["n", "w"])
                raise ZeroDivisionError
        return seen

    assert go(use()) == {"n": 10, "w": 1}
    assert len(ordinary) == 0


def test_task_that_outlives_the_block_is_on_its_own(go, cache, ordinary):
    async def use():
        early, over = asyncio.Event(), asyncio.Event()

        async def late():
            await cache.set("early", 1)
            early.set()
            await over.wait()
            await cache.set("late", 1)

        with pytest.raises(ZeroDivisionError):
            async with cache.transact():
                task = asyncio.create_task(late())
                await early.wait()
                raise ZeroDivisionError
        over.set()
        await task

    go(use())

    assert list(ordinary) == ["late"]


def test_blocks_nest(go, cache, ordinary):
    async def use():
        async with cache.transact():
            await cache.set("a", 1)
            async with cache.transact(retry=True):
                await cache.set("b", 2)
            with pytest.raises(KeyError):
                async with cache.transact():
                    await cache.set("c", 3)
                    raise KeyError
        async with cache.transact():
            await cache.set("d", 4)

    go(use())

    assert list(ordinary) == ["a", "b", "c", "d"]


def test_blocks_of_tasks_that_were_started_in_a_block_are_parts_of_it(go, cache, ordinary):
    async def add():
        async with cache.transact():
            value = await cache.get("n", 0)
            await asyncio.sleep(0)
            await cache.set("n", value + 1)

    async def use():
        with pytest.raises(ZeroDivisionError):
            async with cache.transact():
                await asyncio.gather(add(), add())
                raise ZeroDivisionError
        await asyncio.gather(add(), add(), add())

    go(use())

    assert ordinary["n"] == 3


def test_inner_block_that_outlives_the_outer_raises(go, cache, ordinary):
    async def use():
        inside, over = asyncio.Event(), asyncio.Event()

        async def inner():
            async with cache.transact():
                await cache.set("inner", 1)
                inside.set()
                await over.wait()

        with pytest.raises(ZeroDivisionError):
            async with cache.transact():
                task = asyncio.create_task(inner())
                await inside.wait()
                raise ZeroDivisionError
        over.set()
        with pytest.raises(TransactionError, match="ended before"):
            await task

    go(use())

    assert len(ordinary) == 0


def test_hundred_blocks_take_turns_in_one_thread(go, cache, ordinary):
    threads = set()

    async def add():
        async with cache.transact():
            value = await cache.get("n", 0)
            threads.update(thread.name for thread in threading.enumerate())
            await cache.set("n", value + 1)

    async def use():
        await asyncio.gather(*[add() for _ in range(100)])

    go(use())

    assert ordinary["n"] == 100
    assert {name for name in threads if "transact" in name} == {"diskcache-transact"}


@pytest.mark.parametrize("steps", [*range(12), 20, 40])
def test_cancelled_at_any_step_a_block_is_done_or_undone(cache, ordinary, steps):
    async def work():
        async with cache.transact():
            await cache.set("a", 1)
            await cache.set("b", 1)

    async def use():
        task = asyncio.create_task(work())
        for _ in range(steps):
            await asyncio.sleep(0.0001 * (steps % 4))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # Nobody holds the write lock any more.
        await cache.set("after", 1)

    asyncio.run(use())

    assert list(ordinary) in (["after"], ["a", "b", "after"])


def test_cancelled_while_it_waits_for_its_turn_a_block_never_begins(go, cache, ordinary):
    async def use():
        async def wait():
            async with cache.transact():
                await cache.set("never", 1)

        async with cache.transact():
            task = asyncio.get_running_loop().create_task(wait(), context=empty)
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with cache.transact():
            await cache.set("next", 1)

    import contextvars

    empty = contextvars.Context()
    go(use())

    assert list(ordinary) == ["next"]


def test_block_that_does_not_get_its_turn_in_time_raises_timeout(go, make_cache):
    cache = AsyncCache(make_cache(timeout=0.01))

    async def use():
        inside = asyncio.Event()

        async def late():
            await inside.wait()
            async with cache.transact():
                await cache.set("never", 1)

        task = asyncio.create_task(late())
        async with cache.transact(retry=True):
            inside.set()
            with pytest.raises(Timeout):
                await task
        await cache.aclose()

    go(use())


def test_block_raises_timeout_while_another_holds_the_lock(go, ordinary, make_cache):
    cache = AsyncCache(make_cache(timeout=0.01))

    async def use():
        with ordinary.transact(), pytest.raises(Timeout):
            async with cache.transact():
                pass
        async with cache.transact(retry=True):
            await cache.set("k", 1)
        await cache.aclose()

    go(use())


def test_second_object_on_the_directory_raises_in_the_block(go, cache, make_cache):
    other = AsyncCache(make_cache())

    async def use():
        async with cache.transact():
            await cache.set("k", 1)
            with pytest.raises(GateError):
                await other.set("k", 2)
            seen = await other.get("k")
        await other.aclose()
        return seen

    assert go(use()) is None


def test_closing_in_a_block_ends_the_transaction(go, cache, ordinary):
    async def use():
        with pytest.raises(TransactionError):
            async with cache.transact():
                await cache.set("k", 1)
                await cache.aclose()
        return await cache.get("k")

    assert go(use()) is None


def test_closing_waits_for_the_blocks_of_others(go, cache, ordinary):
    async def use():
        inside = asyncio.Event()

        async def work():
            async with cache.transact():
                inside.set()
                for n in range(20):
                    await cache.set(n, n)

        task = asyncio.create_task(work())
        await inside.wait()
        await cache.aclose()
        await task

    go(use())

    assert len(ordinary) == 20


def test_block_that_was_entered_by_hand_and_forgotten_is_undone(cache, ordinary):
    async def use():
        block = cache.transact()
        await block.__aenter__()
        await cache.set("k", 1)

    asyncio.run(use())
    gc.collect()

    assert asyncio.run(cache.get("k")) is None
    assert asyncio.run(cache.set("l", 1)) is True


def test_generator_that_is_closed_in_a_block_undoes_it(cache, ordinary):
    async def numbers():
        async with cache.transact():
            for n in range(3):
                await cache.set(n, n)
                yield n

    async def use():
        async for _ in numbers():
            break
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(use())
    asyncio.run(cache.aclose())

    assert len(ordinary) == 0


def test_memory_answers_nothing_inside_a_block(cache, ordinary):
    ordinary["k"] = 1
    for _ in range(2):
        ordinary.get("k")

    async def use():
        async with cache.transact():
            await cache.set("k", 2)
            return await cache.get("k")

    assert asyncio.run(use()) == 2


def test_cache_of_shards_undoes_all_of_them(go, directory):
    with FanoutCache(directory, shards=3) as ordinary:
        cache = AsyncFanoutCache(ordinary)

        async def use():
            with pytest.raises(ZeroDivisionError):
                async with cache.transact():
                    await asyncio.gather(*[cache.set(n, n) for n in range(30)])
                    raise ZeroDivisionError
            count = await cache.len()
            async with cache.transact(), cache.transact():
                await cache.set("k", 1)
            await cache.aclose()
            return count

        assert go(use()) == 0
        assert ordinary["k"] == 1


def test_deque_and_index_undo(go, tmp_path):
    async def use():
        async with AsyncDeque([1], tmp_path / "d") as deque, AsyncIndex(tmp_path / "i") as index:
            with pytest.raises(ZeroDivisionError):
                async with deque.transact(), index.transact():
                    await deque.append(2)
                    await index.setitem("k", 1)
                    raise ZeroDivisionError
            return [item async for item in deque], await index.len()

    assert go(use()) == ([1], 0)


def test_block_can_be_left_in_another_loop_than_it_was_entered(cache, ordinary):
    import contextvars

    context = contextvars.copy_context()
    block = cache.transact()

    def run(coroutine):
        with asyncio.Runner() as runner:
            return runner.run(coroutine, context=context)

    run(block.__aenter__())
    run(cache.set("k", 1))
    assert ordinary.get("k") is None
    run(block.__aexit__(None, None, None))

    assert ordinary["k"] == 1
    assert pools.holds.get() == ()


# -- What is not awaited, in a block --


def writes_of(cache):
    """Return what writes to an ordinary cache in the ways that take its write lock."""

    @cache.memoize("memoized")
    def memoized():
        return 1

    @barrier(cache, Lock, name="barrier")
    def guarded():
        return 1

    throttled = throttle(cache, 1, 1, name="throttle")(memoized.__wrapped__)
    return {
        "set": lambda: cache.set("k", 1),
        "set, waiting without limit": lambda: cache.set("k", 1, retry=True),
        "transact": lambda: cache.transact().__enter__(),
        "memoize": memoized,
        "barrier": guarded,
        "throttle": throttled,
    }


@pytest.mark.parametrize("kinds", [(Cache, AsyncCache), (FanoutCache, AsyncFanoutCache)])
def test_ordinary_write_in_a_block_raises_instead_of_waiting_for_itself(go, directory, kinds):
    with kinds[0](directory) as ordinary:
        cache, writes = kinds[1](ordinary), writes_of(ordinary)

        async def use():
            refused = []
            async with cache.transact():
                await cache.set("a", 1)
                for name, write in writes.items():
                    with pytest.raises(GateError, match="await a method of that cache instead"):
                        write()
                    with pytest.raises(GateError, match="an asynchronous cache on the same"):
                        await asyncio.to_thread(write)
                    refused.append(name)
            await cache.aclose()
            return refused, await cache.get("a"), writes["set"](), ordinary["k"]

        assert go(use()) == (list(writes), 1, True, 1)
        go(cache.aclose())


def test_ordinary_function_with_a_lock_in_a_block_returns_what_it_cannot_store(
    go, cache, ordinary, caplog
):
    @ordinary.memoize("f", lock=True)
    def double(number):
        return number * 2

    async def use():
        async with cache.transact():
            return double(3), double.peek(3)

    assert go(use()) == (6, ENOVAL)
    assert "asynchronous cache on the same directory" in caplog.text


def test_task_of_a_block_writes_by_itself_when_the_block_has_ended(go, cache, ordinary):
    async def use():
        ended = asyncio.Event()

        async def later():
            await ended.wait()
            return ordinary.set("k", 1), await asyncio.to_thread(ordinary.incr, "k")

        async with cache.transact():
            task = asyncio.create_task(later())
        ended.set()
        return await task

    assert go(use()) == (True, 2)


def test_ordinary_write_in_a_block_of_another_directory_is_done(go, cache, make_cache, tmp_path):
    other = make_cache(tmp_path / "other")

    async def use():
        async with cache.transact():
            return other.set("k", 1), await asyncio.to_thread(other.incr, "k")

    assert go(use()) == (True, 2)


def decorated(cache):
    """Return coroutine functions under each decorator that awaits, and what they count calls in."""
    calls = []

    async def count(number):
        calls.append(number)
        return number

    return calls, [
        barrier(cache, Lock, name="barrier")(count),
        throttle(cache, 5, 60, name="throttle", blocking=False)(count),
        memoize_stampede(cache, 60, name="stampede")(count),
        cache.memoize(name="memoize")(count),
    ]


def test_decorated_coroutine_functions_in_a_block_belong_to_it(go, cache, ordinary):
    calls, functions = decorated(ordinary)

    async def use():
        async with cache.transact():
            found = [await function(1) for function in functions for _ in range(2)]
            found += await asyncio.gather(*(function(1) for function in functions[1:]))
        # Results of the last two are cached, and are there after the block.
        return found, [await function(1) for function in functions]

    found, after = go(use())

    assert (set(found), after) == ({1}, [1] * 4)
    assert len(calls) == 2 + 2 + 1 + 1 + 1 + 2
    assert not Lock(ordinary, "barrier").locked()


def test_rollback_of_a_block_undoes_what_decorators_wrote(go, cache, ordinary):
    calls, functions = decorated(ordinary)

    async def use():
        with pytest.raises(ZeroDivisionError):
            async with cache.transact():
                for function in functions:
                    await function(1)
                raise ZeroDivisionError
        before = len(calls)
        for function in functions:
            await function(1)
        return before, len(calls)

    assert go(use()) == (4, 8)


def test_renewal_that_starts_in_a_block_is_part_of_it(go, cache, ordinary, clock, monkeypatch):
    calls = []

    @memoize_stampede(ordinary, 60, name="stampede")
    async def count():
        calls.append(1)
        clock.advance(1)
        return len(calls)

    async def use():
        async with cache.transact():
            first = await count()
            # The draw that says that it is time at once.
            monkeypatch.setattr("diskcache.recipes.stampede.math.log", lambda _: -1e3)
            again = await count()
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        return first, again, len(calls)

    assert go(use()) == (1, 1, 2)


def test_barrier_that_another_holds_raises_in_a_block(go, cache, ordinary):
    @barrier(ordinary, Lock, name="barrier")
    async def guarded():
        return 1

    async def use():
        with Lock(ordinary, "barrier"):
            async with cache.transact():
                with pytest.raises(GateError, match="pass barriers before transactions"):
                    await guarded()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(guarded(), 0.02)
        return await guarded()

    assert go(use()) == 1


def test_barrier_in_a_block_that_is_cancelled_while_it_is_taken_is_given_back(go, cache, ordinary):
    took, go_on = threading.Event(), threading.Event()

    class Slow(Lock):
        def acquire(self, blocking=True, timeout=-1):
            fence = super().acquire(blocking, timeout)
            took.set()
            go_on.wait(60)
            return fence

    @barrier(ordinary, Slow, name="barrier")
    async def guarded():
        raise AssertionError("it was cancelled before")

    async def use():
        async with cache.transact():
            task = asyncio.create_task(guarded())
            await asyncio.to_thread(took.wait, 60)
            task.cancel()
            await asyncio.wait([task])
            go_on.set()
        return task.cancelled(), await asyncio.to_thread(Lock(ordinary, "barrier").locked)

    assert go(use()) == (True, False)
