"""The engine on Redis and Valkey, and the only place where redis-py is known."""

from __future__ import annotations

from typing import Any

from diskcache.clock import Clock
from diskcache.engines.redis.address import is_address, parse, without_password
from diskcache.errors import MissingExtraError


def open_server(
    url: str,
    settings: dict[str, Any],
    *,
    timeout: float,
    readonly: bool,
    clock: Clock | None = None,
    namespace: str | None = None,
    shards: int | None = None,
) -> Any:
    """Return the engine of a cache on a server; it connects when it is used.

    Raises:
        MissingExtraError: redis-py is not installed.
        SettingError: The URL cannot be.
    """
    address = parse(url, namespace, shards)
    try:
        from diskcache.engines.redis.engine import RedisEngine
    except ModuleNotFoundError as exc:
        if exc.name != "redis":
            raise
        raise MissingExtraError(
            'a cache on a server needs redis-py: pip install "diskcache[redis]"'
        ) from exc

    return RedisEngine(address, settings, clock, timeout=timeout, readonly=readonly)


__all__ = ["is_address", "open_server", "parse", "without_password"]
