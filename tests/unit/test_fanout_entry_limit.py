"""The limit on the number of entries of all shards: who goes, who stays, what it costs to look."""

from __future__ import annotations

import pytest

from diskcache import EVICTION_POLICY, FanoutCache, Lock
from diskcache.fanout import entry_limit
from diskcache.fanout.entry_limit import EntryLimit
from tests.support.crew import in_processes


@pytest.fixture
def fanout(make_cache, variant):
    def make(**settings):
        return make_cache(**settings)

    return make


@pytest.fixture
def variant():
    from tests.support.variants import FANOUT

    return FANOUT


def fill(cache, limit, names, clock):
    for name in names:
        cache[name] = name
        limit.stored(name)
        clock.advance(1)


def limited(cache, most, frequency=3):
    return EntryLimit(cache._shards, most, frequency)


def gone(cache, names):
    return [name for name in names if name not in cache]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("least-recently-stored", ["k00", "k01", "k02", "k03"]),
        ("least-recently-used", ["k02", "k03", "k04", "k05"]),
    ],
)
def test_victims_are_the_first_of_all_shards(fanout, clock, policy, expected):
    cache = fanout(eviction_policy=policy)
    limit = limited(cache, 15)
    names = [f"k{number:02}" for number in range(15)]
    fill(cache, limit, names, clock)
    for name in names[:2] * 2:
        cache.get(name)
        clock.advance(1)
    fill(cache, limit, ["new"], clock)

    # One goes for the new entry, and one in three of all but one for those to come.
    assert gone(cache, [*names, "new"])[:4] == expected
    assert len(cache) == 15 - 15 // 3 + 1


def test_victims_are_those_that_are_seldom_read(fanout, clock):
    cache = fanout(eviction_policy="least-frequently-used")
    limit = limited(cache, 15)
    names = [f"k{number:02}" for number in range(15)]
    fill(cache, limit, names, clock)
    for name in names[::2]:
        cache.get(name)
    fill(cache, limit, ["new"], clock)

    assert set(gone(cache, names)) <= set(names[1::2])
    assert len(cache) == 11


def test_policy_of_ones_own_decides_in_each_shard(fanout, clock, monkeypatch):
    smallest = "SELECT {fields} FROM Cache ORDER BY value LIMIT ?"
    policy = {"init": None, "get": None, "cull": smallest}
    monkeypatch.setitem(EVICTION_POLICY, "smallest-first", policy)
    cache = fanout(eviction_policy="smallest-first")
    limit = limited(cache, 30)
    for number in reversed(range(31)):
        cache[f"k{number}"] = number
        limit.stored(f"k{number}")

    assert len(cache) == 21
    assert sum(cache.values()) > sum(range(31)) * 0.75
    assert "k0" in cache


def test_entry_just_stored_is_no_victim(fanout, clock):
    cache = fanout(eviction_policy="least-frequently-used")
    limit = limited(cache, 5, 1)
    fill(cache, limit, "abcde", clock)
    for name in "abcde":
        cache.get(name)
    fill(cache, limit, "f", clock)

    assert list(cache) == ["f"]


def test_rows_of_locks_are_no_victims(fanout, clock):
    cache = fanout()
    lock = Lock(cache, "lock")
    lock.acquire()
    fill(cache, limited(cache, 5, 1), [f"k{number}" for number in range(20)], clock)

    assert lock.locked()
    lock.release()


def test_old_entries_in_large_numbers_are_trimmed_in_rounds(fanout, clock, monkeypatch):
    monkeypatch.setattr(entry_limit, "STEP", 50)
    cache = fanout()
    cache.set_many({str(number): number for number in range(1000)})
    limit = limited(cache, 100, 2)
    fill(cache, limit, ["new"], clock)

    assert len(cache) == 51
    assert "new" in cache


def test_entries_are_not_counted_at_each_write(fanout, clock, monkeypatch):
    cache = fanout()
    limit = limited(cache, 1000)
    counted = []
    monkeypatch.setattr(limit, "_count", lambda: counted.append(1) or len(cache))
    fill(cache, limit, map(str, range(500)), clock)

    assert len(counted) < 100


def test_writer_in_the_way_puts_it_off(fanout, clock, directory):
    cache = fanout(timeout=0.001)
    limit = limited(cache, 2)
    cache.set_many(dict.fromkeys("abc"))
    other = FanoutCache(directory)
    with other.transact():
        limit.stored("c")
        assert len(cache) == 3
    other.close()
    limit.stored("c")

    assert len(cache) == 2


def store(directory, name, entries, most):
    with FanoutCache(directory) as cache:
        limit = EntryLimit(cache._shards, most, 3)
        highest = 0
        for number in range(entries):
            cache[f"{name}-{number}"] = number
            limit.stored(f"{name}-{number}")
            if number % 5 == 0:
                # The shards are of one moment only while nobody writes.
                with cache.transact():
                    highest = max(highest, len(cache))
        return highest


def test_several_processes_keep_to_the_limit(directory, fanout):
    fanout()
    highest = in_processes(store, [(directory, name, 300, 100) for name in range(3)])

    # Each of the others may be between its write and its look.
    assert max(highest) <= 103
