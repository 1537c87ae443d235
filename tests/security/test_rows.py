"""Rows as no version of the library writes them: swapped, of wrong types, of hostile settings."""

from __future__ import annotations

import logging
import random
import warnings

import pytest

from diskcache import (
    Averager,
    Cache,
    CodecError,
    Deque,
    DiskCacheError,
    FanoutCache,
    Index,
    UntrustedPickleError,
)
from diskcache.keys import QUEUE_START
from tests.security import hostile, paths
from tests.security.fuzzing import problems_of
from tests.security.mutations import make_template


class Thing:
    """A value that must be pickled."""

    def __init__(self, name):
        self.name = name


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def directory(tmp_path):
    Cache(tmp_path / "cache", secret=hostile.SECRET).close()
    return tmp_path / "cache"


def open_(directory, **keywords):
    return Cache(directory, secret=hostile.SECRET, **keywords)


# -- Swaps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100_000], ids=["row", "file"])
def test_signed_values_swapped_between_keys_are_refused(directory, size):
    with open_(directory) as cache:
        cache["a"], cache["b"] = Thing("a" * size), Thing("b" * size)
    hostile.execute(
        directory,
        "UPDATE Cache SET key = 'x' WHERE key = 'a'",
        "UPDATE Cache SET key = 'a' WHERE key = 'b'",
        "UPDATE Cache SET key = 'b' WHERE key = 'x'",
    )
    with open_(directory) as cache:
        assert (cache.get("a"), cache.get("b")) == (None, None)
        assert cache.info().untrusted == 2
    with open_(directory, strict=True) as cache:
        with pytest.raises(UntrustedPickleError) as caught:
            cache.get("a")
        assert caught.value.reason == "bad-tag"


def test_signed_value_of_another_cache_is_refused(directory, tmp_path):
    with open_(directory) as cache, open_(tmp_path / "other") as other:
        cache["a"], other["a"] = Thing("mine"), Thing("yours")
    with hostile.database(tmp_path / "other") as database:
        (value,) = database.execute("SELECT value FROM Cache").fetchone()
    with hostile.database(directory) as database:
        database.execute("UPDATE Cache SET value = ?", (value,))
    with open_(directory) as cache:
        assert cache.get("a") is None
        assert cache.info().untrusted == 1


def test_signed_key_as_a_value_and_value_as_a_key_are_refused(directory):
    with open_(directory) as cache:
        cache[Thing("key")] = 1
        cache["value"] = Thing("value")
    hostile.execute(
        directory,
        "CREATE TEMP TABLE t AS SELECT (SELECT key FROM Cache WHERE raw = 0) AS k,"
        " (SELECT value FROM Cache WHERE raw = 1) AS v",
        "UPDATE Cache SET value = (SELECT k FROM t) WHERE raw = 1",
        "UPDATE Cache SET key = (SELECT v FROM t) WHERE raw = 0",
    )
    with open_(directory) as cache:
        assert list(cache) == ["value"]
        assert cache.get("value") is None


def test_older_value_of_the_same_key_may_be_put_back(directory):
    """What is said not to be stopped is not: the page tells the truth."""
    with open_(directory) as cache:
        cache["a"] = Thing("old")
    with hostile.database(directory) as database:
        (value,) = database.execute("SELECT value FROM Cache").fetchone()
    with open_(directory) as cache:
        cache["a"] = Thing("new")
    with hostile.database(directory) as database:
        database.execute("UPDATE Cache SET value = ?", (value,))
    with open_(directory) as cache:
        assert cache["a"].name == "old"


def test_altered_entries_are_logged_once_a_minute(directory, clock, caplog):
    with open_(directory, clock=clock) as cache:
        cache["a"] = Thing("a")
        key = cache.push(Thing("b"))
    with hostile.database(directory) as database:
        database.execute("UPDATE Cache SET value = CAST(value || x'00' AS BLOB)")
    with open_(directory, clock=clock) as cache:
        for _ in range(5):
            assert cache.get("a") is None
        clock.advance(61)
        with pytest.raises(UntrustedPickleError):
            Deque.fromcache(cache).popleft()
        assert key in cache
    found = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]

    assert found[0] == (
        f"signature check failed for an entry of {str(directory)!r} made with the current key:"
        " the entry was altered or damaged; treated as missing."
    )
    assert len(found) == 2
    assert found[1].endswith("it was kept, and an error raised. (4 more since the last report)")


# -- Wrong types -------------------------------------------------------------------------------

WRONG = {
    "mode": [None, "text", b"blob", 1.5, 2**62, -1, 0, 9, 15, 255],
    "value": [None],
    "file": [b"ab/cd/x", 5, "", "missing", hostile.Text(b"a/\xff")],
    "expire_time": ["never", b"\xff", hostile.Text(b"\xff")],
    "tag": [hostile.Text(b"\xff")],
    "key": [None, hostile.Text(b"\xff")],
    "raw": [None, "1x", b"1", 7, -1, 0.5, 2**40],
}
"""Values that no column may have; the row cannot be read with them."""

ODD = {
    "size": ["big", None, -(2**63), 2**63 - 1, b"1", 0.5],
    "checksum": ["sum", None, -1, 2**62, b"1"],
    "store_time": ["t", None, b"1", float("inf")],
    "access_time": ["t", b"1"],
    "access_count": ["t", None, 2**63 - 1],
    "rank": ["t", b"1", -1.0, float("inf")],
    "version": ["t", None, 2**63 - 1, -5],
    "tag": [2**63 - 1, b"", 1e300],
    "expire_time": [float("inf"), 2**62],
}
"""Values that a row can be read with, or that only what is asked for them depends on."""


def wrong_rows():
    return [(column, value) for column, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("column", "value"), wrong_rows(), ids=repr)
def test_row_of_a_wrong_type_is_a_miss_or_an_error_and_can_be_replaced(directory, column, value):
    row = {"key": QUEUE_START, "value": "v", column: value}
    if column == "file":
        row["value"] = None
    hostile.insert(directory, **row)
    with open_(directory) as cache:
        for name, case in paths.READING.items():
            if name == "memoize":
                continue  # It stores what it does not find.
            found = hostile.attempt(lambda case=case: case(cache))
            if isinstance(found, Exception):
                assert isinstance(found, (DiskCacheError, KeyError)), name
        if column not in ("key", "raw"):
            assert cache.get(QUEUE_START, "missing", expire_time=True, tag=True) == (
                "missing",
                None,
                None,
            )
            assert cache.info().corrupt > 0
        assert list(cache.items()) == []
        assert cache.pop(QUEUE_START, "missing") == "missing"
    with open_(directory) as cache:
        # Another version may know the mode; a row whose file is lost was removed when it was read.
        assert cache.check() != [] or column in ("mode", "file")
        cache[QUEUE_START] = "mine"
        assert cache[QUEUE_START] == "mine"
        assert cache.clear() >= 1
        assert cache.check() == []


@pytest.mark.parametrize(("column", "value"), wrong_rows(), ids=repr)
def test_row_of_a_wrong_type_is_an_error_of_structures_and_stays(directory, column, value):
    row = {"key": QUEUE_START, "value": "v", column: value}
    if column == "file":
        row["value"] = None
    hostile.insert(directory, **row)
    with open_(directory, eviction_policy="none") as cache:
        index, deque = Index.fromcache(cache), Deque.fromcache(cache)
        for read in (lambda: list(index.items()), index.peekitem, index.popitem):
            with pytest.raises((CodecError, UntrustedPickleError)):
                read()
        if column not in ("key", "raw"):
            with pytest.raises((CodecError, UntrustedPickleError)):
                index[QUEUE_START]
            for read in (deque.popleft, deque.peek, lambda: list(deque)):
                with pytest.raises((CodecError, UntrustedPickleError)):
                    read()
        assert len(cache) == 1


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("column", "value"), [(c, v) for c, v in wrong_rows() if c not in ("key", "raw")], ids=repr
)
def test_averager_begins_anew_at_a_row_of_a_wrong_type(directory, column, value):
    row = {"key": "k", "value": None if column == "file" else "v", column: value}
    hostile.insert(directory, **row)
    with open_(directory) as cache:
        Averager(cache, "k").add(2)

        assert Averager(cache, "k").pop() == 2
        assert Averager(cache, "k").pop() is None


def test_delete_of_a_row_with_torn_text_raises_nothing_foreign(directory):
    hostile.insert(directory, key="k", value="v", expire_time=hostile.Text(b"\xff"))
    with open_(directory) as cache:
        cache.delete("k")

        assert "k" not in cache


@pytest.mark.parametrize("in_file", [False, True], ids=["row", "file"])
@pytest.mark.parametrize(
    ("column", "value"), [(c, v) for c, values in ODD.items() for v in values], ids=repr
)
def test_row_of_odd_numbers_raises_nothing_foreign(directory, column, value, in_file):
    with open_(directory, eviction_policy="least-recently-used") as cache:
        cache.set("k", bytes(40_000) if in_file else "v", expire=1e9)
        cache["other"] = bytes(40_000)
    statement = f"UPDATE Cache SET {column} = ? WHERE key = 'k'"
    with hostile.database(directory) as database:
        database.execute(statement, (value,))
    hostile.recount(directory)
    with open_(directory) as cache:
        dice = random.Random(f"{column} {value} {in_file}")
        found = list(problems_of({**paths.READING, **paths.CHANGING}, cache, dice))
    assert found == []
    with open_(directory) as cache:
        cache.check(fix=True)
        assert cache.check() == []


def test_check_with_fix_removes_rows_that_nobody_can_read(directory):
    with open_(directory) as cache:
        cache["good"] = "value"
    for number, (column, value) in enumerate(wrong_rows()):
        hostile.insert(directory, **{"key": f"bad {number}", "value": "v", column: value})
    hostile.execute(directory, "DELETE FROM Cache WHERE typeof(mode) = 'integer' AND mode <> 1")
    with open_(directory) as cache:
        assert cache.check(fix=True) != []
        assert cache.check() == []
        assert list(cache.items()) == [("good", "value")]


@pytest.mark.parametrize("word", range(5, 16))
@pytest.mark.parametrize("value", [0, 1, 2**63, 2**64 - 1], ids=hex)
def test_words_of_the_control_file_may_be_anything(tmp_path, word, value):
    make_template(tmp_path / "cache")
    with (tmp_path / "cache" / "control").open("r+b") as control:
        control.seek(word * 8)
        control.write(value.to_bytes(8, "little"))
    with open_(tmp_path / "cache") as cache:
        assert len(list(cache)) > 0
        assert 0 <= len(cache) < 2**62
        dice = random.Random(f"{word} {value}")
        assert list(problems_of({**paths.READING, **paths.CHANGING}, cache, dice)) == []


def test_count_that_cannot_be_reserves_no_memory(directory):
    with open_(directory) as cache:
        cache.push(1)
    with (directory / "control").open("r+b") as control:
        control.seek(8 * 8)
        control.write((10**13).to_bytes(8, "little"))
    with open_(directory) as cache:
        # `list` reserves what `len` says.
        assert list(Deque.fromcache(cache)) == [1]


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "read",
    [
        lambda cache: cache.get(QUEUE_START),
        lambda cache: cache.get_many([QUEUE_START]),
        lambda cache: cache.pull(),
        lambda cache: cache.push(1, side="front"),
        lambda cache: list(cache.items()),
        lambda cache: cache.peekitem(),
        lambda cache: cache.delete(QUEUE_START),
    ],
)
@pytest.mark.parametrize("column", ["value", "tag", "file"])
def test_text_that_cannot_be_decoded_leaves_no_statement_open(directory, read, column):
    """An unfinished read keeps an old state in sight: writers would wait for ever."""
    columns = {"value": None if column == "file" else "v", column: hostile.Text(b"\xff")}
    hostile.insert(directory, key=QUEUE_START, **columns)
    with open_(directory) as cache, open_(directory) as other:
        cache["before"], errors = 1, []
        try:
            read(cache)
        except DiskCacheError as exc:
            errors.append(exc)  # As a program does that logs it later.
        other["k"] = 1
        cache["k"] = 2
        assert other["k"] == 2


# -- Settings ----------------------------------------------------------------------------------

SETTINGS = {
    "_directory": "/etc",
    "_engine": "x",
    "directory": "/etc",
    "disk": "os.system",
    "get": "x",
    "__class__": "x",
    "close": 1,
    "pickle": "unsafe",
    "secret": b"0" * 32,
    "strict": 0,
    "timeout": 1e9,
    "sqlite_mmap_size": 2**50,
    "sqlite_writable_schema": 1,
    "sqlite_journal_mode": "off",
    "sqlite_synchronous": 99,
    "sqlite_cache_size": 2**62,
    "size_limit": -1,
    "cull_limit": "1; DROP TABLE Cache",
    "eviction_policy": b"least-recently-used",
    "disk_min_file_size": 2**62,
    "disk_pickle_protocol": 99,
    "statistics": "yes",
    "tag_index": 5,
    "x" * 5000: 1,
}


@pytest.mark.parametrize("kind", ["setting", "state", "statistics", "other"])
def test_hostile_settings_are_ignored_with_one_message(directory, caplog, kind):
    expected = public_state(directory)
    with hostile.database(directory) as database:
        database.executemany(
            "INSERT OR REPLACE INTO Settings (key, value, kind) VALUES (?, ?, ?)",
            [(name, value, kind) for name, value in SETTINGS.items() if name != "disk"],
        )
    caplog.clear()
    assert public_state(directory) == expected
    messages = [record.getMessage() for record in caplog.records]

    assert len(messages) == (1 if kind == "setting" else 0)
    assert all(len(message) < 2000 for message in messages)


def public_state(directory):
    """Return what a cache shows of itself, and what its connection is set to."""
    with open_(directory) as cache:
        cache.get("k")
        execute = cache._engine._link().execute
        pragmas = ("mmap_size", "synchronous", "journal_mode", "cache_size", "trusted_schema")
        shown = {name: getattr(cache, name) for name in dir(cache) if not name.startswith("_")}
        return (
            {name: value for name, value in shown.items() if not callable(value)}.keys(),
            {
                name: shown[name]
                for name in ("directory", "timeout", *SETTINGS)
                if name in shown and not callable(shown[name]) and name != "disk"
            },
            [execute(f"PRAGMA {name}").get for name in pragmas],
            cache._options,
        )


def test_floods_of_settings_are_not_read(directory):
    with hostile.database(directory) as database:
        database.executemany(
            "INSERT INTO Settings (key, value, kind) VALUES (?, zeroblob(100000), 'setting')",
            [(f"s{number}",) for number in range(200)],
        )
    with open_(directory) as cache:
        assert cache._engine.stored_settings().keys() >= {"size_limit"}
        assert sum(1 for name in cache._engine.stored_settings() if name.startswith("s0")) == 0


@pytest.mark.parametrize("count", [0, -1, 10**9, "8", b"8", 2.0], ids=repr)
def test_number_of_shards_that_cannot_be_is_refused(tmp_path, count):
    FanoutCache(tmp_path / "fanout", shards=2).close()
    with hostile.database(tmp_path / "fanout" / "000") as database:
        database.execute("UPDATE Settings SET value = ? WHERE key = 'shards'", (count,))
    with pytest.raises((DiskCacheError, ValueError)):
        FanoutCache(tmp_path / "fanout")
