"""The extension types of `plain`: what each code's payload holds, both ways.

Encoders here write values as they are; `plain_tree` replaces some of them for keys. Types of
modules that are seldom needed are recognised by name and checked against the module, so that
nothing is imported before such a value exists.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable
from functools import cache
from struct import Struct
from types import NoneType
from typing import Any, Final

import ormsgpack
from ormsgpack import Ext

from diskcache.codecs import plain_numpy
from diskcache.codecs.names import BUILTIN_TYPES, TypeName
from diskcache.codecs.registered import BY_TYPE, Registered
from diskcache.errors import NotPlainError
from diskcache.sentinels import ENOVAL, UNKNOWN, Constant

_packb = ormsgpack.packb

NEEDED_LIBRARY: Final = (1, 13, 1)
"""Older releases take the length that an array claims for true: five bytes end the process."""


def require_library(version: str) -> None:
    """Refuse a release of ormsgpack that hostile bytes can crash.

    Raises:
        ImportError: *version* is older than `NEEDED_LIBRARY`.
    """
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if found < NEEDED_LIBRARY:
        needed = ".".join(map(str, NEEDED_LIBRARY))
        raise ImportError(
            f"ormsgpack {version} can be crashed by damaged data, and at least {needed} is "
            f'needed: pip install "ormsgpack>={needed}"'
        )


require_library(ormsgpack.__version__)

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
EXT_COLUMN: Final = 22
EXT_NDARRAY: Final = plain_numpy.EXT_NDARRAY
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

SHORT: Final = 200
"""Below this size a bin of 256 bytes or more, with a mark of its own, has no room."""

SCALARS: Final = frozenset((NoneType, bool, int, float, str, bytes))
CONTAINERS: Final = frozenset((list, tuple, dict, set, frozenset, slice))
IMPOSTORS: Final = frozenset((bytearray, memoryview, Ext, ormsgpack.Fragment))
"""What the library writes without asking, and never as what it is."""

_MAX_LOOKS: Final = 8
"""Marks to look at before looking at the value is as fast: some languages are full of them."""

_LOOK_BEYOND: Final = 2560
"""Size of data from which looking at marks costs less than looking at the value."""

_FEW: Final = 8
"""Entries of a dict up to which a loop is as fast as anything."""

CODES: Final[dict[type[Any], int]] = {
    tuple: EXT_TUPLE,
    set: EXT_SET,
    frozenset: EXT_FROZENSET,
    slice: EXT_SLICE,
}

_NATIVE: Final = SCALARS | CONTAINERS

DELTA: Final = Struct(">iII")
COMPLEX: Final = Struct(">dd")
FOLD: Final = 1
ZONE_TIMEZONE: Final = 2
ZONE_ZONEINFO: Final = 4

Encoder = Callable[[Any], Ext]


# -- A closer look at what the library accepted -------------------------------------------------


def may_hold_bin(data: bytes) -> bool:
    """Whether *data* may hold bytes: the library writes bytearray and memoryview as such, too.

    The marks also occur inside numbers and text, so this is only a reason to look closer.
    """
    if 0xC4 in data:
        return True
    size = len(data)
    if size < SHORT or not (0xC5 in data or 0xC6 in data):
        return False
    if size < _LOOK_BEYOND:
        return True
    # A longer bin, which has at least 256 bytes, must end inside the data.
    for mark, width in ((b"\xc5", 2), (b"\xc6", 4)):
        at = -1
        for _ in range(_MAX_LOOKS):
            at = data.find(mark, at + 1)
            if at < 0:
                break
            start = at + 1 + width
            if 256 <= int.from_bytes(data[at + 1 : start], "big") <= size - start:
                return True
        else:
            return True
    return False


def is_inexact(value: Any) -> bool:
    """Whether the library, which accepted *value*, wrote a part of it as something else.

    Cost: 20 ns per object inside. Asking the garbage collector for the children of all
    containers of a level at once is three times as fast as visiting them.
    """
    kind = type(value)
    if kind not in CONTAINERS:
        return kind in IMPOSTORS
    if kind is list and value and is_column(value):
        return False
    if kind is dict and len(value) <= _FEW:
        level = [item for item in value.values() if type(item) not in SCALARS]
    else:
        level = gc.get_referents(value)
    for _ in range(MAX_DEPTH):
        kinds = set(map(type, level))
        if kinds <= SCALARS:
            return False
        if not kinds <= _NATIVE:
            if kinds & IMPOSTORS:
                return True
            # What a hook took care of has children of no interest, among them its class.
            level = [item for item in level if type(item) in CONTAINERS]
        level = gc.get_referents(*level)
    return True


def is_column(items: list[Any]) -> bool:
    """Whether *items* are only numbers, only text or only None, if that can be told fast.

    Adding and joining refuse everything else, and take 5 ns per element.
    """
    kind = type(items[0])
    try:
        if kind is float or kind is int:
            sum(items)
        elif kind is str:
            "".join(items)
        else:
            return kind is NoneType and items.count(None) == len(items)
    except (TypeError, ArithmeticError):
        return False
    return True


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
    """Encode a date as ISO text: the one form that C code both writes and reads."""
    return Ext(EXT_DATE, value.isoformat().encode())


def encode_time(value: Any) -> Ext:
    """Encode a time with its fold and zone."""
    return Ext(EXT_TIME, _clock_bytes(value))


def encode_datetime(value: Any) -> Ext:
    """Encode a datetime with its fold and zone."""
    if value.tzinfo is None and not value.fold:
        return Ext(EXT_DATETIME, value.isoformat().encode())
    return Ext(EXT_DATETIME, _clock_bytes(value))


def _clock_bytes(value: Any) -> bytes:
    zone = value.tzinfo
    fold = value.fold
    if zone is None and not fold:
        return value.isoformat().encode()  # type: ignore[no-any-return]
    encoder = resolve(type(zone))
    if encoder is encode_timezone and not fold and is_told_by_text(zone):
        return value.isoformat().encode()  # type: ignore[no-any-return]
    text: bytes = value.replace(tzinfo=None).isoformat().encode()
    if zone is None:
        return text + bytes((0, fold))
    if encoder is encode_timezone:
        return text + bytes((0, fold | ZONE_TIMEZONE)) + _timezone_bytes(zone)
    if encoder is encode_zoneinfo:
        return text + bytes((0, fold | ZONE_ZONEINFO)) + _zoneinfo_bytes(zone)
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


def is_told_by_text(zone: Any) -> bool:
    """Whether ISO text tells all of a timezone.

    It has no room for names. Of offsets only whole minutes are read back reliably: Python 3.11
    takes one of a microsecond for none.
    """
    return not (is_named(zone) or zone.utcoffset(None) % _minute())


@cache
def _minute() -> Any:
    from datetime import timedelta

    return timedelta(minutes=1)


def is_named(zone: Any) -> bool:
    """Whether a timezone was given a name: it is then its second argument."""
    return len(zone.__getinitargs__()) > 1


def _timezone_bytes(value: Any) -> bytes:
    data = delta_bytes(value.utcoffset(None))
    if is_named(value):
        data += b"\0" + value.tzname(None).encode("utf-8", "surrogatepass")
    return data


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


def slice_parts(value: slice) -> list[Any]:
    """Return start, stop and step."""
    return [value.start, value.stop, value.step]


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
    ("numpy", "ndarray"): plain_numpy.encode_ndarray,
    **{("numpy", name): plain_numpy.encode_ndarray for name in plain_numpy.SCALARS},
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


def _encode_registered(entry: Registered, value: Any, deeper: Callable[[Any], Ext]) -> Ext:
    """Encode a value of a registered type.

    Raises:
        TypeError: The library wrote a part of its state as something else.
    """
    state = [entry.name, entry.dumps(value)]
    data = _packb(state, deeper, OPTIONS)
    if may_hold_bin(data) and is_inexact(state):
        raise TypeError
    return Ext(EXT_REGISTERED, data)


def _make_hook(deeper: Callable[[Any], Ext] | None) -> Callable[[Any], Ext]:
    """Return the hook for one level of nested payloads.

    Whatever it raises reaches the caller only as a TypeError without a cause.
    """
    leaves = LEAVES.get

    def hook(value: Any) -> Ext:
        kind = type(value)
        leaf = leaves(kind)
        if leaf is None:
            if kind in CONTAINERS:
                if deeper is None:
                    raise TypeError
                if kind is tuple:
                    return Ext(EXT_TUPLE, _packb([*value], deeper, OPTIONS))
                items = slice_parts(value) if kind is slice else [*value]
                return Ext(CODES[kind], _packb(items, deeper, OPTIONS))
            entry = BY_TYPE.get(kind)
            if entry is not None and deeper is not None:
                return _encode_registered(entry, value, deeper)
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
