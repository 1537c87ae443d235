"""One form for equal leaves: what `plain_tree` writes for keys instead of the values' own.

Equal here means `==` between values of one type, as a dict would have it; in addition all NaNs
of one type are one. Where equality forgets something (the zone of an aware datetime, the zeros
behind a Decimal, the name of a timezone), so does the key.
"""

from __future__ import annotations

import math
from typing import Any, Final

from ormsgpack import Ext

from diskcache.codecs import plain_ext as ext
from diskcache.codecs import plain_numpy
from diskcache.codecs.plain_ext import Encoder

_DAY: Final = 86_400_000_000
"""Microseconds of a day."""


def normal_float(value: float) -> float:
    """Return *value*, 0.0 for -0.0, and one NaN for all."""
    if value != value:  # noqa: PLR0124 - only a NaN differs from itself
        return math.nan
    return value + 0.0


def _complex(value: complex) -> Ext:
    return ext.encode_complex(complex(normal_float(value.real), normal_float(value.imag)))


def _range(value: range) -> Ext:
    """Encode what decides equality: the elements."""
    size = _length(value)
    if size == 0:
        return ext.encode_range(range(0))
    if size == 1:
        return ext.encode_range(range(value.start, value.start + 1))
    stop = value.start + size * value.step
    return ext.encode_range(range(value.start, stop, value.step))


def _length(value: range) -> int:
    # len() refuses what does not fit a machine word.
    if value.step > 0:
        return max(0, (value.stop - value.start + value.step - 1) // value.step)
    return max(0, (value.start - value.stop - value.step - 1) // -value.step)


def _decimal(value: Any) -> Ext:
    """Encode without trailing zeros; `normalize()` would round to the context's precision."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return ext.encode_decimal(value)
    text = "".join(map(str, digits)).lstrip("0")
    shorter = text.rstrip("0")
    if not shorter:
        return Ext(ext.EXT_DECIMAL, b"0")
    exponent += len(text) - len(shorter)
    return Ext(ext.EXT_DECIMAL, f"{'-' * sign}{shorter}E{exponent:+d}".encode("ascii"))


def _uuid(value: Any) -> Ext:
    return Ext(ext.EXT_UUID, value.bytes)


def _timezone(value: Any) -> Ext:
    """Encode the offset alone: equality ignores the name."""
    return Ext(ext.EXT_TIMEZONE, ext.delta_bytes(value.utcoffset(None)))


def _datetime(value: Any) -> Ext:
    """Encode an aware datetime by its moment, in UTC where that is in range.

    Where the offset depends on the fold, equality looks at the clock's face and the zone alone
    (PEP 495), and so does the key.
    """
    from datetime import UTC, timedelta, timezone

    if value.tzinfo is None and not value.fold:
        return ext.encode_datetime(value)
    value = value.replace(fold=0)
    offset = value.utcoffset()
    if offset is None:
        return ext.encode_datetime(value.replace(tzinfo=None))
    if value.replace(fold=1).utcoffset() != offset:
        return ext.encode_datetime(value)
    try:
        moment = value.replace(tzinfo=UTC) - offset
    except OverflowError:
        # Beyond the years 1 to 9999 in UTC: the widest offset brings every moment inside.
        sign = 1 if value.year == 1 else -1
        widest = sign * (timedelta(days=1) - timedelta.resolution)
        moment = value.replace(tzinfo=timezone(widest)) + (widest - offset)
    return ext.encode_datetime(moment)


def _time(value: Any) -> Ext:
    """Encode an aware time by its distance from midnight in UTC, which may be another day's."""
    from datetime import UTC, datetime, timedelta, timezone

    offset = value.utcoffset()
    if offset is None:
        return ext.encode_time(value.replace(tzinfo=None, fold=0))
    since = timedelta(
        hours=value.hour,
        minutes=value.minute,
        seconds=value.second,
        microseconds=value.microsecond,
    )
    micros = (since - offset) // timedelta.resolution
    zone: timezone = UTC
    if not 0 <= micros < _DAY:
        shift = _DAY - 1 if micros < 0 else 1 - _DAY
        micros += shift
        zone = timezone(timedelta(microseconds=shift))
    midnight = datetime(2000, 1, 1, tzinfo=zone)
    return ext.encode_time((midnight + timedelta(microseconds=micros)).timetz())


_ENCODERS: Final[dict[Encoder, Encoder]] = {
    ext.encode_complex: _complex,
    ext.encode_range: _range,
    ext.encode_decimal: _decimal,
    ext.encode_uuid: _uuid,
    ext.encode_timezone: _timezone,
    ext.encode_datetime: _datetime,
    ext.encode_time: _time,
    plain_numpy.encode_ndarray: plain_numpy.encode_canonical,
    ext.encode_type: lambda kind: ext.encode_type_name(kind.__module__, kind.__qualname__),
}
"""Canonical encoder by the encoder that keeps the value as it is."""


def resolve(kind: type[Any]) -> Encoder | None:
    """Return the canonical encoder of a type, or None if it is not a plain leaf."""
    encoder = ext.resolve(kind)
    if encoder is None:
        # A class with a metaclass of its own is a type all the same.
        return _ENCODERS[ext.encode_type] if issubclass(kind, type) else None
    return _ENCODERS.get(encoder, encoder)
