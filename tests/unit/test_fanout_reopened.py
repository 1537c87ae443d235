"""A `FanoutCache` that was closed and is used again opens the shards that it needs, and no others.

Making one opens and checks all shards. After `close` the first use of a shard connects to it; what
concerns the whole connects to all; limits are judged against the whole as before.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from diskcache import FanoutCache, Timeout
from diskcache.engines.sqlite import site
from tests.support.crew import in_threads

SHARDS = 4
KEYS = [f"key {number}" for number in range(32)]


@pytest.fixture
def make_reopened(directory, clock):
    """Make a `FanoutCache` of some entries that has been closed; it is checked afterwards."""
    made = []

    def make(**keywords):
        cache = FanoutCache(directory, SHARDS, clock=clock, **keywords)
        made.append(cache)
        for key in KEYS:
            cache.set(key, 0)
            cache.get(key)
        cache.close()
        assert opened(directory) == set()
        return cache

    yield make
    for cache in made:
        assert [str(finding.message) for finding in cache.check()] == []
        cache.close()
    assert opened(directory) == set()


@pytest.fixture
def cache(make_reopened):
    return make_reopened()


def opened(directory):
    """Return the numbers of the shards that this process has open."""
    return {
        int(os.path.basename(here.directory))
        for here in site.opened()
        if Path(here.directory).parent == directory and any(not li.is_closed for li in here.links)
    }


def keys_of(cache, number):
    return [key for key in KEYS if cache._index(key) == number]


def test_making_one_opens_every_shard(directory):
    with FanoutCache(directory, SHARDS):
        assert opened(directory) == set(range(SHARDS))
    with FanoutCache(directory):
        assert opened(directory) == set(range(SHARDS))


@pytest.mark.parametrize(
    "use",
    [
        lambda cache, key: cache.get(key),
        lambda cache, key: cache[key],
        lambda cache, key: key in cache,
        lambda cache, key: cache.set(key, 1),
        lambda cache, key: cache.set(key, 1, expire=60, tag="red"),
        lambda cache, key: cache.set(key, bytes(100_000)),
        lambda cache, key: cache.add(key, 1),
        lambda cache, key: cache.incr(key),
        lambda cache, key: cache.touch(key, 60),
        lambda cache, key: cache.pop(key),
        lambda cache, key: cache.delete(key),
        lambda cache, key: (cache.get(key), cache.set(key, 1), cache.incr(key)),
    ],
)
def test_use_of_one_key_opens_its_shard_alone(cache, directory, use):
    for number in range(SHARDS):
        use(cache, keys_of(cache, number)[0])
        assert opened(directory) == {number}
        cache.close()
        assert opened(directory) == set()


def test_use_of_keys_in_two_shards_opens_both(cache, directory):
    keys = [keys_of(cache, number)[0] for number in (1, 3)]

    assert cache.get_many(keys) == dict.fromkeys(keys, 0)
    assert opened(directory) == {1, 3}
    cache.close()
    cache.set_many(dict.fromkeys(keys, 1))
    assert opened(directory) == {1, 3}


@pytest.mark.parametrize(
    ("use", "answer"),
    [
        (len, len(KEYS)),
        (sorted, sorted(KEYS)),
        (lambda cache: len(tuple(reversed(cache))), len(KEYS)),
        (lambda cache: cache.volume() > 0, True),
        (lambda cache: cache.check(), []),
        (lambda cache: cache.info().entries, len(KEYS)),
        (lambda cache: cache.stats(), (0, 0)),
        (lambda cache: cache.expire(), 0),
        (lambda cache: cache.evict("red"), 0),
        (lambda cache: cache.reset("cull_limit"), 10),
        (lambda cache: cache.clear(), len(KEYS)),
    ],
)
def test_use_of_the_whole_opens_every_shard(cache, directory, use, answer):
    assert use(cache) == answer
    assert opened(directory) == set(range(SHARDS))


def test_transaction_opens_every_shard_and_is_undone_in_all(cache, directory):
    with pytest.raises(ZeroDivisionError), cache.transact():
        assert opened(directory) == set(range(SHARDS))
        for key in KEYS:
            cache.incr(key)
        raise ZeroDivisionError
    cache.close()
    with cache.transact():
        for key in KEYS:
            cache.incr(key)

    assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)


@pytest.mark.parametrize("everywhere", [True, False])
def test_size_limit_is_judged_against_the_whole(make_reopened, everywhere):
    cache = make_reopened(size_limit=2_000_000, disk_min_file_size=1000)
    for number in range(60):
        cache.set(number / 7, bytes(100_000))
        cache.close(everywhere=everywhere)

    assert 1_000_000 < cache.volume() <= 2_100_000


def test_limit_on_entries_is_judged_against_the_whole(make_reopened):
    cache = make_reopened(count_limit=40)
    for number in range(60):
        cache.set(f"more {number}", number)
        cache.close()

        assert len(cache) <= 40
        cache.close()
    assert len(cache) == 40


def test_what_others_wrote_meanwhile_is_seen(cache, directory):
    for value in (1, 2):
        assert len({cache.get(key) for _ in range(3) for key in KEYS}) == 1
        cache.close()
        with FanoutCache(directory) as other:
            other.set_many(dict.fromkeys(KEYS, value))
        assert [cache.get(key) for key in KEYS] == [value] * len(KEYS)


def test_threads_that_race_for_the_first_use_all_get_what_is_there(cache, directory):
    def work():
        for _ in range(3):
            for key in KEYS[:8]:
                cache.incr(key)
        found = cache.get_many(KEYS[8:])
        cache.close(everywhere=False)
        return found

    assert in_threads(*[work] * 4) == [dict.fromkeys(KEYS[8:], 0)] * 4
    assert opened(directory) == set()
    assert cache.get_many(KEYS[:8]) == dict.fromkeys(KEYS[:8], 12)


def test_close_by_another_thread_disturbs_nobody(cache):
    at_work = threading.Event()

    def work():
        for number in range(40):
            for key in KEYS[:4]:
                cache.incr(key)
                assert cache.get(key) == number + 1
            at_work.set()

    def close():
        at_work.wait(60)
        for _ in range(40):
            cache.close()

    in_threads(work, close, close)
    assert cache.get_many(KEYS[:4]) == dict.fromkeys(KEYS[:4], 40)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_child_opens_what_it_needs_and_leaves_the_parent_alone(cache, directory):
    cache.incr(KEYS[0])
    number = cache._index(KEYS[0])
    child = os.fork()
    if not child:
        fine = opened(directory) == set() and cache.incr(KEYS[0]) == 2
        fine = fine and opened(directory) == {number} and len(cache) == len(KEYS)
        cache.close()
        os._exit(0 if fine else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert opened(directory) == set()
    assert cache[KEYS[0]] == 2
    assert opened(directory) == {number}


def test_held_write_lock_of_another_shard_stops_nobody(make_reopened, directory):
    cache = make_reopened(timeout=0.01)
    number = cache._index(KEYS[0])
    other = next(key for key in KEYS if cache._index(key) != number)

    def write():
        return cache.set(KEYS[0], 1)

    with FanoutCache(directory) as holder, holder._shards[cache._index(other)].transact():
        assert in_threads(write) == [True]
        assert in_threads(lambda: cache.set(other, 1)) == [False]
        with pytest.raises(Timeout):
            in_threads(lambda: enter(cache))
    cache.close()


def enter(cache):
    with cache.transact(retry=False):
        pass
