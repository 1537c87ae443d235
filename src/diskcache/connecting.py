"""`connect`: a cache by a string that says where it is."""

from __future__ import annotations

import os
from typing import Any

from diskcache.cache import Cache
from diskcache.cache.arguments import for_directory
from diskcache.engines.redis import is_address, without_password
from diskcache.fanout import FanoutCache


def connect(target: str | os.PathLike[str], **settings: Any) -> Any:
    """Return the cache at a path, or on the server of a URL: the same methods either way.

    So one string of a configuration decides; see docs/redis.md for what is different on a server.

    Args:
        target: A path: a `Cache`, or with `shards=` a `FanoutCache`. Or the URL of a Redis or
            Valkey server: a `RemoteCache`. `redis://`, `rediss://` (TLS), `valkey://`,
            `redis+cluster://`, `redis+sentinel://` and `unix://` are known, all with
            `?namespace=NAME`.
        **settings: Keywords of the class. With a path `on_error` has no effect, as nothing can be
            away.

    Raises:
        SettingError: The URL is of another kind, or not complete; or `namespace` is given with a
            path.
        MissingExtraError: It is that of a server, and redis-py is not installed.

    Example:
        >>> from diskcache import connect
        >>> with connect('of-an-app') as cache:
        ...     cache['key'] = 'value'
        ...     cache['key']
        'value'
    """
    if isinstance(target, str) and "://" in target:
        from diskcache.cache.remote import RemoteCache

        return RemoteCache(target, **settings)
    settings = for_directory(settings)
    if settings.get("shards") is not None:
        return FanoutCache(target, **settings)
    settings.pop("shards", None)
    return Cache(target, **settings)


__all__ = ["connect", "is_address", "without_password"]
