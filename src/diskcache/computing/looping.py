"""Steps of a computation in a task of an event loop.

Implementation note. What may block is done by the default executor of the loop. Its threads may all
be taken by calls that wait for the very task whose step has none, a lock or a flight that only this
task can give back; so a step that did not begin in time is done by a thread of our own. No step
waits for another one, so that these come to their end, however few they are.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, Final, TypeVar

from diskcache.clock import SYSTEM_CLOCK, Clock
from diskcache.computing.ways import Store
from diskcache.holding import hold_of
from diskcache.sentinels import ENOVAL

T = TypeVar("T")

PATIENCE: Final = 0.2
"""Seconds that a step waits for a thread of the default executor."""
NAP: Final = 0.05
"""Seconds between two looks for another thread, after that."""

HELPERS: Final = 4
"""Most threads of our own at a time."""


class _Slots:
    """How many more threads of our own there may be."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Forget those of the parent, in a forked child."""
        self.free = threading.Semaphore(HELPERS)


_slots: Final = _Slots()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_slots.renew)


class _Hop:
    """A call in a thread of the default executor, or in one of our own if that takes too long."""

    def __init__(self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.late: asyncio.Future[Any] | None = None
        """What a thread of our own does."""
        self._call = call
        self._loop = loop
        self._claim = threading.Lock()
        self.future = loop.run_in_executor(None, self._run)
        self._timer = loop.call_later(PATIENCE, self._hurry)

    def _run(self) -> Any:
        return self._call() if self._claim.acquire(blocking=False) else None

    def _hurry(self) -> None:
        """Have it done by a thread of our own, if it has not begun."""
        if self._claim.locked() or self.future.done():
            return
        free = _slots.free
        if free.acquire(blocking=False):
            if self._claim.acquire(blocking=False):
                self._hurry_now(free)
            else:
                free.release()
        else:
            self._timer = self._loop.call_later(NAP, self._hurry)

    def _hurry_now(self, free: threading.Semaphore) -> None:
        # The thread ends with its work; the interpreter waits for it.
        helper = ThreadPoolExecutor(1, "helping an event loop")
        late = helper.submit(self._call)
        helper.shutdown(wait=False)
        late.add_done_callback(lambda _: free.release())
        self.late = asyncio.wrap_future(late)
        # It wakes whoever waits.
        self.future.cancel()

    def end(self) -> None:
        """Look no more whether it has begun."""
        self._timer.cancel()


async def in_thread(step: Callable[..., T], *args: Any) -> T:
    """Call what may block, with the context variables of the caller."""
    task = asyncio.current_task()
    requests = 0 if task is None else task.cancelling()
    hop = _Hop(partial(copy_context().run, step, *args), asyncio.get_running_loop())
    result: T
    try:
        result = await hop.future
    except asyncio.CancelledError:
        if hop.late is None or task is None or task.cancelling() > requests:
            raise
        result = await hop.late
    finally:
        hop.end()
        # An error refers to this frame, and the future to the error.
        del hop
    return result


_tasks: Final[set[asyncio.Task[None]]] = set()


async def pause(clock: Clock, seconds: float) -> None:
    """Let other tasks run for a while; a clock that is not the machine's lets it pass at once."""
    if clock is not SYSTEM_CLOCK:
        clock.sleep(seconds)
    await asyncio.sleep(seconds if clock is SYSTEM_CLOCK else 0)


async def do(directory: str, step: Callable[..., T], *args: Any) -> T:
    """Do in a thread what may block: that of the transaction on a directory that the task is in."""
    hold = hold_of(directory)
    done = None if hold is None else hold.call(step, *args)
    result: T = await (in_thread(step, *args) if done is None else done)
    return result


async def surely(directory: str, step: Callable[..., Any]) -> None:
    """Do the same, even if the caller is cancelled meanwhile."""
    await asyncio.shield(asyncio.ensure_future(do(directory, step)))


def start_task(steps: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Run steps beside the caller."""
    task = asyncio.get_running_loop().create_task(steps, name=name)
    # Nothing will run those of a closed loop, and nothing will tell.
    _tasks.difference_update([left for left in _tasks.copy() if left.get_loop().is_closed()])
    # The loop itself refers to its tasks weakly.
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


class Looping:
    """Steps in a task of an event loop.

    Args:
        store: What the steps are about; its clock measures.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # A store may have threads of its own, or need none.
        self._hop: Callable[..., Awaitable[Any]] = getattr(store, "hop", in_thread)
        self.loop = asyncio.get_running_loop()

    def monotonic(self) -> float:
        """Return seconds of the clock of the cache."""
        return self._store.clock.monotonic()

    async def future(self, future: Future[Any], seconds: float | None) -> bool:
        """Await the result; if the caller is cancelled, others go on waiting."""
        done, _ = await asyncio.wait([asyncio.wrap_future(future)], timeout=seconds)
        return bool(done)

    async def nap(self, seconds: float) -> None:
        """Let other tasks run for a while."""
        await pause(self._store.clock, seconds)

    async def do(self, step: Callable[..., T], *args: Any) -> T:
        """Do it in a thread: that of the transaction that the task is in, if it is in one."""
        hold = self._store.hold()
        done = None if hold is None else hold.call(step, *args)
        result: T = await (self._hop(step, *args) if done is None else done)
        return result

    async def call(self, func: Callable[[], Any]) -> Any:
        """Call it, and await what it gives."""
        result = func()
        return await result if inspect.isawaitable(result) else result

    def told(self, exc: Exception) -> Exception:
        """Return the exception: of a `StopIteration` Python makes a `RuntimeError`."""
        return exc

    def one(self, func: Callable[[list[Any]], Any], key: Any) -> Callable[[], Any]:
        """Return a coroutine function that picks the value of one key."""

        async def pick() -> Any:
            return (await self.call(partial(func, [key]))).get(key, ENOVAL)

        return pick

    def start(
        self,
        steps: Callable[[], Coroutine[Any, Any, None]],
        name: str,
        wait: float | None,
        at_end: Callable[[], None],
    ) -> bool:
        """Make steps in another task."""
        # A task that is cancelled before its first step does not even begin.
        start_task(steps(), name).add_done_callback(lambda _: at_end())
        return True
