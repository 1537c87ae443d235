"""What an engine stores and returns: plain shapes, and what may be in them.

Rows are tuples, not objects, because one is made for every read that reaches an engine.
"""

from __future__ import annotations

import enum
import math
from typing import Any, Final, NamedTuple, TypeAlias

from diskcache.errors import IntegerRangeError, TagTypeError

DbValue: TypeAlias = str | bytes | int | float | None
"""What an engine can hold as it is."""

Tag: TypeAlias = str | bytes | int | float | None
"""A label of an entry; entries are removed by it with `evict`."""

EncodedKey: TypeAlias = tuple[str | bytes | int | float, int]
"""A stored key and its *raw* flag: 1 for a native key, 0 for bytes made by the codec."""

Row: TypeAlias = tuple[int, DbValue, str | None, int, int | None, float | None, Tag, int, int]
"""A stored entry: mode, value, file, size, checksum, expire_time, tag, version, ident.

*mode* says how to decode the value; *file* is the relative name of a value file, *size* and
*checksum* its length in bytes and CRC-32; *version* changes with every write of the entry; *ident*
is the engine's own name of the row.
"""

GUARD: Final = 64
"""Added to the mode of an entry that the library keeps for itself: a lock, a permit, a guard.

Such an entry expires, and is removed by name or with all others, but is never evicted or culled.
"""

GRACE: Final = 128
"""Added to the mode of an entry that is kept for a while after it has expired, to be served stale.

Engines keep how long in the bits above, and hand out rows without them. Without any, in a put on a
version, it stands for the grace of the entry that is replaced.
"""

GRACE_SHIFT: Final = 8
GRACE_MOST: Final = 2**32 - 1
"""Seconds that an entry is kept at most, in bits 8 to 39."""

HOLD_SHIFT: Final = 40
HOLD_MOST: Final = 2**22 - 2
"""Seconds after the expiry before which nobody computes the value anew, in bits 40 to 61."""
HOLD_FAILED: Final = 2**22 - 1
"""Stands there for a value that is none, but what was raised instead."""

FAILURE_SPAN: Final = 2**31
"""Seconds before its end at which a failure has expired: so long ago that no clock is set so."""

DAMAGED: Final = 15
"""Mode of an entry whose columns do not hold what they must; nothing is stored with it."""

MODE: Final = 0
VALUE: Final = 1
FILE: Final = 2
SIZE: Final = 3
CHECKSUM: Final = 4
EXPIRE_TIME: Final = 5
TAG: Final = 6
VERSION: Final = 7
IDENT: Final = 8


def expiry(expire: float | None, now: float) -> float | None:
    """Return the moment that is *expire* seconds from now; None for never, as NaN is."""
    if expire is None:
        return None
    moment = now + expire
    return None if math.isnan(moment) else moment


def mode_in_grace(mode: int, seconds: float) -> int:
    """Return the mode of an entry that is kept for *seconds* after its expiry, rounded up."""
    return mode | GRACE | min(math.ceil(min(seconds, GRACE_MOST)), GRACE_MOST) << GRACE_SHIFT


def keeps_grace(mode: int) -> bool:
    """Tell whether a put is to keep the grace of the entry that it replaces."""
    return bool(mode & GRACE) and not mode >> GRACE_SHIFT


def check_tag(tag: object) -> None:
    """Refuse a tag that cannot be stored. One of a subclass, such as a StrEnum, loses its class.

    Raises:
        TagTypeError: It is not an int, float, str, bytes or None.
        OverflowError: It is an int of more than 64 bits.
    """
    if isinstance(tag, str):
        if not tag.isascii():
            tag.encode()  # Halves of surrogate pairs cannot be stored: this says so.
    elif isinstance(tag, int):
        if not -(2**63) <= tag < 2**63:
            raise IntegerRangeError(f"a tag that is an int has at most 64 bits: got {tag:d}")
    elif tag is not None and not isinstance(tag, (float, bytes)):
        raise TagTypeError(
            f"tag must be an int, float, str, bytes or None: got {tag!r} of {type(tag).__name__}"
        )


def counted(total: Any) -> Any:
    """Return a sum, if it can be stored.

    Raises:
        TypeError: It is no number.
        OverflowError: It is an int of more than 64 bits, or NaN.
    """
    if not isinstance(total, (int, float, str, bytes)):
        raise TypeError(
            f"counters are numbers of at most 64 bits: got {total!r} of {type(total).__name__}"
        )
    if isinstance(total, float) and total != total:  # noqa: PLR0124 - NaN
        raise IntegerRangeError("counters are numbers: the sum is not one; the old value was kept")
    if isinstance(total, int) and not -(2**63) <= total < 2**63:
        raise IntegerRangeError(
            f"counters are integers of 64 bits: {total} does not fit; the old value was kept"
        )
    return total


class Staged(NamedTuple):
    """A value file that is written but not yet published under its name."""

    name: str
    """Relative name under which it will be found, as `ab/cd/….val`."""
    temporary: str | None
    """Relative name where it lies now; None if it was written in place by a user's `Disk`."""
    size: int
    """Length in bytes."""
    checksum: int | None
    """CRC-32 of the bytes; None if they did not pass through this library."""


Payload: TypeAlias = tuple[int, DbValue, Staged | None]
"""An encoded value, ready to be stored: mode, value, staged file.

Like `Row` a tuple and not a class, because one is made for every write.
"""


def in_place_of(row: Row, payload: Payload) -> Payload:
    """Return a payload that is to keep the grace of the entry that it replaces, if that has one."""
    return payload if row[EXPIRE_TIME] is None else (payload[0] | GRACE, *payload[1:])


class Only(enum.Enum):
    """Condition under which a put happens."""

    ALWAYS = "always"
    ABSENT = "absent"
    """No live entry has the key."""


class RemovalCause(enum.Enum):
    """Why an entry left the cache."""

    DELETED = "deleted"
    REPLACED = "replaced"
    EXPIRED = "expired"
    EVICTED = "evicted"
    CULLED = "culled"
    CROWDED = "crowded"
    """As a victim, because a write to another shard needed room."""
    CLEARED = "cleared"
    CORRUPT = "corrupt"


class Order(enum.Enum):
    """Order in which an engine lists its entries."""

    INSERTION = "insertion"
    KEY = "key"


class Listed(NamedTuple):
    """An entry met while listing."""

    cursor: object
    """Pass it as *after* to continue behind this entry."""
    key: EncodedKey
    row: Row


class OpenedWith(NamedTuple):
    """What everybody who opens a cache has to know."""

    settings: dict[str, Any]
    """Those kept with the cache, as found: unchecked."""
    has_tag_index: bool
    marks: dict[str, DbValue] | None
    """What the cache is marked with; None where that was not looked up."""
