"""A clock that stands still until a test moves it."""

from __future__ import annotations

import itertools
import threading
import weakref

_clocks: weakref.WeakValueDictionary[int, ManualClock] = weakref.WeakValueDictionary()
_numbers = itertools.count()


class ManualClock:
    """A `diskcache.clock.Clock` whose time passes only by `advance` and `sleep`.

    Copying or pickling one, inside a process, gives the same clock.

    Args:
        start: Seconds since the epoch that `time` begins with.

    Example:
        >>> from diskcache import Cache
        >>> clock = ManualClock()
        >>> with Cache('of-a-test', clock=clock) as cache:
        ...     cache.set('a', 1, expire=10)
        ...     _ = clock.advance(11)
        ...     cache.get('a')
        True
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._time = start
        self._monotonic = 1000.0
        self._number = next(_numbers)
        _clocks[self._number] = self

    def time(self) -> float:
        """Return wall-clock seconds since the epoch."""
        return self._time

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass at once, so that waiting for a lock costs a test nothing."""
        self.advance(seconds)

    def advance(self, seconds: float) -> float:
        """Let *seconds* pass, and return the new time.

        A negative number sets the clock back, as an administrator may; `monotonic` stays.
        """
        with self._lock:
            self._time += seconds
            self._monotonic += max(seconds, 0)
            return self._time

    def set(self, moment: float) -> None:
        """Set the wall clock to *moment*, as an administrator may; no time passes."""
        with self._lock:
            self._time = moment

    def __reduce__(self) -> tuple[object, ...]:
        return _same_clock, (self._number,)


def _same_clock(number: int) -> ManualClock:
    return _clocks[number]
