"""Rate limits in one process, on a clock that only the test moves."""

from __future__ import annotations

import pickle

import pytest

from diskcache import KeyInUseError, RateLimitError, throttle
from diskcache.entry import GUARD, MODE


@pytest.fixture
def limited(cache):
    """Make a function that may be called twice per ten seconds."""

    def make(**keywords):
        @throttle(cache, 2, 10, name="k", **keywords)
        def work(*args, **kwargs):
            """Work."""
            return args, kwargs

        return work

    return make


def test_calls_within_the_limit_do_not_wait(limited, clock):
    work = limited()
    before = clock.time()

    assert work(1, a=2) == ((1,), {"a": 2})
    assert work() == ((), {})
    assert clock.time() == before
    assert work.__doc__ == "Work."


def test_calls_beyond_the_limit_wait_for_a_token_each(limited, clock):
    work = limited()
    before = clock.time()
    for _ in range(6):
        work()

    assert clock.time() - before == pytest.approx(20)


def test_bucket_holds_no_more_than_count(limited, clock):
    work = limited()
    clock.advance(1000)
    before = clock.time()
    for _ in range(3):
        work()

    assert clock.time() - before == pytest.approx(5)


def test_not_blocking_raises_with_the_time_to_wait(limited, clock):
    work = limited(blocking=False)
    work()
    work()
    clock.advance(1)
    with pytest.raises(RateLimitError, match="'k' was called more than 2 times") as caught:
        work()

    assert caught.value.retry_after == pytest.approx(4)
    assert isinstance(caught.value, RuntimeError)
    assert pickle.loads(pickle.dumps(caught.value)).retry_after == caught.value.retry_after

    clock.advance(caught.value.retry_after)
    work()


def test_decorating_again_does_not_refill_the_bucket(limited):
    work = limited(blocking=False)
    work()
    work()
    with pytest.raises(RateLimitError):
        limited(blocking=False)()


@pytest.mark.parametrize("remove", ["clear", "delete", "expire"])
def test_bucket_that_is_gone_is_full_again(cache, limited, clock, remove):
    work = limited(blocking=False, expire=60)
    work()
    work()
    if remove == "expire":
        cache.touch("k", -1)
    else:
        getattr(cache, remove)(*["k"] * (remove == "delete"))
    work()
    work()
    with pytest.raises(RateLimitError):
        work()


def test_bucket_keeps_tag_and_expiry(cache, limited, clock):
    work = limited(expire=60, tag="t")
    work()
    clock.advance(50)
    work()

    assert cache.get("k", expire_time=True, tag=True)[1:] == (clock.time() + 60, "t")


def test_bucket_is_moment_and_tokens_and_is_not_evicted(cache, limited, clock):
    limited(tag="t")()

    assert cache["k"] == (clock.time(), 1)
    assert cache._engine.get(("k", 1), clock.time())[MODE] & GUARD
    assert cache.evict("t") == 0


def test_clock_that_is_set_back_does_not_stop_calls(limited, clock):
    work = limited()
    work()
    work()
    clock._time -= 86400
    before = clock.time()
    work()

    assert clock.time() - before == pytest.approx(5)


def test_time_and_sleep_functions_are_used(cache):
    now, slept = [0.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    @throttle(cache, 1, 2, time_func=lambda: now[0], sleep_func=sleep)
    def work():
        return now[0]

    assert [work(), work(), work()] == [0, 2, 4]
    assert slept == [2, 2]


def test_error_of_the_sleep_function_gets_out(cache):
    def refuse(seconds):
        raise ZeroDivisionError

    work = throttle(cache, 1, 2, sleep_func=refuse)(lambda: 1)
    work()
    with pytest.raises(ZeroDivisionError):
        work()


def test_key_is_the_full_name_unless_there_is_a_name(cache):
    def work():
        return None

    throttle(cache, 1, 1)(work)
    throttle(cache, 1, 1, name="")(work)

    assert sorted(cache) == ["", f"{__name__}.{work.__qualname__}"]


@pytest.mark.parametrize("value", ["x", (1, "x"), (1, 2, 3), None])
def test_key_of_another_entry_is_refused(cache, limited, value):
    cache["k"] = value
    work = limited()
    with pytest.raises(KeyInUseError, match="'k' is not that of a throttle"):
        work()

    assert cache["k"] == value


@pytest.mark.parametrize(("count", "seconds"), [(0, 1), (0.5, 1), (1, 0), (1, -1)])
def test_limits_that_let_nothing_through_are_refused(cache, count, seconds):
    with pytest.raises(ValueError, match="count must be"):
        throttle(cache, count, seconds)


def test_name_that_is_a_function_is_refused(cache):
    with pytest.raises(TypeError, match="name cannot be callable"):
        throttle(cache, 1, 1, lambda: None)
