"""A `FanoutCache` of version 5 is upgraded as a whole; its keys are where one looks for them."""

from __future__ import annotations

import contextlib
import datetime
import os

import pytest

from diskcache import FanoutCache, JSONDisk, LockedError, OlderFormatError, SettingError
from diskcache.engines.sqlite import upgrade
from diskcache.engines.sqlite.rewriting import Rewriting
from tests.crash.story import die
from tests.support.leaks import assert_tidy
from tests.support.legacy import OldVersionError

FILL = """
cache = diskcache.FanoutCache(directory, **settings)
for key, value in entries.items(): cache[key] = value
cache.close(); del cache
"""
START = 500_000_000_000_000
ENTRIES = {
    **{number: f"int {number}" for number in range(60)},
    **{number + 0.0: f"float {number}" for number in range(60, 120)},
    **{number + 0.5: number for number in range(40)},
    **{(number, "tuple"): [number] for number in range(100)},
    **{f"text {number}": number for number in range(60)},
    **{f"queue-{START + number}": START + number for number in range(20)},
    **{f"large {number}".encode(): b"y" * 40_000 for number in range(20)},
    **{number + 1000.0: "z" * 40_000 for number in range(20)},
    None: "none", (True,): "true",
}  # fmt: skip


@pytest.fixture
def fill_shards(old, directory):
    def fill(entries=ENTRIES, **settings):
        old.run(FILL, directory=str(directory), entries=entries, settings=settings)

    return fill


@pytest.mark.parametrize("shards", [1, 5])
def test_every_key_is_found(fill_shards, directory, shards):
    fill_shards(shards=shards)

    with FanoutCache(directory) as cache:
        assert {key: cache[key] for key in ENTRIES} == ENTRIES
        assert len(cache) == len(ENTRIES) == len(set(cache))
        assert cache.check() == []
        assert len({cache._index(key) for key in ENTRIES}) == shards
        for shard in cache._shards:
            assert all(cache._shard_of(key) is shard for key in shard)
        assert cache.pull(prefix="queue") == ("queue-500000000000000", 500_000_000_000_000)
    with FanoutCache(directory, shards=shards) as cache:
        assert len(cache) == len(ENTRIES) - 1
    for shard in directory.iterdir():
        assert_tidy(shard)


def test_newest_of_two_that_become_one_key_stays(old, directory):
    old.run(
        "cache = diskcache.FanoutCache(directory, shards=8)\n"
        "for n in range(30): cache[n] = 'int'\n"
        "for n in range(30): cache[float(n)] = 'float'\n"
        "for n in range(30, 60): cache[float(n)] = 'float'\n"
        "for n in range(30, 60): cache[n] = 'int'\n"
        "cache.close(); del cache",
        directory=str(directory),
    )
    with FanoutCache(directory) as cache:
        assert len(cache) == 60
        assert [cache[n] for n in range(60)] == ["float"] * 30 + ["int"] * 30


def test_size_limit_is_that_of_the_whole(fill_shards, directory):
    fill_shards({"a": 1}, shards=4, size_limit=4_000_000)
    with FanoutCache(directory) as cache:
        assert cache.size_limit == 4_000_000


def test_other_number_of_shards_is_an_error_and_changes_nothing(fill_shards, old, directory):
    fill_shards({"a": 1}, shards=4)
    with pytest.raises(SettingError, match="4 shards"):
        FanoutCache(directory, shards=8)
    found = old.run(
        "cache = diskcache.FanoutCache(directory, shards=4)\nresult = cache['a']\n"
        "cache.close(); del cache",
        directory=str(directory),
    )
    assert found == 1


def test_no_shard_is_upgraded_while_one_is_in_use(fill_shards, start_old, directory, monkeypatch):
    monkeypatch.setattr(upgrade, "PATIENCE", 0.1)
    fill_shards({"a": 1}, shards=4)
    process = start_old()
    process.run(
        "cache = diskcache.FanoutCache(directory, shards=4); cache.close()\n"
        "part = diskcache.Cache(directory + '/003')",
        directory=str(directory),
    )
    with pytest.raises(LockedError, match="003"):
        FanoutCache(directory)

    assert process.run("result = cache['a']") == 1
    process.stop()
    with FanoutCache(directory) as cache:
        assert cache["a"] == 1


def test_version_5_started_later_fails_and_changes_nothing(fill_shards, start_old, directory):
    fill_shards(shards=3)
    FanoutCache(directory).close()
    before = {
        path: path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }
    process = start_old()
    with pytest.raises(OldVersionError):
        process.run("diskcache.FanoutCache(directory, shards=3)", directory=str(directory))
    process.stop()

    assert {path: path.read_bytes() for path in before} == before
    with FanoutCache(directory) as cache:
        assert len(cache) == len(ENTRIES)
        assert cache.check() == []


def test_readonly_says_what_to_do(fill_shards, directory):
    fill_shards({"a": 1})
    with pytest.raises(OlderFormatError, match="without readonly=True"):
        FanoutCache(directory, readonly=True)


@pytest.mark.filterwarnings("ignore::diskcache.UnsafePickleWarning")
def test_kill_between_two_shards_while_trusting_is_taken_up(fill_shards, directory, monkeypatch):
    days = {datetime.date(2020, 1, 1) + datetime.timedelta(n): "x" * 40_000 for n in range(20)}
    fill_shards(days, shards=4)

    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(Rewriting, "release", lambda *_: die())
        with contextlib.suppress(BaseException):
            FanoutCache(directory, trust_legacy_pickles=True)
        os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])

    with FanoutCache(directory, trust_legacy_pickles=True) as cache:
        assert {key: cache[key] for key in days} == days
        assert len(cache) == len(days)
        assert cache.check() == []


def test_many_processes_that_open_at_once_move_each_entry_once(fill_shards, directory, monkeypatch):
    # Those who only look have a database open for a moment, too.
    monkeypatch.setattr(upgrade, "PATIENCE", 60)
    fill_shards(shards=4)
    children = []
    for number in range(5):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with FanoutCache(directory) as cache:
                    for gone in range(number, 100, 5):
                        code = 0 if cache.pop((gone, "tuple")) == [gone] else 2
            finally:
                os._exit(code)
        children.append(pid)

    assert {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children} == {0}
    with FanoutCache(directory) as cache:
        assert len(cache) == len(ENTRIES) - 100
        assert cache.check() == []


def test_parts_are_upgraded_when_they_are_opened(start_old, directory):
    process = start_old()
    process.run(
        "cache = diskcache.FanoutCache(directory, shards=2)\n"
        "cache.cache('users/old')['ada'] = (1815,)\n"
        "cache.deque('jobs').extend([1, (2,)])\n"
        "cache.index('names')[('a',)] = [1]\n",
        directory=str(directory),
    )
    process.stop()
    with FanoutCache(directory) as cache:
        assert cache.cache("users/old")["ada"] == (1815,)
        assert list(cache.deque("jobs")) == [1, (2,)]
        assert dict(cache.index("names")) == {("a",): [1]}
    assert (directory / "deque" / "jobs" / "cache.db.5").exists()


def test_json_keys_are_found(old, directory):
    entries = {f"key {number}": [number] for number in range(50)} | {n: n for n in range(20)}
    old.run(
        FILL.replace("**settings", "shards=4, disk=diskcache.JSONDisk"),
        directory=str(directory), entries=entries,
    )  # fmt: skip
    with FanoutCache(directory, disk=JSONDisk) as cache:
        assert {key: cache[key] for key in entries} == entries
        assert len(cache) == len(entries)


def test_trusted_pickles_go_to_their_shards(fill_shards, directory):
    days = {datetime.date(2020, 1, 1) + datetime.timedelta(n): [n] for n in range(40)}
    objects = {f"object {n}": datetime.timedelta(n) for n in range(40)}
    large = {datetime.date(1990, 1, n + 1): "x" * 50_000 for n in range(10)}
    fill_shards({**days, **objects, **large}, shards=4)

    with FanoutCache(directory) as cache:
        assert len(cache) == 90
        assert cache.check() == []
    with (
        pytest.warns(UserWarning, match="can run code"),
        FanoutCache(directory, trust_legacy_pickles=True) as cache,
    ):
        assert {key: cache[key] for key in days} == days
        assert {key: cache[key] for key in objects} == objects
        assert {key: cache[key] for key in large} == large
        assert len(cache) == 90
        assert cache.check() == []
    with FanoutCache(directory, trust_legacy_pickles=True) as cache:
        assert {key: cache[key] for key in days} == days
    for shard in directory.iterdir():
        assert_tidy(shard)
