"""How values kept in memory are never stale: generations, and the order in which they change.

Every key has a slot, and every slot a *generation*: a 64-bit word in memory that all processes
share. Many keys share a slot. A value is kept in memory together with the generation that its slot
had before it was read, and is good for as long as the slot has that generation.

    writer, with the gate in hand           reader
    1  begin := begin + 1                   1  g := generation of the slot
    2  generations of its keys |= 1         2  read the entry from the database
    3  COMMIT                               3  if g is even, keep what was read under g
    4  generations of its keys += 1
    5  totals; end := begin                 hit: the generation is still the one it is kept under
    6  let the next writer in

*Why a hit is the newest value.* What a reader keeps under an even *g* was committed before step 2
of the next writer to that slot, or is newer than *g*. That writer makes the generation odd before
its COMMIT, and it never is *g* again. So before anybody can see, or be told of, the new value,
nothing older is a hit. What was read while a writer was between 2 and 4 (an odd generation) is
not kept: it may be of either side. What was read after *g* was superseded is kept under a
generation that never comes back: a miss that need not have been, no more.

*A writer* may keep what it stores, under the generation that step 4 made: it looks at that before
step 6. Keeping can come later, since nobody makes that generation again.

*Reading* means a new snapshot. A connection in the middle of an unfinished read still sees the old
one, so what it reads is not kept.

*A writer that dies* between 1 and 5 leaves `begin` and `end` different. The next one, before
anything else, makes odd generations even, counts again, and writes a row (see `Link.begin`). Until
then entries of those slots are read from the database.

*All removals know their keys*, in batches, so a word for "everything" is not needed, and a hit is
one comparison. *Rollback* touches no word. *Inside a transaction* a thread reads its own writes
from the database: the process's values are hidden until the transaction ends.

*Another file.* Words are in a file that may be removed or replaced. A process looks at the path
twice a second; within that window it believes its mapping. A new file starts with random
generations, so none that was seen in an earlier file comes again.

A generation is read and written as one 64-bit word by `memoryview.cast('Q')`. The order of stores
within a process is that of the program on x86-64; elsewhere the system calls of COMMIT and of the
gate order them.

Whoever changes an order of steps runs `tests/explorer`, which tries all schedules on these very
functions; see docs/coherence.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias, cast

from diskcache.entry import EncodedKey, Row

MASK: Final = 2**64 - 1
INFINITY: Final = float("inf")

FULL: Final = 1000
"""Reads, counted or of different entries, that an object keeps to itself while the gate is free."""


LAST_HIT: Final = FULL - 1
"""Hits that are counted before one that asks whether they are to be written down."""

COUNTED: Final = object()
"""A pen that is in no mark: hits are counted in the tally of their source, and nothing else."""


class Tally:
    """Reads of one process that are not written down yet. Threads may share it."""

    __slots__ = ("hits", "misses")

    def __init__(self) -> None:
        self.hits = 0
        """Reads that found a live entry."""
        self.misses = 0
        """Reads that found none."""


class Mark:
    """Where the hits of one entry are noted, by whoever keeps it in memory.

    Only one of those that share what is in memory notes here at a time: whose pen it is. The
    others, and all if it is nobody's, go the long way.
    """

    __slots__ = ("at", "counted_by", "key", "reads", "timed_by")

    def __init__(self, key: EncodedKey) -> None:
        self.key = key
        """The encoded key of the entry."""
        self.at = 0.0
        """When it was last read, by the clock that nobody can set; 0 if it was not."""
        self.reads = 0.0
        """How often it was read; a float, because Python adds to one faster."""
        self.timed_by: object = None
        """The pen of whoever wants to know when it was read."""
        self.counted_by: object = None
        """The pen of whoever wants to know how often it was read."""

    def release(self) -> None:
        """Be nobody's."""
        self.timed_by = self.counted_by = None


class _Nothing:
    """Generations that are all odd, so that nothing is a hit and nothing is kept."""

    def __getitem__(self, slot: int) -> int:
        """Return an odd number."""
        return 1


_NOTHING: Final = cast("memoryview[int]", _Nothing())


class Source:
    """The generations of one directory as this process has them mapped.

    What is kept in memory refers to the source that it came from, and is good only while the
    source is: until `look_at`, by the clock that nobody can set.
    """

    __slots__ = ("_is_retired", "_mapped", "hidden", "look_at", "tally", "words")

    def __init__(self, words: memoryview[int]) -> None:
        self._mapped = words
        self.words = words
        """What a generation is looked up in."""
        self.tally = Tally()
        self.hidden = 0
        """Transactions of this process that are open: at most one, as they hold the gate."""
        self.look_at = -INFINITY
        self._is_retired = False

    def trust(self, until: float) -> None:
        """Believe in the mapping for a while: it is the file at the path."""
        if not self._is_retired:
            self.look_at = until

    def hide(self) -> None:
        """Let nothing be a hit while a transaction is open, whose thread sees its own writes.

        No other thread undoes this, whatever it is in the middle of.
        """
        self.hidden += 1
        self.words = _NOTHING

    def show(self) -> None:
        """Undo one `hide`."""
        self.hidden -= 1
        if not self.hidden:
            self.words = self._mapped

    def retire(self) -> None:
        """Let nothing be a hit any more: the mapping is given up."""
        self._is_retired = True
        self.look_at = -INFINITY
        # Whoever still refers to this source does not keep the mapping alive.
        self._mapped = self.words = _NOTHING


Seen: TypeAlias = tuple[Row | None, Source | None, int, int]
"""What a read saw; and source, slot and generation under which it may be kept in memory, if there
is a source."""

Keep: TypeAlias = Callable[[Source, int, int], None]
"""Told under what an entry that was stored may be kept in memory: source, slot, generation."""


def mark(words: memoryview[int], slots: Iterable[int]) -> None:
    """Make generations odd, just before the COMMIT."""
    for slot in slots:
        words[slot] |= 1


def settle(words: memoryview[int], slots: Iterable[int]) -> None:
    """Make odd generations the next even ones, after the COMMIT."""
    for slot in slots:
        words[slot] = (words[slot] + 1) & MASK
