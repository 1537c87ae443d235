"""Results that are renewed before they expire, in one process."""

from __future__ import annotations

import random
import threading

import pytest

from diskcache import ENOVAL, memoize_stampede
from diskcache.background import Background
from diskcache.recipes import stampede


class Work:
    """A function that takes ten seconds of a manual clock, and counts its calls."""

    def __init__(self, clock):
        self.clock = clock
        self.calls = []
        self.error = None

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        self.clock.advance(10)
        if self.error:
            raise self.error
        return len(self.calls)


@pytest.fixture
def work(clock):
    return Work(clock)


@pytest.fixture
def draw(monkeypatch):
    """Decide what the next random numbers are."""

    def draw(number):
        monkeypatch.setattr(random, "random", lambda: number)

    draw(0.0)
    return draw


@pytest.fixture
def renewing():
    """Wait for what is computed in the background."""

    def wait():
        for thread in threading.enumerate():
            if thread.name.startswith("renewing"):
                thread.join(60)

    yield wait
    wait()


EARLY = 1 - 1e-9  # ln(1e-9) is about -20.7: renewed when less than 207 seconds are left
SURE = 0.0  # ln(1) is 0: renewed when nothing is left, that is, never


def test_miss_computes_in_the_caller_and_hit_does_not(cache, work, draw):
    function = memoize_stampede(cache, expire=1000, name="f")(work)

    assert [function(1), function(1), function(2)] == [1, 1, 2]
    assert work.calls == [((1,), {}), ((2,), {})]


def test_entry_is_result_and_seconds_with_expiry_and_tag(cache, clock, work, draw):
    function = memoize_stampede(cache, expire=1000, name="f", tag="t")(work)
    function(1)

    key = function.__cache_key__(1)

    assert key == ("f", 1, None)
    assert cache.get(key, expire_time=True, tag=True) == ((1, 10.0), clock.time() + 1000, "t")


def test_metadata_of_the_function_is_kept(cache):
    @memoize_stampede(cache, 60)
    def function():
        """Return one."""
        return 1

    assert (function.__name__, function.__doc__) == ("function", "Return one.")
    assert function.__cache_key__() == (f"{__name__}.{function.__qualname__}", None)
    assert function.__wrapped__() == 1


def test_none_is_a_result(cache, clock, draw):
    calls = []
    function = memoize_stampede(cache, 60, name="f")(lambda: calls.append(1))

    assert (function(), function()) == (None, None)
    assert calls == [1]


def test_hit_near_expiry_returns_the_old_result_and_renews_it(cache, clock, work, draw, renewing):
    function = memoize_stampede(cache, expire=1000, name="f", tag="t")(work)
    function()
    clock.advance(800)
    draw(EARLY)

    assert function() == 1

    renewing()
    draw(SURE)

    assert function() == 2
    assert cache.get(("f", None), expire_time=True, tag=True)[1:] == (clock.time() + 1000, "t")


@pytest.mark.parametrize(
    ("beta", "left", "renewed"),
    [(1, 208, False), (1, 206, True), (2, 413, True), (2, 416, False), (0, 1, False)],
)
def test_renewal_follows_the_formula(cache, clock, work, draw, renewing, beta, left, renewed):
    function = memoize_stampede(cache, expire=1000, name="f", beta=beta)(work)
    function()
    clock.advance(1000 - left)
    draw(EARLY)
    function()
    renewing()

    assert len(work.calls) == 1 + renewed


def test_random_number_of_zero_never_renews_and_is_no_error(cache, clock, work, draw, renewing):
    function = memoize_stampede(cache, expire=1000, name="f")(work)
    function()
    draw(0.0)
    clock.advance(999.999)

    assert function() == 1
    assert len(work.calls) == 1


@pytest.mark.parametrize(("beta", "renewed"), [(1, True), (0, False)])
def test_random_number_of_one_renews_unless_never_and_is_no_error(
    cache, clock, work, draw, renewing, beta, renewed
):
    function = memoize_stampede(cache, expire=1000, name="f", beta=beta)(work)
    function()
    draw(1.0)

    assert function() == 1
    renewing()
    assert len(work.calls) == 1 + renewed


def test_no_expiry_is_never_early(cache, clock, work, draw, renewing):
    function = memoize_stampede(cache, expire=None, name="f")(work)
    function()
    draw(1 - 1e-16)
    clock.advance(10**9)

    assert function() == 1
    assert cache.get(("f", None), expire_time=True)[1] is None


@pytest.mark.parametrize("expire", [0, -1])
def test_expire_not_above_zero_stores_nothing(cache, work, draw, expire):
    function = memoize_stampede(cache, expire=expire, name="f")(work)

    assert [function(), function()] == [1, 2]
    assert len(cache) == 0


def test_one_renewal_per_duration_is_started(cache, clock, work, draw, monkeypatch):
    started = []

    def start(work, may_start, name):
        if may_start():
            started.append(work)

    monkeypatch.setattr(stampede.background, "start", start)
    function = memoize_stampede(cache, expire=1000, name="f")(work)
    function()
    clock.advance(900)
    draw(EARLY)
    for _ in range(5):
        function()

    assert len(started) == 1
    assert ("f", None, ENOVAL) in cache

    clock.advance(11)
    function()

    assert len(started) == 2


def test_guard_is_not_evicted(cache, clock, work, draw, monkeypatch):
    monkeypatch.setattr(stampede.background, "start", lambda *args: args[1]())
    function = memoize_stampede(cache, expire=1000, name="f")(work)
    function()
    clock.advance(900)
    draw(EARLY)
    function()
    cache.evict(None)

    assert list(cache) == [("f", None, ENOVAL)]


def test_renewals_of_a_process_are_bounded(cache, clock, work, draw, monkeypatch, renewing):
    monkeypatch.setattr(stampede, "background", Background(1))
    release, entered = threading.Event(), threading.Event()
    function = memoize_stampede(cache, expire=1000, name="f")(work)
    function(1)
    function(2)
    clock.advance(900)
    draw(EARLY)
    monkeypatch.setattr(clock, "advance", lambda _: (entered.set(), release.wait(60)))
    function(1)
    entered.wait(60)
    function(2)

    assert len([t for t in threading.enumerate() if t.name.startswith("renewing")]) == 1
    assert ("f", 2, None, ENOVAL) not in cache

    release.set()
    renewing()
    function(2)
    renewing()

    assert len(work.calls) == 4


def test_renewal_thread_is_waited_for_at_exit_and_closes_its_connection(
    cache, clock, draw, renewing
):
    seen = []

    def result():
        seen.append(threading.current_thread().daemon)
        clock.advance(10)
        return 1

    function = memoize_stampede(cache, expire=1000, name="f")(result)
    function()
    clock.advance(900)
    draw(EARLY)
    before = len(cache._engine._local.link.site.links)
    function()
    renewing()

    assert seen[1:] == [False]
    assert len(cache._engine._local.link.site.links) == before


def test_error_in_the_background_is_reported_and_the_result_stays(
    cache, clock, work, draw, renewing, monkeypatch
):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    function = memoize_stampede(cache, expire=1000, name="f")(work)
    function()
    clock.advance(900)
    draw(EARLY)
    work.error = ZeroDivisionError()
    function()
    renewing()
    draw(SURE)

    assert [report.exc_type for report in reported] == [ZeroDivisionError]
    assert function() == 1


def test_hit_does_not_wait_for_the_write_lock(cache, clock, work, draw, make_cache):
    function = memoize_stampede(cache, expire=1000, name="f")(work)
    function()
    clock.advance(900)
    draw(EARLY)
    other = make_cache()
    entered, leave = threading.Event(), threading.Event()

    def write():
        with other.transact():
            entered.set()
            leave.wait(60)
        other.close()

    thread = threading.Thread(target=write)
    thread.start()
    entered.wait(60)
    before = clock.monotonic()

    assert function() == 1
    assert clock.monotonic() == before

    leave.set()
    thread.join(60)

    assert len(work.calls) == 1


def test_no_thread_to_be_had_is_no_error(cache, clock, work, draw, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(stampede, "background", Background(1))
    function = memoize_stampede(cache, expire=1000, name="f")(work)
    function()
    clock.advance(900)
    draw(EARLY)

    assert function() == 1
    assert function() == 1


def test_entry_that_is_no_pair_is_computed_anew(cache, work, draw):
    cache[("f", None)] = "something else"
    function = memoize_stampede(cache, expire=1000, name="f")(work)

    assert function() == 1
    assert cache["f", None] == (1, 10.0)


def test_ignored_argument_is_left_out_either_way(cache, draw):
    @memoize_stampede(cache, 60, ignore={"debug"})
    def function(number, debug=False):
        return number, debug

    assert function(1, True) == function(1, debug=False) == function(1) == (1, True)


def test_name_that_is_a_function_is_refused(cache):
    with pytest.raises(TypeError, match="name cannot be callable"):
        memoize_stampede(cache, 60, lambda: None)
