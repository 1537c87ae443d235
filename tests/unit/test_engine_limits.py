"""The size limit holds for writes of many entries, and what they promise is kept."""

from __future__ import annotations

import math

import pytest

from diskcache import Cache
from diskcache.errors import TooLargeError, TransactionError

LIMIT = 2 * 2**20


@pytest.mark.parametrize("way", ["set_many", "transact"])
def test_volume_stays_near_the_limit_however_many_are_stored_at_once(make_cache, way):
    cache = make_cache(size_limit=LIMIT)
    for turn in range(30):
        rows = {f"{turn}-{number}": "x" * 4000 for number in range(100)}
        if way == "set_many":
            cache.set_many(rows)
        else:
            with cache.transact():
                for key, value in rows.items():
                    cache.set(key, value)
        assert cache.volume() <= LIMIT * 1.25

    assert cache.volume() > LIMIT / 2


def test_row_that_cannot_be_stored_takes_its_transaction_with_it(make_cache):
    cache = make_cache()
    with pytest.raises(TransactionError), cache.transact():
        cache.set("a", 1)
        cache._engine._local.link.puts.append((object(), 1, 1, "odd", None, None, 0.0))
        with pytest.raises(TypeError):
            cache.get("a")
    assert list(cache) == []
    assert len(cache) == 0


def test_tag_that_cannot_be_encoded_is_refused_at_once(cache):
    with cache.transact():
        with pytest.raises(UnicodeEncodeError):
            cache.set("k", 1, tag="\ud800")
        cache.set("other", 2)

    assert list(cache) == ["other"]


def test_incr_to_what_is_no_number_keeps_the_old_value(cache):
    cache["x"] = math.inf
    with pytest.raises(OverflowError):
        cache.decr("x", math.inf)

    assert cache["x"] == math.inf


def test_stored_pragmas_reach_the_first_connection(make_cache):
    make_cache(sqlite_synchronous=2, sqlite_cache_size=100).close()
    with make_cache() as again:
        execute = again._engine._link().execute
        assert execute("PRAGMA synchronous").get == 2
        assert execute("PRAGMA cache_size").get == 100


def test_assigned_pragma_reaches_the_connection(cache):
    cache.sqlite_cache_size = 123

    assert cache._engine._link().execute("PRAGMA cache_size").get == 123


def test_journal_mode_goes_there_and_back(directory):
    with Cache(directory, sqlite_journal_mode="delete") as cache:
        assert cache._engine._link().execute("PRAGMA journal_mode").get == "delete"
        cache["a"] = 1
    with Cache(directory, sqlite_journal_mode="wal") as cache:
        assert cache._engine._link().execute("PRAGMA journal_mode").get == "wal"
        assert cache["a"] == 1


@pytest.mark.parametrize("settings", [{"eviction_policy": "none"}, {"cull_limit": 0}])
def test_unlimited_caches_take_the_short_way(make_cache, monkeypatch, settings):
    from diskcache.engines.sqlite import writing

    cache = make_cache(**settings)
    cache["first"] = 0
    cache["second"] = 0
    # It is not time to look at the path, however long it takes.
    cache._engine._link().site.look_at = math.inf
    monkeypatch.setattr(writing, "put", None)
    for number in range(10):
        cache[number] = number


def test_push_of_a_value_over_the_limit_is_refused(make_cache):
    cache = make_cache(size_limit=10_000)
    with pytest.raises(TooLargeError):
        cache.push("x" * 20_000)

    assert len(cache) == 0
