"""Steps that store, change and remove single entries, inside a write transaction.

Each function is one idea, works on an open transaction, and records in the link what has to
follow after the commit.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from itertools import chain
from typing import Any, Final, TypeAlias, TypeVar

from diskcache.engines.sqlite import reading, room
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.culling import (
    Culler,
    as_microseconds,
    footprint,
    forget,
    pages_in_use,
)
from diskcache.engines.sqlite.errors import directory_error
from diskcache.engines.sqlite.s3fifo import Queues, cost
from diskcache.entry import (
    GRACE,
    GUARD,
    HOLD_MOST,
    HOLD_SHIFT,
    DbValue,
    EncodedKey,
    Only,
    Payload,
    Row,
    Staged,
    Tag,
    check_tag,
    counted,
    keeps_grace,
)

T = TypeVar("T")

SEVERAL: Final = 16
"""Rows from which to measure what they added costs less than to estimate it row by row."""

_NUMBERS = frozenset({int, float})


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
    room.refuse_to_spend(link)
    mode, value, staged = payload
    culler.load(link)
    if link.queues is not None:
        return _put_queued(link, culler, key, payload, expire_time, tag, now)
    if staged is not None:
        return _put_slowly(link, culler, key, payload, expire_time, tag, now)
    if culler.reads and not culler.keeps_reads:
        culler.forget_reads(key, link)
    con = link.con
    con.set_last_insert_rowid(0)
    if expire_time is None and tag is None and culler.is_simple:
        link.run(culler.upsert_simple, (*key, now, mode, value))
    else:
        row = (*key, mode, value, expire_time, tag, now)
        link.run(culler.upsert, _full_row(culler, row))
        if expire_time is not None:
            note_expiry(link, expire_time)
    rowid = con.last_insert_rowid()
    if rowid:
        link.rows += 1
        culler.forget_reads(key, link)
    elif not con.changes():
        return _put_slowly(link, culler, key, payload, expire_time, tag, now)
    link.touched(key[0])
    link.written += footprint(key[0], value)
    culler.after_put(link, now, key, rowid)
    return True


def _put_queued(
    link: Link,
    culler: Culler,
    key: EncodedKey,
    payload: Payload,
    expire_time: float | None,
    tag: Tag,
    now: float,
) -> bool:
    """Store an entry in a queue of s3-fifo; then cull."""
    rowid = _insert_queued(link, culler, key, payload, expire_time, tag, now)
    if not rowid:
        culler.settle(link)
        return _put_slowly(link, culler, key, payload, expire_time, tag, now)
    culler.after_put(link, now, key, rowid)
    return True


def _insert_queued(
    link: Link,
    culler: Culler,
    key: EncodedKey,
    payload: Payload,
    expire_time: float | None,
    tag: Tag,
    now: float,
) -> int:
    """Store an entry without a file in a queue of s3-fifo; 0 if there is one of that key."""
    queues, (mode, value, staged) = link.queues, payload
    if queues is None or staged is not None or mode & GUARD:
        return 0
    size = cost(key[0], value, 0)
    row = (*key, now, expire_time, tag, mode, value)
    sequence, rank = queues.sequence, _insert_new(link, queues, key, row, size)
    if rank is None:
        # Nor is a place taken: whoever reads the state from the database cannot know of it.
        queues.sequence = sequence
        return 0
    if key in culler.reads:
        culler.forget_reads(key, link)
    rowid = int(link.con.last_insert_rowid())
    queues.stored_new(rank, size, rowid, key, now)
    link.rows += 1
    link.touched(key[0])
    link.written += footprint(key[0], value)
    if expire_time is not None:
        note_expiry(link, expire_time)
    return rowid


def _insert_new(
    link: Link, queues: Queues, key: EncodedKey, row: tuple[Any, ...], size: int
) -> float | None:
    """Store an entry if it is new; return its rank, or None if there is one of that key."""
    sequence, rank, ghost = queues.sequence, queues.quick_place(size), queues.ghost_to_find(key)
    if rank is not None and ghost not in queues.unwritten.gone:
        if ghost is None:
            link.run(sql.INSERT_QUEUED, (*row, rank))
        else:
            link.run(sql.INSERT_UNKNOWN, (*row, rank, ghost))
        if link.con.changes():
            return rank
        if ghost is None or link.run(sql.IS_GHOST, (ghost,)).get is None:
            return None
    queues.sequence = sequence
    # An entry that is there is not remembered: nothing is lost if it is one.
    rank = queues.place(link, key, size)
    link.run(sql.INSERT_QUEUED, (*row, rank))
    return rank if link.con.changes() else None


PlainRow: TypeAlias = tuple[Any, int, int, DbValue, float | None, Tag, float]
"""An entry without a file: key, raw, mode, value, expire_time, tag, now."""


def put_batch(link: Link, culler: Culler, rows: list[PlainRow], now: float) -> None:
    """Store many entries without files, in their order; then cull.

    Rows are counted by the largest row number: nothing is removed while they are stored, and a
    new row gets the next number.
    """
    room.refuse_to_spend(link)
    culler.load(link)
    if link.queues is not None:
        _put_each(link, culler, rows, now)
        return
    if culler.reads:
        _forget_reads(link, culler, rows)
    before, version = link.execute(sql.BEFORE_BATCH).get
    in_use = pages_in_use(link) if len(rows) >= SEVERAL else None
    changes = _store_all(link, culler, rows, version)
    link.touched_all([row[0] for row in rows])
    link.rows += (link.execute(sql.LAST_ROWID).get or 0) - (before or 0)
    if in_use is None:
        link.written += sum(footprint(row[0], row[3]) for row in rows)
    else:
        link.written += max(pages_in_use(link) - in_use, 0)
    expiries = [row[4] for row in rows if row[4] is not None]
    if expiries:
        note_expiry(link, min(expiries))
    if changes != len(rows):
        _replace_files(link, culler, rows)
    culler.after_put(link, now, rows[-1][:2], 0, puts=len(rows))


def _store_all(link: Link, culler: Culler, rows: list[PlainRow], version: int) -> int:
    """Store rows, but for those whose old row has a file; return how many."""
    simple, full = culler.numbered
    numbered: list[tuple[Any, ...]] = [
        (key, raw, at, mode, value, number)
        for number, (key, raw, mode, value, expire_time, tag, at) in enumerate(rows, version)
        if expire_time is None and tag is None
    ]
    if culler.is_simple and len(numbered) == len(rows):
        return _run_together(link, simple, numbered)
    numbered = [(*_full_row(culler, row), number) for number, row in enumerate(rows, version)]
    return _run_together(link, full, numbered)


def _run_together(link: Link, statement: str, rows: list[tuple[Any, ...]]) -> int:
    """Store rows, many with each statement; return how many entries were changed."""
    con = link.con
    changes = con.total_changes()
    whole = len(rows) - len(rows) % sql.TOGETHER
    if whole:
        flat = list(chain.from_iterable(rows[:whole]))
        width = len(rows[0]) * sql.TOGETHER
        parts = [flat[start : start + width] for start in range(0, len(flat), width)]
        con.executemany(sql.STORE_TOGETHER[statement], parts)
    if whole < len(rows):
        con.executemany(statement, rows[whole:])
    return con.total_changes() - changes


def _forget_reads(link: Link, culler: Culler, rows: list[PlainRow]) -> None:
    """Forget what was read of entries that are stored, but for what those keep that are there."""
    for key in (row[:2] for row in rows if row[:2] in culler.reads):
        if not (culler.keeps_reads and link.execute(sql.FIND, key).get is not None):
            culler.forget_reads(key, link)


def _put_each(link: Link, culler: Culler, rows: list[PlainRow], now: float) -> None:
    """Store entries one by one, because each has to find its queue; then cull."""
    for key, raw, mode, value, expire_time, tag, at in rows:
        _store_slowly(link, culler, (key, raw), (mode, value, None), expire_time, tag, at)
    culler.after_put(link, now, rows[-1][:2], 0, puts=len(rows))


def _full_row(culler: Culler, row: PlainRow) -> tuple[Any, ...]:
    key, raw, mode, value, expire_time, tag, now = row
    accessed = culler.access_time_of_new(now)
    rank = None
    if culler.by is not None and not mode & GUARD:
        rank = culler.rank_of_new(now, key, value, 0, expire_time, tag)
    return (key, raw, now, expire_time, accessed, tag, mode, value, rank)


def _replace_files(link: Link, culler: Culler, rows: list[PlainRow]) -> None:
    """Store those of *rows* whose old row has a file, and was therefore left alone.

    Only the last of several rows of one key counts. Nothing is culled in between: that could
    remove an old row before its new value has come.
    """
    for key, raw, mode, value, expire_time, tag, now in {row[:2]: row for row in rows}.values():
        found = reading.first(link.execute, sql.FIND, (key, raw))
        if found is not None and found[2] is not None:
            payload = (mode, value, None)
            _store_slowly(link, culler, (key, raw), payload, expire_time, tag, now)


def note_expiry(link: Link, expire_time: float) -> None:
    """Remember the earliest expiry that was stored."""
    link.expiry_low = min(link.expiry_low, as_microseconds(expire_time))


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
        if keeps_grace(payload[0]):
            payload = (payload[0] & ~GRACE | link.execute(sql.GRACE, key).get, *payload[1:])
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
    """Store an entry where the old or the new value is a file; then cull."""
    rowid = _store_slowly(link, culler, key, payload, expire_time, tag, now)
    culler.after_put(link, now, key, rowid)
    return True


def _store_slowly(
    link: Link,
    culler: Culler,
    key: EncodedKey,
    payload: Payload,
    expire_time: float | None,
    tag: Tag,
    now: float,
) -> int:
    """Store an entry where the old or the new value is a file; return its row number."""
    culler.load(link)
    mode, value, staged = payload
    if staged is not None:
        publish(link, staged)
    file, size, checksum = (
        (None, 0, None) if staged is None else (staged.name, staged.size, staged.checksum)
    )
    found = reading.first(link.execute, sql.FIND_PLACE, key)
    times = (now, expire_time, culler.access_time_of_new(now))
    try:
        rank, hits = _placed(link, culler, key, payload, found, expire_time, tag, now)
        tail = (rank, file, size, checksum)
        if found is None:
            row = (*key, *times, tag, mode, value, *tail)
            link.execute(sql.INSERT, row)
            rowid = link.con.last_insert_rowid()
            link.rows += 1
        else:
            rowid = found[0]
            link.execute(sql.REPLACE, (*times, hits, tag, mode, value, *tail, rowid))
    except (TypeError, ValueError, OverflowError):
        if staged is not None:
            # Refused, not interrupted: a longer transaction goes on without the file.
            link.published.remove(staged.name)
            link.files.remove(staged.name)
        raise
    _note_stored(link, key, payload, found, rowid, rank)
    if expire_time is not None:
        note_expiry(link, expire_time)
    return int(rowid)


def _placed(
    link: Link,
    culler: Culler,
    key: EncodedKey,
    payload: Payload,
    found: Any,
    expire_time: float | None,
    tag: Tag,
    now: float,
) -> tuple[float | None, Any]:
    """Return rank and reads of an entry that is stored; *found* is what it replaces."""
    mode, value, staged = payload
    size = 0 if staged is None else staged.size
    if found is None or not culler.keeps_reads:
        culler.forget_reads(key, link)
    hits = found[6] if found is not None and culler.keeps_reads else 0
    if mode & GUARD:
        return None, hits
    if link.queues is not None:
        return culler.place(link, key, cost(key[0], value, size), found), hits
    return culler.rank_of_new(now, key[0], value, size, expire_time, tag), hits


def _note_stored(
    link: Link, key: EncodedKey, payload: Payload, found: Any, rowid: int, rank: object
) -> None:
    """Note what follows from a row that was stored in the place of *found*."""
    _, value, staged = payload
    file, size = (None, 0) if staged is None else (staged.name, staged.size)
    if link.queues is not None:
        old_rank, old = (None, 0) if found is None else (found[5], found[7])
        link.queues.changed(rowid, old_rank, old, rank, cost(key[0], value, size))
    if found is not None and found[2] is not None:
        drop_file(link, found[2], found[3], file)
    link.touched(key[0])
    link.size += size
    link.written += footprint(key[0], value) + size


def publish(link: Link, staged: Staged) -> None:
    """Give a value file its name, in the directory that this connection belongs to."""
    if not link.site.is_current():
        raise directory_error(errno.ENOENT, link.site.directory)
    link.note_files()
    # Noted before it is there: a signal handler may raise in between.
    link.published.append(staged.name)
    link.files.publish(staged)


def drop_file(link: Link, old: str, size: object, new: str | None) -> None:
    """Remember that the file of a row is to be removed, unless the new value has the same."""
    link.size -= reading.whole(size)
    if old != new:
        link.note_files()
        link.doomed.append(old)


def delete(link: Link, key: EncodedKey, now: float) -> bool:
    """Remove a live entry. One in grace is removed too, but is nothing that was there."""
    found = link.execute(sql.DELETE, (*key, now)).get
    if found is None:
        return False
    file, size, expire_time, *place = found
    _deleted(link, key, (file, size, *place))
    return not (type(expire_time) is float and expire_time <= now)


def delete_all(link: Link, keys: list[EncodedKey], now: float) -> int:
    """Remove the live entries of *keys*; return how many there were."""
    with link.savepoint():
        return sum(delete(link, key, now) for key in keys)


def delete_version(link: Link, key: EncodedKey, version: int, now: float) -> bool:
    """Remove a live entry if it is of that version."""
    found = link.execute(sql.FIND_VERSION, (*key, now)).get
    return found == version and delete(link, key, now)


def delete_stale(link: Link, key: EncodedKey) -> None:
    """Remove an entry that is kept after its expiry."""
    _deleted(link, key, link.execute(sql.DELETE_STALE, key).get)


def hold_off(link: Link, key: EncodedKey, version: int, until: float) -> None:
    """Let nobody compute the value of an entry in grace before a moment."""
    found = link.execute(sql.FIND, key).get
    if found is None or type(found[1]) is not float:
        return
    seconds = math.ceil(min(max(until - found[1], 0), HOLD_MOST))
    link.execute(sql.HOLD_OFF, (seconds << HOLD_SHIFT, *key, version))
    if link.con.changes():
        link.touched(key[0])


def discard(link: Link, key: EncodedKey, ident: int, file: str) -> bool:
    """Remove an entry if it still names *file*."""
    return _deleted(link, key, link.execute(sql.DISCARD, (*key, ident, file)).get)


def _deleted(link: Link, key: EncodedKey, found: tuple[Any, ...] | None) -> bool:
    if found is None:
        return False
    file, size, *place = found
    if link.queues is not None:
        link.queues.removed(*place)
    link.rows -= 1
    link.touched(key[0])
    if file is not None:
        link.size -= reading.whole(size)
        link.note_files()
        # Bytes, because text that is not UTF-8 could not be read; that names no file of ours.
        link.doomed.append(str(file, errors="replace"))
    return True


def touch(link: Link, key: EncodedKey, expire_time: float | None, now: float) -> bool:
    """Change the expiry of a live entry.

    The call may have waited for the write lock since *now*. What has expired meanwhile, others have
    missed: it must not come back.
    """
    link.execute(sql.TOUCH, (expire_time, *key, max(now, link.clock.time())))
    if not link.con.changes():
        return False
    link.touched(key[0])
    if expire_time is not None:
        note_expiry(link, expire_time)
    return True


def pop(link: Link, key: EncodedKey, now: float, load: Callable[[Row], T]) -> T | None:
    """Load a live entry and remove it."""
    row = reading.first(link.execute, sql.GET, (*key, now))
    if row is None:
        delete_stale(link, key)
        return None
    row = reading.sound(row)
    result = load(row)
    forget(link, row[8], row[2], row[3], key[0])
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
    found = reading.first(link.execute, sql.FIND_NUMBER, key)
    if found is None or (type(found[1]) is float and found[1] < now):
        if default is None:
            raise KeyError(key)
        check_tag(tag)
        total: Any = default + delta
        put(link, culler, key, (1, counted(total), None), expire_time, tag, now)
        return total  # type: ignore[no-any-return]
    rowid, expires, _, _, mode, value, count, label = found
    if type(mode) is not int or mode & ~-GRACE != 1 or type(value) not in _NUMBERS:
        raise TypeError(
            "incr needs an entry that holds a number of at most 64 bits: the one found holds"
            " another kind of value"
        )
    total = counted(value + delta)
    culler.load(link)
    reads = culler.reads_of_use(count)
    accessed = culler.access_time_of_new(now)
    rank = culler.rank_of_new(now, key[0], total, 0, expires, label, reading.whole(count) + reads)
    link.execute(sql.ADD, (now, total, accessed, reads, rank, rowid))
    culler.used(link, key, now)
    link.touched(key[0])
    return total  # type: ignore[no-any-return]
