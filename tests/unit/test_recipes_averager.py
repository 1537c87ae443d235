"""Averages in one process."""

from __future__ import annotations

import pickle
import threading

import pytest

from diskcache import Averager, KeyInUseError


def test_average_is_that_of_what_was_added(cache):
    averager = Averager(cache, "k")
    for number in range(10):
        averager.add(number)

    assert averager.get() == 4.5
    assert averager.pop() == 4.5
    assert averager.get() is None
    assert averager.pop() is None


def test_entry_is_total_and_count(cache):
    averager = Averager(cache, "k")
    averager.add(1)
    averager.add(2.5)

    assert cache["k"] == (3.5, 2)


def test_entry_has_expire_and_tag_and_its_expiry_starts_anew(cache, clock):
    averager = Averager(cache, "k", expire=10, tag="t")
    averager.add(1)
    clock.advance(6)
    averager.add(3)
    clock.advance(6)

    assert averager.get() == 2
    assert cache.get("k", tag=True)[1] == "t"

    clock.advance(5)

    assert averager.get() is None


def test_averager_survives_pickling(cache):
    Averager(cache, "k").add(5)
    again = pickle.loads(pickle.dumps(Averager(cache, "k", expire=3, tag="t")))

    assert again.get() == 5
    assert (again._expire, again._tag) == (3, "t")
    assert repr(again) == f"Averager({cache!r}, 'k')"
    again._cache.close()


@pytest.mark.parametrize("value", [None, "x", (1,), (1, "x"), 7])
def test_key_of_another_entry_is_refused_and_the_entry_kept(cache, value):
    cache["k"] = value
    averager = Averager(cache, "k")
    for action in (averager.get, averager.pop, lambda: averager.add(1)):
        with pytest.raises(KeyInUseError, match="'k' is not that of an averager"):
            action()

    assert cache["k"] == value


def test_nothing_that_threads_add_is_lost(cache):
    averager = Averager(cache, "k")

    def add():
        for _ in range(50):
            averager.add(2)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert cache["k"] == (400.0, 200)
