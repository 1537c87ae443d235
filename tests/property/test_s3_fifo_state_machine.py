"""s3-fifo removes exactly the entries that a model in plain Python removes, in its order.

Property: whatever is stored, read, counted, deleted, expired or rolled back, by one of two objects,
with values in rows or in files, each write removes the victims of the model and no others; what
is left, the hits, the queues and what is remembered are those of the model; and `check` finds that
totals, rows and memory agree.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from diskcache import Cache
from diskcache.engines.sqlite import s3fifo
from diskcache.engines.sqlite.culling import Culler
from tests.support.clock import ManualClock
from tests.support.leaks import assert_tidy
from tests.support.s3_fifo import Model

EXAMPLES = int(os.environ.get("DISKCACHE_TEST_EXAMPLES", "10"))
FILE = 1_000
"""Length from which values of these caches are files."""

keys = st.integers(0, 39).map("k{}".format)
sizes = st.sampled_from([0, 1, 200, FILE, 5_000])


class UndoneError(Exception):
    """Leaves a transaction."""


class S3FifoMachine(RuleBasedStateMachine):
    """Two objects on one directory, beside the model."""

    count_limit = 12
    floor = 32
    cull_limit = 10
    by_count = True

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="machine-"))
        self.clock = ManualClock()
        self.model = self.modelled()
        self.expiries: dict[Any, float] = {}
        self.caches = [self.opened(), self.opened()]

    def modelled(self) -> Model:
        return Model(self.count_limit, floor=self.floor, by_count=self.by_count)

    def opened(self) -> Cache:
        return Cache(
            self.directory,
            clock=self.clock,
            eviction_policy="s3-fifo",
            count_limit=self.count_limit,
            cull_limit=self.cull_limit,
            disk_min_file_size=FILE,
        )

    # -- The model --

    def settle(self, written: Any) -> None:
        """Have the model remove what a write removes."""
        budget = self.cull_limit
        now = self.clock.time()
        for key in sorted(self.expiries, key=self.expiries.__getitem__):
            if self.expiries[key] < now and budget and key != written:
                self.forget(key)
                budget -= 1
        gone = self.model.victims(
            lambda gone: gone < budget and len(self.model.items) > self.count_limit, written
        )
        for key in gone:
            self.expiries.pop(key, None)

    def forget(self, key: Any) -> None:
        self.model.remove(key)
        self.expiries.pop(key, None)

    def note(self, key: Any, size: int, expire: float | None = None) -> None:
        self.model.store(key, s3fifo.cost(key, None if size >= FILE else b"", size))
        self.expiries.pop(key, None)
        if expire is not None:
            self.expiries[key] = self.clock.time() + expire
        self.settle(key)

    def is_live(self, key: Any) -> bool:
        return key in self.model.items and self.expiries.get(key, float("inf")) > self.clock.time()

    # -- Writing --

    @rule(which=st.integers(0, 1), key=keys, size=sizes, expire=st.sampled_from([None, None, 5]))
    def store(self, which, key, size, expire):
        self.share_reads(which)
        self.clock.advance(1)
        assert self.caches[which].set(key, b"v" * size, expire=expire)
        self.note(key, size, expire)

    @rule(some=st.lists(st.tuples(keys, sizes), min_size=1, max_size=4), is_undone=st.booleans())
    def transact(self, some, is_undone):
        self.share_reads(0)
        self.clock.advance(1)
        cache = self.caches[0]
        before = self.model.keys
        try:
            with cache.transact():
                for key, size in some:
                    cache.set(key, b"t" * size)
                    # Something else in between, so that each is stored at once.
                    assert key in list(cache)
                    if not is_undone:
                        self.note(key, size)
                if is_undone:
                    raise UndoneError
        except UndoneError:
            assert list(cache) == before

    @rule(key=st.sampled_from(["n1", "n2"]))
    def incr(self, key):
        self.share_reads(0)
        self.clock.advance(1)
        self.caches[0].incr(key)
        if key in self.model.items:
            self.model.read(key)
        else:
            self.note(key, 8)

    @rule(size=sizes)
    def push(self, size):
        self.share_reads(0)
        self.clock.advance(1)
        key = self.caches[0].push(b"p" * size)
        self.note(key, size)

    @rule(which=st.integers(0, 1), key=keys)
    def delete(self, which, key):
        assert self.caches[which].delete(key) is self.is_live(key)
        if self.is_live(key):
            self.share_reads(which)
            self.forget(key)

    @rule(key=keys)
    def pop(self, key):
        found = self.caches[0].pop(key)
        assert (found is not None) is self.is_live(key)
        if found is not None:
            self.share_reads(0)
            self.forget(key)

    @rule()
    def pull(self):
        found = self.caches[0].pull()[0]
        queued = [key for key in self.model.keys if isinstance(key, int)]
        assert found == min(queued, default=None)
        if found is not None:
            self.forget(found)

    @rule()
    def expire(self):
        self.clock.advance(3)
        for cache in self.caches[:1]:
            cache.expire()
        for key in [key for key, at in self.expiries.items() if at < self.clock.time()]:
            self.forget(key)

    @rule()
    def cull(self):
        """Removes victims down to a limit that was lowered for it."""
        self.share_reads(0)
        cache = self.caches[0]
        limit = max(len(self.model.items) - 3, 1)
        cache.count_limit = limit
        cache.cull()
        cache.count_limit = self.count_limit
        for key in [key for key, at in self.expiries.items() if at < self.clock.time()]:
            self.forget(key)
        self.model.capacity = limit
        for key in self.model.victims(lambda _: len(self.model.items) > limit):
            self.expiries.pop(key, None)
        self.model.capacity = self.count_limit

    @rule()
    def clear(self):
        if len(self.model.items) > 10:
            self.caches[0].clear()
            self.model = self.modelled()
            self.expiries.clear()

    # -- Reading --

    @rule(which=st.integers(0, 1), key=keys, times=st.integers(1, 4))
    def read(self, which, key, times):
        for _ in range(times):
            found = self.caches[which].get(key)
            assert (found is not None) is self.is_live(key)
            if found is not None:
                self.model.read(key)

    @rule(key=keys)
    def look(self, key):
        """Does what is no use of an entry."""
        assert (key in self.caches[0]) is self.is_live(key)
        list(self.caches[0].items())

    def share_reads(self, which: int) -> None:
        """Have the other object write its reads down: the model knows of no delay."""
        other = self.caches[1 - which]
        if other._engine._culler.reads:
            other.close()

    @rule(which=st.integers(0, 1))
    def reopen(self, which):
        self.caches[which].close()
        self.caches[which] = self.opened()

    # -- Comparing --

    @invariant()
    def holds_what_the_model_holds(self):
        assert list(self.caches[0]) == self.model.keys

    @rule()
    def check(self):
        assert [str(found.message) for found in self.caches[0].check()] == []

    def teardown(self):
        try:
            self.check()
            self.compare_queues()
        finally:
            for cache in self.caches:
                cache.close()
        assert_tidy(self.directory)
        shutil.rmtree(self.directory)

    def compare_queues(self):
        for cache in self.caches:
            cache.close()
        execute = self.caches[0]._engine._link().execute
        if execute("SELECT 1 FROM Settings WHERE key = 'rank_policy'").get is None:
            return
        for condition, queue in (("rank < 0", self.model.small), ("rank >= 0", self.model.main)):
            rows = execute(
                f"SELECT key, access_count FROM Cache WHERE {condition} ORDER BY rank, rowid"
            ).fetchall()
            order = sorted(queue, key=lambda item: (item.rank, item.number))
            if condition == "rank < 0":
                order = queue
            assert rows == [(item.key, item.hits) for item in order]
        ghosts = [n for (n,) in execute("SELECT h FROM Ghost ORDER BY n").fetchall()]
        assert ghosts == [s3fifo.ghost_of((key, 1)) for key in self.model.ghosts]


def sized(culler: Culler, queues: s3fifo.Queues, *_: object) -> None:
    """Stands in for a cache whose size is the limit: entries weigh what their bytes do."""
    queues.by_count = False
    queues.capacity = float(culler._settings["count_limit"])


@pytest.mark.parametrize("by_count", [True, False], ids=["count", "size"])
@pytest.mark.parametrize(("count_limit", "floor"), [(3, 32), (12, 32), (12, 3), (30, 4)], ids=str)
def test_victims_are_those_of_the_model(monkeypatch, count_limit, floor, by_count):
    monkeypatch.setattr(s3fifo, "FLOOR", floor)
    if not by_count:
        monkeypatch.setattr(Culler, "_set_capacity", sized)
    names = {"count_limit": count_limit, "floor": floor, "by_count": by_count}
    machine = type("Machine", (S3FifoMachine,), names)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=60,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        ),
    )


@pytest.mark.parametrize("by_count", [True, False], ids=["count", "size"])
@pytest.mark.parametrize("seed", range(2))
def test_long_skewed_load_leaves_what_the_model_leaves(monkeypatch, make_cache, by_count, seed):
    """Popular keys go round the long queue many times, which short stories hardly reach."""
    monkeypatch.setattr(s3fifo, "FLOOR", 4)
    if not by_count:
        monkeypatch.setattr(Culler, "_set_capacity", sized)
    limit, dice = 60, random.Random(seed)
    cache = make_cache(eviction_policy="s3-fifo", count_limit=limit)
    model = Model(limit, floor=4, by_count=by_count)
    for _ in range(1500):
        key = f"k{int(dice.paretovariate(0.6)) % 200}"
        if cache.get(key) is not None:
            model.read(key)
            continue
        size = dice.randrange(300)
        cache[key] = b"x" * size
        model.store(key, s3fifo.cost(key, b"", size))
        model.victims(lambda gone: gone < 10 and len(model.items) > limit, key)
        assert list(cache) == model.keys
    cache._engine._flush()
    rows = cache._engine._link().execute(
        "SELECT key, access_count FROM Cache WHERE rank >= 0 ORDER BY rank, rowid"
    )
    main = sorted(model.main, key=lambda item: (item.rank, item.number))
    assert rows.fetchall() == [(item.key, item.hits) for item in main]
