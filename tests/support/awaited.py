"""An asynchronous cache behind the face of an ordinary one, so that its tests can be run for it."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

_END = object()
_local = threading.local()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a loop of its own, but in the one context of this thread.

    So what one call enters, a transaction, the next one is in.
    """
    if not hasattr(_local, "context"):
        _local.context = contextvars.copy_context()
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(loop.create_task(coroutine, context=_local.context))
    finally:
        loop.close()


def iterate(iterator: AsyncIterator[Any]) -> Iterator[Any]:
    """Yield what an asynchronous iterator yields, each from a loop of its own."""

    async def following() -> Any:
        return await anext(iterator, _END)

    while (entry := run(following())) is not _END:
        yield entry


class Block:
    """An asynchronous context as an ordinary one."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def __enter__(self) -> Any:
        return run(self._manager.__aenter__())

    def __exit__(self, *exception: object) -> Any:
        return run(self._manager.__aexit__(*exception))


class Awaited:
    """The face: methods run until they are done; all that is not awaited is asked of the cache."""

    def __init__(self, cache: Any) -> None:
        vars(self)["_cache"] = cache
        run(cache.open())

    def __getattr__(self, name: str) -> Any:
        cache = vars(self)["_cache"]
        method = getattr(type(cache), name, None)
        if inspect.iscoroutinefunction(method):
            return lambda *args, **keywords: run(getattr(cache, name)(*args, **keywords))
        if inspect.isasyncgenfunction(method):
            return lambda *args, **keywords: iterate(getattr(cache, name)(*args, **keywords))
        return getattr(cache.sync, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(vars(self)["_cache"].sync, name, value)

    def transact(self, *args: Any, **keywords: Any) -> Any:
        return Block(self._cache.transact(*args, **keywords))

    def close(self) -> None:
        run(self._cache.aclose())

    def __getitem__(self, key: Any) -> Any:
        return run(self._cache.getitem(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        run(self._cache.setitem(key, value))

    def __delitem__(self, key: Any, **keywords: Any) -> Any:
        return run(self._cache.delitem(key, **keywords))

    def __contains__(self, key: Any) -> bool:
        return run(self._cache.contains(key))

    def __len__(self) -> int:
        return run(self._cache.len())

    def __iter__(self) -> Iterator[Any]:
        return iterate(aiter(self._cache))

    def __reversed__(self) -> Iterator[Any]:
        return iterate(self._cache.reversed())

    def __enter__(self) -> Any:
        run(self._cache.open())
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._cache,)

    def __repr__(self) -> str:
        return repr(self._cache.sync)
