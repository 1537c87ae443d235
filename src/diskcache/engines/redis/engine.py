"""`RedisEngine`: a cache on a Redis or Valkey server; see `keyspace` for how it lies there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from math import ceil
from typing import Any, Final, TypeVar

from diskcache.coherence import Keep, Seen
from diskcache.engines.base import Capabilities, Put
from diskcache.engines.redis import commands, keyspace
from diskcache.engines.redis.keyspace import Entry, Shard
from diskcache.engines.redis.listing import Span
from diskcache.engines.redis.transactions import transaction
from diskcache.engines.redis.upkeep import Upkeep
from diskcache.entry import (
    EXPIRE_TIME,
    GRACE,
    GRACE_MOST,
    GRACE_SHIFT,
    HOLD_FAILED,
    HOLD_MOST,
    HOLD_SHIFT,
    MODE,
    TAG,
    VALUE,
    VERSION,
    DbValue,
    EncodedKey,
    Listed,
    Only,
    Payload,
    Row,
    Tag,
    counted,
    keeps_grace,
)
from diskcache.errors import DiskCacheError, IntegerRangeError, ServerError

T = TypeVar("T")

LARGEST: Final = 512 * 2**20 - 2**16
"""Bytes of a value at most: a string of the server has 512 MB."""
RAW: Final = 1
"""Mode of a value that is a number itself."""


class RedisEngine(Upkeep):
    """An engine on a Redis or Valkey server, alone, behind sentinels, or a cluster of them.

    Thread-safe; connections are pooled. Process-safe: every operation is one command or script.
    Fork-safe: a child connects anew.
    """

    capabilities: Final = Capabilities(
        transactions=False, ordered=True, files=False, durable=True, one_machine=False
    )
    records_reads = False
    culled_young = 0
    book = None

    # -- One key --

    def get(self, key: EncodedKey, now: float) -> Row | None:
        """Return the live entry of *key*."""
        if self.local.transaction is not None:
            return self.local.transaction.get(key, now)
        return self.stored(key, now)

    def stored(self, key: EncodedKey, now: float) -> Row | None:
        """Return the live entry on the server."""
        entry = self._current(key)
        if entry is None:
            return None
        expires = entry.row[EXPIRE_TIME]
        return None if expires is not None and expires <= now else entry.row

    def _current(self, key: EncodedKey, slot: int | None = None) -> Entry | None:
        """Return the entry on the server, expired or not, unless it was cleared or evicted.

        Args:
            key: The key.
            slot: Under which its answer is to be kept, if it is.
        """
        shard, ident = self._place(key)
        data, versions = self.driver.read("MGET", shard.entry + ident, shard.versions)
        entry = self._read(shard, ident, data)
        if entry is None:
            return None
        tag_version = None
        if entry.tag and entry.tag_version != keyspace.NO_TAG_VERSION:
            if slot is not None:
                self.site.tracking.note_tag(entry.tag, slot)
            tag_version = self.driver.read("GET", shard.tag_version(entry.tag))
        return entry if keyspace.is_current(entry, versions, tag_version) else None

    def find_stale(self, key: EncodedKey, now: float) -> tuple[Row, int] | None:
        """Return an entry in grace, and its word on when to compute it anew."""
        entry = self._current(key)
        if entry is None:
            return None
        row, mode = entry.row, entry.mode
        expires = row[EXPIRE_TIME]
        if expires is None or not expires <= now < expires + keyspace.grace_of(mode):
            return None
        return row, (mode >> HOLD_SHIFT) & HOLD_FAILED

    def hold_off(self, key: EncodedKey, version: int, until: float, wait: float | None) -> None:
        """Let nobody compute the value of an entry in grace before a moment."""
        entry = self._current(key)
        if entry is None or entry.row[EXPIRE_TIME] is None or entry.row[VERSION] != version:
            return
        seconds = ceil(min(max(until - entry.row[EXPIRE_TIME], 0), HOLD_MOST))
        mode = entry.mode & ~(HOLD_FAILED << HOLD_SHIFT) | seconds << HOLD_SHIFT
        shard, ident = self._place(key)
        self._run(commands.hold_off(shard, ident, version, mode, 0.0), wait)

    def look(self, key: EncodedKey, now: float, *, noting: bool = True) -> Seen:
        """Do as `get`, and tell under what the answer may be kept in memory, if it may be."""
        del noting
        if self.local.transaction is not None:
            return self.get(key, now), None, 0, 0
        if self._listener is None or self._listener is not self.site.listener:
            self._listener = self.site.join(self, self._timeout, self.shards)
        ticket = self.site.tracking.ticket(keyspace.ident_of(key))
        if ticket is None:
            return self.get(key, now), None, 0, 0
        if ticket.epoch != self._epoch:
            # Older connections may lead to what was the master before those that tell of changes
            # were made, and nobody tells what becomes of that.
            self.driver.close()
            self._epoch = ticket.epoch
        entry = self._current(key, ticket.slot)
        row = None if entry is None else entry.row
        if row is not None and (expires := row[EXPIRE_TIME]) is not None and expires <= now:
            row = None
        return row, ticket.source, ticket.slot, ticket.generation

    def note_read(self, key: EncodedKey, now: float) -> None:
        """Do nothing: the server notes what is read."""

    def note_promptly(self, key: EncodedKey, now: float) -> bool:
        """Tell that nothing is left to note."""
        del key, now
        return True

    def contains(self, key: EncodedKey, now: float) -> bool:
        """Tell whether *key* has a live entry."""
        if self.local.transaction is not None:
            return self.local.transaction.get(key, now) is not None
        shard, ident = self._place(key)
        row = self._rows(shard, [ident], values=False, sweep=False).get(ident)
        return row is not None and (row[EXPIRE_TIME] is None or row[EXPIRE_TIME] > now)

    def put(
        self,
        key: EncodedKey,
        payload: Payload,
        expire_time: float | None,
        tag: Tag,
        now: float,
        wait: float | None,
        only: Only | int = Only.ALWAYS,
        keep: Keep | None = None,
    ) -> bool:
        """Store an entry. What may be kept in memory is not known before it is read."""
        del keep
        if self.local.transaction is not None:
            return self.local.transaction.put(key, payload, expire_time, tag, now, only)
        if self.is_too_large(payload):
            return False
        shard, _ = self._place(key)
        if keeps_grace(payload[0]):
            payload = self._keeping_grace(key, payload)
        change = commands.put_change(key, payload, expire_time, tag, now, only)
        if (
            not (change.tag or change.condition)
            and change.what == b"p"
            and self._put_alone(shard, change, now)
        ):
            return True
        return bool(self._apply(shard, [change], now, wait)[0])

    def _keeping_grace(self, key: EncodedKey, payload: Payload) -> Payload:
        """Give a value the grace of the entry that it replaces, if that is still the one it was."""
        entry = self._current(key)
        grace = 0 if entry is None else entry.mode & (GRACE | GRACE_MOST << GRACE_SHIFT)
        return payload[0] & ~GRACE | grace, *payload[1:]

    def _put_alone(self, shard: Shard, change: commands.Change, now: float) -> bool:
        """Store an entry by the short script, if that can be; where lists are safe."""
        if self.may_evict_lists:
            return False
        self.check_writable()
        return bool(self.driver.call(commands.put_alone(shard, change, now, self._most)))

    def delete(self, key: EncodedKey, now: float, wait: float | None) -> bool:
        """Remove a live entry; tell whether there was one."""
        if self.local.transaction is not None:
            return self.local.transaction.delete(key, now)
        return self._delete(key, now, wait)

    def delete_version(self, key: EncodedKey, version: int, now: float, wait: float | None) -> bool:
        """Remove a live entry if it is of that version; tell whether it was."""
        return self._delete(key, now, wait, version)

    def _delete(
        self, key: EncodedKey, now: float, wait: float | None, version: int | None = None
    ) -> bool:
        shard, ident = self._place(key)
        if version is None:
            answer = self._run(commands.drop_alone(shard, ident, now), wait)
            if type(answer) is int:
                return answer == 1
        return bool(self._apply(shard, [commands.delete_change(key, version)], now, wait)[0])

    def is_too_large(self, payload: Payload) -> bool:
        """Tell whether a value is larger than what the server takes."""
        value = payload[1]
        if isinstance(value, str):
            return len(value) > LARGEST // 4 and len(value.encode()) > LARGEST
        return isinstance(value, bytes) and len(value) > LARGEST

    def discard(self, key: EncodedKey, ident: int, file: str, wait: float | None) -> bool:
        """Do nothing: no value is in a file."""
        del key, ident, file, wait
        return False

    def touch(
        self, key: EncodedKey, expire_time: float | None, now: float, wait: float | None
    ) -> bool:
        """Give a live entry another expiry."""
        shard, ident = self._place(key)
        return bool(self._run(commands.touch(shard, ident, expire_time, now), wait))

    def incr(
        self,
        key: EncodedKey,
        delta: float,
        default: float | None,
        expire_time: float | None,
        tag: Tag,
        now: float,
        wait: float | None,
    ) -> DbValue:
        """Add to a stored number: by one script if both are 64-bit integers, else step by step."""
        shard, ident = self._place(key)
        is_whole = isinstance(delta, int) and -(2**63) < delta < 2**63
        while True:
            if is_whole:
                word, *digits = self._run(commands.add(shard, ident, int(delta), now), wait)
                if word == b"sum":
                    return int(digits[0])
                if word == b"over":
                    raise IntegerRangeError(
                        f"counters are integers of 64 bits: adding {delta} does not fit; the old"
                        " value was kept"
                    )
            row = self.get(key, now)
            total: DbValue = _sum(key, row, delta, default)
            only: Only | int = Only.ABSENT if row is None else row[VERSION]
            until, label = (expire_time, tag) if row is None else (row[EXPIRE_TIME], row[TAG])
            mode = RAW if row is None or until is None else RAW | GRACE
            if self.put(key, (mode, total, None), until, label, now, wait, only):
                return total

    def pop(
        self, key: EncodedKey, now: float, wait: float | None, load: Callable[[Row], T]
    ) -> T | None:
        """Load a live entry, and remove it if it is still that; else do it again."""
        while (row := self.get(key, now)) is not None:
            result = load(row)
            if self._delete(key, now, wait, row[VERSION]):
                return result
        entry = self._current(key)
        if entry is not None and keyspace.grace_of(entry.mode):
            # An entry in grace must not be served after this; one that was stored meanwhile stays.
            shard, ident = self._place(key)
            self._apply(shard, [commands.sweep_change(ident)], now, wait)
        return None

    # -- Many keys --

    def get_many(self, keys: Sequence[EncodedKey], now: float) -> list[Row | None]:
        """Return the live entries of *keys*: those of one shard as of one moment."""
        if self.local.transaction is not None:
            return [self.local.transaction.get(key, now) for key in keys]
        found: dict[bytes, Row] = {}
        for shard, idents in self._by_shard(keys).values():
            for start in range(0, len(idents), commands_at_once(len(idents))):
                piece = idents[start : start + commands_at_once(len(idents))]
                found.update(self._rows(shard, piece, values=True, sweep=False))
        rows = [found.get(keyspace.ident_of(key)) for key in keys]
        return [
            None
            if row is None or (row[EXPIRE_TIME] is not None and row[EXPIRE_TIME] <= now)
            else row
            for row in rows
        ]

    def _by_shard(self, keys: Iterable[EncodedKey]) -> dict[bytes, tuple[Shard, list[bytes]]]:
        parts: dict[bytes, tuple[Shard, list[bytes]]] = {}
        for key in keys:
            shard, ident = self._place(key)
            parts.setdefault(shard.prefix, (shard, []))[1].append(ident)
        return parts

    def put_many(
        self, puts: Iterable[Put], now: float, wait: float | None, only: Only = Only.ALWAYS
    ) -> int:
        """Store *puts*: all or none of those in one shard, up to a thousand and 8 MB at a time."""
        kept = list(puts)
        if self.local.transaction is not None:
            return self.local.transaction.put_many(kept, now, only)
        parts: dict[bytes, tuple[Shard, list[commands.Change]]] = {}
        for key, payload, expire_time, tag in kept:
            if not self.is_too_large(payload):
                shard, _ = self._place(key)
                change = commands.put_change(key, payload, expire_time, tag, now, only)
                parts.setdefault(shard.prefix, (shard, []))[1].append(change)
        return sum(sum(self._apply(shard, changes, now, wait)) for shard, changes in parts.values())

    def delete_many(self, keys: Iterable[EncodedKey], now: float, wait: float | None) -> int:
        """Remove the live entries of *keys*; return how many there were."""
        if self.local.transaction is not None:
            return sum(self.local.transaction.delete(key, now) for key in keys)
        parts: dict[bytes, tuple[Shard, list[commands.Change]]] = {}
        for key in keys:
            shard, _ = self._place(key)
            change = commands.delete_change(key)
            parts.setdefault(shard.prefix, (shard, []))[1].append(change)
        return sum(sum(self._apply(shard, changes, now, wait)) for shard, changes in parts.values())

    def stored_page(self, span: Span, values: bool) -> list[Listed]:
        """Return a page of what is on the server."""
        held, self.local.transaction = self.local.transaction, None
        try:
            return self.page(
                span.order,
                span.after,
                span.limit,
                reverse=span.reverse,
                prefix=span.prefix,
                until=span.until,
                values=values,
            )
        finally:
            self.local.transaction = held

    # -- Transactions --

    def in_transaction(self) -> bool:
        """Tell whether this thread is inside a step of a structure."""
        return self.local.transaction is not None

    def transaction(self, wait: float | None) -> AbstractContextManager[None]:
        """Return a context for the steps of structures; see `transactions`."""
        return transaction(self, wait)

    def next_fence(self, key: EncodedKey, above: int) -> int:
        """Return a number larger than *above*, and than all before it in the shard of *key*."""
        self.check_writable()
        shard, _ = self._place(key)
        number = int(self.driver.command("INCR", shard.fence))
        if number <= above:
            # The server was emptied, or a replica took over that did not know the last ones.
            number = int(self.driver.command("INCRBY", shard.fence, above - number + 1))
        return number

    def file_error(self, exc: OSError) -> Exception:
        """Return what to raise for an error of a file that a value was read from."""
        return exc if isinstance(exc, DiskCacheError) else ServerError(str(exc))


def commands_at_once(count: int) -> int:
    """Return how many entries to read with one command, of *count*."""
    return min(count, 500) or 1


def _sum(key: EncodedKey, row: Row | None, delta: float, default: float | None) -> Any:
    """Return what `incr` stores.

    Raises:
        KeyError: There is nothing to add to.
        TypeError: It is no number.
        OverflowError: The sum does not fit 64 bits.
    """
    if row is None:
        if default is None:
            raise KeyError(key)
        return counted(default + delta)
    if row[MODE] != RAW or type(row[VALUE]) not in (int, float):
        raise TypeError(
            "incr needs an entry that holds a number of at most 64 bits: the one found holds"
            " another kind of value"
        )
    value: Any = row[VALUE]
    return counted(value + delta)
