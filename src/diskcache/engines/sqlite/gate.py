"""The writer gate: at most one writer of a directory at a time, over threads and processes.

Writers queue here before `BEGIN IMMEDIATE`, because the database's own waiting sleeps for ever
longer, which halves the throughput and triples the tail. The kernel frees the gate when its
holder dies.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from threading import get_ident
from typing import Final

from diskcache import host
from diskcache.clock import Clock
from diskcache.errors import GateError, Timeout
from diskcache.holding import is_held_up_by
from diskcache.host import EXCLUSIVE_NOW, UNLOCK, flock

FIRST_NAP: Final = 0.0001
"""Seconds between two looks at a gate that another process holds, at first."""
LONGEST_NAP: Final = 0.0005
TURN: Final = 2 * LONGEST_NAP
"""Seconds for which one who writes on and on leaves the gate open, so that all who poll see it."""
TURN_EVERY: Final = 0.01
"""Seconds between two such turns of others."""
GIVING_WAY: Final = 0.05
"""Seconds for which a writer lets a fork go first."""


class GateClosed(Exception):  # noqa: N818 - it is a signal, not an error
    """Another thread closed the connections of this process while this one was about to write."""


class Gate:
    """A lock on an open file, shared by the threads of this process through a lock of their own.

    A file lock alone would not do: it belongs to the descriptor, so two threads would both have
    it.

    A signal handler may raise after any call, also in the middle of these methods. So whoever
    takes the gate does it inside a `try` that ends in `release` whatever happens, and `release`
    gives back just what its *holder* got hold of: all, a part, or nothing.
    """

    fork_is_pending = False
    """Whether a thread wants to fork, and waits until no other one writes."""

    __slots__ = (
        "_clock",
        "_descriptor",
        "_holder",
        "_is_retired",
        "_next_turn",
        "_owner",
        "_threads",
    )

    def __init__(self, descriptor: int, clock: Clock) -> None:
        self._descriptor = descriptor
        self._clock = clock
        # Only the thread that has it can give it back: `release` may safely try.
        self._threads = threading.RLock()
        self._owner: int | None = None
        self._holder: object = None
        self._is_retired = False
        self._next_turn = float("-inf")

    def acquire(self, wait: float | None, holder: object) -> None:
        """Take the gate, waiting up to *wait* seconds for it; None waits without limit.

        Args:
            wait: Seconds.
            holder: Whoever takes it, an object that no other thread passes; see `release`.

        Raises:
            GateError: This thread has it already, or one that waits for the caller.
            GateClosed: Another thread closed it meanwhile.
            Timeout: It was not free in time.
        """
        me = get_ident()
        if Gate.fork_is_pending:
            _give_way()
        if self._owner == me:
            raise GateError(
                "this thread is inside a transaction on the same directory through another"
                " object: use one object for both, or leave the transaction first"
            )
        try:
            if not self._threads.acquire(False):
                self._queue(wait)
            self._owner, self._holder = me, holder
            if self._is_retired:
                raise GateClosed
            try:
                flock(self._descriptor, EXCLUSIVE_NOW)
            except BlockingIOError:
                self._await(wait)
        except BaseException:
            self.release(holder)
            raise

    def release(self, holder: object) -> None:
        """Give back what *holder* has of the gate, if anything; may be repeated."""
        if self._holder is holder:
            try:
                if self._descriptor >= 0:
                    flock(self._descriptor, UNLOCK)
            finally:
                self._owner = self._holder = None
                self._threads.release()
                if self._is_retired:
                    self._dispose()
        elif self._holder is None:
            # An interrupt may have come before the holder was noted.
            with suppress(RuntimeError):
                self._threads.release()

    def leave_open(self) -> None:
        """Let others have their turn, if it is due. Call it between two of many writes, without it.

        Others look at the gate now and then. Who takes it again at once is never seen without it.
        """
        now = self._clock.monotonic()
        if now >= self._next_turn:
            self._clock.sleep(TURN)
            self._next_turn = now + TURN_EVERY

    def pause(self) -> bool:
        """Keep other threads of this process from the gate, if it is free; tell whether it was."""
        return self._threads.acquire(False)

    def resume(self) -> None:
        """Let the other threads through again. Call it in the thread that called `pause`."""
        self._threads.release()

    def close(self) -> None:
        """Close the descriptor, or have it closed by the thread that is using it.

        The number of a closed descriptor soon means another file, so it is never closed under a
        thread that may be about to lock it.
        """
        self._is_retired = True
        self._dispose()

    def _dispose(self) -> None:
        if self._owner != get_ident() and self._threads.acquire(False):
            descriptor, self._descriptor = self._descriptor, -1
            self._threads.release()
            if descriptor >= 0:
                os.close(descriptor)

    @property
    def is_mine(self) -> bool:
        """Whether this thread holds the gate."""
        return self._owner == get_ident()

    def _queue(self, wait: float | None) -> None:
        if is_held_up_by(self._owner):
            raise GateError(
                "this task is inside a transaction of an asynchronous cache on the same directory,"
                " which waits for it here: await a method of that cache instead, or leave the"
                " transaction first"
            )
        if wait is not None and wait <= 0:
            raise Timeout
        limit = -1 if wait is None else min(wait, threading.TIMEOUT_MAX)
        if not self._threads.acquire(timeout=limit):
            raise Timeout

    def _await(self, wait: float | None) -> None:
        if wait is None:
            host.lock(self._descriptor, block=True)
            return
        clock = self._clock
        deadline = clock.monotonic() + wait
        nap = FIRST_NAP
        while clock.monotonic() < deadline:
            clock.sleep(nap)
            if host.lock(self._descriptor):
                return
            nap = min(nap * 1.5, LONGEST_NAP)
        raise Timeout


def _give_way() -> None:
    """Wait for a fork, but not for long: it may wait for this thread in another directory."""
    deadline = time.monotonic() + GIVING_WAY
    while Gate.fork_is_pending and time.monotonic() < deadline:
        time.sleep(LONGEST_NAP)
