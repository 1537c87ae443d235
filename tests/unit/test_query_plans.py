"""Every statement of the engine is answered by the index that is meant for it.

A statement that loses its index is still right, and slower by the number of entries: no other test
would notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import apsw
import pytest

from diskcache.engines.sqlite import checking, culling, listing, schema, statements
from diskcache.engines.sqlite.listing import Span
from diskcache.entry import Order

POINT = "SEARCH Cache USING INDEX Cache_key_raw (key=? AND raw=?)"
QUEUE = "SEARCH Cache USING INDEX Cache_key_raw (key>? AND key<?)"
ROW = "SEARCH Cache USING INTEGER PRIMARY KEY (rowid=?)"
ROWS = "SEARCH Cache USING INTEGER PRIMARY KEY (rowid>?)"
ROW_RANGE = "SEARCH Cache USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
IN_ROW_ORDER = "SCAN Cache"
SETTINGS = "SCAN Settings"
NOTHING = ""

PLANS = {
    "GET": POINT,
    "CONTAINS": POINT,
    "FIND": POINT,
    "FIND_NUMBER": POINT,
    "FIND_PLACE": POINT,
    "PLACE": ROW,
    "GRACE": POINT,
    "FIND_VERSION": POINT,
    "UPSERT": NOTHING,
    "UPSERT_SIMPLE": NOTHING,
    "UPSERT_KEEPING": NOTHING,
    "UPSERT_SIMPLE_KEEPING": NOTHING,
    "UPSERT_NUMBERED": NOTHING,
    "UPSERT_SIMPLE_NUMBERED": NOTHING,
    "UPSERT_NUMBERED_KEEPING": NOTHING,
    "UPSERT_SIMPLE_NUMBERED_KEEPING": NOTHING,
    "INSERT_OWN": NOTHING,
    "REPLACE_OWN": ROW,
    "DELETE_OWN": ROW,
    "INSERT": NOTHING,
    "REPLACE": ROW,
    "DELETE": POINT,
    "DELETE_SIMPLE": POINT,
    "DELETE_STALE": POINT,
    "HOLD_OFF": POINT,
    "STALE": POINT,
    "DELETE_ROW": ROW,
    "DELETE_QUEUED": ROW,
    "DISCARD": ROW,
    "TOUCH": POINT,
    "ADD": ROW,
    "ADD_SIMPLE": POINT,
    "QUEUE_LAST": "SEARCH Cache USING COVERING INDEX Cache_key_raw (key>? AND key<?)",
    "QUEUE_FIRST": "SEARCH Cache USING COVERING INDEX Cache_key_raw (key>? AND key<?)",
    "PULL_LAST": QUEUE,
    "PULL_FIRST": QUEUE,
    "EDGE_LAST": IN_ROW_ORDER,
    "EDGE_FIRST": IN_ROW_ORDER,
    "EXPIRED": "SEARCH Cache USING INDEX Cache_expire_time (<expr><?)",
    "FIRST_EXPIRY": "SEARCH Cache USING INDEX Cache_expire_time (<expr><?)",
    "TAGGED": "SEARCH Cache USING INDEX Cache_tag (tag=? AND rowid>?)",
    "UNTAGGED": ROWS,
    "ALL": ROWS,
    "OLDEST": IN_ROW_ORDER,
    "VICTIMS": "SEARCH Cache USING INDEX Cache_rank (rank>?)",
    "RANKS": "SEARCH Cache USING COVERING INDEX Cache_rank (rank>?)",
    "RANK_BATCH": ROW_RANGE,
    "RANK_STORED": ROW_RANGE,
    "RANK_USED": ROW_RANGE,
    "RANK_COUNT": ROW_RANGE,
    "READ_USED": POINT,
    "READ_COUNT": POINT,
    "READ_TIME": POINT,
    "READ_NUMBER": POINT,
    "RANK_ROWS": ROW_RANGE,
    "RANK_ROW": ROW,
    "READ_OWN": POINT,
    "READ_HITS": POINT,
    "SMALL": "SEARCH Cache USING INDEX Cache_rank (rank<?)",
    "MAIN": "SEARCH Cache USING INDEX Cache_rank (rank>? AND rank<?)",
    "IS_GHOST": "SEARCH Ghost USING INTEGER PRIMARY KEY (rowid=?)",
    "MOVE": ROW,
    "MOVE_FROM": ROW,
    "LATER": "SEARCH Cache USING INDEX Cache_rank (rank>? AND rank<?)",
    "INSERT_QUEUED": NOTHING,
    "INSERT_UNKNOWN": (
        "SCAN CONSTANT ROW; SCALAR SUBQUERY 1; SEARCH Ghost USING INTEGER PRIMARY KEY (rowid=?)"
    ),
    "RECALL": "SEARCH Ghost USING INTEGER PRIMARY KEY (rowid=?)",
    "REMEMBER": NOTHING,
    "FORGET_GHOSTS": (
        "SEARCH Ghost USING INTEGER PRIMARY KEY (rowid=?); LIST SUBQUERY 1;"
        " SCAN Ghost USING COVERING INDEX Ghost_n"
    ),
    "FORGET_ALL_GHOSTS": NOTHING,
    "POLICY": "SEARCH Settings USING PRIMARY KEY (key=?)",
    "FORGET_POLICIES": SETTINGS,
    "FORGET_RANKING": SETTINGS,
    "COUNT": "SCAN Cache USING COVERING INDEX Cache_key_raw",
    "FILE_BYTES": "SEARCH Cache USING COVERING INDEX Cache_file (file>?)",
    "LAST_ROWID": "SEARCH Cache",
    "BEFORE_BATCH": "SCAN CONSTANT ROW; SCALAR SUBQUERY 1; SEARCH Cache",
    "NAMES_FILE": "SEARCH Cache USING COVERING INDEX Cache_file (file=?)",
    "FILES_AFTER": "SEARCH Cache USING INDEX Cache_file (file>?)",
    "FILE_COUNT": "SEARCH Cache USING COVERING INDEX Cache_file (file>?)",
    "FORGET_FILE": "SEARCH Cache USING INDEX Cache_file (file=?)",
    "FORGET_STATE": "SEARCH Settings USING PRIMARY KEY (key=?)",
    "SETTINGS": SETTINGS,
    "ALL_SETTINGS": SETTINGS,
    "RANKING": "SEARCH Settings USING PRIMARY KEY (key>? AND key<?)",
    "STATE": "SEARCH Settings USING PRIMARY KEY (key=?)",
    "STORE": NOTHING,
    "RECOVERED": NOTHING,
    "HAS_INDEX": "SCAN sqlite_schema",
    "SCHEMA": "SCAN sqlite_schema",
    "SCHEMA_AS_BYTES": "SCAN sqlite_schema",
}

STATEMENTS = {
    name: text
    for name, text in vars(statements).items()
    if name.isupper()
    and isinstance(text, str)
    and text.split()[0] in {"SELECT", "INSERT", "UPDATE", "DELETE"}
}


@pytest.fixture(scope="module")
def connection() -> Iterator[apsw.Connection]:
    """An empty database with every index there may be."""
    connection = apsw.Connection(":memory:")
    for statement in (*schema.TABLES.values(), *schema.OPTIONAL.values()):
        connection.execute(statement)
    yield connection
    connection.close()


def plan(connection: apsw.Connection, statement: str) -> str:
    """Return the steps of a statement."""
    numbered = re.findall(r"\?\d", statement)
    values = (1,) * (len(set(numbered)) or statement.count("?"))
    steps = connection.execute("EXPLAIN QUERY PLAN " + statement, values)
    return "; ".join(step for *_, step in steps)


def test_every_statement_has_a_plan_here():
    assert sorted(STATEMENTS) == sorted(PLANS)


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_is_answered_by_its_index(connection, name):
    assert plan(connection, STATEMENTS[name]) == PLANS[name]


@pytest.mark.parametrize("text", statements.STORE_TOGETHER.values())
def test_many_rows_are_stored_without_a_search(connection, text):
    steps = plan(connection, text).split("; ")

    assert text.count("(?") == statements.TOGETHER
    assert not any("SEARCH" in step for step in steps)


def test_tags_are_found_in_row_order_without_their_index(connection):
    connection.execute("DROP INDEX Cache_tag")
    try:
        assert plan(connection, statements.TAGGED) == ROWS
    finally:
        connection.execute(schema.OPTIONAL["Cache_tag"])


def test_rows_with_files_are_found_by_the_index_on_files(connection):
    assert "Cache_file" in plan(connection, checking.ROWS_WITH_FILES)


class Recorder:
    """A connection that only notes what it is asked."""

    def __init__(self):
        self.statement = ""

    def execute(self, statement, _values):
        self.statement = statement
        return self

    def fetchall(self):
        return []


def pages(order, **span):
    """Return the statement for a page of entries."""
    first = Span(
        order,
        after=None,
        limit=9,
        reverse=False,
        prefix=None,
        tag=None,
        until=None,
        values=True,
        skip=0,
    )
    recorder = Recorder()
    listing.page(recorder, first._replace(**span))
    return recorder.statement


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({}, IN_ROW_ORDER),
        ({"reverse": True}, IN_ROW_ORDER),
        ({"after": 5}, ROWS),
        ({"after": 5, "until": 9}, ROW_RANGE),
        ({"after": 5, "reverse": True}, "SEARCH Cache USING INTEGER PRIMARY KEY (rowid<?)"),
        ({"tag": "t"}, "SEARCH Cache USING INDEX Cache_tag (tag=?)"),
        ({"after": 5, "tag": "t"}, "SEARCH Cache USING INDEX Cache_tag (tag=? AND rowid>?)"),
    ],
)
def test_page_in_insertion_order_is_read_in_that_order(connection, span, expected):
    assert plan(connection, pages(Order.INSERTION, **span)) == expected


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({}, "SCAN Cache USING INDEX Cache_key_raw"),
        ({"reverse": True}, "SCAN Cache USING INDEX Cache_key_raw"),
        ({"after": ("k", 1)}, "SEARCH Cache USING INDEX Cache_key_raw ((key,raw)>(?,?))"),
        (
            {"after": ("k", 1), "reverse": True},
            "SEARCH Cache USING INDEX Cache_key_raw ((key,raw)<(?,?))",
        ),
        ({"prefix": "k"}, QUEUE),
        ({"prefix": "k", "reverse": True}, QUEUE),
    ],
)
def test_page_in_key_order_is_read_in_that_order(connection, span, expected):
    assert plan(connection, pages(Order.KEY, **span)) == expected


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("values", [False, True])
def test_page_of_a_prefix_goes_on_where_the_last_one_ended(connection, reverse, values):
    span = {"prefix": "k", "after": ("k5", 1), "reverse": reverse, "values": values}

    assert plan(connection, pages(Order.KEY, **span)).startswith(
        "SEARCH Cache USING INDEX Cache_key_raw ("
    )


def test_no_statement_sorts(connection):
    texts = [*STATEMENTS.values(), checking.ROWS_WITH_FILES, checking.UNSOUND]
    texts += [checking.UNKNOWN_KINDS, checking.TEXTS]

    assert [text for text in texts if "TEMP B-TREE" in plan(connection, text)] == []


def test_no_other_module_of_the_engine_asks_for_more():
    """Statements in other modules are those that are tested above, or made by users."""
    assert {
        name
        for module in (checking, culling, listing)
        for name, text in vars(module).items()
        if isinstance(text, str) and text.split(" ")[0] in {"SELECT", "UPDATE", "DELETE"}
    } == {"QUEUED", "ROWS_WITH_FILES", "UNKNOWN_KINDS", "UNSOUND", "TEXTS"}
