"""What Django documents of its cache API, kept by this backend as by Django's own in memory."""

from __future__ import annotations

import asyncio
import pickle
from unittest import mock

import pytest
from django.core.cache import DEFAULT_CACHE_ALIAS, caches
from django.core.cache.backends.base import CacheKeyWarning
from django.test import override_settings

from diskcache.aio.pool import pool_of

BACKENDS = {
    "diskcache": "diskcache.DjangoCache",
    "locmem": "django.core.cache.backends.locmem.LocMemCache",
}


class Unpicklable:
    def __getstate__(self):
        raise pickle.PickleError("not me")


@pytest.fixture(params=BACKENDS)
def make(request, directory, clock, monkeypatch):
    """Make a cache of either kind through `CACHES`, on a clock that only the test moves."""
    monkeypatch.setattr("time.time", clock.time)
    changed = []

    def make_one(**params):
        entry = {"BACKEND": BACKENDS[request.param], "LOCATION": str(directory), "SHARDS": 2}
        entry.update(params)
        changed.append(override_settings(CACHES={"default": entry}))
        changed[-1].enable()
        return caches[DEFAULT_CACHE_ALIAS]

    yield make_one
    if request.param == "diskcache":
        caches["default"]._cache.close()
        for thread in pool_of(caches["default"]._cache).close():
            thread.join(60)
        assert caches["default"]._cache.check() == []
        caches["default"]._cache.close()
    else:
        caches["default"].clear()
    for settings in reversed(changed):
        settings.disable()


@pytest.fixture
def cache(make):
    return make()


# -- Basic usage --


def test_set_then_get_returns_the_value(cache):
    cache.set("my_key", "hello, world!", 30)

    assert cache.get("my_key") == "hello, world!"


def test_get_missing_returns_none_or_the_default(cache):
    assert cache.get("missing") is None
    assert cache.get("missing", "has expired") == "has expired"


def test_none_is_a_value_like_others(cache):
    cache.set("none", None)

    assert cache.get("none", "default") is None
    assert "none" in cache
    assert cache.get_many(["none", "missing"]) == {"none": None}
    assert cache.add("none", 1) is False


@pytest.mark.parametrize(
    "value",
    ["text", "\u1234\N{SNOWMAN}", 1, 1.5, True, [1, 2], {"a": (1, 2)}, {1, 2}, b"\x00\xff", ""],
    ids=repr,
)
def test_values_of_any_type_come_back(cache, value):
    cache.set("key", value)

    assert cache.get("key") == value
    assert type(cache.get("key")) is type(value)


@pytest.mark.parametrize("key", ["ascii", "\u00e4\u1234", 1, ("a", "b"), None], ids=repr)
@pytest.mark.filterwarnings("ignore::django.core.cache.backends.base.CacheKeyWarning")
def test_keys_are_turned_into_text(cache, key):
    cache.set(key, "value")

    assert cache.get(str(key)) == "value"


def test_changing_what_was_read_does_not_change_the_entry(cache):
    cache.set("list", [1, 2])
    cache.get("list").append(3)

    assert cache.get("list") == [1, 2]


def test_add_stores_only_what_is_not_there(cache):
    assert cache.add("add_key", "Initial value") is True
    assert cache.add("add_key", "New value") is False
    assert cache.get("add_key") == "Initial value"


def test_get_or_set_stores_the_default(cache):
    assert cache.get_or_set("my_new_key", "my new value", 100) == "my new value"
    assert cache.get_or_set("my_new_key", "another", 100) == "my new value"


def test_get_or_set_calls_a_default_only_if_it_must(cache):
    default = mock.Mock(return_value="made")

    assert [cache.get_or_set("key", default) for _ in range(3)] == ["made"] * 3
    assert default.call_count == 1


def test_get_or_set_with_version_and_timeout_uses_both(cache, clock):
    cache.get_or_set("key", 1988, version=2, timeout=10)

    assert cache.get("key") is None
    assert cache.get("key", version=2) == 1988
    clock.advance(11)
    assert cache.get("key", version=2) is None


def test_get_or_set_that_loses_a_race_returns_what_won(cache):
    with mock.patch.object(type(cache), "add", return_value=False):
        assert cache.get_or_set("key", "default") == "default"


def test_get_many_returns_what_is_there(cache):
    cache.set("a", 1)
    cache.set("b", 2)

    assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
    assert cache.get_many(iter(["a"])) == {"a": 1}
    assert cache.get_many([]) == {}


def test_set_many_returns_no_failures(cache):
    assert cache.set_many({"a": 1, "b": 2, "c": 3}) == []
    assert cache.set_many({}) == []
    assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": 2, "c": 3}


def test_set_many_entries_expire(cache, clock):
    cache.set_many({"a": 1, "b": 2}, 1)
    clock.advance(2)

    assert cache.get_many(["a", "b"]) == {}


def test_delete_tells_whether_there_was_an_entry(cache):
    cache.set("a", 1)

    assert cache.delete("a") is True
    assert cache.delete("a") is False


def test_delete_many_removes_those_and_no_others(cache):
    cache.set_many({"a": 1, "b": 2, "c": 3})

    assert cache.delete_many(["a", "b", "missing"]) is None
    assert cache.get_many("abc") == {"c": 3}


def test_clear_removes_everything(cache):
    cache.set_many({"a": 1, "b": 2})
    cache.set("c", 3, version=2)
    cache.clear()

    assert cache.get_many("ab") == {}
    assert cache.get("c", version=2) is None


def test_touch_gives_a_new_timeout(cache, clock):
    cache.set("a", 1, 10)

    assert cache.touch("a", 20) is True
    clock.advance(15)
    assert cache.get("a") == 1
    clock.advance(6)
    assert cache.touch("a", 20) is False


def test_touch_without_timeout_uses_the_default(cache, clock):
    cache.set("a", 1, 10)
    cache.touch("a")
    clock.advance(299)
    assert cache.get("a") == 1
    clock.advance(2)

    assert cache.get("a") is None


def test_touch_with_none_and_with_zero(cache, clock):
    cache.set_many({"a": 1, "b": 2}, 10)

    assert cache.touch("a", None) is True
    assert cache.touch("b", 0) is True
    clock.advance(10**6)
    assert cache.get_many("ab") == {"a": 1}


def test_incr_and_decr_return_the_new_value(cache):
    cache.set("num", 1)

    assert cache.incr("num") == 2
    assert cache.incr("num", 10) == 12
    assert cache.decr("num") == 11
    assert cache.decr("num", 5) == 6
    assert cache.incr("num", -6) == 0


def test_incr_and_decr_of_a_missing_key_raise_value_error(cache):
    for call in (cache.incr, cache.decr):
        with pytest.raises(ValueError, match="missing"):
            call("missing")


def test_incr_of_none_raises_type_error(cache):
    cache.set("none", None)

    with pytest.raises(TypeError):
        cache.incr("none")


def test_incr_keeps_the_timeout(cache, clock):
    cache.set("num", 1, 10)
    cache.incr("num")
    clock.advance(11)

    assert cache.get("num") is None


def test_has_key_and_in_tell_whether_there_is_an_entry(cache, clock):
    cache.set("a", 1, 10)

    assert cache.has_key("a") is True
    assert "a" in cache
    clock.advance(11)
    assert cache.has_key("a") is False
    assert "a" not in cache


def test_close_may_be_called_and_the_cache_used_on(cache):
    cache.set("a", 1)
    cache.close()

    assert cache.get("a") == 1


# -- Timeouts --


def test_timeout_of_the_settings_is_the_default(make, clock):
    cache = make(TIMEOUT=60)
    cache.set("a", 1)
    cache.add("b", 1)
    clock.advance(59)
    assert cache.get_many("ab") == {"a": 1, "b": 1}
    clock.advance(2)

    assert cache.get_many("ab") == {}


def test_timeout_none_in_the_settings_means_never(make, clock):
    cache = make(TIMEOUT=None)
    cache.set("a", 1)
    clock.advance(10**9)

    assert cache.get("a") == 1


@pytest.mark.parametrize("timeout", [0, -1, -100])
def test_timeout_of_zero_or_less_means_expired_at_once(cache, timeout):
    cache.set("a", 1)
    cache.set("a", 2, timeout)
    cache.add("b", 1, timeout)
    cache.set_many({"c": 1}, timeout)

    assert cache.get_many("abc") == {}
    assert "a" not in cache


def test_timeout_none_means_never(cache, clock):
    cache.set("a", 1, None)
    cache.add("b", 1, None)
    cache.set_many({"c": 1}, None)
    clock.advance(10**9)

    assert cache.get_many("abc") == {"a": 1, "b": 1, "c": 1}


def test_timeout_may_be_a_fraction(cache, clock):
    cache.set("a", 1, timeout=0.5)
    assert cache.get("a") == 1
    clock.advance(0.6)

    assert cache.get("a") is None


def test_expired_entry_can_be_added_again(cache, clock):
    cache.set("a", 1, 10)
    clock.advance(11)

    assert cache.add("a", 2) is True
    assert cache.get("a") == 2


def test_timeout_far_in_the_future_is_kept(cache, clock):
    cache.set("a", 1, 60 * 60 * 24 * 30 + 1)
    clock.advance(60 * 60 * 24 * 30)

    assert cache.get("a") == 1


# -- Versions and prefixes --


def test_versions_of_a_key_are_apart(cache):
    cache.set("key", 1)
    cache.set("key", 2, version=2)

    assert cache.get("key") == cache.get("key", version=1) == 1
    assert cache.get("key", version=2) == 2
    assert cache.get("key", version=3) is None
    assert cache.get_many(["key"], version=2) == {"key": 2}
    assert cache.has_key("key", version=2)
    assert cache.incr("key", version=2) == 3
    assert cache.decr("key", version=2) == 2
    assert cache.touch("key", version=3) is False
    assert cache.delete("key", version=2) is True
    assert cache.get("key") == 1


def test_bulk_calls_take_a_version(cache):
    cache.set_many({"a": 1, "b": 2}, version=2)
    cache.set_many({"a": 3})
    cache.delete_many(["a"], version=2)

    assert cache.get_many("ab", version=2) == {"b": 2}
    assert cache.get_many("ab") == {"a": 3}


def test_version_of_the_settings_is_the_default(make):
    cache = make(VERSION=2)
    cache.set("key", "two")

    assert cache.get("key", version=2) == "two"
    assert cache.get("key", version=1) is None


def test_incr_version_moves_an_entry(cache):
    cache.set("key", "value", version=2)

    assert cache.incr_version("key", version=2) == 3
    assert cache.get("key", version=2) is None
    assert cache.get("key", version=3) == "value"
    assert cache.decr_version("key", version=3) == 2
    assert cache.get("key", version=2) == "value"
    assert cache.incr_version("key", 5, version=2) == 7


def test_incr_version_without_version_moves_on_from_the_default(cache):
    cache.set("key", "value")

    assert cache.incr_version("key") == 2
    assert cache.get("key") is None
    cache.set("none", None)
    assert cache.incr_version("none") == 2


@pytest.mark.parametrize("name", ["incr_version", "decr_version"])
def test_incr_version_of_a_missing_key_raises_value_error(cache, name):
    with pytest.raises(ValueError, match="missing"):
        getattr(cache, name)("missing")


def test_prefixes_keep_sites_apart(make):
    make().set("key", "here")
    other = make(KEY_PREFIX="other")
    assert other.get("key") is None
    other.set("key", "there")

    assert other.get("key") == "there"
    assert make().get("key") == "here"


def test_key_function_of_the_settings_makes_the_keys(make):
    cache = make(KEY_FUNCTION=lambda key, prefix, version: f"CUSTOM-{prefix}-{version}-{key}")
    cache.set("key", "value")
    plain = make()
    plain.key_func = lambda key, *_: key

    assert plain.get("CUSTOM--1-key") == "value"


# -- Keys --


@pytest.mark.parametrize(
    "call",
    [
        lambda cache, key: cache.add(key, 1),
        lambda cache, key: cache.get(key),
        lambda cache, key: cache.set(key, 1),
        lambda cache, key: cache.touch(key),
        lambda cache, key: cache.delete(key),
        lambda cache, key: cache.has_key(key),
        lambda cache, key: cache.get_many([key, "b"]),
        lambda cache, key: cache.set_many({key: 1, "b": 2}),
        lambda cache, key: cache.delete_many([key, "b"]),
        lambda cache, key: cache.get_or_set(key, 1),
    ],
    ids="add get set touch delete has_key get_many set_many delete_many get_or_set".split(),
)
def test_key_that_memcached_would_refuse_warns(cache, call):
    for key in ("key with spaces and \u6e05", "a" * 251, "\x7f"):
        with pytest.warns(CacheKeyWarning, match="memcached"):
            call(cache, key)


def test_key_that_warns_is_stored_all_the_same(cache):
    with pytest.warns(CacheKeyWarning):
        cache.set("a b", 1)
    with pytest.warns(CacheKeyWarning):
        assert cache.get("a b") == 1


def test_validate_key_of_a_subclass_decides(cache):
    with mock.patch.object(type(cache), "validate_key", return_value=None):
        cache.set("a b", 1)
        assert cache.get("a b") == 1


# -- Errors of pickle --


@pytest.mark.parametrize("name", ["set", "add"])
def test_error_of_pickle_is_raised_and_nothing_stored(cache, name):
    with pytest.raises(pickle.PickleError):
        getattr(cache, name)("key", Unpicklable())

    assert "key" not in cache


@pytest.mark.parametrize("value", [lambda: None, open], ids=["lambda", "module function"])
def test_values_that_pickle_cannot_write_raise_what_it_raises(cache, value):
    try:
        pickle.dumps(value)
    except (pickle.PickleError, AttributeError, TypeError) as exc:
        with pytest.raises(type(exc)):
            cache.set("key", value)
    else:
        cache.set("key", value)
        assert cache.get("key") is value


# -- Culling --


@pytest.mark.parametrize(
    ("most", "frequency", "stored", "left"),
    [(30, 3, 49, 29), (30, 0, 49, 19), (30, 1, 49, 19), (30, 2, 49, 19), (30, None, 49, 29)],
)
def test_entries_beyond_max_entries_are_culled(make, most, frequency, stored, left):
    options = {"MAX_ENTRIES": most}
    if frequency is not None:
        options["CULL_FREQUENCY"] = frequency
    cache = make(OPTIONS=options)
    for number in range(1, stored + 1):
        cache.set(f"cull{number}", "value", 1000)
        assert f"cull{number}" in cache
        assert sum(cache.has_key(f"cull{n}") for n in range(1, stored + 1)) <= most

    assert sum(cache.has_key(f"cull{n}") for n in range(1, stored + 1)) == left


# -- Asynchronous --


async def everything(cache):
    """Call every asynchronous method; return what they returned."""
    results = [
        await cache.aset("num", 1),
        await cache.aget("num"),
        await cache.aget("missing", "default"),
        await cache.aadd("num", 2),
        await cache.aadd("other", 2, timeout=None, version=2),
        await cache.ahas_key("other", version=2),
        await cache.aincr("num", 10),
        await cache.adecr("num", 1, version=1),
        await cache.atouch("num", 100),
        await cache.aget_or_set("made", lambda: "value", timeout=10),
        await cache.aget_or_set("made", "other"),
        await cache.aset_many({"a": 1, "b": 2}),
        await cache.aget_many(["a", "b", "c"]),
        await cache.adelete_many(["a"]),
        await cache.aget_many(["a", "b"]),
        await cache.aincr_version("b"),
        await cache.adecr_version("b", version=2),
        await cache.adelete("b"),
        await cache.adelete("b"),
    ]
    await cache.aclear()
    results.append(await cache.aget("num"))
    await cache.aclose()
    return results[1:]


def test_asynchronous_methods_do_what_the_others_do(cache):
    assert asyncio.run(everything(cache)) == [
        1, "default", False, True, True, 11, 10, True, "value", "value", [], {"a": 1, "b": 2},
        None, {"b": 2}, 2, 1, True, False, None,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["aincr", "adecr", "aincr_version", "adecr_version"])
def test_asynchronous_methods_raise_value_error_too(cache, name):
    with pytest.raises(ValueError, match="missing"):
        asyncio.run(getattr(cache, name)("missing"))
