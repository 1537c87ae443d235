"""`serializer=`: values as JSON text, or as whatever the user makes of them."""

from __future__ import annotations

import io
import json
import pickle
import zlib

import apsw
import pytest

import diskcache
from diskcache import Cache, CodecError, Disk, JSONDisk, SettingError, json_serializer
from diskcache.codecs.base import MODE_JSON, MODE_RAW, MODE_USER, MODE_USERTEXT


class Point:
    """An object that says how it is written as JSON."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __json__(self):
        return {"x": self.x, "y": self.y}


class Reversing:
    """A serializer of text, which writes it backwards."""

    def dumps(self, value):
        return json.dumps(value)[::-1]

    def loads(self, data):
        if not isinstance(data, str):
            raise TypeError(data)
        return json.loads(data[::-1])


class Odd:
    """A serializer that returns neither text nor bytes."""

    def dumps(self, value):
        return [value]

    def loads(self, data):
        return data[0]


def packed(value):
    return zlib.compress(json.dumps(value).encode())


def unpacked(data):
    return json.loads(zlib.decompress(data))


def stored(directory):
    """Return mode and value of the entries, as they are in the database."""
    connection = apsw.Connection(str(directory / "cache.db"), apsw.SQLITE_OPEN_READONLY)
    try:
        return {
            key: (mode, value)
            for key, mode, value in connection.execute("SELECT key, mode, value FROM Cache")
        }
    finally:
        connection.close()


# -- json_serializer ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "mode", "data"),
    [
        ({"a": [1, None]}, MODE_JSON, '{"a": [1, null]}'),
        ("é", MODE_JSON, '"é"'),
        (True, MODE_JSON, "true"),
        (None, MODE_JSON, "null"),
        (2**70, MODE_JSON, str(2**70)),
        (7, MODE_RAW, 7),
        (0.5, MODE_RAW, 0.5),
        ("\ud800", MODE_JSON, '"\\ud800"'),
    ],
    ids=repr,
)
def test_json_is_readable_text_in_the_database(directory, value, mode, data):
    with Cache(directory, serializer=json_serializer) as cache:
        cache["k"] = value

        assert cache["k"] == value
        assert type(cache["k"]) is type(value)
    assert stored(directory) == {"k": (mode, data)}


def test_large_json_is_readable_text_in_a_file(directory):
    value = {"key": ["ü" * 50_000]}
    with Cache(directory, serializer=json_serializer) as cache:
        cache["k"] = value
        (file,) = directory.rglob("*.val")

        assert json.loads(file.read_text(encoding="utf-8")) == value
        assert cache["k"] == value


def test_tuples_come_back_as_lists(make_cache):
    cache = make_cache(serializer=json_serializer)
    cache["k"] = (1, (2, 3))

    assert cache["k"] == [1, [2, 3]]


@pytest.mark.parametrize(
    "value", [object(), b"bytes", {1}, [object()]], ids=["object", "bytes", "set", "list"]
)
def test_what_json_does_not_know_raises_type_error_that_names_the_type(make_cache, value):
    cache = make_cache(serializer=json_serializer)
    kind = "object" if isinstance(value, list) else type(value).__name__

    with pytest.raises(TypeError, match=f"^Object of type {kind} is not JSON serializable$"):
        cache["k"] = value
    assert "k" not in cache


def test_json_of_an_object_is_what_its_method_returns(make_cache):
    cache = make_cache(serializer=json_serializer)
    cache["k"] = [Point(1, 2)]

    assert cache["k"] == [{"x": 1, "y": 2}]


def test_counters_are_numbers(make_cache):
    cache = make_cache(serializer=json_serializer)

    assert [cache.incr("n"), cache.incr("n", 0.5), cache.decr("n")] == [1, 1.5, 0.5]


def test_keys_are_what_they_are_without_a_serializer(make_cache):
    cache = make_cache(serializer=json_serializer)
    cache[(1, "a")] = "tuple"
    cache[b"bytes"] = "bytes"

    assert list(cache.items()) == [((1, "a"), "tuple"), (b"bytes", "bytes")]


def test_files_are_kept_as_they_are(make_cache):
    cache = make_cache(serializer=json_serializer)
    cache.set("k", io.BytesIO(b"{not json"), read=True)

    assert cache["k"] == b"{not json"
    with cache.read("k") as reader:
        assert reader.read() == b"{not json"


def test_directory_of_json_opens_without_the_serializer_and_back(directory):
    with Cache(directory, serializer=json_serializer) as cache:
        cache["json"] = {"a": [1]}
        cache["large"] = ["x" * 50_000]
    with Cache(directory) as cache:
        assert cache["json"] == {"a": [1]}
        assert cache["large"] == ["x" * 50_000]
        cache["plain"] = (1, b"x")
    with Cache(directory, serializer=json_serializer) as cache:
        assert cache["plain"] == (1, b"x")
        assert cache["json"] == {"a": [1]}


@pytest.mark.parametrize("data", ["{", "[" * 100_000, b"\xff\xfe"], ids=["half", "deep", "bytes"])
def test_damaged_json_is_a_miss(make_cache, data):
    cache = make_cache()
    cache._engine.put(("k", 1), (MODE_JSON, data, None), None, None, 1.0, None)

    assert cache.get("k", "missing") == "missing"
    assert cache.info().corrupt == 1


def test_queue_and_bulk_calls_go_through_the_serializer(directory):
    with Cache(directory, serializer=json_serializer) as cache:
        key = cache.push([1])
        cache.set_many({"a": [2]})

        assert cache.pull() == (key, [1])
        assert cache.get_many(["a"]) == {"a": [2]}
    assert stored(directory) == {"a": (MODE_JSON, "[2]")}


def test_json_serializer_is_one_object_by_pickle():
    assert pickle.loads(pickle.dumps(json_serializer)) is json_serializer
    assert repr(json_serializer) == "json_serializer"


# -- Serializers of the user -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("serializer", "mode"),
    [
        (Reversing(), MODE_USERTEXT),
        ((packed, unpacked), MODE_USER),
        ([packed, unpacked], MODE_USER),
        (json, MODE_USERTEXT),
        (pickle, MODE_USER),
    ],
    ids=["object", "pair", "list", "module-text", "module-bytes"],
)
@pytest.mark.parametrize(
    "value", [1, "text", None, ["x" * 40_000]], ids=["1", "text", "none", "big"]
)
def test_every_value_goes_through_a_serializer_of_the_user(directory, serializer, mode, value):
    with Cache(directory, serializer=serializer, disk_min_file_size=10_000) as cache:
        cache["k"] = value

        assert cache["k"] == value
        again = pickle.loads(pickle.dumps(cache))
        assert again["k"] == value
        again.close()
    assert {mode for mode, _ in stored(directory).values()} == {mode}


def test_bytes_like_results_are_kept_as_bytes(make_cache):
    cache = make_cache(serializer=(lambda value: memoryview(packed(value)), unpacked))
    cache["k"] = [1]

    assert cache["k"] == [1]


def test_counters_work_with_a_serializer_of_the_user(make_cache):
    cache = make_cache(serializer=(packed, unpacked))
    cache.set("n", 1, expire=60, tag="t")

    assert [cache.incr("n"), cache.incr("n", 5), cache.decr("n", 10)] == [2, 7, -3]
    assert cache.get("n", expire_time=True, tag=True) == (-3, cache._now() + 60, "t")


def test_serializer_that_returns_something_else_is_an_error(make_cache):
    cache = make_cache(serializer=Odd())

    with pytest.raises(TypeError, match="must return str or bytes: got <class 'list'>"):
        cache["k"] = 1


@pytest.mark.parametrize("serializer", [1, "json", (json.dumps,), object(), (1, 2)])
def test_what_is_no_serializer_is_refused(directory, serializer):
    with pytest.raises(SettingError, match="json_serializer, an object with dumps and loads"):
        Cache(directory, serializer=serializer)


@pytest.mark.parametrize("serializer", [json_serializer, json], ids=["json_serializer", "module"])
def test_serializer_and_disk_together_are_refused(directory, serializer):
    with pytest.raises(SettingError, match="pass one of them"):
        Cache(directory, disk=JSONDisk, serializer=serializer)
    assert not directory.exists()


# -- Who wrote a directory ---------------------------------------------------------------------


class OtherDisk(Disk):
    """A disk that stores values in its own way."""

    def store(self, value, read, key=diskcache.UNKNOWN):
        return super().store(pickle.dumps(value), read, key=key)

    def fetch(self, mode, filename, value, read):
        return pickle.loads(super().fetch(mode, filename, value, read))


class NamingDisk(Disk):
    """A disk that only names files in its own way."""

    def filename(self, key=diskcache.UNKNOWN, value=diskcache.UNKNOWN):
        name = super().filename(key, value)[0].replace(".val", ".bin")
        return name, f"{self._directory}/{name}"


WRITERS = {
    "default": {},
    "json_serializer": {"serializer": json_serializer},
    "json": {"serializer": json},
    "pair": {"serializer": (packed, unpacked)},
    "object": {"serializer": Reversing()},
    "JSONDisk": {"disk": JSONDisk},
    "OtherDisk": {"disk": OtherDisk},
    "NamingDisk": {"disk": NamingDisk},
}
READABLE_BY_ALL = {"default", "json_serializer", "NamingDisk"}


@pytest.mark.parametrize("reader", WRITERS)
@pytest.mark.parametrize("writer", WRITERS)
def test_directory_with_entries_opens_only_with_what_wrote_it(directory, writer, reader):
    with Cache(directory, **WRITERS[writer]) as cache:
        cache["k"] = [1]

    if writer == reader or {writer, reader} <= READABLE_BY_ALL:
        with Cache(directory, **WRITERS[reader]) as cache:
            assert cache["k"] == [1]
    else:
        with pytest.raises(SettingError, match="was written with"):
            Cache(directory, **WRITERS[reader])
        with pytest.raises(SettingError, match="was written with"):
            Cache(directory, readonly=True, **WRITERS[reader])
    with Cache(directory, **WRITERS[writer]) as cache:
        assert cache["k"] == [1]


@pytest.mark.parametrize("reader", WRITERS)
@pytest.mark.parametrize("writer", WRITERS)
def test_directory_without_entries_opens_with_anything(directory, writer, reader):
    with Cache(directory, **WRITERS[writer]) as cache:
        cache["k"] = [1]
        cache.clear()
    with Cache(directory, **WRITERS[reader]) as cache:
        cache["k"] = [2]
    with Cache(directory, **WRITERS[reader]) as cache:
        assert cache["k"] == [2]


def test_error_names_both_writers(directory):
    with Cache(directory, disk=OtherDisk) as cache:
        cache["k"] = 1

    with pytest.raises(SettingError) as caught:
        Cache(directory, serializer=json)
    assert "written with the disk or serializer 'OtherDisk'" in str(caught.value)
    assert "got the disk or serializer 'json.dumps/json.loads'" in str(caught.value)


def test_value_of_another_serializer_is_not_decoded(make_cache):
    cache = make_cache(strict=True)
    cache._engine.put(("k", 1), (MODE_USER, b"x", None), None, None, 1.0, None)

    with pytest.raises(CodecError, match="unknown mode 7"):
        cache.get("k")
