"""The policies with one order as a list: what the product must do, written for reading.

Nothing here looks at the product: limits and times come from the test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass
class Item:
    """An entry, what its rank may be made of, and its place in the order of insertion."""

    key: Any
    size: int
    number: int
    stored: float = 0
    used: float = 0
    accessed: float | None = None
    """When it was last stored or read, if the policy asks for it."""
    count: int = 0
    level: float = 0
    """What the last victim's rank had come to when the entry was last stored or read."""


class Model:
    """Entries in the order of a policy: *stored*, *used* or *count*; or *none*."""

    def __init__(self, by: str, now: Callable[[], float]) -> None:
        self.by, self.now = by, now
        self.items: dict[Any, Item] = {}
        self.level: float = 0
        self.capacity = float("inf")
        """Entries from half of which on there is an order: it begins anew with the policy."""
        self.is_ordered = False

    @property
    def last(self) -> int:
        """The largest number of an entry: the next one gets the number after it."""
        return max((item.number for item in self.items.values()), default=0)

    @property
    def keys(self) -> list[Any]:
        """Keys in the order of insertion."""
        return [item.key for item in sorted(self.items.values(), key=lambda item: item.number)]

    @property
    def order(self) -> list[Any]:
        """Keys in the order in which they go."""
        return sorted(self.items, key=lambda key: (self.rank(key), self.items[key].number))

    def rank(self, key: Any) -> float:
        item = self.items[key]
        ranks = {"used": item.used, "count": item.level + item.count}
        return ranks.get(self.by, item.stored)

    def arrange(self) -> None:
        """Begin an order, once the cache is half full."""
        if self.by != "none" and len(self.items) >= self.capacity / 2:
            self.is_ordered = True

    def store(self, key: Any, size: int, now: float) -> None:
        old = self.items.get(key)
        number = self.last + 1 if old is None else old.number
        accessed = now if self.by == "used" else None
        self.items[key] = Item(key, size, number, now, now, accessed, 0, self.level)

    def read(self, key: Any) -> None:
        item = self.items[key]
        item.used, item.level = self.now(), self.level
        if self.by == "used":
            item.accessed = item.used
        if self.by == "count":
            item.count += 1

    def count(self, key: Any, now: float) -> None:
        """Add to a number that is there: that is storing, and a use."""
        self.read(key)
        item = self.items[key]
        item.stored = now
        if self.by == "used":
            item.count += 1

    def remove(self, key: Any) -> None:
        self.items.pop(key, None)

    def victims(self, is_over: Callable[[int], bool], spared: Any = None) -> list[Any]:
        """Remove entries while *is_over* of how many went; return their keys, in their order."""
        gone: list[Any] = []
        if self.by != "none" and is_over(0):
            self.is_ordered = True
        while self.by != "none" and is_over(len(gone)):
            key = next((key for key in self.order if key != spared), None)
            if key is None:
                break
            self.level = self.rank(key) + 1
            self.remove(key)
            gone.append(key)
        return gone
