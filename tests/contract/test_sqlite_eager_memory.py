"""The contract is kept where every second read comes from memory."""

from __future__ import annotations

import pytest

from tests.contract import suite
from tests.support.variants import EAGER


@pytest.fixture
def variant():
    return EAGER


globals().update(suite(EAGER))
