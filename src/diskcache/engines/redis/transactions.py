"""Several reads and writes of a structure as one step: buffered here, stored by one script.

For as long as it lasts the shard is marked with a token, which keeps other writers away and which
the server drops by itself, should this process die. Reads see the server's entries under what is
buffered. At the end one script stores everything if the token is still there; otherwise nothing is
stored, and `TransactionError` says so. It is for the structures of this library, whose steps are
short: callers of `RemoteCache.transact` are told to use something else.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from diskcache.bridging import keeping
from diskcache.engines.base import Put, SkipEntry
from diskcache.engines.redis import commands, keyspace, scripts
from diskcache.engines.redis.commands import Call, Change
from diskcache.engines.redis.driver import FIRST_NAP, LONGEST_NAP
from diskcache.engines.redis.listing import Span
from diskcache.engines.redis.looped import nap
from diskcache.entry import EncodedKey, Listed, Only, Order, Payload, Row, Tag
from diskcache.errors import (
    DiskCacheError,
    QueueFullError,
    Timeout,
    UnsupportedError,
)
from diskcache.keys import QUEUE_START, queue_bounds, queue_key, queue_number

if TYPE_CHECKING:
    from diskcache.engines.redis.engine import RedisEngine
    from diskcache.engines.redis.keyspace import Shard

T = TypeVar("T")

LEASE: Final = 10.0
"""Seconds after which the server drops the token of a transaction that does nothing."""
LARGEST: Final = 20_000
"""Changes of one transaction at most: one script makes them all."""


class Transaction:
    """What one thread has changed, and not yet stored."""

    def __init__(self, engine: RedisEngine, shard: Shard) -> None:
        self._engine = engine
        self._shard = shard
        self.token = secrets.token_hex(8)
        self._changes: dict[bytes, Change] = {}
        self._rows: dict[bytes, tuple[EncodedKey, Row | None]] = {}
        self._renew_at = 0.0

    # -- Beginning and end --

    def begin(self, wait: float | None) -> None:
        """Mark the shard.

        Raises:
            Timeout: Another transaction held it all the time.
        """
        driver, clock = self._engine.driver, self._engine.clock
        deadline = None if wait is None else clock.monotonic() + wait
        pause = FIRST_NAP
        life = int(LEASE * 1000)
        while not driver.command("SET", self._shard.lock, self.token, "NX", "PX", life):
            if deadline is not None and clock.monotonic() >= deadline:
                raise Timeout
            nap(clock, pause * random.uniform(0.5, 1))
            pause = min(pause * 1.5, LONGEST_NAP)
        self._renew_at = clock.monotonic() + LEASE / 3

    def _keep(self) -> None:
        """Prolong the lease of a transaction that works on."""
        now = self._engine.clock.monotonic()
        if now >= self._renew_at:
            life = int(LEASE * 1000)
            self._engine.driver.command("PEXPIRE", self._shard.lock, life)
            self._renew_at = now + LEASE / 3

    def commit(self) -> None:
        """Store all changes, and let others write again.

        Raises:
            TransactionError: The lease ended before.
        """
        engine, shard = self._engine, self._shard
        if self._changes:
            call = commands.apply(shard, list(self._changes.values()), engine.clock.time(), "0:0")
            engine.driver.call(call._replace(token=self.token))
        self.end()

    def end(self) -> None:
        """Let others write again, unless the lease has ended already."""
        call = Call(scripts.RELEASE, self._shard, (), (), 0.0, token=self.token)
        with suppress(DiskCacheError):
            self._engine.driver.call(call)

    def refuse(self, what: str) -> UnsupportedError:
        """Return the error of something that cannot be part of a step."""
        return UnsupportedError(
            f"{what} cannot be part of a step on a server: do it before or after"
        )

    # -- One entry --

    def get(self, key: EncodedKey, now: float) -> Row | None:
        """Return the live entry of a key, as this transaction would leave it."""
        self._keep()
        ident = keyspace.ident_of(key)
        if ident not in self._rows:
            return self._engine.stored(key, now)
        row = self._rows[ident][1]
        return None if row is None or (row[5] is not None and row[5] <= now) else row

    def put(
        self,
        key: EncodedKey,
        payload: Payload,
        expire_time: float | None,
        tag: Tag,
        now: float,
        only: Only | int = Only.ALWAYS,
    ) -> bool:
        """Buffer an entry, if the condition holds now; nobody else writes until the end."""
        if only is not Only.ALWAYS:
            row = self.get(key, now)
            fits = row is None if only is Only.ABSENT else row is not None and row[7] == only
            if not fits:
                return False
        change = commands.put_change(key, payload, expire_time, tag, now)
        version = int.from_bytes(change.head[10:18], "big")
        row = (payload[0], payload[1], None, 0, None, expire_time, tag, version, version)
        self._note(change, key, row)
        return True

    def delete(self, key: EncodedKey, now: float) -> bool:
        """Buffer a removal; tell whether there was a live entry."""
        if self.get(key, now) is None:
            return False
        self._note(commands.delete_change(key), key, None)
        return True

    def _note(self, change: Change, key: EncodedKey, row: Row | None) -> None:
        if change.ident not in self._changes and len(self._changes) >= LARGEST:
            raise UnsupportedError(
                f"one step on a server changes at most {LARGEST} entries: use a deque in a"
                " directory, or several smaller ones"
            )
        self._changes[change.ident] = change
        self._rows[change.ident] = key, row

    def put_many(self, puts: list[Put], now: float, only: Only = Only.ALWAYS) -> int:
        """Buffer many entries."""
        return sum(self.put(*put, now, only) for put in puts)

    # -- Queues and listing --

    def push(
        self,
        prefix: str | None,
        side: str,
        pack: Callable[[EncodedKey], Payload] | Payload,
        expire_time: float | None,
        tag: Tag,
        now: float,
    ) -> int | str:
        """Buffer an entry beyond an end of a queue."""
        last = next(self._queued(prefix, side), None)
        number: Any = None if last is None else queue_number(prefix, last.key[0])
        if last is None:
            key = queue_key(prefix, QUEUE_START)
        else:
            key = queue_key(prefix, (number or 0) + (1 if side == "back" else -1))
        low, high = queue_bounds(prefix)
        if not low < key < high:  # type: ignore[operator]
            raise QueueFullError(f"cannot push to the {side} of queue {prefix!r}: it is full there")
        encoded = (key, 1)
        payload = pack if isinstance(pack, tuple) else pack(encoded)
        self.put(encoded, payload, expire_time, tag, now)
        return key

    def pull(
        self,
        prefix: str | None,
        side: str,
        now: float,
        load: Callable[[EncodedKey, Row], T],
        *,
        remove: bool,
    ) -> tuple[EncodedKey, T] | None:
        """Return the entry at an end of a queue, and buffer its removal."""
        for listed in self._queued(prefix, side, values=True):
            if listed.row[5] is not None and listed.row[5] <= now:
                continue
            try:
                result = load(listed.key, listed.row)
            except SkipEntry:
                self.delete(listed.key, now)
                continue
            if remove:
                self.delete(listed.key, now)
            return listed.key, result
        return None

    def _queued(self, prefix: str | None, side: str, *, values: bool = False) -> Iterator[Listed]:
        low, high = queue_bounds(prefix)
        after, until = ((high, 1), (low, 1)) if side == "back" else ((low, 1), (high, 1))
        is_back = side == "back"
        while page := self.page(Span(Order.KEY, after, 10, is_back, until=until), values):
            yield from page
            after = page[-1].key  # type: ignore[assignment]

    def page(self, span: Span, values: bool) -> list[Listed]:
        """Return entries in the order of keys, as this transaction would leave them."""
        if span.order is not Order.KEY or span.tag is not None:
            raise self.refuse("iteration in the order of insertion")
        self._keep()
        engine = self._engine
        stored: list[Listed] = []
        while len(stored) < span.limit:
            page = engine.stored_page(span._replace(limit=span.limit), values)
            stored += [each for each in page if keyspace.ident_of(each.key) not in self._rows]
            if len(page) < span.limit:
                break
            span = span._replace(after=page[-1].cursor)
        mine = [
            Listed(key, key, row)
            for ident, (key, row) in self._rows.items()
            if row is not None and self._is_within(ident, span)
        ]
        merged = sorted(
            [*stored, *mine], key=lambda each: keyspace.ident_of(each.key), reverse=span.reverse
        )
        return merged[: span.limit]

    def _is_within(self, ident: bytes, span: Span) -> bool:
        """Tell whether an ident lies in what a page is asked for."""
        first, last = self._first_after(span), span.until
        if first is not None and (ident >= first if span.reverse else ident <= first):
            return False
        if last is not None:
            bound = keyspace.ident_of((last[0], 1))
            return ident >= bound if span.reverse else ident <= bound
        return span.prefix is None or ident.startswith(b"2" + span.prefix.encode())

    def _first_after(self, span: Span) -> bytes | None:
        return None if span.after is None else keyspace.ident_of((span.after[0], 1))

    def count(self) -> int:
        """Return how many entries there would be."""
        engine, shard = self._engine, self._shard
        stored: int = engine.driver.command("ZCARD", shard.order)
        idents = list(self._rows)
        scores = engine.driver.commands([("ZSCORE", shard.order, ident) for ident in idents])
        for ident, score in zip(idents, scores, strict=True):
            stored += (self._rows[ident][1] is not None) - (score is not None)
        return stored


@contextmanager
def transaction(engine: RedisEngine, wait: float | None) -> Iterator[None]:
    """Run the block as one step of this thread; see `Transaction`. It nests."""
    local = engine.local
    if local.transaction is not None:
        yield
        return
    if engine.shards > 1:
        raise UnsupportedError(
            "a step of several entries needs them in one slot of the cluster: use a namespace of"
            " its own with shards=1"
        )
    engine.check_writable()
    begun = Transaction(engine, engine.parts[0])
    try:
        begun.begin(wait)
    except BaseException as exc:
        _give_up(begun, exc)
        raise
    with keeping(local):
        local.transaction = begun
        # What is in memory is not what this thread has written.
        engine.site.tracking.hide()
        try:
            yield
        except BaseException:
            local.transaction = None
            begun.end()
            raise
        else:
            local.transaction = None
            try:
                begun.commit()
            except BaseException as exc:
                _give_up(begun, exc)
                raise
        finally:
            engine.site.tracking.show()


def _give_up(begun: Transaction, exc: BaseException) -> None:
    """Let others write again: who was interrupted does not know whether the shard is marked."""
    # Others hold it, or the server does not answer: then it drops the token by itself.
    if not isinstance(exc, (Timeout, TimeoutError)):
        begun.end()
