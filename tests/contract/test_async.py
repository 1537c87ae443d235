"""The contract is kept by the cache for event loops."""

from __future__ import annotations

import pytest

from tests.contract import suite
from tests.support.variants import AWAITED

_NO_STOP_ITERATION = "Python makes a RuntimeError of what a coroutine raises so"

OTHERWISE = {
    "Computing.test_get_or_set_by_threads_shares_a_stop_iteration": _NO_STOP_ITERATION,
    "Computing.test_get_or_set_of_a_coroutine_function_raises": "it is awaited",
    "Computing.test_get_or_set_raises_the_stop_iteration_of_its_function": _NO_STOP_ITERATION,
    "Iteration.test_iter_does_not_see_keys_added_after_the_call": "it begins with the first step",
}
"""Tests of the suite that are not for an event loop, and why."""


@pytest.fixture
def variant():
    return AWAITED


def awaited():
    """Return the classes of the suite, without those tests."""
    classes = suite(AWAITED)
    for name in OTHERWISE:
        group, _, method = name.partition(".")
        assert hasattr(classes[f"Test{group}"], method)
        setattr(classes[f"Test{group}"], method, None)
    return classes


globals().update(awaited())
