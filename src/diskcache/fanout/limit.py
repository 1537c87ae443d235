"""One size limit for all shards.

Implementation note.

Every shard stores the limit of the whole and judges it against the sum of its own volume, which it
knows exactly, and that of the others, which it knows roughly: bytes of value files exactly, pages
as of a 64th of its share ago, at most. So many writes of a shard need no look at the others.

A shard that is asked to store something while the sum is over the limit removes its own victims,
which are as old as those of the others as long as keys spread evenly. Where they do not, shards
would starve beside one that holds much and is seldom written: a shard that holds less than half of
its share therefore removes nothing, and the largest one is culled in its place, after the write.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from diskcache.errors import DiskCacheError
from diskcache.fanout.shard import Shard

MEASURES = 64
"""How often a shard is measured while as much as its share is written to it."""


class SharedLimit:
    """What the shards of one object know of each other's volume. Threads may share it."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self.is_asked = False
        """Whether a shard needs room that another one has to make."""
        for shard in shards:
            shard.join(Beside(self, shard))

    def _slack(self) -> float:
        count = len(self._shards)
        return float(self._shards[0].size_limit) / count / MEASURES

    def volume_beside(self, shard: Shard) -> int:
        """Return how many bytes the shards other than *shard* hold."""
        slack, total = self._slack(), 0
        for other in self._shards:
            if other is not shard:
                # What is wrong with another shard is the concern of those who use it.
                with suppress(DiskCacheError):
                    total += other.rough_volume(slack)
        return total

    def make_room(self) -> None:
        """Cull a batch in the largest shard, unless somebody is writing there."""
        self.is_asked = False
        slack = self._slack()
        with suppress(DiskCacheError):
            max(self._shards, key=lambda shard: shard.rough_volume(slack)).make_room()


class Beside:
    """The neighbours of one shard, as its engine sees them."""

    def __init__(self, limit: SharedLimit, shard: Shard) -> None:
        self._limit = limit
        self._shard = shard
        self.shards = len(limit._shards)  # noqa: SLF001 - a part of that class

    def volume(self) -> int:
        """Return how many bytes the others hold, roughly."""
        return self._limit.volume_beside(self._shard)

    def ask_for_room(self) -> None:
        """Have room made by the largest shard after the write that is going on."""
        self._limit.is_asked = True
