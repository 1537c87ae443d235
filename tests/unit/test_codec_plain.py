"""The data-only codec: what is plain, what the bytes look like, what hostile bytes do."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import re
import subprocess
import sys
import tracemalloc
import uuid
import zoneinfo
from pathlib import Path
from typing import Any

import ormsgpack
import pytest

from diskcache.codecs import names, plain, plain_ext, plain_tree
from diskcache.codecs.names import TypeName
from diskcache.errors import CodecError, NotPlainError
from diskcache.sentinels import ENOVAL, UNKNOWN, Constant

SOURCES = Path(__file__).resolve().parents[2] / "src"


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Name(enum.StrEnum):
    A = "a"


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    pass


class Many(list[Any]):
    pass


class Table(dict[str, Any]):
    pass


class Moment(datetime.datetime):
    pass


class Zone(datetime.tzinfo):
    def utcoffset(self, _moment: Any) -> datetime.timedelta:
        return datetime.timedelta(0)


Pair = collections.namedtuple("Pair", "a b")  # noqa: PYI024 - the plain kind, as users have it


@dataclasses.dataclass
class Point:
    x: int


class Impostor:
    """Says that it is a Decimal."""


Impostor.__module__ = "decimal"
Impostor.__qualname__ = "Decimal"

NOT_PLAIN = [
    Colour.RED,
    Number.ONE,
    Name.A,
    Text("x"),
    Whole(1),
    Real(1.0),
    Many([1]),
    Table(a=1),
    Moment(2020, 1, 1),
    Pair(1, 2),
    Point(1),
    Impostor(),
    memoryview(b"x"),
    memoryview(bytearray(b"x")),
    collections.OrderedDict(a=1),
    collections.defaultdict(int),
    collections.deque([1]),
    object(),
    Point,
    len,
    datetime.datetime(2020, 1, 1, tzinfo=Zone()),
    datetime.time(1, tzinfo=Zone()),
    Constant("ENOVAL"),
    NotImplemented,
    ...,
]
FILLER = [1.5] * 10


@pytest.mark.parametrize("value", NOT_PLAIN, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: value,
        lambda value: [value],
        lambda value: (value,),
        lambda value: {"k": value},
        lambda value: {1: value},
        lambda value: {"k": [(value, 1)]},
        lambda value: [(value, 1), (value, 2)],
        lambda value: [*FILLER, value],
        lambda value: [{"a": value, "b": bytes(300)}] * 10,
        lambda value: slice(value),
    ],
    ids=["bare", "list", "tuple", "dict", "int dict", "deep", "rows", "floats", "dicts", "slice"],
)
def test_other_types_are_not_plain_wherever_they_sit(value, wrap):
    with pytest.raises(NotPlainError):
        plain.dumps(wrap(value))


@pytest.mark.parametrize("key", [Colour.RED, Number.ONE, Name.A, Text("x"), Whole(1), Pair(1, 2)])
def test_other_types_are_not_plain_as_dict_keys(key):
    for beside in (1, [1], {1: 2}):
        with pytest.raises(NotPlainError):
            plain.dumps([beside, {key: 1}])
    with pytest.raises(NotPlainError):
        plain.dumps({"first": 1, key: 1})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "<enum 'Colour'> is not plain data"),
        ({"a": [1, (Point(1),)]}, r"<class '.*Point'> at value['a'][1][0] is not plain data"),
        ({Whole(1): 1}, r"<class '.*Whole'> at value (key) is not plain data"),
        ({1: {2: Whole(1)}}, r"<class '.*Whole'> at value[1][2] is not plain data"),
        ({1, Pair(1, 2)}, r"<class '.*Pair'> at value (element) is not plain data"),
        ([Point], r"the class <class '.*Point'> at value[0] is not plain data"),
    ],
)
def test_refusal_names_type_and_place(value, expected):
    pattern = re.escape(expected).replace(r"\.\*", ".*")

    with pytest.raises(NotPlainError) as caught:
        plain.dumps(value)

    assert re.fullmatch(pattern, str(caught.value))


# -- Bytes -------------------------------------------------------------------------------------

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
MOMENT = datetime.datetime(2024, 5, 6, 7, 8, 9, 10)  # noqa: DTZ001 - plain, too

FROZEN: list[tuple[Any, bytes]] = [
    (None, b"\xc0"),
    (True, b"\xc3"),
    (1, b"V\x01"),
    (-1, b"\xff"),
    (200, b"\xcc\xc8"),
    (2**64, b"\xc7\x09\x01\x01" + bytes(8)),
    (-(2**63) - 1, b"\xc7\x09\x01\xff\x7f" + b"\xff" * 7),
    (1.5, b"\xcb\x3f\xf8" + bytes(6)),
    (1 - 2j, b"\xd8\x02\x3f\xf0" + bytes(6) + b"\xc0" + bytes(7)),
    ("é", b"\xa2\xc3\xa9"),
    ("\ud800", b"\xc7\x03\x04\xed\xa0\x80"),
    (b"ab", b"\xc4\x02ab"),
    (bytearray(b"ab"), b"\xd5\x03ab"),
    ([], b"V\x90"),
    ([1, "a"], b"V\x92\x01\xa1a"),
    ((), b"\x90"),
    ((1, "a"), b"\x92\x01\xa1a"),
    ([(1, "a"), (2, "b")], b"R\x92\x92\x01\x02\x92\xa1a\xa1b"),
    ([(1,), (2, 3)], b"V\x92\xd5\x05\x91\x01\xc7\x03\x05\x92\x02\x03"),
    ([1.5] * 8, b"F" + (b"\x3f\xf8" + bytes(6)) * 8),
    ({}, b"\x80"),
    ({"a": (1,)}, b"\x81\xa1a\xd5\x05\x91\x01"),
    ({1: "a"}, b"D\x92\x01\xa1a"),
    ({"k": {1: "a"}}, b"\x81\xa1k\xd6\x08\x92\x01\xa1a"),
    ({5}, b"\xd5\x06\x91\x05"),
    (frozenset((5,)), b"\xd5\x07\x91\x05"),
    (MOMENT.date(), b"\xc7\x0a\x092024-05-06"),
    (MOMENT.time(), b"\xc7\x0f\x0a07:08:09.000010"),
    (MOMENT, b"\xc7\x1a\x0b2024-05-06T07:08:09.000010"),
    (MOMENT.replace(tzinfo=datetime.UTC), b"\xc7\x20\x0b2024-05-06T07:08:09.000010+00:00"),
    (MOMENT.replace(microsecond=0, fold=1), b"\xc7\x15\x0b2024-05-06T07:08:09\0\x01"),
    (
        MOMENT.replace(microsecond=0, tzinfo=BERLIN),
        b"\xc7\x22\x0b2024-05-06T07:08:09\0\x04Europe/Berlin",
    ),
    (
        datetime.timedelta(-1, 2, 3),
        b"\xc7\x0c\x0c\xff\xff\xff\xff\0\0\0\x02\0\0\0\x03",
    ),
    (datetime.timezone(datetime.timedelta(0), "Z"), b"\xc7\x0e\x0d" + bytes(12) + b"\0Z"),
    (BERLIN, b"\xc7\x0d\x0eEurope/Berlin"),
    (decimal.Decimal("1.50"), b"\xd6\x0f1.50"),
    (uuid.UUID(int=1), b"\xd8\x11" + bytes(15) + b"\x01"),
    (range(1, 9, 2), b"\xd6\x12\x93\x01\x09\x02"),
    (slice(1, None, "x"), b"\xc7\x05\x13\x93\x01\xc0\xa1x"),
    (int, b"\xc7\x0c\x14builtins\0int"),
    (ENOVAL, b"\xd4\x15\x01"),
    (UNKNOWN, b"\xd4\x15\x02"),
    ([(MOMENT.date(),)] * 2, b"R\x91\xc7\x19\x16\x92\x09\x92\xaa2024-05-06\xaa2024-05-06"),
]


@pytest.mark.parametrize(("value", "data"), FROZEN, ids=lambda part: repr(part)[:40])
def test_format_is_frozen(value, data):
    assert plain.dumps(value) == data
    assert plain.loads(data) == value
    assert type(plain.loads(data)) is type(value)


def test_extension_table_of_the_specification_is_that_of_the_code():
    table = {
        int(code): name.upper()
        for code, name in re.findall(r"^ {6,7}(\d+)  (\w+)", plain.__doc__ or "", re.MULTILINE)
    }
    codes = {
        number: name.removeprefix("EXT_")
        for name, number in vars(plain_ext).items()
        if name.startswith("EXT_")
    }

    assert len(table) == 24
    assert table == codes


@pytest.mark.parametrize("kind", names.BUILTIN_TYPES.values())
def test_built_in_types_come_back_as_themselves(kind):
    assert plain.loads(plain.dumps([kind]))[0] is kind


def test_list_of_ints_that_look_like_floats_stays_ints():
    value = [1.5] * 8 + [2**63] * 8

    assert [*map(type, plain.loads(plain.dumps(value)))] == [float] * 8 + [int] * 8


def test_uuid_keeps_how_it_was_made():
    made = uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe)

    assert plain.loads(plain.dumps(made)).is_safe is uuid.SafeUUID.safe


def test_fraction_too_large_to_check_is_not_plain():
    fractions = pytest.importorskip("fractions")

    with pytest.raises(NotPlainError):
        plain.dumps(fractions.Fraction(1, 2**70_000))


# -- Depth -------------------------------------------------------------------------------------

WRAPS = [
    lambda value: [value],
    lambda value: (value,),
    lambda value: {"a": value},
    lambda value: {1: value},
    lambda value: [(value,)],
]
WRAP_IDS = ["list", "tuple", "dict", "int dict", "mixed"]


def nested(wrap: Any, levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", WRAPS, ids=WRAP_IDS)
def test_two_hundred_levels_are_plain(wrap):
    value = nested(wrap, 100 if wrap is WRAPS[-1] else 200)

    assert plain.loads(plain.dumps(value)) == value


@pytest.mark.parametrize("wrap", WRAPS, ids=WRAP_IDS)
@pytest.mark.parametrize("levels", [300, 5000])
def test_more_levels_are_not_plain(wrap, levels):
    with pytest.raises(NotPlainError, match="is not plain data"):
        plain.dumps(nested(wrap, levels))


def test_what_contains_itself_is_not_plain():
    value: list[Any] = []
    value.append(value)
    table: dict[Any, Any] = {}
    table[1] = (table,)

    for each in (value, table, [(value, 1)], {"a": table}):
        with pytest.raises(NotPlainError):
            plain.dumps(each)


def test_large_and_deep_is_refused_when_written_not_when_read():
    value: Any = "x" * 50_000
    for _ in range(100):
        value = (value,)

    with pytest.raises(NotPlainError, match="so large and so deep"):
        plain.dumps(value)


def test_little_recursion_left_is_not_a_crash():
    value = {1: nested(WRAPS[1], 150)}

    def from_below(frames: int) -> bytes:
        return plain.dumps(value) if frames == 0 else from_below(frames - 1)

    depth = sys.getrecursionlimit() - 300
    with pytest.raises(NotPlainError):
        from_below(depth)


# -- Hostile bytes -----------------------------------------------------------------------------


def ext(code: int, payload: bytes) -> bytes:
    return b"\xc9" + len(payload).to_bytes(4, "big") + bytes((code & 0xFF,)) + payload


HOSTILE = {
    "empty": b"",
    "unknown shape": b"\x00abc",
    "signed": b"\x01" + bytes(40),
    "only a shape": b"V",
    "huge array": b"V\xdd\xff\xff\xff\xff",
    "huge map": b"\xdf\xff\xff\xff\xff",
    "huge text": b"\xdb\xff\xff\xff\xff",
    "huge bin": b"\xc6\xff\xff\xff\xff",
    "huge ext": b"\xc9\xff\xff\xff\xff\x05",
    "nested arrays": b"V" + b"\x91" * 100_000,
    "nested maps": b"\x81\xa1a" * 100_000,
    "rows of nothing": b"R\x90",
    "rows of text": b"R\x91\xa3abc",
    "rows of maps": b"R\x91\x81\xa1a\x01",
    "ragged rows": b"R\x92\x91\x01\x90",
    "rows without columns": b"R\xc0",
    "odd doubles": b"F" + bytes(9),
    "dict without value": b"D\x91\x01",
    "dict of text": b"D\xa2ab",
    "dict with list as key": b"D\x92\x90\x01",
    "unknown ext": ext(99, b""),
    "timestamp": b"\xd6\xff" + bytes(4),
    "reserved ndarray": ext(32, b"\x93NUMPY"),
    "tuple of a map": ext(5, b"\x80"),
    "tuple of nothing": ext(5, b""),
    "set of lists": ext(6, b"\x91\x90"),
    "ext dict without value": ext(8, b"\x91\x01"),
    "slice of two": ext(19, b"\x92\x01\x02"),
    "short complex": ext(2, bytes(8)),
    "bad text": ext(4, b"\xff"),
    "date of text": ext(9, b"tomorrow"),
    "date 0": ext(9, b"0000-00-00"),
    "time of text": ext(10, b"noon"),
    "zone kind": ext(11, b"2020-01-01T00:00:00\0\x08"),
    "short zone": ext(11, b"2020-01-01T00:00:00\0\x02"),
    "zone with rest": ext(11, b"2020-01-01T00:00:00\0\x00x"),
    "fixed zone of a year": ext(13, b"\0\0\x01\0" + bytes(8)),
    "timezone without zero byte": ext(13, bytes(12) + b"Z"),
    "timedelta too long": ext(12, b"\x7f\xff\xff\xff" + bytes(8)),
    "zone outside": ext(14, b"../../../../etc/passwd"),
    "absolute zone": ext(14, b"/etc/passwd"),
    "zone package": ext(14, b"os.path/x"),
    "no such zone": ext(14, b"Nowhere/Nothing"),
    "zone is a folder": ext(14, b"Europe"),
    "decimal of text": ext(15, b"many"),
    "decimal beyond ASCII": ext(15, "\u0661".encode()),
    "fraction by zero": ext(16, b"\x92\x01\x00"),
    "fraction of floats": ext(16, b"\x92\xcb" + bytes(8) + b"\x01"),
    "fraction of text": ext(16, b"\x92\xa3100\x01"),
    "fraction of bools": ext(16, b"\x92\xc3\xc3"),
    "endless fraction": ext(16, b"\x92" + ext(1, b"\x01" * 100_000) + ext(1, b"\x01" * 90_000)),
    "short uuid": ext(17, bytes(15)),
    "uuid of no kind": ext(17, bytes(16) + b"\x09"),
    "range by zero": ext(18, b"\x93\x00\x01\x00"),
    "range of exts": ext(18, b"\x93" + ext(5, b"\x90") * 3),
    "unknown sentinel": ext(21, b"\x03"),
    "column of what": ext(22, b"\x92\x63\x90"),
    "column of ints": ext(22, b"\x92\x0b\x91\x01"),
    "column of a map": ext(22, b"\x92\x0b\x80"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_raise_codec_error(data):
    with pytest.raises(CodecError):
        plain.loads(data)


@pytest.mark.parametrize(
    "data",
    [
        b"V\xdd\x7f\xff\xff\xff" + bytes(1000),
        b"V" + b"\xdc\xff\xff" * 1000,
        b"\xdf\x7f\xff\xff\xff" + b"\xa1a\xc0" * 1000,
        b"R\x91\xdd\x7f\xff\xff\xff",
        ext(8, b"\xdd\x7f\xff\xff\xff" + bytes(1000)),
        ext(1, b"\xff") * 3,
    ],
)
def test_claimed_lengths_take_no_memory(data):
    tracemalloc.start()
    try:
        with_error = False
        try:
            plain.loads(data)
        except CodecError:
            with_error = True
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert with_error or len(data) < 50
    assert peak < 2_000_000


def test_nested_payloads_take_no_more_memory_than_the_bound():
    data = b"\xc0" * 400_000
    for _ in range(150):
        data = b"\x91" + ext(5, b"\xdd" + (len(data)).to_bytes(4, "big") + data)[:]
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            plain.loads(b"V" + data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 12 * len(data) + 4_000_000


def test_payloads_nested_beyond_the_limit_raise_codec_error():
    data = b"\x90"
    for _ in range(250):
        data = b"\x91" + ext(5, data)

    with pytest.raises(CodecError):
        plain.loads(b"V" + data)


def test_names_of_types_import_nothing():
    loaded = plain.loads(ext(20, b"antigravity\0Comic"))

    assert type(loaded) is TypeName
    assert loaded == TypeName("antigravity", "Comic")
    assert "antigravity" not in sys.modules


def test_built_in_functions_are_not_reached_by_name():
    assert type(plain.loads(ext(20, b"builtins\0eval"))) is TypeName
    assert type(plain.loads(ext(20, b"builtins\0__import__"))) is TypeName


def test_bytes_behind_the_object_are_ignored():
    assert plain.loads(b"\xc0" + b"rest") is None


@pytest.mark.parametrize("version", ["1.13.0", "1.9.9", "0.30"])
def test_library_that_hostile_bytes_crash_is_refused(version):
    with pytest.raises(ImportError, match=r"at least 1\.13\.1 is needed"):
        plain_ext.require_library(version)


@pytest.mark.parametrize("version", ["1.13.1", "1.14.0rc1", "2.0"])
def test_later_library_is_accepted(version):
    plain_ext.require_library(version)


# -- Imports -----------------------------------------------------------------------------------


def test_seldom_needed_modules_are_not_imported():
    code = (
        "import sys; before = set(sys.modules); import diskcache.codecs.values;"
        "print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-X", "frozen_modules=on", "-c", code]
    result = subprocess.run(
        command, env={"PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=True
    )
    imported = set(result.stdout.split())

    # datetime comes with sqlite3, and uuid with ormsgpack.
    assert not imported & {"decimal", "fractions", "zoneinfo", "numpy"}


def test_type_name_is_inert():
    name = TypeName("app", "Thing")

    with pytest.raises(AttributeError):
        name.module = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del name.module
    with pytest.raises(TypeError):
        name()  # type: ignore[operator]

    assert repr(name) == "TypeName('app', 'Thing')"
    assert name == TypeName("app", "Thing") != TypeName("app", "Other")
    assert hash(name) == hash(TypeName("app", "Thing"))
    assert TypeName(Point.__module__, "Point") == Point
    assert name != "app.Thing"


def test_careful_builder_and_library_write_headers_alike():
    for size in (0, 15, 16, 65_535, 65_536):
        parts = [b"\xc0"] * size

        assert plain_tree.array(parts) == ormsgpack.packb([None] * size)
