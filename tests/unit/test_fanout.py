"""`FanoutCache`: what is its own, beyond the contract of every cache."""

from __future__ import annotations

import contextlib
import copy
import io
import math
import os
import pickle
import threading
import zlib
from unittest import mock

import pytest

from diskcache import (
    Cache,
    Disk,
    FanoutCache,
    GateError,
    JSONDisk,
    SettingError,
    Timeout,
    TooLargeError,
    UnknownSettingWarning,
    json_serializer,
)
from diskcache.fanout.shard import Shard
from tests.support.variants import FANOUT

KEYS = [f"key {number}" for number in range(40)]


@pytest.fixture
def variant():
    return FANOUT


@pytest.fixture
def make_fanout(directory, clock):
    """Make a `FanoutCache` in `directory`, closed and checked afterwards."""
    made = []

    def make(where=directory, *args, **keywords):
        keywords.setdefault("clock", clock)
        cache = FanoutCache(where, *args, **keywords)
        made.append(cache)
        return cache

    yield make
    found = [] if not made else [str(one.message) for one in made[-1].check()]
    for cache in made:
        cache.close()

    assert found == []


@contextlib.contextmanager
def held(directory):
    """Let another thread hold the write locks of all shards."""
    is_held, may_end = threading.Event(), threading.Event()

    def hold():
        with FanoutCache(directory) as cache, cache.transact():
            is_held.set()
            may_end.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_held.wait(60)
    try:
        yield
    finally:
        may_end.set()
        thread.join(60)


class LengthDisk(Disk):
    """A disk that chooses shards by the length of the key."""

    def hash(self, key):
        return len(key)


class PrefixDisk(Disk):
    """A disk with keys of its own, and so shards of its own."""

    def put(self, key):
        return super().put(f"p:{key}")

    def get(self, key, raw):
        return super().get(key, raw)[2:]


# -- Construction ------------------------------------------------------------------------------


def test_shards_are_caches_in_numbered_directories(make_fanout, directory):
    cache = make_fanout()
    cache["k"] = "v"

    assert sorted(os.listdir(directory)) == [f"{number:03d}" for number in range(8)]
    found = []
    for name in os.listdir(directory):
        with Cache(directory / name) as shard:
            found += list(shard.items())
    assert found == [("k", "v")]
    assert repr(cache) == f"FanoutCache({str(directory)!r})"


def test_defaults_are_those_of_a_cache(make_fanout, tmp_path):
    fanout = make_fanout()
    with Cache(tmp_path / "plain") as cache:
        for name in ("timeout", "size_limit", "cull_limit", "eviction_policy", "statistics"):
            assert getattr(fanout, name) == getattr(cache, name)
    assert type(fanout.disk) is Disk
    assert fanout.timeout == 60


def test_arguments_by_position_are_those_of_version_5(make_fanout, directory):
    cache = make_fanout(directory, 4, 0.5, JSONDisk, disk_compress_level=3)

    assert cache.info().shards == 4
    assert cache.timeout == 0.5
    assert type(cache.disk) is JSONDisk
    assert cache.disk.compress_level == cache.disk_compress_level == 3


def test_shards_left_out_are_those_of_the_directory(make_fanout):
    first = make_fanout(shards=3)
    first["k"] = 1

    assert make_fanout().info().shards == 3
    assert make_fanout()["k"] == 1


@pytest.mark.since6("keys were not found, silently")
@pytest.mark.parametrize("readonly", [False, True])
def test_another_number_of_shards_is_an_error_that_says_both(make_fanout, directory, readonly):
    make_fanout(shards=3)

    with pytest.raises(SettingError, match="has 3 shards: got shards=4; leave it out"):
        FanoutCache(directory, shards=4, readonly=readonly)
    assert len(os.listdir(directory)) == 3


@pytest.mark.parametrize("shards", [0, -1, 1000, 2.0, True, "8"], ids=repr)
def test_impossible_number_of_shards_is_refused(directory, shards):
    with pytest.raises(SettingError, match="shards must be a number from 1 to 999"):
        FanoutCache(directory, shards=shards)
    assert not directory.exists()


@pytest.mark.parametrize("value", ["8", 0, 10**9, 2.5, b"x"], ids=repr)
def test_number_of_shards_in_the_directory_is_not_believed_blindly(directory, value):
    with Cache(directory / "000") as shard:
        shard._engine.claim("shards", value, None, if_empty=False)

    with pytest.raises(SettingError, match="does not say how many shards it has"):
        FanoutCache(directory)


def test_directory_is_made_for_its_user_alone(make_fanout, directory):
    make_fanout()

    assert os.stat(directory).st_mode & 0o777 == 0o700
    assert os.stat(directory / "000").st_mode & 0o777 == 0o700


def test_readonly_needs_an_existing_directory(directory):
    with pytest.raises(FileNotFoundError):
        FanoutCache(directory, readonly=True)
    assert not directory.exists()


def test_unknown_keyword_warns_once_and_is_an_attribute(directory):
    with pytest.warns(UnknownSettingWarning, match="cul_limit is not a setting") as caught:
        cache = FanoutCache(directory, cul_limit=5)

    assert cache.cul_limit == 5
    assert [warning.filename for warning in caught] == [__file__]
    cache.close()


def test_option_of_django_is_an_attribute_without_warning(make_fanout):
    cache = make_fanout(MAX_ENTRIES=30)

    assert cache.MAX_ENTRIES == 30
    assert cache.reset("MAX_ENTRIES", 40) == 40
    assert cache.MAX_ENTRIES == 40


def test_unsafe_pickles_are_warned_of_once(directory):
    with pytest.warns(UserWarning, match="can run code") as caught:
        FanoutCache(directory, pickle="unsafe").close()

    assert len(caught) == 1


@pytest.mark.parametrize("name", ["get", "volume", "_shards"])
def test_keyword_that_is_a_part_of_the_cache_is_refused(directory, name):
    with pytest.raises(SettingError, match="part of the cache"):
        FanoutCache(directory, **{name: 1})
    assert not directory.exists()


@pytest.mark.since6("it raised AssertionError")
def test_unknown_attribute_raises_attribute_error(make_fanout):
    cache = make_fanout()

    assert not hasattr(cache, "no_such_thing")
    assert not hasattr(cache, "disk_no_such_thing")
    with pytest.raises(AttributeError, match="'FanoutCache' object has no attribute 'nothing'"):
        cache.nothing  # noqa: B018 - the access is the subject


def test_setting_is_an_attribute_of_all_shards(make_fanout):
    cache = make_fanout(cull_limit=5)
    assert cache.cull_limit == 5
    cache.cull_limit = 0

    assert {shard.cull_limit for shard in cache._shards} == {0}
    assert make_fanout().cull_limit == 5
    assert cache.reset("cull_limit", 7) == 7
    assert make_fanout().cull_limit == 7


# -- Which shard -------------------------------------------------------------------------------


def test_keys_spread_over_all_shards(make_fanout):
    cache = make_fanout()
    for key in KEYS:
        cache[key] = key

    assert all(len(shard) > 0 for shard in cache._shards)
    assert [cache[key] for key in KEYS] == KEYS


@pytest.mark.parametrize("key", ["text", "ü", b"bytes", 7, 7.5, -1, (1, "a"), None, 2**70, True])
def test_shard_is_chosen_by_the_hash_of_the_disk(make_fanout, key):
    cache = make_fanout(shards=5)
    cache[key] = "v"

    assert cache._shards[cache.disk.hash(key) % 5][key] == "v"


@pytest.mark.parametrize("disk", [LengthDisk, PrefixDisk])
def test_hash_of_a_custom_disk_is_honoured(make_fanout, disk):
    cache = make_fanout(shards=5, disk=disk)
    for key in KEYS:
        cache[key] = key
        assert key in cache._shards[cache.disk.hash(key) % 5]

    assert sorted(cache) == sorted(KEYS)
    assert zlib.adler32(b"p:a") == PrefixDisk("unused").hash("a")


@pytest.mark.since6("they were in different shards")
@pytest.mark.parametrize("number", [1, 0, -3, 2**53, 500_000_000_000_001])
def test_int_and_equal_float_are_one_key(make_fanout, number):
    cache = make_fanout()
    cache[number] = "int"
    cache[float(number)] = "float"

    assert len(cache) == 1
    assert cache[number] == "float"
    assert -0.0 not in cache or number == 0


# -- The size limit ----------------------------------------------------------------------------


@pytest.mark.since6("each shard had an eighth of the limit")
def test_value_larger_than_a_share_is_kept(make_fanout):
    cache = make_fanout(size_limit=1_000_000)

    assert cache.set("large", b"x" * 300_000)
    assert cache.set("small", 1)
    assert len(cache["large"]) == 300_000
    assert cache["small"] == 1


def test_value_larger_than_the_limit_is_refused(make_fanout):
    cache = make_fanout(size_limit=200_000)

    assert not cache.set("large", b"x" * 300_000)
    with pytest.raises(TooLargeError):
        cache["large"] = b"x" * 300_000
    assert cache.info().refused == 0


@pytest.mark.parametrize("size", [500, 5_000, 60_000])
def test_volume_stays_near_the_limit_of_the_whole(make_fanout, size, clock):
    cache = make_fanout(size_limit=2_000_000)
    count = 4_000_000 // size
    for number in range(count):
        cache[f"key {number}"] = b"x" * size
        clock.advance(1)

        assert number % 50 or cache.volume() < 2_200_000
    assert cache.volume() > 1_500_000
    assert f"key {count - 1}" in cache
    assert "key 0" not in cache
    assert all(shard.volume() < 600_000 for shard in cache._shards)


def test_large_value_among_small_ones_goes_when_its_turn_comes(make_fanout, clock):
    cache = make_fanout(size_limit=1_000_000)
    cache["large"] = b"x" * 300_000
    for number in range(60):
        cache[number] = b"y" * 10_000
        clock.advance(1)

    assert "large" in cache
    for number in range(60, 400):
        cache[number] = b"y" * 10_000
        clock.advance(1)
    assert "large" not in cache
    assert cache.volume() < 1_100_000


@pytest.mark.parametrize("cull_limit", [1, 10])
def test_values_larger_than_a_share_stay_within_the_limit_together(make_fanout, clock, cull_limit):
    cache = make_fanout(size_limit=2_000_000, cull_limit=cull_limit)
    for number in range(40):
        key = f"key {number}"
        cache[key] = b"x" * 700_000
        clock.advance(1)

        assert cache.volume() < 2_300_000
        assert key in cache


def test_shards_do_not_starve_beside_one_that_is_full(make_fanout, clock):
    cache = make_fanout(size_limit=1_000_000)
    for _ in range(100):
        cache.push(b"x" * 9_000, prefix="queue")
        clock.advance(1)
    full = cache._shard_of_queue("queue")
    before = full.volume()
    for number in range(200):
        cache[f"key {number}"] = b"y" * 9_000
        clock.advance(1)

    assert before > 700_000
    assert full.volume() < 650_000
    assert cache.volume() < 1_100_000
    assert all(shard.volume() > 50_000 for shard in cache._shards)


def test_shard_that_lost_entries_counts_those_of_the_others_again(make_fanout):
    cache = make_fanout(shards=2, count_limit=20)
    for key in range(60):
        cache[key] = key
    first, second = ([key for key in range(60, 200) if cache._index(key) == n] for n in (0, 1))
    cache.delete_many(list(cache._shards[0]))
    for key in second[:30]:
        cache[key] = key
    counts = []
    for key in first[:30]:
        cache[key] = key
        counts.append(len(cache))

    assert max(counts) == 20
    assert first[29] in cache


def test_shards_that_were_full_by_turns_do_not_pass_the_limit_together(make_fanout):
    cache = make_fanout(shards=4, count_limit=40)
    keys = [[key for key in range(400) if cache._index(key) == number][:18] for number in range(4)]
    for some in keys:
        for key in some:
            cache[key] = key
        cache.delete_many(some)
    counts = []
    for row in zip(*keys, strict=True):
        for key in row:
            cache[key] = key
            counts.append(len(cache))

    assert max(counts) == 40
    assert cache.check() == []


def test_batches_over_all_shards_keep_the_volume_near_the_limit(make_fanout):
    limit = 4_000_000
    cache = make_fanout(shards=8, size_limit=limit, disk_min_file_size=1000)
    volumes = []
    for batch in range(24):
        cache.set_many({(batch, number): b"x" * 25_000 for number in range(16)})
        volumes.append(cache.volume())
    full = volumes[10:]

    assert max(full) <= 1.03 * limit
    assert min(full) >= 0.9 * limit


def test_limit_is_judged_by_what_other_objects_write_too(make_fanout, clock):
    first, second = make_fanout(size_limit=1_000_000), make_fanout()
    for number in range(150):
        (first if number % 2 else second)[number] = b"x" * 10_000
        clock.advance(1)

    assert 700_000 < first.volume() < 1_100_000


def test_room_that_was_given_back_is_used_again(make_fanout, clock):
    cache = make_fanout(size_limit=1_000_000)
    for number in range(150):
        cache[number] = b"x" * 10_000
    cache.clear()
    for number in range(60):
        cache[number] = b"y" * 10_000

    assert len(cache) == 60


@pytest.mark.since6("reopening divided the default by the number of shards")
def test_limit_survives_reopening_and_pickling(make_fanout):
    cache = make_fanout(size_limit=3_000_000)
    again = pickle.loads(pickle.dumps(cache))

    assert again.size_limit == make_fanout().size_limit == 3_000_000
    assert cache.reset("size_limit", 4_000_000) == 4_000_000
    assert again.reset("size_limit") == make_fanout().size_limit == 4_000_000
    again.close()


@pytest.mark.parametrize("policy", ["least-recently-stored", "none"])
def test_cull_brings_the_whole_below_the_limit(make_fanout, clock, policy):
    cache = make_fanout(cull_limit=0, eviction_policy=policy)
    for number in range(100):
        cache.set(number, b"x" * 10_000, expire=5 if number < 10 else None)
    for _ in range(30):
        cache.push(b"x" * 10_000, prefix="queue")
    clock.advance(10)
    cache.reset("size_limit", 600_000)
    before = len(cache)
    removed = cache.cull()

    assert removed == before - len(cache)
    if policy == "none":
        assert removed == 10
    else:
        assert cache.volume() <= 600_000
        assert all(len(shard) > 0 for shard in cache._shards)


# -- Refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        (lambda cache: cache.set("k", 2), False),
        (lambda cache: cache.set("f", io.BytesIO(b"x"), read=True), False),
        (lambda cache: cache.add("new", 2), False),
        (lambda cache: cache.touch("k"), False),
        (lambda cache: cache.delete("k"), False),
        (lambda cache: cache.__delitem__("k", retry=False), False),
        (lambda cache: cache.incr("k"), None),
        (lambda cache: cache.decr("k"), None),
        (lambda cache: cache.pop("k"), None),
        (lambda cache: cache.pop("k", 0, expire_time=True), (0, None)),
        (lambda cache: cache.pop("k", 0, expire_time=True, tag=True), (0, None, None)),
        (lambda cache: cache.push(1), None),
        (lambda cache: cache.pull(), (None, None)),
        (lambda cache: cache.pull(default=0, tag=True), (0, None)),
        (lambda cache: cache.set_many({"k": 2, "l": 3, "m": 4}), 0),
        (lambda cache: cache.delete_many(KEYS), 0),
    ],
)
def test_refused_operation_returns_nothing_done_and_is_counted(directory, operation, result):
    with FanoutCache(directory, timeout=0.010) as cache:
        cache["k"] = 1
        cache.push("queued")
        with held(directory):
            assert operation(cache) == result
            assert cache.info().refused == 1
        assert cache["k"] == 1
        assert cache.peek() == (500_000_000_000_000, "queued")
        operation(cache)
        assert cache.info().refused == 1
        assert cache.check() == []


@pytest.mark.parametrize(
    ("keywords", "result"),
    [
        ({}, "d"),
        ({"expire_time": True}, ("d", None)),
        ({"tag": True}, ("d", None)),
        ({"expire_time": True, "tag": True}, ("d", None, None)),
    ],
)
def test_read_that_times_out_gives_the_shape_that_was_asked_for(make_fanout, keywords, result):
    cache = make_fanout()
    with mock.patch.object(Shard, "get_slowly", side_effect=Timeout):
        assert cache.get("k", "d", **keywords) == result
    assert cache.info().refused == 1


def test_reads_need_no_lock(directory):
    with FanoutCache(directory, timeout=0) as cache:
        cache.set("k", [1], tag="t")
        with held(directory):
            assert cache.get("k", tag=True) == ([1], "t")
            assert "k" in cache
            assert list(cache.items()) == [("k", [1])]
            assert len(cache) == 1
        assert cache.info().refused == 0


def test_check_transact_and_tag_index_raise_timeout(directory):
    with FanoutCache(directory, timeout=0.010) as cache, held(directory):
        with pytest.raises(Timeout):
            cache.check()
        with pytest.raises(Timeout), cache.transact(retry=False):
            pass
        with pytest.raises(Timeout):
            cache.create_tag_index()


def test_write_inside_the_transaction_of_another_object_is_an_error(directory):
    with FanoutCache(directory) as cache, FanoutCache(directory) as other, other.transact():
        with pytest.raises(GateError):
            cache.set("k", 1)
        with pytest.raises(GateError):
            cache.clear()
        assert cache.info().refused == 0


@pytest.mark.parametrize("method", ["clear", "expire"])
def test_bulk_removal_goes_on_after_a_timeout_and_adds_up(make_fanout, method):
    cache = make_fanout()
    shard = mock.Mock()
    getattr(shard, method).side_effect = [Timeout(2), Timeout(), 3]
    with mock.patch.object(cache, "_shards", [shard]):
        assert getattr(cache, method)() == 5


def test_evict_goes_on_after_a_timeout_and_adds_up(make_fanout):
    cache = make_fanout()
    shard = mock.Mock()
    shard.evict.side_effect = [Timeout(2), 3]
    with mock.patch.object(cache, "_shards", [shard]):
        assert cache.evict("tag") == 5


# -- Many keys ---------------------------------------------------------------------------------


def test_iteration_goes_through_shards_and_back(make_fanout):
    cache = make_fanout(shards=4)
    for key in KEYS:
        cache[key] = key
    parts = [key for shard in cache._shards for key in shard]

    assert list(cache) == parts
    assert list(reversed(cache)) == parts[::-1]
    assert list(cache.keys()) == list(cache.values()) == parts
    assert cache.peekitem() == (parts[-1], parts[-1])
    assert cache.peekitem(last=False, tag=True) == ((parts[0], parts[0]), None)


def test_peekitem_of_an_empty_cache_raises_key_error(make_fanout, clock):
    cache = make_fanout()
    for last in (True, False):
        with pytest.raises(KeyError, match="dictionary is empty"):
            cache.peekitem(last)
    cache.set("k", 1, expire=5)
    clock.advance(10)
    with pytest.raises(KeyError):
        cache.peekitem()


def test_sorted_iteration_is_merged_over_shards(make_fanout, tmp_path):
    keys = [5, -1, 2.5, math.inf, 2**60, 2**60 + 1, "Z", "a", "é", "", b"", b"\xff", (1, 2), None]
    fanout = make_fanout()
    with Cache(tmp_path / "plain") as cache:
        for key in keys:
            cache[key] = fanout[key] = 1

        assert list(fanout.iterkeys()) == list(cache.iterkeys())
        assert list(fanout.iterkeys(reverse=True)) == list(cache.iterkeys(reverse=True))


def test_listing_by_prefix_is_sorted_over_shards(make_fanout, clock):
    cache = make_fanout()
    for number in range(30):
        cache.set(f"a{number:02d}", number, tag=number % 2)
        cache[f"b{number}"] = number
    cache.set("a99", 0, expire=1)
    clock.advance(2)
    expected = [f"a{number:02d}" for number in range(30)]

    assert list(cache.keys(prefix="a")) == expected
    assert list(cache.values(prefix="a")) == list(range(30))
    assert list(cache.items("a", tag=1)) == [(f"a{n:02d}", n) for n in range(1, 30, 2)]
    assert list(cache.iterkeys(prefix="a", reverse=True)) == ["a99", *expected[::-1]]
    assert sorted(cache.keys(tag=1)) == expected[1::2]


def test_bulk_calls_go_to_all_shards(make_fanout):
    cache = make_fanout()

    assert cache.set_many(((key, [key]) for key in KEYS), expire=60, tag="t") == len(KEYS)
    assert cache.get_many([*KEYS, "missing"]) == {key: [key] for key in KEYS}
    assert list(cache.get_many(reversed(KEYS))) == KEYS[::-1]
    assert cache.get_many(["missing"], default=0) == {"missing": 0}
    assert cache.get(KEYS[0], tag=True) == ([KEYS[0]], "t")
    assert cache.delete_many([*KEYS[:10], "missing"]) == 10
    assert len(cache) == len(KEYS) - 10


def test_set_many_stores_all_or_none(make_fanout):
    cache = make_fanout()
    pairs = {**dict.fromkeys(KEYS, 1), "bad": lambda: None}

    with pytest.raises((AttributeError, pickle.PicklingError)):
        cache.set_many(pairs)
    assert len(cache) == 0


def test_set_many_that_is_refused_inside_a_block_leaves_nothing_of_it(make_fanout):
    cache = make_fanout()
    cache.set_many(dict.fromkeys(KEYS, 1))
    in_the_last_shard = list(cache)[-1]
    cache.clear()
    with cache.transact():
        with pytest.raises((AttributeError, pickle.PicklingError)):
            cache.set_many({**dict.fromkeys(KEYS, b"x" * 40_000), in_the_last_shard: lambda: None})
        cache["after"] = 1

    assert list(cache) == ["after"]
    assert cache.check() == []


def test_set_many_without_the_lock_leaves_no_files(directory):
    with FanoutCache(directory, timeout=0) as cache:
        with held(directory):
            assert cache.set_many(dict.fromkeys(KEYS, b"x" * 40_000)) == 0

        assert cache.check() == []


def test_counts_of_removals_add_up(make_fanout, clock):
    cache = make_fanout(cull_limit=0)
    for key in KEYS:
        number = int(key[4:])
        cache.set(key, b"x" * 40_000, expire=5 if number < 11 else None, tag=number < 22)
    clock.advance(6)

    assert cache.expire() == 11
    assert cache.evict(True) == 11
    assert cache.clear() == 18
    assert len(cache) == 0
    assert cache.check() == []


def test_expire_takes_retry_first_and_a_moment_by_name(make_fanout, clock):
    cache = make_fanout()
    cache.set("k", 1, expire=60)

    assert cache.expire(True) == 0
    assert cache.expire(now=clock.time() + 100) == 1


# -- Queues ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [None, "", "q", "q-500000000000003", "ü", "a-b"], ids=repr)
def test_keys_of_a_queue_lead_to_its_entries(make_fanout, prefix):
    cache = make_fanout()
    keys = [cache.push(number, prefix) for number in range(5)]
    keys.insert(0, cache.push(-1, prefix, side="front"))

    assert [cache[key] for key in keys] == [-1, 0, 1, 2, 3, 4]
    assert len({id(cache._shard_of(key)) for key in keys}) == 1
    assert cache.delete(keys[3])
    cache[keys[0]] = "changed"
    assert cache.peek(prefix) == (keys[0], "changed")
    assert [cache.pull(prefix)[1] for _ in range(5)] == ["changed", 0, 1, 3, 4]
    assert cache.pull(prefix) == (None, None)


def test_queues_of_different_prefixes_spread(make_fanout):
    cache = make_fanout()
    for name in KEYS:
        cache.push(1, prefix=name)

    assert all(len(shard) > 0 for shard in cache._shards)


def test_ordinary_numbers_spread_even_if_they_have_fifteen_digits(make_fanout):
    cache = make_fanout()
    shards = {id(cache._shard_of(f"order-{number:015d}")) for number in range(50)}

    assert len(shards) == 8
    assert len({id(cache._shard_of(number)) for number in range(50)}) == 8


@pytest.mark.parametrize("keywords", [{"prefix": 1}, {"side": "left"}], ids=repr)
@pytest.mark.parametrize("method", ["push", "pull", "peek"])
def test_impossible_queue_is_refused(make_fanout, method, keywords):
    cache = make_fanout()
    args = [1] if method == "push" else []

    with pytest.raises((TypeError, KeyError)):
        getattr(cache, method)(*args, **keywords)


# -- The whole ---------------------------------------------------------------------------------


def test_transaction_is_undone_in_all_shards(make_fanout):
    cache = make_fanout()
    cache["kept"] = b"x" * 50_000
    with pytest.raises(ZeroDivisionError), cache.transact():
        cache.set_many(dict.fromkeys(KEYS, b"y" * 50_000))
        cache["kept"] = 1
        with cache.transact(retry=False):
            cache.clear()
        raise ZeroDivisionError

    assert list(cache) == ["kept"]
    assert len(cache["kept"]) == 50_000


def test_transaction_is_seen_whole(make_fanout):
    cache, other = make_fanout(), make_fanout()
    with cache.transact():
        cache.set_many(dict.fromkeys(KEYS, 1))
        assert len(cache) == len(KEYS)
        assert other.get_many(KEYS) == {}
    assert len(other.get_many(KEYS)) == len(KEYS)


def test_totals_are_sums(make_fanout):
    cache = make_fanout(statistics=True)
    cache.set_many(dict.fromkeys(KEYS, b"x" * 40_000))
    for key in KEYS[:25]:
        assert cache[key]
    for number in range(7):
        assert cache.get(number) is None
    info = cache.info()

    assert len(cache) == info.entries == len(KEYS)
    assert cache.volume() == info.volume == sum(shard.volume() for shard in cache._shards)
    assert cache.volume() > 40 * 40_000
    assert info.disk_usage == cache.disk_usage() >= cache.volume() / 2
    assert cache.reset("count") == len(KEYS)
    assert (info.hits, info.misses) == cache.stats(reset=True, enable=False) == (25, 7)
    assert cache.stats() == (0, 0)


def test_info_says_what_it_is(make_fanout, directory):
    info = make_fanout(shards=3, size_limit=10_000_000).info()

    assert (info.directory, info.shards, info.size_limit) == (str(directory), 3, 10_000_000)
    assert (info.pickle, info.readonly, info.refused, info.corrupt) == ("signed", False, 0, 0)
    with pytest.raises(AttributeError):
        info.shards = 4


def test_check_speaks_for_all_shards(directory):
    with FanoutCache(directory) as cache:
        for number in range(8):
            (directory / f"{number:03d}" / "stray").touch()
        found = cache.check()

        assert len(found) == 8
        assert all("stray" in str(one.message) for one in found)


def test_memoize_works_and_keys_are_found(make_fanout):
    cache = make_fanout()
    calls = []

    @cache.memoize(expire=60, tag="t")
    def double(number):
        calls.append(number)
        return 2 * number

    assert [double(number) for number in (1, 2, 1, 2)] == [2, 4, 2, 4]
    assert calls == [1, 2]
    assert cache[double.__cache_key__(1)] == 2
    assert cache.evict("t") == 2
    with pytest.raises(TypeError, match="name cannot be callable"):
        cache.memoize(len)


def test_readonly_cache_reads_and_memoizes_without_writing(directory):
    with FanoutCache(directory) as cache:
        cache["k"] = 1
    with FanoutCache(directory, readonly=True) as cache:
        assert cache["k"] == 1
        assert cache.memoize()(abs)(-1) == 1
        with pytest.raises(PermissionError):
            cache["k"] = 2
        assert cache.info().readonly


# -- Copies and closing ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make_copy", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))]
)
def test_copy_keeps_everything_but_secrets(make_fanout, directory, make_copy):
    secret = b"never to be written down, at all!"
    cache = make_fanout(
        shards=3, timeout=0.5, serializer=json_serializer, secret=secret, pickle="never",
        strict=True, sqlite_temp_store=2, cull_limit=3,
    )  # fmt: skip
    cache["k"] = (1, 2)
    with make_copy(cache) as again:
        assert again is not cache
        assert again["k"] == [1, 2]
        assert (again.timeout, again.cull_limit, again.sqlite_temp_store) == (0.5, 3, 2)
        assert (again.info().shards, again.info().pickle) == (3, "never")
    assert secret not in pickle.dumps(cache)
    assert cache.__getstate__() == (str(directory), 3, 0.5, Disk)


def test_closed_cache_connects_again(make_fanout, directory):
    with make_fanout() as cache:
        cache["k"] = 1
    cache.close()
    assert not list(directory.rglob("*-wal"))
    assert cache["k"] == 1


# -- Caches inside -----------------------------------------------------------------------------


def test_cache_inside_is_a_cache_of_its_own(make_fanout, directory):
    fanout = make_fanout(size_limit=5_000_000)
    cache = fanout.cache("users", size_limit=1_000_000)
    cache["ada"] = 1815

    assert type(cache) is Cache
    assert cache.directory == str(directory / "cache" / "users")
    assert (cache.size_limit, cache.timeout) == (1_000_000, 60)
    assert "ada" not in fanout
    assert make_fanout().cache("users")["ada"] == 1815


@pytest.mark.since6("arguments of a second call were ignored")
def test_same_arguments_give_the_same_object(make_fanout):
    fanout = make_fanout()
    cache = fanout.cache("c")
    other = fanout.cache("c", timeout=5, cull_limit=3)

    assert fanout.cache("c") is cache
    assert other is not cache
    assert (other.timeout, other.cull_limit) == (5, 3)
    assert fanout.cache("c", 5, cull_limit=3) is other
    assert fanout.cache("d") is not cache
    fanout.close()
    assert fanout.cache("c") is not cache


@pytest.mark.since6("disk= was ignored")
def test_disk_of_a_cache_inside_is_the_one_asked_for(make_fanout, tmp_path):
    fanout = make_fanout(disk=JSONDisk, disk_compress_level=4)

    assert fanout.cache("same").disk.compress_level == 4
    assert type(fanout.cache("plain", disk=Disk).disk) is Disk
    assert fanout.cache("level", disk=JSONDisk, disk_compress_level=9).disk.compress_level == 9
    json = fanout.cache("json", serializer=json_serializer)
    json["k"] = (1,)
    assert json["k"] == [1]


def test_cache_inside_inherits_how_values_are_kept(make_fanout):
    fanout = make_fanout(serializer=json_serializer, pickle="never", secret=b"s" * 32, strict=True)
    cache = fanout.cache("c")
    cache["k"] = (1,)

    assert cache["k"] == [1]
    assert cache.info().pickle == "never"
    assert type(fanout.cache("other", disk=JSONDisk).disk) is JSONDisk


def test_slash_makes_folders(make_fanout, directory):
    fanout = make_fanout()
    fanout.cache("a/b")["k"] = 1

    assert (directory / "cache" / "a" / "b" / "cache.db").exists()


@pytest.mark.parametrize("name", ["a/b", "/a/b", "a//b", "a/b/", "//a/b//"])
def test_more_slashes_make_no_difference(make_fanout, directory, name):
    fanout = make_fanout()

    assert fanout.index(name) is fanout.index("a/b")
    assert fanout.index(name).directory == str(directory / "index" / "a" / "b")


@pytest.mark.parametrize("name", ["tmp", "000", "cache", "my queue", ".x", "ü", "a:b"])
def test_name_that_is_taken_elsewhere_is_free_here(make_fanout, directory, name):
    fanout = make_fanout()
    fanout.deque(name).append(1)

    assert list(make_fanout().deque(name)) == [1]
    assert (directory / "deque" / name / "cache.db").exists()


@pytest.mark.since6("names led anywhere")
@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../../x",
        "/",
        "/..",
        "a/./b",
        "a\0b",
        "a\\..\\b",
        "a/tmp",
        "a/cache.db",
    ],
)
def test_name_that_leads_elsewhere_is_refused(make_fanout, directory, name):
    fanout = make_fanout()

    with pytest.raises(SettingError, match="name must be"):
        fanout.cache(name)
    assert sorted(os.listdir(directory.parent)) == [directory.name]


@pytest.mark.parametrize("name", [None, 1, b"bytes"], ids=repr)
def test_name_that_is_no_text_is_refused(make_fanout, name):
    with pytest.raises(TypeError, match="name must be a str"):
        make_fanout().cache(name)


def test_deque_and_index_inside_keep_their_entries(make_fanout, directory):
    fanout = make_fanout(size_limit=1000)
    deque = fanout.deque("d", maxlen=3)
    deque.extend(range(5))
    index = fanout.index("a/i")
    index.update(b=1, a=2)

    assert fanout.deque("d", 3) is deque
    assert fanout.deque("d") is not deque
    assert fanout.index("a/i") is index
    assert list(make_fanout().deque("d")) == [2, 3, 4]
    assert list(make_fanout().index("a/i").items()) == [("b", 1), ("a", 2)]
    assert deque.cache.eviction_policy == index.cache.eviction_policy == "none"
    assert deque.directory == str(directory / "deque" / "d")
    assert index.directory == str(directory / "index" / "a" / "i")
    assert len(fanout) == 0


def test_cache_inside_begins_with_the_value_limit_and_keeps_its_own(make_fanout):
    fanout = make_fanout(value_limit=1000)
    inside = fanout.cache("inside")
    assert inside.set("large", b"x" * 1001) is False
    assert inside.set("small", b"x" * 1000) is True
    inside.reset("value_limit", 0)
    assert fanout.cache("told", value_limit=5).value_limit == 5
    fanout.deque("d").append(b"x" * 1001)
    fanout.index("i")["large"] = b"x" * 1001
    fanout.close()

    assert make_fanout().cache("inside").value_limit == 0
