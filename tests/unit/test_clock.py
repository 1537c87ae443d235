"""The machine's clock, as the library asks it."""

from __future__ import annotations

import time

import pytest

from diskcache.clock import SYSTEM_CLOCK
from tests.support.clock import ManualClock


@pytest.mark.parametrize("name", ["time", "monotonic"])
def test_system_clock_looks_the_function_up_at_each_call(monkeypatch, name):
    monkeypatch.setattr(time, name, lambda: 1234.5)

    assert getattr(SYSTEM_CLOCK, name)() == 1234.5


def test_system_clock_sleeps_as_long_as_asked(monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    SYSTEM_CLOCK.sleep(3)

    assert slept == [3]


def test_cache_on_the_system_clock_follows_a_replaced_time(make_cache, monkeypatch):
    cache = make_cache(clock=SYSTEM_CLOCK)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    cache.set("a", 1, expire=10)
    monkeypatch.setattr(time, "time", lambda: now + 9)

    assert cache["a"] == 1

    monkeypatch.setattr(time, "time", lambda: now + 11)

    assert "a" not in cache


def test_manual_clock_passes_time_only_when_told():
    clock = ManualClock(start=100)

    assert (clock.time(), clock.time()) == (100, 100)

    clock.advance(5)
    clock.sleep(2)

    assert clock.time() == 107


def test_manual_clock_set_back_keeps_its_monotonic_time():
    clock = ManualClock(start=100)
    before = clock.monotonic()
    clock.advance(-50)

    assert clock.time() == 50
    assert clock.monotonic() == before
