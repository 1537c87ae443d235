"""Recipes on a cache of several shards: each keeps its entry in the shard of its key."""

from __future__ import annotations

import random
import threading

import pytest

from diskcache import (
    Averager,
    BoundedSemaphore,
    Deque,
    FanoutCache,
    Index,
    KeyInUseError,
    Lock,
    RLock,
    barrier,
    memoize_stampede,
    throttle,
)
from tests.support.clock import ManualClock

KEYS = ["a", ("b", 1), 3, 3.5, None, "q-500000000000001", 500_000_000_000_001]
each_key = pytest.mark.parametrize("key", KEYS, ids=repr)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def fanout(tmp_path, clock):
    with FanoutCache(tmp_path / "shards", 4, timeout=0.010, clock=clock) as cache:
        yield cache
        assert cache.check() == []
        assert cache.info().refused == 0


@pytest.mark.parametrize("kind", [Deque, Index])
def test_structure_that_must_be_in_one_place_is_refused(fanout, kind):
    with pytest.raises(TypeError, match=r"cache must be a Cache.* FanoutCache has deque\(name\)"):
        kind.fromcache(fanout)


@each_key
def test_average_is_found_under_its_key(fanout, key):
    averager = Averager(fanout, key, expire=60, tag="t")
    averager.add(1)
    averager.add(2.0)

    assert averager.get() == 1.5
    assert fanout.get(key, tag=True) == ((3.0, 2), "t")
    assert Averager(fanout, key).pop() == 1.5
    assert key not in fanout


@pytest.mark.parametrize("key", [key for key in KEYS if key is not None], ids=repr)
def test_bucket_is_found_under_its_key(fanout, clock, key):
    moments = []
    limited = throttle(fanout, count=2, seconds=1, name=key)(lambda: moments.append(clock.time()))
    start = clock.time()
    for _ in range(4):
        limited()

    assert [moment - start for moment in moments] == [0, 0, 0.5, 1]
    assert key in fanout
    fanout.delete(key)
    limited()
    assert clock.time() - start == 1


@each_key
def test_key_of_another_entry_is_refused(fanout, key):
    fanout[key] = "text"

    for make in (lambda: Averager(fanout, key).get(), Lock(fanout, key).acquire):
        with pytest.raises(KeyInUseError):
            make()


@pytest.mark.parametrize("kind", [Lock, RLock, BoundedSemaphore])
def test_barrier_holds_its_lock(fanout, kind):
    @barrier(fanout, kind, name="work")
    def work():
        return kind(fanout, "work").locked()

    assert work() is True
    assert len(fanout) == 0


def test_stampede_renews_once_and_keeps_its_guard_in_the_same_way(fanout, clock, monkeypatch):
    calls = []

    @memoize_stampede(fanout, expire=100, name="page", tag="pages")
    def page(number):
        calls.append(number)
        clock.advance(10)
        return len(calls)

    monkeypatch.setattr(random, "random", lambda: 0.0)
    assert (page(1), page(1)) == (1, 1)
    assert fanout.get(page.__cache_key__(1), tag=True)[1] == "pages"
    clock.advance(99)
    monkeypatch.setattr(random, "random", lambda: 1 - 1e-9)
    page(1)
    for thread in threading.enumerate():
        if thread.name.startswith("renewing"):
            thread.join(60)

    assert calls == [1, 1]
    monkeypatch.setattr(random, "random", lambda: 0.0)
    assert page(1) == 2
