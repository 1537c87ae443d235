"""Pages of entries, in insertion order or key order, without a lock."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from diskcache.engines.sqlite import reading
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.entry import Listed, Order, Tag, check_tag


class Span(NamedTuple):
    """Which entries to list; the fields are the arguments of `Engine.page`."""

    order: Order
    after: Any
    limit: int
    reverse: bool
    prefix: str | None
    tag: Tag
    until: Any
    values: bool
    skip: int


def page(link: Link, span: Span) -> list[Listed]:
    """Return the next page behind a cursor."""
    order, after, limit, reverse, prefix, tag, until, values, skip = span
    if order is Order.KEY:
        conditions, bound = _key_conditions(after, reverse, prefix)
        ordering = "key DESC, raw DESC" if reverse else "key, raw"
    else:
        conditions, bound = _row_conditions(after, reverse, until)
        ordering = "rowid DESC" if reverse else "rowid"
    if tag is not None:
        check_tag(tag)
        conditions.append("tag = ?")
        bound.append(tag)
    where = " WHERE " + " AND ".join(conditions) if conditions else ""
    columns = sql.ROW if values else sql.ROW_WITHOUT_VALUE
    statement = f"SELECT key, raw, {columns} FROM Cache{where} ORDER BY {ordering} LIMIT ? OFFSET ?"
    is_key = order is Order.KEY
    return [
        Listed(
            row[:2] if is_key else row[10],
            reading.sound_key(row[:2]),
            reading.sound(row[2:], has_value=values),
        )
        for row in reading.fetch(link.execute, statement, (*bound, limit, skip))
    ]


def _row_conditions(after: Any, reverse: bool, until: Any) -> tuple[list[str], list[Any]]:
    conditions, values = [], []
    if after is not None:
        conditions.append("rowid < ?" if reverse else "rowid > ?")
        values.append(after)
    if until is not None:
        conditions.append("rowid >= ?" if reverse else "rowid <= ?")
        values.append(until)
    return conditions, values


def _key_conditions(after: Any, reverse: bool, prefix: str | None) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if after is not None:
        place = reading.placeholder(after[0])
        conditions.append(f"(key, raw) {'<' if reverse else '>'} ({place}, ?)")
        values.extend(after)
    if prefix is not None:
        conditions.append("raw = 1 AND typeof(key) = 'text' AND key >= ?")
        values.append(prefix)
        bound = after_prefix(prefix)
        if bound is not None:
            conditions.append("key < ?")
            values.append(bound)
    return conditions, values


def after_prefix(prefix: str) -> str | None:
    """Return the smallest text that is greater than every text starting with *prefix*.

    None if there is none. Text is ordered by code points, as its UTF-8 bytes are.
    """
    for end in range(len(prefix), 0, -1):
        point = ord(prefix[end - 1])
        if point < sys.maxunicode:
            # The code points from D800 to DFFF are halves of others and cannot be stored.
            following = 0xE000 if point == 0xD7FF else point + 1
            return prefix[: end - 1] + chr(following)
    return None
