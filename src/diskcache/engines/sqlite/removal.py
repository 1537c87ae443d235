"""Bulk removal: one bounded batch inside a write transaction."""

from __future__ import annotations

from typing import Any, Final

from diskcache.engines.base import Batch
from diskcache.engines.sqlite import reading
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.control import NEVER
from diskcache.engines.sqlite.culling import Culler, as_microseconds, forget
from diskcache.engines.sqlite.s3fifo import NAME
from diskcache.entry import EncodedKey, RemovalCause, Tag

BATCH: Final = 500
"""Entries removed in one transaction: two or three milliseconds in which others cannot write."""

CULL_BATCH: Final = 100

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
) -> Batch:
    """Remove one batch of the entries that *cause* selects."""
    if cause is RemovalCause.EXPIRED:
        return _expire(link, now)
    if cause is RemovalCause.CULLED:
        floors = culler.share, culler.share_of_entries
        removed = culler.remove_victims(link, now, CULL_BATCH, -1, floors=floors)
        return Batch(removed, True if removed else None)
    after = -(2**63) if cursor is None else cursor
    if cause is RemovalCause.CLEARED:
        rows = reading.fetch(link.execute, sql.ALL, (after, BATCH))
    elif tag is None:
        rows = reading.fetch(link.execute, sql.UNTAGGED, (after, BATCH))
    else:
        rows = reading.fetch(link.execute, sql.TAGGED, (tag, after, BATCH))
    for rowid, file, size, key, _ in rows:
        forget(link, rowid, file, size, key)
    if len(rows) == BATCH:
        return Batch(len(rows), rows[-1][0])
    if cause is RemovalCause.CLEARED and link.execute(sql.LAST_ROWID).get is None:
        culler.stop(link)
    return Batch(len(rows), None)


def _expire(link: Link, now: float) -> Batch:
    rows = reading.fetch(link.execute, sql.EXPIRED, (now, BATCH))
    for rowid, file, size, key, _ in rows:
        forget(link, rowid, file, size, key)
    first = link.execute(sql.FIRST_EXPIRY).get
    link.expiry_exact = NEVER if first is None else as_microseconds(first)
    return Batch(len(rows), True if len(rows) == BATCH else None)


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
    link.has_changes = True
    return bool(free > VACUUM_PAGES)
