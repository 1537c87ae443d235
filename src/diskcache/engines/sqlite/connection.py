"""One connection of one thread, with the state of its transaction.

The order of steps that makes a write visible (see `diskcache.coherence`) is in `Link.begin` and
`Link.commit`, and, for writes of one statement, in alone.py.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import apsw

from diskcache.clock import Clock
from diskcache.coherence import Source, mark, settle
from diskcache.engines.sqlite import control as control_file
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.control import (
    ALL_SLOTS,
    BEGIN,
    BOOT,
    BYTES,
    COUNT,
    END,
    FILES,
    MASK,
    NEXT_EXPIRY,
    OPEN,
    WRITTEN,
    slot_of,
    slots_of,
)
from diskcache.engines.sqlite.gate import GateClosed
from diskcache.engines.sqlite.hardening import persist_log, remove_log
from diskcache.entry import DbValue, EncodedKey
from diskcache.errors import (
    Timeout,
)

if TYPE_CHECKING:
    from diskcache.engines.sqlite.s3fifo import Queues
    from diskcache.engines.sqlite.site import Site
    from diskcache.engines.sqlite.waiting import Unwritten
    from diskcache.files import ValueFiles

FOREIGN_NAP: Final = 0.002
"""Seconds between two tries while a program that ignores the gate holds the database."""
SWEEP_TIME: Final = 0.05
"""Seconds that one writer spends on the search for files of a dead one."""
MANY_KEYS: Final = 2**11
"""Keys of one transaction from which changing every generation costs less than finding theirs."""


class Found(NamedTuple):
    """What was read while a connection was opened."""

    settings: dict[str, Any]
    has_tag_index: bool
    marks: dict[str, DbValue]
    page_size: int
    pages: int
    """Pages that the database has."""


Noted: TypeAlias = list[tuple[str, list[tuple[EncodedKey, float]], dict[EncodedKey, float]]]
"""Reads that were written down: name of the policy, what it notes of each, and when, if besides."""


class Gone(NamedTuple):
    """How many entries a transaction removed to make room."""

    expired: int
    culled: int
    young: int
    """Those of the culled ones that had been stored just before."""


class Link:
    """A connection and its transaction. Used by one thread; closed by any."""

    __slots__ = (
        "__weakref__",
        "cache_id",
        "clock",
        "con",
        "depth",
        "doomed",
        "execute",
        "expiry_exact",
        "expiry_low",
        "files",
        "found",
        "gone",
        "has_changes",
        "hidden",
        "is_broken",
        "is_closed",
        "is_limited",
        "is_looking",
        "is_uncertain",
        "left",
        "log_mark",
        "log_pages",
        "look_up",
        "lost",
        "noted",
        "page_size",
        "pid",
        "published",
        "puts",
        "queues",
        "rows",
        "run",
        "serial",
        "site",
        "size",
        "slots",
        "suspected_at",
        "sweep_from",
        "unwritten",
        "written",
    )

    def __init__(
        self,
        con: apsw.Connection,
        site: Site,
        cache_id: bytes,
        files: ValueFiles,
        clock: Clock,
        found: Found,
    ) -> None:
        self.con = con
        self.found: Found | None = found
        """What was read while opening; good for one look."""
        self.execute: Callable[..., Any] = con.execute
        """Runs a statement on a cursor of its own."""
        self.renew_cursors()
        self.suspected_at: float | None = None
        """When this reader first met the traces of a writer that may be dead."""
        self.is_uncertain = False
        """Whether a step was left in the middle and the transaction goes on: then nobody knows its
        totals and files without looking."""
        self.site = site
        self.cache_id = cache_id
        self.files, self.clock = files, clock
        self.pid = os.getpid()
        self.depth = self.serial = 0
        self.gone: Gone | None = None
        """How deep the transaction is; its number; what it removed to make room."""
        self.is_broken = self.is_closed = self.is_limited = False
        """Whether no page may be added to the database; see `room`."""
        self.log_pages, self.log_mark = 0, 0.0
        """Length of the write-ahead log after this connection's last write; and that from which
        somebody has to look at it, see `checkpoints`."""
        self.sweep_from = 0
        """Where a search for stray files has to go on, as the word *files* has it."""
        self.page_size = found.page_size
        self.published, self.doomed = list[str](), list[str]()
        self.slots: set[int] = set()
        """Generations that change with this transaction: those of the keys that it writes."""
        self.hidden: Source | None = None
        """What is hidden from readers of this process until the transaction ends."""
        self.puts: list[Any] = []
        """Rows that this transaction has still to store; everything else waits for them."""
        self.left: tuple[int, Queues] | None = None
        """The queues as the last commit left them, and the word *begin* then."""
        self.lost: list[Unwritten] = []
        """What transactions that were undone had written down of the queues, or put off."""
        self._reset()
        con.set_wal_hook(self._on_log)
        site.add(self)

    def _reset(self) -> None:
        self.rows = 0
        """Entries more than before."""
        self.size = 0
        """Bytes of value files more than before."""
        self.written = 0
        """Upper bound of bytes written to the database."""
        self.expiry_low = control_file.NEVER
        """Earliest expiry that was stored."""
        self.expiry_exact: int | None = None
        """Earliest expiry of all, where it was looked up."""
        self.has_changes = False
        self.is_uncertain = False
        self.noted: Noted = []
        """Reads that were written down in this transaction."""
        self.queues: Queues | None = None
        """The queues of s3-fifo, where entries are in them: every change of a row is counted."""
        self.unwritten: list[Unwritten] = []
        """What earlier transactions had put off, and this one has written down."""
        if self.published or self.doomed:
            self.published.clear()
            self.doomed.clear()
        if self.puts:
            self.puts.clear()
        if self.slots:
            self.slots.clear()
        if self.hidden is not None:
            self.hidden.show()
            self.hidden = None

    def database(self) -> tuple[bytes, object]:
        """Return what tells the database and its control file from others at the same path."""
        control = self.site.control
        return self.cache_id, None if control is None else control.inode

    def hide(self) -> None:
        """Have this process read from the database until this transaction has ended."""
        control = self.site.control
        if control is not None:
            control.source.hide()
            self.hidden = control.source

    def touched(self, key: DbValue) -> None:
        """Note that the entry of a stored key is changed by this transaction."""
        self.slots.add(slot_of(key))
        self.has_changes = True

    def touched_all(self, keys: Collection[DbValue]) -> None:
        """Note that the entries of many keys are changed by this transaction."""
        if len(keys) >= MANY_KEYS:
            self.slots.update(ALL_SLOTS)
        else:
            self.slots.update(slots_of(keys))
        self.has_changes = True

    def _on_log(self, _con: apsw.Connection, _name: str, pages: int) -> int:
        if pages < self.log_pages:
            self.log_mark = 0  # It started over.
        self.log_pages = pages
        return apsw.SQLITE_OK

    # -- Transactions --

    def begin(self, wait: float | None) -> None:
        """Take the gate and start a write transaction, recovering from a writer that died.

        Raises:
            Timeout: The gate, or the database, was not free within *wait* seconds.
        """
        site = self.site
        try:
            site.gate.acquire(wait, self)
            if self.is_closed:
                raise GateClosed
            if self.has_changes or self.con.in_transaction:
                self._undo()  # An interrupt came in the middle of an earlier end.
            try:
                self.run("BEGIN IMMEDIATE")
            except apsw.BusyError:
                self._begin_patiently(wait)
            control = site.control
            if monotonic() >= site.look_at:
                self._meet_control()
            elif control is not None:
                words = control.words
                if words[BEGIN] != words[END] or words[FILES]:
                    self._meet_control()
            self.serial += 1
            self.depth = 1
            self.gone = None
        except BaseException:
            self.rollback()
            raise

    def note_gone(self, expired: int, culled: int = 0, young: int = 0) -> None:
        """Add to what the transaction removed to make room."""
        before = self.gone or Gone(0, 0, 0)
        self.gone = Gone(before.expired + expired, before.culled + culled, before.young + young)

    def _begin_patiently(self, wait: float | None) -> None:
        """Wait for a program that holds the database without knowing of the gate."""
        deadline = None if wait is None else self.clock.monotonic() + wait
        while deadline is None or self.clock.monotonic() < deadline:
            self.clock.sleep(FOREIGN_NAP)
            with suppress(apsw.BusyError):
                self.run("BEGIN IMMEDIATE")
                return
        raise Timeout

    def _meet_control(self) -> None:
        """Map the control file that is there now, and mend what a dead writer left."""
        site = self.site
        if not site.is_current():
            raise DirectoryReplaced
        if not site.is_shared_memory_safe:
            # Nobody may believe what is not kept up to date here.
            control_file.withdraw(site.directory)
            site.look_at = monotonic() + control_file.LEASE
            return
        site.look_at_locks(self)
        control = site.control
        if control is None or control_file.inode_of(site.control_path) != control.inode:
            control = site.renew_control(self.cache_id)
        # Whoever makes a control file waits until no writer believes any longer that there is none.
        site.look_at = monotonic() + control_file.LEASE
        if control is None:
            return
        if not control.words[OPEN]:
            # From now on there may be something in the log that must not vanish with it.
            control.words[OPEN] = 1
        if not control.is_clean:
            self._recover(control)
        if control.words[FILES]:
            self._sweep(control.words)

    def _recover(self, control: control_file.Control) -> None:
        """Count again, and write a row.

        The row matters: a writer that was killed after its last log frame, but before the index
        of the log, leaves a transaction that would come back when every process has closed. The
        next real commit overwrites it.
        """
        words = control.words
        settle(words, [slot for slot in ALL_SLOTS if words[slot] & 1])
        words[COUNT] = self.execute(sql.COUNT).get
        words[BYTES] = self.execute(sql.FILE_BYTES).get
        words[NEXT_EXPIRY] = 0
        words[control_file.STATE] = (words[control_file.STATE] + 1) & MASK
        self.execute(sql.RECOVERED)
        words[BOOT] = control_file.boot_of(control.inode)
        control.is_of_this_boot = True
        self.has_changes = True

    def _sweep(self, words: memoryview[int]) -> None:
        """Remove value files that a dead writer published without naming, or no longer named.

        Nothing else is going on, so a file that no row names is such a one. Folders are searched
        in order of their names for a bounded time; the next writer goes on where this one stopped.
        """
        folders = sorted(self.files.folders())
        deadline = monotonic() + SWEEP_TIME
        for folder in folders:
            number = int(folder.replace("/", ""), 16) + 1
            if number < words[FILES]:
                continue
            if monotonic() > deadline:
                words[FILES] = self.sweep_from = number
                return
            names = list(self.files.listed_in(folder))
            if not self.site.is_current():
                # They may be those of a cache that has taken the place of this one.
                raise DirectoryReplaced
            for name in names:
                if self.execute(sql.NAMES_FILE, (name,)).get is None:
                    self.files.remove(name)
            self.files.prune(folder)
        self.files.prune()
        words[FILES] = self.sweep_from = 0

    def commit(self) -> None:
        """Make the transaction visible, act on its consequences, and let the next writer in."""
        site = self.site
        control = site.control
        try:
            if self.queues is not None:
                self._save_queues(self.queues)
            words = memoryview(b"") if control is None else control.words
            if control is None or not self.has_changes:
                self.run("COMMIT")
            else:
                began = words[BEGIN] = (words[BEGIN] + 1) & MASK
                if self.is_uncertain:
                    # Steps were left in the middle: nobody knows which keys they have changed, or
                    # what it all adds up to. The next writer counts, and searches for files.
                    self.slots.update(ALL_SLOTS)
                    words[FILES] = 1
                mark(words, self.slots)
                self.run("COMMIT")
                settle(words, self.slots)
                if self.is_uncertain:
                    self.published.clear()
                    self.doomed.clear()
                else:
                    self._add_totals(words)
                    words[END] = began
            if self.doomed or self.published:
                self._finish_files(control)
            is_known = control is not None and not self.is_uncertain
            self.left = (words[BEGIN], self.queues) if is_known and self.queues else None
            self._reset()
            self.depth = 0
            site.gate.release(self)
        except BaseException:
            self.rollback()
            raise

    def _save_queues(self, queues: Queues) -> None:
        if not self.is_uncertain:
            queues.save(self)
            return
        # What they hold is not known: entries are put in order anew.
        self.execute(sql.FORGET_POLICIES)
        self.execute(sql.FORGET_RANKING)
        control = self.site.control
        if control is not None:
            words = control.words
            words[control_file.STATE] = (words[control_file.STATE] + 1) & MASK

    def _add_totals(self, words: memoryview[int]) -> None:
        if self.rows:
            words[COUNT] = min(max(words[COUNT] + self.rows, 0), MASK)
        if self.size:
            words[BYTES] = min(max(words[BYTES] + self.size, 0), MASK)
        if self.expiry_exact is not None:
            words[NEXT_EXPIRY] = min(self.expiry_exact, self.expiry_low)
        elif self.expiry_low < words[NEXT_EXPIRY]:
            words[NEXT_EXPIRY] = self.expiry_low
        words[WRITTEN] = (words[WRITTEN] + self.written) & MASK

    def _finish_files(self, control: control_file.Control | None) -> None:
        """Remove the files that nothing names any more. The gate is still held."""
        for name in self.doomed:
            self.files.remove(name)
        if control is not None:
            control.words[FILES] = self.sweep_from

    def rollback(self) -> None:
        """Undo the transaction, unless it is committed, and let the next writer in.

        May be repeated, and does nothing without a transaction.
        """
        self.depth = 0
        self.is_broken = False
        try:
            self._undo()
        finally:
            self.site.gate.release(self)

    def _undo(self) -> None:
        self.gone = None
        self.lost += self.unwritten
        if self.queues is not None and self.queues.is_ahead and self.queues.unwritten:
            self.lost.append(self.queues.unwritten)
        with suppress(apsw.Error):
            if self.con.in_transaction:
                self.execute("ROLLBACK")
        if self.published or self.doomed:
            self._remove_unnamed()
        self._reset()

    def _remove_unnamed(self) -> None:
        """Remove the files of a transaction that no row names; the gate is still held.

        What that is depends on whether an interrupt came before or after the commit, and only the
        table knows. If it cannot be asked, the next writer searches.
        """
        control = self.site.control
        with suppress(apsw.Error):
            for name in (*self.published, *self.doomed):
                if self.execute(sql.NAMES_FILE, (name,)).get is None:
                    self.files.remove(name)
            self.published.clear()
            self.doomed.clear()
            if control is not None:
                control.words[FILES] = self.sweep_from

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what is done in the block, and only that, if an error leaves it."""
        kept = (self.rows, self.size, self.written, self.expiry_low, self.expiry_exact)
        queues = None if self.queues is None else self.queues.copied()
        files = len(self.published), len(self.doomed)
        self.execute("SAVEPOINT step")
        try:
            yield
        except BaseException:
            if self.con.in_transaction:
                self.execute("ROLLBACK TO step")
                self.execute("RELEASE step")
                self.rows, self.size, self.written, self.expiry_low, self.expiry_exact = kept
                self.queues = queues
                for name in self.published[files[0] :]:
                    self.files.remove(name)
                del self.published[files[0] :], self.doomed[files[1] :]
            raise
        self.execute("RELEASE step")

    def is_idle(self) -> bool:
        """Tell whether the next read sees the newest state: no statement is unfinished."""
        try:
            return bool(self.con.txn_state() == apsw.SQLITE_TXN_NONE)
        except apsw.ConnectionClosedError:
            return False

    def renew_cursors(self) -> None:
        """Make the cursors that are used again and again; old ones may be in a statement."""
        self.run: Callable[..., Any] = self.con.cursor().execute
        """Runs a statement that returns nothing."""
        self.look_up: Callable[..., Any] = self.con.cursor().execute
        """Runs a point read, while *is_looking* is set: a signal handler that reads in between must
        not take the cursor over."""
        self.is_looking = False

    # -- Files --

    def note_files(self) -> None:
        """Say that value files are about to change, for whoever finds this process dead."""
        control = self.site.control
        if control is not None:
            control.words[FILES] = 1

    # -- Life --

    def close(self) -> None:
        """Close the connection; an unfinished transaction is rolled back. May be repeated."""
        site = self.site
        if self.is_closed or self.pid != os.getpid():
            return
        if self.depth:
            # Only the thread that began it may give the gate back.
            if not site.gate.is_mine:
                return
            self.rollback()
        self.is_closed = True
        try:
            self._close(site)
        except BaseException:
            # A signal handler raised: nobody would come back to close it.
            self.con.close(True)
            site.remove(self)
            raise

    def _close(self, site: Site) -> None:
        try:
            # A directory that was removed and made again has another log of the same name.
            is_last = not self.con.readonly("main") and site.is_current() and site.is_last(self)
            if is_last:
                persist_log(self.con, False)
            self.con.close()
            if is_last:
                site.note_closed()
        except apsw.ThreadingViolationError:
            # Its own thread is in the middle of a read: it is not idle, and stays open.
            self.is_closed = False
            site.stay()
            return
        except apsw.Error:
            self.con.close(True)
        site.part_from(self, remove_log)


CLOSED: Final = (apsw.ConnectionClosedError, apsw.CursorClosedError)
"""Another thread has closed the connection: before a statement, or before its rows were fetched."""


class DirectoryReplaced(Exception):  # noqa: N818 - it is a signal, not an error
    """The directory at the path is not the one that this connection belongs to."""


class Lease:
    """Held by a thread for as long as it lives; its end closes the thread's connection."""

    __slots__ = ("link",)

    def __init__(self, link: Link) -> None:
        self.link = link

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # Daemon threads that ended in the middle of something then hold locks for ever.
        if not is_finalizing():
            self.link.close()


class ThreadState(threading.local):
    """What each thread keeps of an engine."""

    link: Link | None = None
    lease: Lease | None = None
    is_lost = False
    """Whether the thread is in the block of a transaction that it has closed."""
