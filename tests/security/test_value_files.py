"""Value files that were torn, emptied, flipped or exchanged: a miss, counted, and removed."""

from __future__ import annotations

import random

import pytest

from diskcache import Cache, CodecError, Deque, Index
from tests.security import hostile
from tests.support.leaks import value_files

LARGE = {
    "bytes": random.Random(1).randbytes(50_000),
    "text": "tä" * 30_000,
    "data": [("row", n, n / 3) for n in range(5000)],
}


def cut(data):
    return data[:-1]


def halved(data):
    return data[: len(data) // 2]


def emptied(_):
    return b""


def longer(data):
    return data + b"\0"


def zeroed(data):
    return bytes(len(data))


def shuffled(data):
    return data[4096:] + data[:4096]


dice = random.Random(1)


def flipped(data):
    place = dice.randrange(len(data) * 8)
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


DAMAGES = [cut, halved, emptied, longer, zeroed, shuffled, *[flipped] * 20]


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "cache"


@pytest.mark.parametrize("kind", LARGE)
def test_damaged_file_is_a_miss_is_counted_and_removed(directory, kind):
    with Cache(directory) as cache:
        for number, damage in enumerate(DAMAGES, 1):
            cache["k"] = LARGE[kind]
            (path,) = value_files(directory)
            path.write_bytes(damage(path.read_bytes()))

            assert cache.get("k", "missing") == "missing"
            assert cache.info().corrupt == number
            assert "k" not in cache
            assert value_files(directory) == []


def test_every_bit_of_a_file_is_covered(directory):
    with Cache(directory, disk_min_file_size=10) as cache:
        cache["k"] = b"twelve bytes"
        (path,) = value_files(directory)
        content = path.read_bytes()
        row = cache._engine._link().execute("SELECT file, size, checksum FROM Cache").get
        for bit in range(len(content) * 8):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            with pytest.raises(OSError, match="damaged"):
                cache._files.read(*row)


def test_files_exchanged_between_entries_are_misses(directory):
    with Cache(directory) as cache:
        cache["a"], cache["b"] = b"a" * 50_000, b"b" * 50_000
        first, second = value_files(directory)
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)

        assert (cache.get("a"), cache.get("b")) == (None, None)


@pytest.mark.parametrize("damage", [None, cut, emptied, flipped])
def test_damaged_file_is_an_error_of_structures_and_stays(directory, damage):
    with Cache(directory, eviction_policy="none") as cache:
        key = cache.push(LARGE["bytes"])
        (path,) = value_files(directory)
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage(path.read_bytes()))
        for read in (Deque.fromcache(cache).popleft, lambda: Index.fromcache(cache)[key]):
            with pytest.raises(CodecError, match="kept"):
                read()
        assert len(cache) == 1
        assert cache.check(fix=True) != [] or damage is flipped


@pytest.mark.parametrize("size", [0, 1, 2**40, 2**62])
def test_length_that_a_row_claims_reserves_no_memory(directory, size):
    with Cache(directory) as cache:
        cache["k"] = LARGE["bytes"]
    with hostile.database(directory) as database:
        database.execute("UPDATE Cache SET size = ?", (size,))
    with Cache(directory) as cache:
        assert cache.get("k", "missing") == "missing"
