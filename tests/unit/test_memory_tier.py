"""The memory tier: what it keeps, for whom, how much, and what a hit costs."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from time import monotonic
from types import SimpleNamespace
from uuid import UUID

import pytest

from diskcache import AsyncCache, AsyncFanoutCache, Cache, Disk, FanoutCache, Index
from diskcache.coherence import INFINITY, Source
from diskcache.errors import SettingError, UntrustedPickleWarning
from diskcache.memory.tier import (
    COST,
    GROUPS,
    OVERHEAD,
    Tier,
    is_hit,
    place_of,
    place_of_encoded,
    shared_cost,
)

# Time alone would have a read go to the database.
pytestmark = pytest.mark.usefixtures("no_looks")


def held(cost, name="value"):
    return (None, 0, 0, None, name, None, None, cost, None)


def places(tier):
    return {*tier.young, *tier._old}


def warm(cache, key):
    """Read twice: what is read a second time is kept."""
    cache.get(key)
    cache.get(key)


@pytest.fixture
def statements(cache):
    """The statements that this thread runs on the connection of `cache`, from now on."""
    seen = []

    def note(_cursor, statement, _bindings):
        seen.append(statement)
        return True

    cache._engine._link().con.exec_trace = note
    return seen


class TestPlaces:
    @pytest.mark.parametrize("key", ["k", b"k", 1, 2**70, ("f", 1, None, b"x"), ()])
    def test_key_of_types_that_do_not_mix_is_its_own_place(self, key):
        assert place_of(key) is key

    @pytest.mark.parametrize(
        "key",
        [True, 1.0, None, (True,), (1.0,), ("f", (1,)), [1], frozenset(), type("S", (str,), {})()],
    )
    def test_key_that_a_dict_could_mistake_has_no_place_of_its_own(self, key):
        assert place_of(key) is None

    def test_place_of_an_encoded_key_is_no_key_of_a_user(self):
        place = place_of_encoded((b"k", 0))

        assert place_of(place) is None
        assert place_of_encoded((1.0, 1)) == place_of_encoded((1, 1))


class TestSharing:
    @pytest.mark.parametrize(
        "value",
        [
            "text",
            b"bytes",
            1,
            2.5,
            None,
            True,
            1j,
            date(2026, 1, 1),
            datetime(2026, 1, 1),  # noqa: DTZ001 - a value like others
            timedelta(1),
            Decimal("1.5"),
            Fraction(1, 3),
            UUID(int=1),
            range(3),
            ("a", 1),
        ],
    )
    def test_value_that_nobody_can_change_is_shared(self, cache, value):
        cache["k"] = value
        warm(cache, "k")

        assert cache["k"] == value
        assert cache["k"] is cache["k"]

    @pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, bytearray(b"x"), ([1],), {"a": [1]}])
    def test_value_that_can_be_changed_is_each_callers_own(self, cache, value):
        cache["k"] = value
        warm(cache, "k")

        first = cache["k"]
        assert first == value
        assert first is not cache["k"]

    def test_object_in_memory_is_each_callers_own(self, cache):
        cache["k"] = SimpleNamespace(parts=[1])
        warm(cache, "k")
        cache["k"].parts.append(2)

        assert cache["k"].parts == [1]

    def test_large_dict_in_a_file_is_kept_and_each_callers_own(self, make_cache, statements, cache):
        value = {str(number): [number] for number in range(5000)}
        cache["k"] = value
        warm(cache, "k")
        statements.clear()
        cache["k"]["0"].append(1)

        assert cache["k"] == value
        assert statements == []

    def test_long_tuple_is_decoded_for_each_caller_but_kept(self, cache, statements):
        value = tuple(range(1000))
        cache["k"] = value
        warm(cache, "k")
        statements.clear()

        assert cache["k"] == value
        assert statements == []

    def test_cost_of_a_shared_tuple_counts_its_parts(self):
        assert shared_cost(("a" * 1000,)) > 1000
        assert shared_cost(([],)) is None


class TestHits:
    @pytest.mark.parametrize(
        "key", ["k", b"k", 7, 7.5, True, None, ("f", 1), ("f", 1.5), (1, (2, 3)), 2**70]
    )
    def test_second_read_is_the_last_one_of_the_database(self, cache, statements, key):
        cache[key] = "value"
        warm(cache, key)
        statements.clear()

        assert cache.get(key) == cache[key] == "value"
        assert key in cache
        assert cache.get(key, expire_time=True, tag=True) == ("value", None, None)
        assert statements == []

    def test_miss_is_kept_until_somebody_writes(self, cache, statements):
        warm(cache, "k")
        statements.clear()

        assert cache.get("k", "default") == "default"
        assert "k" not in cache
        with pytest.raises(KeyError):
            cache["k"]
        assert statements == []
        cache["k"] = 1
        assert cache["k"] == 1

    @pytest.mark.parametrize("value", [1, [1], "x" * 40_000])
    def test_presence_alone_is_kept_until_the_value_is_asked_for(self, cache, statements, value):
        cache["k"] = value
        assert "k" in cache
        assert "k" in cache
        statements.clear()
        assert "k" in cache
        assert statements == []
        for _ in range(3):
            assert cache["k"] == value

        assert len(statements) <= 1
        assert "k" in cache

    def test_presence_is_no_read_for_the_policy(self, make_cache):
        cache = make_cache(eviction_policy="least-recently-used")
        cache["k"] = 1
        for _ in range(4):
            assert "k" in cache

        assert cache._engine._culler.reads == {}

    def test_expire_time_and_tag_come_from_memory(self, cache, clock, statements):
        cache.set("k", 1, expire=10, tag="t")
        warm(cache, "k")
        statements.clear()

        assert cache.get("k", expire_time=True, tag=True) == (1, clock.time() + 10, "t")
        assert statements == []

    def test_entry_in_memory_expires_on_time(self, cache, clock):
        cache.set("k", 1, expire=0.25)
        warm(cache, "k")
        clock.advance(0.249999)
        assert cache.get("k") == 1
        clock.advance(0.000001)

        assert cache.get("k") is None
        assert "k" not in cache

    def test_write_through_another_object_is_seen_at_once(self, cache, make_cache):
        other = make_cache(memory_limit=0)
        for number in range(20):
            other["k"] = number
            assert cache["k"] == cache["k"] == cache["k"] == number
        del other["k"]

        assert "k" not in cache

    def test_equal_keys_of_other_types_are_told_apart(self, cache):
        cache[1] = "int"
        cache[True] = "bool"
        cache[(1,)] = "tuple of int"
        cache[(True,)] = "tuple of bool"
        for key in (1, True, (1,), (True,)):
            warm(cache, key)

        assert [cache[key] for key in (1, 1.0, True, (1,), (True,))] == [
            "int",
            "int",
            "bool",
            "tuple of int",
            "tuple of bool",
        ]

    def test_hit_under_lru_is_noted(self, make_cache):
        cache = make_cache(eviction_policy="least-recently-used")
        cache["k"] = 1
        warm(cache, "k")
        cache._engine._culler.reads.clear()
        cache.get("k")

        assert cache._engine._culler.reads == {("k", 1): cache._now()}

    def test_hit_is_counted_with_statistics(self, make_cache):
        cache = make_cache(statistics=True)
        cache["k"] = 1
        for _ in range(5):
            cache.get("k")
            cache.get("missing")

        assert cache.stats() == (5, 5)

    def test_hit_after_a_change_of_settings_is_noted(self, cache):
        cache["k"] = 1
        warm(cache, "k")
        cache.stats(enable=True)
        cache.get("k")

        assert cache.stats() == (1, 0)

    def test_fanout_hit_is_counted_with_statistics(self, directory, make_cache, clock):
        with FanoutCache(directory, shards=2, clock=clock) as cache:
            cache["k"] = 1
            warm(cache, "k")
            cache.stats(enable=True)
            cache.get("k")

            assert cache.stats() == (1, 0)

    def test_user_disk_decodes_each_hit(self, make_cache):
        class Doubling(Disk):
            def fetch(self, mode, filename, value, read):
                return [super().fetch(mode, filename, value, read)]

        cache = make_cache(disk=Doubling)
        cache["k"] = 1
        warm(cache, "k")

        assert cache["k"] == [1]
        assert cache["k"] is not cache["k"]


class TestWhoShares:
    def test_objects_that_decode_alike_share(self, make_cache, directory):
        assert make_cache()._tier is make_cache()._tier

    def test_objects_that_decode_otherwise_do_not_share(self, make_cache):
        cache = make_cache()

        assert make_cache(pickle="never")._tier is not cache._tier
        assert make_cache(secret=bytes(32))._tier is not cache._tier

    def test_entry_that_one_object_may_load_is_not_given_to_another(self, make_cache):
        trusting, strict = make_cache(secret=b"s" * 32), make_cache(pickle="never")
        trusting["k"] = SimpleNamespace()
        warm(trusting, "k")

        with pytest.warns(UntrustedPickleWarning):
            assert strict.get("k") is None

    def test_shards_have_one_tier(self, directory, clock):
        with FanoutCache(directory, shards=3, clock=clock) as cache:
            assert {shard._tier for shard in cache._shards} == {cache._tier}

    def test_closing_forgets(self, cache):
        cache["k"] = 1
        warm(cache, "k")
        assert len(cache._tier) == 1
        cache.close()

        assert len(cache._tier) == 0
        assert cache["k"] == 1


class TestLimit:
    def test_memory_limit_of_zero_keeps_nothing(self, make_cache):
        cache = make_cache(memory_limit=0)
        cache["k"] = 1
        for _ in range(4):
            assert cache["k"] == 1

        assert len(cache._tier) == 0

    @pytest.mark.parametrize("limit", [-1, "64MB", None, float("nan")])
    def test_memory_limit_that_is_no_number_of_bytes_is_refused(self, tmp_path, limit):
        with pytest.raises(SettingError, match="memory_limit must be a number of bytes"):
            Cache(tmp_path / "other", memory_limit=limit)

    def test_what_is_kept_stays_within_the_limit(self):
        tier = Tier(10_000)
        for number in range(1000):
            tier.keep(number, held(100 + number % 900))
            assert tier.volume <= 10_000
            assert tier.volume == sum(
                entry[COST] for entry in (*tier.young.values(), *tier._old.values())
            )

    def test_entry_larger_than_an_eighth_is_not_kept(self):
        tier = Tier(8000)
        tier.keep("small", held(1000))
        tier.keep("large", held(1001))

        assert places(tier) == {"small"}

    def test_entries_that_are_asked_for_stay(self):
        tier = Tier(10_000)
        for number in range(10):
            tier.keep(number, held(500))
        for number in range(10, 200):
            tier.keep(number, held(500))
            for wanted in range(3):
                assert tier.find(wanted) is not None

    def test_first_read_is_remembered_and_second_one_kept(self, cache):
        cache["k"] = 1
        cache.get("k")
        assert len(cache._tier) == 0
        cache.get("k")

        assert len(cache._tier) == 1

    def test_first_reads_are_forgotten_in_time(self):
        tier = Tier(1000)
        for number in range(GROUPS):
            tier.is_new(number)

        assert sum(tier._expected) <= GROUPS // 4

    def test_accounting_is_honest(self, make_cache, tmp_path):
        ratios = sorted(self.counted_and_taken(make_cache(tmp_path / name)) for name in "abc")

        # Others in the process may take memory meanwhile, so that one of three may be off.
        assert 0.8 < ratios[1] < 1.25

    def counted_and_taken(self, cache):
        """Return how many bytes the tier counts for each byte that Python takes."""
        count = 2000
        cache.set_many({f"key{number}": f"value{number}" * 10 for number in range(count)})
        cache._tier._expected = bytearray(b"\1") * GROUPS
        cache.get("key0")
        gc.collect()
        tracemalloc.start()
        for number in range(count):
            cache.get(f"key{number}")
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()

        assert cache._tier.volume > count * OVERHEAD
        return cache._tier.volume / taken

    def test_child_starts_with_a_lock_of_its_own(self):
        tier = Tier(1000)
        tier.keep("k", held(10))
        tier._lock.acquire()
        tier.keep("not kept while another thread keeps", held(10))
        assert len(tier) == 1
        tier.reset()
        tier.keep("k", held(10))

        assert len(tier) == 1


class TestSource:
    def source(self):
        source = Source(memoryview(bytearray(64)).cast("Q"))
        source.trust(INFINITY)
        return source

    def test_entry_is_a_hit_while_its_generation_stays(self):
        source = self.source()
        entry = (source, 3, 0, None, "value", None, None, 0, None)
        assert is_hit(entry)
        source.words[3] = 2

        assert not is_hit(entry)

    def test_entry_is_no_hit_when_it_is_time_to_look_at_the_path(self):
        source = self.source()
        entry = (source, 3, 0, None, "value", None, None, 0, None)
        source.trust(monotonic())

        assert not is_hit(entry)

    def test_hidden_source_gives_no_hit_whatever_other_threads_do(self):
        source = self.source()
        entry = (source, 3, 0, None, "value", None, None, 0, None)
        source.hide()
        source.trust(INFINITY)
        assert not is_hit(entry)
        assert source.words[3] & 1
        source.show()

        assert is_hit(entry)

    def test_retired_source_never_gives_a_hit(self):
        source = self.source()
        entry = (source, 3, 0, None, "value", None, None, 0, None)
        source.retire()
        source.trust(INFINITY)

        assert not is_hit(entry)


def frames_of(call):
    """Return the names of the functions in Python that a call runs."""
    names = []

    def note(frame, event, _):
        if event == "call":
            names.append(frame.f_code.co_name)

    gc.collect()
    gc.disable()
    # Once as it is later on: what runs for the first time may do more.
    call()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
        gc.enable()
    return names[1:]


class TestFrames:
    """Functions in Python on the way of a hit: more would be slower, whatever the clock says."""

    def test_hit_runs_one_function(self, tmp_path):
        with Cache(tmp_path / "a") as cache:
            cache["k"] = 1
            warm(cache, "k")

            assert frames_of(lambda: cache.get("k")) == ["get"]
            assert frames_of(lambda: cache["k"]) == ["__getitem__"]
            assert frames_of(lambda: "k" in cache) == ["__contains__"]

    def test_hit_of_a_fanout_cache_runs_one_function(self, tmp_path):
        with FanoutCache(tmp_path / "a", shards=2) as cache:
            cache["k"] = 1
            warm(cache, "k")

            assert frames_of(lambda: cache.get("k")) == ["get"]

    @pytest.mark.parametrize("kind", [AsyncCache, AsyncFanoutCache])
    def test_awaited_hit_runs_five_functions(self, tmp_path, kind):
        names = []

        def note(frame, event, _):
            if event == "call":
                names.append(frame.f_code.co_name)

        async def hit(cache):
            # Memory is believed for half a second: this makes sure that it is.
            await cache.get("k")
            names.clear()
            sys.setprofile(note)
            try:
                return await cache.get("k")
            finally:
                sys.setprofile(None)

        async def use():
            async with kind(tmp_path / "a") as cache:
                await cache.set("k", 1)
                await cache.get("k")
                seen = []
                # A busy machine may let that time pass in between, but not each time.
                while len(seen) < 20 and seen[-1:] != [expected]:
                    assert await hit(cache) == 1
                    seen.append(list(names))
                return seen[-1]

        expected = ["get", "_promptly", "_held", "find", "is_hit"]
        assert asyncio.run(use()) == expected

    def test_hit_of_an_index_runs_two_functions(self, tmp_path):
        with Index(tmp_path / "a", k=1) as index:
            index["k"], index["k"]

            assert frames_of(lambda: index["k"]) == ["__getitem__", "_hit"]

    def test_memoized_hit_runs_four_functions(self, tmp_path):
        with Cache(tmp_path / "a") as cache:
            square = cache.memoize()(lambda number: number * number)
            square(3), square(3), square(3)

            names = ["wrapper", "make_key", "_result", "_hit"]
            assert frames_of(lambda: square(3)) == names

    @pytest.mark.parametrize("kind", [Cache, FanoutCache])
    def test_hit_that_is_counted_runs_one_function(self, tmp_path, kind):
        with kind(tmp_path / "cache", statistics=True) as cache:
            cache["k"] = 1
            warm(cache, "k")

            assert frames_of(lambda: cache.get("k")) == ["get"]
            assert frames_of(lambda: cache["k"]) == ["__getitem__"]
            assert cache.stats() == (6, 0)

    def test_known_miss_that_is_counted_runs_two_functions(self, tmp_path):
        with Cache(tmp_path / "cache", statistics=True) as cache:
            warm(cache, "k")

            assert frames_of(lambda: cache.get("k")) == ["get", "note"]
            assert cache.stats() == (0, 4)

    @pytest.mark.parametrize("policy", ["least-recently-used", "least-frequently-used"])
    def test_hit_is_noted_by_a_call_once_until_reads_are_written_down(self, tmp_path, policy):
        with Cache(tmp_path / "cache", eviction_policy=policy) as cache:
            cache["k"] = 1
            warm(cache, "k")

            # Of two, one at least is none that looks at the path and is noted from there.
            assert frames_of(lambda: [cache.get("k"), cache.get("k")])[-2:] == ["get"] * 2
            assert frames_of(lambda: [cache["k"], cache["k"]])[-2:] == ["__getitem__"] * 2

            cache.cull()

            assert not cache._engine._culler.reads
            cache.get("k")
            assert cache._engine._culler.reads.keys() == {("k", 1)}
            assert frames_of(lambda: [cache.get("k"), cache.get("k")])[-2:] == ["get"] * 2

    def test_hit_under_s3_fifo_is_noted_three_times(self, tmp_path):
        with Cache(tmp_path / "cache", eviction_policy="s3-fifo") as cache:
            cache["k"] = 1
            warm(cache, "k")
            for _ in range(4):
                cache.get("k")

            assert frames_of(lambda: [cache.get("k"), cache.get("k")])[-2:] == ["get"] * 2

            cache["other"] = 1
            cache.cull()

            assert frames_of(lambda: cache.get("k")) == ["get", "note"]
