"""Functions that wait in a task: results, errors, cancelling, and state that is of one call."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextvars import ContextVar

import pytest

from diskcache import bridging
from diskcache.bridging import bridged, here, keeping, wait
from diskcache.clock import SYSTEM_CLOCK
from diskcache.engines.redis.looped import nap
from diskcache.events import Event, Listeners

name = ContextVar("name", default="nobody")


class FailedError(Exception):
    """An error of a test."""


async def answered(value):
    await asyncio.sleep(0)
    return value


async def failing():
    await asyncio.sleep(0)
    raise FailedError


def test_bridged_returns_what_the_function_does_of_what_it_waited_for():
    def function(first, *, second):
        return [wait(answered(first)), wait(answered(second))]

    assert asyncio.run(bridged(function, 1, second=2)) == [1, 2]


def test_bridged_of_what_never_waits_returns_its_result():
    assert asyncio.run(bridged(lambda: 42)) == 42


def test_error_of_what_is_awaited_is_raised_where_the_function_waits():
    def function():
        with pytest.raises(FailedError):
            wait(failing())
        return "caught"

    assert asyncio.run(bridged(function)) == "caught"


def test_error_of_the_function_is_raised_to_the_task():
    def function():
        wait(answered(1))
        raise FailedError

    with pytest.raises(FailedError):
        asyncio.run(bridged(function))


def test_wait_elsewhere_raises():
    coroutine = answered(1)
    with pytest.raises(RuntimeError, match="only a bridged call"):
        wait(coroutine)
    coroutine.close()


def test_cancelled_task_interrupts_its_function_where_that_waits():
    told = []

    def function():
        try:
            wait(asyncio.sleep(60))
        except asyncio.CancelledError:
            told.append("interrupted")
            # What has to be put right may wait too.
            told.append(wait(answered("and put right")))
            raise

    async def main():
        task = asyncio.create_task(bridged(function))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert told == ["interrupted", "and put right"]


def test_destroyed_task_ends_its_function_which_cannot_wait_any_more():
    told = []

    def function():
        try:
            wait(asyncio.sleep(60))
        finally:
            try:
                wait(answered("nobody awaits this"))
            except GeneratorExit:
                told.append("it cannot wait")

    async def main():
        steps = bridged(function)
        steps.send(None).cancel()
        steps.close()

    asyncio.run(main())

    assert told == ["it cannot wait"]


def test_call_that_is_over_is_not_kept():
    class Value:
        pass

    async def main():
        value = await bridged(lambda: wait(answered(Value())))
        return weakref.ref(value)

    found = asyncio.run(main())
    gc.collect()

    assert found() is None


def test_function_sees_the_context_of_its_task_and_changes_only_its_own():
    def function():
        before = name.get()
        name.set("function")
        wait(answered(1))
        return before, name.get()

    async def main():
        name.set("task")
        return await bridged(function), name.get()

    assert asyncio.run(main()) == (("task", "function"), "task")


def test_calls_of_several_tasks_take_turns():
    told = []

    def function(number):
        for _ in range(3):
            told.append(number)
            wait(asyncio.sleep(0))

    async def main():
        await asyncio.gather(*(bridged(function, number) for number in range(3)))

    asyncio.run(main())

    assert told == [0, 1, 2] * 3


def test_code_beside_a_waiting_call_is_in_none():
    async def main():
        task = asyncio.create_task(bridged(lambda: wait(asyncio.sleep(0.01))))
        await asyncio.sleep(0)
        beside = here.call
        await task
        return beside

    assert asyncio.run(main()) is None


class Local(threading.local):
    value = "of the thread"


def test_state_that_is_kept_is_of_one_call():
    local = Local()

    def function(number):
        with keeping(local):
            local.value = number
            with keeping(local):
                local.value = -number
                wait(asyncio.sleep(0))
                inner = local.value
            local.value = number
            wait(asyncio.sleep(0))
            outer = local.value
            del local.value
        return inner, outer

    async def main():
        results = asyncio.gather(*(bridged(function, number) for number in (1, 2)))
        beside = []
        while not results.done():
            beside.append(local.value)
            await asyncio.sleep(0)
        return await results, set(beside)

    assert asyncio.run(main()) == ([(-1, 1), (-2, 2)], {"of the thread"})


def test_keeping_elsewhere_does_nothing():
    local = Local()
    with keeping(local):
        local.value = 1

    assert local.value == 1


def test_nap_of_a_call_lets_other_tasks_run():
    told = []

    async def main():
        call = asyncio.create_task(bridged(nap, SYSTEM_CLOCK, 0.01))
        while not call.done():
            told.append("other")
            await asyncio.sleep(0)

    asyncio.run(main())

    assert told


def test_nap_by_a_clock_of_a_test_takes_no_time(clock):
    start = clock.monotonic()
    asyncio.run(bridged(nap, clock, 3600))

    assert clock.monotonic() - start == 3600


def test_events_of_a_call_do_not_wait_for_another_call():
    told = []
    listeners = Listeners("test")
    listeners.add("set", lambda event: told.append(event.key))

    def operation(key, turns):
        listeners.enter()
        listeners.happened(Event("set", key))
        for _ in range(turns):
            wait(asyncio.sleep(0))
        listeners.leave()
        told.append(f"{key} is over")

    async def main():
        await asyncio.gather(bridged(operation, "long", 5), bridged(operation, "short", 1))

    asyncio.run(main())

    assert told == ["short", "short is over", "long", "long is over"]


def test_call_that_is_destroyed_in_the_middle_of_another_does_not_disturb_it():
    ended = []

    def left():
        try:
            wait(asyncio.sleep(60))
        finally:
            ended.append("left")

    def function(garbage):
        garbage.pop().close()
        assert here.call is not None
        return wait(answered(len(ended)))

    async def main():
        coroutine = bridged(left)
        coroutine.send(None)
        return await bridged(function, [coroutine]), await bridged(wait, answered(2))

    assert asyncio.run(main()) == (1, 2)


def test_without_the_library_calls_cannot_be_bridged(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "greenlet", None)
    monkeypatch.setattr(bridging, "_library", [])

    assert not bridging.is_possible()
