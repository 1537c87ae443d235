"""A running average that threads and processes share."""

from __future__ import annotations

from typing import Any

from diskcache.entry import Tag
from diskcache.errors import KeyInUseError
from diskcache.recipes.rows import CacheLike, Restorable, home, look, replace
from diskcache.sentinels import ENOVAL


class Averager(Restorable):
    """The average of numbers that any thread or process adds.

    Total and count are one ordinary entry: it can be evicted and culled, so use a cache whose
    eviction policy is `none` for what must not be forgotten.

    Args:
        cache: Where the entry is.
        key: Its key.
        expire: Seconds until it expires, from the last number on; None for never.
        tag: Its tag.

    Example:
        >>> from diskcache import Averager
        >>> latency = Averager(cache, 'latency')
        >>> latency.add(0.080)
        >>> latency.add(0.120)
        >>> latency.get()
        0.1
        >>> latency.pop()
        0.1
        >>> print(latency.get())
        None
    """

    def __init__(
        self, cache: CacheLike, key: Any, expire: float | None = None, tag: Tag = None
    ) -> None:
        self._cache = cache
        self._entries = home(cache, key)
        self._key = key
        self._expire = expire
        self._tag = tag

    def add(self, value: float) -> None:
        """Add a number, as one step that nobody gets between.

        Cost: one write transaction.

        Raises:
            KeyInUseError: The entry is not that of an averager.
        """

        def added(old: Any) -> Any:
            total, count = self._sums(old)
            return total + value, count + 1

        replace(self._entries, self._key, added, self._expire, self._tag)

    def get(self) -> float | None:
        """Return the average; None if no number was added.

        Cost: one point read.

        Raises:
            KeyInUseError: The entry is not that of an averager.
        """
        return self._average(look(self._entries, self._key))

    def pop(self) -> float | None:
        """Return the average and start anew, as one step that nobody gets between.

        Cost: one write transaction.

        Raises:
            KeyInUseError: The entry is not that of an averager; it is kept.
        """
        return self._average(replace(self._entries, self._key, self._taken))

    def _taken(self, old: Any) -> Any:
        self._sums(old)
        return ENOVAL

    def _average(self, value: Any) -> float | None:
        total, count = self._sums(value)
        return None if count == 0 else total / count

    def _sums(self, value: Any) -> tuple[float, int]:
        match value:
            # A Disk of the user may give a list for a tuple.
            case (int() | float(), int()):
                return value[0], value[1]
        if value is ENOVAL:
            return 0.0, 0
        raise KeyInUseError(
            f"the key {self._key!r} is not that of an averager: it holds a"
            f" {type(value).__name__}; use another key, or delete the entry"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._cache, self._key, self._expire, self._tag)

    def __repr__(self) -> str:
        return f"Averager({self._cache!r}, {self._key!r})"
