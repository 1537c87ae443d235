"""A database of tuples that answers the statements of the product.

A row is `(rowid, key, value, tag)`; keys and values are native text. What the protocol does not
depend on (times, versions, ranks) is left out, so that equal contents are equal states.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from diskcache.codecs.base import MODE_RAW
from diskcache.engines.sqlite import statements as sql

Row: TypeAlias = tuple[int, str, str, str | None]
Content: TypeAlias = tuple[Row, ...]


class Answer(NamedTuple):
    """What a statement does and returns."""

    content: Content
    found: tuple[tuple[Any, ...], ...] = ()
    changes: int = 0
    rowid: int = 0
    """That of an inserted row."""
    writes: bool = False
    """Whether pages change, so that a commit leaves a trace in the log."""


def value_of(content: Content, key: str) -> str | None:
    """Return the value of a key; None if it has no entry."""
    return next((value for _, name, value, _ in content if name == key), None)


def _get(content: Content, values: tuple[Any, ...]) -> Answer:
    found = [
        (MODE_RAW, value, None, 0, None, None, tag, 0, rowid)
        for rowid, key, value, tag in content
        if key == values[0]
    ]
    return Answer(content, tuple(found))


def _find(content: Content, values: tuple[Any, ...]) -> Answer:
    found = [(rowid, None, None, 0) for rowid, key, _, _ in content if key == values[0]]
    return Answer(content, tuple(found))


def _upsert(content: Content, key: str, value: str, tag: str | None) -> Answer:
    for place, row in enumerate(content):
        if row[1] == key:
            changed = (*content[:place], (row[0], key, value, tag), *content[place + 1 :])
            return Answer(changed, changes=1, writes=True)
    rowid = max((row[0] for row in content), default=0) + 1
    return Answer((*content, (rowid, key, value, tag)), changes=1, rowid=rowid, writes=True)


def _upsert_simple(content: Content, values: tuple[Any, ...]) -> Answer:
    return _upsert(content, values[0], values[4], None)


def _upsert_full(content: Content, values: tuple[Any, ...]) -> Answer:
    return _upsert(content, values[0], values[7], values[5])


def _remove(content: Content, gone: Callable[[Row], bool], *, returns: bool = False) -> Answer:
    kept = tuple(row for row in content if not gone(row))
    changes = len(content) - len(kept)
    found = ((None, 0, None, 0, None, 0),) * changes if returns else ()
    return Answer(kept, found, changes, writes=changes > 0)


def _listed(content: Content, chosen: Callable[[Row], bool]) -> Answer:
    return Answer(content, tuple((row[0], None, 0, row[1], 1) for row in content if chosen(row)))


_STATEMENTS: dict[str, Callable[[Content, tuple[Any, ...]], Answer]] = {
    sql.GET: _get,
    sql.FIND: _find,
    sql.UPSERT_SIMPLE: _upsert_simple,
    sql.UPSERT_SIMPLE_NUMBERED: _upsert_simple,
    sql.UPSERT_NUMBERED: _upsert_full,
    sql.UPSERT: _upsert_full,
    sql.DELETE_SIMPLE: lambda content, values: _remove(content, lambda row: row[1] == values[0]),
    sql.DELETE: lambda content, values: _remove(
        content, lambda row: row[1] == values[0], returns=True
    ),
    sql.DELETE_ROW: lambda content, values: _remove(content, lambda row: row[0] == values[0]),
    sql.ALL: lambda content, values: _listed(content, lambda row: row[0] > values[0]),
    sql.TAGGED: lambda content, values: _listed(
        content, lambda row: row[3] == values[0] and row[0] > values[1]
    ),
    sql.COUNT: lambda content, _: Answer(content, ((len(content),),)),
    sql.FILE_BYTES: lambda content, _: Answer(content, ((0,),)),
    sql.LAST_ROWID: lambda content, _: Answer(content, ((content[-1][0] if content else None,),)),
    sql.BEFORE_BATCH: lambda content, _: Answer(
        content, ((content[-1][0] if content else None, 2**46),)
    ),
    sql.STATE: lambda content, _: Answer(content),
    sql.RANKING: lambda content, _: Answer(content),
    sql.FORGET_RANKING: lambda content, _: Answer(content),
    sql.RECOVERED: lambda content, _: Answer(content, changes=1, writes=True),
}


def run(content: Content, statement: str, values: tuple[Any, ...]) -> Answer:
    """Run one statement; an unknown one is an error of the explorer."""
    return _STATEMENTS[statement](content, tuple(values))
