"""Processes and threads that share a `FanoutCache` lose nothing.

Properties: with the default timeout no write of eight processes is refused or missing; counters in
all shards are exact; transactions over all shards are seen whole and do not block each other for
ever; without any patience each write is there, or was refused and counted; a directory that many
make at once has one number of shards.
"""

from __future__ import annotations

import itertools

from diskcache import FanoutCache
from tests.concurrency import workers
from tests.support.crew import in_processes, in_threads


def test_no_write_of_eight_processes_is_refused_or_missing(directory):
    jobs = [(directory, name, 500, 60) for name in range(8)]
    refused = in_processes(workers.store_fanned_out, jobs)

    with FanoutCache(directory) as cache:
        small = set(itertools.product(range(8), range(500)))
        large = set(itertools.product(range(8), ["large"], range(60)))
        assert refused == [0] * 8
        assert set(cache) == small | large
        assert all(cache[key] == bytes([key[2]]) * workers.LARGE for key in large)
        assert cache.check() == []


def test_writes_of_eight_hasty_processes_are_there_or_counted_as_refused(directory):
    FanoutCache(directory, 2).close()
    answers = in_processes(workers.store_hastily, [(directory, name, 300) for name in range(8)])

    with FanoutCache(directory) as cache:
        told = {(name, number) for name, (stored, _) in enumerate(answers) for number in stored}
        assert set(cache) == told
        assert [len(stored) + refused for stored, refused in answers] == [300] * 8
        assert sum(refused for _, refused in answers) > 0
        assert cache.check() == []


def test_transactions_over_all_shards_are_seen_whole(directory):
    keys = [f"key {number}" for number in range(16)]
    with FanoutCache(directory) as cache:
        cache.set_many(dict.fromkeys(keys, 0))

        def move():
            for number in range(30):
                with cache.transact():
                    for key in keys:
                        cache.incr(key)
                cache.set_many({f"other {number} {key}": 1 for key in keys})
            cache.close()

        in_threads(*[move] * 4)
        assert set(cache.get_many(keys).values()) == {120}
        assert len(cache) == 16 + 30 * 16
        assert cache.info().refused == 0
        assert cache.check() == []


def test_threads_that_open_a_directory_at_once_agree_on_its_shards(directory):
    def make(shards):
        def run():
            with FanoutCache(directory, shards) as cache:
                return cache.info().shards

        return run

    assert in_threads(*[make(None)] * 8) == [8] * 8
