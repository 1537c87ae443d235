"""Connections and transactions of an engine: in which one a step runs, and what follows it."""

from __future__ import annotations

import logging
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ContextDecorator, suppress
from os import getpid
from time import monotonic
from typing import Any, Final, TypeVar

import apsw

from diskcache.clock import Clock
from diskcache.coherence import FULL
from diskcache.engines.sqlite import (
    forking,
    looking,
    opening,
    reading,
    room,
    sharing,
    site,
    writing,
)
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.checkpoints import Checkpointer
from diskcache.engines.sqlite.connection import CLOSED, DirectoryReplaced, Lease, Link, ThreadState
from diskcache.engines.sqlite.control import LOOK_EVERY
from diskcache.engines.sqlite.culling import YOUNG, Culler
from diskcache.engines.sqlite.errors import (
    DAMAGE,
    file_error,
    read_only,
    reason_of,
    transaction_lost,
    translate,
)
from diskcache.engines.sqlite.gate import GateClosed
from diskcache.engines.sqlite.hardening import may_have_log
from diskcache.engines.sqlite.mending import Mending
from diskcache.engines.sqlite.sharing import Gauge
from diskcache.entry import DbValue
from diskcache.errors import CacheCorruptError, DiskCacheError
from diskcache.files import ValueFiles

T = TypeVar("T")
log: Final = logging.getLogger("diskcache")

FLUSH_PAUSE: Final = 0.01
"""Seconds between two tries to write reads down while the gate is not free."""

TRIES: Final = 100
"""Attempts to read or to write while other threads close the connection."""

CLOSING_WAIT: Final = 1.0
"""Seconds that closing waits to write statistics down."""

REPORT_EVERY: Final = 60.0
"""Seconds between two log messages about entries that were culled early."""


class Session(Mending):
    """What an engine needs to run steps: a connection per thread, and transactions on it."""

    def __init__(
        self,
        directory: str,
        settings: Mapping[str, Any],
        files: ValueFiles,
        clock: Clock,
        *,
        mode: int = 0o700,
        readonly: bool = False,
        pragmas: Mapping[str, Any] | None = None,
        strict: bool = False,
    ) -> None:
        self.directory = directory
        self.is_readonly = readonly
        self._is_strict = strict
        self._settings = settings
        self._place = opening.Place(
            directory, files, clock, mode, settings, readonly, pragmas or {}
        )
        self._local = ThreadState()
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._culler = Culler(settings)
        self._checkpointer = Checkpointer()
        self._look_at = self._look_from = float("-inf")
        self._seen: tuple[object, ...] = ()
        self._flush_at = 0.0
        self._largest: float = float("inf")
        self._doubtful: float = float("inf")
        """Length from which a text may have too many bytes."""
        self._short: float = 0
        """Length up to which a value may be put aside in a transaction without another look."""
        self.culled_young = 0
        self._told: Callable[[int, int, int], None] | None = None
        """How many entries writes of this object culled soon after they were stored."""
        self._report_at = float("-inf")
        self._puts = 1
        self._gauge = Gauge()
        self.records_reads = False
        site.remember(self)

    # -- Connections --

    @property
    def cache_id(self) -> bytes:
        """Sixteen random bytes that name this cache for as long as it exists."""
        return self._link().cache_id

    def open(self, *, create: bool = False) -> None:
        """Connect this thread, making the cache if it does not exist and *create* is true."""
        if self._local.link is None:
            self._connect(create)

    def file_error(self, exc: OSError) -> Exception:
        """Return what to raise for an error met while a value file was written."""
        return exc if isinstance(exc, DiskCacheError) else file_error(exc, self.directory)

    def configure(self) -> None:
        """Apply the settings of SQLite to this thread's connection."""
        link = self._link()
        if not self.is_readonly and not link.depth:
            try:
                if opening.configure(link.con, self._place, link.site):
                    link.site.protect()
            except apsw.Error as exc:
                raise translate(exc, self.directory) from exc

    def _link(self) -> Link:
        link = self._local.link
        if link is None or link.is_closed:
            return self._connect()
        if link.puts:
            self._store_pending(link)
        return link

    def _store_pending(self, link: Link) -> None:
        """Store what this transaction has put aside, so that what follows sees it."""
        rows, link.puts = link.puts, []
        try:
            self._inside(link, writing.put_batch, (self._culler, rows, rows[-1][6]))
        except BaseException:
            # The calls that put these rows aside have returned: the transaction cannot keep
            # what they promised.
            link.is_broken = True
            raise

    def _connect(self, create: bool = False) -> Link:
        if self._local.is_lost:
            raise transaction_lost(self.directory)
        try:
            link = opening.open_link(self._place, create=create)
        except CacheCorruptError as exc:
            # While a cache is being made, or upgraded by others, its maker sees to it.
            if create or not self.may_heal or not self.set_aside(reason_of(exc)):
                raise
            link = opening.open_link(self._place, create=False)
        self._local.link = link
        self._links.add(link)
        self._local.lease = Lease(link)
        return link

    def _drop(self) -> None:
        self._local.link = None
        self._local.lease = None

    def forget(self) -> None:
        """Forget connections that a forked child inherited; they are parked elsewhere."""
        self._local = ThreadState()
        self._links = weakref.WeakSet()
        # What the parent has read, the parent writes down.
        self._culler.drop_reads()
        self._culler.kept.drop()

    def _reader(self, now: float | None = None) -> Link:
        """Return this thread's connection, to the directory that is at the path now."""
        link = self._local.link
        if link is None or link.is_closed:
            return self._look(now)
        if not link.depth and (now is None or not self._look_from <= now < self._look_at):
            return self._look(now)
        if link.puts:
            self._store_pending(link)
        return link

    def _look(self, now: float | None) -> Link:
        # What is seen from here on is believed for a time that begins here: this thread may be
        # kept waiting between the look and what follows from it.
        looked_at = monotonic()
        link = self._local.link
        if self.is_readonly:
            seen = _state_of(self.directory)
            if link is None or link.is_closed or seen != self._seen:
                self._drop()
                self._seen = seen
                link = self._connect()
            return link
        if link is not None and (link.is_closed or not link.site.is_current()):
            self._drop()
            link = None
        if link is None:
            link = self._connect()
        here = link.site
        here.look_at_locks(link)
        if here.is_shared_memory_safe:
            here.confirm_control(link.cache_id)
        if now is not None:
            self._look_from, self._look_at = now, now + LOOK_EVERY
        if here.control is not None:
            here.control.source.trust(looked_at + LOOK_EVERY)
        return link

    def _look_soon(self) -> None:
        """Have the next write look at the directory: a file would go astray if it is another."""
        link = self._local.link
        if link is not None:
            link.site.look_at = 0.0

    def close(self, *, everywhere: bool = True) -> None:
        """Close this thread's connection, and with *everywhere* those of idle threads."""
        link = self._local.link
        if link is None and self._culler.reads and not self.is_readonly:
            # They were answered from memory, or noted by other threads.
            with suppress(DiskCacheError):
                link = self._connect()
        if link is not None and not link.depth and not self.is_readonly:
            self._flush(CLOSING_WAIT)
            link = self._local.link
        if link is not None and link.depth:
            # What follows in the block would be no part of a transaction, and stored.
            self._local.is_lost = True
        self._drop()
        if link is not None:
            link.close()
        if everywhere:
            self._close_idle()

    def _close_idle(self) -> None:
        if not self._links:
            return
        me = object()
        for link in list(self._links):
            gate = link.site.gate
            if link.is_closed:
                continue
            with suppress(DiskCacheError, GateClosed):
                # With the gate in hand, no other thread of this process is in a transaction.
                try:
                    if not self.is_readonly:
                        gate.acquire(0, me)
                    if not link.depth:
                        link.close()
                finally:
                    gate.release(me)

    # -- Running steps --

    def _read(self, link: Link, statement: str, values: tuple[Any, ...]) -> Any:
        """Run a read again on a new connection if another thread closed this one."""
        try:
            return reading.first(link.execute, statement, values)
        except CLOSED:
            self._drop()
            return reading.first(self._connect().execute, statement, values)
        except apsw.Error as exc:
            if self._heals(exc):
                return self._read(self._reader(), statement, values)
            raise self._foreign(exc) from exc

    def _read_again(
        self, link: Link, statement: str, values: tuple[Any, ...], exc: Exception
    ) -> Any:
        """Run a read again that failed on a cursor that the connection keeps."""
        if isinstance(exc, UnicodeDecodeError):
            reading.abandon(link)
        return self._read(link, statement, values)

    def _query(self, step: Callable[..., T], *args: Any, now: float | None = None) -> T:
        """Run a step that only reads; again, if another thread closes the connection meanwhile."""
        for _ in range(TRIES):
            try:
                return step(self._reader(now), *args)
            except CLOSED:
                self._drop()
            except apsw.Error as exc:
                if not self._heals(exc):
                    raise self._foreign(exc) from exc
        return step(self._reader(now), *args)

    def select(self, statement: str, values: looking.Values) -> looking.Found:
        """Run a statement of a user that only reads; see `looking`."""
        return self._query(looking.select, statement, values)

    def _write(self, wait: float | None, step: Callable[..., T], *args: Any) -> T:
        """Run *step* in the transaction of this thread, or in one of its own."""
        link = self._local.link or self._connect()
        if link.depth:
            if link.hidden is None:
                link.hide()
            if link.puts:
                self._store_pending(link)
            return self._inside(link, step, args)
        try:
            link = self._begin(link, wait)
            if step is not writing.put:
                self._culler.settle(link)
            result = step(link, *args)
            if link.puts:
                # What the step called may have written something: user code, as a value is loaded.
                self._store_pending(link)
            link.commit()
        except DAMAGE as exc:
            return self._write_anew(exc, wait, step, args)
        except BaseException as exc:
            self._give_up(exc)
            raise
        self._follow_up(link)
        return result

    def _begin(self, link: Link, wait: float | None) -> Link:
        if self.is_readonly or (monotonic() >= link.site.look_at and link.pid != getpid()):
            link = self._reborn()
        if link.is_limited and not link.is_closed:
            with suppress(apsw.Error):
                room.provide(link, room.STEP)
        for _ in range(TRIES):
            try:
                link.begin(wait)
                break
            except (DirectoryReplaced, GateClosed, *CLOSED):
                self._drop()
                link = self._connect()
        else:
            link.begin(wait)
        self._culler.load(link)
        tally = link.site.tally
        if tally.hits or tally.misses:
            _save_statistics(link)
        return link

    def _give_up(self, exc: BaseException) -> None:
        """Roll this thread's transaction back, and raise what *exc* means if it is foreign.

        Nothing may come between the beginning of a transaction and the `try` that ends in this: a
        signal handler may raise after any call.
        """
        link = self._local.link
        if link is not None:
            link.rollback()
        self._tell(exc)

    def _tell(self, exc: BaseException) -> None:
        """Raise what *exc* means if it is foreign."""
        told = self._translated(exc)
        try:
            if told is not exc:
                raise told from exc
        finally:
            # An error that its own traceback refers to would keep what it met alive.
            del told, exc

    def _reborn(self) -> Link:
        """Connect anew in a child that was forked without telling the interpreter."""
        if self.is_readonly:
            raise read_only(self.directory)
        forking.after_in_child()
        return self._connect()

    def _tend_log(self, link: Link) -> None:
        """Keep the write-ahead log short, now that it is long. Call it without the gate."""
        limit = self._culler.share or self._settings["size_limit"]
        self._checkpointer.after_commit(link, limit)

    def _inside(self, link: Link, step: Callable[..., T], args: tuple[Any, ...]) -> T:
        if link.is_broken:
            raise transaction_lost(self.directory)
        try:
            return step(link, *args)
        except (DiskCacheError, KeyError, TypeError, ValueError, OverflowError):
            # Steps refuse before they change anything.
            raise
        except (apsw.Error, OSError) as exc:
            # A full disk, or an interrupt, rolls all of the transaction back.
            link.is_broken = link.is_closed or not link.con.in_transaction
            link.is_uncertain = True
            raise self._translated(exc) from exc
        except BaseException:
            link.is_uncertain = True
            raise

    def _translated(self, exc: BaseException) -> BaseException:
        if isinstance(exc, apsw.Error):
            return self._foreign(exc)
        if isinstance(exc, OSError):
            return self.file_error(exc)
        return exc

    def note(self, name: str, value: DbValue, wait: float | None) -> None:
        """Mark the cache with *value*, whatever it is marked with; with None no longer."""
        self._write(wait, sharing.note, name, value)

    def in_transaction(self) -> bool:
        """Tell whether this thread is inside a transaction."""
        link = self._local.link
        return link is not None and link.depth > 0

    def transaction(self, wait: float | None) -> Transaction:
        """Return a context in which this thread's operations happen together or not at all."""
        return Transaction(self, wait)

    def enter(self, wait: float | None) -> tuple[Link, int]:
        """Begin a transaction, or go one level deeper; return the level there was."""
        link = self._link()
        depth = link.depth
        if depth:
            link.depth = depth + 1
            return link, depth
        try:
            link = self._begin(link, wait)
            self._culler.settle(link)
            link.hide()
            return link, 0
        except BaseException as exc:
            self._give_up(exc)
            raise

    def leave(self, link: Link, depth: int, *, failed: bool) -> None:
        """Go back to a level; at the outermost one, commit or roll back."""
        try:
            if depth:
                # It is 0 if the cache was closed in the block.
                link.depth = depth if link.depth else 0
                return
            if failed:
                if link.depth:
                    undone = link.noted
                    link.rollback()
                    self._culler.take_back(undone)
                return
            if not link.depth or link.is_broken:
                raise transaction_lost(self.directory)
            if link.puts:
                self._store_pending(link)
            link.commit()
        except BaseException as exc:
            self._tell(exc)
            raise
        self._follow_up(link)

    def _follow_up(self, link: Link) -> None:
        """Do what follows from a commit, without the gate."""
        if link.left is not None:
            self._culler.keep_queues(link)
        if link.gone is not None:
            self._tell_gone(link)
        if link.log_pages > link.log_mark:
            self._tend_log(link)

    def watch(self, told: Callable[[int, int, int], None] | None) -> None:
        """Have a function told what writes of this object remove to make room."""
        self._told = told

    def _tell_gone(self, link: Link) -> None:
        """Tell what a write removed to make room, after its commit, without the gate."""
        gone, link.gone = link.gone, None
        if gone is None:
            return
        if gone.young:
            self._tell_young(link, gone.young)
        if self._told is not None:
            self._told(gone.expired, gone.culled, gone.young)

    def _tell_young(self, link: Link, culled: int) -> None:
        """Count entries that were culled soon after they were stored, and say so once a minute."""
        self.culled_young += culled
        now = link.clock.monotonic()
        if now < self._report_at:
            return
        self._report_at = now + REPORT_EVERY
        log.warning(
            "cache %r: %d entries were culled less than %d s after they were stored, %d in all by"
            " this object: its limits are too small for what is stored",
            self.directory,
            culled,
            YOUNG,
            self.culled_young,
        )

    def _flush(self, wait: float = 0) -> None:
        """Write down reads and statistics, if nobody else is writing for longer than *wait*."""
        link = self._local.link
        if link is None:
            return
        tally = link.site.tally
        if self._culler.reads or self._culler.kept.is_behind or tally.hits or tally.misses:
            with suppress(DiskCacheError):
                self._write(wait, self._culler.flush_reads)

    def _flush_soon(self) -> None:
        """Write down reads and statistics, if the gate is free; forget reads that are too many."""
        now = monotonic()
        if now < self._flush_at:
            return
        self._flush()
        if len(self._culler.reads) >= 2 * FULL:
            self._culler.drop_reads()
        link = self._local.link
        tally = None if link is None else link.site.tally
        counted = 0 if tally is None else tally.hits + tally.misses
        if counted >= FULL or len(self._culler.reads) >= FULL:
            self._flush_at = now + FLUSH_PAUSE


class Transaction(ContextDecorator, AbstractContextManager[None]):
    """What `Session.transaction` returns: used once in a `with`, or to decorate a function.

    It is no generator, because a signal handler that raises in the machinery of one would leave
    the transaction open for as long as the traceback lives.
    """

    _link: Link | None = None
    _depth = _serial = 0

    def __init__(self, session: Session, wait: float | None) -> None:
        self._session = session
        self._wait = wait

    def _recreate_cm(self) -> Transaction:
        return Transaction(self._session, self._wait)

    def __enter__(self) -> None:
        link, self._depth = self._session.enter(self._wait)
        self._link, self._serial = link, link.serial

    def __exit__(self, kind: object, *_: object) -> None:
        link, self._link = self._link, None
        if not self._depth:
            # Not by a call: a signal handler may raise in one.
            self._session._local.is_lost = False  # noqa: SLF001 - a part of that class
        try:
            # A forked child that leaves the block must not end its parent's transaction.
            if link is not None and link.pid == getpid():
                self._session.leave(link, self._depth, failed=kind is not None)
        except BaseException:
            if link is not None and link.depth and not self._depth:
                link.rollback()
            raise

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # A signal handler raised before `__exit__` could begin.
        link = self._link
        if link is None or not link.depth or link.serial != self._serial or is_finalizing():
            return
        if link.pid == getpid() and link.site.gate.is_mine:
            self._session.leave(link, self._depth, failed=True)


def _state_of(directory: str) -> tuple[object, ...]:
    """Return what changes when somebody else writes to a directory that is only read here."""
    path = os.path.join(directory, "cache.db")
    try:
        found = os.stat(path)
    except OSError:
        return (None,)
    return (found.st_ino, found.st_mtime_ns, found.st_size, may_have_log(path))


def _save_statistics(link: Link) -> None:
    tally, control = link.site.tally, link.site.control
    if control is not None:
        site.save_statistics(tally, control.words)
        return
    hits, misses, tally.hits, tally.misses = tally.hits, tally.misses, 0, 0
    found = reading.settings_of(link, sql.SETTINGS, "statistics")
    for name, more in (("hits", hits), ("misses", misses)):
        total = reading.tally(found.get(name)) + more
        link.execute(sql.STORE, (name, total, "statistics"))
