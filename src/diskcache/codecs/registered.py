"""Types of users as plain data: the tables of registered types, and both ways of code 33.

The payload of code 33 is the array (name, state): the name that the type was registered under, and
whatever plain data its *dumps* returned. Reading passes the state to the *loads* of that name;
where the process knows no such name, the value cannot be read there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from diskcache.errors import CodecError, UnavailableError

Triple: TypeAlias = tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any]]
"""dumps, loads, and dumps for keys."""


class Registered(NamedTuple):
    """A type and how its values become plain data."""

    kind: type[Any]
    name: str
    dumps: Callable[[Any], Any]
    loads: Callable[[Any], Any]
    key_dumps: Callable[[Any], Any]
    """Like *dumps*, without what equality of values ignores: equal keys must be equal bytes."""


BY_TYPE: Final[dict[type[Any], Registered]] = {}
BY_NAME: Final[dict[str, Registered]] = {}
"""The same entries; both change under the lock of `registration` alone."""


class _Trouble(threading.local):
    """What a hook raised in this thread: the library replaces it by an error that says nothing."""

    exc: BaseException | None = None


_trouble = _Trouble()


def note_trouble(exc: BaseException) -> BaseException:
    """Remember *exc*, which a hook is about to raise, for `take_trouble`."""
    _trouble.exc = exc
    return exc


def take_trouble() -> BaseException | None:
    """Return, once, what a hook raised while this thread was decoding."""
    exc, _trouble.exc = _trouble.exc, None
    return exc


def nearest_base(kind: type[Any]) -> type[Any] | None:
    """Return the registered type that *kind* derives from, if there is one."""
    return next((base for base in kind.__mro__[1:] if base in BY_TYPE), None)


def build(items: list[Any]) -> Any:
    """Return the value of a name and a state.

    Raises:
        UnavailableError: No type is registered under the name in this process.
        CodecError: The state makes no sense to *loads*.
    """
    name, state = items
    entry = BY_NAME.get(name) if type(name) is str else None
    if entry is None:
        raise note_trouble(
            UnavailableError(
                f"a value is of the type registered as {name!r}, which is not registered in this"
                " process: call diskcache.register before reading it"
            )
        )
    try:
        value = entry.loads(state)
    except BaseException as exc:
        note_trouble(exc)
        raise
    if type(value) is not entry.kind:
        raise note_trouble(
            CodecError(
                f"loads of the type registered as {name!r} must return {entry.kind!r}:"
                f" got {type(value)!r}"
            )
        )
    return value
