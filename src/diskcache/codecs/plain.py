"""Plain data to bytes and back: exact, data only, safe on hostile input.

Plain are, by exact type and at every depth: None, bool, int, float, complex, str, bytes,
bytearray, list, tuple, set, frozenset, dict, date, time, datetime, timedelta, timezone, ZoneInfo
(by its key), Decimal, Fraction, UUID, range, slice, `ENOVAL`, `UNKNOWN` and the built-in types
named below. A subclass, an enum member, a named tuple or a dataclass is not plain. Two references
to one object become two objects; what contains itself is not plain.

Format
======

All numbers are big-endian. MessagePack is https://github.com/msgpack/msgpack/blob/master/spec.md.
The first byte tells the shape:

    0x80-0xff  one MessagePack object, starting with this byte; an array here is a tuple
    0x01,0x02  never written: they start a pickle in a key (`signing`, `values`)
    0x52 'R'   rows: an array of columns, each an array, all equally long; a list of tuples
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
       9  date       year u16, month u8, day u8
      10  time       hour u8, minute u8, second u8, microsecond u24, zone
      11  datetime   date as 9, then as 10
      12  timedelta  days i32, seconds u32, microseconds u32
      13  timezone   days i32, seconds u32, microseconds u32 of the offset, name in UTF-8 if given
      14  ZoneInfo   key in ASCII
      15  Decimal    as str() writes it, in ASCII
      16  Fraction   array: numerator, denominator (each of at most 8192 bytes)
      17  UUID       16 bytes; a 17th holds `is_safe` + 1 where that is known
      18  range      array: start, stop, step
      19  slice      array: start, stop, step
      20  type       module, a zero byte, qualified name, in UTF-8
      21  sentinel   1 ENOVAL, 2 UNKNOWN
      32  ndarray    reserved
      33  registered reserved

*zone* is empty for fold 0 without a zone; else a byte, fold + 2 * kind, where kind 0 is no zone,
1 a timezone and 2 a ZoneInfo, followed by the payload of 13 or 14. A type decodes to the type
itself if it is one of `names.BUILTIN_TYPES`, else to an inert `names.TypeName`: nothing is ever
imported. Codes -128 to -1 are MessagePack's own and are refused.

At most 200 containers may be inside each other, and of the payloads of codes 5-8, 16, 18 and 19
at most 1 MiB may lie inside eight others: decoding keeps a copy of each open payload, so it needs
no more than some 100 bytes per byte of input and a constant. Bytes behind the object are ignored.

A decoder for keys is the same; which of several encodings a key gets is told in `keys`.
"""

from __future__ import annotations

from typing import Any, Final

import ormsgpack

from diskcache.codecs import plain_tree
from diskcache.codecs.plain_ext import (
    BIN_MARKS,
    HOOKS,
    MAX_DEPTH,
    OPTIONS,
    is_inexact,
    is_too_deep,
    may_be_deep,
)
from diskcache.codecs.plain_load import decode_ext
from diskcache.errors import CodecError

_packb = ormsgpack.packb
_unpackb = ormsgpack.unpackb
_HOOK: Final = HOOKS[0]

ROWS: Final = 0x52
VALUE: Final = 0x56
_ROWS: Final = b"R"
_VALUE: Final = b"V"

_ONLY_TUPLES: Final = frozenset((tuple,))
_ONLY_LISTS: Final = frozenset((list,))
_SHORT: Final = 200
"""Below this size neither a depth beyond `MAX_DEPTH` nor a bin of 256 bytes or more has room."""


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
    try:
        if kind is list:
            if value and type(value[0]) is tuple and value[0]:
                data = _dump_rows(value)
                if data is not None:
                    return data
            data = _packb(value, _HOOK, OPTIONS)
        elif kind is tuple:
            data = _packb([*value], _HOOK, OPTIONS)
        else:
            data = _packb(value, _HOOK, OPTIONS)
    except TypeError:
        return plain_tree.dumps(value)
    if len(data) < _SHORT:
        if 0xC4 in data and is_inexact(value):
            return plain_tree.dumps(value)
    elif _is_doubtful(data) and is_inexact(value):
        return plain_tree.dumps(value)
    if kind is list or kind is int:
        return _VALUE + data
    return data


def loads(data: bytes) -> Any:
    """Decode what `dumps` returned.

    Runs no code of the data's choosing, whatever the bytes are.

    Raises:
        CodecError: The bytes are damaged, or name a time zone that this machine lacks.
    """
    try:
        shape = data[0]
        if shape >= 0x80:
            value = _unpackb(data, ext_hook=decode_ext)
            if type(value) is list:
                value = tuple(value)
        elif shape == VALUE:
            value = _unpackb(data[1:], ext_hook=decode_ext)
        elif shape == ROWS:
            value = _load_rows(data)
        else:
            raise CodecError(f"cannot decode data: unknown shape byte {shape:#04x}")
    except (ValueError, IndexError, TypeError, RecursionError, MemoryError) as exc:
        if isinstance(exc, CodecError):
            raise
        raise CodecError(f"cannot decode data of {len(data)} bytes: {exc}") from exc
    if len(data) > _SHORT and may_be_deep(data) and is_too_deep(value):
        raise CodecError(f"cannot decode data: nested deeper than {MAX_DEPTH} levels")
    return value


def _is_doubtful(data: bytes) -> bool:
    """Whether *data* may hold something that the library wrote as what it is not.

    It writes bytearray and memoryview as bin, without asking. All three bin marks also occur
    inside numbers and text, so this is only a reason to look closer.
    """
    for mark in BIN_MARKS:
        if mark in data:
            return True
    return may_be_deep(data)


def _dump_rows(rows: list[tuple[Any, ...]]) -> bytes | None:
    """Encode a list of equally long tuples by columns, or return None if it is something else.

    One array per column is the only form in which the library takes and gives rows at the
    speed of pickle: each nested tuple elsewhere costs a call of Python.
    """
    if not _ONLY_TUPLES.issuperset(map(type, rows)):
        return None
    try:
        columns = [*map(list, zip(*rows, strict=True))]
    except ValueError:
        return None
    data = _packb(columns, _HOOK, OPTIONS)
    if (len(data) >= _SHORT or 0xC4 in data) and _is_doubtful(data) and is_inexact(columns):
        return None
    return _ROWS + data


def _load_rows(data: bytes) -> list[tuple[Any, ...]]:
    columns = _unpackb(data[1:], ext_hook=decode_ext)
    if not (type(columns) is list and columns and _ONLY_LISTS.issuperset(map(type, columns))):
        raise CodecError("cannot decode data: rows are not an array of columns")
    return list(zip(*columns, strict=True))
