"""`AsyncDeque` and `AsyncIndex`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Self

from diskcache.aio.base import Asynchronous
from diskcache.aio.cache import AsyncCache
from diskcache.aio.methods import Mirror, paging, reading, same, writing
from diskcache.aio.pool import READ
from diskcache.cache import Cache
from diskcache.deque import Deque
from diskcache.index import Index
from diskcache.sentinels import ENOVAL, UNKNOWN


class AsyncDeque(Asynchronous[Deque]):
    """A `Deque` for event loops: the same names and results, awaited; see `AsyncCache`.

    Comparing deques, and making new ones of them, is for lists of their items, or for `sync`.

    Args:
        iterable: A `Deque`, whose items it shares; or items to append, read in a thread.
        directory: As for `Deque`.
        maxlen: As for `Deque`.

    Example:
        >>> import asyncio
        >>> from diskcache import AsyncDeque
        >>> async def main():
        ...     async with AsyncDeque('abc') as deque:
        ...         await deque.append('d')
        ...         return await deque.popleft(), [item async for item in deque]
        >>> asyncio.run(main())
        ('a', ['b', 'c', 'd'])
    """

    def __init__(
        self,
        iterable: Deque | Iterable[Any] | os.PathLike[str] = (),
        directory: str | bytes | os.PathLike[str] | None = None,
        maxlen: float | None = None,
    ) -> None:
        if isinstance(iterable, Deque) and directory is None and maxlen is None:
            self._attach(iterable, None)
        else:
            self._attach(None, partial(Deque, iterable, directory, maxlen))

    @classmethod
    def fromcache(
        cls, cache: AsyncCache | Cache, iterable: Iterable[Any] = (), maxlen: float | None = None
    ) -> Self:
        """Return a deque in a cache, which it uses as it is; see `Deque.fromcache`."""
        deque = cls.__new__(cls)
        deque._attach(None, lambda: Deque.fromcache(_sync(cache), iterable, maxlen), cache)
        return deque

    @staticmethod
    def _cache_of(sync: Any) -> Any:
        return sync.cache

    directory = Mirror[str]("directory")
    maxlen = Mirror[float]("maxlen")

    # -- Ends --

    append = writing(Deque.append)
    appendleft = writing(Deque.appendleft)
    pop = writing(Deque.pop)
    popleft = writing(Deque.popleft)
    peek = reading(Deque.peek)
    peekleft = reading(Deque.peekleft)

    # -- Many items --

    extend = writing(Deque.extend)
    extendleft = writing(Deque.extendleft)
    clear = writing(Deque.clear)
    __aiter__ = paging(Deque.__iter__, "__aiter__")
    reversed = paging(Deque.__reversed__, "reversed")

    # -- Places --

    len = reading(Deque.__len__)
    getitem = reading(Deque.__getitem__)
    setitem = writing(Deque.__setitem__)
    delitem = writing(Deque.__delitem__)
    insert = writing(Deque.insert)
    rotate = writing(Deque.rotate)
    reverse = writing(Deque.reverse)

    def __getitem__(self, index: int) -> Awaitable[Any]:
        return self.getitem(index)

    # -- Searching --

    contains = reading(Deque.__contains__)
    count = reading(Deque.count)
    index = reading(Deque.index)
    remove = writing(Deque.remove)

    # -- Copies and transactions --

    backup = writing(Deque.backup)
    export = reading(Deque.export)
    import_from = writing(Deque.import_from)

    def transact(self) -> AbstractAsyncContextManager[None]:
        """Return a block in which what the task does happens together or not at all.

        Waits for the write lock without limit; see `AsyncCache.transact`.
        """
        return self._transaction(None)


class AsyncIndex(Asynchronous[Index]):
    """An `Index` for event loops: the same names and results, awaited; see `AsyncCache`.

    Comparing indexes, and making new ones of them, is for dicts of their entries, or for `sync`.

    Args:
        *args: An `Index`, whose entries it shares; or what `Index` takes, read in a thread.
        **kwargs: More entries.

    Example:
        >>> import asyncio
        >>> from diskcache import AsyncIndex
        >>> async def main():
        ...     async with AsyncIndex({'a': 1}, b=2) as index:
        ...         await index.setitem('c', 3)
        ...         return await index['a'], [item async for item in index.items()]
        >>> asyncio.run(main())
        (1, [('a', 1), ('b', 2), ('c', 3)])
    """

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        if len(args) == 1 and isinstance(args[0], Index) and not kwargs:
            self._attach(args[0], None)
        else:
            self._attach(None, partial(Index, *args, **kwargs))

    @classmethod
    def fromcache(cls, cache: AsyncCache | Cache, *args: Any, **kwargs: Any) -> Self:
        """Return an index in a cache, which it uses as it is; see `Index.fromcache`."""
        index = cls.__new__(cls)
        index._attach(None, lambda: Index.fromcache(_sync(cache), *args, **kwargs), cache)
        return index

    @staticmethod
    def _cache_of(sync: Any) -> Any:
        return sync.cache

    directory = Mirror[str]("directory")

    # -- One entry --

    async def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*, or *default* if there is no such entry; see `Index.get`.

        Cost: as `AsyncCache.get`.
        """
        sync = self._sync
        if sync is None:
            sync = await self._opened()
        value = sync.cache._promptly(key)
        if value is UNKNOWN:
            return await self._pool.submit(READ, self._pool.job(sync.get, (key, default))).future
        return default if value is ENOVAL else value

    async def getitem(self, key: Any) -> Any:
        """Return the value of *key*; `await index[key]` is the same. Cost: as `get`.

        Raises:
            KeyError: There is no such entry.
        """
        value = await self.get(key, ENOVAL)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def __getitem__(self, key: Any) -> Awaitable[Any]:
        return self.getitem(key)

    contains = reading(Index.__contains__)
    setitem = writing(Index.__setitem__)
    delitem = writing(Index.__delitem__)
    setdefault = writing(Index.setdefault)
    pop = writing(Index.pop)

    # -- Ends --

    popitem = writing(Index.popitem)
    peekitem = reading(Index.peekitem)
    push = writing(Index.push)
    pull = writing(Index.pull)

    # -- Many entries --

    update = writing(Index.update)
    clear = writing(Index.clear)
    len = reading(Index.__len__)
    __aiter__ = paging(Index.__iter__, "__aiter__")
    reversed = paging(Index.__reversed__, "reversed")
    keys = paging(Index.keys)
    values = paging(Index.values)
    items = paging(Index.items)

    # -- Copies, memoizing and transactions --

    backup = writing(Index.backup)
    export = reading(Index.export)
    import_from = writing(Index.import_from)
    memoize = same(Index.memoize)

    def transact(self) -> AbstractAsyncContextManager[None]:
        """Return a block in which what the task does happens together or not at all.

        Waits for the write lock without limit; see `AsyncCache.transact`.
        """
        return self._transaction(None)


def _sync(cache: AsyncCache | Cache) -> Cache:
    return cache.sync if isinstance(cache, AsyncCache) else cache
