"""Event loops use a server without threads: bounded, cancelled, forked, one after the other."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, nullcontext

import pytest
from redis import asyncio as awaited

from diskcache import (
    UNKNOWN,
    AsyncCache,
    AsyncDeque,
    AsyncIndex,
    AsyncLock,
    AsyncRLock,
    ServerTimeoutError,
    ServerUnavailableError,
    UnsupportedError,
    aio,
    bridging,
    connect,
)
from diskcache.aio import AsyncRemoteCache
from diskcache.engines.redis import lease, looped, transactions
from diskcache.engines.redis.driver import POOL
from diskcache.engines.redis.lease import Keeper, Lease
from diskcache.engines.redis.transactions import Transaction
from tests.support.servers import DEADLINE, free_port, need_server, shared_server
from tests.support.variants import url_of


@pytest.fixture
def url(tmp_path):
    need_server()
    yield url_of(tmp_path)
    with connect(url_of(tmp_path)) as cache:
        cache.clear()


@pytest.fixture
def named(url, tmp_path):
    """An address whose connections have a name, and a function that counts them."""
    name = f"of-{os.getpid()}-{abs(hash(tmp_path))}"

    def count():
        with shared_server().client() as client:
            return sum(found["name"] == name for found in client.client_list())

    return f"{url}&client_name={name}", count


async def left(count):
    """Return how many connections stay, however late the server notices those that were closed."""
    for _ in range(100 * DEADLINE):
        if not count():
            break
        await asyncio.sleep(0.01)
    return count()


@pytest.fixture
def no_threads(monkeypatch):
    """Fail whoever starts a thread for an operation."""

    start = threading.Thread.start

    def checked(self):
        # Who computes a value takes a lease for it, which threads of their own take and renew.
        assert self.name.startswith(("diskcache leases", "asyncio"))
        start(self)

    monkeypatch.setattr(threading.Thread, "start", checked)


def client_of(cache):
    """Return the client of the loop that runs."""
    return cache.sync._engine.driver._looped.of_loop(None)


def limit(cache, count):
    """Allow so many connections from now on, to a cache that keeps nothing in memory.

    One that does makes connections anew once it listens.
    """
    client = client_of(cache)
    client._slots = asyncio.Semaphore(count)
    client._client.connection_pool.max_connections = count


def in_use(cache):
    return len(client_of(cache)._client.connection_pool._in_use_connections)


async def every_kind_of_operation(cache):
    await cache.set_many({number: number for number in range(300)}, tag="many")
    assert await cache.get_many([1, 2, -1]) == {1: 1, 2: 2}
    assert await cache.set("key", [1], expire=60, tag="one")
    assert await cache.get("key", tag=True) == ([1], "one")
    assert await cache["key"] == await cache.getitem("key") == [1]
    assert not await cache.add("key", 2)
    assert await cache.touch("key", expire=30)
    assert await cache.incr("count", 2) + await cache.decr("count") == 3
    assert await cache.update("key", lambda value: [*value, 2]) == [1, 2]
    assert await cache.pop("key") == [1, 2]
    assert [key async for key in cache.keys(tag="many")] == list(range(300))
    assert len([item async for item in cache.items()]) == await cache.len() == 301
    assert await cache.push("job", prefix="jobs") == "jobs-500000000000000"
    assert await cache.peek(prefix="jobs") == await cache.pull(prefix="jobs")
    assert (await cache.peekitem())[0] == "count"
    assert await cache.get_or_set("made", lambda: answer(42)) == 42
    assert await cache.evict("many") == 300
    assert await cache.check() == []
    assert await cache.stats() == (0, 0)
    assert await cache.volume() > 0
    assert await cache.expire() == 0
    assert await cache.clear() == 2


async def answer(value):
    await asyncio.sleep(0)
    return value


# -- Without threads -------------------------------------------------------------------------


def test_every_kind_of_operation_works_without_a_thread(url, no_threads):
    async def main():
        async with aio.connect(url, memory_limit=0) as cache:
            await every_kind_of_operation(cache)

    asyncio.run(main())


def test_every_kind_of_operation_works_in_uvloop(url, no_threads):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        async with aio.connect(url, memory_limit=0) as cache:
            await every_kind_of_operation(cache)

    uvloop.run(main())


def test_memoized_coroutine_function_needs_no_thread(url, no_threads):
    calls = []
    cache = connect(url, memory_limit=0)

    @cache.memoize(lock=True)
    async def double(number):
        calls.append(number)
        await asyncio.sleep(0)
        return 2 * number

    async def main():
        found = await asyncio.gather(*(double(4) for _ in range(20)))
        return set(found), await double.peek(4), await double.invalidate(4)

    assert asyncio.run(main()) == ({8}, 8, True)
    assert calls == [4]
    cache.close()


def test_cache_that_is_given_is_shared(url, no_threads):
    with connect(url, memory_limit=0) as cache:
        shared = AsyncRemoteCache(cache)
        asyncio.run(shared.set("key", 1))

        assert cache["key"] == 1
        assert shared.sync is cache
        assert asyncio.run(AsyncCache(cache).get("key")) == 1
        with pytest.raises(TypeError, match="an open cache has its settings"):
            AsyncRemoteCache(cache, timeout=1)


def test_without_greenlet_operations_are_hops_to_threads(url, monkeypatch):
    monkeypatch.setattr(bridging, "_library", [None])

    async def main():
        async with aio.connect(url) as cache:
            await every_kind_of_operation(cache)
            return {thread.name for thread in threading.enumerate()}

    assert {"diskcache-read", "diskcache-write"} <= asyncio.run(main())


def test_connect_chooses_by_the_target(tmp_path, url):
    assert type(aio.connect(url)) is AsyncRemoteCache
    assert type(aio.connect(tmp_path)) is aio.AsyncCache
    assert type(aio.connect(tmp_path, shards=2)) is aio.AsyncFanoutCache


def test_transact_is_refused(url):
    async def main():
        async with aio.connect(url) as cache:
            with pytest.raises(UnsupportedError, match="no transactions"):
                async with cache.transact():
                    pass

    asyncio.run(main())


def test_what_is_in_memory_is_answered_without_the_server(url, monkeypatch):
    async def main():
        async with aio.connect(url) as cache:
            await cache.set("key", 1)
            async with asyncio.timeout(DEADLINE):
                while (found := await without_the_server(cache, "key", monkeypatch)) is UNKNOWN:
                    await cache.get("key")
                    await asyncio.sleep(0.001)
            await cache.set("key", 2)
            return found, await cache.get("key")

    assert asyncio.run(main()) == (1, 2)


class AskedError(Exception):
    """The server was asked."""


async def without_the_server(cache, key, monkeypatch):
    """Read what memory answers; unknown if that is nothing."""

    def refuse(_):
        raise AskedError

    with monkeypatch.context() as patches:
        patches.setattr(cache.sync._engine.driver, "_once", refuse)
        try:
            return await cache.get(key)
        except AskedError:
            return UNKNOWN


def test_cache_beside_another_one_is_made_of_that_alone(url, monkeypatch):
    cache, made = aio.connect(url), []
    monkeypatch.setattr(AsyncRemoteCache, "__init__", lambda *args: made.append(args))

    async def main():
        part = cache.cache("part")
        await part.set("key", 1)
        assert cache.cache("part") is part
        assert await part.cache("more").get("key") is None
        found = await cache.get("key"), await part["key"], part.url
        assert await part.clear() == 1
        await cache.aclose()
        return found

    assert asyncio.run(main()) == (None, 1, url)
    assert made == []


# -- Several tasks in one thread -------------------------------------------------------------


def test_steps_of_structures_of_many_tasks_do_not_mix(url, no_threads):
    async def main():
        async with aio.connect(url, memory_limit=0) as cache:
            part = cache.cache("part")
            deque, index = AsyncDeque.fromcache(part), AsyncIndex.fromcache(part)
            await asyncio.gather(*(deque.append(number) for number in range(20)))
            await asyncio.gather(*(deque.rotate(1) for _ in range(5)))
            found = sorted([item async for item in deque])
            await part.clear()
            pushed = await asyncio.gather(*(index.setdefault("key", n) for n in range(10)))
            return found, set(pushed)

    found, pushed = asyncio.run(main())

    assert found == list(range(20))
    assert len(pushed) == 1


def test_step_of_one_task_is_not_seen_by_another(url):
    async def main():
        async with aio.connect(url) as cache:
            engine = cache.sync._engine
            inside, over = asyncio.Event(), asyncio.Event()

            def step():
                with engine.transaction(None):
                    cache.sync["key"] = "new"
                    inside.set()
                    bridging.wait(over.wait())

            task = asyncio.create_task(bridging.bridged(step))
            await inside.wait()
            during = await cache.get("key"), engine.in_transaction()
            over.set()
            await task
            return during, await cache.get("key")

    assert asyncio.run(main()) == ((None, False), "new")


@pytest.mark.parametrize("kind", [AsyncLock, AsyncRLock])
def test_lock_is_held_by_one_task_at_a_time(url, no_threads, kind):
    inside = []

    async def work(lock):
        async with lock, lock if kind is AsyncRLock else nullcontext():
            inside.append(1)
            seen = len(inside)
            await asyncio.sleep(0.001)
            inside.pop()
            return seen

    async def main():
        async with aio.connect(url, memory_limit=0) as cache:
            locks = [kind(cache, "lock", expire=60) for _ in range(3)]
            return await asyncio.gather(*(work(locks[number % 3]) for number in range(9)))

    assert asyncio.run(main()) == [1] * 9


def test_cancelled_attempt_leaves_no_lock_taken(url):
    async def main():
        async with aio.connect(url) as cache:
            lock = AsyncLock(cache, "lock", expire=600)
            for turns in range(30):
                task = asyncio.create_task(lock.acquire())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                (fence,) = await asyncio.gather(task, return_exceptions=True)
                if isinstance(fence, int):
                    await lock.release()
            return await lock.acquire(timeout=20) > 0

    assert asyncio.run(main())


@pytest.mark.parametrize("moment", ["begin", "commit", "end"])
def test_cancelled_step_of_a_structure_lets_others_write_at_once(url, monkeypatch, moment):
    # What was not given back would be waited for.
    monkeypatch.setattr(transactions, "LEASE", 3600.0)
    original = getattr(Transaction, moment)

    async def main():
        async with aio.connect(url) as cache:
            deque = AsyncDeque.fromcache(cache, [1, 2, 3])
            await deque.len()
            step = asyncio.ensure_future(deque.rotate(1))

            def cancelled(self, *args):
                # Once: older clients of a server let other tasks run before they send anything.
                monkeypatch.setattr(Transaction, moment, original)
                asyncio.get_running_loop().call_soon(step.cancel)
                return original(self, *args)

            monkeypatch.setattr(Transaction, moment, cancelled)
            with pytest.raises(asyncio.CancelledError):
                await step
            await asyncio.wait_for(deque.append(4), DEADLINE)
            return await deque.len()

    assert asyncio.run(main()) == 4


@pytest.mark.parametrize("is_bridged", [True, False])
def test_computation_that_is_cancelled_while_it_takes_its_lease_leaves_none(
    url, monkeypatch, is_bridged
):
    if not is_bridged:
        monkeypatch.setattr(bridging, "_library", [None])
    # What was not given back would be waited for.
    monkeypatch.setattr(lease, "TERM", 3_600_000)
    original = Lease._try
    is_over = threading.Event()

    async def main():
        async with aio.connect(url) as cache:
            await cache.set("other", 1)
            task = asyncio.ensure_future(cache.get_or_set("key", lambda: answer(1)))
            loop = asyncio.get_running_loop()

            def cancelled(self):
                loop.call_soon_threadsafe(task.cancel)
                if not is_bridged:
                    is_over.wait(DEADLINE)
                return original(self)

            monkeypatch.setattr(Lease, "_try", cancelled)
            with pytest.raises(asyncio.CancelledError):
                await task
            is_over.set()
            monkeypatch.setattr(Lease, "_try", original)
            assert await asyncio.wait_for(cache.get_or_set("key", lambda: answer(2)), DEADLINE) == 2

    asyncio.run(main())


def test_loop_goes_on_while_closing_waits_for_the_thread_of_leases(url, monkeypatch):
    renewing, go_on = threading.Event(), threading.Event()

    def renew(self, leases):
        renewing.set()
        go_on.wait(DEADLINE)

    monkeypatch.setattr(Keeper, "_renew", renew)

    async def main():
        async with aio.connect(url) as cache:
            task = asyncio.ensure_future(cache.get_or_set("key", lambda: asyncio.sleep(60)))
            await asyncio.to_thread(renewing.wait, DEADLINE)
            task.cancel()
            await asyncio.wait([task])
            closing = asyncio.ensure_future(cache.aclose())
            await asyncio.sleep(0.05)
            assert not closing.done()
            go_on.set()
            await closing
        assert "diskcache leases" not in [thread.name for thread in threading.enumerate()]

    asyncio.run(main())


def test_thousand_reads_at_once_use_a_bounded_number_of_connections(named):
    url, count = named

    async def main():
        # What listens for a cache with memory has a connection besides.
        async with aio.connect(url, memory_limit=0) as cache:
            await cache.set_many({number: number for number in range(1000)})
            found = await asyncio.gather(*(cache.get(number) for number in range(1000)))
            return found, count()

    found, connections = asyncio.run(main())

    assert found == list(range(1000))
    assert 2 <= connections <= POOL


# -- Cancelling ------------------------------------------------------------------------------


@asynccontextmanager
async def holding(port):
    """Pass everything on between clients and a server, and answers only while `gate` is set."""
    gate = asyncio.Event()
    gate.set()
    tasks = set()

    async def pump(reader, writer, is_answer):
        while data := await reader.read(65536):
            if is_answer:
                await gate.wait()
            writer.write(data)
        writer.close()

    async def serve(reader, writer):
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        tasks.add(asyncio.ensure_future(pump(reader, forth, False)))
        tasks.add(asyncio.ensure_future(pump(back, writer, True)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], gate
    finally:
        server.close()
        gate.set()
        await asyncio.gather(*tasks)


def test_connection_whose_answer_is_pending_is_not_used_again(url):
    async def main():
        port = shared_server().port
        async with holding(port) as (other_port, gate):
            cache = aio.connect(url.replace(f":{port}/", f":{other_port}/"), memory_limit=0)
            async with cache:
                limit(cache, 1)
                await cache.set_many({number: number for number in range(20)})
                for number in range(20):
                    gate.clear()
                    task = asyncio.create_task(cache.get(number))
                    await asyncio.sleep(0.005)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    gate.set()
                    assert await cache.get(19 - number) == 19 - number
                assert in_use(cache) == 0

    asyncio.run(main())


OPERATIONS = {
    "get": lambda cache, number: cache.get(number),
    "get_many": lambda cache, number: cache.get_many([number, number + 1]),
    "set": lambda cache, number: cache.set(number, number, tag="other"),
    "iteration": lambda cache, _: anext(cache.items()),
    "len": lambda cache, _: cache.len(),
    "pop": lambda cache, number: cache.pop(number),
    "push": lambda cache, number: cache.push(number),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_cancelled_at_any_moment_leaves_no_connection_behind(url, name):
    async def main():
        async with aio.connect(url, memory_limit=0) as cache:
            limit(cache, 2)
            await cache.set_many({number: number for number in range(100)}, tag="tag")
            for turns in range(60):
                other = asyncio.create_task(cache.get(99))
                task = asyncio.ensure_future(OPERATIONS[name](cache, turns))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert await other == 99
                assert await cache.get(98) == 98
            client = client_of(cache)
            assert in_use(cache) == 0
            assert client._users == 0
            assert client._slots._value == 2

    asyncio.run(main())


def test_iterator_that_is_left_behind_keeps_nothing(url):
    async def main():
        async with aio.connect(url) as cache:
            await cache.set_many({number: number for number in range(300)})
            rest = cache.items()
            await anext(rest)
            await rest.aclose()
            assert client_of(cache)._users == in_use(cache) == 0

    asyncio.run(main())


# -- Loops -----------------------------------------------------------------------------------


def test_cache_can_be_closed_while_others_are_made_beside_it(url, monkeypatch):
    cache = connect(url)
    part = cache.cache("part")
    # Where closing waits, another task makes one.
    monkeypatch.setattr(part, "close", lambda **_: cache.cache("other"))
    cache.close()

    assert set(cache._parts) == {"part", "other"}


def test_connections_to_a_cluster_that_redis_py_lost_take_no_place():
    async def main():
        node = awaited.cluster.ClusterNode("127.0.0.1", free_port(), max_connections=3)
        client = awaited.RedisCluster(startup_nodes=[node])
        client.nodes_manager.nodes_cache = {node.name: node}
        free, *_ = [node.acquire_connection() for _ in range(3)]
        node._free.append(free)
        looped._forget_lost(client)
        return node._connections == [free] == [node.acquire_connection()], node.acquire_connection()

    assert asyncio.run(main())[0]


def test_loop_that_ends_closes_its_connections_and_the_next_one_connects_anew(named):
    url, count = named
    cache = aio.connect(url)
    for number in range(3):
        assert asyncio.run(cache.incr("count")) == number + 1
        assert asyncio.run(left(count)) == 0
    asyncio.run(cache.aclose())


JUST_CLOSED = """
import asyncio, sys
from diskcache import aio
cache = aio.connect(sys.argv[1])
for number in (1, 2):
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(cache.incr("count")) == number
    loop.close()
assert asyncio.run(cache.incr("count")) == 3
asyncio.run(cache.aclose())
"""


def test_loop_that_is_just_closed_does_not_disturb_the_next_one(url):
    # What nobody closed is closed by the garbage collector, which says so whenever it comes.
    words = [sys.executable, "-W", "ignore", "-c", JUST_CLOSED, url]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_loops_of_several_threads_have_clients_of_their_own(url):
    cache = aio.connect(url)
    barrier = threading.Barrier(3, timeout=DEADLINE)

    async def count():
        await cache.incr("count")
        barrier.wait()
        found = len(cache.sync._engine.driver._looped._found)
        # A loop that ends takes its client with it.
        barrier.wait()
        for _ in range(20):
            await cache.incr("count")
        return found

    clients = []
    threads = [
        threading.Thread(target=lambda: clients.append(asyncio.run(count()))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert clients == [3, 3, 3]
    assert asyncio.run(cache.get("count")) == 63
    asyncio.run(cache.aclose())


def test_closing_the_ordinary_object_closes_the_connections_of_loops(named):
    url, count = named

    async def main():
        cache = aio.connect(url)
        await cache.set("key", 1)
        before = count()
        cache.sync.close()
        rest = await left(count)
        # All of these connect anew, and none of them waits for another with a lock in hand.
        found = await asyncio.gather(*(cache.get("key") for _ in range(10)))
        await cache.aclose()
        return before, rest, set(found)

    assert asyncio.run(main()) == (1, 0, {1})


def test_object_that_is_dropped_leaves_no_connection(named):
    url, count = named

    async def main():
        cache = aio.connect(url)
        await cache.set("key", 1)
        # Only the garbage collector finds it then.
        cache.sync.itself = cache.sync
        del cache
        gc.collect()
        return await left(count)

    assert asyncio.run(main()) == 0


def test_object_that_is_dropped_as_its_loop_ends_is_closed_by_that(named, caplog):
    url, count = named

    async def main():
        cache = aio.connect(url, memory_limit=0)
        await cache.set("key", 1)

    for _ in range(5):
        asyncio.run(main())
        gc.collect()
    rest = asyncio.run(left(count))

    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
    assert rest == 0


def test_first_use_by_many_tasks_connects_once(url, monkeypatch):
    made = []
    init = aio.remote.RemoteCache.__init__

    def counting(self, *args, **keywords):
        made.append(self)
        init(self, *args, **keywords)

    monkeypatch.setattr(aio.remote.RemoteCache, "__init__", counting)

    async def main():
        cache = aio.connect(url)
        await asyncio.gather(*(cache.set(number, number) for number in range(100)))
        await cache.aclose()

    asyncio.run(main())

    assert len(made) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_child_connects_anew_and_the_parent_goes_on(url):
    async def main():
        async with aio.connect(url) as cache:
            await cache.set("key", "parent")
            pid = os.fork()
            if not pid:
                in_child(cache)
            await asyncio.to_thread(os.waitpid, pid, 0)
            return [await cache.get("key") for _ in range(5)]

    assert asyncio.run(main()) == ["child"] * 5


def in_child(cache):
    """Write by loops of a child, and end it without the exit of a test run."""

    async def write():
        assert await cache.get("key") == "parent"
        await cache.set("key", "child")

    signal.alarm(60)
    try:
        threading.Thread(target=lambda: asyncio.run(write())).run()
        gc.collect()
    finally:
        os._exit(0)


def test_forked_child_connects_although_a_thread_of_the_parent_is_connecting(url, monkeypatch):
    cache = connect(url)
    cache.close()
    parent, original = os.getpid(), cache._engine.driver.hash
    connecting, go_on = threading.Event(), threading.Event()

    def slow(key):
        if os.getpid() == parent:
            connecting.set()
            go_on.wait(DEADLINE)
        return original(key)

    monkeypatch.setattr(cache._engine.driver, "hash", slow)
    thread = threading.Thread(target=cache.get, args=("key",))
    thread.start()
    connecting.wait(DEADLINE)
    pid = os.fork()
    if not pid:
        signal.alarm(50)
        try:
            cache["key"] = "child"
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    go_on.set()
    thread.join()

    assert status == 0
    assert cache["key"] == "child"
    cache.close()


# -- Failures --------------------------------------------------------------------------------


def test_server_that_does_not_answer_is_an_error_in_time(url):
    async def main():
        port = shared_server().port
        async with holding(port) as (other_port, gate):
            cache = aio.connect(url.replace(f":{port}/", f":{other_port}/"), memory_limit=0)
            async with cache:
                await cache.set("key", 1)
                usual, client_of(cache)._timeout = client_of(cache)._timeout, 0.3
                gate.clear()
                with pytest.raises(ServerTimeoutError, match="did not answer in time"):
                    await cache.get("key")
                gate.set()
                client_of(cache)._timeout = usual
                cache.sync._engine.driver.breaker.succeed()
                assert await cache.get("key") == 1

    asyncio.run(main())


def test_wait_for_a_connection_ends_in_time(url):
    async def main():
        async with aio.connect(url, memory_limit=0) as cache:
            limit(cache, 1)
            usual, client_of(cache)._timeout = client_of(cache)._timeout, 0.3
            await client_of(cache)._slots.acquire()
            with pytest.raises(ServerTimeoutError, match="all connections were in use"):
                await cache.get("key")
            client_of(cache)._slots.release()
            client_of(cache)._timeout = usual
            assert await cache.get("key") is None

    asyncio.run(main())


def test_server_that_is_away_is_an_error_or_a_miss():
    async def main():
        url = f"redis://127.0.0.1:{free_port()}/0?namespace=test"
        with pytest.raises(ServerUnavailableError, match="cannot be reached"):
            await aio.connect(url).get("key")
        cache = aio.connect(url, on_error="miss")
        found = await asyncio.gather(*(cache.get(number) for number in range(10)))
        with pytest.raises(ServerUnavailableError):
            await cache.incr("count")
        await cache.aclose()
        return found

    assert asyncio.run(main()) == [None] * 10


def test_call_that_must_raise_does_not_make_others_raise():
    async def main():
        url = f"redis://127.0.0.1:{free_port()}/0?namespace=test"
        cache = await aio.connect(url, on_error="miss").open()
        cache.sync._engine.driver.breaker.succeed()
        results = await asyncio.gather(
            cache.get("key"), cache.update("key", str), return_exceptions=True
        )
        await cache.aclose()
        return [type(result) for result in results]

    assert asyncio.run(main()) == [type(None), ServerUnavailableError]
