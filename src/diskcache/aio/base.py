"""What all asynchronous objects stand on: a cache that is opened when it is first used, a pool."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar, cast

from diskcache.aio.pool import WRITE, Job, Pool, pool_of
from diskcache.aio.transacting import Transaction
from diskcache.bridging import bridged, here
from diskcache.holding import holds

T = TypeVar("T")
Make: TypeAlias = Callable[[], AbstractContextManager[None]]

NAP: Final = 0.001
"""Seconds between two looks at a thread that is about to end."""


class Asynchronous(Generic[T]):
    """An object whose operations are done by threads, and awaited; see `AsyncCache`."""

    _sync: T | None
    _pool: Pool

    def _attach(self, sync: T | None, make: Callable[[], T] | None, base: object = None) -> None:
        """Work with an object, or with what *make* makes when it is first used.

        Args:
            sync: The object.
            make: Makes it.
            base: An object that has to be open for that, if it is an asynchronous one.
        """
        self._make = make
        self._sync = None
        self._base: Asynchronous[Any] | None = base if isinstance(base, Asynchronous) else None
        self._pool = Pool()
        if sync is not None:
            self._settle(sync)

    def _settle(self, sync: T) -> None:
        """Work with an object from now on."""
        cache = self._cache_of(sync)
        mine = self._pool
        self._pool = pool_of(cache, mine)
        if self._pool is not mine:
            mine.close()
        self._sync = sync

    @staticmethod
    def _cache_of(sync: Any) -> Any:
        """Return the cache whose threads the object uses."""
        return sync

    # -- Opening and closing --

    @property
    def sync(self) -> T:
        """The object that is not asynchronous: the same entries, for other threads.

        It is opened here and now if that has not happened yet.
        """
        return self._made()

    def _made(self) -> T:
        make = self._make
        if here.call is not None and make is not None:
            # A lock must not be held while a bridged call waits: of several loops one is first.
            made = make()
            make = lambda: made  # noqa: E731 - it is made already
        with self._pool.opening:
            if self._sync is None and make is not None:
                self._settle(make())
                self._make = None
            return cast("T", self._sync)

    async def _opened(self) -> T:
        """Open the object in a thread, or where none is needed in the task, once."""
        base, pool = self._base, self._pool
        if base is not None:
            await base.open()
            if base._pool.is_bridging and self._sync is None:
                pool = self._pool = base._pool
        if pool.is_bridging:
            async with pool.turn():
                return await bridged(self._made)
        job = pool.submit(WRITE, Job(pool, self._made))
        try:
            await job.future
        except BaseException:
            if job.future.done() and not job.future.cancelled():
                # It cannot be opened: there is nothing that threads could be kept for.
                await _ended(pool.close())
            raise
        return cast("T", self._sync)

    async def open(self) -> Self:
        """Open the object, unless it is open. The first use does it too.

        Raises:
            DiskCacheError: It cannot be opened.
        """
        if self._sync is None:
            await self._opened()
        return self

    async def aclose(self) -> None:
        """Wait for what was asked for before, then close all connections and end the threads.

        That includes the blocks of `transact` of other tasks. May be repeated. The object can
        still be used: it connects again.
        """
        sync = self._sync
        if sync is None:
            return
        cache = self._cache_of(sync)
        pool = self._pool
        if pool.is_bridging:
            await bridged(cache.close)
            return
        job = Job(pool, cache.close)
        for hold in holds.get():
            if hold.place == pool.place and hold.offer(job):
                # In a block nobody can wait for its thread; closing ends the transaction.
                await job.future
                return
        job.future.cancel()
        await _closed(pool, cache.close)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exception: object) -> None:
        if exception[0] is not GeneratorExit:
            await self.aclose()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.sync,)

    def __repr__(self) -> str:
        return f"Async{self.sync!r}"

    # -- Transactions --

    def _transaction(self, retry: bool | None) -> Transaction:
        async def prepare() -> tuple[
            Pool, Callable[[], AbstractContextManager[None]], float | None
        ]:
            sync: Any = self._sync
            if sync is None:
                sync = await self._opened()
            if self._pool.is_bridging:
                # A server has none, and says so.
                sync.transact()
            if retry is None:
                return self._pool, sync.transact, None
            return self._pool, lambda: sync.transact(retry), None if retry else sync.timeout

        return Transaction(prepare)


async def _closed(pool: Pool, close: Callable[[], None]) -> None:
    """Wait in a thread for those of a pool, and close the connections there."""
    job = Job(pool, _close_after, (pool.close(), close), must_run=True)
    thread = threading.Thread(target=_done, args=(job,), name="diskcache-close", daemon=True)
    thread.start()
    await job.future
    await _ended([thread])


def _done(job: Job) -> None:
    job.run()
    job.tell()


async def _ended(threads: list[threading.Thread]) -> None:
    """Wait for threads that have nothing left to do."""
    while any(thread.is_alive() for thread in threads):  # noqa: ASYNC110 - that is no event
        await asyncio.sleep(NAP)


def _close_after(threads: list[threading.Thread], close: Callable[[], None]) -> None:
    for thread in threads:
        thread.join()
    close()
