"""Methods of `Cache` on many entries: bulk calls, iteration, bulk removal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from diskcache.cache.queues import QueueMethods
from diskcache.codecs.keys import tuple_starts
from diskcache.engines.base import Put
from diskcache.entry import (
    FILE,
    IDENT,
    EncodedKey,
    Listed,
    Only,
    Order,
    RemovalCause,
    Row,
    Tag,
    expiry,
)
from diskcache.errors import GateError, Timeout
from diskcache.sentinels import ENOVAL

PAGE: Final = 100
"""Entries read at a time while iterating."""

MOMENTS: Final = 20
"""How often many rows are read before writers have to wait until their files are opened."""


class RowReplaced(Exception):  # noqa: N818 - it is a signal, not an error
    """A writer has replaced an entry, and its file, since its row was read."""


class BulkMethods(QueueMethods):
    """Bulk calls, iteration and bulk removal."""

    # -- Many keys at once --

    def get_many(self, keys: Iterable[Any], default: Any = ENOVAL) -> dict[Any, Any]:
        """Return the values of *keys* as of one moment.

        Cost: one read transaction; never a lock.

        Args:
            keys: Hashable keys to look up.
            default: Value for missing keys; without it they are left out.

        Example:
            >>> cache.set_many({'a': 1, 'b': 2})
            2
            >>> cache.get_many(['a', 'b', 'c'])
            {'a': 1, 'b': 2}
        """
        wanted = list(keys)
        encoded = [self._encode_key(key) for key in wanted]
        result: dict[Any, Any] = {}
        for key, value in zip(wanted, self._values_of_one_moment(encoded), strict=True):
            if self._counts:
                self._count_read(key, value)
            if value is ENOVAL:
                value = default
            if value is not ENOVAL:
                result[key] = value
        return result

    def _find_many(self, keys: list[Any]) -> dict[Any, Any]:
        """Return the live values of keys that were just looked for; they are not counted again."""
        values = self._values_of_one_moment([self._encode_key(key) for key in keys])
        return {key: value for key, value in zip(keys, values, strict=True) if value is not ENOVAL}

    def _values_of_one_moment(self, keys: list[EncodedKey]) -> list[Any]:
        """Return the values of *keys*, `ENOVAL` for what is missing.

        Files are opened when the rows have been read. If one was replaced meanwhile, all rows are
        read again; if that happens again and again, while writers wait.
        """
        for _ in range(MOMENTS):
            with suppress(RowReplaced):
                return self._values_now(keys, self._unpack_unless_replaced)
        if self._options["readonly"]:
            return self._values_now(keys)
        with self._engine.transaction(None):
            return self._values_now(keys)

    def _values_now(
        self,
        keys: list[EncodedKey],
        unpack: Callable[[Row, bool, EncodedKey], Any] | None = None,
    ) -> list[Any]:
        rows = self._engine.get_many(keys, self._now())
        return [
            ENOVAL if row is None else self._load(key, row, unpack=unpack if row[FILE] else None)
            for key, row in zip(keys, rows, strict=True)
        ]

    def _unpack_unless_replaced(self, row: Row, read: bool, key: EncodedKey) -> Any:
        try:
            return self._unpack(row, read, key)
        except OSError:
            again = self._engine.get(key, self._now())
            if again is None or again[FILE] != row[FILE] or again[IDENT] != row[IDENT]:
                raise RowReplaced from None
            raise

    def set_many(
        self,
        mapping: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        expire: float | None = None,
        tag: Tag = None,
        retry: bool = False,
    ) -> int:
        """Store many entries, all of them or none.

        Cost: one write transaction; others cannot write meanwhile.

        Args:
            mapping: Keys and values, or pairs of them.
            expire: Seconds from now until the entries expire.
            tag: Label for `evict`.
            retry: Wait for the write lock without limit.

        Returns:
            How many were stored: all but those larger than the size limit.

        Raises:
            Timeout: The write lock was not free in time and *retry* is false.

        Example:
            >>> cache.set_many({'a': 1, 'b': 2}, expire=60)
            2
        """
        now = self._now()
        expire_time = expiry(expire, now)
        pairs = mapping.items() if isinstance(mapping, Mapping) else mapping
        puts = self._puts(((key, value, expire_time) for key, value in pairs), tag)
        return self._engine.put_many(puts, now, self._wait(retry))

    def _save_many(
        self, entries: Iterable[tuple[Any, Any, float | None]], tag: Tag, only: Only
    ) -> int:
        """Store values under a condition, each with the seconds that it lives; return how many."""
        now = self._now()
        puts = self._puts(((key, value, expiry(life, now)) for key, value, life in entries), tag)
        return self._engine.put_many(puts, now, None, only)

    def _puts(self, entries: Iterable[tuple[Any, Any, float | None]], tag: Tag) -> list[Put]:
        """Return what stores keys and values, each with the moment at which it expires."""
        puts: list[Put] = []
        try:
            for key, value, expire_time in entries:
                encoded = self._encode_key(key)
                payload = self._pack(value, False, encoded, key)
                puts.append((encoded, payload, expire_time, tag))
        except BaseException:
            for put in puts:
                self._discard(put[1])
            raise
        return puts

    def delete_many(self, keys: Iterable[Any], retry: bool = False) -> int:
        """Remove many entries in one step; return how many live ones there were.

        Cost: one write transaction; others cannot write meanwhile.

        Example:
            >>> cache.set_many({'a': 1, 'b': 2})
            2
            >>> cache.delete_many(['a', 'b', 'c'])
            2
        """
        encoded = [self._encode_key(key) for key in keys]
        return self._engine.delete_many(encoded, self._now(), self._wait(retry))

    # -- Iteration --

    def __iter__(self) -> Iterator[Any]:
        """Iterate over keys in insertion order, those of expired entries included.

        Keys added after this call are not seen; removed ones disappear. Entries are read in
        pages, without a lock: writing meanwhile is allowed.
        """
        last = self._engine.last_cursor()
        return self._keys(Order.INSERTION, until=last) if last is not None else _nothing()

    def __reversed__(self) -> Iterator[Any]:
        """Iterate over keys from the last inserted to the first."""
        return self._keys(Order.INSERTION, reverse=True)

    def iterkeys(self, reverse: bool = False, prefix: str | None = None) -> Iterator[Any]:
        """Iterate over keys in sorted order: numbers, then text, then bytes and other keys.

        Cost: one read for each page of entries; never a lock.

        Args:
            reverse: From the largest to the smallest.
            prefix: Only text keys that start with this.

        Example:
            >>> for key in 'cab':
            ...     cache[key] = None
            >>> list(cache.iterkeys())
            ['a', 'b', 'c']
        """
        return self._keys(Order.KEY, reverse=reverse, prefix=prefix)

    def keys(self, prefix: str | None = None, tag: Tag = None) -> Iterator[Any]:
        """Iterate over the keys of live entries, in insertion order.

        Cost: one read for each page of entries; never a lock.

        Args:
            prefix: Only text keys that start with this, in sorted order.
            tag: Only entries with this tag; None for all.

        Example:
            >>> cache['user:1'], cache['user:2'], cache['other'] = 'a', 'b', 'c'
            >>> list(cache.keys(prefix='user:'))
            ['user:1', 'user:2']
        """
        for entry in self._live(prefix, tag, values=False):
            key = self._decode_key(entry.key)
            if key is not ENOVAL:
                yield key

    def values(self, prefix: str | None = None, tag: Tag = None) -> Iterator[Any]:
        """Iterate over the values of live entries; see `keys`.

        Example:
            >>> cache['a'], cache['b'] = 1, 2
            >>> list(cache.values())
            [1, 2]
        """
        for _, value in self.items(prefix, tag):
            yield value

    def items(self, prefix: str | None = None, tag: Tag = None) -> Iterator[tuple[Any, Any]]:
        """Iterate over key and value of live entries; see `keys`.

        Example:
            >>> cache['a'], cache['b'] = 1, 2
            >>> list(cache.items())
            [('a', 1), ('b', 2)]
        """
        for entry in self._live(prefix, tag, values=True):
            key = self._decode_key(entry.key)
            if key is not ENOVAL:
                value = self._load(entry.key, entry.row)
                if value is not ENOVAL:
                    yield key, value

    def _keys(
        self,
        order: Order,
        *,
        reverse: bool = False,
        prefix: str | None = None,
        until: object | None = None,
    ) -> Iterator[Any]:
        for entry in self._entries(order, reverse=reverse, prefix=prefix, until=until):
            key = self._decode_key(entry.key)
            if key is not ENOVAL:
                yield key

    def _live(self, prefix: str | None, tag: Tag, *, values: bool) -> Iterator[Listed]:
        order = Order.INSERTION if prefix is None else Order.KEY
        for entry in self._entries(order, prefix=prefix, tag=tag, values=values):
            if entry.row[5] is None or entry.row[5] > self._now():
                yield entry

    def _entries(
        self,
        order: Order,
        *,
        reverse: bool = False,
        prefix: str | None = None,
        tag: Tag = None,
        until: object | None = None,
        values: bool = False,
        after: object | None = None,
    ) -> Iterator[Listed]:
        while page := self._engine.page(
            order,
            after,
            PAGE,
            reverse=reverse,
            prefix=prefix,
            tag=tag,
            until=until,
            values=values,
        ):
            yield from page
            if len(page) < PAGE and order is Order.INSERTION and until is not None:
                return
            after = page[-1].cursor

    def __len__(self) -> int:
        """Return the number of entries, expired ones included until they are removed.

        Cost: a look at memory shared by all processes.
        """
        self.count = self._engine.count()
        return self.count

    # -- Results of one function --

    def _drop_calls(self, name: str) -> int:
        """Remove the live entries whose keys are tuples that start with a name; tell how many.

        Keys are searched by their first bytes; those that are pickled, or made by a disk of the
        user, one by one.
        """
        return sum(
            self._engine.delete_many(keys, self._now(), None) for keys in self._calls_of(name)
        )

    def _calls_of(self, name: str) -> Iterator[list[EncodedKey]]:
        if self._has_own_keys:
            yield from self._calls_between(name, b"", None)
            return
        yield from self._calls_between(name, b"\x01", b"\x03")
        for start in tuple_starts(name):
            yield from self._calls_between(name, start, None, prefix=start)

    def _calls_between(
        self, name: str, start: bytes, end: bytes | None, prefix: bytes = b""
    ) -> Iterator[list[EncodedKey]]:
        """Yield pages of the keys from *start* on whose first element is a name."""
        after: Any = (start, -1)
        if self._has_own_keys:
            after = None
        while page := self._engine.page(Order.KEY, after, PAGE):
            keys = [listed.key for listed in page]
            if not self._has_own_keys:
                keys = [key for key in keys if _is_within(key, prefix, end)]
            found = [key for key in keys if prefix or _first(self._decode_key(key)) == name]
            if found:
                yield found
            if len(keys) < len(page) and not self._has_own_keys:
                return
            after = page[-1].cursor

    # -- Bulk removal --

    def expire(self, now: float | None = None, retry: bool = False) -> int:
        """Remove all expired entries, but for those in grace.

        Cost: one write transaction for every few hundred entries; others write in between.

        Args:
            now: Moment to judge by, seconds since the epoch; None or 0 for the present.
            retry: Wait for the write lock without limit.

        Returns:
            How many were removed.

        Raises:
            Timeout: The write lock was not free in time and *retry* is false; its first argument
                is the number removed so far.

        Example:
            >>> cache.expire()
            0
        """
        return self._remove(RemovalCause.EXPIRED, retry, now=now or None)

    def evict(self, tag: Tag, retry: bool = False) -> int:
        """Remove all entries with a tag; with None, all entries without one.

        Entries of locks and guards of the library are kept by `evict(None)`.

        Cost: one write transaction for every few hundred entries; without a tag index, a look at
        every entry.

        Args:
            tag: The tag.
            retry: Wait for the write lock without limit.

        Returns:
            How many were removed.

        Raises:
            Timeout: As for `expire`.

        Example:
            >>> cache.set('k', 1, tag='odd')
            True
            >>> cache.evict('odd')
            1
        """
        return self._remove(RemovalCause.EVICTED, retry, tag=tag)

    def cull(self, retry: bool = False) -> int:
        """Remove expired entries, then victims of the eviction policy, down to the size limit.

        Works whatever `cull_limit` is.

        Cost: one write transaction for every hundred victims.

        Args:
            retry: Wait for the write lock without limit.

        Returns:
            How many were removed, expired ones included.

        Raises:
            Timeout: As for `expire`.

        Example:
            >>> cache.cull()
            0
        """
        expired = self._remove(RemovalCause.EXPIRED, retry)
        return self._remove(RemovalCause.CULLED, retry, before=expired)

    def clear(self, retry: bool = False) -> int:
        """Remove all entries.

        Cost: one write transaction for every few hundred entries; others write in between, and
        what they add behind the place that was reached stays.

        Args:
            retry: Wait for the write lock without limit.

        Returns:
            How many were removed.

        Raises:
            Timeout: As for `expire`.

        Example:
            >>> cache['a'] = 1
            >>> cache.clear()
            1
        """
        return self._remove(RemovalCause.CLEARED, retry)

    def _remove(
        self,
        cause: RemovalCause,
        retry: bool,
        *,
        now: float | None = None,
        tag: Tag = None,
        before: int = 0,
    ) -> int:
        removed, cursor = before, None
        moment = self._now() if now is None else now
        while True:
            try:
                batch = self._engine.remove(cause, cursor, moment, self._wait(retry), tag=tag)
            except GateError:
                raise
            except Timeout as exc:
                raise Timeout(removed) from exc
            removed += batch.removed
            cursor = batch.cursor
            if cursor is None:
                return removed


def _is_within(key: EncodedKey, prefix: bytes, end: bytes | None) -> bool:
    data, raw = key
    return (
        not raw
        and isinstance(data, bytes)
        and data.startswith(prefix)
        and (end is None or data < end)
    )


def _first(key: Any) -> Any:
    """Return the first element of what may be the key of a call."""
    return key[0] if isinstance(key, (tuple, list)) and key else None


def _nothing() -> Iterator[Any]:
    yield from ()
