"""Reads that memory answers: the fast way of `get`, `[]` and `in`, for every kind of cache.

The three ways repeat each other on purpose: a call more would cost a quarter of a hit. Everything
that is rare is one call away, in the class that inherits from this one: misses, values that
each caller gets a copy of, keys that have to be encoded, open transactions.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from diskcache.cache.shapes import Shapes, shaped_as
from diskcache.codecs.plain import loads
from diskcache.coherence import COUNTED, LAST_HIT
from diskcache.errors import CodecError
from diskcache.memory.tier import COST, DECODE, DIRECT, PARTS, Held, Tier, is_hit, place_of
from diskcache.memory.tier import EXPIRES as HELD_EXPIRES
from diskcache.memory.tier import VALUE as HELD_VALUE
from diskcache.sentinels import ENOVAL, UNKNOWN

PROMPT: Final = 2**15
"""Bytes of a value up to which it is decoded by who must not wait: a tenth of a millisecond."""


class Front:
    """What stands before a cache and answers what the memory tier knows."""

    _tier: Tier
    _now: Callable[[], float]
    _notes: object | None
    """What marks show where hits are noted by no more than a look at the mark; None if hits need
    not be noted, for neither the statistics nor the eviction policy."""
    _note_hit: Callable[[Any, Held], None]
    _get: Callable[[Any, Any, bool, bool, bool], Any]
    """Answers what memory cannot answer, or not by itself: key, and four arguments of `get`."""
    _get_more: Callable[[Any, Any, bool, bool, bool, bool, bool], Any]
    """The same, with the two arguments that only `get` has."""
    _contains: Callable[[Any], bool]
    _note_promptly: Callable[[Any, Held], bool]
    """Notes a hit as `_note_hit` does, unless something has to be written down: then it returns
    False."""

    @shaped_as(Shapes.get)
    def get(  # noqa: C901 - a call more would cost a quarter of a hit
        self,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
        *,
        version: bool = False,
        stale: bool = False,
    ) -> Any:
        """Return the value of *key*, or *default* if it has no live entry.

        Cost: a look-up in memory if this process has read the entry and nobody has written it
        since; otherwise one point read. Never a lock.

        Args:
            key: Key to look up.
            default: What to return for a missing or expired entry.
            read: Return an open binary file, if the value is bytes kept in a file; its `name` is
                the real path, and the caller closes it.
            expire_time: Also return when the entry expires, seconds since the epoch or None.
            tag: Also return the tag.
            retry: Accepted for symmetry; reading waits for nobody.
            version: Also return the version, for `set(if_version=…)`; reads the database.
            stale: Return a value that has expired too, if it was stored with a grace that is not
                over; reads the database.

        Returns:
            The value, or a tuple of the value and what was asked for besides, in the order of
            the arguments. A miss fills the same shape with *default* and None.

        Example:
            >>> cache.set('k', 'v', tag='t')
            True
            >>> cache.get('k'), cache.get('k', tag=True), cache.get('missing', 0)
            ('v', ('v', 't'), 0)
        """
        kind = type(key)
        if kind is str or kind is int or kind is bytes:
            held = self._tier.young.get(key)
            if held is not None:
                source, slot, generation, expires, value, decode, _, _, mark = held
                if (
                    source.words[slot] == generation
                    and (moment := monotonic()) < source.look_at
                    and (expires is None or expires > self._now())
                    and decode is None
                    and not (read or expire_time or tag or version or stale)
                ):
                    notes = self._notes
                    if notes is not None:
                        if mark.timed_by is notes:
                            mark.at = moment
                        elif mark.counted_by is notes:
                            mark.reads += 1.0
                        elif (
                            notes is COUNTED
                            and value is not ENOVAL
                            and (tally := source.tally).hits < LAST_HIT
                        ):
                            tally.hits += 1
                        else:
                            self._note_hit(key, held)
                    return default if value is ENOVAL else value
        if version or stale:
            return self._get_more(key, default, read, expire_time, tag, version, stale)
        return self._get(key, default, read, expire_time, tag)

    def __getitem__(self, key: Any) -> Any:  # noqa: C901 - as `get`
        """Return the value of *key*.

        Cost: as `get`.

        Raises:
            KeyError: It has no live entry.
        """
        kind = type(key)
        if kind is str or kind is int or kind is bytes:
            held = self._tier.young.get(key)
            if held is not None:
                source, slot, generation, expires, value, decode, _, _, mark = held
                if (
                    source.words[slot] == generation
                    and (moment := monotonic()) < source.look_at
                    and (expires is None or expires > self._now())
                    and decode is None
                    and value is not ENOVAL
                ):
                    notes = self._notes
                    if notes is not None:
                        if mark.timed_by is notes:
                            mark.at = moment
                        elif mark.counted_by is notes:
                            mark.reads += 1.0
                        elif notes is COUNTED and (tally := source.tally).hits < LAST_HIT:
                            tally.hits += 1
                        else:
                            self._note_hit(key, held)
                    return value
        value = self._get(key, ENOVAL, False, False, False)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def __contains__(self, key: Any) -> bool:
        """Tell whether *key* has a live entry, without loading or counting it.

        Cost: as `get`.
        """
        kind = type(key)
        if kind is str or kind is int or kind is bytes:
            held = self._tier.young.get(key)
            if held is not None:
                source, slot, generation, expires, value, _, _, _, _ = held
                if (
                    source.words[slot] == generation
                    and monotonic() < source.look_at
                    and (expires is None or expires > self._now())
                ):
                    return value is not ENOVAL
        return self._contains(key)

    def _result(self, key: tuple[Any, ...]) -> Any:
        """Return what is cached of a call, `ENOVAL` if nothing is; mostly from memory."""
        value = self._hit(key) if PARTS.issuperset(map(type, key)) else UNKNOWN
        return self._get(key, ENOVAL, False, False, False) if value is UNKNOWN else value

    def _recalled(self, key: tuple[Any, ...]) -> Any:
        """Return what memory knows of a call: its result, or `ENOVAL`, or else `UNKNOWN`."""
        return self._hit(key) if PARTS.issuperset(map(type, key)) else UNKNOWN

    def _hit(self, key: Any) -> Any:
        """Return the value in memory at a place; `ENOVAL` if it is known that there is no entry.

        Returns:
            `UNKNOWN` if it is for the slow way to find out.
        """
        held = self._tier.young.get(key)
        if held is not None:
            source, slot, generation, expires, value, decode, _, _, mark = held
            if (
                source.words[slot] == generation
                and (moment := monotonic()) < source.look_at
                and (expires is None or expires > self._now())
                and decode is None
            ):
                notes = self._notes
                if notes is not None:
                    if mark.timed_by is notes:
                        mark.at = moment
                    elif mark.counted_by is notes:
                        mark.reads += 1.0
                    elif (
                        notes is COUNTED
                        and value is not ENOVAL
                        and (tally := source.tally).hits < LAST_HIT
                    ):
                        tally.hits += 1
                    else:
                        self._note_hit(key, held)
                return value
        return UNKNOWN

    # -- For those who must not wait, the threads of event loops --

    def _promptly(self, key: Any) -> Any:
        """Return what memory says of a key, without a lock, a system call or a long computation.

        Returns:
            The value; `ENOVAL` if it is known that there is no entry; `UNKNOWN` if it is for the
            slow way to find out.
        """
        held = self._held(key)
        if held is None:
            return UNKNOWN
        value, decode = held[HELD_VALUE], held[DECODE]
        if decode is not None:
            if decode is not loads or held[COST] > PROMPT:
                return UNKNOWN
            try:
                value = loads(value)
            except CodecError:
                return UNKNOWN
        if self._notes is not None and not self._note_promptly(key, held):
            return UNKNOWN
        return value

    def _contains_promptly(self, key: Any) -> Any:
        """Return whether memory knows of a live entry; `UNKNOWN` if it is not known there."""
        held = self._held(key)
        return UNKNOWN if held is None else held[HELD_VALUE] is not ENOVAL

    def _held(self, key: Any) -> Held | None:
        """Return what is in memory of a key, if it is a hit and has not expired."""
        place = key if type(key) in DIRECT else place_of(key)
        if place is None:
            return None
        held = self._tier.find(place)
        if held is None or not is_hit(held):
            return None
        expires = held[HELD_EXPIRES]
        return held if expires is None or expires > self._now() else None
