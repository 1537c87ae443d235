"""The contract is kept by a cache of several shards, where sharding permits.

What needs one order of all entries, or all of them in one place, is tested with a single shard.
"""

from __future__ import annotations

import pytest

from tests.contract import suite
from tests.support.variants import FANOUT, ONE_SHARD

_DATABASES = "databases are in shards"
_ITER = "a shard is looked at when it is reached"
_BESIDE = "files beside the shards are not looked at"

OTHERWISE = {
    "Timeout.test_write_raises_timeout_while_the_lock_is_held": "refusals are results",
    "Timeout.test_bulk_removal_raises_timeout_with_the_count_so_far": "bulk removals wait",
    "Timeout.test_timeout_of_zero_does_not_wait": "refusals are results",
    "Timeout.test_timeout_for_another_thread_of_the_same_object": "refusals are results",
    "Iteration.test_iter_does_not_see_keys_added_after_the_call": _ITER,
    "Construction.test_file_that_is_no_database_raises_database_error_and_is_kept": _DATABASES,
    "Lifecycle.test_reopening_changes_no_file": _DATABASES,
    "Info.test_info_names_the_same_cache_for_every_object": "every shard has an id of its own",
    "Trust.test_signature_holds_for_its_own_key_alone": "every shard has an id of its own",
    "Mapping.test_repr_shows_the_directory": "the class has another name",
    "Check.test_check_does_not_depend_on_the_filters_of_the_caller": _BESIDE,
    "Check.test_check_finds_and_mends_a_file_that_belongs_to_no_entry": _BESIDE,
    "Check.test_check_finds_and_mends_empty_folders": _BESIDE,
}
"""Tests that a `FanoutCache` does not pass, and why."""

IN_ONE_PLACE = """
    Add.test_add_expired_key_stores_value_in_its_place
    Bulk.test_set_many_replaces_and_keeps_places
    Counter.test_incr_live_key_keeps_expiry_tag_and_place
    Cull.test_cull_removes_until_the_volume_is_within_the_limit
    Culling.test_expired_entries_go_first_and_count_against_the_budget
    Culling.test_least_frequently_used_forgets_the_reads_when_set_again
    Culling.test_least_frequently_used_removes_what_was_read_least
    Culling.test_least_recently_stored_ignores_reads
    Culling.test_least_recently_stored_takes_incr_for_stored_anew
    Culling.test_least_recently_stored_takes_set_for_stored_anew
    Culling.test_least_recently_used_spares_what_was_used
    Culling.test_operations_that_are_no_use_spare_nothing
    Culling.test_write_of_values_in_files_keeps_the_volume_near_the_limit
    Culling.test_write_removes_no_more_than_cull_limit
    Culling.test_write_stops_removing_once_the_volume_is_under_the_limit
    Culling.test_write_to_a_full_cache_keeps_the_entry_just_written
    Culling.test_write_to_a_full_cache_removes_the_oldest_of_equals
    Evict.test_evict_removes_the_entries_of_the_tag_and_returns_the_count
    Expiry.test_each_write_of_a_new_entry_removes_expired_ones
    Expiry.test_expired_entries_are_counted_until_removed
    Expiry.test_write_removes_expired_entries_oldest_expiry_first
    Expiry.test_write_with_cull_limit_zero_removes_nothing
    Iteration.test_delete_and_set_again_moves_the_key_last
    Iteration.test_iter_does_not_see_keys_removed_ahead_of_it
    Iteration.test_iter_gives_keys_in_insertion_order
    Iteration.test_iter_of_many_entries_gives_each_once
    Iteration.test_iter_while_adding_keys_ends
    Iteration.test_two_iterators_do_not_disturb_each_other
    KeysValuesItems.test_keys_values_and_items_of_many_entries_give_each_once
    Lifecycle.test_entries_survive_closing
    Peekitem.test_peekitem_removes_expired_entries_that_it_meets
    Peekitem.test_peekitem_returns_the_last_entry_by_default
    Policy.test_policy_made_by_the_user_decides
    Policy.test_reset_to_another_policy_takes_effect
    Pull.test_pull_takes_any_number_in_the_range
    Push.test_push_at_the_ends_makes_no_key_that_pull_cannot_see
    Push.test_push_before_the_first_number_raises_integrity_error
    Push.test_push_behind_the_last_number_raises_integrity_error
    Push.test_push_counts_from_any_number_in_the_range
    Readonly.test_readonly_reads
    Set.test_set_existing_key_keeps_its_place
    Set.test_set_expired_key_keeps_its_place
    Timeout.test_reads_need_no_lock
    Touch.test_touch_keeps_value_tag_and_place
    Transact.test_transact_nested_error_caught_outside_keeps_the_writes
    Transact.test_transact_reads_its_own_writes
""".split()
"""Tests of order, of numbering, or of what a single write culls."""


@pytest.fixture
def variant():
    return FANOUT


@pytest.fixture
def one_shard(self):
    return ONE_SHARD


def gathered():
    """Return the classes with nothing but the tests that need one place."""
    for name, contract in suite(ONE_SHARD).items():
        wanted = {
            test.partition(".")[2] for test in IN_ONE_PLACE if f"Test{test}".startswith(f"{name}.")
        }
        for method in dir(contract):
            if method.startswith("test_") and method not in wanted:
                setattr(contract, method, None)
        if wanted:
            contract.variant = one_shard
            yield f"{name}InOneShard", contract


globals().update(suite(FANOUT, without=[*OTHERWISE, *IN_ONE_PLACE]))
globals().update(gathered())


@pytest.mark.parametrize("test", [*OTHERWISE, *IN_ONE_PLACE])
def test_that_is_treated_differently_is_there(test):
    group, _, method = test.partition(".")

    assert hasattr(suite(FANOUT)[f"Test{group}"], method)
