"""Transactions of event loops, as the layers know them that have nothing to do with event loops.

A transaction lives in a thread, which a block of tasks has to itself. What runs with the context
of the block, in whatever thread, can have something done in that thread, and must not wait for it:
it waits for the block.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import Any, Final

holds: Final[ContextVar[tuple[Any, ...]]] = ContextVar("holds", default=())
"""Transactions that the current task is in, and those that it was started in; see
`diskcache.aio.pool.Hold`."""


def hold_of(directory: str) -> Any:
    """Return the open transaction on a directory that the caller is in; None for none."""
    for hold in holds.get():
        if hold.is_open and hold.place == os.path.realpath(directory):
            return hold
    return None


def is_held_up_by(thread: int | None) -> bool:
    """Tell whether a thread waits for what the caller is part of."""
    return any(hold.is_open and hold.thread == thread for hold in holds.get())
