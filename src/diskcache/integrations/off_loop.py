"""Coroutine functions that do what a method of a framework's cache object does.

What memory knows is answered at once; all else is a hop to the threads of the cache behind it,
which `AsyncFanoutCache` uses too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from diskcache.aio import AsyncCache, AsyncFanoutCache
from diskcache.aio.methods import close_file
from diskcache.aio.pool import READ, WRITE, Job, Pool, pool_of
from diskcache.cache import Cache
from diskcache.fanout import FanoutCache
from diskcache.sentinels import ENOVAL, UNKNOWN

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

_READS: Final = frozenset({"get", "get_many", "has_key", "info", "read"})
_FILES: Final = frozenset({"get", "read"})

_opening: Final = Pool()
"""Threads that open a cache whose directory was replaced."""


def off_loop(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Return the asynchronous counterpart of a method: `aget` for `get`, with its parameters.

    It calls the method by its name, so that one that a subclass overrides is called. An operation
    that has begun comes to its end although the caller is cancelled.
    """
    name = method.__name__
    lane = READ if name in _READS else WRITE
    undo = close_file if name in _FILES else None

    async def counterpart(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        cache = vars(self).get("_cache")
        pool = pool_of(await _opened(self) if cache is None else cache)
        job = pool.submit(lane, pool.job(getattr(self, name), args, kwargs, undo))
        try:
            result: R = await job.result()
            return result
        finally:
            # An error refers to this frame, and the job to the error.
            del job

    functools.update_wrapper(counterpart, method)
    counterpart.__name__ = f"a{name}"
    counterpart.__qualname__ = f"{method.__qualname__.rpartition('.')[0]}.a{name}".lstrip(".")
    counterpart.__doc__ = f"Do `{name}` without keeping the event loop; see there."
    return counterpart


class PromptReads:
    """Asynchronous reads that memory may answer at once, of a framework's cache object."""

    _key: Callable[[Any, int | None], Any]
    _aget: Callable[..., Coroutine[Any, Any, Any]]
    """The counterpart of `get` by `off_loop`."""
    _ahas_key: Callable[..., Coroutine[Any, Any, bool]]
    get: Callable[..., Any]
    has_key: Callable[..., bool]

    async def aget(
        self,
        key: Any,
        default: Any = None,
        version: int | None = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Do `get` without keeping the event loop: at once if memory knows the answer."""
        cache = vars(self).get("_cache")
        if not (cache is None or read or expire_time or tag) and _is_own(
            type(self).get, self._aget
        ):
            value = cache._promptly(self._key(key, version))
            if value is not UNKNOWN:
                return default if value is ENOVAL else value
        return await self._aget(key, default, version, read, expire_time, tag, retry)

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """Do `has_key` without keeping the event loop: at once if memory knows the answer."""
        cache = vars(self).get("_cache")
        if cache is not None and _is_own(type(self).has_key, self._ahas_key):
            made = self._key(key, version)
            found = cache._contains_promptly(made)
            if found is not UNKNOWN:
                return bool(found)
        return await self._ahas_key(key, version)


def _is_own(method: Any, counterpart: Any) -> bool:
    """Tell whether a method is the one that a counterpart was made of, not that of a subclass."""
    return counterpart.__func__.__wrapped__ is method


async def _opened(backend: Any) -> FanoutCache:
    """Return the cache of a backend that has to open it first."""
    found: FanoutCache = await _opening.submit(
        WRITE, Job(_opening, getattr, (backend, "_cache"))
    ).future
    _opening.close()
    return found


async def closed(cache: FanoutCache | Cache) -> None:
    """Close the connections of all threads, and end those that served event loops."""
    await (AsyncCache(cache) if isinstance(cache, Cache) else AsyncFanoutCache(cache)).aclose()
