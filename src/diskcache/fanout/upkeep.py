"""Methods of `FanoutCache` on the cache as a whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from diskcache import settings as rules
from diskcache.cache.computed import ComputedMethods
from diskcache.disk import Disk
from diskcache.fanout.bulk import FanoutBulk
from diskcache.fanout.shard import Shard
from diskcache.sentinels import ENOVAL


@dataclass(frozen=True)
class FanoutInfo:
    """What a `FanoutCache` is and how it does, as of one moment. Numbers are sums over shards."""

    directory: str
    version: str
    """Version of this library."""
    sqlite: str
    """Version of the database library."""
    shards: int
    entries: int
    volume: int
    """Bytes that the size limit is compared with."""
    disk_usage: int
    """Bytes that the shards take on the disk."""
    size_limit: float
    count_limit: int
    """Most entries of all shards together; 0 for no limit."""
    value_limit: int
    """Most bytes of one value; 0 for no limit."""
    eviction_policy: str
    hits: int
    misses: int
    refused: int
    """Operations of this object that did not happen because a write lock was not to be had."""
    untrusted: int
    """Entries this object met that are pickles without a valid signature."""
    corrupt: int
    """Entries this object met that could not be decoded, or whose files were unusable."""
    unavailable: int
    """Entries this object met whose type is not registered here, or whose extra is missing."""
    culled_young: int
    """Entries that writes of this object culled less than 10 s after they were stored."""
    pickle: str
    readonly: bool
    off: dict[str, str] = field(default_factory=dict)
    """What is switched off in this directory, and why."""


class FanoutUpkeep(ComputedMethods, FanoutBulk):
    """Totals, settings, checks, transactions, memoizing."""

    # -- Totals --

    def volume(self) -> int:
        """Return how many bytes all shards hold: what `size_limit` is compared with.

        Example:
            >>> cache.volume() < 1_000_000
            True
        """
        return sum(shard.volume() for shard in self._shards)

    def disk_usage(self) -> int:
        """Return how many bytes the shards take on the disk, as `du` counts them.

        Example:
            >>> cache.disk_usage() > 0
            True
        """
        return sum(shard.disk_usage() for shard in self._shards)

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """Return hits and misses of all shards, then switch counting on, or off.

        Example:
            >>> cache.stats(enable=True)
            (0, 0)
            >>> cache.get('missing')
            >>> cache.stats()
            (0, 1)
        """
        counts = [shard.stats(enable, reset) for shard in self._shards]
        self._settings_changed()
        return sum(hits for hits, _ in counts), sum(misses for _, misses in counts)

    def info(self) -> FanoutInfo:
        """Return what there is to know about the cache.

        Cost: a walk through the directories of all shards.

        Example:
            >>> cache.info().shards
            8
        """
        parts = [shard.info() for shard in self._shards]
        first = parts[0]

        def total(name: str) -> int:
            return sum(getattr(part, name) for part in parts)

        return FanoutInfo(
            directory=self._directory,
            version=first.version,
            sqlite=first.sqlite,
            shards=len(parts),
            entries=total("entries"),
            volume=total("volume"),
            disk_usage=total("disk_usage"),
            size_limit=first.size_limit,
            count_limit=first.count_limit,
            value_limit=first.value_limit,
            eviction_policy=first.eviction_policy,
            hits=total("hits"),
            misses=total("misses"),
            refused=self._refused,
            untrusted=total("untrusted"),
            corrupt=total("corrupt"),
            unavailable=total("unavailable"),
            culled_young=total("culled_young"),
            pickle=first.pickle,
            readonly=first.readonly,
            off=first.off,
        )

    # -- Settings and checks --

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:
        """Read a setting from the directory again, or change it for all shards.

        `size_limit` is that of the whole. The totals `'count'`, `'size'`, `'hits'` and `'misses'`
        are sums.

        Args:
            key: Name of the setting.
            value: New value.
            update: Store the new value; false changes this object only.

        Returns:
            The value.

        Raises:
            SettingError: There is no such setting, or the value is not allowed.

        Example:
            >>> cache.reset('cull_limit', 0)
            0
        """
        found = [shard.reset(key, value, update) for shard in self._shards]
        self._settings_changed()
        if key in vars(self):
            vars(self)[key] = value
        return sum(found) if key in rules.METADATA else found[-1]

    def create_tag_index(self) -> None:
        """Make `evict` fast by an index on tags in every shard; see `Cache.create_tag_index`.

        Raises:
            Timeout: A write lock was not free in time.

        Example:
            >>> cache.create_tag_index()
            >>> cache.tag_index
            1
        """
        for shard in self._shards:
            shard.create_tag_index()

    def drop_tag_index(self) -> None:
        """Drop the index on tags in every shard.

        Raises:
            Timeout: A write lock was not free in time.
        """
        for shard in self._shards:
            shard.drop_tag_index()

    def check(self, fix: bool = False, retry: bool = False) -> list[warnings.WarningMessage]:
        """Check every shard and return what is wrong; see `Cache.check`.

        Raises:
            Timeout: A write lock was not free in time and *retry* is false.

        Example:
            >>> cache.check()
            []
        """
        return [message for shard in self._shards for message in shard.check(fix, retry)]

    # -- Transactions and memoizing --

    @contextmanager
    def transact(self, retry: bool = True) -> Iterator[None]:
        """Return a context in which operations of this thread happen together or not at all.

        Takes the write lock of every shard, in their order. Any exception that leaves the block
        undoes it in all of them. It nests. A process that is killed while it commits may leave
        some shards with the block's writes and others without.

        Args:
            retry: Wait for the write locks without limit.

        Raises:
            Timeout: A write lock was not free in time and *retry* is false.

        Example:
            >>> with cache.transact():
            ...     total = cache.incr('total', 123.45)
            ...     count = cache.incr('count')
            >>> total, count
            (123.45, 1)
        """
        with ExitStack() as stack:
            self._begin(stack, self._shards, retry)
            yield
        self._limit.settle()

    # -- Get or compute --

    def _home(self, key: Any) -> Shard:
        return self._shard_of(key)

    def _drop_calls(self, name: str) -> int:
        return sum(shard.drop_calls(name) for shard in self._shards)

    # -- What it is --

    @property
    def directory(self) -> str:
        """Path of the cache directory."""
        return self._directory

    @property
    def timeout(self) -> float:
        """Seconds that a method waits for a write lock."""
        return self._timeout

    @property
    def disk(self) -> Disk:
        """The object that serializes keys and values, as the first shard has it."""
        return self._shards[0].disk

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._directory!r})"
