"""Reads of `Cache` that go beyond the fast way: from memory with care, or from the engine."""

from __future__ import annotations

from collections.abc import Callable
from sys import getsizeof
from typing import Any, Final, TypeAlias

from diskcache.cache.foundation import Foundation
from diskcache.cache.front import Front
from diskcache.cache.noting import LONG_WAY, quick_noter
from diskcache.cache.telling import telling_methods
from diskcache.codecs.base import MODE_DATA, MODE_JSON, MODE_PICKLE, MODE_RAW
from diskcache.codecs.plain import loads
from diskcache.coherence import COUNTED, FULL, Mark, Seen, Source
from diskcache.entry import (
    EXPIRE_TIME,
    FILE,
    GUARD,
    HOLD_FAILED,
    MODE,
    SIZE,
    TAG,
    VALUE,
    VERSION,
    EncodedKey,
    Payload,
    Row,
    Tag,
)
from diskcache.errors import CodecError, UntrustedPickleError
from diskcache.memory.tier import (
    DECODE,
    DIRECT,
    EXPIRES,
    MARK,
    OVERHEAD,
    SOURCE,
    Held,
    is_hit,
    place_of,
    place_of_encoded,
    shared_cost,
)
from diskcache.memory.tier import TAG as HELD_TAG
from diskcache.memory.tier import VALUE as HELD_VALUE
from diskcache.sentinels import ENOVAL

Found: TypeAlias = tuple[Any, float | None, Tag]
"""Value, or `ENOVAL`; expire_time; tag."""

Load: TypeAlias = Callable[[EncodedKey, Row], Any]
"""Makes the value of a row, or `ENOVAL` of one that cannot be had."""

_ENCODED_MODES: Final = frozenset({MODE_DATA, MODE_PICKLE, MODE_JSON})
_MISSING: Final[Found] = (ENOVAL, None, None)


class ReadingMethods(Front, Foundation):
    """Where memory, codec and engine meet on the way of a read."""

    # -- Answers --

    def _get(self, key: Any, default: Any, read: bool, expire_time: bool, tag: bool) -> Any:
        if type(key) in DIRECT and not (read or expire_time or tag or self._notes is not None):
            if not self._tier.is_new(key):
                return self._get_again(key, default)
            encoded = self._encode_key(key)
            row = self._engine.get(encoded, self._now())
            if row is None:
                return default
            value = row[VALUE]
            if row[MODE] != MODE_RAW or value is None or not self._is_plain:
                value = self._load(encoded, row)
            return default if value is ENOVAL else value
        value, expires, label = self._fetch(key, read)
        if value is ENOVAL:
            value, expires, label = default, None, None
        if not expire_time and not tag:
            return value
        return (value, *((expires,) if expire_time else ()), *((label,) if tag else ()))

    def _get_again(self, key: Any, default: Any) -> Any:
        """Return the value of a key that is its own place, and was asked for before."""
        now = self._now()
        held = self._tier.find(key)
        if held is not None and is_hit(held):
            found = self._as_found(held, now)
            if found is not None:
                return default if found[0] is ENOVAL else found[0]
        value = self._read_and_keep(key, self._encode_key(key), now, None)[0]
        return default if value is ENOVAL else value

    def _get_more(
        self,
        key: Any,
        default: Any,
        read: bool,
        expire_time: bool,
        tag: bool,
        version: bool,
        stale: bool,
    ) -> Any:
        """Read an entry with what memory does not hold, or one that may have expired."""
        encoded, now = self._encode_key(key), self._now()
        row = self._engine.get(encoded, now)
        value, row = (ENOVAL, row) if row is None else self._load_row(encoded, row, read)
        if self._counts:
            self._count_read(key, value)
        if value is ENOVAL and stale:
            found = self._engine.find_stale(encoded, now)
            if found is not None and found[1] != HOLD_FAILED:
                value, row = self._load_row(encoded, found[0], read)
        if value is ENOVAL or row is None:
            value, row = default, None
        asked = ((expire_time, EXPIRE_TIME), (tag, TAG), (version, VERSION))
        more = [None if row is None else row[column] for wanted, column in asked if wanted]
        if version and row is not None and type(more[-1]) is not int:
            # What a stranger wrote is the version of nothing.
            more[-1] = 0
        return (value, *more) if more else value

    def _contains(self, key: Any) -> bool:
        now = self._now()
        place, encoded = self._place(key)
        held = self._tier.find(place)
        if held is not None and is_hit(held):
            expires = held[EXPIRES]
            return held[HELD_VALUE] is not ENOVAL and (expires is None or expires > now)
        if encoded is None:
            encoded = self._encode_key(key)
        if held is None and self._tier.is_new(place):
            return self._engine.contains(encoded, now)
        seen = self._engine.look(encoded, now, noting=False)
        self._keep_presence(place, encoded, seen)
        return seen[0] is not None

    def _fetch(self, key: Any, read: bool = False, load: Load | None = None) -> Found:
        """Return what is stored under a key, and count that.

        Args:
            key: The key.
            read: Open the file of a value that is kept in one.
            load: Decodes in place of `_load`.
        """
        now = self._now()
        if read or not self._tier.limit:
            found = self._read_through(self._encode_key(key), now, read, load)
        else:
            found = self._recall(key, now, load)
        if self._counts:
            self._count_read(key, found[0])
        return found

    def _count_read(self, key: Any, value: Any) -> None:
        """Count a read; called only where reads are counted, or told."""
        del key
        self._engine.record(0 if value is ENOVAL else 1, 1 if value is ENOVAL else 0)

    def _choose_noter(self) -> None:
        """Settle what notes a hit of the fast way, whenever a setting has changed."""
        self._counts = bool(self._settings["statistics"] or self._listeners)
        self._notes = LONG_WAY if self._counts or self._engine.records_reads else None
        self.__dict__.pop("_note_hit", None)
        note = quick_noter(self._engine, self._settings, self._clock)
        book = self._engine.book
        if note is not None:
            self._notes = COUNTED if self._counts or book is None else book.pen
            self.__dict__["_note_hit"] = note
        if self._listeners:
            self._notes = LONG_WAY
            self.__dict__.update(telling_methods(self, self._listeners))

    def _note_hit(self, key: Any, held: Held) -> None:
        """Note a hit of the fast way, whatever there is to note."""
        del key
        is_there = held[HELD_VALUE] is not ENOVAL
        if is_there and self._engine.records_reads:
            self._engine.note_read(held[MARK].key, self._now())
        if self._settings["statistics"]:
            tally = held[SOURCE].tally
            if is_there:
                tally.hits += 1
            else:
                tally.misses += 1
            if tally.hits + tally.misses >= FULL:
                self._engine.record(0, 0)

    def _note_promptly(self, key: Any, held: Held) -> bool:
        """Note a hit unless that means to write down; tell whether it is noted."""
        del key
        engine, tally = self._engine, held[SOURCE].tally
        if tally.hits + tally.misses + 1 >= FULL:
            return False
        is_there = held[HELD_VALUE] is not ENOVAL
        if (
            is_there
            and engine.records_reads
            and not engine.note_promptly(held[MARK].key, self._now())
        ):
            return False
        if self._settings["statistics"]:
            if is_there:
                tally.hits += 1
            else:
                tally.misses += 1
        return True

    # -- Without memory --

    def _is_raw(self, row: Row) -> bool:
        """Tell whether the value in a row is the value itself, and nobody has to verify it."""
        return row[MODE] == MODE_RAW and row[VALUE] is not None and self._is_plain

    def _read_through(
        self, encoded: EncodedKey, now: float, read: bool = False, load: Load | None = None
    ) -> Found:
        row = self._engine.get(encoded, now)
        if row is None:
            return _MISSING
        if self._is_raw(row):
            return row[VALUE], row[EXPIRE_TIME], row[TAG]
        if load is not None:
            value = load(encoded, row)
        elif row[FILE] is None:
            value = self._load(encoded, row)
        else:
            value, row = self._load_row(encoded, row, read)
        return value, row[EXPIRE_TIME], row[TAG]

    def _load_row(self, key: EncodedKey, row: Row, read: bool) -> tuple[Any, Row]:
        """Return the value of a row, `ENOVAL` if it cannot be had, and the row that it is of.

        That is another one, if a writer replaced the entry before its file was opened.
        """
        loaded = self._load(key, row, read, self._unpack_beside)
        return (ENOVAL, row) if loaded is ENOVAL else loaded

    def _unpack_beside(self, row: Row, read: bool, key: EncodedKey) -> tuple[Any, Row]:
        return self._unpack(row, read, key), row

    # -- With memory --

    def _place(self, key: Any) -> tuple[Any, EncodedKey | None]:
        """Return where a key is kept, and the key encoded if that was needed to tell."""
        place = place_of(key)
        if place is not None:
            return place, None
        encoded = self._encode_key(key)
        return place_of_encoded(encoded), encoded

    def _recall(self, key: Any, now: float, load: Load | None) -> Found:
        """Answer from memory, or from the engine; keep what is read a second time."""
        tier = self._tier
        place, encoded = self._place(key)
        held = tier.find(place)
        if held is not None:
            found = self._as_found(held, now) if is_hit(held) else None
            if found is not None:
                return found
        if encoded is None:
            encoded = self._encode_key(key)
        if held is None and tier.is_new(place):
            return self._read_through(encoded, now, load=load)
        return self._read_and_keep(place, encoded, now, load)

    def _as_found(self, held: Held, now: float) -> Found | None:
        """Return what a hit says; None if it cannot be decoded any more."""
        expires, value, decode = held[EXPIRES], held[HELD_VALUE], held[DECODE]
        if value is ENOVAL or (expires is not None and expires <= now):
            return _MISSING
        if decode is _not_loaded:
            return None
        if decode is not None:
            try:
                value = decode(value)
            except (UntrustedPickleError, CodecError):
                return None
        if self._engine.records_reads:
            self._engine.note_read(held[MARK].key, now)
        return value, expires, held[HELD_TAG]

    def _read_and_keep(
        self, place: Any, encoded: EncodedKey, now: float, load: Load | None
    ) -> Found:
        seen = self._engine.look(encoded, now)
        row: Any = seen[0]
        if row is None:
            self._keep(place, encoded, seen, None, ENOVAL)
            return _MISSING
        value, expires, label = row[VALUE], row[EXPIRE_TIME], row[TAG]
        if row[MODE] == MODE_RAW and value is not None and self._is_plain:
            _, source, slot, generation = seen
            if source is not None:
                under = source, slot, generation
                self._keep_raw(place, encoded, under, value, expires, label)
            return value, expires, label
        if load is not None:
            value = load(encoded, row)
        else:
            loaded = self._load(encoded, row, unpack=self._unpack_inline)
            value, row = (ENOVAL, row) if loaded is ENOVAL else loaded
        if value is not ENOVAL:
            self._keep(place, encoded, seen, row, value)
        return value, row[EXPIRE_TIME], row[TAG]

    def _unpack_inline(self, row: Row, read: bool, key: EncodedKey) -> tuple[Any, Row]:
        """Return the value of a row, and the row as it would be if its file were a part of it."""
        file = row[FILE]
        # The engine has checked the columns of a row without a value.
        if (
            file is not None
            and row[VALUE] is None
            and self._is_plain
            and row[MODE] & ~GUARD in _ENCODED_MODES
            and row[SIZE] <= self._tier.largest
        ):
            content = self._files.read(file, row[SIZE], row[4])
            row = (row[MODE], content, None, 0, None, *row[5:])
        return self._unpack(row, read, key), row

    def _keep_presence(self, place: Any, encoded: EncodedKey, seen: Seen) -> None:
        """Keep that there is an entry, or none, without its value."""
        row, source, slot, generation = seen
        if row is None or self._is_raw(row):
            self._keep(place, encoded, seen, row, ENOVAL if row is None else row[VALUE])
        elif source is not None:
            expires, label, cost = row[EXPIRE_TIME], row[TAG], OVERHEAD + getsizeof(encoded[0])
            self._tier.keep(
                place,
                (source, slot, generation, expires, None, _not_loaded, label, cost, Mark(encoded)),
            )

    def _keep(
        self, place: Any, encoded: EncodedKey, seen: Seen, row: Row | None, value: Any
    ) -> None:
        """Keep what was read, if that can be told to be of one generation."""
        _, source, slot, generation = seen
        if source is None:
            return
        expires: float | None = None
        label: Tag = None
        decode: Callable[[Any], Any] | None = None
        cost = shared_cost(value)
        if row is not None:
            expires, label = row[EXPIRE_TIME], row[TAG]
            if cost is None:
                if row[FILE] is not None:
                    return
                data = row[VALUE]
                cost = getsizeof(data)
                if row[MODE] == MODE_DATA and self._is_plain:
                    value, decode = data, loads
                else:
                    value, decode = row, _decoder(self._unpack, encoded)
        cost = (cost or 0) + getsizeof(encoded[0]) + OVERHEAD
        if place is not encoded[0]:
            cost += getsizeof(place)
        self._tier.keep(
            place, (source, slot, generation, expires, value, decode, label, cost, Mark(encoded))
        )

    def _keep_raw(
        self,
        place: Any,
        encoded: EncodedKey,
        under: tuple[Source, int, int],
        value: Any,
        expires: float | None,
        label: Tag,
    ) -> None:
        """Do as `_keep` for the most common values, which are themselves in the database."""
        cost = getsizeof(value) + getsizeof(encoded[0]) + OVERHEAD
        if place is not encoded[0]:
            cost += getsizeof(place)
        self._tier.keep(place, (*under, expires, value, None, label, cost, Mark(encoded)))

    def _keep_stored(
        self,
        key: Any,
        encoded: EncodedKey,
        payload: Payload,
        expires: float | None,
        label: Tag,
        source: Source,
        slot: int,
        generation: int,
    ) -> None:
        """Keep what was just stored under a key that is its own place, as if it was read.

        Not what might read as something else.
        """
        mode, data, _ = payload
        if not self._is_plain or (label is not None and type(label) is not str):
            return
        # Not floats: the database does not tell -0.0 from 0.0.
        if mode == MODE_RAW and type(data) in DIRECT:
            self._keep_raw(key, encoded, (source, slot, generation), data, expires, label)
        elif mode == MODE_DATA and type(data) is bytes:
            row: Row = (mode, data, None, 0, None, expires, label, 0, 0)
            self._keep(key, encoded, (row, source, slot, generation), row, loads(data))


def _not_loaded(_: Any) -> Any:
    """Stand where a value would be decoded, for an entry of which only the presence is known."""


def _decoder(
    unpack: Callable[[Row, bool, EncodedKey], Any], key: EncodedKey
) -> Callable[[Any], Any]:
    """Return what makes a value of a row that is kept. It must not refer to the cache."""
    return lambda row: unpack(row, False, key)
