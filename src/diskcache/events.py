"""Events: what happened to the entries of a cache, and who wants to hear of it.

Implementation note. What happens while a thread is in an operation, or in a transaction, waits in a
list of that thread until the outermost one is over: then no lock is held, and it is known whether
it came to stay. A transaction that is rolled back takes its events with it, but for errors.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from diskcache.bridging import drop, keep
from diskcache.entry import Tag
from diskcache.sentinels import UNKNOWN

log: Final = logging.getLogger("diskcache")

EVENTS: Final = ("hit", "miss", "set", "delete", "evict", "cull", "expire", "error")
"""Names of events."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to entries of a cache, as a function given to `on` is told.

    Attributes:
        name: `'hit'`, `'miss'`, `'set'`, `'delete'`, `'evict'`, `'cull'`, `'expire'` or `'error'`.
        key: Key of the entry; `UNKNOWN` where several are meant, or the key may not be loaded.
        tag: Of `'set'`, the tag of the entry; of `'evict'`, the tag that was evicted.
        count: How many entries.
        error: Of `'error'`, the exception.
        young: Of `'cull'`, how many of them had been stored less than ten seconds before: the limit
            is too small for what is stored.
    """

    name: str
    key: Any = UNKNOWN
    tag: Tag = None
    count: int = 1
    error: BaseException | None = None
    young: int = 0


Listener: TypeAlias = Callable[[Event], object]


class _Here(threading.local):
    """What one thread is about."""

    depth = 0
    """Operations and transactions that it is in."""

    def __init__(self) -> None:
        self.waiting: list[tuple[object, Event]] = []


_telling: Final[ContextVar[frozenset[Listeners]]] = ContextVar(
    "diskcache_telling", default=frozenset()
)
"""Whose listeners the caller is one of."""


class Listeners:
    """The functions that want to hear of the events of one object. Thread-safe.

    Changes of them are not: that is for whoever makes them.

    Args:
        label: Names the object in the log.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._functions: dict[str, tuple[Listener, ...]] = {}
        self._here = _Here()

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._functions)

    def add(self, name: str, function: Listener) -> None:
        """Have a function told."""
        self._functions[name] = (*self._functions.get(name, ()), function)

    def remove(self, name: str, function: Listener) -> None:
        """Have a function told no more; once, if it was added twice."""
        rest = list(self._functions.get(name, ()))
        if function in rest:
            rest.remove(function)
        if rest:
            self._functions[name] = tuple(rest)
        else:
            self._functions.pop(name, None)

    def wants(self, name: str) -> bool:
        """Tell whether an event would be told: not if a listener caused it."""
        return name in self._functions and self not in _telling.get()

    @property
    def depth(self) -> int:
        """How many operations and transactions this thread is in."""
        return self._here.depth

    def enter(self) -> None:
        """Let events of this thread wait."""
        here = self._here
        if not here.depth:
            # Tasks of this thread that run while the operation waits are about something else.
            keep(here)
            here.waiting = []
        here.depth += 1

    def leave(self) -> None:
        """Tell what waits, if this was the outermost operation of the thread."""
        here = self._here
        here.depth -= 1
        if here.depth <= 0:
            drop(here)
            waiting, here.waiting = here.waiting, []
            for _, event in waiting:
                self._tell(event)

    def forget(self, origin: object) -> None:
        """Drop what waits and came from one place, errors excepted: it was rolled back."""
        here = self._here
        here.waiting = [
            (found, event)
            for found, event in here.waiting
            if found is not origin or event.name == "error"
        ]

    def happened(self, event: Event, origin: object = None) -> None:
        """Tell an event, now or when the outermost operation of this thread is over."""
        if not self.wants(event.name):
            return
        if self._here.depth > 0:
            self._here.waiting.append((origin, event))
        else:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        # Threads that work for the listener, of an event loop for example, know of it too.
        token = _telling.set(_telling.get() | {self})
        try:
            for function in self._functions.get(event.name, ()):
                try:
                    function(event)
                except BaseException as exc:
                    # The caller must not pay for a listener, but may be interrupted.
                    if not isinstance(exc, Exception):
                        raise
                    log.exception(
                        "cache %s: a listener of event %s failed: %r",
                        self._label,
                        event.name,
                        function,
                    )
        finally:
            _telling.reset(token)
