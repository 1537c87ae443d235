"""The layout of a cache on a Redis or Valkey server, and the bytes of its parts. Format 1.

A cache is a *namespace*, cut into shards 0 to N - 1. All keys of a shard begin with `{namespace:N}`
and so lie in one slot of a cluster:

    :v         16 random bytes: the version of the shard, and that of its entries without a tag
    :e:IDENT   an entry, see below; the server expires it
    :g:TAG     8 random bytes: the version of a tag; gone when no entry has the tag, as `:t:TAG`
    :o         sorted set of idents, by the microsecond at which they were first stored
    :k         sorted set of idents, all with score 0: in the order of keys
    :x         sorted set of idents that expire, by the moment at which they may be removed
    :t:TAG     sorted set of the idents stored with a tag, by the microsecond of that; both expire,
               after the last of their entries, if all of these do
    :l         token of the transaction that nobody may write beside; the server expires it
    :c:NAME    while the value of a key is computed: by whom; NAME is a hash; see `lease`
    :c:NAME:T  for a while after that: how it ended, for those who waited for token T
    :f         the last fencing number that was given
    :n         scratch of a script, gone when it ends

and `{namespace}:m` is a hash: `format`, `id` (16 random bytes), `shards`, `hits`, `misses`,
`s:NAME` for settings and `m:NAME` for marks, the latter two as KIND and data.

An entry is a string: fixed fields, big-endian, then the tag, then the value.

    1   format, the letter '1'
    1   KIND of the value: s text in UTF-8, b bytes, i decimal integer, f double, n nothing
    8   mode: how the codec reads the value; bit 6 (GUARD) keeps `evict` away; with bit 7 (GRACE)
        bits 8 to 39 are the seconds for which it is kept after its expiry, see `diskcache.entry`
    8   version: random, another one with every write
    8   expire_time, a double; NaN for never
    8   version of the shard when it was stored
    8   version of its tag then; of entries without a tag; zeros where GUARD is set
    4   length of TAG, 0 for no tag

**Truth.** An entry counts if its two versions are those of now, and its time has not come. A
version that is missing makes all of its entries dead, and the next write makes a new one. So
`clear` and `evict` are one write, and hold even where the server has evicted the sets, which are
hints: they list entries, and may list too many or too few. Whoever meets an ident that names no
living entry removes it; `check(fix=True)` lists those that are missing.

**IDENT** is a letter and the key, in an order that is that of keys: 1 and 20 hexadecimal digits for
a number (its double, sign turned so that bytes compare; then what the double lacks, biased by
32768), 2 and UTF-8 for text, 3 and bytes, 4 and the bytes of an encoded key. A whole number is one
ident, be it int or float. TAG is made the same way.
"""

from __future__ import annotations

import math
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from diskcache.entry import GRACE, GRACE_MOST, GRACE_SHIFT, DbValue, EncodedKey, Row, Tag, check_tag
from diskcache.errors import CodecError
from diskcache.keys import QUEUE_DIGITS, QUEUE_END

FORMAT: Final = b"1"
HEADER: Final = Struct(">ccqQd8s8sI")
HEAD: Final = Struct(">ccqQd")
"""What the client makes of the header; scripts add the versions."""
LENGTH: Final = Struct(">I")
LOOK: Final = 299
"""Last byte of what is read of an entry whose value is not wanted: header and most tags."""

VERSIONS: Final = 16
"""Bytes under `:v`."""
NO_TAG_VERSION: Final = bytes(8)
QUEUE_FROM: Final = 10**14
"""Integer keys from here on belong to the queue without a prefix, and share its shard."""

_DOUBLE: Final = Struct(">d")
_WORD: Final = Struct(">Q")
_BIAS: Final = 1 << 15
_SIGN: Final = 1 << 63
_TWO_63: Final = 2.0**63


class Entry(NamedTuple):
    """An entry as found on the server, whether it counts or not."""

    row: Row
    shard_version: bytes
    tag_version: bytes
    tag: bytes
    """TAG; empty for none."""
    mode: int
    """The mode with the bits on grace, which a row has not."""


class Shard:
    """Names of the keys of one shard."""

    __slots__ = (
        "entry",
        "fence",
        "keys",
        "lock",
        "order",
        "prefix",
        "scratch",
        "times",
        "versions",
    )

    def __init__(self, namespace: str, number: int) -> None:
        self.prefix = f"{{{namespace}:{number}}}:".encode()
        self.versions = self.prefix + b"v"
        self.entry = self.prefix + b"e:"
        self.order = self.prefix + b"o"
        self.keys = self.prefix + b"k"
        self.times = self.prefix + b"x"
        self.lock = self.prefix + b"l"
        self.fence = self.prefix + b"f"
        self.scratch = self.prefix + b"n"

    def tag_version(self, tag: bytes) -> bytes:
        """Return the key of the version of a tag."""
        return self.prefix + b"g:" + tag

    def tagged(self, tag: bytes) -> bytes:
        """Return the key of the set of entries with a tag."""
        return self.prefix + b"t:" + tag


def meta_key(namespace: str) -> bytes:
    """Return the key of what is known of the cache as a whole."""
    return f"{{{namespace}}}:m".encode()


# -- Idents ----------------------------------------------------------------------------------


def ident_of(key: EncodedKey) -> bytes:
    """Return the ident of an encoded key.

    Example:
        >>> ident_of(('user:1', 1)), ident_of((1, 1)) == ident_of((1.0, 1))
        (b'2user:1', True)
    """
    value, raw = key
    if isinstance(value, str):
        return b"2" + value.encode()
    if isinstance(value, bytes):
        return (b"3" if raw else b"4") + value
    return b"1" + number_ident(value)


def number_ident(number: float) -> bytes:
    """Return 20 digits that compare as numbers do."""
    double = float(number)
    lack = int(number) - int(double) if math.isfinite(double) and isinstance(number, int) else 0
    (word,) = _WORD.unpack(_DOUBLE.pack(double + 0.0))
    word = word ^ (2 * _SIGN - 1) if word & _SIGN else word | _SIGN
    return b"%016x%04x" % (word, lack + _BIAS)


def key_of(ident: bytes) -> EncodedKey:
    """Return the encoded key of an ident.

    Raises:
        CodecError: It is none.
    """
    kind, rest = ident[:1], ident[1:]
    try:
        if kind == b"2":
            return rest.decode(), 1
        if kind == b"1" and len(rest) == 20:
            return _number_of(rest), 1
    except ValueError as exc:
        raise CodecError(f"a key on the server is damaged: {ident!r}") from exc
    if kind in (b"3", b"4"):
        return rest, int(kind == b"3")
    raise CodecError(f"a key on the server is damaged: {ident!r}")


def _number_of(digits: bytes) -> float:
    word, lack = int(digits[:16], 16), int(digits[16:], 16) - _BIAS
    word = word ^ _SIGN if word & _SIGN else word ^ (2 * _SIGN - 1)
    (double,) = _DOUBLE.unpack(_WORD.pack(word))
    is_whole = -_TWO_63 <= double <= _TWO_63 and double.is_integer()
    return int(double) + lack if is_whole else float(double)


def tag_ident(tag: Tag) -> bytes:
    """Return TAG of a tag; nothing for None. One of a subclass, such as a StrEnum, loses its class.

    Raises:
        TagTypeError: It is not an int, float, str, bytes or None.
        OverflowError: It is an int of more than 64 bits.
    """
    if tag is None or tag != tag:  # noqa: PLR0124 - NaN is no tag
        return b""
    check_tag(tag)
    return ident_of((int(tag) if isinstance(tag, bool) else tag, 1))


def shard_of(key: EncodedKey, ident: bytes, shards: int) -> int:
    """Return the number of the shard of a key.

    The keys of a queue share one, because its operations must see all of them.
    """
    if shards == 1:
        return 0
    value = key[0]
    if isinstance(value, str):
        head, tail = value[:-QUEUE_DIGITS], value[-QUEUE_DIGITS:]
        if head.endswith("-") and tail.isascii() and tail.isdigit():
            return shard_of_queue(head[:-1], shards)
    elif isinstance(value, (int, float)) and QUEUE_FROM <= value < QUEUE_END:
        return shard_of_queue(None, shards)
    return crc32(ident) % shards


def shard_of_queue(prefix: str | None, shards: int) -> int:
    """Return the number of the shard of a queue."""
    return crc32(b"q" if prefix is None else b"q" + prefix.encode()) % shards


# -- Values and entries ----------------------------------------------------------------------


def pack_value(value: DbValue) -> tuple[bytes, bytes]:
    """Return KIND and data of a value."""
    if isinstance(value, bytes):
        return b"b", value
    if isinstance(value, str):
        return b"s", value.encode()
    if value is None:
        return b"n", b""
    if isinstance(value, int):
        return b"i", b"%d" % value
    return b"f", _DOUBLE.pack(value)


def unpack_value(kind: bytes, data: bytes) -> DbValue:
    """Return the value of KIND and data.

    Raises:
        ValueError: They belong to none.
    """
    if kind == b"b":
        return data
    if kind == b"s":
        return data.decode()
    if kind == b"i":
        return int(data)
    if kind == b"f" and len(data) == 8:
        return float(_DOUBLE.unpack(data)[0])
    if kind == b"n":
        return None
    raise ValueError(f"unknown kind {kind!r}")


def pack_head(mode: int, kind: bytes, version: int, expire_time: float | None) -> bytes:
    """Return the fixed fields up to the versions that a script adds."""
    at = math.nan if expire_time is None else expire_time
    return HEAD.pack(FORMAT, kind, mode, version, at)


def read_entry(data: bytes, *, with_value: bool = True) -> Entry | None:
    """Return what the bytes of an entry say; None if they are not an entry of this format."""
    if len(data) < HEADER.size or data[:1] != FORMAT:
        return None
    _, kind, mode, version, expires, shard_version, tag_version, length = HEADER.unpack_from(data)
    start = HEADER.size + length
    tag = data[HEADER.size : start]
    try:
        value = unpack_value(kind, data[start:]) if with_value else None
        label = key_of(tag)[0] if tag else None
    except (ValueError, CodecError):
        return None
    expire_time = None if math.isnan(expires) else expires
    row = (mode & ~-GRACE, value, None, 0, None, expire_time, label, version, version)
    return Entry(row, shard_version, tag_version, tag, mode)


def grace_of(mode: int) -> int:
    """Return for how many seconds an entry is kept after its expiry."""
    return (mode >> GRACE_SHIFT) & GRACE_MOST if mode & GRACE else 0


def is_current(entry: Entry, versions: bytes | None, tag_version: bytes | None) -> bool:
    """Tell whether an entry was stored since its shard was cleared, and its tag evicted.

    Args:
        entry: The entry.
        versions: What is under `:v`.
        tag_version: What is under `:g:` of its tag, if it has one.
    """
    if versions is None or len(versions) != VERSIONS or entry.shard_version != versions[:8]:
        return False
    if entry.tag_version == NO_TAG_VERSION:
        return True
    return entry.tag_version == (tag_version if entry.tag else versions[8:])
