"""Which entries go when a cache is full, and when to look.

Implementation note.

*When to look.* The volume is measured with two pragmas, so not on every write: each write adds a
generous bound of the bytes it may have needed to the word *written* of the control file, and the
volume is measured again when the distance to the limit may have been used up. Likewise expired
entries are looked for only when the word *next expiry* says that there may be some.

*Order.* Victims are read from the index on `rank`. An index costs a page at every write, so ranks
stay NULL, and the index empty, while a cache is less than half full: ranking then starts, every
write ranks its own row, and the older rows are ranked a batch at a time, until all are. The state
rows `rank_policy`, `rank_done` and `rank_goal` say by which policy, up to which row, and which row
was the last one when ranking started. A batch is large enough that small caches are ranked at
once, and so have an exact order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from diskcache.engines.base import Neighbours
from diskcache.engines.sqlite import reading
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.control import BYTES, COUNT, MASK, NEVER, NEXT_EXPIRY, STATE, WRITTEN
from diskcache.entry import GUARD, DbValue, EncodedKey
from diskcache.policy import EVICTION_POLICY, Policy, Rank, find_policy

RANK_BATCH: Final = 1000
"""Older rows ranked by one write; about two milliseconds."""

FLUSH_READS: Final = 32
"""Reads that are worth writing down with the next write."""

SLACK: Final = 256
"""Fraction of the size limit that may be freed beyond what is needed."""
SHARE_SLACK: Final = 32
"""The same for one of several caches under one limit, of its share."""
SHARE_STEP: Final = 64
"""Fraction of its share that such a cache writes at least before it measures again."""

MANY: Final = 2**19
"""Entries that a control file is believed to count without a look at the database."""
LEAST_ROW: Final = 16
"""Bytes that a row and its place in the index need at least."""

MOST_EXPIRED: Final = 10_000
"""Expired entries that one write removes, however large *cull_limit* is."""

VICTIMS: Final = 100
"""Victims looked up at a time."""

ROW_OVERHEAD: Final = 512
"""Bytes that a row may need besides its value and key, half-full pages included."""
OVERFLOW: Final = 4096
"""Bytes that a long row may waste in its last pages."""

_FILL: Final = {
    Rank.STORED: sql.RANK_STORED,
    Rank.USED: sql.RANK_USED,
    Rank.COUNT: sql.RANK_COUNT,
}


SIZED: Final = frozenset({str, bytes})
"""Types of stored values that have a length."""


def footprint(key: object, value: object) -> int:
    """Return a bound of the bytes that storing an entry may add to the database."""
    size = len(value) if type(value) in SIZED else 8  # type: ignore[arg-type]
    if type(key) in SIZED:
        size += 2 * len(key)  # type: ignore[arg-type]
    return 2 * size + (ROW_OVERHEAD if size < 1000 else ROW_OVERHEAD + OVERFLOW)


def forget(link: Link, rowid: int, file: str | None, size: int, key: DbValue) -> None:
    """Remove one row, and remember its key and its file for the commit and the time after it."""
    link.run(sql.DELETE_ROW, (rowid,))
    link.rows -= 1
    link.touched(key)
    if file is not None:
        link.size -= reading.whole(size)
        link.note_files()
        link.doomed.append(file)


class Culler:
    """Decides, inside a write transaction, what has to go."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._policy = find_policy("none")
        self.state: int | None = None
        """The word *state* of the control file when it was last looked at."""
        self._ranked_by: str | None = None
        self._done = 0
        self._goal = 0
        self._measure_at: int | None = None
        self._measured_for: float | None = None
        self.look_from = float("-inf")
        """Value of the word *written* from which a write has to look whether the cache is full."""
        self.is_culling = False
        """Whether writes remove anything, expired entries included."""
        self.is_simple = False
        """Whether new rows need neither a rank nor an access time; known after `load`."""
        self.reads: dict[EncodedKey, float] = {}
        """Keys read since the last flush: the time, or how often, as the policy needs.

        By key, not by row: a put forgets what was read of the entry that it replaces.
        """
        self.last_read = 0.0
        """Time of the newest read, for policies that count."""
        self.neighbours: Neighbours | None = None

    @property
    def policy(self) -> Policy:
        """The eviction policy of the settings."""
        if self._policy.name != self._settings["eviction_policy"]:
            self._policy = find_policy(self._settings["eviction_policy"])
            self.reads = {}
            self.state = None
        return self._policy

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

    def _beside(self) -> int:
        """Return the bytes that count against the size limit but are held elsewhere."""
        return 0 if self.neighbours is None else self.neighbours.volume()

    # -- Reads --

    def flush_reads(self, link: Link) -> None:
        """Write the remembered reads down."""
        noted, self.reads = self.reads, {}
        if not noted:
            return
        # Another thread may be in the middle of noting one more.
        reads = list(noted.items())
        policy = self.policy
        link.has_changes = True
        if policy.rank is Rank.USED:
            link.con.executemany(sql.READ_USED, [(now, *key) for key, now in reads])
        elif policy.rank is Rank.COUNT:
            link.con.executemany(sql.READ_COUNT, [(count, *key) for key, count in reads])
        elif policy.template is not None and policy.template["get"]:
            change = policy.template["get"].format(now=repr(float(self.last_read)))
            statement = f"UPDATE Cache SET {change} WHERE key = ? AND raw = ?"
            for key, count in reads:
                link.con.executemany(statement, [key] * int(count))

    # -- Rank of a row that is stored --

    def load(self, link: Link) -> None:
        """Learn how entries are ranked, if that has changed."""
        control = link.site.control
        state = None if control is None else control.words[STATE]
        if state is not None and state == self.state:
            return
        self._load(link, state)

    def _load(self, link: Link, state: int | None) -> None:
        found = {
            name: reading.first(link.execute, sql.STATE, (name,))
            for name in ("rank_policy", "rank_done", "rank_goal")
        }
        name, done, goal = found.values()
        # A stranger may have written these: what cannot be is as good as nothing.
        is_sound = _ranks(name) and isinstance(done, int) and isinstance(goal, int)
        self._ranked_by = name if is_sound else None
        self._done, self._goal = (done, goal) if is_sound else (0, 0)
        self.state = state
        self._measure_at = None
        self._note_bounds()
        self.is_simple = self._ranked_by is None and self.policy.rank not in (
            Rank.USED,
            Rank.TEMPLATE,
        )

    def rank_of_new(self, now: float) -> float | None:
        """Return the rank of an entry that is stored now."""
        if self._ranked_by is None:
            return None
        rank = self._ranking_policy().rank
        return 0.0 if rank is Rank.COUNT else now

    def access_time_of_new(self, now: float) -> float | None:
        """Return the access time of an entry that is stored now, where somebody will ask."""
        return now if self.policy.rank in (Rank.USED, Rank.TEMPLATE) else None

    def _ranking_policy(self) -> Policy:
        name = self._ranked_by
        return self.policy if name in (None, self._policy.name) else find_policy(str(name))

    # -- After a row was stored --

    def after_put(
        self, link: Link, now: float, key: tuple[Any, Any] | None, rowid: int, puts: int = 1
    ) -> None:
        """Remove expired entries, then victims while the cache is over its limit.

        The entry that was just written, *key* or *rowid*, is never a victim. No more than
        `cull_limit` entries go for each of *puts* entries that were stored.
        """
        if len(self.reads) >= FLUSH_READS:
            self.flush_reads(link)
        budget = self._settings["cull_limit"] * puts
        if budget <= 0:
            return
        control = link.site.control
        if control is not None:
            words = control.words
            if words[NEXT_EXPIRY] < now * 1e6 or link.expiry_low < now * 1e6:
                budget -= self.remove_expired(link, now, budget)
            if words[WRITTEN] + link.written < self.look_from:
                return
        else:
            budget -= self.remove_expired(link, now, budget)
        if budget > 0 and self.policy.rank is not Rank.NONE and self._is_full(link):
            if not rowid and key is not None:
                found = reading.first(link.execute, sql.FIND, key)
                rowid = found[0] if found else 0
            self.remove_victims(link, now, budget, rowid, over=-1, floor=self.share / 2)

    def remove_expired(self, link: Link, now: float, limit: int) -> int:
        """Remove up to *limit* expired entries, the longest expired first."""
        rows = reading.fetch(link.execute, sql.EXPIRED, (now, min(limit, MOST_EXPIRED)))
        for rowid, file, size, key, _ in rows:
            forget(link, rowid, file, size, key)
        first = link.execute(sql.FIRST_EXPIRY).get
        link.expiry_exact = NEVER if first is None else as_microseconds(first)
        link.expiry_low = NEVER
        return len(rows)

    def settings_changed(self) -> None:
        """Judge by other limits from now on."""
        if self._settings["size_limit"] != self._measured_for:
            self._measure_at = None
        self._note_bounds()

    def _note_bounds(self) -> None:
        """Note for the short way when it has to look: see `alone`."""
        self.is_culling = self._settings["cull_limit"] > 0
        if self.policy.rank is Rank.NONE or not self.is_culling:
            self.look_from = float("inf")
        else:
            self.look_from = float("-inf") if self._measure_at is None else self._measure_at

    def _is_full(self, link: Link) -> bool:
        """Measure the volume, and note how much may be written before it is measured again."""
        limit = self._settings["size_limit"]
        own = self.volume(link)
        volume = own + self._beside()
        half = limit / 2
        if volume >= half:
            self._rank_more(link)
        self._mark(link, volume, limit)
        if volume >= limit and self.neighbours is not None and own < self.share / 2:
            self.neighbours.ask_for_room()
            return False
        return bool(volume >= limit)

    def _mark(self, link: Link, volume: float, limit: float) -> None:
        """Note how much may be written before the volume has to be measured again."""
        control = link.site.control
        if control is not None:
            room = (limit / 2 if volume < limit / 2 else limit) - volume
            if self.neighbours is not None:
                # They write too, and measure for themselves.
                step = self.share / SHARE_STEP if room > 0 else 0
                room = max(room / self.neighbours.shards, step)
            self._measure_at = int(control.words[WRITTEN] + link.written + min(room, 2**62))
            self._measured_for = limit
            self._note_bounds()

    def volume(self, link: Link) -> int:
        """Return the bytes of pages in use and of value files."""
        return pages_in_use(link) + file_bytes(link)

    # -- Ranking --

    def _rank_more(self, link: Link) -> None:
        """Start ranking, or rank one more batch of older rows."""
        policy = self.policy
        if policy.rank not in _FILL:
            return
        if self._ranked_by is None:
            self._start(link, policy.name)
        if self._done < self._goal:
            rows = link.execute(sql.RANK_BATCH, (self._done, self._goal, RANK_BATCH)).fetchall()
            last = rows[-1][0] if len(rows) == RANK_BATCH else self._goal
            link.execute(_FILL[self._ranking_policy().rank], (self._done, last))
            self._remember(link, rank_done=last)
            self._done = last

    def restart(self, link: Link, name: str) -> None:
        """Rank all entries anew, if they are ranked at all, because the policy changed."""
        self.load(link)
        if self._ranked_by not in (None, name):
            self.stop(link)
            if find_policy(name).rank in _FILL:
                self._start(link, name)

    def _start(self, link: Link, name: str) -> None:
        goal = link.execute(sql.LAST_ROWID).get or 0
        self._remember(link, rank_policy=name, rank_done=0, rank_goal=goal)
        self._ranked_by, self._done, self._goal = name, 0, goal

    def stop(self, link: Link) -> None:
        """Leave entries without an order until the cache fills up again."""
        link.execute(sql.FORGET_RANKING)
        self._ranked_by = None
        self._announce(link)

    def _remember(self, link: Link, **state: Any) -> None:
        for name, value in state.items():
            link.execute(sql.STORE, (name, value, "state"))
        self._announce(link)

    def _announce(self, link: Link) -> None:
        link.has_changes = True
        control = link.site.control
        if control is not None:
            control.words[STATE] = (control.words[STATE] + 1) & MASK
        # What this process believes is not committed yet: it reads the state again next time.
        self.state = None
        self.is_simple = False

    # -- Victims --

    def remove_victims(
        self,
        link: Link,
        now: float,
        limit: int,
        spared: int,
        *,
        over: int = 0,
        floor: float = 0,
    ) -> int:
        """Remove up to *limit* victims while the volume is more than the size limit plus *over*.

        Ends as soon as the volume is small enough, or that of this cache alone is *floor*.
        """
        if self.policy.rank is Rank.NONE:
            return 0  # Entries may still have the ranks of an earlier policy.
        self.flush_reads(link)
        pages = link.execute("PRAGMA page_count").get
        beside = self._beside()
        volume = self._volume_of(link, pages)
        bound = max(self._settings["size_limit"] + over - beside, floor)
        if volume <= bound:
            return 0
        self._rank_more(link)
        # Within this loop pages only become free, so their number need not be asked for again.
        target = bound - self._slack(link, volume, bound)
        removed = 0
        while removed < limit and volume > target:
            found = 0
            for row in self._victims(link, now, min(limit - removed, VICTIMS), spared):
                rowid, file, size, key, _, mode = row
                if rowid != spared and not (type(mode) is int and mode & GUARD):
                    forget(link, rowid, file, size, key)
                    found += 1
                    volume = self._volume_of(link, pages)
                    if volume <= target:
                        break
            if not found:
                break
            removed += found
        self._mark(link, volume + beside, self._settings["size_limit"])
        return removed

    def remove_first(self, link: Link, now: float, limit: int, spared: int) -> int:
        """Remove up to *limit* victims, whatever the volume is.

        Ranks a batch of older entries first, if there are some without a rank.
        """
        if self.policy.rank is Rank.NONE:
            return 0
        self.load(link)
        self.flush_reads(link)
        self._rank_more(link)
        removed = 0
        # One more, in case the policy is somebody's own and names the one that is spared.
        for row in self._victims(link, now, limit + 1, spared):
            rowid, file, size, key, _, mode = row
            if removed < limit and rowid != spared and not mode & GUARD:
                forget(link, rowid, file, size, key)
                removed += 1
        return removed

    def _slack(self, link: Link, volume: float, bound: float) -> float:
        """Return how far below the limit to go: a fraction of it where that is an entry or more.

        Victims are then removed a few at a time, which touches fewer pages than one by one.
        """
        entries = count(link)
        slack = bound / SLACK if self.neighbours is None else self.share / SHARE_SLACK
        return slack if entries and slack * entries >= volume else 0

    def _volume_of(self, link: Link, pages: int) -> int:
        free: int = link.execute("PRAGMA freelist_count").get
        return (pages - free) * link.page_size + file_bytes(link)

    def _victims(self, link: Link, now: float, limit: int, spared: int) -> Any:
        policy = self.policy
        if policy.template is not None:
            template = policy.template["cull"]
            if template is None:
                return []
            fields = "rowid, file, size, key, raw, mode"
            statement = template.format(fields=fields, now=repr(float(now)))
            return link.execute(statement, (limit,)).fetchall()
        return reading.fetch(link.execute, sql.VICTIMS, (spared, limit))


def _ranks(name: object) -> bool:
    """Tell whether *name* is that of a policy that orders entries by rank."""
    return name in EVICTION_POLICY and find_policy(str(name)).rank in _FILL


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
