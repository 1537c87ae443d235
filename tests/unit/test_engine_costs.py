"""What frequent writes cost, in statements and calls of Python functions: no clock can tell."""

from __future__ import annotations

import gc
import math
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

import diskcache
from diskcache import BoundedSemaphore, Lock, RLock, throttle
from diskcache.engines.sqlite import statements as sql
from diskcache.recipes.rows import Cell
from diskcache.sentinels import ENOVAL

PACKAGE = str(Path(diskcache.__file__).parent)
KEYS = [f"key-{number}" for number in range(100)]


def link_for_long(cache):
    """Return the thread's connection; it is not time to look at the path, however long it takes."""
    link = cache._engine._link()
    link.site.look_at = math.inf
    return link


@contextmanager
def counted(cache):
    """Yield counts of statements of the thread's connection, and of calls of this library."""
    statements, calls = Counter(), Counter()
    con = link_for_long(cache).con

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            calls[frame.f_code.co_qualname] += 1

    con.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: statements.update([event["sql"]]))
    # What earlier tests left is not collected meanwhile: that may call the library, too.
    gc.disable()
    sys.setprofile(note)
    try:
        yield statements, calls
    finally:
        sys.setprofile(None)
        gc.enable()
        con.trace_v2(0, None)


def stored_in_a_block(cache, value, keys=KEYS):
    with cache.transact():
        for key in keys:
            cache.set(key, value)


def stored_at_once(cache, value, keys=KEYS):
    cache.set_many(dict.fromkeys(keys, value))


both_ways = pytest.mark.parametrize("store", [stored_in_a_block, stored_at_once])


@pytest.mark.parametrize("value", ["text", b"bytes"])
def test_put_in_a_transaction_takes_five_calls(cache, value):
    stored_in_a_block(cache, value)

    with cache.transact():
        cache.set("key-1", value)
        with counted(cache) as (statements, calls):
            cache.set("key-2", value)

    assert (statements, sum(calls.values())) == ({}, 5)


@both_ways
def test_batch_is_stored_twenty_entries_at_a_time(cache, store):
    for value in ("a", "b"):
        with counted(cache) as (statements, _):
            store(cache, value, [*KEYS, "more-1", "more-2"])
        together = statements[sql.STORE_TOGETHER[sql.UPSERT_SIMPLE_NUMBERED]]
        assert (together, statements[sql.UPSERT_SIMPLE_NUMBERED]) == (5, 2)
        assert {*map(cache.get, cache)} == {value}


def test_batch_with_expiry_and_tags_is_stored_twenty_entries_at_a_time(cache, clock):
    now = clock.time()
    with counted(cache) as (statements, _), cache.transact():
        for number, key in enumerate(KEYS):
            cache.set(key, number, expire=number + 1, tag=f"tag-{number}")

    assert statements[sql.STORE_TOGETHER[sql.UPSERT_NUMBERED]] == 5
    for number, key in enumerate(KEYS):
        found = cache.get(key, expire_time=True, tag=True)
        assert found == (number, now + number + 1, f"tag-{number}")


@both_ways
def test_batch_of_new_and_old_keys_stores_all_in_order(cache, store):
    store(cache, "a")

    store(cache, "b", [*KEYS[:50], "new-1", *KEYS[50:], "new-0"])

    assert [*cache] == [*KEYS, "new-1", "new-0"]
    assert {*map(cache.get, cache)} == {"b"}
    assert len(cache) == 102


def test_last_of_several_puts_of_a_key_in_a_batch_counts(cache):
    with cache.transact():
        for number in range(100):
            cache.set(f"key-{number % 7}", number)

    assert {cache[key]: key for key in cache} == {
        number: f"key-{number % 7}" for number in range(93, 100)
    }
    assert len(cache) == 7


@both_ways
def test_batch_replaces_a_value_in_a_file(cache, store):
    cache["key-7"] = b"x" * 100_000

    store(cache, "a")

    assert {cache[key] for key in KEYS} == {"a"}
    assert cache.check() == []


@both_ways
def test_batch_removes_tag_and_expiry(cache, store):
    cache.set("key-7", "tagged", expire=60, tag="tag")

    store(cache, "a")

    assert cache.get("key-7", expire_time=True, tag=True) == ("a", None, None)


@both_ways
def test_versions_of_a_batch_are_new_and_unlike_each_other(cache, store):
    versions = set()
    for value in ("a", "b", "c"):
        store(cache, value)
        versions |= {cache.get(key, version=True)[1] for key in KEYS}

    assert len(versions) == 300
    assert all(2**46 <= version < 2**48 for version in versions)


def test_batch_that_was_undone_leaves_versions_that_never_come_again(cache):
    cache["key"] = "before"
    with pytest.raises(KeyError), cache.transact():
        cache["key"] = "undone"
        undone = cache.get("key", version=True)[1]
        raise KeyError

    with cache.transact():
        cache["key"] = "after"

    assert not cache.set("key", "late", if_version=undone)
    assert cache["key"] == "after"


# -- Entries of recipes --


@pytest.mark.parametrize(
    "lock_type", [Lock, RLock, BoundedSemaphore], ids=lambda each: each.__name__
)
def test_lock_is_taken_and_given_back_by_two_reads_and_two_writes(cache, lock_type):
    lock = lock_type(cache, "lock")
    lock.acquire()
    lock.release()

    with counted(cache) as (statements, calls):
        lock.acquire()
        lock.release()

    assert statements == {sql.GET: 2, sql.INSERT_OWN: 1, sql.DELETE_OWN: 1}
    assert sum(calls.values()) < 90


def test_attempt_at_a_lock_that_is_taken_only_reads(cache):
    lock = Lock(cache, "lock")
    lock.acquire()

    with counted(cache) as (statements, calls):
        assert lock.acquire(blocking=False) is False

    assert statements == {sql.GET: 1}
    assert "Gate.acquire" not in calls
    lock.release()


def test_throttled_call_is_a_read_and_a_write(cache):
    @throttle(cache, 1e9, 1)
    def nothing():
        pass

    nothing()
    with counted(cache) as (statements, _):
        nothing()

    assert statements == {sql.GET: 1, sql.REPLACE_OWN: 1}


def test_throttle_with_a_time_function_of_the_user_may_write_in_it(cache):
    def time():
        cache["time"] = cache.get("time", 0) + 1
        return cache["time"]

    @throttle(cache, 1e9, 1, time_func=time)
    def nothing():
        return "called"

    assert nothing() == "called"


@pytest.mark.parametrize(("new", "left"), [(2, 2), (ENOVAL, ENOVAL)], ids=["stored", "removed"])
def test_step_is_asked_again_where_a_program_that_ignores_the_gate_has_written(cache, new, left):
    cell = Cell(cache, "key")
    cell.change(lambda _: (1, None))
    link_for_long(cache)
    seen = []

    def step(value):
        if not seen:
            stranger = apsw.Connection(f"{cache.directory}/cache.db")
            stranger.execute("UPDATE Cache SET version = version + 1")
            stranger.close()
        seen.append(value)
        return new, value

    assert cell.change(step) == 1
    assert (seen, cell.read()) == ([1, 1], left)


def test_step_of_an_entry_that_expired_is_told_that_there_is_none(make_cache, clock):
    cache = make_cache(cull_limit=0)
    cell = Cell(cache, "key")
    cell.change(lambda _: (1, None), expire=10)
    clock.advance(11)

    assert cell.change(lambda value: (2, value)) is ENOVAL
    assert (cell.read(), len(cache)) == (2, 1)


def test_step_that_raises_changes_nothing_and_leaves_the_gate_open(make_cache):
    cache = make_cache()
    cell = Cell(cache, "key")
    cell.change(lambda _: (1, None))

    with pytest.raises(ZeroDivisionError):
        cell.change(lambda value: (value / 0, None))

    assert cell.read() == 1
    with make_cache().transact():
        pass


def test_step_in_a_transaction_is_undone_with_it(cache):
    cell = Cell(cache, "key")
    with pytest.raises(KeyError), cache.transact():
        cell.change(lambda _: (1, None))
        raise KeyError

    assert cell.read() is ENOVAL
