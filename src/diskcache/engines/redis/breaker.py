"""A circuit breaker: a server that is away is not waited for by every operation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from diskcache.errors import ServerUnavailableError

FAILURES: Final = 3
"""Failures in a row after which the server is left alone."""
FIRST_PAUSE: Final = 0.5
"""Seconds until the first attempt after that."""
LONGEST_PAUSE: Final = 15.0
"""Seconds between two attempts at most; each failed one doubles them."""


class Breaker:
    """Lets operations pass, or refuses them at once while the server is known to be away.

    Closed: all pass. After `FAILURES` in a row it opens: all are refused for a pause. Then one may
    try; if it succeeds, the breaker closes, else the pause is doubled. Thread-safe.

    Args:
        monotonic: Where time comes from.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._try_at = 0.0
        self._why = ""

    @property
    def is_open(self) -> bool:
        """Whether operations are refused, or would be but for one that tries."""
        return self._failures >= FAILURES

    def enter(self) -> None:
        """Let an operation pass.

        Raises:
            ServerUnavailableError: It is refused.
        """
        if self._failures < FAILURES:
            return
        with self._lock:
            now = self._monotonic()
            if self._failures >= FAILURES and now < self._try_at:
                raise ServerUnavailableError(
                    f"{self._why} (not tried again for {self._try_at - now:.1f} seconds)"
                )
            self._try_at = now + self._pause

    def succeed(self) -> None:
        """Note that the server answered."""
        if self._failures:
            with self._lock:
                self._failures, self._pause = 0, FIRST_PAUSE

    def fail(self, exc: ServerUnavailableError) -> None:
        """Note that it did not."""
        with self._lock:
            self._failures += 1
            self._why = str(exc)
            if self._failures > FAILURES:
                self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._try_at = self._monotonic() + self._pause
