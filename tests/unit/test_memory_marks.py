"""Hits that are noted in the marks of what is in memory, by the clocks of the machine."""

import random
import time
from collections import OrderedDict

import pytest

from diskcache import Cache
from diskcache.coherence import FULL
from tests.support.crew import in_threads

RECENTLY, FREQUENTLY = "least-recently-used", "least-frequently-used"


def opened(tmp_path, policy, **settings):
    return Cache(tmp_path / "cache", eviction_policy=policy, **settings)


def counts_of(cache):
    return dict(cache._engine._link().execute("SELECT key, access_count FROM Cache").fetchall())


def warm(cache, *keys):
    for _ in range(3):
        for key in keys:
            cache.get(key)


def test_every_victim_is_the_least_recently_used_entry(tmp_path):
    dice, model = random.Random(5), OrderedDict()
    with opened(tmp_path, RECENTLY, count_limit=8) as cache:
        for step in range(3000):
            if step < 8 or step % 40 == 0:
                cache[f"k{step}"] = model[f"k{step}"] = step
                while len(model) > 8:
                    model.popitem(last=False)
                assert set(cache) == set(model)
            key = dice.choice(list(model))
            assert cache.get(key) == model[key]
            model.move_to_end(key)


def test_every_hit_is_counted_under_least_frequently_used(tmp_path):
    dice = random.Random(5)
    expected = {f"k{number}": 0 for number in range(20)}
    with opened(tmp_path, FREQUENTLY) as cache:
        cache.set_many(dict.fromkeys(expected, 1))
        for step in range(5000):
            key = f"k{int(dice.paretovariate(0.6)) % 20}"
            assert (cache[key] if step % 2 else cache.get(key)) == 1
            expected[key] += 1
            if step % 700 == 699:
                cache.cull()
        cache.cull()

        assert counts_of(cache) == expected


def test_entry_that_is_replaced_begins_to_be_counted_anew(tmp_path):
    with opened(tmp_path, FREQUENTLY) as cache:
        cache["k"] = 1
        warm(cache, "k")
        cache["k"] = 2
        warm(cache, "k")
        cache.get("k")
        cache.cull()

        assert counts_of(cache) == {"k": 4}


def test_hits_that_a_transaction_wrote_down_in_vain_are_noted_still(tmp_path):
    with opened(tmp_path, FREQUENTLY) as cache:
        cache["k"] = 1
        warm(cache, "k", "k")
        with pytest.raises(ZeroDivisionError), cache.transact():
            cache.cull()
            raise ZeroDivisionError
        cache.get("k")
        cache.cull()

        assert counts_of(cache) == {"k": 7}


def test_objects_that_share_memory_note_their_own_hits(tmp_path):
    with opened(tmp_path, FREQUENTLY) as one, opened(tmp_path, FREQUENTLY) as other:
        one["k"] = 1
        warm(one, "k", "k")
        warm(other, "k", "k")

        assert other._tier is one._tier
        other.cull()
        assert counts_of(other) == {"k": 6}
        one.cull()
        assert counts_of(one) == {"k": 12}
        warm(other, "k", "k")
        other.cull()
        assert counts_of(other) == {"k": 18}


def test_marks_are_as_bounded_as_the_reads_that_wait(tmp_path):
    with opened(tmp_path, RECENTLY) as cache:
        cache.set_many((number, number) for number in range(2 * FULL))
        for _ in range(3):
            for number in range(2 * FULL):
                cache.get(number)
                assert len(cache._engine._culler._marks) < FULL


def test_reads_dropped_leave_no_mark_taken(tmp_path):
    with opened(tmp_path, FREQUENTLY) as cache:
        cache["k"] = 1
        warm(cache, "k")
        cache._engine._culler.drop_reads()
        warm(cache, "k")
        cache.cull()

        assert counts_of(cache) == {"k": 3}


def test_clock_that_is_set_leaves_what_was_read_before_where_it_was(tmp_path, monkeypatch):
    set_by = 0.0
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + set_by)
    with opened(tmp_path, RECENTLY, count_limit=5) as cache:
        cache["a"], cache["b"], cache["c"] = 1, 2, 3
        warm(cache, "a", "b")
        cache.get("a")
        cache["d"] = 4
        cache.get("b")
        set_by = 3600.0
        # The first read of this one from memory notices.
        warm(cache, "c", "c")
        cache["e"], cache["f"] = 5, 6

        assert set(cache) == {"b", "c", "d", "e", "f"}


@pytest.mark.usefixtures("no_looks")
def test_policy_that_changes_lets_go_of_what_was_noted(tmp_path):
    with opened(tmp_path, FREQUENTLY) as cache:
        cache["k"] = 1
        warm(cache, "k", "k")
        cache.reset("eviction_policy", RECENTLY)
        warm(cache, "k", "k")

        assert set(cache._engine._culler._marks) == {("k", 1)}
        assert cache._engine._culler._marks["k", 1].counted_by is None


def test_mark_that_is_taken_while_another_thread_writes_reads_down_is_let_go(tmp_path):
    with opened(tmp_path, FREQUENTLY) as cache:
        cache["k"] = 1
        warm(cache, "k")
        cache.cull()
        culler = cache._engine._culler

        class Late(dict):
            def __setitem__(self, key, mark):
                super().__setitem__(key, mark)
                culler._marks = {}

        culler._marks = Late()
        cache.get("k")
        warm(cache, "k", "k")
        cache.cull()

        assert counts_of(cache) == {"k": 10}


def test_threads_that_read_while_others_write_leave_every_mark_of_use(tmp_path):
    with opened(tmp_path, FREQUENTLY) as cache:
        keys = [f"k{number}" for number in range(50)]
        cache.set_many(dict.fromkeys(keys, 1))

        def read():
            for _ in range(40):
                for key in keys:
                    cache.get(key)

        def write():
            for number in range(100):
                cache[f"other {number}"] = 1
                cache.cull()

        in_threads(read, read, read, write)
        cache.cull()
        before = counts_of(cache)
        warm(cache, *keys)
        cache.cull()

        after = counts_of(cache)
        assert [after[key] - before[key] for key in keys] == [3] * len(keys)
