"""The memoizing wrapper: one implementation for everything that has `get` and `set`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

from diskcache.keys import args_to_key, full_name
from diskcache.sentinels import ENOVAL

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Memoized(Protocol, Generic[P, R_co]):
    """A function whose results are cached."""

    __wrapped__: Callable[P, Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the cached result of the call, or make and cache it."""
        ...

    def __cache_key__(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Any, ...]:
        """Return the key under which the result of the call is cached."""
        ...


def check_name(name: object) -> None:
    """Refuse a function given as *name*: the parentheses of the decorator were forgotten.

    Raises:
        TypeError: *name* is callable.
    """
    if callable(name):
        raise TypeError("name cannot be callable")


def memoized(
    func: Callable[P, R],
    *,
    load: Callable[[tuple[Any, ...]], Any],
    save: Callable[[tuple[Any, ...], R], object],
    name: str | None,
    typed: bool,
    ignore: Collection[int | str],
) -> Memoized[P, R]:
    """Wrap *func* so that *load* is asked before it is called, and *save* told after.

    Args:
        func: The function.
        load: Returns what is cached under a key, or `ENOVAL`.
        save: Caches a result under a key.
        name: Starts the keys; the full name of *func* if None.
        typed: Keep arguments of different types apart.
        ignore: Positions and names of arguments that are not part of the key.
    """
    base = (full_name(func) if name is None else name,)
    ignored = frozenset(ignore)

    def cache_key(*args: P.args, **kwargs: P.kwargs) -> tuple[Any, ...]:
        return args_to_key(base, args, kwargs, typed, ignored)

    @functools.wraps(func)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        key = args_to_key(base, args, kwargs, typed, ignored)
        result = load(key)
        if result is ENOVAL:
            result = func(*args, **kwargs)
            save(key, result)
        return cast("R", result)

    wrapper.__cache_key__ = cache_key  # type: ignore[attr-defined]
    return cast("Memoized[P, R]", wrapper)
