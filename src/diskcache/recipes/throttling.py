"""A decorator that limits how often a function is called, over all threads and processes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from diskcache.entry import Tag
from diskcache.errors import RateLimitError
from diskcache.keys import full_name
from diskcache.memoizing import check_name
from diskcache.memotypes import is_awaited
from diskcache.recipes.rows import CacheLike, Cell
from diskcache.sentinels import ENOVAL

P = ParamSpec("P")
R = TypeVar("R")


def throttle(
    cache: CacheLike,
    count: float,
    seconds: float,
    name: str | None = None,
    expire: float | None = None,
    tag: Tag = None,
    time_func: Callable[[], float] | None = None,
    sleep_func: Callable[[float], object] | None = None,
    *,
    blocking: bool = True,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that lets at most *count* calls through per *seconds*, on average.

    A bucket holds up to *count* tokens, and *count* new ones drop into it evenly every *seconds*.
    A call takes one, and sleeps until there is one. The bucket is an entry that everyone who
    decorates a function of the same name shares; decorating anew, or starting another process,
    does not refill it. If the entry is gone, or expired, it is full.

    Cost: of a call, one write transaction.

    Args:
        cache: Where the bucket is.
        count: Calls per *seconds*; also how many may follow each other at once. At least 1.
        seconds: More than 0.
        name: Key of the bucket; None for the full name of the function.
        expire: Seconds until the bucket expires, from the last call on; None for never.
        tag: Tag of the bucket; `evict` does not remove it.
        time_func: Returns the time in seconds; by default the clock of the cache, `time.time`. A
            clock that is set back costs nothing but the tokens of that moment.
        sleep_func: Called with the seconds to wait; by default that of the clock, `time.sleep`.
            For a coroutine function `asyncio.sleep`, or what gives something to await.
        blocking: Sleep. False raises instead.

    Raises:
        TypeError: *name* is a function.
        ValueError: *count* is less than 1, or *seconds* not above 0.
        RateLimitError: By a call: there is no token, and *blocking* is false.
        KeyInUseError: By a call: the key is that of an entry that is not a bucket.

    Example:
        >>> from diskcache import throttle
        >>> @throttle(cache, count=2, seconds=60, blocking=False)
        ... def ask(question):
        ...     return 42
        >>> ask('why'), ask('how')
        (42, 42)
        >>> ask('when')
        Traceback (most recent call last):
            ...
        diskcache.errors.RateLimitError: ...
    """
    check_name(name)
    if not count >= 1 or not seconds > 0:
        raise ValueError(
            "count must be a number of calls, 1 or more, and seconds above 0:"
            f" got {count!r} and {seconds!r}"
        )

    def decorator(func: Callable[P, R]) -> Callable[P, R]:
        key = full_name(func) if name is None else name
        bucket = _Bucket(Cell(cache, key, tag), count, seconds, expire, time_func)
        bucket.make()

        def step() -> float:
            """Take a token and return 0, or return how long to sleep."""
            delay = bucket.take()
            if delay > 0 and not blocking:
                raise RateLimitError(
                    f"{key!r} was called more than {count} times in {seconds} seconds:"
                    f" call again in {delay:.3f} seconds",
                    delay,
                )
            return delay

        if is_awaited(func):
            from diskcache.recipes.coroutines import throttled

            return cast(
                "Callable[P, R]",
                throttled(func, step, sleep_func, bucket.cell.clock, cache.directory),
            )
        sleep = bucket.cell.clock.sleep if sleep_func is None else sleep_func

        @functools.wraps(func)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            while (delay := step()) > 0:
                sleep(delay)
            return func(*args, **kwargs)

        return wrapper

    return decorator


class _Bucket:
    """The moment of the last look, and the tokens that there were: an entry `(moment, tokens)`."""

    def __init__(
        self,
        cell: Cell,
        size: float,
        seconds: float,
        expire: float | None,
        time_func: Callable[[], float] | None,
    ) -> None:
        self.cell = cell
        self._size = size
        self._rate = size / seconds
        self._expire = expire
        self._time = cell.clock.time if time_func is None else time_func
        # A user's function may use the cache.
        self._is_own_time = time_func is None

    def make(self) -> None:
        """Make a full bucket, if there is none."""
        self.cell.change(self._made, expire=self._expire, alone=self._is_own_time)

    def take(self) -> float:
        """Take a token and return 0, or return how long it will be until there is one."""
        return self.cell.change(self._taken, expire=self._expire, alone=self._is_own_time)

    def _made(self, value: Any) -> tuple[Any, None]:
        return ((self._time(), self._size) if value is ENOVAL else value), None

    def _taken(self, value: Any) -> tuple[Any, float]:
        now = self._time()
        last, tokens = self._parsed(value, now)
        # A moment to come is one before the clock was set back.
        tokens = min(tokens + max(now - last, 0) * self._rate, self._size)
        if tokens >= 1:
            return (now, tokens - 1), 0
        return ((now, tokens) if now < last else value), (1 - tokens) / self._rate

    def _parsed(self, value: Any, now: float) -> tuple[float, float]:
        match value:
            case (int() | float() as last, int() | float() as tokens):
                return last, tokens
        if value is ENOVAL:
            return now, self._size
        raise self.cell.refuse(value, "throttle")
