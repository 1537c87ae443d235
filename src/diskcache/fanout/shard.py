"""`Shard`: one of the caches behind a `FanoutCache`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, TypeAlias

from diskcache.cache import Cache
from diskcache.cache.noting import LONG_WAY
from diskcache.clock import Clock
from diskcache.coherence import COUNTED
from diskcache.disk import Disk
from diskcache.engines.base import Neighbours, Put
from diskcache.entry import DbValue, EncodedKey, Only, Order, RemovalCause, Tag
from diskcache.memory.tier import Held, Tier
from diskcache.sentinels import ENOVAL

Rank: TypeAlias = tuple[int, Any, int]
"""Place of a key in the order of keys: kind, value, raw."""


class Shard(Cache):
    """A cache that knows that it is a part of a larger one.

    Its warnings, which every shard would give, are left to the whole.
    """

    notices: dict[type[Warning], str] | None = None
    """Where to leave warnings of the constructor."""

    upgrade_whole: Callable[[Disk, Shard], None] | None = None
    """Upgrades all shards, where one is of version 5."""

    def _upgrade(self, disk: Disk) -> None:
        if self.upgrade_whole is None:
            super()._upgrade(disk)
        else:
            self.upgrade_whole(disk, self)

    def _warn(self, message: str, category: type[Warning]) -> None:
        if self.notices is None:
            super()._warn(message, category)
        else:
            self.notices.setdefault(category, message)

    def _obey_environment(self) -> None:
        """Leave that to the whole."""

    # -- Reads that the memory of the whole could not answer --

    def get_slowly(self, key: Any, default: Any, read: bool, expire_time: bool, tag: bool) -> Any:
        """Do as `get`, except for the fast way."""
        return self._get(key, default, read, expire_time, tag)

    def get_more(self, key: Any, default: Any, *asked: bool) -> Any:
        """Do as `get` with `version` or `stale`."""
        return self._get_more(key, default, *asked)

    def contains_slowly(self, key: Any) -> bool:
        """Do as `in`, except for the fast way."""
        return self._contains(key)

    def note_hit(self, key: Any, held: Held) -> None:
        """Note a hit in the memory of the whole."""
        self._note_hit(key, held)

    def note_promptly(self, key: Any, held: Held) -> bool:
        """Note such a hit unless that means to write down; tell whether it is noted."""
        return self._note_promptly(key, held)

    def find_many(self, keys: list[Any]) -> dict[Any, Any]:
        """Return the live values of keys that were just looked for."""
        return self._find_many(keys)

    def save_many(
        self, entries: Iterable[tuple[Any, Any, float | None]], tag: Tag, only: Only
    ) -> int:
        """Store values that were computed together."""
        return self._save_many(entries, tag, only)

    def packed(
        self, pairs: Iterable[tuple[Any, Any]], expire_time: float | None, tag: Tag
    ) -> list[Put]:
        """Encode entries for `put_packed`."""
        return self._puts(((key, value, expire_time) for key, value in pairs), tag)

    def put_packed(self, puts: list[Put], now: float, retry: bool) -> int:
        """Store encoded entries, all of them or none; return how many."""
        return self._engine.put_many(puts, now, self._wait(retry))

    def discard_packed(self, puts: Iterable[Put]) -> None:
        """Remove the files of encoded entries that are not stored."""
        for put in puts:
            self._discard(put[1])

    @property
    def pen(self) -> object | None:
        """What a hit in the memory of the whole is noted by; None if it has not to be."""
        notes = self._notes
        return notes if notes is None or notes is COUNTED else LONG_WAY

    @property
    def decoding(self) -> tuple[Hashable, ...]:
        """What is equal for shards that decode alike."""
        return self._decoding

    def use_memory(self, tier: Tier) -> None:
        """Keep what is read in the memory of the whole."""
        self._tier = tier

    # -- What the others need --

    @property
    def options(self) -> dict[str, Any]:
        """Keywords, settings excepted, that make another cache like this one."""
        return self._options

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that it works with."""
        return self._settings

    @property
    def clock(self) -> Clock:
        """Where time comes from."""
        return self._clock

    def in_transaction(self) -> bool:
        """Tell whether this thread is inside a transaction."""
        return self._engine.in_transaction()

    def join(self, neighbours: Neighbours) -> None:
        """Share the size limit with others."""
        self._engine.share_limit(neighbours)

    def rough_volume(self, slack: float) -> int:
        """Return the volume as it was when no more than *slack* bytes less was written."""
        return self._engine.rough_volume(slack)

    @property
    def culls(self) -> bool:
        """Whether writes remove victims."""
        return bool(self._settings["cull_limit"]) and self._settings["eviction_policy"] != "none"

    def make_room(self, spared: Any = ENOVAL) -> int:
        """Cull one batch, without waiting for the write lock; return how many went.

        Args:
            spared: Key of an entry that stays, if there is one.
        """
        key = None if spared is ENOVAL else self._encode_key(spared)
        return self._engine.remove(RemovalCause.CROWDED, key, self._now(), 0).removed

    def rough_count(self) -> int:
        """Return how many entries were stored when the directory was last looked at."""
        return self._engine.rough_count()

    def look_always(self) -> None:
        """Count the entries of the others at the next write."""
        self._engine.look_always()

    def trim(self, limit: int, spared: Any) -> int:
        """Remove up to *limit* victims but *spared*; tell how many."""
        return self._engine.trim(limit, self._encode_key(spared), self._now(), self._timeout)

    def ranks(self, limit: int, spared: Any) -> list[float]:
        """Return the ranks of the next victims but *spared*, comparable between shards."""
        return self._engine.ranks(limit, self._encode_key(spared))

    def drop_calls(self, name: str) -> int:
        """Remove the results of a memoized function; tell how many."""
        return self._drop_calls(name)

    def mark(self, name: str) -> DbValue:
        """Return what the shard is marked with."""
        return self._engine.mark(name)

    def claim(self, name: str, value: DbValue, wait: float) -> DbValue:
        """Mark the shard if it is not marked yet; return the mark."""
        return self._engine.claim(name, value, wait, if_empty=False)

    # -- Listing, so that shards can be merged --

    def ranked_keys(self, reverse: bool, prefix: str | None) -> Iterator[tuple[Rank, Any]]:
        """Yield the keys in their order, each behind its rank."""
        for entry in self._entries(Order.KEY, reverse=reverse, prefix=prefix):
            key = self._decode_key(entry.key)
            if key is not ENOVAL:
                yield rank(entry.key), key

    def ranked_items(
        self, prefix: str, tag: Tag, *, values: bool
    ) -> Iterator[tuple[Rank, tuple[Any, Any]]]:
        """Yield key and value of live entries in the order of keys, each behind its rank."""
        for entry in self._live(prefix, tag, values=values):
            key = self._decode_key(entry.key)
            value = self._load(entry.key, entry.row) if values and key is not ENOVAL else None
            if key is not ENOVAL and value is not ENOVAL:
                yield rank(entry.key), (key, value)


def rank(key: EncodedKey) -> Rank:
    """Return what encoded keys are ordered by: numbers, then text, then bytes."""
    value, raw = key
    if isinstance(value, str):
        return 1, value.encode(), raw
    return (2 if isinstance(value, bytes) else 0), value, raw
