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


OTHERWISE = {
    **test_async.OTHERWISE,
    **test_redis.OTHERWISE,
    "Versions.test_update_that_another_write_comes_before_is_tried_again": (
        "its function blocks: it is called in the loop, which stands still"
    ),
}
"""Tests that are not for an event loop, or not for a server, and why."""

globals().update(suite(AWAITED_REMOTE, without=OTHERWISE))
