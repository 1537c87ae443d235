"""A cache does, step for step, what a dict with expiry, tags and queues would do.

Property: after any sequence of operations through two objects on one directory, with closing,
transactions that end either way, and time passing, every result and every listing is that of the
model; `check` finds nothing; length and file bytes are those of a recount.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from diskcache import ENOVAL, Cache
from diskcache.errors import GateError
from tests.property.model import NOTHING, Entry, Model
from tests.support.clock import ManualClock
from tests.support.leaks import assert_tidy, value_files
from tests.support.machines import run_with

LARGE = 60
"""Length from which values of these caches are files."""

KEYS = ["a", "b", "c\0d", "ä", b"a", b"\xff", -1, -2.5, (1, "x"), None, True, 2**70]
VALUES = [
    0,
    -7,
    2.5,
    2**65,
    "text",
    b"raw",
    None,
    True,
    [1, "a", None],
    {"k": (1, 2)},
    "line\r\n" * 20,
    b"B" * LARGE,
    b"B" * (2 * LARGE),
    ["long", "l" * 200],
]
TAGS = [None, "t", b"t", 7]
STEPS = run_with(60, 40)

keys = st.sampled_from(KEYS)
values = st.sampled_from(VALUES)
tags = st.sampled_from(TAGS)
prefixes = st.sampled_from([None, "q"])
sides = st.sampled_from(["front", "back"])
never = st.none()
expiries = st.none() | st.sampled_from([-1, 0, 1, 5, 50])


class RolledBack(Exception):  # noqa: N818 - it is a signal
    """Leaves a transaction, which undoes it."""


def same(found: Any, expected: Any) -> bool:
    """Tell whether two values are equal and of one type."""
    return type(found) is type(expected) and found == expected


class CacheMachine(RuleBasedStateMachine):
    """Two objects on one directory beside one model."""

    expiries = expiries

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="machine-"))
        self.clock = ManualClock()
        self.model = Model()
        self.caches = [self.opened(), self.opened()]
        self.at = 0
        self.transaction: contextlib.ExitStack | None = None
        self.before = self.model
        self.is_blurred = False
        """Inside a transaction rows are stored together, so expired ones may live longer."""
        self.graveyard: dict[Any, Entry] = {}
        """What may be there still although the model has removed it."""

    def opened(self) -> Cache:
        return Cache(
            self.directory, clock=self.clock, disk_min_file_size=LARGE, statistics=1, timeout=1
        )

    @property
    def cache(self) -> Cache:
        return self.caches[self.at]

    @property
    def now(self) -> float:
        return self.clock.time()

    def store(self, key: Any, value: Any, expire: float | None, tag: Any) -> None:
        expire_time = None if expire is None else self.now + expire
        self.model.put(key, Entry(value, expire_time, tag), self.now)
        self.is_blurred |= self.transaction is not None

    def sync(self) -> None:
        """Take over which expired entries a transaction has left, and hence some places."""
        if not self.is_blurred:
            return
        listed = list(self.cache)
        live = self.model.live_keys(self.now)
        known = {**self.graveyard, **self.model.entries}

        assert set(live) <= set(listed)
        assert all(key in known for key in listed)
        assert not any(known[key].is_live(self.now) for key in set(listed) - set(live))

        self.model.entries = {key: known[key] for key in listed}
        self.is_blurred = False

    # -- Single keys --

    @rule(key=keys, value=values, expire=st.data(), tag=tags)
    def set(self, key, value, expire, tag):
        expire = expire.draw(self.expiries)
        self.bury()

        assert self.cache.set(key, value, expire=expire, tag=tag) is True
        self.store(key, value, expire, tag)

    def bury(self) -> None:
        """Remember what may have expired without being removed yet."""
        self.graveyard = {**self.graveyard, **self.model.entries}

    @rule(key=keys, value=values)
    def setitem(self, key, value):
        self.bury()
        self.cache[key] = value
        self.store(key, value, None, None)

    @rule(key=keys, value=values, expire=st.data(), tag=tags)
    def add(self, key, value, expire, tag):
        self.sync()
        expire = expire.draw(self.expiries)
        is_free = self.model.live(key, self.now) is None
        self.bury()

        assert self.cache.add(key, value, expire=expire, tag=tag) is is_free
        if is_free:
            self.store(key, value, expire, tag)

    @rule(key=keys, how=st.sampled_from(["plain", "shapes", "item", "in"]))
    def get(self, key, how):
        entry = self.model.live(key, self.now)
        if how == "in":
            assert (key in self.cache) is (entry is not None)
            return
        self.model.count_read(entry is not None)
        if how == "plain":
            assert same(self.cache.get(key, ENOVAL), ENOVAL if entry is None else entry.value)
        elif how == "shapes":
            value, expire_time, tag = self.cache.get(key, "none", expire_time=True, tag=True)
            wanted = entry or Entry("none")
            assert same(value, wanted.value)
            assert (expire_time, tag) == (wanted.expire_time, wanted.tag)
        elif entry is None:
            with pytest.raises(KeyError):
                self.cache[key]
        else:
            assert same(self.cache[key], entry.value)

    @rule(key=keys, expire=st.data())
    def touch(self, key, expire):
        expire = expire.draw(self.expiries)
        entry = self.model.live(key, self.now)

        assert self.cache.touch(key, expire) is (entry is not None)
        if entry is not None:
            entry.expire_time = None if expire is None else self.now + expire

    @rule(key=keys, delta=st.sampled_from([1, -3, 0.5]), default=st.sampled_from([0, 10, None]))
    def incr(self, key, delta, default):
        self.sync()
        self.bury()
        entry = self.model.entries.get(key)
        if entry is None or entry.is_expired(self.now):
            if default is None:
                with pytest.raises(KeyError):
                    self.cache.incr(key, delta, default)
            else:
                assert same(self.cache.incr(key, delta, default), default + delta)
                self.store(key, default + delta, None, None)
        elif type(entry.value) not in (int, float) or abs(entry.value) >= 2**63:
            with pytest.raises(TypeError):
                self.cache.incr(key, delta, default)
        else:
            entry.value += delta
            assert same(self.cache.incr(key, delta, default), entry.value)

    @rule(key=keys)
    def pop(self, key):
        entry = self.model.live(key, self.now)
        wanted = entry or Entry(ENOVAL)
        value, expire_time, tag = self.cache.pop(key, ENOVAL, expire_time=True, tag=True)

        assert same(value, wanted.value)
        assert (expire_time, tag) == (wanted.expire_time, wanted.tag)
        if entry is not None:
            self.forget(key)

    @rule(key=keys)
    def delete(self, key):
        is_there = self.model.live(key, self.now) is not None

        assert self.cache.delete(key) is is_there
        if is_there:
            self.forget(key)

    def forget(self, key: Any) -> None:
        del self.model.entries[key]
        self.graveyard.pop(key, None)

    # -- Queues and ends --

    @rule(value=values, prefix=prefixes, side=sides, expire=st.data(), tag=tags)
    def push(self, value, prefix, side, expire, tag):
        self.sync()
        self.bury()
        expire = expire.draw(self.expiries)
        key = self.model.next_key(prefix, side)

        assert self.cache.push(value, prefix, side, expire=expire, tag=tag) == key
        self.store(key, value, expire, tag)

    @rule(prefix=prefixes, side=sides, remove=st.booleans())
    def pull(self, prefix, side, remove):
        self.sync()
        queue = self.model.queue(prefix)
        key = self.model.first(queue if side == "front" else queue[::-1], self.now)
        method = self.cache.pull if remove else self.cache.peek
        found = method(prefix, side=side, expire_time=True, tag=True)
        if key is NOTHING:
            assert found == ((None, None), None, None)
            return
        entry = self.model.entries[key]

        assert found[0][0] == key
        assert same(found[0][1], entry.value)
        assert found[1:] == (entry.expire_time, entry.tag)
        if remove:
            self.forget(key)

    @rule(last=st.booleans())
    def peekitem(self, last):
        self.sync()
        everything = list(self.model.entries)
        key = self.model.first(everything[::-1] if last else everything, self.now)
        if key is NOTHING:
            with pytest.raises(KeyError):
                self.cache.peekitem(last)
            return
        found = self.cache.peekitem(last)

        assert found[0] == key
        assert same(found[1], self.model.entries[key].value)

    # -- Many keys --

    @rule(chosen=st.dictionaries(keys, values, max_size=6), expire=st.data(), tag=tags)
    def set_many(self, chosen, expire, tag):
        self.sync()
        self.bury()
        expire = expire.draw(self.expiries)

        assert self.cache.set_many(chosen, expire=expire, tag=tag) == len(chosen)
        # All are stored, those with files last, and then expired entries are removed.
        for key, value in chosen.items():
            self.store(key, value, expire, tag)
        self.is_blurred = True
        self.sync_order(chosen)

    def sync_order(self, chosen: dict[Any, Any]) -> None:
        """Take over the places of entries that were new in a bulk call."""
        before = [key for key in self.model.entries if key not in chosen]
        self.sync()

        assert [key for key in self.model.entries if key in set(before)] == [
            key for key in before if key in self.model.entries
        ]

    @rule(chosen=st.lists(keys, max_size=6))
    def get_many(self, chosen):
        expected = {}
        for key in chosen:
            entry = self.model.live(key, self.now)
            self.model.count_read(entry is not None)
            if entry is not None:
                expected[key] = entry.value
        found = self.cache.get_many(chosen)

        assert found == expected
        assert all(same(found[key], expected[key]) for key in expected)

    @rule(chosen=st.lists(keys, max_size=4, unique=True))
    def delete_many(self, chosen):
        live = [key for key in chosen if self.model.live(key, self.now) is not None]

        assert self.cache.delete_many(chosen) == len(live)
        for key in live:
            self.forget(key)

    @rule()
    def expire(self):
        self.sync()

        assert self.cache.expire() == self.model.remove_expired(self.now)

    @rule()
    def cull(self):
        self.sync()

        assert self.cache.cull() == self.model.remove_expired(self.now)

    @rule(tag=tags)
    def evict(self, tag):
        self.sync()

        assert self.cache.evict(tag) == self.model.remove_tag(tag)

    @precondition(lambda self: len(self.model.entries) > 4)
    @rule()
    def clear(self):
        self.sync()

        assert self.cache.clear() == len(self.model.entries)
        self.model.entries.clear()
        self.graveyard = {}

    # -- Listing --

    @rule()
    def lists(self):
        self.sync()
        entries, live = self.model.entries, self.model.live_keys(self.now)

        assert list(self.cache) == list(entries)
        assert list(reversed(self.cache)) == list(entries)[::-1]
        assert list(self.cache.keys()) == live
        assert list(self.cache.items()) == [(key, entries[key].value) for key in live]
        assert all(
            same(found, entries[key].value)
            for key, found in zip(live, self.cache.values(), strict=True)
        )

    @rule(tag=st.sampled_from(TAGS[1:]), prefix=st.sampled_from(["", "a", "q-", "c\0"]))
    def lists_selected(self, tag, prefix):
        self.sync()
        entries, live = self.model.entries, self.model.live_keys(self.now)
        texts = sorted(key for key in live if isinstance(key, str) and key.startswith(prefix))

        assert list(self.cache.keys(tag=tag)) == [key for key in live if entries[key].tag == tag]
        assert list(self.cache.keys(prefix=prefix)) == texts

    @rule()
    def lists_sorted(self):
        self.sync()
        entries = self.model.entries
        found = list(self.cache.iterkeys())
        numbers = [key for key in found if type(key) in (int, float) and key != 2**70]
        texts = [key for key in found if type(key) is str]

        assert found == list(self.cache.iterkeys(reverse=True))[::-1]
        assert found[: len(numbers) + len(texts)] == sorted(numbers) + sorted(texts)
        assert len(found) == len(entries)
        assert all(key in entries for key in found)

    @rule(reset=st.booleans())
    def stats(self, reset):
        found = self.cache.stats(reset=reset)

        assert found == (self.model.hits, self.model.misses)
        if reset:
            self.model.hits = self.model.misses = 0

    # -- Objects, transactions, time --

    @precondition(lambda self: self.transaction is None)
    @rule(at=st.integers(0, 1), how=st.sampled_from(["switch", "close", "renew", "close all"]))
    def other_object(self, at, how):
        self.at = at
        if how == "close all":
            for cache in self.caches:
                cache.close()
        elif how != "switch":
            self.cache.close()
        if how == "renew":
            self.caches[at] = self.opened()

    @precondition(lambda self: self.transaction is None)
    @rule()
    def begin(self):
        self.transaction = contextlib.ExitStack()
        self.transaction.enter_context(self.cache.transact())
        self.before = self.model.copy()
        self.graveyard = {}

    @precondition(lambda self: self.transaction is not None)
    @rule(key=keys)
    def other_object_sees_what_was_before(self, key):
        other = self.caches[1 - self.at]
        entry = self.before.live(key, self.now)
        self.model.count_read(entry is not None)

        assert same(other.get(key, ENOVAL), ENOVAL if entry is None else entry.value)
        with pytest.raises(GateError):
            other.set(key, 1, retry=True)

    @precondition(lambda self: self.transaction is not None)
    @rule(rolls_back=st.booleans())
    def end(self, rolls_back):
        transaction, self.transaction = self.transaction, None
        if not rolls_back:
            transaction.close()
            self.sync()
            return
        with contextlib.suppress(RolledBack), transaction:
            raise RolledBack
        self.model.entries = self.before.entries
        self.is_blurred = False
        self.graveyard = {}

    @invariant()
    def is_sound(self):
        if self.transaction is not None:
            return
        assert len(self.cache) == len(self.model.entries)
        assert list(self.cache) == list(self.model.entries)
        self.graveyard = {}

    def teardown(self):
        try:
            if self.transaction is not None:
                self.end(rolls_back=False)
            self.lists()
            total = self.cache.volume() and self.cache.size

            assert [str(finding.message) for finding in self.cache.check()] == []
            assert len(self.cache) == sum(1 for _ in self.cache)
            assert total == sum(path.stat().st_size for path in value_files(self.directory))
        finally:
            for cache in self.caches:
                cache.close()
        assert_tidy(self.directory)
        shutil.rmtree(self.directory)


class ExpiringMachine(CacheMachine):
    """The same while time passes."""

    @rule(seconds=st.sampled_from([0.5, 1, 5, 60]))
    def passes(self, seconds):
        self.clock.advance(seconds)


class LastingMachine(CacheMachine):
    """The same where nothing expires."""

    expiries = never


def test_cache_without_expiry_is_an_ordered_dict():
    run_state_machine_as_test(LastingMachine, settings=STEPS)


def test_cache_with_expiry_is_what_the_model_is():
    run_state_machine_as_test(ExpiringMachine, settings=STEPS)


# What the machines found, each as short as it can be.


def test_transact_replaces_a_file_by_the_last_of_several_values(cache):
    cache["a"] = b"x" * 100_000
    with cache.transact():
        cache["a"] = 1
        cache["a"] = 2

    assert cache["a"] == 2


def test_set_many_replaces_expired_entries_with_files(cache, clock):
    for key in "abc":
        cache.set(key, b"x" * 100_000, expire=1)
    clock.advance(2)

    assert cache.set_many(dict.fromkeys("abc", 0)) == 3
    assert cache.get_many("abc") == dict.fromkeys("abc", 0)


def test_set_of_an_entry_that_has_expired_leaves_nothing(cache):
    cache["a"] = 0
    cache.set("a", 0, expire=-1)

    assert len(cache) == 0


def test_reset_of_statistics_in_a_transaction_forgets_earlier_reads(make_cache):
    cache = make_cache(statistics=True)
    cache.get("a")
    with cache.transact():
        cache.stats(reset=True)

        assert cache.stats() == (0, 0)
