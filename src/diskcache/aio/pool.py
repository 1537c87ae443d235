"""Threads that do for an event loop what may wait: one hop there, one back.

Implementation note.

*Lanes.* Reading waits for nobody, so reads have threads of their own: a write that waits for the
write lock keeps none of them. Transactions have another one, see `transacting`. So has what keeps
computed values: functions that are given to `update` may wait for such a value. Each lane has at
most so many threads, started when a job finds none idle; other jobs wait in a queue. A thread
keeps its connections for as long as it lives.

*The way back.* What came of jobs goes into the box of the loop that waits for it, and the loop is
woken once for all that is in it: waking it is a system call, and half of the price of a hop.

*Cancelling.* A job that has not begun is dropped when its caller is cancelled; one that has begun
comes to its end. If its result has to be given back, a lock or an open file, and nobody is there
to take it, its *undo* is called with it, in a thread.

*The end.* Threads know their lane and nothing else while they wait, so that a pool goes when its
cache goes, and then they end. They are daemons, because the interpreter would wait for others for
ever; a function that runs at its exit has them end and waits for what they are in the middle of.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from contextvars import Context, copy_context
from typing import Any, Final, Protocol

from diskcache.bridging import is_possible
from diskcache.errors import DiskCacheError
from diskcache.holding import holds

log: Final = logging.getLogger("diskcache")

READ: Final = 0
WRITE: Final = 1
TRANSACT: Final = 2
KEEP: Final = 3
LIMITS: Final = (4, 4, 1, 4)
"""Threads of each lane. One transaction at a time is open in a cache, so one thread serves all."""

LEAVING: Final = 5.0
"""Seconds that the exit of the interpreter waits for what threads are in the middle of."""


class Work(Protocol):
    """What a thread is asked to do."""

    def run(self) -> None:
        """Do it."""
        ...

    def tell(self) -> None:
        """Tell whoever waits for it."""
        ...


class Errand:
    """Work that nobody waits for: what it raises is logged, and the thread lives on."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def run(self) -> None:
        """Call it."""
        outcome = Outcome()
        with outcome:
            self._function()
        if outcome.error is not None:
            log.error("an operation that nobody waits for failed", exc_info=outcome.error)

    def tell(self) -> None:
        """Tell nobody."""


class Outcome:
    """What came of a call: a value, or an error that is for somebody else."""

    __slots__ = ("error", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, StopIteration):
            # A future cannot raise it, as a coroutine cannot.
            told = RuntimeError(f"the operation raised {error!r}")
            told.__cause__ = error
            error = told
        self.error = error
        return True


def outcome_of(
    context: Context, function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]
) -> Outcome:
    """Call a function and return what came of it.

    The traceback of an error leads here, so nothing here refers to whoever waits for it.
    """
    outcome = Outcome()
    with outcome:
        outcome.value = context.run(function, *args, **keywords)
    return outcome


class Box:
    """Where threads leave what one loop waits for."""

    __slots__ = ("_is_signalled", "_jobs", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._jobs: deque[Job] = deque()
        self._is_signalled = False

    def put(self, job: Job) -> None:
        """Have a job settled in the loop; undo it if the loop is closed."""
        self._jobs.append(job)
        if self._is_signalled:
            return
        self._is_signalled = True
        try:
            self.loop.call_soon_threadsafe(self._settle)
        except RuntimeError:
            self._is_signalled = False
            while self._jobs:
                self._jobs.popleft().undo_now()

    def _settle(self) -> None:
        # Before the box is emptied: whoever puts something in after that signals again.
        self._is_signalled = False
        jobs = self._jobs
        while jobs:
            jobs.popleft().settle()


class _Here(threading.local):
    """The box of the loop that runs in a thread."""

    box: Box | None = None


_here: Final = _Here()


def _box() -> Box:
    """Return the box of the loop that runs here.

    Raises:
        RuntimeError: None does.
    """
    loop, box = asyncio.get_running_loop(), _here.box
    if box is None or box.loop is not loop:
        box = _here.box = Box(loop)
    return box


class Job:
    """A call in another thread, and the future of what comes of it.

    Args:
        pool: Where *undo* is called, if that must not be done at once.
        function: What to call, in a copy of the context of whoever makes the job.
        args: Its positional arguments.
        keywords: Its other arguments.
        undo: Called with a value that nobody is there to take.
        must_run: Whether it runs also if its caller was cancelled before it began.
    """

    __slots__ = (
        "_args",
        "_box",
        "_context",
        "_function",
        "_is_abandoned",
        "_keywords",
        "_must_run",
        "_outcome",
        "_pool",
        "_undo",
        "future",
    )

    def __init__(
        self,
        pool: Pool,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        keywords: dict[str, Any] | None = None,
        undo: Callable[[Any], object] | None = None,
        must_run: bool = False,
    ) -> None:
        self._box = box = _box()
        self.future: asyncio.Future[Any] = box.loop.create_future()
        self._context = copy_context()
        self._pool = pool
        self._function: Callable[..., Any] = function
        self._args = args
        self._keywords = keywords or {}
        # Whoever takes it out of the list calls it: two threads may want to.
        self._undo = [] if undo is None else [undo]
        self._is_abandoned = False
        self._must_run = must_run
        self._outcome: Outcome | None = None

    def run(self) -> None:
        """Do it, in a thread of the pool."""
        future = self.future
        if future.done() and not self._must_run:
            return
        outcome = outcome_of(self._context, self._function, self._args, self._keywords)
        # Whoever waits may keep the job; the arguments may be large.
        self._function, self._args, self._keywords = _nothing, (), {}
        self._outcome = outcome
        if future.cancelled() or self._is_abandoned:
            self.undo_now()
        # The traceback of an error leads to this frame too, as that behind another.
        del self, future

    def tell(self) -> None:
        """Tell the loop what came of it."""
        if self._outcome is not None:
            self._box.put(self)

    def settle(self) -> None:
        """Tell whoever waits, in the loop."""
        future, outcome = self.future, self._outcome
        if outcome is None:
            return
        if future.done():
            self.undo_later()
        elif outcome.error is None:
            future.set_result(outcome.value)
        else:
            # The traceback refers to the outcome: it must not refer to the error any more.
            self._outcome = None
            error, outcome.error = outcome.error, None
            future.set_exception(error)

    def undo_now(self) -> None:
        """Give back what nobody is there to take, in this thread."""
        outcome, self._outcome = self._outcome, None
        if outcome is None or outcome.error is not None:
            return
        # There is nobody to be told of an error either.
        with suppress(IndexError, DiskCacheError, OSError):
            self._context.run(self._undo.pop(), outcome.value)

    def undo_later(self) -> None:
        """Give back what nobody is there to take, in a thread."""
        if self._undo and self._outcome is not None:
            self._pool.post(WRITE, Errand(self.undo_now))

    async def result(self) -> Any:
        """Wait for the result, and have it undone if it comes too late."""
        try:
            return await self.future
        except BaseException:
            # The task was cancelled, perhaps when the result had come, or is no more.
            self._is_abandoned = True
            self.undo_later()
            raise
        finally:
            # An error refers to this frame, and the future to the error.
            del self


def _nothing() -> None:
    """Stand for a function that has been called."""


class Lane:
    """A queue of work, and the threads that do it.

    The thread that came last to wait is woken first, and none is woken for what a thread is about
    to take that just tells its loop: one operation after the other is done by one thread, which
    is still awake.
    """

    __slots__ = ("_is_closed", "_limit", "_lock", "_name", "_ready", "_waiting", "_work", "threads")

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._work: deque[Work] = deque()
        self._ready = 0
        """Threads that are about to take work."""
        self._waiting: list[threading.Lock] = []
        """What to release to wake a thread, the last one first."""
        self._is_closed = False
        self.threads: list[threading.Thread] = []

    def offer(self, work: Work) -> bool:
        """Have work done, unless the lane is closed; tell whether it will be."""
        with self._lock:
            if self._is_closed:
                return False
            self._work.append(work)
            if len(self._work) > self._ready:
                if self._waiting:
                    self._ready += 1
                    self._waiting.pop().release()
                elif len(self.threads) < self._limit:
                    self._start()
            return True

    def _start(self) -> None:
        thread = threading.Thread(target=_do, args=(self,), name=self._name, daemon=True)
        self._ready += 1
        try:
            thread.start()
        except RuntimeError:
            self._ready -= 1
            if not self.threads:
                self._work.pop()
                raise
        else:
            self.threads.append(thread)

    def finish(self) -> None:
        """Note that the calling thread is about to take other work."""
        with self._lock:
            self._ready += 1

    def take(self, alarm: threading.Lock) -> Work | None:
        """Return work for the calling thread, waiting for it; None for no more.

        Args:
            alarm: A lock of the thread, which it has acquired.
        """
        while True:
            with self._lock:
                self._ready -= 1
                if self._work:
                    return self._work.popleft()
                if self._is_closed:
                    return None
                self._waiting.append(alarm)
            # Whoever releases it says that this thread is about to take work.
            alarm.acquire()

    def close(self) -> list[threading.Thread]:
        """Take no more work; have the threads end when they have done what is there."""
        with self._lock:
            self._is_closed = True
            self._ready += len(self._waiting)
            while self._waiting:
                self._waiting.pop().release()
            return self.threads


def _do(lane: Lane) -> None:
    alarm = threading.Lock()
    alarm.acquire()
    while (work := lane.take(alarm)) is not None:
        work.run()
        lane.finish()
        work.tell()
        # While the thread waits it must not keep a cache alive.
        del work


class Hold(Protocol):
    """A thread that is kept for the operations of one block."""

    place: str
    """Path of the directory whose operations it does."""
    thread: int | None
    """Which thread that is, when it has begun."""

    @property
    def is_open(self) -> bool:
        """Whether it still does any."""
        ...

    def offer(self, work: Work) -> bool:
        """Have work done in the thread, unless the block has ended; tell whether it will be."""
        ...

    def call(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any] | None:
        """Call a function in the thread; return its future, None if the block has ended."""
        ...

    def end(self) -> None:
        """Let the thread go; what the block has done is undone."""
        ...

    def forget(self) -> None:
        """Be no block any more, in a forked child."""
        ...


class Pool:
    """The threads of one cache. Loops in several threads may share it; a forked child starts anew.

    Threads are started when there is something for them to do.
    """

    is_bridging = False
    """Whether calls are made in the loops of their callers, and not in threads; see `tasks`."""

    def __init__(self) -> None:
        self.place = ""
        """Path of the directory, when it is known."""
        self.opening = threading.Lock()
        """Held by whoever opens the cache, so that it is done once."""
        self.held: Hold | None = None
        """The block that the thread for transactions serves."""
        self._lanes = _new_lanes()
        finalizer = weakref.finalize(self, _close, self._lanes)
        finalizer.atexit = False
        _pools.add(self)

    def job(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        keywords: dict[str, Any] | None = None,
        undo: Callable[[Any], object] | None = None,
        must_run: bool = False,
    ) -> Job:
        """Return a call to submit; see `Job`."""
        return Job(self, function, args, keywords, undo, must_run)

    def turn(self) -> AbstractAsyncContextManager[object]:
        """Return a block that one task at a time is in, where calls are made in tasks."""
        return nullcontext()

    def submit(self, lane: int, job: Job) -> Job:
        """Have a job run in a lane, or in the thread of the block that its caller is in."""
        for hold in holds.get():
            if hold.place == self.place and hold.offer(job):
                return job
        self.post(lane, job)
        return job

    def post(self, lane: int, work: Work) -> None:
        """Have work done in a lane."""
        while not self._lanes[lane].offer(work):
            pass

    def close(self) -> list[threading.Thread]:
        """Have the threads end when they have done what was asked of them before; return them.

        The pool can still be used: it starts others.
        """
        lanes, self._lanes[:] = list(self._lanes), _new_lanes()
        return [thread for lane in lanes for thread in lane.close()]

    def reset(self) -> None:
        """Forget the threads, which a forked child does not have."""
        if self.held is not None:
            self.held.forget()
        self.held = None
        self.opening = threading.Lock()
        self._lanes[:] = _new_lanes()


def _new_lanes() -> list[Lane]:
    names = ("read", "write", "transact", "keep")
    return [Lane(f"diskcache-{name}", limit) for name, limit in zip(names, LIMITS, strict=True)]


def _close(lanes: list[Lane]) -> None:
    for lane in lanes:
        lane.close()


_pools: Final[weakref.WeakSet[Pool]] = weakref.WeakSet()
_of: Final[weakref.WeakKeyDictionary[Any, Pool]] = weakref.WeakKeyDictionary()


def pool_of(cache: Any, offered: Pool | None = None) -> Pool:
    """Return the pool that all asynchronous objects on one cache object share.

    That of a cache on a server needs no threads, if calls can be bridged.

    Args:
        cache: The cache object.
        offered: What becomes its pool if it has none.
    """
    found = _of.get(cache)
    if found is None:
        made = offered or Pool()
        if getattr(cache, "_is_bridged", False) and not made.is_bridging and is_possible():
            from diskcache.aio.tasks import Tasks

            made = Tasks()
        made.place = os.path.realpath(cache.directory)
        # Two threads may get here at once: the first one to be entered counts.
        found = _of.setdefault(cache, made)
    return found


def _at_exit() -> None:
    deadline = time.monotonic() + LEAVING
    pools = list(_pools)
    for pool in pools:
        if pool.held is not None:
            pool.held.end()
    for thread in [thread for pool in pools for thread in pool.close()]:
        thread.join(max(deadline - time.monotonic(), 0))


def _after_fork_in_child() -> None:
    _here.box = None
    for pool in list(_pools):
        pool.reset()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
