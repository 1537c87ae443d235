"""What memory answers is right in transactions, beside them, at expiry, and for every caller."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import datetime, tzinfo
from types import SimpleNamespace

import pytest

from diskcache import Cache, Deque, FanoutCache, Index
from diskcache.engines.sqlite.gate import Gate
from diskcache.errors import GateError
from diskcache.files import ValueFiles
from tests.support.crew import in_threads

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

    def test_touch_that_waited_does_not_revive_what_has_expired(self, cache, clock, monkeypatch):
        cache.set("k", 1, expire=10)
        acquire = Gate.acquire

        def wait_long(gate, *args):
            clock.advance(20)
            acquire(gate, *args)

        monkeypatch.setattr(Gate, "acquire", wait_long)

        assert cache.touch("k", expire=100) is False
        assert cache.get("k") is None
