"""How `register` derives *dumps* and *loads*: enums, named tuples, classes with fields, frames.

Nothing is imported to find out: a class of a library is one only if its library is loaded.
States are dicts of fields, so that a class may gain fields that have defaults. Values are built by
calling the class, so what it checks is checked; a field that its constructor does not take is set
afterwards. A class whose values could not come back equal is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import Enum, Flag
from typing import Any, NamedTuple

from diskcache.codecs.registered import Triple
from diskcache.errors import CodecError, NotPlainError, RegistrationError


class Field(NamedTuple):
    """One field of a class."""

    name: str
    argument: str | None
    """What the constructor calls it; None if it does not take it."""
    compared: bool
    """Whether two values that differ here alone are different."""
    optional: bool
    """Whether a value can be made without it."""


def derive(kind: type[Any]) -> Triple:
    """Return the functions for a type.

    Raises:
        RegistrationError: It is of no kind that is known here, or keeps more than its fields.
        MissingExtraError: It is a frame, and Arrow is not installed.
    """
    if issubclass(kind, Enum):
        return _of_flag(kind) if issubclass(kind, Flag) else _of_enum(kind)
    if _is_model(kind):
        return _of_model(kind)
    if "__attrs_attrs__" in vars(kind):
        return _of_fields(kind, _attrs_fields(kind))
    if "__dataclass_fields__" in vars(kind):
        return _of_fields(kind, _dataclass_fields(kind))
    if issubclass(kind, tuple) and _is_namedtuple(kind):
        return _of_namedtuple(kind)
    if kind.__module__.partition(".")[0] in ("pandas", "polars", "pyarrow"):
        from diskcache.codecs import frames

        return frames.derive(kind)
    raise RegistrationError(
        f"cannot derive how to store {kind!r}: it is no enum, named tuple, dataclass, attrs class,"
        " pydantic model or data frame; pass dumps and loads"
    )


# -- Enums -------------------------------------------------------------------------------------


def _of_enum(kind: Any) -> Triple:
    members = kind.__members__

    def dumps(value: Any) -> Any:
        return value._name_

    def loads(state: Any) -> Any:
        return members[state]

    return dumps, loads, dumps


def _of_flag(kind: Any) -> Triple:
    def dumps(value: Any) -> Any:
        return value._value_

    def loads(state: Any) -> Any:
        if type(state) is not int:
            raise CodecError(f"a flag is an int: got {type(state)!r}")
        return kind(state)

    return dumps, loads, dumps


# -- Named tuples ------------------------------------------------------------------------------


def _is_namedtuple(kind: Any) -> bool:
    names = getattr(kind, "_fields", None)
    return isinstance(names, tuple) and callable(getattr(kind, "_make", None))


def _of_namedtuple(kind: Any) -> Triple:
    names: tuple[str, ...] = kind._fields
    defaults: dict[str, Any] = getattr(kind, "_field_defaults", {})

    def dumps(value: Any) -> dict[str, Any]:
        return dict(zip(names, value, strict=True))

    def loads(state: Any) -> Any:
        if not state.keys() <= set(names):
            raise _unknown(kind, state, names)
        return kind._make([state[n] if n in state else defaults[n] for n in names])

    return dumps, loads, dumps


# -- Classes with fields -----------------------------------------------------------------------


def _dataclass_fields(kind: Any) -> list[Field]:
    from dataclasses import MISSING, fields

    known = fields(kind)
    if len(kind.__dataclass_fields__) > len(known) and _has_init_vars(kind):
        raise RegistrationError(
            f"cannot derive how to store {kind!r}: its constructor takes what is no field"
            " (InitVar); pass dumps and loads"
        )
    return [
        Field(
            field.name,
            field.name if field.init else None,
            field.compare,
            field.default is not MISSING or field.default_factory is not MISSING or not field.init,
        )
        for field in known
    ]


def _has_init_vars(kind: Any) -> bool:
    from dataclasses import InitVar

    return any(isinstance(f.type, InitVar) or "InitVar" in str(f.type)
               for f in kind.__dataclass_fields__.values())  # fmt: skip


def _attrs_fields(kind: Any) -> list[Field]:
    nothing = getattr(sys.modules.get("attr"), "NOTHING", None)
    return [
        Field(
            field.name,
            (getattr(field, "alias", None) or field.name.lstrip("_")) if field.init else None,
            field.eq is True and getattr(field, "eq_key", None) is None,
            field.default is not nothing or not field.init,
        )
        for field in kind.__attrs_attrs__
    ]


def _of_fields(kind: Any, fields: Iterable[Field]) -> Triple:
    known = {field.name: field for field in fields}
    names = tuple(known)
    compared = tuple(field.name for field in known.values() if field.compared)
    needed = [f.name for f in known.values() if not f.compared and not f.optional]

    def dumps(value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in names}

    def key_dumps(value: Any) -> dict[str, Any]:
        if needed:
            raise NotPlainError(
                f"{kind!r}, whose equality ignores {needed[0]!r}, a field without a default, is"
                " not plain data"
            )
        return {name: getattr(value, name) for name in compared}

    def loads(state: Any) -> Any:
        if not state.keys() <= known.keys():
            raise _unknown(kind, state, names)
        return _built(kind, known, state)

    return dumps, loads, key_dumps if len(compared) < len(names) else dumps


def _built(kind: Any, fields: dict[str, Field], state: dict[str, Any]) -> Any:
    """Call the class with the fields that its constructor takes, and set the others."""
    given, late = {}, {}
    for name, item in state.items():
        argument = fields[name].argument
        if argument is None:
            late[name] = item
        else:
            given[argument] = item
    value = kind(**given)
    for name, item in late.items():
        object.__setattr__(value, name, item)
    return value


def _unknown(kind: type[Any], state: Iterable[Any], names: Iterable[str]) -> CodecError:
    extra = sorted(map(str, set(state) - set(names)))
    return CodecError(f"{kind!r} has no field {extra[0]!r}")


# -- Pydantic ----------------------------------------------------------------------------------


def _is_model(kind: type[Any]) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)


def _of_model(kind: Any) -> Triple:
    import inspect

    if "by_name" not in inspect.signature(kind.model_validate).parameters:
        raise RegistrationError(
            f"cannot derive how to store {kind!r}: pydantic 2.11 or newer is needed; pass dumps and"
            " loads"
        )
    if kind.__private_attributes__:
        raise RegistrationError(
            f"cannot derive how to store {kind!r}: it has private attributes; pass dumps and loads"
        )

    def dumps(value: Any) -> dict[str, Any]:
        state: dict[str, Any] = value.model_dump(round_trip=True)
        return state

    def loads(state: Any) -> Any:
        if type(state) is not dict:
            raise CodecError(f"a model is a dict of its fields: got {type(state)!r}")
        return kind.model_validate(state, by_name=True)

    return dumps, loads, dumps
