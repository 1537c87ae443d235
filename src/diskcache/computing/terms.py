"""On which terms values are computed, kept and served."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import isnan
from typing import Any, TypeAlias

from diskcache.entry import Tag
from diskcache.memotypes import is_awaited

Seconds: TypeAlias = float | timedelta
Expire: TypeAlias = Seconds | Callable[[Any], "Seconds | None"] | None


def seconds_of(value: Seconds | None) -> float | None:
    """Return a duration in seconds; None for none."""
    return value.total_seconds() if isinstance(value, timedelta) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On which terms values are computed, kept and served. `Cache.get_or_set` describes them."""

    expire: Expire = None
    tag: Tag = None
    lock: bool = True
    lock_timeout: float | None = None
    share_errors: bool = True
    grace: Seconds | None = None
    backoff: Seconds | None = None
    refresh: float | None = None
    soft_timeout: float | None = None
    hard_timeout: float | None = None
    jitter: float | None = None
    when: Callable[[Any], object] | None = None
    errors: Mapping[type[Exception], Seconds] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ValueError: A number is out of range, or options do not go together.
            TypeError: What must be called cannot be.
        """
        for name in ("lock_timeout", "soft_timeout", "hard_timeout"):
            _check_seconds(name, getattr(self, name))
        _check_seconds("grace", seconds_of(self.grace))
        _check_seconds("backoff", seconds_of(self.backoff))
        _check_errors(self.errors)
        for name in ("refresh", "jitter"):
            value = getattr(self, name)
            if value is not None and not hasattr(value, "__float__"):
                raise TypeError(f"{name} must be a fraction from 0 to 1, or None: got {value!r}")
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be a fraction from 0 to 1, or None: got {value!r}")
        for name in ("backoff", "soft_timeout"):
            if getattr(self, name) is not None and self.grace is None:
                raise ValueError(f"{name} needs grace: there is nothing to serve without it")
        if self.refresh is not None and self.expire is None:
            raise ValueError("refresh needs expire: what never expires is never early")
        _check_when(self.when)
        _check_expire(self.expire)

    @property
    def is_plain(self) -> bool:
        """Whether a miss needs nothing but the call and a `set`."""
        return self == Terms(expire=self.expire, tag=self.tag, lock=False) and not (
            callable(self.expire) or isinstance(self.expire, timedelta)
        )

    def lifetime(self, value: Any, *, spread: bool = False) -> float | None:
        """Return the seconds that a value lives; with *spread* shortened at random by `jitter`."""
        expire = self.expire
        seconds = seconds_of(expire(value) if callable(expire) else expire)
        if seconds is None or isnan(seconds):
            return None
        if not spread or not self.jitter:
            return seconds
        return seconds * (1 - self.jitter * random.random())

    def memory_of(self, exc: Exception) -> float | None:
        """Return how long an exception is remembered, in seconds; None if it is not."""
        # Of a class and its bases, both named, the class counts.
        kinds = [kind for kind in type(exc).__mro__ if kind in self.errors]
        return seconds_of(self.errors[kinds[0]]) if kinds else None


def _check_when(when: Any) -> None:
    if when is not None and not callable(when):
        raise TypeError(f"when must be a function of the result: got {when!r}")
    _check_called("when", when)


def _check_called(name: str, func: Any) -> None:
    if is_awaited(func):
        raise TypeError(
            f"{name} must be called, not awaited: got the coroutine function {func!r}; await what"
            " it needs in the function that computes"
        )


def _check_expire(expire: Any) -> None:
    # A number is known by what makes a float of it; text is none.
    is_number = hasattr(expire, "__float__") or isinstance(expire, timedelta)
    if not (expire is None or is_number or callable(expire)):
        raise TypeError(
            "expire must be a number of seconds, a timedelta, a function of the result that returns"
            f" either, or None: got {expire!r}"
        )
    _check_called("expire", expire)


def _check_errors(errors: Mapping[Any, Seconds]) -> None:
    if not isinstance(errors, Mapping):
        raise TypeError(
            f"errors must be a mapping of classes of exceptions to seconds: got {errors!r}"
        )
    for kind, seconds in errors.items():
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(f"errors must name classes of exceptions: got {kind!r}")
        _check_seconds(f"errors[{kind.__name__}]", seconds_of(seconds))


def _check_seconds(name: str, value: Any) -> None:
    if value is not None and not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number of seconds, or None: got {value!r}")
    if value is not None and not value >= 0:
        raise ValueError(f"{name} must be a number of seconds, 0 or more, or None: got {value!r}")
