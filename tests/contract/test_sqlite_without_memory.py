"""The contract is kept where every read goes to the database."""

from __future__ import annotations

import pytest

from tests.contract import suite
from tests.support.variants import WITHOUT_MEMORY


@pytest.fixture
def variant():
    return WITHOUT_MEMORY


globals().update(suite(WITHOUT_MEMORY))
