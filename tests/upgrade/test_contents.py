"""What version 5.6.3 stored is there after the upgrade."""

from __future__ import annotations

import datetime
import logging
import math
import os
import pickle
import time

import apsw
import pytest

import diskcache
from diskcache import Cache, Deque, Disk, Index, JSONDisk, SettingError, UntrustedPickleWarning
from diskcache.clock import SYSTEM_CLOCK
from diskcache.engines.sqlite import schema
from tests.support.leaks import value_files

LARGE = "é\r\nline" * 10_000
PLAIN = {
    "text": "text", "umlaut": "grün", b"bytes": b"bytes", 1: 1, 2.5: 2.5, -7: 2**63 - 1,
    "large text": LARGE, "large bytes": b"\x00\xff" * 30_000, "large list": list(range(30_000)),
    None: None, (True,): False, (1, "a"): [1, {"k": (None, 2**70)}], 2**80: {1, 2},
    ("nested", (1.0, b"x")): {"a": 1, 2: [b""]}, "bytearray": bytearray(b"x"),
    "empty": "", "nothing": b"", "zero": -0.0, "inf": math.inf, "frozen": frozenset("ab"),
}  # fmt: skip


@pytest.fixture
def opened(make_cache):
    """Open what version 5 made, at the time that it knew."""
    return lambda **keywords: make_cache(clock=SYSTEM_CLOCK, **keywords)


def schema_of(directory):
    connection = apsw.Connection(str(directory / "cache.db"))
    try:
        found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return dict(found.fetchall())
    finally:
        connection.close()


@pytest.mark.parametrize("policy", ["least-recently-stored", "least-recently-used",
                                    "least-frequently-used", "none"])  # fmt: skip
@pytest.mark.parametrize("tag_index", [0, 1])
def test_plain_entries_of_every_kind_come_back(fill, opened, directory, policy, tag_index):
    fill(PLAIN, eviction_policy=policy, tag_index=tag_index)
    assert schema.is_version_5(schema_of(directory))

    cache = opened()

    assert list(cache) == list(PLAIN)
    assert {key: cache[key] for key in cache} == PLAIN
    assert [type(cache[key]) for key in PLAIN] == [type(value) for value in PLAIN.values()]
    assert len(cache) == len(PLAIN)
    assert cache.eviction_policy == policy
    assert cache.tag_index == tag_index
    assert cache.check() == []
    cache["more"] = "of it"
    assert cache.pop("large list") == list(range(30_000))
    assert schema.is_known(schema_of(directory))


def test_old_database_has_what_the_enumerated_schemas_say(fill, directory):
    fill({})
    assert schema_of(directory).keys() == {
        *schema.VERSION_5_TABLES, *schema.VERSION_5_TRIGGERS, "Cache_expire_time",
        "Cache_store_time",
    }  # fmt: skip


def test_second_opening_changes_nothing_more(fill, opened, directory):
    fill(PLAIN)
    first = opened()
    known = first.info().cache_id
    first.close()

    again = opened()

    assert again.info().cache_id == known
    assert len(again) == len(PLAIN)


def test_partial_indexes_of_later_versions_are_known(fill, opened, directory):
    fill({"a": 1}, tag_index=1)
    connection = apsw.Connection(str(directory / "cache.db"))
    for name, column in (("Cache_expire_time", "expire_time"), ("Cache_tag_rowid", "tag")):
        connection.execute(f"DROP INDEX {name}")
        text = schema.VERSION_5_OPTIONAL[name][1]
        assert text.endswith(f"WHERE {column} IS NOT NULL")
        connection.execute(text)
    connection.close()

    assert opened()["a"] == 1


@pytest.mark.damaged("no cache of this version is made")
def test_table_that_differs_in_a_letter_is_no_cache(fill, directory):
    fill({"a": 1})
    connection = apsw.Connection(str(directory / "cache.db"))
    connection.execute("CREATE VIEW Stranger AS SELECT 1")
    connection.close()

    with pytest.raises(Exception, match="not of a cache"):
        Cache(directory)
    assert "Stranger" in schema_of(directory)


def test_expiry_and_tags_are_kept(fill, opened, old, directory):
    fill([("later", 1, 1000, "t"), ("soon", 2, 0.01, b"t"), ("tagged", 3, None, 7)], cull_limit=0)
    time.sleep(0.02)

    cache = opened()

    assert "soon" not in cache
    assert len(cache) == 3
    value, expire_time, tag = cache.get("later", expire_time=True, tag=True)
    assert (value, tag) == (1, "t")
    assert expire_time == pytest.approx(time.time() + 1000, abs=100)
    assert cache.expire() == 1
    assert cache.evict(7) == 1
    assert list(cache) == ["later"]


def test_order_of_eviction_is_that_of_version_5(old, opened, directory):
    old.run(
        "cache = diskcache.Cache(directory, eviction_policy='least-frequently-used')\n"
        "cache.reset('cull_limit', 0)\n"
        "for number in range(40): cache[number] = 'x' * 30_000\n"
        "for number in range(0, 40, 2): cache[number]\n"
        "cache.close()",
        directory=str(directory),
    )
    cache = opened(cull_limit=10, size_limit=1_000_000)

    cache.cull()

    left = set(cache)
    assert left
    assert left < set(range(40))
    assert set(range(0, 40, 2)) <= left or all(number % 2 == 0 for number in left)


@pytest.mark.parametrize("is_defined", [True, False])
def test_policy_of_templates_is_taken_over_with_its_index_where_it_is_defined(
    old, opened, directory, monkeypatch, is_defined
):
    template = {
        "init": "CREATE INDEX IF NOT EXISTS mine ON Cache (access_time)",
        "get": "access_time = {now}",
        "cull": "SELECT {fields} FROM Cache ORDER BY access_time LIMIT ?",
    }
    old.run(
        "diskcache.EVICTION_POLICY['mine'] = template\n"
        "cache = diskcache.Cache(directory, eviction_policy='mine')\n"
        "for key in 'abc': cache[key] = key\n"
        "cache['a']\n"
        "cache.close()",
        directory=str(directory),
        template=template,
    )
    if is_defined:
        monkeypatch.setitem(diskcache.EVICTION_POLICY, "mine", template)
    cache = opened(count_limit=3)
    cache["d"] = "d"

    assert list(cache) == (["a", "c", "d"] if is_defined else ["b", "c", "d"])
    assert ("mine" in schema_of(directory)) is is_defined


def test_log_left_behind_by_a_kill_is_taken_in(start_old, opened, directory):
    process = start_old()
    process.run(
        "cache = diskcache.Cache(directory)\nfor n in range(300): cache[n] = [n]",
        directory=str(directory),
    )
    process.kill()
    assert os.path.getsize(directory / "cache.db-wal") > 0

    cache = opened()

    assert {key: cache[key] for key in cache} == {number: [number] for number in range(300)}


def test_log_that_holds_even_the_tables_is_taken_in(start_old, opened, directory):
    process = start_old()
    process.run(
        "cache = diskcache.Cache(directory, sqlite_auto_vacuum=0)\ncache['a'] = 1",
        directory=str(directory),
    )
    process.kill()

    assert opened()["a"] == 1


def test_database_without_a_log_is_upgraded(start_old, opened, directory):
    process = start_old()
    process.run(
        "cache = diskcache.Cache(directory, sqlite_journal_mode='delete')\n"
        "cache['a'] = 1\nwith cache.transact():\n  cache['a'] = (2,)\n",
        directory=str(directory),
    )
    process.kill()

    cache = opened()

    assert cache["a"] == (2,)
    assert cache.sqlite_journal_mode == "delete"


def test_nan_as_key_and_value_is_nan_again(fill, opened, caplog):
    nan = float("nan")
    fill([(nan, "first"), ("value", nan), (nan, "second")])

    with caplog.at_level(logging.WARNING):
        cache = opened()

    assert math.isnan(cache["value"])
    assert cache[nan] == "second"
    assert len(cache) == 2
    assert "1 entries of version 5 had a key equal" in caplog.text


def test_of_equal_keys_that_version_5_kept_apart_the_newest_stays(old, opened, caplog, directory):
    old.run(
        "cache = diskcache.Cache(directory)\n"
        "s, t = 'ab', ''.join(['a', 'b'])\n"
        "cache[(s, s)] = 'x' * 50_000\ncache['between'] = 0\ncache[(s, t)] = 'newest'\n"
        "cache[(t, (s,))] = 1\ncache[(s, (s,))] = 2\ncache[(t, (s,))] = 3\n"
        "result = len(cache); cache.close()",
        directory=str(directory),
    )
    with caplog.at_level(logging.WARNING):
        cache = opened()

    assert dict.fromkeys(cache) == dict.fromkeys(["between", ("ab", "ab"), ("ab", ("ab",))])
    assert cache["ab", "ab"] == "newest"
    assert cache["ab", ("ab",)] == 3
    assert value_files(directory) == []
    assert "2 entries of version 5" in caplog.text


def test_memoized_results_are_found(old, opened, directory):
    definition = (
        "def add(a, b=2, *, c=None):\n    calls.append(a)\n    return (a, b, c)\n"
        "add.__module__ = 'app'\n"
    )
    calls = (
        "plain = cache.memoize()(add)\ntyped = cache.memoize(name='t', typed=True)(add)\n"
        "early = cache.memoize(name='none', typed=True, ignore={'c'})(add)\n"
        "guarded = diskcache.memoize_stampede(cache, 10**9, name='s', typed=True)(add)\n"
        "for f in (plain, typed, early, guarded):\n"
        "    f(1), f(1.0), f(True), f('x', b=None), f((1, 2), c=[3]), f(b=1, a=b'')\n"
    )
    old.run(
        f"calls = []\ncache = diskcache.Cache(directory)\n{definition}{calls}cache.close()",
        directory=str(directory),
    )
    cache = opened()
    scope = {"calls": [], "cache": cache, "diskcache": diskcache}
    exec(definition + calls, scope)

    assert scope["calls"] == []
    assert len(cache) == 24


def test_settings_are_taken_over_if_they_are_numbers_in_range(old, opened, directory):
    old.run(
        "cache = diskcache.Cache(directory, size_limit=123456, cull_limit=3, statistics=1,"
        " disk_min_file_size=99, unknown='x', sqlite_mmap_size=2**40)\n"
        "cache.close()",
        directory=str(directory),
    )
    connection = apsw.Connection(str(directory / "cache.db"))
    connection.execute("UPDATE Settings SET value = -5 WHERE key = 'sqlite_synchronous'")
    connection.execute("INSERT INTO Settings VALUES ('_directory', '/elsewhere')")
    connection.close()

    cache = opened()

    assert cache.directory == str(directory)
    assert not hasattr(cache, "unknown")
    assert (cache.size_limit, cache.cull_limit, cache.statistics) == (123456, 3, 1)
    assert (cache.disk_min_file_size, cache.sqlite_synchronous) == (99, 1)
    assert cache.sqlite_mmap_size == 0
    assert cache.sqlite_auto_vacuum == 2
    assert cache._engine._link().execute("PRAGMA auto_vacuum").get == 2


def test_policy_that_nobody_defines_is_not_taken_over(fill, opened, directory, caplog):
    fill({"a": 1})
    connection = apsw.Connection(str(directory / "cache.db"))
    connection.execute("UPDATE Settings SET value = 'mine' WHERE key = 'eviction_policy'")
    connection.close()
    with caplog.at_level(logging.WARNING):
        cache = opened()

    assert cache.eviction_policy == "least-recently-stored"
    assert "'mine' is not defined here" in caplog.text


def test_object_is_kept_and_is_a_miss(fill, opened):
    day = datetime.date(2020, 1, 1)
    fill([("day", day), (day, "by day"), ("large", [day] * 20_000), ("plain", [1])])

    cache = opened()
    with pytest.warns(UntrustedPickleWarning, match="--trust-pickles") as caught:
        found = [cache.get("day"), cache.get("large"), list(cache), cache.get(day)]

    assert len(caught) == 1
    assert found == [None, None, ["day", "large", "plain"], None]
    assert len(cache) == 4
    assert cache.info().untrusted >= 3
    assert cache.check() == []


def test_file_that_is_named_outside_is_not_touched(fill, opened, directory, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    fill({"a": "x" * 50_000})
    connection = apsw.Connection(str(directory / "cache.db"))
    connection.execute("UPDATE Cache SET filename = '../outside'")
    connection.close()
    value_files(directory)[0].unlink()

    cache = opened()

    assert cache.get("a") is None
    assert outside.read_text() == "mine"
    cache.clear()
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("level", [0, 1, 9])
def test_json_disk_finds_its_keys_and_values(old, opened, directory, level):
    entries = {"text": {"a": [1, None]}, 5: "x", "large": ["y" * 100_000], "unicode é": 1.5}
    old.run(
        "cache = diskcache.Cache(directory, disk=diskcache.JSONDisk, disk_compress_level=level)\n"
        "for key, value in entries.items(): cache[key] = value\n"
        "cache[(1, 'a')] = 'tuple'\n"
        "import io; cache.set('stream', io.BytesIO(b'as it is'), read=True)\n"
        "cache.close()",
        directory=str(directory), entries=entries, level=level,
    )  # fmt: skip
    with pytest.raises(SettingError, match="JSONDisk"):
        Cache(directory)
    assert schema.is_version_5(schema_of(directory))

    cache = opened(disk=JSONDisk)

    assert {key: cache[key] for key in entries} == entries
    assert cache[1, "a"] == cache[[1, "a"]] == "tuple"
    assert cache["stream"] == b"as it is"
    assert list(cache) == [*entries, [1, "a"], "stream"]
    cache["text"] = "new"
    assert len(cache) == 6


CUSTOM = """
import zlib, pickle
class Packed(Disk):
    def put(self, key):
        return super().put(('v1', key))
    def get(self, key, raw):
        return super().get(key, raw)[1]
    def store(self, value, read, key=None):
        if not read:
            value = zlib.compress(pickle.dumps(value))
        return super().store(value, read, key=key)
    def fetch(self, mode, filename, value, read):
        data = super().fetch(mode, filename, value, read)
        return data if read else pickle.loads(zlib.decompress(data))
class Pickled(Disk):
    def put(self, key):
        return pickle.dumps(key, 4), False
    def get(self, key, raw):
        return pickle.loads(key)
class Named(Disk):
    def filename(self, key=None, value=None):
        import os
        name = 'file-%s' % key
        return name, os.path.join(self._directory, name)
"""


@pytest.mark.parametrize("name", ["Packed", "Pickled", "Named"])
def test_custom_disk_reads_what_it_wrote(old, opened, directory, name):
    day = datetime.date(2020, 1, 1)
    entries = {"a": 1, ("t", 1): [1], "large": "x" * 50_000}
    if name != "Named":
        entries["day"] = day if name == "Packed" else "no object"
    old.run(
        f"from diskcache import Disk\n{CUSTOM}\n"
        f"cache = diskcache.Cache(directory, disk={name})\n"
        "for key, value in entries.items(): cache[key] = value\n"
        "cache.close()",
        directory=str(directory), entries=entries,
    )  # fmt: skip
    scope = {"Disk": Disk}
    exec(CUSTOM, scope)

    cache = opened(disk=scope[name])

    assert {key: cache[key] for key in cache} == entries
    assert {key: cache[key] for key in entries} == entries
    cache["large"] = "new"
    assert [str(finding.message) for finding in cache.check()] == []


def test_values_stored_as_streams_are_files_again(old, opened, directory):
    old.run(
        "import io\ncache = diskcache.Cache(directory)\n"
        "cache.set('s', io.BytesIO(b'abc'), read=True); cache.close()",
        directory=str(directory),
    )
    cache = opened()
    with cache.read("s") as file:
        assert file.read() == b"abc"
        assert os.path.dirname(file.name).startswith(str(directory))


def test_deque_keeps_order_and_the_old_database(old, directory, tmp_path):
    old.run(
        "deque = diskcache.Deque(range(5), directory)\n"
        "deque.appendleft(('first', None)); deque.append('x' * 50_000); deque.cache.close()",
        directory=str(directory),
    )
    with Deque(directory=directory) as deque:
        assert list(deque) == [("first", None), 0, 1, 2, 3, 4, "x" * 50_000]
        assert deque.popleft() == ("first", None)
        assert deque.cache.check() == []

    kept = tmp_path / "kept"
    kept.mkdir()
    (directory / "cache.db.5").rename(kept / "cache.db")
    found = old.run(
        "deque = diskcache.Deque(directory=directory)\n"
        "result = [deque.popleft() for _ in range(6)]\n"
        "deque.cache.close()",
        directory=str(kept),
    )
    assert found == [("first", None), 0, 1, 2, 3, 4]


def test_index_keeps_order_and_an_object_raises(old, directory):
    old.run(
        "index = diskcache.Index(directory, [(('k', 1), [1]), ('b', 2)])\n"
        "index['day'] = datetime.date(2020, 1, 1); index.cache.close()",
        directory=str(directory),
    )
    with Index(str(directory)) as index:
        assert list(index) == [("k", 1), "b", "day"]
        assert index["k", 1] == [1]
        with pytest.raises(pickle.UnpicklingError, match="migrate"):
            index["day"]
        assert len(index) == 3
    assert (directory / "cache.db.5").exists()


def test_cache_of_another_policy_keeps_no_copy(fill, opened, directory):
    fill({"a": 1})
    opened()

    assert not (directory / "cache.db.5").exists()


def test_rows_of_recipes_are_taken_over(old, opened, directory):
    from diskcache import Averager, Lock, RLock

    old.run(
        "cache = diskcache.Cache(directory)\n"
        "average = diskcache.Averager(cache, 'average'); average.add(2); average.add(4)\n"
        "diskcache.Lock(cache, 'lock').acquire(); diskcache.Lock(cache, 'lock').release()\n"
        "lock = diskcache.RLock(cache, 'rlock'); lock.acquire(); lock.release()\n"
        "cache.close()",
        directory=str(directory),
    )
    cache = opened()

    assert Averager(cache, "average").get() == 3
    with Lock(cache, "lock"), RLock(cache, "rlock"):
        pass


def test_many_rows_are_visited_in_batches_and_soon_done(old, opened, directory):
    """More rows than a batch, native and pickled, keep their order."""
    old.run(
        "cache = diskcache.Cache(directory, cull_limit=0)\n"
        "with cache.transact():\n"
        "    for n in range(20_000):\n"
        "        cache[n if n % 4 else (n, 'k')] = n if n % 3 else [n]\n"
        "cache.close()",
        directory=str(directory),
    )
    # What this process does: a machine may be busy with something else.
    began = time.process_time()
    cache = opened()
    took = time.process_time() - began

    expected = {n if n % 4 else (n, "k"): n if n % 3 else [n] for n in range(20_000)}
    assert list(cache) == list(expected)
    assert cache.get_many(expected) == expected
    assert took < 5


def test_true_and_one_stay_two_keys(fill, opened):
    fill([(1, "int"), (True, "bool"), (0.0, "float"), (False, "false")])

    cache = opened()

    assert list(map(repr, cache)) == ["1", "True", "0.0", "False"]
    assert [cache[key] for key in (1, True, 0, False)] == ["int", "bool", "float", "false"]


@pytest.mark.parametrize("new", ["s3-fifo", "least-frequently-used", "least-recently-used", "none"])
def test_upgraded_directory_switches_to_another_policy_and_keeps_its_entries(fill, opened, new):
    fill({f"k{number}": f"v{number}" for number in range(40)}, eviction_policy="none")
    cache = opened(eviction_policy=new, count_limit=40)
    for number in range(20):
        assert cache[f"k{number}"] == f"v{number}"
    assert len(cache) == 40
    for number in range(40, 60):
        cache[f"k{number}"] = "new"

    assert len(cache) == (60 if new == "none" else 40)
    if new in ("least-recently-used", "least-frequently-used"):
        assert "k0" in cache
        assert "k20" not in cache
    cache.reset("eviction_policy", "least-recently-stored")
    cache["last"] = 1
    assert cache.check() == []
