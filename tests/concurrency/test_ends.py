"""However a cache, a thread or an interpreter comes to its end, nothing is lost, stuck or damaged.

Properties: a fork in a transaction that has outgrown the page cache leaves the parent's whole,
whatever the child does with its copies; so does one of a process with several objects on one
directory; daemon threads, and threads that outlive the main one, may be in the middle of anything
when the interpreter ends; a cache, its iterators, transactions and open values may be collected in
any order.
"""

from __future__ import annotations

import gc
import itertools
import subprocess
import threading

import pytest

from diskcache import Cache, Deque, Index
from tests.support.crew import in_threads, run_script
from tests.support.leaks import assert_tidy, open_below

LARGE = 100_000

# A file that was handed out and is not closed is the program's to complain about.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def sound(directory):
    """Whatever happened, the directory is sound, and nobody has it open."""
    yield
    with Cache(directory) as cache:
        cache["next writer"] = 1
        assert [str(finding.message) for finding in cache.check()] == []
    # What a thread was writing when it ended is removed by whoever opens the cache a minute later.
    for path in (directory / "tmp").glob("*.tmp"):
        path.unlink()
    assert_tidy(directory)
    assert open_below(directory) == []


def run(text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    ended = run_script(text, *arguments)

    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


OUTGROWN = """
import gc, os, signal, sys
from diskcache import Cache

directory, how = sys.argv[1:]
cache = Cache(directory, sqlite_cache_size=10, memory_limit=0)
for number in range(100):
    cache["old", number] = "v" * 500
receiver, sender = os.pipe()
with cache.transact():
    for number in range(2000):
        cache["new", number] = "x" * 2000
    assert len(cache) == 2100
    pid = os.fork()
    if not pid:
        signal.alarm(50)
        if how == "use":
            assert cache["old", 5] == "v" * 500
            assert ("new", 5) not in cache
        elif how == "close":
            cache.close()
        elif how == "collect":
            cache = None
            gc.collect()
        if how == "exit":
            sys.exit(0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for number in range(2000, 2500):
        cache["new", number] = "x" * 2000
    assert cache["new", 5] == "x" * 2000
assert len(cache) == 2600
assert all(cache["new", number] == "x" * 2000 for number in range(2500))
"""


@pytest.mark.parametrize("how", ["use", "close", "collect", "exit", "_exit"])
def test_fork_in_a_transaction_larger_than_the_page_cache_leaves_it_whole(directory, how):
    ended = run(OUTGROWN, directory, how)

    assert ended.returncode == 0, ended.stderr
    with Cache(directory) as cache:
        assert len(cache) == 2600


TWO_OBJECTS = """
import os, signal, sys, threading
from diskcache import Cache

directory = sys.argv[1]
first, second = Cache(directory), Cache(directory, memory_limit=0)
elsewhere = Cache(directory + "-2")
first["a"] = second["b"] = elsewhere["c"] = 0
values = iter(second)
next(values)
with first.transact(), elsewhere.transact():
    first["a"] = elsewhere["c"] = 1
    pid = os.fork()
    if not pid:
        signal.alarm(50)
        assert first["a"] == 0 and second["a"] == 0 and elsewhere["c"] == 0
        first.close(); second.close()
        assert list(values) == ["b"]
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert second["a"] == 0 and list(values) == ["b"]
for _ in range(10):
    pid = os.fork()
    if not pid:
        signal.alarm(50)
        for cache in (first, second, first):
            cache.incr("n")
            with cache.transact():
                cache.incr("m")
        os._exit(0)
    first.incr("n"); second.incr("n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert first["n"] == second["n"] == 50, first["n"]
assert first["m"] == second["m"] == 30
assert first["a"] == second["a"] == elsewhere["c"] == 1
for cache in (first, second, elsewhere):
    assert cache.check() == []
"""


def test_fork_with_several_objects_and_transactions_leaves_all_of_them_whole(directory):
    ended = run(TWO_OBJECTS, directory)

    assert ended.returncode == 0, ended.stderr


BUSY_TO_THE_END = """
import os, sys, threading, time
from diskcache import Cache

directory, kind, end = sys.argv[1:]
cache = Cache(directory)
begun = threading.Barrier(6)
over = threading.Event()

def loop(work):
    begun.wait()
    while not over.is_set():
        work()
        if kind == "last":
            time.sleep(0.001)

def in_transaction():
    with cache.transact():
        cache.incr("pairs")
        cache["large"] = b"x" * 100_000
        cache.incr("pairs")

def write():
    cache.incr("n")

def read():
    cache.get("n"), list(cache), [cache.get("large")]

def open_and_close():
    with Cache(directory) as other:
        other["other"] = 1

def take():
    cache.push(1)
    cache.pull()

threads = [
    threading.Thread(target=loop, args=(work,), daemon=kind == "daemon")
    for work in (in_transaction, write, read, open_and_close, take)
]
for thread in threads:
    thread.start()
begun.wait()
time.sleep(0.3)
if kind == "last":
    # They go on for a while after the main thread has ended.
    threading.Timer(0.3, over.set).start()
print(cache.get("n", 0), flush=True)
if end == "_exit":
    os._exit(0)
if end == "error":
    raise SystemExit("ended by an error")
"""


@pytest.mark.parametrize("end", ["return", "error", "_exit"])
@pytest.mark.parametrize("kind", ["daemon", "last"])
def test_interpreter_that_ends_beside_busy_threads_loses_nothing(directory, kind, end):
    ended = run(BUSY_TO_THE_END, directory, kind, end)

    assert ended.returncode == (end == "error"), ended.stderr
    with Cache(directory) as cache:
        assert cache.get("n", 0) >= int(ended.stdout)
        assert cache.get("pairs", 0) % 2 == 0


def everything(cache):
    """Return something of each kind that a program may hold of a cache, half used."""
    names = iter(cache)
    next(names)
    items = iter(cache.items())
    next(items)
    block = cache.transact()
    block.__enter__()
    cache["inside"] = b"y" * LARGE
    return {
        "iterators": [names, items],
        "transaction": block,
        "value": cache.read("large"),
        "memoized": cache.memoize()(len),
    }


HELD = ["cache", "iterators", "transaction", "value"]


@pytest.mark.parametrize("order", list(itertools.permutations(HELD)), ids="-".join)
def test_what_is_held_of_a_cache_may_be_collected_in_any_order(directory, order):
    cache = Cache(directory)
    for number in range(20):
        cache[number] = number
    cache["large"] = b"x" * LARGE
    held = {"cache": cache, **everything(cache)}
    del cache
    for name in order:
        del held[name]
    held.clear()
    gc.collect()

    assert open_below(directory) == []
    with Cache(directory, timeout=20) as cache:
        assert "inside" not in cache
        assert len(cache) == 21


def test_what_is_held_in_a_circle_is_collected(directory):
    """Finalizers run in no order then, and in the thread that happens to collect."""
    for _ in range(5):
        cache = Cache(directory)
        cache["a"] = b"x" * LARGE
        circle = [cache, cache.read("a"), iter(cache), Deque.fromcache(cache), Index.fromcache]
        circle.append(circle)
        del cache, circle
        in_threads(gc.collect)

    assert open_below(directory) == []


def test_short_threads_that_leave_things_half_used_leave_no_descriptor(directory):
    with Cache(directory) as cache:
        cache.set_many(
            {number: b"x" * LARGE if number % 5 == 0 else number for number in range(50)}
        )

        def work():
            names, items = iter(cache), iter(cache.items())
            next(names), next(items)
            with cache.transact():
                cache.incr("n")
            cache.read(5)

        in_threads(work)
        before = len(open_below(directory))
        for _ in range(200):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join(60)

        assert len(open_below(directory)) <= before
        assert cache["n"] == 201
