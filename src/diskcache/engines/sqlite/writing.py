"""Steps that store, change and remove single entries, inside a write transaction.

Each function is one idea, works on an open transaction, and records in the link what has to
follow after the commit.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar


from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.culling import Culler, as_microseconds, footprint, forget
from diskcache.engines.sqlite.errors import tag_error
from diskcache.entry import DbValue, EncodedKey, Only, Payload, Row, Tag
from diskcache.errors import IntegerRangeError

T = TypeVar("T")

_TAG_TYPES = frozenset({int, float, str, bytes, type(None), bool})
_random_bits = random.Random().getrandbits


def put(
    link: Link,
    culler: Culler,
    key: EncodedKey,
    payload: Payload,
    expire_time: float | None,
    tag: Tag,
    now: float,
) -> bool:
    """Store an entry whatever was there; then cull."""
    mode, value, staged = payload
    if staged is not None:
        return _put_slowly(link, culler, key, payload, expire_time, tag, now)
    culler.load(link)
    con = link.con
    con.set_last_insert_rowid(0)
    try:
        link.execute(
            sql.UPSERT,
            (
                *key,
                now,
                expire_time,
                culler.access_time_of_new(now),
                tag,
                mode,
                value,
                _random_bits(40),
                culler.rank_of_new(now),
            ),
        )
    except (TypeError, OverflowError):
        raise tag_problem(tag) from None
    rowid = con.last_insert_rowid()
    if rowid:
        link.rows += 1
    elif not con.changes():
        return _put_slowly(link, culler, key, payload, expire_time, tag, now)
    link.has_changes = True
    link.written += footprint(key[0], value)
    if expire_time is not None:
        _note_expiry(link, expire_time)
    culler.after_put(link, now, key, rowid)
    return True


def tag_problem(tag: object) -> Exception:
    """Return what to raise when the database refused a value it was given."""
    if type(tag) in _TAG_TYPES and not (isinstance(tag, int) and not -(2**63) <= tag < 2**63):
        return OverflowError("value does not fit 64 bits")
    return tag_error(tag)


def _note_expiry(link: Link, expire_time: float) -> None:
    moment = as_microseconds(expire_time)
    link.expiry_low = min(link.expiry_low, moment)


def put_if(
    link: Link,
    culler: Culler,
    key: EncodedKey,
    payload: Payload,
    expire_time: float | None,
    tag: Tag,
    now: float,
    condition: Only | int,
) -> bool:
    """Store an entry if *condition* allows it: no live one, or one of that version."""
    if isinstance(condition, int):
        if link.execute(sql.FIND_VERSION, (*key, now)).get != condition:
            return False
    elif condition is Only.ABSENT and link.execute(sql.CONTAINS, (*key, now)).get is not None:
        return False
    return put(link, culler, key, payload, expire_time, tag, now)


def _put_slowly(
    link: Link,
    culler: Culler,
    key: EncodedKey,
    payload: Payload,
    expire_time: float | None,
    tag: Tag,
    now: float,
) -> bool:
    """Store an entry where the old or the new value is a file."""
    culler.load(link)
    mode, value, staged = payload
    if staged is not None:
        link.note_files()
        link.files.publish(staged)
        link.published.append(staged.name)
    file, size, checksum = (
        (None, 0, None) if staged is None else (staged.name, staged.size, staged.checksum)
    )
    found = link.execute(sql.FIND, key).get
    access_time, rank = culler.access_time_of_new(now), culler.rank_of_new(now)
    shared = (tag, mode, value)
    times = (now, expire_time, access_time)
    tail = (rank, file, size, checksum)
    try:
        if found is None:
            link.execute(sql.INSERT, (*key, *times, *shared, _random_bits(40), *tail))
            rowid = link.con.last_insert_rowid()
            link.rows += 1
        else:
            rowid = found[0]
            link.execute(sql.REPLACE, (*times, *shared, *tail, rowid))
    except BaseException as exc:
        if staged is not None:
            # Inside a longer transaction that goes on, nobody else would remove it.
            link.published.remove(staged.name)
            link.files.remove(staged.name)
        if isinstance(exc, (TypeError, OverflowError)):
            raise tag_problem(tag) from None
        raise
    if found is not None and found[2] is not None:
        link.size -= found[3]
        if found[2] != file:
            link.note_files()
            link.doomed.append(found[2])
    link.has_changes = True
    link.size += size
    link.written += footprint(key[0], value) + size
    if expire_time is not None:
        _note_expiry(link, expire_time)
    culler.after_put(link, now, key, rowid)
    return True


def delete(link: Link, key: EncodedKey, now: float) -> bool:
    """Remove a live entry."""
    return _deleted(link, link.execute(sql.DELETE, (*key, now)).get)


def discard(link: Link, key: EncodedKey, ident: int, file: str) -> bool:
    """Remove an entry if it still names *file*."""
    return _deleted(link, link.execute(sql.DISCARD, (*key, ident, file)).get)


def _deleted(link: Link, found: tuple[str | None, int] | None) -> bool:
    if found is None:
        return False
    file, size = found
    link.rows -= 1
    link.has_changes = True
    if file is not None:
        link.size -= size
        link.note_files()
        link.doomed.append(file)
    return True


def touch(link: Link, key: EncodedKey, expire_time: float | None, now: float) -> bool:
    """Change the expiry of a live entry."""
    link.execute(sql.TOUCH, (expire_time, *key, now))
    if not link.con.changes():
        return False
    link.has_changes = True
    if expire_time is not None:
        _note_expiry(link, expire_time)
    return True


def pop(link: Link, key: EncodedKey, now: float, load: Callable[[Row], T]) -> T | None:
    """Load a live entry and remove it."""
    row = link.execute(sql.GET, (*key, now)).get
    if row is None:
        return None
    result = load(row)
    forget(link, row[8], row[2], row[3])
    return result


def incr(
    link: Link,
    culler: Culler,
    key: EncodedKey,
    delta: float,
    default: float | None,
    expire_time: float | None,
    tag: Tag,
    now: float,
) -> DbValue:
    """Add to a stored number."""
    found = link.execute(sql.FIND_NUMBER, key).get
    if found is None or (found[1] is not None and found[1] < now):
        if default is None:
            raise KeyError(key)
        total: Any = default + delta
        put(link, culler, key, Payload(1, _in_range(total)), expire_time, tag, now)
        return total  # type: ignore[no-any-return]
    rowid, _, _, _, mode, value = found
    if mode != 1:
        raise TypeError(
            "incr needs an entry that holds a number of at most 64 bits: the one found holds"
            " another kind of value"
        )
    total = _in_range(value + delta)
    culler.load(link)
    reads = 1 if culler.policy.records_reads else 0
    accessed = culler.access_time_of_new(now)
    rank = culler.rank_of_new(now)
    if rank == 0.0:
        rank = None
    link.execute(sql.ADD, (now, total, accessed, reads, rank, reads, rowid))
    link.has_changes = True
    return total  # type: ignore[no-any-return]


def _in_range(total: Any) -> Any:
    if isinstance(total, int) and not -(2**63) <= total < 2**63:
        raise IntegerRangeError(
            f"counters are integers of 64 bits: {total} does not fit; the old value was kept"
        )
    return total


