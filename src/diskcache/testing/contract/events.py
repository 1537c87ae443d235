"""Functions are told what happens to entries, when it is sure to stay, and harm nobody."""

from __future__ import annotations

import logging

import pytest

from diskcache import UNKNOWN, Event, SettingError
from diskcache.events import EVENTS
from diskcache.testing.contract import Contract, asks_for


class EventsContract(Contract):
    @pytest.fixture
    def heard(self, cache):
        """Everything that the cache tells, as name and key."""
        heard = []
        offs = [
            cache.on(name, lambda event: heard.append((event.name, event.key))) for name in EVENTS
        ]
        yield heard
        for off in offs:
            off()

    def test_get_tells_hits_and_misses_each_time(self, cache, heard):
        cache["a"] = 1
        heard.clear()
        for _ in range(4):
            cache.get("a")
        for _ in range(4):
            cache.get("b")

        assert heard == [("hit", "a")] * 4 + [("miss", "b")] * 4

    def test_getitem_and_get_of_more_tell_hits_and_misses(self, cache, heard):
        cache["a"] = 1
        heard.clear()
        assert cache["a"] == 1
        cache.get("a", version=True)
        cache.get("b", version=True)
        with pytest.raises(KeyError):
            cache["b"]

        assert heard == [("hit", "a"), ("hit", "a"), ("miss", "b"), ("miss", "b")]

    def test_get_many_tells_hits_and_misses(self, cache, heard):
        cache["a"] = 1
        heard.clear()
        cache.get_many(["a", "b"])

        assert sorted(heard) == [("hit", "a"), ("miss", "b")]

    def test_contains_tells_nothing(self, cache, heard):
        assert "a" not in cache
        assert heard == []

    def test_storing_tells_key_and_tag(self, cache):
        told = []
        off = cache.on("set", told.append)
        cache.set("a", 1, tag="t")
        cache.add("b", 1)
        cache.add("b", 1)
        cache.incr("c")
        off()

        assert told == [Event("set", "a", "t"), Event("set", "b"), Event("set", "c")]

    def test_keys_are_those_of_the_user(self, cache, heard):
        keys = [1, 1.5, "text", b"bytes", ("a", 1), None]
        for key in keys:
            cache[key] = 0

        assert heard == [("set", key) for key in keys]

    def test_removing_tells_only_what_was_there(self, cache, heard):
        cache["a"], cache["b"], cache["c"] = 1, 2, 3
        heard.clear()
        cache.delete("a")
        cache.delete("a")
        cache.pop("b")
        cache.pop("b")
        cache.delete_many(["c", "d", "c"])

        assert heard == [("delete", "a"), ("delete", "b"), ("delete", "c")]

    def test_set_many_tells_each_entry(self, cache, heard):
        cache.set_many({"a": 1, "b": 2})

        assert sorted(heard) == [("set", "a"), ("set", "b")]

    def test_set_many_tells_nothing_of_what_is_too_large(self, make_cache):
        cache = make_cache(value_limit=100)
        told = []
        off = cache.on("set", told.append)
        stored = cache.set_many({"a": b"1", "b": b"2" * 200})
        off()

        assert (stored, told) == (1, [Event("set", "a")])

    def test_queues_tell_set_and_delete(self, cache, heard):
        key = cache.push("x")
        cache.peek()
        cache.pull()
        cache.pull()

        assert heard == [("set", key), ("delete", key)]

    def test_evict_tells_tag_and_count(self, cache):
        told = []
        off = cache.on("evict", told.append)
        for number in range(5):
            cache.set(number, 0, tag="t")
        cache.evict("t")
        cache.evict("t")
        off()

        assert {(event.name, event.key, event.tag) for event in told} == {("evict", UNKNOWN, "t")}
        assert sum(event.count for event in told) == 5

    def test_expire_and_clear_tell_how_many(self, cache, clock):
        told = []
        offs = [cache.on(name, told.append) for name in ("expire", "delete")]
        for number in range(3):
            cache.set(number, 0, expire=1)
        cache["stays"] = 1
        clock.advance(2)
        cache.expire()
        cache.clear()
        for off in offs:
            off()

        assert sum(event.count for event in told if event.name == "expire") == 3
        assert sum(event.count for event in told if event.name == "delete") == 1

    def test_write_that_removes_expired_entries_tells_how_many(self, cache, clock):
        told = []
        off = cache.on("expire", told.append)
        for number in range(64):
            cache.set(number, 0, expire=1)
        clock.advance(2)
        for number in range(64, 192):
            cache[number] = 0
        off()

        assert sum(event.count for event in told) == 64

    def test_write_that_culls_tells_how_many(self, make_cache):
        cache = make_cache(count_limit=32)
        told = []
        off = cache.on("cull", told.append)
        for number in range(100):
            cache[number] = 0
        off()

        assert sum(event.count for event in told) == 100 - len(cache) > 0

    @asks_for("culling")
    def test_write_tells_of_victims_that_were_stored_just_before(self, make_cache, clock):
        cache = make_cache(count_limit=3)
        for number in range(3):
            cache[number] = 0
        clock.advance(11)
        told = []
        off = cache.on("cull", told.append)
        for number in range(3, 8):
            cache[number] = 0
        off()

        assert [(event.count, event.young) for event in told] == [(1, 0)] * 3 + [(1, 1)] * 2

    def test_cull_tells_how_many(self, make_cache):
        cache = make_cache(cull_limit=0)
        for number in range(100):
            cache[number] = 0
        cache.reset("count_limit", 40)
        told = []
        off = cache.on("cull", told.append)
        culled = cache.cull()
        off()

        assert sum(event.count for event in told) == culled > 0

    @asks_for("transactions")
    def test_transaction_tells_after_its_end(self, cache, heard):
        with cache.transact(), cache.transact():
            cache["a"] = 1
            cache.delete("a")
            assert heard == []

        assert heard == [("set", "a"), ("delete", "a")]

    @asks_for("transactions")
    def test_transaction_that_is_rolled_back_tells_nothing_but_errors(self, cache, heard):
        with pytest.raises(ZeroDivisionError), cache.transact():
            cache["a"] = 1
            cache.get("b")
            1 / 0  # noqa: B018 - it fails

        cache["c"] = 1

        assert ("set", "a") not in heard
        assert ("set", "c") in heard

    @asks_for("transactions")
    def test_listener_that_comes_in_a_transaction_hears_nothing_of_it(self, cache):
        told = []
        with cache.transact():
            off = cache.on("set", told.append)
            cache["a"] = 1
        cache["b"] = 1
        off()

        assert told == [Event("set", "b")]

    def test_listener_may_use_the_cache_and_is_not_told_of_that(self, cache):
        told = []

        def copy(event):
            told.append(event.key)
            cache.set("copy", event.key)
            with cache.transact():
                cache.delete("a")

        off = cache.on("set", copy)
        cache["a"] = 1
        cache["b"] = 1
        off()

        assert told == ["a", "b"]
        assert cache["copy"] == "b"
        assert "a" not in cache

    def test_listener_that_fails_is_logged_and_harms_nobody(self, cache, caplog):
        told = []

        def fail(event):
            raise OSError("full")

        offs = [cache.on("set", fail), cache.on("set", told.append)]
        with caplog.at_level(logging.ERROR, "diskcache"):
            assert cache.set("a", 1)
        for off in offs:
            off()

        assert told == [Event("set", "a")]
        assert cache["a"] == 1
        assert "a listener of event set failed" in caplog.text

    def test_listener_that_is_removed_hears_nothing(self, cache):
        told = []
        off = cache.on("set", told.append)
        again = cache.on("set", told.append)
        off()
        off()
        cache["a"] = 1
        again()
        cache["b"] = 1

        assert told == [Event("set", "a")]

    def test_on_decorates_a_function(self, cache):
        told = []

        @cache.on("set")
        def hear(event):
            told.append(event)

        cache["a"] = 1
        hear(Event("set", "by hand"))

        assert told == [Event("set", "a"), Event("set", "by hand")]

    def test_on_of_another_name_raises(self, cache):
        with pytest.raises(SettingError, match="name must be one of hit, miss"):
            cache.on("read", print)

    def test_on_of_what_cannot_be_called_raises(self, cache):
        with pytest.raises(TypeError, match="func must be a function"):
            cache.on("set", 5)

    def test_on_of_what_nobody_would_await_raises(self, cache):
        async def listener(event):
            del event

        class Listener:
            async def __call__(self, event):
                del event

        for func in (listener, Listener()):
            with pytest.raises(TypeError, match="called, not awaited"):
                cache.on("set", func)
        cache["k"] = 1

    def test_refused_operation_tells_its_error(self, cache, heard):
        told = []
        off = cache.on("error", told.append)
        with pytest.raises(TypeError):
            cache.set("a", 1, tag=[])
        off()

        assert [type(event.error).__mro__[-2] for event in told] == [BaseException]
        assert [name for name, _ in heard] == ["error"]

    def test_changed_setting_leaves_listeners_in_place(self, cache, heard):
        cache["a"] = 1
        cache.stats(enable=True)
        heard.clear()
        for _ in range(3):
            cache.get("a")
        cache.stats(enable=False)
        cache.get("a")

        assert heard == [("hit", "a")] * 4

    def test_statistics_count_on_while_somebody_listens(self, make_cache):
        cache = make_cache(statistics=True)
        cache["a"] = 1
        offs = [cache.on("hit", lambda _: None)]
        for _ in range(3):
            cache.get("a")
        cache.get("b")
        for off in offs:
            off()
        cache.get("a")

        assert cache.stats() == (4, 1)

    def test_computed_values_tell_miss_set_and_hit(self, cache, heard):
        for _ in range(2):
            cache.get_or_set("a", lambda: 1)

        assert heard == [("miss", "a"), ("set", "a"), ("hit", "a")]
