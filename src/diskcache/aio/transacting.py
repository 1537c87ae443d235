"""Transactions of tasks: a transaction belongs to a thread, and that thread to a block.

Implementation note.

A transaction lives on the connection of one thread, so a block has the thread for transactions to
itself, and whatever its task does with the cache is done there. Other blocks of the process wait
for it, in the order in which they came and without a thread; other processes wait at the gate.

Which block a task is in, a context variable tells. A task that is started inside the block, by
`gather` for example, inherits it and belongs to the block; when the block has ended it is on its
own. No other task sees it.

The thread serves the block until it is told that it is over. If that comes before the block was
left, because its task was cancelled while entering, or is no more, it rolls back.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeAlias

from diskcache.aio.pool import TRANSACT, Errand, Job, Pool, Work
from diskcache.errors import DiskCacheError, Timeout, TransactionError
from diskcache.holding import holds

Manager: TypeAlias = AbstractContextManager[None]
Failure: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class Block:
    """A transaction that is open in the thread for transactions."""

    def __init__(self, pool: Pool, make: Callable[[], Manager]) -> None:
        self.place = pool.place
        self.thread: int | None = None
        self.is_begun = False
        """Whether the thread is there for it."""
        self._pool = pool
        self._make = make
        self._manager: Manager | None = None
        self._lock = threading.Lock()
        self._is_open = self._is_over = False
        self._work: SimpleQueue[Work | None] = SimpleQueue()

    # -- In the loop --

    @property
    def is_open(self) -> bool:
        """Whether the transaction has begun, and not ended."""
        return self._is_open

    def offer(self, work: Work) -> bool:
        """Have work done inside the transaction, if it is open; tell whether it will be."""
        with self._lock:
            if self._is_open:
                self._work.put(work)
            return self._is_open

    def call(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any] | None:
        """Call a function inside the transaction; return its future, None if that is over."""
        job = Job(self._pool, function, args)
        if self.offer(job):
            return job.future
        job.future.cancel()
        return None

    def end(self) -> None:
        """Roll back, unless the block was left, and let the thread go; may be repeated."""
        self._over()

    def forget(self) -> None:
        """Be no block any more: this is a forked child, and the thread is in its parent."""
        self._lock = threading.Lock()
        self._is_open, self._is_over = False, True

    def leave(self, failure: Failure) -> Job:
        """Commit, or roll back after a failure, and let the thread go."""
        job = Job(self._pool, self._leave, (failure,))
        if not self._over(job):
            job.future.cancel()
            raise TransactionError("the transaction of this block has ended already")
        return job

    def _over(self, *last: Work) -> bool:
        with self._lock:
            was_open, self._is_open, self._is_over = self._is_open, False, True
            for work in last if was_open else ():
                self._work.put(work)
            # A thread that has not begun to serve finds this later.
            self._work.put(None)
            return was_open

    # -- In the thread --

    def serve(self, entering: Job) -> None:
        """Begin the transaction, and do work in it until the block is over."""
        self._pool.held, self.is_begun = self, True
        self.thread = threading.get_ident()
        entering.run()
        entering.tell()
        while self._manager is not None and (work := self._work.get()) is not None:
            work.run()
            work.tell()
            del work
        self._pool.held = None
        with suppress(DiskCacheError, OSError):
            self._leave((TransactionError, TransactionError("it was never left"), None))

    def enter(self) -> None:
        """Begin the transaction."""
        manager = self._make()
        manager.__enter__()
        self._manager = manager
        with self._lock:
            self._is_open = not self._is_over

    def _leave(self, failure: Failure) -> None:
        manager, self._manager = self._manager, None
        if manager is not None:
            manager.__exit__(*failure)


class Transaction(AbstractAsyncContextManager[None]):
    """What `transact` returns: used once, in an `async with`.

    Args:
        prepare: Opens the cache if need be, and returns its pool, what makes a transaction of it,
            and how many seconds to wait for the turn of this block, None for no limit.
    """

    def __init__(self, prepare: Callable[[], Any]) -> None:
        self._prepare = prepare
        self._block: Block | None = None
        self._inner: Inner | None = None

    async def __aenter__(self) -> None:
        pool, make, limit = await self._prepare()
        for hold in holds.get():
            if isinstance(hold, Block) and hold.place == pool.place:
                inner = Inner(pool, hold, make)
                if await inner.enter():
                    self._inner = inner
                    return
        self._block = block = Block(pool, make)
        await _begun(pool, block, limit)
        holds.set((*holds.get(), block))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block, inner = self._block, self._inner
        self._block = self._inner = None
        if inner is not None:
            await inner.leave((kind, error, trace))
        if block is None:
            return
        holds.set(tuple(hold for hold in holds.get() if hold is not block))
        if kind is GeneratorExit:
            # The task is no more: nothing can be waited for.
            block.end()
            return
        await block.leave((kind, error, trace)).future

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # It was entered by hand and never left.
        if self._block is not None and not is_finalizing():
            self._block.end()


async def _begun(pool: Pool, block: Block, limit: float | None) -> None:
    """Wait for the turn of a block, and for the beginning of its transaction."""
    entering = Job(pool, block.enter)
    future = entering.future

    def give_up() -> None:
        if not (block.is_begun or future.done()):
            future.set_exception(Timeout())

    loop = asyncio.get_running_loop()
    timer = None if limit is None else loop.call_later(limit, give_up)
    pool.post(TRANSACT, Errand(lambda: block.serve(entering)))
    try:
        await future
    except BaseException:
        block.end()
        raise
    finally:
        if timer is not None:
            timer.cancel()


class Inner:
    """A block inside a block: it does nothing of its own, as one inside one in a thread."""

    def __init__(self, pool: Pool, block: Block, make: Callable[[], Manager]) -> None:
        self._pool = pool
        self._block = block
        self._make = make
        self._manager: Manager | None = None

    async def enter(self) -> bool:
        """Go one level deeper; tell whether the outer block was still there."""
        job = Job(self._pool, self._enter)
        if not self._block.offer(job):
            job.future.cancel()
            return False
        try:
            await job.future
        except BaseException:
            self._block.offer(Errand(self._back))
            raise
        return True

    def _enter(self) -> None:
        manager = self._make()
        manager.__enter__()
        self._manager = manager

    def _back(self) -> None:
        """Leave a block whose task was cancelled while it entered."""
        if self._manager is not None:
            self._manager.__exit__(None, None, None)

    async def leave(self, failure: Failure) -> None:
        """Go back to the outer block.

        Raises:
            TransactionError: It has ended.
        """
        manager = self._manager
        if manager is None:
            return
        job = Job(self._pool, manager.__exit__, failure, must_run=True)
        if not self._block.offer(job):
            job.future.cancel()
            if failure[0] is None:
                raise TransactionError("the transaction around this block ended before the block")
        elif failure[0] is not GeneratorExit:
            await job.future
