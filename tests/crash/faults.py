"""Points in the library where a process can be made to die, for processes that are forked here.

The points are those of `diskcache.engines.sqlite.failpoints`; a process of its own takes them from
the variable DISKCACHE_FAILPOINTS.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from diskcache.engines.sqlite import failpoints, removal


def in_clear(countdown: int) -> None:
    """Dies in a commit, where bulk removals take five entries at a time."""
    removal.BATCH = 5
    failpoints.arm("before_commit", countdown)


def behind_clear(countdown: int) -> None:
    removal.BATCH = 5
    failpoints.arm("after_commit", countdown)


def in_creation(countdown: int) -> None:
    failpoints.arm("in_creation", countdown)


NAMED: dict[str, Callable[[int], None]] = {
    name: functools.partial(failpoints.arm, name)
    for name in failpoints.POINTS
    if name not in {"in_creation", "in_upgrade", "in_quarantine", "in_checkpoint", "in_recovery"}
}
"""Points that every story comes by."""
