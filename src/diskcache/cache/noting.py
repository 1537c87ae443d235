"""What notes a hit in memory: one short function for each thing that may have to be noted.

To ask at each hit what it is costs as much as noting it, so the function is chosen when the
settings change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from diskcache.clock import Clock, SystemClock
from diskcache.coherence import FULL
from diskcache.engines.base import Book, Engine
from diskcache.memory.tier import ENCODED, SOURCE, VALUE, Held
from diskcache.sentinels import ENOVAL

Note = Callable[[Any, Held], None]
"""Notes a hit: its place, and what is held there."""


def quick_noter(engine: Engine, settings: Mapping[str, Any], clock: Clock) -> Note | None:
    """Return what notes a hit, where that is one thing; None if it is several, or none."""
    book = engine.book
    if settings["statistics"]:
        return None if engine.records_reads else _counter(engine)
    if book is None or type(clock) is not SystemClock:
        return None
    return _timer(engine, book) if book.notes_times else _tallier(engine, book)


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


def _timer(engine: Engine, book: Book) -> Note:
    """Return what notes when an entry was read."""

    def note(_: Any, held: Held) -> None:
        if held[VALUE] is not ENOVAL:
            reads = book.reads
            # Looked up at each call, as the clock does: programs replace it in their tests.
            reads[held[ENCODED]] = time.time()
            if len(reads) >= FULL:
                engine.note_read(held[ENCODED], time.time())

    return note


def _tallier(engine: Engine, book: Book) -> Note:
    """Return what notes how often an entry was read, as far as that matters."""
    most = book.most_reads

    def note(place: Any, held: Held) -> None:
        if held[VALUE] is not ENOVAL:
            reads, key = book.reads, held[ENCODED]
            count = reads.get(key, 0)
            if len(reads) >= FULL:
                engine.note_read(key, time.time())
            elif count < most:
                reads[key] = count + 1
            else:
                book.quiet.add(place)

    return note
