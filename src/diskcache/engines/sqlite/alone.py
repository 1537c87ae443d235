"""Writes of one statement: the short way of the most common operations.

The order of steps is that of `Link.begin` and `Link.commit` (see `diskcache.coherence`), but the
statement is its own transaction, which saves BEGIN, COMMIT and the machinery around them: a third
of a write. A way is short only while nothing else has to happen: the gate is free of duties that a
dead writer left, nothing has expired, the cache is not near its limit, and no row with a value file
is touched. Otherwise, and after any error, the caller takes the long way.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar

import apsw

from diskcache.coherence import Keep, Source
from diskcache.engines.base import SkipEntry
from diskcache.engines.sqlite import reading
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.control import (
    BEGIN,
    COUNT,
    END,
    FILES,
    MASK,
    NEXT_EXPIRY,
    SPENT,
    STATE,
    WRITTEN,
    slot_of,
)
from diskcache.engines.sqlite.culling import Culler, as_microseconds, footprint
from diskcache.engines.sqlite.gate import GateClosed
from diskcache.engines.sqlite.queues import next_key
from diskcache.engines.sqlite.s3fifo import cost
from diskcache.engines.sqlite.site import save_statistics
from diskcache.entry import (
    FILE,
    GUARD,
    MODE,
    VERSION,
    DbValue,
    EncodedKey,
    Payload,
    Row,
    Tag,
    check_tag,
)
from diskcache.errors import DiskCacheError
from diskcache.keys import queue_bounds

T = TypeVar("T")

INT64_MAX: Final = 2**63 - 1
FAILED: Final = object()
KIND: Final = 15
OWN: Final = GUARD | 5
"""Mode of an entry of the library's own: plain data."""
PICKLE: Final = 4
"""Kind of values whose loading runs code of users, which may use the cache."""


def _duties(link: Link) -> memoryview[int] | None:
    """Return the words of the control file, or None if there is more to do than one statement.

    Call it with the gate in hand.
    """
    site = link.site
    control = site.control
    if link.is_closed or control is None or monotonic() >= site.look_at:
        return None
    words = control.words
    if words[BEGIN] != words[END] or words[FILES] or words[SPENT]:
        return None
    tally = site.tally
    if tally.hits or tally.misses:
        save_statistics(tally, words)
    return words


def _commit(
    link: Link, words: memoryview[int], key: DbValue, statement: str, values: tuple[Any, ...]
) -> Any:
    """Run a statement that is a transaction of its own, on the entry of a stored key.

    The caller ends the write with `words[END] = words[BEGIN]`, when the totals are right. Until
    then, and after an error that leaves open what has happened, the next writer counts.

    Returns:
        What the statement returns; `FAILED` if it did not succeed.
    """
    slot = slot_of(key)
    words[BEGIN] = (words[BEGIN] + 1) & MASK
    words[slot] = odd = words[slot] | 1
    try:
        result = link.run(statement, values).get
    except apsw.BusyError:
        # A program that ignores the gate is writing: nothing has happened.
        words[slot] = (odd + 1) & MASK
        words[END] = words[BEGIN]
        return FAILED
    except apsw.Error:
        return FAILED
    words[slot] = (odd + 1) & MASK
    return result


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
    keep: Keep | None = None,
) -> bool:
    """Store an entry without a file; false if that needs the long way.

    *keep* is called, without the gate, with what the entry may be kept in memory under.
    """
    gate = link.site.gate
    kept = None
    try:
        try:
            gate.acquire(wait, link)
            words = _duties(link)
            if words is None or not _put(
                link, words, culler, key, mode, value, expire_time, tag, now
            ):
                return False
            if keep is not None:
                kept = _settled(link, words, key[0])
        finally:
            gate.release(link)
    except GateClosed:
        return False
    except BaseException:
        gate.release(link)
        raise
    if keep is not None and kept is not None:
        keep(*kept)
    return True


def _settled(link: Link, words: memoryview[int], key: DbValue) -> tuple[Source, int, int] | None:
    """Return source, slot and generation of what was just stored, while nobody else can write."""
    control = link.site.control
    if control is None or control.words is not words:
        return None
    slot = slot_of(key)
    return control.source, slot, words[slot]


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
    if words[STATE] != culler.state or not culler.is_short or mode & GUARD:
        return False
    db_key, raw = key
    written = words[WRITTEN] + footprint(db_key, value)
    if (
        written >= culler.look_from
        or words[COUNT] >= culler.count_from
        or (words[NEXT_EXPIRY] < now * 1e6 and culler.is_culling)
        or (expire_time is not None and expire_time < now)
    ):
        return False
    if culler.has_queues:
        row = (mode, value, expire_time, tag, now)
        return _put_queued(link, words, culler, key, row, written)
    statement = culler.upsert_simple
    values: tuple[Any, ...] = (db_key, raw, now, mode, value)
    if expire_time is not None or tag is not None or not culler.is_simple:
        statement = culler.upsert
        _note_expiry(words, expire_time)
        rank = culler.rank_of_new(now, db_key, value, 0, expire_time, tag)
        accessed = culler.access_time_of_new(now)
        values = (db_key, raw, now, expire_time, accessed, tag, mode, value, rank)
    con = link.con
    con.set_last_insert_rowid(0)
    if _commit(link, words, db_key, statement, values) is FAILED:
        return False
    stored = True
    if con.last_insert_rowid():
        words[COUNT] = (words[COUNT] + 1) & MASK
        if culler.reads:
            culler.forget_reads(key)
    else:
        stored = bool(con.changes())
    words[WRITTEN] = written & MASK
    words[END] = words[BEGIN]
    return stored


def _put_queued(
    link: Link,
    words: memoryview[int],
    culler: Culler,
    key: EncodedKey,
    row: tuple[int, DbValue, float | None, Tag, float],
    written: int,
) -> bool:
    """Store an entry at the end of a queue of s3-fifo, if it is new and nothing is known of it."""
    mode, value, expire_time, tag, now = row
    queues = culler.kept.take(link.database(), words[BEGIN], culler.state)
    if queues is None:
        return False
    size = cost(key[0], value, 0)
    sequence, rank = queues.sequence, queues.quick_place(size)
    ghost = queues.ghost_to_find(key)
    if rank is None or ghost in queues.unwritten.gone:
        queues.sequence = sequence
        culler.kept.keep(words[BEGIN], culler.state, queues)
        return False
    _note_expiry(words, expire_time)
    values: tuple[Any, ...] = (*key, now, expire_time, tag, mode, value, rank)
    statement = sql.INSERT_QUEUED
    if ghost is not None:
        statement, values = sql.INSERT_UNKNOWN, (*values, ghost)
    if _commit(link, words, key[0], statement, values) is FAILED:
        culler.kept.leave(queues)
        return False
    is_stored = bool(link.con.changes())
    if is_stored:
        if key in culler.reads:
            culler.forget_reads(key)
        queues.stored_new(rank, size, link.con.last_insert_rowid(), key, now)
        words[COUNT] = (words[COUNT] + 1) & MASK
        words[WRITTEN] = written & MASK
    else:
        queues.sequence = sequence
    culler.kept.keep(words[BEGIN], culler.state, queues)
    words[END] = words[BEGIN]
    return is_stored


def _note_expiry(words: memoryview[int], expire_time: float | None) -> None:
    if expire_time is not None:
        words[NEXT_EXPIRY] = min(words[NEXT_EXPIRY], as_microseconds(expire_time))


def delete(link: Link, culler: Culler, key: EncodedKey, now: float, wait: float | None) -> bool:
    """Remove a live entry without a file; false if there is none, or it needs the long way."""
    return bool(_with_gate(link, wait, _delete, culler, (*key, now)))


def _is_uncounted(words: memoryview[int], culler: Culler) -> bool:
    """Tell whether a row may go without being counted out of a queue."""
    return words[STATE] == culler.state and not culler.has_queues


def _delete(link: Link, words: memoryview[int], culler: Culler, values: tuple[Any, ...]) -> int:
    if not _is_uncounted(words, culler):
        return 0
    if _commit(link, words, values[0], sql.DELETE_SIMPLE, values) is FAILED:
        return 0
    changed = link.con.changes()
    if changed:
        words[COUNT] = max(words[COUNT] - 1, 0)
    words[END] = words[BEGIN]
    return changed


def push(
    link: Link,
    culler: Culler,
    prefix: str | None,
    side: str,
    payload: Payload,
    now: float,
    wait: float | None,
) -> Any:
    """Store an entry beyond an end of a queue; None if that needs the long way."""
    return _with_gate(link, wait, _push, culler, prefix, side, payload, now)


def _push(
    link: Link,
    words: memoryview[int],
    culler: Culler,
    prefix: str | None,
    side: str,
    payload: Payload,
    now: float,
) -> Any:
    statement = sql.QUEUE_LAST if side == "back" else sql.QUEUE_FIRST
    try:
        key = next_key(prefix, side, link.run(statement, queue_bounds(prefix)).get)
    except UnicodeDecodeError:
        reading.abandon(link)
        return None
    except (apsw.Error, DiskCacheError):
        # Raised again on the long way; from here it would keep the control file mapped.
        return None
    mode, value, _ = payload
    is_stored = _put(link, words, culler, (key, 1), mode, value, None, None, now)
    return key if is_stored else None


def pull(
    link: Link,
    culler: Culler,
    prefix: str | None,
    side: str,
    now: float,
    wait: float | None,
    load: Callable[[EncodedKey, Row], T],
) -> tuple[tuple[EncodedKey, T] | None] | None:
    """Take the entry at an end of a queue; None if that needs the long way.

    What was taken, or None if the queue is empty, is in a tuple.
    """
    return _with_gate(link, wait, _pull, culler, prefix, side, now, load)


def _pull(
    link: Link,
    words: memoryview[int],
    culler: Culler,
    prefix: str | None,
    side: str,
    now: float,
    load: Callable[[EncodedKey, Row], T],
) -> tuple[tuple[EncodedKey, T] | None] | None:
    if not _is_uncounted(words, culler):
        return None
    statement = sql.PULL_LAST if side == "back" else sql.PULL_FIRST
    try:
        found = link.run(statement, queue_bounds(prefix)).get
    except UnicodeDecodeError:
        reading.abandon(link)
        return None
    except apsw.Error:
        return None
    if found is None:
        return (None,)
    key, row = reading.entry(found)
    is_expired = row[5] is not None and row[5] < now
    if is_expired or row[2] is not None or row[MODE] & KIND == PICKLE:
        return None
    try:
        result = load(key, row)
    except (SkipEntry, DiskCacheError):
        return None
    if _commit(link, words, key[0], sql.DELETE_ROW, (row[8],)) is FAILED:
        return None
    words[COUNT] = max(words[COUNT] - 1, 0)
    words[END] = words[BEGIN]
    return ((key, result),)


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
    total = _commit(link, words, values[2], sql.ADD_SIMPLE, values)
    if total is FAILED:
        return None
    words[END] = words[BEGIN]
    return total


Step: TypeAlias = Callable[[Row | None, float], tuple[Payload, float | None, Tag] | bool]
"""Given what there is and the time; returns what is to be stored, False to have it removed, or True
to leave it."""


def change(
    link: Link,
    culler: Culler,
    key: EncodedKey,
    step: Step,
    time: Callable[[], float],
    wait: float | None,
) -> bool:
    """Let *step* decide on an entry of the library's own; false if that needs the long way.

    *step* runs with the gate in hand, but in no transaction: it must use nothing else of the cache.
    It may be asked, and nothing come of it.
    """
    return bool(_with_gate(link, wait, _change, culler, key, step, time))


def _change(
    link: Link,
    words: memoryview[int],
    culler: Culler,
    key: EncodedKey,
    step: Step,
    time: Callable[[], float],
) -> bool:
    now = time()
    if (
        words[STATE] != culler.state
        or words[WRITTEN] >= culler.look_from
        or words[COUNT] >= culler.count_from
        or (words[NEXT_EXPIRY] < now * 1e6 and culler.is_culling)
    ):
        return False
    try:
        row = link.run(sql.GET, (*key, now)).get
    except UnicodeDecodeError:
        reading.abandon(link)
        return False
    except apsw.Error:
        return False
    if row is not None and (row[MODE] != OWN or row[FILE] is not None):
        return False
    wanted = step(None if row is None else reading.sound(row), now)
    if wanted is True:
        return True
    if wanted is False:
        return row is not None and _remove_own(link, words, key, row)
    return _store_own(link, words, culler, key, row, wanted, now)


def _remove_own(link: Link, words: memoryview[int], key: EncodedKey, row: Row) -> bool:
    # A program that ignores the gate may have come between.
    if _commit(link, words, key[0], sql.DELETE_OWN, (row[8], row[VERSION])) is FAILED:
        return False
    changed = link.con.changes()
    if changed:
        words[COUNT] = max(words[COUNT] - 1, 0)
    words[END] = words[BEGIN]
    return bool(changed)


def _store_own(
    link: Link,
    words: memoryview[int],
    culler: Culler,
    key: EncodedKey,
    row: Row | None,
    wanted: tuple[Payload, float | None, Tag],
    now: float,
) -> bool:
    (mode, value, _), expire_time, tag = wanted
    if expire_time is not None and expire_time < now:
        return False
    check_tag(tag)
    _note_expiry(words, expire_time)
    if row is None:
        statement: str = sql.INSERT_OWN
        values: tuple[Any, ...] = (*key, now, expire_time, tag, mode, value)
    else:
        statement = sql.REPLACE_OWN
        values = (now, expire_time, tag, mode, value, row[8], row[VERSION])
    if _commit(link, words, key[0], statement, values) is FAILED:
        return False
    changed = link.con.changes()
    if changed:
        if row is None:
            words[COUNT] = (words[COUNT] + 1) & MASK
        if culler.reads:
            culler.forget_reads(key)
        words[WRITTEN] = (words[WRITTEN] + footprint(key[0], value)) & MASK
    words[END] = words[BEGIN]
    return bool(changed)
