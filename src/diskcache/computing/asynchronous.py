"""The memoizing wrappers of coroutine functions and asynchronous generators."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

from diskcache.computing.calls import Calls, attach
from diskcache.computing.looping import Looping
from diskcache.holding import holds
from diskcache.sentinels import ENOVAL, UNKNOWN

Func = TypeVar("Func", bound=Callable[..., Any])


def wrapped(func: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    """Return a coroutine function, or an asynchronous generator, that looks for results first."""
    if inspect.isasyncgenfunction(func):
        return async_generator(func, calls)
    return controlled(coroutine(func, calls), func, calls)


def coroutine(func: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    """Wrap a coroutine function."""
    make_key, computer, store, tally = calls.make_key, calls.computer, calls.store, calls.tally
    recall = calls.recall if calls.terms.refresh is None else None

    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        key = make_key(args, kwargs)
        # What a transaction has written is not in memory before its end.
        result = UNKNOWN if recall is None or holds.get() else recall(key)
        if result is UNKNOWN:
            return await computer.get(Looping(store), key, partial(func, *args, **kwargs))
        if result is ENOVAL:
            return await computer.miss(Looping(store), key, partial(func, *args, **kwargs))
        tally.hits += 1
        return result

    return wrapper


def controlled(wrapper: Func, func: Callable[..., Any], calls: Calls) -> Func:
    """Give a wrapper the coroutine functions that control it."""
    store, make_key, computer = calls.store, calls.make_key, calls.computer

    async def invalidate(*args: Any, **kwargs: Any) -> bool:
        return await Looping(store).do(store.drop, make_key(args, kwargs))

    async def refresh(*args: Any, **kwargs: Any) -> Any:
        call = partial(func, *args, **kwargs)
        return await computer.renew(Looping(store), make_key(args, kwargs), call)

    async def peek(*args: Any, **kwargs: Any) -> Any:
        return await Looping(store).do(calls.load, make_key(args, kwargs))

    async def clear() -> int:
        return await Looping(store).do(store.drop_calls, calls.name)

    attach(wrapper, calls, invalidate, refresh, peek, clear)
    vars(wrapper)["bypass"] = func
    return wrapper


def async_generator(func: Callable[..., AsyncIterator[Any]], calls: Calls) -> Callable[..., Any]:
    """Wrap an asynchronous generator: its items are made first, and then handed out."""

    async def collect(*args: Any, **kwargs: Any) -> list[Any]:
        return [item async for item in func(*args, **kwargs)]

    inner: Any = controlled(coroutine(collect, calls), collect, calls)

    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for item in await inner(*args, **kwargs):
            yield item

    async def refresh(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        return _replayed(await inner.refresh(*args, **kwargs))

    attach(wrapper, calls, inner.invalidate, refresh, inner.peek, inner.clear)
    vars(wrapper)["bypass"] = func
    return wrapper


async def _replayed(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item
