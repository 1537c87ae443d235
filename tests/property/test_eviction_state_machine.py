"""A full cache gives up exactly the entries that its policy names, and no more than it must.

Property: after each write to a small cache the victims are the first ones in the order of the
policy, never the entry just written, at most `cull_limit` of them. The volume is then below the
limit, but for the pages of the last write, unless the budget is used up or nothing is left to
remove; and it would be above without the last victim.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from diskcache import Cache
from tests.support.clock import ManualClock
from tests.support.leaks import assert_tidy
from tests.support.machines import run_with

LIMIT = 120_000
FILE = 1_000
"""Length from which values of these caches are files."""
PAGES = 16 * 2048
"""Pages that a write may take or give back besides those of its own value."""
SPLIT = 6 * 2048
"""Pages that the last small write may have taken before the volume is measured again."""
POLICIES = ["none", "least-recently-stored", "least-recently-used", "least-frequently-used"]

keys = st.integers(0, 29).map("k{}".format)
sizes = st.sampled_from([1, 200, 900, FILE, 5_000, 20_000, 60_000])


@dataclasses.dataclass
class Entry:
    """What the model knows of an entry."""

    size: int
    stored: float
    used: float
    count: int = 0
    place: int = 0
    level: float = 0
    """Rank of the last victim when the entry was last stored or read."""


class EvictionMachine(RuleBasedStateMachine):
    """One small cache beside a model that orders entries."""

    policy = "none"
    cull_limit = 10

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="machine-"))
        self.clock = ManualClock()
        self.entries: dict[Any, Entry] = {}
        self.places = 0
        self.level: float = 0
        self.cache = self.opened()

    def opened(self) -> Cache:
        return Cache(
            self.directory,
            clock=self.clock,
            eviction_policy=self.policy,
            size_limit=LIMIT,
            cull_limit=self.cull_limit,
            disk_min_file_size=FILE,
        )

    # -- The model --

    def rank(self, key: Any) -> tuple[float, int]:
        entry = self.entries[key]
        by = {
            "least-recently-stored": entry.stored,
            "least-recently-used": entry.used,
            "least-frequently-used": entry.level + entry.count,
        }
        return by[self.policy], entry.place

    def victims(self, spared: Any, number: int) -> list[Any]:
        others = [key for key in self.entries if key != spared]
        return sorted(others, key=self.rank)[:number] if self.policy != "none" else []

    def age(self, gone: set[Any]) -> None:
        """Have what is stored or read from now on rank above what has gone."""
        if gone:
            self.level = max(map(self.rank, gone))[0] + 1

    def tick(self) -> float:
        return self.clock.advance(1)

    def note(self, key: Any, size: int, now: float) -> None:
        old = self.entries.get(key)
        self.places += 1
        place = self.places if old is None else old.place
        self.entries[key] = Entry(size, now, now, 0, place, self.level)

    def settle(self, written: Any) -> None:
        """Compare what a write has removed with what it should have."""
        left = set(self.cache)
        gone = {key for key in self.entries if key not in left}

        assert written in left
        assert gone == set(self.victims(written, len(gone)))
        assert len(gone) <= self.cull_limit

        volume = self.cache.volume()
        last = max(gone, key=self.rank, default=None)
        if last is not None:
            assert volume + self.entries[last].size + PAGES >= LIMIT
        self.age(gone)
        for key in gone:
            del self.entries[key]
        if self.policy != "none" and self.cull_limit:
            is_spent = len(gone) == self.cull_limit or len(self.entries) == 1
            assert volume < LIMIT + SPLIT or is_spent

    # -- Writing --

    @rule(key=keys, size=sizes, method=st.sampled_from(["set", "item", "many", "transact"]))
    def store(self, key, size, method):
        now = self.tick()
        value = b"v" * size
        if method == "set":
            assert self.cache.set(key, value, tag="t" if size % 2 else None)
        elif method == "item":
            self.cache[key] = value
        elif method == "many":
            assert self.cache.set_many({key: value}) == 1
        else:
            with self.cache.transact():
                self.cache[key] = value
        self.note(key, size, now)
        self.settle(key)

    @rule(key=keys, size=sizes)
    def add(self, key, size):
        now = self.tick()
        is_stored = self.cache.add(key, b"a" * size)

        assert is_stored is (key not in self.entries)
        if is_stored:
            self.note(key, size, now)
            self.settle(key)

    @rule(size=sizes)
    def push(self, size):
        now = self.tick()
        key = self.cache.push(b"p" * size)
        self.note(key, size, now)
        self.settle(key)

    @rule(key=st.sampled_from(["n1", "n2", "n3"]))
    def incr(self, key):
        now = self.tick()
        self.cache.incr(key)
        entry = self.entries.get(key)
        if entry is None:
            self.note(key, 8, now)
            self.settle(key)
        else:
            entry.stored = entry.used = now
            entry.count += 1
            entry.level = self.level

    @rule(key=keys)
    def store_too_much(self, key):
        if self.policy == "none" or not self.cull_limit:
            return
        before = list(self.cache)

        assert self.cache.set(key, b"x" * (LIMIT + 1)) is False
        assert list(self.cache) == before

    # -- Everything else --

    @rule(key=keys, method=st.sampled_from(["get", "item", "read", "many"]))
    def read(self, key, method):
        now = self.tick()
        if key not in self.entries:
            assert self.cache.get(key) is None
            return
        entry = self.entries[key]
        if method == "get":
            assert len(self.cache.get(key)) == entry.size
        elif method == "item":
            assert len(self.cache[key]) == entry.size
        elif method == "many":
            assert len(self.cache.get_many([key])[key]) == entry.size
        else:
            found = self.cache.read(key)
            if not isinstance(found, bytes):
                found.close()
        entry.used = now
        entry.count += 1
        entry.level = self.level

    @rule(key=keys)
    def look(self, key):
        """Does what is no use of an entry."""
        self.tick()

        assert (key in self.cache) is (key in self.entries)
        self.cache.touch(key)
        list(self.cache.items())

    @rule(key=keys)
    def delete(self, key):
        assert self.cache.delete(key) is (key in self.entries)
        self.entries.pop(key, None)

    @rule(limit=st.sampled_from([40_000, 80_000]))
    def cull(self, limit):
        """Removes victims down to a limit that was lowered for it."""
        self.cache.size_limit = limit
        removed = self.cache.cull()
        volume = self.cache.volume()
        self.cache.size_limit = LIMIT
        left = set(self.cache)
        gone = {key for key in self.entries if key not in left}

        assert removed == len(gone)
        assert gone == set(self.victims(None, len(gone)))
        assert self.policy == "none" or volume <= limit or not left
        self.age(gone)
        for key in gone:
            del self.entries[key]

    @rule()
    def clear(self):
        if len(self.entries) > 20:
            self.cache.clear()
            self.entries.clear()
            self.level = 0

    @rule()
    def reopen(self):
        self.cache.close()
        self.cache = self.opened()

    @invariant()
    def holds_what_the_model_holds(self):
        places = sorted(self.entries, key=lambda key: self.entries[key].place)

        assert list(self.cache) == places

    def teardown(self):
        try:
            assert [str(finding.message) for finding in self.cache.check()] == []
        finally:
            self.cache.close()
        assert_tidy(self.directory)
        shutil.rmtree(self.directory)


@pytest.mark.parametrize("cull_limit", [10, 1, 0])
@pytest.mark.parametrize("policy", POLICIES)
def test_victims_are_those_of_the_model(policy, cull_limit):
    machine = type("Machine", (EvictionMachine,), {"policy": policy, "cull_limit": cull_limit})
    examples = 60 if cull_limit == 10 else 15
    run_state_machine_as_test(
        machine,
        settings=run_with(examples, 50),
    )


# What the machine found, each as short as it can be.


@pytest.mark.parametrize("method", ["set", "transact", "many"])
def test_entry_just_written_is_no_victim_however_it_was_written(make_cache, method):
    cache = make_cache(eviction_policy="least-frequently-used", cull_limit=1)
    cache.set_many(dict.fromkeys("abc", 0))
    for key in "abc":
        cache.get(key)
    cache.reset("size_limit", 1000)
    if method == "set":
        cache["a"] = 1
    elif method == "many":
        cache.set_many({"a": 1})
    else:
        with cache.transact():
            cache["a"] = 1

    assert list(cache) == ["a", "c"]


def test_least_frequently_used_counts_incr_of_a_cache_that_is_far_from_full(make_cache):
    cache = make_cache(eviction_policy="least-frequently-used", cull_limit=1)
    cache["a"] = 0
    cache["b"] = 0
    cache.incr("a")
    cache.reset("size_limit", 1000)
    cache["c"] = 0

    assert list(cache) == ["a", "c"]
