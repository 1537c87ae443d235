"""Steps of a computation in a task of an event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, TypeVar

from diskcache.clock import SYSTEM_CLOCK, Clock
from diskcache.computing.ways import Store
from diskcache.holding import hold_of
from diskcache.sentinels import ENOVAL

T = TypeVar("T")

in_thread: Final = asyncio.to_thread
"""Calls what may block, with the context variables of the caller."""

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
        hop: Calls what may block in a thread; by default as the store does.
    """

    def __init__(self, store: Store, hop: Callable[..., Awaitable[Any]] | None = None) -> None:
        self._store = store
        own: Callable[..., Awaitable[Any]] = getattr(store, "hop", in_thread)
        self._hop = own if hop is None else hop
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
