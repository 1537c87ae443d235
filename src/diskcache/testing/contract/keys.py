"""Which keys are one and the same."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import math
import pickle
import uuid

import pytest

from diskcache import ENOVAL
from diskcache.testing.contract import Contract

KEYS = {
    "text": "text",
    "empty-text": "",
    "text-with-nul": "a\0b",
    "not-ascii": "ключ 😀",
    "bytes": b"bytes",
    "empty-bytes": b"",
    "zero-bytes": b"\0\0",
    "int": 5,
    "negative": -5,
    "largest-int": 2**63 - 1,
    "smallest-int": -(2**63),
    "beyond-64-bits": 2**63,
    "far-beyond-64-bits": -(2**200),
    "float": 2.5,
    "infinity": math.inf,
    "minus-infinity": -math.inf,
    "true": True,
    "false": False,
    "none": None,
    "tuple": (1, "a", None),
    "empty-tuple": (),
    "nested-tuple": ((1, (2.5, b"x")), ("y",)),
    "frozenset": frozenset({1, 2, "a"}),
    "bytearray": bytearray(b"x"),
    "complex": 1 + 2j,
    "list": [1, [2]],
    "dict": {"a": 1, "b": (2,)},
    "date": dt.date(2024, 2, 29),
    "datetime": dt.datetime(2024, 2, 29, 12, 30, 0, 5),  # noqa: DTZ001 - a naive one
    "aware-datetime": dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC),
    "timedelta": dt.timedelta(days=-1, microseconds=3),
    "decimal": decimal.Decimal("1.50"),
    "fraction": fractions.Fraction(1, 3),
    "uuid": uuid.UUID(int=7),
    "range": range(3, 30, 4),
}

each_key = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)


class Name(str):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


class KeyContract(Contract):
    @each_key
    def test_key_is_found_under_an_equal_one(self, cache, key):
        cache[key] = "value"
        # A copy, because version 5 tells equal tuples apart by the identity of their parts.
        again = pickle.loads(pickle.dumps(key))

        assert cache[again] == "value"
        assert again in cache
        assert cache.pop(again) == "value"
        assert len(cache) == 0

    @each_key
    def test_key_that_iteration_gives_is_equal_of_the_same_type_and_found(self, cache, key):
        cache[key] = "value"

        (given,) = cache

        assert given == key
        assert type(given) is type(key)
        assert cache[given] == "value"

    @pytest.mark.since6("version 5 gives another object, that is not equal")
    def test_marker_in_a_key_comes_back_as_itself(self, cache):
        cache["a", ENOVAL] = "value"

        ((_, given),) = cache

        assert given is ENOVAL
        assert cache["a", ENOVAL] == "value"

    def test_keys_of_all_kinds_are_different_entries(self, cache):
        for name, key in KEYS.items():
            cache[key] = name

        assert len(cache) == len(KEYS)
        assert {name: cache[key] for name, key in KEYS.items()} == {name: name for name in KEYS}

    @pytest.mark.parametrize(
        ("one", "other"),
        [(1, 1.0), (0, -0.0), (0.0, -0.0), (-7, -7.0), (2**53, 2.0**53)],
        ids=repr,
    )
    def test_equal_numbers_are_one_key(self, cache, one, other):
        cache[one] = "first"
        cache[other] = "second"

        assert len(cache) == 1
        assert cache[one] == cache[other] == "second"

    def test_equal_numbers_keep_the_spelling_used_first(self, cache):
        cache[1] = 0
        cache[1.0] = 0

        (key,) = cache

        assert type(key) is int

    def test_large_numbers_are_compared_exactly(self, cache):
        cache[2**53 + 1] = "int"
        cache[2.0**53] = "float"

        assert len(cache) == 2

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (1, True),
            (0, False),
            (1.0, True),
            ("a", b"a"),
            ("1", 1),
            (b"a", bytearray(b"a")),
            ((1,), [1]),
            ((1,), (True,)),
            ((1, 2), ("1", 2)),
            (("a",), (b"a",)),
            ("é", "e\u0301"),
            ("a", Name("a")),
            (1, Colour.RED),
            (None, "None"),
            ((), None),
        ],
        ids=repr,
    )
    def test_keys_of_different_types_are_different_entries(self, cache, one, other):
        cache[one] = "one"
        cache[other] = "other"

        assert len(cache) == 2
        assert (cache[one], cache[other]) == ("one", "other")

    @pytest.mark.since6("version 5 tells them apart by the identity of their parts")
    def test_equal_tuples_are_one_key_whatever_their_parts_are(self, cache):
        part = "".join(["some", " text"])
        cache[part, part] = 1
        cache[part, "".join(["some", " text"])] = 2

        assert len(cache) == 1
        assert cache["some text", "some text"] == 2

    @pytest.mark.since6("version 5 tells them apart by their order")
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (frozenset([1, 9, 17, 25]), frozenset([25, 17, 9, 1])),
            ((frozenset("abcdef"),), (frozenset("fedcba"),)),
        ],
        ids=["frozenset", "nested"],
    )
    def test_equal_sets_are_one_key(self, cache, one, other):
        cache[one] = 1
        cache[other] = 2

        assert len(cache) == 1

    def test_bytes_key_is_never_the_key_whose_encoding_it_equals(self, cache):
        cache["a", 1] = "tuple"
        encoded, _ = cache.disk.put(("a", 1))
        cache[bytes(encoded)] = "bytes"

        assert len(cache) == 2
        assert cache["a", 1] == "tuple"

    @pytest.mark.since6("version 5 stores an entry that is never found")
    def test_nan_as_key_raises_or_is_found(self, cache):
        try:
            cache[math.nan] = 1
        except ValueError:
            assert len(cache) == 0
        else:
            cache[math.nan] = 2

            assert len(cache) == 1
            assert cache[math.nan] == 2

    @pytest.mark.parametrize("key", ["a\ud800", ("a\ud800",)], ids=["text", "tuple"])
    def test_lone_surrogate_in_a_key_survives_or_raises_value_error(self, cache, key):
        try:
            cache[key] = 1
        except ValueError:
            assert len(cache) == 0
        else:
            assert cache[key] == 1
            assert list(cache) == [key]

    def test_key_that_cannot_be_encoded_raises_and_stores_nothing(self, cache):
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            cache[lambda: None] = 1

        assert len(cache) == 0

    def test_long_key_is_found(self, cache):
        cache["k" * 100_000] = 1
        cache["k" * 99_999] = 2

        assert cache["k" * 100_000] == 1
        assert len(cache) == 2
