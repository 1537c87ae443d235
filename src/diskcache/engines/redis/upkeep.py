"""The part of the engine that is not about single entries: removal, totals, settings, checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

from diskcache.engines.base import Batch, Finding, Neighbours, Volume
from diskcache.engines.redis import commands, keyspace
from diskcache.engines.redis.core import BEFORE
from diskcache.engines.redis.keyspace import Shard
from diskcache.engines.redis.listing import scored
from diskcache.engines.redis.queues import Queues
from diskcache.entry import DbValue, EncodedKey, OpenedWith, RemovalCause, Tag
from diskcache.errors import DiskCacheError

DRAINED: Final = 500
"""Entries that one step of a bulk removal looks at."""
NOTED: Final = 1000
"""Reads that are counted here before they are written down."""
MEASURED: Final = 100
"""Entries of a shard whose size is looked at to tell that of all."""
SCANNED: Final = 1000


class Place(NamedTuple):
    """How far a bulk removal has come."""

    shard: int
    low: str
    """Score behind which to go on, as a bound of a range."""
    high: str
    """Score of the last entry that was there when it began."""


class Upkeep(Queues):
    """Removal of many entries, totals, statistics, settings, marks and checks."""

    # -- Removal --

    def remove(
        self,
        cause: RemovalCause,
        cursor: object | None,
        now: float,
        wait: float | None,
        *,
        tag: Tag = None,
    ) -> Batch:
        """Remove one bounded batch; what was cleared or evicted counts no more from the first."""
        # NaN equals no tag; stored it is none, which must not mean all that have none.
        if cause in (RemovalCause.CULLED, RemovalCause.CROWDED) or tag != tag:  # noqa: PLR0124
            return Batch(0, None)
        if self.local.transaction is not None:
            raise self.local.transaction.refuse("the removal of many entries")
        place = cursor if isinstance(cursor, Place) else Place(0, "-inf", "")
        shard = self.parts[place.shard]
        ident = keyspace.tag_ident(tag)
        if not place.high:
            place = place._replace(high=self._begin(shard, cause, ident, now, wait))
        is_tag = bool(ident) and cause is RemovalCause.EVICTED
        key = shard.times
        if cause is not RemovalCause.EXPIRED:
            key = shard.tagged(ident) if is_tag else shard.order
        bounds = (key, place.low, place.high, "WITHSCORES", "LIMIT", 0, DRAINED)
        members = scored(self.driver.command("ZRANGEBYSCORE", *bounds))
        idents = [member for _, member in members]
        moment = now if cause is RemovalCause.EXPIRED else BEFORE
        changes = [commands.sweep_change(each, ident if is_tag else b"") for each in idents]
        results = self._apply(shard, changes, moment, wait) if changes else []
        removed = sum(results)
        if len(members) == DRAINED:
            # What is there once more has been stored since, or is kept: go on behind it.
            low = place.low if removed else f"({members[-1][0]!r}"
            return Batch(removed, place._replace(low=low))
        following = place.shard + 1
        return Batch(removed, Place(following, "-inf", "") if following < self.shards else None)

    def _begin(
        self, shard: Shard, cause: RemovalCause, tag: bytes, now: float, wait: float | None
    ) -> str:
        """Make what is to be removed count no more; return the last score there is."""
        if cause is RemovalCause.EXPIRED:
            return f"({now!r}"
        what = "all" if cause is RemovalCause.CLEARED else "tag" if tag else "untagged"
        last = self._run(commands.renew(shard, what, now, tag if what == "tag" else b""), wait)
        return bytes(last).decode()

    def trim(self, limit: int, spared: EncodedKey, now: float, wait: float | None) -> int:
        """Remove nothing: the server chooses victims."""
        del limit, spared, now, wait
        return 0

    def ranks(self, limit: int, spared: EncodedKey) -> list[float]:
        """Return none: the server has an order of its own."""
        del limit, spared
        return []

    # -- Totals --

    def count(self) -> int:
        """Return how many entries are listed; ones that the server evicted may be among them."""
        if self.local.transaction is not None:
            return self.local.transaction.count()
        counts = self.driver.commands([("ZCARD", shard.order) for shard in self.parts])
        return sum(counts)

    def rough_count(self) -> int:
        """Return how many entries are listed."""
        return self.count()

    def volume(self) -> Volume:
        """Return the bytes of memory that entries take, as a sample of them tells."""
        total = self.driver.command("MEMORY", "USAGE", self._meta) or 0
        for shard in self.parts:
            members = self.driver.command("ZRANGE", shard.order, 0, MEASURED - 1)
            sets = [("MEMORY", "USAGE", key) for key in (shard.order, shard.keys, shard.times)]
            sizes = self.driver.commands(
                [*sets, *(("MEMORY", "USAGE", shard.entry + ident) for ident in members)]
            )
            known = [size for size in sizes[3:] if size is not None]
            count = self.driver.command("ZCARD", shard.order)
            total += sum(size or 0 for size in sizes[:3])
            total += round(sum(known) * count / len(members)) if members else 0
        return Volume(total, 0)

    def rough_volume(self, slack: float) -> int:
        """Return the volume."""
        del slack
        return self.volume().pages

    def share_limit(self, neighbours: Neighbours) -> None:
        """Do nothing: the server has one limit for all."""
        del neighbours

    def look_always(self) -> None:
        """Do nothing: the server has one limit for all."""

    # -- Statistics --

    def hits_and_misses(self) -> tuple[int, int]:
        """Return the counts of all processes, as far as they have written them down."""
        self._flush_counts()
        found = self.driver.command("HMGET", self._meta, b"hits", b"misses")
        hits, misses = map(_count_in, found)
        return hits, misses

    def record(self, hits: int, misses: int) -> None:
        """Add to the counts; they are written down from time to time."""
        self._hits += hits
        self._misses += misses
        tally = self.site.tracking.tally
        if self._hits + self._misses + tally.hits + tally.misses >= NOTED:
            self._flush_counts()

    def _flush_counts(self) -> None:
        tally = self.site.tracking.tally
        hits, self._hits, tally.hits = self._hits + tally.hits, 0, 0
        misses, self._misses, tally.misses = self._misses + tally.misses, 0, 0
        if self.is_readonly or not (hits or misses):
            return
        with suppress(DiskCacheError):
            self.driver.command("HINCRBY", self._meta, b"hits", hits)
            self.driver.command("HINCRBY", self._meta, b"misses", misses)

    def reset_statistics(self, wait: float | None) -> None:
        """Set hits and misses to zero."""
        del wait
        tally = self.site.tracking.tally
        self._hits = self._misses = tally.hits = tally.misses = 0
        self.check_writable()
        self.driver.command("HDEL", self._meta, b"hits", b"misses")

    # -- Settings and marks --

    def opened_with(self) -> OpenedWith:
        """Return the settings that the cache was opened with; removal by tag is fast."""
        _ = self.parts
        return OpenedWith(_settings_in(self._open_as or {}), True, None)

    def stored_settings(self) -> dict[str, Any]:
        """Return the settings on the server, as found."""
        return _settings_in(self.driver.hash(self._meta))

    def store_settings(self, settings: dict[str, Any], wait: float | None) -> None:
        """Keep settings on the server."""
        del wait
        self.check_writable()
        fields: list[bytes] = []
        for name, value in settings.items():
            fields += [b"s:" + name.encode(), b"".join(keyspace.pack_value(value))]
        self.driver.command("HSET", self._meta, *fields)

    def mark(self, name: str) -> DbValue:
        """Return what the cache is marked with under *name*."""
        found = self.driver.command("HGET", self._meta, b"m:" + name.encode())
        return None if found is None else _unpacked(found)

    def claim(self, name: str, value: DbValue, wait: float | None, *, if_empty: bool) -> DbValue:
        """Mark the cache with *value*, once; return what it is marked with then."""
        del wait
        if not (if_empty and self.count()):
            self.check_writable()
            packed = b"".join(keyspace.pack_value(value))
            self.driver.command("HSETNX", self._meta, b"m:" + name.encode(), packed)
        return self.mark(name)

    def note(self, name: str, value: DbValue, wait: float | None) -> None:
        """Mark the cache with *value*; with None no longer."""
        del wait
        self.check_writable()
        field = b"m:" + name.encode()
        if value is None:
            self.driver.command("HDEL", self._meta, field)
        else:
            packed = b"".join(keyspace.pack_value(value))
            self.driver.command("HSET", self._meta, field, packed)

    def has_tag_index(self) -> bool:
        """Tell that removal by tag is fast."""
        return True

    def prepare_policy(self, name: str, wait: float | None, *, lasting: bool) -> None:
        """Do nothing: the server has its own policy."""
        del name, wait, lasting

    def index_tags(self, wanted: bool, wait: float | None) -> None:
        """Do nothing: tags are always indexed."""
        del wanted, wait

    def configure(self) -> None:
        """Do nothing: the server has its own configuration."""

    def run_pragma(self, name: str, value: Any) -> None:
        """Do nothing: there is no SQLite here."""
        del name, value

    def watch(self, told: Callable[[int, int, int], None] | None) -> None:
        """Do nothing: what the server removes by itself, it does not tell."""
        del told

    @property
    def off(self) -> dict[str, str]:
        """What is switched off here, and why."""
        found = {
            "size_limit, eviction_policy": "the server's maxmemory and maxmemory-policy decide"
        }
        listener = self.site.listener
        if listener is not None and listener.trouble:
            found["memory_limit"] = listener.trouble
        if self.policy.startswith("allkeys"):
            found["order, len and prefixes"] = f"{self.policy} may evict the lists of entries"
        return found

    @property
    def library(self) -> str:
        """Name and version of the server."""
        return self.driver.server()

    # -- Checks --

    def check(self, fix: bool, wait: float | None) -> list[Finding]:
        """Compare entries with the sets that list them."""
        found: list[Finding] = []
        for shard in self.parts:
            found += self._check_listed(shard, fix)
            found += self._check_unlisted(shard, fix, wait)
            if fix and not self.is_readonly:
                self._forget_tags(shard, wait)
        return found

    def _check_listed(self, shard: Shard, fix: bool) -> Iterator[Finding]:
        """Look for idents that name nothing, and have no time at which they go."""
        for key in (shard.order, shard.keys):
            for idents in self._members_of(key):
                gone = self._without_entry(shard, idents)
                if key == shard.keys:
                    scores = self._scores(shard.order, gone)
                    gone = [i for i, at in zip(gone, scores, strict=True) if at is None]
                for ident in gone:
                    yield Finding("data", f"listed under {ident!r} is an entry that is not there")
                if fix:
                    self._sweep(shard, gone)

    def _members_of(self, key: bytes) -> Iterator[list[bytes]]:
        """Yield the members of a set, many at a time."""
        cursor: Any = b"0"
        while True:
            cursor, flat = self.driver.command("ZSCAN", key, cursor, "COUNT", SCANNED)
            yield [pair[1] for pair in scored(flat)]
            if cursor in (0, b"0"):
                return

    def _scores(self, key: bytes, idents: list[bytes]) -> list[Any]:
        return self.driver.commands([("ZSCORE", key, ident) for ident in idents])

    def _without_entry(self, shard: Shard, idents: list[bytes]) -> list[bytes]:
        asked = [("EXISTS", shard.entry + ident) for ident in idents]
        there, expiring = self.driver.commands(asked), self._scores(shard.times, idents)
        return [
            ident
            for ident, found, at in zip(idents, there, expiring, strict=True)
            if not found and at is None
        ]

    def _check_unlisted(self, shard: Shard, fix: bool, wait: float | None) -> Iterator[Finding]:
        """Look for entries that a set does not list, because the server evicted it."""
        for keys in self.driver.scan(shard.entry, SCANNED):
            idents = [key[len(shard.entry) :] for key in keys]
            scores = [self._scores(listed, idents) for listed in (shard.order, shard.keys)]
            lost = [i for i, *at in zip(idents, *scores, strict=True) if None in at]
            rows = self._rows(shard, lost, values=True) if lost else {}
            for ident in lost:
                yield Finding("data", f"entry {ident!r} is missing in a list of entries")
            if fix and rows:
                self._restore(shard, rows, wait)

    def _forget_tags(self, shard: Shard, wait: float | None) -> None:
        """Remove what is left of tags of entries that expired, which nobody asks for any more."""
        start = shard.tagged(b"")
        for keys in self.driver.scan(start, SCANNED):
            for key in keys:
                for idents in self._members_of(key):
                    there = self.driver.commands([("EXISTS", shard.entry + i) for i in idents])
                    changes = [
                        commands.sweep_change(ident, key[len(start) :])
                        for ident, is_there in zip(idents, there, strict=True)
                        if not is_there
                    ]
                    if changes:
                        self._apply(shard, changes, BEFORE, wait)

    def _restore(self, shard: Shard, rows: dict[bytes, Any], wait: float | None) -> None:
        """Store entries again as they are, which lists them, unless they have changed."""
        now = self.clock.time()
        changes = [
            commands.put_change(
                keyspace.key_of(ident), (row[0], row[1], None), row[5], row[6], now, row[7]
            )
            for ident, row in rows.items()
        ]
        self._apply(shard, changes, now, wait)


def _count_in(found: bytes | None) -> int:
    """Return a count; 0 for what is none."""
    with suppress(ValueError):
        return int(found or 0)
    return 0


def _settings_in(found: dict[bytes, bytes]) -> dict[str, Any]:
    return {
        name[2:].decode(errors="replace"): _unpacked(value)
        for name, value in found.items()
        if name.startswith(b"s:")
    }


def _unpacked(data: bytes) -> DbValue:
    with suppress(ValueError):
        return keyspace.unpack_value(data[:1], data[1:])
    return None
