"""Where time comes from: a clock that can be replaced, so that tests need not sleep."""

from __future__ import annotations

import time as _time
from typing import Final, Protocol


class Clock(Protocol):
    """What the library asks of a clock."""

    def time(self) -> float:
        """Return wall-clock seconds since the epoch; expiry is judged by it."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back; waiting is measured by it."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass; waiting for a lock is spent here."""
        ...


def uptime(clock: Clock) -> float:
    """Return seconds that all processes of a machine agree on, and that never go back.

    A clock that has no such time of its own gives `monotonic` instead.
    """
    seconds: float = getattr(clock, "uptime", clock.monotonic)()
    return seconds


class SystemClock:
    """The machine's clock.

    `time.time` is looked up at each call, so replacing it in a test takes effect.
    """

    __slots__ = ()

    def time(self) -> float:
        """Return wall-clock seconds since the epoch."""
        return _time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return _time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread for *seconds*."""
        _time.sleep(seconds)

    def uptime(self) -> float:
        """Return seconds since the machine started, time asleep included.

        All processes of a machine agree on it, and setting the clock does not change it.
        """
        if hasattr(_time, "CLOCK_BOOTTIME"):
            return _time.clock_gettime(_time.CLOCK_BOOTTIME)
        return _time.monotonic()  # pragma: no cover - other platform


SYSTEM_CLOCK: Final = SystemClock()
