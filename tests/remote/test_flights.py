"""Of all threads, tasks, processes and machines that want a value of a server, one computes it.

Property: while the one that computes lives and has its lease, nobody else does; all get its value,
or its exception. One that is killed is replaced. What is computed replaces nothing newer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diskcache import AsyncCache, bridging, connect, flight
from diskcache.engines.redis import lease
from diskcache.signs import STORED
from tests.support.servers import DEADLINE, shared_server

PROGRAM = """
import asyncio, os, sys, time
from diskcache import connect
from diskcache.engines.redis import lease
url, here, seconds, way, term = sys.argv[1:]
lease.TERM = lease.KEPT = int(term)
take = lease.Lease.take
def noted(self):
    found = take(self)
    if found is False and self._awaited:
        open(f'{here} waits {os.getpid()}', 'w').close()
    return found
lease.Lease.take = noted
cache = connect(url)
def func():
    with open(here, 'a') as file:
        file.write(f'{os.getpid()}\\n')
    if seconds == 'until told':
        while not os.path.exists(here + ' told'):
            time.sleep(0.01)
    else:
        time.sleep(float(seconds))
    if way == 'fail':
        raise ValueError('no', os.getpid())
    return os.getpid()
@cache.memoize(name='f', lock=True)
async def coroutine():
    return func()
print('ready', flush=True)
sys.stdin.readline()
try:
    if way == 'async':
        found = asyncio.run(coroutine())
    elif way == 'memoize':
        found = cache.memoize(name='f', lock=True)(func)()
    else:
        found = cache.get_or_set('k', func)
except ValueError as exc:
    found = exc.args
print(found, flush=True)
cache.close()
"""


TERM = lease.TERM
LONG = 3_600_000
"""Milliseconds of a lease that lasts, however long the machine is held up."""


class Crowd:
    """Processes that ask for a value."""

    def __init__(self, namespace, notes):
        self.namespace, self.notes, self.started = namespace, notes, []
        self.url = shared_server().url(namespace)

    def add(self, seconds, *ways, term=LONG):
        words = [sys.executable, "-c", PROGRAM, self.url, str(self.notes), str(seconds)]
        children = [
            subprocess.Popen(
                [*words, way, str(term)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for way in ways or ("plain",)
        ]  # fmt: skip
        self.started += children
        for child in children:
            assert child.stdout.readline() == "ready\n"
        return children

    def ask(self, children):
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()

    def answers(self, children):
        return [child.communicate(timeout=60)[0].strip() for child in children]

    def computed(self):
        return self.notes.read_text().split() if self.notes.exists() else []

    def await_computing(self, count):
        eventually(lambda: len(self.computed()) >= count)

    def await_waiting(self, children):
        notes = [Path(f"{self.notes} waits {child.pid}") for child in children]
        eventually(lambda: all(note.exists() for note in notes))

    def tell(self):
        """Have those end that compute until they are told."""
        Path(f"{self.notes} told").touch()


def eventually(condition):
    """Wait for what comes by itself."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def crowd(variant, tmp_path):
    del variant
    made = Crowd(f"flights-{tmp_path.name}", tmp_path / "notes")
    yield made
    for child in made.started:
        child.kill()
        child.communicate()


@pytest.fixture(autouse=True)
def lasting(monkeypatch):
    """Leases, and what is said at their end, last, however long the machine is held up."""
    for name in ("TERM", "KEPT", "KEPT_SHORTLY"):
        monkeypatch.setattr(lease, name, LONG)


def leases_of(cache):
    return leases_in(cache._namespace)


def leases_in(namespace):
    keys = shared_server().client().keys(f"{{{namespace}:*:c:*")
    return [key for key in keys if key.count(b":") == 3]


@pytest.mark.parametrize("ways", [["plain"] * 8, ["memoize", "async"] * 4])
def test_get_or_set_in_eight_processes_computes_once(crowd, ways):
    children = crowd.add(0.5, *ways)
    crowd.ask(children)

    assert set(crowd.answers(children)) == set(crowd.computed())
    assert len(crowd.computed()) == 1


def test_exception_is_raised_in_all_processes_that_wait(crowd):
    first, *others = children = crowd.add("until told", *["fail"] * 4)
    crowd.ask([first])
    crowd.await_computing(1)
    crowd.ask(others)
    crowd.await_waiting(others)
    crowd.tell()
    (found,) = crowd.computed()

    assert set(crowd.answers(children)) == {f"('no', {found})"}
    assert crowd.computed() == [found]


def test_killed_process_is_replaced_after_a_term(crowd):
    first = crowd.add(60, term=TERM)
    crowd.ask(first)
    crowd.await_computing(1)
    others = crowd.add(0, *["plain"] * 3)
    crowd.ask(others)
    crowd.await_waiting(others)
    client = shared_server().client()
    (left,) = [client.pttl(key) for key in leases_in(crowd.namespace)]
    os.kill(first[0].pid, signal.SIGKILL)

    # The server frees it when the term is over.
    assert left != -1
    assert left <= TERM
    assert set(crowd.answers(others)) == set(crowd.computed()[1:])
    assert len(crowd.computed()) == 2


def test_lease_is_renewed_for_as_long_as_the_computation_lasts(remote, crowd):
    term, client = 60_000, shared_server().client()
    crowd.url = f"{remote.url}&shards=1"
    first = crowd.add("until told", term=term)
    crowd.ask(first)
    crowd.await_computing(1)
    (key,) = leases_of(remote)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(remote.get_or_set, "k", lambda: "second")
        for _ in range(3):
            assert client.pexpire(key, term // 2)
            eventually(lambda: client.pttl(key) > term // 2)
        crowd.tell()

        assert str(found.result(DEADLINE)) == crowd.answers(first)[0] == crowd.computed()[0]


def test_lease_is_gone_after_the_computation(remote):
    seen = []
    assert remote.get_or_set("k", lambda: seen.append(leases_of(remote)) or 1) == 1

    assert [len(names) for names in seen] == [1]
    assert leases_of(remote) == []


def test_lease_lies_in_the_slot_of_its_key(variant, make_cache):
    cache = make_cache(shards=4, clock=None)
    for number in range(20):
        shard, _ = cache._engine._place((number, 1))
        seen = []
        cache.get_or_set(number, lambda seen=seen: seen.extend(leases_of(cache)))
        assert [name.startswith(shard.prefix) for name in seen] == [True]


def test_lease_of_another_is_not_given_back(remote):
    def func():
        (name,) = leases_of(remote)
        shared_server().client().set(name, b"f" * 32)
        return "value"

    assert remote.get_or_set("k", func) == "value"
    (name,) = leases_of(remote)
    assert shared_server().client().get(name) == b"f" * 32


def test_result_does_not_replace_what_was_stored_meanwhile(remote):
    def func():
        shared_server().client().delete(*leases_of(remote))
        remote["k"] = "newer"
        return "older"

    assert remote.get_or_set("k", func) == "older"
    assert remote["k"] == "newer"


def test_result_of_many_does_not_replace_what_was_stored_meanwhile(remote):
    def func(keys):
        remote["a"] = "newer"
        return dict.fromkeys(keys, "older")

    remote.get_or_set_many(["a", "b"], func)
    assert remote.get_many(["a", "b"]) == {"a": "newer", "b": "older"}


def test_lease_that_the_server_lost_is_taken_again(remote):
    def func():
        (name,) = leases_of(remote)
        shared_server().client().delete(name)
        eventually(lambda: leases_of(remote) == [name])
        return 1

    assert remote.get_or_set("k", func) == 1
    assert leases_of(remote) == []


def test_lease_that_is_given_back_while_it_is_renewed_is_free(remote, monkeypatch):
    # The thread that renews is not to do it as well, in the middle of this.
    monkeypatch.setattr(lease, "BEAT", LONG)
    place, share = remote._flight_place(("k", 1))
    first = share(place)
    assert first.take() is True
    keeper, driver = remote._engine._keeper, remote._engine.driver
    answers = driver.answers

    def late(asked):
        if asked == [("GET", first.key)]:
            first.release(())
        return answers(asked)

    monkeypatch.setattr(driver, "answers", late)
    keeper._renew([first])

    assert leases_of(remote) == []


def test_lease_that_others_took_is_not_renewed(remote, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", LONG)
    engine = remote._engine
    place, share = remote._flight_place(("k", 1))
    first, second = share(place), share(place)
    assert first.take() is True
    shared_server().client().delete(first.key)
    assert second.take() is True
    shared_server().client().pexpire(second.key, 2 * LONG)
    engine._keeper._renew([first])

    assert shared_server().client().pttl(second.key) > LONG
    first.release(())
    assert shared_server().client().get(second.key) == second.token
    second.release(())


def test_lease_whose_key_holds_something_foreign_does_not_end_the_others(remote):
    engine, client = remote._engine, shared_server().client()
    leases = []
    for key in "abc":
        place, share = remote._flight_place((key, 1))
        leases.append(share(place))
        assert leases[-1].take() is True
        client.pexpire(leases[-1].key, 2 * LONG)
    foreign, lost, kept = leases
    client.delete(foreign.key, lost.key)
    client.rpush(foreign.key, "of somebody else")
    engine._keeper._renew(leases)

    assert client.type(foreign.key) == b"list"
    assert client.get(lost.key) == lost.token
    assert 0 < client.pttl(kept.key) <= lease.TERM
    for each in leases:
        each.release(())
    assert leases_of(remote) == [foreign.key]
    client.delete(foreign.key)


@pytest.fixture
def exchanges(remote, monkeypatch):
    """What is sent at once, one item for each exchange with the server, by whatever thread."""
    driver, found = remote._engine.driver, []
    once = driver._once

    def counted(send):
        # The thread that renews leases asks when it likes.
        if threading.current_thread().name != "diskcache leases":
            found.append(send)
        return once(send)

    monkeypatch.setattr(driver, "_once", counted)
    return found


def ask_many(cache, keys, func, way):
    """Ask for many values, in an event loop or not."""
    if way == "blocking":
        return cache.get_or_set_many(keys, func)

    async def main():
        return await AsyncCache(cache).get_or_set_many(keys, func)

    return asyncio.run(main())


@pytest.mark.parametrize("way", ["blocking", "awaiting"])
def test_leases_of_many_keys_are_taken_and_given_back_together(remote, exchanges, way):
    sent, held = [], []

    def func(keys):
        sent.append(len(exchanges))
        held.extend(leases_of(remote))
        return {key: -key for key in keys}

    # What it sends but once: what is known of the cache.
    remote.get(0)
    exchanges.clear()
    found = ask_many(remote, range(200), func, way)

    # What is there, the leases, what is there by now.
    assert sent == [3]
    assert len(held) == 200
    # And what is stored, and all leases.
    assert len(exchanges) == 3 + 1 + 1
    assert leases_of(remote) == []
    assert found == {key: -key for key in range(200)}


@pytest.mark.parametrize("way", ["blocking", "awaiting"])
def test_leases_of_many_keys_are_given_back_together_after_a_failure(remote, exchanges, way):
    def func(keys):
        exchanges.clear()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask_many(remote, range(200), func, way)
    assert len(exchanges) == 1
    assert leases_of(remote) == []


def test_many_keys_of_which_others_compute_some_are_waited_for(remote):
    """One is computed by another process, under another one lies something foreign."""
    client, asked = shared_server().client(), []
    (place, share), (odd, _) = (remote._flight_place((key, 1)) for key in ("b", "c"))
    other, foreign = share(place), share(odd)
    assert other.take() is True
    client.rpush(foreign.key, "of somebody else")
    end = threading.Timer(0.3, lambda: (remote.set("b", "theirs"), other.release(STORED)))
    end.start()

    def func(keys):
        asked.append(keys)
        return dict.fromkeys(keys, "ours")

    found = remote.get_or_set_many(["a", "b", "c", "d"], func)
    end.join()

    assert asked == [["a", "c", "d"]]
    assert found == {"a": "ours", "b": "theirs", "c": "ours", "d": "ours"}
    assert leases_of(remote) == [foreign.key]
    client.delete(foreign.key)


def test_many_keys_in_many_slots_are_computed_under_leases(variant, make_cache):
    cache, held = make_cache(shards=4, clock=None), []

    def func(keys):
        held.extend(leases_of(cache))
        return {key: -key for key in keys}

    # No script is known to the server that a later one in the packet could rely on.
    shared_server().client().script_flush()
    assert cache.get_or_set_many(range(40), func) == {key: -key for key in range(40)}
    assert len(held) == 40
    assert leases_of(cache) == []


def test_many_leases_of_a_task_that_is_cancelled_are_given_back(remote):

    async def main():
        began = asyncio.Event()

        async def func(keys):
            began.set()
            await asyncio.sleep(60)

        task = asyncio.ensure_future(AsyncCache(remote).get_or_set_many(range(20), func))
        await began.wait()
        assert len(await asyncio.to_thread(leases_of, remote)) == 20
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    eventually(lambda: not leases_of(remote))


def test_exception_reaches_who_waited_although_another_flight_began(remote):
    place, share = remote._flight_place(("k", 1))
    first, waiter, third = share(place), share(place), share(place)
    assert first.take() is True
    assert waiter.take() is False
    first.release(("failed", "builtins.ValueError", ("no",), "no"))
    assert third.take() is True
    landing = waiter.take()

    assert (type(landing.error), landing.error.args) == (ValueError, ("no",))
    third.release(())


def test_crowd_that_waited_does_not_take_the_lease_to_look(remote):
    place, share = remote._flight_place(("k", 1))
    first, waiter = share(place), share(place)
    assert first.take() is True
    assert waiter.take() is False
    first.release(STORED)
    landing = waiter.take()

    assert landing.is_stored
    assert leases_of(remote) == []


def test_value_that_is_stored_and_gone_is_computed_again(remote):
    """Who waited finds nothing where a value was stored, and computes it."""
    place, share = remote._flight_place(("k", 1))
    first = share(place)
    assert first.take() is True
    threading.Timer(0.1, first.release, [STORED]).start()

    assert remote.get_or_set("k", lambda: "again") == "again"


def test_ring_over_two_processes_comes_to_an_end(remote):
    """Another process computes `b` and waits for `a`: who computes `a` does not wait for `b`."""
    places = [remote._flight_place((key, 1)) for key in "ab"]
    (a, _), (b, share) = places
    other = share(b)
    assert other.take() is True
    other.write(("waits", tuple(a)))

    assert remote.get_or_set("a", lambda: remote.get_or_set("b", lambda: "alone")) == "alone"
    other.release(())


def test_computation_goes_on_when_the_server_dies(opened_server):
    server, cache = opened_server
    assert cache.get_or_set("k", lambda: server.stop() or 1) == 1
    assert cache.get_or_set("k", lambda: 2) == 2


@pytest.fixture
def opened_server(own_server):
    with connect(own_server.url(), on_error="miss", timeout=1) as cache:
        yield own_server, cache


def test_caches_beside_each_other_on_a_server_do_not_wait_for_each_other(remote):
    part = remote.cache("part")
    assert remote.get_or_set("k", lambda: part.get_or_set("k", lambda: "inner") + "!") == "inner!"
    part.clear()


def test_event_loop_goes_on_while_another_process_computes(remote, monkeypatch):
    """Nothing that blocks is sent by the thread of the loop, which counts on meanwhile."""
    driver, sent_by_loop = remote._engine.driver, []
    once = driver._once

    def watched(send):
        # What is sent in a bridged call is awaited by the loop, and does not block it.
        if flight.running_loop() is not None and bridging.here.call is None:
            sent_by_loop.append(send)
        return once(send)

    monkeypatch.setattr(driver, "_once", watched)

    @remote.memoize(name="f", lock=True)
    async def func(number):
        await asyncio.sleep(0)
        return number

    place, share = remote._flight_place(remote._encode_key(func.__cache_key__(1)))
    other = share(place)
    assert other.take() is True

    async def main():
        task = asyncio.ensure_future(func(1))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not task.done()
        await asyncio.to_thread(other.release, ())
        return await task

    assert asyncio.run(main()) == 1
    assert sent_by_loop == []
    assert flight._flights == {}


def test_forked_child_leaves_the_lease_to_its_parent(remote):
    def func():
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert len(leases_of(remote)) == 1
        return 1

    assert remote.get_or_set("k", func) == 1
    assert leases_of(remote) == []


def test_thread_of_leases_ends_with_the_cache(remote):
    remote.get_or_set("k", lambda: 1)
    assert any(thread.name == "diskcache leases" for thread in threading.enumerate())
    remote.close()
    assert not any(thread.name == "diskcache leases" for thread in threading.enumerate())
