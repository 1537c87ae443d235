"""A limit on the number of entries in all shards.

Implementation note.

Counting takes a look at every shard, so it is not done at each write: after a count, a 64th of what
is still free may be stored before the next. One process alone therefore never passes the limit.
Another one that stores at the same time may pass it by what it was allowed when it last counted.

Shards are trimmed together, in the order of the policy over all of them: the ranks of their next
victims are merged, and each shard removes as many as are its own among the first. Where a policy
of somebody's own orders entries, ranks cannot be compared, and shards give in proportion.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from heapq import merge
from itertools import count, islice
from typing import Any, Final

from diskcache.errors import Timeout
from diskcache.fanout.shard import Shard

PACE: Final = 64
"""Part of the free room that is filled before entries are counted again."""

SPARE: Final = 8
"""Ranks that are asked for beyond twice the share of a shard."""

STEP: Final = 1000
"""Entries removed in one round."""


class EntryLimit:
    """Keeps shards at or below a number of entries. Threads may share it.

    Expired entries go first. If that is not enough, victims of the policy go, so that a part of
    the limit is free afterwards. The entry that was just stored stays.

    Args:
        shards: The shards. Their policy must have victims.
        most: The limit, at least 1.
        frequency: One of so many entries goes; 0 for all.
    """

    def __init__(self, shards: Sequence[Shard], most: int, frequency: int) -> None:
        self._shards = shards
        self._most = most
        freed = max(most // frequency - 1, 0) if frequency else most - 1
        self._goal = most - freed
        self._writes = count(1)
        self._look_at = 1

    def stored(self, key: Any, entries: int = 1) -> None:
        """Remove entries if there are too many, now that *key* was stored.

        Nobody is waited for longer than the timeout of the shards: then a later write does it.

        Args:
            key: What was stored, or the last of it.
            entries: How many were stored.
        """
        written = next(self._writes)
        for _ in range(entries - 1):
            written = next(self._writes)
        if written >= self._look_at:
            with suppress(Timeout):
                self._keep(key)
            self._look_at = written + max((self._most - self._count()) // PACE, 1)

    def _count(self) -> int:
        return sum(shard.rough_count() for shard in self._shards)

    def _keep(self, key: Any) -> None:
        if self._count() <= self._most:
            return
        for shard in self._shards:
            shard.expire()
        found = self._count()
        if found <= self._most:
            return
        # Others may remove entries at the same time: they are counted again after each round.
        while found > self._goal and self._remove(min(found - self._goal, STEP), key):
            found = self._count()

    def _remove(self, limit: int, key: Any) -> int:
        """Remove up to *limit* victims; return how many."""
        for shard in self._shards:
            shard.trim(0, key)
        return sum(shard.trim(quota, key) for shard, quota in self._quotas(limit, key).items())

    def _quotas(self, limit: int, key: Any) -> dict[Shard, int]:
        """Return how many of the first *limit* victims each shard has."""
        each = 2 * limit // len(self._shards) + SPARE
        ranks = {shard: shard.ranks(each, key) for shard in self._shards}
        if not any(ranks.values()):
            return self._shares(limit)
        lines = ([(rank, n) for rank in ranks[shard]] for n, shard in enumerate(self._shards))
        quotas = dict.fromkeys(self._shards, 0)
        for _, n in islice(merge(*lines), limit):
            shard = self._shards[n]
            quotas[shard] += 1
            if quotas[shard] == each:
                # What comes after in this shard is not known.
                break
        return {shard: quota for shard, quota in quotas.items() if quota}

    def _shares(self, limit: int) -> dict[Shard, int]:
        """Return quotas in proportion to what the shards hold."""
        counts = {shard: shard.rough_count() for shard in self._shards}
        total = sum(counts.values()) or 1
        quotas: dict[Shard, int] = {}
        left = limit
        for shard in sorted(counts, key=counts.__getitem__, reverse=True):
            quota = min(-(-limit * counts[shard] // total), left)
            if quota > 0:
                quotas[shard] = quota
                left -= quota
        return quotas
