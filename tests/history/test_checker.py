"""The checker rejects what one cache that is never stale cannot do, and accepts what it can."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.history.checker import SLACK, check
from tests.history.records import (
    ADD,
    CLEARED,
    DELETE,
    EVICTED,
    GET,
    IN,
    INCR,
    KEYED,
    NOTHING,
    POP,
    SET,
    TOUCH,
    UNDONE,
    Operation,
    Part,
    Recorder,
    read,
)

MS = 1_000_000
DEATH = 1000 * MS


def op(invoked, responded, *parts, kind=KEYED):
    """An operation; times are in milliseconds; 0 means that it did not respond."""
    return Operation(kind, 0, invoked * MS, responded * MS, parts)


def one(invoked, responded, action, argument=0, result=NOTHING, expire=None, kind=KEYED):
    return op(invoked, responded, Part(0, action, argument, result, expire), kind=kind)


def is_possible(*operations, keys=1, vanishing=False, death=DEATH):
    given = [(operation, death) for operation in operations]
    return check(given, 0, keys, vanishing=vanishing) is None


SET_1, SET_2 = one(1, 2, SET, 1, 1), one(3, 4, SET, 2, 1)


class TestRejects:
    def test_stale_read(self):
        assert not is_possible(SET_1, SET_2, one(5, 6, GET, 0, 1))

    def test_stale_miss(self):
        assert not is_possible(SET_1, one(3, 4, GET, 0, NOTHING))
        assert not is_possible(SET_1, one(3, 4, IN, 0, 0))

    def test_value_seen_before_an_older_one(self):
        """Both reads overlap the write, but not each other."""
        write = one(1, 100, SET, 1, 1)
        assert not is_possible(write, one(2, 3, GET, 0, 1), one(4, 5, GET, 0, NOTHING))

    def test_value_that_nobody_has_stored(self):
        assert not is_possible(SET_1, one(3, 4, GET, 0, 9))

    def test_value_read_before_it_is_stored(self):
        assert not is_possible(one(1, 2, GET, 0, 1), one(3, 4, SET, 1, 1))

    def test_lost_update(self):
        assert not is_possible(one(1, 3, INCR, 1, 1), one(2, 4, INCR, 1, 1))
        assert not is_possible(SET_1, one(3, 4, INCR, 5, 5))

    def test_add_that_two_have_won(self):
        assert not is_possible(one(1, 3, ADD, 1, 1), one(2, 4, ADD, 2, 1))

    def test_add_that_nobody_has_won(self):
        assert not is_possible(one(1, 3, ADD, 1, 0), one(2, 4, ADD, 2, 0))

    def test_value_that_two_have_taken(self):
        assert not is_possible(SET_1, one(3, 5, POP, 0, 1), one(4, 6, POP, 0, 1))

    @pytest.mark.parametrize(
        "removal",
        [
            one(3, 4, DELETE, 0, 1),
            one(3, 4, CLEARED, kind=CLEARED),
            one(3, 4, 0, 1, kind=EVICTED),
        ],
    )
    def test_resurrected_value(self, removal):
        assert not is_possible(SET_1, removal, one(5, 6, GET, 0, 1))

    def test_removal_that_did_not_find_what_was_there(self):
        assert not is_possible(SET_1, one(3, 4, DELETE, 0, 0))

    def test_value_evicted_by_the_tag_of_another(self):
        assert not is_possible(SET_1, one(3, 4, 0, 2, kind=EVICTED), one(5, 6, GET, 0, NOTHING))

    def test_expired_value(self):
        stored = one(1, 2, SET, 1, 1, 10)
        assert not is_possible(stored, one(14, 15, GET, 0, 1))

    def test_value_that_expires_too_early(self):
        stored = one(1, 2, SET, 1, 1, 10)
        assert not is_possible(stored, one(5, 6, GET, 0, NOTHING))

    def test_expired_value_that_is_touched_back_to_life(self):
        stored, missed = one(1, 2, SET, 1, 1, 10), one(15, 16, GET, 0, NOTHING)
        assert not is_possible(stored, missed, one(17, 18, TOUCH, 0, 1, 50))
        assert not is_possible(stored, missed, one(14, 30, TOUCH, 0, 1, 50))

    def test_torn_transaction(self):
        both = op(1, 2, Part(0, SET, 1, 1), Part(1, SET, 2, 1))
        half = op(1, 2, Part(0, GET, 0, 1), Part(1, GET, 0, NOTHING))
        assert not is_possible(both, half, keys=2)

    def test_transaction_of_which_half_is_seen_first(self):
        both = op(1, 9, Part(0, SET, 1, 1), Part(1, SET, 2, 1))
        first = op(2, 3, Part(0, GET, 0, 1))
        second = op(4, 5, Part(1, GET, 0, NOTHING))
        assert not is_possible(both, first, second, keys=2)

    def test_transaction_that_does_not_read_its_own_write(self):
        assert not is_possible(SET_1, op(3, 4, Part(0, SET, 2, 1), Part(0, GET, 0, 1)))

    def test_transaction_that_another_one_cut_into(self):
        apart = op(5, 9, Part(0, GET, 0, 1), Part(0, GET, 0, 2))
        assert not is_possible(SET_1, one(6, 7, SET, 2, 1), apart)

    def test_write_of_a_transaction_that_was_rolled_back(self):
        undone = op(3, 4, Part(0, SET, 2, 1), kind=UNDONE)
        assert not is_possible(SET_1, undone, one(5, 6, GET, 0, 2))

    def test_write_that_happened_after_the_death_of_its_writer(self):
        killed = one(3, 0, SET, 2)
        old, new = one(12, 13, GET, 0, 1), one(14, 15, GET, 0, 2)
        assert is_possible(SET_1, killed, old, new, death=20 * MS)
        assert not is_possible(SET_1, killed, old, new, death=10 * MS)

    def test_value_that_comes_back_after_it_was_culled(self):
        gone, back = one(3, 4, GET, 0, NOTHING), one(5, 6, GET, 0, 1)
        assert not is_possible(SET_1, gone, back, vanishing=True)

    def test_one_error_among_many_operations(self):
        history = []
        for number in range(1, 400):
            at = 10 * number
            history += [one(at, at + 2, SET, number, 1), one(at + 1, at + 3, GET, 0, number)]
        assert is_possible(*history, death=10**6 * MS)
        wrong = one(2005, 2006, GET, 0, 199)
        violation = check([(o, DEATH) for o in [*history, wrong]], 7, 1)

        assert violation is not None
        assert violation.step.parts == wrong.parts
        assert "group 7: nothing explains [-1000000 .. 0] get(key 0" in str(violation)


class TestAccepts:
    def test_read_that_overlaps_a_write_sees_either(self):
        for number in (1, 2):
            assert is_possible(SET_1, one(3, 6, SET, 2, 1), one(4, 5, GET, 0, number))

    def test_writes_that_overlap_happen_in_either_order(self):
        for number in (2, 3):
            writes = one(3, 6, SET, 2, 1), one(4, 5, SET, 3, 1)
            assert is_possible(SET_1, *writes, one(7, 8, GET, 0, number))

    def test_order_that_only_results_tell(self):
        """It takes a write that responds late between two that responded early."""
        late = one(1, 20, SET, 9, 1)
        assert is_possible(late, SET_1, one(5, 6, GET, 0, 9), SET_2, one(7, 8, INCR, 1, 10))

    def test_counts_that_overlap(self):
        assert is_possible(one(1, 9, INCR, 1, 3), one(2, 8, INCR, 1, 2), one(3, 7, INCR, 1, 1))

    @pytest.mark.parametrize("result", [1, 2])
    def test_killed_write_happened_or_not(self, result):
        assert is_possible(SET_1, one(3, 0, SET, 2), one(5, 6, GET, 0, result))

    @pytest.mark.parametrize("action", [DELETE, POP])
    @pytest.mark.parametrize("result", [1, NOTHING])
    def test_killed_removal_happened_or_not(self, action, result):
        assert is_possible(SET_1, one(3, 0, action), one(5, 6, GET, 0, result))

    def test_value_is_there_or_not_at_the_moment_it_expires(self):
        stored = one(1, 2, SET, 1, 1, 10)
        for result in (1, NOTHING):
            assert is_possible(stored, one(11, 13, GET, 0, result))
        assert is_possible(stored, one(13 + SLACK // MS, 14, GET, 0, NOTHING))

    def test_touched_value_expires_later(self):
        stored, touched = one(1, 2, SET, 1, 1, 10), one(3, 4, TOUCH, 0, 1, 50)
        assert is_possible(stored, touched, one(40, 41, GET, 0, 1), one(60, 61, IN, 0, 0))

    def test_touch_that_began_before_the_expiry_may_judge_before_it(self):
        stored, missed = one(1, 2, SET, 1, 1, 10), one(15, 16, GET, 0, NOTHING)
        touched = one(3, 30, TOUCH, 0, 1, 50)
        assert is_possible(stored, touched, missed, one(31, 32, GET, 0, 1))
        assert not is_possible(stored, touched, missed, one(31, 32, GET, 0, NOTHING))

    def test_value_stored_while_all_is_cleared_stays_or_not(self):
        cleared = one(1, 9, CLEARED, kind=CLEARED)
        for result in (2, NOTHING):
            assert is_possible(cleared, SET_2, one(10, 11, GET, 0, result))

    def test_transaction_is_seen_whole_or_not_at_all(self):
        both = op(1, 9, Part(0, SET, 1, 1), Part(1, SET, 2, 1))
        for results in [(1, 2), (NOTHING, NOTHING)]:
            seen = op(2, 3, *(Part(key, GET, 0, result) for key, result in enumerate(results)))
            assert is_possible(both, seen, keys=2)

    def test_culled_value_vanishes(self):
        assert is_possible(SET_1, one(3, 4, GET, 0, NOTHING), vanishing=True)

    def test_vanished_value_can_be_added_again(self):
        history = (SET_1, one(3, 4, ADD, 2, 1), one(5, 6, GET, 0, 2))
        assert is_possible(*history, vanishing=True)
        assert not is_possible(*history)


def test_records_are_read_as_they_were_written(tmp_path):
    recorder = Recorder(tmp_path / "records", 2**16)
    recorder.begin(3, 1, SET, 2**40, expire=0)
    recorder.end(True)
    recorder.open(5)
    recorder.part(Part(0, GET, 0, 7))
    recorder.part(Part(2, SET, 9, 1, 20))
    recorder.close(UNDONE)
    recorder.open(6)
    recorder.part(Part(0, GET))
    recorder.part(Part(1, GET))
    recorder.results([4, 5])
    recorder.close()
    recorder.begin(3, 1, POP)
    found = list(read(tmp_path / "records"))

    assert [(o.kind, o.group, o.parts) for o in found] == [
        (KEYED, 3, (Part(1, SET, 2**40, 1, 0),)),
        (UNDONE, 5, (Part(0, GET, 0, 7), Part(2, SET, 9, 1, 20))),
        (KEYED, 6, (Part(0, GET, 0, 4), Part(1, GET, 0, 5))),
        (KEYED, 3, (Part(1, POP),)),
    ]
    assert [bool(o.responded) for o in found] == [True, True, True, False]
    assert all(a.invoked <= a.responded <= b.invoked for a, b in pairwise(found))
