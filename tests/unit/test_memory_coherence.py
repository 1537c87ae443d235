"""What memory answers is right in transactions, beside them, at expiry, and for every caller."""

from __future__ import annotations

import copy
import threading
from contextlib import suppress
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diskcache import Deque, FanoutCache, Index
from diskcache.engines.sqlite.gate import Gate
from diskcache.errors import GateError
from diskcache.files import ValueFiles
from tests.support.crew import in_threads, run_script

LARGE = 40_000


def warm(cache, *keys):
    """Read twice: what is read a second time is kept."""
    for key in keys * 2:
        cache.get(key)


class TestReadersBesideWriters:
    def test_get_many_is_of_one_moment_though_a_file_is_replaced(
        self, cache, make_cache, monkeypatch
    ):
        other, read, moments = make_cache(), ValueFiles.read, []
        cache.set_many({"a": bytes([0]) * LARGE, "b": 0})

        def replace_first(files, *args):
            if len(moments) < 3:
                moments.append(len(moments) + 1)
                with other.transact():
                    other["a"], other["b"] = bytes([moments[-1]]) * LARGE, moments[-1]
            return read(files, *args)

        monkeypatch.setattr(ValueFiles, "read", replace_first)

        assert cache.get_many(["a", "b"]) == {"a": b"\3" * LARGE, "b": 3}

    def test_get_many_ends_though_its_files_are_replaced_again_and_again(
        self, cache, make_cache, monkeypatch
    ):
        other, read, moment = make_cache(timeout=0), ValueFiles.read, iter(range(1, 10**6))
        cache.set_many({"a": bytes([0]) * LARGE, "b": 0})

        def replace_always(files, *args):
            number = next(moment) % 256
            # While `get_many` has the gate in hand, this thread cannot have it twice.
            with suppress(GateError), other.transact():
                other["a"], other["b"] = bytes([number]) * LARGE, number
            return read(files, *args)

        monkeypatch.setattr(ValueFiles, "read", replace_always)
        found = cache.get_many(["a", "b"])

        assert found["a"] == bytes([found["b"]]) * LARGE

    @pytest.mark.parametrize("limit", [0, 1_000_000])
    @pytest.mark.parametrize("how", [{}, {"version": True}, {"stale": True}, {"read": True}])
    def test_get_tells_of_the_value_that_it_returns_though_the_file_is_replaced(
        self, make_cache, monkeypatch, limit, how
    ):
        cache, other, moments = make_cache(memory_limit=limit), make_cache(), [1]
        cache.set("k", b"old" * LARGE, expire=100, tag="old")
        name = "open" if "read" in how else "read"
        real = getattr(ValueFiles, name)

        def replace_first(files, *args):
            if moments:
                moments.pop()
                other.set("k", b"new" * LARGE, expire=200, tag="new")
            return real(files, *args)

        monkeypatch.setattr(ValueFiles, name, replace_first)
        value, expires, tag, *version = cache.get("k", expire_time=True, tag=True, **how)
        if "read" in how:
            with value as file:
                value = file.read()

        assert (value, expires, tag) == cache.get("k", expire_time=True, tag=True)
        assert (value, tag) == (b"new" * LARGE, "new")
        assert not version or cache.set("k", "newer", if_version=version[0])
        assert moments == []

    def test_touch_that_waited_does_not_revive_what_has_expired(self, cache, clock, monkeypatch):
        cache.set("k", 1, expire=10)
        acquire = Gate.acquire

        def wait_long(gate, *args):
            clock.advance(20)
            acquire(gate, *args)

        monkeypatch.setattr(Gate, "acquire", wait_long)

        assert cache.touch("k", expire=100) is False
        assert cache.get("k") is None


def answers(cache, *keys):
    """What each way of reading says of keys, `None` where there is nothing."""
    found = [(cache.get(key), key in cache, cache.get(key, tag=True)[0]) for key in keys]
    assert all(is_in == (value is not None) and again == value for value, is_in, again in found)
    return [value for value, _, _ in found]


class TestTransactions:
    def test_own_writes_are_read_though_others_are_in_memory(self, cache):
        cache.set_many({"a": 1, "b": 2, "c": [3]})
        warm(cache, "a", "b", "c", "missing")
        with cache.transact():
            cache["a"], cache["c"], cache["missing"] = 10, [30], 40
            del cache["b"]
            assert answers(cache, "a", "b", "c", "missing") == [10, None, [30], 40]
            assert cache.incr("a") == 11
            assert cache["a"] == 11
            with cache.transact():
                cache["b"] = 20
                assert answers(cache, "a", "b") == [11, 20]
            assert answers(cache, "b") == [20]

        assert answers(cache, "a", "b", "c", "missing") == [11, 20, [30], 40]

    @pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
    def test_rollback_leaves_what_was_there_before(self, cache, error):
        cache.set_many({"a": 1, "b": 2})
        warm(cache, "a", "b", "missing")
        with pytest.raises(error), cache.transact():
            cache["a"], cache["missing"] = 10, 40
            del cache["b"]
            assert answers(cache, "a", "b", "missing") == [10, None, 40]
            raise error

        assert answers(cache, "a", "b", "missing") == [1, 2, None]
        assert answers(cache, "a", "b", "missing") == [1, 2, None]

    def test_close_in_a_transaction_leaves_what_was_there_before(self, cache):
        cache["a"] = 1
        warm(cache, "a", "missing")
        with pytest.raises(Exception, match="transaction"), cache.transact():
            cache["a"], cache["missing"] = 10, 40
            cache.close()
            assert answers(cache, "a", "missing") == [1, None]

        assert answers(cache, "a", "missing") == [1, None]

    def test_second_object_of_the_same_thread_sees_nothing_uncommitted(self, cache, make_cache):
        other = make_cache()
        assert other._tier is cache._tier
        cache["a"] = 1
        warm(cache, "a", "missing")
        for expected in (10, 11):
            with cache.transact():
                before = answers(other, "a", "missing")
                cache["a"], cache["missing"] = expected, 40
                assert answers(cache, "a", "missing") == [expected, 40]
                assert answers(other, "a", "missing") == before
                assert answers(cache, "a", "missing") == [expected, 40]
                with pytest.raises(GateError):
                    other["a"] = 2

            assert answers(other, "a", "missing") == [expected, 40]

    def test_second_object_reads_though_there_is_no_control_file(self, cache, make_cache, clock):
        other = make_cache()
        cache["a"] = 1
        with cache.transact():
            cache["a"] = 2
            (Path(cache.directory) / "control").unlink()
            clock.advance(1)
            assert other.get("a") == 1

        assert other.get("a") == cache["a"] == 2

    def test_other_threads_see_nothing_uncommitted(self, cache):
        """Whether an entry is in memory or not, and whatever thread put it there."""
        cache.set_many({"a": 1, "b": 2})
        warm(cache, "a", "missing")
        is_written, is_seen = threading.Event(), threading.Event()

        def write():
            for is_committed in (False, True):
                with suppress(ZeroDivisionError), cache.transact():
                    cache["a"], cache["b"], cache["missing"] = 10, 20, 40
                    assert answers(cache, "a", "b", "missing") == [10, 20, 40]
                    is_written.set()
                    assert is_seen.wait(60)
                    is_seen.clear()
                    assert answers(cache, "a", "b", "missing") == [10, 20, 40]
                    if not is_committed:
                        raise ZeroDivisionError
                expected = [10, 20, 40] if is_committed else [1, 2, None]
                assert answers(cache, "a", "b", "missing") == expected

        def read():
            for _ in range(2):
                assert is_written.wait(60)
                is_written.clear()
                for _ in range(3):
                    assert answers(cache, "a", "b", "missing") == [1, 2, None]
                is_seen.set()

        in_threads(write, read)
        assert answers(cache, "a", "b", "missing") == [10, 20, 40]

    def test_fanout_transaction_reads_its_own_writes_and_nothing_else(self, directory, clock):
        with FanoutCache(directory, shards=3, clock=clock) as cache:
            other = FanoutCache(directory, shards=3, clock=clock)
            keys = range(20)
            for key in keys:
                cache[key] = key
            warm(cache, *keys, "missing")
            with suppress(ZeroDivisionError), cache.transact():
                for key in keys:
                    cache[key] = -key - 1
                assert answers(cache, *keys, "missing") == [*(-key - 1 for key in keys), None]
                assert answers(other, *keys) == list(keys)
                raise ZeroDivisionError
            assert answers(cache, *keys, "missing") == [*keys, None]
            with cache.transact():
                cache["missing"] = 1
                assert answers(cache, "missing") == [1]
            assert answers(other, "missing") == [1]
            other.close()

    def test_index_and_deque_transactions_read_their_own_writes(self, tmp_path):
        index, queue = Index(tmp_path / "index", a=1), Deque([1, 2], tmp_path / "queue")
        assert [index["a"], index["a"], queue[0], queue[0], queue[0]] == [1] * 5
        with suppress(ZeroDivisionError), index.transact(), queue.transact():
            index["a"] = 2
            queue[0] = 5
            queue.append(6)
            assert (index["a"], queue[0], queue[-1], len(queue)) == (2, 5, 6, 3)
            raise ZeroDivisionError

        assert (index["a"], index["a"], queue[0], queue[-1], len(queue)) == (1, 1, 1, 2, 2)
        index.cache.close()
        queue.cache.close()


class TestExpiry:
    def test_entry_expires_to_the_microsecond_whatever_the_clock_does(self, make_cache, clock):
        """With and without memory, to and fro."""
        cache, plain = make_cache(), make_cache(memory_limit=0)
        # A time that microseconds can be added to exactly.
        clock.advance(0.5 - clock.time() % 1)
        cache.set("k", 1, expire=8.0)
        warm(cache, "k")
        steps = [7.999999, 0.000001, 1.0, -1.000001, -3.0, 3.000001, -0.000001, 100.0, -100.0, -9.0]
        seen = []
        for step in steps:
            clock.advance(step)
            for _ in range(3):
                assert cache.get("k") == plain.get("k")
                assert ("k" in cache) == ("k" in plain)
            seen.append(cache.get("k"))

        assert seen == [1, None, None, 1, 1, None, 1, None, 1, 1]

    def test_what_expired_and_is_live_again_is_not_missed(self, cache, clock):
        cache.set("k", 1, expire=10)
        clock.advance(11)
        warm(cache, "k", "k")
        clock.advance(-5)

        assert answers(cache, "k") == [1]


def spoil(value):
    """Change a value in place, everywhere it can be changed."""
    if isinstance(value, SimpleNamespace):
        value = vars(value)
    if isinstance(value, (dict, list, tuple)):
        for part in list(value.values() if isinstance(value, dict) else value):
            spoil(part)
    change = {
        dict: lambda: value.update(spoilt=True),
        list: lambda: value.append("spoilt"),
        set: lambda: value.add("spoilt"),
        bytearray: lambda: value.extend(b"spoilt"),
    }
    change.get(type(value), lambda: None)()


class TestEveryCallersOwn:
    VALUES = (
        [1, [2]],
        {"a": {"b": [1]}},
        {1, 2},
        bytearray(b"abc"),
        ([1], {"a": 1}),
        [{"n": number} for number in range(2000)],
        SimpleNamespace(a=[1], b={"c": 1}),
        [SimpleNamespace(a=1)],
        {"x": b"y" * LARGE},
    )

    @pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
    def test_change_by_one_caller_is_seen_by_no_other(self, cache, make_cache, value):
        original, other = copy.deepcopy(value), make_cache()
        cache.set("k", value, tag="t")
        spoil(value)
        for _ in range(4):
            for read in (
                lambda: cache.get("k"),
                lambda: cache["k"],
                lambda: cache.get("k", tag=True)[0],
                lambda: other["k"],
                lambda: cache.get_many(["k"])["k"],
                lambda: dict(cache.items())["k"],
            ):
                found = read()
                assert found == original
                spoil(found)

    @given(
        st.recursive(
            st.none() | st.integers() | st.text() | st.binary() | st.datetimes(),
            lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts) | st.tuples(parts),
            max_leaves=20,
        )
    )
    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_plain_value_is_every_callers_own(self, cache, value):
        original = copy.deepcopy(value)
        cache["k"] = value
        for _ in range(4):
            found = cache["k"]
            assert found == original
            spoil(found)

    def test_moment_with_a_zone_that_can_be_changed_is_every_callers_own(self, cache):
        cache["k"] = datetime(2026, 1, 1, tzinfo=Zone([0]))
        cache["in a tuple"] = (1, datetime(2026, 1, 1, tzinfo=Zone([0])))
        warm(cache, "k", "in a tuple")
        cache["k"].tzinfo.names.append(1)
        cache["in a tuple"][1].tzinfo.names.append(1)

        assert cache["k"].tzinfo.names == [0]
        assert cache["in a tuple"][1].tzinfo.names == [0]


class Zone(tzinfo):
    """A zone with something in it that can be changed."""

    def __init__(self, names=()):
        self.names = list(names)

    def __reduce__(self):
        return Zone, (self.names,)

    def utcoffset(self, _):
        return timedelta(0)


class TestReopening:
    def test_closed_cache_is_not_stale_when_it_is_used_again(self, cache, make_cache):
        cache["k"] = 1
        warm(cache, "k", "missing")
        cache.close()
        other = make_cache()
        other["k"], other["missing"] = 2, 3
        other.close()

        assert answers(cache, "k", "missing") == [2, 3]

    def test_memory_limit_of_zero_reads_what_others_write(self, make_cache):
        cache, other = make_cache(memory_limit=0), make_cache()
        for number in range(5):
            cache["k"] = number
            warm(other, "k")
            assert answers(cache, "k") == answers(other, "k") == [number]

        assert len(cache._tier) == 0


FORK = """
import os, sys
from diskcache import Cache

cache = Cache(sys.argv[1])
cache["a"] = 1
for _ in range(3):
    cache.get("a"), cache.get("missing")
assert len(cache._tier) == 2
there, back = os.pipe(), os.pipe()
pid = os.fork()
ours, theirs = (there, back) if pid else (back, there)

def tell():
    os.write(ours[1], b"x")

def wait():
    os.read(theirs[0], 1)

def both(number):
    return [cache.get("a"), cache["a"], cache.get("missing"), cache.get("missing")] == [
        number, number, -number, -number]

if pid == 0:
    assert len(cache._tier) == 0
    for number in range(2, 42, 2):
        cache["a"], cache["missing"] = number, -number
        tell(); wait()
        assert both(number + 1), (number, cache.get("a"))
    cache.close()
    os._exit(0)
for number in range(2, 42, 2):
    wait()
    assert both(number), (number, cache.get("a"))
    cache["a"], cache["missing"] = number + 1, -number - 1
    assert both(number + 1)
    tell()
assert os.waitpid(pid, 0)[1] == 0
"""


def test_parent_and_child_with_entries_in_memory_see_each_others_writes(directory):
    ended = run_script(FORK, directory)

    assert ended.returncode == 0, ended.stderr
