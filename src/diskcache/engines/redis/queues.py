"""Queues, and the two ends of the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from diskcache.engines.base import SkipEntry
from diskcache.engines.redis import commands, keyspace
from diskcache.engines.redis.commands import Edge
from diskcache.engines.redis.keyspace import Shard
from diskcache.engines.redis.listing import Listing
from diskcache.entry import VERSION, EncodedKey, Payload, Row, Tag

T = TypeVar("T")

FIRST_LOOK: Final = 8
"""Members that are looked at first for one that is alive."""
LONGEST_LOOK: Final = 500


class Queues(Listing):
    """Push, pull and edge."""

    def push(
        self,
        prefix: str | None,
        side: str,
        pack: Callable[[EncodedKey], Payload] | Payload,
        expire_time: float | None,
        tag: Tag,
        now: float,
        wait: float | None,
    ) -> int | str:
        """Store an entry beyond an end of a queue; return its key."""
        if self.local.transaction is not None:
            return self.local.transaction.push(prefix, side, pack, expire_time, tag, now)
        shard = self._queue_shard(prefix)
        expected = b"" if isinstance(pack, tuple) else b"?"
        payload = pack if isinstance(pack, tuple) else (0, None, None)
        while True:
            change = commands.put_change(("", 1), payload, expire_time, tag, now)
            change = change._replace(ident=expected)
            call = commands.push(shard, prefix, side, change, now, self._tidy)
            ident, is_stored = commands.read_push(self._run(call, wait), prefix, side)
            key = keyspace.key_of(ident)
            if is_stored:
                return key[0]  # type: ignore[return-value]
            # The value has to be made for its key, and that is another one than thought.
            payload, expected = pack(key), ident  # type: ignore[operator]

    def pull(
        self,
        prefix: str | None,
        side: str,
        now: float,
        wait: float | None,
        load: Callable[[EncodedKey, Row], T],
        *,
        remove: bool,
    ) -> tuple[EncodedKey, T] | None:
        """Return the entry at an end of a queue."""
        if self.local.transaction is not None:
            return self.local.transaction.pull(prefix, side, now, load, remove=remove)
        shard = self._queue_shard(prefix)
        low, high = (b"(" + ident for ident in commands.queue_range(prefix))

        def find() -> tuple[Shard, Edge] | None:
            if side == "back":
                return self._first(shard, "ZREVRANGEBYLEX", (high, low), now)
            return self._first(shard, "ZRANGEBYLEX", (low, high), now)

        return self._take(find, now, wait, load, remove=remove)

    def edge(
        self,
        last: bool,
        now: float,
        wait: float | None,
        load: Callable[[EncodedKey, Row], T],
        *,
        remove: bool,
    ) -> tuple[EncodedKey, T] | None:
        """Return the newest or the oldest entry."""
        name = "ZREVRANGEBYSCORE" if last else "ZRANGEBYSCORE"
        bounds = (b"+inf", b"-inf") if last else (b"-inf", b"+inf")

        def find() -> tuple[Shard, Edge] | None:
            found = [self._first(shard, name, bounds, now) for shard in self.parts]
            there = [each for each in found if each is not None]
            choose = max if last else min
            return choose(there, key=lambda each: each[1].score) if there else None

        return self._take(find, now, wait, load, remove=remove)

    def _take(
        self,
        find: Callable[[], tuple[Shard, Edge] | None],
        now: float,
        wait: float | None,
        load: Callable[[EncodedKey, Row], T],
        *,
        remove: bool,
    ) -> tuple[EncodedKey, T] | None:
        """Load what *find* finds, and remove it if it is still that."""
        while (found := find()) is not None:
            shard, (met, entry, *_) = found
            if entry is None:
                continue
            key = keyspace.key_of(met[-1])
            change = commands.delete_change(key, entry.row[VERSION])
            try:
                result = load(key, entry.row)
            except SkipEntry:
                self._apply(shard, [change], now, wait)
                continue
            if not remove or self._apply(shard, [change], now, wait)[0]:
                return key, result
        return None

    def _first(
        self, shard: Shard, command: str, bounds: tuple[bytes, bytes], now: float
    ) -> tuple[Shard, Edge] | None:
        """Return the first living member of a range and its entry; sweep those before it."""
        most = FIRST_LOOK
        while True:
            call = commands.edge(shard, command, bounds, most, now)
            found = commands.read_edge(self.driver.call(call))
            if not found.met:
                return None
            if found.damaged and self._drop_damaged(shard, found.met[-1], found.damaged):
                continue
            dead = found.met if found.entry is None else found.met[:-1]
            # Those in grace are in the way only if there are very many.
            swept = self._sweep(shard, dead, now, with_grace=most == LONGEST_LOOK)
            if found.entry is not None:
                return shard, found
            if not any(swept) and (len(found.met) < most or most == LONGEST_LOOK):
                # All of them are there, or may not be swept: none is for this reader.
                return self._alive_after_all(shard, found.met, now)
            most = min(most * 4, LONGEST_LOOK)

    def _alive_after_all(
        self, shard: Shard, idents: list[bytes], now: float
    ) -> tuple[Shard, Edge] | None:
        """Look at entries one by one, with their keys declared: their slot may be moving."""
        for ident in idents:
            data = self.driver.command("GET", shard.entry + ident)
            entry = data and keyspace.read_entry(data)
            if entry and self._live_row(shard, entry, now) is not None:
                return shard, Edge([ident], entry)
        return None

    def _live_row(self, shard: Shard, entry: keyspace.Entry, now: float) -> Row | None:
        """Return the row of an entry that is alive."""
        versions = self.driver.command("GET", shard.versions)
        known = self._tag_versions(shard, [entry.tag] if entry.tag else [])
        if not keyspace.is_current(entry, versions, known.get(entry.tag)):
            return None
        expires = entry.row[5]
        return None if expires is not None and expires <= now else entry.row
