"""Plain data to bytes and back: exact, data only, safe on hostile input.

Plain are, by exact type and at every depth: None, bool, int, float, complex, str, bytes,
bytearray, list, tuple, set, frozenset, dict, date, time, datetime, timedelta, timezone, ZoneInfo
(by its key), Decimal, Fraction, UUID, range, slice, `ENOVAL`, `UNKNOWN` and the built-in types
named below; besides, arrays and scalars of numpy of plain dtypes, and the types that the process
has registered. A subclass, an enum member, a named tuple or a dataclass is not plain without that.
Two references to one object become two objects; what contains itself is not plain.

Format
======

All numbers are big-endian. MessagePack is https://github.com/msgpack/msgpack/blob/master/spec.md.
The first byte tells the shape:

    0x80-0xff  one MessagePack object, starting with this byte; an array here is a tuple
    0x01,0x02  never written: they start a pickle in a key (`signing`, `values`)
    0x44 'D'   array: key, value, key, value ...; a dict
    0x46 'F'   doubles up to the end; a list of floats
    0x52 'R'   array of columns, each an array, all equally long; a list of tuples
    0x56 'V'   one MessagePack object follows; an array here is a list

Inside the object an array is a list and a map is a dict all of whose keys are str. Int, float
(always 64 bits), str, bin, true, false and nil are themselves. Every other type is an extension:

    code  name       payload
       1  int        two's complement, as few bytes as hold it; only beyond -2**63 .. 2**64-1
       2  complex    real, imaginary: two doubles
       3  bytearray  the bytes
       4  text       a str with lone surrogates, in UTF-8 with these as three bytes each
       5  tuple      array of its elements
       6  set        array of its elements
       7  frozenset  array of its elements
       8  dict       array: key, value, key, value ... (a key is not a str, or has surrogates)
       9  date       as isoformat() writes it, in ASCII
      10  time       as 9, zone
      11  datetime   as 9, zone
      12  timedelta  days i32, seconds u32, microseconds u32
      13  timezone   offset as 12; if a name was given, a zero byte and the name in UTF-8
      14  ZoneInfo   key in ASCII
      15  Decimal    as str() writes it, in ASCII
      16  Fraction   array: numerator, denominator (each of at most 8192 bytes)
      17  UUID       16 bytes; a 17th holds `is_safe` + 1 where that is known
      18  range      array: start, stop, step
      19  slice      array: start, stop, step
      20  type       module, a zero byte, qualified name, in UTF-8
      21  sentinel   1 ENOVAL, 2 UNKNOWN
      22  column     array: 9, 11 or 15, array of the payloads as str; a list of such values
      32  ndarray    array: dtype, order, shape, data; see `plain_numpy`
      33  registered array: name, state; see `registered`

*zone* is empty for fold 0 with no zone, or with a timezone of whole minutes without a name: the
text then ends in its offset. Else the text is without offset, and follow a zero byte, a byte
fold + 2 * kind, where kind 0 is no zone, 1 a timezone and 2 a ZoneInfo, and the payload of 13 or
14. A type decodes to
the type itself if it is one of `names.BUILTIN_TYPES`, else to an inert `names.TypeName`: nothing
is ever imported. Codes -128 to -1 are MessagePack's own and are refused.

At least 200 containers may be inside each other. Writing refuses more than 254 lists and dicts
around a value without a payload between them, reading more than 1022, and both more than 200
payloads. Of the payloads of codes 5-8, 19 and 33, at most 1 MiB may lie inside eight others:
decoding keeps a copy of each open payload, so it needs no more than some 100 bytes per byte of
input and a constant. Bytes behind the object are ignored.

The same value may be written in several ways, which all read alike; `keys` tells how a key is.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from itertools import chain
from typing import Any, Final

import ormsgpack

from diskcache.codecs import plain_tree
from diskcache.codecs.plain_columns import pack_columns
from diskcache.codecs.plain_ext import HOOKS, OPTIONS, SHORT, is_inexact, may_hold_bin
from diskcache.codecs.plain_load import build_dict, decode_ext
from diskcache.codecs.registered import take_trouble
from diskcache.errors import CodecError

_packb = ormsgpack.packb
_unpackb = ormsgpack.unpackb
_HOOK: Final = HOOKS[0]

_MIN_FLOATS: Final = 8
"""Length from which a list of floats is written as doubles: half the time of an array."""

_DOUBLE: Final = 8
"""Bytes of a float."""

_ONLY_TUPLES: Final = frozenset((tuple,))
_ONLY_LISTS: Final = frozenset((list,))


def dumps(value: Any) -> bytes:
    """Encode plain data; the result decodes to an equal value of the same types.

    Cost: for values made of dict, list, str and numbers less than `pickle.dumps`; other types
    cost a call of Python each.

    Raises:
        NotPlainError: A type inside is not plain, or the nesting is too deep; the message says
            which and where.

    Example:
        >>> loads(dumps({'a': (1, 2.5), 3: {b'x'}})) == {'a': (1, 2.5), 3: {b'x'}}
        True
    """
    kind = type(value)
    if kind is list:
        return _dump_list(value)
    if kind is int:
        return plain_tree.dumps(value)
    try:
        data = _packb([*value] if kind is tuple else value, _HOOK, OPTIONS)
        if len(data) < SHORT and 0xC4 not in data:
            return data
    except TypeError:
        if kind is dict and type(next(iter(value), "")) is not str:
            return _dump_dict(value)
        return plain_tree.dumps(value)
    if may_hold_bin(data) and is_inexact(value):
        return plain_tree.dumps(value)
    return data


def loads(data: bytes) -> Any:
    """Decode what `dumps` returned.

    Runs no code of the data's choosing, whatever the bytes are.

    Raises:
        CodecError: The bytes are damaged, or name a time zone that this machine lacks.
    """
    try:
        shape = data[0]
        if 0x90 <= shape <= 0x9F:
            return tuple(_unpackb(data, ext_hook=decode_ext))
        if shape >= 0x80:
            value = _unpackb(data, ext_hook=decode_ext)
            return tuple(value) if type(value) is list and shape not in _EXT_MARKS else value
        return _LOADERS[shape](data[1:])
    except (ValueError, LookupError, TypeError, RecursionError, MemoryError) as exc:
        if isinstance(exc, CodecError):
            raise
        raise _failure(exc, len(data)) from exc


def _failure(exc: Exception, size: int) -> BaseException:
    """Return what to raise for an error of the library, which hides what a hook raised."""
    trouble = take_trouble()
    if isinstance(trouble, CodecError):
        return trouble
    if trouble is None:
        return CodecError(f"cannot decode data of {size} bytes: {exc}")
    if isinstance(trouble, Exception):
        return CodecError(
            f"cannot decode data of {size} bytes: {type(trouble).__name__}: {trouble}"
        )
    return trouble


# -- Writing -----------------------------------------------------------------------------------


def _dump_list(value: list[Any]) -> bytes:
    if value:
        first = type(value[0])
        known = None
        if first is tuple and value[0]:
            known = _dump_rows(value)
        elif first is float and len(value) >= _MIN_FLOATS:
            known = _dump_floats(value)
        if known is not None:
            return known
    try:
        data = _packb(value, _HOOK, OPTIONS)
    except TypeError:
        return plain_tree.dumps(value)
    if may_hold_bin(data) and is_inexact(value):
        return plain_tree.dumps(value)
    return b"V" + data


def _dump_floats(value: list[Any]) -> bytes | None:
    """Encode a list of floats, or return None if it holds something else.

    The library writes each float as a mark and eight bytes: as many marks as elements at these
    places prove it, for a fifth of the time of looking at types.
    """
    try:
        data = _packb(value, None, OPTIONS)
    except TypeError:
        return None
    size = len(value)
    start = len(data) - (_DOUBLE + 1) * size
    if data[start :: _DOUBLE + 1] != b"\xcb" * size:
        return None
    doubles = bytearray(data)
    doubles[:start] = b"F"
    del doubles[1 :: _DOUBLE + 1]
    return bytes(doubles)


def _dump_rows(rows: list[Any]) -> bytes | None:
    """Encode a list of equally long tuples, or return None if it is something else.

    Columns are the only form in which the library takes and gives rows at the speed of pickle:
    each nested tuple elsewhere costs a call of Python.
    """
    if not _ONLY_TUPLES.issuperset(map(type, rows)):
        return None
    try:
        columns = [*map(list, zip(*rows, strict=True))]
        data = _packb(pack_columns(columns), _HOOK, OPTIONS)
    except (ValueError, TypeError):
        return None
    if may_hold_bin(data) and any(map(is_inexact, columns)):
        return None
    return b"R" + data


def _dump_dict(value: dict[Any, Any]) -> bytes:
    """Encode a dict whose keys are not all str."""
    items = [*chain.from_iterable(value.items())]
    try:
        data = _packb(items, _HOOK, OPTIONS)
    except TypeError:
        return plain_tree.dumps(value)
    if may_hold_bin(data) and is_inexact(items):
        return plain_tree.dumps(value)
    return b"D" + data


# -- Reading -----------------------------------------------------------------------------------


def _load_value(data: bytes) -> Any:
    return _unpackb(data, ext_hook=decode_ext)


def _load_floats(data: bytes) -> list[float]:
    numbers = array("d", data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tolist()


def _load_rows(data: bytes) -> list[tuple[Any, ...]]:
    columns = _load_value(data)
    if not (type(columns) is list and columns and _ONLY_LISTS.issuperset(map(type, columns))):
        raise CodecError("cannot decode data: rows are not an array of columns")
    return list(zip(*columns, strict=True))


def _load_dict(data: bytes) -> dict[Any, Any]:
    items = _load_value(data)
    if type(items) is not list:
        raise CodecError("cannot decode data: a dict is not an array of keys and values")
    return build_dict(items)


_LOADERS: Final[dict[int, Callable[[bytes], Any]]] = {
    ord("D"): _load_dict,
    ord("F"): _load_floats,
    ord("R"): _load_rows,
    ord("V"): _load_value,
}
"""Reader by shape byte below 0x80."""

_EXT_MARKS: Final = frozenset((*range(0xC7, 0xCA), *range(0xD4, 0xD9)))
"""First bytes of an extension: a list from one (a column) is a list."""
