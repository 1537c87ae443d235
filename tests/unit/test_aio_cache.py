"""`AsyncCache` and its kin: hops, memory, iteration, cancelling, loops that come and go."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import os
import pickle
import threading
import weakref
from collections import OrderedDict

import pytest

from diskcache import (
    AsyncCache,
    AsyncDeque,
    AsyncFanoutCache,
    AsyncIndex,
    AsyncLock,
    Cache,
    Deque,
    FanoutCache,
    Index,
    SettingError,
)
from diskcache.aio import pool as pools
from diskcache.engines.sqlite import session
from tests.support.leaks import left_open, open_below
from tests.support.loops import LOOPS, new_loop, runner_of

LARGE = b"x" * 100_000


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    """What is in memory is believed, however long a test is held up."""
    monkeypatch.setattr(session, "LOOK_EVERY", 1e6)


@pytest.fixture(params=LOOPS)
def go(request):
    """What runs a coroutine, in each kind of loop."""
    return runner_of(request.param)


@pytest.fixture
def ordinary(make_cache):
    return make_cache()


@pytest.fixture
def cache(ordinary):
    made = AsyncCache(ordinary)
    yield made
    asyncio.run(made.aclose())


def threads_of(name):
    return [thread for thread in threading.enumerate() if thread.name == f"diskcache-{name}"]


def heat(cache, key):
    """Have the entry of a key in memory."""
    for _ in range(2):
        cache.get(key)


class Slow:
    """A value whose encoding waits until it is told to go on."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __reduce__(self):
        self.begun.set()
        self.go_on.wait(60)
        return str, ("slow",)


async def until(condition):
    """Wait for a condition that threads bring about."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


# -- Hops --


def test_entries_are_those_of_the_ordinary_cache(go, cache, ordinary):
    async def use():
        await cache.set("a", 1, tag="t")
        return await cache.get("a", tag=True), await cache["a"], await cache.contains("b")

    assert go(use()) == ((1, "t"), 1, False)
    assert ordinary["a"] == 1


def test_bypass_is_of_the_task_that_enters_it(go, cache, ordinary):
    ordinary["kept"] = 1
    heat(ordinary, "kept")

    async def bypassed(entered, leave):
        with cache.bypass():
            entered.set()
            await leave.wait()
            return await cache.get("kept"), await cache.set("new", 2), await cache.get("new")

    async def beside(entered, leave):
        await entered.wait()
        found = await cache.get("kept"), await cache.set("other", 3)
        leave.set()
        return found

    async def both():
        entered, leave = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(bypassed(entered, leave), beside(entered, leave))

    assert go(both()) == [(None, True, None), (1, True)]
    assert (ordinary.get("new"), ordinary["other"]) == (None, 3)


def test_thousand_gets_and_sets_at_once(go, cache):
    async def use():
        stored = await asyncio.gather(*[cache.set(n, {"n": n}) for n in range(1000)])
        found = await asyncio.gather(*[cache.get(n) for n in range(1000)])
        mixed = await asyncio.gather(
            *[cache.incr("n") if n % 2 else cache.get(n) for n in range(1000)]
        )
        return stored, found, mixed

    stored, found, mixed = go(use())

    assert stored == [True] * 1000
    assert found == [{"n": n} for n in range(1000)]
    assert sorted(mixed[1::2]) == list(range(1, 501))


def test_threads_are_bounded_and_end_with_aclose(cache, ordinary):
    async def use():
        await asyncio.gather(*[cache.set(n, n) for n in range(200)])
        await asyncio.gather(*[cache.get(n) for n in range(200)])
        seen = len(threads_of("read")), len(threads_of("write"))
        await cache.aclose()
        return seen, len(threads_of("read")), len(threads_of("write"))

    seen, *left = asyncio.run(use())

    assert all(1 <= count <= 4 for count in seen)
    assert left == [0, 0]
    assert open_below(ordinary.directory) == []


def test_hit_in_memory_is_answered_without_a_thread(go, cache, ordinary):
    values = {"text": "t", "number": 1, "list": [1, {"a": 2}], ("t", 1): (1, 2)}
    ordinary.set_many(values)
    for key in values:
        heat(ordinary, key)
    assert "missing" not in ordinary
    heat(ordinary, "missing")

    async def use():
        found = [await cache.get(key) for key in values]
        return found, await cache.get("missing", 0), await cache.contains("text")

    assert go(use()) == (list(values.values()), 0, True)
    assert threads_of("read") == []


def test_hit_in_memory_gives_each_caller_an_object_of_its_own(cache, ordinary):
    ordinary["k"] = [1]
    heat(ordinary, "k")

    async def use():
        (await cache.get("k")).append(2)
        return await cache.get("k")

    assert asyncio.run(use()) == [1]


def test_large_value_in_memory_is_decoded_in_a_thread(cache, ordinary):
    ordinary["k"] = list(range(100_000))
    heat(ordinary, "k")

    assert asyncio.run(cache.get("k")) == list(range(100_000))
    assert len(threads_of("read")) == 1


def test_hits_in_memory_are_counted_and_written_down(make_cache):
    ordinary = make_cache(statistics=True, eviction_policy="least-recently-used")
    cache = AsyncCache(ordinary)
    ordinary.set_many({n: n for n in range(3)})
    for key in range(3):
        heat(ordinary, key)
    ordinary.stats(reset=True)

    async def use():
        for n in range(2500):
            assert await cache.get(n % 3) == n % 3
        found = await cache.stats()
        await cache.aclose()
        return found

    assert asyncio.run(use()) == (2500, 0)


def test_expired_entry_in_memory_is_a_miss(cache, ordinary, clock):
    ordinary.set("k", 1, expire=10)
    heat(ordinary, "k")
    clock.advance(11)

    assert asyncio.run(cache.get("k")) is None
    assert asyncio.run(cache.contains("k")) is False


def test_write_of_another_object_is_seen_at_once(cache, ordinary, make_cache):
    ordinary["k"] = 1
    heat(ordinary, "k")

    async def use():
        before = await cache.get("k")
        make_cache()["k"] = 2
        return before, await cache.get("k")

    assert asyncio.run(use()) == (1, 2)


def test_method_that_a_subclass_overrides_is_called(directory):
    class Loud(Cache):
        def set(self, key, value, *args, **keywords):
            return super().set(key, f"{value}!", *args, **keywords)

    async def use():
        async with AsyncCache(Loud(directory)) as cache:
            await cache.set("k", "v")
            return await cache.get("k")

    assert asyncio.run(use()) == "v!"


def test_error_comes_through_with_its_traceback(go, cache):
    async def use():
        await cache.incr("missing", default=None)

    with pytest.raises(KeyError) as raised:
        go(use())
    assert "incr" in {frame.name for frame in raised.traceback}


def test_stop_iteration_of_user_code_is_a_runtime_error(cache):
    class Broken:
        def __reduce__(self):
            raise StopIteration(5)

    with pytest.raises(RuntimeError, match=r"StopIteration\(5\)"):
        asyncio.run(cache.set("k", Broken()))


def test_error_leaves_nothing_that_refers_to_itself(cache):
    class Broken:
        def __reduce__(self):
            raise ZeroDivisionError

    async def use():
        value = Broken()
        seen = weakref.ref(value)
        with pytest.raises(ZeroDivisionError):
            await cache.set("k", value)
        return seen

    gc.disable()
    try:
        seen = asyncio.run(use())
        # The thread keeps nothing once it waits again.
        asyncio.run(until(lambda: seen() is None))
    finally:
        gc.enable()


def test_user_code_sees_the_context_of_the_caller(cache):
    variable = contextvars.ContextVar("variable", default="nothing")
    seen = []

    class Value:
        def __reduce__(self):
            seen.append(variable.get())
            return str, ("v",)

    async def use():
        variable.set("mine")
        await cache.set("k", Value())

    asyncio.run(use())

    assert seen == ["mine"]


def test_set_many_takes_an_iterator(go, cache):
    assert go(cache.set_many((n, n) for n in range(10))) == 10


# -- Opening and closing --


def test_directory_is_opened_when_it_is_first_used(go, tmp_path):
    cache = AsyncCache(tmp_path / "c", size_limit=1_000_000)
    assert not (tmp_path / "c").exists()

    async def use():
        counts = await asyncio.gather(*[cache.incr("n") for _ in range(20)])
        await cache.aclose()
        return sorted(counts)

    assert go(use()) == list(range(1, 21))
    assert cache.size_limit == 1_000_000
    assert cache.directory == str(tmp_path / "c")


def test_directory_that_cannot_be_opened_raises_and_leaves_no_thread(go, tmp_path):
    cache = AsyncCache(tmp_path / "c", timeout="soon")

    async def use():
        with pytest.raises(SettingError):
            await cache.open()
        with pytest.raises(SettingError):
            await cache.get("k")

    go(use())

    assert threads_of("write") == []


@pytest.mark.parametrize(
    "make",
    [
        lambda ordinary: AsyncCache(ordinary, size_limit=1),
        lambda ordinary: AsyncCache(ordinary, timeout=5),
        lambda ordinary: AsyncFanoutCache(ordinary),
    ],
    ids=["setting", "timeout", "kind"],
)
def test_open_cache_with_other_settings_raises_type_error(ordinary, make):
    with pytest.raises(TypeError):
        make(ordinary)


def test_cache_of_shards_is_not_for_async_cache(directory):
    with FanoutCache(directory, shards=2) as fanout, pytest.raises(TypeError):
        AsyncCache(fanout)


def test_closed_cache_is_used_again(go, cache):
    async def use():
        await cache.set("k", 1)
        await cache.aclose()
        await cache.aclose()
        found = await cache.get("k")
        await cache.aclose()
        return found

    assert go(use()) == 1


def test_aclose_waits_for_what_was_asked_for(go, cache):
    async def use():
        pending = [asyncio.create_task(cache.set(n, n)) for n in range(100)]
        await asyncio.sleep(0)
        await cache.aclose()
        await asyncio.gather(*pending)
        return await cache.len()

    assert go(use()) == 100


def test_closing_while_others_use_it_harms_nobody(go, cache):
    async def use():
        async def count():
            for _ in range(20):
                await cache.incr("n")

        async def close():
            for _ in range(10):
                await cache.aclose()

        await asyncio.gather(count(), close(), count(), close())
        return await cache.get("n")

    assert go(use()) == 40


def test_one_object_serves_fifty_loops_one_after_the_other(cache, ordinary):
    async def use():
        return await cache.incr("n"), await cache.get("n")

    asyncio.run(use())
    threads, files = len(threading.enumerate()), len(os.listdir("/proc/self/fd"))

    assert [asyncio.run(use()) for _ in range(50)] == [(n, n) for n in range(2, 52)]
    assert len(threading.enumerate()) <= threads + 2
    assert len(os.listdir("/proc/self/fd")) <= files + 10


def test_objects_on_one_cache_share_their_threads(ordinary):
    async def use():
        caches = [AsyncCache(ordinary) for _ in range(20)]
        await asyncio.gather(*[cache.set(n, n) for n, cache in enumerate(caches)])
        seen = len(threads_of("write"))
        await caches[0].aclose()
        return seen

    assert asyncio.run(use()) <= 4


def test_threads_end_when_the_cache_is_gone(directory):
    def use():
        cache = AsyncCache(directory)
        asyncio.run(cache.set("k", 1))

    use()
    gc.collect()
    for thread in threads_of("write"):
        thread.join(60)

    assert threads_of("write") == []
    assert left_open(directory) == []


def test_pickled_it_is_another_object_on_the_directory(cache, ordinary):
    again = pickle.loads(pickle.dumps(cache))

    assert again.directory == ordinary.directory
    assert repr(again) == f"AsyncCache({ordinary.directory!r})"
    again.sync.close()


# -- Iteration --


def test_iteration_streams_in_pages(go, cache, ordinary, monkeypatch):
    ordinary.set_many({n: n for n in range(250)})
    hops = []
    submit = pools.Pool.submit
    monkeypatch.setattr(
        pools.Pool, "submit", lambda self, *args: hops.append(args) or submit(self, *args)
    )

    async def use():
        return [key async for key in cache]

    assert go(use()) == list(range(250))
    assert len(hops) == 1 + 3


def test_iteration_over_large_values_reads_few_at_a_time(cache, ordinary):
    ordinary.set_many(dict.fromkeys(range(20), b"x" * 300000))
    seen = []

    async def use():
        async for key, value in cache.items():
            seen.append((key, len(value)))
            # The pages that were read already hold this many at most.
            ordinary.delete(key + 5)

    asyncio.run(use())

    assert len(seen) < 20


def test_iteration_that_is_broken_off_leaves_nothing(go, cache, ordinary):
    ordinary.set_many({n: n for n in range(250)})

    async def use():
        async for key in cache.iterkeys(reverse=True):
            if key == 200:
                break
        return [key async for key in cache.reversed()][:2], await cache.incr("n")

    assert go(use()) == ([249, 248], 1)


def test_iteration_while_the_cache_changes(go, cache, ordinary):
    ordinary.set_many({n: n for n in range(250)})

    async def use():
        seen = []
        async for key in cache.keys():
            seen.append(key)
            await cache.delete(key)
        return seen, await cache.len()

    assert go(use()) == (list(range(250)), 0)


# -- Cancelling --


def test_cancelled_before_it_began_an_operation_does_nothing(cache, ordinary):
    slow = [Slow() for _ in range(4)]

    async def use():
        busy = [asyncio.create_task(cache.set("slow", value)) for value in slow]
        await until(lambda: all(value.begun.is_set() for value in slow))
        late = asyncio.create_task(cache.set("late", 1))
        await asyncio.sleep(0)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        for value in slow:
            value.go_on.set()
        await asyncio.gather(*busy)
        await cache.aclose()

    asyncio.run(use())

    assert "late" not in ordinary
    assert ordinary["slow"] == "slow"


def test_cancelled_after_it_began_an_operation_comes_to_its_end(go, cache, ordinary):
    async def use():
        value = Slow()
        task = asyncio.create_task(cache.set("k", value))
        await until(value.begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        value.go_on.set()
        await cache.aclose()

    go(use())

    assert ordinary["k"] == "slow"


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize(
    "operate",
    [
        lambda cache: cache.set("k", "new" * 20_000),
        lambda cache: cache.pop("k"),
        lambda cache: cache.set_many({"k": "new" * 20_000, "l": "new"}),
        lambda cache: cache.read("k"),
        lambda cache: cache.get("k", read=True),
    ],
    ids=["set", "pop", "set_many", "read", "get"],
)
def test_cancelled_at_any_step_an_operation_is_done_or_not(cache, ordinary, operate, steps):
    old = b"old" * 20_000
    ordinary["k"] = old

    async def use():
        task = asyncio.create_task(operate(cache))
        for _ in range(steps):
            await asyncio.sleep(0)
        await asyncio.sleep(0.0002 * (steps % 3))
        task.cancel()
        outcome = await asyncio.gather(task, return_exceptions=True)
        if isinstance(outcome[0], io.BufferedReader):
            outcome[0].close()
        await cache.aclose()

    asyncio.run(use())
    gc.collect()

    assert ordinary.get("k") in (old, "new" * 20_000, None)
    assert ("l" in ordinary) is (ordinary.get("k") == "new" * 20_000 and "l" in ordinary)
    assert not any(path.endswith(".val") for path in open_below(ordinary.directory))


def test_file_that_comes_too_late_is_closed(go, cache, ordinary):
    ordinary["k"] = LARGE

    async def use():
        for _ in range(30):
            task = asyncio.create_task(cache.read("k"))
            await asyncio.sleep(0)
            # It comes in this pause, without the loop having told the task.
            threading.Event().wait(0.003)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await cache.aclose()

    go(use())

    assert open_below(ordinary.directory) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_task_that_is_never_finished_holds_nothing(cache, ordinary):
    ordinary["k"] = LARGE
    loop = asyncio.new_event_loop()

    async def use():
        async with cache.transact():
            await cache.set("k", "new")
            await asyncio.sleep(1000)

    task = loop.create_task(use())
    task._log_destroy_pending = False
    loop.run_until_complete(until(lambda: pools.pool_of(ordinary).held is not None))
    loop.run_until_complete(asyncio.sleep(0.02))
    loop.close()
    del task
    gc.collect()

    assert asyncio.run(cache.get("k")) == LARGE
    assert asyncio.run(cache.set("other", 1)) is True


@pytest.mark.parametrize("kind", LOOPS)
def test_loop_that_is_closed_with_pending_operations_harms_nobody(cache, ordinary, kind):
    loop = new_loop(kind)
    tasks = [loop.create_task(cache.set(n, n)) for n in range(100)]
    loop.run_until_complete(asyncio.sleep(0))
    for task in tasks:
        task._log_destroy_pending = False
    loop.close()
    del task, tasks
    gc.collect()

    assert asyncio.run(cache.set("after", 1)) is True


@pytest.mark.parametrize("kind", LOOPS)
def test_lock_that_comes_when_its_loop_is_closed_is_given_back(cache, ordinary, kind):
    lock = AsyncLock(cache, "lock")
    loop = new_loop(kind)
    loop.run_until_complete(cache.open())
    with ordinary.transact():
        task = loop.create_task(lock.acquire())
        loop.run_until_complete(asyncio.sleep(0.01))
        task._log_destroy_pending = False
        loop.close()
        del task
        gc.collect()

    assert asyncio.run(lock.acquire(timeout=60)) > 0
    asyncio.run(lock.release())
    # The task, the loop and the lock refer to each other.
    del lock, loop
    gc.collect()


def test_errand_that_fails_is_logged_and_the_thread_lives_on(cache, ordinary, caplog):
    pool = pools.pool_of(ordinary)

    async def use():
        for _ in range(10):
            pool.post(pools.WRITE, pools.Errand(lambda: 1 / 0))
        return await cache.set("k", 1)

    assert asyncio.run(use()) is True
    asyncio.run(cache.aclose())
    assert caplog.text.count("ZeroDivisionError") == 10


# -- The other kinds --


def test_cache_of_shards(go, directory):
    async def use():
        async with AsyncFanoutCache(directory, shards=2) as cache:
            await asyncio.gather(*[cache.set(n, n) for n in range(100)])
            async with cache.transact():
                await cache.incr(1, 10)
            keys = sorted([key async for key in cache])
            users, names, births = cache.cache("users"), cache.deque("names"), cache.index("births")
            await users.set("ada", 1815)
            await names.extend(["ada", "grace"])
            await births.setitem("ada", 1815)
            parts = await users["ada"], await names.popleft(), await births["ada"]
            return keys, await cache[1], parts

    before = set(threading.enumerate())
    keys, value, parts = go(use())

    assert keys == list(range(100))
    assert value == 11
    assert parts == (1815, "ada", 1815)
    assert set(threading.enumerate()) <= before


def test_hit_of_a_shard_is_counted(directory):
    with FanoutCache(directory, shards=2, statistics=True) as ordinary:
        cache = AsyncFanoutCache(ordinary)
        ordinary["k"] = 1
        heat(ordinary, "k")
        ordinary.stats(reset=True)

        async def use():
            found = await cache.get("k"), len(threads_of("read"))
            return found, await cache.stats(), await cache.aclose()

        assert asyncio.run(use()) == ((1, 0), (1, 0), None)


def test_deque(go, tmp_path):
    async def use():
        async with AsyncDeque("abc", tmp_path / "d", maxlen=4) as deque:
            await deque.append("d")
            await deque.appendleft("z")
            await deque.rotate(1)
            await deque.insert(1, "i") if await deque.len() < 4 else None
            async with deque.transact():
                await deque.append(await deque.popleft())
            items = [item async for item in deque]
            back = [item async for item in deque.reversed()]
            return items, back, await deque[0], await deque.contains("a"), deque.maxlen

    items, back, first, is_there, limit = go(use())

    assert items == back[::-1]
    assert (len(items), first, is_there, limit) == (4, items[0], "a" in items, 4)


def test_deque_and_index_share_an_open_one(go, tmp_path):
    with Deque([1, 2], tmp_path / "d") as deque, Index(tmp_path / "i", {"a": 1}) as index:

        async def use():
            one, other = AsyncDeque(deque), AsyncIndex(index)
            await one.append(3)
            await other.setitem("b", 2)
            with pytest.raises(IndexError):
                await one.getitem(7)
            with pytest.raises(KeyError):
                await other["c"]
            await one.aclose()
            await other.aclose()

        go(use())

        assert list(deque) == [1, 2, 3]
        assert index == OrderedDict(a=1, b=2)


def test_index_answers_from_memory(cache, ordinary):
    ordinary["k"] = "v"
    heat(ordinary, "k")
    index = AsyncIndex.fromcache(cache)

    async def use():
        await index.open()
        before = len(threads_of("read"))
        return await index.get("k"), await index["k"], len(threads_of("read")) - before

    assert asyncio.run(use()) == ("v", "v", 0)


def test_deque_of_a_cache(cache):
    deque = AsyncDeque.fromcache(cache, [1, 2, 3], maxlen=2)

    async def use():
        return [item async for item in deque]

    assert asyncio.run(use()) == [2, 3]


def test_memoize_is_that_of_the_cache(cache, ordinary):
    @cache.memoize()
    def double(number):
        return number * 2

    assert double(2) == 4
    assert double.__cache_key__(2) in ordinary
