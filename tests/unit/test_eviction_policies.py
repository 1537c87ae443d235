"""Policies beyond the order of version 5, limits, and switching from one policy to another."""

from __future__ import annotations

import logging
import math
import os
import threading

import pytest

from diskcache import (
    EVICTION_POLICY,
    Cache,
    Deque,
    FanoutCache,
    Index,
    Lock,
    SettingError,
    TooLargeError,
    UnknownPolicyError,
    register_policy,
    unregister_policy,
)
from diskcache.clock import SYSTEM_CLOCK
from diskcache.engines.sqlite import s3fifo

BUILT_IN = sorted(EVICTION_POLICY)
EVICTING = [name for name in BUILT_IN if name != "none"]


@pytest.fixture
def own_policy():
    """Register policies for one test."""
    names = []

    def register(name, rank, **keywords):
        register_policy(name, rank, **keywords)
        names.append(name)

    yield register
    for name in names:
        unregister_policy(name)


def rows(cache, condition="1"):
    return cache._engine._link().execute(f"SELECT count(*) FROM Cache WHERE {condition}").get


# -- s3-fifo ------------------------------------------------------------------------------------


def test_s3_fifo_spares_what_was_read_in_a_cache_of_three(make_cache):
    cache = make_cache(eviction_policy="s3-fifo", count_limit=3)
    for key in "abc":
        cache[key] = 1
    assert cache["a"] == 1
    cache["d"] = 1

    assert list(cache) == ["a", "c", "d"]


@pytest.mark.parametrize("memory_limit", [0, 2**20])
def test_s3_fifo_counts_hits_that_memory_answers(make_cache, memory_limit):
    cache = make_cache(eviction_policy="s3-fifo", count_limit=3, memory_limit=memory_limit)
    for key in "abc":
        cache[key] = 1
        for _ in range(3):
            cache.get("a")
    for key in "defg":
        cache[key] = 1

    # Three hits: spared three times, each time at the end of the queue.
    assert "a" in cache


def test_s3_fifo_brings_back_what_it_remembers(make_cache, monkeypatch):
    monkeypatch.setattr(s3fifo, "FLOOR", 3)
    cache = make_cache(eviction_policy="s3-fifo", count_limit=40)
    for number in range(60):
        cache[number] = 0
    gone = next(number for number in range(60) if number not in cache)
    cache[gone] = 0
    for number in range(60, 80):
        cache[number] = 0

    assert gone in cache
    assert rows(cache, f"key = {gone} AND rank >= 0") == 1


def test_s3_fifo_keeps_reads_and_place_of_what_is_stored_again(make_cache):
    cache = make_cache(eviction_policy="s3-fifo", count_limit=3)
    for key in "abc":
        cache[key] = 1
    cache.get("a")
    cache["a"] = 2
    cache["b"] = 2
    cache["d"] = 1

    assert list(cache) == ["a", "c", "d"]


@pytest.mark.parametrize("memory_limit", [0, 2**20])
def test_hits_count_once_more_after_an_entry_was_removed(make_cache, memory_limit):
    # By the clock of the system: with another one there is no short way that stops noting.
    cache = make_cache(
        eviction_policy="s3-fifo", count_limit=3, memory_limit=memory_limit, clock=SYSTEM_CLOCK
    )
    for _ in range(2):
        cache.delete("a")
        cache["a"] = 1
        for _ in range(6):
            cache.get("a")
    # Spared three times, and then the oldest once more: four rounds of three entries.
    for number in range(11):
        cache[number] = 1
        assert "a" in cache
    cache["last"] = 1

    assert "a" not in cache


@pytest.mark.parametrize("policy", ["s3-fifo", "least-recently-used", "least-frequently-used"])
def test_reads_written_down_in_a_transaction_that_was_undone_still_count(make_cache, clock, policy):
    cache = make_cache(eviction_policy=policy, count_limit=3)
    for key in "abc":
        cache[key] = 1
        clock.advance(1)
    cache.get("a")
    with pytest.raises(KeyError), cache.transact():
        cache.get("a")
        cache["undone"] = 1
        assert cache.delete("undone")
        raise KeyError
    clock.advance(1)
    cache["d"] = 1

    assert list(cache) == ["a", "c", "d"]
    assert cache.check() == []


def test_reads_of_a_parent_are_not_those_of_its_child(make_cache):
    cache = make_cache(eviction_policy="s3-fifo", count_limit=3)
    for key in "abc":
        cache[key] = 1
    cache.get("a")
    child = os.fork()
    if child == 0:
        os._exit(len(cache._engine._culler.reads))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    cache["d"] = 1

    assert "a" in cache


def test_reads_of_a_child_count_in_full_though_its_parent_read_the_same_often(make_cache):
    # By the clock of the system: with another one there is no short way that stops noting.
    cache = make_cache(eviction_policy="s3-fifo", count_limit=3, clock=SYSTEM_CLOCK)
    cache["a"] = 0
    for _ in range(8):
        cache.get("a")
    child = os.fork()
    if child == 0:
        for _ in range(8):
            cache.get("a")
        # Spared three times, and then the oldest once more: four rounds of three entries.
        for number in range(11):
            cache[number] = 0
        os._exit("a" not in cache)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_cost_in_python_is_that_of_the_database(make_cache):
    cache = make_cache(eviction_policy="s3-fifo", count_limit=20, disk_min_file_size=1000)
    values = [1, 2.5, "text", "ä€", b"bytes", "x" * 999, "ü" * 999, b"y" * 5000, ["list"], None]
    for number, value in enumerate(values * 2):
        cache[number, "tuple"] = value
        cache[f"ключ{number}"] = value
    cache.incr("counter")
    cache.delete("counter")

    assert cache.check() == []
    assert rows(cache, "rank < 0") > 0


def test_check_mends_the_state_of_the_queues(make_cache):
    cache = make_cache(eviction_policy="s3-fifo", count_limit=20)
    for number in range(30):
        cache[number] = number
    link = cache._engine._link()
    link.execute("DELETE FROM Cache WHERE rowid = (SELECT min(rowid) FROM Cache WHERE rank < 0)")
    link.execute("INSERT INTO Ghost VALUES (12345, 0)")
    found = [str(message.message) for message in cache.check(fix=True)]

    assert any("s3-fifo: small is" in text for text in found)
    assert any("s3-fifo: ghosts is" in text for text in found)
    assert cache.check() == []


@pytest.mark.parametrize("state", [None, b"", b"\xff" * 72, "text", 5])
def test_state_that_cannot_be_is_made_anew(make_cache, state):
    cache = make_cache(eviction_policy="s3-fifo", count_limit=20)
    for number in range(30):
        cache[number] = number
    link = cache._engine._link()
    link.execute("UPDATE Settings SET value = ? WHERE kind = 'policy'", (state,))
    again = make_cache()
    for number in range(30, 90):
        again[number] = number

    assert len(again) == 20
    assert again.check() == []


def test_bulk_put_delete_and_rollback_leave_the_queues_exact(make_cache):
    cache = make_cache(eviction_policy="s3-fifo", count_limit=50)
    cache.set_many(dict.fromkeys(range(80), "v"))
    assert len(cache) <= 50
    with pytest.raises(TypeError):
        cache.set_many({"new": 1, "newer": 2}, tag=["no tag"])
    with pytest.raises(KeyError), cache.transact():
        cache.set_many({f"k{number}": "v" for number in range(10)})
        cache.delete_many(range(60, 70))
        raise KeyError
    assert cache.check() == []
    cache.set("gone", 1, expire=-1)
    cache.evict("no such tag")
    cache.expire()
    assert cache.check() == []
    cache.clear()
    assert cache.check() == []
    assert rows(cache) == 0


def test_interrupted_step_in_a_transaction_leaves_queues_that_are_made_anew(
    make_cache, monkeypatch
):
    cache = make_cache(eviction_policy="s3-fifo", count_limit=10)
    for number in range(20):
        cache[number] = 0
    remember = s3fifo.Queues._remember

    def interrupted(*_):
        raise KeyboardInterrupt

    with cache.transact():
        monkeypatch.setattr(s3fifo.Queues, "_remember", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.add("x", 0)
        monkeypatch.setattr(s3fifo.Queues, "_remember", remember)
    for number in range(30, 60):
        cache[number] = 0

    assert len(cache) == 10
    assert cache.check() == []


# -- Least frequently used, with aging ----------------------------------------------------------


def test_what_was_read_often_once_goes_in_the_end(make_cache):
    cache = make_cache(eviction_policy="least-frequently-used", count_limit=4)
    cache["once popular"] = 0
    for _ in range(5):
        cache.get("once popular")
    for number in range(60):
        cache[number] = 0
        for _ in range(2):
            cache.get(number)

    assert "once popular" not in cache


def test_order_is_that_of_the_counts_until_something_has_gone(make_cache):
    cache = make_cache(eviction_policy="least-frequently-used", count_limit=4, cull_limit=1)
    for key, times in [("a", 3), ("b", 1), ("c", 2), ("d", 4)]:
        cache[key] = 0
        for _ in range(times):
            cache.get(key)
    cache["e"] = 0

    assert list(cache) == ["a", "c", "d", "e"]


# -- Policies of a program's own ----------------------------------------------------------------


def test_policy_of_a_program_decides(make_cache, own_policy):
    own_policy("largest-first", lambda entry, _: -entry.size)
    cache = make_cache(eviction_policy="largest-first", count_limit=3)
    cache["small"], cache["large"], cache["medium"] = b"s", b"l" * 500, b"m" * 50
    cache["new"] = b"n"

    assert list(cache) == ["small", "medium", "new"]


def test_policy_of_a_program_is_told_of_reads_and_of_the_last_victim(make_cache, own_policy):
    seen = []

    def rank(entry, floor):
        seen.append((entry, floor))
        return floor + entry.reads

    own_policy("lfu-da", rank, reads=True)
    cache = make_cache(eviction_policy="lfu-da", count_limit=3)
    for key in "abc":
        cache.set(key, key, tag="t", expire=100)
    cache.get("a")
    cache.get("a")
    cache["d"] = 1

    assert list(cache) == ["a", "c", "d"]
    entry = next(entry for entry, _ in reversed(seen) if entry.key == "a")
    assert (entry.reads, entry.tag, entry.size) == (2, "t", 66)
    assert entry.expire_time - entry.store_time == 100


@pytest.mark.parametrize("rank", [None, math.nan, math.inf, "text"])
def test_rank_that_is_no_number_is_an_error_and_nothing_is_stored(make_cache, own_policy, rank):
    own_policy("odd", lambda entry, _: rank if entry.key == "bad" else 0)
    cache = make_cache(eviction_policy="odd", count_limit=4)
    for key in "abcd":
        cache[key] = 1
    with pytest.raises(SettingError, match=r"odd.*finite number"):
        cache["bad"] = 1

    assert list(cache) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("name", ["", 5, None, "none", "s3-fifo"])
def test_policy_needs_a_name_of_its_own(name):
    with pytest.raises(SettingError, match="name of a policy"):
        register_policy(name, lambda *_: 0.0)


def test_policy_needs_a_function():
    with pytest.raises(SettingError, match="must be a function: got 5"):
        register_policy("five", 5)


def test_policy_that_was_not_registered_cannot_be_forgotten():
    with pytest.raises(UnknownPolicyError):
        unregister_policy("never")


def test_policy_of_templates_that_names_locks_first_still_finds_victims(make_cache, monkeypatch):
    template = {
        "init": None,
        "get": None,
        "cull": "SELECT {fields} FROM Cache ORDER BY store_time LIMIT ?",
    }
    monkeypatch.setitem(EVICTION_POLICY, "stored-first", template)
    cache = make_cache(eviction_policy="stored-first", count_limit=150)
    locks = [Lock(cache, f"lock {number}") for number in range(120)]
    for lock in locks:
        lock.acquire()
    for number in range(40):
        cache[number] = number
        assert len(cache) <= 150
    cache.reset("count_limit", 130)

    assert cache.cull() == 20
    assert list(cache.keys())[-10:] == list(range(30, 40))
    for lock in locks:
        lock.release()


def test_policy_that_is_not_registered_here_is_replaced(make_cache, own_policy, caplog):
    register_policy("there", lambda entry, _: entry.store_time)
    make_cache(eviction_policy="there", count_limit=5).close()
    unregister_policy("there")
    cache = make_cache()

    assert cache.eviction_policy == "least-recently-stored"
    assert "'there' is not defined here" in caplog.text
    for number in range(10):
        cache[number] = number
    assert list(cache) == [5, 6, 7, 8, 9]


def test_set_many_and_incr_rank_by_the_policy_of_a_program(make_cache, own_policy):
    own_policy("small-first", lambda entry, _: entry.size)
    cache = make_cache(eviction_policy="small-first", count_limit=4)
    cache.set_many({"a": b"x" * 9, "b": b"x" * 50, "c": b"x" * 70, "d": b"x" * 60})
    cache.incr("n")
    cache.incr("n")
    cache["e"] = b"x" * 90

    assert "a" not in cache
    assert len(cache) == 4


# -- Switching ----------------------------------------------------------------------------------


@pytest.mark.parametrize("old", BUILT_IN)
@pytest.mark.parametrize("new", BUILT_IN)
def test_switching_keeps_entries_and_works(make_cache, clock, old, new):
    cache = make_cache(eviction_policy=old, count_limit=40)
    other = make_cache()
    for number in range(40):
        cache[number] = number
        clock.advance(1)
    for number in range(0, 40, 2):
        cache.get(number)
    before = dict(cache.items())
    cache.reset("eviction_policy", new)

    assert dict(cache.items()) == before
    other["written with the old policy"] = 1
    other.delete("written with the old policy")
    for number in range(40, 80):
        cache[number] = number
        clock.advance(1)
    assert cache.check() == []
    # The one that was deleted took the place of another, if there was to be none too many.
    assert len(cache) == (40 if new != "none" else 80 if old == "none" else 79)
    assert 79 in cache
    names = {name for (name,) in cache._engine._link().execute("SELECT name FROM sqlite_schema")}
    # Where the new policy has no order, who still has the old one makes its own.
    assert ("Ghost_n" in names) is (new == "s3-fifo" or (new == "none" and old == "s3-fifo"))
    make_cache().close()


def test_large_cache_is_put_in_order_in_batches(make_cache, clock, monkeypatch):
    monkeypatch.setattr("diskcache.engines.sqlite.ranking.RANK_BATCH", 50)
    cache = make_cache(eviction_policy="least-recently-used", count_limit=400)
    cache.set_many({number: number for number in range(350)})
    cache.reset("eviction_policy", "s3-fifo")
    for number in range(400, 600):
        cache[number] = number
        if number % 7 == 0:
            cache.delete(number - 300)
            assert cache.check() == []
        if number == 403:
            cache.reset("eviction_policy", "least-frequently-used")
            cache["x"] = 1
            cache.reset("eviction_policy", "s3-fifo")

    assert len(cache) <= 400
    assert cache.check() == []


def test_writer_that_does_not_know_of_the_switch_keeps_the_queues_right(make_cache):
    cache, other = make_cache(count_limit=30), make_cache()
    for number in range(30):
        cache[number] = number
    cache.reset("eviction_policy", "s3-fifo")
    for number in range(30, 90):
        other[number] = number
        other.delete(number - 5)

    assert other.eviction_policy == "least-recently-stored"
    assert cache.check() == []


@pytest.mark.parametrize("policy", BUILT_IN)
def test_directory_that_was_ranked_opens_for_reading(make_cache, policy):
    cache = make_cache(eviction_policy=policy, count_limit=10)
    for number in range(20):
        cache[number] = number
    last = list(cache)[-1]
    cache.close()
    reader = make_cache(readonly=True)

    for _ in range(5):
        assert reader[last] == last
    assert reader.check() == []
    reader.close()


# -- Limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", EVICTING)
def test_count_limit_holds_and_spares_what_was_just_written(make_cache, clock, policy):
    cache = make_cache(eviction_policy=policy, count_limit=1)
    for number in range(5):
        clock.advance(1)
        cache[number] = number
        assert list(cache) == [number]


@pytest.mark.parametrize("policy", ["least-recently-stored", "s3-fifo"])
def test_cull_limit_zero_leaves_all_to_cull(make_cache, policy):
    cache = make_cache(eviction_policy=policy, count_limit=5, cull_limit=0)
    for number in range(300):
        cache[number] = number

    assert len(cache) == 300
    assert cache.cull() == 295
    assert len(cache) == 5
    assert cache.check() == []


def test_lowered_count_limit_is_met_as_writes_come(make_cache):
    cache = make_cache(count_limit=50)
    for number in range(50):
        cache[number] = number
    cache.reset("count_limit", 20)
    for number in range(50, 60):
        cache[number] = number

    assert len(cache) == 20


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2GB", 2 * 10**9),
        ("500 MB", 500 * 10**6),
        ("64KiB", 2**16),
        ("1.5 kB", 1500),
        ("0.5gib", 2**29),
        ("12345", 12345),
        ("7 B", 7),
        ("0.1 TB", 10**11),
    ],
)
def test_size_may_be_text_with_a_unit(make_cache, text, number):
    cache = make_cache(size_limit=text, value_limit=text)
    assert (cache.size_limit, cache.value_limit) == (number, number)
    cache.size_limit = "1 MiB"
    assert cache.size_limit == 2**20
    assert cache.reset("size_limit", text) == number
    assert make_cache().size_limit == number


@pytest.mark.parametrize(
    "value", ["", "GB", "-1", "2 G", "1e9", "2 XB", "9" * 30, "٣ MB", -1, True, None, math.nan]
)
def test_size_that_is_none_is_refused_and_told(make_cache, value):
    with pytest.raises(SettingError, match="size_limit must be a number of bytes, or text such as"):
        make_cache(size_limit=value)


@pytest.mark.parametrize("name", ["count_limit", "value_limit", "size_weight"])
@pytest.mark.parametrize("value", [-1, True, "many", None, 2**63])
def test_limit_that_is_none_is_refused(make_cache, name, value):
    with pytest.raises(SettingError, match=name):
        make_cache(**{name: value})


@pytest.mark.parametrize("policy", BUILT_IN)
def test_value_over_the_limit_is_refused_whatever_the_policy(make_cache, policy):
    cache = make_cache(eviction_policy=policy, value_limit=100, disk_min_file_size=500)
    cache["k"] = "old"
    for value in (b"x" * 101, "ä" * 51, b"x" * 5000, list(range(300))):
        assert cache.set("k", value) is False
        assert cache.add("new", value) is False
        with pytest.raises(ValueError, match="larger than value_limit, 100 bytes"):
            cache["k"] = value
        with pytest.raises(ValueError, match="value_limit"):
            cache.push(value)
    assert cache.set_many({"a": b"x" * 200, "b": "ä" * 50}) == 1
    assert dict(cache.items()) == {"k": "old", "b": "ä" * 50}

    @cache.memoize()
    def long():
        return "x" * 500

    assert long() == "x" * 500
    assert len(cache) == 2


def test_early_victims_are_counted_and_told_once_a_minute(make_cache, clock, caplog):
    caplog.set_level(logging.WARNING, "diskcache")
    cache = make_cache(count_limit=3)
    for number in range(6):
        cache[number] = number
    assert cache.info().culled_young == 3
    assert caplog.text.count("culled less than 10 s after they were stored") == 1
    clock.advance(11)
    cache["late"] = 1
    assert cache.info().culled_young == 3
    cache.cull()
    clock.advance(60)
    cache["a"], cache["b"], cache["c"], cache["d"] = "abcd"
    assert cache.info().culled_young == 4
    assert caplog.text.count("culled less than 10 s") == 2


def test_early_victims_of_a_transaction_that_was_undone_are_not_told(make_cache):
    cache = make_cache(count_limit=3)
    with pytest.raises(KeyError), cache.transact():
        for number in range(6):
            cache[number] = number
            assert cache.get(number) == number
        raise KeyError

    assert cache.info().culled_young == 0


class Pickled:
    """Something that can only be pickled, so that its encoding depends on its key."""

    def __init__(self):
        self.content = "x" * 500


@pytest.mark.parametrize(
    "value", ["x" * 101, b"x" * 5000, Pickled()], ids=["text", "file", "pickle"]
)
def test_value_over_the_limit_is_not_pushed_anywhere(make_cache, value):
    cache = make_cache(eviction_policy="none", value_limit=100, disk_min_file_size=2000)
    deque, index = Deque.fromcache(cache), Index.fromcache(cache)
    bounded = Deque.fromcache(cache, maxlen=1)
    pushes = [cache.push, index.push, deque.append, deque.appendleft, bounded.append]
    for push in pushes:
        deque.append("kept")
        with pytest.raises(TooLargeError, match="larger than value_limit, 100 bytes"):
            push(value)
        assert list(deque) == ["kept"]
        deque.clear()
    assert cache.check() == []


# -- All shards together ------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3, 8])
@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("policy", ["least-recently-stored", "s3-fifo"])
def test_count_limit_is_that_of_all_shards(tmp_path, clock, shards, limit, policy):
    with FanoutCache(
        tmp_path / "fanout", shards, eviction_policy=policy, count_limit=limit, clock=clock
    ) as cache:
        for number in range(300):
            cache[f"k{number}"] = number
            assert len(cache) <= limit
            assert f"k{number}" in cache
        assert len(cache) > limit * 0.8
        cache.set_many({f"m{number}": number for number in range(200)})
        assert len(cache) <= limit
        with cache.transact():
            for number in range(200):
                cache[f"t{number}"] = number
        assert len(cache) <= limit
        assert cache.check() == []
        assert cache.info().count_limit == limit


@pytest.mark.parametrize("shards", [3, 8])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_last_of_many_that_are_stored_at_once_stays(tmp_path, clock, shards, limit):
    with FanoutCache(tmp_path / "fanout", shards, count_limit=limit, clock=clock) as cache:
        for number in range(30):
            cache.set_many({f"a{number}": 1, f"b{number}": 2})
            assert f"b{number}" in cache
            assert len(cache) <= limit


@pytest.mark.parametrize("way", ["set", "item", "add", "incr", "update", "many", "transact"])
@pytest.mark.parametrize("policy", ["least-frequently-used", "s3-fifo"])
def test_entry_stored_again_stays_though_all_shards_hold_too_much(tmp_path, clock, policy, way):
    with FanoutCache(
        tmp_path / "fanout", 3, eviction_policy=policy, cull_limit=1, clock=clock
    ) as cache:
        keys = [f"k{number}" for number in range(200)]
        here = [key for key in keys if cache._shard_of(key) is cache._shard_of("k0")]
        cache.set_many(dict.fromkeys(here, 0))
        for key in here[1:]:
            cache.get(key)
        cache.reset("count_limit", 6)
        if way == "set":
            cache.set("k0", 1)
        elif way == "item":
            cache["k0"] = 1
        elif way == "add":
            cache.delete("k0")
            cache.add("k0", 1)
        elif way == "incr":
            cache.incr("k0")
        elif way == "update":
            cache.update("k0", lambda value: value + 1)
        elif way == "many":
            cache.set_many({"k0": 1})
        else:
            with cache.transact():
                cache["k0"] = 1

        assert cache.get("k0") == 1


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_early_victims_of_every_shard_are_counted(tmp_path, clock, shards):
    with FanoutCache(tmp_path / "fanout", shards, count_limit=3, clock=clock) as cache:
        for number in range(60):
            cache[f"k{number}"] = number
        assert cache.info().culled_young == 57
        cache.reset("cull_limit", 0)
        cache["k60"] = 60
        assert cache.cull() == 1
        assert cache.info().culled_young == 57


def test_deque_and_index_keep_all_whatever_the_count_limit(tmp_path):
    deque = Deque.fromcache(Cache(tmp_path / "d", eviction_policy="none", count_limit=2), "abcde")
    index = Index.fromcache(Cache(tmp_path / "i", eviction_policy="none", count_limit=2))
    index.update(dict.fromkeys("abcde"))

    assert list(deque) == list(index) == list("abcde")
    deque.cache.close()
    index.cache.close()


def test_limit_that_was_lowered_for_a_cull_without_victims_is_not_believed_later(
    make_cache, monkeypatch
):
    monkeypatch.setattr(s3fifo, "FLOOR", 3)
    cache = make_cache(eviction_policy="s3-fifo", count_limit=12)
    for number in range(20):
        cache[number] = 0
    gone = [number for number in range(20) if number not in cache][-1]
    cache.delete_many([number for number in range(18) if number in cache])
    cache.count_limit = 3
    assert cache.cull() == 0
    cache.count_limit = 12
    cache[gone] = 0

    # With one queue, as in a cache of three, it would not matter that it is remembered.
    assert rows(cache, f"key = {gone} AND rank >= 0") == 1


# -- Reads of an object that is closed ----------------------------------------------------------


def test_reads_of_a_thread_are_written_down_though_another_one_closes(make_cache, clock):
    cache = make_cache(eviction_policy="least-recently-used", count_limit=3)
    for key in "abc":
        cache[key] = 0
        clock.advance(1)
    assert cache.get("a") == 0
    thread = threading.Thread(target=cache.close)
    thread.start()
    thread.join(60)

    assert not cache._engine._culler.reads
    cache["d"] = 0
    assert list(cache) == ["a", "c", "d"]
