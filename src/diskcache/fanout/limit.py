"""One limit on size, and one on entries, for all shards.

Implementation note.

Every shard stores the limit of the whole and judges it against the sum of its own volume, which it
knows exactly, and that of the others, which it knows roughly: bytes of value files exactly, pages
as of a 64th of its share ago, at most. So many writes of a shard need no look at the others.
In a transaction on several shards that includes what the others have stored and removed in it: else
each would remove all that is too much.

A shard that is asked to store something while the sum is over the limit removes its own victims,
which are as old as those of the others as long as keys spread evenly. Where they do not, shards
would starve beside one that holds much and is seldom written: a shard that holds less than half of
its share therefore removes nothing, and the largest ones are culled in its place, after the write;
so they are for one that has removed all it could, and is large because of what was just written.

Entries are counted exactly, at every write once half of the limit is reached. Before, a shard looks
at the others when it has grown by its part of what is left until then. Another process that
has stored less than half of it by then may not know yet, and pass the limit until its next look. In
a transaction on several shards none sees what the others have stored, so afterwards all are counted
once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from diskcache.errors import DiskCacheError
from diskcache.fanout.shard import Shard
from diskcache.sentinels import ENOVAL

MEASURES = 64
"""How often a shard is measured while as much as its share is written to it."""


class SharedLimit:
    """What the shards of one object know of each other's volume. Threads may share it."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self.is_asked = False
        """Whether a shard needs room that another one has to make."""
        self._is_near = False
        self._bounds: dict[Shard, float] = dict.fromkeys(shards, 0)
        """Entries up to which a shard does not look at the others."""
        self.latest: tuple[Shard, Any] | None = None
        """Shard and key of what was written last: it stays, in a transaction of many shards too."""
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

    def count_beside(self, shard: Shard | None) -> int:
        """Return how many entries the shards other than *shard* hold."""
        total = 0
        for other in self._shards:
            if other is not shard:
                with suppress(DiskCacheError):
                    total += other.rough_count()
        return total

    def approach(self, shard: Shard, bound: float, *, is_near: bool) -> None:
        """Have the shards other than *shard* count at every write, if the limit has come near.

        Also if they could pass it before one of them looks: up to *bound* entries, of which it may
        have had more once than it has now, a shard does not.
        """
        self._bounds[shard] = max(bound, 0)
        limit = shard.count_limit
        is_tight = limit and sum(self._bounds.values()) > limit / 2
        if is_tight or (is_near and not self._is_near):
            for other in self._shards:
                if other is not shard:
                    self._bounds[other] = 0
                    other.look_always()
        self._is_near = is_near

    def wrote(self, shard: Shard, key: Any) -> None:
        """Make room after a write, if that was asked for."""
        self.latest = shard, key
        if self.is_asked:
            self.make_room(shard, key)

    def make_room(self, shard: Shard, key: Any) -> None:
        """Cull a batch in the largest shards, unless somebody is writing there.

        Args:
            shard: Where an entry was just written.
            key: Its key: it stays.
        """
        self.is_asked = False
        with suppress(DiskCacheError):
            if self._shards[0].count_limit:
                self._make_room_for_entries(shard, key)
            self._make_room_for_bytes(shard)

    def settle(self) -> None:
        """Make room, if that was asked for, or if several shards have stored much together."""
        first = self._shards[0]
        if self.is_asked or (
            first.count_limit and first.culls and self.count_beside(None) > first.count_limit
        ):
            self.make_room(*(self.latest or (first, ENOVAL)))

    def _make_room_for_bytes(self, last: Shard) -> None:
        """Cull a batch in each shard that has more than its share, until all have few enough.

        Not in the one that was written last: it has removed what it could.
        """
        limit, slack = float(self._shards[0].size_limit), self._slack()
        volumes = {shard: shard.rough_volume(slack) for shard in self._shards}
        others = [shard for shard in self._shards if shard is not last]
        for shard in sorted(others, key=volumes.__getitem__, reverse=True):
            if sum(volumes.values()) < limit or volumes[shard] <= limit / len(volumes):
                return
            if shard.make_room():
                volumes[shard] = shard.rough_volume(0)

    def _make_room_for_entries(self, last: Shard, key: Any) -> None:
        """Cull where there are most entries, until all together are within the limit.

        Not in the shard that was written last, as long as another one has as many.
        """
        limit = self._shards[0].count_limit
        while self.count_beside(None) > limit:
            largest = max(self._shards, key=lambda shard: (shard.rough_count(), shard is not last))
            if not (largest.make_room(key) if largest is last else largest.make_room()):
                return


class Beside:
    """The neighbours of one shard, as its engine sees them."""

    def __init__(self, limit: SharedLimit, shard: Shard) -> None:
        self._limit = limit
        self._shard = shard
        self.shards = len(limit._shards)  # noqa: SLF001 - a part of that class

    def volume(self) -> int:
        """Return how many bytes the others hold, roughly."""
        return self._limit.volume_beside(self._shard)

    def count(self) -> int:
        """Return how many entries the others hold."""
        return self._limit.count_beside(self._shard)

    def approach(self, bound: float, *, is_near: bool) -> None:
        """Have the others count at every write, if the limit on entries may be passed unseen."""
        self._limit.approach(self._shard, bound, is_near=is_near)

    def ask_for_room(self) -> None:
        """Have room made by the largest shard after the write that is going on."""
        self._limit.is_asked = True
