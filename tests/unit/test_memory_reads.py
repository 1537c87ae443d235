"""Reads never write: what they have to say is kept in the process, and written down in batches."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from diskcache import Cache
from diskcache.engines.sqlite.session import FLUSH_PAUSE, FULL
from tests.support.crew import in_processes, in_threads, run_script

RECORDING = [
    {"statistics": 1},
    {"eviction_policy": "least-recently-used"},
    {"eviction_policy": "least-frequently-used"},
    {"eviction_policy": "least-recently-used", "statistics": 1},
    {},
]
KEYS = FULL // 2


def log_of(cache):
    """Return how long the log is, and how many rows this thread has changed."""
    path = os.path.join(cache.directory, "cache.db-wal")
    return os.stat(path).st_size, cache._engine._link().con.total_changes()


def traced(cache):
    """Return the list that the statements of this thread will be in."""
    seen = []

    def note(_cursor, statement, _bindings):
        seen.append(statement)
        return True

    cache._engine._link().con.exec_trace = note
    return seen


def filled(cache, count=KEYS):
    cache.set_many({number: number for number in range(count)})
    return cache


@pytest.mark.parametrize("keywords", RECORDING, ids=str)
def test_reads_write_nothing_until_a_writer_comes(make_cache, keywords):
    cache = filled(make_cache(**keywords))
    before, statements = log_of(cache), traced(cache)
    for number in range(KEYS // 4):
        cache.get(number)
        assert cache[number] == number
        cache.get(number, tag=True)
        assert number in cache
        cache.get("missing")

    assert [text for text in statements if not text.startswith("SELECT")] == []
    assert log_of(cache) == before
    cache["new"] = 1
    assert log_of(cache) > before


def test_a_thousand_hits_of_one_entry_are_written_down(make_cache):
    cache = filled(make_cache(statistics=1), 1)
    for _ in range(3 * FULL + 5):
        cache.get(0)

    assert cache._engine._link().site.tally.hits == 5
    assert cache.stats() == (3 * FULL + 5, 0)


@pytest.mark.parametrize("keywords", RECORDING[:4], ids=str)
def test_full_buffer_is_written_down_in_one_transaction(make_cache, keywords):
    cache = filled(make_cache(**keywords), FULL)
    statements = traced(cache)
    for number in range(FULL - 1):
        cache.get(number)
    assert "BEGIN IMMEDIATE" not in statements
    cache.get(FULL - 1)

    assert statements.count("BEGIN IMMEDIATE") == 1
    assert not cache._engine._culler.reads
    tally = cache._engine._link().site.tally
    assert tally.hits + tally.misses <= 1


def test_reads_of_the_same_entries_are_one_row_each_however_often_they_are_read(make_cache):
    cache = filled(make_cache(eviction_policy="least-frequently-used"), 10)
    statements = traced(cache)
    for number in range(10 * FULL):
        cache.get(number % 10)

    assert "BEGIN IMMEDIATE" not in statements
    cache.close()
    counts = cache._engine._link().execute("SELECT DISTINCT access_count FROM Cache").fetchall()
    assert counts == [(FULL,)]


def test_buffer_is_bounded_while_the_gate_is_not_free(make_cache, monkeypatch):
    cache = filled(make_cache(eviction_policy="least-recently-used"), 3 * FULL)
    other = make_cache()
    monkeypatch.setattr("diskcache.engines.sqlite.session.FLUSH_PAUSE", 0)
    is_held, is_over = threading.Event(), threading.Event()

    def hold():
        with other.transact():
            is_held.set()
            assert is_over.wait(60)
        other.close()

    def read():
        assert is_held.wait(60)
        for number in range(3 * FULL):
            cache.get(number)
            assert len(cache._engine._culler.reads) <= 2 * FULL
        is_over.set()

    in_threads(hold, read)
    cache["k"] = 1


def test_reader_seldom_asks_for_a_gate_that_is_not_free(make_cache):
    cache, other = filled(make_cache(statistics=1), 10), make_cache()
    is_held, is_over = threading.Event(), threading.Event()

    def hold():
        with other.transact():
            is_held.set()
            assert is_over.wait(60)
        other.close()

    def read():
        assert is_held.wait(60)
        tries, flush = [], cache._engine._flush
        cache._engine._flush = lambda *args: (tries.append(1), flush(*args))
        began = time.monotonic()
        for number in range(4 * FULL):
            cache.get(number % 10)
        is_over.set()
        assert 1 <= len(tries) <= (time.monotonic() - began) / FLUSH_PAUSE + 1

    in_threads(hold, read)
    assert cache.stats() == (4 * FULL, 0)


@pytest.fixture
def quick_turns():
    """Threads that take turns fifty times as often, so that none waits long for another."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 50)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("quick_turns")
def test_threads_that_note_reads_while_others_write_them_down_meet_no_error(make_cache):
    cache = filled(make_cache(eviction_policy="least-recently-used"), 400)
    is_over = threading.Event()

    def read():
        number = 0
        while not is_over.is_set():
            number += 1
            cache.get(number % 400)

    def write():
        for number in range(150):
            cache[number % 7] = number
        is_over.set()

    in_threads(read, read, write)


def count_reads(directory, hits, misses):
    with Cache(directory) as cache:
        for _ in range(hits):
            cache.get("k")
        for _ in range(misses):
            cache.get("missing")


def test_statistics_are_those_of_all_processes_together(directory):
    with Cache(directory, statistics=1) as cache:
        cache["k"] = 1
    in_processes(count_reads, [(directory, 700, 20), (directory, 1300, 3), (directory, 1, 0)])
    with Cache(directory) as cache:
        cache.get("k")

        assert cache.stats() == (2002, 23)


KILLED = """
import os, signal, sys
from diskcache import Cache
cache = Cache(sys.argv[1])
for number in range(int(sys.argv[2])):
    cache.get(number % 1500)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("reads", [999, 2500, 3999])
def test_killed_process_takes_one_buffer_of_counts_with_it_at_most(directory, reads):
    with Cache(directory, statistics=1, eviction_policy="least-frequently-used") as cache:
        filled(cache, 1500)
    assert run_script(KILLED, directory, reads).returncode == -9
    with Cache(directory) as cache:
        hits, misses = cache.stats()
        noted = cache._engine._link().execute("SELECT sum(access_count) FROM Cache").get

        assert misses == 0
        assert reads - FULL < hits <= reads
        assert reads - FULL < noted <= reads
