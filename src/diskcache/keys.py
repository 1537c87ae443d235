"""Keys that the library makes itself: of memoized calls, and of queues.

The encoding of keys to bytes is in `diskcache.codecs.keys`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

QUEUE_START: Final = 500_000_000_000_000
"""Number of the first entry of an empty queue: room for half a quadrillion on each side."""

QUEUE_DIGITS: Final = 15
"""Digits of a queue number in a key with a prefix; zero-padded, so text order is number order."""

QUEUE_END: Final = 10**QUEUE_DIGITS - 1
"""Queue numbers lie strictly between 0 and this."""


def full_name(func: Callable[..., Any]) -> str:
    """Return the module and qualified name of a function: the base of its memoize keys.

    Raises:
        TypeError: It has none, as a `functools.partial`.

    Example:
        >>> full_name(full_name)
        'diskcache.keys.full_name'
    """
    try:
        return func.__module__ + "." + func.__qualname__
    except AttributeError:
        raise TypeError(f"{func!r} has no name to start a key with: pass name=") from None


def args_to_key(
    base: tuple[Any, ...],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    typed: bool,
    ignore: Collection[int | str],
) -> tuple[Any, ...]:
    """Return the cache key of a call.

    The key is *base*, the positional arguments, None, and the sorted keyword arguments as a flat
    run of names and values; with *typed* their types follow.

    Args:
        base: Starts the key; usually a 1-tuple of the function's name.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.
        typed: Keep arguments of different types apart.
        ignore: Positions and names of arguments that are left out.

    Example:
        >>> args_to_key(('f',), (1, 2), {'b': 3, 'a': 4}, False, {1, 'b'})
        ('f', 1, None, 'a', 4)
    """
    if ignore:
        args = tuple(arg for index, arg in enumerate(args) if index not in ignore)
        kwargs = {name: value for name, value in kwargs.items() if name not in ignore}
    key = (*base, *args, None)
    if kwargs:
        items = sorted(kwargs.items())
        for item in items:
            key += item
    else:
        items = []
    if typed:
        key += tuple(type(arg) for arg in args)
        key += tuple(type(value) for _, value in items)
    return key


def queue_bounds(prefix: str | None) -> tuple[int, int] | tuple[str, str]:
    """Return the two keys strictly between which the keys of a queue lie."""
    if prefix is None:
        return 0, QUEUE_END
    return queue_key(prefix, 0), queue_key(prefix, QUEUE_END)  # type: ignore[return-value]


def queue_key(prefix: str | None, number: int) -> int | str:
    """Return the key of a queue entry.

    Example:
        >>> queue_key('jobs', 500000000000000)
        'jobs-500000000000000'
    """
    if prefix is None:
        return number
    return f"{prefix}-{number:0{QUEUE_DIGITS}d}"


def queue_number(prefix: str | None, key: object) -> int | float | None:
    """Return the number in a queue key, or None where *key* does not end in one."""
    if prefix is None:
        return key if isinstance(key, (int, float)) else None
    if not isinstance(key, str):
        return None
    tail = key[len(prefix) + 1 :]
    # A shorter number would sort elsewhere than where it counts.
    is_number = len(tail) == QUEUE_DIGITS and tail.isascii() and tail.isdigit()
    return int(tail) if is_number else None
