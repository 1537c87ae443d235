"""Between two batches of a removal others write, even if they only look at the gate at times."""

from __future__ import annotations

import pytest

from diskcache import Cache
from diskcache.engines.sqlite.gate import LONGEST_NAP
from diskcache.engines.sqlite.removal import BATCH
from tests.support.clock import ManualClock


class Pauses(ManualClock):
    """A clock that knows who slept for how long, and calls `meanwhile` when somebody does."""

    def __init__(self):
        super().__init__()
        self.slept = []
        self.meanwhile = lambda: None

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.meanwhile()
        super().sleep(seconds)


@pytest.fixture
def clock():
    return Pauses()


def test_clear_of_many_entries_leaves_the_gate_open_longer_than_others_nap(cache, clock):
    cache.set_many(dict.fromkeys(range(3 * BATCH), 0))

    assert cache.clear() == 3 * BATCH

    assert clock.slept
    assert all(seconds > LONGEST_NAP for seconds in clock.slept)


def test_clear_pauses_only_as_often_as_others_need(cache, clock):
    cache.set_many(dict.fromkeys(range(8 * BATCH), 0))

    cache.clear()

    assert len(clock.slept) == 1


def test_writer_that_does_not_wait_succeeds_while_a_removal_pauses(cache, clock, directory):
    cache.set_many(dict.fromkeys(range(3 * BATCH), 0), tag="old")
    with Cache(cache.directory, timeout=0) as other:
        written = []
        clock.meanwhile = lambda: written.append(other.set(f"new {len(written)}", 1))
        assert cache.evict("old") == 3 * BATCH

    assert written
    assert all(written)
    assert len(cache) == len(written)


def test_removal_of_one_batch_does_not_pause(cache, clock):
    cache.set_many(dict.fromkeys(range(BATCH - 1), 0))

    cache.clear()

    assert clock.slept == []


def test_removal_inside_a_transaction_does_not_pause(cache, clock):
    cache.set_many(dict.fromkeys(range(3 * BATCH), 0))

    with cache.transact():
        cache.clear()

    assert clock.slept == []
