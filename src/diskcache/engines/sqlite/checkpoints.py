"""When the write-ahead log is copied into the database, so that it stays small.

A log is copied without stopping anybody (PASSIVE) once it is long enough. It starts over by
itself when everything is copied and no reader uses it; where readers follow one another without a
gap it never would, so beyond the hard bound a writer waits a moment for them (RESTART) before
it writes. A reader that stopped in the middle would make every write wait: nothing more is copied
then from one attempt to the next, and after a failure the next attempt is a second away. Readers
that do go on let more and more be copied, and are waited for again soon.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

import apsw

from diskcache.engines.sqlite import room
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.gate import GateClosed
from diskcache.errors import Timeout

SHORT: Final = 2**17
"""Bytes below which the log has started over not long ago."""
SOFT: Final = 4 * 2**20
"""Bytes of log from which it is copied."""
HARD: Final = 6 * 2**20
"""Bytes of log from which a writer waits for readers."""
STEP: Final = 2**19
"""Bytes of log between two copies while it cannot start over."""
READERS_WAIT: Final = 50
"""Milliseconds that a writer waits for readers."""
WRITERS_WAIT: Final = 0.05
"""Seconds that it waits for other writers before: its own write is done, and must not be late."""
NAP: Final = 0.001
"""Seconds between two looks whether another process has copied the log."""
STUCK: Final = 0.2
"""Seconds without anything copied after which a reader has stopped."""
BACK_OFF: Final = 1.0
"""Seconds until readers that stopped in the middle are waited for again."""


class Checkpointer:
    """Keeps the log of one directory short, for one engine."""

    def __init__(self) -> None:
        self._next = 0
        self._blocked_until = 0.0
        self._copied = -1
        """Pages of log that were copied when it was tried last."""
        self._moved_at = 0.0
        """When that number last changed."""

    def bounds(self, size_limit: float) -> tuple[float, float]:
        """Return the soft and the hard bound for a cache of this size limit, in bytes."""
        return min(SOFT, max(size_limit / 6, 2**18)), min(HARD, max(size_limit / 4, 2**19))

    def after_commit(self, link: Link, size_limit: float) -> None:
        """Copy the log if it is long, and note how long it may become. Call it without the gate."""
        length = link.log_pages * link.page_size
        soft, hard = self.bounds(size_limit)
        if length < SHORT:
            self._next = 0
        if length >= max(soft, self._next):
            self._copy(link, length, hard)
        if length >= room.STEP:
            with suppress(apsw.Error):
                room.provide(link)
        # Lower again as soon as the log starts over; see `Link`.
        link.log_mark = min(max(soft, self._next), length + room.STEP) // link.page_size

    def _copy(self, link: Link, length: int, hard: float) -> None:
        # What was kept for the copying is for that.
        room.shrink(link.site.directory)
        try:
            _, copied = link.con.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error:
            # Another process is copying, most likely: it says nothing about readers.
            copied = self._copied
            self._moved_at = link.clock.monotonic()
        if copied != self._copied:
            self._copied, self._moved_at = copied, link.clock.monotonic()
        self._next = int(length + STEP)
        if length >= hard:
            self._restart(link)

    def _restart(self, link: Link) -> None:
        now = link.clock.monotonic()
        if now < self._blocked_until:
            return
        gate = link.site.gate
        try:
            gate.acquire(WRITERS_WAIT, link)
            link.con.set_busy_timeout(READERS_WAIT)
            start_over(link)
            self._next = 0
        except (GateClosed, Timeout):
            pass  # Whoever writes next sees to it.
        except apsw.Error:
            if now - self._moved_at > STUCK:
                self._blocked_until = now + BACK_OFF
        finally:
            try:
                with suppress(apsw.Error):
                    link.con.set_busy_timeout(0)
            finally:
                gate.release(link)


def start_over(link: Link) -> None:
    """Copy the log and have it start over, waiting for readers. The gate is held.

    Raises:
        apsw.BusyError: Readers kept on using it, or another process kept on copying it.
    """
    deadline = time.monotonic() + READERS_WAIT / 1000
    while True:
        try:
            link.con.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.BusyError:
            # For another process that copies SQLite does not wait, but fails at once.
            if time.monotonic() >= deadline:
                raise
            time.sleep(NAP)
        else:
            return
