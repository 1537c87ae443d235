"""Caches for event loops: the same names and results, awaited."""

from __future__ import annotations

from diskcache.aio.cache import AsyncCache, AsyncFanoutCache
from diskcache.aio.locks import AsyncBoundedSemaphore, AsyncLock, AsyncRLock, AsyncSemaphore
from diskcache.aio.remote import AsyncRemoteCache, connect
from diskcache.aio.structures import AsyncDeque, AsyncIndex

__all__ = [
    "AsyncBoundedSemaphore",
    "AsyncCache",
    "AsyncDeque",
    "AsyncFanoutCache",
    "AsyncIndex",
    "AsyncLock",
    "AsyncRLock",
    "AsyncRemoteCache",
    "AsyncSemaphore",
    "connect",
]
