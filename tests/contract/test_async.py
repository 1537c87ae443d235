"""The contract is kept by the cache for event loops."""

from __future__ import annotations

import pytest

from tests.contract import suite
from tests.support.variants import AWAITED

SUITE = suite(AWAITED)
# An asynchronous iterator begins when it is asked for the first key, not when it is made.
SUITE["TestIteration"].test_iter_does_not_see_keys_added_after_the_call = None


@pytest.fixture
def variant():
    return AWAITED


globals().update(SUITE)
