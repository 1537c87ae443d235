"""Results of memoized functions in a `DjangoCache`."""

from __future__ import annotations

from typing import Any

from diskcache.cache.computed import CacheStore
from diskcache.computing.ways import Stale, Version
from diskcache.entry import Tag
from diskcache.failures import Failure
from diskcache.flight import Place, Share
from diskcache.sentinels import ENOVAL


class DjangoStore(CacheStore):
    """A cache backend, as the steps of a computation use it: keys are made by Django.

    Args:
        backend: The backend.
        shards: The cache that it keeps its entries in.
        version: Version of the keys.
    """

    def __init__(self, backend: Any, shards: Any, version: int | None) -> None:
        super().__init__(shards, shards._home)
        self._backend = backend
        self._version = version

    def _made(self, key: Any) -> Any:
        return self._backend.make_key(key, version=self._version)

    def find(self, key: Any) -> Any:
        """Return the live value; `ENOVAL` if there is none."""
        return self._backend.get(key, ENOVAL, self._version, retry=True)

    def find_again(self, key: Any) -> Any:
        """Return the live value of a key that was just looked for."""
        return super().find_again(self._made(key))

    def find_until(self, key: Any) -> tuple[Any, float | None, int | None]:
        """Return the live value, when it expires, and its version."""
        return super().find_until(self._made(key))

    def find_stale(self, key: Any) -> Stale | None:
        """Return what is kept of a key beyond its expiry."""
        return super().find_stale(self._made(key))

    def save(
        self,
        key: Any,
        value: Any,
        expire: float | None,
        tag: Tag,
        grace: float,
        version: Version = ENOVAL,
    ) -> bool:
        """Keep a value, if a version is there."""
        if self._is_readonly:
            return False
        if grace or version is not ENOVAL:
            return super().save(self._made(key), value, expire, tag, grace, version)
        stored: bool = self._backend.set(key, value, expire, self._version, tag=tag)
        return stored

    def save_failure(self, key: Any, failure: Failure, seconds: float, tag: Tag) -> None:
        """Remember that there is no value now."""
        super().save_failure(self._made(key), failure, seconds, tag)

    def hold_off(self, key: Any, stale: Stale, until: float) -> None:
        """Let nobody compute a value in grace anew before a moment."""
        super().hold_off(self._made(key), stale, until)

    def drop(self, key: Any) -> bool:
        """Forget a value."""
        dropped: bool = self._backend.delete(key, self._version)
        return dropped

    def drop_calls(self, name: str) -> int:
        """Forget the results of a function: the keys that Django makes show its name.

        Raises:
            TypeError: They do not: `KEY_FUNCTION` makes others.
        """
        start, found, _ = self._made((name, None)).partition(f"({name!r},")
        if not found:
            raise TypeError("clear needs keys that show the name of the function: evict a tag")
        keys = list(self._cache.keys(prefix=start + found))
        dropped: int = self._cache.delete_many(keys, retry=True)
        return dropped

    def place(self, key: Any) -> tuple[Place, Share | None] | None:
        """Return the place of a key."""
        return super().place(self._made(key))
