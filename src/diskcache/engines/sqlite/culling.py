"""Which entries go when a cache is full, and when to look.

Implementation note.

*When to look.* The volume is measured with two pragmas, so not on every write: each write adds a
generous bound of the bytes it may have needed to the word *written* of the control file, and the
volume is measured again when the distance to the limit may have been used up. Entries are counted
there exactly, so a limit on them is compared with a word. Likewise expired
entries are looked for only when the word *next expiry* says that there may be some.

*Order.* See ranking.py, and s3fifo.py for the policy of that name.

*How far.* Down to the limit, or a 256th below it where that is an entry or more: victims are then
removed a few at a time, which touches fewer pages than one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from diskcache.engines.base import Neighbours
from diskcache.engines.sqlite import reading, templates
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.control import BYTES, COUNT, NEVER, NEXT_EXPIRY, WRITTEN
from diskcache.engines.sqlite.ranking import Ranking
from diskcache.engines.sqlite.s3fifo import HITS, Queues
from diskcache.entry import GUARD, DbValue, EncodedKey
from diskcache.policy import Rank

FLUSH_READS: Final = 32
"""Reads that are worth writing down with the next write."""

SLACK: Final = 256
"""Fraction of a limit that may be freed beyond what is needed."""
SHARE_SLACK: Final = 32
"""The same for one of several caches under one limit, of its share."""
SHARE_STEP: Final = 64
"""Fraction of its share that such a cache writes at least before it measures again."""

YOUNG: Final = 10.0
"""Seconds for which an entry should stay; culling it earlier means that the limit is too small."""

MANY: Final = 2**19
"""Entries that a control file is believed to count without a look at the database."""
LEAST_ROW: Final = 16
"""Bytes that a row and its place in the index need at least."""

MOST_EXPIRED: Final = 10_000
"""Expired entries that one write removes, however large *cull_limit* is; and victims, if the volume
is far over the limit."""

EXCESS: Final = 16
"""Fraction of the size limit that the volume may be over it before `cull_limit` is passed."""
LEAST_EXCESS: Final = 2**18
"""Bytes that it may be over it in any case."""

VICTIMS: Final = 100
"""Victims looked up at a time."""

ROW_OVERHEAD: Final = 512
"""Bytes that a row may need besides its value and key, half-full pages included."""
OVERFLOW: Final = 4096
"""Bytes that a long row may waste in its last pages."""

ALWAYS: Final = -1
"""Instead of a number of entries: whenever one is new, all are counted."""

SIZED: Final = frozenset({str, bytes})
"""Types of stored values that have a length."""
_UNLIMITED: Final = float("inf")


def footprint(key: object, value: object) -> int:
    """Return a bound of the bytes that storing an entry may add to the database."""
    size = len(value) if type(value) in SIZED else 8  # type: ignore[arg-type]
    if type(key) in SIZED:
        size += 2 * len(key)  # type: ignore[arg-type]
    return 2 * size + (ROW_OVERHEAD if size < 1000 else ROW_OVERHEAD + OVERFLOW)


def forget(
    link: Link,
    rowid: int,
    file: str | None,
    size: int,
    key: DbValue,
    place: tuple[float, int] | None = None,
) -> None:
    """Remove one row, and remember its key and its file for the commit and the time after it.

    *place* is rank and cost of one in a queue, where they are known.
    """
    if link.queues is None:
        link.run(sql.DELETE_ROW, (rowid,))
    elif place is not None:
        link.run(sql.DELETE_ROW, (rowid,))
        link.queues.removed(rowid, *place)
    else:
        found = link.execute(sql.DELETE_QUEUED, (rowid,)).get
        if found is not None:
            link.queues.removed(*found)
    link.rows -= 1
    link.touched(key)
    if file is not None:
        link.size -= reading.whole(size)
        link.note_files()
        link.doomed.append(file)


class Victim(NamedTuple):
    """An entry that goes."""

    rowid: int
    file: str | None
    size: int
    key: DbValue
    rank: Any
    store_time: Any
    place: tuple[float, int] | None = None
    """Rank and cost of one in a queue."""


class Room:
    """How far one cache is over its limits while victims go."""

    def __init__(self, link: Link, volume: float, entries: float) -> None:
        self._link = link
        self._volume, self._entries = volume, entries
        """Most bytes and entries that this cache may hold."""
        # While victims go pages only become free, so their number need not be asked for again.
        self._pages: int = link.execute("PRAGMA page_count").get
        self.volume = self._measured()

    def _measured(self) -> int:
        free: int = self._link.execute("PRAGMA freelist_count").get
        return (self._pages - free) * self._link.page_size + file_bytes(self._link)

    def is_enough(self) -> bool:
        """Tell whether the cache holds no more than it may; measures it."""
        if count(self._link) > self._entries:
            return False
        if self.volume > self._volume:
            self.volume = self._measured()
        return self.volume <= self._volume

    def lower(self, volume: float, entries: float) -> None:
        """Go on until there is a little room below the limits."""
        self._volume -= volume
        self._entries -= entries


class Culler(Ranking):
    """Decides, inside a write transaction, what has to go."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._measure_at: int | None = None
        self._count_at = _UNLIMITED
        """Entries from which a write has to look whether there are too many."""
        self._measured_for: tuple[float, float] | None = None
        self._capacity, self._by_count = 0.0, False
        self._sized_for: tuple[float, float] | None = None
        self.look_from = float("-inf")
        """Value of the word *written* from which a write has to look whether the cache is full."""
        self.count_from = float("-inf")
        """The same of the word *count*."""
        self.is_culling = False
        """Whether writes remove anything, expired entries included."""
        self._excess = 0.0
        """Bytes over the limit when the volume was last measured."""
        self.neighbours: Neighbours | None = None

    @property
    def limit(self) -> float:
        """Bytes that this cache, its neighbours included, may hold."""
        size: float = self._settings["size_limit"]
        return size

    @property
    def share(self) -> float:
        """Bytes that this cache may hold whatever its neighbours do."""
        limit: float = self._settings["size_limit"]
        return 0 if self.neighbours is None else limit / self.neighbours.shards

    @property
    def share_of_entries(self) -> float:
        """Entries that this cache may hold whatever its neighbours do."""
        limit: int = self._settings["count_limit"]
        return 0 if self.neighbours is None else limit / self.neighbours.shards

    def _beside(self) -> tuple[int, int]:
        """Return the bytes and entries that count against the limits but are held elsewhere."""
        if self.neighbours is None:
            return 0, 0
        entries = self.neighbours.count() if self._settings["count_limit"] else 0
        return self.neighbours.volume(), entries

    def look_always(self) -> None:
        """Count entries at the next write, those of the neighbours too."""
        self._count_at = ALWAYS
        self._note_bounds()

    def _limits(self) -> tuple[float, float]:
        return self._settings["size_limit"], self._settings["count_limit"] or _UNLIMITED

    def forget_measure(self) -> None:
        """Take note that the order, or a limit, may be another one."""
        super().forget_measure()
        self._measure_at = None
        self._note_bounds()

    # -- After a row was stored --

    def after_put(
        self, link: Link, now: float, key: tuple[Any, Any] | None, rowid: int, puts: int = 1
    ) -> None:
        """Remove expired entries, then victims while the cache is over its limits.

        The entry that was just written, *key* or *rowid*, is never a victim. No more than
        `cull_limit` entries go for each of *puts* entries that were stored, unless the volume is
        far over the limit: where entries were small and get large, more must go than come.
        """
        if len(self.reads) >= FLUSH_READS:
            self.flush_some(link)
        budget = self._settings["cull_limit"] * puts
        if budget <= 0:
            return
        control = link.site.control
        if control is not None:
            words = control.words
            if words[NEXT_EXPIRY] < now * 1e6 or link.expiry_low < now * 1e6:
                budget -= self._remove_expired(link, now, budget)
            if words[WRITTEN] + link.written < self.look_from and (
                words[COUNT] + link.rows <= self.count_from
                or (self.count_from == ALWAYS and link.rows <= 0)
            ):
                return
        else:
            budget -= self._remove_expired(link, now, budget)
        if budget > 0 and self.policy.rank is not Rank.NONE and self._is_full(link):
            if not rowid and key is not None:
                found = reading.first(link.execute, sql.FIND, key)
                rowid = found[0] if found else 0
            self._make_room(link, now, self._most_victims(budget), rowid)

    def _most_victims(self, budget: int) -> int:
        """Return how many victims may go: *budget*, or more if the volume is far too large."""
        margin = max(self._settings["size_limit"] / EXCESS, LEAST_EXCESS)
        return max(budget, MOST_EXPIRED) if self._excess > margin else budget

    def _make_room(self, link: Link, now: float, budget: int, spared: int) -> None:
        floors = self.share / 2, self.share_of_entries / 2
        young: list[float] = []
        culled = self.remove_victims(link, now, budget, spared, over=-1, floors=floors, young=young)
        if culled:
            link.note_gone(0, culled, len(young))
        if self.neighbours is not None and self.neighbours.shards > 1:
            entries = self._settings["count_limit"]
            is_over = self._excess > 0 and culled < budget
            if is_over or (entries and count(link) + self.neighbours.count() > entries):
                self.neighbours.ask_for_room()

    def _remove_expired(self, link: Link, now: float, limit: int) -> int:
        """Remove up to *limit* expired entries, the longest expired first."""
        rows = reading.fetch(link.execute, sql.EXPIRED, (now, min(limit, MOST_EXPIRED)))
        if rows:
            self.settle(link)
        for rowid, file, size, key, _ in rows:
            forget(link, rowid, file, size, key)
        first = link.execute(sql.FIRST_EXPIRY).get
        link.expiry_exact = NEVER if first is None else as_microseconds(first)
        link.expiry_low = NEVER
        if rows:
            link.note_gone(len(rows))
        return len(rows)

    def settings_changed(self) -> None:
        """Judge by other limits from now on."""
        self.kept.forget()
        self.notes_times = self.policy.rank is Rank.USED
        self.notes_both = self.policy.rank in (Rank.OWN, Rank.TEMPLATE)
        self.most_reads = HITS if self.policy.rank is Rank.QUEUES else reading.MOST
        if self._limits() != self._measured_for:
            self._measure_at = None
        self._note_bounds()

    def _note_bounds(self) -> None:
        """Note for the short way when it has to look: see `alone`."""
        self.is_culling = self._settings["cull_limit"] > 0
        if self.policy.rank is Rank.NONE or not self.is_culling:
            self.look_from = self.count_from = float("inf")
        else:
            self.look_from = float("-inf") if self._measure_at is None else self._measure_at
            self.count_from = self._count_at

    def _is_full(self, link: Link) -> bool:
        """Measure the cache, and note how much may be written before it is measured again."""
        size_limit, count_limit = self._limits()
        own, entries = self.volume(link), count(link)
        beside, others = self._beside()
        volume, total = own + beside, entries + others
        if link.queues is not None:
            self._set_capacity(link.queues, entries, volume, total)
        if volume >= size_limit / 2 or total >= count_limit / 2:
            self.rank_more(link)
        self._mark(link, volume, total)
        self._excess = volume - size_limit
        if volume < size_limit and total <= count_limit:
            return False
        if self.neighbours is None:
            return True
        is_poor = volume < size_limit or own < self.share / 2
        if is_poor and (total <= count_limit or entries < self.share_of_entries / 2):
            self.neighbours.ask_for_room()
            return False
        return True

    def _mark(self, link: Link, volume: float, total: float) -> None:
        """Note how much may be written before the cache has to be measured again."""
        size_limit, count_limit = self._limits()
        control = link.site.control
        if control is None:
            return
        room = (size_limit / 2 if volume < size_limit / 2 else size_limit) - volume
        entries = count(link)
        half = math.ceil(count_limit / 2) - 1 if count_limit < _UNLIMITED else count_limit
        left = (half if total < count_limit / 2 else count_limit) - total
        bound = entries + left
        if self.neighbours is not None:
            # They write too, and measure for themselves.
            step = self.share / SHARE_STEP if room > 0 else 0
            room = max(room / self.neighbours.shards, step)
            is_near = total >= count_limit / 2
            # Nobody knows what they are about to store: near the limit all are counted each time,
            # also where this one has fewer than it had: others may have taken the room.
            # (No `//`: of an infinite number it makes one that nothing is smaller than.)
            bound = ALWAYS if is_near else entries + left / self.neighbours.shards
            self.neighbours.approach(bound, is_near=is_near)
        self._measure_at = int(control.words[WRITTEN] + link.written + min(room, 2**62))
        self._count_at = bound
        self._measured_for = size_limit, count_limit
        self._note_bounds()

    def _size_up(self, link: Link, queues: Queues) -> None:
        """Find out how many entries fit, and which of the limits is the nearer one."""
        entries = count(link)
        beside, others = self._beside()
        self._set_capacity(queues, entries, self.volume(link) + beside, entries + others)

    def _set_capacity(self, queues: Queues, entries: int, volume: float, total: int) -> None:
        size_limit, count_limit = self._limits()
        by_count = total / count_limit
        by_size = volume / size_limit if size_limit else _UNLIMITED
        queues.by_count = by_count >= by_size
        if queues.by_count and self.neighbours is None:
            queues.capacity = float(count_limit)
        else:
            queues.capacity = max(entries, 1) / max(by_count, by_size)
        self._capacity, self._by_count = queues.capacity, queues.by_count
        self._sized_for = size_limit, count_limit

    def _equip(self, link: Link, queues: Queues) -> None:
        super()._equip(link, queues)
        if self._limits() == self._sized_for:
            queues.capacity, queues.by_count = self._capacity, self._by_count
        else:
            self._size_up(link, queues)

    def volume(self, link: Link) -> int:
        """Return the bytes of pages in use and of value files."""
        return pages_in_use(link) + file_bytes(link)

    # -- Victims --

    def remove_victims(
        self,
        link: Link,
        now: float,
        limit: int,
        spared: int,
        *,
        over: int = 0,
        floors: tuple[float, float] = (0, 0),
        young: list[float] | None = None,
    ) -> int:
        """Remove up to *limit* victims while the cache is over its limits.

        Ends as soon as it is not, or as this cache alone holds no more than *floors*: bytes, and
        entries.

        Args:
            link: A connection, in a write transaction.
            now: The present.
            limit: Most victims.
            spared: Row number of an entry that is none.
            over: Bytes by which the volume may exceed the limit.
            floors: Bytes and entries that may stay whatever is held elsewhere.
            young: Takes the times at which victims were stored, of those that were stored just now.
        """
        if self.policy.rank is Rank.NONE:
            return 0  # Entries may still have the ranks of an earlier policy.
        self.load(link)
        self._flush_unasked(link)
        size_limit, count_limit = self._limits()
        beside, others = self._beside()
        most = max(size_limit + over - beside, floors[0]), max(count_limit - others, floors[1])
        room = Room(link, *most)
        if room.is_enough():
            return 0
        self.rank_more(link)
        room.lower(*self._slack(link, room.volume, *most))
        removed = self._remove(link, now, limit, spared, room.is_enough, young)
        room.is_enough()
        self._excess = room.volume + beside - size_limit
        self._mark(link, room.volume + beside, count(link) + others)
        return removed

    def remove_first(self, link: Link, now: float, limit: int, spared: int) -> int:
        """Remove up to *limit* victims, whatever the volume is.

        Ranks a batch of older entries first, if there are some without a rank.
        """
        if self.policy.rank is Rank.NONE:
            return 0
        self.load(link)
        self._flush_unasked(link)
        self.rank_more(link)
        return self._remove(link, now, limit, spared, lambda: False, None)

    def _flush_unasked(self, link: Link) -> None:
        """Write reads down before the first victim is looked for, unless each is asked about."""
        if link.queues is None or self.policy.rank is not Rank.QUEUES:
            self.flush_reads(link)

    def _remove(
        self,
        link: Link,
        now: float,
        limit: int,
        spared: int,
        is_enough: Callable[[], bool],
        young: list[float] | None,
    ) -> int:
        """Remove victims until *is_enough*, *limit* at most; return how many."""
        removed = 0
        rank: Any = None

        def is_done() -> bool:
            return removed >= limit or is_enough()

        for victim in self._victims(link, now, limit, spared, is_done):
            rowid, file, size, key, rank, stored, place = victim
            forget(link, rowid, file, size, key, place)
            removed += 1
            if young is not None and type(stored) is float and now - YOUNG < stored <= now:
                young.append(stored)
        self.age(link, rank)
        return removed

    def _slack(
        self, link: Link, volume: float, size_bound: float, count_bound: float
    ) -> tuple[float, float]:
        """Return how far below the limits to go, in bytes and in entries."""
        entries = count(link)
        if self.neighbours is None:
            size, number = size_bound / SLACK, count_bound // SLACK
        else:
            size, number = self.share / SHARE_SLACK, self.share_of_entries // SHARE_SLACK
        return (
            size if entries and size * entries >= volume else 0,
            number if number < _UNLIMITED else 0,
        )

    def _victims(
        self, link: Link, now: float, limit: int, spared: int, is_done: Callable[[], bool]
    ) -> Iterator[Victim]:
        """Yield what goes next, until *is_done*. Whoever asks removes each before the next."""
        queues = link.queues
        if queues is not None and self.policy.template is None:
            take = self.forget_reads if self.policy.rank is Rank.QUEUES else _none_read
            for entry in queues.victims(link, take, spared, is_done):
                rank, rowid, file, size, key, _, _, stored, cost = entry
                yield Victim(rowid, file, size, key, None, stored, (rank, cost))
            return
        self.settle(link)
        # One more, in case the policy is somebody's own and names the one that is spared.
        most = min(limit, VICTIMS) + 1
        while not is_done():
            found = False
            rows = self._ranked(link, now, most, spared)
            for row in rows:
                rowid, file, size, key, _, mode, rank, store_time = row
                if rowid != spared and not (type(mode) is int and mode & GUARD):
                    found = True
                    yield Victim(rowid, file, size, key, rank, store_time)
                    if is_done():
                        return
            if not found and len(rows) < most:
                return
            # It may name many that never go, such as locks: then victims come behind them.
            most *= 1 if found else 2

    def _ranked(self, link: Link, now: float, limit: int, spared: int) -> Any:
        """Return the first rows in the order of the policy."""
        if self.policy.template is None:
            return reading.fetch(link.execute, sql.VICTIMS, (spared, limit))
        return templates.victims(link, self.policy, now, limit)


def _none_read(key: EncodedKey, link: Link) -> float:
    """Tell what was read of an entry since reads were written down: nothing."""
    del key, link
    return 0


def as_microseconds(moment: float) -> int:
    """Return a time as the control file keeps it."""
    if moment != moment:  # noqa: PLR0124 - NaN, which the database keeps as NULL
        return NEVER
    return int(min(max(moment * 1e6, 0), NEVER))


def pages_in_use(link: Link) -> int:
    """Return the bytes of database pages that hold something."""
    execute = link.execute
    pages = execute("PRAGMA page_count").get - execute("PRAGMA freelist_count").get
    return int(pages) * link.page_size


def count(link: Link) -> int:
    """Return the number of entries, this transaction included."""
    control = link.site.control
    if control is None or not control.is_clean:
        return int(link.execute(sql.COUNT).get)
    total: int = control.words[COUNT] + link.rows
    if 0 <= total < MANY or _is_plausible(link, total):
        return total
    return int(link.execute(sql.COUNT).get)


def _is_plausible(link: Link, total: int) -> bool:
    """Tell whether the database is large enough for so many entries.

    The control file is input too, and programs reserve memory for as many as they are told.
    """
    room = link.execute("PRAGMA page_count").get * link.page_size
    return bool(0 <= total <= room // LEAST_ROW)


def file_bytes(link: Link) -> int:
    """Return the bytes of value files, this transaction included."""
    control = link.site.control
    if control is None or not control.is_clean:
        return int(link.execute(sql.FILE_BYTES).get)
    total: int = control.words[BYTES] + link.size
    return total if 0 <= total < reading.MOST else int(link.execute(sql.FILE_BYTES).get)
