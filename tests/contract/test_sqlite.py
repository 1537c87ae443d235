"""The contract is kept by the cache on SQLite."""

from __future__ import annotations

import pytest

from tests.contract import suite
from tests.support.variants import SQLITE


@pytest.fixture
def variant():
    return SQLITE


globals().update(suite(SQLITE))
