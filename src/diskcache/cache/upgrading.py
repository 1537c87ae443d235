"""What a directory of version 5 becomes: keys and values through the disk, settings in range."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from diskcache import settings as rules
from diskcache.clock import Clock
from diskcache.codecs.values import load_json
from diskcache.disk import Disk, as_native, writer_name
from diskcache.entry import DbValue
from diskcache.errors import CodecError, DiskCacheError, SettingError
from diskcache.jsondisk import LONGEST_KEY, unpacked
from diskcache.policy import find_policy

log: Final = logging.getLogger("diskcache")

_AS_IT_WAS: Final = (
    "put", "get", "store", "fetch", "upgrade_key", "upgrade_value",
)  # fmt: skip
"""Methods of a disk that, when overridden, may mean anything by a row."""


class DiskConverter:
    """Converts entries of version 5 as one disk has them.

    Args:
        disk: The disk, on its own.
        directory: Names the cache in messages.
        shards: Number of directories of the cache: the size limit was divided among them.
        keeps: Whether the old database is kept whatever the directory says.
    """

    def __init__(self, disk: Disk, directory: str, shards: int = 1, *, keeps: bool = False) -> None:
        self._disk = disk
        self._directory = directory
        self._shards = shards
        self._keeps = keeps
        kind = type(disk)
        self.writer = writer_name(kind)
        self.visits_all = any(getattr(kind, name) is not getattr(Disk, name) for name in _AS_IT_WAS)

    def check(self, keys: Sequence[tuple[DbValue, int]]) -> None:
        """Refuse a directory of `JSONDisk` that is opened without it.

        Raises:
            SettingError: All *keys* look as `JSONDisk` writes them, and the disk is another one.
        """
        if keys and type(self._disk).put is Disk.put and all(map(_is_packed_json, keys)):
            raise SettingError(
                f"cache {self._directory!r} looks as if JSONDisk of diskcache 5 had written it:"
                " pass disk=JSONDisk; nothing was changed"
            )

    def key(self, key: DbValue, raw: int) -> tuple[DbValue, int]:
        """Return the database key of this version."""
        made, is_native = self._disk.upgrade_key(key, raw)
        return as_native(made), is_native

    def value(self, mode: int, file: str | None, value: DbValue) -> tuple[int, DbValue]:
        """Return mode and value of this version."""
        mode, made = self._disk.upgrade_value(mode, file, value)
        return mode, as_native(made)

    def settings(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that are numbers in range, or names that are known."""
        used: dict[str, Any] = rules.believed(stored)[0]
        try:
            find_policy(used.get("eviction_policy", "none"))
        except DiskCacheError:
            log.warning(
                "cache %r: eviction policy %r is not defined here and was not taken over",
                self._directory,
                used.pop("eviction_policy"),
            )
        if used.get("sqlite_auto_vacuum") == 1:
            used["sqlite_auto_vacuum"] = 2
        if self._shards > 1 and "size_limit" in used:
            used["size_limit"] *= self._shards
        return used

    def keeps(self, settings: Mapping[str, Any]) -> bool:
        """Tell whether nothing may get lost: a copy of the old database stays then."""
        return self._keeps or settings.get("eviction_policy") == "none"


def _is_packed_json(key: tuple[DbValue, int]) -> bool:
    data, raw = key
    if raw != 1 or not isinstance(data, bytes):
        return False
    try:
        load_json(unpacked(data, LONGEST_KEY))
    except (CodecError, zlib.error, EOFError):
        return False
    return True


def upgrade_cache(disk: Disk, directory: str, clock: Clock, settings: Mapping[str, Any]) -> None:
    """Upgrade the directory of a cache that is opened with *settings*; see `upgrade`."""
    keeps = settings["eviction_policy"] == "none"
    converter = DiskConverter(disk, directory, keeps=keeps)
    upgrade([os.path.realpath(directory)], converter, clock)


def upgrade(
    directories: Sequence[str],
    converter: DiskConverter,
    clock: Clock,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Upgrade *directories*, the parts of one cache, and tell the log what was done.

    Raises:
        LockedError: A process of version 5 has one of them open; nothing was changed.
        SettingError: Another disk wrote them; nothing was changed.
        DiskCacheError: One cannot be read or written; it was not changed.
    """
    from diskcache.engines.sqlite.upgrade import upgrade as upgrade_databases

    for done in upgrade_databases(directories, converter, clock, progress):
        log.info(
            "cache %r was upgraded from version 5: %d entries, %d keys and %d values encoded anew,"
            " %d entries with pickles left%s",
            done.directory,
            done.entries,
            done.keys,
            done.values,
            done.left,
            f"; the old database is {done.backup!r}" if done.backup else "",
        )
        if done.duplicates:
            log.warning(
                "cache %r: %d entries of version 5 had a key equal to that of a newer entry, and"
                " were dropped",
                done.directory,
                done.duplicates,
            )
