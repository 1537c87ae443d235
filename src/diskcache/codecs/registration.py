"""`register`: types of users become plain data, without pickle and without a key to sign with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from diskcache.codecs import plain_ext as ext
from diskcache.codecs.registered import BY_NAME, BY_TYPE, Registered
from diskcache.errors import RegistrationError

T = TypeVar("T")

MAX_NAME: Final = 255
"""Characters of a name; it is stored with each value."""

_lock = threading.Lock()


def register(
    kind: type[T],
    dumps: Callable[[T], Any] | None = None,
    loads: Callable[[Any], T] | None = None,
    *,
    name: str | None = None,
) -> type[T]:
    """Make values of a type plain data: stored without pickle, readable wherever it is registered.

    Such a value needs no key to sign with, may be anywhere inside other plain data, and is a key
    if its equal values have equal states. Only the exact type is meant, not its subclasses. The
    registration is of this process and of what it forks; call it where the class is defined, so
    that every process that imports the class has it.

    Without *dumps* and *loads* they are derived, for an enum, a named tuple, a dataclass, an
    `attrs` class, a pydantic model, and data frames and series of pandas and polars (which need
    `pip install "diskcache[arrow]"`). The state of a class with fields is a dict of them, so a
    field with a default may be added later.

    What *loads* receives comes from the directory: whoever can write there chooses it. It is always
    plain data, but *loads* must check it, and must not run, import or open what it names. Whatever
    it raises makes the entry one that cannot be decoded.

    Args:
        kind: The type.
        dumps: Returns a value's state: anything plain, registered types included.
        loads: Returns the value of a state, of exactly this type.
        name: What values are marked with; by default module and name of the class, as
            `'shop.models.Money'`. It must stay the same for as long as values are stored.

    Returns:
        The type, so that it can be used as a decorator.

    Raises:
        RegistrationError: It is no type, is plain data already, or is registered; the name is in
            use; or nothing can be derived.

    Example:
        >>> class Money:
        ...     def __init__(self, cents):
        ...         self.cents = cents
        >>> register(Money, lambda m: m.cents, lambda state: Money(int(state)), name="Money")
        <class '...Money'>
        >>> cache['price'] = Money(250)
        >>> cache['price'].cents
        250
        >>> unregister(Money)
    """
    _check_type(kind)
    if (dumps is None) != (loads is None):
        raise RegistrationError(
            f"{kind!r} must be registered with both dumps and loads, or with neither"
        )
    if name is None:
        name = f"{kind.__module__}.{kind.__qualname__}"
    _check_name(name)
    if dumps is None or loads is None:
        from diskcache.codecs.derived import derive

        entry = Registered(kind, name, *derive(kind))
    else:
        _check_functions(kind, dumps, loads)
        entry = Registered(kind, name, dumps, loads, dumps)
    with _lock:
        _check_free(kind, name)
        BY_NAME[name] = entry
        BY_TYPE[kind] = entry
    return kind


def unregister(kind: object) -> None:
    """Undo `register`, for example before a class is defined anew in a notebook.

    Values that are stored stay, and cannot be decoded until the name is registered again.

    Raises:
        RegistrationError: The type is not registered.
    """
    with _lock:
        entry = BY_TYPE.pop(kind, None) if isinstance(kind, type) else None
        if entry is None:
            raise RegistrationError(f"{kind!r} is not registered")
        del BY_NAME[entry.name]


def _check_type(kind: object) -> None:
    if not isinstance(kind, type):
        raise RegistrationError(f"register takes a type: got {kind!r} of {type(kind)!r}")
    is_plain = kind in ext.SCALARS or kind in ext.CONTAINERS or ext.resolve(kind) is not None
    if is_plain or kind in ext.IMPOSTORS:
        raise RegistrationError(f"{kind!r} needs no registration: it has an encoding of its own")


def _check_name(name: object) -> None:
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= MAX_NAME
        or not name.isprintable()
        or name != name.strip()
    ):
        raise RegistrationError(
            f"name must be a printable str of 1 to {MAX_NAME} characters: got {name!r}"
        )


def _check_functions(kind: type[Any], dumps: object, loads: object) -> None:
    for title, function in (("dumps", dumps), ("loads", loads)):
        if not callable(function):
            raise RegistrationError(f"{title} for {kind!r} must be callable: got {function!r}")


def _check_free(kind: type[Any], name: str) -> None:
    known = BY_TYPE.get(kind)
    if known is not None:
        raise RegistrationError(
            f"{kind!r} is registered already, as {known.name!r}: register it once, or unregister it"
        )
    other = BY_NAME.get(name)
    if other is not None:
        raise RegistrationError(
            f"the name {name!r} is that of {other.kind!r} already: got {kind!r}; pass another"
            " name=, or unregister the other"
        )
