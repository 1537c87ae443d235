"""The contract is kept by a cache on a cluster of three masters.

Left out are classes about one entry, or about how keys, values and tags are encoded: such an
operation is the same bytes to one server, and `test_redis` has them. All of them pass; it takes
half a minute more.
"""

from __future__ import annotations

import pytest

from tests.contract import suite
from tests.contract.test_redis import OTHERWISE as ON_A_SERVER
from tests.contract.test_redis_spread import OTHERWISE as OVER_SLOTS
from tests.contract.test_redis_spread import SPREADING
from tests.support.servers import need_server
from tests.support.variants import CLUSTERED


@pytest.fixture
def variant():
    need_server()
    return CLUSTERED


OTHERWISE = {
    **ON_A_SERVER,
    **OVER_SLOTS,
    "Staleness.test_value_in_grace_is_removed_by_a_write_when_that_is_over": OVER_SLOTS[
        "Expiry.test_each_write_of_a_new_entry_removes_expired_ones"
    ],
}
"""Tests that a cache on a cluster does not pass, and why."""

CLASSES = [*SPREADING, "Add", "Lifecycle", "Memoize", "Pop", "Removed", "Touch", "Versions"]

made = suite(CLUSTERED, without=OTHERWISE)
globals().update({name: made[name] for name in map("Test{}".format, CLASSES) if name in made})
