"""Caches, deques and indexes of their own inside the directory of a `FanoutCache`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from diskcache.cache import Cache
from diskcache.cache.arguments import insecurities
from diskcache.disk import Disk
from diskcache.errors import InsecureDirectoryWarning, SettingError
from diskcache.fanout.upkeep import FanoutUpkeep
from diskcache.files import DATABASES, RESERVED, SAFE_PART

if TYPE_CHECKING:
    from diskcache.deque import Deque
    from diskcache.index import Index

T = TypeVar("T")


class FanoutParts(FanoutUpkeep):
    """Objects that are in one place, not in shards: they can do what shards cannot."""

    def cache(
        self, name: str, timeout: float = 60, disk: type[Disk] | None = None, **settings: Any
    ) -> Cache:
        """Return a `Cache` of its own in `cache/<name>` below the directory.

        It has transactions, order and settings of its own, and stores in the same way as this one
        unless told otherwise: with the same disk, serializer, compression, signatures and, when it
        is made, `value_limit`. The same arguments give the same object, until `close`.

        Args:
            name: Its name; a `/` in it makes folders.
            timeout: As for `Cache`.
            disk: As for `Cache`; None for that of this cache.
            **settings: As for `Cache`, other keywords included.

        Raises:
            SettingError: The name leads elsewhere.

        Example:
            >>> users = cache.cache('users')
            >>> users['ada'] = 1815
            >>> cache.cache('users') is users, 'ada' in cache
            (True, False)
        """
        return self._part("cache", name, lambda made: made, timeout, disk, settings)

    def deque(self, name: str, maxlen: float | None = None) -> Deque:
        """Return a `Deque` in `deque/<name>` below the directory; see `cache`.

        Example:
            >>> cache.deque('names', maxlen=100).append('ada')
            >>> cache.deque('names', maxlen=100).popleft()
            'ada'
        """
        from diskcache.deque import Deque

        def wrap(made: Cache) -> Deque:
            return Deque.fromcache(made, maxlen=maxlen)

        return self._part("deque", name, wrap, 60, None, {"eviction_policy": "none"}, maxlen)

    def index(self, name: str) -> Index:
        """Return an `Index` in `index/<name>` below the directory; see `cache`.

        Example:
            >>> cache.index('births')['ada'] = 1815
            >>> cache.index('births')['ada']
            1815
        """
        from diskcache.index import Index

        return self._part("index", name, Index.fromcache, 60, None, {"eviction_policy": "none"})

    def _part(
        self,
        kind: str,
        name: str,
        wrap: Callable[[Cache], T],
        timeout: float,
        disk: type[Disk] | None,
        settings: dict[str, Any],
        *args: Any,
    ) -> T:
        folders = _checked_name(name)
        key = (kind, folders, timeout, disk, *args, *_frozen(settings))
        found: tuple[Cache, T] | None = self._parts.get(key)
        if found is None:
            self._look_at_links(kind, *folders[:-1])
            directory = os.path.join(self._directory, kind, *folders)
            inherited = self._inherited(directory) if kind == "cache" else {}
            made = self._make_cache(directory, timeout, disk, {**inherited, **settings})
            # Two threads may get here at once: the first one to be entered counts.
            found = self._parts.setdefault(key, (made, wrap(made)))
        return found[1]

    def _look_at_links(self, *folders: str) -> None:
        """Say if a folder on the way to a part is a link; the part says so of its own.

        Raises:
            SettingError: One is, and the cache was opened with `strict=True`.
        """
        path, options = self._directory, self._shards[0].options
        for folder in folders:
            path = os.path.join(path, folder)
            if os.path.islink(path):
                message = " ".join(insecurities(path, options["pickle"]))
                if options["strict"]:
                    raise SettingError(message)
                warnings.warn(message, InsecureDirectoryWarning, stacklevel=4)

    def _inherited(self, directory: str) -> dict[str, Any]:
        """Return the settings that a cache begins with; later it has those that it stores."""
        is_new = not any(os.path.exists(os.path.join(directory, name)) for name in DATABASES)
        return {"value_limit": self._shards[0].value_limit} if is_new else {}

    def _make_cache(
        self, directory: str, timeout: float, disk: type[Disk] | None, settings: dict[str, Any]
    ) -> Cache:
        first = self._shards[0]
        keywords = {
            "secret": self._secret,
            "mode": self._mode,
            "trust_legacy_pickles": self._trusts_legacy,
            **first.options,
            **settings,
        }
        if disk is None and "serializer" not in settings:
            disk = type(first.disk)
        else:
            # The arguments of one disk mean nothing to another.
            inherited = {
                option
                for option in first.options
                if option.startswith(("serializer", "disk_", "compress"))
            }
            keywords = {
                option: value
                for option, value in keywords.items()
                if option not in inherited or option in settings
            }
        return Cache(directory, timeout, disk or Disk, **keywords)

    def _close_parts(self, *, everywhere: bool) -> None:
        parts = dict(self._parts)
        if everywhere:
            self._parts = {}
        for cache, _ in parts.values():
            cache.close(everywhere=everywhere)


def _checked_name(name: object) -> tuple[str, ...]:
    """Return the folders that a name stands for.

    Raises:
        TypeError: It is no text.
        SettingError: It could lead outside the directory, or into the files of another cache.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str: got {name!r}")
    folders = tuple(filter(None, name.split("/")))
    # The first one is beside caches; those behind it are in the directory of one, perhaps.
    is_taken = not RESERVED.isdisjoint(folders[1:])
    if not folders or is_taken or not all(map(SAFE_PART.fullmatch, folders)):
        raise SettingError(
            f"name must be one or more names of folders with / between them, without '..' and"
            f" names that a cache uses itself: got {name!r}"
        )
    return folders


def _frozen(settings: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in sorted(settings.items())
    )
