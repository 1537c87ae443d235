"""What notes a hit in memory: one short function for each thing that may have to be noted.

To ask at each hit what it is costs as much as noting it, so the function is chosen when the
settings change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from diskcache.clock import Clock, SystemClock
from diskcache.coherence import FULL
from diskcache.engines.base import Book, Engine
from diskcache.memory.tier import MARK, SOURCE, VALUE, Held
from diskcache.sentinels import ENOVAL

Note = Callable[[Any, Held], None]
"""Notes a hit: its place, and what is held there."""

LONG_WAY: Final = object()
"""A pen that is in no mark, so that each hit is noted by a call."""


def quick_noter(engine: Engine, settings: Mapping[str, Any], clock: Clock) -> Note | None:
    """Return what notes a hit, where that is one thing; None if it is several, or none."""
    book = engine.book
    if settings["statistics"]:
        return None if engine.records_reads else _counter(engine)
    if book is None or type(clock) is not SystemClock:
        return None
    return _tallier(engine, book) if book.most_reads < FULL else _marker(engine, book)


def _counter(engine: Engine) -> Note:
    """Return what counts hits and misses."""

    def note(_: Any, held: Held) -> None:
        tally = held[SOURCE].tally
        if held[VALUE] is ENOVAL:
            tally.misses += 1
        else:
            tally.hits += 1
        if tally.hits + tally.misses >= FULL:
            engine.record(0, 0)

    return note


def _marker(engine: Engine, book: Book) -> Note:
    """Return what notes the first hit of an entry, so that further ones are noted in its mark."""

    def note(_: Any, held: Held) -> None:
        if held[VALUE] is not ENOVAL:
            mark = held[MARK]
            # Looked up at each call, as the clock does: programs replace it in their tests.
            now = time.time()
            if len(book.reads) + 1 < FULL:
                book.take(mark, now)
            else:
                engine.note_read(mark.key, now)

    return note


def _tallier(engine: Engine, book: Book) -> Note:
    """Return what counts the first hits of an entry, beyond which nobody asks for more."""
    most, note_more = book.most_reads, _marker(engine, book)

    def note(place: Any, held: Held) -> None:
        if held[VALUE] is not ENOVAL:
            reads, key = book.reads, held[MARK].key
            count = reads.get(key, 0)
            if count < most and len(reads) < FULL:
                reads[key] = count + 1
            else:
                note_more(place, held)

    return note
