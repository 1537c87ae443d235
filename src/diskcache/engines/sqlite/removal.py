"""Bulk removal: one bounded batch inside a write transaction."""

from __future__ import annotations

from typing import Any, Final

from diskcache.engines.base import Batch
from diskcache.engines.sqlite import reading
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.control import ALL_SLOTS, NEVER
from diskcache.engines.sqlite.culling import Culler, as_microseconds, forget
from diskcache.engines.sqlite.s3fifo import NAME
from diskcache.entry import GUARD, EncodedKey, RemovalCause, Tag, check_tag
from diskcache.policy import Rank

BATCH: Final = 500
"""Entries removed in one transaction: two or three milliseconds in which others cannot write."""

CULL_BATCH: Final = 100

CULLS: Final = (RemovalCause.CULLED, RemovalCause.CROWDED)

FRUGAL: Final = 20
"""Entries removed in one transaction while the disk is full."""

FREE_PAGES: Final = 64
"""Free pages that are not worth giving back to the file system."""

VACUUM_PAGES: Final = 2000
"""Pages given back in one transaction."""

PATIENCE: Final = 0.05
"""Seconds that giving them back waits for others who write; then they stay."""


def remove(
    link: Link,
    culler: Culler,
    cause: RemovalCause,
    cursor: Any,
    now: float,
    tag: Tag,
    limit: int | None = None,
) -> Batch:
    """Remove one batch of the entries that *cause* selects."""
    limit = limit or BATCH
    if cause is RemovalCause.EXPIRED:
        return _expire(link, now, limit)
    if cause in CULLS:
        spared = -1 if cursor is None or cause is RemovalCause.CULLED else _rowid(link, cursor)
        return _cull(link, culler, cause, spared, now, min(limit, CULL_BATCH))
    after = -(2**63) if cursor is None else cursor
    if cause is RemovalCause.CLEARED:
        rows = reading.fetch(link.execute, sql.ALL, (after, limit))
    elif tag is None:
        rows = reading.fetch(link.execute, sql.UNTAGGED, (after, limit))
    else:
        check_tag(tag)
        rows = reading.fetch(link.execute, sql.TAGGED, (tag, after, limit))
    for rowid, file, size, key, _ in rows:
        forget(link, rowid, file, size, key)
    if len(rows) == limit:
        return Batch(len(rows), rows[-1][0])
    if cause is RemovalCause.CLEARED and link.execute(sql.LAST_ROWID).get is None:
        culler.stop(link)
    return Batch(len(rows), None)


def _cull(
    link: Link, culler: Culler, cause: RemovalCause, spared: int, now: float, limit: int
) -> Batch:
    """Remove victims while the cache is over its limits."""
    # What it believes may be of a transaction that was rolled back.
    culler.load(link)
    floors = culler.share, culler.share_of_entries
    young: list[float] | None = [] if cause is RemovalCause.CROWDED else None
    removed = culler.remove_victims(link, now, limit, spared, floors=floors, young=young)
    if removed and young is not None:
        link.note_gone(0, removed, len(young))
    return Batch(removed, True if removed else None)


def remove_frugally(
    link: Link, culler: Culler, cause: RemovalCause, cursor: Any, now: float, tag: Tag
) -> Batch:
    """Remove one small batch, or everything at once, which needs less room than any batch."""
    if cause in CULLS:
        batch = _cull_frugally(link, culler)
        if batch.removed and cause is RemovalCause.CROWDED:
            link.note_gone(0, batch.removed)
        return batch
    if cause is not RemovalCause.CLEARED:
        return remove(link, culler, cause, cursor, now, tag, FRUGAL)
    files = reading.fetch(link.execute, "SELECT file FROM Cache WHERE file IS NOT NULL")
    size: int = link.execute(sql.FILE_BYTES).get
    # Without a condition SQLite frees whole pages, and does not write them to the log.
    link.execute("DELETE FROM Cache")
    removed = link.con.changes()
    link.rows -= removed
    link.size -= size
    if files:
        link.note_files()
        link.doomed += [name for (name,) in files if type(name) is str]
    link.touched_all(ALL_SLOTS)
    culler.stop(link)
    return Batch(removed, None)


def _cull_frugally(link: Link, culler: Culler) -> Batch:
    """Remove a few victims; entries that have no rank go in the order in which they came.

    To rank them would take the room that there is not.
    """
    neighbours = culler.neighbours
    beside = 0 if neighbours is None else neighbours.volume()
    if culler.policy.rank is Rank.NONE:
        return Batch(0, None)
    removed = 0
    for rowid, file, size, key, _, mode in reading.fetch(
        link.execute, sql.VICTIMS, (-1, FRUGAL)
    ) or reading.fetch(link.execute, sql.OLDEST, (FRUGAL,)):
        if culler.volume(link) <= max(culler.limit - beside, culler.share):
            return Batch(removed, None)
        if not (type(mode) is int and mode & GUARD):
            forget(link, rowid, file, size, key)
            removed += 1
    return Batch(removed, True if removed else None)


def _expire(link: Link, now: float, limit: int) -> Batch:
    rows = reading.fetch(link.execute, sql.EXPIRED, (now, limit))
    for rowid, file, size, key, _ in rows:
        forget(link, rowid, file, size, key)
    first = link.execute(sql.FIRST_EXPIRY).get
    link.expiry_exact = NEVER if first is None else as_microseconds(first)
    return Batch(len(rows), True if len(rows) == limit else None)


def trim(link: Link, culler: Culler, limit: int, spared: EncodedKey, now: float) -> int:
    """Remove up to *limit* victims, whatever the volume is; rank some older entries first."""
    return culler.remove_first(link, now, limit, _rowid(link, spared))


def ranks(link: Link, limit: int, spared: EncodedKey) -> list[float]:
    """Return the ranks of the next *limit* victims, as far as entries have any; none of queues."""
    if link.execute(sql.STATE, ("rank_policy",)).get == NAME:
        return []
    found = link.execute(sql.RANKS, (_rowid(link, spared), limit)).fetchall()
    return [rank for (rank,) in found]


def _rowid(link: Link, key: EncodedKey) -> int:
    found = link.execute(sql.FIND, key).get
    return int(found[0]) if found else -1


def give_back(link: Link) -> bool:
    """Return some free pages to the file system, if there are many; tell whether more remain."""
    free = link.execute("PRAGMA freelist_count").get
    pages = link.execute("PRAGMA page_count").get
    if free < FREE_PAGES or free * 4 < pages:
        return False
    link.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    left = link.execute("PRAGMA freelist_count").get
    # With sqlite_auto_vacuum=0 all of them stay.
    link.has_changes = link.has_changes or left < free
    return bool(0 < left < free)
