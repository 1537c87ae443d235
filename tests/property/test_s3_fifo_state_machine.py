"""s3-fifo removes exactly the entries that a model in plain Python removes, in its order.

Property: whatever is stored, one by one or many at once, read, counted, deleted or expired, by one
of two objects, with values in rows or in files, alone or in transactions, nested or not, whole or
undone, each write removes the victims of the model and no others; what is left, the hits, the
queues and what is remembered are those of the model; and `check` finds that totals, rows and memory
agree. A block inside another one that an error leaves keeps what it has done if the outer one goes
on. What was read in a transaction that is undone was read all the same. Writing reads down, closing
and opening change nothing.

With `DISKCACHE_TEST_EXAMPLES` set, `--hypothesis-seed` chooses the stories; else they are the same
at each run.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from diskcache import Cache
from diskcache.cache import noting
from diskcache.engines.sqlite import s3fifo, waiting
from diskcache.engines.sqlite.culling import Culler
from tests.support.clock import ManualClock
from tests.support.leaks import assert_tidy
from tests.support.machines import run_with
from tests.support.s3_fifo import UNIT, Model

EXAMPLES = int(os.environ.get("DISKCACHE_TEST_EXAMPLES", "10"))
IS_FIXED = "DISKCACHE_TEST_EXAMPLES" not in os.environ
"""Whether the stories are the same at each run."""
FILE = 1_000
"""Length from which values of these caches are files."""

keys = st.one_of(st.integers(0, 11), st.integers(0, 39)).map("k{}".format)
sizes = st.sampled_from([0, 1, 200, FILE, 5_000])
expiries = st.sampled_from([None, None, 5])
often = st.sampled_from([1, 1, 2, 6])
"""How often entries are read: from the fifth time on nothing is noted any more."""
puts = st.tuples(keys, sizes, expiries)
numbers = st.sampled_from(["n1", "n2"])
some_sizes = st.dictionaries(keys, sizes, min_size=1, max_size=6)
single = st.one_of(
    st.tuples(st.just("set"), keys, sizes, expiries),
    st.tuples(st.just("set"), keys, st.just(0), st.none()),
    st.tuples(st.just("add"), keys, sizes, expiries),
    st.tuples(st.just("set_many"), some_sizes, expiries),
    st.tuples(st.sampled_from(["get", "delete", "pop", "touch"]), keys),
    st.tuples(st.just("incr"), numbers),
    st.tuples(st.just("push"), sizes),
    st.tuples(st.sampled_from(["look", "flush", "wait"])),
)
inner = st.tuples(st.just("nest"), st.lists(single, min_size=1, max_size=4), st.booleans())
outer = st.tuples(
    st.just("nest"), st.lists(st.one_of(single, inner), min_size=1, max_size=3), st.booleans()
)
steps = st.one_of(single, single, inner, outer)


class Put(NamedTuple):
    """An entry as it is stored."""

    key: Any
    size: int
    expire_time: float | None
    now: float


class UndoneError(Exception):
    """Leaves a transaction."""


class S3FifoMachine(RuleBasedStateMachine):
    """Two objects on one directory, beside the model."""

    policy = "s3-fifo"
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
        self.aside: list[Put] = []
        """What a transaction has put aside."""
        self.seen: list[Any] = []
        """What it has read."""

    def modelled(self) -> Any:
        return Model(self.count_limit, floor=self.floor, by_count=self.by_count)

    def opened(self) -> Cache:
        return Cache(
            self.directory,
            clock=self.clock,
            eviction_policy=self.policy,
            count_limit=self.count_limit,
            cull_limit=self.cull_limit,
            disk_min_file_size=FILE,
        )

    # -- The model --

    def settle(self, written: Any, now: float, puts: int = 1) -> None:
        """Have the model remove what a write removes."""
        budget = self.cull_limit * puts
        for key in sorted(self.expiries, key=self.expiries.__getitem__):
            if self.expiries[key] < now and budget and key != written:
                self.forget(key)
                budget -= 1
        if not budget:
            return
        self.model.arrange()
        gone = self.model.victims(
            lambda gone: gone < budget and len(self.model.items) > self.count_limit, written
        )
        for key in gone:
            self.expiries.pop(key, None)

    def forget(self, key: Any) -> None:
        self.model.remove(key)
        self.expiries.pop(key, None)

    def put(self, key: Any, size: int, expire: float | None = None) -> Put:
        now = self.clock.time()
        return Put(key, size, None if expire is None else now + expire, now)

    def note(self, *puts: Put) -> None:
        """Have the model store entries together, and settle once."""
        for key, size, expire_time, now in puts:
            self.model.store(key, s3fifo.cost(key, None if size >= FILE else b"", size), now)
            self.expiries.pop(key, None)
            if expire_time is not None:
                self.expiries[key] = expire_time
        if puts:
            self.settle(puts[-1].key, puts[-1].now, len(puts))

    def is_live(self, key: Any) -> bool:
        return key in self.model.items and self.expiries.get(key, float("inf")) > self.clock.time()

    # -- Writing --

    @rule(which=st.integers(0, 1), some=st.lists(puts, min_size=1, max_size=4))
    def store(self, which, some):
        self.share_reads(which)
        for key, size, expire in some:
            self.clock.advance(1)
            assert self.caches[which].set(key, b"v" * size, expire=expire)
            self.note(self.put(key, size, expire))

    @rule(which=st.integers(0, 1), some=some_sizes, expire=expiries)
    def store_many(self, which, some, expire):
        self.share_reads(which)
        self.clock.advance(1)
        self.do_set_many(some, expire, self.caches[which])

    @rule(key=keys, size=sizes, expire=expiries)
    def add(self, key, size, expire):
        self.share_reads(0)
        self.clock.advance(1)
        self.do_add(key, size, expire)

    @rule(some=st.lists(steps, min_size=1, max_size=8), is_undone=st.booleans())
    def transact(self, some, is_undone):
        """Does several things together, or none of them; what was read was read all the same."""
        self.share_reads(0)
        self.clock.advance(1)
        kept = copy.deepcopy((self.model, self.expiries))
        self.aside, self.seen = [], []
        try:
            with self.caches[0].transact():
                self.do_all(some)
                self.store_aside()
                if is_undone:
                    raise UndoneError
        except UndoneError:
            self.model, self.expiries = kept
            for key in self.seen:
                if key in self.model.items:
                    self.model.read(key)

    @rule(some=st.lists(st.one_of(inner, outer), min_size=1, max_size=4), is_undone=st.booleans())
    def transact_in_blocks(self, some, is_undone):
        self.transact(some, is_undone)

    def store_aside(self) -> None:
        """Have the model store what a transaction has put aside: anything else comes after it."""
        puts, self.aside = self.aside, []
        self.note(*puts)

    def do_set(self, key, size, expire):
        assert self.caches[0].set(key, b"t" * size, expire=expire)
        if size < FILE:
            self.aside.append(self.put(key, size, expire))
            return
        self.store_aside()
        self.note(self.put(key, size, expire))

    def do_all(self, some):
        for what, *arguments in some:
            getattr(self, f"do_{what}")(*arguments)

    def do_nest(self, some, is_failed):
        """Does things in a block inside; what it has done stays, however it ends."""
        with contextlib.suppress(UndoneError), self.caches[0].transact():
            self.do_all(some)
            if is_failed:
                raise UndoneError

    def do_add(self, key, size, expire):
        self.store_aside()
        is_new = not self.is_live(key)
        assert self.caches[0].add(key, b"a" * size, expire=expire) is is_new
        if is_new:
            self.note(self.put(key, size, expire))

    def do_set_many(self, some, expire, cache=None):
        """Stores rows together; what is in files is stored by itself, in its turn."""
        self.store_aside()
        values = {key: b"m" * size for key, size in some.items()}
        assert (cache or self.caches[0]).set_many(values, expire=expire) == len(some)
        for is_file, group in itertools.groupby(some.items(), lambda item: item[1] >= FILE):
            puts = [self.put(key, size, expire) for key, size in group]
            for each in [[put] for put in puts] if is_file else [puts]:
                self.note(*each)

    def do_get(self, key):
        self.store_aside()
        found = self.caches[0].get(key)
        assert (found is not None) is self.is_live(key)
        if found is not None:
            self.model.read(key)
            self.seen.append(key)

    def do_delete(self, key):
        self.store_aside()
        assert self.caches[0].delete(key) is self.is_live(key)
        if self.is_live(key):
            self.forget(key)

    def do_pop(self, key):
        self.store_aside()
        assert (self.caches[0].pop(key) is not None) is self.is_live(key)
        if self.is_live(key):
            self.forget(key)

    def do_touch(self, key):
        self.store_aside()
        assert self.caches[0].touch(key, expire=3) is self.is_live(key)
        if self.is_live(key):
            self.expiries[key] = self.clock.time() + 3

    def do_incr(self, key):
        self.store_aside()
        self.count(key)

    def do_push(self, size):
        self.store_aside()
        key = self.caches[0].push(b"p" * size)
        self.note(self.put(key, size))

    def do_look(self):
        self.store_aside()
        assert list(self.caches[0]) == self.model.keys

    def do_flush(self):
        if self.caches[0]._engine._culler.reads:
            self.store_aside()
        self.caches[0]._engine._flush()

    def do_wait(self):
        self.clock.advance(3)

    @rule(key=numbers)
    def incr(self, key):
        self.share_reads(0)
        self.clock.advance(1)
        self.count(key)

    def count(self, key: str) -> None:
        self.caches[0].incr(key)
        if key in self.model.items:
            self.model.count(key, self.clock.time())
        else:
            self.note(self.put(key, 8))

    @rule(key=keys)
    def touch(self, key):
        self.share_reads(0)
        self.clock.advance(1)
        self.do_touch(key)

    @rule(which=st.integers(0, 1))
    def flush(self, which):
        self.share_reads(which)
        self.caches[which]._engine._flush()

    @rule(size=sizes)
    def push(self, size):
        self.share_reads(0)
        self.clock.advance(1)
        key = self.caches[0].push(b"p" * size)
        self.note(self.put(key, size))

    @rule(which=st.integers(0, 1), key=keys)
    def delete(self, which, key):
        self.share_reads(which)
        assert self.caches[which].delete(key) is self.is_live(key)
        if self.is_live(key):
            self.forget(key)

    @rule(key=keys)
    def pop(self, key):
        self.share_reads(0)
        found = self.caches[0].pop(key)
        assert (found is not None) is self.is_live(key)
        if found is not None:
            self.forget(key)

    @rule()
    def pull(self):
        self.share_reads(0)
        found = self.caches[0].pull()[0]
        queued = [key for key in self.model.keys if isinstance(key, int)]
        assert found == min(queued, default=None)
        if found is not None:
            self.forget(found)

    @rule()
    def expire(self):
        self.share_reads(0)
        now = self.clock.advance(3)
        self.caches[0].expire()
        self.forget_expired(now)

    def forget_expired(self, now: float) -> None:
        """Have the model remove what has expired; *now* as the call took it: it pauses."""
        for key in [key for key, at in self.expiries.items() if at < now]:
            self.forget(key)

    @rule()
    def cull(self):
        """Removes victims down to a limit that was lowered for it."""
        self.share_reads(0)
        cache = self.caches[0]
        limit, now = max(len(self.model.items) - 3, 1), self.clock.time()
        cache.count_limit = limit
        cache.cull()
        cache.count_limit = self.count_limit
        self.forget_expired(now)
        self.model.capacity = limit
        for key in self.model.victims(lambda _: len(self.model.items) > limit):
            self.expiries.pop(key, None)
        self.model.capacity = self.count_limit

    @rule()
    def clear(self):
        if len(self.model.items) > 10:
            self.share_reads(0)
            self.caches[0].clear()
            self.model = self.modelled()
            self.expiries.clear()

    # -- Reading --

    @rule(which=st.integers(0, 1), some=st.lists(keys, min_size=1, max_size=6), often=often)
    def read(self, which, some, often):
        for key in some * often:
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
        """Have the other object write down what it puts off: the model knows of no delay."""
        other = self.caches[1 - which]
        if other._engine._culler.reads or other._engine._culler.kept.is_behind:
            other.close()

    @rule(which=st.integers(0, 1))
    def reopen(self, which):
        self.share_reads(which)
        self.caches[which].close()
        self.caches[which] = self.opened()

    # -- Comparing --

    @invariant()
    def holds_what_the_model_holds(self):
        assert list(self.caches[0]) == self.model.keys

    @rule()
    def check(self):
        self.share_reads(0)
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
        ranks = execute("SELECT rank FROM Cache WHERE rank >= 0 ORDER BY rank").fetchall()
        assert [rank * UNIT for (rank,) in ranks] == sorted(item.rank for item in self.model.main)
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
    # Hits in memory are noted in the quick way, as under the clock of the system.
    monkeypatch.setattr(noting, "SystemClock", ManualClock)
    # Each object puts off what it may, although the other one has just written.
    monkeypatch.setattr(waiting, "ALONE_FOR", 0.0)
    if not by_count:
        monkeypatch.setattr(Culler, "_set_capacity", sized)
    names = {"count_limit": count_limit, "floor": floor, "by_count": by_count}
    machine = type("Machine", (S3FifoMachine,), names)
    run_state_machine_as_test(
        machine,
        settings=run_with(EXAMPLES, 40, is_fixed=IS_FIXED),
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
        model.store(key, s3fifo.cost(key, b"", size), 0)
        model.arrange()
        model.victims(lambda gone: gone < 10 and len(model.items) > limit, key)
        assert list(cache) == model.keys
    cache._engine._flush()
    rows = cache._engine._link().execute(
        "SELECT key, access_count FROM Cache WHERE rank >= 0 ORDER BY rank, rowid"
    )
    main = sorted(model.main, key=lambda item: (item.rank, item.number))
    assert rows.fetchall() == [(item.key, item.hits) for item in main]


# What the machine found, each as short as it can be.


def queue_main(cache: Cache) -> list[tuple[str, float]]:
    cache._engine._flush()
    execute = cache._engine._link().execute
    return execute("SELECT key, rank FROM Cache WHERE rank >= 0 ORDER BY rank, rowid").fetchall()


def test_main_keeps_entries_of_equal_weight_in_the_order_in_which_they_came(
    monkeypatch, make_cache
):
    monkeypatch.setattr(s3fifo, "FLOOR", 3)
    cache = make_cache(eviction_policy="s3-fifo", count_limit=12)
    for key in "abcdefghijklmn":
        cache[key] = 0
    cache["a"] = 0
    cache.get("f")
    cache["b"] = 0

    assert [key for key, _ in queue_main(cache)][-2:] == ["b", "f"]


def test_overwriting_takes_no_place_whoever_writes_next(monkeypatch, make_cache, tmp_path):
    monkeypatch.setattr(s3fifo, "FLOOR", 3)
    ranks = []
    for name, writer in (("one", 0), ("two", 1)):
        caches = [
            make_cache(tmp_path / name, eviction_policy="s3-fifo", count_limit=12) for _ in range(2)
        ]
        for key in "abcdefghijklmn":
            caches[0][key] = 0
        caches[0]["a"] = 0
        caches[0]["m"] = 0
        caches[writer]["b"] = 0
        ranks.append(queue_main(caches[0]))

    assert ranks[0] == ranks[1]


def test_small_that_has_exactly_its_share_of_bytes_is_not_full():
    queues = s3fifo.Queues()
    queues.capacity = 350.0
    queues.small, queues.small_bytes = 31, 3008
    queues.main, queues.main_bytes = 284, 24064
    assert (31 + 284) * 3008 == 35 * (3008 + 24064)
    assert not queues._is_small_full()
    queues.main_bytes -= 1
    assert queues._is_small_full()


@pytest.mark.parametrize("size", [65, 66, 71, 264, 5064])
def test_ranks_are_whole_numbers_of_the_smallest_step(size):
    queues = s3fifo.Queues(1000)
    queues.main, queues.main_bytes = 7, 1300
    for place in range(1000, 1100):
        before = int(queues.level * UNIT)
        queues.level = queues._behind(size)
        weight = (1300 / 7 / size) ** 0.5
        assert queues.level * UNIT == before + place + round(weight * 2**20) * 2**20
