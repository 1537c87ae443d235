"""`Cache`: a persistent cache that feels like a dict."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from diskcache.cache.copying import CopyMethods
from diskcache.cache.private import PrivateNames
from diskcache.cache.upkeep import CacheInfo
from diskcache.disk import Disk

__all__ = ["Cache", "CacheInfo"]

T = TypeVar("T")


class Cache(CopyMethods, PrivateNames):
    """A cache in a directory, shared by all threads and processes that open it.

    Thread-safe: every thread has its own connection, closed by `close` in that thread, or when
    the thread ends. Process-safe: a write that has returned is seen by every later read of any
    process, and survives their death. Fork-safe: a child connects anew, and leaves the
    transactions of its parent alone. Pickling an object, or copying it, gives another object on
    the same directory; secrets are not part of it.

    Every method is one step that others see whole or not at all, but for the bulk removals
    (`expire`, `evict`, `cull`, `clear`), which let others write in between.

    Methods that write take *retry*: false raises `Timeout` when the write lock is not had within
    `timeout` seconds, true waits without limit. `cache[key] = value` and `del cache[key]` wait
    without limit.

    Opening makes no write if the cache exists. The directory is not removed with the object.

    Args:
        directory: Path; `~` and `$NAME` are expanded. None makes a new temporary directory.
        timeout: Seconds to wait for the write lock.
        disk: `Disk`, or a subclass of it.
        pickle: What happens to values that are not plain data: `'signed'` pickles them under a
            signature, `'never'` refuses them, `'unsafe'` pickles them without protection.
        secret: Key to sign with, of at least 32 bytes, or several, the newest first. By default it
            is found in `DISKCACHE_SECRET`, `DISKCACHE_SECRET_FILE`, or the user's state directory.
        readonly: Open an existing cache for reading and write nothing.
        strict: Raise for what is otherwise a warning or a miss: entries that may not be loaded,
            unsafe directories.
        mode: Permissions of a directory that is made; those of files follow.
        clock: Where time comes from.
        memory_limit: Bytes of what was read that this process keeps in memory, shared by all
            objects on the directory that decode alike; 0 keeps nothing. Never stale.
        serializer: How values are written, instead of by a disk of one's own: `json_serializer`,
            an object with `dumps` and `loads`, or a pair of such functions.
        compress: `'zlib'`, or `'zstd'` (`pip install "diskcache[zstd]"`), to compress values that
            become smaller by it. Values tell how they are stored, so this may change at any time.
        compress_min: Bytes from which a value is compressed.
        compress_level: 1 to 9 for zlib, 1 to 19 for zstd; None for 1 or 3.
        trust_legacy_pickles: Load the pickles that version 5 left in the directory, which can run
            any code, and store them anew. Without it what names a class stays unreadable.
        authenticate: `'all'` signs every value, not only pickles, and treats one without a
            signature as one that may not be loaded.
        **settings: See the attributes; they are kept in the directory for every later object.
            Unknown ones become attributes, with a warning.

    Raises:
        DiskCacheError: It cannot be opened; the class and the message say why.

    Example:
        >>> from diskcache import Cache
        >>> with Cache(size_limit=10_000_000) as cache:
        ...     cache['key'] = 'value'
        ...     cache['key']
        'value'
    """

    def _home(self, key: Any) -> Cache:
        return self

    def close(self, *, everywhere: bool = True) -> None:
        """Close the connection of this thread, and those of other threads that are idle.

        May be repeated. The object can still be used: it connects again.

        Args:
            everywhere: False closes that of this thread alone.

        Example:
            >>> cache.close()
        """
        self._engine.close(everywhere=everywhere)
        if everywhere:
            # Where a connection is left, what is in memory is as good as before; where none is, it
            # is good for nothing.
            self._tier.clear()

    def __enter__(self) -> Self:
        self._engine.open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getstate__(self) -> tuple[str, float, type[Disk]]:
        return self._directory, self._timeout, type(self._disk)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __reduce__(self) -> tuple[Any, ...]:
        return blank, (type(self), self._options), self.__getstate__()


def blank(kind: type[T], options: dict[str, Any]) -> T:
    """Return an object without a state, whose constructor will add *options* to its arguments.

    Subclasses may have a state and a constructor of their own, as they had in version 5, which
    know nothing of these keywords.
    """
    made = kind.__new__(kind)
    vars(made)["_restored"] = options
    return made
