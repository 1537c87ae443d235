"""A directory that is switched to another policy keeps its entries, and has their victims exact.

Property: as for s3-fifo, whose machine this is; and at any moment either object may switch the
directory to any policy, by `reset` or by the keyword, full or not. What is known of entries, when
they were stored and read and how often, then puts them in the new order, and what was read before
is not forgotten.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from diskcache.engines.sqlite import s3fifo, waiting
from tests.property.test_s3_fifo_state_machine import EXAMPLES, IS_FIXED, S3FifoMachine
from tests.property.test_victims_state_machine import BY, RankMachine
from tests.support import rank_model, s3_fifo
from tests.support.machines import run_with

POLICIES = ["s3-fifo", *BY]


class SwitchingMachine(S3FifoMachine):
    """Two objects on one directory, and a model that is another one after each switch."""

    def modelled(self) -> Any:
        machine: type[S3FifoMachine] = S3FifoMachine if self.policy == "s3-fifo" else RankMachine
        return machine.modelled(self)

    def compare_queues(self) -> None:
        machine: type[S3FifoMachine] = S3FifoMachine if self.policy == "s3-fifo" else RankMachine
        machine.compare_queues(self)

    @rule(
        which=st.integers(0, 1),
        policy=st.sampled_from(POLICIES),
        way=st.sampled_from(["reset", "keyword"]),
    )
    def switch(self, which, policy, way):
        self.share_reads(which)
        if policy != self.policy:
            self.policy = policy
            self.model = self.remodelled(self.model)
        if way == "reset":
            self.caches[which].reset("eviction_policy", policy)
        else:
            self.caches[which].close()
            self.caches[which] = self.opened()
        assert self.caches[1 - which].reset("eviction_policy") == policy

    def remodelled(self, old: Any) -> Any:
        """Return the model of the present policy, of what was known under the last one."""
        model = self.modelled()
        items = sorted(old.items.values(), key=lambda item: item.number)
        for item in items:
            count = item.hits if isinstance(item, s3_fifo.Item) else item.count
            common = {name: getattr(item, name) for name in ("key", "size", "number", "stored")}
            if self.policy == "s3-fifo":
                new = s3_fifo.Item(**common, hits=count, accessed=item.accessed)
                model.new.append(new)
                continue
            used = max(item.stored, item.accessed or 0)
            rest = {"used": used, "accessed": item.accessed, "count": count}
            model.items[item.key] = rank_model.Item(**common, **rest)
        if old.is_ordered and self.policy != "none":
            if self.policy == "s3-fifo":
                model.order()
            model.is_ordered = True
        return model


@pytest.mark.parametrize(("count_limit", "floor"), [(3, 32), (12, 3)], ids=str)
def test_victims_are_those_of_the_model(monkeypatch, count_limit, floor):
    monkeypatch.setattr(s3fifo, "FLOOR", floor)
    monkeypatch.setattr(waiting, "ALONE_FOR", 0.0)
    names = {"count_limit": count_limit, "floor": floor}
    run_state_machine_as_test(
        type("Machine", (SwitchingMachine,), names),
        settings=run_with(EXAMPLES, 50, is_fixed=IS_FIXED),
    )


# What the machine found, each as short as it can be.


@pytest.mark.parametrize("old", ["least-recently-stored", "least-frequently-used"])
def test_entry_stored_after_a_switch_to_s3_fifo_comes_after_those_that_are_there(make_cache, old):
    cache = make_cache(eviction_policy=old, count_limit=3)
    cache.set_many(dict.fromkeys("abc", 0))
    cache.reset("eviction_policy", "s3-fifo")
    for key in "de":
        cache[key] = 0

    assert list(cache) == ["c", "d", "e"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("s3-fifo", "least-frequently-used"),
        ("least-frequently-used", "s3-fifo"),
        ("least-recently-used", "least-recently-used"),
    ],
)
def test_reads_that_are_not_written_down_count_after_a_switch(make_cache, clock, old, new):
    cache = make_cache(eviction_policy=old, count_limit=3)
    for key in "abc":
        clock.advance(1)
        cache[key] = 0
    clock.advance(1)
    assert cache.get("a") == 0
    if old == new:
        cache.reset("eviction_policy", "none")
    cache.reset("eviction_policy", new)
    cache["d"] = 0

    assert list(cache) == ["a", "c", "d"]


def test_least_recently_used_knows_what_was_stored_under_another_policy(make_cache, clock):
    cache = make_cache(eviction_policy="least-recently-used", count_limit=2)
    cache["a"] = 0
    clock.advance(1)
    cache["b"] = 0
    clock.advance(1)
    cache.reset("eviction_policy", "least-recently-stored")
    cache.incr("a")
    clock.advance(1)
    cache.reset("eviction_policy", "least-recently-used")
    cache["c"] = 0

    assert list(cache) == ["a", "c"]


@pytest.mark.parametrize("new", ["s3-fifo", "least-recently-stored", "least-recently-used"])
@pytest.mark.parametrize("old", ["s3-fifo", "least-recently-used", "least-frequently-used"])
def test_reads_of_an_object_that_knows_of_no_switch_leave_the_order_right(
    make_cache, clock, old, new
):
    unaware = make_cache(eviction_policy=old, count_limit=4)
    for key in "abcd":
        clock.advance(1)
        unaware[key] = 0
    cache = make_cache()
    cache.reset("eviction_policy", new)
    clock.advance(1)
    assert unaware.get("b") == 0
    unaware.close()
    assert cache.check() == []
    cache["e"] = 0

    assert list(cache) == ["b", "c", "d", "e"]
