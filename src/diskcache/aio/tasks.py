"""Calls that need no thread: those of a cache on a server, bridged to the loop of the caller.

`Tasks` stands where a cache in a directory has its `Pool`, and `Step` where that has its `Job`. A
call is made by the task that asks for it; if that is cancelled, the function is interrupted where
it waits for the server. Calls whose result must not be lost, or which must come to their end,
have a task of their own, which outlives that of their caller.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from diskcache.aio.pool import Pool, Work
from diskcache.bridging import bridged
from diskcache.computing.looping import start_task
from diskcache.errors import DiskCacheError


class Step:
    """A call that the caller makes by awaiting `future`, once.

    Args:
        function: What to call.
        args: Its positional arguments.
        keywords: Its other arguments.
        undo: Called with a value that nobody is there to take.
        must_run: Whether it comes to its end although its caller is cancelled.
    """

    __slots__ = ("_args", "_function", "_keywords", "_must_run", "_undo")

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        keywords: dict[str, Any] | None = None,
        undo: Callable[[Any], object] | None = None,
        must_run: bool = False,
    ) -> None:
        self._function = function
        self._args = args
        self._keywords = keywords or {}
        self._undo = undo
        self._must_run = must_run

    @property
    def future(self) -> Awaitable[Any]:
        """What comes of it."""
        if self._must_run:
            return asyncio.shield(self._task())
        return bridged(self._function, *self._args, **self._keywords)

    def _task(self) -> asyncio.Task[Any]:
        steps = bridged(self._function, *self._args, **self._keywords)
        return start_task(steps, "diskcache-step")

    async def result(self) -> Any:
        """Wait for the result, and have it undone if it comes too late."""
        if self._undo is None:
            return await self.future
        task = self._task()
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            start_task(self._undone(task), "diskcache-undo")
            raise

    async def _undone(self, task: asyncio.Task[Any]) -> None:
        # There is nobody to be told of an error either.
        with suppress(DiskCacheError, OSError, asyncio.CancelledError):
            await bridged(self._undo or _nothing, await task)


def _nothing(_: Any) -> None:
    """Undo nothing."""


class Tasks(Pool):
    """What makes calls of a cache in the loops of their callers, all at the same time."""

    is_bridging = True

    def __init__(self) -> None:
        super().__init__()
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]
        self._turns = WeakKeyDictionary()

    def job(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        keywords: dict[str, Any] | None = None,
        undo: Callable[[Any], object] | None = None,
        must_run: bool = False,
    ) -> Any:
        """Return a call."""
        return Step(function, args, keywords, undo, must_run)

    def turn(self) -> asyncio.Lock:
        """Return the lock of the loop that runs here."""
        return self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    def submit(self, lane: int, job: Any) -> Any:
        """Return the call: whoever awaits it makes it."""
        del lane
        return job

    def post(self, lane: int, work: Work) -> None:
        """Have work done in a task; here and now where no loop runs."""
        del lane
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            work.run()
        else:
            start_task(bridged(work.run), "diskcache-errand")

    def close(self) -> list[threading.Thread]:
        """Return no threads: there are none."""
        return []
