"""An engine that goes on without its server: reads miss, and what is written is lost."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from diskcache.bridging import keeping
from diskcache.engines.base import Batch, Volume
from diskcache.entry import OpenedWith
from diskcache.errors import (
    CacheFullError,
    ServerReadOnlyError,
    ServerUnavailableError,
    SettingError,
)

log: Final = logging.getLogger("diskcache")

REPORT_EVERY: Final = 60.0
"""Seconds between two log messages about a server that is away."""

TOLERATED: Final = (ServerUnavailableError, ServerReadOnlyError, CacheFullError)

ANSWERS: Final[dict[str, Any]] = {
    "get": None,
    "look": (None, None, 0, 0),
    "contains": False,
    "put": False,
    "delete": False,
    "delete_version": False,
    "touch": False,
    "pop": None,
    "get_many": lambda keys, _: [None] * len(keys),
    "put_many": 0,
    "delete_many": 0,
    "pull": None,
    "edge": None,
    "remove": Batch(0, None),
    "page": lambda *_, **__: [],
    "last_cursor": None,
    "count": 0,
    "rough_count": 0,
    "volume": Volume(0, 0),
    "rough_volume": 0,
    "hits_and_misses": (0, 0),
    "reset_statistics": None,
    "opened_with": lambda: OpenedWith({}, True, None),
    "mark": None,
    "claim": lambda _, value, *__, **___: value,
    "note": None,
    "stored_settings": dict,
    "store_settings": None,
    "open": None,
    "find_stale": None,
    "hold_off": None,
}
"""What is answered in the server's place. What is not here cannot be made up, and raises."""


class _Local(threading.local):
    is_raising = False


class Tolerant:
    """Stands before an engine, and answers for it while its server is away.

    What is done again until it succeeds must not be answered so: it would never end. `raising` is
    for that. `engine` is the engine itself.

    Args:
        engine: The engine.
        monotonic: Where time comes from, for the log.
    """

    def __init__(self, engine: Any, monotonic: Callable[[], float]) -> None:
        self.engine = engine
        self._local = _Local()
        self._monotonic = monotonic
        self._report_at = float("-inf")

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.engine, name)
        if name not in ANSWERS:
            return found
        method = self._tolerating(found, ANSWERS[name])
        vars(self)[name] = method
        return method

    def _tolerating(self, method: Callable[..., Any], answer: Any) -> Callable[..., Any]:
        @functools.wraps(method)
        def tolerant(*args: Any, **keywords: Any) -> Any:
            try:
                return method(*args, **keywords)
            except TOLERATED as exc:
                if self._local.is_raising:
                    raise
                self._report(exc)
                return answer(*args, **keywords) if callable(answer) else answer

        return tolerant

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Return a context in which this thread is told that the server is away."""
        with keeping(self._local):
            before, self._local.is_raising = self._local.is_raising, True
            try:
                yield
            finally:
                self._local.is_raising = before

    def refuse_eviction(self, what: str, *, one_place: bool = False) -> None:
        """Refuse structures, for which a miss would be loss of data; and what the engine refuses.

        Raises:
            SettingError: It is one.
        """
        if one_place:
            raise SettingError(
                f"{what} cannot be kept where a server that is away counts as a miss: connect with"
                " on_error='raise'"
            )
        self.engine.refuse_eviction(what)

    def _report(self, exc: Exception) -> None:
        now = self._monotonic()
        if now >= self._report_at:
            self._report_at = now + REPORT_EVERY
            log.warning("going on without the cache: %s", exc)
