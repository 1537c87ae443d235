"""Connections and transactions of an engine: in which one a step runs, and what follows it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import getpid
from time import monotonic
from typing import Any, Final, TypeVar

import apsw

from diskcache.clock import Clock
from diskcache.engines.sqlite import opening, site, writing
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.checkpoints import Checkpointer
from diskcache.engines.sqlite.connection import DirectoryReplaced, Lease, Link, ThreadState
from diskcache.engines.sqlite.control import HITS, MASK, MISSES
from diskcache.engines.sqlite.culling import Culler
from diskcache.engines.sqlite.errors import file_error, read_only, transaction_lost, translate
from diskcache.engines.sqlite.gate import GateClosed
from diskcache.errors import DiskCacheError
from diskcache.files import ValueFiles

T = TypeVar("T")

LOOK_EVERY: Final = 0.5
"""Seconds between two looks at whether the directory is still the one that was opened."""

TRIES: Final = 100
"""Attempts to read or to write while other threads close the connection."""

CLOSING_WAIT: Final = 1.0
"""Seconds that closing waits to write statistics down."""

LOG_CHECK: Final = 64
"""Pages of log below which its length is of no interest."""


class Session:
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
    ) -> None:
        self.directory = directory
        self.is_readonly = readonly
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
        self._largest: float = float("inf")
        self._puts = 1
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
                opening.configure(link.con, self._place)
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
        link = opening.open_link(self._place, create=create)
        self._links.add(link)
        self._local.link = link
        self._local.lease = Lease(link)
        return link

    def _drop(self) -> None:
        self._local.link = None
        self._local.lease = None

    def forget(self) -> None:
        """Forget connections that a forked child inherited; they are parked elsewhere."""
        self._local = ThreadState()
        self._links = weakref.WeakSet()

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
        if now is not None:
            self._look_from, self._look_at = now, now + LOOK_EVERY
        return link or self._connect()

    def close(self, *, everywhere: bool = True) -> None:
        """Close this thread's connection, and with *everywhere* those of idle threads."""
        link = self._local.link
        if link is not None and not link.depth and not self.is_readonly:
            self._flush(CLOSING_WAIT)
        self._drop()
        if link is not None:
            link.close()
        if everywhere:
            self._close_idle()

    def _close_idle(self) -> None:
        for link in list(self._links):
            gate = link.site.gate
            if link.is_closed:
                continue
            with suppress(DiskCacheError):
                # With the gate in hand, no other thread of this process is in a transaction.
                if not self.is_readonly:
                    gate.acquire(0)
                try:
                    if not link.depth:
                        link.close()
                finally:
                    if not self.is_readonly:
                        gate.release()

    # -- Running steps --

    def _read(self, link: Link, statement: str, values: Sequence[Any]) -> Any:
        """Run a read again on a new connection if another thread closed this one."""
        try:
            return link.execute(statement, values).get
        except apsw.ConnectionClosedError:
            self._drop()
            return self._connect().execute(statement, values).get
        except apsw.Error as exc:
            raise translate(exc, self.directory) from exc

    def _query(self, step: Callable[..., T], *args: Any, now: float | None = None) -> T:
        """Run a step that only reads; again, if another thread closes the connection meanwhile."""
        for _ in range(TRIES):
            try:
                return step(self._reader(now), *args)
            except apsw.ConnectionClosedError:
                self._drop()
            except apsw.Error as exc:
                raise translate(exc, self.directory) from exc
        return step(self._reader(now), *args)

    def _write(self, wait: float | None, step: Callable[..., T], *args: Any) -> T:
        """Run *step* in the transaction of this thread, or in one of its own."""
        link = self._local.link or self._connect()
        if link.depth:
            if link.puts:
                self._store_pending(link)
            return self._inside(link, step, args)
        link = self._begin(link, wait)
        try:
            result = step(link, *args)
        except BaseException as exc:
            link.rollback()
            if isinstance(exc, (apsw.Error, OSError)):
                raise self._translated(exc) from exc
            raise
        self._end(link)
        return result

    def _begin(self, link: Link, wait: float | None) -> Link:
        if self.is_readonly or (monotonic() >= link.site.look_at and link.pid != getpid()):
            link = self._reborn()
        for _ in range(TRIES):
            try:
                link.begin(wait)
                break
            except (DirectoryReplaced, GateClosed, apsw.ConnectionClosedError):
                self._drop()
                link = self._connect()
            except apsw.Error as exc:
                raise translate(exc, self.directory) from exc
        else:
            link.begin(wait)
        here = link.site
        if here.hits or here.misses:
            _save_statistics(link)
        return link

    def _reborn(self) -> Link:
        """Connect anew in a child that was forked without telling the interpreter."""
        if self.is_readonly:
            raise read_only(self.directory)
        site.after_fork_in_child()
        return self._connect()

    def _end(self, link: Link) -> None:
        try:
            link.commit()
        except apsw.Error as exc:
            raise translate(exc, self.directory) from exc
        self._tend_log(link)

    def _tend_log(self, link: Link) -> None:
        """Keep the write-ahead log short. Call it without the gate."""
        if link.log_pages > LOG_CHECK:
            self._checkpointer.after_commit(link, self._settings["size_limit"])

    def _inside(self, link: Link, step: Callable[..., T], args: tuple[Any, ...]) -> T:
        if link.is_broken:
            raise transaction_lost(self.directory)
        try:
            return step(link, *args)
        except (apsw.Error, OSError) as exc:
            # A full disk, or an interrupt, rolls all of the transaction back.
            link.is_broken = not link.con.in_transaction
            raise self._translated(exc) from exc

    def _translated(self, exc: BaseException) -> BaseException:
        if isinstance(exc, apsw.Error):
            return translate(exc, self.directory)
        if isinstance(exc, OSError):
            return self.file_error(exc)
        return exc

    def in_transaction(self) -> bool:
        """Tell whether this thread is inside a transaction."""
        link = self._local.link
        return link is not None and link.depth > 0

    @contextmanager
    def transaction(self, wait: float | None) -> Iterator[None]:
        """Run this thread's operations in the block together or not at all."""
        link = self._link()
        if link.depth:
            with _nested(link):
                yield
            return
        link = self._begin(link, wait)
        try:
            yield
        except BaseException:
            # A forked child that leaves the block must not end its parent's transaction.
            if link.pid == getpid() and link.depth:
                link.rollback()
            raise
        if link.pid == getpid():
            self._finish(link)

    def _finish(self, link: Link) -> None:
        """Commit a transaction of several operations."""
        if not link.depth:
            raise transaction_lost(self.directory)
        try:
            if link.is_broken:
                raise transaction_lost(self.directory)
            if link.puts:
                self._store_pending(link)
        except BaseException:
            link.rollback()
            raise
        self._end(link)

    def _flush(self, wait: float = 0) -> None:
        """Write down reads and statistics, if nobody else is writing for longer than *wait*."""
        link = self._local.link
        if link is not None and (self._culler.reads or link.site.hits or link.site.misses):
            with suppress(DiskCacheError):
                self._write(wait, self._culler.flush_reads)


@contextmanager
def _nested(link: Link) -> Iterator[None]:
    link.depth += 1
    try:
        yield
    finally:
        # It is 0 if the cache was closed in the block.
        if link.depth > 1:
            link.depth -= 1


def _state_of(directory: str) -> tuple[object, ...]:
    """Return what changes when somebody else writes to a directory that is only read here."""
    path = os.path.join(directory, "cache.db")
    try:
        found = os.stat(path)
    except OSError:
        return (None,)
    return (found.st_ino, found.st_mtime_ns, found.st_size, os.path.exists(path + "-wal"))


def _save_statistics(link: Link) -> None:
    here, control = link.site, link.site.control
    hits, misses, here.hits, here.misses = here.hits, here.misses, 0, 0
    if control is not None:
        control.words[HITS] = (control.words[HITS] + hits) & MASK
        control.words[MISSES] = (control.words[MISSES] + misses) & MASK
        return
    found = dict(link.execute(sql.SETTINGS, ("statistics",)).fetchall())
    for name, more in (("hits", hits), ("misses", misses)):
        link.execute(sql.STORE, (name, found.get(name, 0) + more, "statistics"))
