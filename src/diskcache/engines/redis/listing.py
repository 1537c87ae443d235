"""Entries in order, of all shards: pages of idents, and then what they name."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from diskcache.engines.redis import commands, keyspace
from diskcache.engines.redis.core import BEFORE, Core
from diskcache.engines.redis.keyspace import HEADER, Entry, Shard
from diskcache.entry import Listed, Order, Row, Tag
from diskcache.errors import CodecError, DiskCacheError

Member: TypeAlias = tuple[Any, bytes, Shard]
"""What it is sorted by, ident, shard."""


class Span(NamedTuple):
    """Which entries to list; see `Engine.page`."""

    order: Order
    after: Any
    limit: int
    reverse: bool = False
    prefix: str | None = None
    tag: Tag = None
    until: Any = None


class Listing(Core):
    """Pages of entries."""

    def page(
        self,
        order: Order,
        after: object | None,
        limit: int,
        *,
        reverse: bool = False,
        prefix: str | None = None,
        tag: Tag = None,
        until: object | None = None,
        values: bool = False,
        skip: int = 0,
    ) -> list[Listed]:
        """Return the next page of entries."""
        span = Span(order, after, limit + skip, reverse, prefix, tag, until)
        if self.local.transaction is not None:
            return self.local.transaction.page(span, values)[skip:]
        found: list[Listed] = []
        members = self._members(span)
        while len(found) < span.limit and (piece := list(islice(members, span.limit - len(found)))):
            found += self._listed(piece, span, values)
        return found[skip:]

    def _members(self, span: Span) -> Iterator[Member]:
        """Yield the members of all shards, in order."""
        of_shard = _by_key if span.order is Order.KEY else _by_score
        parts = [of_shard(self, shard, span) for shard in self.parts]
        return heapq.merge(*parts, key=_place_of, reverse=span.reverse)

    def _listed(self, members: list[Member], span: Span, values: bool) -> list[Listed]:
        """Return the entries of members, without those that are not there."""
        found: dict[bytes, Row] = {}
        for shard in {member[2].prefix: member[2] for member in members}.values():
            idents = [member[1] for member in members if member[2] is shard]
            found.update(self._rows(shard, idents, values))
        wanted = keyspace.tag_ident(span.tag)
        listed = []
        for place, ident, _ in members:
            row = found.get(ident)
            if row is None or (wanted and keyspace.tag_ident(row[6]) != wanted):
                continue
            with suppress(CodecError):
                key = keyspace.key_of(ident)
                cursor = key if span.order is Order.KEY else place
                listed.append(Listed(cursor, key, row))
        return listed

    def _rows(
        self, shard: Shard, idents: list[bytes], values: bool, *, sweep: bool = True
    ) -> dict[bytes, Row]:
        """Return the rows of what idents name, expired ones included; sweep the other idents."""
        entries, versions = self._entries(shard, idents, values)
        tags = sorted({entry.tag for entry in entries if entry is not None and entry.tag})
        known = self._tag_versions(shard, tags)
        rows: dict[bytes, Row] = {}
        for ident, entry in zip(idents, entries, strict=True):
            if entry and keyspace.is_current(entry, versions, known.get(entry.tag)):
                rows[ident] = entry.row
        if sweep:
            self._sweep(shard, [ident for ident in idents if ident not in rows])
        return rows

    def _entries(
        self, shard: Shard, idents: list[bytes], values: bool
    ) -> tuple[list[Entry | None], bytes | None]:
        keys = [shard.entry + ident for ident in idents]
        if values:
            *data, versions = self.driver.command("MGET", *keys, shard.versions)
            return [
                self._read(shard, ident, found) for ident, found in zip(idents, data, strict=True)
            ], versions
        asked = [("GET", shard.versions), *(("GETRANGE", key, 0, keyspace.LOOK) for key in keys)]
        versions, *heads = self.driver.commands(asked)
        return [
            self._whole(key) if _is_cut(head) else commands.read_head(head)
            for key, head in zip(keys, heads, strict=True)
        ], versions

    def _whole(self, key: bytes) -> Entry | None:
        data = self.driver.command("GET", key)
        return None if data is None else keyspace.read_entry(data, with_value=False)

    def _tag_versions(self, shard: Shard, tags: Sequence[bytes]) -> dict[bytes, bytes | None]:
        if not tags:
            return {}
        answers = self.driver.command("MGET", *map(shard.tag_version, tags))
        return dict(zip(tags, answers, strict=True))

    def _sweep(
        self,
        shard: Shard,
        idents: Sequence[bytes],
        now: float = BEFORE,
        *,
        with_grace: bool = True,
    ) -> list[int]:
        """Remove what is left of entries that are not alive, if this may be written."""
        if not idents or self.is_readonly:
            return []
        changes = [commands.sweep_change(ident, with_grace=with_grace) for ident in idents]
        with suppress(DiskCacheError):
            return self._apply(shard, changes, now, 0)
        return []

    def last_cursor(self) -> object | None:
        """Return the cursor of the newest entry."""
        found: list[tuple[float, bytes]] = []
        for shard in self.parts:
            answer = self.driver.command("ZREVRANGE", shard.order, 0, 0, "WITHSCORES")
            found += scored(answer)
        return max(found, default=None)


def _by_key(engine: Listing, shard: Shard, span: Span) -> Iterator[Member]:
    """Yield the members of a shard in the order of keys."""
    low, high = b"-", b"+"
    if span.prefix is not None:
        start = b"2" + span.prefix.encode()
        # No byte of UTF-8 is as large.
        low, high = b"[" + start, b"(" + start + b"\xff"
    if span.after is not None:
        bound = b"(" + _bound(span.after)
        low, high = (low, bound) if span.reverse else (bound, high)
    if span.until is not None:
        bound = b"[" + _bound(span.until)
        low, high = (bound, high) if span.reverse else (low, bound)
    name = "ZREVRANGEBYLEX" if span.reverse else "ZRANGEBYLEX"
    while True:
        bounds = (high, low) if span.reverse else (low, high)
        members = engine.driver.command(name, shard.keys, *bounds, "LIMIT", 0, span.limit)
        yield from ((ident, ident, shard) for ident in members)
        if len(members) < span.limit:
            return
        low, high = (low, b"(" + members[-1]) if span.reverse else (b"(" + members[-1], high)


def _bound(cursor: Any) -> bytes:
    """Return the ident of a cursor; in the order of keys, numbers have but one kind."""
    key, raw = cursor
    return keyspace.ident_of((key, 1 if isinstance(key, (int, float)) else raw))


def _by_score(engine: Listing, shard: Shard, span: Span) -> Iterator[Member]:
    """Yield the members of a shard in the order in which they were stored first."""
    low: Any = "-inf"
    high: Any = "+inf"
    seen: tuple[float, bytes] | None = span.after
    if span.until is not None:
        low, high = (repr(span.until[0]), high) if span.reverse else (low, repr(span.until[0]))
    name = "ZREVRANGEBYSCORE" if span.reverse else "ZRANGEBYSCORE"
    while True:
        if seen is not None:
            low, high = (low, repr(seen[0])) if span.reverse else (repr(seen[0]), high)
        bounds = (high, low) if span.reverse else (low, high)
        # One more than asked for: the last one seen is found again.
        answer = engine.driver.command(
            name, shard.order, *bounds, "WITHSCORES", "LIMIT", 0, span.limit + 1
        )
        members = scored(answer)
        for member in members:
            if seen is None or (member < seen if span.reverse else member > seen):
                yield member, member[1], shard
        if len(members) <= span.limit:
            return
        seen = members[-1]


def scored(answer: Any) -> list[tuple[float, bytes]]:
    """Return score and ident of each member, whatever shape the answer has."""
    if answer and isinstance(answer[0], (list, tuple)):
        return [(float(score), ident) for ident, score in answer]
    return [(float(answer[at + 1]), answer[at]) for at in range(0, len(answer), 2)]


def _place_of(member: Member) -> Any:
    place = member[0]
    return place if isinstance(place, tuple) else (place,)


def _is_cut(head: bytes) -> bool:
    """Tell whether the tag of an entry is longer than what was read of it."""
    if len(head) < HEADER.size:
        return False
    return int.from_bytes(head[HEADER.size - 4 : HEADER.size], "big") + HEADER.size > len(head)
