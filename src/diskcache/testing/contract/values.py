"""Values come back equal and of the same type."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import pickle
import uuid

import pytest

from diskcache import ENOVAL, UNKNOWN
from diskcache.testing.contract import Contract

VALUES = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "int": -5,
    "largest-int": 2**63 - 1,
    "smallest-int": -(2**63),
    "beyond-64-bits": 2**63,
    "far-beyond-64-bits": -(10**400),
    "float": 1.1,
    "infinity": math.inf,
    "minus-infinity": -math.inf,
    "tiny-float": 5e-324,
    "complex": complex(-0.0, math.inf),
    "empty-text": "",
    "text": "text",
    "text-with-nul": "a\0b",
    "not-ascii": "значение 😀",
    "line-ends": "a\r\nb\rc\n",
    "empty-bytes": b"",
    "bytes": bytes(range(256)),
    "bytearray": bytearray(b"abc"),
    "empty-list": [],
    "list": [1, "two", 3.0, None, True],
    "empty-tuple": (),
    "tuple": (1, ("a", (None,))),
    "empty-set": set(),
    "set": {1, "a", None, (2, 3)},
    "frozenset": frozenset({b"x", 2.5}),
    "empty-dict": {},
    "dict": {"a": 1, "b": [2, {"c": (3,)}]},
    "dict-of-other-keys": {1: "int", None: "none", (1, 2): "tuple", b"x": "bytes", 2.5: "float"},
    "nested-bytes": [b"a", bytearray(b"b"), {"c": bytearray(b"")}],
    "rows": [(number, f"name {number}", number / 3, None) for number in range(100)],
    "date": dt.date(1, 1, 1),
    "time": dt.time(23, 59, 59, 999_999),
    "datetime": dt.datetime(2024, 2, 29, 12, 30),  # noqa: DTZ001 - a naive one
    "aware-datetime": dt.datetime(2024, 2, 29, tzinfo=dt.timezone(dt.timedelta(hours=-3.5))),
    "timedelta": dt.timedelta(days=-3, seconds=5, microseconds=7),
    "decimal": decimal.Decimal("-1.500E+3"),
    "fraction": fractions.Fraction(-1, 3),
    "uuid": uuid.UUID(int=2**127 + 1),
    "range": range(10, -10, -3),
    "deep": [[[[[[[[[[{"a": [(1,)]}]]]]]]]]]],
}


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024 - the untyped kind


def assert_same(found, expected):
    """Fail unless values and types agree at every depth."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected
        assert repr(found) == repr(expected) or isinstance(expected, (set, frozenset))


class ValueContract(Contract):
    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
    def test_value_comes_back_equal_and_of_the_same_type(self, cache, value):
        cache["a"] = value

        assert_same(cache["a"], value)

    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
    def test_value_comes_back_in_another_object(self, cache, make_cache, value):
        cache["a"] = value

        assert_same(make_cache().get("a"), value)

    @pytest.mark.parametrize(
        "value",
        [list(range(50_000)), {"key": "x" * 100_000}, ("x" * 50_000, b"y" * 50_000)],
        ids=["list", "dict", "tuple"],
    )
    def test_large_value_comes_back_equal(self, cache, value):
        cache["a"] = value

        assert_same(cache["a"], value)

    def test_negative_zero_keeps_its_sign(self, cache):
        cache["a"] = -0.0

        assert math.copysign(1, cache["a"]) == -1

    @pytest.mark.since6("version 5 gives None")
    def test_nan_stays_nan(self, cache):
        cache["a"] = math.nan
        cache["b"] = [math.nan]

        assert type(cache["a"]) is float
        assert math.isnan(cache["a"])
        assert math.isnan(cache["b"][0])

    def test_datetime_keeps_its_fold(self, cache):
        value = dt.datetime(2024, 10, 27, 2, 30, fold=1)  # noqa: DTZ001 - fold is for local time
        cache["a"] = value

        assert cache["a"].fold == 1

    @pytest.mark.since6("version 5 raises, and leaves a stray file of a large value")
    @pytest.mark.parametrize(
        "value",
        ["a\ud800", ["a\udfff"], "x\ud800" * 50_000, {"\ud800": 1}],
        ids=["text", "list", "large", "dict-key"],
    )
    def test_lone_surrogate_survives_or_raises_value_error(self, cache, value):
        cache["a"] = "old"
        try:
            cache["a"] = value
        except ValueError:
            assert cache["a"] == "old"
        else:
            assert cache["a"] == value

    @pytest.mark.parametrize(
        "value", [Point(1, 2), Colour.RED, Pair(1, [2])], ids=["dataclass", "enum", "namedtuple"]
    )
    def test_object_of_a_class_comes_back_equal_and_of_the_same_type(self, cache, value):
        cache["a"] = value
        cache["b"] = [value]

        assert cache["a"] == value
        assert type(cache["a"]) is type(value)
        assert type(cache["b"][0]) is type(value)

    @pytest.mark.since6("version 5 gives another object, that is not equal")
    @pytest.mark.parametrize("marker", [ENOVAL, UNKNOWN], ids=repr)
    def test_marker_comes_back_as_itself(self, cache, marker):
        cache["a"] = [marker]

        assert cache["a"][0] is marker

    def test_value_that_cannot_be_encoded_raises_and_keeps_the_old_one(self, cache):
        cache["a"] = "old"

        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            cache["a"] = lambda: None
        assert cache["a"] == "old"
        assert len(cache) == 1

    @pytest.mark.since6("version 5 always pickles")
    def test_pickle_never_refuses_what_is_not_plain_and_takes_what_is(self, make_cache):
        cache = make_cache(pickle="never")
        cache["plain"] = VALUES["dict"]

        with pytest.raises(TypeError, match="Point"):
            cache["a"] = Point(1, 2)
        assert cache["plain"] == VALUES["dict"]
        assert list(cache) == ["plain"]
