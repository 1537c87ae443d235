"""Rows as a stranger may have written them, read without harm.

SQLite keeps anything in any column, and text that is not UTF-8. What the steps and codecs rely on
is checked here: a row that does not hold what it must becomes one of the mode `DAMAGED`, which no
codec decodes, so it is a miss for a cache and an error for a structure that may lose nothing.

The common row, a value and neither file nor expiry, need not pass through here: a wrong mode or
value of it is refused by whoever decodes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.entry import DAMAGED, GRACE, DbValue, EncodedKey, Row

_NATIVE: Final = frozenset({int, float, str, bytes})
_TAGS: Final = _NATIVE | {type(None)}


MOST: Final = 2**62
"""No count and no number of bytes is as large: one that is was not written by this library."""


class Torn(bytes):
    """The bytes of a text that is not UTF-8."""

    __slots__ = ()


UNREADABLE: Final[EncodedKey] = (Torn(b""), 0)
"""Stands for a key that cannot be one; no codec decodes it."""


def fetch(execute: Callable[..., Any], statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
    """Return the rows of a SELECT; text that is not UTF-8 comes as `Torn`."""
    cursor = execute(statement, values)
    try:
        rows: list[Any] = cursor.fetchall()
    except UnicodeDecodeError:
        # An unfinished statement would keep an old state in sight, and writers out.
        cursor.close(True)
        rows = [_decoded(row) for row in execute(_as_bytes(statement), values)]
    return rows


def first(execute: Callable[..., Any], statement: str, values: tuple[Any, ...] = ()) -> Any:
    """Return what `.get` of a cursor does: the first row, or its only column, or None."""
    cursor = execute(statement, values)
    try:
        return cursor.get
    except UnicodeDecodeError:
        cursor.close(True)
        rows = execute(_as_bytes(statement), values).fetchall()
        row = _decoded(rows[0])
        return row if len(row) > 1 else row[0]


def placeholder(value: object) -> str:
    """Return what stands in a statement for a value that `fetch` or `first` returned."""
    return "CAST(? AS TEXT)" if type(value) is Torn else "?"


def abandon(link: Link) -> None:
    """Give up the cursors that a connection keeps: text of one of them could not be decoded."""
    for execute in (link.run, link.look_up):
        execute.__self__.close(True)  # type: ignore[attr-defined] # a method of the cursor
    link.renew_cursors()


@cache
def _as_bytes(statement: str) -> str:
    """Return the statement with text as bytes, and whether it was text behind all columns."""
    columns, _, rest = statement.removeprefix("SELECT ").partition(" FROM ")
    names = columns.split(", ")
    read = [f"CASE typeof({n}) WHEN 'text' THEN CAST({n} AS BLOB) ELSE {n} END" for n in names]
    return f"SELECT {', '.join([*read, *(f'typeof({n})' for n in names)])} FROM {rest}"


def _decoded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    half = len(row) // 2
    pairs = zip(row[:half], row[half:], strict=True)
    return tuple(_text(value) if kind == "text" else value for value, kind in pairs)


def _text(data: bytes) -> str | Torn:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Torn(data)


def sound(row: Any, *, has_value: bool = True) -> Row:
    """Return the row if its columns hold what they must, else one that cannot be decoded.

    Args:
        row: Columns as in `Row`.
        has_value: Whether the value was asked for.
    """
    mode, value, file, _, _, expire_time, tag, _, ident = row
    if (
        type(mode) is int
        and (expire_time is None or type(expire_time) is float)
        and type(tag) in _TAGS
        and (_is_inline(value, has_value) if file is None else _is_file(value, *row[2:5]))
    ):
        return row if mode < GRACE else (mode & ~-GRACE, *row[1:])
    return DAMAGED, None, None, 0, None, None, None, 0, ident


def _is_inline(value: object, has_value: bool) -> bool:
    return type(value) in _NATIVE if has_value else value is None


def _is_file(value: object, file: object, size: object, checksum: object) -> bool:
    return value is None and type(file) is str and is_measured(size, checksum)


def is_measured(size: object, checksum: object) -> bool:
    """Tell whether these can be the length and the checksum of a value file."""
    is_known = checksum is None or type(checksum) is int
    return is_known and type(size) is int and size >= 0


def sound_key(key: tuple[Any, ...]) -> EncodedKey:
    """Return the key if its columns hold what they must, else `UNREADABLE`."""
    value, raw = key
    if type(raw) is int and 0 <= raw <= 1 and type(value) in _NATIVE:
        return value, raw
    return UNREADABLE


def entry(found: tuple[Any, ...]) -> tuple[EncodedKey, Row]:
    """Return key and row of what a statement found that selects both; damaged if one of them is."""
    key, row = sound_key(found[:2]), sound(found[2:])
    if key is UNREADABLE:
        row = (DAMAGED, None, None, 0, None, row[5], None, 0, row[8])
    return key, row


def whole(size: object) -> int:
    """Return the size of a value file; 0 where the row holds no number."""
    return size if type(size) is int else 0


def tally(value: object) -> int:
    """Return a stored count; 0 where the row holds none that can be."""
    return value if type(value) is int and 0 <= value < MOST else 0


def settings_of(link: Link, statement: str, kind: str) -> dict[str, DbValue]:
    """Return the rows of the table Settings that a statement selects, but for those of no use."""
    rows = fetch(link.execute, statement, (kind,))
    return {name: value for name, value in rows if type(name) is str}


def get_all(link: Link, keys: Sequence[EncodedKey], now: float) -> list[Row | None]:
    """Read many rows in one transaction, so that they are of one moment."""
    begun = not link.con.in_transaction
    try:
        if begun:
            link.execute("BEGIN")
        found = [first(link.execute, sql.GET, (*key, now)) for key in keys]
        return [None if row is None else sound(row) for row in found]
    finally:
        if begun and link.con.in_transaction:
            link.execute("COMMIT")
