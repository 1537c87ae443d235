"""The contract is kept by the cache on a server, where memory answers the second read."""

from __future__ import annotations

import pytest

from tests.contract import suite
from tests.support.servers import need_server
from tests.support.variants import REMOTE_EAGER


@pytest.fixture
def variant():
    need_server()
    return REMOTE_EAGER


OTHERWISE = {
    "Mapping.test_repr_shows_the_directory": "the class has another name",
    "Lifecycle.test_close_in_another_thread_leaves_this_one_working": "one case is a transaction",
    "Events.test_listener_may_use_the_cache_and_is_not_told_of_that": "it begins a transaction",
    "Events.test_set_many_tells_nothing_of_what_is_too_large": "the server has the limit",
    "Events.test_cull_tells_how_many": "the server culls",
    "Events.test_write_that_culls_tells_how_many": "the server culls",
    "Events.test_write_that_removes_expired_entries_tells_how_many": "the server does",
}
"""Tests that a cache on a server does not pass, and why."""

globals().update(suite(REMOTE_EAGER, without=OTHERWISE))
