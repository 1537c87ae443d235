"""The memoizing wrapper: one implementation for everything that has `get` and `set`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from diskcache.keys import args_to_key, full_name
from diskcache.sentinels import ENOVAL

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Memoized(Protocol[P, R_co]):
    """A function whose results are cached."""

    __wrapped__: Callable[P, Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the cached result of the call, or make and cache it."""
        ...

    def __cache_key__(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Any, ...]:
        """Return the key under which the result of the call is cached.

        Of a method it is asked through the class, and given the object:
        `Class.method.__cache_key__(object, ...)`.
        """
        ...

    @overload
    def __get__(self, instance: None, owner: type, /) -> Memoized[P, R_co]: ...
    @overload
    def __get__(
        self: Memoized[Concatenate[S, Q], R_co], instance: S, owner: type | None = None, /
    ) -> Callable[Q, R_co]: ...
    def __get__(self, instance: Any, owner: Any = None, /) -> Any:
        """Return the method of *instance*, as functions do: their first argument is the object."""
        ...


def check_name(name: object) -> None:
    """Refuse a function given as *name*: the parentheses of the decorator were forgotten.

    Raises:
        TypeError: *name* is callable.
    """
    if callable(name):
        raise TypeError("name cannot be callable")


def key_maker(
    func: Callable[..., Any], *, name: str | None, typed: bool, ignore: Collection[int | str]
) -> Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, ...]]:
    """Return the function that makes keys of positional and keyword arguments.

    Args:
        func: The function that is called with them.
        name: Starts the keys; the full name of *func* if None.
        typed: Keep arguments of different types apart.
        ignore: Positions and names of arguments that are not part of the key.
    """
    base = (full_name(func) if name is None else name,)
    ignored = _ignored(func, ignore)
    takes_all = not (typed or ignored)

    def make_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        # What `args_to_key` does with the most common calls.
        if takes_all and not kwargs:
            return (*base, *args, None)
        if takes_all and len(kwargs) == 1:
            (item,) = kwargs.items()
            return (*base, *args, None, *item)
        return args_to_key(base, args, kwargs, typed, ignored)

    return make_key


def _ignored(func: Callable[..., Any], ignore: Collection[int | str]) -> frozenset[int | str]:
    """Return positions and names of ignored arguments, whichever way they are passed.

    A parameter that may be passed by position or by name is left out in both cases, by whichever
    of the two it is given here.
    """
    ignored = frozenset(ignore)
    if not ignored:
        return ignored
    import inspect

    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        # Some functions written in C do not tell: they are taken by the word of *ignore*.
        return ignored
    more: set[int | str] = set()
    for position, parameter in enumerate(parameters):
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            break
        if parameter.name in ignored:
            more.add(position)
        elif position in ignored and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            more.add(parameter.name)
    return ignored | more


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
    make_key = key_maker(func, name=name, typed=typed, ignore=ignore)

    def cache_key(*args: P.args, **kwargs: P.kwargs) -> tuple[Any, ...]:
        return make_key(args, kwargs)

    @functools.wraps(func)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        key = make_key(args, kwargs)
        result: R = load(key)
        if result is ENOVAL:
            result = func(*args, **kwargs)
            save(key, result)
        return result

    wrapper.__cache_key__ = cache_key  # type: ignore[attr-defined]
    return cast("Memoized[P, R]", wrapper)
