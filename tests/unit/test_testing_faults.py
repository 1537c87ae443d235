"""Faults on order: what is told to fail fails, and nothing else."""

from __future__ import annotations

import itertools
import threading

import pytest

from diskcache import Cache, CacheFullError, Deque, DjangoCache, FanoutCache, Index, SettingError
from diskcache.errors import Timeout
from diskcache.testing import Faults, FaultyEngine, faulty
from diskcache.testing.faults import GROUPS, OPERATIONS

FULL = CacheFullError("the disk is full")


def test_nth_call_fails_and_the_others_do_not(cache):
    with faulty(cache) as faults:
        faults.fail("put", FULL, nth=2)
        cache["a"] = 1
        with pytest.raises(CacheFullError) as raised:
            cache["b"] = 2
        cache["c"] = 3

    assert raised.value is FULL
    assert list(cache) == ["a", "c"]
    assert faults.happened == 1
    assert faults.calls["put"] == 3


@pytest.mark.parametrize(("times", "expected"), [(1, 1), (2, 2), (None, 4)])
def test_as_many_calls_fail_in_a_row_as_asked_for(cache, times, expected):
    failed = 0
    with faulty(cache) as faults:
        faults.fail("delete", Timeout, times=times)
        for key in range(4):
            try:
                cache.delete(key)
            except Timeout:
                failed += 1

    assert failed == faults.happened == expected


def test_calls_are_counted_from_the_moment_of_asking(cache):
    with faulty(cache) as faults:
        cache["a"] = 1
        faults.fail("put", FULL, nth=2)
        cache["b"] = 1
        with pytest.raises(CacheFullError):
            cache["c"] = 1


def test_late_failure_comes_after_the_operation(cache):
    with faulty(cache) as faults:
        faults.fail("put", Timeout, late=True)
        with pytest.raises(Timeout):
            cache["a"] = 1

        assert cache["a"] == 1


def test_every_read_reaches_the_engine(cache):
    cache["a"] = 1
    assert [cache["a"] for _ in range(3)] == [1, 1, 1]
    with faulty(cache) as faults:
        faults.fail("reads", FULL, times=None)
        for _ in range(3):
            with pytest.raises(CacheFullError):
                cache.get("a")

    assert [cache["a"] for _ in range(3)] == [1, 1, 1]


@pytest.mark.usefixtures("no_looks")
def test_with_memory_reads_are_answered_from_it(cache):
    cache["a"] = 1
    assert [cache["a"] for _ in range(3)] == [1, 1, 1]
    with faulty(cache, memory=True) as faults:
        faults.fail("reads", FULL, times=None)

        assert cache["a"] == 1
        assert faults.happened == 0


def test_commit_that_fails_leaves_nothing_of_the_transaction(cache):
    cache["a"] = 1
    with faulty(cache) as faults:
        faults.fail("commit", FULL)
        with pytest.raises(CacheFullError), cache.transact():
            cache["a"] = 2
            cache["b"] = b"x" * 100_000
        with cache.transact():
            cache["c"] = 3

    assert list(cache.items()) == [("a", 1), ("c", 3)]


def test_commit_that_fails_late_leaves_all_of_it(cache):
    with faulty(cache) as faults:
        faults.fail("commit", FULL, late=True)
        with pytest.raises(CacheFullError), cache.transact():
            cache["a"] = 2

    assert cache["a"] == 2


def test_transaction_as_a_decorator_is_wrapped_each_time(cache):
    with faulty(cache) as faults:

        @cache.transact()
        def write():
            return cache.incr("n")

        faults.fail("commit", FULL, nth=2)
        assert write() == 1
        with pytest.raises(CacheFullError):
            write()
        assert write() == 2


def test_block_that_raises_is_rolled_back_without_a_fault(cache):
    with faulty(cache) as faults:
        faults.fail("commit", FULL)
        with pytest.raises(ZeroDivisionError), cache.transact():
            cache["a"] = 1
            raise ZeroDivisionError

    assert faults.happened == 0
    assert "a" not in cache


def test_delay_passes_on_the_clock_of_the_cache(cache, clock):
    began = clock.time()
    with faulty(cache) as faults:
        faults.delay("put", 5, times=2)
        for key in range(3):
            cache.set(key, 1, expire=8)

        assert clock.time() == began + 10
        assert list(cache.items()) == [(1, 1), (2, 1)]


def test_clear_ends_what_was_to_come(cache):
    with faulty(cache) as faults:
        faults.fail("any", FULL, times=None)
        with pytest.raises(CacheFullError):
            len(cache)
        faults.clear()

        assert len(cache) == 0


def test_after_the_block_nothing_fails_and_the_engine_is_the_one_before(cache):
    engine, tier = cache._engine, cache._tier
    with pytest.raises(CacheFullError), faulty(cache) as faults:
        assert isinstance(cache._engine, FaultyEngine)
        faults.fail("put", FULL, times=None)
        cache["a"] = 1

    assert cache._engine is engine
    assert cache._tier is tier
    cache["a"] = 1
    assert cache["a"] == 1


def test_other_objects_on_the_directory_are_not_concerned(cache, make_cache):
    other = make_cache()
    with faulty(cache) as faults:
        faults.fail("any", FULL, times=None)
        other["a"] = 1

        assert other["a"] == 1


@pytest.mark.parametrize("where", ["deque", "index"])
def test_structures_fail_with_their_caches(cache, where):
    thing = Deque.fromcache(cache) if where == "deque" else Index.fromcache(cache)
    write = (lambda: thing.append(1)) if where == "deque" else lambda: thing.update(a=1)
    with faulty(thing) as faults:
        faults.fail("writes", FULL)
        with pytest.raises(CacheFullError):
            write()
        write()

    assert len(thing) == 1
    write()


def test_every_shard_fails(directory, clock):
    with FanoutCache(directory, 4, clock=clock) as cache:
        for key in range(20):
            cache[key] = key
        assert cache[3] == cache[3] == cache[3] == 3
        with faulty(cache) as faults:
            faults.fail("reads", FULL, times=None)
            for key in range(20):
                with pytest.raises(CacheFullError):
                    cache[key]
            faults.clear()
            faults.delay("put", 3)
            began = clock.time()
            cache[0] = 1

            assert clock.time() == began + 3
        assert cache[3] == 3


def test_cache_of_django_fails(directory):
    cache = DjangoCache(directory, {})
    with faulty(cache) as faults:
        faults.fail("put", FULL)
        with pytest.raises(CacheFullError):
            cache.set("a", 1)
        cache.set("a", 2)

        assert cache.get("a") == 2
    cache.close()


def test_threads_share_the_count(cache):
    failed = []

    def write(name):
        for number in range(50):
            try:
                cache[name, number] = 1
            except CacheFullError:
                failed.append(name)

    with faulty(cache) as faults:
        faults.fail("put", FULL, nth=20, times=30)
        threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert len(failed) == 30
    assert len(cache) == 170


def test_story_that_fails_at_every_step_is_undone_at_each(cache):
    """How a program would look for the step that it does not survive."""
    cache["stock"], cache["sold"] = 10, 0
    for step in itertools.count(1):
        with faulty(cache) as faults:
            faults.fail("any", FULL, nth=step)
            try:
                with cache.transact():
                    cache.incr("sold")
                    cache.decr("stock")
            except CacheFullError:
                pass
            if not faults.happened:
                break
        assert cache["stock"] + cache["sold"] == 10

    assert step > 4
    assert cache["stock"] == 9


@pytest.mark.parametrize(
    "ask",
    [
        lambda faults: faults.fail("no_such", FULL),
        lambda faults: faults.delay("_engine", 1),
        lambda faults: faults.fail("put", FULL, nth=0),
        lambda faults: faults.fail("put", FULL, times=0),
        lambda faults: faults.fail("put", "full"),
        lambda faults: faults.fail("put", object),
        lambda faults: faults.delay("put", -1),
        lambda faults: faults.delay("put", float("inf")),
    ],
    ids=["operation", "private", "nth", "times", "error", "class", "seconds", "endless"],
)
def test_what_cannot_happen_is_refused(ask):
    with pytest.raises(SettingError, match="must be"):
        ask(Faults())


@pytest.mark.parametrize("thing", [object(), [], "a", Cache])
def test_what_has_no_engine_is_refused(thing):
    with pytest.raises(SettingError, match="no engine"), faulty(thing):
        pass


def test_groups_name_operations_that_there_are():
    assert {name for names in GROUPS.values() for name in names} <= OPERATIONS
    assert not GROUPS["reads"] & GROUPS["writes"]
