"""Pickles are read as data: what is plain comes back, and nothing is ever imported or called."""

from __future__ import annotations

import contextlib
import datetime
import pickle
import pickletools
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diskcache import CodecError
from diskcache.codecs import legacy
from diskcache.codecs.names import TypeName

fixed = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
"""The same examples in each run, however long they take."""

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None, exclude_categories=())) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner)
    | st.tuples(inner, inner) | st.lists(inner, max_size=5).map(tuple),
)  # fmt: skip


@settings(fixed, max_examples=80)
@given(PLAIN, st.integers(3, 5), st.booleans())
def test_plain_data_of_any_protocol_comes_back(value, protocol, is_optimized):
    data = pickle.dumps(value, protocol)
    found = legacy.loads(pickletools.optimize(data) if is_optimized else data)

    assert found == value
    assert repr(found) == repr(value)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value", [None, True, False, 0, -1, 255, 65536, 2**31, -(2**40), 2**100, -(2**3000), 1.5,
              float("inf"), "", "text", "a\nb\\", "é\udc80", [], [1], (), (1,), (1, 2), (1, 2, 3),
              (1, 2, 3, 4), {}, {1: 2}, {"a": [{}]}, list(range(3000))],
)  # fmt: skip
def test_value_of_every_protocol_comes_back(value, protocol):
    found = legacy.loads(pickle.dumps(value, protocol))

    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("value", [{1, 2}, frozenset({3}), bytearray(b"x"), b"x" * 300, set()])
def test_sets_and_bytes_of_protocol_5_come_back(value):
    found = legacy.loads(pickle.dumps(value, 5))

    assert (type(found), found) == (type(value), value)


class Bomb:
    """Raises when it is loaded by the standard library."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Bomb(), "builtins.exec"),
        ([1, {"a": (Bomb(),)}], "builtins.exec"),
        (datetime.date(2020, 1, 1), "datetime.date"),
        (len, "builtins.len"),
        ([TypeName], "diskcache.codecs.names.TypeName"),
    ],
)
def test_pickle_that_names_something_is_foreign(value, name, protocol):
    with pytest.raises(legacy.ForeignPickleError) as caught:
        legacy.loads(pickle.dumps(value, protocol))

    # Protocols below 3 tell some names as they were in Python 2.
    assert caught.value.name in {name, "_codecs.encode"}


def test_types_that_are_only_mentioned_are_data():
    key = ("f", 1, None, int, str, type(None))

    assert legacy.loads(pickle.dumps(key)) == key
    with pytest.raises(legacy.ForeignPickleError, match=r"datetime\.date"):
        legacy.loads(pickle.dumps((datetime.date,)))


@pytest.mark.parametrize(
    "data",
    [
        b"", b".", b"\x80", b"\x80\x04", b"\x80\x04.", b"\x80\x06N.", b"\x80\x04(.", b"\x80\x04K.",
        b"\x80\x04]K\x01e.", b"\x80\x04}K\x01s.", b"\x80\x04h\x05.", b"\x80\x04K\x01a.",
        b"\x80\x04}(]K\x01u.", b"\x80\x04\x8e" + b"\xff" * 8 + b"x.", b"I1", b"Fx\n.", b"e.",
        b"\x80\x04\x8a\x02.", b"L" + b"9" * 10_000 + b"L\n.", b"\x80\x04]q\x00h\x00a.", b"(2.",
        b"\x80\x04\x86.",
    ],
)  # fmt: skip
def test_damaged_pickle_is_a_codec_error(data):
    with pytest.raises(CodecError):
        legacy.loads(data)


@pytest.mark.parametrize(
    "operation", [b"Pid\n", b"Q", b"\x82\x01", b"\x97", b"S'a'\n", b"R", b"b", b"i a\nb\n", b"o"]
)
def test_operation_that_is_not_data_is_refused(operation):
    with pytest.raises(CodecError):
        legacy.loads(b"\x80\x05NN" + operation + b".")


def doubled(depth, kind):
    value = kind()
    for _ in range(depth):
        value = kind((value, value))
    return value


@pytest.mark.parametrize("kind", [list, tuple])
def test_value_that_shares_too_much_is_refused(kind):
    with pytest.raises(CodecError, match="memory"):
        legacy.loads(pickle.dumps(doubled(60, kind)))


def test_key_whose_hash_would_take_for_ever_is_refused():
    deep = pickle.dumps(doubled(60, tuple), 4)[11:-1]
    with pytest.raises(CodecError, match="memory"):
        legacy.loads(b"\x80\x04}" + deep + b"Ns.")


def test_repeated_text_as_json_has_it_is_allowed():
    rows = [{"identifier": number, "description": "the same"} for number in range(2000)]

    assert legacy.loads(pickle.dumps(rows)) == rows


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04N\x94" + b"r\xff\xff\xff\x7f" + b".",
        b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"x.",
        b"\x80\x04\x96" + (2**62).to_bytes(8, "little") + b".",
        b"\x80\x04\x8b\xff\xff\xff\x7f1.",
        b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
        b"N2" + b"2" * 100_000 + b".",
        b"]" * 100_000 + b"a" * 99_999 + b".",
    ],
)
def test_small_pickle_takes_little_memory(data):
    tracemalloc.start()
    try:
        legacy.loads(data)
    except CodecError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak < 64 * len(data) + 2**17


@settings(fixed, max_examples=150)
@given(st.binary(max_size=60).map(lambda data: b"\x80\x04" + data + b"."))
def test_arbitrary_bytes_do_no_harm(data):
    with contextlib.suppress(CodecError):
        legacy.loads(data)
