"""The part of `SqliteEngine` that is not about entries: totals, statistics, settings, checks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import apsw

from diskcache.coherence import FULL
from diskcache.engines.base import Book, Finding, Neighbours, Volume
from diskcache.engines.sqlite import checking, opening, reading, sharing, templates, writing
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.control import HITS, MISSES
from diskcache.engines.sqlite.culling import count, file_bytes, pages_in_use
from diskcache.engines.sqlite.errors import read_only, transaction_lost, translate
from diskcache.engines.sqlite.session import Session
from diskcache.entry import DbValue, EncodedKey, OpenedWith
from diskcache.policy import Rank, find_policy

_NOTED: Final = frozenset({Rank.USED, Rank.COUNT, Rank.QUEUES})
"""Policies under which a read is a time, or a number, and nothing else."""


class Upkeep(Session):
    """Totals, statistics, settings and checks."""

    # -- Totals and statistics --

    def count(self) -> int:
        """Return how many entries are stored."""
        return self._query(_count)

    def volume(self) -> Volume:
        """Return bytes of pages in use and of value files."""
        return self._query(_volume)

    def rough_count(self) -> int:
        """Return how many entries are stored, without a look at the directory."""
        link = self._local.link
        if link is not None and not link.is_closed:
            with suppress(apsw.Error):
                return _count(link)
        return self._query(_count)

    def rough_volume(self, slack: float) -> int:
        """Return the volume as it was not long ago."""
        link = self._local.link
        if link is not None and not link.is_closed:
            with suppress(apsw.Error):
                return self._gauge.read(link, slack)
        return self._query(self._gauge.read, slack)

    def look_always(self) -> None:
        """Count the entries of the neighbours at the next write, whatever was known of them."""
        self._culler.look_always()

    def share_limit(self, neighbours: Neighbours) -> None:
        """Judge the size limit together with others."""
        self._culler.neighbours = neighbours

    def hits_and_misses(self) -> tuple[int, int]:
        """Return the counts of reads, those of this process not yet written down included."""
        return self._query(_hits_and_misses)

    def note_read(self, key: EncodedKey, now: float) -> None:
        """Remember that an entry was read, where the eviction policy asks for it."""
        if not self.records_reads:
            return
        reads = self._culler.reads
        if self._culler.notes_times:
            reads[key] = now
        else:
            count = reads.get(key, 0)
            if count < self._culler.most_reads:
                reads[key] = count + 1
            if self._culler.notes_both:
                self._culler.times[key] = now
        if len(reads) >= FULL and not self.is_readonly:
            self._flush_soon()

    def note_promptly(self, key: EncodedKey, now: float) -> bool:
        """Note a read as `note_read` does, unless so many are noted that they are written down."""
        if len(self._culler.reads) + 1 >= FULL:
            return False
        self.note_read(key, now)
        return True

    @property
    def book(self) -> Book | None:
        """Where reads may be noted directly, under a policy of this library that asks for them."""
        culler = self._culler
        return culler if culler.policy.rank in _NOTED else None

    def record(self, hits: int, misses: int) -> None:
        """Count reads; written down by the next write."""
        tally = self._link().site.tally
        tally.hits += hits
        tally.misses += misses
        if tally.hits + tally.misses >= FULL and not self.is_readonly:
            self._flush_soon()

    def reset_statistics(self, wait: float | None) -> None:
        """Set hits and misses to zero."""
        self._write(wait, _reset_statistics)

    # -- Settings --

    def opened_with(self) -> OpenedWith:
        """Return what was found when this thread connected; once, then what is there now."""
        link = self._link()
        found, link.found = link.found, None
        if found is None:
            return OpenedWith(self.stored_settings(), self.has_tag_index(), None)
        return OpenedWith(found.settings, found.has_tag_index, found.marks)

    def stored_settings(self) -> dict[str, Any]:
        """Return the settings kept in the directory, unchecked."""
        return self._query(_settings)

    def store_settings(self, settings: Mapping[str, Any], wait: float | None) -> None:
        """Keep settings in the directory."""
        self._write(wait, self._store_all, settings)

    def _store_all(self, link: Link, settings: Mapping[str, Any]) -> None:
        if "eviction_policy" in settings:
            # What was read under the policy until now counts under the next one.
            self._culler.flush_reads(link)
        for name, value in settings.items():
            link.execute(sql.STORE, (name, value, "setting"))
        link.has_changes = True
        if "eviction_policy" in settings:
            self._culler.restart(link, settings["eviction_policy"])
            templates.drop_indexes(link, find_policy(settings["eviction_policy"]))

    def mark(self, name: str) -> DbValue:
        """Return what the cache is marked with."""
        return self._query(sharing.mark, name)

    def claim(self, name: str, value: DbValue, wait: float | None, *, if_empty: bool) -> DbValue:
        """Mark the cache, unless something forbids it; return the mark."""
        return self._write(wait, sharing.claim, name, value, if_empty)

    def run_pragma(self, name: str, value: Any) -> None:
        """Run a pragma on this thread's connection, now."""
        try:
            opening.run_pragma(self._link().con, name, value)
        except apsw.Error as exc:
            raise translate(exc, self.directory) from exc

    def has_tag_index(self) -> bool:
        """Tell whether there is an index on tags."""
        return self._query(_has_tag_index)

    def delete_version(self, key: EncodedKey, version: int, now: float, wait: float | None) -> bool:
        """Remove a live entry if it is of that version."""
        return self._write(wait, writing.delete_version, key, version, now)

    def refuse_eviction(self, what: str, *, one_place: bool = False) -> None:
        """Refuse nothing: here the settings of the cache decide."""

    def next_fence(self, key: EncodedKey, above: int) -> int:
        """Return the number after *above*: who counts here does so in a file."""
        del key
        return above + 1

    def prepare_policy(self, name: str, wait: float | None, *, lasting: bool) -> None:
        """Try the statements of a policy; with *lasting*, run the one that makes what it needs."""
        policy = find_policy(name)
        if policy.template is None:
            return
        statement = self._query(templates.prepare, policy, lasting)
        if statement is not None:
            self._write(wait, templates.initialize, statement)

    def index_tags(self, wanted: bool, wait: float | None) -> None:
        """Make or drop the index on tags."""
        self._write(wait, _index_tags, wanted)

    def check(self, fix: bool, wait: float | None) -> list[Finding]:
        """Return the broken invariants; with *fix*, mend them."""
        if self.is_readonly:
            if fix:
                raise read_only(self.directory)
            return self._query(checking.look)
        try:
            found = checking.damage(self._link())
            if found and fix:
                return [*found, *self._rebuild()]
            return found or checking.check(self._link(), self._remove, fix, wait)
        except apsw.Error as exc:
            raise translate(exc, self.directory) from exc

    def _rebuild(self) -> list[Finding]:
        """Put a new database in the place of a damaged one, because somebody asked for it."""
        link = self._link()
        if link.depth:
            raise transaction_lost(self.directory)
        done = self.set_aside("", forced=True, seen=link.site.database)
        self._drop()
        link.close()
        return [] if done is None else [Finding("data", done.told(self.directory))]

    @property
    def library(self) -> str:
        """Name and version of the storage library."""
        return f"SQLite {apsw.sqlite_lib_version()}"

    @property
    def off(self) -> dict[str, str]:
        """What is switched off here, and why."""
        return dict(self._link().site.off)


def _count(link: Link) -> int:
    return int(link.execute(sql.COUNT).get) if link.is_broken else count(link)


def _volume(link: Link) -> Volume:
    return Volume(pages_in_use(link), file_bytes(link))


def _hits_and_misses(link: Link) -> tuple[int, int]:
    control = link.site.control
    if control is None:
        found = reading.settings_of(link, sql.SETTINGS, "statistics")
        hits, misses = reading.tally(found.get("hits")), reading.tally(found.get("misses"))
    else:
        hits, misses = control.words[HITS], control.words[MISSES]
    return hits + link.site.tally.hits, misses + link.site.tally.misses


def _settings(link: Link) -> dict[str, Any]:
    return reading.settings_of(link, sql.SETTINGS, "setting")


def _has_tag_index(link: Link) -> bool:
    return link.execute(sql.HAS_INDEX, ("Cache_tag",)).get is not None


def _reset_statistics(link: Link) -> None:
    link.site.tally.hits = link.site.tally.misses = 0
    control = link.site.control
    if control is not None:
        control.words[HITS] = control.words[MISSES] = 0
        return
    for name in ("hits", "misses"):
        link.execute(sql.STORE, (name, 0, "statistics"))


def _index_tags(link: Link, wanted: bool) -> None:
    from diskcache.engines.sqlite.schema import OPTIONAL

    if wanted:
        text = OPTIONAL["Cache_tag"].replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS")
        link.execute(text)
    else:
        link.execute("DROP INDEX IF EXISTS Cache_tag")
    link.has_changes = True
