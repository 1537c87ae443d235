"""The policy s3-fifo: which entry goes first, under a limit and with a memory of who went.

After "FIFO queues are all you need for cache eviction" (SOSP 2023), with a weight for sizes and
with a floor that makes small caches predictable.

Format. An entry in order has a `rank`: below 0 it is in the queue *small*, in the order in which
entries were stored; from 0 on in the queue *main*. `access_count` holds its *hits*, reads of it
since it was stored or last spared, 3 at most. The table Ghost remembers keys that went from
*small*. Totals are the row `s3-fifo` of kind `policy` in the table Settings: nine numbers of eight
bytes, least byte first:

    sequence       rank of the next entry in small, less -4e15
    level          rank of the last victim, or entry that was spared, in main (a float)
    small          entries in small; and their bytes
    small_bytes
    main           entries in main; and their bytes
    main_bytes
    ghosts         rows of the table Ghost
    last_ghost     the largest number of a ghost
    flags          bit 0: an entry has gone, so the queues have found their lengths;
                   bit 1: the limit that is nearer is the one on entries: all weigh the same

It changes in the transaction that changes entries, so it cannot disagree with them. Entries in
small from *sequence* on came later than the state and are not counted in it, so that an ordinary
write leaves it alone. Entries whose row number is above `rank_done` and not above `rank_goal` are
in neither queue yet.

Order. A new entry goes to small; to main if it is remembered, or if small has its share before
anything has gone. Its share is a tenth of the cache, and 32 entries at least. Then, while there
is too much:

* If small has more than its share, or main is empty: the first of small. With hits it moves to
  main, behind *level* by its weight, and its hits are 0. Without hits it goes, and is remembered.
* Otherwise: the first of main; *level* is its rank. With hits it moves behind *level* by its
  weight, and has one hit less. Without hits it goes.
* After 64 that were spared in a row, the next one goes.
* While no more than 32 entries fit, small is everything: an entry with hits moves to its end and
  has one hit less. So the victim is the entry that was stored longest ago and not read since it
  was stored or last spared.

The weight is (mean bytes / bytes) ** `size_weight`, rounded to a multiple of 2 ** -20;
*sequence* / 2 ** 40 is added to it, and each place in either queue adds one to *sequence*, so that
equal weights stay in main in the order in which they came there. All of these are sums of powers of
two, so no rank is rounded until *level* is 2 ** 13, which takes as many rounds of main. From then
on entries that came there soon after one another may have equal ranks, and are in the order of
their row numbers. Nine ghosts are kept for ten entries.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Final

from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.waiting import (
    GHOSTS_PART,
    LEAST_GHOSTS,
    MOST_GHOSTS,
    MOVES,
    Candidate,
    Unwritten,
    Window,
)
from diskcache.entry import DbValue, EncodedKey

NAME: Final = "s3-fifo"
START: Final = -4e15
"""Rank of the first entry in small; all whole numbers up to 0 can be told apart."""
HITS: Final = 3
KEPT: Final = 64
STEP: Final = 2.0**-40
GRAINS: Final = 2.0**20
"""Steps of a weight of 1."""
FLOOR: Final = 32
PART: Final = 10
GHOSTS: Final = 0.9
FORGOTTEN: Final = 1000
"""Ghosts that one write removes."""
FEW: Final = 4
"""Candidates looked up at first: in a small cache, one goes and one or two are spared."""
FEW_MORE: Final = 128
"""Entries for each of which one more is looked up: large caches give up several at a time."""

_STATE: Final = struct.Struct("<qdqqqqqqq")
_FILLED: Final = 1
_BY_COUNT: Final = 2
_MOST: Final = 2**52


def octets(value: object) -> int:
    """Return the bytes of text or bytes as the database has them; 8 for anything else."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    return len(value) if isinstance(value, bytes) else 8


def cost(key: object, value: object, size: int) -> int:
    """Return the bytes that an entry counts for; the same as the expression `COST`."""
    if type(key) is str and type(value) is bytes and key.isascii():
        return 64 + size + len(key) + len(value)
    return 64 + size + octets(key) + octets(value)


def ghost_of(key: tuple[DbValue, int]) -> int:
    """Return what is remembered of a key: the same for equal keys, in every process."""
    value, raw = key
    if isinstance(value, str):
        text = value.encode() if value.isascii() else value.encode("utf-8", "surrogatepass")
        data = b"s" + text
    elif isinstance(value, bytes):
        data = (b"b" if raw else b"k") + value
    else:
        data = b"n%d" % hash(value)
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little", signed=True)


class Queues:
    """Both queues of one cache, inside a write transaction."""

    __slots__ = (
        "by_count",
        "capacity",
        "done",
        "filled",
        "ghosts",
        "goal",
        "is_ahead",
        "is_changed",
        "last_ghost",
        "level",
        "main",
        "main_bytes",
        "sequence",
        "small",
        "small_bytes",
        "unwritten",
        "weight",
        "window",
    )

    def __init__(self, sequence: int = 0) -> None:
        self.sequence = sequence
        self.level = 0.0
        self.small = self.small_bytes = self.main = self.main_bytes = 0
        self.ghosts = self.last_ghost = 0
        self.filled = self.by_count = False
        self.is_changed = True
        """Whether the state has to be written down."""
        self.done = self.goal = 0
        """Entries with row numbers above the one, and not above the other, are in no queue yet."""
        self.capacity = 0.0
        """Entries that fit, as far as that is known."""
        self.weight = 0.5
        self.is_ahead = False
        """Whether nobody else has written, and no row changes but what is stored and what goes:
        then places and ghosts may wait, and the window holds."""
        self.unwritten = Unwritten()
        self.window: Window | None = None

    # -- State --

    @classmethod
    def unpacked(cls, state: object) -> Queues | None:
        """Return what a state row says; None if this library cannot have written it."""
        if not isinstance(state, bytes) or len(state) != _STATE.size:
            return None
        self = cls()
        (
            self.sequence,
            self.level,
            self.small,
            self.small_bytes,
            self.main,
            self.main_bytes,
            self.ghosts,
            self.last_ghost,
            flags,
        ) = numbers = _STATE.unpack(state)
        if not all(0 <= number < _MOST for number in numbers):
            return None
        self.filled, self.by_count = bool(flags & _FILLED), bool(flags & _BY_COUNT)
        self.is_changed = False
        return self

    def packed(self) -> bytes:
        """Return the state row. It tells of rows as they are, not of what is not written down."""
        entries, size = self.unwritten.entries, self.unwritten.size
        return _STATE.pack(
            self.sequence,
            self.level,
            self.small + entries,
            self.small_bytes + size,
            self.main - entries,
            self.main_bytes - size,
            self.ghosts,
            self.last_ghost,
            self.filled * _FILLED + self.by_count * _BY_COUNT,
        )

    def save(self, link: Link) -> None:
        """Write the state down, if it has changed."""
        if self.is_changed:
            link.run(sql.STORE, (NAME, self.packed(), "policy"))
            self.is_changed = False

    def count_later(self, link: Link) -> None:
        """Count the entries that came after the state was written down."""
        values = (START + self.sequence, self.done, self.goal)
        entries, size, last = link.execute(sql.LATER, values).get
        if entries:
            self.small += entries
            self.small_bytes += size
            self.sequence = int(last - START) + 1

    def copied(self) -> Queues:
        """Return the same once more, for a savepoint: inside one, all is written down at once."""
        other = Queues()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.unwritten = self.unwritten.copied()
        return other

    # -- What is in them --

    def is_counted(self, rowid: int) -> bool:
        """Tell whether an entry is in a queue, if it has a rank."""
        return not self.done < rowid <= self.goal

    def add(self, rank: float, size: int, entries: int = 1) -> None:
        """Count an entry in; or out, with one less than nothing."""
        if rank < 0:
            self.small = max(self.small + entries, 0)
            self.small_bytes = max(self.small_bytes + entries * size, 0)
        else:
            self.main = max(self.main + entries, 0)
            self.main_bytes = max(self.main_bytes + entries * size, 0)

    def removed(self, rowid: int, rank: object, size: int) -> None:
        """Count an entry out whose row was removed, or lost its rank."""
        if type(rank) is float and self.is_counted(rowid):
            self.add(rank, size, -1)
            self.is_changed = True

    def stored_new(
        self, rank: float, size: int, rowid: int, key: EncodedKey, store_time: float
    ) -> None:
        """Count an entry in that is new."""
        if rank < 0:
            self.small += 1
            self.small_bytes += size
        else:
            self.add(rank, size)
            self.is_changed = True
        if self.window is not None:
            queue = self.window.small if rank < 0 else self.window.main
            if queue.is_within(rank, rowid):
                queue.take(Candidate(rank, rowid, None, 0, *key, 0, store_time, size))

    def changed(self, rowid: int, old_rank: object, old: int, new_rank: object, new: int) -> None:
        """Note that an entry has another rank and length, or has become one."""
        if old_rank == new_rank and old == new:
            return
        self.removed(rowid, old_rank, old)
        if type(new_rank) is float and self.is_counted(rowid):
            self.add(new_rank, new)
            self.is_changed = True

    @property
    def mean(self) -> float:
        """Bytes of an entry, on average; 0 without entries."""
        entries = self.small + self.main
        return (self.small_bytes + self.main_bytes) / entries if entries else 0.0

    @property
    def is_tiny(self) -> bool:
        """Whether so few entries fit that there is one queue only."""
        return self.capacity <= FLOOR

    def _is_small_full(self) -> bool:
        share = max(self.capacity / PART, FLOOR)
        if self.by_count:
            return self.small > share
        # No mean is made of them: a quotient is rounded, and what is equal would be more or less.
        total, entries = self.small_bytes + self.main_bytes, self.small + self.main
        return self.small_bytes * entries > share * total

    def _behind(self, size: int) -> float:
        """Return the rank behind *level* of an entry of this size."""
        # Ranks that would be equal follow one another as they were given.
        level = self.level + self.sequence * STEP
        self.sequence += 1
        if self.by_count or not self.weight or size <= 0:
            return level + 1.0
        weight: float = ((self.mean or size) / size) ** self.weight
        return level + round(weight * GRAINS) / GRAINS

    # -- Places of entries that are stored --

    def place(self, link: Link, key: EncodedKey, size: int) -> float:
        """Return the rank of a new entry; it is remembered no longer."""
        ghost = self.ghost_to_find(key)
        is_back = ghost is not None and self._recall(link, ghost)
        return self._first_place(size, is_back=is_back)

    def ghost_to_find(self, key: EncodedKey) -> int | None:
        """Return the ghost of a key, to be looked for; None if nobody is remembered."""
        return ghost_of(key) if self.ghosts or self.unwritten.gone else None

    def quick_place(self, size: int) -> float | None:
        """Return the rank of a new entry that is not remembered; None if that is in main."""
        if self.filled or self.is_tiny or not self._is_small_full():
            rank = START + self.sequence
            self.sequence += 1
            return rank
        return None

    def rank_older(self, size: int) -> float:
        """Return the rank of an entry that was stored before there was an order; count it in.

        Call it in the order in which they were stored.
        """
        rank = self._first_place(size, is_back=False)
        self.add(rank, size)
        self.is_changed = True
        return rank

    def _first_place(self, size: int, *, is_back: bool) -> float:
        if not self.is_tiny and (is_back or not (self.filled or not self._is_small_full())):
            return self._behind(size)
        return self._last_place()

    def _last_place(self) -> float:
        rank = START + self.sequence
        self.sequence += 1
        return rank

    def _recall(self, link: Link, ghost: int) -> bool:
        unwritten = self.unwritten
        if ghost in unwritten.gone or (unwritten.owed and link.run(sql.IS_GHOST, (ghost,)).get):
            self._write_ghosts(link)
        link.run(sql.RECALL, (ghost,))
        if not link.con.changes():
            return False
        self.ghosts -= 1
        self.is_changed = True
        return True

    # -- Victims --

    def victims(
        self,
        link: Link,
        take_reads: Callable[[Any, Link], float],
        spared: int,
        is_enough: Callable[[], bool],
    ) -> Iterator[Candidate]:
        """Yield entries in the order in which they go, until *is_enough*.

        Whoever asks removes each before asking for the next. *take_reads* tells, and forgets, how
        often an entry was read since reads were written down: so only what is spared is written.
        """
        window = self._opened_window()
        gone: list[tuple[DbValue, int]] = []
        kept = 0
        while not is_enough():
            # Few fit: what larger times have left in main is older than all the rest.
            turn = not self.main if self.is_tiny else self._is_small_full() or not self.main
            queue, other = (window.small, window.main) if turn else (window.main, window.small)
            found = queue.next(link, spared, self.write_moves)
            if found is None:
                queue, found = other, other.next(link, spared, self.write_moves)
            if found is None:
                break
            self.filled = self.is_changed = True
            if queue is window.main:
                self.level = found.rank
            hits = found.hits if type(found.hits) is int else 0
            hits += int(take_reads((found.key, found.raw), link))
            if hits > 0 and kept < KEPT:
                kept += 1
                self._spare(found, min(hits, HITS), window)
                continue
            kept = 0
            if queue is window.small and not self.is_tiny:
                gone.append((found.key, found.raw))
            self.unwritten.stays(found.rowid)
            yield found
        window.put_back()
        self._remember(gone)
        self._write_some(link)

    def _opened_window(self) -> Window:
        """Return what is known of the first entries; all of it was looked up if nobody waits."""
        window = self.window
        if window is None:
            window = Window(FEW + (self.small + self.main) // FEW_MORE)
            if self.is_ahead:
                self.window = window
        return window

    def _spare(self, found: Candidate, hits: int, window: Window) -> None:
        """Give an entry that was read another place."""
        if self.is_tiny:
            rank, hits, queue = self._last_place(), hits - 1, window.small
        else:
            rank, hits, queue = self._behind(found.cost), hits - (found.rank >= 0), window.main
            if found.rank < 0:
                hits = 0
        is_counted = self.is_counted(found.rowid)
        if is_counted:
            self.add(found.rank, found.cost, -1)
            self.add(rank, found.cost)
        self.unwritten.moved(found, rank, hits, is_counted=is_counted)
        queue.take(found._replace(rank=rank, hits=hits))

    def _remember(self, gone: list[tuple[DbValue, int]]) -> None:
        """Remember the keys of victims, and forget the oldest of those that are too many."""
        unwritten = self.unwritten
        unwritten.gone.update(dict.fromkeys(map(ghost_of, gone)))
        ghosts = self.ghosts + len(unwritten.gone) - unwritten.owed
        unwritten.owed += max(ghosts - int(GHOSTS * (self.small + self.main)), 0)

    # -- What is written down later --

    def settle(self, link: Link) -> None:
        """Write all down, and do so at once until this transaction ends: rows may change now."""
        if not self.is_ahead:
            return
        self.is_ahead = False
        self.window = None
        if self.unwritten:
            link.unwritten.append(self.unwritten.copied())
            self.write_down(link)

    def adopt(self, link: Link, unwritten: Unwritten) -> None:
        """Write down what an earlier state had put off; others may have changed entries since."""
        link.unwritten.append(unwritten)
        for rowid, (rank, hits, before, _) in unwritten.moves.items():
            size = link.execute(sql.MOVE_FROM, (rank, hits, rowid, before)).get
            if size is None:
                continue
            self.is_changed = link.has_changes = True
            if rank < 0:
                self.sequence = max(self.sequence, int(rank - START) + 1)
            if self.is_counted(rowid):
                self.add(before, size, -1)
                self.add(rank, size)
        self.unwritten.gone.update(unwritten.gone)
        self.unwritten.owed += unwritten.owed
        self._write_ghosts(link)

    def _write_some(self, link: Link) -> None:
        """Write down what has become much; all, if nothing may be put off."""
        unwritten = self.unwritten
        if not self.is_ahead or len(unwritten.moves) >= MOVES:
            self.write_moves(link)
        # Ghosts lie all over their table: many at a time share pages.
        most = min(max((self.small + self.main) // GHOSTS_PART, LEAST_GHOSTS), MOST_GHOSTS)
        if not self.is_ahead or max(len(unwritten.gone), unwritten.owed) >= most:
            self._write_ghosts(link)

    def write_down(self, link: Link) -> None:
        """Write down what was put off."""
        self.write_moves(link)
        self._write_ghosts(link)

    def write_moves(self, link: Link) -> None:
        """Write down the new places of what was spared."""
        rows = self.unwritten.taken_moves()
        if rows:
            link.con.executemany(sql.MOVE, rows)
            self.is_changed = link.has_changes = True

    def _write_ghosts(self, link: Link) -> None:
        """Write down who is remembered, and who no longer."""
        unwritten = self.unwritten
        if unwritten.gone:
            before = link.con.total_changes()
            numbered = enumerate(unwritten.gone, self.last_ghost + 1)
            link.con.executemany(sql.REMEMBER, [(ghost, number) for number, ghost in numbered])
            self.last_ghost += len(unwritten.gone)
            self.ghosts += link.con.total_changes() - before
            unwritten.gone = {}
            self.is_changed = link.has_changes = True
        if unwritten.owed:
            link.run(sql.FORGET_GHOSTS, (min(unwritten.owed, FORGOTTEN),))
            self.ghosts -= link.con.changes()
            unwritten.owed = max(unwritten.owed - FORGOTTEN, 0)
            self.is_changed = link.has_changes = True
