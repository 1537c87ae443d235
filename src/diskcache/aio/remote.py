"""`AsyncRemoteCache`: a cache on a Redis or Valkey server, for event loops; and `connect`."""

from __future__ import annotations

import os
import weakref
from functools import partial
from typing import Any

from diskcache.aio.cache import AsyncCache, AsyncFanoutCache
from diskcache.aio.methods import Mirror
from diskcache.aio.tasks import Tasks
from diskcache.bridging import is_possible
from diskcache.cache.arguments import for_directory
from diskcache.cache.remote import RemoteCache


class AsyncRemoteCache(AsyncCache):
    """A `RemoteCache` for event loops: the same names and results, awaited; see `AsyncCache`.

    No operation hops to a thread: what is not in memory the task that asks awaits from the server,
    by `redis.asyncio`. Each loop has connections of its own, 50 at most; who needs one more waits.
    They are closed with the loop, if that is ended as `asyncio.run` does it. Loops in several
    threads, and one after the other, may share an object; a forked child connects anew.

    Cancelling an operation interrupts it where it waits, and drops its connection. What was sent
    is done by the server all the same, each command and each script as a whole.

    Args:
        cache: A `RemoteCache`, which it shares; or the URL, as for `RemoteCache`.
        **settings: As for `RemoteCache`.

    Raises:
        TypeError: There are settings, although a cache was given.
    """

    _parts: weakref.WeakValueDictionary[str, AsyncRemoteCache]
    """Caches beside this one, by name, while somebody uses them."""

    def __init__(self, cache: RemoteCache | str, **settings: Any) -> None:
        self._parts = weakref.WeakValueDictionary()
        if isinstance(cache, RemoteCache):
            if settings:
                raise TypeError("an open cache has its settings: give none, or the URL instead")
            self._attach(cache, None)
            return
        self._attach(None, partial(RemoteCache, cache, **settings))
        if is_possible():
            self._pool = Tasks()

    @staticmethod
    def _beside(other: AsyncRemoteCache, name: str) -> AsyncRemoteCache:
        """Return the cache of a name that is beside another one, which is opened first."""
        made = AsyncRemoteCache.__new__(AsyncRemoteCache)
        made._parts = weakref.WeakValueDictionary()
        made._attach(None, lambda: other._remote.cache(name), other)
        return made

    async def aclose(self) -> None:
        """Close the connections, also of what `cache` returned. May be repeated; it connects again.

        What other tasks are in the middle of comes to its end; the last one closes its connections.
        """
        for part in list(self._parts.values()):
            await part.aclose()
        await super().aclose()

    def cache(self, name: str) -> AsyncRemoteCache:
        """Return a cache of its own on the same server, in one slot; see `RemoteCache.cache`."""
        found = self._parts.get(name)
        if found is None:
            found = self._parts[name] = self._beside(self, name)
        return found

    @property
    def _remote(self) -> Any:
        return self.sync

    url = Mirror[str]("url")


def connect(target: str | os.PathLike[str], **settings: Any) -> Any:
    """Return the asynchronous cache at a path, or on the server of a URL; see `diskcache.connect`.

    It is opened when it is first used, by `open`, or by `async with`.

    Args:
        target: A path: an `AsyncCache`, or with `shards=` an `AsyncFanoutCache`. Or the URL of a
            Redis or Valkey server: an `AsyncRemoteCache`.
        **settings: Keywords of the class, as for `diskcache.connect`.

    Raises:
        SettingError: `namespace` is given with a path, or `on_error` is neither of the two.

    Example:
        >>> import asyncio
        >>> from diskcache import aio
        >>> async def main():
        ...     async with aio.connect('of-a-loop') as cache:
        ...         await cache.set('key', 'value')
        ...         return await cache['key']
        >>> asyncio.run(main())
        'value'
    """
    if isinstance(target, str) and "://" in target:
        return AsyncRemoteCache(target, **settings)
    settings = for_directory(settings)
    if settings.get("shards") is not None:
        return AsyncFanoutCache(target, **settings)
    settings.pop("shards", None)
    return AsyncCache(target, **settings)
