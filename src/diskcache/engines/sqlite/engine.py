"""`SqliteEngine`: each operation is a step of another module, run in the right transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar, cast

import apsw

from diskcache.coherence import Keep, Seen, Source
from diskcache.engines.base import Batch, Capabilities, Put, SkipEntry
from diskcache.engines.sqlite import alone, listing, queues, reading, removal, writing
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.control import BEGIN, END, slot_of
from diskcache.engines.sqlite.culling import SIZED
from diskcache.engines.sqlite.rewriting import Rewriting
from diskcache.engines.sqlite.s3fifo import octets
from diskcache.entry import (
    EXPIRE_TIME,
    FILE,
    GUARD,
    HOLD_FAILED,
    HOLD_SHIFT,
    MODE,
    TAG,
    VALUE,
    DbValue,
    EncodedKey,
    Listed,
    Only,
    Order,
    Payload,
    RemovalCause,
    Row,
    Staged,
    Tag,
    check_tag,
)
from diskcache.errors import CacheFullError, DiskCacheError
from diskcache.keys import queue_bounds
from diskcache.policy import Rank

T = TypeVar("T")

_Step: TypeAlias = list[writing.PlainRow] | Put
"""Rows that are stored at once, or an entry with a file."""

PUTS: Final = 200
"""Rows that a transaction puts aside before it stores them."""

LONG: Final = 2**13
"""Bytes from which a row is not put aside: storing it costs more than the way there."""

ROOMY: Final = 2**23
"""Bytes of a size limit that many rows more or less do not matter to."""

ALWAYS: Final = Only.ALWAYS
"""Looking a member up in its class takes as long as a call of a small function."""

BATCH: Final = 1000
"""Rows of a bulk put that are stored at a time."""

SUSPICION: Final = 0.1
"""Seconds after which a reader asks whether the writer that it waits for is alive."""


class SqliteEngine(Rewriting):
    """An engine on one SQLite database and value files beside it.

    Thread-safe: each thread has a connection of its own, closed when the thread ends.
    Process-safe: writers queue at a gate. Fork-safe: a child connects anew.
    """

    capabilities: Final = Capabilities(transactions=True, ordered=True, files=True, durable=True)

    # -- One key --

    def get(self, key: EncodedKey, now: float) -> Row | None:
        """Return the live entry of *key*."""
        link = self._local.link
        if link is None or not self._look_from <= now < self._look_at or link.puts:
            link = self._reader(now)
        row: Row | None
        if link.is_looking:
            row = self._read(link, sql.GET, (*key, now))
        else:
            link.is_looking = True
            try:
                row = link.look_up(sql.GET, (*key, now)).get
            except (apsw.Error, UnicodeDecodeError) as exc:
                row = self._read_again(link, sql.GET, (*key, now), exc)
            except BaseException:
                # A signal handler raised: an unfinished read would keep an old state in sight.
                link.renew_cursors()
                raise
            link.is_looking = False
        if row is None:
            return None
        if (
            row[VALUE] is None
            or row[FILE] is not None
            or row[EXPIRE_TIME] is not None
            or row[TAG] is not None
        ):
            row = reading.sound(row)
        if self.records_reads:
            self.note_read(key, now)
        return row

    def look(self, key: EncodedKey, now: float, *, noting: bool = True) -> Seen:
        """Return the live entry of *key*, and the generation under which it may be kept.

        The generation is read before the entry; see `diskcache.coherence`.
        """
        link = self._local.link
        if link is None or not self._look_from <= now < self._look_at or link.puts:
            link = self._reader(now)
        source = self._source(link, now)
        slot = generation = 0
        if source is not None:
            slot = slot_of(key[0])
            generation = source.words[slot]
            if generation & 1:
                self._suspect(link, source.words)
                source = None
        row = self.get(key, now) if noting else self._read_soundly(link, (*key, now))
        if row is None and source is not None and self._read(link, sql.FIND, key) is not None:
            # It has expired, by a clock that may be set back.
            source = None
        # The read may have found the connection closed, and made another.
        return row, None if link.is_closed else source, slot, generation

    def find_stale(self, key: EncodedKey, now: float) -> tuple[Row, int] | None:
        """Return an entry in grace, and its word on when to compute it anew."""
        row = self._read(self._reader(now), sql.STALE, (*key, now, now))
        if row is None:
            return None
        mode = row[MODE]
        held = (mode >> HOLD_SHIFT) & HOLD_FAILED if type(mode) is int else 0
        return reading.sound(row), held

    def hold_off(self, key: EncodedKey, version: int, until: float, wait: float | None) -> None:
        """Let nobody compute the value of an entry in grace before a moment."""
        self._write(wait, writing.hold_off, key, version, until)

    def _read_soundly(self, link: Link, values: tuple[Any, ...]) -> Row | None:
        row = self._read(link, sql.GET, values)
        return None if row is None else reading.sound(row)

    def _source(self, link: Link, now: float) -> Source | None:
        """Return where generations are, if what this connection reads next may be kept."""
        if link.depth or link.is_looking or self.is_readonly:
            return None
        control = link.site.control
        if control is None or not link.is_idle():
            return None
        source = control.source
        if monotonic() < source.look_at or source.hidden:
            return source
        is_same = self._look(now) is link and link.site.control is control
        return source if is_same else None

    def _suspect(self, link: Link, words: memoryview[int]) -> None:
        """Mend what a dead writer left, if it is one that makes a generation odd for long."""
        if words[BEGIN] != words[END]:
            now = monotonic()
            if link.suspected_at is None:
                link.suspected_at = now
            elif now - link.suspected_at > SUSPICION:
                link.suspected_at = None
                with suppress(DiskCacheError):
                    self._write(0, _nothing)
        else:
            link.suspected_at = None

    def settings_changed(self) -> None:
        """Take note of a changed eviction policy or limit."""
        policy = self._culler.policy
        self._culler.settings_changed()
        for link in list(self._links):
            link.log_mark = 0
        template = policy.template
        has_limit = policy.rank is not Rank.NONE and self._settings["cull_limit"] > 0
        self._puts = PUTS if self._settings["size_limit"] >= ROOMY else PUTS // 10
        largest = self._settings["value_limit"] or float("inf")
        self._largest = min(largest, self._settings["size_limit"]) if has_limit else largest
        self._doubtful = self._largest / 4
        self._short = min(self._doubtful, LONG)
        self.records_reads = policy.records_reads or bool(template and template["get"])

    def contains(self, key: EncodedKey, now: float) -> bool:
        """Tell whether *key* has a live entry."""
        link = self._local.link
        if link is None or not self._look_from <= now < self._look_at or link.puts:
            link = self._reader(now)
        return self._read(link, sql.CONTAINS, (*key, now)) is not None

    def put(  # noqa: C901 - a call more would cost a tenth of a put in a transaction
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
        """Store an entry; remove its staged file if that does not happen."""
        mode, value, staged = payload
        link, culler = self._local.link, self._culler
        if (
            (link is not None and link.depth and link.hidden is not None and only is ALWAYS)
            and (expire_time is None and tag is None and staged is None)
            and (type(value) not in SIZED or len(value) <= self._short)  # type: ignore[arg-type]
            and not (link.is_broken or link.is_closed or culler.may_refuse)
        ):
            # As `_put_aside`, without the call.
            db_key, raw = key
            puts = link.puts
            puts.append((db_key, raw, mode, value, None, None, now))
            if len(puts) >= self._puts:
                self._store_pending(link)
            return True
        if tag is not None or expire_time is not None:
            expire_time = self._checked(staged, expire_time, tag)
        is_large = (
            type(value) in SIZED
            and len(value) > self._doubtful  # type: ignore[arg-type]
            and self._is_too_large(value)
        )
        if is_large or staged is not None or only is not ALWAYS:
            return self._put_with_care(key, payload, expire_time, tag, now, wait, only)
        if link is not None and not link.is_closed:
            if link.depth:
                if not (link.is_broken or culler.may_refuse):
                    self._put_aside(link, (*key, mode, value, expire_time, tag, now))
                    return True
            elif (culler.keeps_reads or not culler.reads) and alone.put(
                link, culler, key, mode, value, expire_time, tag, now, wait, keep
            ):
                if link.log_pages > link.log_mark:
                    self._tend_log(link)
                return True
        return self._write(wait, writing.put, culler, key, payload, expire_time, tag, now)

    def _put_aside(self, link: Link, row: writing.PlainRow) -> None:
        """Store a row later in this transaction: nobody else looks, and many at once cost less."""
        if link.hidden is None:
            link.hide()
        link.puts.append(row)
        is_long = type(row[3]) in SIZED and len(row[3]) > LONG  # type: ignore[arg-type]
        if is_long or len(link.puts) >= self._puts:
            self._store_pending(link)

    def _checked(self, staged: Staged | None, expire_time: float | None, tag: Tag) -> float | None:
        """Return when an entry expires, if it may have this tag."""
        if tag is not None:
            try:
                check_tag(tag)
            except DiskCacheError:
                self._place.files.discard(staged)
                raise
        return None if expire_time != expire_time else expire_time  # noqa: PLR0124 - NaN

    def _put_with_care(
        self,
        key: EncodedKey,
        payload: Payload,
        expire_time: float | None,
        tag: Tag,
        now: float,
        wait: float | None,
        only: Only | int,
    ) -> bool:
        """Store an entry with a file, or under a condition; or refuse a large one."""
        if payload[2] is not None:
            self._look_soon()
        stored = False
        try:
            if not self.is_too_large(payload):
                args = (self._culler, key, payload, expire_time, tag, now, only)
                stored = self._write(wait, writing.put_if, *args)
        finally:
            if not stored:
                self._place.files.discard(payload[2])
        return stored

    def is_too_large(self, payload: Payload) -> bool:
        """Tell whether a value alone is over the limit on values, or on the size of the cache.

        What the library keeps for itself never is.
        """
        mode, value, staged = payload
        if mode & GUARD:
            return False
        return self._is_too_large(value) if staged is None else staged.size > self._largest

    def _is_too_large(self, value: DbValue) -> bool:
        return isinstance(value, (str, bytes)) and octets(value) > self._largest

    def delete(self, key: EncodedKey, now: float, wait: float | None) -> bool:
        """Remove a live entry; tell whether there was one."""
        link = self._local.link
        if (
            link is not None
            and not (link.depth or link.is_closed)
            and alone.delete(link, self._culler, key, now, wait)
        ):
            if link.log_pages > link.log_mark:
                self._tend_log(link)
            return True
        return self._remove(wait, writing.delete, key, now)

    def change_alone(
        self, key: EncodedKey, step: alone.Step, time: Callable[[], float], wait: float | None
    ) -> bool:
        """Let *step* change an entry of the library's own, if no transaction is needed for it."""
        link = self._local.link
        if link is None or link.depth or link.is_closed:
            return False
        is_done = alone.change(link, self._culler, key, step, time, wait)
        if is_done and link.log_pages > link.log_mark:
            self._tend_log(link)
        return is_done

    def discard(self, key: EncodedKey, ident: int, file: str, wait: float | None) -> bool:
        """Remove an entry whose file is unusable, if it still names that file."""
        if self.is_readonly:
            return False
        return self._remove(wait, writing.discard, key, ident, file)

    def touch(
        self, key: EncodedKey, expire_time: float | None, now: float, wait: float | None
    ) -> bool:
        """Give a live entry another expiry."""
        return self._write(wait, writing.touch, key, expire_time, now)

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
        """Add to a stored number."""
        link = self._local.link
        if link is not None and not (link.depth or link.is_closed or self.records_reads):
            total: DbValue = alone.incr(link, self._culler, key, delta, now, wait)
            if total is not None:
                if link.log_pages > link.log_mark:
                    self._tend_log(link)
                return total
        args = (self._culler, key, delta, default, expire_time, tag, now)
        return self._write(wait, writing.incr, *args)

    def pop(
        self, key: EncodedKey, now: float, wait: float | None, load: Callable[[Row], T]
    ) -> T | None:
        """Load and remove a live entry."""
        return self._remove(wait, writing.pop, key, now, load)

    # -- Many keys --

    def get_many(self, keys: Sequence[EncodedKey], now: float) -> list[Row | None]:
        """Return the live entries of *keys* as of one moment."""
        rows = self._query(reading.get_all, keys, now, now=now)
        if self.records_reads:
            for key, row in zip(keys, rows, strict=True):
                if row is not None:
                    self.note_read(key, now)
        return rows

    def put_many(
        self, puts: Iterable[Put], now: float, wait: float | None, only: Only = Only.ALWAYS
    ) -> int:
        """Store all of *puts* that a condition allows, or none."""
        kept = list(puts)
        try:
            if only is not Only.ALWAYS:
                with self.transaction(wait):
                    return sum(self.put(*put, now, wait, only) for put in kept)
            stored, steps = self._in_steps(kept, now)
            self._look_soon()
            self._write(wait, self._put_all, steps, now)
        except BaseException:
            for put in kept:
                self._place.files.discard(put[1][2])
            raise
        return stored

    def _in_steps(self, puts: list[Put], now: float) -> tuple[int, list[_Step]]:
        """Return how many of *puts* are stored, and batches of rows, entries with files between.

        Entries are stored in their order: one key may come twice. A batch is small beside the size
        limit, because culling comes after each.
        """
        steps: list[_Step] = []
        rows: list[writing.PlainRow] = []
        refused, checked, size = 0, None, 0
        bound = max(self._settings["size_limit"] / 64, ROOMY / 128)
        for put in puts:
            (key, raw), payload, expire_time, tag = put
            mode, value, staged = payload
            if tag is not checked:
                check_tag(tag)
                checked = tag
            length = len(value) if type(value) in SIZED else 8  # type: ignore[arg-type]
            is_doubtful = staged is not None or length > self._doubtful
            if is_doubtful and self.is_too_large(payload):
                refused += 1
                self._place.files.discard(staged)
            elif staged is None:
                rows.append((key, raw, mode, value, expire_time, tag, now))
                size += length
                if len(rows) >= BATCH or size > bound:
                    steps.append(rows)
                    rows, size = [], 0
            else:
                steps += [rows, put]
                rows, size = [], 0
        return len(puts) - refused, [*steps, rows]

    def _put_all(self, link: Link, steps: list[_Step], now: float) -> None:
        culler = self._culler
        with link.savepoint():
            for step in steps:
                if not isinstance(step, list):
                    writing.put(link, culler, *step, now)
                elif step:
                    writing.put_batch(link, culler, step, now)

    def delete_many(self, keys: Iterable[EncodedKey], now: float, wait: float | None) -> int:
        """Remove the live entries of *keys* in one step."""
        return self._remove(wait, writing.delete_all, list(keys), now)

    # -- Queues --

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
        link, culler = self._local.link, self._culler
        key: int | str | None
        if (
            isinstance(pack, tuple)
            and pack[2] is None
            and expire_time is None
            and tag is None
            and link is not None
            and not (link.depth or link.is_closed)
        ):
            key = alone.push(link, culler, prefix, side, pack, now, wait)
            if key is not None:
                if link.log_pages > link.log_mark:
                    self._tend_log(link)
                return key
        args = (culler, prefix, side, pack, expire_time, tag, now)
        key = self._write(wait, queues.push, *args)
        return cast("int | str", key)

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
        if not remove:
            statement = sql.PULL_LAST if side == "back" else sql.PULL_FIRST
            with suppress(SkipEntry):
                return self._glance(statement, queue_bounds(prefix), now, load)
        link = self._local.link
        if remove and link is not None and not (link.depth or link.is_closed):
            taken = alone.pull(link, self._culler, prefix, side, now, wait, load)
            if taken is not None:
                if link.log_pages > link.log_mark:
                    self._tend_log(link)
                return taken[0]
        return self._remove(wait, queues.pull, prefix, side, now, load, remove)

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
        if not remove:
            statement = sql.EDGE_LAST if last else sql.EDGE_FIRST
            with suppress(SkipEntry):
                return self._glance(statement, (now,), now, load)
        return self._remove(wait, queues.edge, last, now, load, remove)

    def _glance(
        self,
        statement: str,
        bounds: tuple[Any, ...],
        now: float,
        load: Callable[[EncodedKey, Row], T],
    ) -> tuple[EncodedKey, T] | None:
        """Answer a peek without the write lock.

        Raises:
            SkipEntry: Something has to be removed for it.
        """
        found = self._query(queues.glance, statement, bounds, now, now=now)
        return None if found is None else (found[0], load(*found))

    # -- Bulk removal and listing --

    def remove(
        self,
        cause: RemovalCause,
        cursor: object | None,
        now: float,
        wait: float | None,
        *,
        tag: Tag = None,
    ) -> Batch:
        """Remove one bounded batch; between two of them others may write."""
        args = (self._culler, cause, cursor, now, tag)
        try:
            batch = self._write(wait, removal.remove, *args)
        except CacheFullError:
            self._make_room()
            batch = self._remove_on_full_disk(wait, removal.remove_frugally, *args)
        link = self._link()
        if link.depth:
            return batch
        if batch.cursor is not None:
            link.site.gate.leave_open()
            return batch
        self._give_back(link, wait)
        return batch

    def trim(self, limit: int, spared: EncodedKey, now: float, wait: float | None) -> int:
        """Remove victims, whatever the volume is."""
        return self._remove(wait, removal.trim, self._culler, limit, spared, now)

    def ranks(self, limit: int, spared: EncodedKey) -> list[float]:
        """Return the ranks of the next victims."""
        return self._query(removal.ranks, limit, spared)

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
        span = listing.Span(order, after, limit, reverse, prefix, tag, until, values, skip)
        return self._query(listing.page, span)

    def last_cursor(self) -> object | None:
        """Return the cursor of the newest entry."""
        return self._query(_last_rowid)


def _nothing(_: Link) -> None:
    """Beginning to write is enough: it mends what a dead writer left."""


def _last_rowid(link: Link) -> int | None:
    rowid: int | None = link.execute(sql.LAST_ROWID).get
    return rowid
