"""An asynchronous cache behind the face of an ordinary one, so that its tests can be run for it.

Each cache has an event loop that runs in a thread of its own, as that of a program does; threads of
a test hand it their calls. A thread has one context for all its calls, so what one of them enters,
a transaction or a bypass, the next one is in.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

_END = object()
_local = threading.local()

LIMIT = 60
"""Seconds after which a call is given up."""

COMPUTING = ("get_or_set", "get_or_set_many")
"""Methods whose function is the user's, and may wait for other calls."""


def _context() -> contextvars.Context:
    """Return the context of the calls of this thread."""
    if not hasattr(_local, "context"):
        _local.context = contextvars.copy_context()
    context: contextvars.Context = _local.context
    return context


class Loop:
    """An event loop in a thread of its own, which is started by the first call."""

    def __init__(self) -> None:
        self._idle = threading.Condition()
        self._calls = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: Callable[[], object] = bool
        self._pid = 0

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop, in the context of this thread; wait for what it gives."""
        with self._idle:
            loop = self._started()
            self._calls += 1
        try:
            value, error = self._outcome(loop, coroutine)
        finally:
            with self._idle:
                self._calls -= 1
                self._idle.notify_all()
        if error is not None:
            raise error
        return value

    def _outcome(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]
    ) -> tuple[Any, BaseException | None]:
        context, done = _context(), Future[tuple[Any, BaseException | None]]()

        async def outcome() -> tuple[Any, BaseException | None]:
            # What leaves a task as SystemExit ends the loop.
            try:
                return await coroutine, None
            except BaseException as exc:  # noqa: BLE001 - it is raised below
                return None, exc

        def start() -> None:
            task = loop.create_task(outcome(), context=context)
            task.add_done_callback(lambda task: done.set_result(task.result()))

        loop.call_soon_threadsafe(start)
        return done.result(LIMIT)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._pid != os.getpid():
            self._pid, self._loop, self._calls = os.getpid(), asyncio.new_event_loop(), 0
            thread = threading.Thread(target=_serve, args=(self._loop,), name="loop of a test")
            thread.start()
            self._end = weakref.finalize(self, _stop, self._loop, thread, self._pid)
        return self._loop

    def close(self) -> None:
        """End the loop, when no call is under way, and what still runs in it."""
        with self._idle:
            self._idle.wait_for(lambda: not self._calls, LIMIT)
            self._end()
            self._loop = None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    while not getattr(loop, "is_to_end", False):
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            # Of a function that a task behind the scenes has called.
            continue
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, pid: int) -> None:
    if pid == os.getpid():
        vars(loop)["is_to_end"] = True
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(LIMIT)


def in_a_thread(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a coroutine function that calls an ordinary one in a thread, so that it may block."""

    def call(*args: Any) -> Any:
        # The thread may have been another one's before.
        _local.context = contextvars.copy_context()
        try:
            return func(*args)
        finally:
            del _local.context

    async def awaited(*args: Any) -> Any:
        return await asyncio.to_thread(call, *args)

    return awaited


class Block:
    """An asynchronous context as an ordinary one."""

    def __init__(self, loop: Loop, manager: Any) -> None:
        self._loop = loop
        self._manager = manager

    def __enter__(self) -> Any:
        return self._loop.run(self._manager.__aenter__())

    def __exit__(self, *exception: object) -> Any:
        return self._loop.run(self._manager.__aexit__(*exception))


class Both:
    """Two blocks of a kind: one in this thread, one in the context of its calls."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._stack = ExitStack()

    def __enter__(self) -> None:
        context = _context()
        here, there = self._make(), self._make()
        self._stack.enter_context(here)
        context.run(there.__enter__)
        self._stack.callback(context.run, there.__exit__, None, None, None)

    def __exit__(self, *exception: object) -> None:
        self._stack.close()


class Awaited:
    """The face: methods run until they are done; all that is not awaited is asked of the cache."""

    def __init__(self, cache: Any) -> None:
        vars(self).update(_cache=cache, _loop=Loop())
        try:
            self._loop.run(cache.open())
        except BaseException:
            self._loop.close()
            raise

    def __getattr__(self, name: str) -> Any:
        cache, loop = vars(self)["_cache"], vars(self)["_loop"]
        method = getattr(type(cache), name, None)
        if name in COMPUTING:
            return lambda key, func, **keywords: loop.run(
                getattr(cache, name)(key, _blocking(func), **keywords)
            )
        if inspect.iscoroutinefunction(method):
            return lambda *args, **keywords: loop.run(getattr(cache, name)(*args, **keywords))
        if inspect.isasyncgenfunction(method):
            return lambda *args, **keywords: self._iterate(getattr(cache, name)(*args, **keywords))
        return getattr(cache.sync, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(vars(self)["_cache"].sync, name, value)

    def _iterate(self, iterator: AsyncIterator[Any]) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(iterator, _END)

        while (entry := self._loop.run(following())) is not _END:
            yield entry

    def transact(self, *args: Any, **keywords: Any) -> Any:
        return Block(self._loop, self._cache.transact(*args, **keywords))

    def bypass(self) -> Any:
        return Both(self._cache.bypass)

    def close(self) -> None:
        self._loop.run(self._cache.aclose())
        self._loop.close()

    def __getitem__(self, key: Any) -> Any:
        return self._loop.run(self._cache.getitem(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._loop.run(self._cache.setitem(key, value))

    def __delitem__(self, key: Any, **keywords: Any) -> Any:
        return self._loop.run(self._cache.delitem(key, **keywords))

    def __contains__(self, key: Any) -> bool:
        return self._loop.run(self._cache.contains(key))

    def __len__(self) -> int:
        return self._loop.run(self._cache.len())

    def __iter__(self) -> Iterator[Any]:
        return self._iterate(aiter(self._cache))

    def __reversed__(self) -> Iterator[Any]:
        return self._iterate(self._cache.reversed())

    def __enter__(self) -> Any:
        self._loop.run(self._cache.open())
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._cache,)

    def __repr__(self) -> str:
        return repr(self._cache.sync)


def _blocking(func: Any) -> Any:
    """Return what may be called in a loop although it blocks; what is no function, as it is."""
    is_plain = callable(func) and not inspect.iscoroutinefunction(func)
    return in_a_thread(func) if is_plain else func
