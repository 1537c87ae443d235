"""Event loops go on whatever others do, and end whatever is left.

Properties: while another process holds the write lock for a second, no step of the loop is late by
more than 5 ms, reads are answered, and writes succeed afterwards; loops in several threads share an
object; a forked child has threads of its own; an interpreter ends whatever its loops left behind.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diskcache import AsyncCache, AsyncFanoutCache, AsyncLock, Cache, FanoutCache, Lock, barrier
from tests.support.crew import ROOT, in_threads, run_script
from tests.support.leaks import assert_tidy
from tests.support.loops import LOOPS, runner_of

LATE = 0.005
"""Seconds that a step of a loop may be late."""

HOLDER = """
import sys, time
from diskcache import Cache, FanoutCache
with globals()[sys.argv[1]](sys.argv[2]) as cache:
    for line in sys.stdin:
        with cache.transact():
            print("held", flush=True)
            time.sleep(float(line))
        print("free", flush=True)
"""


class Holder:
    """Another process that holds the write lock for as long as it is told to."""

    def __init__(self, kind, directory):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, kind.__name__, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def hold(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "held\n"

    def wait(self):
        assert self.process.stdout.readline() == "free\n"

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)


async def late_steps(work):
    """Do some work; return its result, and how late the latest step of the loop was meanwhile."""
    latest = 0.0
    task = asyncio.ensure_future(work)
    while not task.done():
        before, queued = time.perf_counter(), time_in_queue()
        await asyncio.sleep(0.001)
        late = time.perf_counter() - before - 0.001
        latest = max(latest, late - (time_in_queue() - queued))
    return task.result(), latest


def time_in_queue():
    """Return for how many seconds this thread could have run, but others had the processors."""
    try:
        text = Path("/proc/thread-self/schedstat").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return int(text.split()[1]) / 1e9


def is_good(seconds, count, latest, took):
    """Tell whether the loop went on and reads were answered, in a round of so many seconds."""
    return latest < LATE and took > 0.7 * seconds and count > 100 * seconds


@pytest.mark.parametrize("kind", [Cache, FanoutCache], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("loop", LOOPS)
def test_loop_goes_on_while_another_process_holds_the_write_lock(directory, kind, loop):
    with kind(directory) as ordinary:
        ordinary.set_many(dict.fromkeys(range(1000), "v" * 100))
        holder = Holder(kind, directory)
        cache = (AsyncCache if kind is Cache else AsyncFanoutCache)(ordinary)
        lock = AsyncLock(cache, "lock")

        async def write(name):
            await cache.set(name, 1, retry=True)

        async def transact():
            async with cache.transact(retry=True):
                await cache.incr("n")

        async def guard():
            async with lock:
                pass

        async def read(seconds):
            """Read from memory and from the database; return how many reads there were."""
            count, until = 0, time.perf_counter() + seconds
            while time.perf_counter() < until:
                await cache.get(count % 1000)
                await cache.get("missing", expire_time=True)
                count += 2
                await asyncio.sleep(0.002)
            return count

        async def use():
            await cache.get(0)
            await cache.incr("n", default=0)
            rounds = []
            # What else the machine does may make a step late, but not in each of the rounds: the
            # shorter one is, the less comes between.
            while not (rounds and is_good(*rounds[-1])) and len(rounds) < 60:
                seconds = 1 if len(rounds) < 3 else 0.2
                holder.hold(seconds)
                began = time.perf_counter()
                tasks = [write("w"), write("x"), cache.delete(5, retry=True), transact(), guard()]
                reading = read(0.8 * seconds)
                (count, *_), latest = await late_steps(asyncio.gather(reading, *tasks))
                rounds.append((seconds, count, latest, time.perf_counter() - began))
                holder.wait()
            await cache.aclose()
            return rounds

        try:
            rounds = runner_of(loop)(use())
        finally:
            holder.close()

    late = ", ".join(f"{latest * 1000:.2f}" for _, _, latest, _ in rounds)
    count = rounds[-1][1]
    print(f"{kind.__name__} on {loop}: steps late by at most {late} ms, {count} reads meanwhile")
    assert is_good(*rounds[-1]), rounds


def test_loops_in_several_threads_share_an_object(directory):
    with Cache(directory) as ordinary:
        cache = AsyncCache(ordinary)

        async def use():
            counts = await asyncio.gather(*[cache.incr("n") for _ in range(50)])
            for _ in range(10):
                async with cache.transact():
                    await cache.set("m", await cache.get("m", 0) + 1)
            async with AsyncLock(cache, "k"):
                pass
            return counts

        results = in_threads(*[lambda: asyncio.run(use())] * 6)
        asyncio.run(cache.aclose())

        assert sorted(count for counts in results for count in counts) == list(range(1, 301))
        assert ordinary["m"] == 60


PRELUDE = """
import asyncio, os, signal, sys, threading, time
from diskcache import AsyncCache, AsyncLock, Cache
signal.alarm(55)
cache = AsyncCache(sys.argv[1])

def join(pid):
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, status

def in_child(coroutine):
    pid = os.fork()
    if pid == 0:
        signal.alarm(50)
        try:
            asyncio.run(coroutine)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    coroutine.close()
    return pid
"""

FORKED = {
    "between two loops": """
asyncio.run(cache.set("k", 1))
pid = in_child(cache.incr("k"))
asyncio.run(cache.incr("k"))
join(pid)
assert asyncio.run(cache.get("k")) == 3
""",
    "while threads are busy": """
async def use():
    writing = [asyncio.create_task(cache.incr("n")) for _ in range(200)]
    await asyncio.sleep(0)
    threading.Thread(target=lambda: pids.append(in_child(cache.incr("child")))).start()
    await asyncio.gather(*writing)
pids = []
# A module that is being imported during a fork is never there in the child.
asyncio.run(cache.get("n"))
asyncio.run(use())
while not pids:
    time.sleep(0.01)
join(pids[0])
assert asyncio.run(cache.get_many(["n", "child"])) == {"n": 200, "child": 1}
""",
}

ENDED = {
    "without aclose": """
asyncio.run(cache.set("k", 1))
""",
    "with pending operations": """
async def use():
    for n in range(1000):
        asyncio.ensure_future(cache.set(n, n))
    await asyncio.sleep(0)
asyncio.run(use())
""",
    "with a loop that was closed too early": """
loop = asyncio.new_event_loop()
tasks = [loop.create_task(cache.set(n, n)) for n in range(100)]
loop.run_until_complete(asyncio.sleep(0))
loop.close()
""",
    "with an open block": """
loop = asyncio.new_event_loop()
async def enter():
    block = globals()["block"] = cache.transact()
    await block.__aenter__()
    await cache.set("never", 1)
loop.run_until_complete(enter())
""",
    "with a lock": """
async def use():
    await AsyncLock(cache, "k").acquire()
asyncio.run(use())
""",
    "by an error": """
async def use():
    async with cache.transact():
        await cache.set("never", 1)
        sys.exit(0)
asyncio.run(use())
""",
}


def run(text, directory):
    """Run a program; return how many seconds passed from its first line to its end."""
    ended = run_script(f"{PRELUDE}\nprint(time.monotonic(), flush=True)\n{text}", directory)
    over = time.monotonic()

    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    with Cache(directory) as cache:
        assert [str(finding.message) for finding in cache.check()] == []
        assert "never" not in cache
    assert_tidy(directory)
    return over - float(ended.stdout)


@pytest.mark.parametrize("how", FORKED)
def test_forked_child_has_threads_of_its_own(directory, how):
    run(FORKED[how], directory)


@pytest.mark.parametrize("how", ENDED)
def test_interpreter_ends_at_once(directory, how):
    # On a busy machine it may take longer, but not each time.
    assert any(run(ENDED[how], directory) < 4.5 for _ in range(10))


async def with_few_threads(first, begun, other):
    """Return what two give, of which the other one takes all threads of the executor.

    The first one sets an event when it is the one who computes.
    """
    executor = ThreadPoolExecutor(2)
    asyncio.get_running_loop().set_default_executor(executor)
    leader = asyncio.create_task(first())
    await asyncio.wait_for(begun.wait(), 60)
    return await asyncio.gather(leader, *(asyncio.to_thread(other) for _ in range(4)))


def test_memoize_by_a_task_whose_threads_wait_for_it_comes_to_an_end(directory):
    begun = asyncio.Event()
    with Cache(directory) as cache:

        @cache.memoize("f", lock=True)
        async def awaited():
            begun.set()
            await asyncio.sleep(0.3)
            return "shared"

        @cache.memoize("f", lock=True, lock_timeout=60)
        def blocking():
            return "own"

        assert asyncio.run(with_few_threads(awaited, begun, blocking)) == ["shared"] * 5


def test_barrier_of_a_task_whose_threads_wait_for_it_is_given_back(directory):
    begun = asyncio.Event()
    with Cache(directory) as cache:
        lock = Lock(cache, "b")

        @barrier(cache, Lock, name="b")
        async def awaited():
            begun.set()
            await asyncio.sleep(0.3)
            return True

        def blocking():
            taken = lock.acquire(timeout=60)
            if taken:
                lock.release()
            return bool(taken)

        assert asyncio.run(with_few_threads(awaited, begun, blocking)) == [True] * 5


def test_get_or_set_that_functions_of_update_wait_for_comes_to_an_end(directory):
    begun = asyncio.Event()

    async def compute():
        begun.set()
        await asyncio.sleep(0.3)
        return "shared"

    async def ask():
        async with AsyncCache(directory) as cache:

            def update(_):
                return cache.sync.get_or_set("k", lambda: "own", lock_timeout=60)

            leader = asyncio.create_task(cache.get_or_set("k", compute))
            await asyncio.wait_for(begun.wait(), 60)
            return await asyncio.gather(leader, *(cache.update(i, update) for i in range(6)))

    assert asyncio.run(ask()) == ["shared"] * 7
