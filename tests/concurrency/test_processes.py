"""Processes that share a directory neither lose nor invent anything.

Properties: counters are exact; `add` has one winner; each queued item is handed out once; a key
that is only ever overwritten is never missing; with the default timeout no write is refused or
lost; a directory that many processes make at once is one cache; an object can be handed to
processes however they are started; an interpreter that ends in a transaction leaves no trace.
"""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from diskcache import Cache
from tests.concurrency import workers
from tests.support.crew import in_processes, run_script
from tests.support.leaks import assert_tidy

PROCESSES = 4


@pytest.fixture(autouse=True)
def sound(directory):
    """Whatever happened, the directory is sound, and nobody has it open."""
    yield
    with Cache(directory) as cache:
        assert [str(finding.message) for finding in cache.check()] == []
    assert_tidy(directory)


def test_incr_of_one_counter_is_exact(directory):
    in_processes(workers.count, [(directory, 150)] * PROCESSES)

    with Cache(directory) as cache:
        assert cache["total"] == cache["pairs"] == 150 * PROCESSES


def test_add_has_one_winner(directory):
    won = in_processes(workers.claim, [(directory, name, 100) for name in range(PROCESSES)])

    assert sorted(itertools.chain(*won)) == list(range(100))
    with Cache(directory) as cache:
        assert all(cache[key] == name for name, keys in enumerate(won) for key in keys)


def test_pull_hands_each_item_out_once(directory):
    found = in_processes(workers.hand_over, [(directory, name, 40) for name in range(PROCESSES)])

    assert Counter(itertools.chain(*found)) == Counter(
        itertools.product(range(PROCESSES), range(40))
    )
    with Cache(directory) as cache:
        assert len(cache) == 0


def test_readers_never_miss_a_large_value_that_is_overwritten(directory):
    with Cache(directory) as cache:
        cache["k"] = b"\0" * workers.LARGE
    roles = [(directory, name == 0, 1.5) for name in range(PROCESSES)]
    rounds = in_processes(workers.overwrite_or_read, roles)

    assert all(count > 10 for count in rounds)


def test_no_small_write_of_eight_processes_is_missing(directory):
    in_processes(workers.store_small, [(directory, name, 500) for name in range(8)])

    with Cache(directory) as cache:
        assert len(cache) == 4000
        assert set(cache) == set(itertools.product(range(8), range(500)))


@pytest.mark.parametrize("attempt", range(3))
def test_directory_that_many_processes_make_at_once_is_one_cache(directory, attempt):
    names = in_processes(workers.open_fresh, [(directory, name) for name in range(32)])

    assert len(set(names)) == 1
    with Cache(directory) as cache:
        assert {key: cache[key] for key in cache} == {name: name for name in range(32)}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_object_can_be_handed_to_processes(directory, method):
    with Cache(directory) as cache:
        cache["parent"] = b"x" * workers.LARGE
        arguments = [(cache, name) for name in range(2)]
        found = in_processes(workers.use_given, arguments, method=method)

        assert found == [{name: workers.LARGE, "parent": workers.LARGE} for name in range(2)]
        assert cache["total"] == 40
        assert len(cache) == 4


END_INSIDE = """
import os, sys, threading
from diskcache import Cache

cache = Cache(sys.argv[1])
cache["before"] = 1
held = []

def leave_open():
    held.append(cache.transact())
    held[0].__enter__()
    cache["inside"] = b"x" * 100_000
    cache["small"] = 1
    entered.set()
    if sys.argv[2] == "thread":
        threading.Event().wait()

entered = threading.Event()
if sys.argv[2] == "thread":
    threading.Thread(target=leave_open, daemon=True).start()
    entered.wait(50)
else:
    leave_open()
print("left", flush=True)
{"exit": sys.exit, "error": lambda: 1 / 0, "thread": sys.exit, "_exit": lambda: os._exit(0)}[
    sys.argv[2]
]()
"""


@pytest.mark.parametrize("how", ["exit", "error", "thread", "_exit"])
def test_interpreter_that_ends_in_a_transaction_leaves_no_trace(directory, how):
    ended = run_script(END_INSIDE, directory, how)

    assert ended.stdout == "left\n", ended.stderr
    with Cache(directory, timeout=20) as cache:
        cache["after"] = 1

        assert list(cache) == ["before", "after"]
