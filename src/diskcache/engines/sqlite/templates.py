"""Policies written as SQL templates, in the form of version 5: what they may say, and do.

The statements are a program's own, so they are tried before the policy is used: an error in one is
an error of whoever opens the cache, not of a later `set`. They may read everything, but change
only what neither totals, files nor values in memory depend on: `CHANGED`. The schema of a
directory is closed to strangers (see `schema`), so all that *init* may make is an index on columns
of the table; what stands there afterwards is this library's own text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import apsw

from diskcache.engines.sqlite import schema
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.entry import EncodedKey
from diskcache.errors import SettingError
from diskcache.policy import Policy

FIELDS: Final = "rowid, file, size, key, raw, mode, rank, store_time"
"""What stands for `{fields}`: all that is asked about a victim."""
COLUMNS: Final = FIELDS.count(",") + 1
CHANGED: Final = ("store_time", "access_time", "access_count")
"""Columns that a template may assign to."""

_INIT: Final = re.compile(
    r"\s*CREATE\s+INDEX\s+(?P<lenient>IF\s+NOT\s+EXISTS\s+)?(?P<name>\w+)\s+ON\s+Cache\s*"
    r"\((?P<columns>[\w\s,]+)\)(?:\s*WHERE\s+(?P<only>\w+)\s+IS\s+NOT\s+NULL)?\s*;?\s*",
    re.IGNORECASE | re.ASCII,
)
_READING: Final = frozenset(
    {
        apsw.SQLITE_SELECT,
        apsw.SQLITE_READ,
        apsw.SQLITE_FUNCTION,
        apsw.SQLITE_RECURSIVE,
    }
)


def prepare(link: Link, policy: Policy, lasting: bool) -> str | None:
    """Try the statements of a policy; return the one that is to be run now, with *lasting*.

    Raises:
        SettingError: One of them cannot be run, or would do what it may not.
    """
    template = policy.template
    if template is None:
        return None
    change, cull, init = template["get"], template["cull"], template["init"]
    if change is not None:
        _try(link, policy, "get", _reading_statement(change, 0.0), ("", 0))
    if cull is not None:
        _try(link, policy, "cull", cull.format(fields=FIELDS, now="0.0"), (0,), COLUMNS)
    if init is None:
        return None
    made = _index(policy, init)
    if made is None:
        _try(link, policy, "init", init, ())
        return init if lasting else None
    name, statement, is_lenient = made
    is_there = link.execute(sql.HAS_INDEX, (name,)).get is not None
    if is_there and not is_lenient:
        raise _refused(policy, "init", f"there is an index {name} already: say IF NOT EXISTS")
    return statement if lasting and not is_there else None


def initialize(link: Link, statement: str) -> None:
    """Run what `prepare` returned; an index may have been made by somebody else meanwhile."""
    link.execute(statement.replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS", 1))
    link.has_changes = True


def drop_indexes(link: Link, policy: Policy) -> None:
    """Drop the indexes of policies that the directory no longer follows."""
    init = None if policy.template is None else policy.template["init"]
    made = None if init is None else _index(policy, init)
    kept = None if made is None else made[0]
    for name, text in link.execute(sql.SCHEMA).fetchall():
        if name != kept and schema.is_own_index(name, text):
            link.execute(f"DROP INDEX {name}")
            link.has_changes = True


def read(link: Link, policy: Policy, key: EncodedKey, times: int, now: float) -> None:
    """Have an entry changed as its policy changes one that was read, *times* times."""
    change = None if policy.template is None else policy.template["get"]
    if change is not None:
        link.con.executemany(_reading_statement(change, now), [key] * times)


def victims(link: Link, policy: Policy, now: float, limit: int) -> list[Any]:
    """Return the first rows in the order of a policy."""
    cull = None if policy.template is None else policy.template["cull"]
    if cull is None:
        return []
    statement = cull.format(fields=FIELDS, now=repr(float(now)))
    found: list[Any] = link.execute(statement, (limit,)).fetchall()
    return found


def _reading_statement(change: str, now: float) -> str:
    return f"UPDATE Cache SET {change.format(now=repr(float(now)))} WHERE key = ? AND raw = ?"


def _index(policy: Policy, init: str) -> tuple[str, str, bool] | None:
    """Return name and text of the index that *init* makes, and whether it may be there already.

    Returns:
        None if it makes no index.
    """
    if not init.lstrip().upper().startswith("CREATE"):
        return None
    found = _INIT.fullmatch(init)
    if found is None:
        raise _refused(
            policy,
            "init",
            "it must be CREATE INDEX [IF NOT EXISTS] name ON Cache (columns) [WHERE column IS NOT"
            f" NULL], without expressions: got {init!r}",
        )
    columns = ", ".join(" ".join(each.split()) for each in found["columns"].split(","))
    statement = f"CREATE INDEX {found['name']} ON Cache ({columns})"
    if found["only"]:
        statement += f" WHERE {found['only']} IS NOT NULL"
    if not schema.is_own_index(found["name"], statement):
        raise _refused(
            policy,
            "init",
            f"no index {found['name']} can be made on ({columns}): columns are"
            f" {', '.join(schema.COLUMNS)}, each with or without DESC, and the name must not be one"
            " of this library's",
        )
    return found["name"], statement, bool(found["lenient"])


def _try(
    link: Link,
    policy: Policy,
    part: str,
    statement: str,
    values: tuple[Any, ...],
    columns: int = 0,
) -> None:
    """Have a statement compiled, and not run; it reads if it returns *columns*, else it changes.

    Raises:
        SettingError: It has an error, or would do what it may not.
    """
    cursor, found = link.con.cursor(), list[tuple[str, bool, int]]()

    def seen(_: object, text: str, __: object) -> bool:
        found.append((text.strip(), cursor.is_readonly, len(cursor.get_description())))
        return False

    cursor.exec_trace = seen
    try:
        with _confined(link.con):
            cursor.execute(statement, values)
    except apsw.ExecTraceAbort:
        pass
    except apsw.AuthError:
        raise _refused(
            policy,
            part,
            f"it may read, and assign to {', '.join(CHANGED)} only: got {statement!r}",
        ) from None
    except (apsw.Error, ValueError, TypeError) as exc:
        raise _refused(policy, part, f"{exc}: got {statement!r}") from exc
    finally:
        cursor.close(True)
    if found != [(statement.strip(), bool(columns), columns)]:
        form = "SELECT {fields} FROM …" if columns else "an assignment"
        raise _refused(policy, part, f"it must be one statement, {form}: got {statement!r}")


@contextmanager
def _confined(con: apsw.Connection) -> Iterator[None]:
    """Have SQLite refuse to compile what is no reading and no change of what may change."""

    def judge(action: int, name: str | None, column: str | None, *_: object) -> int:
        is_change = action == apsw.SQLITE_UPDATE and name == "Cache" and column in CHANGED
        return apsw.SQLITE_OK if is_change or action in _READING else apsw.SQLITE_DENY

    con.authorizer = judge
    try:
        yield
    finally:
        con.authorizer = None


def _refused(policy: Policy, part: str, why: str) -> SettingError:
    return SettingError(f"{part} of eviction policy {policy.name!r} cannot be used: {why}")
