"""`Tier`: a bounded map in memory of what was read from a cache.

Implementation note.

*Places.* A key that is exactly a str, bytes or int, or a tuple of such and None, is its own place:
among these types, equal keys are the same key. All others would not be safe in a dict, which takes
`1`, `1.0` and `True` for one key; their place is a tuple that starts with an object of this module,
followed by the encoded key.

*Second chance.* Entries are kept in two dicts. New ones go to the young one, where a hit costs one
look-up and leaves no trace. When the limit is reached, entries leave the old dict, the newest of
them first; when it is empty, the young dict becomes the old one. An entry that is asked for while
it is old moves to the young one. What is asked for often moved there early, so it is among the last
to go when that dict is the old one, and has the longest time to move again.

*Second read.* An entry is kept when it is read the second time: most of what is read once never
is again, and keeping costs as much as half a read. A byte for each of 131072 groups of places
remembers the first. What the process stores of such a place is kept at once, while there is room.

*Threads.* Look-ups take no lock. Changes do, but never wait for it: what cannot be kept at once is
not kept, which also makes signal handlers harmless.

*Cost of an entry.* Bytes of the value and the key as Python counts them, and `OVERHEAD` for the
dict, the tuple, the numbers in it and the mark.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Hashable
from datetime import date, datetime, timedelta, timezone
from datetime import time as time_of_day
from decimal import Decimal
from fractions import Fraction
from sys import getsizeof
from time import monotonic
from types import NoneType
from typing import Any, Final, TypeAlias
from uuid import UUID

from diskcache.coherence import Mark, Source
from diskcache.entry import DbValue, Tag

Held: TypeAlias = tuple[
    Source, int, int, float | None, Any, Callable[[Any], Any] | None, Tag, int, Mark
]
"""What is kept of an entry: source, slot and generation that make it a hit; expire_time; value,
and what makes the caller's own copy of it, None if it can be shared; tag; cost in bytes; where
hits are noted."""

SOURCE: Final = 0
SLOT: Final = 1
GENERATION: Final = 2
EXPIRES: Final = 3
VALUE: Final = 4
DECODE: Final = 5
TAG: Final = 6
COST: Final = 7
MARK: Final = 8

DIRECT: Final = frozenset({str, bytes, int})
"""Types of keys that are their own place."""

OVERHEAD: Final = 352
"""Bytes that an entry takes besides its key and value."""

MEMORY_LIMIT: Final = 64 * 2**20
"""Bytes that a process keeps of one directory, unless told otherwise."""

GROUPS: Final = 2**17
"""Groups of places that a first read is remembered for."""

LAST_GROUP: Final = GROUPS - 1

LARGEST: Final = 8
"""Part of the limit that one entry may take."""

PARTS: Final = frozenset({str, bytes, int, NoneType})
"""Types of what is in a tuple that is its own place."""

_ENCODED: Final = object()
_ATOMS: Final = frozenset(
    {
        str,
        bytes,
        int,
        float,
        bool,
        NoneType,
        complex,
        date,
        datetime,
        time_of_day,
        timedelta,
        timezone,
        Decimal,
        Fraction,
        UUID,
        range,
    }
)
_ZONED: Final = frozenset({datetime, time_of_day})
_SHARED_PARTS: Final = 64
"""Elements of a tuple up to which it is shared; longer ones are decoded at each hit."""


def place_of(key: Any) -> Any:
    """Return the place of a key that is its own; None if it has to be encoded first."""
    kind = type(key)
    if kind in DIRECT or (kind is tuple and PARTS.issuperset(map(type, key))):
        return key
    return None


def place_of_encoded(key: tuple[DbValue, int]) -> Any:
    """Return the place of any other key."""
    return (_ENCODED, *key)


def shared_cost(value: Any) -> int | None:
    """Return the bytes of a value that callers may share; None if one could change another's."""
    kind = type(value)
    if kind in _ATOMS:
        return getsizeof(value) if kind not in _ZONED or _has_plain_zone(value) else None
    if kind is tuple and len(value) <= _SHARED_PARTS:
        total = getsizeof(value)
        for part in value:
            cost = None if type(part) is tuple else shared_cost(part)
            if cost is None:
                return None
            total += cost
        return total
    return None


def _has_plain_zone(value: datetime | time_of_day) -> bool:
    """Tell whether a moment has no zone, or one that nobody can change."""
    return type(value.tzinfo) in (NoneType, timezone)


def is_hit(held: Held) -> bool:
    """Tell whether what is kept is the newest state of its entry, expired or not."""
    source = held[SOURCE]
    return source.words[held[SLOT]] == held[GENERATION] and monotonic() < source.look_at


_NONE_EXPECTED: Final = bytes(GROUPS)
"""What a tier starts with, that many objects may never need."""


class Tier:
    """What was read from the cache of one directory, by whoever decodes alike.

    Thread-safe. A forked child starts empty.

    Args:
        limit: Bytes that all entries together may take; 0 keeps nothing.
    """

    __slots__ = (
        "__weakref__",
        "_expected",
        "_lock",
        "_old",
        "_old_bytes",
        "_unmet",
        "_young_bytes",
        "largest",
        "limit",
        "young",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.largest = limit // LARGEST
        """Bytes of the largest entry that is kept."""
        self.reset()
        _tiers.add(self)

    def reset(self) -> None:
        """Forget everything, the lock included: a thread that is not here may hold it."""
        self._lock = threading.Lock()
        self.young: dict[Any, Held] = {}
        """Where a hit is looked for first."""
        self._old: dict[Any, Held] = {}
        self._young_bytes = self._old_bytes = 0
        self._expected: bytes | bytearray = _NONE_EXPECTED
        self._unmet = 0
        """First reads that are remembered until all are forgotten."""

    @property
    def volume(self) -> int:
        """Bytes that are kept."""
        return self._young_bytes + self._old_bytes

    def __len__(self) -> int:
        """Return the number of entries, those that are no hits any more included."""
        return len(self.young) + len(self._old)

    def find(self, place: Any) -> Held | None:
        """Return what is kept at a place; whether it is a hit is for the caller to see.

        What was old is young again.
        """
        held = self.young.get(place)
        if held is None and self._old:
            held = self._old.get(place)
            if held is not None:
                self.keep(place, held)
        return held

    def is_new(self, place: Any) -> bool:
        """Tell whether a place, and all of its group, is asked for the first time; remember it."""
        expected, group = self._expected, hash(place) & LAST_GROUP
        if expected[group]:
            return False
        if self._unmet <= 0:
            if not self.limit:
                return True
            self._expected = expected = bytearray(GROUPS)
            self._unmet = GROUPS // 4
        expected[group] = 1  # type: ignore[index]
        self._unmet -= 1
        return True

    def expects(self, place: Any) -> bool:
        """Tell whether what is stored at a place is to be kept.

        That is where something is kept already, and, as long as it pushes nothing out, where the
        place, or one of its group, was asked for before.
        """
        if place in self.young:
            return True
        is_met = self._expected[hash(place) & LAST_GROUP]
        return bool(is_met) and self._young_bytes + self._old_bytes < self.limit - self.largest

    def keep(self, place: Any, held: Held) -> None:
        """Keep an entry, and let others go as the limit demands; or do nothing."""
        cost = held[COST]
        if cost > self.largest or not self._lock.acquire(blocking=False):
            return
        try:
            young = self.young
            if place in young:
                growth = cost - young[place][COST]
                if growth <= 0:
                    # Where it is already: the most common way, when it has been written.
                    young[place] = held
                    self._young_bytes += growth
                    return
            if self._old or place in young:
                self._drop(place)
            while self._young_bytes + self._old_bytes + cost > self.limit:
                self._make_room()
            self.young[place] = held
            self._young_bytes += cost
        finally:
            self._lock.release()

    def _drop(self, place: Any) -> None:
        before = self.young.pop(place, None)
        if before is not None:
            self._young_bytes -= before[COST]
        before = self._old.pop(place, None)
        if before is not None:
            self._old_bytes -= before[COST]

    def _make_room(self) -> None:
        if self._old:
            self._old_bytes -= self._old.popitem()[1][COST]
            return
        self._old, self.young = self.young, {}
        # An interrupt may have come between a dict and its sum: an empty dict puts that right.
        self._old_bytes, self._young_bytes = self._young_bytes if self._old else 0, 0

    def clear(self) -> None:
        """Forget everything, unless another thread is just keeping something."""
        if self._lock.acquire(blocking=False):
            try:
                self.young, self._old = {}, {}
                self._young_bytes = self._old_bytes = 0
            finally:
                self._lock.release()


_tiers: Final[weakref.WeakSet[Tier]] = weakref.WeakSet()
_shared: Final[weakref.WeakValueDictionary[Hashable, Tier]] = weakref.WeakValueDictionary()
_sharing: Final = threading.RLock()


def tier_of(identity: Hashable, limit: int) -> Tier:
    """Return the tier of all objects of this process that are alike, with one limit for all.

    Args:
        identity: What decides which objects may share decoded values: the directory, and
            everything that has a say in how they are decoded.
        limit: Bytes; part of the identity.
    """
    with _sharing:
        tier = _shared.get((identity, limit))
        if tier is None:
            tier = _shared[(identity, limit)] = Tier(limit)
        return tier


def _after_fork_in_child() -> None:
    for tier in list(_tiers):
        tier.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
