"""Nothing is ever stale, in any course of events; and what would make it so is found out."""

from __future__ import annotations

import os

import apsw
import pytest

from diskcache import coherence
from diskcache.engines.sqlite import schema
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.control import slot_of
from tests.explorer.mutants import MUTANTS
from tests.explorer.mutation import Edit, edited
from tests.explorer.rows import Content, run
from tests.explorer.scenarios import SAME_SLOT, SCENARIOS

SOAKS = bool(os.environ.get("EXPLORE_ALL"))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("title", SCENARIOS)
def test_every_schedule_of_the_product_keeps_its_promises(title):
    scenario = SCENARIOS[title]
    if scenario.soaks and not SOAKS:
        pytest.skip("takes minutes: set EXPLORE_ALL=1, or run make soak")

    report = scenario.explore()

    print(f"{title}: {report.states:,} states, {report.schedules:,} schedules")
    print(f"{report.places:,} places in {report.runs:,} runs of the product")
    assert report.violation is None, "\n".join([report.violation or "", *report.way])
    assert report.states >= scenario.least


@pytest.mark.parametrize("name", MUTANTS)
def test_an_edit_of_the_protocol_is_found_out(name):
    mutant = MUTANTS[name]

    with edited(*mutant.edits):
        report = SCENARIOS[mutant.scenario].explore()

    print(f"{name}: {report.violation}", *report.way, sep="\n    ")
    assert mutant.problem in (report.violation or "nothing")


def test_an_edit_lasts_as_long_as_its_block():
    within, after = [8], [8]

    with edited(Edit("coherence", "words[slot] |= 1", "words[slot] |= 3")):
        coherence.mark(within, [0])
    coherence.mark(after, [0])

    assert (within, after) == ([11], [9])


def test_an_edit_of_what_is_not_there_is_refused():
    with pytest.raises(AssertionError, match="0 times"), edited(Edit("coherence", "no such", "")):
        pass


def test_the_keys_of_one_slot_share_it():
    assert slot_of("a") == slot_of(SAME_SLOT) != slot_of("b")


STATEMENTS = (
    (sql.UPSERT_SIMPLE, ("a", 1, 5.0, 1, "0")),
    (sql.UPSERT, ("b", 1, 5.0, None, None, "tag", 1, "1", None)),
    (sql.UPSERT_SIMPLE, ("a", 1, 5.0, 1, "2")),
    (sql.UPSERT_SIMPLE_NUMBERED, ("a", 1, 5.0, 1, "3", 2**46)),
    (sql.UPSERT_NUMBERED, ("n", 1, 5.0, None, None, "tag", 1, "4", None, 2**46)),
    (sql.DELETE_SIMPLE, ("n", 1, 5.0)),
    (sql.ALL, (0, 500)),
    (sql.ALL, (1, 500)),
    (sql.TAGGED, ("tag", 0, 500)),
    (sql.COUNT, ()),
    (sql.FILE_BYTES, ()),
    (sql.LAST_ROWID, ()),
    (sql.STATE, ("rank_policy",)),
    (sql.RANKING, ("state",)),
    (sql.FORGET_RANKING, ()),
    (sql.DELETE_SIMPLE, ("b", 1, 5.0)),
    (sql.DELETE_SIMPLE, ("b", 1, 5.0)),
    (sql.DELETE, ("a", 1, 5.0)),
    (sql.DELETE, ("a", 1, 5.0)),
    (sql.LAST_ROWID, ()),
    (sql.UPSERT_SIMPLE, ("c", 1, 5.0, 1, "3")),
    (sql.DELETE_ROW, (1,)),
    (sql.RECOVERED, ()),
)


def test_the_explored_database_answers_as_sqlite_does():
    connection = apsw.Connection(":memory:")
    for statement in schema.TABLES.values():
        connection.execute(statement)
    content: Content = ()

    for statement, values in STATEMENTS:
        before = connection.total_changes()
        connection.set_last_insert_rowid(0)
        found = connection.execute(statement, values).fetchall()
        if statement == sql.DELETE:
            # Places in queues are left out.
            found = [(*row[:3], 0, None, 0) for row in found]
        answer = run(content, statement, values)
        content = answer.content
        assert (statement, list(answer.found)) == (statement, found)
        if not statement.startswith("SELECT"):
            assert (statement, answer.changes) == (statement, connection.total_changes() - before)
        if statement in (sql.UPSERT, sql.UPSERT_SIMPLE):
            assert (statement, answer.rowid) == (statement, connection.last_insert_rowid())
    for key in ("a", "b", "c"):
        real = connection.execute(sql.GET, (key, 1, 5.0)).fetchall()
        modelled = run(content, sql.GET, (key, 1, 5.0)).found
        assert [row[:7] for row in real] == [row[:7] for row in modelled]
    connection.close()
