"""Compressed values: how they are stored, mixed, verified; and bombs."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc
import zlib
from pathlib import Path

import pytest

from diskcache import (
    Cache,
    CodecError,
    Deque,
    FanoutCache,
    Index,
    JSONDisk,
    MissingExtraError,
    SettingError,
    UnavailableError,
    UnavailableWarning,
    UnsafePickleWarning,
    UntrustedPickleError,
    json_serializer,
)
from diskcache.codecs import compression
from diskcache.codecs.base import KIND, PACKED, ZLIB, ZSTD
from diskcache.codecs.compression import Packer, unpack
from diskcache.entry import Order

METHODS = ["zlib", "zstd"]
BITS = {"zlib": ZLIB, "zstd": ZSTD}
SECRET = b"0123456789abcdef0123456789abcdef"


class Thing:
    """A value that is no plain data."""

    def __init__(self, text):
        self.text = text

    def __eq__(self, other):
        return type(other) is Thing and other.text == self.text

    __hash__ = None


VALUES = {
    "text": "line\r\n" * 500,
    "odd text": "grün " * 500,
    "bytes": b"\0\xff" * 2000,
    "data": {"rows": [(n, "name") for n in range(300)]},
    "thing": Thing("y" * 5000),
    "large text": "ü" * 200_000,
    "large thing": Thing(list(range(50_000))),
    "noise": os.urandom(5000),
    "large noise": os.urandom(100_000),
    "small": "x",
    "number": 7,
}


@pytest.fixture(params=METHODS)
def method(request):
    if request.param == "zstd":
        pytest.importorskip("compression.zstd" if has_own_zstd() else "backports.zstd")
    return request.param


def has_own_zstd():
    try:
        import compression.zstd  # noqa: F401 - only from 3.14 on
    except ImportError:
        return False
    return True


@pytest.fixture
def no_zstd(monkeypatch):
    """Have the package for zstd missing."""

    def missing():
        raise ImportError

    monkeypatch.setattr(compression, "zstd", missing)


def modes(cache):
    """Return mode and file of each entry, by key."""
    page = cache._engine.page(Order.INSERTION, None, 100, values=True)
    return {entry.key[0]: (entry.row[0], entry.row[2]) for entry in page}


# -- Values --


def test_compressed_values_come_back(make_cache, method):
    cache = make_cache(compress=method)
    for key, value in VALUES.items():
        cache[key] = value
    again = make_cache()

    for key, value in VALUES.items():
        assert again[key] == value
        assert type(again[key]) is type(value)
    stored = modes(cache)
    for key in ("text", "odd text", "bytes", "data", "thing", "large text", "large thing"):
        assert stored[key][0] & PACKED == BITS[method], key
    for key in ("noise", "large noise", "small", "number"):
        assert stored[key][0] & PACKED == 0, key
    assert stored["large text"][1] is None
    assert stored["large thing"][1] is not None


def test_directory_may_change_its_mind(make_cache):
    for compress in (None, "zlib", "zstd", None):
        cache = make_cache(compress=compress)
        cache[str(compress)] = "x" * 5000
        cache["last"] = [compress] * 2000

        assert cache["last"] == [compress] * 2000
        assert all(cache[key] == "x" * 5000 for key in cache if key != "last")


def test_only_values_from_the_minimum_on_are_compressed(make_cache):
    cache = make_cache(compress="zlib", compress_min=100)
    cache["below"], cache["at"] = "x" * 99, "x" * 100

    assert modes(cache) == {"below": (1, None), "at": (3 | ZLIB, None)}


def test_level_decides_how_much_is_gained(make_cache):
    text = "".join(f"{n * n % 9973:x}" for n in range(30_000))
    low = Packer("zlib", 0, 1).pack(text.encode())
    high = Packer("zlib", 0, 9).pack(text.encode())

    assert len(high[1]) < len(low[1])
    assert unpack(*high) == unpack(*low) == text.encode()


def test_file_that_is_copied_in_stays_raw(make_cache, method):
    cache = make_cache(compress=method)
    cache.set("k", io.BytesIO(b"a" * 100_000), read=True)

    with cache.read("k") as reader:
        assert reader.read() == b"a" * 100_000
        assert Path(reader.name).read_bytes() == b"a" * 100_000


def test_queue_items_are_compressed_and_still_bound_to_their_keys(make_cache, method):
    cache = make_cache(compress=method, secret=SECRET)
    cache.push(Thing("z" * 5000))
    cache.push("w" * 5000)

    assert cache.pull()[1] == Thing("z" * 5000)
    assert cache.pull()[1] == "w" * 5000


def test_rotated_deque_keeps_compressed_items(tmp_path, method):
    with Cache(tmp_path / "deque", eviction_policy="none", compress=method) as cache:
        deque = Deque.fromcache(cache, [Thing("a" * 5000), "b" * 5000, ["c"] * 5000])
        deque.rotate(-1)
        assert list(deque) == ["b" * 5000, ["c"] * 5000, Thing("a" * 5000)]
        deque.reverse()

        assert list(deque) == [Thing("a" * 5000), ["c"] * 5000, "b" * 5000]


def test_counters_and_transactions_work_beside_it(make_cache, method):
    cache = make_cache(compress=method)
    with cache.transact():
        cache["k"] = "x" * 5000
        assert cache["k"] == "x" * 5000
        cache.incr("n")

    assert cache["n"] == 1
    assert cache.check() == []


def test_serializers_are_compressed(tmp_path, method):
    with Cache(tmp_path / "json", serializer=json_serializer, compress=method) as cache:
        cache["k"] = {"a": ["x"] * 1000}
        assert modes(cache)["k"][0] == 6 | BITS[method]
    with Cache(tmp_path / "json") as cache:
        assert cache["k"] == {"a": ["x"] * 1000}
    text = (repr, eval)
    with Cache(tmp_path / "own", serializer=text, compress=method) as cache:
        cache["k"] = ["x"] * 1000
        assert cache["k"] == ["x"] * 1000
        assert cache.check() == []


def test_shards_sub_caches_and_copies_compress_too(tmp_path, method):
    with FanoutCache(tmp_path, shards=2, compress=method, compress_min=10) as cache:
        cache["k"] = "x" * 500
        part = cache.cache("part")
        part["k"] = "x" * 500
        again = pickle.loads(pickle.dumps(part))
        again["l"] = "x" * 500

        assert {mode for mode, _ in modes(part).values()} == {3 | BITS[method]}
        assert cache["k"] == again["k"] == "x" * 500
        again.close()


def test_sub_cache_with_a_disk_of_its_own_does_not_inherit_compression(tmp_path):
    with FanoutCache(tmp_path, shards=1, compress="zlib") as cache:
        part = cache.cache("part", disk=JSONDisk)
        part["k"] = ["x"] * 1000

        assert part["k"] == ["x"] * 1000


def test_unsafe_pickles_are_compressed_too(make_cache, method):
    with pytest.warns(UnsafePickleWarning):
        cache = make_cache(pickle="unsafe", compress=method)
    cache["k"] = Thing("x" * 5000)
    cache["long"] = Thing("x" * (2**24 + 5))

    assert cache["k"] == Thing("x" * 5000)
    assert cache["long"] == Thing("x" * (2**24 + 5))


# -- Arguments --


@pytest.mark.parametrize(
    "arguments",
    [
        {"compress": "lz4"},
        {"compress": True},
        {"compress": "zlib", "compress_level": 10},
        {"compress": "zlib", "compress_level": 0},
        {"compress": "zstd", "compress_level": 22},
        {"compress": "zlib", "compress_level": 1.5},
        {"compress": "zlib", "compress_min": -1},
        {"compress": "zlib", "compress_min": "1k"},
        {"compress": "zlib", "disk": JSONDisk},
    ],
    ids=repr,
)
def test_argument_that_is_not_allowed_is_an_error(directory, arguments):
    with pytest.raises(SettingError, match="compress"):
        Cache(directory, **arguments)
    assert not directory.exists()


def test_zstd_without_the_package_names_the_extra(directory, no_zstd):
    with pytest.raises(MissingExtraError, match=r"diskcache\[zstd\]"):
        Cache(directory, compress="zstd")


def test_reading_zstd_without_the_package_is_a_counted_miss(make_cache, monkeypatch):
    pytest.importorskip("compression.zstd" if has_own_zstd() else "backports.zstd")
    cache = make_cache(compress="zstd")
    cache["k"] = "x" * 5000
    cache["n"] = 1

    def missing():
        raise ImportError

    with monkeypatch.context() as patch, pytest.warns(UnavailableWarning) as caught:
        patch.setattr(compression, "zstd", missing)
        assert cache.get("k") is None
        assert cache.get("k") is None
        assert cache["n"] == 1
        index = Index.fromcache(cache)
        with pytest.raises(UnavailableError, match=r"diskcache\[zstd\]"):
            index["k"]
    assert len(caught) == 1
    assert cache.info().unavailable == 3
    assert cache["k"] == "x" * 5000


# -- Bombs and damage --


def packed(bits, size, stream):
    return bits, size.to_bytes(5, "big") + stream


def compressed(method, data):
    if method == "zlib":
        return zlib.compress(data, 6)
    return compression.zstd().compress(data, level=3)


@pytest.mark.parametrize("claimed", [0, 1, 1000, 2**20])
def test_bomb_behind_a_small_claim_takes_no_more_than_the_claim(method, claimed):
    bomb = compressed(method, bytes(2**25))
    assert len(bomb) < 2**18
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="length"):
            unpack(*packed(BITS[method], claimed, bomb))
        assert tracemalloc.get_traced_memory()[1] < 2 * claimed + 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("claimed", [2**30 + 1, 2**40 - 1, 2**27])
def test_claim_that_is_not_believable_is_refused_at_once(method, claimed):
    with pytest.raises(CodecError, match="not believable"):
        unpack(*packed(BITS[method], claimed, compressed(method, bytes(2**20))))


def test_zstd_frame_that_asks_for_a_huge_window_is_refused():
    pytest.importorskip("compression.zstd" if has_own_zstd() else "backports.zstd")
    library = compression.zstd()
    options = {library.CompressionParameter.window_log: 27}
    compressor = library.ZstdCompressor(options=options)
    stream = compressor.compress(bytes(1000)) + compressor.flush()

    with pytest.raises(CodecError):
        unpack(*packed(ZSTD, 1000, stream))


def test_bomb_in_a_directory_is_a_counted_miss(make_cache, method):
    cache = make_cache()
    for key, mode in (("text", 3), ("bytes", 2), ("data", 5), ("json", 6)):
        data = packed(BITS[method], 100, compressed(method, bytes(2**24)))[1]
        cache._engine.put((key, 1), (mode | BITS[method], data, None), None, None, 0.0, None)

        assert cache.get(key, "missing") == "missing"
    assert cache.info().corrupt == 4


@pytest.mark.parametrize("damage", ["cut", "longer", "flipped", "short claim", "long claim"])
def test_damaged_stream_is_a_codec_error(method, damage):
    data = b"some text " * 300
    bits, good = Packer(method, 0).pack(data)
    bad = {
        "cut": good[:-1],
        "longer": good + b"x",
        "flipped": good[:7] + bytes((good[7] ^ 0xFF,)) + good[8:],
        "short claim": (len(data) - 1).to_bytes(5, "big") + good[5:],
        "long claim": (len(data) + 1).to_bytes(5, "big") + good[5:],
    }[damage]

    assert unpack(bits, good) == data
    with pytest.raises(CodecError):
        unpack(bits, bad)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\0\0", b"\x01\0\0\0\x01x", bytes(30)])
@pytest.mark.parametrize("bits", [ZLIB, ZSTD, ZLIB | ZSTD])
def test_bytes_that_are_no_stream_are_a_codec_error(bits, data):
    with pytest.raises(CodecError):
        unpack(bits, data)


def test_value_that_shrinks_beyond_belief_stays_as_it_is():
    pytest.importorskip("compression.zstd" if has_own_zstd() else "backports.zstd")

    assert Packer("zstd").pack(bytes(2**26)) is None
    bits, data = Packer("zstd").pack(bytes(2**24))
    assert unpack(bits, data) == bytes(2**24)


# -- Signatures --


def test_signature_is_verified_before_anything_is_decompressed(make_cache, method, monkeypatch):
    cache = make_cache(compress=method, secret=SECRET)
    cache["k"] = Thing("x" * 5000)
    row = cache._engine.get(("k", 1), 0.0)
    mode, data = row[0], row[1]
    forged = data[:-1] + bytes((data[-1] ^ 1,))

    def unpacked(*_):
        raise AssertionError("decompressed without a valid signature")

    monkeypatch.setattr("diskcache.codecs.values.unpack", unpacked)
    with pytest.raises(UntrustedPickleError) as caught:
        cache._codec.decode(mode, forged, b"sk")
    assert caught.value.reason == "bad-tag"


def test_signed_pickle_is_not_taken_for_a_compressed_one_or_the_other_way(make_cache, method):
    plain, small = make_cache(secret=SECRET), make_cache(secret=SECRET, compress=method)
    plain["plain"] = small["packed"] = Thing("x" * 5000)
    codec = plain._codec
    for key, flip in (("plain", BITS[method]), ("packed", BITS[method])):
        row = plain._engine.get((key, 1), 0.0)

        with pytest.raises(UntrustedPickleError) as caught:
            codec.decode(row[0] ^ flip, row[1], b"s" + key.encode())
        assert caught.value.reason == "bad-tag"
        assert row[0] & KIND == 4
