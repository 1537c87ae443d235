"""The policy s3-fifo as a few lists: what the product must do, written for reading.

Nothing here looks at the product: sizes, limits and times come from the test. Ranks are whole
numbers of 2 ** -40, so that none is rounded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import Any

HITS = 3
KEPT = 64
UNIT = 2**40
"""A weight of 1. Each place adds one more, which makes equal weights follow one another in the
order in which they come to main."""
GRAINS = 2**20
"""Steps of a weight of 1."""


@dataclasses.dataclass
class Item:
    """An entry: its size, its hits, and its place in a queue."""

    key: Any
    size: int
    number: int
    """Order in which entries were first stored."""
    hits: int = 0
    rank: int = 0
    stored: float = 0
    accessed: float | None = None
    """When it was last stored or read under a policy that asks for it."""


class Model:
    """Two queues and a memory, for a limit of *capacity* entries."""

    def __init__(
        self, capacity: float, *, floor: int = 32, weight: float = 0.5, by_count: bool = True
    ) -> None:
        self.capacity = capacity
        self.floor, self.weight, self.by_count = floor, weight, by_count
        self.new: list[Item] = []
        """Entries that have no place yet: the cache is less than half full."""
        self.is_ordered = False
        self.small: list[Item] = []
        self.main: list[Item] = []
        self.ghosts: list[Any] = []
        self.level = 0
        self.filled = False
        self.placed = 0
        """Places that were given so far."""

    # -- What there is --

    @property
    def items(self) -> dict[Any, Item]:
        return {item.key: item for item in [*self.new, *self.small, *self.main]}

    @property
    def keys(self) -> list[Any]:
        """Keys in the order of insertion."""
        return [item.key for item in sorted(self.items.values(), key=lambda item: item.number)]

    @property
    def last(self) -> int:
        """The largest number of an entry: the next one gets the number after it."""
        return max((item.number for item in self.items.values()), default=0)

    def mean(self) -> float:
        sizes = [item.size for item in self.items.values()]
        return sum(sizes) / len(sizes) if sizes else 0.0

    @property
    def is_tiny(self) -> bool:
        return self.capacity <= self.floor

    def is_small_full(self) -> bool:
        share = max(Fraction(self.capacity) / 10, self.floor)
        if self.by_count:
            return len(self.small) > share
        total = sum(item.size for item in self.items.values())
        return sum(item.size for item in self.small) * len(self.items) > share * total

    def behind(self, size: int) -> int:
        level = self.level + self.placed
        self.placed += 1
        if self.by_count or not self.weight:
            return level + UNIT
        weight = ((self.mean() or size) / size) ** self.weight
        return level + round(weight * GRAINS) * (UNIT // GRAINS)

    def to_small(self, item: Item) -> None:
        self.small.append(item)
        self.placed += 1

    # -- What happens --

    def store(self, key: Any, size: int, now: float) -> None:
        item = self.items.get(key)
        if item is not None:
            item.size, item.stored, item.accessed = size, now, None
            return
        is_back = key in self.ghosts
        if is_back:
            self.ghosts.remove(key)
        item = Item(key, size, self.last + 1, stored=now)
        if self.is_ordered:
            self._place(item, is_back=is_back)
            return
        self.new.append(item)

    def arrange(self) -> None:
        """Give every entry its place, once the cache is half full."""
        if not self.is_ordered and len(self.new) >= self.capacity / 2:
            self.order()

    def order(self) -> None:
        """Give every entry its place."""
        self.is_ordered = True
        self.placed = self.last
        waiting, self.new = self.new, []
        for item in waiting:
            item.hits = min(item.hits, HITS)
            self._place(item, is_back=False)

    def _place(self, item: Item, *, is_back: bool) -> None:
        size = item.size
        if not self.is_tiny and (is_back or (not self.filled and self.is_small_full())):
            item.rank = self.behind(size)
            self.main.append(item)
        else:
            self.to_small(item)

    def read(self, key: Any) -> None:
        item = self.items[key]
        if item.hits < HITS:
            item.hits += 1

    def count(self, key: Any, now: float) -> None:
        """Add to a number that is there: that is storing, and a read."""
        self.read(key)
        self.items[key].stored = now

    def remove(self, key: Any) -> None:
        self.new = [item for item in self.new if item.key != key]
        self.small = [item for item in self.small if item.key != key]
        self.main = [item for item in self.main if item.key != key]

    def victims(self, is_over: Callable[[int], bool], spared: Any = None) -> list[Any]:
        """Remove entries while *is_over* of how many went; return their keys, in their order."""
        if not is_over(0):
            return []
        if not self.is_ordered:
            self.order()
        gone: list[Any] = []
        forgotten: list[Any] = []
        kept = 0
        while is_over(len(gone)):
            from_small = not self.main if self.is_tiny else self.is_small_full() or not self.main
            item = self._first(from_small, spared) or self._first(not from_small, spared)
            if item is None:
                break
            self.filled = True
            is_main = item in self.main
            if is_main:
                self.level = item.rank
            if item.hits and kept < KEPT:
                kept += 1
                self._spare(item, is_main=is_main)
                continue
            kept = 0
            self.remove(item.key)
            gone.append(item.key)
            if not is_main and not self.is_tiny:
                forgotten.append(item.key)
        self.ghosts += forgotten
        most = int(0.9 * len(self.items))
        del self.ghosts[: max(len(self.ghosts) - most, 0)]
        return gone

    def _first(self, from_small: bool, spared: Any) -> Item | None:
        if from_small:
            return next((item for item in self.small if item.key != spared), None)
        others = [item for item in self.main if item.key != spared]
        return min(others, key=lambda item: (item.rank, item.number), default=None)

    def _spare(self, item: Item, *, is_main: bool) -> None:
        if self.is_tiny:
            self.remove(item.key)
            item.hits -= 1
            self.to_small(item)
            return
        # The mean is that of all entries, this one included.
        rank = self.behind(item.size)
        self.remove(item.key)
        item.hits = item.hits - 1 if is_main else 0
        item.rank = rank
        self.main.append(item)
