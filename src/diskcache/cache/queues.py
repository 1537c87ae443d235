"""Methods of `Cache` on queues, and on the two ends of the cache."""

from __future__ import annotations

from typing import Any

from diskcache.cache.entries import EntryMethods, shaped
from diskcache.cache.shapes import Shapes, shaped_as
from diskcache.codecs.sealing import is_signed
from diskcache.engines.base import SkipEntry
from diskcache.entry import EncodedKey, Payload, Row, Tag, expiry
from diskcache.errors import QueueSideError, TooLargeError
from diskcache.sentinels import ENOVAL


class QueueMethods(EntryMethods):
    """Push, pull and peek."""

    def push(
        self,
        value: Any,
        prefix: str | None = None,
        side: str = "back",
        expire: float | None = None,
        read: bool = False,
        tag: Tag = None,
        retry: bool = False,
    ) -> int | str:
        """Store *value* at an end of a queue, under a key that is made for it.

        The queue is every key in its range, whoever made it: without a prefix the integers from 1
        to 10**15 - 2, with one the texts *prefix*, a hyphen and 15 digits. An empty queue starts
        in the middle.

        Cost: one write transaction.

        Args:
            value: As for `set`.
            prefix: Name of the queue.
            side: `'back'` or `'front'`.
            expire: Seconds from now until the entry expires.
            read: Treat *value* as an open binary file.
            tag: Label for `evict`.
            retry: Wait for the write lock without limit.

        Returns:
            The key.

        Raises:
            QueueFullError: No key is left on that side.
            QueueKeyError: A key of another kind lies in the range of the queue.
            TooLargeError: The value alone is larger than `value_limit` or `size_limit`.
            Timeout: The write lock was not free in time and *retry* is false.

        Example:
            >>> cache.push('first')
            500000000000000
            >>> cache.push('job', prefix='jobs')
            'jobs-500000000000000'
        """
        check_queue(prefix, side)
        now = self._now()
        expire_time = expiry(expire, now)
        packed = self._pack_early(value, read)
        if packed is not None:
            self._check_pushed(packed)

        def pack(key: EncodedKey) -> Payload:
            payload = self._pack(value, read, key)
            self._check_pushed(payload)
            return payload

        try:
            return self._engine.push(
                prefix, side, packed or pack, expire_time, tag, now, self._wait(retry)
            )
        except BaseException:
            self._discard(packed)
            raise

    def _check_pushed(self, payload: Payload) -> None:
        """Refuse an encoded value that is too large, and remove its file.

        Raises:
            TooLargeError: It is larger than `value_limit` or `size_limit`.
        """
        if self._engine.is_too_large(payload):
            self._discard(payload)
            raise TooLargeError(
                f"the value is larger than {self._largest()}, and was not pushed: raise the limit,"
                " or push it in parts"
            )

    def _pack_early(self, value: Any, read: bool) -> Payload | None:
        """Encode a value before its key is known; None if the key is needed, to sign it."""
        if self._has_own_store:
            return None
        packed = self._pack(value, read, ("", 1))
        if not is_signed(packed[0]):
            return packed
        self._discard(packed)
        return None

    def _discard(self, payload: Payload | None) -> None:
        if payload is not None:
            self._files.discard(payload[2])

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
        """Remove the entry at an end of a queue and return its key and value, as one step.

        Of concurrent callers each gets another entry. Expired entries are removed on the way.

        Cost: one write transaction, in which the value is decoded.

        Args:
            prefix: Name of the queue; None for the one with integer keys.
            default: What to return if the queue is empty.
            side: `'front'` or `'back'`.
            expire_time: Also return when the entry expires.
            tag: Also return the tag.
            retry: Wait for the write lock without limit.

        Returns:
            `(key, value)`, or a tuple of that pair and what was asked for besides.

        Raises:
            UntrustedPickleError: The entry may not be loaded; it stays.
            CodecError: The entry cannot be decoded here; it stays.
            Timeout: The write lock was not free in time and *retry* is false.

        Example:
            >>> _ = cache.push('first')
            >>> cache.pull()
            (500000000000000, 'first')
        """
        return self._take(prefix, default, side, expire_time, tag, retry, remove=True)

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
        """Return key and value of the entry at an end of a queue, without removing it.

        Expired entries are removed on the way.

        Cost: one read; a write transaction only if an expired entry is in the way.

        Args:
            prefix: Name of the queue; None for the one with integer keys.
            default: What to return if the queue is empty.
            side: `'front'` or `'back'`.
            expire_time: Also return when the entry expires.
            tag: Also return the tag.
            retry: Wait for the write lock without limit.

        Returns:
            As `pull`.

        Example:
            >>> _ = cache.push('first')
            >>> cache.peek()
            (500000000000000, 'first')
        """
        return self._take(prefix, default, side, expire_time, tag, retry, remove=False)

    def _take(
        self,
        prefix: str | None,
        default: Any,
        side: str,
        expire_time: bool,
        tag: bool,
        retry: bool,
        *,
        remove: bool,
    ) -> Any:
        check_queue(prefix, side)
        found = self._engine.pull(
            prefix, side, self._now(), self._wait(retry), self._load_queued, remove=remove
        )
        if found is None:
            return shaped(default, None, expire_time, tag)
        key, (value, row) = found
        return shaped((key[0], value), row, expire_time, tag)

    def _load_queued(self, key: EncodedKey, row: Row) -> tuple[Any, Row]:
        value = self._load_held(key, row)
        if value is ENOVAL:
            raise SkipEntry
        return value, row

    @shaped_as(Shapes.peekitem)
    def peekitem(
        self,
        last: bool = True,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return key and value of the last or first entry in insertion order.

        Expired entries are removed on the way.

        Cost: one read; a write transaction only if an expired entry is in the way.

        Args:
            last: The last entry, else the first.
            expire_time: Also return when the entry expires.
            tag: Also return the tag.
            retry: Wait for the write lock without limit.

        Raises:
            KeyError: The cache is empty.

        Example:
            >>> cache['a'] = 1
            >>> cache['b'] = 2
            >>> cache.peekitem(), cache.peekitem(last=False)
            (('b', 2), ('a', 1))
        """
        found = self._engine.edge(
            last, self._now(), self._wait(retry), self._load_queued, remove=False
        )
        if found is None:
            raise KeyError("dictionary is empty")
        encoded, (value, row) = found
        return shaped((self._decode_key(encoded), value), row, expire_time, tag)


def check_queue(prefix: object, side: object) -> None:
    """Refuse arguments of queue methods that cannot be.

    Raises:
        TypeError: The prefix is neither text nor None.
        KeyError: The side is neither `'front'` nor `'back'`.
    """
    if prefix is not None and not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str or None: got {prefix!r}")
    if side not in ("front", "back"):
        raise QueueSideError(f"side must be 'front' or 'back': got {side!r}")
