"""Private names of version 5: those that go on working, and what the others say."""

from __future__ import annotations

import base64
import copy
import pickle
import re
import sqlite3

import pytest

from diskcache import (
    ENOVAL,
    Averager,
    BoundedSemaphore,
    Cache,
    Deque,
    Disk,
    DiskCacheError,
    FanoutCache,
    Index,
    Lock,
    PrivateNameError,
    RLock,
    StatementError,
)
from diskcache.cache.private import _CONNECTION_GONE, GONE
from diskcache.fanout.foundation import _GONE as FANOUT_GONE
from tests.support.pages import sections

PAGE = sections("docs/migration-from-5.md")["Private names"]


@pytest.fixture
def filled(cache):
    cache["a"] = 1
    cache.set("b", [1, 2], tag="t", expire=60)
    cache["large"] = "x" * 50_000
    return cache


# -- Reading with SQL --------------------------------------------------------------------------


def test_sql_counts_and_lists_what_is_stored(filled):
    assert filled._sql("SELECT COUNT(*) FROM Cache").fetchone() == (3,)
    assert filled._sql("SELECT key FROM Cache ORDER BY key").fetchall() == [
        ("a",), ("b",), ("large",),
    ]  # fmt: skip
    assert list(filled._sql("SELECT key FROM Cache WHERE tag = ?", ("t",))) == [("b",)]
    ((exists,),) = filled._sql("SELECT EXISTS (SELECT 1 FROM Cache WHERE size > 1000)")
    assert exists == 1


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("SELECT value FROM Cache WHERE key = ?", ["a"]),
        ("SELECT value FROM Cache WHERE key = :key", {"key": "a"}),
        ("  /* one */ select value -- of it\n from Cache where key = 'a';  ", ()),
        ("WITH some AS (SELECT * FROM Cache) SELECT value FROM some WHERE key = 'a'", ()),
        ("VALUES (1)", ()),
    ],
)
def test_sql_takes_values_comments_and_every_form_of_query(filled, statement, values):
    assert filled._sql(statement, values).fetchall() == [(1,)]
    assert filled._con.execute(statement, values).fetchone() == (1,)
    assert filled._con.cursor().execute(statement, values).fetchone() == (1,)


@pytest.mark.parametrize(
    "name", ["page_count", "page_size", "integrity_check", "table_info(Cache)"]
)
def test_sql_answers_pragmas_that_only_ask(filled, name):
    assert filled._sql(f"PRAGMA {name}").fetchone()


def test_rows_are_used_as_those_of_a_cursor(filled):
    rows = filled._sql("SELECT key, tag FROM Cache ORDER BY key")

    assert [column[0] for column in rows.description] == ["key", "tag"]
    assert (rows.fetchone(), rows.fetchmany(5), rows.fetchone(), rows.fetchall()) == (
        ("a", None), [("b", "t"), ("large", None)], None, [],
    )  # fmt: skip
    empty = filled._sql("SELECT key FROM Cache WHERE key = 'none'")
    assert [column[0] for column in empty.description] == ["key"]
    again = filled._sql("SELECT key FROM Cache")
    assert next(again) == ("a",)
    again.close()
    assert list(again) == []


def test_fetchmany_takes_no_row_too_many(filled):
    rows = filled._sql("SELECT key FROM Cache ORDER BY key")

    assert [rows.fetchmany(), rows.fetchmany(1), rows.fetchmany(1)] == [
        [("a",)], [("b",)], [("large",)],
    ]  # fmt: skip


def test_sql_inside_a_transaction_sees_what_the_thread_wrote(filled, make_cache):
    other = make_cache()
    with filled.transact():
        filled["new"] = 1

        assert filled._sql("SELECT COUNT(*) FROM Cache").fetchone() == (4,)
        assert other._sql("SELECT COUNT(*) FROM Cache").fetchone() == (3,)
        assert (filled._con.in_transaction, other._con.in_transaction) == (True, False)


def test_sql_keeps_no_old_state_in_sight_and_no_lock(filled, make_cache):
    other = make_cache(timeout=0)
    rows = filled._sql("SELECT key FROM Cache")
    next(rows)
    other["new"] = 1

    assert filled._sql("SELECT COUNT(*) FROM Cache").fetchone() == (4,)


@pytest.mark.parametrize("key", ["a", b"a", 7, (1, "a"), None, 2.5], ids=repr)
def test_sql_finds_a_key_as_the_disk_puts_it(cache, clock, key):
    cache[key] = "value"
    statement = "SELECT store_time, value FROM Cache WHERE key = ? AND raw = ?"

    assert cache._sql(statement, cache._disk.put(key)).fetchall() == [(clock.time(), "value")]


@pytest.mark.parametrize(
    "statement",
    """
    DELETE FROM Cache
    INSERT INTO Cache (key) VALUES (1) RETURNING key
    UPDATE Cache SET value = 1
    WITH some AS (SELECT 1) DELETE FROM Cache
    DROP TABLE Cache
    SELECT 1; DELETE FROM Cache
    SELECT 1; /* x */ DELETE FROM Cache
    VACUUM
    BEGIN
    BEGIN IMMEDIATE
    COMMIT
    SAVEPOINT x
    ATTACH ':memory:' AS x
    EXPLAIN SELECT 1
    PRAGMA journal_mode = delete
    PRAGMA journal_mode(delete)
    PRAGMA wal_checkpoint(TRUNCATE)
    PRAGMA query_only
    PRAGMA journal_mode
    PRAGMA page_count; PRAGMA user_version = 5
    PRAGMA user_version = 5
    """.strip().splitlines(),
)
def test_sql_that_does_more_than_read_is_refused_and_does_nothing(filled, statement):
    with pytest.raises(StatementError, match=r"only statements that read.*transact") as caught:
        filled._sql(statement.strip())

    assert isinstance(caught.value, sqlite3.OperationalError)
    assert isinstance(caught.value, DiskCacheError)
    assert len(filled) == 3
    assert filled._sql("PRAGMA user_version").fetchone() == (6,)
    assert filled._engine._link().con.pragma("journal_mode") == "wal"
    assert not filled._con.in_transaction
    filled["b"] = 2


@pytest.mark.parametrize(
    ("statement", "values"),
    [("SELECT filename FROM Cache", ()), ("nonsense", ()), ("SELECT ?", ()), ("SELECT 1", (1,))],
)
def test_sql_that_cannot_be_run_says_why_and_where_the_columns_are(filled, statement, values):
    with pytest.raises(StatementError, match=r"cannot run .*on-disk-format"):
        filled._sql(statement, values)


def test_sql_of_a_readonly_cache_reads(filled, make_cache):
    with make_cache(readonly=True) as reader:
        assert reader._sql("SELECT COUNT(*) FROM Cache").fetchone() == (3,)


# -- Names -------------------------------------------------------------------------------------


def test_names_that_hold_what_they_held(directory):
    with Cache(directory, timeout=5) as cache, FanoutCache(directory / "f", 2) as fanout:
        assert (cache._directory, cache._timeout) == (str(directory), 5)
        assert cache._disk is cache.disk
        assert [type(shard._disk) for shard in fanout._shards] == [Disk] * 2
        assert len(fanout._shards) == fanout._count == 2
        assert fanout._shards[0]._sql("SELECT COUNT(*) FROM Cache").fetchone() == (0,)
        assert Deque.fromcache(cache)._cache is cache
        assert Index.fromcache(cache)._cache is cache
        cache._timeout = 7
        assert cache.timeout == 7


@pytest.mark.parametrize("name", GONE)
def test_name_that_is_gone_says_what_to_use(cache, name):
    with pytest.raises(AttributeError, match=re.escape(f"use {GONE[name]}")) as caught:
        getattr(cache, name)

    assert isinstance(caught.value, PrivateNameError)
    assert not hasattr(cache, name)


@pytest.mark.parametrize("name", FANOUT_GONE)
def test_name_that_is_gone_from_a_fanout_cache_says_what_to_use(directory, name):
    with FanoutCache(directory, 1) as cache, pytest.raises(PrivateNameError, match="use "):
        getattr(cache, name)


@pytest.mark.parametrize("name", _CONNECTION_GONE)
def test_method_of_the_connection_that_is_gone_says_what_to_use(cache, name):
    with pytest.raises(PrivateNameError, match=re.escape(f"use {_CONNECTION_GONE[name]}")):
        getattr(cache._con, name)


def test_name_that_never_was_is_a_plain_attribute_error(cache):
    for owner in (cache, cache._con):
        with pytest.raises(AttributeError, match="no attribute 'nothing'") as caught:
            owner.nothing  # noqa: B018 - the access is the subject
        assert type(caught.value) is AttributeError


@pytest.mark.parametrize("name", [*GONE, *FANOUT_GONE, *_CONNECTION_GONE])
def test_name_that_is_gone_is_on_the_page(name):
    assert f"`{name}`" in PAGE or f".{name}`" in PAGE


# -- Attributes and states of one's own ---------------------------------------------------------


def test_objects_take_attributes_of_any_name(cache, tmp_path):
    with FanoutCache(tmp_path / "shards", 1) as fanout:
        for thing in (cache, fanout, Deque.fromcache(cache), Index.fromcache(cache)):
            thing.label = "mine"
            thing._transact = "mine too"

            assert (thing.label, thing._transact) == ("mine", "mine too")


def test_states_are_the_tuples_of_version_5(directory):
    with Cache(directory, 5) as cache, FanoutCache(directory / "f", 2, 5) as fanout:
        assert cache.__getstate__() == (str(directory), 5, Disk)
        assert fanout.__getstate__() == (str(directory / "f"), 2, 5, Disk)
        assert Deque.fromcache(cache, maxlen=3).__getstate__() == (str(directory), 3)
        assert Index.fromcache(cache).__getstate__() == str(directory)


class Named(Cache):
    """A subclass with an argument and a state of its own, and settings that it chooses."""

    def __init__(self, directory, timeout=60, disk=Disk, kind=None, **settings):
        settings.setdefault("cull_limit", 0)
        super().__init__(directory, timeout, disk, **settings)
        self.kind = kind

    def __getstate__(self):
        return (*super().__getstate__(), self.kind)


class Narrow(Cache):
    """A subclass that takes nothing but a directory."""

    def __init__(self, directory):
        super().__init__(directory, pickle="never")

    def __getstate__(self):
        return (self.directory,)


class Restored(Cache):
    """A subclass that restores itself."""

    def __getstate__(self):
        return {"where": self.directory}

    def __setstate__(self, state):
        self.__init__(state["where"], 9)


class NarrowFanout(FanoutCache):
    """The same with shards."""

    def __init__(self, directory):
        super().__init__(directory, 3, pickle="never")

    def __getstate__(self):
        return (self.directory,)


class Labelled(Deque):
    """A deque with a state of its own."""

    label = None

    def __getstate__(self):
        return (*super().__getstate__(), self.label)

    def __setstate__(self, state):
        *state, self.label = state
        super().__setstate__(state)


class Lettered(Index):
    """An index with a state of its own."""

    letter = None

    def __getstate__(self):
        return (super().__getstate__(), self.letter)

    def __setstate__(self, state):
        state, self.letter = state
        super().__setstate__(state)


COPIES = [lambda thing: pickle.loads(pickle.dumps(thing)), copy.copy, copy.deepcopy]


@pytest.mark.parametrize("again", COPIES, ids=["pickle", "copy", "deepcopy"])
@pytest.mark.parametrize(
    ("make", "look"),
    [
        (lambda path: Named(path, kind="x"), lambda cache: (cache.kind, cache.cull_limit)),
        (Narrow, lambda cache: cache.info().pickle),
        (lambda path: Restored(path, 9, pickle="never"), lambda c: (c.timeout, c.info().pickle)),
        (NarrowFanout, lambda cache: (cache.info().shards, cache.info().pickle)),
    ],
    ids=["more-arguments", "fewer-arguments", "own-setstate", "fanout"],
)
def test_subclass_of_a_cache_with_a_state_of_its_own_is_copied(directory, again, make, look):
    with make(directory) as cache:
        cache["k"] = 1
        with again(cache) as other:
            assert type(other) is type(cache)
            assert other["k"] == 1
            assert look(other) == look(cache)
            assert other.directory == cache.directory


@pytest.mark.parametrize("again", COPIES, ids=["pickle", "copy", "deepcopy"])
def test_subclass_of_a_deque_or_index_with_a_state_of_its_own_is_copied(directory, again):
    with Labelled("abc", directory=directory / "d", maxlen=3) as deque:
        deque.label = "mine"
        with again(deque) as other:
            assert (list(other), other.maxlen, other.label) == (["a", "b", "c"], 3, "mine")
    with Lettered(directory / "i", a=1) as index:
        index.letter = "mine"
        with again(index) as other:
            assert (dict(other), other.letter) == ({"a": 1}, "mine")


# -- Objects that version 5 pickled --------------------------------------------------------------


class Pickled:
    """Is pickled as version 5 pickled an object: its class, and a state."""

    def __init__(self, kind, state):
        self.reduced = object.__new__, (kind,), state

    def __reduce__(self):
        return self.reduced


def unpickled(kind, state):
    return pickle.loads(pickle.dumps(Pickled(kind, state)))


def test_pickles_of_caches_of_version_5_open_their_directories(directory):
    with Cache(directory / "c", 5) as cache, FanoutCache(directory / "f", 2, 5) as fanout:
        cache["k"] = fanout["k"] = 1
        with (
            unpickled(Cache, (str(directory / "c"), 7, Disk)) as cache,
            unpickled(FanoutCache, (str(directory / "f"), 2, 7, Disk)) as fanout,
        ):
            assert (cache["k"], fanout["k"], cache.timeout, fanout.timeout) == (1, 1, 7, 7)


@pytest.mark.parametrize("kind", [Lock, RLock, BoundedSemaphore, Averager])
def test_pickles_of_recipes_of_version_5_work(cache, kind):
    state = {"_cache": cache, "_key": "k", "_expire": 50, "_tag": "t"}
    if kind is BoundedSemaphore:
        state["_value"] = 2
    with Cache(cache.directory) as here:
        made = unpickled(kind, {**state, "_cache": here})
        if kind is Averager:
            made.add(3)
            assert made.get() == 3
        else:
            assert made.acquire() >= 1
            assert made.locked() is (kind is not BoundedSemaphore)
            made.release()
        made._cache.close()


def test_markers_that_version_5_pickled_are_the_markers():
    data = base64.b64decode(
        "gASVLgAAAAAAAACMDmRpc2tjYWNoZS5jb3JllIwIQ29uc3RhbnSUk5SMBkVOT1ZBTJSFlIWUgZQu"
    )

    assert pickle.loads(data) is ENOVAL
