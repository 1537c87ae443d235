"""Deque, Index and recipes do on a server what they do in a directory."""

from __future__ import annotations

import collections
import threading

import pytest

from diskcache import (
    Averager,
    BoundedSemaphore,
    Deque,
    Index,
    Lock,
    LockReleaseError,
    RateLimitError,
    RLock,
    SettingError,
    UnsupportedError,
    barrier,
    memoize_stampede,
    throttle,
)
from diskcache.errors import ServerError, Timeout, TransactionError
from tests.support.servers import DEADLINE

DEQUE_STEPS = [
    lambda d: d.append("x"),
    lambda d: d.appendleft("y"),
    lambda d: d.extend("abc"),
    lambda d: d.extendleft("abc"),
    lambda d: d.insert(1, "i"),
    lambda d: d.insert(-1, "j"),
    lambda d: d.rotate(2),
    lambda d: d.rotate(-3),
    lambda d: d.reverse(),
    lambda d: d.remove(3),
    lambda d: d.pop(),
    lambda d: d.popleft(),
    lambda d: d.__setitem__(2, "s"),
    lambda d: d.__delitem__(2),
    lambda d: d.__imul__(2),
    lambda d: d.index(4),
    lambda d: d.count(4),
]


@pytest.mark.parametrize("maxlen", [None, 8])
def test_deque_does_what_that_of_the_standard_library_does(cache, maxlen):
    ours = Deque.fromcache(cache, range(6), maxlen=maxlen)
    theirs = collections.deque(range(6), maxlen=maxlen)
    for step in DEQUE_STEPS:
        if maxlen is not None and len(theirs) == maxlen:
            theirs.popleft()
            ours.popleft()

        assert outcome(step, ours) == outcome(step, theirs)
        assert list(ours) == list(theirs)
        assert len(ours) == len(theirs)


def outcome(step, deque):
    try:
        found = step(deque)
    except (ValueError, IndexError) as exc:
        return type(exc)
    return None if isinstance(found, (Deque, collections.deque)) else found


def test_recipes_are_not_bypassed(cache):
    averager = Averager(cache, "average")
    once = throttle(cache, 1, 1000, name="bucket", blocking=False)(len)
    with cache.bypass():
        with Lock(cache, "lock", expire=60):
            assert not Lock(cache, "lock", expire=60).acquire(blocking=False)
        averager.add(1)
        averager.add(3)
        assert averager.get() == 2
        assert once("") == 0
        with pytest.raises(RateLimitError):
            once("")

    assert averager.pop() == 2


def test_deque_step_that_fails_changes_nothing(cache):
    deque = Deque.fromcache(cache, range(5))

    with pytest.raises(ZeroDivisionError), deque._step():
        deque.append(9)
        deque.popleft()
        raise ZeroDivisionError

    assert list(deque) == [0, 1, 2, 3, 4]


def test_deque_step_sees_what_it_has_changed(cache):
    deque = Deque.fromcache(cache, range(3))
    with deque._step():
        deque.append(3)
        deque.appendleft(-1)
        inside = list(deque), len(deque), deque.peek(), deque.popleft()

    assert inside == ([-1, 0, 1, 2, 3], 5, 3, -1)
    assert list(deque) == [0, 1, 2, 3]


def test_step_keeps_other_writers_away_and_readers_not(cache, make_cache):
    other = make_cache(timeout=0)
    deque = Deque.fromcache(cache, range(3))
    with deque._step():
        deque.append(3)
        assert other.get(500_000_000_000_000) == 0
        with pytest.raises(Timeout):
            other.set("a", 1)

    assert other.set("a", 1)


def test_step_whose_lease_ended_stores_nothing(cache):
    deque = Deque.fromcache(cache, range(3))
    lock = cache._engine.parts[0].lock

    with pytest.raises(TransactionError, match="nothing of it was"), deque._step():
        deque.append(3)
        cache._engine.driver.command("DEL", lock)

    assert list(deque) == [0, 1, 2]


def test_appends_of_threads_are_all_there_and_none_twice(remote):
    deque = Deque.fromcache(remote, maxlen=1000)

    def work(number):
        for step in range(20):
            deque.append((number, step))

    run_all(work, 4)

    assert sorted(deque) == [(number, step) for number in range(4) for step in range(20)]


def test_takers_get_each_item_once(remote):
    deque = Deque.fromcache(remote, range(60))
    taken = []

    def work(_):
        while True:
            try:
                taken.append(deque.popleft())
            except IndexError:
                return

    run_all(work, 3)

    assert sorted(taken) == list(range(60))


def run_all(work, count):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_index_does_what_a_dict_does(cache):
    index, plain = Index.fromcache(cache, a=1, b=[2]), {"a": 1, "b": [2]}
    for both in (index, plain):
        both["c"] = 3
        both.update({"d": 4, "a": 5})
        del both["b"]
        both.setdefault("e", 6)
        both.setdefault("a", 7)
        both.pop("d")

    assert list(index.items()) == list(plain.items())
    assert index == plain
    assert index.popitem() == plain.popitem()
    assert index.popitem(last=False) == ("a", 5)
    assert list(reversed(index)) == ["c"]


def test_structure_on_several_slots_is_refused(make_cache, tmp_path):
    spread = make_cache(tmp_path / "spread", shards=4)

    with pytest.raises(SettingError.__base__, match="shards=1"):
        Deque.fromcache(spread)


def test_transact_names_what_to_use_instead(cache):
    with pytest.raises(UnsupportedError, match="set_many"):
        cache.transact()
    with pytest.raises(NotImplementedError):
        Index.fromcache(cache).transact()


def test_lock_without_lease_is_refused(cache):
    with pytest.raises(SettingError, match="expire=SECONDS"):
        Lock(cache, "lock")


def test_lock_is_held_by_one_and_its_numbers_grow(cache, clock):
    first, second = Lock(cache, "lock", expire=10), Lock(cache, "lock", expire=10)
    one = first.acquire()

    assert not second.acquire(blocking=False)
    assert first.locked()
    first.release()
    two = second.acquire()
    assert two > one > 0
    clock.advance(11)
    assert first.acquire() > two
    with pytest.raises(LockReleaseError):
        second.release()


class Late:
    """Stands in for what gives a lock its numbers, and is late to store one of them."""

    def __init__(self, parties, meanwhile):
        self._parties = parties
        self._meanwhile = meanwhile

    def __getattr__(self, name):
        return getattr(self._parties, name)

    def next_fence(self, owner, above):
        drawn = self._parties.next_fence(owner, above)
        self._meanwhile()
        self._meanwhile = lambda: None
        return drawn


@pytest.mark.parametrize("kind", [Lock, RLock, BoundedSemaphore])
def test_holder_that_is_late_has_a_greater_number_than_who_came_and_went_meanwhile(cache, kind):
    late, quick = kind(cache, "lock", expire=10), kind(cache, "lock", expire=10)
    numbers = []

    def come_and_go():
        numbers.append(quick.acquire())
        quick.release()

    late._parties = Late(late._parties, come_and_go)
    number = late.acquire()

    assert number > numbers[0]
    late.release()
    assert not late.locked()
    assert quick.acquire() > number


def test_rlock_keeps_its_number_when_it_is_taken_again(cache):
    lock, other = RLock(cache, "lock", expire=10), Lock(cache, "other", expire=10)
    number = lock.acquire()
    other.acquire()

    assert lock.acquire() == number
    lock.release()
    lock.release()
    assert not lock.locked()


def test_lock_whose_number_cannot_be_confirmed_is_given_back(cache):
    lock = Lock(cache, "lock", expire=10)

    class Broken(Late):
        def confirmed(self, _):
            raise ServerError("away")

    lock._parties = Broken(lock._parties, lambda: None)
    with pytest.raises(ServerError):
        lock.acquire()

    assert not lock.locked()


def test_rlock_is_taken_again_by_its_thread(cache):
    lock = RLock(cache, "lock", expire=10)
    with lock, lock:
        assert lock.locked()

    assert not lock.locked()


def test_semaphore_gives_as_many_permits_as_it_has(cache, clock):
    semaphore = BoundedSemaphore(cache, "semaphore", value=2, expire=10)

    assert semaphore.acquire()
    assert semaphore.acquire()
    assert not semaphore.acquire(blocking=False)
    semaphore.release()
    assert semaphore.acquire(blocking=False)
    clock.advance(11)
    assert semaphore.acquire(blocking=False)


def test_lock_is_not_evicted_by_its_tag_but_cleared(cache):
    lock = Lock(cache, "lock", expire=10, tag="t")
    lock.acquire()
    cache.evict("t")
    cache.evict(None)

    assert lock.locked()
    cache.clear()
    assert not lock.locked()


def test_threads_with_a_lock_count_without_loss(remote):
    remote["count"] = 0
    lock = Lock(remote, "lock", expire=20)

    def work(_):
        for _ in range(5):
            with lock:
                remote["count"] = remote["count"] + 1

    run_all(work, 3)

    assert remote["count"] == 15


def test_averager_counts_the_numbers_of_all(remote):
    averager = Averager(remote, "average")
    run_all(lambda number: averager.add(number), 4)

    assert averager.get() == 1.5
    assert averager.pop() == 1.5
    assert averager.get() is None


def test_throttle_lets_no_more_through(cache, clock):
    @throttle(cache, count=2, seconds=1, blocking=False, name="throttled")
    def function():
        return clock.time()

    function(), function()
    with pytest.raises(RateLimitError):
        function()
    clock.advance(1)
    function()


def test_memoized_function_is_called_once(cache):
    calls = []

    @cache.memoize(tag="results")
    def function(number):
        calls.append(number)
        return [number]

    assert function(1) == function(1) == [1]
    assert calls == [1]
    cache.evict("results")
    function(1)
    assert calls == [1, 1]


def test_stampede_and_barrier_work(cache):
    @memoize_stampede(cache, expire=10)
    def function(number):
        return number * 2

    assert function(2) == function(2) == 4

    @barrier(cache, Lock, name="one at a time", expire=10)
    def alone():
        return 1

    assert alone() == 1
