"""Arrays of numpy without registration, and frames of pandas and polars with it."""

from __future__ import annotations

import sys

import ormsgpack
import pytest

from diskcache import (
    Cache,
    CodecError,
    MissingExtraError,
    NotPlainError,
    UnavailableError,
    register,
)
from diskcache.codecs import frames, keys, plain
from tests.support import shapes

np = pytest.importorskip("numpy")

ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.arange(6).reshape(2, 3).T,
    np.arange(10)[::3],
    np.arange(4, dtype=">i2"),
    np.array(3.5),
    np.zeros((0, 3)),
    np.zeros((3, 0), order="F"),
    np.array([True, False]),
    np.array([1.5, np.nan, -0.0, np.inf], np.float16),
    np.array([1 + 2j], np.complex64),
    np.array(["a", "grün\U0001f600"]),
    np.array([b"a", b"bcd"]),
    np.array(["2020-01-01", "NaT"], "M8[ns]"),
    np.array([5], "m8[25us]"),
    np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4)),
]
SCALARS = [
    *(np.float64(2.5), np.float32(-0.0), np.int64(-3), np.uint8(7), np.bool_(True)),
    *(np.str_("ü"), np.bytes_(b"x"), np.datetime64("2020-01"), np.complex128(1j)),
]


def same(found, value):
    return (
        type(found) is type(value)
        and found.dtype == value.dtype
        and found.shape == value.shape
        and found.tobytes() == value.tobytes()
    )


@pytest.mark.parametrize("value", ARRAYS + SCALARS, ids=lambda v: f"{v.dtype}{v.shape}")
def test_array_comes_back_of_its_dtype_and_shape(value):
    assert same(plain.loads(plain.dumps(value)), value)
    assert same(plain.loads(plain.dumps({"a": [(value,)]}))["a"][0][0], value)


def test_array_that_comes_back_may_be_changed():
    found = plain.loads(plain.dumps(np.arange(3)))
    found[0] = 9

    assert found.tolist() == [9, 1, 2]


def test_order_of_elements_is_kept():
    assert plain.loads(plain.dumps(np.asfortranarray(np.ones((2, 3))))).flags.f_contiguous


def test_arrays_need_no_pickle_small_or_large(make_cache):
    cache = make_cache(pickle="never")
    cache["small"] = np.arange(3)
    cache["large"] = np.arange(100_000)
    cache[(np.float64(1.5), "key")] = 1

    assert cache["small"].tolist() == [0, 1, 2]
    assert cache["large"][-1] == 99_999
    assert cache[(np.float64(1.5), "key")] == 1


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.zeros(2, [("a", "i4")]),
        np.zeros(1).view(np.memmap),
        np.ma.array([1]),
        np.zeros(1, np.longdouble),
        np.recarray(1, [("a", "i4")]),
    ],
    ids=lambda value: f"{type(value).__name__} {value.dtype}",
)
def test_array_of_another_kind_is_not_plain(value):
    with pytest.raises(NotPlainError):
        plain.dumps(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([0.0, np.nan]), np.array([-0.0, -np.nan])),
        (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
        (np.arange(3, dtype="<i4"), np.arange(3, dtype=">i4")),
        (np.arange(6)[::2], np.array([0, 2, 4])),
        (np.float64(0.0), np.float64(-0.0)),
    ],
)
def test_equal_arrays_are_one_key(one, other):
    assert keys.encode_key((one, 1)) == keys.encode_key((other, 1))


def test_key_with_an_array_encodes_to_itself_again():
    for value in ARRAYS + SCALARS:
        encoded = keys.encode_key((value,))
        assert keys.encode_key(keys.decode_key(*encoded)) == encoded


def packed(*parts):
    return ormsgpack.packb(ormsgpack.Ext(32, ormsgpack.packb(list(parts))))


@pytest.mark.parametrize(
    "parts",
    [
        ("|O", "C", [1], b"12345678"),
        ("O8", "C", [1], b"12345678"),
        ("<i4,<i4", "C", [1], b"12345678"),
        ("<V8", "C", [1], b"12345678"),
        ("<f8", "C", [2], b"12345678"),
        ("<f8", "K", [1], b"12345678"),
        ("<f8", "C", [-1], b""),
        ("<f8", "C", [2**40, 0], b""),
        ("<f8", "C", [1] * 40, b"12345678"),
        ("<f8", "C", 1, b"12345678"),
        ("<f8", "C", [True], b"12345678"),
        ("<f8", "C", [1], "12345678"),
        ("<f8", "S", [1], b"12345678"),
        ("|b1", "C", [2], b"\x01\x02"),
        ("<U1", "C", [1], b"\xff\xff\xff\xff"),
        (">U1", "C", [1], b"\x7f\xff\xff\xff"),
        ("|S0", "C", [1], b""),
        ("<M8[xx]", "C", [1], b"12345678"),
        ("<M8[0s]", "C", [1], b"12345678"),
        (7, "C", [1], b""),
        ("<f8", "C", [1]),
    ],
    ids=repr,
)
def test_payload_that_is_no_array_is_a_codec_error(parts):
    with pytest.raises(CodecError):
        plain.loads(packed(*parts))


def test_array_without_numpy_says_what_is_missing(monkeypatch):
    data = plain.dumps(np.arange(3))
    monkeypatch.setitem(sys.modules, "numpy", None)

    with pytest.raises(UnavailableError, match="numpy"):
        plain.loads(data)


# -- Frames --


@pytest.fixture
def pandas_frames():
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    with shapes.registered(pandas.DataFrame, pandas.Series):
        yield pandas


@pytest.fixture
def polars_frames():
    polars = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    with shapes.registered(polars.DataFrame, polars.Series):
        yield polars


def test_pandas_frames_come_back(pandas_frames, make_cache):
    pandas = pandas_frames
    cache = make_cache(pickle="never")
    frame = pandas.DataFrame(
        {"a": [1, 2], "b": ["x", None], "c": pandas.to_datetime(["2020", "2021"], utc=True)},
        index=pandas.Index([5, 6], name="i"),
    )
    frame["d"] = frame["b"].astype("category")
    cache["frame"], cache["series"] = {"of": frame}, frame["a"].rename(("n", 1))

    pandas.testing.assert_frame_equal(cache["frame"]["of"], frame)
    pandas.testing.assert_series_equal(cache["series"], frame["a"].rename(("n", 1)))


def test_pandas_frame_that_would_come_back_otherwise_is_not_plain(pandas_frames):
    pandas = pandas_frames
    for frame in (
        pandas.DataFrame({"o": [object(), 1]}),
        pandas.DataFrame({"o": pandas.Series([1, 2], dtype=object)}),
        pandas.DataFrame({"a": [1], 3: [2]}),
    ):
        with pytest.raises(NotPlainError, match="Arrow cannot hold"):
            plain.dumps(frame)


def test_polars_frames_come_back(polars_frames, make_cache):
    polars = polars_frames
    cache = make_cache(pickle="never")
    frame = polars.DataFrame({"a": [1, None], "b": [["x"], []], "c": ["u", "v"]})
    cache["frame"], cache["series"] = frame, frame["a"].alias("name")

    assert cache["frame"].equals(frame)
    assert cache["frame"].schema == frame.schema
    assert cache["series"].equals(frame["a"].alias("name"), check_names=True)


@pytest.mark.parametrize("state", [b"", b"not a stream", 5, ["x"], ["n", 5], b"\xff" * 64])
def test_state_that_is_no_stream_is_a_codec_error(pandas_frames, polars_frames, state):
    for kind in (
        *(pandas_frames.DataFrame, pandas_frames.Series),
        *(polars_frames.DataFrame, polars_frames.Series),
    ):
        name = f"{kind.__module__}.{kind.__qualname__}"
        with pytest.raises(CodecError):
            plain.loads(ormsgpack.packb(ormsgpack.Ext(33, ormsgpack.packb([name, state]))))


def test_stream_that_lies_about_its_size_is_a_codec_error(pandas_frames):
    pyarrow = pytest.importorskip("pyarrow")
    sink = pyarrow.BufferOutputStream()
    table = pyarrow.table({"a": np.zeros(1000)})
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    with pyarrow.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    stream = bytes(memoryview(sink.getvalue()))
    place = stream.rindex((8000).to_bytes(8, "little"))
    for lie in (2**33, 2**62, 2**63 - 1):
        bad = stream[:place] + lie.to_bytes(8, "little") + stream[place + 8 :]
        with pytest.raises(CodecError):
            plain.loads(
                ormsgpack.packb(ormsgpack.Ext(33, plain.dumps(["pandas.DataFrame", bad])[1:]))
            )


def test_frames_without_arrow_name_the_extra(monkeypatch):
    pandas = pytest.importorskip("pandas")
    frames._arrow.cache_clear()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    try:
        with pytest.raises(MissingExtraError, match=r"diskcache\[arrow\]"):
            register(pandas.DataFrame)
    finally:
        frames._arrow.cache_clear()


def test_arrow_that_runs_code_from_data_is_refused(monkeypatch):
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    frames._arrow.cache_clear()
    monkeypatch.setattr(pyarrow, "__version__", "14.0.0")
    try:
        with pytest.raises(MissingExtraError, match="may run code"):
            register(pandas.DataFrame)
    finally:
        frames._arrow.cache_clear()


def test_cache_of_arrays_is_sound(directory):
    with Cache(directory) as cache:
        cache["a"] = np.arange(3)
        assert cache.check() == []
