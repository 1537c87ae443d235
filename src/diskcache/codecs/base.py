"""How a stored value is told apart: mode numbers, and what a codec has to offer.

The numbers are part of the on-disk format and never change meaning. 0 to 4 are those of
version 5, where 4 was a bare pickle; here 4 is a signed one (`signing`), and 5 is new.
"""

from __future__ import annotations

from typing import Any, Final, Literal, Protocol, TypeAlias

MODE_NONE: Final = 0
"""No value is stored: the row is a marker."""

MODE_RAW: Final = 1
"""The value is the database value itself: int of 64 bits, float, str or bytes."""

MODE_BINARY: Final = 2
"""The value is the content of a file, as bytes or as an open file."""

MODE_TEXT: Final = 3
"""The value is the content of a file, as text in UTF-8."""

MODE_PICKLE: Final = 4
"""The value is a pickle, under a signature unless the cache was opened with pickle='unsafe'."""

MODE_DATA: Final = 5
"""The value is plain data in the encoding that `plain` specifies."""

MODE_JSON: Final = 6
"""The value is JSON text; in a file, in UTF-8."""

MODE_USER: Final = 7
"""The value is bytes that a serializer of the user made."""

MODE_USERTEXT: Final = 8
"""The value is text that a serializer of the user made; in a file, in UTF-8."""

MODE_SEALED: Final = 9
"""The value of any kind, under a signature; see `sealing`."""

ZLIB: Final = 1 << 4
"""Added to a mode whose bytes are compressed by zlib."""

ZSTD: Final = 2 << 4
"""Added to a mode whose bytes are compressed by zstd."""

KIND: Final = 15
"""The bits of a mode that say what a value is, however it is compressed."""

PACKED: Final = ZLIB | ZSTD
"""The bits of a mode that say how a value is compressed; see `compression`."""

_UNPACKED: Final = frozenset({MODE_RAW, MODE_SEALED})
_CONTENTS: Final = frozenset({MODE_BINARY, MODE_TEXT})
_TEXTS: Final = frozenset({MODE_JSON, MODE_USERTEXT})

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

PickleMode: TypeAlias = Literal["signed", "never", "unsafe"]
Native: TypeAlias = int | float | str | bytes
"""What SQLite and Redis keep as it is."""


def is_encoded(mode: object, value: object, *, in_file: bool) -> bool:
    """Tell whether a value can be one that a codec made, and stored with *mode*.

    Args:
        mode: The mode.
        value: What is in the row: None if the bytes are in a file.
        in_file: Whether they are.
    """
    if type(mode) is not int or mode & ~(KIND | PACKED) or mode & PACKED == PACKED:
        return False
    kind = mode & KIND
    if not MODE_RAW <= kind <= MODE_SEALED or (mode & PACKED and kind in _UNPACKED):
        return False
    if in_file:
        return value is None and kind != MODE_RAW
    if kind == MODE_RAW:
        return is_native(value)
    if mode & PACKED:
        return type(value) is bytes
    return kind not in _CONTENTS and type(value) is (str if kind in _TEXTS else bytes)


def inlined(mode: int, content: bytes) -> tuple[int, Native]:
    """Return mode and data of a value whose bytes were in a file, for a place without files.

    Raises:
        ValueError: They should be text, and are not.
    """
    kind = mode & KIND
    if mode & PACKED or kind not in _CONTENTS | _TEXTS:
        return mode, content
    if kind == MODE_BINARY:
        return MODE_RAW, content
    text = content.decode("utf-8")
    return (MODE_RAW if kind == MODE_TEXT else mode), text


def is_native(value: object) -> bool:
    """Tell whether a value is stored as it is."""
    return type(value) in (str, bytes) or is_number(value)


def is_number(value: object) -> bool:
    """Tell whether a value is a number that is stored as it is."""
    if type(value) is int:
        return INT64_MIN <= value <= INT64_MAX
    return type(value) is float and value == value  # noqa: PLR0124 - only a NaN differs


class Codec(Protocol):
    """What turns values and keys into something an engine can keep, and back.

    `key` is always the result of `keys.key_bytes`: signatures are bound to it.
    """

    def encode(self, value: Any, key: bytes) -> tuple[int, Native]:
        """Return the mode number and the data to store for *value*."""

    def decode(self, mode: int, data: Native, key: bytes) -> Any:
        """Return the value that `encode` was given."""

    def encode_key(self, key: Any) -> tuple[Native, int]:
        """Return the database key, and 1 if it is the key itself or 0 if it is encoded."""

    def decode_key(self, db_key: Native, raw: int) -> Any:
        """Return the key that `encode_key` was given, or an equal one."""
