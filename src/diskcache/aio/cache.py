"""`AsyncCache` and `AsyncFanoutCache`."""

from __future__ import annotations

import os
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from diskcache.aio.base import Asynchronous
from diskcache.aio.computed import AsyncComputed
from diskcache.aio.methods import Mirror, close_file, opening, paging, reading, same, writing
from diskcache.aio.pool import READ
from diskcache.aio.shapes import AsyncShapes
from diskcache.cache import Cache
from diskcache.cache.shapes import shaped_as
from diskcache.disk import Disk
from diskcache.fanout import FanoutCache
from diskcache.sentinels import ENOVAL, UNKNOWN

if TYPE_CHECKING:
    from diskcache.aio.structures import AsyncDeque, AsyncIndex

C = TypeVar("C", Cache, FanoutCache)
Path = str | bytes | os.PathLike[str]


class AsyncEntries(AsyncComputed[C]):
    """What memory may answer without a hop, and what is the same for both kinds of cache."""

    # -- Reading --

    @shaped_as(AsyncShapes.get)
    async def get(
        self,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
        *,
        version: bool = False,
        stale: bool = False,
    ) -> Any:
        """Return the value of *key*, or *default* if it has no live entry; see `Cache.get`.

        Cost: a look-up in memory, at once, if this process has read the entry and nobody has
        written it since; otherwise one hop to a thread and a point read.
        """
        sync = self._sync
        if sync is None:
            sync = await self._opened()
        if not (read or expire_time or tag or version or stale):
            value = sync._promptly(key)
            if value is not UNKNOWN:
                return default if value is ENOVAL else value
        args, pool = (key, default, read, expire_time, tag, retry), self._pool
        more = {"version": version, "stale": stale} if version or stale else None
        if read:
            return await pool.submit(READ, pool.job(sync.get, args, more, close_file)).result()
        return await pool.submit(READ, pool.job(sync.get, args, more)).future

    async def getitem(self, key: Any) -> Any:
        """Return the value of *key*; `await cache[key]` is the same. Cost: as `get`.

        Raises:
            KeyError: It has no live entry.
        """
        value = await self.get(key, ENOVAL)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def __getitem__(self, key: Any) -> Awaitable[Any]:
        return self.getitem(key)

    async def contains(self, key: Any) -> bool:
        """Tell whether *key* has a live entry, without loading or counting it. Cost: as `get`."""
        sync = self._sync
        if sync is None:
            sync = await self._opened()
        found = sync._contains_promptly(key)
        if found is UNKNOWN:
            found = await self._pool.submit(READ, self._pool.job(sync.__contains__, (key,))).future
        return bool(found)

    pop = shaped_as(AsyncShapes.pop)(writing(cast("Any", Cache.pop)))
    pull = shaped_as(AsyncShapes.pull)(writing(cast("Any", Cache.pull)))
    peek = shaped_as(AsyncShapes.pull)(reading(cast("Any", Cache.peek)))
    peekitem = shaped_as(AsyncShapes.peekitem)(reading(cast("Any", Cache.peekitem)))
    read = opening(Cache.read)

    # -- What it is --

    directory = Mirror[str]("directory")
    timeout = Mirror[float]("timeout")
    disk = Mirror[Disk]("disk")
    size_limit = Mirror[float]("size_limit")
    cull_limit = Mirror[int]("cull_limit")
    eviction_policy = Mirror[str]("eviction_policy")
    statistics = Mirror[int]("statistics")
    tag_index = Mirror[int]("tag_index")
    count_limit = Mirror[int]("count_limit")
    value_limit = Mirror[int]("value_limit")
    size_weight = Mirror[float]("size_weight")
    disk_min_file_size = Mirror[int]("disk_min_file_size")
    disk_pickle_protocol = Mirror[int]("disk_pickle_protocol")
    sqlite_auto_vacuum = Mirror[int]("sqlite_auto_vacuum")
    sqlite_cache_size = Mirror[int]("sqlite_cache_size")
    sqlite_journal_mode = Mirror[str]("sqlite_journal_mode")
    sqlite_mmap_size = Mirror[int]("sqlite_mmap_size")
    sqlite_synchronous = Mirror[int]("sqlite_synchronous")


class AsyncCache(AsyncEntries[Cache]):
    """A `Cache` for event loops: the same names and results, awaited.

    What this process has in memory is answered at once; everything else is one hop to a thread,
    and so is a call that handles many keys. The loop is never kept waiting, and reads do not wait
    for writes. Works on asyncio and on loops that are like it; loops in several threads, and one
    after the other, may share an object. Everything said of threads, processes and forks holds as
    for `Cache`.

    What cannot be awaited in a statement has a method, named as in the module `operator`:
    `await cache.setitem(key, value)` for `cache[key] = value`, and so on; `await cache[key]` works.

    Cancelling an operation that has not begun drops it; one that has begun comes to its end in its
    thread, as a whole. What it returns is lost then: take entries by `pull` or `pop` in a block of
    `transact` where that matters.

    The cache is opened when it is first used, by `open`, or by `async with`, which closes it.

    Args:
        cache: A `Cache`, whose entries and connections it shares; or the directory, as for `Cache`.
        timeout: As for `Cache`.
        disk: As for `Cache`.
        **settings: As for `Cache`.

    Raises:
        TypeError: There are settings, although a cache was given.

    Example:
        >>> import asyncio
        >>> from diskcache import AsyncCache
        >>> async def main():
        ...     async with AsyncCache(size_limit=10_000_000) as cache:
        ...         await cache.set('key', 'value', expire=60)
        ...         return await cache.get('key')
        >>> asyncio.run(main())
        'value'
    """

    def __init__(
        self,
        cache: Cache | Path | None = None,
        timeout: float = 60,
        disk: type[Disk] = Disk,
        **settings: Any,
    ) -> None:
        if isinstance(cache, FanoutCache):
            raise TypeError("AsyncCache is for a Cache: use AsyncFanoutCache for a FanoutCache")
        if not isinstance(cache, Cache):
            self._attach(None, partial(Cache, cache, timeout, disk, **settings))
            return
        if settings or timeout != 60 or disk is not Disk:
            raise TypeError("an open cache has its settings: give none, or the directory instead")
        self._attach(cache, None)

    # -- Storing --

    set = writing(Cache.set)
    setitem = writing(Cache.__setitem__)
    add = writing(Cache.add)
    touch = writing(Cache.touch)
    incr = writing(Cache.incr)
    decr = writing(Cache.decr)
    update = writing(Cache.update)
    delete = writing(Cache.delete)
    delitem = writing(Cache.__delitem__)
    push = writing(Cache.push)

    # -- Many entries --

    get_many = reading(Cache.get_many)
    set_many = writing(Cache.set_many)
    delete_many = writing(Cache.delete_many)
    __aiter__ = paging(Cache.__iter__, "__aiter__")
    reversed = paging(Cache.__reversed__, "reversed")
    iterkeys = paging(Cache.iterkeys)
    keys = paging(Cache.keys)
    values = paging(Cache.values)
    items = paging(Cache.items)
    expire = writing(Cache.expire)
    evict = writing(Cache.evict)
    cull = writing(Cache.cull)
    clear = writing(Cache.clear)

    # -- The cache as a whole --

    len = reading(Cache.__len__)
    volume = reading(Cache.volume)
    disk_usage = reading(Cache.disk_usage)
    info = reading(Cache.info)
    stats = writing(Cache.stats)
    reset = writing(Cache.reset)
    check = writing(Cache.check)
    create_tag_index = writing(Cache.create_tag_index)
    drop_tag_index = writing(Cache.drop_tag_index)
    backup = writing(Cache.backup)
    export = reading(Cache.export)
    import_from = writing(Cache.import_from)
    memoize = same(Cache.memoize)
    on = same(Cache.on)
    bypass = same(Cache.bypass)

    def transact(self, retry: bool = False) -> AbstractAsyncContextManager[None]:
        """Return a block in which what the task does happens together or not at all.

        Tasks that are started in the block, by `gather` for example, belong to it until it ends;
        no others do. Others see nothing of it before the end; any exception that leaves the block
        undoes it, cancellation included. It nests. Blocks of one process take turns. Keep it short:
        nobody else can write meanwhile, this process included.

        Cost: one write transaction, in a thread that the block has to itself.

        Args:
            retry: Wait for the write lock without limit.

        Raises:
            Timeout: Other blocks, and then others who have the write lock, took longer than
                `timeout` seconds each, and *retry* is false.

        Example:
            >>> import asyncio
            >>> from diskcache import AsyncCache
            >>> async def main():
            ...     async with AsyncCache() as cache:
            ...         async with cache.transact():
            ...             await cache.incr('total', 123.45)
            ...             await cache.incr('count')
            ...         return await cache.get_many(['total', 'count'])
            >>> asyncio.run(main())
            {'total': 123.45, 'count': 1}
        """
        return self._transaction(retry)


class AsyncFanoutCache(AsyncEntries[FanoutCache]):
    """A `FanoutCache` for event loops: the same names and results, awaited; see `AsyncCache`.

    Args:
        cache: A `FanoutCache`, whose entries and connections it shares; or the directory.
        shards: As for `FanoutCache`.
        timeout: As for `FanoutCache`.
        disk: As for `FanoutCache`.
        **settings: As for `FanoutCache`.

    Raises:
        TypeError: There are settings, although a cache was given.

    Example:
        >>> import asyncio
        >>> from diskcache import AsyncFanoutCache
        >>> async def main():
        ...     async with AsyncFanoutCache(shards=2) as cache:
        ...         await cache.set('key', 'value')
        ...         return await cache['key']
        >>> asyncio.run(main())
        'value'
    """

    def __init__(
        self,
        cache: FanoutCache | Path | None = None,
        shards: int | None = None,
        timeout: float = 60,
        disk: type[Disk] = Disk,
        **settings: Any,
    ) -> None:
        self._parts: weakref.WeakSet[Asynchronous[Any]] = weakref.WeakSet()
        if isinstance(cache, Cache):
            raise TypeError("AsyncFanoutCache is for a FanoutCache: use AsyncCache for a Cache")
        if not isinstance(cache, FanoutCache):
            self._attach(None, partial(FanoutCache, cache, shards, timeout, disk, **settings))
            return
        if settings or shards is not None or timeout != 60 or disk is not Disk:
            raise TypeError("an open cache has its settings: give none, or the directory instead")
        self._attach(cache, None)

    async def aclose(self) -> None:
        """Do as `AsyncCache.aclose`, also for what `cache`, `deque` and `index` returned."""
        for part in list(self._parts):
            await part.aclose()
        await super().aclose()

    # -- Storing --

    set = writing(FanoutCache.set)
    setitem = writing(FanoutCache.__setitem__)
    add = writing(FanoutCache.add)
    touch = writing(FanoutCache.touch)
    incr = writing(FanoutCache.incr)
    decr = writing(FanoutCache.decr)
    update = writing(FanoutCache.update)
    delete = writing(FanoutCache.delete)
    delitem = writing(FanoutCache.__delitem__)
    push = writing(FanoutCache.push)

    # -- Many entries --

    get_many = reading(FanoutCache.get_many)
    set_many = writing(FanoutCache.set_many)
    delete_many = writing(FanoutCache.delete_many)
    __aiter__ = paging(FanoutCache.__iter__, "__aiter__")
    reversed = paging(FanoutCache.__reversed__, "reversed")
    iterkeys = paging(FanoutCache.iterkeys)
    keys = paging(FanoutCache.keys)
    values = paging(FanoutCache.values)
    items = paging(FanoutCache.items)
    expire = writing(FanoutCache.expire)
    evict = writing(FanoutCache.evict)
    cull = writing(FanoutCache.cull)
    clear = writing(FanoutCache.clear)

    # -- The cache as a whole --

    len = reading(FanoutCache.__len__)
    volume = reading(FanoutCache.volume)
    disk_usage = reading(FanoutCache.disk_usage)
    info = reading(FanoutCache.info)
    stats = writing(FanoutCache.stats)
    reset = writing(FanoutCache.reset)
    check = writing(FanoutCache.check)
    create_tag_index = writing(FanoutCache.create_tag_index)
    drop_tag_index = writing(FanoutCache.drop_tag_index)
    backup = writing(FanoutCache.backup)
    export = reading(FanoutCache.export)
    import_from = writing(FanoutCache.import_from)
    memoize = same(FanoutCache.memoize)
    on = same(FanoutCache.on)
    bypass = same(FanoutCache.bypass)

    def transact(self, retry: bool = True) -> AbstractAsyncContextManager[None]:
        """Return a block in which what the task does happens together or not at all.

        See `AsyncCache.transact` and `FanoutCache.transact`.
        """
        return self._transaction(retry)

    # -- Parts --

    def cache(
        self, name: str, timeout: float = 60, disk: type[Disk] | None = None, **settings: Any
    ) -> AsyncCache:
        """Return an `AsyncCache` below the directory; see `FanoutCache.cache`."""
        made = AsyncCache.__new__(AsyncCache)
        return self._part(made, lambda: self.sync.cache(name, timeout, disk, **settings))

    def deque(self, name: str, maxlen: float | None = None) -> AsyncDeque:
        """Return an `AsyncDeque` below the directory; see `FanoutCache.deque`."""
        from diskcache.aio.structures import AsyncDeque

        return self._part(AsyncDeque.__new__(AsyncDeque), lambda: self.sync.deque(name, maxlen))

    def index(self, name: str) -> AsyncIndex:
        """Return an `AsyncIndex` below the directory; see `FanoutCache.index`."""
        from diskcache.aio.structures import AsyncIndex

        return self._part(AsyncIndex.__new__(AsyncIndex), lambda: self.sync.index(name))

    def _part(self, part: A, make: Callable[[], Any]) -> A:
        part._attach(None, make)
        self._parts.add(part)
        return part


A = TypeVar("A", bound=Asynchronous[Any])
