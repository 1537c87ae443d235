"""What all methods of `FanoutCache` stand on: its shards, and which of them a key is in."""

from __future__ import annotations

import functools
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar, cast
from zlib import adler32

from diskcache import settings as rules
from diskcache.cache.arguments import (
    checked_memory_limit,
    checked_timeout,
    expanded,
    insecurities,
)
from diskcache.cache.foundation import PATIENCE
from diskcache.cache.private import missing
from diskcache.cache.watching import Watching
from diskcache.clock import SYSTEM_CLOCK, Clock
from diskcache.codecs.compression import DEFAULT_MINIMUM, Method
from diskcache.disk import Disk
from diskcache.errors import (
    GateError,
    InsecureDirectoryWarning,
    SettingError,
    Timeout,
    UnknownSettingWarning,
)
from diskcache.fanout.limit import SharedLimit
from diskcache.fanout.shard import Shard
from diskcache.keys import QUEUE_DIGITS, QUEUE_START
from diskcache.memory.tier import MEMORY_LIMIT, tier_of

T = TypeVar("T")

SHARDS: Final = 8
"""Shards of a new cache."""

MOST_SHARDS: Final = 999

_GONE: Final = {
    "_caches": "cache(), which returns the same object for the same arguments",
    "_con": "_sql of each of _shards",
    "_deques": "deque(), which returns the same object for the same arguments",
    "_disk": "disk, the disk of the first shard, and type() of it",
    "_indexes": "index(), which returns the same object for the same arguments",
    "_remove": "expire(), evict(), cull() and clear()",
    "_sql": "_sql of each of _shards",
}
"""Private names that are not there, and what there is instead."""

_SPAN: Final = 10**12
"""How far a queue may grow on either side with its keys still leading to its shard."""
_LOW: Final = QUEUE_START - _SPAN
_HIGH: Final = QUEUE_START + _SPAN
_HYPHEN: Final = slice(-QUEUE_DIGITS - 1, -QUEUE_DIGITS)
_DIGITS: Final = slice(-QUEUE_DIGITS, None)


class ShardSetting(Generic[T]):
    """A setting of all shards as an attribute; assigning changes this object only."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, cache: FanoutFoundation | None, owner: type) -> T:
        """Return the value that the shards work with."""
        if cache is None:
            return cast("T", self)
        return cast("T", getattr(cache._shards[0], self._name))  # noqa: SLF001 - a part of it

    def __set__(self, cache: FanoutFoundation, value: T) -> None:
        """Let the shards work with *value* from now on."""
        for shard in cache._shards:  # noqa: SLF001 - a part of that class
            setattr(shard, self._name, value)
        cache._settings_changed()  # noqa: SLF001 - a part of that class


class FanoutFoundation(Watching):
    """Construction of shards, and the way to them; see `FanoutCache`."""

    size_limit = ShardSetting[float]("size_limit")
    """Bytes that all shards together may hold."""
    count_limit = ShardSetting[int]("count_limit")
    """Entries that all shards together may hold; 0 for no limit."""
    value_limit = ShardSetting[int]("value_limit")
    cull_limit = ShardSetting[int]("cull_limit")
    eviction_policy = ShardSetting[str]("eviction_policy")
    size_weight = ShardSetting[float]("size_weight")
    statistics = ShardSetting[int]("statistics")
    tag_index = ShardSetting[int]("tag_index")
    disk_min_file_size = ShardSetting[int]("disk_min_file_size")
    disk_pickle_protocol = ShardSetting[int]("disk_pickle_protocol")
    sqlite_auto_vacuum = ShardSetting[int]("sqlite_auto_vacuum")
    sqlite_cache_size = ShardSetting[int]("sqlite_cache_size")
    sqlite_journal_mode = ShardSetting[str]("sqlite_journal_mode")
    sqlite_mmap_size = ShardSetting[int]("sqlite_mmap_size")
    sqlite_synchronous = ShardSetting[int]("sqlite_synchronous")

    def __init__(
        self,
        directory: str | bytes | os.PathLike[str] | None = None,
        shards: int | None = None,
        timeout: float = 60,
        disk: type[Disk] = Disk,
        *,
        pickle: str = "signed",
        secret: bytes | Sequence[bytes] | None = None,
        readonly: bool = False,
        strict: bool = False,
        mode: int = 0o700,
        clock: Clock = SYSTEM_CLOCK,
        serializer: Any = None,
        memory_limit: int = MEMORY_LIMIT,
        compress: Method | None = None,
        compress_min: int = DEFAULT_MINIMUM,
        compress_level: int | None = None,
        trust_legacy_pickles: bool = False,
        authenticate: str = "pickles",
        **settings: Any,
    ) -> None:
        from diskcache.engines.sqlite import make_directory

        if restored := vars(self).pop("_restored", None):
            # A copy is opened as the original was, whatever a subclass passes on.
            keywords = {"clock": clock, "serializer": serializer, **settings, **restored}
            FanoutFoundation.__init__(
                self, directory, shards, timeout, disk, secret=secret, mode=mode, **keywords
            )
            return
        _check_number(shards)
        self._directory = expanded(directory)
        self._timeout = checked_timeout(timeout)
        self._secret = secret
        self._refused = 0
        self._refusing = threading.Lock()
        self._parts: dict[Any, Any] = {}
        notices: dict[type[Warning], str] = {}
        known = self._without_unknown(settings, notices)
        self._look_at_directory(pickle, strict, notices)
        self._mode = mode = make_directory(os.path.realpath(self._directory), mode, readonly)

        def open_shard(number: int) -> Shard:
            shard = Shard.__new__(Shard)
            shard.notices = notices
            shard.upgrade_whole = functools.partial(self._upgrade, shards)
            shard.__init__(  # type: ignore[misc] # what it warns of is known before it is made
                os.path.join(self._directory, f"{number:03d}"),
                timeout,
                disk,
                pickle=pickle,
                secret=secret,
                readonly=readonly,
                strict=strict,
                mode=mode,
                clock=clock,
                serializer=serializer,
                memory_limit=memory_limit,
                compress=compress,
                compress_min=compress_min,
                compress_level=compress_level,
                authenticate=authenticate,
                **known,
            )
            del shard.upgrade_whole
            return shard

        first = open_shard(0)
        count = self._agree(first, shards)
        self._shards = (first, *map(open_shard, range(1, count)))
        self._count = count
        self._limit = SharedLimit(self._shards)
        self._now: Callable[[], float] = clock.time
        self._attach_memory(first, memory_limit)
        self._settings_changed()
        self._hash: Callable[[Any], int] = first.disk.hash
        self._hashes_text = disk.hash is Disk.hash and disk.put is Disk.put
        self._trusts_legacy = trust_legacy_pickles
        if not readonly:
            self._take_over(first, trust_legacy_pickles)
        self._obey_environment()
        for category, message in notices.items():
            warnings.warn(message, category, stacklevel=2)

    # -- Construction --

    def _without_unknown(
        self, settings: dict[str, Any], notices: dict[type[Warning], str]
    ) -> dict[str, Any]:
        """Keep the keywords that are not settings as attributes; return the others."""
        known: dict[str, Any] = {}
        for name, value in settings.items():
            is_known = name in rules.SPECS or name in rules.METADATA
            if is_known or name.startswith(("disk_", "sqlite_")):
                known[name] = value
                continue
            if name.startswith("_") or hasattr(type(self), name):
                raise SettingError(
                    f"keyword {name} is the name of a part of the cache, not of a setting:"
                    f" settings are {', '.join(sorted(rules.SPECS))}"
                )
            # Upper-case names are options of Django that every backend is given.
            if not name.isupper():
                notices[UnknownSettingWarning] = (
                    f"{name} is not a setting: it becomes an attribute and has no other effect;"
                    f" settings are {', '.join(sorted(rules.SPECS))}"
                )
            vars(self)[name] = value
        return known

    def _attach_memory(self, first: Shard, memory_limit: int) -> None:
        """Share one memory tier among all shards."""
        place = os.path.realpath(self._directory)
        self._tier = tier_of((place, *first.decoding), checked_memory_limit(memory_limit))
        for shard in self._shards:
            shard.use_memory(self._tier)

    def _look_at_directory(
        self, pickle: str, strict: bool, notices: dict[type[Warning], str]
    ) -> None:
        """Say who else can change what is there, once for all shards."""
        found = insecurities(self._directory, pickle)
        if found and strict:
            raise SettingError(" ".join(found))
        if found:
            notices[InsecureDirectoryWarning] = " ".join(found)

    def _agree(self, first: Shard, wanted: int | None) -> int:
        """Return the number of shards that the directory has; mark a new one.

        Raises:
            SettingError: It has another number than *wanted*.
        """
        found = first.mark("shards")
        if found is None and not first.options["readonly"]:
            found = self._old_count(first) or first.claim("shards", wanted or SHARDS, PATIENCE)
        if type(found) is not int or not 1 <= found <= MOST_SHARDS:
            first.close()
            raise SettingError(
                f"cache {self._directory!r} does not say how many shards it has: it is not, or not"
                " wholly, the directory of a FanoutCache"
            )
        if wanted not in (None, found):
            first.close()
            raise SettingError(
                f"cache {self._directory!r} has {found} shards: got shards={wanted}; leave it out,"
                " or choose another directory"
            )
        return found

    def _settings_changed(self) -> None:
        self._notes: object | None = self._shards[0].pen

    def _members(self) -> Sequence[Shard]:
        return self._shards

    def _wired(self) -> None:
        self._settings_changed()

    def _upgrade(self, wanted: int | None, disk: Disk, first: Shard) -> None:
        """Upgrade every shard of a directory of version 5."""
        from diskcache.fanout.upgrading import upgrade_shards

        upgrade_shards(self._directory, disk, first, wanted)

    def _old_count(self, first: Shard) -> int:
        """Return how many shards version 5 made; 0 if it made none."""
        if first.mark("version_5") is None:
            return 0
        from diskcache.fanout.upgrading import shard_directories

        return len(shard_directories(self._directory))

    def _take_over(self, first: Shard, trust: bool) -> None:
        """Bring what version 5 left to where it belongs, unless that is done."""
        if trust or first.mark("shards") is None:
            from diskcache.fanout.upgrading import take_over

            take_over(self, trust=trust)

    # -- The way to a shard --

    def _index(self, key: Any) -> int:
        """Return the number of the shard that *key* is in.

        Keys as `push` makes them are in the shard of their queue.
        """
        kind = type(key)
        if kind is str:
            if key[_HYPHEN] == "-" and _is_place(key[_DIGITS]):
                key = key[: -QUEUE_DIGITS - 1]
            if self._hashes_text and key.isascii():
                return adler32(key.encode()) % self._count
        elif (kind is int or kind is float) and _LOW < key < _HIGH:
            return 0
        return self._hash(key) % self._count

    def _shard_of(self, key: Any) -> Shard:
        """Return the shard that *key* is in."""
        return self._shards[self._index(key)]

    def _shard_of_queue(self, prefix: str | None) -> Shard:
        """Return the shard that a queue is in."""
        return self._shards[0 if prefix is None else self._hash(prefix) % self._count]

    # -- Refusals --

    def _refuse(self, exc: Timeout, result: T) -> T:
        """Count an operation that did not happen because the write lock was not to be had.

        Raises:
            GateError: It never will be: this thread holds it through another object.
        """
        if isinstance(exc, GateError):
            raise exc
        with self._refusing:
            self._refused += 1
        return result

    def __getattr__(self, name: str) -> Any:
        # Only keywords of the disk and pragmas get here: they are attributes of the shards.
        if name.startswith(("disk_", "sqlite_")):
            found = vars(self._shards[0]).get(name, self)
            if found is not self:
                return found
        raise missing(type(self).__name__, name, _GONE)


def _check_number(shards: object) -> None:
    if shards is None:
        return
    if type(shards) is not int or not 1 <= shards <= MOST_SHARDS:
        raise SettingError(
            f"shards must be a number from 1 to {MOST_SHARDS}, or None for as many as there are:"
            f" got {shards!r}"
        )


def _is_place(digits: str) -> bool:
    """Tell whether text is the number of an entry in a queue."""
    return digits.isascii() and digits.isdigit() and _LOW < int(digits) < _HIGH
