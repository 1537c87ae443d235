"""The extension types of `plain`, decoded.

Payloads are hostile until proven otherwise: every decoder checks sizes and ranges by what it
calls, and the library turns whatever is raised here into a ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import ormsgpack

from diskcache.codecs import plain_ext as ext
from diskcache.codecs import plain_numpy, registered
from diskcache.codecs.names import BUILTIN_TYPES, TypeName
from diskcache.errors import CodecError
from diskcache.sentinels import ENOVAL, UNKNOWN

_unpackb = ormsgpack.unpackb

_ZONE_KEY: Final = re.compile(rb"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_SENTINELS: Final = {b"\x01": ENOVAL, b"\x02": UNKNOWN}

_DELTA_SIZE: Final = 12
_UUID_SIZE: Final = 16


def _load_int(payload: bytes) -> int:
    return int.from_bytes(payload, "big", signed=True)


def _load_complex(payload: bytes) -> complex:
    return complex(*ext.COMPLEX.unpack(payload))


def _load_text(payload: bytes) -> str:
    return payload.decode("utf-8", "surrogatepass")


def _load_date(payload: bytes) -> Any:
    return _datetime().date.fromisoformat(payload.decode("ascii"))


def _load_time(payload: bytes) -> Any:
    text, _, tail = payload.partition(b"\0")
    value = _datetime().time.fromisoformat(text.decode("ascii"))
    return _with_zone(value, tail) if tail else value


def _load_datetime(payload: bytes) -> Any:
    if 0 not in payload:
        # A value without a zone is stored as it is.
        return _datetime().datetime.fromisoformat(payload.decode("ascii"))
    text, _, tail = payload.partition(b"\0")
    value = _datetime().datetime.fromisoformat(text.decode("ascii"))
    return _with_zone(value, tail) if tail else value


def _with_zone(value: Any, tail: bytes) -> Any:
    fold, kind = tail[0] & ext.FOLD, tail[0] & ~ext.FOLD
    if kind == ext.ZONE_TIMEZONE:
        return value.replace(tzinfo=_load_timezone(tail[1:]), fold=fold)
    if kind == ext.ZONE_ZONEINFO:
        return value.replace(tzinfo=_load_zoneinfo(tail[1:]), fold=fold)
    if kind or len(tail) > 1:
        raise CodecError(f"unknown kind of time zone {tail[0]:#04x}")
    return value.replace(fold=fold)


@cache
def _datetime() -> Any:
    import datetime

    return datetime


@cache
def _decimal() -> Any:
    from decimal import Decimal

    return Decimal


@cache
def _uuid() -> Any:
    import uuid

    return uuid


def _load_timedelta(payload: bytes) -> Any:
    days, seconds, micros = ext.DELTA.unpack(payload)
    return _datetime().timedelta(days, seconds, micros)


def _load_timezone(payload: bytes) -> Any:
    timezone = _datetime().timezone
    offset = _load_timedelta(payload[:_DELTA_SIZE])
    if len(payload) == _DELTA_SIZE:
        return timezone(offset)
    if payload[_DELTA_SIZE]:
        raise CodecError("no zero byte before the name of a timezone")
    return timezone(offset, payload[_DELTA_SIZE + 1 :].decode("utf-8", "surrogatepass"))


def _load_zoneinfo(payload: bytes) -> Any:
    from zoneinfo import ZoneInfo

    # The key becomes part of a path, and of the name of a package that holds zone files.
    if not _ZONE_KEY.fullmatch(payload):
        raise CodecError(f"not the key of a time zone: {payload!r}")
    try:
        return ZoneInfo(payload.decode("ascii"))
    except (KeyError, OSError) as exc:
        raise CodecError(f"no time zone {payload!r} on this machine") from exc


def _load_decimal(payload: bytes) -> Any:
    return _decimal()(payload.decode("ascii"))


def _load_fraction(payload: bytes) -> Any:
    from fractions import Fraction

    if len(payload) > 2 * ext.MAX_FRACTION_BYTES + 16:
        raise CodecError("a Fraction is larger than any that is written")
    numerator, denominator = _load_ints(payload, 2)
    return Fraction(numerator, denominator)


def _load_uuid(payload: bytes) -> Any:
    if len(payload) == _UUID_SIZE:
        return _uuid().UUID(bytes=payload)
    if len(payload) != _UUID_SIZE + 1:
        raise CodecError("a UUID has 16 bytes")
    safe = _uuid().SafeUUID(payload[_UUID_SIZE] - 1)
    return _uuid().UUID(bytes=payload[:_UUID_SIZE], is_safe=safe)


def _load_range(payload: bytes) -> range:
    return range(*_load_ints(payload, 3))


def _load_ints(payload: bytes, count: int) -> list[int]:
    parts = _unpackb(payload, ext_hook=_only_ints)
    if type(parts) is not list or len(parts) != count or {*map(type, parts)} != {int}:
        raise CodecError(f"not {count} integers")
    return parts


def _only_ints(code: int, payload: bytes) -> int:
    if code != ext.EXT_INT:
        raise CodecError(f"extension {code} where an integer is expected")
    return _load_int(payload)


def _load_type(payload: bytes) -> type[Any] | TypeName:
    module, _, qualname = payload.decode("utf-8", "surrogatepass").partition("\0")
    if module == "builtins" and qualname in BUILTIN_TYPES:
        return BUILTIN_TYPES[qualname]
    return TypeName(module, qualname)


def _load_sentinel(payload: bytes) -> Any:
    return _SENTINELS[payload]


_LEAVES: Final[dict[int, Callable[[bytes], Any]]] = {
    ext.EXT_INT: _load_int,
    ext.EXT_COMPLEX: _load_complex,
    ext.EXT_BYTEARRAY: bytearray,
    ext.EXT_TEXT: _load_text,
    ext.EXT_DATE: _load_date,
    ext.EXT_TIME: _load_time,
    ext.EXT_DATETIME: _load_datetime,
    ext.EXT_TIMEDELTA: _load_timedelta,
    ext.EXT_TIMEZONE: _load_timezone,
    ext.EXT_ZONEINFO: _load_zoneinfo,
    ext.EXT_DECIMAL: _load_decimal,
    ext.EXT_FRACTION: _load_fraction,
    ext.EXT_UUID: _load_uuid,
    ext.EXT_RANGE: _load_range,
    ext.EXT_TYPE: _load_type,
    ext.EXT_SENTINEL: _load_sentinel,
    ext.EXT_NDARRAY: plain_numpy.load_ndarray,
}


def build_dict(items: list[Any]) -> dict[Any, Any]:
    """Return the dict of key, value, key, value ..."""
    if len(items) % 2:
        raise CodecError("a dict has a key without a value")
    pairs = iter(items)
    return dict(zip(pairs, pairs, strict=True))


def _build_slice(items: list[Any]) -> slice:
    start, stop, step = items
    return slice(start, stop, step)


def _build_column(items: list[Any]) -> list[Any]:
    """Return the values of a column that is stored as text, at the speed of C."""
    code, texts = items
    if type(texts) is not list:
        raise CodecError("a column is not an array")
    if code == ext.EXT_DATETIME:
        return [*map(_datetime().datetime.fromisoformat, texts)]
    if code == ext.EXT_DATE:
        return [*map(_datetime().date.fromisoformat, texts)]
    if code == ext.EXT_DECIMAL:
        return [*map(_decimal(), texts)]
    raise CodecError(f"unknown kind of column {code}")


_CONTAINERS: Final[dict[int, Callable[[list[Any]], Any]]] = {
    ext.EXT_TUPLE: tuple,
    ext.EXT_SET: set,
    ext.EXT_FROZENSET: frozenset,
    ext.EXT_DICT: build_dict,
    ext.EXT_SLICE: _build_slice,
    ext.EXT_COLUMN: _build_column,
    ext.EXT_REGISTERED: registered.build,
}


def _build(code: int, payload: bytes, deeper: Callable[[int, bytes], Any]) -> Any:
    build = _CONTAINERS.get(code)
    if build is None:
        raise CodecError(f"unknown extension {code}")
    items = _unpackb(payload, ext_hook=deeper)
    if type(items) is not list:
        raise CodecError(f"the payload of extension {code} is not an array")
    return build(items)


class _Deep:
    """The hook beyond `FREE_LEVELS`: it knows how much payload lies open around it."""

    __slots__ = ("_level", "_open_bytes")

    def __init__(self, level: int, open_bytes: int) -> None:
        self._level = level
        self._open_bytes = open_bytes

    def __call__(self, code: int, payload: bytes) -> Any:
        leaf = _LEAVES.get(code)
        if leaf is not None:
            return leaf(payload)
        open_bytes = self._open_bytes + len(payload)
        if self._level >= ext.MAX_DEPTH or open_bytes > ext.MAX_DEEP_BYTES:
            raise CodecError("extensions are nested too deep")
        return _build(code, payload, _Deep(self._level + 1, open_bytes))


def _make_decoder(deeper: Callable[[int, bytes], Any]) -> Callable[[int, bytes], Any]:
    leaves = _LEAVES.get

    def decode(code: int, payload: bytes) -> Any:
        leaf = leaves(code)
        if leaf is not None:
            return leaf(payload)
        if code == ext.EXT_TUPLE:
            items = _unpackb(payload, ext_hook=deeper)
            if type(items) is list:
                return tuple(items)
        return _build(code, payload, deeper)

    return decode


def _make_decoders() -> Callable[[int, bytes], Any]:
    decoder: Callable[[int, bytes], Any] = _Deep(ext.FREE_LEVELS, 0)
    for _ in range(ext.FREE_LEVELS):
        decoder = _make_decoder(decoder)
    return decoder


decode_ext: Final = _make_decoders()
"""The hook for a whole object."""
