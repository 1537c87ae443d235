"""`FanoutCache`: a cache of several shards, for many writers at once."""

from __future__ import annotations

from typing import Any, Self

from diskcache.cache import blank
from diskcache.disk import Disk
from diskcache.fanout.copying import FanoutCopies
from diskcache.fanout.upkeep import FanoutInfo

__all__ = ["FanoutCache", "FanoutInfo"]


class FanoutCache(FanoutCopies):
    """A cache whose entries are spread over shards, so that writers seldom meet.

    Each shard is a `Cache` in a directory of its own, `000`, `001` and so on, with a write lock of
    its own. A key is always in the same shard, so operations on one key are what they are in a
    `Cache`; those on many keys go through the shards one by one, and only `transact`, `set_many`
    and `delete_many` are one step.

    Thread-, process- and fork-safe, and pickled, as `Cache` is. Pickling keeps everything but
    secrets.

    Methods do not raise `Timeout`: where the write lock is not to be had within `timeout` seconds
    and *retry* is false, they return what they return for nothing done (False, None or the
    default), and `info().refused` counts that. The bulk removals wait without limit. `check`,
    `transact`, `create_tag_index` and `drop_tag_index` do raise it.

    Args:
        directory: Path; `~` and `$NAME` are expanded. None makes a new temporary directory.
        shards: How many shards; None for as many as the directory has, or 8.
        timeout: Seconds to wait for a write lock.
        disk: As for `Cache`; its `hash` chooses the shard.
        pickle: As for `Cache`.
        secret: As for `Cache`.
        readonly: As for `Cache`.
        strict: As for `Cache`.
        mode: As for `Cache`.
        clock: As for `Cache`.
        serializer: As for `Cache`.
        memory_limit: As for `Cache`, for all shards together.
        compress: As for `Cache`.
        compress_min: As for `Cache`.
        compress_level: As for `Cache`.
        trust_legacy_pickles: As for `Cache`.
        **settings: As for `Cache`. `size_limit` is that of all shards together.

    Raises:
        SettingError: The directory has another number of shards.
        DiskCacheError: It cannot be opened; the class and the message say why.

    Example:
        >>> from diskcache import FanoutCache
        >>> with FanoutCache(shards=4, timeout=1) as cache:
        ...     cache['key'] = 'value'
        ...     cache['key']
        'value'
    """

    def close(self, *, everywhere: bool = True) -> None:
        """Close the connections of this thread, and those of other threads that are idle.

        What `cache`, `deque` and `index` returned is closed too, and made anew when it is asked
        for. May be repeated. The object can still be used: it connects again.

        Args:
            everywhere: False closes those of this thread alone, and forgets nothing.

        Example:
            >>> cache.close()
        """
        self._close_parts(everywhere=everywhere)
        for shard in self._shards:
            shard.close(everywhere=everywhere)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getstate__(self) -> tuple[str, int, float, type[Disk]]:
        return self._directory, self._count, self._timeout, type(self.disk)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __reduce__(self) -> tuple[Any, ...]:
        return blank, (type(self), self._shards[0].options), self.__getstate__()
