"""Methods of `Cache` on one key."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import CoroutineType
from typing import Any, Final

from diskcache.cache.reading import ReadingMethods
from diskcache.cache.shapes import Shapes, shaped_as
from diskcache.coherence import Keep
from diskcache.entry import (
    EXPIRE_TIME,
    TAG,
    VERSION,
    EncodedKey,
    Only,
    Payload,
    Row,
    Tag,
    expiry,
    in_place_of,
    mode_in_grace,
)
from diskcache.errors import CodecError, TooLargeError, UntrustedPickleError
from diskcache.memory.tier import DIRECT, LAST_GROUP, place_of
from diskcache.sentinels import ENOVAL, Constant

_ALWAYS: Final = Only.ALWAYS


class EntryMethods(ReadingMethods):
    """Store, read, count, and remove single entries."""

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
        """Store *value* under *key*, replacing value, expiry and tag of an old entry.

        When the cache is over its limits, other entries are then removed: expired ones first,
        then victims in the order of the eviction policy, `cull_limit` at most.

        Cost: one write transaction; for a large value, a file written before the lock is taken.

        Args:
            key: Any plain data; anything that can be pickled, signed.
            value: Any plain data; anything that can be pickled, signed.
            expire: Seconds from now until the entry expires; None means never.
            read: Treat *value* as an open binary file and copy its content.
            tag: Label for `evict`: int, float, str, bytes or None.
            retry: Wait for the write lock without limit instead of raising `Timeout`.
            grace: Seconds beyond its expiry that the entry is kept for `get(stale=True)`, rounded
                up; to everything else it has expired.
            if_version: Store only if this is the version of the live entry, as `get(version=True)`
                returned it; None only if there is no live entry.

        Returns:
            True; False if the value alone is larger than `value_limit` or `size_limit`, or the
            version is another one: then nothing has changed.

        Raises:
            Timeout: The write lock was not free within `timeout` seconds and *retry* is false.

        Example:
            >>> cache.set('key', 'value', expire=60, tag='data')
            True
        """
        now = self._now()
        encoded = self._encode_key(key)
        expire_time = None if expire is None else expiry(expire, now)
        payload = self._pack(value, read, encoded, key)
        wait = None if retry else self._timeout
        if grace is not None and grace > 0 and expire is not None:
            payload = (mode_in_grace(payload[0], grace), *payload[1:])
        if if_version is not ENOVAL:
            return self._engine.put(
                encoded, payload, expire_time, tag, now, wait, self._condition(if_version, payload)
            )
        tier, keep = self._tier, None
        # What `expects` asks, without two calls: mostly it does not.
        is_met = type(key) not in DIRECT or tier._expected[hash(key) & LAST_GROUP]  # noqa: SLF001
        if is_met or key in tier.young:
            keep = self._keeper(key, encoded, payload, expire_time, tag)
        return self._engine.put(encoded, payload, expire_time, tag, now, wait, _ALWAYS, keep)

    def _keeper(
        self, key: Any, encoded: EncodedKey, payload: Payload, expires: float | None, label: Tag
    ) -> Keep | None:
        """Return what keeps an entry in memory once it is stored, if somebody has asked for it."""
        if (type(key) in DIRECT or place_of(key) is not None) and self._tier.expects(key):
            return partial(self._keep_stored, key, encoded, payload, expires, label)
        return None

    def _condition(self, version: object, payload: Payload) -> Only | int:
        """Return the condition that an argument means.

        Raises:
            TypeError: It is no version.
        """
        if version is None:
            return Only.ABSENT
        if type(version) is int:
            return version
        self._files.discard(payload[2])
        raise TypeError(
            f"if_version must be what get(version=True) returned, an int or None: got {version!r}"
        )

    def __setitem__(self, key: Any, value: Any) -> None:
        """Store *value* under *key* without expiry or tag, waiting for the write lock.

        Raises:
            TooLargeError: The value alone is larger than `value_limit` or `size_limit`.
        """
        now = self._now()
        encoded = self._encode_key(key)
        payload = self._pack(value, False, encoded, key)
        keep = self._keeper(key, encoded, payload, None, None)
        if not self._engine.put(encoded, payload, None, None, now, None, _ALWAYS, keep):
            raise self._too_large(key)

    def _too_large(self, key: Any) -> TooLargeError:
        return TooLargeError(
            f"the value for key {key!r} is larger than {self._largest()}, and was not stored:"
            " raise the limit, or store it in parts"
        )

    def add(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Tag = None,
        retry: bool = False,
    ) -> bool:
        """Store *value* only if *key* has no live entry. Of concurrent callers one succeeds.

        Cost: one write transaction.

        Args:
            key: As for `set`.
            value: As for `set`.
            expire: Seconds from now until the entry expires; None means never.
            read: Treat *value* as an open binary file and copy its content.
            tag: Label for `evict`.
            retry: Wait for the write lock without limit.

        Returns:
            Whether the value was stored.

        Raises:
            Timeout: The write lock was not free in time and *retry* is false.

        Example:
            >>> cache.add('once', 1), cache.add('once', 2), cache['once']
            (True, False, 1)
        """
        now = self._now()
        encoded = self._encode_key(key)
        expire_time = None if expire is None else expiry(expire, now)
        payload = self._pack(value, read, encoded, key)
        return self._engine.put(
            encoded, payload, expire_time, tag, now, self._wait(retry), Only.ABSENT
        )

    def touch(self, key: Any, expire: float | None = None, retry: bool = False) -> bool:
        """Give a live entry a new expiry, without reading or rewriting its value.

        Cost: one write transaction.

        Args:
            key: Key to look up.
            expire: Seconds from now until the entry expires; None means never.
            retry: Wait for the write lock without limit.

        Returns:
            True if a live entry was found; an expired one is not revived.

        Raises:
            Timeout: The write lock was not free in time and *retry* is false.

        Example:
            >>> cache.set('k', 1, expire=10), cache.touch('k', expire=60)
            (True, True)
        """
        now = self._now()
        expire_time = None if expire is None else expiry(expire, now)
        return self._engine.touch(self._encode_key(key), expire_time, now, self._wait(retry))

    # -- Reading: `get`, `[]` and `in` are in `Front` --

    def read(self, key: Any, retry: bool = False) -> Any:
        """Return the value of *key* as an open binary file, if it is kept in a file as bytes.

        A value that was stored with `read=True` always is. Others are returned as they are.

        Cost: one point read and the opening of a file; never a lock.

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
        value = self.get(key, ENOVAL, read=True, retry=retry)
        if value is ENOVAL:
            raise KeyError(key)
        return value

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
        """Replace the value of *key* by what *func* makes of it, and return that.

        Nobody gets between: if another one writes meanwhile, *func* is called again, with the newer
        value. A live entry keeps its expiry, grace and tag. Waits for the write lock without limit.

        Cost: a point read, the call, and one write transaction; again for each write of others in
        between. No lock is held while *func* runs.

        Args:
            key: Key to look up.
            func: Makes the new value of the old one. It may run several times; if it raises,
                nothing is changed. It must not write *key* itself, or it is called for ever.
            default: What *func* is given if there is no live entry.
            expire: Seconds until an entry that is made by this call expires.
            tag: Tag of an entry that is made by this call.

        Raises:
            TooLargeError: The new value alone is larger than the size limit.
            TypeError: *func* is a coroutine function: nobody would await it.

        Example:
            >>> cache.update('names', lambda names: [*names, 'ada'], default=[])
            ['ada']
            >>> cache.update('names', lambda names: [*names, 'alan'], default=[])
            ['ada', 'alan']
        """
        encoded = self._encode_key(key)
        while True:
            now = self._now()
            row = self._engine.get(encoded, now)
            old = ENOVAL if row is None else self._load(encoded, row)
            value = func(default if old is ENOVAL else old)
            if type(value) is CoroutineType:
                value.close()
                raise TypeError(f"func must be called, not awaited: got {func!r}")
            now = self._now()
            expire_time, label = expiry(expire, now), tag
            only: Only | int = Only.ABSENT
            payload = self._pack(value, False, encoded, key)
            if row is not None and old is not ENOVAL:
                expire_time, label, only = row[EXPIRE_TIME], row[TAG], row[VERSION]
                payload = in_place_of(row, payload)
            if self._engine.is_too_large(payload):
                self._files.discard(payload[2])
                raise self._too_large(key)
            if self._engine.put(encoded, payload, expire_time, label, now, None, only):
                return value
            if row is not None and old is ENOVAL:
                self._drop_unreadable(encoded)

    def _drop_unreadable(self, key: EncodedKey) -> None:
        """Remove a live entry whose value cannot be loaded: to everybody it is missing."""
        with self._engine.transaction(None):
            now = self._now()
            row = self._engine.get(key, now)
            if row is not None and self._load(key, row) is ENOVAL:
                self._engine.delete(key, now, None)

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
        """Add *delta* to a number and return the sum, as one step that nobody gets between.

        A live entry keeps its expiry, grace, tag and place in insertion order.

        Cost: one write transaction.

        Args:
            key: Key of the number.
            delta: What to add.
            default: Where a missing or expired entry starts; None if that is an error.
            retry: Wait for the write lock without limit.
            expire: Seconds until an entry that is made by this call expires.
            tag: Tag of an entry that is made by this call.

        Raises:
            KeyError: There is no live entry and *default* is None.
            TypeError: The entry does not hold a number.
            OverflowError: The sum does not fit 64 bits; the old value is kept.
            Timeout: The write lock was not free in time and *retry* is false.

        Example:
            >>> cache.incr('visits'), cache.incr('visits', 9)
            (1, 10)
        """
        now = self._now()
        wait = None if retry else self._timeout
        encoded = self._encode_key(key)
        expire_time = None if expire is None else expiry(expire, now)
        if self._has_own_numbers:
            return self._incr_through_store(key, delta, default, expire, tag, wait)
        try:
            return self._engine.incr(encoded, delta, default, expire_time, tag, now, wait)
        except KeyError as exc:
            if exc.args == (encoded,):
                raise KeyError(key) from None
            raise

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

    def _incr_through_store(
        self,
        key: Any,
        delta: float,
        default: float | None,
        expire: float | None,
        tag: Tag,
        wait: float | None,
    ) -> Any:
        """Add to a number that a user's disk stores in a form of its own."""
        encoded = self._encode_key(key)
        with self._engine.transaction(wait):
            value = self.get(key, ENOVAL)
            row = self._engine.get(encoded, self._now())
            if value is ENOVAL or row is None:
                if default is None:
                    raise KeyError(key)
                value = default + delta
                self.set(key, value, expire, tag=tag)
            else:
                value = value + delta
                payload = in_place_of(row, self._pack(value, False, encoded, key))
                only, now = row[VERSION], self._now()
                self._engine.put(encoded, payload, row[EXPIRE_TIME], row[TAG], now, wait, only)
        return value

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
        """Remove the entry of *key* and return its value, as one step.

        Cost: one write transaction, in which the value is decoded.

        Args:
            key: Key to look up.
            default: What to return if there is no live entry.
            expire_time: Also return when the entry expires.
            tag: Also return the tag.
            retry: Wait for the write lock without limit.

        Returns:
            As `get`.

        Raises:
            Timeout: The write lock was not free in time and *retry* is false.

        Example:
            >>> cache.set('k', 1)
            True
            >>> cache.pop('k'), cache.pop('k', 'gone')
            (1, 'gone')
        """
        encoded = self._encode_key(key)

        def load(row: Row) -> tuple[Any, Row]:
            return self._load_held(encoded, row), row

        try:
            found = self._engine.pop(encoded, self._now(), self._wait(retry), load)
        except (UntrustedPickleError, CodecError):
            if self._strict:
                raise
            found = None
        value, row = found if found is not None else (ENOVAL, None)
        if value is ENOVAL:
            value, row = default, None
        return shaped(value, row, expire_time, tag)

    def delete(self, key: Any, retry: bool = False) -> bool:
        """Remove the entry of *key*; tell whether there was a live one.

        Cost: one write transaction.

        Raises:
            Timeout: The write lock was not free in time and *retry* is false.

        Example:
            >>> cache.delete('missing')
            False
        """
        wait = None if retry else self._timeout
        return self._engine.delete(self._encode_key(key), self._now(), wait)

    def __delitem__(self, key: Any, retry: bool = True) -> bool:
        """Remove the entry of *key*, waiting for the write lock.

        Raises:
            KeyError: It has no live entry.
        """
        if not self.delete(key, retry):
            raise KeyError(key)
        return True


def shaped(value: Any, row: Row | None, expire_time: bool, tag: bool) -> Any:
    """Return *value* alone, or with what was asked for besides."""
    if not expire_time and not tag:
        return value
    result: tuple[Any, ...] = (value,)
    if expire_time:
        result += (None if row is None else row[EXPIRE_TIME],)
    if tag:
        result += (None if row is None else row[TAG],)
    return result
