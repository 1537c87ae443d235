"""Registered types, arrays, compressed values and archives: round trips and hostile bytes."""

from __future__ import annotations

import contextlib
import io
import pickle
from typing import Any

import ormsgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from diskcache import Archive, ArchiveError, Cache
from diskcache.codecs import compression, keys, plain, plain_tree
from diskcache.codecs.base import ZLIB, ZSTD
from diskcache.codecs.compression import Packer, unpack
from diskcache.errors import CodecError, UnavailableError
from tests.support import shapes
from tests.support.shapes import Access, Colour, Order, Pair, Place

np = pytest.importorskip("numpy")

KINDS = (Colour, Access, Pair, Place, Order)
relaxed = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def kinds():
    with shapes.registered(*KINDS):
        yield


texts = st.text(st.characters(exclude_categories=[]), max_size=6)
scalars = st.none() | st.booleans() | st.integers() | texts | st.binary(max_size=6)
hashables = st.recursive(
    scalars | st.sampled_from([*Colour, *map(Access, range(4))]),
    lambda inner: st.one_of(
        st.builds(Place, texts, inner),
        st.builds(Pair, inner, inner),
        st.builds(Order, inner, st.lists(inner, max_size=3).map(tuple)),
        st.frozensets(inner, max_size=3),
    ),
    max_leaves=8,
)
values = st.recursive(
    hashables | st.binary(max_size=6).map(bytearray),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(hashables, inner, max_size=3),
        st.dictionaries(texts, inner, max_size=3),
        st.builds(Pair, inner, inner),
        st.builds(Order, inner, inner),
        st.sets(hashables, max_size=3),
    ),
    max_leaves=15,
)


def picture(value: Any) -> Any:
    """Return something that is equal for values that are the same, types and all."""
    kind = type(value)
    if kind in (list, tuple, Pair, Place):
        return kind, [picture(item) for item in value]
    if kind is dict:
        return kind, [(picture(key), picture(item)) for key, item in value.items()]
    if kind in (set, frozenset):
        return kind, sorted(repr(picture(item)) for item in value)
    if kind is Order:
        return kind, picture(value.number), picture(value.parts), value.note
    return kind, repr(value)


@relaxed
@given(values)
@example([Place("a", bytearray(b"x")), b"y" * 300])
@example({Colour.RED: [Pair(1, Order(2, (bytearray(b"x"),)))]})
def test_round_trip_keeps_value_and_types(value):
    data = plain.dumps(value)

    assert picture(plain.loads(data)) == picture(value)
    assert picture(plain.loads(plain_tree.dumps(value))) == picture(value)


@relaxed
@given(hashables)
def test_equal_keys_are_one_key_and_decode_to_it(key):
    # A copy has parts of its own, so that no identity is left to rely on.
    other = pickle.loads(pickle.dumps(key))
    encoded = keys.encode_key((key,))

    assert keys.encode_key((other,)) == encoded
    assert keys.encode_key(keys.decode_key(*encoded)) == encoded
    assert picture(keys.decode_key(*encoded)) == picture((key,))


names = st.sampled_from(
    [f"{kind.__module__}.{kind.__qualname__}" for kind in KINDS] + ["unknown", 5, None]
)
states = st.recursive(
    scalars | st.sampled_from(["RED", 3]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "floor", "left", "number", "parts", "__class__"]), inner
        )
    ),
    max_leaves=6,
)


@settings(relaxed, max_examples=300)
@given(st.lists(states, max_size=3) | st.tuples(names, states).map(list))
def test_any_state_decodes_to_its_type_or_raises_codec_error(state):
    data = ormsgpack.packb(ormsgpack.Ext(33, plain.dumps({"": state})[2:]), None)
    with contextlib.suppress(CodecError):
        assert type(plain.loads(data)) in KINDS


DTYPES = st.sampled_from(
    ["|b1", "<f8", ">f2", "<i4", "|u1", "<U2", "|S3", "<M8[s]", "<c16", "|O", "V8", "<f8,<f8", ""]
)
shapes_of_arrays = st.lists(st.integers(-1, 5) | st.just(2**40), max_size=4)


@settings(relaxed, max_examples=300)
@given(
    DTYPES | texts,
    st.sampled_from(["C", "F", "S", "K", 1]),
    shapes_of_arrays,
    st.binary(max_size=64),
)
def test_any_payload_of_an_array_decodes_or_raises_codec_error(dtype, order, shape, data):
    try:
        payload = ormsgpack.packb([dtype, order, shape, data])
    except TypeError:
        return
    with contextlib.suppress(CodecError):
        found = plain.loads(ormsgpack.packb(ormsgpack.Ext(32, payload)))
        assert found.dtype.kind in "biufcSUmM"
        found.tolist()


@relaxed
@given(st.sampled_from(["b1", "i1", "<u4", ">f8", "<c8", "U3", "S2"]), shapes_of_arrays, st.data())
def test_arrays_round_trip(dtype, shape, data):
    shape = [min(abs(size), 4) for size in shape]
    size = int(np.prod(shape, dtype=int))
    numbers = data.draw(st.lists(st.integers(0, 127), min_size=size, max_size=size))
    array = np.array(numbers).astype(dtype).reshape(shape)
    found = plain.loads(plain.dumps([array]))[0]

    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


def has_zstd() -> bool:
    try:
        compression.zstd()
    except ImportError:
        return False
    return True


@settings(relaxed, max_examples=200)
@given(st.binary(max_size=400) | st.binary(min_size=1, max_size=4).map(lambda part: part * 300))
def test_compressed_bytes_come_back_or_are_left(data):
    for method in ("zlib", *["zstd"] * has_zstd()):
        packed = Packer(method, 0).pack(data)
        if packed is not None:
            assert len(packed[1]) < len(data)
            assert unpack(*packed) == data


@settings(relaxed, max_examples=300)
@given(st.sampled_from([ZLIB, ZSTD]), st.binary(max_size=60), st.data())
def test_damaged_streams_are_refused_or_as_long_as_they_claim(bits, noise, data):
    method = "zlib" if bits == ZLIB or not has_zstd() else "zstd"
    _, good = Packer(method, 0).pack(b"some text " * 50)
    place = data.draw(st.integers(0, len(good)))
    bad = good[:place] + noise + good[place + data.draw(st.integers(0, 9)) :]
    with contextlib.suppress(CodecError, UnavailableError):
        assert len(unpack(bits, bad)) == int.from_bytes(bad[:5], "big")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with Cache(tmp_path_factory.mktemp("archived")) as cache:
        cache.set_many({number: "x" * number for number in range(20)})
        cache["large"] = b"y" * 40_000
        stream = io.BytesIO()
        cache.export(stream)
    return stream.getvalue()


@settings(relaxed, max_examples=150)
@given(st.data())
def test_damaged_archive_is_refused(archive, data):
    place = data.draw(st.integers(0, len(archive) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=8))
    bad = archive[:place] + noise + archive[place + data.draw(st.integers(0, 8)) :]
    if bad[: len(archive)] == archive:
        return
    with pytest.raises(ArchiveError), Archive(io.BytesIO(bad)) as found:
        for _ in found.blocks():
            pass
