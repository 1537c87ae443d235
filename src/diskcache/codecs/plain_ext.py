"""The extension types of `plain`: what each code's payload holds, both ways.

Encoders here write values as they are; `plain_tree` replaces some of them for keys. Types of
modules that are seldom needed are recognised by name and checked against the module, so that
nothing is imported before such a value exists.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from struct import Struct
from types import NoneType
from typing import Any, Final

import ormsgpack
from ormsgpack import Ext

from diskcache.codecs.names import BUILTIN_TYPES, TypeName
from diskcache.errors import CodecError, NotPlainError
from diskcache.sentinels import ENOVAL, UNKNOWN, Constant

_packb = ormsgpack.packb
_unpackb = ormsgpack.unpackb

EXT_INT: Final = 1
EXT_COMPLEX: Final = 2
EXT_BYTEARRAY: Final = 3
EXT_TEXT: Final = 4
EXT_TUPLE: Final = 5
EXT_SET: Final = 6
EXT_FROZENSET: Final = 7
EXT_DICT: Final = 8
EXT_DATE: Final = 9
EXT_TIME: Final = 10
EXT_DATETIME: Final = 11
EXT_TIMEDELTA: Final = 12
EXT_TIMEZONE: Final = 13
EXT_ZONEINFO: Final = 14
EXT_DECIMAL: Final = 15
EXT_FRACTION: Final = 16
EXT_UUID: Final = 17
EXT_RANGE: Final = 18
EXT_SLICE: Final = 19
EXT_TYPE: Final = 20
EXT_SENTINEL: Final = 21
EXT_NDARRAY: Final = 32
EXT_REGISTERED: Final = 33

OPTIONS: Final = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
"""Everything that the library would write as something else goes to a hook instead."""

MAX_DEPTH: Final = 200
"""Containers inside each other. Far from every recursion limit, of Python and of the library."""

FREE_LEVELS: Final = 8
"""Extension payloads inside each other before their sizes are added up."""

MAX_DEEP_BYTES: Final = 1 << 20
"""Sum of the sizes of open payloads beyond `FREE_LEVELS`: bounds the memory of decoding."""

MAX_FRACTION_BYTES: Final = 8192
"""Size of either part of a Fraction: decoding looks for a common divisor, in quadratic time."""

BIN_MARKS: Final = (0xC4, 0xC5, 0xC6)

SCALARS: Final = frozenset((NoneType, bool, int, float, str, bytes))
CONTAINERS: Final = frozenset((list, tuple, dict, set, frozenset, slice))
_IMPOSTORS: Final = frozenset((bytearray, memoryview, Ext, ormsgpack.Fragment))
"""What the library writes without asking, and never as what it is."""

_HEADERS: Final = bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0)))
"""Every array and map starts with one of these."""

DATE: Final = Struct(">HBB")
TIME: Final = Struct(">BBBBH")
DATETIME: Final = Struct(">HBBBBBBH")
DELTA: Final = Struct(">iII")
COMPLEX: Final = Struct(">dd")
FOLD: Final = 1
ZONE_TIMEZONE: Final = 2
ZONE_ZONEINFO: Final = 4

Encoder = Callable[[Any], Ext]


# -- A closer look at what the library accepted -------------------------------------------------


def may_be_deep(data: bytes) -> bool:
    """Whether *data* has bytes enough that look like container headers to nest too deep."""
    return len(data) - len(data.translate(None, _HEADERS)) > MAX_DEPTH


def is_too_deep(value: Any) -> bool:
    """Whether *value*, which contains itself nowhere, nests deeper than `MAX_DEPTH`."""
    level = [value] if type(value) in CONTAINERS else []
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return True
        deeper: list[Any] = []
        for container in level:
            items = _children(container)
            if not SCALARS.issuperset(map(type, items)):
                deeper += [item for item in items if type(item) in CONTAINERS]
        level = deeper
    return False


def is_inexact(value: Any) -> bool:
    """Whether the library would write *value*, which it accepts, as something else."""
    level = [value] if type(value) in CONTAINERS else []
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return True
        deeper: list[Any] = []
        for container in level:
            items = [*container.values()] if type(container) is dict else _children(container)
            if _is_column(items):
                continue
            kinds = set(map(type, items))
            if kinds <= SCALARS:
                continue
            if kinds & _IMPOSTORS:
                return True
            deeper += [item for item in items if type(item) in CONTAINERS]
        level = deeper
    return type(value) in _IMPOSTORS


def _is_column(items: Any) -> bool:
    """Whether *items* are only numbers or only text, where that can be told fast.

    Adding and joining refuse everything else, and take 5 ns per element; looking at each type
    takes 20 ns, which alone is more than pickling a long list of floats.
    """
    if type(items) is not list or len(items) < 8:
        return False
    kind = type(items[0])
    try:
        if kind is float or kind is int:
            sum(items)
        elif kind is str:
            "".join(items)
        else:
            return False
    except (TypeError, OverflowError):
        return False
    return True


def _children(container: Any) -> Iterable[Any]:
    kind = type(container)
    if kind is dict:
        return [*container, *container.values()]
    if kind is slice:
        return [container.start, container.stop, container.step]
    return container  # type: ignore[no-any-return]


# -- Encoding ----------------------------------------------------------------------------------


def encode_int(value: int) -> Ext:
    """Encode an int that the library cannot hold."""
    return Ext(EXT_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def encode_complex(value: complex) -> Ext:
    """Encode both parts with their signs."""
    return Ext(EXT_COMPLEX, COMPLEX.pack(value.real, value.imag))


def encode_bytearray(value: bytearray) -> Ext:
    """Encode the bytes."""
    return Ext(EXT_BYTEARRAY, bytes(value))


def encode_date(value: Any) -> Ext:
    """Encode year, month and day."""
    return Ext(EXT_DATE, DATE.pack(value.year, value.month, value.day))


def encode_time(value: Any) -> Ext:
    """Encode a time with its fold and zone."""
    micro = value.microsecond
    data = TIME.pack(value.hour, value.minute, value.second, micro >> 16, micro & 0xFFFF)
    if value.tzinfo is not None or value.fold:
        data += _zone(value)
    return Ext(EXT_TIME, data)


def encode_datetime(value: Any) -> Ext:
    """Encode a datetime with its fold and zone."""
    micro = value.microsecond
    data = DATETIME.pack(
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        micro >> 16,
        micro & 0xFFFF,
    )
    if value.tzinfo is not None or value.fold:
        data += _zone(value)
    return Ext(EXT_DATETIME, data)


def _zone(value: Any) -> bytes:
    zone = value.tzinfo
    if zone is None:
        return bytes((FOLD,))
    if resolve(type(zone)) is encode_timezone:
        return bytes((value.fold | ZONE_TIMEZONE,)) + _timezone_bytes(zone)
    if resolve(type(zone)) is encode_zoneinfo:
        return bytes((value.fold | ZONE_ZONEINFO,)) + _zoneinfo_bytes(zone)
    raise NotPlainError(f"{type(zone)!r} is not plain data")


def encode_timedelta(value: Any) -> Ext:
    """Encode the three parts that Python normalises to."""
    return Ext(EXT_TIMEDELTA, delta_bytes(value))


def delta_bytes(value: Any) -> bytes:
    """Return the payload of a timedelta."""
    return DELTA.pack(value.days, value.seconds, value.microseconds)


def encode_timezone(value: Any) -> Ext:
    """Encode the offset, and the name if one was given."""
    return Ext(EXT_TIMEZONE, _timezone_bytes(value))


def _timezone_bytes(value: Any) -> bytes:
    # The only public access to "was a name given": it is then the second argument.
    arguments = value.__getinitargs__()
    data = delta_bytes(arguments[0])
    return data + arguments[1].encode("utf-8", "surrogatepass") if len(arguments) > 1 else data


def encode_zoneinfo(value: Any) -> Ext:
    """Encode the key; a zone made from a file has none and is not plain."""
    return Ext(EXT_ZONEINFO, _zoneinfo_bytes(value))


def _zoneinfo_bytes(value: Any) -> bytes:
    if value.key is None:
        raise NotPlainError("a ZoneInfo without a key is not plain data")
    return value.key.encode("ascii")  # type: ignore[no-any-return]


def encode_decimal(value: Any) -> Ext:
    """Encode sign, digits and exponent; NaNs keep their payload."""
    return Ext(EXT_DECIMAL, str(value).encode("ascii"))


def encode_fraction(value: Any) -> Ext:
    """Encode both parts."""
    parts = [value.numerator, value.denominator]
    if max(part.bit_length() for part in parts) > MAX_FRACTION_BYTES * 8 - 1:
        raise NotPlainError(f"a Fraction beyond {MAX_FRACTION_BYTES} bytes is not plain data")
    return Ext(EXT_FRACTION, _packb(parts, _int_hook, OPTIONS))


def encode_uuid(value: Any) -> Ext:
    """Encode the number, and what is known of how it was made."""
    safe = value.is_safe.value
    return Ext(EXT_UUID, value.bytes if safe is None else value.bytes + bytes((safe + 1,)))


def encode_range(value: range) -> Ext:
    """Encode the three numbers."""
    return Ext(EXT_RANGE, _packb([value.start, value.stop, value.step], _int_hook, OPTIONS))


def encode_type(value: type[Any]) -> Ext:
    """Encode a built-in type by name; other types are only plain inside keys."""
    if BUILTIN_TYPES.get(value.__qualname__) is not value:
        raise NotPlainError(f"the class {value!r} is not plain data")
    return encode_type_name(value.__module__, value.__qualname__)


def encode_type_name(module: str, qualname: str) -> Ext:
    """Encode the name of a type."""
    return Ext(EXT_TYPE, f"{module}\0{qualname}".encode("utf-8", "surrogatepass"))


def _encode_placeholder(value: TypeName) -> Ext:
    return encode_type_name(value.module, value.qualname)


def _encode_sentinel(value: Constant) -> Ext:
    if value is ENOVAL:
        return Ext(EXT_SENTINEL, b"\x01")
    if value is UNKNOWN:
        return Ext(EXT_SENTINEL, b"\x02")
    raise NotPlainError(f"{value!r} is not plain data")


def _int_hook(value: Any) -> Ext:
    if type(value) is int:
        return encode_int(value)
    raise NotPlainError(f"{type(value)!r} is not plain data")


LEAVES: Final[dict[type[Any], Encoder]] = {
    int: encode_int,
    complex: encode_complex,
    bytearray: encode_bytearray,
    range: encode_range,
    type: encode_type,
    TypeName: _encode_placeholder,
    Constant: _encode_sentinel,
}
"""Encoder by exact type; types of other modules join when the first value of them is met."""

_LAZY: Final[dict[tuple[str, str], Encoder]] = {
    ("datetime", "date"): encode_date,
    ("datetime", "time"): encode_time,
    ("datetime", "datetime"): encode_datetime,
    ("datetime", "timedelta"): encode_timedelta,
    ("datetime", "timezone"): encode_timezone,
    ("zoneinfo", "ZoneInfo"): encode_zoneinfo,
    ("decimal", "Decimal"): encode_decimal,
    ("fractions", "Fraction"): encode_fraction,
    ("uuid", "UUID"): encode_uuid,
}


def resolve(kind: type[Any]) -> Encoder | None:
    """Return the encoder of a type, or None if it is not a plain leaf."""
    encoder = LEAVES.get(kind)
    if encoder is None:
        module, name = kind.__module__, kind.__qualname__
        encoder = _LAZY.get((module, name))
        # A class of the user's may bear the same name.
        if encoder is None or getattr(sys.modules.get(module), name, None) is not kind:
            return None
        LEAVES[kind] = encoder
    return encoder


def _make_hook(deeper: Callable[[Any], Ext] | None) -> Callable[[Any], Ext]:
    """Return the hook for one level of nested payloads.

    Whatever it raises reaches the caller only as a TypeError without a cause.
    """

    def hook(value: Any) -> Ext:
        kind = type(value)
        leaf = LEAVES.get(kind)
        if leaf is not None:
            return leaf(value)
        if deeper is not None:
            if kind is tuple:
                return Ext(EXT_TUPLE, _packb([*value], deeper, OPTIONS))
            if kind is set:
                return Ext(EXT_SET, _packb([*value], deeper, OPTIONS))
            if kind is frozenset:
                return Ext(EXT_FROZENSET, _packb([*value], deeper, OPTIONS))
            if kind is slice:
                parts = [value.start, value.stop, value.step]
                return Ext(EXT_SLICE, _packb(parts, deeper, OPTIONS))
        leaf = resolve(kind)
        if leaf is None:
            raise TypeError
        return leaf(value)

    return hook


def _make_hooks() -> list[Callable[[Any], Ext]]:
    hooks: list[Callable[[Any], Ext]] = [_make_hook(None)]
    for _ in range(FREE_LEVELS):
        hooks.insert(0, _make_hook(hooks[0]))
    return hooks


HOOKS: Final = _make_hooks()
"""Hook by the number of payloads around the value; the last one takes no containers."""
