"""Methods of `FanoutCache` on many entries: bulk calls, iteration, bulk removal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from heapq import merge
from operator import itemgetter
from typing import Any, Final

from diskcache.engines.base import Put
from diskcache.entry import Only, Tag, expiry
from diskcache.errors import GateError, Timeout
from diskcache.fanout.entries import FanoutEntries
from diskcache.fanout.shard import Shard
from diskcache.sentinels import ENOVAL

_BY_RANK: Final = itemgetter(0)


class FanoutBulk(FanoutEntries):
    """Operations that several shards do, one after the other."""

    # -- Many keys at once --

    def get_many(self, keys: Iterable[Any], default: Any = ENOVAL) -> dict[Any, Any]:
        """Return the values of *keys*; see `Cache.get_many`.

        Those of one shard are as of one moment, those of different shards are not.

        Example:
            >>> cache.set_many({'a': 1, 'b': 2})
            2
            >>> cache.get_many(['a', 'b', 'c'])
            {'a': 1, 'b': 2}
        """
        wanted = list(keys)
        found: dict[Any, Any] = {}
        for shard, some in self._grouped((key, key) for key in wanted):
            found.update(shard.get_many((key for key, _ in some), default))
        return {key: found[key] for key in wanted if key in found}

    def _find_many(self, keys: list[Any]) -> dict[Any, Any]:
        """Return the live values of keys that were just looked for; they are not counted again."""
        found: dict[Any, Any] = {}
        for shard, some in self._grouped((key, key) for key in keys):
            found |= shard.find_many([key for key, _ in some])
        return found

    def set_many(
        self,
        mapping: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        expire: float | None = None,
        tag: Tag = None,
        retry: bool = False,
    ) -> int:
        """Store many entries, all of them or none; see `Cache.set_many`.

        Cost: the write locks of all shards that are concerned, at once.

        Returns:
            How many were stored; 0 if a write lock was not to be had in time.

        Example:
            >>> cache.set_many({'a': 1, 'b': 2}, expire=60)
            2
        """
        pairs = list(mapping.items() if isinstance(mapping, Mapping) else mapping)
        now = self._now()
        groups = self._packed(self._grouped(pairs), expiry(expire, now), tag)
        try:
            with ExitStack() as stack:
                self._begin(stack, [shard for shard, _ in groups], retry)
                stored = 0
                while groups:
                    shard, puts = groups.pop(0)
                    stored += shard.put_packed(puts, now, retry)
        except Timeout as exc:
            return self._refuse(exc, 0)
        finally:
            for shard, puts in groups:
                shard.discard_packed(puts)
        if pairs:
            self._limit.latest = self._shards[self._index(pairs[-1][0])], pairs[-1][0]
        self._limit.settle()
        return stored

    def _packed(
        self,
        groups: list[tuple[Shard, list[tuple[Any, Any]]]],
        expire_time: float | None,
        tag: Tag,
    ) -> list[tuple[Shard, list[Put]]]:
        """Encode the entries of all shards, or of none, before any of them is stored."""
        packed: list[tuple[Shard, list[Put]]] = []
        try:
            for shard, some in groups:
                packed.append((shard, shard.packed(some, expire_time, tag)))
        except BaseException:
            for shard, puts in packed:
                shard.discard_packed(puts)
            raise
        return packed

    def _save_many(
        self, entries: Iterable[tuple[Any, Any, float | None]], tag: Tag, only: Only
    ) -> int:
        """Store values as `Cache` does, those of one shard together."""
        kept = list(entries)
        groups = self._grouped((entry[0], entry) for entry in kept)
        stored = 0
        for shard, some in groups:
            stored += shard.save_many((entry for _, entry in some), tag, only)
        if kept:
            self._limit.latest = self._shards[self._index(kept[-1][0])], kept[-1][0]
        self._limit.settle()
        return stored

    def delete_many(self, keys: Iterable[Any], retry: bool = False) -> int:
        """Remove many entries in one step; see `Cache.delete_many`.

        Returns:
            How many live ones there were; 0 if a write lock was not to be had in time.

        Example:
            >>> cache.set_many({'a': 1, 'b': 2})
            2
            >>> cache.delete_many(['a', 'b', 'c'])
            2
        """
        groups = self._grouped((key, key) for key in keys)
        try:
            with ExitStack() as stack:
                self._begin(stack, [shard for shard, _ in groups], retry)
                return sum(
                    shard.delete_many((key for key, _ in some), retry) for shard, some in groups
                )
        except Timeout as exc:
            return self._refuse(exc, 0)

    def _grouped(
        self, pairs: Iterable[tuple[Any, Any]]
    ) -> list[tuple[Shard, list[tuple[Any, Any]]]]:
        """Sort pairs by the shard of their first parts; shards come in their order."""
        groups: dict[int, list[tuple[Any, Any]]] = {}
        for pair in pairs:
            groups.setdefault(self._index(pair[0]), []).append(pair)
        return [(self._shards[number], groups[number]) for number in sorted(groups)]

    def _begin(self, stack: ExitStack, shards: Iterable[Shard], retry: bool) -> None:
        """Begin a transaction in each of several shards, in their order: nobody waits in a ring."""
        for shard in shards:
            stack.enter_context(shard.transact(retry))

    # -- Iteration --

    def __iter__(self) -> Iterator[Any]:
        """Iterate over keys, shard by shard, in each in insertion order.

        Those of expired entries are included. A shard is looked at when it is reached.
        """
        for shard in self._shards:
            yield from shard

    def __reversed__(self) -> Iterator[Any]:
        """Iterate over keys in the reverse of the order of `__iter__`."""
        for shard in reversed(self._shards):
            yield from reversed(shard)

    def iterkeys(self, reverse: bool = False, prefix: str | None = None) -> Iterator[Any]:
        """Iterate over keys in sorted order, over all shards; see `Cache.iterkeys`.

        Example:
            >>> for key in 'cab':
            ...     cache[key] = None
            >>> list(cache.iterkeys())
            ['a', 'b', 'c']
        """
        listed = (shard.ranked_keys(reverse, prefix) for shard in self._shards)
        for _, key in merge(*listed, key=_BY_RANK, reverse=reverse):
            yield key

    def keys(self, prefix: str | None = None, tag: Tag = None) -> Iterator[Any]:
        """Iterate over the keys of live entries, shard by shard.

        Args:
            prefix: Only text keys that start with this, in sorted order over all shards.
            tag: Only entries with this tag; None for all.

        Example:
            >>> cache['user:1'], cache['user:2'], cache['other'] = 'a', 'b', 'c'
            >>> list(cache.keys(prefix='user:'))
            ['user:1', 'user:2']
        """
        if prefix is not None:
            for key, _ in self._sorted_items(prefix, tag, values=False):
                yield key
            return
        for shard in self._shards:
            yield from shard.keys(tag=tag)

    def values(self, prefix: str | None = None, tag: Tag = None) -> Iterator[Any]:
        """Iterate over the values of live entries; see `keys`.

        Example:
            >>> cache['a'] = 1
            >>> list(cache.values())
            [1]
        """
        for _, value in self.items(prefix, tag):
            yield value

    def items(self, prefix: str | None = None, tag: Tag = None) -> Iterator[tuple[Any, Any]]:
        """Iterate over key and value of live entries; see `keys`.

        Example:
            >>> cache['a'] = 1
            >>> list(cache.items())
            [('a', 1)]
        """
        if prefix is not None:
            yield from self._sorted_items(prefix, tag, values=True)
            return
        for shard in self._shards:
            yield from shard.items(tag=tag)

    def _sorted_items(self, prefix: str, tag: Tag, *, values: bool) -> Iterator[tuple[Any, Any]]:
        listed = (shard.ranked_items(prefix, tag, values=values) for shard in self._shards)
        for _, item in merge(*listed, key=_BY_RANK):
            yield item

    def __len__(self) -> int:
        """Return the number of entries, expired ones included until they are removed."""
        return sum(map(len, self._shards))

    # -- Bulk removal --

    def expire(self, retry: bool = False, *, now: float | None = None) -> int:
        """Remove all expired entries and return how many; waits for the write locks.

        Args:
            retry: Accepted for symmetry.
            now: Moment to judge by, seconds since the epoch; None or 0 for the present.

        Example:
            >>> cache.expire()
            0
        """
        return self._sum("expire", now=now)

    def evict(self, tag: Tag, retry: bool = False) -> int:
        """Remove all entries with a tag and return how many; waits for the write locks.

        With None, all entries without a tag are removed; see `Cache.evict`.

        Example:
            >>> cache.set('k', 1, tag='odd')
            True
            >>> cache.evict('odd')
            1
        """
        return self._sum("evict", tag)

    def cull(self, retry: bool = False) -> int:
        """Remove expired entries, then victims of the eviction policy, down to the size limit.

        The largest shards go first, down to an equal share of the limit. Waits for the write
        locks.

        Returns:
            How many were removed, expired ones included.

        Example:
            >>> cache.cull()
            0
        """
        removed = self._sum("expire")
        for shard in sorted(self._shards, key=Shard.volume, reverse=True):
            removed += self._repeat(shard, "cull")
        return removed

    def clear(self, retry: bool = False) -> int:
        """Remove all entries and return how many; waits for the write locks.

        Example:
            >>> cache['a'] = 1
            >>> cache.clear()
            1
        """
        return self._sum("clear")

    def _sum(self, method: str, *args: Any, **keywords: Any) -> int:
        return sum(self._repeat(shard, method, *args, **keywords) for shard in self._shards)

    def _repeat(self, shard: Shard, method: str, *args: Any, **keywords: Any) -> int:
        """Remove entries from a shard, again if that was broken off; return how many."""
        removed = 0
        while True:
            try:
                return removed + int(getattr(shard, method)(*args, retry=True, **keywords))
            except GateError:
                raise
            except Timeout as exc:
                removed += exc.args[0] if exc.args else 0
