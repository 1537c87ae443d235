"""Backups, archives and migrations take no harm from rows that nobody but an attacker writes."""

from __future__ import annotations

import io
import pickle

import pytest

from diskcache import Cache, CodecError, FanoutCache
from diskcache.cli.main import main
from tests.security import hostile

pytestmark = pytest.mark.usefixtures("quiet")

NAMES = ["../outside/file", "/etc/hostname", "..", "cache.db", "tmp/x", hostile.Text(b"\xff/x")]
UNSOUND = {
    "mode of text": {"mode": "four", "value": b"x"},
    "unknown mode": {"mode": 12, "value": b"x"},
    "two values": {"mode": 5, "value": b"\xc0", "file": "ab/cd", "size": "many"},
    "size of text": {"mode": 4, "file": "ab/cd", "size": "many"},
    "negative size": {"mode": 4, "file": "ab/cd", "size": -5},
    "no value": {"mode": 4},
    "expiry of text": {"mode": 4, "value": pickle.dumps([1], 2), "expire_time": "soon"},
    "torn value": {"mode": 1, "value": hostile.Text(b"\xff\xfe")},
    "torn key": {"mode": 4, "key": hostile.Text(b"\xff"), "value": pickle.dumps([1], 2)},
    "torn tag": {"mode": 4, "tag": hostile.Text(b"\xff"), "value": pickle.dumps([1], 2)},
    "raw of text": {"raw": "x", "mode": 4, "value": pickle.dumps([1], 2)},
    "store time of text": {"mode": 4, "value": pickle.dumps([1], 2), "store_time": "then"},
}


@pytest.fixture
def outside(tmp_path):
    """A file that no cache may touch; returns what it looks like."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "file").write_bytes(b"not yours")
    return lambda: hostile.snapshot(place)


@pytest.fixture
def directory(tmp_path):
    """A directory with three good entries, one of them in a file."""
    with Cache(tmp_path / "cache", secret=hostile.SECRET, disk_min_file_size=100) as cache:
        cache["first"], cache["large"], cache["last"] = 1, bytes(200), (1, 2)
    return tmp_path / "cache"


GOOD = {"first": 1, "large": bytes(200), "last": (1, 2)}


def test_backup_copies_no_file_that_a_row_names_outside(directory, tmp_path, outside):
    before = outside()
    for number, name in enumerate(NAMES):
        hostile.insert(directory, key=f"k{number}", mode=2, file=name, size=9)
    with Cache(directory, secret=hostile.SECRET) as cache:
        copied = cache.backup(tmp_path / "copy")

    assert copied.lost == len(NAMES)
    assert outside() == before
    with Cache(tmp_path / "copy", secret=hostile.SECRET) as copy:
        assert dict(copy.items()) == GOOD
        assert copy.check() == []


@pytest.mark.parametrize("row", UNSOUND)
def test_backup_of_a_row_of_wrong_types_ends(directory, tmp_path, row):
    hostile.insert(directory, **UNSOUND[row])
    with Cache(directory, secret=hostile.SECRET) as cache:
        cache.backup(tmp_path / "copy")
    with Cache(tmp_path / "copy", secret=hostile.SECRET) as copy:
        copy.check(fix=True)
        assert {key: copy[key] for key in GOOD} == GOOD


def test_backup_follows_no_link_to_other_caches(tmp_path):
    Cache(tmp_path / "theirs" / "part").close()
    cache = FanoutCache(tmp_path / "cache", shards=2, secret=hostile.SECRET)
    (tmp_path / "cache" / "cache").symlink_to(tmp_path / "theirs")
    cache.backup(tmp_path / "copy")
    cache.close()

    assert not (tmp_path / "copy" / "cache").exists()


@pytest.mark.parametrize("row", [name for name in UNSOUND if name != "store time of text"])
def test_export_leaves_out_a_row_of_wrong_types(directory, tmp_path, row):
    hostile.insert(directory, **UNSOUND[row])
    stream = io.BytesIO()
    with Cache(directory, secret=hostile.SECRET) as cache:
        report = cache.export(stream)
    with Cache(directory, secret=hostile.SECRET, strict=True) as cache, pytest.raises(CodecError):
        cache.export(io.BytesIO())
    stream.seek(0)

    assert (report.entries, report.skipped) == (len(GOOD), 1)
    with Cache(tmp_path / "copy", secret=hostile.SECRET) as copy:
        assert copy.import_from(stream).entries == len(GOOD)
        assert dict(copy.items()) == GOOD


@pytest.mark.parametrize("arguments", [(), ("--trust-pickles",), ("--dry-run",)], ids=str)
@pytest.mark.parametrize("row", UNSOUND)
def test_migration_passes_over_a_row_of_wrong_types(directory, row, arguments, monkeypatch):
    monkeypatch.setenv("DISKCACHE_SECRET", hostile.SECRET.hex())
    hostile.insert(directory, **UNSOUND[row])
    hostile.insert(directory, key="old", mode=4, value=pickle.dumps([5], 2))

    assert main(["migrate", str(directory), *arguments]) in (0, 1)
    with Cache(directory, secret=hostile.SECRET) as cache:
        assert cache["old"] == [5]
        mode = cache._engine._link().execute("SELECT mode FROM Cache WHERE key = 'old'").get
        assert {key: cache[key] for key in GOOD} == GOOD
    assert mode == (4 if "--dry-run" in arguments else 5)


@pytest.mark.parametrize("row", UNSOUND)
def test_memory_answers_as_the_directory_does(directory, row):
    hostile.insert(directory, **{"key": "k", **UNSOUND[row]})
    with Cache(directory, secret=hostile.SECRET) as cache:
        first = cache.get("k", "missing", tag=True)
        for _ in range(4):
            assert cache.get("k", "missing", tag=True) == first
            assert cache.get("k", "missing") == first[0]
            assert hostile.attempt(lambda: "k" in cache) in (True, False)
        cache["k"] = 5
        assert cache["k"] == 5
