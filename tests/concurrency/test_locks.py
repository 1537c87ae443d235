"""Locks between processes that are killed, stopped and forked.

Property: at most as many hold a lock as it has permits, and a holder that dies is replaced within
a second, one that lives never.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diskcache import BoundedSemaphore, Cache, Lock, RLock, Semaphore

KINDS = {kind.__name__: kind for kind in (Lock, RLock, BoundedSemaphore, Semaphore)}
each_kind = pytest.mark.parametrize("kind", KINDS)

PRELUDE = """
import os, sys, time
from pathlib import Path
from diskcache import *
cache = Cache(sys.argv[1])
def say(text):
    print(text, flush=True)
"""
HOLD = "lock = {kind}(cache, 'k', expire={expire}); say(lock.acquire()); input()"


class Processes:
    """Child processes that are gone at the end of a test."""

    def __init__(self, directory):
        self.directory = directory
        self.started = []

    def start(self, program, *args, prefix=()):
        child = subprocess.Popen(
            [
                *prefix,
                sys.executable,
                "-c",
                PRELUDE + program,
                str(self.directory),
                *map(str, args),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(child)
        return child

    def hold(self, kind, expire=None):
        """Start a process that holds a lock, and return it and its fencing number."""
        child = self.start(HOLD.format(kind=kind, expire=expire))
        return child, int(child.stdout.readline())

    def run(self, program, *args, count=1):
        """Run a program in several processes at a time, and return what each printed."""
        children = [self.start(program, *args) for _ in range(count)]
        outputs = [child.communicate(timeout=60)[0] for child in children]

        assert [child.returncode for child in children] == [0] * count
        return outputs

    def end(self):
        for child in self.started:
            child.kill()
            child.communicate()


@pytest.fixture
def where(tmp_path: Path):
    return tmp_path / "cache"


@pytest.fixture
def cache(where):
    with Cache(where) as made:
        yield made
        assert [str(finding.message) for finding in made.check()] == []


@pytest.fixture
def processes(cache, where):
    made = Processes(where)
    yield made
    made.end()


# -- Exclusion ---------------------------------------------------------------------------------

COUNT = """
lock = {kind}(cache, 'k')
file = Path(sys.argv[2])
for _ in range(40):
    with lock:
        number = int(file.read_text())
        time.sleep(0.0002)
        file.write_text(str(number + 1))
"""


@each_kind
def test_no_two_processes_are_inside_at_once(processes, tmp_path, kind):
    (tmp_path / "number").write_text("0")
    processes.run(COUNT.format(kind=kind), tmp_path / "number", count=4)

    assert (tmp_path / "number").read_text() == "160"


INSIDE = """
semaphore = BoundedSemaphore(cache, 'k', value=2)
for _ in range(20):
    with semaphore:
        inside = cache.incr('inside')
        time.sleep(0.001)
        cache.decr('inside')
    say(inside)
"""


def test_no_more_are_inside_than_there_are_permits(processes, cache):
    outputs = processes.run(INSIDE, count=4)
    seen = {int(line) for output in outputs for line in output.split()}

    assert max(seen) <= 2
    assert cache["inside"] == 0


NUMBERS = """
lock = Lock(cache, 'k')
for _ in range(50):
    number = lock.acquire()
    cache.push(number)
    lock.release()
"""


def test_numbers_grow_in_the_order_of_holding(processes, cache):
    processes.run(NUMBERS, count=4)
    numbers = [cache.pull()[1] for _ in range(200)]

    assert numbers == sorted(set(numbers))


# -- Death -------------------------------------------------------------------------------------


@each_kind
def test_killed_holder_is_replaced_within_a_second(processes, cache, kind):
    # On a busy machine the process that waits may not run at once, but not each time.
    assert any(seconds_to_replace(processes, cache, kind) < 1 for _ in range(20))


def seconds_to_replace(processes, cache, kind):
    """Kill a process that holds a lock; return how long one that waits is without it."""
    child, number = processes.hold(kind)
    lock = KINDS[kind](cache, "k")

    assert lock.acquire(timeout=0.2) is False

    waiter = processes.start(f"say('waiting'); say({kind}(cache, 'k').acquire()); say(time.time())")
    waiter.stdout.readline()
    time.sleep(0.5)
    killed = time.time()
    child.kill()
    got, at = int(waiter.stdout.readline()), float(waiter.stdout.readline())

    assert got > number
    waiter.wait(60)
    return at - killed


@each_kind
def test_holder_that_ends_without_releasing_is_replaced(processes, cache, where, kind):
    processes.run(f"{kind}(cache, 'k').acquire()")

    assert not KINDS[kind](cache, "k").locked()
    assert KINDS[kind](cache, "k").acquire(blocking=False)
    assert len(list((where / "locks").iterdir())) == 2


@pytest.fixture
def in_container():
    """How to start a process that is the first of its own process ids, as in a container."""
    command = ["unshare", "--pid", "--fork", "--kill-child"]
    if os.geteuid():
        command[1:1] = ["--user", "--map-root-user"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("process ids of one's own are not allowed here")
    return command


@each_kind
def test_processes_of_containers_with_the_same_id_are_told_apart(
    processes, cache, kind, in_container
):
    assert any(
        seconds_to_replace_in_container(processes, cache, kind, in_container) < 1 for _ in range(20)
    )


def seconds_to_replace_in_container(processes, cache, kind, in_container):
    """Have a container that holds a lock end; return how long another one is without it."""
    first = f"say(os.getpid()); lock = {kind}(cache, 'k'); say(lock.acquire()); input()"
    holder = processes.start(first, prefix=in_container)
    pid, number = int(holder.stdout.readline()), int(holder.stdout.readline())
    second = f"""
lock = {kind}(cache, 'k')
say(os.getpid())
say(lock.acquire(timeout=0.2))
try:
    lock.release()
except RuntimeError:
    say('refused')
say(lock.acquire())
input()
"""
    if kind == "Semaphore":
        second = second.replace("lock.release()", "raise RuntimeError")
    stranger = processes.start(second, prefix=in_container)
    told = [stranger.stdout.readline().strip() for _ in range(3)]

    assert told == [str(pid), "False", "refused"]
    assert KINDS[kind](cache, "k").locked()

    # The signal reaches the first process of the container, whose end is that of the container.
    holder.kill()
    holder.wait()
    killed = time.monotonic()

    assert int(stranger.stdout.readline()) > number
    took = time.monotonic() - killed
    stranger.kill()
    stranger.wait(60)
    return took


def test_stopped_holder_is_not_replaced(processes, cache):
    child, _ = processes.hold("Lock")
    os.kill(child.pid, signal.SIGSTOP)

    assert Lock(cache, "k").acquire(timeout=1.5) is False
    os.kill(child.pid, signal.SIGCONT)


def test_holder_that_lives_is_replaced_after_its_own_lease(processes, cache):
    child = processes.start("say(time.monotonic());" + HOLD.format(kind="Lock", expire=2))
    start, number = float(child.stdout.readline()), int(child.stdout.readline())
    lock = Lock(cache, "k", expire=100)
    got = lock.acquire(timeout=0.1)

    # If this process is held up, the lease is over by then.
    assert (got or lock.acquire(timeout=60)) > number
    assert time.monotonic() - start >= 1.99
    assert child.poll() is None


def test_permits_of_the_dead_are_free_and_those_of_the_living_not(processes, cache):
    holders = [
        processes.start("BoundedSemaphore(cache, 'k', 3).acquire(); say(1); input()")
        for _ in range(3)
    ]
    for holder in holders:
        holder.stdout.readline()
    semaphore = BoundedSemaphore(cache, "k", 3)

    assert semaphore.locked()

    for holder in holders[:2]:
        holder.kill()
        holder.wait()

    assert [bool(semaphore.acquire(timeout=limit)) for limit in (60, 60, 0.2)] == [
        True,
        True,
        False,
    ]


def test_permit_that_was_added_and_taken_does_not_come_back(processes, cache):
    Semaphore(cache, "k", value=0).release()
    (taken,) = processes.run("say(bool(Semaphore(cache, 'k', value=0).acquire(blocking=False)))")

    assert taken.strip() == "True"
    assert Semaphore(cache, "k", value=0).acquire(blocking=False) is False


# -- Fork --------------------------------------------------------------------------------------

FORKED = """
import diskcache
lock = Lock(cache, 'k')
lock.acquire()
if os.fork() == 0:
    try:
        lock.release()
    except LockReleaseError:
        say('refused')
    say(lock.acquire(blocking=False))
    open_files = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')
                  if os.path.exists(f'/proc/self/fd/{fd}')]
    say(sum('locks/' in name for name in open_files))
    with Lock(cache, 'other'):
        say(cache['other'][3] != cache['k'][3])
    sys.exit(0)
os.wait()
say(Lock(cache, 'k').locked())
lock.release()
say(Lock(cache, 'k').locked())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_child_holds_nothing_and_frees_nothing(processes):
    (output,) = processes.run(FORKED)

    assert output.split() == ["refused", "False", "0", "True", "True", "False"]


ORPHAN = """
lock = {kind}(cache, 'k')
lock.acquire()
child = os.fork()
if child == 0:
    time.sleep(600)
say(child)
input()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@each_kind
def test_killed_holder_is_replaced_although_its_child_lives(processes, cache, kind):
    holder = processes.start(ORPHAN.format(kind=kind))
    child = int(holder.stdout.readline())
    try:
        holder.kill()
        holder.wait()

        # The child lives for ten minutes.
        assert KINDS[kind](cache, "k").acquire(timeout=60)
    finally:
        os.kill(child, signal.SIGKILL)


SPAWNED = """
import multiprocessing
def work(lock, queue):
    queue.put((bool(lock.acquire(blocking=False)), lock.locked()))
"""
SPAWN = """
import importlib.util, multiprocessing
sys.path.insert(0, sys.argv[2])
import spawned_work
lock = Lock(cache, 'k')
lock.acquire()
for method in ('spawn', 'forkserver'):
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    child = context.Process(target=spawned_work.work, args=(lock, queue))
    child.start()
    say(queue.get())
    child.join()
"""


def test_lock_that_is_sent_to_a_process_is_the_same_lock(processes, tmp_path):
    (tmp_path / "spawned_work.py").write_text(SPAWNED)
    (output,) = processes.run(SPAWN, tmp_path)

    assert output.splitlines() == ["(False, True)"] * 2


# -- Decorators --------------------------------------------------------------------------------

THROTTLED = """
@throttle(cache, 10, 1, name='k')
def work():
    return time.time()
for _ in range(10):
    say(f'{time.time()} {work()}')
"""


def test_processes_share_one_rate(processes):
    outputs = processes.run(THROTTLED, count=3)
    times = [tuple(map(float, line.split())) for out in outputs for line in out.splitlines()]

    assert len(times) == 30
    # From the first call to the last work, wherever a process was held up in between.
    assert max(at for _, at in times) - min(called for called, _ in times) >= 1.9


STAMPEDE = """
import random
random.random = lambda: 1 - 1e-12
@memoize_stampede(cache, expire=1000, name='f')
def work():
    time.sleep(0.6)
    return os.getpid()
first = work()
cache.touch(work.__cache_key__(), 15)
say(cache.get(work.__cache_key__(), expire_time=True)[1])
say(work() == first)
"""


def test_interpreter_waits_at_its_exit_for_what_is_renewed(processes, cache):
    (output,) = processes.run(STAMPEDE)
    (_, _), expire_time = cache.get(("f", None), expire_time=True)
    touched, is_same = output.split()

    assert is_same == "True"
    assert expire_time - float(touched) > 900


BARRIER = """
@barrier(cache, Lock, name='b')
@cache.memoize(name='f')
def work():
    cache.incr('computed')
    time.sleep(0.1)
    return 1
work()
"""


def test_barrier_around_memoize_computes_once(processes, cache):
    processes.run(BARRIER, count=4)

    assert cache["computed"] == 1
