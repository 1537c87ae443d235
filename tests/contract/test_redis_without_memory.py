"""The contract is kept by the cache on a server where every read goes to the server."""

from __future__ import annotations

import pytest

from tests.contract import suite
from tests.contract.test_redis import OTHERWISE
from tests.support.servers import need_server
from tests.support.variants import REMOTE_WITHOUT_MEMORY


@pytest.fixture
def variant():
    need_server()
    return REMOTE_WITHOUT_MEMORY


globals().update(suite(REMOTE_WITHOUT_MEMORY, without=OTHERWISE))
