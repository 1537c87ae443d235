"""What `DjangoCache` does beyond Django's cache API, and how it is opened, shared and closed."""

from __future__ import annotations

import copy
import functools
import inspect
import io
import pickle
import shutil
import subprocess
import sys
import threading
from unittest import mock

import pytest
from django.core.cache.backends.base import CacheKeyWarning
from django.test import override_settings

import diskcache
from diskcache import (
    ENOVAL,
    DjangoCache,
    FanoutCache,
    JSONDisk,
    SettingError,
    UntrustedPickleWarning,
)
from diskcache.djangocache import DjangoCache as OldName
from diskcache.integrations.django import DEFAULT_TIMEOUT
from tests.support.crew import in_threads
from tests.support.leaks import open_below, value_files

LARGE = b"x" * 50_000


class Thing:
    def __init__(self, number):
        self.number = number


def double(number, unit="mm"):
    """Double a number."""
    double.calls += 1
    return None if number is None else (number * 2, unit)


@pytest.fixture
def doubled():
    double.calls = 0
    return double


# -- Tags, files, counters --


def test_on_error_of_a_server_has_no_effect_in_a_directory(make_backend):
    backend = make_backend(OPTIONS={"on_error": "miss"})

    assert not hasattr(backend._shared.cache, "on_error")
    with pytest.raises(SettingError, match="a directory is one cache"):
        make_backend(OPTIONS={"namespace": "app"}).get("k")


def test_entries_of_a_tag_are_evicted(backend):
    backend.set("a", 1, tag="news")
    backend.add("b", 2, tag="news")
    backend.set("c", 3, tag="sport")

    assert backend.evict("news") == 2
    assert backend.get_many("abc") == {"c": 3}
    assert backend.evict(None) == 0


def test_get_and_pop_return_expiry_and_tag(backend, clock):
    backend.set("k", "v", 10, tag="t")

    assert backend.get("k", expire_time=True, tag=True) == ("v", clock.time() + 10, "t")
    assert backend.get("missing", 0, tag=True) == (0, None)
    assert backend.pop("k", tag=True) == ("v", "t")
    assert backend.pop("k", "gone") == "gone"


def test_read_returns_a_file_with_its_real_path(backend, directory):
    backend.set("k", io.BytesIO(LARGE), read=True)
    with backend.read("k") as reader:
        (path,) = value_files(directory)
        assert reader.name == str(path)
        assert reader.read() == LARGE
    with backend.get("k", read=True) as reader:
        assert reader.read() == LARGE
    with pytest.raises(KeyError):
        backend.read("missing")


def test_incr_with_a_default_makes_the_entry_for_ever(backend, clock):
    assert backend.incr("n", 5, default=10) == 15
    assert backend.decr("m", default=0, version=2) == -1
    clock.advance(10**9)
    assert backend.get("n") == 15


def test_stats_count_hits_and_misses(backend):
    backend.stats(enable=True)
    backend.set("k", 1)
    backend.get("k")
    backend.get("missing")

    assert backend.stats(enable=False, reset=True) == (1, 1)


def test_expire_and_cull_and_clear_return_counts(backend, clock):
    backend.set_many({"a": 1, "b": 2}, 10)
    backend.set("c", 3)
    clock.advance(11)

    assert backend.expire() == 2
    assert backend.cull() == 0
    assert backend.clear() == 1


def test_tag_index_is_made_and_dropped(backend):
    backend.create_tag_index()
    assert backend._cache.tag_index == 1
    backend.drop_tag_index()
    assert backend._cache.tag_index == 0


def test_incr_version_keeps_timeout_tag_and_file(backend, clock, directory):
    backend.set("k", io.BytesIO(LARGE), 10, read=True, tag="t")
    backend.incr_version("k")

    assert backend.get("k", version=2, expire_time=True, tag=True) == (
        LARGE,
        pytest.approx(clock.time() + 10),
        "t",
    )
    assert len(value_files(directory)) == 1
    with backend.read("k", version=2) as reader:
        assert reader.read() == LARGE


def test_incr_version_that_cannot_store_keeps_the_old_version(backend):
    backend.set("k", LARGE)
    backend._cache.size_limit = 1000
    backend.incr_version("k")

    assert backend.get("k") == LARGE
    assert backend.get("k", version=2) is None


def test_parts_are_below_the_directory(backend, directory):
    backend.cache("users")["ada"] = 1815
    backend.deque("names", maxlen=1).extend(["ada", "bob"])
    backend.index("births")["ada"] = 1815

    assert list(backend.deque("names", maxlen=1)) == ["bob"]
    assert backend.index("births")["ada"] == 1815
    assert {path.name for path in directory.iterdir()} >= {"cache", "deque", "index"}
    assert "ada" not in backend


def test_bulk_calls_are_one_transaction_per_shard(backend):
    with mock.patch.object(FanoutCache, "set", side_effect=AssertionError):
        assert backend.set_many({str(n): n for n in range(50)}) == []
    with mock.patch.object(FanoutCache, "get", side_effect=AssertionError):
        assert len(backend.get_many(map(str, range(50)))) == 50
    with mock.patch.object(FanoutCache, "delete", side_effect=AssertionError):
        backend.delete_many(map(str, range(50)))
    assert backend.info().entries == 0


def test_set_many_returns_the_keys_that_are_too_large(make_backend):
    backend = make_backend(OPTIONS={"size_limit": 200_000})

    assert backend.set_many({"a": 1, "large": b"x" * 300_000, "b": 2}) == ["large"]
    assert backend.get_many(["a", "large", "b"]) == {"a": 1, "b": 2}


def test_clear_leaves_what_is_not_the_caches(backend, directory):
    (directory / "notes.txt").write_text("mine")
    backend.set("k", LARGE)
    backend.clear()

    assert (directory / "notes.txt").read_text() == "mine"


# -- memoize --


def test_memoize_calls_once(backend, doubled):
    cached = backend.memoize(timeout=10, tag="math")(doubled)

    assert [cached(3), cached(3), cached(3, unit="m")] == [(6, "mm"), (6, "mm"), (6, "m")]
    assert doubled.calls == 2
    assert cached.__wrapped__ is doubled
    assert cached.__doc__ == "Double a number."
    assert backend.evict("math") == 2


def test_memoize_key_is_made_by_django(backend, doubled):
    cached = backend.memoize(name="n", version=3)(doubled)
    cached(1)

    assert cached.__cache_key__(1) == ("n", 1, None)
    assert list(backend._cache) == [":3:('n', 1, None)"]
    assert backend.get(cached.__cache_key__(1), version=3) == (2, "mm")


def test_memoize_controls_work_with_keys_of_django(backend, doubled):
    cached = backend.memoize(name="n", version=3)(doubled)
    other = backend.memoize(name="nn", version=3)(doubled)
    cached(1), cached(2), other(1)

    assert (cached.peek(1), cached.peek(5)) == ((2, "mm"), ENOVAL)
    assert (cached.invalidate(1), cached.invalidate(1)) == (True, False)
    assert cached.refresh(1) == (2, "mm")
    assert cached.clear() == 2
    assert other.peek(1) == (2, "mm")


def test_memoize_takes_the_options_of_cache(backend, clock):
    answers = iter(["old", ZeroDivisionError(), "new"])

    def answer():
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    cached = backend.memoize(name="n", timeout=10, grace=60, backoff=5, lock=True)(answer)
    assert cached() == "old"
    clock.advance(11)
    assert [cached(), cached()] == ["old", "old"]
    clock.advance(7)

    assert cached() == "new"


def test_memoize_with_an_option_that_is_none_raises(backend):
    with pytest.raises(TypeError, match="nonsense"):
        backend.memoize(nonsense=1)


def test_memoize_uses_timeout_and_caches_none(backend, clock, doubled):
    cached = backend.memoize(timeout=10)(doubled)
    assert [cached(None), cached(None)] == [None, None]
    assert doubled.calls == 1
    clock.advance(11)
    cached(None)

    assert doubled.calls == 2


@pytest.mark.parametrize("timeout", [0, -1])
def test_memoize_with_no_time_stores_nothing(backend, doubled, timeout):
    cached = backend.memoize(timeout=timeout)(doubled)
    cached(1)
    cached(1)

    assert doubled.calls == 2
    assert backend.info().entries == 0


def test_memoize_leaves_ignored_arguments_out_and_keeps_types_apart(backend, doubled):
    cached = backend.memoize(typed=True, ignore={"unit"})(doubled)
    cached(1, "m")
    cached(1, unit="mm")
    cached(1.0)

    assert doubled.calls == 2


def test_memoize_of_a_cache_that_is_only_read_computes(make_backend, doubled):
    writer = make_backend()
    writer.memoize(name="n")(doubled)(1)
    writer._cache.close()
    reader = make_backend(OPTIONS={"readonly": True})
    cached = reader.memoize(name="n")(doubled)

    assert [cached(1), cached(2), cached(2)] == [(2, "mm"), (4, "mm"), (4, "mm")]
    assert doubled.calls == 3
    reader._cache.close()


def test_memoize_without_parentheses_raises(backend, doubled):
    with pytest.raises(TypeError, match="name cannot be callable"):
        backend.memoize(doubled)


# -- Timeouts and refusals --


def test_backend_timeout_is_in_seconds(make_backend):
    backend = make_backend(TIMEOUT=60)

    assert backend.get_backend_timeout() == backend.get_backend_timeout(DEFAULT_TIMEOUT) == 60
    assert backend.get_backend_timeout(None) is None
    assert backend.get_backend_timeout(0) == -1
    assert backend.get_backend_timeout(-5) == -5
    assert backend.get_backend_timeout(0.5) == 0.5


def test_write_lock_is_waited_for_a_minute_unless_told_otherwise(make_backend, tmp_path):
    assert make_backend()._cache.timeout == 60
    assert make_backend(tmp_path / "hasty", DATABASE_TIMEOUT=0.01)._cache.timeout == 0.01


def test_refused_writes_return_false_and_are_counted(make_backend):
    backend = make_backend(DATABASE_TIMEOUT=0.001)
    backend.set("n", 1)
    held, done = threading.Event(), threading.Event()

    def hold():
        with backend._cache.transact():
            held.set()
            done.wait(60)

    def write():
        held.wait(60)
        try:
            return [
                backend.set("k", 1, retry=False),
                backend.add("k", 1, retry=False),
                backend.touch("n", retry=False),
                backend.delete("n", retry=False),
                backend.incr("n", retry=False),
                backend.pop("n", "kept", retry=False),
                backend.get("n"),
            ]
        finally:
            done.set()

    assert in_threads(hold, write)[1] == [False, False, False, False, None, "kept", 1]
    assert backend.info().refused == 6


# -- Keys --


@pytest.mark.filterwarnings("error::django.core.cache.backends.base.CacheKeyWarning")
def test_keys_are_not_validated_if_told_so(make_backend):
    backend = make_backend(OPTIONS={"VALIDATE_KEYS": False})
    backend.set("a b" * 100, 1)

    assert backend.get("a b" * 100) == 1


def test_long_keys_are_kept_apart(backend):
    with pytest.warns(CacheKeyWarning):
        backend.set_many({"a" * 10_000 + "b": 1, "a" * 10_000 + "c": 2})
    with pytest.warns(CacheKeyWarning):
        assert backend.get("a" * 10_000 + "b") == 1


# -- Culling --


def test_expired_entries_are_culled_before_others(make_backend, clock):
    backend = make_backend(OPTIONS={"MAX_ENTRIES": 20, "cull_limit": 0})
    backend.set_many({f"old{n}": n for n in range(10)}, 10)
    backend.set_many({f"kept{n}": n for n in range(10)}, None)
    clock.advance(11)
    backend.set("new", 1)

    assert backend.info().entries == 11


def test_entries_are_culled_in_the_order_of_the_policy(make_backend, clock):
    options = {"MAX_ENTRIES": 30, "eviction_policy": "least-recently-used"}
    backend = make_backend(SHARDS=5, OPTIONS=options)
    for number in range(30):
        backend.set(f"k{number}", number)
        clock.advance(1)
    for number in range(5):
        backend.get(f"k{number}")
    backend.set("new", 1)

    gone = {number for number in range(30) if f"k{number}" not in backend}
    assert gone == set(range(5, 15))


def test_max_entries_holds_for_every_way_to_store(make_backend, doubled):
    backend = make_backend(OPTIONS={"MAX_ENTRIES": 10})
    for number in range(30):
        backend.add(f"a{number}", 1)
        assert backend.info().entries <= 10
    for number in range(30):
        backend.incr(f"i{number}", default=0)
        assert backend.info().entries <= 10
    backend.set_many({f"m{number}": 1 for number in range(30)})
    assert backend.info().entries <= 10
    assert "m29" in backend
    for number in range(30):
        backend.memoize()(doubled)(number)
    assert backend.info().entries <= 10


def test_without_max_entries_nothing_is_culled(make_backend):
    backend = make_backend(OPTIONS={"CULL_FREQUENCY": 2})
    backend.set_many({str(number): number for number in range(1000)})

    assert backend.info().entries == 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"MAX_ENTRIES": 0}, "MAX_ENTRIES must be at least 1"),
        ({"MAX_ENTRIES": 5, "CULL_FREQUENCY": -1}, "CULL_FREQUENCY at least 0"),
        ({"MAX_ENTRIES": 5, "eviction_policy": "none"}, "eviction_policy='none'"),
    ],
)
def test_limits_that_cannot_be_are_refused(make_backend, options, message):
    with pytest.raises(SettingError, match=message):
        make_backend(OPTIONS=options)


# -- Secrets --


def stored(directory, **settings):
    """Open the directory as a project with these settings would, and read the thing in it."""
    with override_settings(**settings):
        backend = DjangoCache(directory, {"SHARDS": 2})
        thing = backend.get("thing")
        backend._cache.close()
        return thing and thing.number


@pytest.fixture
def with_thing(directory):
    with override_settings(SECRET_KEY="the first key"):
        backend = DjangoCache(directory, {"SHARDS": 2})
        backend.set("thing", Thing(1))
        backend._cache.close()


@pytest.mark.usefixtures("with_thing")
def test_pickles_are_read_by_whoever_has_the_secret_key(directory):
    assert stored(directory, SECRET_KEY="the first key") == 1


@pytest.mark.usefixtures("with_thing")
def test_pickles_of_another_secret_key_are_misses(directory):
    with pytest.warns(UntrustedPickleWarning):
        assert stored(directory, SECRET_KEY="another key") is None


@pytest.mark.usefixtures("with_thing")
def test_pickles_of_a_fallback_key_are_read(directory):
    fallbacks = ["even older", "the first key"]

    assert stored(directory, SECRET_KEY="another key", SECRET_KEY_FALLBACKS=fallbacks) == 1


@pytest.mark.usefixtures("with_thing")
def test_the_key_itself_is_not_the_secret(directory):
    with (
        pytest.warns(UntrustedPickleWarning),
        FanoutCache(directory, secret=b"the first key" * 4) as c,
    ):
        assert c.get(":1:thing") is None


@pytest.mark.parametrize("key", ["text", b"bytes", "\u00fc" * 200])
def test_secret_key_may_be_text_or_bytes_of_any_length(directory, key):
    with override_settings(SECRET_KEY=key):
        backend = DjangoCache(directory, {})
        backend.set("thing", Thing(1))
        assert backend.get("thing").number == 1
        backend._cache.close()


def test_nothing_is_looked_for_in_the_home_directory(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    backend = DjangoCache(directory, {})
    backend.set("thing", Thing(1))
    backend.cache("part")["thing"] = Thing(2)

    assert backend.cache("part")["thing"].number == 2
    assert not (tmp_path / "state").exists()
    backend._cache.close()


def test_secret_of_the_options_is_used_instead(directory):
    backend = DjangoCache(directory, {"OPTIONS": {"secret": b"s" * 32}})
    backend.set("thing", Thing(1))
    backend._cache.close()
    with FanoutCache(directory, secret=b"s" * 32) as cache:
        assert cache[":1:thing"].number == 1


def test_project_without_a_secret_key_stores_plain_data(directory):
    with override_settings(SECRET_KEY=""):
        backend = DjangoCache(directory, {})
        backend.set("k", [1, 2])
        assert backend.get("k") == [1, 2]
        backend._cache.close()


def test_pickle_never_refuses_and_needs_no_secret_key(make_backend):
    with override_settings(SECRET_KEY=""):
        backend = make_backend(OPTIONS={"pickle": "never"})
        with pytest.raises(TypeError, match="pickle='never'"):
            backend.set("thing", Thing(1))


@pytest.mark.parametrize(
    "options", [{"disk": JSONDisk}, {"serializer": diskcache.json_serializer}], ids=["disk", "json"]
)
def test_disk_and_serializer_of_the_options_are_used(make_backend, options):
    backend = make_backend(OPTIONS=options)
    backend.set("k", (1, 2))

    assert backend.get("k") == [1, 2]
    with pytest.raises(TypeError, match="not JSON serializable"):
        backend.set("k", Thing(1))


# -- Opening, sharing, closing --


def test_shards_are_as_many_as_are_asked_for_or_there(make_backend, directory, tmp_path):
    backend = make_backend(SHARDS=3)
    assert sorted(path.name for path in directory.iterdir()) == ["000", "001", "002"]
    assert make_backend(SHARDS=None).info().shards == 3
    assert backend.directory == str(directory)
    with pytest.raises(SettingError, match="has 3 shards"):
        make_backend(SHARDS=4)
    assert make_backend(tmp_path / "another", SHARDS=None).info().shards == 8


def test_options_are_keywords_of_the_cache(make_backend):
    backend = make_backend(OPTIONS={"size_limit": 2**20, "cull_limit": 5, "SOME_OPTION": 1})

    assert backend._cache.size_limit == 2**20
    assert backend._cache.cull_limit == 5


def test_missing_directory_is_made(make_backend, directory):
    backend = make_backend(directory / "a" / "b")
    backend.set("k", 1)

    assert (directory / "a" / "b").is_dir()


def test_objects_with_the_same_settings_share_the_shards(make_backend, tmp_path):
    first = make_backend()

    assert make_backend()._cache is first._cache
    assert make_backend(TIMEOUT=1)._cache is first._cache
    assert make_backend(OPTIONS={"size_limit": 10**6})._cache is not first._cache
    assert make_backend(tmp_path / "another")._cache is not first._cache


def connections(backend):
    engines = [shard._engine for shard in backend._cache._shards]
    return {link for engine in engines for link in list(engine._links) if not link.is_closed}


def test_close_closes_the_connections_of_this_thread_alone(backend):
    backend.set("k", 1)
    connected, left = threading.Event(), threading.Event()

    def stay():
        backend.get("k")
        connected.set()
        left.wait(60)
        return backend.get("k")

    def leave():
        connected.wait(60)
        others = connections(backend)
        backend.get("k")
        mine = connections(backend) - others
        backend.close(signal="request_finished")
        left.set()
        return len(others), len(mine), connections(backend) == others

    assert in_threads(stay, leave) == [1, (3, 1, True)]


def test_close_then_use_connects_again(backend, directory):
    backend.set("k", LARGE)
    backend.cache("part")["k"] = 1
    backend.close()
    assert open_below(directory) == []
    assert backend.get("k") == LARGE
    assert backend.cache("part")["k"] == 1
    backend.close()

    assert open_below(directory) == []


def test_connections_and_memory_stay_after_a_request(directory):
    backend = DjangoCache(directory, {"SHARDS": 1})
    backend.set("k", 1)
    backend.get("k"), backend.get("k")
    backend.close()
    cache = backend._cache
    assert connections(backend)
    assert len(cache._tier) == 1
    cache.close()

    assert open_below(directory) == []


def test_close_without_keep_open_leaves_what_other_threads_have_in_memory(backend):
    backend.set("k", 1)
    connected, left = threading.Event(), threading.Event()

    def stay():
        backend.get("k"), backend.get("k")
        connected.set()
        left.wait(60)
        return len(backend._cache._tier)

    def leave():
        connected.wait(60)
        backend.get("k")
        backend.close()
        left.set()

    assert in_threads(stay, leave) == [1, None]


def test_removed_directory_is_made_again_after_the_request(make_backend, directory):
    backend = make_backend()
    backend.set("k", 1)
    shutil.rmtree(directory)
    backend.close()
    assert not directory.exists()

    assert backend.get("k") is None
    assert backend.set("k", 2) is True
    assert make_backend().get("k") == 2


def test_directory_that_was_made_anew_is_opened_anew(make_backend, directory):
    old = make_backend()
    old.set("k", 1)
    old.close()
    shutil.rmtree(directory)
    new = make_backend()

    assert new.get("k") is None
    assert new._cache is not old._cache


@pytest.mark.parametrize("again", [copy.copy, lambda b: pickle.loads(pickle.dumps(b))])
def test_copy_is_another_object_on_the_same_directory(again, tmp_path):
    backend = DjangoCache(tmp_path / "cache", {"SHARDS": 2, "KEY_PREFIX": "p", "TIMEOUT": 10})
    backend.set("thing", Thing(1))
    other = again(backend)

    assert other is not backend
    assert other.get("thing").number == 1
    assert (other.key_prefix, other.default_timeout) == ("p", 10)
    backend._cache.close()


def test_secret_of_the_options_is_not_pickled(tmp_path):
    secret = b"0123456789abcdef" * 2
    backend = DjangoCache(tmp_path / "cache", {"OPTIONS": {"secret": secret}})
    backend.set("thing", Thing(1))
    data = pickle.dumps(backend)
    other = pickle.loads(data)

    assert secret not in data
    with pytest.warns(UntrustedPickleWarning):
        assert other.get("thing") is None
    other._cache.close()
    backend._cache.close()


def test_repr_names_the_directory(backend, directory):
    assert repr(backend) == f"DjangoCache({str(directory)!r})"


# -- Asynchronous counterparts --


def public_methods(kind):
    return {
        name: function
        for name, function in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


LOCAL = {
    # Cost nothing, or return something that does.
    *("cache", "deque", "index", "memoize", "make_key", "validate_key", "make_and_validate_key"),
    *("get_backend_timeout", "stats", "info", "create_tag_index", "drop_tag_index"),
    *("on", "bypass"),
}
METHODS = public_methods(DjangoCache)
SYNCHRONOUS = sorted(name for name in METHODS if "a" + name in METHODS)


def test_every_method_that_waits_has_a_counterpart():
    counterparts = {"a" + name for name in SYNCHRONOUS}

    assert set(METHODS) - counterparts - set(SYNCHRONOUS) == LOCAL
    assert all(inspect.iscoroutinefunction(METHODS[name]) for name in counterparts)


@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_counterpart_takes_the_same_arguments(name):
    assert (
        inspect.signature(METHODS["a" + name]).parameters
        == inspect.signature(METHODS[name]).parameters
    )


# -- Names --


def test_names_lead_to_one_class():
    assert OldName is diskcache.DjangoCache is DjangoCache
    assert "DjangoCache" in diskcache.__all__
    assert "DjangoCache" in dir(diskcache)


def test_patching_a_method_by_its_public_name_takes_effect(backend):
    with mock.patch("diskcache.DjangoCache.add", return_value=False) as add:
        assert backend.get_or_set("key", "default") == "default"
    assert add.called
    assert "key" not in backend


WITHOUT_DJANGO = """
import functools
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name == 'django' else find(name, *more)
import diskcache
assert 'DjangoCache' not in diskcache.__all__ and 'DjangoCache' not in dir(diskcache)
assert not hasattr(diskcache, 'DjangoCache')
from diskcache import *
assert 'DjangoCache' not in globals() and 'Cache' in globals()
for statement in (
    'diskcache.DjangoCache', 'import diskcache.djangocache', 'from diskcache import DjangoCache'
):
    try:
        exec(statement)
    except (ImportError, AttributeError) as exc:
        print(type(exc).__name__, '|', exc)
"""


def test_without_django_the_name_is_absent_and_tells_the_extra():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DJANGO],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    access, module, name = done.stdout.splitlines()

    assert access.startswith("AttributeError | module 'diskcache' has no attribute 'DjangoCache'")
    assert module.startswith("MissingExtraError | DjangoCache needs Django")
    assert "pip install 'diskcache[django]'" in access
    assert "pip install 'diskcache[django]'" in module
    assert name.startswith("ImportError | cannot import name 'DjangoCache'")


def test_django_that_is_not_configured_is_enough(tmp_path):
    program = (
        "from diskcache import DjangoCache\n"
        f"cache = DjangoCache({str(tmp_path / 'cache')!r}, {{}})\n"
        "cache.set('k', [1]); print(cache.get('k')); cache.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout == "[1]\n", done.stderr


def test_getting_a_method_that_is_missing_names_the_class(backend):
    with pytest.raises(AttributeError, match="'DjangoCache' object has no attribute 'volume'"):
        backend.volume()


def test_partial_of_a_backend_is_of_use(backend):
    store = functools.partial(backend.set, "k", timeout=None)

    assert store(5) is True
