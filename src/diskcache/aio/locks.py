"""Locks of tasks, threads and processes: those of `recipes`, awaited.

Implementation note.

Nobody waits in a thread: an attempt is a hop, and between two attempts the task sleeps. Of the
tasks of one loop that wait through one object, one at a time makes attempts; the others wait for
their turn, in the order in which they came.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, TypeVar

from diskcache.aio.cache import AsyncCache, AsyncFanoutCache
from diskcache.aio.pool import READ, WRITE, Errand, Pool
from diskcache.cache import Cache
from diskcache.entry import Tag
from diskcache.errors import DiskCacheError
from diskcache.fanout import FanoutCache
from diskcache.recipes.locks import (
    PATIENCE,
    BoundedSemaphore,
    Lock,
    RLock,
    Semaphore,
    acting_as,
    limit_of,
    naps,
    new_party,
)

L = TypeVar("L", Lock, RLock, BoundedSemaphore, Semaphore)
AnyCache = AsyncCache | AsyncFanoutCache | Cache | FanoutCache

_parties: Final[weakref.WeakKeyDictionary[Any, int]] = weakref.WeakKeyDictionary()


def _party() -> int:
    """Return the number of the current task, as a party that takes locks."""
    task = asyncio.current_task()
    found = _parties.get(task)
    if found is None:
        found = _parties[task] = new_party()
    return found


class _Awaited(Generic[L]):
    """What all of them have in common."""

    _make: Callable[..., L]

    def __init__(
        self, cache: AnyCache, key: Any, expire: float | None = None, tag: Tag = None
    ) -> None:
        self._attach(cache, key, expire, tag)

    def _attach(self, cache: AnyCache, *args: Any) -> None:
        if isinstance(cache, FanoutCache):
            cache = AsyncFanoutCache(cache)
        elif isinstance(cache, Cache):
            cache = AsyncCache(cache)
        elif not isinstance(cache, (AsyncCache, AsyncFanoutCache)):
            raise TypeError(f"cache must be a cache, asynchronous or not: got {cache!r}")
        self._cache: AsyncCache | AsyncFanoutCache = cache
        self._args = args
        self._lock: L | None = None
        self._turns: weakref.WeakKeyDictionary[Any, asyncio.Lock] = weakref.WeakKeyDictionary()

    async def _opened(self) -> tuple[L, Pool]:
        cache = self._cache
        await cache.open()
        pool = cache._pool
        if self._lock is None:
            # On a server it may have to look what that is.
            make = partial(type(self)._make, cache.sync, *self._args)
            made = await pool.submit(READ, pool.job(make)).future if pool.is_bridging else make()
            # Another task may have been faster: it is given back by the object that took it.
            if self._lock is None:
                self._lock = made
        return self._lock, pool

    # -- The interface of threading, awaited --

    async def acquire(self, blocking: bool = True, timeout: float | None = -1) -> int:  # noqa: ASYNC109 - as `Lock`
        """Take the lock, waiting for it if it is taken; see `Lock.acquire`.

        If the task is cancelled, it does not have the lock, and nobody else has it for its sake.

        Cost: a hop for each attempt; while waiting, one every 50 ms. No thread is kept.

        Args:
            blocking: Wait. False tries once.
            timeout: Seconds to wait; -1 or None for no limit.

        Returns:
            The fencing number of this hold, greater than that of every earlier one; False if the
            lock could not be had.

        Raises:
            ValueError: *timeout* is negative, or given although *blocking* is false.
            GateError: The lock is taken, and the task is in a block of `transact`, so that nobody
                could give it back.
            KeyInUseError: The key is that of an entry that is not a lock.
        """
        limit = limit_of(blocking, timeout)
        lock, pool = await self._opened()
        if fence := await _attempt(lock, pool, limit == 0):
            return fence
        if limit == 0:
            return False
        try:
            async with asyncio.timeout(limit) as patience, self._turn():
                for nap in naps():
                    await asyncio.sleep(nap)
                    if fence := await _attempt(lock, pool, False):
                        return fence
        except TimeoutError:
            if not patience.expired():
                raise
        return False

    def _turn(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        turn = self._turns.get(loop)
        if turn is None:
            turn = self._turns[loop] = asyncio.Lock()
        return turn

    async def release(self) -> None:
        """Give the lock back, also if the task is cancelled meanwhile; see `Lock.release`.

        Raises:
            LockReleaseError: It is not held here, or not any more. Also a `RuntimeError` and an
                `AssertionError`.
        """
        await self._give_back(1)

    async def _give_back(self, count: int) -> None:
        lock, pool = await self._opened()
        await pool.submit(WRITE, pool.job(_release, (lock, _party(), count), must_run=True)).future

    async def locked(self) -> bool:
        """Tell whether somebody who lives holds the lock, so that none is left to take."""
        lock, pool = await self._opened()
        found: bool = await pool.submit(READ, pool.job(lock.locked)).future
        return found

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, kind: object, *exception: object) -> None:
        if kind is not GeneratorExit:
            await self.release()
        elif self._lock is not None:
            # The task is no more: nothing can be waited for.
            lock, party = self._lock, _party()
            self._cache._pool.post(WRITE, Errand(lambda: _release_unheard(lock, party)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._cache!r}, {self._args[0]!r})"


async def _attempt(lock: L, pool: Pool, is_last: bool) -> int:
    """Take a lock if it can be had at once; return the fencing number, or 0."""
    party = _party()

    def undo(fence: int) -> None:
        if fence:
            _release(lock, party, 1)

    fence: int = await pool.submit(
        WRITE, pool.job(_try, (lock, party, is_last), undo=undo)
    ).result()
    return fence


def _try(lock: L, party: int, is_last: bool) -> int:
    with acting_as(party):
        fence = lock._try(PATIENCE)
    if not (fence or is_last):
        lock._refuse_in_transaction()
    return fence


def _release(lock: L, party: int, count: int) -> None:
    with acting_as(party):
        lock._give_back(count)


def _release_unheard(lock: L, party: int) -> None:
    with suppress(DiskCacheError, OSError):
        _release(lock, party, 1)


class AsyncLock(_Awaited[Lock]):
    """A lock that one holder at a time has, over all tasks, threads and processes; see `Lock`.

    The lock is that of every `Lock` with the same key. It is given back through the object that
    took it, by any task.

    Args:
        cache: Where the entry of the lock is: any cache, asynchronous or not.
        key: Names the lock.
        expire: Seconds after which another may take it although its holder lives; None for never.
        tag: Tag of the entry; `evict` does not remove it.

    Example:
        >>> import asyncio
        >>> from diskcache import AsyncCache, AsyncLock
        >>> async def main():
        ...     async with AsyncCache() as cache:
        ...         lock = AsyncLock(cache, 'report')
        ...         async with lock:
        ...             return await lock.locked(), await lock.acquire(timeout=0.01)
        >>> asyncio.run(main())
        (True, False)
    """

    _make = Lock


class AsyncRLock(_Awaited[RLock]):
    """A lock that its holder, a task, may take several times; see `RLock`.

    It must be given back as often, by the same task, through any object with the same key.

    Args:
        cache: Where the entry of the lock is: any cache, asynchronous or not.
        key: Names the lock.
        expire: Seconds after which another may take it although its holder lives; None for never.
        tag: Tag of the entry; `evict` does not remove it.

    Example:
        >>> import asyncio
        >>> from diskcache import AsyncCache, AsyncRLock
        >>> async def main():
        ...     async with AsyncCache() as cache:
        ...         lock = AsyncRLock(cache, 'tree')
        ...         async with lock, lock:
        ...             return await lock.locked()
        >>> asyncio.run(main())
        True
    """

    _make = RLock


class AsyncBoundedSemaphore(_Awaited[BoundedSemaphore]):
    """A number of permits, of which each holder has one; see `BoundedSemaphore`.

    Args:
        cache: Where the entry of the semaphore is: any cache, asynchronous or not.
        key: Names the semaphore.
        value: Number of permits. All objects with the same key should agree on it.
        expire: Seconds after which a permit may go to another although its holder lives.
        tag: Tag of the entry; `evict` does not remove it.

    Example:
        >>> import asyncio
        >>> from diskcache import AsyncBoundedSemaphore, AsyncCache
        >>> async def main():
        ...     async with AsyncCache() as cache:
        ...         semaphore = AsyncBoundedSemaphore(cache, 'workers', value=2)
        ...         async with semaphore, semaphore:
        ...             return await semaphore.acquire(blocking=False)
        >>> asyncio.run(main())
        False
    """

    _make = BoundedSemaphore

    def __init__(
        self,
        cache: AnyCache,
        key: Any,
        value: int = 1,
        expire: float | None = None,
        tag: Tag = None,
    ) -> None:
        if value < 0:
            raise ValueError(f"value must be a number of permits, 0 or more: got {value!r}")
        self._attach(cache, key, value, expire, tag)

    async def release(self, n: int = 1) -> None:
        """Give *n* permits back, all or none; see `BoundedSemaphore.release`.

        Raises:
            LockReleaseError: Fewer are held here. Also a `RuntimeError` and an `AssertionError`.
            ValueError: *n* is less than 1.
        """
        if n < 1:
            raise ValueError(f"n must be one or more: got {n!r}")
        await self._give_back(n)


class AsyncSemaphore(AsyncBoundedSemaphore):
    """A number of permits to which `release` can add more; see `Semaphore`.

    Args:
        cache: Where the entry of the semaphore is: any cache, asynchronous or not.
        key: Names the semaphore.
        value: Number of permits at first.
        expire: Seconds after which a permit may go to another although its holder lives.
        tag: Tag of the entry; `evict` does not remove it.

    Example:
        >>> import asyncio
        >>> from diskcache import AsyncCache, AsyncSemaphore
        >>> async def main():
        ...     async with AsyncCache() as cache:
        ...         ready = AsyncSemaphore(cache, 'ready', value=0)
        ...         await ready.release()
        ...         return await ready.acquire() > 0
        >>> asyncio.run(main())
        True
    """

    _make = Semaphore
