"""A cache can be bypassed: for a block, or by the environment."""

from __future__ import annotations

import io

import pytest

from diskcache import SettingError
from diskcache.testing.contract import Contract, asks_for
from diskcache.testing.contract.together import in_threads

LARGE = b"x" * 100_000


class BypassContract(Contract):
    @pytest.fixture
    def cache(self, cache):
        cache["a"] = 1
        for _ in range(3):
            cache.get("a")
        return cache

    def test_reads_in_a_bypass_miss(self, cache):
        with cache.bypass():
            assert cache.get("a", "missing") == "missing"
            assert cache.get("a", 5, tag=True) == (5, None)
            assert cache.get("a", stale=True) is None
            assert cache.get("a", version=True) == (None, None)
            assert "a" not in cache
            assert cache.get_many(["a", "b"]) == {}
            with pytest.raises(KeyError):
                cache["a"]

        assert cache["a"] == 1

    def test_stores_in_a_bypass_succeed_and_do_nothing(self, cache):
        with cache.bypass():
            assert cache.set("a", 2)
            assert cache.add("a", 2)
            assert cache.set("b", 2, if_version=None)
            assert cache.set_many({"a": 2, "b": 2}) == 2
            assert cache.incr("a") == 1
            assert cache.incr("n", 5, default=1) == 6
            assert cache.update("a", lambda old: (old, "new"), "default") == ("default", "new")
            assert not cache.touch("a", expire=1)
            cache["a"] = 3
            with pytest.raises(KeyError):
                cache.incr("n", default=None)

        assert list(cache) == ["a"]
        assert cache.get("a", expire_time=True) == (1, None)

    @asks_for("files")
    def test_large_values_in_a_bypass_leave_no_files(self, cache):
        before = cache.disk_usage() if hasattr(cache, "disk_usage") else None
        with cache.bypass():
            cache.set("b", LARGE)
            cache.set("b", io.BytesIO(LARGE), read=True)
            cache.set_many({"b": LARGE, "c": LARGE})

        assert "b" not in cache
        assert cache.check() == []
        assert before is None or cache.disk_usage() == before

    def test_removals_in_a_bypass_are_done(self, cache):
        for key in "bcdef":
            cache.set(key, 1, tag=key)
        with cache.bypass():
            assert cache.delete("a")
            assert cache.pop("b", "gone") == "gone"
            assert cache.evict("c") == 1
            assert cache.delete_many(["d"]) == 1

        assert sorted(cache) == ["e", "f"]
        with cache.bypass():
            assert cache.clear() == 2

        assert len(cache) == 0

    def test_queues_in_a_bypass_are_queues(self, cache):
        with cache.bypass():
            key = cache.push("job", prefix="q")
            assert cache.peek("q") == (key, "job")
            assert cache.pull("q") == (key, "job")

    def test_computed_values_in_a_bypass_are_computed_each_time(self, cache):
        calls = []

        @cache.memoize(name="square")
        def square(number):
            calls.append(number)
            return number * number

        square(3)
        with cache.bypass():
            assert [square(3), square(3), cache.get_or_set("a", lambda: "new")] == [9, 9, "new"]
        assert square(3) == 9

        assert len(calls) == 3
        assert cache["a"] == 1

    def test_bypass_nests(self, cache):
        with cache.bypass():
            with cache.bypass():
                assert cache.get("a") is None
            assert cache.get("a") is None

        assert cache.get("a") == 1

    def test_bypass_ends_with_an_exception(self, cache):
        with pytest.raises(ZeroDivisionError), cache.bypass():
            1 / 0  # noqa: B018 - it fails

        assert cache.get("a") == 1

    def test_bypass_is_of_one_thread(self, cache):
        with cache.bypass():
            assert in_threads(lambda: cache.get("a"), lambda: cache.set("b", 2)) == [1, True]
            assert cache.get("b") is None

        assert cache["b"] == 2

    def test_listeners_hear_misses_in_a_bypass(self, cache):
        told = []
        offs = [cache.on(name, lambda event: told.append(event.name)) for name in ("miss", "set")]
        with cache.bypass():
            cache.get("a")
            cache["a"] = 1
        for off in offs:
            off()

        assert told == ["miss"]

    @asks_for("transactions")
    def test_transaction_in_a_bypass_removes_and_stores_nothing(self, cache):
        cache["b"] = 1
        with cache.bypass(), cache.transact():
            cache["c"] = 1
            cache.delete("b")

        assert list(cache) == ["a"]

    @pytest.mark.parametrize("text", ["1", "true", "ON"])
    def test_environment_that_disables_bypasses_for_good(self, make_cache, monkeypatch, text):
        make_cache()["a"] = 1
        monkeypatch.setenv("DISKCACHE_DISABLE", text)
        cache = make_cache()
        with cache.bypass():
            assert cache.get("a") is None
        assert cache.set("a", 2)
        assert cache.get("a") is None
        assert in_threads(lambda: cache.get("a")) == [None]
        monkeypatch.delenv("DISKCACHE_DISABLE")

        assert cache.get("a") is None
        assert make_cache().get("a") == 1

    @pytest.mark.parametrize("text", ["", "0", "no"])
    def test_environment_that_does_not_disable_changes_nothing(self, make_cache, monkeypatch, text):
        monkeypatch.setenv("DISKCACHE_DISABLE", text)
        cache = make_cache()
        cache["a"] = 1

        assert cache["a"] == 1

    def test_environment_that_is_unclear_raises(self, make_cache, monkeypatch):
        cache = make_cache()
        monkeypatch.setenv("DISKCACHE_DISABLE", "perhaps")

        with pytest.raises(SettingError, match="DISKCACHE_DISABLE must be 1 or 0"):
            make_cache()["a"] = 1

        cache["a"] = 1
