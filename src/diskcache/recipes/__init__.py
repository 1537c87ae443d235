"""Recipes: locks and decorators that work across threads and processes, on a cache.

Every one of them takes a `Cache`, or a cache that spreads its keys over several, as its first
argument, and keeps its state in one entry of it.
"""

from __future__ import annotations

from diskcache.recipes.averager import Averager
from diskcache.recipes.barriers import barrier
from diskcache.recipes.locks import BoundedSemaphore, Lock, RLock, Semaphore
from diskcache.recipes.stampede import memoize_stampede
from diskcache.recipes.throttling import throttle

__all__ = [
    "Averager",
    "BoundedSemaphore",
    "Lock",
    "RLock",
    "Semaphore",
    "barrier",
    "memoize_stampede",
    "throttle",
]
