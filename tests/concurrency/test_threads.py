"""Threads that share a cache neither lose nor invent anything.

Properties: counters are exact; `add` has one winner; each queued item is handed out once; a key
that is only ever overwritten is never missing; no operation fails because others write, close, or
end at the same time; threads that have ended hold no descriptor.
"""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections import Counter

import pytest

from diskcache import Cache
from diskcache.errors import GateError
from tests.support.crew import in_threads
from tests.support.leaks import open_below

THREADS = 8
LARGE = 40_000


@pytest.fixture
def cache(directory):
    """A cache on the machine's own clock, checked afterwards."""
    with Cache(directory) as made:
        yield made

        assert [str(finding.message) for finding in made.check()] == []


def test_incr_of_one_counter_is_exact(cache):
    def count():
        for _ in range(150):
            cache.incr("total")
            with cache.transact():
                cache["pairs"] = cache.get("pairs", 0) + 1

    in_threads(*[count] * THREADS)

    assert cache["total"] == cache["pairs"] == 150 * THREADS


def test_add_has_one_winner(cache):
    def claim(name):
        return [key for key in range(60) if cache.add(key, name)]

    won = in_threads(*[lambda name=name: claim(name) for name in range(THREADS)])

    assert sorted(itertools.chain(*won)) == list(range(60))
    assert all(cache[key] == name for name, keys in enumerate(won) for key in keys)


def test_pull_hands_each_item_out_once(cache):
    def push(name):
        for number in range(40):
            cache.push((name, number), prefix="q")

    def pull():
        found = []
        while len(found) < 80:
            key, value = cache.pull(prefix="q")
            if key is not None:
                found.append(value)
        return found

    pushers = [lambda name=name: push(name) for name in range(4)]
    results = in_threads(*pushers, pull, pull)

    assert Counter(itertools.chain(*results[4:])) == Counter(
        (name, number) for name in range(4) for number in range(40)
    )


def test_readers_never_miss_a_large_value_that_is_overwritten(cache):
    done = threading.Event()

    def write():
        for number in range(300):
            cache["k"] = bytes([number % 256]) * (LARGE + number)
        done.set()

    def read():
        seen = 0
        while not (done.is_set() and seen):
            value = cache["k"]
            assert value == value[:1] * len(value)
            with cache.read("k") as file:
                assert len(file.read()) >= LARGE
            assert len(next(cache.values())) >= LARGE
            assert cache.peekitem()[0] == "k"
            assert cache.get_many(["k"])
            seen += 1
        return seen

    cache["k"] = b"\0" * LARGE
    results = in_threads(write, read, read, read)

    assert all(results[1:])


def test_no_writer_fails_under_contention(cache):
    slowest = [0.0] * THREADS

    def write(name):
        for number in range(80):
            began = time.monotonic()
            cache.set((name, number), "v" * 100)
            cache.set("shared", b"x" * LARGE)
            cache.delete((name, number - 1))
            slowest[name] = max(slowest[name], time.monotonic() - began)

    in_threads(*[lambda name=name: write(name) for name in range(THREADS)])

    assert len(cache) == THREADS + 1
    assert max(slowest) < 30


def test_close_in_one_thread_disturbs_no_other(cache):
    done = threading.Event()

    def close():
        for _ in range(150):
            cache.close()
            time.sleep(0.001)
        done.set()

    def work(name):
        rounds = 0
        while not (done.is_set() and rounds):
            cache[name] = rounds
            cache[name, "large"] = b"x" * LARGE
            assert cache[name] == rounds
            assert cache.incr((name, "n")) == rounds + 1
            with cache.transact():
                cache[name, "t"] = rounds
                assert cache[name, "t"] == rounds
            assert cache.get_many([name]) == {name: rounds}
            assert name in list(cache)
            assert len(list(cache.items())) >= 4
            assert cache.volume() > 0
            assert len(cache) >= 4
            assert cache.pop((name, "large")) is not None
            cache.push(rounds, prefix=str(name))
            assert cache.pull(prefix=str(name))[1] == rounds
            rounds += 1
        return rounds

    results = in_threads(close, *[lambda name=name: work(name) for name in range(3)])

    assert all(results[1:])
    assert [cache[name] for name in range(3)] == [rounds - 1 for rounds in results[1:]]


def test_short_threads_leave_no_descriptor(cache, directory):
    def work():
        cache.incr("n")

    in_threads(work)
    before = len(open_below(directory))
    for _ in range(200):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)

    assert len(open_below(directory)) <= before
    assert cache["n"] == 201


@pytest.mark.parametrize(
    "write",
    [
        lambda cache: cache.set("b", 1),
        lambda cache: cache.set("b", b"x" * LARGE, retry=True),
        lambda cache: cache.__setitem__("b", 1),
        lambda cache: cache.add("b", 1, retry=True),
        lambda cache: cache.incr("b", retry=True),
        lambda cache: cache.pop("a", retry=True),
        lambda cache: cache.delete("a", retry=True),
        lambda cache: cache.touch("a", retry=True),
        lambda cache: cache.push(1, retry=True),
        lambda cache: cache.pull(retry=True),
        lambda cache: cache.set_many({"b": 1}, retry=True),
        lambda cache: cache.delete_many(["a"], retry=True),
        lambda cache: cache.clear(retry=True),
        lambda cache: cache.expire(retry=True),
        lambda cache: cache.check(retry=True),
        lambda cache: cache.transact(retry=True).__enter__(),
        lambda cache: cache.reset("cull_limit", 5),
        lambda cache: Cache(cache.directory, cull_limit=7),
    ],
    ids=[
        "set", "set_file", "setitem", "add", "incr", "pop", "delete", "touch", "push", "pull",
        "set_many", "delete_many", "clear", "expire", "check", "transact", "reset", "construct",
    ],
)  # fmt: skip
def test_second_object_in_a_transaction_of_the_same_thread_fails_at_once(cache, directory, write):
    cache["a"] = 1
    with Cache(directory) as other:
        with cache.transact():
            cache["b"] = 2
            began = time.monotonic()
            with pytest.raises(GateError):
                write(other)

            # Whoever waits does so for a minute, or for ever.
            assert time.monotonic() - began < 30
            assert cache["b"] == 2
        assert other["b"] == 2
        assert other.set("c", 3)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_caches_may_be_collected_in_any_order(tmp_path, order):
    """Two objects on one directory, one on another; a thread that has used them lives on."""
    caches = [Cache(tmp_path / "one"), Cache(tmp_path / "one"), Cache(tmp_path / "two")]
    used, leave = threading.Event(), threading.Event()

    def use(held):
        for number, cache in enumerate(held):
            cache[number] = b"x" * LARGE
        cache = None
        held.clear()
        used.set()
        leave.wait(60)

    thread = threading.Thread(target=use, args=(list(caches),))
    thread.start()
    assert used.wait(60)
    for number in order:
        caches[number]["last"] = number
        caches[number] = None
        gc.collect()
    leave.set()
    thread.join(60)
    gc.collect()

    with Cache(tmp_path / "one") as one, Cache(tmp_path / "two") as two:
        assert set(one) == {0, 1, "last"}
        assert set(two) == {2, "last"}
        assert one.check() == two.check() == []
    assert open_below(tmp_path) == []
    assert not [name for name in os.listdir(tmp_path / "one") if name.startswith("cache.db-")]
