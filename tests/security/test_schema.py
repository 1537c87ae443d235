"""A schema that is not exactly ours is refused before any statement of a cache runs."""

from __future__ import annotations

import sqlite3
import warnings
from contextlib import closing

import apsw
import pytest

from diskcache import (
    Cache,
    CacheCorruptError,
    CacheCorruptionWarning,
    CacheFormatError,
    FanoutCache,
)
from diskcache.engines.sqlite import hardening as connections
from diskcache.engines.sqlite import statements as statements_of_ours
from tests.security import hostile, paths

WORK = "(WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 1000000000)"
ENDLESS = f"{WORK} SELECT count(*) FROM c)"
"""Hours of work, if anybody runs it."""

ATTACKS = {
    "view beside": ["CREATE VIEW more AS SELECT * FROM Cache"],
    "view instead": [
        "ALTER TABLE Cache RENAME TO Real",
        f"CREATE VIEW Cache AS SELECT *, {ENDLESS} AS slow FROM Real",
    ],
    "view under the text of the table": [
        "ALTER TABLE Cache RENAME TO Real",
        "CREATE VIEW Cache AS SELECT * FROM Real",
        "UPDATE sqlite_schema SET name = 'cache' WHERE name = 'Cache'",
    ],
    "trigger on insert": [f"CREATE TRIGGER t AFTER INSERT ON Cache BEGIN SELECT {ENDLESS}; END"],
    "trigger on delete": [
        "CREATE TRIGGER t AFTER DELETE ON Cache BEGIN INSERT INTO Ghost VALUES (1, 666); END"
    ],
    "trigger on settings": [
        "CREATE TRIGGER t AFTER UPDATE ON Settings BEGIN DELETE FROM Cache; END"
    ],
    "generated column": ["ALTER TABLE Cache ADD COLUMN more AS (hex(zeroblob(50000000))) VIRTUAL"],
    "column with a default": ["ALTER TABLE Cache ADD COLUMN more DEFAULT 5"],
    "index beside": ["CREATE INDEX more ON Cache (value)"],
    "index on an expression": ["CREATE INDEX more ON Cache (hex(zeroblob(10000000)))"],
    "index instead": ["DROP INDEX Cache_rank", "CREATE INDEX Cache_rank ON Cache (hex(rank))"],
    "index missing": ["DROP INDEX Cache_expire_time"],
    "table beside": ["CREATE TABLE more (a)"],
    "table missing": ["DROP TABLE Ghost"],
    "check constraint": [
        "UPDATE sqlite_schema SET sql = replace(sql, 'n INTE', 'n CHECK (n > 5) INTE')"
    ],
    "virtual table": ["CREATE VIRTUAL TABLE more USING fts5(a)"],
    "virtual table that is only claimed": [
        "INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING x')"
    ],
    "other text": ["UPDATE sqlite_schema SET sql = sql || ' ' WHERE name = 'Cache'"],
    "text that is no text": [
        "UPDATE sqlite_schema SET sql = CAST(x'ff' AS TEXT) WHERE name = 'Cache_rank'"
    ],
    "newer format": ["PRAGMA user_version = 7"],
    "older format": ["PRAGMA user_version = 5"],
    "many tables": [f"CREATE TABLE more{number} (a)" for number in range(200)],
}


@pytest.fixture
def directory(tmp_path):
    with Cache(tmp_path / "cache") as cache:
        cache["k"] = "v"
        cache.set("expired", 1, expire=-1)
    return tmp_path / "cache"


@pytest.fixture
def statements(monkeypatch):
    """Every statement that a connection of the library ran, as SQLite saw it."""
    seen = []
    harden = connections.harden

    def watched(connection):
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: seen.append(event["sql"]))
        harden(connection)

    monkeypatch.setattr(connections, "harden", watched)
    return seen


@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("options", [{"strict": True}, {"readonly": True}], ids=["write", "read"])
def test_strange_schema_is_refused_and_nothing_of_it_runs(directory, statements, name, options):
    try:
        hostile.execute(directory, *ATTACKS[name])
    except sqlite3.OperationalError as exc:
        pytest.skip(f"SQLite of this Python cannot make it: {exc}")
    before = hostile.snapshot(directory)
    with pytest.raises((CacheFormatError, CacheCorruptError)):
        Cache(directory, **options)

    assert hostile.snapshot(directory) == before
    asked = [text.strip() for text in statements]
    assert set(asked) <= {
        "PRAGMA user_version",
        "SELECT name, sql FROM sqlite_schema LIMIT 100",
        statements_of_ours.SCHEMA_AS_BYTES,
        "BEGIN",
    }


@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", ATTACKS)
def test_strange_schema_is_refused_or_set_aside_and_nothing_of_it_runs(directory, name):
    """One that SQLite itself cannot read is as good as damaged."""
    try:
        hostile.execute(directory, *ATTACKS[name])
    except sqlite3.OperationalError as exc:
        pytest.skip(f"SQLite of this Python cannot make it: {exc}")
    before = (directory / "cache.db").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheCorruptionWarning)
        try:
            Cache(directory).close()
        except CacheFormatError:
            kept = directory / "cache.db"
        else:
            (kept,) = directory.glob("damaged-*/cache.db")

    assert kept.read_bytes() == before


@pytest.mark.timeout(90)
def test_strange_schema_of_a_shard_is_refused(tmp_path):
    FanoutCache(tmp_path / "cache", shards=2).close()
    hostile.execute(tmp_path / "cache" / "001", *ATTACKS["trigger on insert"])
    with pytest.raises(CacheFormatError):
        FanoutCache(tmp_path / "cache")


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "name", ["trigger on insert", "trigger on delete", "view beside", "generated column"]
)
def test_schema_that_changes_under_an_open_cache_runs_nothing(directory, name):
    """What a connection has already verified is hardened all the same."""
    with Cache(directory) as cache:
        cache.get("k")
        with closing(connect_as_attacker(directory)) as attacker:
            for statement in ATTACKS[name]:
                attacker.execute(statement)
        for case in ("set", "delete", "expire", "clear"):
            hostile.attempt(lambda case=case: paths.CHANGING[case](cache))
        link = cache._engine._link()

        assert link.execute("SELECT count(*) FROM Ghost").get == 0


def connect_as_attacker(directory):
    """Open the database as another process would: in this one, `sqlite3` would drop the locks."""
    return apsw.Connection(str(directory / "cache.db"))


@pytest.mark.timeout(90)
def test_hardened_connection_runs_no_view_trigger_or_module(directory):
    with closing(connect_as_attacker(directory)) as attacker:
        attacker.execute("CREATE VIEW v AS SELECT 1")
        attacker.execute("CREATE TRIGGER t AFTER INSERT ON Ghost BEGIN DELETE FROM Cache; END")
    with closing(connections.connect(str(directory))) as connection:
        with pytest.raises(apsw.SQLError, match="prohibited"):
            connection.execute("SELECT * FROM v").fetchall()
        connection.execute("INSERT INTO Ghost VALUES (1, 1)")
        assert connection.execute("SELECT count(*) FROM Cache").get == 1
        for statement in (
            "CREATE VIRTUAL TABLE f USING fts5(a)",
            "ATTACH '/tmp/other.db' AS other",
            "UPDATE sqlite_schema SET sql = ''",
            "SELECT load_extension('x')",
        ):
            with pytest.raises(apsw.Error):
                connection.execute(statement).fetchall()


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0", b"x" * 5000, b"\0" * 4096])
def test_database_that_is_none_is_refused_or_set_aside(directory, content):
    (directory / "cache.db").write_bytes(content)
    with pytest.raises((CacheFormatError, CacheCorruptError)):
        Cache(directory, strict=True)
    assert (directory / "cache.db").read_bytes() == content

    with pytest.warns(CacheCorruptionWarning):
        Cache(directory).close()
    (kept,) = directory.glob("damaged-*/cache.db")

    assert kept.read_bytes() == content
