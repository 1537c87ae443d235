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
from diskcache.archive import ENTRIES, HEADER, SOURCE, TRAILER, ArchiveWriter
from diskcache.codecs import plain
from diskcache.codecs.compression import Packer
from diskcache.memory.tier import Tier
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
        {"mode": 4, "value": pickle.dumps(5, 2)},
        {"mode": 4, "value": pickle.dumps([5], 5)},
        {"mode": 3 | 16, "value": Packer("zlib").pack(b"text " * 500)[1]},
        {"mode": 5 | 16, "value": Packer("zlib").pack(plain.dumps(["text " * 500]))[1]},
        {"mode": 9 | 16, "value": Packer("zlib").pack(b"text " * 500)[1]},
        {"mode": 9, "value": b"\x01" + bytes(30)},
        {"mode": 9, "value": b"\x01i" + bytes(8)},
        {"mode": 9, "value": 5},
    ],
    ids=lambda row: f"{row['mode']}, {str(row['value'])[:20]}",
)
def test_planted_value_is_missing_for_every_reader(directory, row):
    Cache(directory, **OPTIONS).close()
    for key, raw in paths.PLACES.values():
        hostile.insert(directory, key=key, raw=raw, **row)
    with warnings.catch_warnings(), Cache(directory, **OPTIONS) as cache:
        warnings.simplefilter("ignore")
        assert [cache.get(paths.KEY) for _ in range(4)] == [None] * 4
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


def test_compressed_values_are_signed_as_they_are_compressed(directory):
    options = {"compress": "zlib", "compress_min": 100, **OPTIONS}
    values = ["text " * 100, b"bytes" * 100, list(range(500)), [Thing(), "x" * 900], "short"]
    with Cache(directory, **options) as cache:
        for number, value in enumerate(values):
            cache[number] = value
        rows = cache._engine._link().execute("SELECT mode, length(value) FROM Cache").fetchall()
    with Cache(directory, **OPTIONS) as cache:
        found = [cache[number] for number in range(len(values))]

    assert found[:3] + found[4:] == values[:3] + values[4:]
    assert type(found[3][0]) is Thing
    assert [mode for mode, _ in rows] == [9, 9, 9, 4 | 16, 9]
    assert all(length < 1600 for _, length in rows)


def test_values_from_memory_are_not_shared_with_a_cache_that_believes_more(directory):
    Cache(directory, **OPTIONS).close()
    hostile.insert(directory, value="planted")
    hostile.insert(directory, key="plain", mode=5, value=plain.dumps(["planted"]))
    with (
        Cache(directory, secret=hostile.SECRET) as believing,
        Cache(directory, **OPTIONS) as cache,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for _ in range(4):
            assert believing["k"] == "planted"
            assert believing["plain"] == ["planted"]
        for _ in range(4):
            assert cache.get("k") is None
            assert cache.get("plain") is None
            assert "plain" in cache
            assert cache.get("plain") is None


@pytest.mark.parametrize("value", [["a", "list"], Thing(), "text"], ids=["list", "object", "text"])
def test_what_memory_keeps_was_verified_or_is_at_each_hit(directory, value, monkeypatch):
    kept = []
    keep = Tier.keep
    monkeypatch.setattr(Tier, "keep", lambda self, *args: (kept.append(args), keep(self, *args)))
    with Cache(directory, **OPTIONS) as cache:
        cache["k"] = value
        for _ in range(4):
            assert type(cache["k"]) is type(value)
        verified = []
        verify = cache._codec._signer.verify
        cache._codec._signer.verify = lambda *args: (verified.append(args), verify(*args))[1]
        for _ in range(4):
            assert type(cache["k"]) is type(value)

    assert len(kept) > 0
    assert len(verified) == (0 if value == "text" else 4)


def test_signed_values_are_signed_anew_when_they_are_imported(tmp_path):
    stream = io.BytesIO()
    with Cache(tmp_path / "cache", disk_min_file_size=10_000, **OPTIONS) as cache:
        for number, value in enumerate([*VALUES, Thing()]):
            cache[number] = value
        cache.export(stream)
    stream.seek(0)
    with Cache(tmp_path / "copy", **OPTIONS) as copy:
        report = copy.import_from(stream)
        assert (report.entries, report.skipped) == (len(VALUES) + 1, 0)
        assert [copy[number] for number in range(len(VALUES))] == VALUES
        assert type(copy[len(VALUES)]) is Thing
        assert copy.backup(tmp_path / "backup").entries == len(VALUES) + 1
    stream.seek(0)
    with Cache(tmp_path / "other", authenticate="all", secret=b"o" * 32) as other:
        report = other.import_from(stream)
        assert (report.entries, report.skipped) == (0, len(VALUES) + 1)
    with Cache(tmp_path / "backup", **OPTIONS) as backup:
        assert [backup[number] for number in range(len(VALUES))] == VALUES


def test_unsigned_values_of_an_archive_are_left_out(tmp_path):
    stream = io.BytesIO()
    with Cache(tmp_path / "cache", secret=hostile.SECRET, disk_min_file_size=10_000) as cache:
        cache["k"], cache["plain"], cache["file"] = 1, [1], bytes(20_000)
        cache.export(stream)
    stream.seek(0)
    with Cache(tmp_path / "copy", **OPTIONS) as copy:
        report = copy.import_from(stream)
        assert (report.entries, report.skipped) == (0, 3)
        assert len(copy) == 0


def test_sealed_value_of_an_archive_cannot_change_its_key(tmp_path):
    with Cache(tmp_path / "cache", **OPTIONS) as cache:
        cache["k"] = "v"
        cache_id = cache._engine.cache_id
        mode, value = cache._engine._link().execute("SELECT mode, value FROM Cache").get
    stream = io.BytesIO()
    writer = ArchiveWriter(stream.write)
    header = {"id": bytes(16), "shards": 0, "settings": {}, "writer": ""}
    writer.put(HEADER, {**header, "created": 1.0, "version": "6"})
    writer.put(SOURCE, {"cache_id": cache_id})
    writer.put(ENTRIES, [("other", 1, mode, value, None, None), ("k", 1, mode, value, None, None)])
    writer.put(TRAILER, {"entries": 2})
    stream.seek(0)
    with Cache(tmp_path / "copy", **OPTIONS) as copy:
        assert copy.import_from(stream).skipped == 1
        assert list(copy.items()) == [("k", "v")]
