"""The contract is kept by a cache on a server that is spread over several slots."""

from __future__ import annotations

import pytest

from tests.contract import suite
from tests.support.servers import need_server
from tests.support.variants import SPREAD


@pytest.fixture
def variant():
    need_server()
    return SPREAD


_PLACE = "expired entries are removed by writes to their own slot"
_QUEUE = "numbers below 10**14, and odd keys, are not in the slot of the queue"
_MANY = "set_many stores the entries of one slot after those of another"

OTHERWISE = {
    "Expiry.test_each_write_of_a_new_entry_removes_expired_ones": _PLACE,
    "Expiry.test_write_removes_expired_entries_oldest_expiry_first": _PLACE,
    "Push.test_push_before_the_first_number_raises_integrity_error": _QUEUE,
    "Push.test_push_behind_a_text_key_without_number_raises_value_error": _QUEUE,
    "Pull.test_pull_takes_any_number_in_the_range": _QUEUE,
    "Iteration.test_iter_of_many_entries_gives_each_once": _MANY,
    "Iteration.test_iter_does_not_see_keys_removed_ahead_of_it": _MANY,
    "KeysValuesItems.test_keys_values_and_items_of_many_entries_give_each_once": _MANY,
}
"""Tests that a cache of several slots does not pass, and why."""

SPREADING = """
    Bulk Clear Counter Cull Evict Expire Expiry Iteration Iterkeys KeysValuesItems Peekitem Pull
    Push Statistics Volume
""".split()
"""Classes of operations on more than one entry: on one, a slot is a slot."""


made = suite(SPREAD, without=OTHERWISE)
globals().update({name: made[name] for name in map("Test{}".format, SPREADING) if name in made})
