"""Caches for event loops: the same names and results, awaited."""

from __future__ import annotations

from diskcache.aio.cache import AsyncCache, AsyncFanoutCache
from diskcache.aio.structures import AsyncDeque, AsyncIndex

__all__ = ["AsyncCache", "AsyncDeque", "AsyncFanoutCache", "AsyncIndex"]
