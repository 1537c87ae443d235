"""Plain data: exact round trips, one encoding per key, and no surprise from hostile bytes."""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import subprocess
import sys
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from diskcache.codecs import keys, plain, plain_tree
from diskcache.errors import CodecError
from diskcache.sentinels import ENOVAL, UNKNOWN

SOURCES = Path(__file__).resolve().parents[2] / "src"
ZONES = [zoneinfo.ZoneInfo(name) for name in ("Europe/Berlin", "America/New_York", "UTC")]

relaxed = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def hidden(make: Any) -> Any:
    """Return the strategy that *make* returns, without its long description."""

    @st.composite
    def strategy(draw: Any) -> Any:
        return draw(make())

    return strategy()


offsets = st.timedeltas(
    min_value=-datetime.timedelta(hours=23, minutes=59, seconds=59, microseconds=999999),
    max_value=datetime.timedelta(hours=23, minutes=59, seconds=59, microseconds=999999),
)
timezones = (
    st.none()
    | st.just(datetime.UTC)
    | st.sampled_from(ZONES)
    | st.builds(datetime.timezone, offsets)
    | st.builds(datetime.timezone, offsets, st.text(max_size=4))
)
folds = st.integers(0, 1)
datetimes = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.datetimes(),
    timezones,
    folds,
)
times = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.times(),
    timezones,
    folds,
)
texts = st.text(st.characters(exclude_categories=[]), max_size=20)
integers = st.integers() | st.integers(-(2**70), 2**70) | st.sampled_from([2**63, -(2**63), 2**64])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    st.floats(),
    st.complex_numbers(),
    texts,
    st.binary(max_size=30),
    st.just(b"\xc4" * 300),
)
hashable_leaves = st.one_of(
    scalars,
    st.dates(),
    times,
    datetimes,
    st.timedeltas(),
    timezones,
    st.decimals().filter(lambda number: not number.is_snan()),
    st.fractions(),
    st.uuids(),
    st.builds(range, integers, integers, integers.filter(bool)),
    st.sampled_from([ENOVAL, UNKNOWN, int, str, type(None), list]),
)
hashables = st.recursive(
    hidden(lambda: hashable_leaves),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
leaves = hidden(lambda: hashables) | st.binary(max_size=10).map(bytearray)
values = st.recursive(
    hidden(lambda: leaves),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(texts, inner, max_size=5),
        st.dictionaries(hidden(lambda: hashables), inner, max_size=5),
        st.sets(hidden(lambda: hashables), max_size=4),
        st.builds(slice, inner, inner, inner),
    ),
    max_leaves=20,
)
cells = (
    st.none()
    | st.integers()
    | st.floats()
    | texts
    | datetimes
    | st.decimals()
    | hidden(lambda: leaves)
)
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.tuples(*[cells] * width), min_size=1, max_size=12)
)
columns = st.sampled_from([st.floats(), st.datetimes(), st.dates(), st.decimals(), st.integers()])
records = columns.flatmap(lambda cell: st.lists(st.tuples(cell, cell), min_size=1, max_size=12))


def clock_picture(value: Any) -> Any:
    return value.replace(tzinfo=None).isoformat(), value.fold, picture(value.tzinfo)


PICTURES: dict[type[Any], Callable[[Any], Any]] = {
    list: lambda value: [picture(item) for item in value],
    tuple: lambda value: [picture(item) for item in value],
    dict: lambda value: [(picture(key), picture(item)) for key, item in value.items()],
    set: lambda value: sorted(repr(picture(item)) for item in value),
    frozenset: lambda value: sorted(repr(picture(item)) for item in value),
    slice: lambda value: [picture(part) for part in (value.start, value.stop, value.step)],
    float: lambda value: "nan" if math.isnan(value) else value.hex(),
    complex: lambda value: (picture(value.real), picture(value.imag)),
    bytearray: bytes,
    datetime.datetime: clock_picture,
    datetime.time: clock_picture,
    zoneinfo.ZoneInfo: lambda value: value.key,
    datetime.timezone: lambda value: value.__getinitargs__(),
}


def picture(value: Any) -> Any:
    """Return something that is equal for values that are the same, types and all."""
    return type(value), PICTURES.get(type(value), repr)(value)


@relaxed
@given(values)
@example([(1, 2), (3, 4)])
@example([()])
@example([(), ()])
@example({1: 1, "1": 2, None: 3})
@example([1.5] * 300)
@example([1.5] * 7 + [bytearray(b"x")] + [1.5] * 7)
@example({"a": [bytearray(b"x")], "b": 1})
@example([(bytearray(b"x"), 1)] * 3)
@example({bytes(300): [bytearray(300)]})
def test_round_trip_keeps_value_and_types(value):
    assert picture(plain.loads(plain.dumps(value))) == picture(value)


@relaxed
@given(tables | records)
def test_rows_round_trip(rows):
    assert picture(plain.loads(plain.dumps(rows))) == picture(rows)


@relaxed
@given(values)
def test_careful_builder_agrees_with_the_library(value):
    assert picture(plain.loads(plain_tree.dumps(value))) == picture(value)


@relaxed
@given(values)
def test_decoded_key_encodes_to_the_same_bytes(key):
    db_key, raw = keys.encode_key(key)

    assert keys.encode_key(keys.decode_key(db_key, raw)) == (db_key, raw)


@relaxed
@given(values)
def test_fast_keys_equal_careful_keys(key):
    assert keys.encode_key((key,)) == (plain_tree.dumps((key,), canonical=True), 0)


def more_zeros(number: Decimal) -> Decimal:
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or exponent < -50:
        return number
    return Decimal((sign, (*digits, 0, 0), exponent - 2))


def other_spelling(moment: datetime.datetime) -> datetime.datetime:
    if moment.tzinfo is None:
        return moment.replace(fold=1 - moment.fold)
    try:
        other = moment.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=30)))
    except OverflowError:
        return moment
    return other if other == moment else moment


TWINS: dict[type[Any], Callable[[Any], Any]] = {
    list: lambda value: [twin(item) for item in value],
    tuple: lambda value: tuple(twin(item) for item in value),
    set: lambda value: {twin(item) for item in reversed([*value])},
    frozenset: lambda value: frozenset([twin(item) for item in reversed([*value])]),
    dict: lambda value: {twin(key): twin(item) for key, item in reversed(value.items())},
    float: lambda value: -0.0 if value == 0 else value,
    Decimal: more_zeros,
    range: lambda value: value or range(7, 7),
    datetime.datetime: other_spelling,
    str: lambda value: "".join([*value]),
}


def twin(value: Any) -> Any:
    """Return an equal value of the same types that was made in another way."""
    return TWINS.get(type(value), lambda same: same)(value)


@relaxed
@given(values)
def test_equal_keys_are_one_key(key):
    other = twin(key)

    assert keys.encode_key(other) == keys.encode_key(key)


@relaxed
@given(datetimes, datetimes)
def test_moments_are_one_key_if_and_only_if_they_are_equal(one, other):
    same_zone = one.tzinfo is other.tzinfo

    assert (keys.encode_key(one) == keys.encode_key(other)) == (one == other) or same_zone


@relaxed
@given(times, times)
def test_equal_times_are_one_key(one, other):
    assert (keys.encode_key(one) == keys.encode_key(other)) == (one == other)


@relaxed
@given(st.lists(hashables, min_size=2, max_size=2))
def test_different_keys_have_different_bytes(pair):
    one, other = pair
    if keys.encode_key((one,)) == keys.encode_key((other,)):
        assert type(one) is type(other)
        assert one == other or "nan" in repr(pair).lower()


@relaxed
@given(hashables | st.integers() | st.floats(allow_nan=False))
def test_key_bytes_and_shard_of_equal_numbers_agree(key):
    db_key, raw = keys.encode_key(key)

    assert 0 <= keys.shard_hash(db_key, raw) < 2**32
    if raw and isinstance(db_key, int) and float(db_key) == db_key:
        assert keys.key_bytes(float(db_key), 1) == keys.key_bytes(db_key, 1)
        assert keys.shard_hash(float(db_key), 1) == keys.shard_hash(db_key, 1)


def loads_or_refuses(data: bytes) -> None:
    with contextlib.suppress(CodecError):
        plain.loads(data)


@settings(relaxed, max_examples=400)
@given(st.binary(max_size=80))
def test_any_bytes_decode_or_raise_codec_error(data):
    loads_or_refuses(data)


@settings(relaxed, max_examples=300)
@given(values | tables, st.data())
def test_damaged_bytes_decode_or_raise_codec_error(value, data):
    encoded = bytearray(plain.dumps(value))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))

    loads_or_refuses(bytes(encoded))
    loads_or_refuses(bytes(encoded[:cut]))


@settings(relaxed, max_examples=300)
@given(st.integers(-128, 127), st.binary(max_size=40))
def test_any_extension_decodes_or_raises_codec_error(code, payload):
    loads_or_refuses(b"V\xc7" + bytes((len(payload), code & 0xFF)) + payload)


KEYS_OF_ONE_PROCESS = """
import datetime, decimal, fractions, sys, uuid
from diskcache.codecs import keys
sample = [
    {'b': 1, 'a': [2, {'z', 'y', 'x'}], 'c': frozenset(['p', 'q', b'r', 1, None])},
    frozenset([(1, 'x'), (2, 'y'), frozenset(['m', 'n'])]),
    {(1, 'a'): {'u', 'v'}, None: 1.5, 2: 'x', 'k': -0.0},
    ('mod.func', 1, 'x', None, int, str),
    ('f', decimal.Decimal('1.50'), fractions.Fraction(1, 3), uuid.UUID(int=7), range(0, 10, 3)),
    ('f', datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc), float('nan'), 2**80),
]
for key in sample:
    print(keys.encode_key(key)[0].hex())
"""


def keys_in_process(seed: str) -> str:
    environ = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-c", KEYS_OF_ONE_PROCESS]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout


def test_keys_do_not_depend_on_the_hash_seed():
    assert keys_in_process("1") == keys_in_process("2") == keys_in_process("77")


@pytest.mark.parametrize("number", [0, 1, -1, 2**63 - 1, -(2**63), 2**64 - 1])
def test_library_writes_the_shortest_form(number):
    """Keys are compared as bytes, so another form in a later release would lose entries."""
    data = ormsgpack.packb(number)

    assert len(data) == {0: 1, 1: 1, -1: 1}.get(number, 9)


def test_nan_payloads_are_one_key():
    import struct

    odd = struct.unpack(">d", b"\xff\xf8\x00\x00\x00\x00\x00\x01")[0]

    assert keys.encode_key((odd, 1)) == keys.encode_key((math.nan, 1))
    assert keys.encode_key(odd) == keys.encode_key(math.nan)
    assert Fraction(1, 2) == plain.loads(plain.dumps(Fraction(1, 2)))
