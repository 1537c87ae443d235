"""Objects of version 5 come back once somebody says that the directory is to be trusted."""

from __future__ import annotations

import collections
import datetime
import decimal
import pickle

import apsw
import pytest

from diskcache import Cache, SettingError, UnsafePickleWarning
from diskcache.cache import migration
from diskcache.clock import SYSTEM_CLOCK

DAY = datetime.date(2020, 1, 1)
OBJECTS = {
    "day": DAY,
    DAY: "by day",
    (DAY, decimal.Decimal(1)): collections.OrderedDict(a=DAY),
    "large": [DAY] * 20_000,
    "plain": [1],
    "large plain": list(range(20_000)),
    ("complex", 1j): 1j,
}


@pytest.fixture
def trusting(make_cache):
    def open_one(**keywords):
        with pytest.warns(UnsafePickleWarning, match="can run code"):
            return make_cache(clock=SYSTEM_CLOCK, trust_legacy_pickles=True, **keywords)

    return open_one


def test_objects_are_loaded_signed_and_stay_in_place(fill, trusting, make_cache):
    fill([(key, value, 1000, "tag") for key, value in OBJECTS.items()])

    cache = trusting()
    assert list(cache) == list(OBJECTS)
    assert {key: cache[key] for key in OBJECTS} == OBJECTS
    assert {cache.get(key, tag=True)[1] for key in OBJECTS} == {"tag"}
    assert all(cache.get(key, expire_time=True)[1] for key in OBJECTS)
    cache.close()

    again = make_cache(clock=SYSTEM_CLOCK)
    assert {key: again[key] for key in OBJECTS} == OBJECTS
    assert again.info().untrusted == 0


def test_trusting_twice_is_said_once(fill, trusting, make_cache):
    fill(OBJECTS)
    trusting().close()

    cache = make_cache(clock=SYSTEM_CLOCK, trust_legacy_pickles=True)
    assert cache["day"] == DAY


def test_what_was_upgraded_before_can_be_trusted_later(fill, trusting, make_cache):
    fill(OBJECTS)
    cache = make_cache(clock=SYSTEM_CLOCK)
    cache[DAY] = "newer"
    cache.close()

    cache = trusting()
    assert cache[DAY] == "newer"
    assert {key: cache[key] for key in OBJECTS} == {**OBJECTS, DAY: "newer"}
    assert len(cache) == len(OBJECTS)


class Bomb:
    """Says that it was loaded."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.filterwarnings("ignore::diskcache.UntrustedPickleWarning")
@pytest.mark.parametrize("column", ["key", "value"])
def test_nothing_is_loaded_without_trust(fill, make_cache, directory, column):
    fill({("k", 1): [1], "a": 1})
    connection = apsw.Connection(str(directory / "cache.db"))
    for protocol in range(6):
        values = {"key": f"k{protocol}", "raw": 1, "value": pickle.dumps([1]), "mode": 4}
        values[column] = pickle.dumps(Bomb(), protocol)
        values["raw"] = int(column != "key")
        connection.execute(
            "INSERT INTO Cache (key, raw, store_time, value, mode) VALUES (?, ?, 1, ?, ?)",
            (values["key"], values["raw"], values["value"], values["mode"]),
        )
    connection.close()

    cache = make_cache(clock=SYSTEM_CLOCK)
    for key in cache:
        cache.get(key)
    list(cache.items())
    report = migration.Report()
    migration.migrate(cache, trust=False, report=report)

    assert report.left == sum(report.kept.values()) > 0
    assert len(cache) == 8


def test_object_whose_class_is_gone_stays(old, trusting, directory, caplog):
    old.run(
        "import sys, types\nsys.modules['gone'] = module = types.ModuleType('gone')\n"
        "exec('class Gone: pass', vars(module)); Gone = module.Gone; Gone.__module__ = 'gone'\n"
        "cache = diskcache.Cache(directory)\n"
        "cache['gone'] = Gone(); cache[Gone()] = 1; cache['day'] = datetime.date(2020, 1, 1)\n"
        "cache.close()",
        directory=str(directory),
    )
    cache = trusting()

    assert cache["day"] == DAY
    assert len(cache) == 3
    assert "could not be" in caplog.text
    trusting()


def test_trust_and_never_contradict_each_other(fill, directory):
    fill(OBJECTS)
    with pytest.raises(SettingError, match="pickle='never'"):
        Cache(directory, pickle="never", trust_legacy_pickles=True)


@pytest.mark.filterwarnings("ignore::diskcache.UnsafePickleWarning")
def test_trust_without_signatures_finds_the_keys(fill, make_cache):
    fill(OBJECTS)
    cache = make_cache(clock=SYSTEM_CLOCK, pickle="unsafe", trust_legacy_pickles=True)
    assert {key: cache[key] for key in OBJECTS} == OBJECTS


def test_trust_is_not_handed_on(fill, trusting, make_cache):
    fill(OBJECTS)
    cache = trusting()
    assert "trust_legacy_pickles" not in cache._options


def test_interrupted_migration_is_taken_up(fill, trusting, make_cache, monkeypatch):
    monkeypatch.setattr(migration, "BATCH", 2)
    fill({f"day {n}": DAY + datetime.timedelta(n) for n in range(20)})
    rounds = iter(range(100))

    def stop(_self, rows, original=migration.Migration._convert):
        if next(rounds) == 4:
            raise KeyboardInterrupt
        original(_self, rows)

    monkeypatch.setattr(migration.Migration, "_convert", stop)
    with pytest.raises(KeyboardInterrupt):
        trusting()
    cache = trusting()

    assert next(rounds) < 15
    assert {cache[f"day {n}"] for n in range(20)} == {
        DAY + datetime.timedelta(n) for n in range(20)
    }


def test_large_plain_pickles_are_readable_at_once_and_sealed_by_migrating(
    fill, make_cache, directory
):
    fill({"large": list(range(20_000)), "day": DAY})
    cache = make_cache(clock=SYSTEM_CLOCK)
    assert cache["large"] == list(range(20_000))
    report = migration.Report()
    migration.migrate(cache, trust=False, report=report)

    assert report.converted == {"list": 1}
    assert report.kept == {"datetime.date": 1}
    assert cache["large"] == list(range(20_000))
    assert migration.count_pickled(cache) == 1


@pytest.mark.parametrize("change", ["replaced", "deleted", "file replaced"])
def test_entry_that_changes_meanwhile_is_left_alone(fill, make_cache, monkeypatch, change):
    fill({"day": [DAY] * 20_000 if change == "file replaced" else DAY, "other": DAY})
    cache = make_cache(clock=SYSTEM_CLOCK)

    def plan(self, row, _cache, original=migration.Migration._plan):
        found = original(self, row, _cache)
        if row.key == "day":
            cache.delete("day") if change == "deleted" else cache.set("day", "newer")
        return found

    monkeypatch.setattr(migration.Migration, "_plan", plan)
    migration.migrate(cache, trust=True, report=migration.Report())

    assert cache.get("day") == (None if change == "deleted" else "newer")
    assert cache["other"] == DAY
    assert cache.check() == []


@pytest.mark.filterwarnings("ignore::diskcache.UntrustedPickleWarning")
def test_what_another_object_migrates_is_seen_at_once(fill, trusting, make_cache):
    fill(OBJECTS)
    cache = make_cache(clock=SYSTEM_CLOCK)
    for _ in range(3):
        assert [cache.get("day"), cache.get(DAY)] == [None, None]
        assert cache["large plain"] == list(range(20_000))

    trusting()

    assert [cache.get("day"), cache.get(DAY)] == [DAY, "by day"]
    assert cache["large plain"] == list(range(20_000))
