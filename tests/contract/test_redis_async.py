"""The contract is kept by the cache on a server for event loops."""

from __future__ import annotations

import pytest

from tests.contract import suite, test_async, test_redis
from tests.support.servers import need_server
from tests.support.variants import AWAITED_REMOTE


@pytest.fixture
def variant():
    need_server()
    return AWAITED_REMOTE


_LEASE = "a loop has its lease given back by a thread: the next call still finds it taken"
_PERHAPS_THE_LEASE = (
    "the refresh does not begin; not understood, perhaps the lease of the call before"
)

OTHERWISE = {
    **test_async.OTHERWISE,
    **test_redis.OTHERWISE,
    "Computing.test_get_or_set_of_the_same_key_in_its_function_raises": _LEASE,
    "Computing.test_get_or_set_raises_the_very_exception_of_its_function": _LEASE,
    "Removed.test_value_that_expires_during_a_refresh_is_stored_anew": _PERHAPS_THE_LEASE,
    "Removed.test_value_that_is_removed_during_a_refresh_stays_removed": _PERHAPS_THE_LEASE,
    "Versions.test_update_that_another_write_comes_before_is_tried_again": (
        "its function blocks: it is called in the loop, which stands still"
    ),
}
"""Tests that are not for an event loop, or not for a server, and why."""

globals().update(suite(AWAITED_REMOTE, without=OTHERWISE))
