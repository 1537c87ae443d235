"""Large values are files."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import pytest

from diskcache.testing.contract import Contract
from diskcache.testing.directories import value_files

LIMIT = 2**15


class FailingReader:
    """A file that breaks in the middle."""

    def __init__(self):
        self._parts = [b"x" * 1000]

    def read(self, size):
        if self._parts:
            return self._parts.pop()
        raise ZeroDivisionError


class FileContract(Contract):
    needs = frozenset({"files"})

    @pytest.mark.parametrize(
        ("value", "files"),
        [
            (b"x" * LIMIT, 1),
            (b"x" * (LIMIT - 1), 0),
            ("x" * LIMIT, 1),
            ("x" * (LIMIT - 1), 0),
            ([b"x" * LIMIT], 1),
            ([b"x" * 100], 0),
            (2**60, 0),
            (1.5, 0),
            (None, 0),
        ],
        ids=[
            "bytes", "shorter-bytes", "text", "shorter-text", "list", "short-list", "int", "float",
            "none",
        ],
    )  # fmt: skip
    def test_value_becomes_a_file_from_min_file_size_on(self, cache, value, files):
        cache["a"] = value

        assert len(value_files(cache.directory)) == files
        assert cache["a"] == value

    @pytest.mark.parametrize("value", ["", b"", None, [], "text"], ids=repr)
    def test_min_file_size_zero_makes_files_of_all_but_numbers(self, make_cache, value):
        cache = make_cache(disk_min_file_size=0)
        cache["a"] = value
        cache["int"] = 1
        cache["float"] = 1.5

        assert len(value_files(cache.directory)) == 1
        assert cache["a"] == value
        assert type(cache["a"]) is type(value)

    def test_text_in_a_file_is_kept_as_utf8(self, cache):
        value = "äöü€😀" * 20_000
        cache["a"] = value

        (path,) = value_files(cache.directory)

        assert path.read_bytes() == value.encode()
        assert cache["a"] == value

    @pytest.mark.since6("version 5 turns each line end into \\n")
    @pytest.mark.parametrize("end", ["\r\n", "\r", "\n\r", "\n"], ids=ascii)
    def test_text_in_a_file_keeps_its_line_ends(self, cache, end):
        value = f"line{end}" * 20_000
        cache["a"] = value

        assert cache["a"] == value

    def test_overwriting_removes_the_old_file(self, cache):
        cache["a"] = b"1" * 100_000
        cache["a"] = b"2" * 100_000

        assert len(value_files(cache.directory)) == 1

        cache["a"] = 1

        assert value_files(cache.directory) == []

    @pytest.mark.parametrize(
        "remove",
        [
            lambda cache: cache.delete("a"),
            lambda cache: cache.pop("a"),
            lambda cache: cache.clear(),
            lambda cache: cache.evict("t"),
            lambda cache: cache.set("a", b"x" * 100_000, expire=-1),
        ],
        ids=["delete", "pop", "clear", "evict", "expired"],
    )
    def test_removal_takes_the_file_and_its_folders_away(self, cache, directory, remove):
        before = {path.name for path in directory.iterdir()}
        cache.set("a", b"x" * 100_000, tag="t")
        remove(cache)

        assert value_files(directory) == []
        assert {path.name for path in directory.iterdir()} - {"tmp"} == before - {"tmp"}

    def test_add_of_a_live_key_leaves_no_file(self, cache):
        cache["a"] = 1

        assert cache.add("a", b"x" * 100_000) is False
        assert value_files(cache.directory) == []

    def test_pop_returns_the_value_of_a_file(self, cache):
        cache["a"] = b"x" * 100_000

        assert cache.pop("a") == b"x" * 100_000

    def test_volume_counts_the_bytes_of_files(self, cache):
        before = cache.volume()
        cache["a"] = b"x" * 1_000_000

        assert 1_000_000 <= cache.volume() - before < 1_020_000

        cache["a"] = b"x" * 500_000

        assert 500_000 <= cache.volume() - before < 520_000


class ReadFileContract(Contract):
    """`read=True`: values that are copied from a file, and read as one."""

    needs = frozenset({"files"})

    @pytest.mark.parametrize("size", [0, 5, 100_000, 5_000_000])
    def test_set_from_a_file_stores_its_bytes_in_a_file(self, cache, size):
        assert cache.set("a", io.BytesIO(b"x" * size), read=True) is True
        assert len(value_files(cache.directory)) == 1
        assert cache["a"] == b"x" * size

    def test_add_and_push_take_files_too(self, cache):
        assert cache.add("a", io.BytesIO(b"added"), read=True) is True

        key = cache.push(io.BytesIO(b"pushed"), read=True)

        assert cache["a"] == b"added"
        assert cache.pull() == (key, b"pushed")

    @pytest.mark.parametrize("method", ["get", "read"])
    def test_reading_as_a_file_gives_an_open_one_with_its_path(self, cache, method):
        cache.set("a", io.BytesIO(b"some data"), read=True)

        reader = cache.read("a") if method == "read" else cache.get("a", read=True)
        with reader:
            assert reader.read(4) == b"some"
            assert reader.read() == b" data"
            assert Path(reader.name).is_absolute()
            assert Path(reader.name).read_bytes() == b"some data"

        assert [Path(reader.name)] == value_files(cache.directory)

    def test_reading_large_bytes_as_a_file_gives_an_open_one(self, cache):
        cache["a"] = b"x" * 100_000

        with cache.read("a") as reader:
            assert reader.read() == b"x" * 100_000

    @pytest.mark.parametrize(
        "value",
        [2, 1.5, "text", b"bytes", None, [1], "x" * 100_000],
        ids=lambda value: str(value)[:9],
    )
    def test_reading_another_value_as_a_file_gives_the_value(self, cache, value):
        cache["a"] = value

        assert cache.get("a", read=True) == value
        assert cache.read("a") == value

    def test_reading_as_a_file_fills_the_shape(self, cache, clock):
        cache.set("a", io.BytesIO(b"data"), expire=10, read=True, tag="t")

        reader, expire_time, tag = cache.get("a", read=True, expire_time=True, tag=True)
        with reader:
            assert (reader.read(), expire_time, tag) == (b"data", clock.time() + 10, "t")

    def test_open_file_can_be_read_after_the_entry_is_gone(self, cache):
        cache.set("a", io.BytesIO(b"data"), read=True)

        with cache.read("a") as reader:
            del cache["a"]

            assert reader.read() == b"data"

    @pytest.mark.parametrize("value", ["text", b"bytes", 5, 1.5], ids=repr)
    def test_set_plain_value_with_read_stores_it_as_it_is(self, cache, value):
        cache.set("a", value, read=True)

        assert cache["a"] == value
        assert value_files(cache.directory) == []

    def test_set_with_read_of_what_has_no_read_raises_and_stores_nothing(self, cache):
        with pytest.raises(AttributeError):
            cache.set("a", [1], read=True)

        assert len(cache) == 0

    def test_set_from_a_text_file_raises_type_error(self, cache):
        with pytest.raises(TypeError):
            cache.set("a", io.StringIO("text"), read=True)

        assert len(cache) == 0
        for path in value_files(cache.directory):
            path.unlink()
            path.parent.rmdir()
            path.parent.parent.rmdir()

    @pytest.mark.since6("version 5 leaves the file")
    @pytest.mark.parametrize(
        ("reader", "error"),
        [(partial(io.StringIO, "text"), TypeError), (FailingReader, ZeroDivisionError)],
        ids=["text", "failing"],
    )
    def test_set_from_a_file_that_fails_leaves_nothing(self, cache, reader, error):
        cache["a"] = "old"
        with pytest.raises(error):
            cache.set("a", reader(), read=True)

        assert cache["a"] == "old"
        assert value_files(cache.directory) == []


def lose(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:50_000])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    data = bytearray(path.read_bytes())
    data[50_000] ^= 1
    path.write_bytes(data)


class DamagedFileContract(Contract):
    """An entry whose file is missing or damaged is a miss, and the key can be used again."""

    needs = frozenset({"files"})

    @pytest.fixture(
        params=[
            lose,
            pytest.param(truncate, marks=pytest.mark.since6("version 5 returns what is left")),
            pytest.param(empty, marks=pytest.mark.since6("version 5 returns what is left")),
            pytest.param(flip, marks=pytest.mark.since6("version 5 returns wrong data")),
        ]
    )
    def cache(self, cache, request):
        cache["a"] = b"x" * 100_000
        (path,) = value_files(cache.directory)
        request.param(path)
        yield cache
        cache.delete("a")
        cache.check(fix=True)

    def test_get_returns_the_default(self, cache):
        assert cache.get("a", default=5) == 5
        assert cache.get("a", default=5, expire_time=True, tag=True) == (5, None, None)

    def test_getitem_raises_key_error(self, cache):
        with pytest.raises(KeyError):
            cache["a"]

    def test_pop_returns_the_default_and_removes_the_entry(self, cache):
        assert cache.pop("a", default=5) == 5
        assert len(cache) == 0

    def test_delete_removes_the_entry(self, cache):
        assert cache.delete("a") is True
        assert len(cache) == 0

    def test_set_stores_a_new_value(self, cache):
        cache["a"] = b"y" * 100_000

        assert cache["a"] == b"y" * 100_000
