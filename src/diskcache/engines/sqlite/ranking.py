"""The order in which entries go: when it is made, and how it is kept.

Victims are read from the index on `rank`. An index costs a page at every write, so ranks stay NULL,
and the index empty, while a cache is less than half full: ranking then starts, every write ranks
its own row, and the older rows are ranked a batch at a time, until all are. The state rows
`rank_policy`, `rank_done` and `rank_goal` say by which policy, up to which row, and which row was
the last one when ranking started; `rank_floor` is the rank of the last victim, for policies that
ask for it. A batch is large enough that small caches are ranked at once, and so have an exact
order. The queues of s3-fifo have a state of their own; see s3fifo.py.

What ranks entries is what the directory says, whatever the policy of this object is: so processes
that do not know yet that the policy was changed keep the new order right.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from diskcache.coherence import Mark
from diskcache.engines.sqlite import reading, templates
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link, Noted
from diskcache.engines.sqlite.control import BEGIN, MASK, STATE
from diskcache.engines.sqlite.s3fifo import HITS, NAME, Queues, cost
from diskcache.engines.sqlite.schema import OPTIONAL
from diskcache.engines.sqlite.waiting import Kept
from diskcache.entry import DbValue, EncodedKey, Tag
from diskcache.errors import SettingError
from diskcache.policy import Policy, Rank, Standing, find_policy, is_policy

log: Final = logging.getLogger("diskcache")

RANK_BATCH: Final = 1000
"""Older rows ranked by one write; about two milliseconds."""
PORTION: Final = 16
"""Reads that one write of s3-fifo writes down, where there is no hurry."""
CLOCK_WAS_SET: Final = 0.1
"""Seconds by which the clocks drift apart only if somebody sets one."""
FIRST: Final = float("-inf")
"""Rank of an entry that a policy of a program's own fails to rank."""

_FILL: Final = {
    Rank.STORED: sql.RANK_STORED,
    Rank.USED: sql.RANK_USED,
    Rank.COUNT: sql.RANK_COUNT,
}
_NUMBERED: Final = (sql.UPSERT_SIMPLE_NUMBERED, sql.UPSERT_NUMBERED)
_NUMBERED_KEEPING: Final = (sql.UPSERT_SIMPLE_NUMBERED_KEEPING, sql.UPSERT_NUMBERED_KEEPING)
"""What stores a row of a batch: one without expiry, tag and rank, or any."""
_RANKED: Final = frozenset({*_FILL, Rank.QUEUES, Rank.OWN})
_STATE: Final = ("rank_policy", "rank_done", "rank_goal", "rank_floor")
_NONE: Final = find_policy("none")


class Ranking:
    """Keeps entries in the order of a policy, inside write transactions."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._policy = _NONE
        self.state: int | None = None
        """The word *state* of the control file when it was last looked at."""
        self.by: Policy | None = None
        """The policy that entries are ranked by; None while they are not."""
        self._changed_in: tuple[int, int] | None = None
        """Connection and transaction that last changed how entries are ranked."""
        self._done = self._goal = 0
        self._floor = 0.0
        self.is_simple = False
        """Whether new rows need neither a rank nor an access time; known after `load`."""
        self.is_short = False
        """Whether a new row takes one statement, with its rank if entries are ranked."""
        self.upsert = sql.UPSERT
        self.upsert_simple, self.numbered = sql.UPSERT_SIMPLE, _NUMBERED
        self.keeps_reads = False
        """Whether an entry that is stored again keeps what was read of it."""
        self.kept = Kept()
        self.has_queues = False
        """Whether every change of a row has to be counted."""
        self.reads: dict[EncodedKey, float] = {}
        """Keys read since the last flush: the time, or how often, as the policy needs.

        By key, not by row: a put forgets what was read of the entry that it replaces.
        """
        self.notes_times = self.notes_both = False
        self.most_reads = 0
        self.pen = object()
        """What is in the marks that are taken."""
        self._marks: dict[EncodedKey, Mark] = {}
        """Marks that were taken since the last flush."""
        self._leaving: list[dict[EncodedKey, Mark]] = []
        self._ahead = 0.0
        self.times: dict[EncodedKey, float] = {}
        """When those were last read that are counted, for policies of a program's own."""
        self.may_refuse = False
        """Whether ranking a new entry may fail, so that it must not be put off."""
        self._has_failed = False
        """Whether a rank function was found to fail, and that was said."""

    @property
    def policy(self) -> Policy:
        """The eviction policy of the settings."""
        if self._policy.name != self._settings["eviction_policy"]:
            self._policy = find_policy(self._settings["eviction_policy"])
            self.drop_reads()
            self.state = None
        return self._policy

    # -- Reads --

    def take(self, mark: Mark, now: float) -> None:
        """Note a hit of an entry, and let further ones be noted in its mark.

        Until reads are written down: then it is to be noted again. A mark stays as it is if it
        belongs to another object.
        """
        key, marks, is_time = mark.key, self._marks, self.notes_times
        read = now if is_time else min(self.reads.get(key, 0) + 1, self.most_reads)
        self.reads[key] = read
        if mark.timed_by is not None or mark.counted_by is not None:
            return
        if is_time and (not marks or abs(now - monotonic() - self._ahead) > CLOCK_WAS_SET):
            self._compare_clocks()
        before = marks.get(key)
        if before is not None:
            self._fold(before)
        mark.at = mark.reads = 0.0
        marks[key] = mark
        # Of what was read as often as anybody asks, the time is nothing that is written down.
        if is_time or read >= self.most_reads:
            mark.timed_by = self.pen
        else:
            mark.counted_by = self.pen
        if self._marks.get(key) is not mark:
            # Another thread has just written reads down: nobody would look at this mark again.
            mark.release()

    def _compare_clocks(self) -> None:
        """Find out by how much the clock is ahead, before the first mark and when it was set.

        One difference for all marks keeps them in their order.
        """
        ahead = _ahead()
        for mark in list(self._marks.values()):
            if mark.at:
                mark.at += self._ahead - ahead
        self._ahead = ahead

    def _fold(self, mark: Mark) -> None:
        """Note once and for all what is in a mark, and let it go."""
        mark.release()
        key = mark.key
        if self.notes_times:
            if mark.at:
                self.reads[key] = max(self.reads.get(key, 0.0), mark.at + self._ahead)
        elif mark.reads:
            self.reads[key] = min(self.reads.get(key, 0) + int(mark.reads), self.most_reads)
        mark.at = mark.reads = 0.0

    def _fold_all(self) -> None:
        """Fold all marks; if a signal handler raises in between, the rest the next time."""
        self._leaving.append(self._marks)
        self._marks = {}
        while self._leaving:
            for mark in list(self._leaving[-1].values()):
                self._fold(mark)
            self._leaving.pop()

    def drop_reads(self) -> None:
        """Forget all that was read and is not written down."""
        self._fold_all()
        self.reads, self.times = {}, {}

    def forget_reads(self, key: EncodedKey, link: Link | None = None) -> float:
        """Forget what was read of an entry that is replaced or spared; return what that was.

        If *link* is in a transaction that is undone, it was read all the same.
        """
        mark = self._marks.pop(key, None)
        if mark is not None:
            self._fold(mark)
        read = self.reads.pop(key, None)
        if read is None:
            return 0
        if link is not None:
            times = {key: self.times[key]} if key in self.times else {}
            link.noted.append((self.policy.name, [(key, read)], times))
        return read

    def flush_some(self, link: Link) -> None:
        """Write down the reads that were remembered first, if others may wait."""
        queues = link.queues
        if self.policy.rank is not Rank.QUEUES or queues is None or not queues.is_ahead:
            self.flush_reads(link)
            return
        keys = list(self.reads)
        keys = keys[: max(len(keys) // 4, PORTION)]
        reads = [(key, self.forget_reads(key)) for key in keys]
        link.noted.append((self.policy.name, reads, {}))
        link.has_changes = True
        # A place that is written later would come with the hits of before.
        queues.write_moves(link)
        self._write_hits(link, reads)
        if queues.window is not None:
            queues.window.add_hits(dict(reads))

    def _write_hits(self, link: Link, reads: list[tuple[EncodedKey, float]]) -> None:
        link.con.executemany(sql.READ_HITS, [(count, *key) for key, count in reads])

    def _write_counts(self, link: Link, reads: list[tuple[EncodedKey, float]]) -> None:
        """Write down how often entries were read, as the order asks for it."""
        rank = self.policy.rank if self.by is None else self.by.rank
        if rank is Rank.QUEUES:
            self._write_hits(link, reads)
        elif rank is Rank.COUNT:
            floor = self._floor
            rows = [(count, *key, floor) for key, count in reads]
            link.con.executemany(sql.READ_COUNT, rows)
        else:
            link.con.executemany(sql.READ_NUMBER, [(count, *key) for key, count in reads])

    def flush_reads(self, link: Link) -> None:
        """Write the remembered reads down."""
        self.settle(link)
        self._fold_all()
        noted, self.reads = self.reads, {}
        times, self.times = self.times, {}
        if not noted:
            return
        # Another thread may be in the middle of noting one more.
        reads = list(noted.items())
        policy = self.policy
        link.noted.append((policy.name, reads, times))
        link.has_changes = True
        if policy.rank is Rank.USED:
            is_order = self.by is None or self.by.rank is Rank.USED
            statement = sql.READ_USED if is_order else sql.READ_TIME
            link.con.executemany(statement, [(now, *key) for key, now in reads])
        elif policy.rank in (Rank.COUNT, Rank.QUEUES):
            self._write_counts(link, reads)
        elif policy.rank is Rank.OWN:
            self._flush_own(link, reads, times)
        else:
            for key, count in reads:
                templates.read(link, policy, key, int(count), times.get(key, 0.0))

    def take_back(self, noted: Noted) -> None:
        """Note once more what was written down in a transaction that was undone."""
        self.forget_measure()
        name = self.policy.name
        for _, reads, times in (each for each in noted if each[0] == name):
            for key, read in reads:
                before = self.reads.get(key, 0)
                if self.notes_times:
                    self.reads[key] = max(before, read)
                else:
                    self.reads[key] = min(before + read, self.most_reads)
            self.times = {**times, **self.times}

    def _flush_own(
        self,
        link: Link,
        reads: list[tuple[EncodedKey, float]],
        times: Mapping[EncodedKey, float],
    ) -> None:
        by = self.by
        for key, count in reads:
            values = (count, times.get(key, 0.0), *key)
            found = reading.first(link.execute, sql.READ_OWN, values)
            if found is not None and found[8] is not None and by is not None and by.ranker:
                rank = self._ranked_anyway(by, found, found[8])
                link.run(sql.RANK_ROW, (rank, found[0]))

    def _ranked_anyway(self, by: Policy, row: Any, instead: float) -> float:
        """Return the rank of an entry that is there already.

        A function that fails must not keep what has nothing to do with the entry from happening.
        """
        try:
            return by.ranked(_standing(row), self._floor)
        except SettingError as exc:
            if not self._has_failed:
                self._has_failed = True
                log.warning(
                    "%s; said once: entries that cannot be ranked keep the rank they have, and go"
                    " first if they have none",
                    # Not the error: a handler that keeps it would keep this transaction in memory.
                    str(exc),
                )
            return instead

    # -- What is known of the order --

    def load(self, link: Link) -> None:
        """Learn how entries are ranked, if that has changed."""
        control = link.site.control
        state = None if control is None else control.words[STATE]
        if state is None or state != self.state:
            self._load(link, state)
        if self.has_queues and link.queues is None:
            link.queues = self._queues(link)

    def _load(self, link: Link, state: int | None) -> None:
        found = reading.settings_of(link, sql.RANKING, "state")
        name, done, goal, floor = (found.get(each) for each in _STATE)
        # A stranger may have written these: what cannot be is as good as nothing.
        if isinstance(done, int) and isinstance(goal, int):
            self._done, self._goal, by = done, goal, _ranking(name)
        else:
            self._done, self._goal, by = 0, 0, None
        self._floor = floor if type(floor) is float and abs(floor) < 9e99 else 0.0
        self._rank_by(by)
        if self.has_queues and link.queues is None:
            link.queues = self._queues(link)
        # What this transaction has changed may still be undone: it is read again in the next one.
        self.state = state if (id(link), link.serial) != self._changed_in else None
        self.forget_measure()

    def _rank_by(self, policy: Policy | None) -> None:
        self.by = policy
        own = self.policy.rank
        self.has_queues = policy is not None and policy.rank is Rank.QUEUES
        self.may_refuse = policy is not None and policy.rank is Rank.OWN
        self.is_simple = policy is None and own not in (Rank.USED, Rank.TEMPLATE, Rank.OWN)
        is_quick = policy is None or policy.rank in _FILL or self.has_queues
        self.is_short = is_quick and own not in (Rank.TEMPLATE, Rank.OWN)
        self.keeps_reads = self.has_queues or (policy is None and own is Rank.QUEUES)
        self.upsert = sql.UPSERT_KEEPING if self.keeps_reads else sql.UPSERT
        self.upsert_simple = sql.UPSERT_SIMPLE_KEEPING if self.keeps_reads else sql.UPSERT_SIMPLE
        self.numbered = _NUMBERED_KEEPING if self.keeps_reads else _NUMBERED

    def forget_measure(self) -> None:
        """Take note that the order may be another one."""
        self.kept.forget()

    def settle(self, link: Link) -> None:
        """Write down what is put off of the queues: rows are about to change, or to be read."""
        if link.queues is not None:
            link.queues.settle(link)
        elif self.kept.is_behind or link.lost:
            # There are no queues any more.
            self.kept.drop()
            link.lost = []

    def _queues(self, link: Link) -> Queues | None:
        """Return the queues as the database has them; without an order if it has none."""
        control = link.site.control
        known = None
        if control is not None:
            known = self.kept.take(link.database(), control.words[BEGIN], self.state)
        if known is not None:
            known.is_ahead = True
            if known.done < known.goal or not self.kept.is_alone:
                known.settle(link)
            return known
        queues = Queues.unpacked(reading.first(link.execute, sql.POLICY, (NAME,)))
        if queues is None:
            self._rank_by(None)
            return None
        self._equip(link, queues)
        queues.count_later(link)
        unwritten, link.lost = self.kept.left() + link.lost, []
        for each in unwritten:
            queues.adopt(link, each)
        return queues

    def keep_queues(self, link: Link) -> None:
        """Remember the queues as a commit left them, for as long as nobody else writes."""
        left, link.left = link.left, None
        if left is not None:
            began, queues = left
            self.kept.keep(began, self.state, queues)

    def _equip(self, link: Link, queues: Queues) -> None:
        """Tell queues what is not in their state row."""
        queues.done, queues.goal = self._done, self._goal
        queues.weight = float(self._settings["size_weight"])

    # -- Rank of a row that is stored --

    def rank_of_new(
        self,
        now: float,
        key: DbValue,
        value: DbValue,
        size: int,
        expire_time: float | None,
        tag: Tag,
        reads: int = 0,
    ) -> float | None:
        """Return the rank of an entry that is stored now; not for queues."""
        by = self.by
        if by is None or by.rank is Rank.QUEUES:
            return None
        if by.rank is Rank.COUNT:
            return self._floor + reads
        if by.rank is Rank.OWN:
            entry = Standing(key, cost(key, value, size), now, now, reads, expire_time, tag)
            return by.ranked(entry, self._floor)
        return now

    def place(self, link: Link, key: EncodedKey, size: int, found: Any) -> float | None:
        """Return the rank of an entry that is stored, where there are queues.

        Args:
            link: A connection, in a write transaction.
            key: Its key.
            size: Bytes that it counts for.
            found: What `FIND_PLACE` found of the entry that it replaces; None if it is new.
        """
        queues = link.queues
        if queues is None:
            return None
        if found is not None:
            rowid, _, _, _, _, rank, *_ = found
            if type(rank) is float or not queues.is_counted(rowid):
                return rank if type(rank) is float else None
        return queues.place(link, key, size)

    def reads_of_use(self, count: object) -> int:
        """Return by how much a use, other than a read, adds to what was read of an entry."""
        policy = self.policy
        if not policy.records_reads:
            return 0
        return int(policy.rank is not Rank.QUEUES or _hits(count) < HITS)

    def used(self, link: Link, key: EncodedKey, now: float) -> None:
        """Change an entry that is used in another way than by a read, as templates say."""
        policy = self.policy
        if policy.rank is Rank.TEMPLATE:
            templates.read(link, policy, key, 1, now)

    def access_time_of_new(self, now: float) -> float | None:
        """Return the access time of an entry that is stored now, where somebody will ask."""
        return now if self.policy.rank in (Rank.USED, Rank.TEMPLATE, Rank.OWN) else None

    # -- Making an order --

    def rank_more(self, link: Link) -> None:
        """Start ranking, or rank one more batch of older rows."""
        policy = self.policy
        if policy.rank not in _RANKED:
            return
        if self.by is None:
            self._start(link, policy)
        if self._done < self._goal:
            self._rank_next(link)

    def _rank_next(self, link: Link) -> None:
        """Rank the next batch of older rows."""
        rows = link.execute(sql.RANK_BATCH, (self._done, self._goal, RANK_BATCH)).fetchall()
        last = rows[-1][0] if len(rows) == RANK_BATCH else self._goal
        self._rank_batch(link, self._done, last)
        self._done = last
        if link.queues is not None:
            link.queues.done = last
        self._remember(link, rank_done=last)

    def _rank_batch(self, link: Link, after: int, last: int) -> None:
        by = self.by or self.policy
        if by.rank in _FILL:
            link.execute(_FILL[by.rank], (after, last))
            return
        rows = reading.fetch(link.execute, sql.RANK_ROWS, (after, last))
        queues = link.queues
        if queues is not None:
            moves = [(queues.rank_older(row[7]), _hits(row[4]), row[0]) for row in rows]
            link.con.executemany(sql.MOVE, moves)
        elif by.rank is Rank.OWN:
            ranks = [(self._ranked_anyway(by, row, FIRST), row[0]) for row in rows]
            link.con.executemany(sql.RANK_ROW, ranks)

    def restart(self, link: Link, name: str) -> None:
        """Rank all entries anew, if they are ranked at all, because the policy changed."""
        self.load(link)
        if self.by is not None and self.by.name != name:
            self.stop(link)
            policy = find_policy(name)
            if policy.rank in _RANKED:
                self._start(link, policy)
                if policy.rank is not Rank.OWN:
                    # An entry that is stored next comes after those that are there.
                    self._rank_next(link)

    def _start(self, link: Link, policy: Policy) -> None:
        goal = link.execute(sql.LAST_ROWID).get or 0
        self._done, self._goal, self._floor = 0, goal, 0.0
        self._rank_by(policy)
        if policy.rank is Rank.QUEUES:
            link.execute(sql.FORGET_ALL_GHOSTS)
            link.execute(OPTIONAL["Ghost_n"].replace("INDEX", "INDEX IF NOT EXISTS"))
            link.queues = Queues(max(goal, 0))
            self._equip(link, link.queues)
        self._remember(link, rank_policy=policy.name, rank_done=0, rank_goal=goal)

    def stop(self, link: Link) -> None:
        """Leave entries without an order until the cache fills up again."""
        if self.has_queues:
            link.queues = None
            link.execute(sql.FORGET_POLICIES)
            link.execute(sql.FORGET_ALL_GHOSTS)
            link.execute("DROP INDEX IF EXISTS Ghost_n")
        link.execute(sql.FORGET_RANKING)
        self._floor = 0.0
        self._rank_by(None)
        self._announce(link)

    def age(self, link: Link, rank: object) -> None:
        """Remember the rank of the last victim, for policies that ask for it."""
        by = self.by
        if by is None or by.rank not in (Rank.COUNT, Rank.OWN):
            return
        if type(rank) is not float or rank == FIRST:
            return
        if by.rank is Rank.COUNT:
            # Being stored counts as one use: else the newest entry would always be the next to go.
            rank += 1.0
        if rank != self._floor:
            self._floor = rank
            self._remember(link, rank_floor=rank)

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
        self._changed_in = id(link), link.serial
        self.is_simple = self.is_short = False


def stored_queues(link: Link) -> Queues | None:
    """Return the queues of a database that is only looked at; None if it has none."""
    found = reading.settings_of(link, sql.RANKING, "state")
    name, done, goal, _ = map(found.get, _STATE)
    if name != NAME or not (isinstance(done, int) and isinstance(goal, int)):
        return None
    queues = Queues.unpacked(reading.first(link.execute, sql.POLICY, (NAME,)))
    if queues is not None:
        queues.done, queues.goal = done, goal
        queues.count_later(link)
    return queues


def _ranking(name: object) -> Policy | None:
    """Return the policy called *name* if it is one that orders entries by rank."""
    policy = find_policy(str(name)) if is_policy(name) else None
    return policy if policy is not None and policy.rank in _RANKED else None


def _ahead() -> float:
    """Return by how much the clock is ahead of the one that nobody can set."""
    ahead, least = 0.0, float("inf")
    for _ in range(3):
        before, now, after = monotonic(), time.time(), monotonic()
        # Between two of them the machine may have been busy with something else.
        if after - before < least:
            ahead, least = now - (before + after) / 2, after - before
    return ahead


def _hits(count: object) -> int:
    return min(max(count, 0), HITS) if type(count) is int else 0


def _standing(row: Any) -> Standing:
    """Return what a policy of somebody's own is told of a row."""
    _, key, store_time, access_time, count, expire_time, tag, size = row[:8]
    stored = store_time if type(store_time) is float else 0.0
    used = access_time if type(access_time) is float else stored
    reads = count if type(count) is int else 0
    expires = expire_time if type(expire_time) is float else None
    return Standing(key, size, stored, max(used, stored), reads, expires, tag)
