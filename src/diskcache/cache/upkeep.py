"""Methods of `Cache` on the cache as a whole: statistics, settings, checks, transactions."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from diskcache import settings as rules
from diskcache.cache.arguments import checked_setting
from diskcache.cache.bulk import BulkMethods
from diskcache.cache.foundation import PATIENCE
from diskcache.disk import Disk
from diskcache.engines.base import Finding
from diskcache.errors import EmptyDirWarning, SettingError, UnknownFileWarning
from diskcache.sentinels import ENOVAL

_CATEGORIES: dict[str, type[Warning]] = {
    "file": UnknownFileWarning,
    "directory": EmptyDirWarning,
    "data": UserWarning,
}


@dataclass(frozen=True)
class CacheInfo:
    """What a cache is and how it does, as of one moment."""

    directory: str
    version: str
    """Version of this library."""
    sqlite: str
    """Version of the database library."""
    cache_id: str
    """Name of the cache for as long as it exists, 32 hexadecimal digits."""
    entries: int
    volume: int
    """Bytes that the size limit is compared with."""
    disk_usage: int
    """Bytes that the directory takes on the disk."""
    size_limit: float
    count_limit: int
    """Most entries; 0 for no limit."""
    value_limit: int
    """Most bytes of one value; 0 for no limit."""
    eviction_policy: str
    hits: int
    misses: int
    untrusted: int
    """Entries this object met that are pickles without a valid signature."""
    corrupt: int
    """Entries this object met that could not be decoded, or whose files were unusable."""
    unavailable: int
    """Entries this object met whose type is not registered here, or whose extra is missing."""
    culled_young: int
    """Entries that writes of this object culled less than 10 s after they were stored."""
    pickle: str
    readonly: bool
    off: dict[str, str] = field(default_factory=dict)
    """What is switched off in this directory, and why."""


class UpkeepMethods(BulkMethods):
    """Statistics, settings, checks, transactions, memoizing."""

    # -- Totals --

    def volume(self) -> int:
        """Return how many bytes the cache holds: database pages in use, and value files.

        It is what `size_limit` is compared with. The write-ahead log, lock files and free pages
        are not part of it; `disk_usage` counts them.

        Cost: one read; never a lock.

        Example:
            >>> cache.volume() < 100_000
            True
        """
        pages, self.size = self._engine.volume()
        return pages + self.size

    def disk_usage(self) -> int:
        """Return how many bytes the directory takes on the disk, as `du` counts them.

        Cost: a walk through the directory.

        Example:
            >>> cache.disk_usage() > 0
            True
        """
        total = _allocated(self._directory)
        for folder, folders, files in os.walk(self._directory):
            total += sum(_allocated(os.path.join(folder, name)) for name in (*folders, *files))
        return total

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """Return hits and misses, then switch counting on, or off.

        Counted are `get`, `[]`, `read` and `get_many`. Counting is off at first.

        Cost: a look at shared memory; a write transaction if something is changed.

        Args:
            enable: Count from now on.
            reset: Set both counts to zero.

        Returns:
            The counts before this call had an effect.

        Example:
            >>> cache.stats(enable=True)
            (0, 0)
            >>> cache.get('missing')
            >>> cache.stats()
            (0, 1)
        """
        self.hits, self.misses = self._engine.hits_and_misses()
        if reset:
            self._engine.reset_statistics(PATIENCE)
        if self._options["readonly"]:
            return self.hits, self.misses
        if bool(self._settings["statistics"]) != bool(enable):
            self.reset("statistics", int(enable))
        return self.hits, self.misses

    def info(self) -> CacheInfo:
        """Return what there is to know about the cache.

        Cost: a walk through the directory, for the space that it takes.

        Example:
            >>> cache.info().entries
            0
        """
        from diskcache import __version__

        hits, misses = self._engine.hits_and_misses()
        return CacheInfo(
            directory=self._directory,
            version=__version__,
            sqlite=self._engine.library.removeprefix("SQLite "),
            cache_id=self._engine.cache_id.hex(),
            entries=len(self),
            volume=self.volume(),
            disk_usage=self.disk_usage(),
            size_limit=self._settings["size_limit"],
            count_limit=self._settings["count_limit"],
            value_limit=self._settings["value_limit"],
            eviction_policy=self._settings["eviction_policy"],
            hits=hits,
            misses=misses,
            untrusted=self._untrusted,
            corrupt=self._corrupt,
            unavailable=self._unavailable,
            culled_young=self._engine.culled_young,
            pickle=self._codec.pickle_mode,
            readonly=self._options["readonly"],
            off=self._engine.off,
        )

    # -- Settings --

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:
        """Read a setting from the directory again, or change it for every later object.

        Prefer keywords of the constructor, `len`, `volume` and `stats`.

        Cost: one read, or one write transaction.

        Args:
            key: Name of the setting; or `'count'`, `'size'`, `'hits'`, `'misses'` to read those.
            value: New value.
            update: Store the new value; false changes this object only.

        Returns:
            The value.

        Raises:
            SettingError: There is no such setting, or the value is not allowed; also a
                `ValueError`.

        Example:
            >>> cache.reset('cull_limit', 0)
            0
        """
        if value is ENOVAL:
            return self._reread(key)
        if key not in rules.SPECS:
            return self._reset_other(key, value)
        checked = checked_setting(key, value)
        stored = int(checked) if isinstance(checked, bool) else checked
        if update:
            if key == "eviction_policy":
                self._engine.prepare_policy(checked, PATIENCE, lasting=True)
            self._engine.store_settings({key: stored}, PATIENCE)
        self._apply(key, checked)
        return checked if key in rules.SIZES else value

    def _reread(self, key: str) -> Any:
        if key in rules.METADATA:
            self._refresh_metadata()
            return getattr(self, key)
        if key not in rules.SPECS:
            raise SettingError(
                f"unknown setting {key!r}: settings are {', '.join(sorted(rules.SPECS))}"
            )
        used, _ = rules.believed(self._engine.stored_settings())
        value = used.get(key, self._settings[key])
        self._apply(key, value)
        return value

    def _reset_other(self, key: str, value: Any) -> Any:
        """Set what is not a stored setting: an attribute, of the disk too, or a pragma."""
        if key in rules.METADATA or key.startswith("_") or hasattr(type(self), key):
            raise SettingError(
                f"{key!r} is not a setting: settings are {', '.join(sorted(rules.SPECS))}"
            )
        if key.startswith("sqlite_"):
            self._engine.run_pragma(key[7:], value)
        elif key.startswith("disk_"):
            setattr(self._disk, key[5:], value)
        vars(self)[key] = value
        return value

    def create_tag_index(self) -> None:
        """Make `evict` fast by an index on tags, from now on.

        Cost: one write transaction that looks at every entry. Prefer `tag_index=True` at
        construction.

        Raises:
            Timeout: The write lock was not free in time.

        Example:
            >>> cache.create_tag_index()
            >>> cache.tag_index
            1
        """
        self._engine.index_tags(True, self._timeout)
        self.reset("tag_index", 1)

    def drop_tag_index(self) -> None:
        """Drop the index on tags.

        Cost: one write transaction.

        Raises:
            Timeout: The write lock was not free in time.
        """
        self._engine.index_tags(False, self._timeout)
        self.reset("tag_index", 0)

    # -- Checks --

    def check(self, fix: bool = False, retry: bool = False) -> list[warnings.WarningMessage]:
        """Check that database, files and totals agree.

        Cost: a look at every page, entry and file, in one write transaction for the latter.

        Args:
            fix: Mend what is wrong. Files and folders that are not the library's are reported
                but kept.
            retry: Wait for the write lock without limit.

        Returns:
            What is wrong, whatever the warning filters are: `UnknownFileWarning`,
            `EmptyDirWarning` or `UserWarning` messages. Empty if all is well.

        Raises:
            Timeout: The write lock was not free in time and *retry* is false.

        Example:
            >>> cache.check()
            []
        """
        return [_as_warning(found) for found in self._engine.check(fix, self._wait(retry))]

    # -- Transactions --

    def transact(self, retry: bool = False) -> AbstractContextManager[None]:
        """Return a context in which operations of this thread happen together or not at all.

        Others see nothing of it before the end; any exception that leaves the block undoes it.
        It nests, without partial rollback. Keep it short: nobody else can write meanwhile.

        Cost: one write transaction.

        Args:
            retry: Wait for the write lock without limit.

        Raises:
            Timeout: The write lock was not free in time and *retry* is false.

        Example:
            >>> with cache.transact():
            ...     total = cache.incr('total', 123.45)
            ...     count = cache.incr('count')
            >>> total, count
            (123.45, 1)
        """
        return self._engine.transaction(self._wait(retry))

    # -- What it is --

    @property
    def directory(self) -> str:
        """Path of the cache directory."""
        return self._directory

    @property
    def timeout(self) -> float:
        """Seconds that a method waits for the write lock."""
        return self._timeout

    @property
    def disk(self) -> Disk:
        """The object that serializes keys and values."""
        return self._disk

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._directory!r})"


def _allocated(path: str) -> int:
    try:
        found = os.lstat(path)
    except OSError:
        return 0
    blocks: int | None = getattr(found, "st_blocks", None)
    return found.st_size if blocks is None or sys.platform == "win32" else blocks * 512


def _as_warning(found: Finding) -> warnings.WarningMessage:
    category = _CATEGORIES[found.category]
    return warnings.WarningMessage(category(found.message), category, __file__, 0)
