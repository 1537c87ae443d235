"""The queue of a cache as a sequence: entries by their place in the order of keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice, takewhile
from typing import Any, Final

from diskcache.cache import Cache
from diskcache.cache.strict import PAGE, StrictAccess
from diskcache.entry import EncodedKey, Listed, Order, Payload
from diskcache.errors import QueueFullError
from diskcache.keys import QUEUE_END, QUEUE_START
from diskcache.sentinels import ENOVAL

FIRST: Final = (0, 1)
"""Cursor before every entry of the queue."""

LAST: Final = (QUEUE_END, 0)
"""Cursor behind every entry of the queue."""


class Line:
    """The entries whose keys are numbers between 0 and `QUEUE_END`, without a gap in between.

    Their keys grow from the left end to the right. Where entries change places, the values move
    and the keys stay. Every method is one transaction, or part of the caller's.

    Args:
        cache: Where the entries are.
    """

    def __init__(self, cache: Cache) -> None:
        self._access = StrictAccess(cache)
        self._engine = self._access.engine

    def step(self) -> AbstractContextManager[None]:
        """Return a context in which several operations happen together or not at all."""
        return self._engine.transaction(None)

    # -- Ends --

    def push(self, value: Any, side: str) -> None:
        """Store a value beyond an end.

        Raises:
            TooLargeError: It is larger than the size limit of the cache.
        """
        access = self._access
        packed = access.pack_early(value, False)
        if packed is not None:
            access.check_size(packed)

        def pack(key: EncodedKey) -> Payload:
            payload = access.pack(value, key)
            access.check_size(payload)
            return payload

        try:
            self._engine.push(None, side, packed or pack, None, None, access.now(), None)
        except BaseException:
            access.discard(packed)
            raise

    def pull(self, side: str) -> Any:
        """Remove the entry at an end and return its value, or `ENOVAL` if there is none."""
        access = self._access
        found = self._engine.pull(None, side, access.now(), None, access.load_queued, remove=True)
        return ENOVAL if found is None else found[1]

    def drop(self, side: str) -> bool:
        """Remove the entry at an end without loading it; tell whether there was one."""
        now = self._access.now()
        return self._engine.pull(None, side, now, None, _nothing, remove=True) is not None

    def extend(self, values: Sequence[Any], side: str) -> None:
        """Store many values beyond an end, one after the other."""
        if not values:
            return
        access = self._access
        packed: list[Payload | None] = []
        entries: list[tuple[EncodedKey, Payload]] = []
        try:
            packed.extend(access.pack_early(value, False) for value in values)
            with self._engine.transaction(None):
                for key, early, value in zip(
                    self._new_keys(side, len(values)), packed, values, strict=True
                ):
                    entries.append((key, early or access.pack(value, key)))
                access.put_all(entries)
        except BaseException:
            for payload in (*packed, *(payload for _, payload in entries)):
                access.discard(payload)
            raise

    def _new_keys(self, side: str, count: int) -> list[EncodedKey]:
        """Return the keys beyond an end, from the inside to the outside.

        Raises:
            QueueFullError: There are not so many.
        """
        is_back = side == "back"
        start = LAST if is_back else FIRST
        page = self._engine.page(Order.KEY, start, 1, reverse=is_back)
        step = 1 if is_back else -1
        if page and _is_place(page[0].key):
            start_number: Any = page[0].key[0]
            start_number += step
        else:
            start_number = QUEUE_START
        last = start_number + step * (count - 1)
        if not 0 < last < QUEUE_END:
            raise QueueFullError(
                f"no key is left at the {side} of the queue: numbers run from 1 to"
                f" {QUEUE_END - 1}; store at the other side, or empty the queue"
            )
        return [(start_number + step * index, 1) for index in range(count)]

    def trim(self, count: int, side: str) -> None:
        """Remove *count* entries at an end without loading them."""
        keys = [listed.key for listed in islice(self.rows(reverse=side == "back"), count)]
        for start in range(0, len(keys), PAGE):
            self._engine.delete_many(keys[start : start + PAGE], self._access.now(), None)

    # -- Places --

    def rows(
        self,
        *,
        reverse: bool = False,
        values: bool = False,
        skip: int = 0,
        limit: int = PAGE,
        after: object | None = None,
    ) -> Iterator[Listed]:
        """Yield the entries from the left, or with *reverse* from the right."""
        if after is None:
            after = LAST if reverse else FIRST
        for listed in self._access.listed(
            Order.KEY, after, reverse=reverse, values=values, skip=skip, limit=limit
        ):
            if not _is_place(listed.key):
                return
            yield listed

    def row(self, index: int, *, values: bool = False) -> Listed | None:
        """Return the entry at a place; negative places count from the right."""
        reverse = index < 0
        skip = -1 - index if reverse else index
        return next(self.rows(reverse=reverse, values=values, skip=skip, limit=1), None)

    def value(self, index: int) -> Any:
        """Return the value at a place, or `ENOVAL` if there is no such place."""
        access = self._access
        if index in (0, -1):
            side = "back" if index else "front"
            found = self._engine.pull(
                None, side, access.now(), None, access.load_queued, remove=False
            )
            return ENOVAL if found is None else found[1]
        while (listed := self.row(index, values=True)) is not None:
            value = access.load(listed.key, listed.row)
            if value is not ENOVAL:
                return value
        return ENOVAL

    def values(self, *, reverse: bool = False) -> Iterator[tuple[Listed, Any]]:
        """Yield entries and their values; those that are removed meanwhile are left out."""
        access = self._access
        for listed in self.rows(reverse=reverse):
            row = self._engine.get(listed.key, access.now())
            value = ENOVAL if row is None else access.load(listed.key, row)
            if row is not None and value is not ENOVAL:
                yield Listed(listed.cursor, listed.key, row), value

    def replace(self, index: int, value: Any) -> bool:
        """Store a value at a place instead of the old one; tell whether there is such a place."""
        access = self._access
        packed = access.pack_early(value, False)
        try:
            with self._engine.transaction(None):
                listed = self.row(index)
                if listed is not None:
                    access.put(listed.key, packed or access.pack(value, listed.key))
                    return True
        except BaseException:
            access.discard(packed)
            raise
        access.discard(packed)
        return False

    def delete(self, index: int) -> bool:
        """Remove the entry at a place without loading it; tell whether there was one."""
        if index in (0, -1):
            return self.drop("back" if index else "front")
        with self._engine.transaction(None):
            listed = self.row(index)
            return listed is not None and self._delete(listed)

    def delete_unchanged(self, listed: Listed) -> bool:
        """Remove an entry if it is still the one that was seen."""
        with self._engine.transaction(None):
            row = self._engine.get(listed.key, self._access.now())
            return row is not None and row[7:] == listed.row[7:] and self._delete(listed)

    def _delete(self, listed: Listed) -> bool:
        return self._engine.delete(listed.key, self._access.now(), None)

    # -- Order --

    def insert(self, index: int, value: Any, count: int) -> None:
        """Store a value before a place; the values on the shorter side of it move by one.

        Args:
            index: The place, 0 or more; one that is not there is the one behind the last.
            value: The value.
            count: About how many entries there are.
        """
        access = self._access
        with self._engine.transaction(None):
            place = self.row(index)
            if place is None:
                self.push(value, "back")
                return
            is_back = index > count // 2
            (target,) = self._new_keys("back" if is_back else "front", 1)
            for listed in self.rows(reverse=is_back, values=True):
                if not is_back and listed.key == place.key:
                    break
                access.put(target, access.moved(listed, target))
                target = listed.key
                if listed.key == place.key:
                    break
            access.put(target, access.pack(value, target))

    def rotate(self, steps: int) -> None:
        """Move *steps* entries from the right end to the left, or if negative the other way."""
        source, target = ("back", "front") if steps > 0 else ("front", "back")
        left = abs(steps)
        with self._engine.transaction(None):
            keys = iter(self._new_keys(target, left))
            rows = islice(self.rows(reverse=source == "back", values=True), left)
            while batch := list(islice(rows, PAGE)):
                self._access.put_all(self._moves(batch, keys))
                old = [listed.key for listed in batch]
                self._engine.delete_many(old, self._access.now(), None)

    def reverse(self) -> None:
        """Exchange the first value with the last, the second with the last but one, and so on."""
        with self._engine.transaction(None):
            pairs = zip(self.rows(values=True), self.rows(reverse=True, values=True), strict=False)
            halves = takewhile(lambda pair: pair[0].key < pair[1].key, pairs)
            while batch := list(islice(halves, PAGE)):
                rows = [listed for pair in batch for listed in pair]
                keys = [listed.key for left, right in batch for listed in (right, left)]
                self._access.put_all(self._moves(rows, iter(keys)))

    def _moves(
        self, rows: Iterable[Listed], keys: Iterator[EncodedKey]
    ) -> list[tuple[EncodedKey, Payload]]:
        """Return the values of *rows*, each encoded for the next of *keys*."""
        moves: list[tuple[EncodedKey, Payload]] = []
        try:
            for listed in rows:
                key = next(keys)
                moves.append((key, self._access.moved(listed, key)))
        except BaseException:
            for _, payload in moves:
                self._access.discard(payload)
            raise
        return moves


def _is_place(key: EncodedKey) -> bool:
    return isinstance(key[0], (int, float)) and 0 < key[0] < QUEUE_END


def _nothing(_key: EncodedKey, _row: Any) -> None:
    return None
