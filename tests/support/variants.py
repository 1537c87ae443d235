"""Which caches the contract suite can be run for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from diskcache.testing.variants import CAPABILITIES, Variant

LIMIT: Final = 60
"""Seconds that a server has to answer: the machine may be busy with something else."""


def make_sqlite(directory: Any, **keywords: Any) -> Any:
    """Make a plain `Cache`; imported late, so that a broken one fails single tests."""
    from diskcache import Cache

    return Cache(directory, **keywords)


SQLITE = Variant(
    make_sqlite,
    CAPABILITIES,
)
WITHOUT_MEMORY = Variant(partial(make_sqlite, memory_limit=0), SQLITE.capabilities)


def make_eager(directory: Any, **keywords: Any) -> Any:
    """Make a `Cache` that keeps in memory what it reads, already the first time."""
    from diskcache.memory.tier import GROUPS

    cache = make_sqlite(directory, **keywords)
    cache._tier._expected = bytearray(b"\1") * GROUPS
    return cache


EAGER = Variant(make_eager, SQLITE.capabilities)


def make_fanout(directory: Any, shards: int = 3, **keywords: Any) -> Any:
    """Make a `FanoutCache` of few shards."""
    from diskcache import FanoutCache

    return FanoutCache(directory, shards, **keywords)


FANOUT = Variant(make_fanout, SQLITE.capabilities)
ONE_SHARD = Variant(partial(make_fanout, shards=1), SQLITE.capabilities)


def make_awaited(directory: Any, **keywords: Any) -> Any:
    """Make an `AsyncCache` behind the face of a `Cache`."""
    from diskcache import AsyncCache
    from tests.support.awaited import Awaited

    return Awaited(AsyncCache(directory, **keywords))


AWAITED = Variant(make_awaited, SQLITE.capabilities)


def make_remote(directory: Any, shards: int | None = None, **keywords: Any) -> Any:
    """Make a `RemoteCache` on the server of the tests, in a namespace that the path gives."""
    from tests.support.servers import shared_server

    return _connected(shared_server().url, directory, shards=shards, **keywords)


def make_clustered(directory: Any, **keywords: Any) -> Any:
    """Make a `RemoteCache` on the cluster of the tests, spread over its masters."""
    from tests.support.cluster import shared_cluster

    return _connected(shared_cluster().url, directory, **keywords)


def _connected(url: Callable[[str], str], directory: Any, **keywords: Any) -> Any:
    from diskcache import connect

    namespace = hashlib.blake2b(os.fsencode(directory), digest_size=8).hexdigest()
    keywords.setdefault("pickle", "signed")
    keywords.setdefault("timeout", LIMIT)
    return connect(url(namespace), **keywords)


REMOTE = Variant(make_remote, frozenset({"durable", "ordered"}))
REMOTE_WITHOUT_MEMORY = Variant(partial(make_remote, memory_limit=0), REMOTE.capabilities)


def make_remote_eager(directory: Any, **keywords: Any) -> Any:
    """Make a `RemoteCache` that keeps in memory what it reads, already the first time."""
    from diskcache.memory.tier import GROUPS
    from tests.support.servers import await_memory

    cache = make_remote(directory, **keywords)
    cache._tier._expected = bytearray(b"\1") * GROUPS
    await_memory(cache)
    return cache


REMOTE_EAGER = Variant(make_remote_eager, REMOTE.capabilities)
SPREAD = Variant(partial(make_remote, shards=4), REMOTE.capabilities)
CLUSTERED = Variant(make_clustered, REMOTE.capabilities)


def url_of(directory: Any) -> str:
    """Return the URL of a cache on the server of the tests, in a namespace that a path gives."""
    from tests.support.servers import shared_server

    return shared_server().url(hashlib.blake2b(os.fsencode(directory), digest_size=8).hexdigest())


def make_awaited_remote(directory: Any, **keywords: Any) -> Any:
    """Make an `AsyncRemoteCache` behind the face of a `RemoteCache`."""
    from diskcache import aio
    from tests.support.awaited import Awaited

    keywords.setdefault("pickle", "signed")
    keywords.setdefault("timeout", LIMIT)
    return Awaited(aio.connect(url_of(directory), **keywords))


AWAITED_REMOTE = Variant(make_awaited_remote, REMOTE.capabilities)
