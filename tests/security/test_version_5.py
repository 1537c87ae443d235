"""A directory that looks like one of version 5 executes nothing, whoever opens or migrates it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from diskcache import Cache, Deque, FanoutCache, Index, JSONDisk
from diskcache.cli.main import main
from diskcache.engines.sqlite import schema
from tests.security import hostile, paths

pytestmark = pytest.mark.usefixtures("quiet")

CLASSES = {
    "Cache": lambda path, **options: Cache(path, **options),
    "Cache with JSONDisk": lambda path, **options: Cache(path, disk=JSONDisk, **options),
    "Cache that signs everything": lambda path, **options: Cache(
        path, authenticate="all", **options
    ),
    "FanoutCache": lambda path, **options: FanoutCache(path, **options),
    "Deque": lambda path, **options: Deque.fromcache(
        Cache(path, eviction_policy="none", **options)
    ),
    "Index": lambda path, **options: Index.fromcache(
        Cache(path, eviction_policy="none", **options)
    ),
}
OUTSIDE = "../outside/file"


@pytest.fixture
def outside(tmp_path):
    """A file that no cache may touch; returns what it looks like."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "file").write_bytes(b"not yours")
    return lambda: hostile.snapshot(place)


def make_old(directory, marker, *, torn=False):
    """Make a directory of version 5 with payloads wherever version 5 keeps anything."""
    Path(directory).mkdir(parents=True)
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as database:
        for statement in (*schema.VERSION_5_TABLES.values(), *schema.VERSION_5_TRIGGERS.values()):
            database.execute(statement)
        payloads = hostile.payloads(marker)
        settings = {"size_limit": 2**30, "cull_limit": 10, "count": 0, "size": 0}
        settings |= dict.fromkeys(("eviction_policy", "statistics", "hits"), payloads["protocol 5"])
        settings["_directory"] = str(directory.parent / "outside")
        database.executemany("INSERT INTO Settings VALUES (?, ?)", settings.items())
        for name, data in payloads.items():
            keys = [(f"{name} {mode}", 1, mode, None) for mode in range(-1, 10)]
            keys += [(data, raw, 4, None) for raw in (0, 1, None, 7)]
            for number, (key, raw, mode, file) in enumerate(keys):
                _insert(database, key, raw, mode, file, data, float(number))
        for number, (key, raw) in enumerate(paths.PLACES.values()):
            _insert(database, key, raw, 4, None, payloads["protocol 2"], 100.0 + number)
        (directory / "ab").mkdir()
        (directory / "ab" / "cd.val").write_bytes(payloads["protocol 4"])
        for number, name in enumerate(("ab/cd.val", OUTSIDE, "/etc/passwd", "cache.db", "..")):
            for mode in (2, 3, 4):
                _insert(database, f"file {number} {mode}", 1, mode, name, None, 200.0)
        if torn:
            _insert(database, hostile.Text(b"\xff\xfe"), 1, 4, None, payloads["protocol 5"], 300.0)
            _insert(database, "torn", 1, 4, hostile.Text(b"\xff/x"), None, 301.0)
    return directory


def _insert(database, key, raw, mode, file, value, time):
    values = [key, raw, time, time, paths.TAG, 9, mode, file, value]
    places = ", ".join("CAST(? AS TEXT)" if type(v) is hostile.Text else "?" for v in values)
    with_key = [bytes(v) if type(v) is hostile.Text else v for v in values]
    columns = "key, raw, store_time, access_time, tag, size, mode, filename, value"
    database.execute(f"INSERT OR IGNORE INTO Cache ({columns}) VALUES ({places})", with_key)


def use(thing):
    """Run the cases of whatever it is."""
    tables = {
        Deque: (paths.DEQUE,),
        Index: (paths.INDEX,),
        FanoutCache: (paths.READING, paths.SHARDED, paths.CHANGING),
    }.get(type(thing), (paths.READING, paths.CHANGING))
    for table in tables:
        for case in table.values():
            hostile.attempt(lambda case=case: case(thing))
    getattr(thing, "cache", thing).close() if isinstance(thing, (Deque, Index)) else thing.close()


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
@pytest.mark.parametrize("name", CLASSES)
def test_directory_of_version_5_executes_nothing(tmp_path, marker, outside, name, torn):
    before = outside()
    directory = tmp_path / "cache"
    if name == "FanoutCache":
        for shard in ("000", "001"):
            make_old(directory / shard, marker, torn=torn)
    else:
        make_old(directory, marker, torn=torn)
    found = hostile.attempt(lambda: CLASSES[name](directory, secret=hostile.SECRET))
    if not isinstance(found, Exception):
        use(found)

    assert not torn or name or found is not None
    assert not marker.exists()
    assert outside() == before


def test_directory_of_version_5_is_really_taken_over(tmp_path, marker):
    """The test above has something to attack."""
    with Cache(make_old(tmp_path / "cache", marker), secret=hostile.SECRET) as cache:
        assert len(cache) > 50
        assert cache.get(paths.KEY, "missing") == "missing"
        assert cache.info().untrusted > 0


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--json",)], ids=str)
@pytest.mark.parametrize("kind", ["old", "upgraded", "shards"])
def test_migrate_without_trust_executes_nothing(tmp_path, marker, outside, options, kind, capsys):
    before = outside()
    directory = tmp_path / "cache"
    if kind == "shards":
        for shard in ("000", "001"):
            make_old(directory / shard, marker)
    else:
        make_old(directory, marker)
    if kind == "upgraded":
        Cache(directory, secret=hostile.SECRET).close()

    assert main(["migrate", str(directory), *options]) == 1
    assert "kept" in capsys.readouterr().out
    assert not marker.exists()
    assert outside() == before


def test_django_opens_a_directory_of_version_5(tmp_path, marker, outside):
    pytest.importorskip("django")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.project.settings")
    import django

    django.setup()
    from diskcache import DjangoCache

    before = outside()
    for shard in ("000", "001"):
        make_old(tmp_path / "cache" / shard, marker)
    params = {"SHARDS": 2, "OPTIONS": {"KEEP_OPEN": False}}
    backend = DjangoCache(tmp_path / "cache", params)
    for case in paths.DJANGO.values():
        hostile.attempt(lambda case=case: case(backend))
    backend._shared.cache.close()

    assert not marker.exists()
    assert outside() == before


def test_trusting_such_a_directory_executes_it(tmp_path, marker, monkeypatch):
    """The other tests can fail: this is what they keep out."""
    monkeypatch.setenv("DISKCACHE_SECRET", hostile.SECRET.hex())
    directory = make_old(tmp_path / "cache", marker)
    shutil.copytree(directory, tmp_path / "other")
    main(["migrate", str(directory), "--trust-pickles"])
    assert marker.exists()
    marker.unlink()

    Cache(tmp_path / "other", secret=hostile.SECRET, trust_legacy_pickles=True).close()
    assert marker.exists()
