"""The memoizing wrappers: of functions, generators, and their asynchronous kinds.

A hit of a plain function runs few functions in Python (`tests/unit/test_memory_tier.py` counts
them). Everything else is behind it: in `diskcache.computing`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, TypeVar, cast

from diskcache.computing.calls import Calls, Key, Load, MakeKey, attach
from diskcache.computing.terms import Terms
from diskcache.computing.ways import Blocking, Store, run
from diskcache.keys import args_to_key, full_name
from diskcache.memotypes import AsyncMemoized, CallInfo, Memoized, Memoizer, is_awaited
from diskcache.sentinels import ENOVAL

__all__ = [
    "AsyncMemoized",
    "CallInfo",
    "Memoized",
    "Memoizer",
    "check_name",
    "key_maker",
    "memoizer",
]

Func = TypeVar("Func", bound=Callable[..., Any])


def check_name(name: object) -> None:
    """Refuse a function given as *name*: the parentheses of the decorator were forgotten.

    Raises:
        TypeError: *name* is callable.
    """
    if callable(name):
        raise TypeError("name cannot be callable")


# -- Keys ------------------------------------------------------------------------------------


def key_maker(
    func: Callable[..., Any],
    *,
    name: str | None,
    typed: bool,
    ignore: Collection[int | str],
    key: Callable[..., Any] | str | None = None,
    version: object = None,
) -> MakeKey:
    """Return the function that makes keys of positional and keyword arguments.

    Args:
        func: The function that is called with them.
        name: Starts the keys; the full name of *func* if None.
        typed: Keep arguments of different types apart.
        ignore: Positions and names of arguments that are not part of the key.
        key: Makes what follows the name, instead of the arguments themselves.
        version: Part of the name.

    Raises:
        ValueError: *key* is given together with *typed* or *ignore*.
    """
    base = (key_name(func, name, version),)
    if key is not None:
        if typed or ignore:
            raise ValueError("key makes the whole key: leave out typed and ignore")
        return _own_key_maker(func, base, key)
    ignored = _ignored(func, ignore)
    takes_all = not (typed or ignored)

    def make_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key:
        # What `args_to_key` does with the most common calls.
        if takes_all and not kwargs:
            return (*base, *args, None)
        if takes_all and len(kwargs) == 1:
            (item,) = kwargs.items()
            return (*base, *args, None, *item)
        return args_to_key(base, args, kwargs, typed, ignored)

    return make_key


def key_name(func: Callable[..., Any], name: str | None, version: object) -> str:
    """Return what the keys of a function start with."""
    start = full_name(func) if name is None else name
    return start if version is None else f"{start} version {version}"


def _own_key_maker(
    func: Callable[..., Any], base: tuple[str], key: Callable[..., Any] | str
) -> MakeKey:
    if callable(key):
        return lambda args, kwargs: (*base, key(*args, **kwargs))
    signature = inspect.signature(func)
    template = key

    def make_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return (*base, template.format(**bound.arguments))

    return make_key


def _ignored(func: Callable[..., Any], ignore: Collection[int | str]) -> frozenset[int | str]:
    """Return positions and names of ignored arguments, whichever way they are passed.

    A parameter that may be passed by position or by name is left out in both cases, by whichever
    of the two it is given here.
    """
    ignored = frozenset(ignore)
    if not ignored:
        return ignored
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


# -- The decorator ---------------------------------------------------------------------------


def memoizer(
    store: Store,
    terms: Terms,
    *,
    load: Load,
    recall: Load | None = None,
    name: str | None,
    typed: bool,
    ignore: Collection[int | str],
    key: Callable[..., Any] | str | None = None,
    version: object = None,
) -> Memoizer:
    """Return a decorator that looks for results in *store*, and keeps them there on *terms*.

    Args:
        store: Where results are.
        terms: How they are computed and kept.
        load: Returns the result under a key, or `ENOVAL`.
        recall: The same, from memory alone; `UNKNOWN` if that does not know.
        name: Starts the keys; the full name of the function if None.
        typed: Keep arguments of different types apart.
        ignore: Positions and names of arguments that are not part of the key.
        key: As for `key_maker`.
        version: As for `key_maker`.
    """

    def decorate(func: Any) -> Any:
        if isinstance(func, (classmethod, staticmethod)):
            return type(func)(decorate(func.__func__))
        make_key = key_maker(func, name=name, typed=typed, ignore=ignore, key=key, version=version)
        calls = Calls(store, terms, load, recall, make_key, key_name(func, name, version))
        if is_awaited(func) or inspect.isasyncgenfunction(func):
            # Event loops take long to import.
            from diskcache.computing.asynchronous import wrapped

            return wrapped(func, calls)
        if inspect.isgeneratorfunction(func):
            return _generator(func, calls)
        return _controlled(_function(func, calls), func, calls)

    return cast("Memoizer", decorate)


# -- Functions -------------------------------------------------------------------------------


def _function(func: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    if calls.terms.is_plain:
        return _plain_function(func, calls)
    make_key, load, tally = calls.make_key, calls.load, calls.tally
    computer, store = calls.computer, calls.store
    if calls.terms.refresh is not None:

        @functools.wraps(func)
        def refreshing(*args: Any, **kwargs: Any) -> Any:
            key = make_key(args, kwargs)
            return run(computer.get(Blocking(store), key, partial(func, *args, **kwargs)))

        return refreshing

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        key = make_key(args, kwargs)
        result = load(key)
        if result is ENOVAL:
            return run(computer.miss(Blocking(store), key, partial(func, *args, **kwargs)))
        tally.hits += 1
        return result

    return wrapper


def _plain_function(func: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    make_key, load, save, tally = calls.make_key, calls.load, calls.save, calls.tally

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        key = make_key(args, kwargs)
        result = load(key)
        if result is ENOVAL:
            result = func(*args, **kwargs)
            save(key, result)
        else:
            tally.hits += 1
        return result

    return wrapper


def _controlled(wrapper: Func, func: Callable[..., Any], calls: Calls) -> Func:
    """Give a wrapper the functions that control it."""
    store, make_key, computer = calls.store, calls.make_key, calls.computer

    def invalidate(*args: Any, **kwargs: Any) -> bool:
        return store.drop(make_key(args, kwargs))

    def refresh(*args: Any, **kwargs: Any) -> Any:
        call = partial(func, *args, **kwargs)
        return run(computer.renew(Blocking(store), make_key(args, kwargs), call))

    def peek(*args: Any, **kwargs: Any) -> Any:
        return calls.load(make_key(args, kwargs))

    def clear() -> int:
        return store.drop_calls(calls.name)

    attach(wrapper, calls, invalidate, refresh, peek, clear)
    vars(wrapper)["bypass"] = func
    return wrapper


def _generator(func: Callable[..., Iterator[Any]], calls: Calls) -> Callable[..., Any]:
    """Wrap a generator: its items are made first, and then handed out."""

    def collect(*args: Any, **kwargs: Any) -> list[Any]:
        return list(func(*args, **kwargs))

    inner: Any = _controlled(_function(collect, calls), collect, calls)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from inner(*args, **kwargs)

    def refresh(*args: Any, **kwargs: Any) -> Iterator[Any]:
        # No generator itself: what is asked for is done, whether anybody iterates or not.
        return _replayed(inner.refresh(*args, **kwargs))

    attach(wrapper, calls, inner.invalidate, refresh, inner.peek, inner.clear)
    vars(wrapper)["bypass"] = func
    return wrapper


def _replayed(items: list[Any]) -> Iterator[Any]:
    yield from items
