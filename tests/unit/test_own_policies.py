"""Policies of a program's own: SQL templates in the form of version 5, and functions that fail."""

from __future__ import annotations

import logging

import pytest

from diskcache import (
    EVICTION_POLICY,
    Cache,
    CacheFormatError,
    FanoutCache,
    SettingError,
    register_policy,
    unregister_policy,
)
from diskcache.engines.sqlite import schema
from diskcache.errors import UnknownPolicyError

OLDEST = "SELECT {fields} FROM Cache ORDER BY access_time LIMIT ?"
INDEX = "CREATE INDEX IF NOT EXISTS Cache_access ON Cache (access_time)"


@pytest.fixture
def template(monkeypatch):
    """Define policies by templates for one test."""

    def define(name="own", init=None, get=None, cull=OLDEST):
        monkeypatch.setitem(EVICTION_POLICY, name, {"init": init, "get": get, "cull": cull})
        return name

    return define


@pytest.fixture
def ranked_by():
    """Register functions that rank for one test."""
    names = []

    def register(rank, name="own", **keywords):
        register_policy(name, rank, **keywords)
        names.append(name)
        return name

    yield register
    for name in names:
        unregister_policy(name)


def indexes(cache):
    texts = cache._engine._link().execute("SELECT name FROM sqlite_schema WHERE type = 'index'")
    return {name for (name,) in texts} - set(schema.TABLES)


def counts(cache):
    return dict(cache._engine._link().execute("SELECT key, access_count FROM Cache"))


# -- init ---------------------------------------------------------------------------------------


def test_init_makes_an_index_when_the_cache_is_opened(make_cache, template):
    template(init=INDEX)
    cache = make_cache(eviction_policy="own")

    assert indexes(cache) == {"Cache_access"}
    assert cache.check() == []


def test_index_of_init_is_made_when_somebody_who_defines_it_opens_the_directory(
    make_cache, template
):
    template(init=None)
    make_cache(eviction_policy="own").close()
    template(init=INDEX)

    assert indexes(make_cache()) == {"Cache_access"}


def test_directory_with_the_index_of_a_policy_opens_where_the_policy_is_unknown(
    make_cache, template, monkeypatch
):
    template(init="CREATE INDEX IF NOT EXISTS mine ON Cache(size  DESC,tag) WHERE tag IS NOT NULL")
    make_cache(eviction_policy="own").close()
    monkeypatch.delitem(EVICTION_POLICY, "own")
    cache = make_cache()
    cache["a"] = 1

    assert cache.eviction_policy == "least-recently-stored"
    assert indexes(cache) == {"mine"}
    assert cache.check() == []


def test_reset_to_a_policy_runs_its_init_and_drops_the_index_of_the_old_one(make_cache, template):
    template("first", init=INDEX)
    template("second", init=INDEX.replace("access", "size").replace("size_time", "size"))
    cache = make_cache(eviction_policy="first")
    cache.reset("eviction_policy", "second")
    assert indexes(cache) == {"Cache_size"}
    cache.reset("eviction_policy", "none")

    assert indexes(cache) == set()


def test_init_that_updates_is_run_at_each_opening(make_cache, template):
    template(init="UPDATE Cache SET access_count = 7")
    cache = make_cache()
    cache["a"] = 1
    cache.reset("eviction_policy", "own")
    assert counts(cache) == {"a": 7}
    cache["a"] = 2
    cache.close()

    assert counts(make_cache()) == {"a": 7}


def test_opening_again_with_an_index_that_is_there_writes_nothing(make_cache, template):
    template(init=INDEX)
    make_cache(eviction_policy="own").close()
    cache = make_cache(eviction_policy="own")
    before = cache._engine._link().site.control.words[3]
    with make_cache(eviction_policy="own", timeout=0), cache.transact():
        Cache(cache.directory, timeout=0).close()

    assert cache._engine._link().site.control.words[3] <= before + 1


def test_read_only_cache_tries_a_policy_and_makes_nothing(make_cache, template):
    template(init=None)
    make_cache(eviction_policy="own").close()
    template(init=INDEX)
    cache = make_cache(readonly=True)

    assert indexes(cache) == set()


@pytest.mark.parametrize(
    "init",
    [
        "CREATE TABLE More (a)",
        "CREATE TRIGGER t AFTER INSERT ON Cache BEGIN SELECT 1; END",
        "CREATE INDEX mine ON Cache (upper(key))",
        "CREATE UNIQUE INDEX mine ON Cache (tag)",
        "CREATE INDEX mine ON Cache (nothing)",
        "CREATE INDEX mine ON Cache (value)",
        "CREATE INDEX Cache_rank ON Cache (size)",
        "CREATE INDEX sqlite_mine ON Cache (size)",
        "CREATE INDEX mine ON Settings (key)",
        "DELETE FROM Cache",
        "UPDATE Cache SET value = 1",
        "UPDATE Cache SET access_count = 1; DELETE FROM Cache",
        "PRAGMA synchronous = 0",
        "DROP INDEX Cache_rank",
        "nonsense",
    ],
)
def test_init_that_does_anything_else_is_refused_and_nothing_has_changed(
    make_cache, template, init
):
    cache = make_cache()
    cache["a"] = 1
    template(init=init)
    with pytest.raises(SettingError, match=r"init of eviction policy 'own' cannot be used"):
        make_cache(eviction_policy="own")
    with pytest.raises(SettingError, match="init of eviction policy"):
        cache.reset("eviction_policy", "own")

    assert make_cache().eviction_policy == cache.eviction_policy == "least-recently-stored"
    assert indexes(cache) == set()
    assert dict(cache.items()) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        "CREATE INDEX mine ON Cache (abs(size))",
        "CREATE INDEX mine ON Cache (size) WHERE size > 5",
        "CREATE UNIQUE INDEX mine ON Cache (size)",
        "CREATE INDEX mine ON Ghost (n)",
        "CREATE INDEX mine ON Cache (key COLLATE nocase)",
    ],
)
def test_index_that_no_policy_makes_is_refused_when_a_directory_is_opened(make_cache, text):
    cache = make_cache()
    cache._engine._link().execute(text)
    cache.close()
    with pytest.raises(CacheFormatError):
        make_cache()

    # What the fixtures look at must be a cache.
    assert not schema.is_own_index("mine", text)
    import apsw

    connection = apsw.Connection(str(cache.directory) + "/cache.db")
    connection.execute("DROP INDEX mine")
    connection.close()


# -- get ----------------------------------------------------------------------------------------


def test_get_is_run_for_each_read_and_for_incr(make_cache, template):
    template(get="access_count = access_count + 10")
    cache = make_cache(eviction_policy="own")
    cache.incr("n")
    assert counts(cache) == {"n": 0}
    cache.incr("n")
    assert counts(cache) == {"n": 10}
    assert cache.get("n") == cache["n"] == 2
    assert "n" in cache
    cache.touch("n")
    cache.close()

    assert counts(make_cache()) == {"n": 30}


@pytest.mark.parametrize("memory_limit", [0, 2**20])
def test_reads_that_are_written_down_together_have_each_its_own_time(
    make_cache, template, clock, memory_limit
):
    template(get="access_time = {now}")
    cache = make_cache(eviction_policy="own", count_limit=3, memory_limit=memory_limit)
    for key in "abc":
        cache[key] = key
        clock.advance(1)
    for key in "cabcab":
        assert cache.get(key) == key
        clock.advance(1)
    cache["d"] = 0
    cache["e"] = 0

    assert list(cache) == ["b", "d", "e"]


def test_reads_of_a_transaction_that_was_undone_keep_their_times(make_cache, template, clock):
    template(get="access_time = {now}")
    cache = make_cache(eviction_policy="own", count_limit=3)
    for key in "abc":
        cache[key] = key
        clock.advance(1)
    for key in "ba":
        cache.get(key)
        clock.advance(1)
    with pytest.raises(KeyError), cache.transact():
        cache["undone"] = 1
        assert len(cache) == 3
        raise KeyError
    cache["d"] = 0
    cache["e"] = 0

    assert list(cache) == ["a", "d", "e"]


@pytest.mark.parametrize(
    "get",
    [
        "nothing = 1",
        "access_count = ?",
        "access_count =",
        "value = 1",
        "key = 'other'",
        "expire_time = {now} + 60",
        "access_count = 1 WHERE 1; DELETE FROM Cache WHERE key = ? AND raw = ? --",
    ],
)
def test_get_that_cannot_be_run_is_refused_when_the_cache_is_opened(make_cache, template, get):
    template(get=get)
    with pytest.raises(SettingError, match=r"get of eviction policy 'own' cannot be used"):
        make_cache(eviction_policy="own")

    make_cache()["a"] = 1


# -- cull ---------------------------------------------------------------------------------------


def test_cull_decides_with_the_time_filled_in(make_cache, template, clock):
    template(cull="SELECT {fields} FROM Cache ORDER BY {now} - store_time < 5, key LIMIT ?")
    cache = make_cache(eviction_policy="own", count_limit=3)
    for key in "xyab":
        cache[key] = 0
        clock.advance(4)

    assert list(cache) == ["y", "a", "b"]


def test_cull_without_a_statement_removes_no_victim(make_cache, template):
    template(cull=None)
    cache = make_cache(eviction_policy="own", count_limit=3)
    cache.set_many(dict.fromkeys(range(9), 0))

    assert cache.cull() == 0
    assert len(cache) == 9


@pytest.mark.parametrize(
    "cull",
    [
        "SELECT {fields} FROM Nowhere LIMIT ?",
        "SELECT {fields} FROM Cache ORDER BY filename LIMIT ?",
        "SELECT {fields} FROM Cache",
        "SELECT {fields} FROM Cache WHERE size > ? LIMIT ?",
        "SELECT {fields}, tag FROM Cache LIMIT ?",
        "SELECT {fields} FROM Cache LIMIT ?; DELETE FROM Cache",
        "DELETE FROM Cache WHERE rowid < ? RETURNING {fields}",
    ],
)
def test_cull_that_cannot_be_run_is_refused_when_the_cache_is_opened(make_cache, template, cull):
    template(cull=cull)
    with pytest.raises(SettingError, match=r"cull of eviction policy 'own' cannot be used"):
        make_cache(eviction_policy="own")

    cache = make_cache()
    with pytest.raises(SettingError, match="cull of eviction policy"):
        cache.eviction_policy = "own"
    assert cache.eviction_policy == "least-recently-stored"


@pytest.mark.parametrize("part", ["init", "get", "cull"])
def test_template_without_a_part_is_an_error_that_names_the_parts(make_cache, template, part):
    template()
    del EVICTION_POLICY["own"][part]
    with pytest.raises(SettingError, match=r"\['own'\] must be a dict with the keys 'init', 'get'"):
        make_cache(eviction_policy="own")


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("cull", "SELECT rowid FROM Cache LIMIT ?"),
        ("cull", "SELECT {fields}, {more} FROM Cache LIMIT ?"),
        ("get", "access_time = {}"),
        ("get", "access_time = {now"),
        ("get", 5),
        ("init", b"SELECT 1"),
    ],
)
def test_template_of_the_wrong_form_is_an_error_that_names_the_part(
    make_cache, template, part, text
):
    template()
    EVICTION_POLICY["own"][part] = text
    with pytest.raises(SettingError, match=rf"'{part}' of EVICTION_POLICY\['own'\] must be"):
        make_cache(eviction_policy="own")


def test_template_that_is_no_dict_is_an_error(make_cache, monkeypatch):
    monkeypatch.setitem(EVICTION_POLICY, "own", "least-recently-used")
    with pytest.raises(SettingError, match="must be a dict"):
        make_cache(eviction_policy="own")
    with pytest.raises(UnknownPolicyError):
        make_cache(eviction_policy="other")


def test_shards_follow_a_template(directory, template):
    template(init=INDEX, get="access_time = {now}")
    with FanoutCache(directory, shards=2, eviction_policy="own") as cache:
        cache.set("a", 1)
        assert cache.get("a") == 1
        assert all(indexes(shard) == {"Cache_access"} for shard in cache._shards)
        assert cache.check() == []


# -- Functions that fail ------------------------------------------------------------------------


def broken(entry, _):
    """Rank by hits, but fail for what was read."""
    if entry.reads:
        raise ZeroDivisionError("no rank")
    return entry.store_time


def test_read_and_close_succeed_where_the_function_fails(make_cache, ranked_by, clock, caplog):
    ranked_by(broken, reads=True)
    cache = make_cache(eviction_policy="own", count_limit=4)
    for key in "abcd":
        cache[key] = key
        clock.advance(1)
    assert [cache.get(key) for key in "abba"] == list("abba")
    cache.close()
    assert counts(cache)["a"] == 2
    for key in "abba":
        assert cache[key] == key
    cache.close()

    said = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(said) == 1
    assert "'own'" in said[0].getMessage()
    assert "ZeroDivisionError('no rank')" in said[0].getMessage()


def test_thousandth_read_succeeds_where_the_function_fails(make_cache, ranked_by):
    ranked_by(broken, reads=True)
    cache = make_cache(eviction_policy="own", count_limit=1200, cull_limit=0)
    cache.set_many({number: number for number in range(1100)})
    cache.cull()

    assert [cache.get(number) for number in range(1100)] == list(range(1100))


def test_entry_whose_read_cannot_be_ranked_keeps_its_rank(make_cache, ranked_by, clock):
    ranked_by(broken, reads=True)
    cache = make_cache(eviction_policy="own", count_limit=3)
    for key in "abc":
        cache[key] = key
        clock.advance(1)
    cache.get("b")
    cache["d"] = 0
    cache["e"] = 0

    assert list(cache) == ["c", "d", "e"]
    assert cache.check() == []


def test_old_entries_that_cannot_be_ranked_go_first_the_oldest_first(make_cache, ranked_by, clock):
    cache = make_cache(count_limit=6)
    for key in ("a", "bad 1", "b", "bad 2", "c", "d"):
        cache[key] = key
        clock.advance(1)

    def rank(entry, _):
        return entry.store_time if not entry.key.startswith("bad") else None

    ranked_by(rank)
    cache.reset("eviction_policy", "own")
    gone = []
    for key in "efg":
        before = set(cache)
        cache[key] = 0
        gone += before - set(cache)

    assert gone == ["bad 1", "bad 2", "a"]
    assert cache.check() == []


def test_set_is_refused_in_its_own_call_where_the_function_fails(make_cache, ranked_by):
    def rank(entry, _):
        return 1 / (entry.key != "bad")

    ranked_by(rank)
    cache = make_cache(eviction_policy="own", count_limit=3)
    cache.set_many(dict.fromkeys("abc", 0))
    with cache.transact():
        cache["good"] = 1
        with pytest.raises(SettingError, match="its function raised ZeroDivisionError") as caught:
            cache["bad"] = 1
        assert cache.get("good") == 1
    with pytest.raises(SettingError):
        cache.add("bad", 1)
    with pytest.raises(SettingError):
        cache.incr("bad")

    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "bad" not in cache
    assert cache["good"] == 1
    assert len(cache) == 3


def test_large_value_that_cannot_be_ranked_leaves_no_file_behind_in_a_block(make_cache, ranked_by):
    def rank(entry, _):
        return 1 / (entry.key != "bad")

    ranked_by(rank)
    cache = make_cache(eviction_policy="own", count_limit=3)
    cache.set_many(dict.fromkeys("abc", 0))
    with cache.transact():
        with pytest.raises(SettingError):
            cache["bad"] = b"x" * 40_000
        cache["a"] = 1

    assert cache.check() == []
    assert cache["a"] == 1


@pytest.mark.parametrize("digits", [400, 5000])
def test_rank_that_is_too_large_for_a_float_is_refused(make_cache, ranked_by, digits):
    ranked_by(lambda *_: 10**digits)
    cache = make_cache(eviction_policy="own", count_limit=2)
    cache["a"] = 1  # Nothing is ranked before the cache is half full.
    with pytest.raises(SettingError, match="got an int that is too large"):
        cache["b"] = 1

    assert list(cache) == ["a"]


def test_interrupt_in_the_function_is_no_failure_of_it(make_cache, ranked_by):
    def rank(*_):
        raise KeyboardInterrupt

    cache = make_cache(count_limit=3)
    cache.set_many(dict.fromkeys("abc", 0))
    ranked_by(rank)
    cache.reset("eviction_policy", "own")
    with pytest.raises(KeyboardInterrupt):
        cache["d"] = 1
    cache.reset("eviction_policy", "none")

    assert list(cache) == ["a", "b", "c"]
