"""Serializers: what turns values into text or bytes, chosen by `serializer=`.

Keys are not serialized by them: they keep their one encoding, whatever the serializer is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, cast

from diskcache.codecs.base import MODE_JSON, MODE_RAW, MODE_USER, MODE_USERTEXT, Native
from diskcache.codecs.keys import is_native
from diskcache.codecs.values import ValueCodec, as_text
from diskcache.entry import EncodedKey
from diskcache.errors import SettingError

_NUMBERS: Final = frozenset({int, float})

Pair = tuple[Callable[[Any], Any], Callable[[Any], Any]]


class JSONSerializer:
    """Values as JSON text that other programs and people can read.

    An object that JSON does not know, but that has a method `__json__`, is written as what that
    method returns. What comes back is what JSON keeps: tuples are lists, keys of dicts are text.

    Example:
        >>> json_serializer.dumps({'a': (1, 2)})
        '{"a": [1, 2]}'
    """

    def dumps(self, value: Any) -> str:
        """Return *value* as JSON text.

        Raises:
            TypeError: It, or a part of it, is of a type that JSON does not know.
            ValueError: It contains itself.
        """
        text = json.dumps(value, ensure_ascii=False, default=_by_method)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                # Halves of characters cannot be stored as text, only escaped.
                return json.dumps(value, default=_by_method)
        return text

    def loads(self, data: str | bytes) -> Any:
        """Return what JSON text stands for."""
        return json.loads(data)

    def __reduce__(self) -> str | tuple[Any, ...]:
        # A string tells pickle to look the object up by this name in its module.
        return "json_serializer" if type(self) is JSONSerializer else (type(self), ())

    def __repr__(self) -> str:
        return "json_serializer"


def _by_method(value: Any) -> Any:
    method = getattr(type(value), "__json__", None)
    if method is None:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return method(value)


json_serializer: Final = JSONSerializer()
"""Pass it as `serializer=` to keep values as readable JSON text."""


class JSONCodec(ValueCodec):
    """Writes values as JSON text, numbers as they are; reads whatever a directory holds."""

    def encode(self, value: Any, key: bytes | EncodedKey) -> tuple[int, Native]:
        """Return the mode number and the data to store for *value*."""
        kind = type(value)
        if kind in _NUMBERS and is_native(value, kind):
            return MODE_RAW, value
        return MODE_JSON, json_serializer.dumps(value)


class UserCodec(ValueCodec):
    """Writes values by a serializer of the user; reads whatever a directory holds."""

    def __init__(self, pair: Pair, **options: Any) -> None:
        super().__init__(**options)
        self._dumps, self._loads = pair

    def encode(self, value: Any, key: bytes | EncodedKey) -> tuple[int, Native]:
        """Return the mode number and the data to store for *value*."""
        data = self._dumps(value)
        if isinstance(data, str):
            return MODE_USERTEXT, str(data)
        if isinstance(data, (bytes, bytearray, memoryview)):
            return MODE_USER, bytes(data)
        raise TypeError(f"dumps of a serializer must return str or bytes: got {type(data)!r}")

    def decode(self, mode: int, data: Native, key: bytes | EncodedKey) -> Any:
        """Return the value that `encode` made *data* of."""
        if mode == MODE_USER:
            return self._loads(data)
        if mode == MODE_USERTEXT:
            return self._loads(as_text(data))
        return super().decode(mode, data, key)


def checked(serializer: Any) -> Any:
    """Return a serializer in a form that can be pickled with a cache.

    Raises:
        SettingError: It is no serializer.
    """
    if serializer is None or type(serializer) is JSONSerializer:
        return serializer
    if isinstance(serializer, ModuleType) and hasattr(serializer, "dumps"):
        serializer = serializer.dumps, getattr(serializer, "loads", None)
    if not all(map(callable, _pair(serializer))):
        raise SettingError(
            "serializer must be json_serializer, an object with dumps and loads, or a pair of"
            f" such functions: got {serializer!r}"
        )
    return serializer


def _pair(serializer: Any) -> tuple[Any, ...]:
    if isinstance(serializer, (tuple, list)):
        return tuple(serializer) if len(serializer) == 2 else (None,)
    return getattr(serializer, "dumps", None), getattr(serializer, "loads", None)


def make_codec(serializer: Any, **options: Any) -> ValueCodec:
    """Return the codec of a cache with this serializer, which is `checked`; None for none."""
    if serializer is None:
        return ValueCodec(**options)
    if type(serializer) is JSONSerializer:
        return JSONCodec(**options)
    return UserCodec(cast("Pair", _pair(serializer)), **options)


def is_foreign(serializer: Any) -> bool:
    """Tell whether values can be read only by somebody who has this serializer."""
    return serializer is not None and type(serializer) is not JSONSerializer


def name_of(serializer: Any) -> str:
    """Return what a directory is marked with; nothing where any other cache can read it.

    Functions count by module and name, objects by their class.
    """
    if not is_foreign(serializer):
        return ""
    if isinstance(serializer, (tuple, list)):
        return "/".join(map(_name_of_function, serializer))
    kind = serializer if isinstance(serializer, type) else type(serializer)
    return kind.__name__


def _name_of_function(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    if name is None:
        return type(function).__name__
    module = str(getattr(function, "__module__", "")).rpartition(".")[2]
    # The same program may be the main module here and an imported one there.
    return name if module.startswith("__") or not module else f"{module}.{name}"
