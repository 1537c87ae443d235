"""Methods of `FanoutCache` on one key, and on queues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diskcache.cache.entries import shaped
from diskcache.cache.front import Front
from diskcache.cache.queues import check_queue
from diskcache.cache.shapes import Shapes, shaped_as
from diskcache.entry import Tag
from diskcache.errors import Timeout
from diskcache.fanout.foundation import FanoutFoundation
from diskcache.memory.tier import Held
from diskcache.sentinels import ENOVAL, Constant


class FanoutEntries(Front, FanoutFoundation):
    """Operations that one shard does. Those that it refuses are counted."""

    # -- Storing --

    def set(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Tag = None,
        retry: bool = False,
        *,
        grace: float | None = None,
        if_version: int | Constant | None = ENOVAL,
    ) -> bool:
        """Store *value* under *key*; see `Cache.set`.

        Returns:
            True; False if the write lock was not to be had in time, if the value alone is larger
            than the size limit, or if the version is another one.

        Example:
            >>> cache.set('key', 'value', expire=60, tag='data')
            True
        """
        shard = self._shards[self._index(key)]
        try:
            if grace or if_version is not ENOVAL:
                stored = shard.set(
                    key, value, expire, read, tag, retry, grace=grace, if_version=if_version
                )
            else:
                stored = shard.set(key, value, expire, read, tag, retry)
        except Timeout as exc:
            return self._refuse(exc, False)
        self._limit.wrote(shard, key)
        return stored

    def __setitem__(self, key: Any, value: Any) -> None:
        """Store *value* under *key* without expiry or tag, waiting for the write lock.

        Raises:
            TooLargeError: The value alone is larger than the size limit.
        """
        shard = self._shards[self._index(key)]
        shard[key] = value
        self._limit.wrote(shard, key)

    def add(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Tag = None,
        retry: bool = False,
    ) -> bool:
        """Store *value* only if *key* has no live entry; see `Cache.add`.

        Returns:
            Whether it was stored; also False if the write lock was not to be had in time.

        Example:
            >>> cache.add('once', 1), cache.add('once', 2), cache['once']
            (True, False, 1)
        """
        shard = self._shards[self._index(key)]
        try:
            stored = shard.add(key, value, expire, read, tag, retry)
        except Timeout as exc:
            return self._refuse(exc, False)
        self._limit.wrote(shard, key)
        return stored

    def touch(self, key: Any, expire: float | None = None, retry: bool = False) -> bool:
        """Give a live entry a new expiry; see `Cache.touch`.

        Returns:
            Whether that was done; False also if the write lock was not to be had in time.

        Example:
            >>> cache.touch('missing', expire=60)
            False
        """
        try:
            return self._shards[self._index(key)].touch(key, expire, retry)
        except Timeout as exc:
            return self._refuse(exc, False)

    # -- Reading: `get`, `[]` and `in` are in `Front` --

    def _get(self, key: Any, default: Any, read: bool, expire_time: bool, tag: bool) -> Any:
        shard = self._shards[self._index(key)]
        try:
            return shard.get_slowly(key, default, read, expire_time, tag)
        except Timeout as exc:
            return self._refuse(exc, shaped(default, None, expire_time, tag))

    def _get_more(
        self,
        key: Any,
        default: Any,
        read: bool,
        expire_time: bool,
        tag: bool,
        version: bool,
        stale: bool,
    ) -> Any:
        shard = self._shards[self._index(key)]
        return shard.get_more(key, default, read, expire_time, tag, version, stale)

    def _contains(self, key: Any) -> bool:
        return self._shards[self._index(key)].contains_slowly(key)

    def _note_hit(self, key: Any, held: Held) -> None:
        self._shards[self._index(key)].note_hit(key, held)

    def _note_promptly(self, key: Any, held: Held) -> bool:
        return self._shards[self._index(key)].note_promptly(key, held)

    def read(self, key: Any, retry: bool = False) -> Any:
        """Return the value of *key* as an open file, if it is kept in one; see `Cache.read`.

        Raises:
            KeyError: It has no live entry.

        Example:
            >>> from io import BytesIO
            >>> cache.set('k', BytesIO(b'content'), read=True)
            True
            >>> with cache.read('k') as reader:
            ...     reader.read()
            b'content'
        """
        return self._shards[self._index(key)].read(key, retry)

    # -- Changing --

    def update(
        self,
        key: Any,
        func: Callable[[Any], Any],
        default: Any = None,
        *,
        expire: float | None = None,
        tag: Tag = None,
    ) -> Any:
        """Replace the value of *key* by what *func* makes of it; see `Cache.update`.

        Example:
            >>> cache.update('names', lambda names: [*names, 'ada'], default=[])
            ['ada']
        """
        shard = self._shards[self._index(key)]
        value = shard.update(key, func, default, expire=expire, tag=tag)
        self._limit.wrote(shard, key)
        return value

    # -- Counting --

    def incr(
        self,
        key: Any,
        delta: float = 1,
        default: float | None = 0,
        retry: bool = False,
        *,
        expire: float | None = None,
        tag: Tag = None,
    ) -> Any:
        """Add *delta* to a number and return the sum; see `Cache.incr`.

        Returns:
            The sum; None if the write lock was not to be had in time.

        Raises:
            KeyError: There is no live entry and *default* is None.

        Example:
            >>> cache.incr('visits'), cache.incr('visits', 9)
            (1, 10)
        """
        shard = self._shards[self._index(key)]
        try:
            total = shard.incr(key, delta, default, retry, expire=expire, tag=tag)
        except Timeout as exc:
            return self._refuse(exc, None)
        self._limit.wrote(shard, key)
        return total

    def decr(
        self,
        key: Any,
        delta: float = 1,
        default: float | None = 0,
        retry: bool = False,
        *,
        expire: float | None = None,
        tag: Tag = None,
    ) -> Any:
        """Subtract *delta* from a number and return the difference; see `incr`.

        Example:
            >>> cache.decr('stock', default=5)
            4
        """
        return self.incr(key, -delta, default, retry, expire=expire, tag=tag)

    # -- Removing --

    @shaped_as(Shapes.pop)
    def pop(
        self,
        key: Any,
        default: Any = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Remove the entry of *key* and return its value; see `Cache.pop`.

        Returns:
            As `get`; what a missing entry gives also if the write lock was not to be had in time.

        Example:
            >>> cache.set('k', 1)
            True
            >>> cache.pop('k'), cache.pop('k', 'gone')
            (1, 'gone')
        """
        try:
            return self._shards[self._index(key)].pop(key, default, expire_time, tag, retry)
        except Timeout as exc:
            return self._refuse(exc, shaped(default, None, expire_time, tag))

    def delete(self, key: Any, retry: bool = False) -> bool:
        """Remove the entry of *key*; see `Cache.delete`.

        Returns:
            Whether there was a live one; also False if the write lock was not to be had in time.

        Example:
            >>> cache.delete('missing')
            False
        """
        try:
            return self._shards[self._index(key)].delete(key, retry)
        except Timeout as exc:
            return self._refuse(exc, False)

    def __delitem__(self, key: Any, retry: bool = True) -> bool:
        """Remove the entry of *key*, waiting for the write lock.

        Raises:
            KeyError: It has no live entry.
        """
        try:
            return self._shards[self._index(key)].__delitem__(key, retry)
        except Timeout as exc:
            return self._refuse(exc, False)

    # -- Queues --

    def push(
        self,
        value: Any,
        prefix: str | None = None,
        side: str = "back",
        expire: float | None = None,
        read: bool = False,
        tag: Tag = None,
        retry: bool = False,
    ) -> int | str | None:
        """Store *value* at an end of a queue, under a key that is made for it; see `Cache.push`.

        A queue is in one shard, which its prefix chooses; the one without a prefix in the first.

        Returns:
            The key; None if the write lock was not to be had in time.

        Example:
            >>> cache.push('job', prefix='jobs')
            'jobs-500000000000000'
        """
        check_queue(prefix, side)
        shard = self._shard_of_queue(prefix)
        try:
            key = shard.push(value, prefix, side, expire, read, tag, retry)
        except Timeout as exc:
            return self._refuse(exc, None)
        self._limit.wrote(shard, key)
        return key

    @shaped_as(Shapes.pull)
    def pull(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Remove the entry at an end of a queue and return key and value; see `Cache.pull`.

        Returns:
            As `Cache.pull`; what an empty queue gives also if the write lock was not to be had in
            time.

        Example:
            >>> _ = cache.push('first', prefix='jobs')
            >>> cache.pull('jobs')
            ('jobs-500000000000000', 'first')
        """
        check_queue(prefix, side)
        shard = self._shard_of_queue(prefix)
        try:
            return shard.pull(prefix, default, side, expire_time, tag, retry)
        except Timeout as exc:
            return self._refuse(exc, shaped(default, None, expire_time, tag))

    @shaped_as(Shapes.pull)
    def peek(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return key and value of the entry at an end of a queue; see `Cache.peek`.

        Example:
            >>> _ = cache.push('first', prefix='jobs')
            >>> cache.peek('jobs')
            ('jobs-500000000000000', 'first')
        """
        check_queue(prefix, side)
        shard = self._shard_of_queue(prefix)
        try:
            return shard.peek(prefix, default, side, expire_time, tag, retry)
        except Timeout as exc:
            return self._refuse(exc, shaped(default, None, expire_time, tag))

    @shaped_as(Shapes.peekitem)
    def peekitem(
        self,
        last: bool = True,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return key and value of the last or first entry in the order of iteration.

        That is the last entry of the last shard that has any, or the first of the first one.
        Expired entries are removed on the way, waiting for the write lock.

        Raises:
            KeyError: The cache is empty.

        Example:
            >>> cache['a'] = 1
            >>> cache.peekitem()
            ('a', 1)
        """
        for shard in reversed(self._shards) if last else self._shards:
            try:
                return shard.peekitem(last, expire_time, tag, True)
            except KeyError:
                continue
        raise KeyError("dictionary is empty")
