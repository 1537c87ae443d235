"""The eviction policies as they are meant, in memory and in the plainest form.

A model is asked like a cache, with `get` and `set`, and keeps keys and values in dictionaries. A
cache of one process and its model miss the same requests, which a test holds. `farthest` is no
policy: it looks ahead, and no policy can miss less.

The limit is a number of entries, or of bytes of values (`by_bytes`).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

SLACK = 256
"""Fraction of the limit that is freed beyond what is needed, where it is an entry or more."""
MOST_VICTIMS = 10
"""Entries that one write removes."""
STEP = 2.0**-40
"""What makes ranks differ that would be equal, in the order in which they are given."""


class Row:
    """One entry."""

    __slots__ = ("hits", "key", "number", "rank", "size", "value")

    def __init__(self, key: int, value: Any, size: int, number: int) -> None:
        self.key, self.value, self.size, self.number = key, value, size, number
        self.hits = 0
        self.rank = 0.0


class Model:
    """What all policies share: the entries, their size, and when some have to go."""

    def __init__(self, limit: int, *, by_bytes: bool = False) -> None:
        self.limit = limit
        self.by_bytes = by_bytes
        self.rows: dict[int, Row] = {}
        self.used = 0
        self.stored = 0
        """Entries so far."""

    def __len__(self) -> int:
        return len(self.rows)

    def get(self, key: int) -> Any:
        """Return the value, or None."""
        row = self.rows.get(key)
        if row is None:
            return None
        self.was_read(row)
        return row.value

    def set(self, key: int, value: Any) -> bool:
        """Store an entry under a key that has none; False if it is larger than the limit."""
        size = len(value) if self.by_bytes else 1
        if size > self.limit:
            return False
        self.stored += 1
        row = Row(key, value, size, self.stored)
        self.rows[key] = row
        self.used += size
        self.was_stored(row)
        if self.used > self.limit:
            self.make_room(row)
        return True

    def make_room(self, newest: Row) -> None:
        """Remove victims, of which *newest* is none; a few more than must go, if they are many."""
        slack = self.limit // SLACK
        target = self.limit - (slack if slack * len(self.rows) >= self.used else 0)
        for _ in range(MOST_VICTIMS):
            if self.used <= target or len(self.rows) == 1:
                break
            row = self.victim(newest)
            del self.rows[row.key]
            self.used -= row.size

    # -- What differs --

    def was_read(self, row: Row) -> None:
        """Note a read."""

    def was_stored(self, row: Row) -> None:
        """Note what was stored."""

    def victim(self, newest: Row) -> Row:
        """Return the entry that goes next; not *newest*."""
        raise NotImplementedError


class Stored(Model):
    """`least-recently-stored`: first in, first out."""

    def victim(self, newest: Row) -> Row:
        return next(iter(self.rows.values()))


class Used(Model):
    """`least-recently-used`."""

    def __init__(self, limit: int, *, by_bytes: bool = False) -> None:
        super().__init__(limit, by_bytes=by_bytes)
        self.rows: OrderedDict[int, Row] = OrderedDict()

    def was_read(self, row: Row) -> None:
        self.rows.move_to_end(row.key)

    def victim(self, newest: Row) -> Row:
        return next(iter(self.rows.values()))


class Ranked(Model):
    """Whoever has the least rank goes, the first stored among equals."""

    def __init__(self, limit: int, *, by_bytes: bool = False) -> None:
        super().__init__(limit, by_bytes=by_bytes)
        self.heap: list[tuple[float, int, int, Row]] = []
        self.given = 0
        """Ranks so far."""
        self.level = 0.0
        """The rank of the last victim, or of the last entry that was spared."""

    def give(self, row: Row, rank: float) -> None:
        row.rank = rank
        self.given += 1
        heapq.heappush(self.heap, (rank, row.number, self.given, row))

    def least(self, newest: Row) -> Row:
        """Take out the entry of the least rank."""
        passed = []
        while True:
            place = heapq.heappop(self.heap)
            rank, _, _, row = place
            if row is newest:
                passed.append(place)
            elif row.rank == rank and self.rows.get(row.key) is row:
                break
        for place in passed:
            heapq.heappush(self.heap, place)
        self.level = rank
        return row


class Frequent(Ranked):
    """`least-frequently-used`: how often an entry was read, and what the last victim had before.

    Being stored counts as one use, or else the newest entry would always be the next to go.
    """

    def was_read(self, row: Row) -> None:
        row.hits += 1
        self.give(row, self.level + row.hits)

    def was_stored(self, row: Row) -> None:
        self.give(row, self.level)

    def victim(self, newest: Row) -> Row:
        row = self.least(newest)
        self.level += 1
        return row


class S3Fifo(Ranked):
    """`s3-fifo`: a short queue for new entries, a long one for those that were read."""

    SHARE = 0.1
    """Part of the limit that new entries may take."""
    FLOOR = 32
    """Entries of mean size that they may take in any case."""
    MOST_HITS = 3
    """Reads that count."""
    KEPT = 64
    """Entries that are spared in a row."""
    GHOSTS = 0.9
    """Removed keys that are remembered, for each entry."""

    def __init__(self, limit: int, *, by_bytes: bool = False, weight: float = 0.5) -> None:
        super().__init__(limit, by_bytes=by_bytes)
        self.weight = weight
        self.small: OrderedDict[int, Row] = OrderedDict()
        self.small_used = 0
        self.in_small = 0
        """Entries that came into small so far."""
        self.ghosts: OrderedDict[int, None] = OrderedDict()
        self.was_full = False

    @property
    def mean(self) -> float:
        """Size of an entry."""
        return self.used / len(self.rows)

    @property
    def is_tiny(self) -> bool:
        """Whether so few entries fit that there is one queue only."""
        return self.FLOOR * self.mean >= self.limit

    def is_small_full(self) -> bool:
        return self.small_used > max(self.SHARE * self.limit, self.FLOOR * self.mean)

    def was_read(self, row: Row) -> None:
        row.hits = min(row.hits + 1, self.MOST_HITS)

    def was_stored(self, row: Row) -> None:
        is_back = self.ghosts.pop(row.key, self) is None
        is_early = not self.was_full and self.is_small_full()
        if (is_back or is_early) and not self.is_tiny:
            self.to_main(row)
        else:
            self.to_small(row)

    def to_small(self, row: Row) -> None:
        self.small[row.key] = row
        self.small_used += row.size
        self.in_small += 1

    def to_main(self, row: Row) -> None:
        level = self.level + self.in_small * STEP
        self.give(row, level + (self.mean / row.size) ** self.weight)

    def make_room(self, newest: Row) -> None:
        self.was_full = True
        super().make_room(newest)
        while len(self.ghosts) > int(self.GHOSTS * len(self.rows)):
            self.ghosts.popitem(last=False)

    def victim(self, newest: Row) -> Row:
        kept = 0
        while True:
            from_small = self.is_small_full() or len(self.small) == len(self.rows)
            row = self.first_of_small(newest) if from_small else self.least(newest)
            if not row.hits or kept >= self.KEPT:
                if from_small and not self.is_tiny:
                    self.ghosts[row.key] = None
                return row
            kept += 1
            self.spare(row, from_small=from_small)

    def first_of_small(self, newest: Row) -> Row:
        row = next(row for row in self.small.values() if row is not newest)
        del self.small[row.key]
        self.small_used -= row.size
        return row

    def spare(self, row: Row, *, from_small: bool) -> None:
        """Keep an entry that was read."""
        if from_small and self.is_tiny:
            row.hits -= 1
            self.to_small(row)
        else:
            row.hits = 0 if from_small else row.hits - 1
            self.to_main(row)


MODELS: dict[str, type[Model]] = {
    "least-recently-stored": Stored,
    "least-recently-used": Used,
    "least-frequently-used": Frequent,
    "s3-fifo": S3Fifo,
}


def farthest(keys: Sequence[int], sizes: Sequence[int] | None, limit: int) -> tuple[int, int]:
    """Return misses, and bytes of them, if the entry that is needed last goes first.

    That may be the one just asked for, which is then not kept at all. Nothing misses less where
    all entries count the same; where they have sizes it is a measure, not a bound.
    """
    count = len(keys)
    following = [0] * count
    latest: dict[int, int] = {}
    for place in range(count - 1, -1, -1):
        following[place] = latest.get(keys[place], count + place)
        latest[keys[place]] = place
    inside: dict[int, tuple[int, int]] = {}
    heap: list[tuple[int, int]] = []
    used = misses = missed = 0
    for place, key in enumerate(keys):
        size = 1 if sizes is None else sizes[place]
        if key not in inside:
            misses += 1
            missed += size
            used += size
        inside[key] = (following[place], size)
        heapq.heappush(heap, (-following[place], key))
        while used > limit:
            needed, last = heapq.heappop(heap)
            if last in inside and inside[last][0] == -needed:
                used -= inside.pop(last)[1]
    return misses, missed
