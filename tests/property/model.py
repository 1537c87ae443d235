"""What a cache should do, in plain Python: an ordered dict of entries, and nothing clever."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

NOTHING = object()
"""No key: None is one."""

QUEUE_START = 500_000_000_000_000
QUEUE_END = 999_999_999_999_999
BUDGET = 10
"""Most entries that one write removes, as `cull_limit` is by default."""


@dataclasses.dataclass
class Entry:
    """One entry of the model."""

    value: Any
    expire_time: float | None = None
    tag: Any = None

    def is_live(self, now: float) -> bool:
        return self.expire_time is None or self.expire_time > now

    def is_expired(self, now: float) -> bool:
        """Tell whether a removal takes it; at the very moment of expiry it does not yet."""
        return self.expire_time is not None and self.expire_time < now


class Model:
    """Entries by key, in insertion order, those that have expired included."""

    def __init__(self) -> None:
        self.entries: dict[Any, Entry] = {}
        self.hits = 0
        self.misses = 0

    def copy(self) -> Model:
        twin = Model()
        twin.entries = {key: dataclasses.replace(entry) for key, entry in self.entries.items()}
        return twin

    # -- Reading --

    def live(self, key: Any, now: float) -> Entry | None:
        entry = self.entries.get(key)
        return entry if entry is not None and entry.is_live(now) else None

    def count_read(self, found: bool) -> None:
        self.hits += found
        self.misses += not found

    def live_keys(self, now: float) -> list[Any]:
        return [key for key, entry in self.entries.items() if entry.is_live(now)]

    # -- Writing --

    def put(self, key: Any, entry: Entry, now: float) -> None:
        """Store an entry, which keeps the place of an old one; then cull."""
        self.entries[key] = entry
        self.remove_expired(now, BUDGET)

    def remove_expired(self, now: float, budget: float = float("inf")) -> int:
        found = [key for key, entry in self.entries.items() if entry.is_expired(now)]
        found.sort(key=lambda key: self.entries[key].expire_time)
        doomed = [key for number, key in enumerate(found) if number < budget]
        self.remove(doomed)
        return len(doomed)

    def remove(self, keys: Iterable[Any]) -> None:
        for key in keys:
            del self.entries[key]

    def remove_tag(self, tag: Any) -> int:
        doomed = [key for key, entry in self.entries.items() if entry.tag == tag]
        self.remove(doomed)
        return len(doomed)

    # -- Queues --

    def queue(self, prefix: str | None) -> list[Any]:
        """Return the keys in the range of a queue, in order."""
        if prefix is None:
            return sorted(
                key
                for key in self.entries
                if isinstance(key, (int, float)) and type(key) is not bool and 0 < key < QUEUE_END
            )
        low, high = f"{prefix}-{0:015d}", f"{prefix}-{QUEUE_END}"
        return sorted(key for key in self.entries if isinstance(key, str) and low < key < high)

    def next_key(self, prefix: str | None, side: str) -> Any:
        keys = self.queue(prefix)
        if not keys:
            number = QUEUE_START
        else:
            last = keys[-1 if side == "back" else 0]
            number = (int(last) if prefix is None else int(last[-15:])) + (
                1 if side == "back" else -1
            )
        return number if prefix is None else f"{prefix}-{number:015d}"

    def first(self, keys: list[Any], now: float) -> Any:
        """Return the first of *keys* that is no expired entry, removing those before it."""
        for key in keys:
            if not self.entries[key].is_expired(now):
                return key
            del self.entries[key]
        return NOTHING
