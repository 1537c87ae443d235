"""Writes of one statement: the short way of the most common operations.

The order of steps is that of `Link.begin` and `Link.commit`, but the statement is its own
transaction, which saves BEGIN, COMMIT and the machinery around them: a third of a write. A way is
short only while nothing else has to happen: the gate is free of duties that a dead writer left,
nothing has expired, the cache is not near its limit, and no row with a value file is touched.
Otherwise, and after any error, nothing is done, and the caller takes the long way.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, TypeVar

import apsw

from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.control import (
    BEGIN,
    COUNT,
    END,
    FILES,
    MASK,
    NEXT_EXPIRY,
    STATE,
    WRITTEN,
)
from diskcache.engines.sqlite.culling import Culler, as_microseconds, footprint
from diskcache.engines.sqlite.gate import GateClosed
from diskcache.entry import DbValue, EncodedKey, Tag

T = TypeVar("T")

_random_bits: Final = random.Random().getrandbits
INT64_MAX: Final = 2**63 - 1


def _duties(link: Link) -> memoryview[int] | None:
    """Return the words of the control file, or None if there is more to do than one statement.

    Call it with the gate in hand.
    """
    site = link.site
    control = site.control
    if link.is_closed or control is None or monotonic() >= site.look_at:
        return None
    words = control.words
    if words[BEGIN] != words[END] or words[FILES] or site.hits or site.misses:
        return None
    return words


def _with_gate(link: Link, wait: float | None, step: Callable[..., T], *args: Any) -> T | None:
    """Run *step* with the gate in hand and the words of the control file; None if it may not."""
    gate = link.site.gate
    try:
        try:
            gate.acquire(wait, link)
            words = _duties(link)
            return None if words is None else step(link, words, *args)
        finally:
            gate.release(link)
    except GateClosed:
        return None
    except BaseException:
        # A signal handler may have raised just before the release.
        gate.release(link)
        raise


def put(
    link: Link,
    culler: Culler,
    key: EncodedKey,
    mode: int,
    value: DbValue,
    expire_time: float | None,
    tag: Tag,
    now: float,
    wait: float | None,
) -> bool:
    """Store an entry without a file; false if that needs the long way."""
    stored = _with_gate(link, wait, _put, culler, key, mode, value, expire_time, tag, now)
    return stored is not None and stored


def _put(
    link: Link,
    words: memoryview[int],
    culler: Culler,
    key: EncodedKey,
    mode: int,
    value: DbValue,
    expire_time: float | None,
    tag: Tag,
    now: float,
) -> bool:
    if words[STATE] != culler.state or not culler.is_simple:
        return False
    written = words[WRITTEN] + footprint(key[0], value)
    is_expired = expire_time is not None and expire_time < now
    if is_expired or culler.must_look(written, words[NEXT_EXPIRY], now):
        return False
    statement = sql.UPSERT_SIMPLE
    values: tuple[Any, ...] = (*key, now, mode, value, _random_bits(40))
    if expire_time is not None or tag is not None:
        statement = sql.UPSERT
        values = (*values[:3], expire_time, None, tag, *values[3:], None)
        _note_expiry(words, expire_time)
    con = link.con
    con.set_last_insert_rowid(0)
    began = words[BEGIN] = (words[BEGIN] + 1) & MASK
    try:
        link.run(statement, values)
    except apsw.Error:
        words[END] = began
        return False
    if con.last_insert_rowid():
        words[COUNT] += 1
    elif not con.changes():
        words[END] = began
        return False
    words[WRITTEN] = written & MASK
    words[END] = began
    return True


def _note_expiry(words: memoryview[int], expire_time: float | None) -> None:
    if expire_time is not None:
        words[NEXT_EXPIRY] = min(words[NEXT_EXPIRY], as_microseconds(expire_time))


def delete(link: Link, key: EncodedKey, now: float, wait: float | None) -> bool:
    """Remove a live entry without a file; false if there is none, or it needs the long way."""
    return bool(_with_gate(link, wait, _delete, (*key, now)))


def _delete(link: Link, words: memoryview[int], values: tuple[Any, ...]) -> int:
    began = words[BEGIN] = (words[BEGIN] + 1) & MASK
    try:
        link.run(sql.DELETE_SIMPLE, values)
    except apsw.Error:
        words[END] = began
        return 0
    changed = link.con.changes()
    if changed:
        words[COUNT] -= 1
    words[END] = began
    return changed


def incr(
    link: Link,
    culler: Culler,
    key: EncodedKey,
    delta: float,
    now: float,
    wait: float | None,
) -> Any:
    """Add to the number of a live entry; None if that needs the long way."""
    if not culler.is_simple or type(delta) is not int or not -(2**62) < delta < 2**62:
        return None
    low, high = -INT64_MAX - min(delta, 0), INT64_MAX - max(delta, 0)
    return _with_gate(link, wait, _incr, (delta, now, *key, low, high, now))


def _incr(link: Link, words: memoryview[int], values: tuple[Any, ...]) -> Any:
    began = words[BEGIN] = (words[BEGIN] + 1) & MASK
    try:
        total = link.execute(sql.ADD_SIMPLE, values).get
    except apsw.Error:
        total = None
    words[END] = began
    return total
