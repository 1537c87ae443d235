"""`Disk`, `JSONDisk`, and disks of users: the call shapes that version 5 documents."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import pickletools
import zlib

import pytest

from diskcache import (
    UNKNOWN,
    BoundedSemaphore,
    Cache,
    CodecError,
    Deque,
    Disk,
    FanoutCache,
    Index,
    JSONDisk,
    Lock,
    RLock,
    Semaphore,
    SettingError,
)
from diskcache.codecs.base import MODE_BINARY, MODE_JSON, MODE_PICKLE, MODE_RAW, MODE_TEXT, ZLIB
from tests.support.leaks import value_files

cloudpickle = pytest.importorskip("cloudpickle")


class PrintedJSONDisk(Disk):
    """The example of version 5's tutorial, as printed there."""

    def __init__(self, directory, compress_level=1, **kwargs):
        self.compress_level = compress_level
        super().__init__(directory, **kwargs)

    def put(self, key):
        json_bytes = json.dumps(key).encode("utf-8")
        data = zlib.compress(json_bytes, self.compress_level)
        return super().put(data)

    def get(self, key, raw):
        data = super().get(key, raw)
        return json.loads(zlib.decompress(data).decode("utf-8"))

    def store(self, value, read, key=UNKNOWN):
        if not read:
            json_bytes = json.dumps(value).encode("utf-8")
            value = zlib.compress(json_bytes, self.compress_level)
        return super().store(value, read, key=key)

    def fetch(self, mode, filename, value, read):
        data = super().fetch(mode, filename, value, read)
        if not read:
            data = json.loads(zlib.decompress(data).decode("utf-8"))
        return data


class CompressedDisk(Disk):
    """Another printed example: only keys are stored in a way of its own."""

    def put(self, key):
        data = pickle.dumps(key)
        compressed = zlib.compress(data)
        return super().put(compressed)

    def get(self, key, raw):
        compressed = super().get(key, raw)
        data = zlib.decompress(compressed)
        return pickle.loads(data)


class OptimizingDisk(Disk):
    """Pickles values into bytes itself; takes `read` by position."""

    def store(self, value, read, key=UNKNOWN):
        if read:
            return super().store(value, True, key)
        return super().store(pickletools.optimize(pickle.dumps(value)), False, key)

    def fetch(self, mode, filename, value, read):
        data = super().fetch(mode, filename, value, read)
        return data if read else pickle.loads(data)


class CloudpickleDisk(Disk):
    """Stores what only another library can pickle; takes `read` by position."""

    def store(self, value, read, key=UNKNOWN):
        if read:
            return super().store(value, read, key)
        return super().store(cloudpickle.dumps(value), False, key)

    def fetch(self, mode, filename, value, read):
        data = super().fetch(mode, filename, value, read)
        return data if read else cloudpickle.loads(data)


class PickleRefusingDisk(Disk):
    """Refuses values that are pickles."""

    def fetch(self, mode, filename, value, read):
        if mode == MODE_PICKLE:
            raise ValueError("pickles are not loaded here")
        return super().fetch(mode, filename, value, read)


class RowDisk(Disk):
    """Returns a row itself, by number of the mode; its `fetch` has another name for `read`."""

    def store(self, value, read, key=None):
        if read:
            return super().store(value, read, key=key)
        data = json.dumps(value).encode()
        return len(data), 1, None, data

    def fetch(self, mode, filename, value, expire):
        if mode == 1:
            return json.loads(value.decode())
        return super().fetch(mode, filename, value, expire)


class WrappedDisk(Disk):
    """Has methods of `Disk` behind a function of its own, and an attribute that they read."""

    _type = "unset"

    def wrapped(method):  # noqa: N805 - it runs while the class is made
        @functools.wraps(method)
        def call(self, *args, **kwargs):
            assert self._type == "unset"
            return method(self, *args, **kwargs)

        return call

    put, get = wrapped(Disk.put), wrapped(Disk.get)
    store, fetch = wrapped(Disk.store), wrapped(Disk.fetch)


class TextDisk(Disk):
    """Keys and values are text; its own settings are made before those of `Disk`."""

    def __init__(self, *args, **kwargs):
        self.encoder = json.JSONEncoder()
        super().__init__(*args, **kwargs)

    def put(self, key):
        return super().put(self.encoder.encode(key))

    def get(self, key, raw):
        return json.loads(super().get(key, raw))

    def store(self, value, read, key=UNKNOWN):
        return super().store(value if read else self.encoder.encode(value), read, key)

    def fetch(self, mode, filename, value, read):
        data = super().fetch(mode, filename, value, read)
        return data if read else json.loads(data)


class FlatDisk(Disk):
    """Names files itself, without folders, and writes them itself."""

    def filename(self, key=UNKNOWN, value=UNKNOWN):
        name = f"file-{key}.bin"
        return name, os.path.join(self._directory, name)


class EscapingDisk(Disk):
    """Names files as its keys are named."""

    def filename(self, key=UNKNOWN, value=UNKNOWN):
        return key, os.path.join(self._directory, key)


class OwnFileDisk(Disk):
    """Writes and reads its files without the library."""

    def store(self, value, read, key=UNKNOWN):
        name, path = self.filename(key, value)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "x", encoding="utf-8") as writer:
            writer.write(repr(value))
        return os.path.getsize(path), MODE_TEXT, name, None

    def fetch(self, mode, filename, value, read):
        with open(os.path.join(self._directory, filename), encoding="utf-8") as reader:
            return reader.read()


class PlainBytesDisk(Disk):
    """Returns plain bytes from `put`."""

    def put(self, key):
        return repr(key).encode(), True

    def get(self, key, raw):
        return eval(key)


DISKS = {
    "Disk": {},
    "JSONDisk": {"disk": JSONDisk, "disk_compress_level": 6},
    "PrintedJSONDisk": {"disk": PrintedJSONDisk, "disk_compress_level": 6},
    "CompressedDisk": {"disk": CompressedDisk},
    "OptimizingDisk": {"disk": OptimizingDisk},
    "CloudpickleDisk": {"disk": CloudpickleDisk},
    "PickleRefusingDisk": {"disk": PickleRefusingDisk},
    "RowDisk": {"disk": RowDisk},
    "WrappedDisk": {"disk": WrappedDisk},
    "TextDisk": {"disk": TextDisk},
    "PlainBytesDisk": {"disk": PlainBytesDisk},
}
VALUES = [1, 2.5, "text", None, True, [1, {"a": "b"}], "x" * 50_000, ["y" * 50_000]]

each_disk = pytest.mark.parametrize("keywords", DISKS.values(), ids=DISKS)


# -- Disks with a cache ------------------------------------------------------------------------


@each_disk
def test_values_and_keys_come_back(make_cache, keywords):
    cache = make_cache(**keywords)
    for number, value in enumerate(VALUES):
        cache.set(f"key {number}", value, expire=60, tag="t")

    assert [cache[f"key {number}"] for number in range(len(VALUES))] == VALUES
    assert list(cache) == [f"key {number}" for number in range(len(VALUES))]
    assert cache.pop("key 5", expire_time=True, tag=True) == (VALUES[5], cache._now() + 60, "t")
    assert cache.peekitem() == ("key 7", VALUES[7])
    assert cache.evict("t") == len(VALUES) - 1
    assert value_files(cache.directory) == []


@each_disk
def test_operations_on_one_key_work(make_cache, keywords):
    cache = make_cache(**keywords)

    assert cache.add("k", [1])
    assert not cache.add("k", [2])
    assert [cache.incr("n"), cache.incr("n", 2), cache.decr("n")] == [1, 3, 2]
    assert cache.touch("k", expire=5)
    assert cache.get("k", tag=True) == ([1], None)
    assert "k" in cache
    assert cache.delete("k")
    assert "k" not in cache


@each_disk
def test_queues_work(make_cache, keywords):
    cache = make_cache(**keywords)
    for number in range(3):
        cache.push([number], prefix="q")

    assert cache.peek("q")[1] == [0]
    assert [cache.pull("q")[1] for _ in range(3)] == [[0], [1], [2]]


@each_disk
def test_content_of_files_comes_back(make_cache, keywords):
    cache = make_cache(**keywords)
    cache.set("k", io.BytesIO(b"content" * 10), read=True)

    with cache.read("k") as reader:
        assert reader.read() == b"content" * 10
    (file,) = value_files(cache.directory)
    assert file.read_bytes() == b"content" * 10


@each_disk
def test_memoize_works(make_cache, keywords):
    cache = make_cache(**keywords)
    calls = []

    @cache.memoize()
    def double(number):
        calls.append(number)
        return [number, number]

    assert double(4) == double(4) == [4, 4]
    assert calls == [4]


@each_disk
def test_copy_of_a_cache_has_the_same_disk(make_cache, keywords):
    cache = make_cache(**keywords)
    cache["k"] = [1]
    with pickle.loads(pickle.dumps(cache)) as again:
        assert type(again.disk) is type(cache.disk)
        assert again["k"] == [1]


def test_function_that_only_another_library_can_pickle_comes_back(make_cache):
    cache = make_cache(disk=CloudpickleDisk, pickle="never")
    cache["f"] = lambda number: number + 1

    assert cache["f"](1) == 2
    assert Index.fromcache(cache)["f"](2) == 3


def test_setting_of_a_disk_is_its_attribute(make_cache):
    cache = make_cache(disk=JSONDisk, disk_compress_level=6, disk_min_file_size=100)

    assert cache.disk.compress_level == 6
    assert cache.disk.min_file_size == 100
    assert cache.reset("disk_min_file_size", 200) == 200
    assert cache.disk.min_file_size == 200


def test_unknown_argument_of_a_disk_is_an_error(directory):
    with pytest.raises(TypeError, match="compress_level"):
        Cache(directory, disk_compress_level=6)


def test_own_names_of_files_are_used(make_cache, directory):
    cache = make_cache(disk=FlatDisk)
    cache["k"] = b"x" * 50_000

    assert (directory / "file-k.bin").read_bytes() == b"x" * 50_000
    assert cache["k"] == b"x" * 50_000
    cache["k"] = 1
    assert not (directory / "file-k.bin").exists()


@pytest.mark.parametrize("name", ["../outside.bin", "/outside.bin", "a/../../x", "cache.db", ""])
def test_own_names_of_files_lead_nowhere_else(make_cache, directory, name):
    cache = make_cache(disk=EscapingDisk)

    with pytest.raises(SettingError, match="EscapingDisk must name files inside"):
        cache[name] = b"x" * 50_000
    assert os.listdir(directory.parent) == [directory.name]
    assert len(cache) == 0


def test_files_that_a_disk_writes_itself_are_found_and_removed(make_cache):
    cache = make_cache(disk=OwnFileDisk)
    cache["k"] = {"a": 1}

    assert cache["k"] == "{'a': 1}"
    (file,) = value_files(cache.directory)
    assert cache.volume() > file.stat().st_size
    del cache["k"]
    assert value_files(cache.directory) == []


def test_value_that_fetch_refuses_raises_what_it_raises(make_cache):
    cache = make_cache(disk=PickleRefusingDisk, secret=b"s" * 32)
    cache["k"] = pytest.raises

    with pytest.raises(ValueError, match="not loaded here"):
        cache["k"]


# -- What a disk's methods return --------------------------------------------------------------


@pytest.fixture
def disk(directory):
    directory.mkdir()
    return Disk(str(directory), min_file_size=100, pickle_protocol=5)


@pytest.mark.parametrize("key", ["k", b"k", 1, 1.5, (1, "a"), None, True, 2**70], ids=repr)
def test_get_is_the_inverse_of_put(disk, key):
    found = disk.get(*disk.put(key))

    assert found == key
    assert type(found) is type(key)


@pytest.mark.parametrize(
    ("value", "mode"),
    [(1, MODE_RAW), ("s", MODE_RAW), ("s" * 100, MODE_TEXT), (b"s" * 100, MODE_BINARY)],
    ids=["int", "text", "long-text", "long-bytes"],
)
def test_store_returns_size_mode_name_and_value(disk, value, mode):
    size, found, name, data = disk.store(value, False)

    assert found == mode
    if mode == MODE_RAW:
        assert (size, name, data) == (0, None, value)
    else:
        assert (size, data) == (100, None)
        assert os.path.exists(os.path.join(disk._directory, name))
    assert disk.fetch(found, name, data, False) == value


def test_store_takes_a_key_and_files(disk):
    size, mode, name, data = disk.store(io.BytesIO(b"abc"), True, key="k")

    assert (size, mode, data) == (3, MODE_BINARY, None)
    with disk.fetch(mode, name, data, True) as reader:
        assert reader.name == os.path.join(disk._directory, name)
        assert reader.read() == b"abc"
    disk.remove(name)
    with pytest.raises(FileNotFoundError):
        disk.fetch(mode, name, data, False)
    disk.remove(name)


def test_filename_is_relative_and_full(disk):
    name, path = disk.filename()

    assert path == os.path.join(disk._directory, name)
    assert [len(part) for part in name.split(os.sep)] == [2, 2, 32]
    assert disk.filename() != (name, path)


@pytest.mark.parametrize(
    ("key", "number"),
    [("a", 6422626), (b"a", 6422626), (1, 1), (1.0, 1), (-1, 4294967294), ((1, "a"), None)],
    ids=repr,
)
def test_hash_is_the_same_for_ever(disk, key, number):
    found = disk.hash(key)

    assert found == disk.hash(key)
    assert 0 <= found < 2**32
    if number is not None:
        assert found == number


def test_hash_takes_plain_bytes_from_put(directory):
    assert PlainBytesDisk(str(directory)).hash("k") == zlib.adler32(b"'k'")


# -- JSONDisk ----------------------------------------------------------------------------------


@pytest.fixture
def json_cache(make_cache):
    return make_cache(disk=JSONDisk)


def test_json_values_are_compressed(json_cache):
    json_cache["k"] = ["x" * 10_000]
    row = json_cache._engine.get(("k", 1), json_cache._now())

    assert row[0] == MODE_JSON | ZLIB
    assert json.loads(zlib.decompress(row[1])) == ["x" * 10_000]
    assert len(row[1]) < 1000


@pytest.mark.parametrize(
    ("key", "same", "other"),
    [((1, 2), [1, 2], (2, 1)), (1, 1, 1.0), (True, True, 1), ("1", "1", 1), (None, None, "null")],
    ids=repr,
)
def test_json_keys_are_equal_if_their_texts_are(json_cache, key, same, other):
    json_cache[key] = "value"

    assert json_cache[same] == "value"
    assert other not in json_cache


@pytest.mark.parametrize("value", [object(), b"bytes", {1}], ids=["object", "bytes", "set"])
def test_what_json_does_not_know_is_refused_as_key_and_value(json_cache, value):
    message = f"^Object of type {type(value).__name__} is not JSON serializable$"

    with pytest.raises(TypeError, match=message):
        json_cache["k"] = value
    with pytest.raises(TypeError, match=message):
        json_cache[value] = 1
    assert len(json_cache) == 0


@pytest.mark.since6("incr worked once")
def test_json_counters_count(json_cache):
    assert [json_cache.incr("n") for _ in range(3)] == [1, 2, 3]


@pytest.mark.since6("get(read=True) returned compressed bytes")
@pytest.mark.parametrize("value", [[1], ["x" * 200_000]], ids=["row", "file"])
def test_json_value_is_itself_when_asked_for_as_a_file(json_cache, value):
    json_cache.disk.compress_level = 0
    json_cache["k"] = value

    assert json_cache.get("k", read=True) == value
    assert json_cache.read("k") == value


@pytest.mark.since6("a value stored with read=True could not be read without")
def test_json_disk_returns_the_content_of_files(json_cache):
    json_cache.set("k", io.BytesIO(b"content"), read=True)

    assert json_cache["k"] == b"content"


@pytest.mark.since6("pushed keys could not be listed")
def test_json_disk_lists_and_finds_pushed_keys(json_cache):
    keys = [json_cache.push([1]), json_cache.push([2], prefix="q")]

    assert list(json_cache) == keys
    assert [json_cache[key] for key in keys] == [[1], [2]]


@pytest.mark.since6("another level found none of the keys")
def test_json_disk_finds_keys_of_another_level(directory):
    with Cache(directory, disk=JSONDisk, disk_compress_level=6) as cache:
        cache[("a", 1)] = [1]
    with Cache(directory, disk=JSONDisk, disk_compress_level=1) as cache:
        assert cache[("a", 1)] == [1]


def test_json_disk_reads_text_that_is_not_compressed(json_cache):
    json_cache._engine.put(("k", 1), (MODE_JSON, "[1, 2]", None), None, None, 1.0, None)

    assert json_cache["k"] == [1, 2]


@pytest.mark.parametrize("data", [b"", b"junk", zlib.compress(b"{"), 1], ids=repr)
def test_damaged_json_is_an_error_of_the_codec(json_cache, data):
    with pytest.raises(CodecError):
        json_cache.disk.fetch(MODE_JSON | ZLIB, None, data, False)


# -- Disks with what is built on a cache -------------------------------------------------------


@each_disk
def test_deque_keeps_its_items_by_the_disk(make_cache, keywords):
    deque = Deque.fromcache(make_cache(**keywords))
    deque.extend([[1], 2, "x"])
    deque.appendleft(0)
    deque.rotate(1)

    assert list(deque) == ["x", 0, [1], 2]
    assert (deque.pop(), deque.popleft()) == (2, "x")


@each_disk
def test_index_keeps_its_entries_by_the_disk(make_cache, keywords):
    index = Index.fromcache(make_cache(**keywords), {"a": 1, "b": [2]})

    assert list(index.items()) == [("a", 1), ("b", [2])]
    assert index.setdefault("c", None) is None
    assert index.popitem(last=False) == ("a", 1)
    assert index == {"b": [2], "c": None}


@each_disk
@pytest.mark.parametrize("kind", [Lock, RLock, BoundedSemaphore, Semaphore])
def test_locks_do_not_mind_the_disk(make_cache, tmp_path, keywords, kind):
    cache = make_cache(**keywords)
    with FanoutCache(tmp_path / "shards", 2, **keywords) as fanout:
        for owner in (cache, fanout):
            with kind(owner, ("k", 1)):
                assert kind(owner, ("k", 1)).locked()
                owner["other"] = [1]

            assert not kind(owner, ("k", 1)).locked()
            assert owner["other"] == [1]


@each_disk
def test_shards_and_what_is_inside_have_the_disk(directory, keywords):
    with FanoutCache(directory, **keywords) as cache:
        for number in range(20):
            cache[f"key {number}"] = [number]
        cache.deque("d").append([1])
        cache.index("i")["k"] = [2]
        with RLock(cache, "lock"):
            assert cache.incr("n") == 1

        assert cache["key 7"] == [7]
        assert "key 19" in set(cache)
        assert (cache.deque("d").pop(), cache.index("i")["k"]) == ([1], [2])
        assert type(cache.index("i").cache.disk) is type(cache.disk)
        assert cache.check() == []
