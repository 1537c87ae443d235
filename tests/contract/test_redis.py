"""The contract is kept by the cache on a server."""

from __future__ import annotations

import pytest

from tests.contract import suite
from tests.support.servers import need_server
from tests.support.variants import REMOTE


@pytest.fixture
def variant():
    need_server()
    return REMOTE


OTHERWISE = {
    "Mapping.test_repr_shows_the_directory": "the class has another name",
    "Lifecycle.test_close_in_another_thread_leaves_this_one_working": "one case is a transaction",
}
"""Tests that a cache on a server does not pass, and why."""

globals().update(suite(REMOTE, without=OTHERWISE))
