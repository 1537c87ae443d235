"""Keys to database keys: one encoding for equal keys, in every process and version.

str, bytes, 64-bit int and float are database keys themselves (`raw` is 1). Every other plain key
is encoded as `plain` specifies (`raw` is 0), in one canonical way:

* one MessagePack object: a tuple is the array itself, everything else is as in `plain`, the
  shape 'R' is not used; maps are sorted by key, sets and pairs of code 8 by their encoded bytes;
* -0.0 is 0.0, also inside complex, and every NaN is 0x7ff8000000000000;
* a Decimal is `0` or `[-]digitsE(+|-)exponent` without zeros around the digits;
* a range is (start, start + n * step, step) for n >= 2 elements, (start, start + 1, 1) for one,
  (0, 0, 1) for none; a UUID is its 16 bytes, a timezone its offset without a name;
* an aware datetime is the same moment in UTC, or under the widest offset where that is beyond
  the years 1 to 9999; where its offset depends on the fold it keeps its face and zone;
* an aware time is the same in UTC, or under the widest offset where that is another day;
  a time whose zone gives no offset is naive; fold is 0 everywhere;
* a type is its name (code 20), whether built in or not.

So `1`, `1.0` and `True` inside a tuple are three keys, as are `(1,)` and `[1]`. What decodes from
a database key encodes to it again.

A blob that starts with 0x01 or 0x02 is a pickle and the business of `values`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from struct import Struct
from typing import Any, Final
from zlib import adler32

import ormsgpack

from diskcache.codecs import plain, plain_tree
from diskcache.codecs.base import INT64_MAX, INT64_MIN, Native
from diskcache.codecs.plain_ext import SHORT, is_inexact, may_hold_bin
from diskcache.errors import CodecError

_packb = ormsgpack.packb

_HOOK: Final = plain_tree.KEY_HOOKS[0]
_OPTIONS: Final = plain_tree.KEY_OPTIONS

_ODD_FLOAT: Final = re.compile(rb"\xcb(?:\x80\0{7}|[\x7f\xff][\xf0-\xff])")
"""-0.0, or a NaN or an infinity (or other bytes that happen to look like one)."""

_DOUBLE: Final = Struct(">d")
LONGEST_CALL: Final = 300
"""Elements of a key from which on `tuple_starts` knows nothing of it."""
_MODULUS: Final = 2**32 - 1
_TWO_63: Final = 2.0**63


def encode_key(key: Any) -> tuple[Native, int]:
    r"""Return the database key, and 1 if it is *key* itself or 0 if it is encoded.

    Cost: nothing to speak of for str, bytes and numbers; about `pickle.dumps` for flat tuples.

    Raises:
        NotPlainError: *key* is not plain data.

    Example:
        >>> encode_key('k'), encode_key((1, 'x'))
        (('k', 1), (b'\x92\x01\xa1x', 0))
    """
    kind = type(key)
    if kind is tuple:
        try:
            data = _packb([*key], _HOOK, _OPTIONS)
        except TypeError:
            return plain_tree.dumps(key, canonical=True), 0
        if 0xCB in data or 0xC4 in data or len(data) >= SHORT:
            return _checked(data, key), 0
        return data, 0
    if is_native(key, kind):
        return key, 1
    return plain_tree.dumps(key, canonical=True), 0


def tuple_starts(first: str) -> Iterator[bytes]:
    """Yield what the keys of tuples of two or more start with that have this first element."""
    element = encode_key((first,))[0][1:]  # type: ignore[index]
    for length in range(2, 16):
        yield bytes([0x90 + length]) + element  # type: ignore[operator]
    for length in range(16, LONGEST_CALL):
        yield b"\xdc" + length.to_bytes(2, "big") + element  # type: ignore[operator]


def is_native(key: Any, kind: type[Any]) -> bool:
    """Whether *key*, whose type is *kind*, is stored as it is."""
    if kind is str:
        return bool(key.isascii()) or not plain_tree.has_surrogates(key)
    if kind is int:
        return bool(INT64_MIN <= key <= INT64_MAX)
    return kind is bytes or (kind is float and not math.isnan(key))


def _checked(data: bytes, key: Any) -> bytes:
    """Return *data*, or the canonical bytes if the library did not write them."""
    # Quick to see and rare in other numbers: nothing starts like -0.0 or a NaN.
    odd = (0x80 in data or 0x7F in data or 0xFF in data) and _ODD_FLOAT.search(data)
    if odd or (may_hold_bin(data) and is_inexact(key)):
        return plain_tree.dumps(key, canonical=True)
    return data


def decode_key(db_key: Native, raw: int) -> Any:
    """Return the key, or an equal one, that `encode_key` made *db_key* of.

    Raises:
        CodecError: The bytes are damaged, or are a pickle.
    """
    if raw:
        return db_key
    if type(db_key) is not bytes:
        raise CodecError(f"cannot decode key: {type(db_key)!r} where bytes are expected")
    return plain.loads(db_key)


def key_bytes(db_key: Native, raw: int) -> bytes:
    """Return one byte string per key: what signatures are bound to and slots are chosen by.

    Different keys give different bytes; `1` and `1.0`, which are one key, give the same.

    Example:
        >>> key_bytes(1, 1) == key_bytes(1.0, 1) != key_bytes('1', 1)
        True
    """
    if isinstance(db_key, str):
        return b"s" + db_key.encode()
    if isinstance(db_key, bytes):
        return (b"b" if raw else b"d") + db_key
    number = _integral(db_key) if isinstance(db_key, float) else db_key
    if number is None:
        return b"f" + _DOUBLE.pack(db_key)
    return b"i" + number.to_bytes(8, "big", signed=True)


def shard_hash(db_key: Native, raw: int) -> int:  # noqa: ARG001 - pairs are passed on as they are
    """Return 0 to 2**32 - 1, the same in every process and version.

    That of version 5, except for floats that equal a 64-bit int: they get that int's, so that
    `1` and `1.0` share a shard.

    Example:
        >>> shard_hash(-1, 1), shard_hash(1.0, 1)
        (4294967294, 1)
    """
    if isinstance(db_key, str):
        return adler32(db_key.encode())
    if isinstance(db_key, bytes):
        return adler32(db_key)
    number = _integral(db_key) if isinstance(db_key, float) else db_key
    if number is None:
        return adler32(_DOUBLE.pack(db_key))
    return number % _MODULUS


def _integral(number: float) -> int | None:
    """Return the 64-bit int that equals *number*, or None."""
    if -_TWO_63 <= number < _TWO_63 and number.is_integer():
        return int(number)
    return None
