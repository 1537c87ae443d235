"""A forked child starts like any other process, whatever its parent was doing.

Properties: a fork inside a transaction leaves it to the parent, whole, and the child works on its
own; a fork while other threads read, write, or hold a transaction hangs neither side; the child
has locks of its own, so that it outlives its parent; counts of reads are neither lost nor doubled.
"""

from __future__ import annotations

import sys

import pytest

from diskcache import Cache
from tests.support.crew import run_script
from tests.support.leaks import assert_tidy

PRELUDE = """
import faulthandler, os, signal, sys, threading, time
from diskcache import Cache, Timeout

faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(55)
directory, how = sys.argv[1], sys.argv[2]
cache = Cache(directory)

def join(pid):
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, status

def in_child(function):
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(50)
    try:
        function()
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
"""


@pytest.fixture(autouse=True)
def sound(directory):
    """Whatever happened, the directory is sound, and nobody has it open."""
    yield
    with Cache(directory) as cache:
        assert [str(finding.message) for finding in cache.check()] == []
    assert_tidy(directory)


def run(text, directory, how=""):
    ended = run_script(PRELUDE + text, directory, how)

    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


IN_A_TRANSACTION = """
for number in range(100):
    cache[number] = "v" * 500
receiver, sender = os.pipe()
looked, has_looked = os.pipe()
with cache.transact():
    for number in range(300):
        cache["new", number] = "x" * 2000
    cache["large"] = b"x" * 100_000
    assert len(cache) == 401
    pid = os.fork()
    if pid == 0:
        signal.alarm(50)
        assert cache[5] == "v" * 500
        assert "large" not in cache
        assert len(cache) == 100
        cache.close()
        assert cache.get(("new", 5)) is None
        other = Cache(directory, timeout=0.05)
        try:
            other.set("child", 0)
        except Timeout:
            pass
        else:
            os._exit(3)
        os.write(has_looked, b"x")
        os.read(receiver, 1)
        cache["child"] = 1
        with cache.transact():
            cache["child"] = b"y" * 100_000
        assert len(cache) == 402
        del other
        {"exit": sys.exit, "_exit": os._exit, "close": cache.close, "error": lambda: 1 / 0}[how](
            *[0] * (how in ("exit", "_exit"))
        )
    else:
        os.read(looked, 1)
if pid == 0:
    os._exit(0)
os.write(sender, b"x")
join(pid)
assert len(cache) == 402
assert all(cache["new", number] == "x" * 2000 for number in range(300))
assert cache["large"] == b"x" * 100_000
assert cache["child"] == b"y" * 100_000
"""


@pytest.mark.parametrize("how", ["exit", "_exit", "close"])
def test_fork_in_a_transaction_leaves_it_to_the_parent(directory, how):
    run(IN_A_TRANSACTION, directory, how)

    with Cache(directory) as cache:
        assert len(cache) == 402


ROLLED_BACK = """
cache["a"] = 1
try:
    with cache.transact():
        cache["a"] = b"x" * 100_000
        pid = in_child(lambda: (cache.get("a") == 1 or os._exit(4), cache.close()))
        join(pid)
        cache["b"] = 2
        raise ZeroDivisionError
except ZeroDivisionError:
    pass
assert list(cache.items()) == [("a", 1)]
with cache.transact():
    cache["c"] = 3
    pid = in_child(lambda: 1 / (cache.get("c", 1)))
    join(pid)
assert cache["c"] == 3
"""


def test_fork_in_a_transaction_that_is_rolled_back_leaves_nothing(directory):
    run(ROLLED_BACK, directory)

    with Cache(directory) as cache:
        assert list(cache.items()) == [("a", 1), ("c", 3)]


BESIDE_THREADS = """
for number in range(200):
    cache[number] = "v" * 300
is_over = threading.Event()

def write():
    while not is_over.is_set():
        cache.incr("written")

def write_large():
    while not is_over.is_set():
        cache["large"] = b"x" * 40_000

def transact():
    while not is_over.is_set():
        with cache.transact():
            cache.incr("in transactions")
            time.sleep(0.002)

def read():
    while not is_over.is_set():
        assert cache[5] == "v" * 300
        assert len(list(cache.items())) >= 200

def close():
    while not is_over.is_set():
        with Cache(directory) as other:
            assert other[7] == "v" * 300

def work():
    assert cache[5] == "v" * 300
    cache.incr("children")
    with cache.transact():
        cache.incr("in transactions of children")
    cache["child"] = b"y" * 40_000
    assert cache["child"] == b"y" * 40_000
    cache.close()

loops = {
    "write": [write, write_large, transact],
    "read": [read, read, close],
    "all": [write, write_large, transact, read, close],
}[how]
threads = [threading.Thread(target=loop) for loop in loops]
for thread in threads:
    thread.start()
for number in range(25):
    join(in_child(work))
is_over.set()
for thread in threads:
    thread.join(50)
assert not any(thread.is_alive() for thread in threads)
assert cache["children"] == cache["in transactions of children"] == 25
"""


@pytest.mark.parametrize("how", ["write", "read", "all"])
def test_fork_beside_busy_threads_hangs_neither_side(directory, how):
    run(BESIDE_THREADS, directory, how)


OWN_LOCKS = """
cache["a"] = 1
names = {os.stat(os.path.join(directory, name)).st_ino: name for name in os.listdir(directory)}

def locked():
    found = set()
    for line in open("/proc/locks"):
        _, kind, _, _, pid, file, *_ = line.split()
        if kind == "POSIX" and int(pid) == os.getpid():
            found.add(int(file.split(":")[2]))
    return found

def work():
    cache["b"] = 2
    files = [os.path.join(directory, name) for name in ("cache.db", "cache.db-shm")]
    wanted = {os.stat(file).st_ino for file in files}
    # The list is read in pieces, and lacks lines while other processes lock and unlock.
    assert any(locked() >= wanted for _ in range(1000))

if how == "nested":
    def child():
        work()
        join(in_child(work))
        with cache.transact():
            cache["c"] = 3
            join(in_child(lambda: len(cache)))
        work()
else:
    child = work
if how == "transaction":
    with cache.transact():
        cache["d"] = 4
        pid = in_child(child)
else:
    pid = in_child(child)
join(pid)
work()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="locks are seen in /proc")
@pytest.mark.parametrize("how", ["plain", "nested", "transaction"])
def test_child_has_locks_of_its_own(directory, how):
    run(OWN_LOCKS, directory, how)


ORPHAN = """
cache["parent"] = 1
receiver, sender = os.pipe()

def live_on():
    os.close(sender)
    os.read(receiver, 1)
    for number in range(50):
        cache["child", number] = b"x" * 40_000 if number % 5 == 0 else number
        join(in_child(lambda: Cache(directory).set(("grandchild", number), number)))
    cache.close()
    print("done", flush=True)

pid = in_child(live_on)
"""


def test_child_that_outlives_its_parent_loses_nothing(directory):
    """The parent ends at once; the script is over when its output is closed by the child."""
    assert run(ORPHAN, directory) == "done\n"
    with Cache(directory) as cache:
        assert len(cache) == 101
        assert all(cache["grandchild", number] == number for number in range(50))


COUNTED = """
cache.stats(enable=True)
for _ in range(5):
    cache.get("a")
join(in_child(lambda: (cache.get("b"), cache.close())))
cache.get("c")
assert cache.stats() == (0, 7), cache.stats()
"""


def test_fork_neither_loses_nor_doubles_counts_of_reads(directory):
    run(COUNTED, directory)


VERSIONS = """
cache["k"] = 0
def write():
    for number in range(10):
        with cache.transact():
            del cache["k"]
            cache.add("k", os.getpid())
            print(cache.get("k", version=True)[1], flush=True)
for _ in range(3):
    join(in_child(write))
write()
"""


def test_fork_makes_no_two_processes_draw_the_same_versions(directory):
    versions = run(VERSIONS, directory).split()

    assert len(versions) == len(set(versions)) == 40


MANY_DESCRIPTORS = """
import os, resource, sys, threading
from diskcache import Cache

resource.setrlimit(resource.RLIMIT_NOFILE, (1500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
cache = Cache(sys.argv[1])
opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
with cache.transact():
    cache["a"] = 1
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
written = []
thread = threading.Thread(target=lambda: written.append(cache.set("b", 2)), daemon=True)
thread.start()
thread.join(50)
print(written, flush=True)
os._exit(0)
"""


def test_fork_in_a_transaction_beside_many_descriptors_leaves_other_threads_alone(directory):
    ended = run_script(MANY_DESCRIPTORS, directory)

    assert (ended.stdout, ended.stderr) == ("[True]\n", "")
