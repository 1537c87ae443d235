"""What a process knows of the queues of s3-fifo that the database does not say, or not at a glance.

While one process alone stores entries, it need not search for victims each time, and need not
write down at once where it has put those that it spared. So it keeps

* a *window*: the first entries of each queue, looked up some at a time;
* what is *unwritten*: new places of entries that were spared, the keys of victims that are to be
  remembered, and how many of the oldest of these are to be forgotten.

Both are good for as long as nobody else writes, and no row changes but what is stored and what
goes. Any other write of this process writes everything down first. Where another process has
written meanwhile, what is unwritten is written all the same, of entries that still are where they
were, and for the next second nothing is put off: who shares a directory is to know.

A process that is killed loses what is unwritten: entries stand where they stood, as if they had
not been read, and the last victims are not remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from diskcache.engines.sqlite import reading
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.entry import DbValue

if TYPE_CHECKING:
    from diskcache.engines.sqlite.s3fifo import Queues

ALONE_FOR: Final = 1.0
"""Seconds without a write of others from which something is put off: they are to know of it."""
MOVES: Final = 16
"""Places that are written down at the latest."""
GHOSTS_PART: Final = 32
"""Entries in the queues for each of which a ghost may wait."""
LEAST_GHOSTS: Final = 16
MOST_GHOSTS: Final = 256
"""Ghosts that may wait, in caches of any size."""
FETCHED: Final = 64
"""Entries that are looked up at a time."""
MOST: Final = 2 * FETCHED
"""Entries of a queue that are kept."""


class Candidate(NamedTuple):
    """An entry that may go."""

    rank: float
    rowid: int
    file: str | None
    size: int
    key: DbValue
    raw: int
    hits: Any
    store_time: Any
    cost: int


class Move(NamedTuple):
    """A place that is not written down: it has the place *before* in the database."""

    rank: float
    hits: int
    before: float
    cost: int


class Unwritten:
    """What is to be written down."""

    __slots__ = ("entries", "gone", "moves", "owed", "size")

    def __init__(self) -> None:
        self.moves: dict[int, Move] = {}
        """By row number."""
        self.entries = self.size = 0
        """Entries, and their bytes, that in the database are still in small, and no longer here."""
        self.gone: dict[int, None] = {}
        """Ghosts, in the order in which they went."""
        self.owed = 0
        """Ghosts to be forgotten."""

    def __bool__(self) -> bool:
        return bool(self.moves or self.gone or self.owed)

    def copied(self) -> Unwritten:
        """Return the same once more."""
        other = Unwritten()
        other.moves, other.gone = dict(self.moves), dict(self.gone)
        other.entries, other.size, other.owed = self.entries, self.size, self.owed
        return other

    def moved(self, found: Candidate, rank: float, hits: int, *, is_counted: bool) -> None:
        """Note the new place of an entry; count it between the queues if it is counted at all."""
        before = self.stays(found.rowid)
        if before is None:
            before = found.rank
        # Without a cost it is counted in neither queue.
        size = found.cost if is_counted else -1
        self.moves[found.rowid] = move = Move(rank, hits, before, size)
        self._count(move, 1)

    def stays(self, rowid: int) -> float | None:
        """Forget the new place of an entry, and return the one that it has in the database."""
        move = self.moves.pop(rowid, None)
        if move is None:
            return None
        self._count(move, -1)
        return move.before

    def _count(self, move: Move, times: int) -> None:
        way = ((move.rank >= 0) - (move.before >= 0)) * times
        if way and move.cost >= 0:
            self.entries += way
            self.size += way * move.cost

    def taken_moves(self) -> list[tuple[float, int, int]]:
        """Return rank, hits and row number of each new place, and forget them."""
        rows = [(rank, hits, rowid) for rowid, (rank, hits, _, _) in self.moves.items()]
        self.moves = {}
        self.entries = self.size = 0
        return rows


class Kept:
    """The queues as the last write of this process left them, for as long as nobody else writes."""

    __slots__ = ("_known", "_of", "_others_at", "_unwritten")

    def __init__(self) -> None:
        self._of: tuple[bytes, object] | None = None
        """The database that all this is about, and its control file."""
        self._others_at = float("-inf")
        """When this process last found that somebody else had written."""
        self._known: tuple[int, int, Queues] | None = None
        self._unwritten: list[Unwritten] = []
        """What was put off by queues that are known no longer."""

    @property
    def is_behind(self) -> bool:
        """Whether something is put off."""
        known = self._known
        return bool(self._unwritten) or (known is not None and bool(known[2].unwritten))

    def take(self, of: tuple[bytes, object], began: int, state: int | None) -> Queues | None:
        """Return the queues if they are known without a look: whoever gets them keeps them.

        Args:
            of: The database, by its *cache_id*, and the inode of its control file: another one
                counts writes anew.
            began: The word *begin*: it tells whether anybody has written.
            state: The word *state*, which tells whether the order is another one.
        """
        if of != self._of:
            self.drop()
            self._of = of
        known = self._known
        if known is not None and known[0] == began and known[1] == state:
            self._known = None
            return known[2]
        if known is not None:
            self._others_at = monotonic()
            self.forget()
        return None

    @property
    def is_alone(self) -> bool:
        """Whether nobody else has written for a while, as far as is known."""
        return monotonic() - self._others_at >= ALONE_FOR

    def keep(self, began: int, state: int | None, queues: Queues) -> None:
        """Remember the queues as a write left them that ended with *began*."""
        known = self._known
        if state is None or (known is not None and known[0] > began):
            self.leave(queues)  # Another thread has written since, and was faster here.
            return
        if known is not None:
            self.forget()
        self._known = began, state, queues

    def forget(self) -> None:
        """Have the queues read at the next write."""
        known, self._known = self._known, None
        if known is not None:
            self.leave(known[2])

    def leave(self, queues: Queues) -> None:
        """Have the next write write down what queues have put off that are known no longer."""
        if queues.unwritten:
            self._unwritten.append(queues.unwritten)

    def left(self) -> list[Unwritten]:
        """Return, and forget, what is left to be written down."""
        unwritten, self._unwritten = self._unwritten, []
        return unwritten

    def drop(self) -> None:
        """Forget all: the process that this one was forked from writes it down."""
        self._known = None
        self._unwritten = []


class Window:
    """The first entries of both queues."""

    __slots__ = ("main", "small")

    def __init__(self, fetched: int) -> None:
        self.small = Queue(sql.SMALL, fetched)
        self.main = Queue(sql.MAIN, fetched)

    def add_hits(self, reads: Mapping[Any, float]) -> None:
        """Take note of reads that were written down."""
        self.small.add_hits(reads)
        self.main.add_hits(reads)

    def put_back(self) -> None:
        """Put back what was passed over."""
        self.small.put_back()
        self.main.put_back()


class Queue:
    """The first entries of a queue, looked up some at a time, in their order."""

    __slots__ = ("_aside", "_end", "_fetched", "_has_all", "_heap", "_statement")

    def __init__(self, statement: str, fetched: int) -> None:
        self._statement = statement
        self._fetched = min(fetched, FETCHED)
        self._heap: list[tuple[float, int, Candidate]] = []
        self._end: tuple[float, int] = (float("-inf"), 0)
        """Place up to which the heap has all entries."""
        self._has_all = False
        self._aside: tuple[float, int, Candidate] | None = None

    def next(
        self, link: Link, spared: int, write_moves: Callable[[Link], None]
    ) -> Candidate | None:
        """Take the first entry, but for the one that is spared; None if there is none."""
        while True:
            if not self._heap:
                if self._has_all:
                    return None
                write_moves(link)
                self._fetch(link)
                continue
            found = heappop(self._heap)
            if found[1] != spared:
                return found[2]
            self._aside = found

    def add_hits(self, reads: Mapping[Any, float]) -> None:
        """Take note of reads that were written down."""
        for place, (rank, rowid, found) in enumerate(self._heap):
            more = reads.get((found.key, found.raw))
            if more and type(found.hits) is int:
                entry = found._replace(hits=found.hits + int(more))
                self._heap[place] = rank, rowid, entry

    def put_back(self) -> None:
        """Put back the one that was spared."""
        if self._aside is not None:
            heappush(self._heap, self._aside)
            self._aside = None

    def is_within(self, rank: float, rowid: int) -> bool:
        """Tell whether an entry that comes to this place is one of those that are kept here."""
        return self._has_all or (rank, rowid) <= self._end

    def take(self, entry: Candidate) -> None:
        """Take note of an entry that came to this queue."""
        if not self.is_within(entry.rank, entry.rowid):
            return
        heappush(self._heap, (entry.rank, entry.rowid, entry))
        if len(self._heap) > MOST:
            self._heap.sort()
            del self._heap[FETCHED:]
            self._end = self._heap[-1][:2]
            self._has_all = False

    def _fetch(self, link: Link) -> None:
        """Look entries up; all that were taken have gone, or have another place."""
        self._aside = None
        rows = reading.fetch(link.execute, self._statement, (self._fetched,))
        self._heap = [(row[0], row[1], Candidate(*row)) for row in rows]
        heapify(self._heap)
        self._has_all = len(rows) < self._fetched
        self._fetched = min(4 * self._fetched, FETCHED)
        if rows:
            self._end = rows[-1][:2]
