"""Steps on queues and on the ends of the cache, inside a write transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from diskcache.engines.base import SkipEntry
from diskcache.engines.sqlite import reading
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.culling import Culler, forget
from diskcache.engines.sqlite.writing import put
from diskcache.entry import EncodedKey, Payload, Row, Tag, check_tag
from diskcache.errors import QueueFullError, QueueKeyError
from diskcache.keys import QUEUE_END, QUEUE_START, queue_bounds, queue_key, queue_number

T = TypeVar("T")


def push(
    link: Link,
    culler: Culler,
    prefix: str | None,
    side: str,
    pack: Callable[[EncodedKey], Payload] | Payload,
    expire_time: float | None,
    tag: Tag,
    now: float,
) -> Any:
    """Store an entry beyond the end of a queue."""
    statement = sql.QUEUE_LAST if side == "back" else sql.QUEUE_FIRST
    last = reading.first(link.execute, statement, queue_bounds(prefix))
    key = next_key(prefix, side, last)
    encoded = (key, 1)
    check_tag(tag)
    payload = pack if isinstance(pack, tuple) else pack(encoded)
    put(link, culler, encoded, payload, expire_time, tag, now)
    return key


def next_key(prefix: str | None, side: str, last: Any) -> Any:
    """Return the key beyond *last*, the one at the end of a queue, or None.

    Raises:
        QueueKeyError: It does not end in a number.
        QueueFullError: No number is left.
    """
    if last is None:
        return queue_key(prefix, QUEUE_START)
    number: Any = queue_number(prefix, last)
    if number is None:
        raise QueueKeyError(
            f"cannot push to queue {prefix!r}: its last key {last!r} does not end in a number;"
            " choose a prefix that no other key starts with, or remove that key"
        )
    number += 1 if side == "back" else -1
    if not 0 < number < QUEUE_END:
        raise QueueFullError(
            f"cannot push to the {side} of queue {prefix!r}: numbers run from 1 to"
            f" {QUEUE_END - 1}; push to the other side, or empty the queue"
        )
    return queue_key(prefix, number) if prefix is not None else number


def pull(
    link: Link,
    prefix: str | None,
    side: str,
    now: float,
    load: Callable[[EncodedKey, Row], T],
    remove: bool,
) -> tuple[EncodedKey, T] | None:
    """Return the entry at the end of a queue, removing expired ones on the way."""
    statement = sql.PULL_LAST if side == "back" else sql.PULL_FIRST
    return _take(link, statement, queue_bounds(prefix), now, load, remove)


def edge(
    link: Link, last: bool, now: float, load: Callable[[EncodedKey, Row], T], remove: bool
) -> tuple[EncodedKey, T] | None:
    """Return the newest or oldest entry, removing expired ones on the way, but none in grace."""
    statement = sql.EDGE_LAST if last else sql.EDGE_FIRST
    return _take(link, statement, (now,), now, load, remove)


def _take(
    link: Link,
    statement: str,
    bounds: tuple[Any, ...],
    now: float,
    load: Callable[[EncodedKey, Row], T],
    remove: bool,
) -> tuple[EncodedKey, T] | None:
    while (found := reading.first(link.execute, statement, bounds)) is not None:
        key, row = reading.entry(found)
        if row[5] is not None and row[5] < now:
            forget(link, row[8], row[2], row[3], key[0])
            continue
        try:
            result = load(key, row)
        except SkipEntry:
            forget(link, row[8], row[2], row[3], key[0])
            continue
        if remove:
            forget(link, row[8], row[2], row[3], key[0])
        return key, result
    return None


def glance(
    link: Link, statement: str, bounds: tuple[Any, ...], now: float
) -> tuple[EncodedKey, Row] | None:
    """Look at an end without the write lock; None if nothing is there.

    Raises:
        SkipEntry: The entry there has expired: it has to be removed to see the next.
    """
    found = reading.first(link.execute, statement, bounds)
    if found is None:
        return None
    key, row = reading.entry(found)
    if row[5] is not None and row[5] < now:
        raise SkipEntry
    return key, row
