"""What a process stores of what it has asked for is in its memory at once, and nothing else is."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from diskcache import FanoutCache
from diskcache.memory.tier import DECODE, GENERATION, SLOT, SOURCE
from tests.support.crew import run_script

LARGE = 40_000
KEPT = [
    5,
    "text",
    "täxt\0",
    b"bytes",
    None,
    True,
    (1, "a", 0.5),
    {"a": [1]},
    datetime(2024, 2, 29, tzinfo=UTC),
    2**70,
]
NOT_KEPT = [0.5, -0.0, b"x" * LARGE]


# Time alone would have a read go to the database, and a write take the long way.
pytestmark = pytest.mark.usefixtures("no_looks")


def reads_of(cache):
    """Return the list that the reads of this thread will be in."""
    seen = []

    def note(_cursor, statement, _bindings):
        if statement.startswith("SELECT mode"):
            seen.append(statement)
        return True

    cache._engine._link().con.exec_trace = note
    return seen


@pytest.fixture
def used(cache):
    """A cache whose next write is a short one."""
    cache["first"] = cache["second"] = 1
    return cache


@pytest.mark.parametrize("value", KEPT, ids=str)
def test_set_of_a_key_that_was_missed_is_a_hit_afterwards(used, value):
    used.get("k")
    used.set("k", value)
    reads = reads_of(used)

    assert used.get("k") == used["k"] == value
    assert type(used.get("k")) is type(value)
    assert "k" in used
    assert reads == []


@pytest.mark.parametrize("value", NOT_KEPT, ids=lambda value: repr(value)[:6])
def test_set_of_what_may_read_otherwise_is_read_from_the_database(used, value):
    used.get("k")
    used["k"] = value
    reads = reads_of(used)

    assert repr(used.get("k")) == repr(used.get("k")) == repr(used.get("k"))
    assert used["k"] == value
    assert reads


def test_memoized_result_is_a_hit_from_the_second_call_on(used):
    calls = []

    @used.memoize()
    def double(number, unit="mm"):
        calls.append(number)
        return f"{2 * number} {unit}"

    double(21)
    reads = reads_of(used)

    assert double(21) == double(21) == "42 mm"
    assert (calls, reads) == ([21], [])


def test_get_or_set_is_a_hit_from_the_second_call_on(used):
    used.get_or_set("k", lambda: [1], expire=60)
    reads = reads_of(used)

    assert used.get_or_set("k", lambda: [2]) == used["k"] == [1]
    assert reads == []


def test_set_of_a_hot_key_replaces_what_is_in_memory(used):
    used["k"] = "old"
    used.get("k"), used.get("k")
    before = len(used._tier)
    for number in range(10):
        used["k"] = number
        reads = reads_of(used)
        assert used["k"] == number
        assert reads == []
    assert len(used._tier) == before


def test_set_of_a_key_that_nobody_asked_for_takes_no_memory(used):
    before = used._tier.volume, len(used._tier)
    for number in range(100):
        used.set(f"new-{number}", number)

    assert (used._tier.volume, len(used._tier)) == before


def test_values_computed_once_push_nothing_out_of_memory(make_cache):
    cache = make_cache(memory_limit=2**16)
    cache["first"] = cache["hot"] = 1
    cache.get("hot"), cache.get("hot")
    for number in range(300):
        cache.get(f"once-{number}")
        cache[f"once-{number}"] = number
    reads = reads_of(cache)

    assert 2**15 < cache._tier.volume < 2**16
    assert cache["hot"] == 1
    assert reads == []
    cache["hot"] = 2
    assert cache["hot"] == 2
    assert reads == []


def test_stored_value_that_is_changed_later_is_read_as_it_was_stored(used):
    value = {"a": [1]}
    used.get("k")
    used["k"] = value
    value["a"].append(2)
    found = used["k"]
    found["a"].append(3)

    assert used._tier.young["k"][DECODE] is not None
    assert used["k"] == {"a": [1]}


def test_set_with_expiry_and_tag_is_kept_with_both(used, clock):
    used.get("k")
    used.set("k", 1, expire=10, tag="t")
    reads = reads_of(used)

    assert used.get("k", expire_time=True, tag=True) == (1, clock.time() + 10, "t")
    assert reads == []
    clock.advance(11)
    assert used.get("k") is None
    assert "k" not in used


@pytest.mark.parametrize("tag", [1, True, -0.0, b"t"], ids=repr)
def test_tag_that_may_read_otherwise_is_read_from_the_database(used, tag):
    used.get("k")
    used.set("k", 1, tag=tag)
    reads = reads_of(used)

    first = used.get("k", tag=True)
    assert reads
    assert repr(used.get("k", tag=True)) == repr(first)


def test_set_in_a_transaction_is_not_kept_before_its_end(used):
    used.get("k")
    used["k"] = "before"
    with pytest.raises(ZeroDivisionError), used.transact():
        used["k"] = "inside"
        assert used["k"] == "inside"
        raise ZeroDivisionError

    assert used["k"] == "before"
    with used.transact():
        used["k"] = "after"
    assert used["k"] == "after"


def test_what_another_process_stores_replaces_what_was_kept(used):
    used.get("k")
    used["k"] = "mine"
    done = run_script(
        "import sys\nfrom diskcache import Cache\nCache(sys.argv[1])['k'] = 'theirs'",
        used.directory,
    )

    assert done.returncode == 0, done.stderr
    assert used["k"] == "theirs"


def test_stored_value_is_kept_under_the_generation_after_its_write(used):
    used.get("k")
    used["k"] = 1
    held = used._tier.young["k"]

    assert held[SOURCE].words[held[SLOT]] == held[GENERATION]
    assert not held[GENERATION] & 1
    used.delete("k")
    assert held[SOURCE].words[held[SLOT]] != held[GENERATION]
    assert used.get("k") is None


@pytest.mark.parametrize("key", ["k", b"k", 7, ("f", 1, None)], ids=repr)
def test_stored_entry_is_counted_as_one_that_was_read(used, key):
    used[key] = "value"
    used.get(key), used.get(key)
    volume = used._tier.volume
    for value in ("other", "v", "value"):
        used[key] = value

    assert used[key] == "value"
    assert used._tier.volume == volume


def test_refused_value_leaves_memory_as_it_was(make_cache):
    cache = make_cache(value_limit=1000)
    cache["first"] = cache["k"] = 1
    cache.get("k"), cache.get("k")

    assert cache.set("k", "x" * 2000) is False
    assert cache["k"] == 1


def test_bypassed_set_is_not_in_memory_afterwards(used):
    used["k"] = 1
    used.get("k"), used.get("k")
    with used.bypass():
        used["k"] = 2

    assert used["k"] == 1


def test_process_that_reads_and_writes_few_keys_asks_twice_for_each(used):
    chance, keys = random.Random(3), [f"k-{number}" for number in range(50)]
    newest = dict.fromkeys(keys)
    reads = reads_of(used)
    for number in range(2000):
        key = chance.choice(keys)
        if chance.random() < 0.1:
            used[key] = newest[key] = number
        assert used.get(key) == newest[key]

    # Without what is kept at a write it would be as many more as there are writes: 200.
    assert len(reads) <= 2 * len(keys) + 25


def test_shards_keep_what_they_store(tmp_path):
    with FanoutCache(str(tmp_path / "fanout"), shards=2) as cache:
        for turn in range(3):
            for number in range(8):
                cache.get(number)
                cache[number] = turn
        held = cache._tier.young

        assert [held[number][4] for number in range(8)] == [2] * 8
