"""Policies with one order remove exactly the entries that a model removes, in its order.

Property: as for s3-fifo, whose machine this is.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from diskcache.engines.sqlite import s3fifo
from tests.property.test_s3_fifo_state_machine import (
    EXAMPLES,
    IS_FIXED,
    S3FifoMachine,
    UndoneError,
)
from tests.support.machines import run_with
from tests.support.rank_model import Model

BY = {
    "none": "none",
    "least-recently-stored": "stored",
    "least-recently-used": "used",
    "least-frequently-used": "count",
}
"""What the model orders entries by, for each policy with one order."""


class RankMachine(S3FifoMachine):
    """Two objects on one directory, beside the model."""

    policy = "least-recently-stored"

    def modelled(self) -> Any:
        model = Model(BY[self.policy], self.clock.time)
        model.capacity = self.count_limit
        return model

    def compare_queues(self):
        for cache in self.caches:
            cache.close()
        execute = self.caches[0]._engine._link().execute
        if execute("SELECT 1 FROM Settings WHERE key = 'rank_policy'").get is None:
            assert not self.model.is_ordered
            return
        rows = execute("SELECT key, access_count FROM Cache ORDER BY rank, rowid").fetchall()
        assert [key for key, _ in rows] == self.model.order
        if self.policy == "least-frequently-used":
            assert rows == [(key, self.model.items[key].count) for key in self.model.order]


@pytest.mark.parametrize("count_limit", [3, 12])
@pytest.mark.parametrize(
    "policy", ["least-recently-stored", "least-recently-used", "least-frequently-used"]
)
def test_victims_are_those_of_the_model(policy, count_limit):
    names = {"policy": policy, "count_limit": count_limit}
    run_state_machine_as_test(
        type("Machine", (RankMachine,), names),
        settings=run_with(EXAMPLES, 60, is_fixed=IS_FIXED),
    )


# What the machines found, each as short as it can be.


def test_entry_stored_after_an_undone_cull_ranks_by_the_last_victim_that_went(make_cache):
    cache = make_cache(eviction_policy="least-frequently-used", count_limit=2)
    cache["a"] = cache["b"] = 0
    with pytest.raises(UndoneError), cache.transact():
        for number in range(5):
            cache[number] = 0
            assert len(cache) == 2
        raise UndoneError
    cache["c"] = 0
    cache.get("b")
    cache["d"] = 0

    assert list(cache) == ["b", "d"]


@pytest.mark.parametrize("policy", ["s3-fifo", "least-recently-used", "least-frequently-used"])
def test_reads_of_an_entry_that_an_undone_transaction_replaced_still_count(
    make_cache, clock, policy
):
    cache = make_cache(eviction_policy=policy, count_limit=2)
    cache["a"] = 0
    clock.advance(1)
    cache["b"] = 0
    clock.advance(1)
    cache.get("a")
    with pytest.raises(UndoneError), cache.transact():
        cache["a"] = 1
        assert cache["b"] == 0
        raise UndoneError
    clock.advance(1)
    cache.get("a")
    cache["c"] = 0

    assert list(cache) == ["a", "c"]


def test_s3_fifo_keeps_reads_of_what_a_transaction_stores_again_while_there_is_room(make_cache):
    cache = make_cache(eviction_policy="s3-fifo", count_limit=8)
    cache["a"] = cache["b"] = 0
    cache.get("a")
    with cache.transact():
        cache["a"] = 1
        cache["c"] = 1
    cache.set_many(dict.fromkeys("defghi", 0))

    assert "a" in cache
    assert "b" not in cache


def test_s3_fifo_begun_anew_under_a_limit_on_entries_weighs_all_alike(make_cache, monkeypatch):
    monkeypatch.setattr(s3fifo, "FLOOR", 2)
    cache = make_cache(eviction_policy="s3-fifo", count_limit=8)
    for number in range(8):
        cache[number] = b"x" * (500 if number % 2 else 0)
    cache.reset("eviction_policy", "none")
    cache.reset("eviction_policy", "s3-fifo")
    cache[7] = b"x"
    ranks = cache._engine._link().execute("SELECT rank FROM Cache WHERE rank >= 0").fetchall()

    assert {round(rank, 6) for (rank,) in ranks} == {1.0}
