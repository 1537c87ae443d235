"""The recipes' decorators for coroutine functions. What may block is done in a thread."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

from diskcache.clock import Clock
from diskcache.computing.looping import do, pause, start_task, surely
from diskcache.errors import GateError
from diskcache.failures import FAILURES
from diskcache.holding import hold_of
from diskcache.recipes.locks import FIRST_NAP, LONGEST_NAP, RLock
from diskcache.recipes.rows import CacheLike, home
from diskcache.recipes.stampede import Results
from diskcache.sentinels import ENOVAL

log: Final = logging.getLogger("diskcache")

Key: TypeAlias = tuple[Any, ...]


def guarded(func: Callable[..., Any], lock: Any, cache: CacheLike) -> Callable[..., Any]:
    """Return a coroutine function that holds a lock around each call.

    Raises:
        TypeError: The lock is one of a thread, or cannot be tried.
    """
    if isinstance(lock, RLock) or not callable(getattr(lock, "acquire", None)):
        raise TypeError(
            f"a barrier around a coroutine function needs a lock that any thread may give back,"
            f" with acquire(blocking=False) and release(): got {type(lock).__name__}; use Lock"
        )
    clock = home(cache, "")._clock  # noqa: SLF001 - the clock of the recipes of this cache
    directory = cache.directory

    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        nap = FIRST_NAP
        while not await _taken(lock, directory):
            await pause(clock, nap)
            nap = min(nap * 2, LONGEST_NAP)
        try:
            return await func(*args, **kwargs)
        finally:
            await surely(directory, lock.release)

    return wrapper


class _Attempt:
    """Taking a lock in a thread. One that is taken for a caller who left is given back."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._state = threading.Lock()
        self._has_left = self._is_taken = False

    def __call__(self) -> bool:
        taken = bool(self._lock.acquire(blocking=False))
        with self._state:
            self._is_taken = taken
            is_in_vain = taken and self._has_left
        if is_in_vain:
            self._lock.release()
        return taken

    def leave(self) -> None:
        """Say that the caller does not need the lock any more."""
        with self._state:
            self._has_left = True
            is_in_vain = self._is_taken
        if is_in_vain:
            self._lock.release()


async def _taken(lock: Any, directory: str) -> bool:
    attempt, hold = _Attempt(lock), hold_of(directory)
    try:
        taken = await do(directory, attempt)
    except BaseException:
        # In a transaction the attempt is made, and undone, by its thread, if it is still there.
        if hold is None or hold.call(attempt.leave) is None:
            attempt.leave()
        raise
    if not (taken or hold is None):
        raise GateError(
            f"{lock!r} is taken, and cannot be given back while this task is inside a transaction"
            " of the cache: pass barriers before transactions"
        )
    return taken


def throttled(
    func: Callable[..., Any],
    step: Callable[[], float],
    sleep_func: Callable[[float], object] | None,
    clock: Clock,
    directory: str,
) -> Callable[..., Any]:
    """Return a coroutine function that waits for a token before each call."""

    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        while (delay := await do(directory, step)) > 0:
            if sleep_func is None:
                await pause(clock, delay)
            elif inspect.isawaitable(waiting := sleep_func(delay)):
                await waiting
        return await func(*args, **kwargs)

    return wrapper


class _Renewing:
    """A coroutine function, and the results that are renewed before they expire."""

    def __init__(self, func: Callable[..., Coroutine[Any, Any, Any]], results: Results) -> None:
        self._func = func
        self._results = results

    async def get(self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the result of a call; start to renew it if it is time."""
        results = self._results
        result, delta = await do(results.directory, results.look, key)
        if result is ENOVAL:
            return await self._renew(key, args, kwargs)
        if delta is not None:
            steps = self._renew_behind(key, delta, args, kwargs)
            start_task(steps, f"renewing {results.name}")
        return result

    async def _renew(self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        results = self._results
        start = results.clock.monotonic()
        result = await self._func(*args, **kwargs)
        delta = results.clock.monotonic() - start
        await do(results.directory, results.keep, key, result, delta)
        return result

    async def _renew_behind(
        self, key: Key, delta: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        try:
            if await do(self._results.directory, self._results.may_renew, key, delta):
                await self._renew(key, args, kwargs)
        except FAILURES:
            log.exception("renewing %s in the background failed", self._results.name)


def renewing(
    func: Callable[..., Coroutine[Any, Any, Any]],
    results: Results,
    make_key: Callable[[tuple[Any, ...], dict[str, Any]], Key],
) -> Callable[..., Any]:
    """Return a coroutine function whose results are renewed before they expire."""
    kept = _Renewing(func, results)

    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await kept.get(make_key(args, kwargs), args, kwargs)

    def key_of(*args: Any, **kwargs: Any) -> Key:
        return make_key(args, kwargs)

    vars(wrapper)["__cache_key__"] = key_of
    return wrapper
