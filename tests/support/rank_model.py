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
    count: int = 0
    level: float = 0
    """What the last victim's rank had come to when the entry was last stored or read."""


class Model:
    """Entries in the order of a policy: *stored*, *used* or *count*."""

    def __init__(self, by: str, now: Callable[[], float]) -> None:
        self.by, self.now = by, now
        self.items: dict[Any, Item] = {}
        self.numbers = 0
        self.level: float = 0

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
        ranks = {"stored": item.stored, "used": item.used, "count": item.level + item.count}
        return ranks[self.by]

    def store(self, key: Any, size: int) -> None:
        old, now = self.items.get(key), self.now()
        self.numbers += 1
        number = self.numbers if old is None else old.number
        self.items[key] = Item(key, size, number, now, now, 0, self.level)

    def read(self, key: Any) -> None:
        item = self.items[key]
        item.used, item.level = self.now(), self.level
        item.count += 1

    def count(self, key: Any) -> None:
        """Add to a number that is there: that is storing, and a use."""
        self.read(key)
        self.items[key].stored = self.now()

    def remove(self, key: Any) -> None:
        self.items.pop(key, None)

    def victims(self, is_over: Callable[[int], bool], spared: Any = None) -> list[Any]:
        """Remove entries while *is_over* of how many went; return their keys, in their order."""
        gone: list[Any] = []
        while is_over(len(gone)):
            key = next((key for key in self.order if key != spared), None)
            if key is None:
                break
            self.level = self.rank(key) + 1
            self.remove(key)
            gone.append(key)
        return gone
