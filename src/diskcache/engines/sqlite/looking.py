"""Statements of users: programs of version 5 look into the tables with SQL of their own.

Nothing but reading is let through. Each statement of the text is judged twice, just before it
runs: by its first words, and by SQLite, which knows whether it would write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import apsw

from diskcache.engines.sqlite.connection import Link
from diskcache.errors import StatementError

Values: TypeAlias = Sequence[Any] | Mapping[str, Any]

_BLANK: Final = r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*"
_READING: Final = re.compile(
    rf"{_BLANK}(?:SELECT\b|VALUES\b|WITH\b|;|\Z"
    r"|PRAGMA\s+(?:(?:page_count|page_size|freelist_count|user_version|application_id|encoding"
    r"|auto_vacuum|integrity_check|quick_check|compile_options)"
    rf"|(?:table_info|table_xinfo|index_list|index_info)\s*\(\s*\w+\s*\)){_BLANK};?{_BLANK}\Z)",
    re.IGNORECASE | re.DOTALL,
)


class Found(NamedTuple):
    """What a statement returned."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def select(link: Link, statement: str, values: Values) -> Found:
    """Run a statement that only reads, and fetch all of its rows.

    All at once, because an unfinished read would keep an old state of the database in sight.

    Raises:
        StatementError: It would do something else, or cannot be run.
    """
    columns: tuple[str, ...] = ()

    def judge(cursor: apsw.Cursor, text: str, _: object) -> bool:
        nonlocal columns
        _check(text, cursor)
        columns = tuple(name for name, *_ in cursor.get_description())
        return True

    cursor = link.con.cursor()
    cursor.exec_trace = judge
    try:
        rows = cursor.execute(statement, values).fetchall()
    except (apsw.SQLError, apsw.BindingsError) as exc:
        raise StatementError(
            f"cannot run {statement!r} ({exc}): tables and columns are those of format 6, which"
            " docs/on-disk-format.md lists"
        ) from exc
    finally:
        cursor.close(True)
    return Found(columns, rows)


def _check(statement: str, cursor: apsw.Cursor) -> None:
    """Refuse a statement that does more than read."""
    if not cursor.is_readonly or not _READING.match(statement):
        raise StatementError(
            f"only statements that read may be run here: got {statement.strip()!r}; entries are"
            " written by set, add, incr, set_many, delete and delete_many, several in one step"
            " inside transact, and settings by reset"
        )
