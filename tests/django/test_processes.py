"""Several processes, and threads, of one site on one directory."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest
from django.core.cache import cache, caches
from django.test import Client

from diskcache import Cache, DjangoCache
from tests.django.sharing import Thing, use_given
from tests.django.shelf.models import Book
from tests.support.crew import ROOT, in_processes, in_threads

WORKERS = 3
ROUNDS = 30


@pytest.fixture
def workers(tmp_path, site):
    """Processes of the site, waiting for a line to start."""
    Client().get("/page/")
    cache.set("book", Book(title="Emma"))
    client = Client()
    client.get("/visits/")
    session = client.cookies["sessionid"].value
    environment = {
        **os.environ,
        "SHELF_DATA": str(tmp_path),
        "HOME": "/nonexistent",
        "XDG_STATE_HOME": "/nonexistent",
        "DJANGO_SETTINGS_MODULE": "tests.django.project.settings",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.django.worker", str(ROUNDS), session],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
        )
        for _ in range(WORKERS)
    ]  # fmt: skip
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_processes_share_counters_pages_sessions_and_models(workers):
    for process in workers:
        assert process.stdout.readline() == "ready\n"
    for process in workers:
        process.stdin.write("go\n")
        process.stdin.flush()
    found = [json.loads(process.communicate(timeout=60)[0]) for process in workers]

    numbers = sorted(number for worker in found for number in worker["counts"])
    assert numbers == list(range(1, WORKERS * ROUNDS + 1))
    mine = Client().get("/page/").content.decode()
    assert [worker["pages"] for worker in found] == [[mine]] * WORKERS
    assert max(worker["visits"] for worker in found) >= 2
    assert [worker["book"] for worker in found] == ["Emma"] * WORKERS


def test_threads_of_a_site_share_one_cache(site):
    used = []

    def work():
        client = Client()
        for _ in range(20):
            client.get("/count/")
        used.append(caches["default"]._cache)

    in_threads(*[work] * 4)

    assert cache.get("count") == 80
    assert len(set(map(id, used))) == 1


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_backend_is_inherited_or_pickled_by_a_process(directory, method):
    backend = DjangoCache(directory, {"SHARDS": 2})
    backend.set("thing", Thing(7))

    assert in_processes(use_given, [(backend, 1), (backend, 2)], method=method) == [7, 7]
    assert backend.get("total") == 40
    assert [backend.get(name).number for name in (1, 2)] == [1, 2]
    backend._cache.close()


def test_fork_beside_a_writing_thread_hangs_neither_side(backend):
    backend.set("thing", Thing(7))
    done = threading.Event()

    def write():
        while not done.is_set():
            backend.incr("more", default=0)

    def fork():
        try:
            return in_processes(use_given, [(backend, 1)], method="fork")
        finally:
            done.set()

    assert in_threads(write, fork)[1] == [7]
    assert backend.get("total") == 20


# -- The event loop --


def test_event_loop_goes_on_while_a_write_waits(make_backend):
    backend = make_backend(DATABASE_TIMEOUT=60)
    backend.set("k", 1)
    held, done = threading.Event(), threading.Event()

    def hold():
        with backend._cache.transact():
            held.set()
            done.wait(60)

    async def write():
        writing = asyncio.create_task(backend.aset("k", 2))
        steps = 0
        for _ in range(20):
            await asyncio.sleep(0.001)
            steps += 1
        assert not writing.done()
        assert await backend.aget("k") == 1
        done.set()
        return steps, await writing

    def run():
        held.wait(60)
        return asyncio.run(write())

    assert in_threads(hold, run)[1] == (20, True)
    assert backend.get("k") == 2


def test_cancelled_write_leaves_no_lock(backend):
    async def cancel():
        writing = asyncio.create_task(backend.aset("k", "x" * 1000))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    asyncio.run(cancel())

    assert backend.set("k", 1, retry=False) is True


def test_asynchronous_calls_run_side_by_side(backend):
    async def count():
        return await asyncio.gather(*[backend.aincr("n", default=0) for _ in range(50)])

    assert sorted(asyncio.run(count())) == list(range(1, 51))


def test_overridden_method_is_what_its_counterpart_calls(backend):
    class Shouting(type(backend)):
        def get(self, key, *args, **keywords):
            return f"{super().get(key, *args, **keywords)}!"

    loud = Shouting(backend.directory, backend._params)
    backend.set("k", "v")

    assert asyncio.run(loud.aget("k")) == "v!"


def test_hit_in_memory_is_answered_without_a_thread(backend):
    backend.set("k", [1], version=2)
    for _ in range(2):
        backend.get("k", version=2)
        backend.get("missing")

    async def use():
        found = await backend.aget("k", version=2), await backend.aget("missing", 0)
        return found, await backend.ahas_key("k", version=2), await backend.ahas_key("missing")

    assert asyncio.run(use()) == (([1], 0), True, False)
    assert not any(thread.name.startswith("diskcache") for thread in threading.enumerate())


def test_asynchronous_methods_use_threads_of_the_cache_alone(backend, monkeypatch):
    def refuse(*args):
        raise AssertionError("a thread of somebody else")

    async def use():
        monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
        await backend.aset("k", b"x" * 100_000)
        with await backend.aread("k") as file, await backend.aget("k", read=True) as other:
            found = file.read() == other.read()
        threads = {thread.name for thread in threading.enumerate()}
        return found, await backend.aget_many(["k"]) != {}, threads

    found, is_there, threads = asyncio.run(use())

    assert found
    assert is_there
    assert {"diskcache-read", "diskcache-write"} <= threads


def test_aclose_closes_connections_of_all_threads(backend):
    async def use():
        await asyncio.gather(*[backend.aincr("n", default=0) for _ in range(8)])
        await backend.aclose()
        engines = [shard._engine for shard in backend._cache._shards]
        return [link for engine in engines for link in list(engine._links) if not link.is_closed]

    assert asyncio.run(use()) == []


def test_write_of_another_program_is_seen_at_once(backend, directory):
    backend.set("k", 1)
    started = time.monotonic()
    number = backend._cache._index(":1:k")
    with Cache(directory / f"{number:03d}") as shard:
        shard.set(":1:k", 2)

    assert backend.get("k") == 2
    assert time.monotonic() - started < 50


def test_asynchronous_read_opens_a_directory_that_was_replaced(backend, directory):
    backend.set("k", 1)
    backend.close()
    shutil.rmtree(directory)
    # Django calls this after a request: what it finds is another directory.
    backend.close()

    async def use():
        return await backend.aget("k"), await backend.aset("k", 2), await backend.aget("k")

    assert asyncio.run(use()) == (None, True, 2)
