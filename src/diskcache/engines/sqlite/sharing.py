"""What a cache tells others: marks for whoever opens it, its volume for its neighbours."""

from __future__ import annotations

from diskcache.engines.sqlite import reading
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.control import BYTES, COUNT, MASK, WRITTEN
from diskcache.engines.sqlite.culling import file_bytes, pages_in_use
from diskcache.entry import DbValue


def mark(link: Link, name: str) -> DbValue:
    """Return what the cache is marked with."""
    value: DbValue = reading.first(link.execute, sql.STATE, (name,))
    return value


def claim(link: Link, name: str, value: DbValue, if_empty: bool) -> DbValue:
    """Mark the cache, unless something forbids it; return the mark."""
    found = mark(link, name)
    is_free = link.execute(sql.LAST_ROWID).get is None if if_empty else found is None
    if not is_free or found == value:
        return found
    link.execute(sql.STORE, (name, value, "state"))
    link.has_changes = True
    return value


def note(link: Link, name: str, value: DbValue) -> None:
    """Mark the cache anew, or with None no longer."""
    if value is None:
        link.execute(sql.FORGET_STATE, (name,))
    else:
        link.execute(sql.STORE, (name, value, "state"))
    link.has_changes = True


class Gauge:
    """The volume of a cache, with the pages counted only now and then. Threads may share it."""

    def __init__(self) -> None:
        self._seen = (-1, 0, 0)
        """Bytes ever written, entries, and bytes of pages, when pages were last counted."""

    def read(self, link: Link, slack: float) -> int:
        """Return the volume; its pages as of at most *slack* bytes of writing ago.

        What the transaction of this connection has stored and removed counts: in one of several
        shards each would else remove what another one has removed already.
        """
        control = link.site.control
        if control is None:
            return pages_in_use(link) + file_bytes(link)
        words = control.words
        written, entries = words[WRITTEN] + link.written, words[COUNT] + link.rows
        seen, had, pages = self._seen
        # Where entries are removed nothing is written, but then there are fewer of them.
        if seen < 0 or (written - seen) & MASK > slack or had - entries > had >> 6:
            pages = pages_in_use(link)
            self._seen = written, entries, pages
        return pages + words[BYTES] + link.size
