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


globals().update(suite(REMOTE))
