"""Get or compute, in an event loop: of all tasks, threads and processes that ask, one computes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from diskcache.aio.base import Asynchronous
from diskcache.aio.pool import KEEP, READ, Pool
from diskcache.aio.shapes import ComputedShapes
from diskcache.cache import Cache
from diskcache.cache.computed import CacheStore
from diskcache.cache.shapes import shaped_as
from diskcache.computing.looping import Looping
from diskcache.computing.many import get_many
from diskcache.computing.steps import Computer
from diskcache.computing.terms import Expire, Seconds, Terms
from diskcache.entry import Tag
from diskcache.fanout import FanoutCache
from diskcache.sentinels import ENOVAL, UNKNOWN

S = TypeVar("S")
C = TypeVar("C", Cache, FanoutCache)

_READS: Final = frozenset({"find", "find_many", "find_many_again", "find_stale", "find_until"})


class _PooledStore(CacheStore):
    """A cache, as steps in an event loop use it."""

    def __init__(self, cache: Any, pool: Pool) -> None:
        super().__init__(cache, cache._home)
        self._pool = pool

    async def hop(self, step: Callable[..., S], *args: Any) -> S:
        """Do a step in a thread of the cache."""
        lane = READ if getattr(step, "__name__", "") in _READS else KEEP
        found: S = await self._pool.submit(lane, self._pool.job(step, args)).future
        return found


class AsyncComputed(Asynchronous[C]):
    """`get_or_set` and its kin, of caches."""

    async def _looping(self) -> tuple[_PooledStore, Looping]:
        sync = self._sync
        if sync is None:
            sync = await self._opened()
        store = _PooledStore(sync, self._pool)
        return store, Looping(store)

    @shaped_as(ComputedShapes.get_or_set)
    async def get_or_set(
        self,
        key: Any,
        func: Callable[[], Any],
        *,
        expire: Expire = None,
        tag: Tag = None,
        lock: bool = True,
        lock_timeout: float | None = None,
        share_errors: bool = True,
        grace: Seconds | None = None,
        backoff: Seconds | None = None,
        refresh: float | None = None,
        soft_timeout: float | None = None,
        hard_timeout: float | None = None,
        jitter: float | None = None,
        when: Callable[[Any], object] | None = None,
        errors: Mapping[type[Exception], Seconds] | None = None,
    ) -> Any:
        """Return the value of *key*, or call *func*, store what it gives, and return that.

        As `Cache.get_or_set`, with the same arguments. *func* may be a coroutine function; one that
        is not is called in the loop. Who waits for another, in whatever process, keeps no thread.

        Cost: of a hit, as `get`; of a miss, the call, a `set`, and a file made and removed.

        Example:
            >>> import asyncio
            >>> from diskcache import AsyncCache
            >>> async def compute():
            ...     await asyncio.sleep(0.01)
            ...     return 6 * 7
            >>> async def main():
            ...     async with AsyncCache() as cache:
            ...         ask = [cache.get_or_set('answer', compute, expire=60) for _ in range(100)]
            ...         return set(await asyncio.gather(*ask))
            >>> asyncio.run(main())
            {42}
        """
        if refresh is None and self._sync is not None:
            value = self._sync._promptly(key)
            if value is not UNKNOWN and value is not ENOVAL:
                return value
        terms = Terms(
            expire=expire,
            tag=tag,
            lock=lock,
            lock_timeout=lock_timeout,
            share_errors=share_errors,
            grace=grace,
            backoff=backoff,
            refresh=refresh,
            soft_timeout=soft_timeout,
            hard_timeout=hard_timeout,
            jitter=jitter,
            when=when,
            errors=errors or {},
        )
        store, way = await self._looping()
        return await Computer(store, terms, name=repr(key)).get(way, key, func)

    async def get_or_set_many(
        self,
        keys: Iterable[Any],
        func: Callable[[list[Any]], Awaitable[Mapping[Any, Any]]]
        | Callable[[list[Any]], Mapping[Any, Any]],
        *,
        expire: Expire = None,
        tag: Tag = None,
        lock: bool = True,
        lock_timeout: float | None = None,
        jitter: float | None = None,
        when: Callable[[Any], object] | None = None,
    ) -> dict[Any, Any]:
        """Return the values of *keys*; compute those that are missing with one call.

        As `Cache.get_or_set_many`, with the same arguments. *func* may be a coroutine function.
        """
        terms = Terms(
            expire=expire,
            tag=tag,
            lock=lock,
            lock_timeout=lock_timeout,
            jitter=jitter,
            when=when,
        )
        store, way = await self._looping()
        computer = Computer(store, terms, name="many values")
        return await get_many(computer, way, list(keys), func, store)
