"""One `FanoutCache` per directory and process, for frameworks that make their objects often.

Django makes a cache object for each thread, and under ASGI for each request. Opening the shards
takes milliseconds, and one object serves all threads as well.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Final, NamedTuple

from diskcache.cache.arguments import expanded, for_directory
from diskcache.connecting import connect, is_address
from diskcache.engines.sqlite.site import GATE
from diskcache.errors import SettingError
from diskcache.fanout import FanoutCache
from diskcache.fanout.entry_limit import EntryLimit


class Arguments(NamedTuple):
    """What a shared object is made of. Equal arguments mean the same object."""

    directory: str
    """As it was given."""
    shards: int | None
    timeout: float
    options: dict[str, Any]
    most: int | None
    """Entries that there may be."""
    frequency: int


class Shared(NamedTuple):
    """An open cache, and the limit on its entries."""

    path: str
    arguments: Arguments
    identity: tuple[int, ...] | None
    cache: FanoutCache
    limit: EntryLimit | None

    @property
    def is_current(self) -> bool:
        """Whether the directory is still the one that was opened."""
        return self.identity == identity_of(self.path)

    def is_for(self, arguments: Arguments) -> bool:
        """Tell whether this is what opening with these arguments would give."""
        return self.arguments == arguments and self.is_current


_open: Final[dict[str, Shared]] = {}
"""By real path. Changed by single steps only, so that no lock can be left behind by a fork."""


def shared(arguments: Arguments) -> Shared:
    """Return what this process has open with these arguments, or open it.

    Raises:
        SettingError: The limit on entries contradicts the eviction policy.
        DiskCacheError: It cannot be opened.
    """
    directory = arguments.directory
    path = directory if is_address(directory) else os.path.realpath(expanded(directory))
    found = _open.get(path)
    if found is not None and found.is_for(arguments):
        return found
    made = _opened(path, arguments)
    for other in list(_open.values()):
        if other is found or not (is_address(other.path) or os.path.isdir(other.path)):
            _open.pop(other.path, None)
    # Several threads may get here at once: the first one to be entered counts.
    kept = _open.setdefault(path, made)
    if kept is made or not kept.is_for(arguments):
        return made
    made.cache.close()
    return kept


def _opened(path: str, arguments: Arguments) -> Shared:
    directory, shards, timeout, options, most, frequency = arguments
    if is_address(directory):
        if most is not None:
            raise SettingError(
                f"a limit on the number of entries cannot be had on a server: got {most!r}; its"
                " maxmemory and maxmemory-policy decide"
            )
        remote: Any = connect(directory, shards=shards, timeout=timeout, **options)
        return Shared(path, arguments, None, remote, None)
    cache = FanoutCache(directory, shards, timeout, **for_directory(options))
    limit = None
    if most is not None:
        if cache.eviction_policy == "none":
            cache.close()
            raise SettingError(
                f"a limit on the number of entries needs a policy by which they are removed: got"
                f" {most!r} entries and eviction_policy='none'"
            )
        limit = EntryLimit(cache._shards, most, frequency)  # noqa: SLF001 - counts them
    return Shared(path, arguments, identity_of(path), cache, limit)


def identity_of(path: str) -> tuple[int, ...] | None:
    """Return what tells a directory from another one that was made at the same path."""
    with suppress(OSError):
        found = os.stat(os.path.join(path, "000", GATE))
        return found.st_dev, found.st_ino, found.st_ctime_ns
    return None
