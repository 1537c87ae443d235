"""The product on top of the explored world: its own classes, with fakes at their edges.

Engine, session, transaction, link, site, control, tier and `Cache` are the product's. Fake are
the connection to the database, the gate, the words in shared memory, the way to the control file,
and time: each turns a call into a request that the explorer answers.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest import mock

import apsw

from diskcache import coherence
from diskcache.cache import Cache
from diskcache.coherence import _NOTHING as NOTHING
from diskcache.coherence import Source, Tally
from diskcache.engines.sqlite import connection, control, engine
from diskcache.engines.sqlite.connection import Found, Link
from diskcache.engines.sqlite.control import LEASE, Control
from diskcache.engines.sqlite.engine import SqliteEngine
from diskcache.engines.sqlite.session import LOOK_EVERY
from diskcache.engines.sqlite.site import Site
from diskcache.errors import GateError, Timeout
from diskcache.memory import tier
from diskcache.memory.tier import Tier
from tests.explorer.rows import Content, run
from tests.explorer.world import START, Layout

CACHE_ID: Final = bytes(16)
SETTINGS: Final = {
    "cull_limit": 0,
    "size_limit": 2**30,
    "count_limit": 0,
    "value_limit": 0,
    "size_weight": 0.5,
    "eviction_policy": "none",
    "statistics": 0,
    "sqlite_auto_vacuum": 0,
}
ERRORS: Final[dict[str, type[BaseException]]] = {
    "busy": apsw.BusyError,
    "full": apsw.FullError,
    "timeout": Timeout,
    "interrupt": KeyboardInterrupt,
}
READ_BEFORE: Final = b"\1" * tier.GROUPS
"""What a tier remembers once every key was read: the next read is kept."""

Ask = Callable[..., Any]


class Result:
    """What apsw returns from a statement."""

    def __init__(self, found: tuple[tuple[Any, ...], ...]) -> None:
        self._found = found

    @property
    def get(self) -> Any:
        if not self._found:
            return None
        first = self._found[0]
        return first[0] if len(first) == 1 else first

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._found)


class FakeConnection:
    """A connection to the database of the world. What is uncommitted is its own."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._own: Content | None = None
        self._writes = False
        self._marks: list[tuple[Content, bool]] = []
        self._changes = self._total = self._rowid = 0
        self.is_pinned = False

    def cursor(self) -> FakeConnection:
        return self

    def set_wal_hook(self, hook: object) -> None:
        pass

    @property
    def in_transaction(self) -> bool:
        return self._own is not None

    def txn_state(self) -> int:
        if self._own is not None:
            return apsw.SQLITE_TXN_WRITE
        return apsw.SQLITE_TXN_READ if self.is_pinned else apsw.SQLITE_TXN_NONE

    def last_insert_rowid(self) -> int:
        return self._rowid

    def set_last_insert_rowid(self, rowid: int) -> None:
        self._rowid = rowid

    def changes(self) -> int:
        return self._changes

    def total_changes(self) -> int:
        return self._total

    def executemany(self, statement: str, rows: Any) -> None:
        for values in rows:
            self.execute(statement, values)

    def execute(self, statement: str, values: Any = ()) -> Result:
        """Run a statement where it belongs: here, in the world, or both."""
        if statement == "BEGIN IMMEDIATE":
            self._own, self._writes = self._ask("begin"), False
            return Result(())
        if statement == "COMMIT":
            try:
                self._ask("commit", self._own, self._writes)
            except apsw.FullError:
                self._own = None  # SQLite has rolled back by itself.
                raise
            self._own = None
            return Result(())
        if statement == "ROLLBACK":
            self._ask("rollback")
            self._own = None
            return Result(())
        if self._own is not None:
            return self._run_inside(statement, tuple(values))
        if statement.startswith(("SELECT", "PRAGMA")):
            return Result(self._ask("select", statement, tuple(values)))
        found, changes, rowid = self._ask("change", statement, without_noise(values))
        self._note(changes, rowid)
        return Result(found)

    def _run_inside(self, statement: str, values: tuple[Any, ...]) -> Result:
        assert self._own is not None
        if statement == "SAVEPOINT step":
            self._marks.append((self._own, self._writes))
        elif statement == "RELEASE step":
            self._marks.pop()
        elif statement == "ROLLBACK TO step":
            self._own, self._writes = self._marks[-1]
        else:
            answer = run(self._own, statement, values)
            self._own, self._writes = answer.content, self._writes or answer.writes
            if not statement.startswith(("SELECT", "PRAGMA")):
                self._note(answer.changes, answer.rowid)
            return Result(answer.found)
        return Result(())

    def _note(self, changes: int, rowid: int) -> None:
        self._changes, self._total = changes, self._total + changes
        if rowid:
            self._rowid = rowid

    def content_inside(self) -> Content:
        """Return what this connection sees in its transaction."""
        assert self._own is not None
        return self._own

    # -- What users can do to it --

    def pin(self) -> None:
        """Begin a read, and leave it in the middle."""
        self._ask("pin")
        self.is_pinned = True

    def unpin(self) -> None:
        self._ask("unpin")
        self.is_pinned = False

    def digest(self) -> object:
        return self._own, self._writes, self.is_pinned


def without_noise(values: Any) -> tuple[Any, ...]:
    """Leave out times and random bits, which would make equal requests differ."""
    return tuple(0 if type(value) in (int, float) else value for value in values)


class FakeGate:
    """The gate as the kernel has it: free, or in the hands of one actor."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._holder: object = None

    def acquire(self, wait: float | None, holder: object) -> None:
        if self._holder is not None:
            raise GateError("this thread has the gate already")
        self._ask("acquire", wait)
        self._holder = holder

    def release(self, holder: object) -> None:
        if self._holder is holder:
            self._ask("release")
            self._holder = None

    @property
    def is_mine(self) -> bool:
        return self._holder is not None


class Words:
    """The words of one control file."""

    def __init__(self, ask: Ask, file: int) -> None:
        self._ask = ask
        self.file = file

    def __getitem__(self, word: int) -> int:
        return self._ask("read", self.file, word)

    def __setitem__(self, word: int, value: int) -> None:
        self._ask("write", self.file, word, value)


class NoFiles:
    """A cache without value files."""

    def folders(self) -> list[str]:
        return []

    def prune(self, folder: str = "") -> None:
        pass

    def discard(self, staged: object) -> None:
        pass


class SharedSource(Source):
    """A source whose threads are several actors."""

    __slots__ = ("_ask",)

    @property
    def hidden(self) -> int:
        return self._ask("look", "hidden")

    @hidden.setter
    def hidden(self, value: int) -> None:
        self._ask("put", "hidden", value)

    @property
    def words(self) -> Any:
        return self._mapped if self._ask("look", "is shown") else NOTHING

    @words.setter
    def words(self, value: Any) -> None:
        self._ask("put", "is shown", value is not NOTHING)

    @property
    def look_at(self) -> float:
        return self._ask("look", "look_at")

    @look_at.setter
    def look_at(self, value: float) -> None:
        self._ask("put", "look_at", value)


class SharedDict:
    """The entries of a tier that several threads have."""

    def __init__(self, ask: Ask, source: Source) -> None:
        self._ask = ask
        self._source = source

    def get(self, place: Any, default: Any = None) -> Any:
        held = self._ask("look", f"held {place}")
        return default if held is None else (self._source, *held)

    def __contains__(self, place: Any) -> bool:
        return False  # The entry that follows takes its place.

    def __setitem__(self, place: Any, held: Any) -> None:
        assert held[tier.DECODE] is None
        self._ask("put", f"held {place}", held[1:])


class Process:
    """One process, or one of its threads, with the cache open."""

    def __init__(
        self, ask: Ask, *, threads: bool = False, timed: bool = False, has_looked: bool = False
    ) -> None:
        self.ask = ask
        self.timed = timed
        self.con = FakeConnection(ask)
        self.site = self._site(timed)
        control = _control(ask, 0)
        if threads:
            control.source = _shared_source(ask, control)
        else:
            control.source.look_at = -coherence.INFINITY if timed else coherence.INFINITY
        self.site.use(control)
        self.link = Link(
            self.con, self.site, CACHE_ID, NoFiles(), host_clock(ask), Found({}, False, {}, 4096, 1)
        )
        self.engine = self._engine()
        self.cache = self._cache()
        if has_looked:
            self.site.look_at = START + LEASE
            self.engine._look_from, self.engine._look_at = START, START + LOOK_EVERY
            control.source.look_at = START + LOOK_EVERY
        if threads:
            self.cache._tier.young = SharedDict(ask, control.source)

    def _site(self, timed: bool) -> Site:
        here = Site.__new__(Site)
        vars(here).update(
            directory="cache",
            mode=0o700,
            pid=os.getpid(),
            links=set(),
            off={},
            control=None,
            control_path="control",
            is_shared_memory_safe=True,
            look_at=-coherence.INFINITY if timed else coherence.INFINITY,
            database=0,
            guard=None,
            tally=Tally(),
            gate=FakeGate(self.ask),
            is_current=lambda: True,
        )
        return here

    def _engine(self) -> SqliteEngine:
        made = SqliteEngine("cache", SETTINGS, NoFiles(), host_clock(self.ask))
        made._local.link = self.link
        if not self.timed:
            made._look_from, made._look_at = -coherence.INFINITY, coherence.INFINITY
        made.settings_changed()
        # The state of the ranking is known: nothing is ranked.
        made._culler.state = 0
        made._culler.is_simple = made._culler.is_short = True
        return made

    def _cache(self) -> Cache:
        made = Cache.__new__(Cache)
        made._tier = Tier(2**20)
        made._tier._expected = READ_BEFORE
        made._settings = SETTINGS
        made._engine = self.engine
        made._notes = None
        made._is_plain = True
        made._now = self._now
        made._encode_key = lambda key: (key, 1)
        return made

    def _now(self) -> float:
        return monotonic() if self.timed else 0.0

    def digest(self) -> object:
        """Return everything that this process carries from one operation to the next."""
        link, here, control = self.link, self.site, self.site.control
        culler = self.engine._culler
        held = self.cache._tier.young
        kept = ()
        if isinstance(held, dict):
            kept = tuple(
                (p, h[0].words.file, *h[1:5]) if isinstance(h[0].words, Words) else (p,)
                for p, h in sorted(held.items())
            )
        source = control and control.source
        own = (
            ()
            if source is None or isinstance(source, SharedSource)
            else (source.hidden, source.look_at, source._is_retired)
        )
        return (
            self.con.digest(),
            link.suspected_at,
            link.depth,
            link.has_changes,
            link.is_broken,
            link.is_uncertain,
            link.is_looking,
            link.is_closed,
            link.rows,
            frozenset(link.slots),
            len(link.puts),
            link.hidden is not None,
            here.gate.is_mine,
            here.look_at,
            control and control.words.file,
            own,
            culler.state,
            culler.is_simple,
            self.engine._look_at,
            kept,
        )


class _Clock:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def time(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self._ask("sleep", 0)


def host_clock(ask: Ask) -> Any:
    return _Clock(ask)


def _control(ask: Ask, file: int) -> Control:
    made = Control.__new__(Control)
    made.inode = file + 1
    made.words = Words(ask, file)
    made.is_of_this_boot = True
    made.source = Source(made.words)
    return made


def _shared_source(ask: Ask, control: Control) -> SharedSource:
    made = SharedSource.__new__(SharedSource)
    made._ask = ask
    made._mapped = control.words
    made.tally = Tally()
    made._is_retired = False
    return made


# -- What modules of the product call by name --

running: list[Process] = []
"""The process whose code is running now, last."""


def monotonic() -> float:
    process = running[-1]
    return process.ask("time") if process.timed else 0.0


def _inode_of(path: str) -> int:
    return running[-1].ask("inode")


def _attach(directory: str, cache_id: bytes, **_: Any) -> Control | None:
    found = running[-1].ask("inode")
    return _control(running[-1].ask, found - 1) if found else None


class _Files:
    """As much of `os`, `host` and `time` as the making of a control file needs."""

    O_RDWR = O_CREAT = O_EXCL = 0
    path = os.path

    def __init__(self) -> None:
        self._made = 0

    def unlink(self, path: str) -> None:
        raise FileNotFoundError

    def open_file(self, path: str, flags: int, mode: int) -> int:
        return 0

    def allocate(self, descriptor: int, size: int) -> None:
        pass

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> None:
        running[-1].made = running[-1].ask("create")

    def sleep(self, seconds: float) -> None:
        running[-1].ask("sleep", seconds)

    def rename(self, old: str, new: str) -> None:
        running[-1].ask("publish", running[-1].made)

    def close(self, descriptor: int) -> None:
        pass


@contextmanager
def set_up(layout: Layout) -> Iterator[None]:
    """Put the fakes in their places."""
    files = _Files()
    with ExitStack() as stack:
        if gc.isenabled():
            # What is collected meanwhile is real, and must not meet the fakes.
            gc.disable()
            stack.callback(gc.enable)

        def put(module: Any, name: str, value: Any) -> None:
            stack.enter_context(mock.patch.object(module, name, value))

        for name, module in list(sys.modules.items()):
            if name.startswith("diskcache.") and vars(module).get("monotonic") is time.monotonic:
                put(module, "monotonic", monotonic)
        put(connection, "ALL_SLOTS", layout.slots)
        put(control, "boot_of", lambda _: 0)
        put(engine, "SUSPICION", -1.0)
        put(control, "inode_of", _inode_of)
        put(control, "attach", _attach)
        put(control, "_first_words", lambda *_: b"")
        put(control, "_map", lambda *_: _control(running[-1].ask, running[-1].made))
        for name in ("os", "host", "time"):
            put(control, name, files)
        yield
