"""An engine that lets reads miss and stores nothing, for whoever bypasses the cache."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from diskcache.coherence import Keep, Seen
from diskcache.engines.base import Put
from diskcache.entry import DbValue, EncodedKey, Only, Payload, Row, Tag
from diskcache.errors import SettingError
from diskcache.files import ValueFiles

VARIABLE: Final = "DISKCACHE_DISABLE"
"""Environment variable that bypasses every cache that is opened."""

_OFF: Final = frozenset({"", "0", "false", "no", "off"})
_ON: Final = frozenset({"1", "true", "yes", "on"})

_bypassed: Final[ContextVar[frozenset[Switch]]] = ContextVar(
    "diskcache_bypassed", default=frozenset()
)


def is_disabled() -> bool:
    """Tell whether the environment says that caches are to be bypassed.

    Raises:
        SettingError: It says something else.
    """
    found = os.environ.get(VARIABLE, "").strip().lower()
    if found not in _ON | _OFF:
        raise SettingError(
            f"environment variable {VARIABLE} must be 1 or 0 (also true, yes, on, false, no, off):"
            f" got {os.environ[VARIABLE]!r}"
        )
    return found in _ON


class Switch:
    """Whether one object is bypassed, here: in this thread, or this task."""

    def __init__(self) -> None:
        self.blocks = 0
        """Blocks that are open anywhere in the process."""
        self.is_always_on = False

    def is_on(self) -> bool:
        """Tell whether the caller bypasses the object."""
        return self.is_always_on or self in _bypassed.get()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Return a block in which the caller does."""
        token = _bypassed.set(_bypassed.get() | {self})
        try:
            yield
        finally:
            _bypassed.reset(token)


class BypassingEngine:
    """An `Engine` that does what another one does, or nothing, as a switch says.

    It is as if the cache were empty, and forgot at once what is stored. Removals, queues, listings
    and all that is not about the entry of one key are left to the other engine.

    Args:
        engine: The engine that does the work.
        switch: Says for whom it does none.
        files: Where staged values are, which are removed.
    """

    def __init__(self, engine: Any, switch: Switch, files: ValueFiles) -> None:
        self.bare = engine
        self._switch = switch
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)

    def get(self, key: EncodedKey, now: float) -> Row | None:
        """Return nothing."""
        row: Row | None = None if self._switch.is_on() else self.bare.get(key, now)
        return row

    def look(self, key: EncodedKey, now: float, *, noting: bool = True) -> Seen:
        """Return nothing, and that it must not be kept."""
        if self._switch.is_on():
            return None, None, 0, 0
        seen: Seen = self.bare.look(key, now, noting=noting)
        return seen

    def find_stale(self, key: EncodedKey, now: float) -> tuple[Row, int] | None:
        """Return nothing."""
        found: tuple[Row, int] | None = (
            None if self._switch.is_on() else self.bare.find_stale(key, now)
        )
        return found

    def contains(self, key: EncodedKey, now: float) -> bool:
        """Tell that there is nothing."""
        return not self._switch.is_on() and bool(self.bare.contains(key, now))

    def get_many(self, keys: Sequence[EncodedKey], now: float) -> list[Row | None]:
        """Return nothing for each key."""
        if self._switch.is_on():
            return [None] * len(keys)
        rows: list[Row | None] = self.bare.get_many(keys, now)
        return rows

    def put(
        self,
        key: EncodedKey,
        payload: Payload,
        expire_time: float | None,
        tag: Tag,
        now: float,
        wait: float | None,
        only: Only | int = Only.ALWAYS,
        keep: Keep | None = None,
    ) -> bool:
        """Throw an entry away."""
        if self._switch.is_on():
            self._files.discard(payload[2])
            return True
        stored: bool = self.bare.put(key, payload, expire_time, tag, now, wait, only, keep)
        return stored

    def put_many(
        self, puts: Iterable[Put], now: float, wait: float | None, only: Only = Only.ALWAYS
    ) -> int:
        """Throw entries away."""
        if not self._switch.is_on():
            stored: int = self.bare.put_many(puts, now, wait, only)
            return stored
        count = 0
        for put in puts:
            self._files.discard(put[1][2])
            count += 1
        return count

    def touch(
        self, key: EncodedKey, expire_time: float | None, now: float, wait: float | None
    ) -> bool:
        """Tell that there is nothing."""
        return not self._switch.is_on() and bool(self.bare.touch(key, expire_time, now, wait))

    def hold_off(self, key: EncodedKey, version: int, until: float, wait: float | None) -> None:
        """Do nothing."""
        if not self._switch.is_on():
            self.bare.hold_off(key, version, until, wait)

    def incr(
        self,
        key: EncodedKey,
        delta: float,
        default: float | None,
        expire_time: float | None,
        tag: Tag,
        now: float,
        wait: float | None,
    ) -> DbValue:
        """Return what a number that is not there becomes."""
        if self._switch.is_on():
            if default is None:
                raise KeyError(key)
            return default + delta
        total: DbValue = self.bare.incr(key, delta, default, expire_time, tag, now, wait)
        return total

    def pop(self, key: EncodedKey, now: float, wait: float | None, load: Any) -> Any:
        """Remove an entry, and return nothing."""
        if self._switch.is_on():
            self.bare.delete(key, now, wait)
            return None
        return self.bare.pop(key, now, wait, load)
