"""`authenticate='all'`: nothing is loaded that was not stored by somebody with the secret."""

from __future__ import annotations

import io
import pickle
import warnings

import pytest

from diskcache import (
    Averager,
    Cache,
    CodecError,
    Deque,
    FanoutCache,
    Index,
    JSONDisk,
    Lock,
    PickleKeyError,
    SettingError,
    UntrustedPickleError,
    UntrustedPickleWarning,
    json_serializer,
)
from tests.security import hostile, paths
from tests.security.mutations import Thing

OPTIONS = {"secret": hostile.SECRET, "authenticate": "all"}
VALUES = [
    1,
    -(2**63),
    2**70,
    1.5,
    float("inf"),
    "text",
    "",
    "ä" * 50_000,
    b"bytes",
    bytes(50_000),
    None,
    True,
    {"a": (1, [2])},
    [1.5] * 5000,
]


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "cache"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("serializer", [None, json_serializer, pickle], ids=str)
def test_value_comes_back_with_its_type(directory, value, serializer):
    if serializer is json_serializer and isinstance(value, (bytes, dict)):
        pytest.skip("JSON keeps no bytes and no tuples")
    with Cache(directory, serializer=serializer, **OPTIONS) as cache:
        cache["k"] = value
        found = cache["k"]
        assert (found, type(found)) == (value, type(value))
        assert cache.get_many(["k"]) == {"k": value}
        assert list(cache.items()) == [("k", value)]
        assert cache.pop("k") == value


def test_every_row_is_signed(directory):
    with Cache(directory, **OPTIONS) as cache:
        for number, value in enumerate([*VALUES, Thing()]):
            cache[number] = value
            cache.push(value, "q")
        cache.incr("n", 5)
        Averager(cache, "average").add(1)
        with Lock(cache, "lock"):
            modes = cache._engine._link().execute("SELECT DISTINCT mode & 15 FROM Cache").fetchall()

    assert {mode for (mode,) in modes} == {4, 9}


@pytest.mark.parametrize(
    "row",
    [
        {"mode": 1, "value": "planted"},
        {"mode": 1, "value": 5},
        {"mode": 5, "value": b"\x05"},
        {"mode": 5 | 64, "value": b"\x05"},
        {"mode": 6, "value": "5"},
        {"mode": 9, "value": b"\x01" + bytes(30)},
        {"mode": 9, "value": b"\x01i" + bytes(8)},
        {"mode": 9, "value": 5},
    ],
    ids=str,
)
def test_planted_value_is_missing_for_every_reader(directory, row):
    Cache(directory, **OPTIONS).close()
    for key, raw in paths.PLACES.values():
        hostile.insert(directory, key=key, raw=raw, **row)
    with warnings.catch_warnings(), Cache(directory, **OPTIONS) as cache:
        warnings.simplefilter("ignore")
        assert cache.get(paths.KEY) is None
        assert cache.get_many([paths.KEY]) == {}
        assert list(cache.items()) == []
        assert cache.pop(paths.KEY) is None
        for read in (cache.pull, cache.peek, cache.peekitem, Deque.fromcache(cache).popleft):
            with pytest.raises((UntrustedPickleError, CodecError)):
                read()
        with pytest.raises((UntrustedPickleError, CodecError)):
            Index.fromcache(cache)[paths.KEY]
        assert paths.memoized(cache)(1) == 1


def test_planted_value_warns_that_it_is_not_signed(directory):
    Cache(directory, **OPTIONS).close()
    hostile.insert(directory, value=5)
    with Cache(directory, **OPTIONS) as cache:
        with pytest.warns(UntrustedPickleWarning, match="is not signed with a known key"):
            assert cache.get("k") is None
        assert cache.info().untrusted == 1
        assert cache.incr("k") == 1


def test_signed_values_swapped_between_keys_or_roles_are_refused(directory):
    with Cache(directory, **OPTIONS) as cache:
        cache["a"], cache["b"], cache["c"] = "a", "b", Thing()
    hostile.execute(
        directory,
        "UPDATE Cache SET value = (SELECT value FROM Cache WHERE key = 'b') WHERE key = 'a'",
        "UPDATE Cache SET mode = 4 WHERE key = 'b'",
        "UPDATE Cache SET mode = 9 WHERE key = 'c'",
    )
    with Cache(directory, strict=True, **OPTIONS) as cache:
        for key in "abc":
            with pytest.raises(UntrustedPickleError) as caught:
                cache.get(key)
            assert caught.value.reason == "bad-tag"


def test_stream_is_kept_in_a_file_and_comes_back_as_one(directory):
    with Cache(directory, **OPTIONS) as cache:
        for content in (b"small", bytes(50_000)):
            cache.set("k", io.BytesIO(content), read=True)
            assert cache["k"] == content
            if len(content) > 40_000:
                with cache.read("k") as reader:
                    assert reader.read() == content


def test_signed_value_is_read_by_a_cache_with_the_secret_that_signs_pickles_alone(directory):
    with Cache(directory, **OPTIONS) as cache:
        cache["k"] = "v"
    with Cache(directory, secret=hostile.SECRET) as cache:
        assert cache["k"] == "v"
        index = Index.fromcache(cache)
        assert index["k"] == "v"


def test_deque_moves_signed_items(directory):
    with Cache(directory, eviction_policy="none", **OPTIONS) as cache:
        deque = Deque.fromcache(cache, ["a", ("b",), Thing(), 4])
        deque.rotate()
        deque.insert(1, "new")
        deque.reverse()
        assert [type(item) for item in deque] == [Thing, tuple, str, str, int]


def test_fanout_cache_and_copies_of_a_cache_sign_too(tmp_path, monkeypatch):
    monkeypatch.setenv("DISKCACHE_SECRET", hostile.SECRET.hex())
    fanout = FanoutCache(tmp_path / "fanout", shards=2, authenticate="all")
    fanout["k"] = 1
    again = pickle.loads(pickle.dumps(fanout))
    assert again["k"] == 1
    assert again.incr("k") == 2
    fanout.close()
    again.close()
    with Cache(tmp_path / "cache", authenticate="all") as cache:
        cache["k"] = 1
        copied = pickle.loads(pickle.dumps(cache))
        assert copied._codec.is_sealing
        copied.close()


def test_options_that_contradict_it_are_refused(directory):
    for options in (
        {"authenticate": "some"},
        {"authenticate": "all", "pickle": "unsafe"},
        {"authenticate": "all", "disk": JSONDisk},
    ):
        with pytest.raises(SettingError):
            Cache(directory, **options)


def test_no_key_to_sign_with_is_an_error_that_says_what_to_do(directory, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with (
        Cache(directory, authenticate="all") as cache,
        pytest.raises(PickleKeyError, match=r"authenticate='all'.*DISKCACHE_SECRET"),
    ):
        cache["k"] = 1
