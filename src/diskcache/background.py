"""Work behind the back of the caller: a bounded number of threads that end with their work.

A thread is started for each piece of work, carries the context variables of whoever asked for it,
and is not a daemon: the interpreter waits for it at its exit, so nothing is written by a thread
that is about to be killed. Idle threads there are none, so there is nothing that a fork could lose
but the work itself, which the parent goes on with.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Final

COMPUTATIONS: Final = 8
"""Computations that a process has in the background at a time; calls beyond start none."""


class _Work:
    """A piece of work that runs in the background, or did."""

    def __init__(self, slots: threading.Semaphore) -> None:
        self.slots = slots
        self.is_over = False


_waiting: ContextVar[tuple[_Work, ...]] = ContextVar("diskcache_background", default=())
"""The work that the caller is part of, and what waits for that, in turn."""


class Background:
    """A bounded number of threads that the interpreter waits for at its exit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.renew()

    def renew(self) -> None:
        """Forget the threads of the parent, in a forked child."""
        self._slots = threading.BoundedSemaphore(self._limit)

    @property
    def is_spent(self) -> bool:
        """Whether all threads there may be wait for the caller, who would wait for one in vain."""
        return len(self._waiting_here()) >= self._limit

    def _waiting_here(self) -> tuple[_Work, ...]:
        return tuple(
            work for work in _waiting.get() if work.slots is self._slots and not work.is_over
        )

    def start(
        self,
        work: Callable[[], None],
        may_start: Callable[[], bool],
        name: str,
        wait: float | None = 0,
    ) -> bool:
        """Run *work* in a thread if there is room and *may_start* says so; tell whether.

        Args:
            work: What to do.
            may_start: Asked when there is room.
            name: Name of the thread.
            wait: Seconds to wait for room; None for no limit.
        """
        slots = self._slots
        # Once the main thread has ended, nobody would wait for another one.
        if not threading.main_thread().is_alive() or self.is_spent or not _taken(slots, wait):
            return False
        context, mine = copy_context(), _Work(slots)
        # Who does not wait for room does not wait for the work either.
        context.run(_waiting.set, (*(() if wait == 0 else self._waiting_here()), mine))

        def run() -> None:
            try:
                context.run(work)
            finally:
                mine.is_over = True
                slots.release()

        started = False
        try:
            if may_start():
                started = _started(threading.Thread(target=run, name=name, daemon=False))
        finally:
            if not started:
                slots.release()
        return started


def _taken(slots: threading.Semaphore, wait: float | None) -> bool:
    if wait == 0:
        return slots.acquire(blocking=False)
    return slots.acquire(timeout=None if wait is None else min(wait, threading.TIMEOUT_MAX))


def _started(thread: threading.Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:
        # No thread can be had: the result is renewed by a later call, or when it is gone.
        return False
    return True


background: Final = Background(COMPUTATIONS)
"""What all caches of a process share."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=background.renew)
