"""Keys: what is stored for each, and how 1, 1.0 and True relate."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import zlib

import pytest

from diskcache.codecs import keys
from diskcache.codecs.names import TypeName
from diskcache.errors import CodecError, NotPlainError
from diskcache.sentinels import ENOVAL


class Thing:
    pass


class Meta(type):
    pass


class WithMeta(metaclass=Meta):
    pass


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    "key",
    ["", "k", "é", "\0", b"", b"\x01k", 0, -1, 2**63 - 1, -(2**63), 0.5, -0.0, math.inf, 1e300],
)
def test_native_keys_are_stored_as_they_are(key):
    db_key, raw = keys.encode_key(key)

    assert db_key is key
    assert raw == 1
    assert keys.decode_key(db_key, raw) is key


@pytest.mark.parametrize(
    ("key", "blob"),
    [
        (None, b"\xc0"),
        (True, b"\xc3"),
        (False, b"\xc2"),
        (2**63, b"\xcf\x80" + bytes(7)),
        (2**64, b"\xc7\x09\x01\x01" + bytes(8)),
        (math.nan, b"\xcb\x7f\xf8" + bytes(6)),
        ("\ud800", b"\xc7\x03\x04\xed\xa0\x80"),
        (bytearray(b"k"), b"\xd4\x03k"),
        ((), b"\x90"),
        ((1,), b"\x91\x01"),
        ((1.0,), b"\x91\xcb\x3f\xf0" + bytes(6)),
        ((-0.0,), b"\x91\xcb" + bytes(8)),
        ((True,), b"\x91\xc3"),
        (("f", 1, "x", None), b"\x94\xa1f\x01\xa1x\xc0"),
        (("f", (1, 2)), b"\x92\xa1f\xc7\x03\x05\x92\x01\x02"),
        ([1], b"V\x91\x01"),
        ([(1, 2)], b"V\x91\xc7\x03\x05\x92\x01\x02"),
        ({"b": 1, "a": 2}, b"\x82\xa1a\x02\xa1b\x01"),
        ({2: 0, 1: 0}, b"\xc7\x05\x08\x94\x01\x00\x02\x00"),
        pytest.param({"a", 3}, b"\xd6\x06\x92\x03\xa1a", id="set of two"),
        (decimal.Decimal("1.50"), b"\xc7\x05\x0f15E-1"),
        (range(0, 5, 2), b"\xd6\x12\x93\x00\x06\x02"),
        (range(5, 0), b"\xd6\x12\x93\x00\x00\x01"),
        (range(7, 8, 9), b"\xd6\x12\x93\x07\x08\x01"),
        (int, b"\xc7\x0c\x14builtins\0int"),
        (ENOVAL, b"\xd4\x15\x01"),
    ],
    ids=lambda part: repr(part)[:30],
)
def test_format_of_other_keys_is_frozen(key, blob):
    assert keys.encode_key(key) == (blob, 0)


def test_numbers_inside_tuples_are_different_keys():
    blobs = {keys.encode_key((key,))[0] for key in (1, 1.0, True, "1", b"1", decimal.Decimal(1))}

    assert len(blobs) == 6


@pytest.mark.parametrize("key", [Thing, WithMeta, datetime.datetime])
def test_types_in_keys_are_names(key):
    db_key, raw = keys.encode_key(("f", key))
    back = keys.decode_key(db_key, raw)

    assert type(back[1]) is TypeName
    assert back == ("f", key)
    assert keys.encode_key(back) == (db_key, raw)


@pytest.mark.parametrize("key", [Number.ONE, Thing(), (1, Number.ONE), memoryview(b"x")])
def test_other_keys_are_not_plain(key):
    with pytest.raises(NotPlainError):
        keys.encode_key(key)


def test_identity_of_parts_does_not_matter():
    text = "".join(["a", "b", "c"])

    assert keys.encode_key((text, text)) == keys.encode_key((text, "".join(["a", "bc"])))


@pytest.mark.parametrize("blob", [b"", b"V", b"\x01" + bytes(30), b"\x02abc", b"\x91", "text", 3])
def test_damaged_keys_raise_codec_error(blob):
    with pytest.raises(CodecError):
        keys.decode_key(blob, 0)


def test_key_bytes_tell_kinds_apart():
    distinct = [("1", 1), (b"1", 1), (b"1", 0), (1, 1), (1.5, 1), (-1, 1), (math.inf, 1)]

    assert len({keys.key_bytes(*pair) for pair in distinct}) == len(distinct)


@pytest.mark.parametrize("number", [0, 1, -1, 2**53, -(2**63)])
def test_equal_numbers_are_one_key_and_share_a_shard(number):
    same = float(number)

    assert keys.key_bytes(number, 1) == keys.key_bytes(same, 1)
    assert keys.shard_hash(number, 1) == keys.shard_hash(same, 1)


def test_minus_zero_is_zero():
    assert keys.key_bytes(-0.0, 1) == keys.key_bytes(0, 1)
    assert keys.shard_hash(-0.0, 1) == keys.shard_hash(0, 1) == 0


@pytest.mark.parametrize(
    ("db_key", "raw", "expected"),
    [
        ("a", 1, 6422626),
        (b"a", 1, 6422626),
        ("é", 1, 36766061),
        (b"\x91\x01", 0, zlib.adler32(b"\x91\x01")),
        (0, 1, 0),
        (-1, 1, 4294967294),
        (2**32, 1, 1),
        (2**63 - 1, 1, 2147483647),
        (-(2**63), 1, 2147483647),
        (0.5, 1, 136315168),
        (1e300, 1, 262341487),
        (math.inf, 1, 177209712),
    ],
)
def test_shard_hash_is_that_of_version_5(db_key, raw, expected):
    assert keys.shard_hash(db_key, raw) == expected


def test_ambiguous_times_follow_equality():
    zoneinfo = pytest.importorskip("zoneinfo")
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    first = datetime.datetime(2023, 10, 29, 2, 30, tzinfo=berlin)
    second = first.replace(fold=1)

    assert first == second
    assert keys.encode_key(first) == keys.encode_key(second)
    assert keys.encode_key(first) != keys.encode_key(first.astimezone(datetime.UTC))
    assert first != first.astimezone(datetime.UTC)


@pytest.mark.parametrize("hours", [-23, 23])
@pytest.mark.parametrize("moment", [datetime.datetime.min, datetime.datetime.max])  # noqa: DTZ901
def test_moments_at_the_ends_of_time(moment, hours):
    zone = datetime.timezone(datetime.timedelta(hours=hours))
    key = moment.replace(tzinfo=zone)
    db_key, raw = keys.encode_key(key)

    assert keys.decode_key(db_key, raw) == key
    assert keys.encode_key(keys.decode_key(db_key, raw)) == (db_key, raw)
