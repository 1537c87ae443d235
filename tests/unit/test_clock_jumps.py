"""The wall clock may be set by a day, back or forth: what depends on it says so, the rest does not.

Expiry is judged by the wall clock. Set back by a day, an entry lives up to a day longer; set forth,
entries with an expiry end early. Entries without one, locks, throttles and what waits are not
affected.
"""

from __future__ import annotations

import os

import pytest

from diskcache import BoundedSemaphore, Lock, RLock, Timeout, host, throttle
from diskcache.testing import ManualClock

DAY = 86_400.0
each_jump = pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forth", "back"])


@each_jump
def test_entries_without_expiry_stay(cache, clock, jump):
    cache["a"] = 1
    cache.set("tagged", 2, tag="t")
    clock.advance(jump)
    cache["b"] = 3
    cache.expire()

    assert list(cache.items()) == [("a", 1), ("tagged", 2), ("b", 3)]


def test_clock_set_back_prolongs_an_entry_by_no_more_than_that(cache, clock):
    cache.set("a", 1, expire=10)
    clock.advance(-DAY)

    assert cache.get("a") == 1

    clock.advance(DAY + 9)
    assert cache.get("a") == 1

    clock.advance(2)
    cache["writer"] = 0
    assert cache.get("a") is None
    assert len(cache) == 1


def test_clock_set_forth_ends_entries_early_and_the_next_ones_live(cache, clock):
    cache.set("a", 1, expire=10)
    clock.advance(DAY)

    assert cache.get("a") is None

    cache.set("b", 2, expire=10)
    clock.advance(9)
    assert cache.get("b") == 2


def test_entry_stored_while_the_clock_was_ahead_lives_by_that_clock(cache, clock):
    clock.advance(DAY)
    cache.set("a", 1, expire=10)
    clock.advance(-DAY)

    assert cache.get("a") == 1
    assert cache.touch("a", expire=10)
    clock.advance(11)
    assert cache.get("a") is None


def test_clock_there_and_back_loses_only_what_a_write_removed_meanwhile(cache, clock):
    cache.set("a", 1, expire=10)
    clock.advance(DAY)
    assert cache.get("a") is None
    clock.advance(-DAY)
    assert cache.get("a") == 1

    clock.advance(DAY)
    cache["writer"] = 0
    clock.advance(-DAY)
    assert cache.get("a") is None


@each_jump
def test_value_in_memory_ends_when_the_entry_does(cache, clock, jump):
    cache.set("a", 1, expire=10)
    assert [cache.get("a") for _ in range(3)] == [1, 1, 1]
    clock.advance(jump)
    from_memory = cache.get("a")

    assert from_memory == cache.get("a", expire_time=True)[0]


@each_jump
@pytest.mark.parametrize("kind", [Lock, RLock, BoundedSemaphore])
def test_lock_that_is_held_stays_held_and_can_be_given_back(make_cache, clock, jump, kind):
    cache = make_cache()
    lock = kind(cache, "lock")
    lock.acquire()
    clock.advance(jump)
    if kind is not RLock:
        assert not kind(cache, "lock").acquire(blocking=False)
    lock.release()

    assert lock.acquire(blocking=False)
    lock.release()


@each_jump
def test_throttle_lets_no_more_through_than_before(cache, clock, jump):
    calls = []
    limited = throttle(cache, 2, 1)(lambda: calls.append(clock.monotonic()))
    began = clock.monotonic()
    for number in range(10):
        if number == 5:
            # What passes meanwhile is nothing: the clock is set.
            clock.set(clock.time() + jump)
        limited()

    assert clock.monotonic() - began == pytest.approx(4, abs=1.1)


class SetWhileWaiting(ManualClock):
    """A clock that somebody sets at the first nap."""

    def __init__(self, jump):
        super().__init__()
        self.jump = jump

    def sleep(self, seconds):
        self.set(self.time() + self.jump)
        self.jump = 0
        return super().sleep(seconds)


@each_jump
def test_waiting_for_the_write_lock_takes_its_timeout(make_cache, directory, jump):
    clock = SetWhileWaiting(jump)
    cache = make_cache(timeout=5, clock=clock)
    # As a writer of another process would hold it.
    descriptor = os.open(directory / "gate.lock", os.O_RDWR)
    try:
        assert host.lock(descriptor)
        began = clock.monotonic()
        with pytest.raises(Timeout):
            cache.set("a", 1)

        assert clock.monotonic() - began == pytest.approx(5, abs=0.01)
        assert clock.jump == 0
    finally:
        os.close(descriptor)


@each_jump
def test_memoized_results_with_an_expiry_are_computed_again_at_worst(cache, clock, jump):
    calls = []

    @cache.memoize(expire=60)
    def square(number):
        calls.append(number)
        return number**2

    assert square(3) == 9
    clock.set(clock.time() + jump)
    assert square(3) == 9
    assert len(calls) == (2 if jump > 0 else 1)
