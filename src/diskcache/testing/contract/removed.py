"""What is removed or replaced while its value is computed anew: who does that has the last word.

Time passes by the clock of the test alone.
"""

from __future__ import annotations

import threading
import time

import pytest

from diskcache.testing.contract import Contract
from diskcache.testing.contract.together import expected, until_landed


class NotFoundError(LookupError):
    """An error of the user's."""


def evicted_meanwhile(cache, clock, seconds):
    """Ask for a value in grace, which its function evicts before it computes a new one.

    Return what is found, and whether it was evicted before the soft timeout of so many seconds.
    """
    evicted, is_found = [], threading.Event()

    def slow():
        cache.evict("t")
        evicted.append(time.monotonic())
        deadline = time.monotonic() + 60
        # Who asks waits once until the time is over, and a second time for the new value.
        while expected() < 2 and not is_found.wait(0.001):
            assert time.monotonic() < deadline, "nobody waits"
        return "new"

    cache.set("k", "old", expire=10, tag="t", grace=60)
    clock.advance(11)
    began = time.monotonic()
    found = cache.get_or_set("k", slow, expire=10, grace=60, soft_timeout=seconds)
    is_found.set()
    until_landed()
    return found, evicted[0] - began < seconds


class RemovedContract(Contract):
    def test_value_that_is_deleted_while_its_function_fails_is_not_served(self, cache, clock):
        cache.set("k", "old", expire=10, grace=60)
        clock.advance(11)

        def fail():
            assert not cache.delete("k")
            raise NotFoundError

        with pytest.raises(NotFoundError):
            cache.get_or_set("k", fail, expire=10, grace=60)

    def test_value_that_is_replaced_while_its_function_fails_is_served(self, cache, clock):
        cache.set("k", "old", expire=10, grace=60)
        clock.advance(11)

        def fail():
            cache.set("k", "other")
            raise NotFoundError

        assert cache.get_or_set("k", fail, expire=10, grace=60) == "other"

    def test_value_that_is_evicted_before_the_soft_timeout_is_not_served(self, cache, clock):
        # A machine that is held up may be late to evict: then all is tried again, with more time.
        for seconds in (0.2, 2, 20):
            found, is_in_time = evicted_meanwhile(cache, clock, seconds)
            if is_in_time:
                break

        assert (found, is_in_time) == ("new", True)

    @pytest.mark.parametrize("forget", ["delete", "evict", "set"])
    def test_value_that_is_removed_during_a_refresh_stays_removed(self, cache, clock, forget):
        calls, begun, go_on = [], threading.Event(), threading.Event()

        def function():
            if not calls:
                calls.append(1)
                return "old"
            begun.set()
            assert go_on.wait(60)
            return "made of what was there before"

        for seconds in (0, 9):
            clock.advance(seconds)
            found = cache.get_or_set("k", function, expire=10, tag="t", refresh=0.8)
            assert found == "old"
        assert begun.wait(60)
        if forget == "set":
            cache.set("k", "set meanwhile")
        else:
            getattr(cache, forget)("t" if forget == "evict" else "k")
        go_on.set()
        until_landed()

        assert cache.get("k") == ("set meanwhile" if forget == "set" else None)

    def test_value_that_expires_during_a_refresh_is_stored_anew(self, cache, clock):
        calls, begun, go_on = [], threading.Event(), threading.Event()

        def function():
            if not calls:
                calls.append(1)
                return "old"
            begun.set()
            assert go_on.wait(60)
            return "new"

        for seconds in (0, 9):
            clock.advance(seconds)
            cache.get_or_set("k", function, expire=10, refresh=0.8)
        assert begun.wait(60)
        clock.advance(9)
        go_on.set()
        until_landed()

        assert cache["k"] == "new"
