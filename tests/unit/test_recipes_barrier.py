"""Functions behind a lock, in one process."""

from __future__ import annotations

import functools

import pytest

from diskcache import BoundedSemaphore, Lock, RLock, barrier


def test_call_holds_the_lock_and_passes_everything_on(cache):
    @barrier(cache, Lock, name="k")
    def work(*args, **kwargs):
        """Work."""
        return Lock(cache, "k").locked(), args, kwargs

    assert work(1, a=2) == (True, (1,), {"a": 2})
    assert not Lock(cache, "k").locked()
    assert (work.__name__, work.__doc__) == ("work", "Work.")
    assert callable(work.__wrapped__)


def test_lock_is_released_when_the_function_raises(cache):
    @barrier(cache, Lock, name="k")
    def work():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()

    assert not Lock(cache, "k").locked()


def test_key_is_the_full_name_unless_there_is_a_name(cache):
    made = []

    def factory(cache, key, expire=None, tag=None):
        made.append((key, expire, tag))
        return Lock(cache, key, expire=expire, tag=tag)

    def work():
        return None

    barrier(cache, factory, expire=3, tag="t")(work)
    barrier(cache, factory, name="")(work)

    assert made == [(f"{__name__}.{work.__qualname__}", 3, "t"), ("", None, None)]


def test_recursion_works_with_a_lock_that_allows_it(cache):
    @barrier(cache, RLock)
    def factorial(number, again):
        return 1 if number < 2 else number * again(number - 1, again)

    assert factorial(5, factorial) == 120
    assert len(cache) == 0


def test_semaphore_lets_several_through(cache):
    @barrier(cache, functools.partial(BoundedSemaphore, value=2), name="k")
    def outer():
        return inner()

    @barrier(cache, functools.partial(BoundedSemaphore, value=2), name="k")
    def inner():
        return BoundedSemaphore(cache, "k", value=2).locked()

    assert outer() is True


def test_name_that_is_a_function_is_refused(cache):
    with pytest.raises(TypeError, match="name cannot be callable"):
        barrier(cache, Lock, lambda: None)
