"""Values under a signature, whatever they are: what `authenticate='all'` writes.

A sealed value is an envelope as `signing` specifies it, in the role `sealed`, with the payload

    mode (1 byte) | kind (1 byte) | content

where *mode* is how the value would be stored otherwise, compressed or not, and *kind* says what the
content is: `s` text in UTF-8, `b` bytes, `i` an integer of 8 bytes, signed, big-endian, `f` a
double, big-endian. A pickle is not sealed: it has a signature of its own.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from diskcache.codecs.base import KIND, MODE_PICKLE, MODE_SEALED, Native
from diskcache.errors import CodecError, UntrustedPickleError

SIGNED_MODES: Final = frozenset({MODE_PICKLE, MODE_SEALED})
"""Kinds of values whose bytes are bound to the key of their entry."""

_DOUBLE: Final = Struct(">d")
_LONG: Final = Struct(">q")


def is_signed(mode: int) -> bool:
    """Tell whether the bytes of a value are bound to the key of its entry, compressed or not."""
    return mode & KIND in SIGNED_MODES


def wrapped(mode: int, data: Native) -> bytes:
    """Return what is signed for an encoded value."""
    if isinstance(data, str):
        kind, content = b"s", data.encode()
    elif isinstance(data, int):
        kind, content = b"i", _LONG.pack(data)
    elif isinstance(data, float):
        kind, content = b"f", _DOUBLE.pack(data)
    else:
        kind, content = b"b", data
    return b"%c%b%b" % (mode, kind, content)


def unwrapped(payload: bytes) -> tuple[int, Native]:
    """Return the mode and the encoded value that `wrapped` was given.

    Raises:
        CodecError: It was not.
    """
    kind, content = payload[1:2], payload[2:]
    value: Any
    if kind == b"b":
        value = content
    elif kind == b"s":
        value = content.decode()
    elif kind == b"i" and len(content) == _LONG.size:
        (value,) = _LONG.unpack(content)
    elif kind == b"f" and len(content) == _DOUBLE.size:
        (value,) = _DOUBLE.unpack(content)
    else:
        raise CodecError(f"cannot decode a sealed value of kind {kind!r}")
    return payload[0], value


def refuse_unsealed(mode: int, label: str) -> None:
    """Refuse a value that carries no signature where all of them must.

    Raises:
        UntrustedPickleError: It carries none.
    """
    if not is_signed(mode):
        raise UntrustedPickleError(
            f"an entry of {label!r} carries no signature and this cache was opened with"
            " authenticate='all'",
            "unsigned",
        )
