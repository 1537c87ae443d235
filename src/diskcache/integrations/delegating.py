"""Methods of a framework's cache object that are those of the `FanoutCache` behind it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from diskcache.cache.remote import RemoteCache
from diskcache.deque import Deque
from diskcache.entry import Tag
from diskcache.fanout import FanoutCache, FanoutInfo
from diskcache.index import Index
from diskcache.integrations.off_loop import off_loop

if TYPE_CHECKING:
    from diskcache.cache import Cache
    from diskcache.disk import Disk


class Delegating:
    """What needs neither keys nor timeouts of the framework."""

    _cache: FanoutCache | RemoteCache

    @property
    def directory(self) -> str:
        """Path of the cache directory."""
        return self._cache.directory

    # -- Bulk removal --

    def clear(self) -> int:
        """Remove all entries, of every version and prefix, and return how many.

        Example:
            >>> cache.set('k', 'v')
            True
            >>> cache.clear()
            1
        """
        return self._cache.clear()

    def evict(self, tag: Tag) -> int:
        """Remove all entries with a tag and return how many; None for those without one.

        Example:
            >>> cache.set('k', 'v', tag='news')
            True
            >>> cache.evict('news')
            1
        """
        return self._cache.evict(tag)

    def expire(self) -> int:
        """Remove all expired entries and return how many.

        Example:
            >>> cache.expire()
            0
        """
        return self._cache.expire()

    def cull(self) -> int:
        """Remove expired entries, then victims of the policy, down to the size limit.

        Example:
            >>> cache.cull()
            0
        """
        return self._cache.cull()

    # -- The cache as a whole --

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """Return hits and misses, then switch counting on, or off.

        Example:
            >>> cache.stats()
            (0, 0)
        """
        return self._cache.stats(enable, reset)

    def info(self) -> FanoutInfo:
        """Return what there is to know about the cache: entries, volume, refused writes.

        On a server it is what `RemoteCache.info` returns.

        Example:
            >>> cache.info().refused
            0
        """
        return cast("FanoutInfo", self._cache.info())

    def create_tag_index(self) -> None:
        """Make `evict` fast by an index on tags; see `Cache.create_tag_index`."""
        self._cache.create_tag_index()

    def drop_tag_index(self) -> None:
        """Drop the index on tags."""
        self._cache.drop_tag_index()

    def on(self, name: str, func: Any = None) -> Any:
        """Call *func* whenever this process does something of a kind; see `FanoutCache.on`.

        Keys of events are those that Django makes.

        Example:
            >>> off = cache.on('set', lambda event: print(event.key))
            >>> cache.set('key', 'value')
            :1:key
            True
            >>> off()
        """
        return self._cache.on(name, func)

    def bypass(self) -> AbstractContextManager[None]:
        """Return a block in which reads miss and nothing is stored; see `FanoutCache.bypass`.

        Example:
            >>> with cache.bypass():
            ...     cache.set('key', 'value')
            True
            >>> cache.get('key')
        """
        return self._cache.bypass()

    # -- Parts --

    def cache(
        self, name: str, timeout: float = 60, disk: type[Disk] | None = None, **settings: Any
    ) -> Cache:
        """Return a `Cache` of its own below the directory; see `FanoutCache.cache`.

        Example:
            >>> with cache.cache('users').transact():
            ...     cache.cache('users')['ada'] = 1815
        """
        if isinstance(self._cache, RemoteCache):
            return self._cache.cache(name)
        return self._cache.cache(name, timeout, disk, **settings)

    def deque(self, name: str, maxlen: float | None = None) -> Deque:
        """Return a `Deque` below the directory.

        Example:
            >>> cache.deque('names').append('ada')
        """
        if isinstance(self._cache, RemoteCache):
            return Deque.fromcache(self._cache.cache(f"deque:{name}"), maxlen=maxlen)
        return self._cache.deque(name, maxlen)

    def index(self, name: str) -> Index:
        """Return an `Index` below the directory.

        Example:
            >>> cache.index('births')['ada'] = 1815
        """
        if isinstance(self._cache, RemoteCache):
            return Index.fromcache(self._cache.cache(f"index:{name}"))
        return self._cache.index(name)

    # -- Asynchronous counterparts --

    aclear = off_loop(clear)
    aevict = off_loop(evict)
    aexpire = off_loop(expire)
    acull = off_loop(cull)
