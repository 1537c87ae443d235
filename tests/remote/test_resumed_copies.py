"""A copy that is killed goes on where it stopped, and undoes nothing that was changed meanwhile.

Property: after any number of kills and a run that ends, the destination has the entries of the
source; what was copied before a kill, and then changed there, is as it was changed.
"""

from __future__ import annotations

import io
import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diskcache import Cache, FanoutCache, connect
from diskcache.cache.journal import Track
from diskcache.cli.main import main
from tests.support.servers import shared_server

PROGRAM = """
import os, signal, sys
from diskcache.cache.bulk import BulkMethods
from diskcache.cli.main import main
from diskcache.engines.redis.engine import RedisEngine
from diskcache.engines.sqlite.engine import SqliteEngine

name, number, source, target = sys.argv[1:]
left = int(number)
def dying(function):
    def counted(self, *args, **keywords):
        global left
        # Other marks than those of copies do not count.
        left -= name != 'note' or args[0].startswith('copy:')
        if left < 0 and name == 'note':
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(self, *args, **keywords)
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return counted
for engine in (RedisEngine, SqliteEngine):
    setattr(engine, name, dying(getattr(engine, name)))
main(['copy', source, target])
"""
COUNT = 60


def fill(cache):
    for number in range(COUNT):
        cache.set(number, bytes(15_000), tag=f"t{number % 3}", expire=3600 if number % 2 else None)
    cache.set("file", io.BytesIO(b"content" * 20_000), read=True)
    for job in "abc":
        cache.push(job, prefix="jobs")
    cache.set(("tuple", 1), {"a": (1, 2.5)}, tag=7)


def told(cache):
    return {key: cache.get(key, expire_time=True, tag=True) for key in cache}


def killed(name, number, source, target):
    """Run a copy that is killed at the given call; tell whether it came so far."""
    words = [sys.executable, "-c", PROGRAM, name, str(number), str(source), str(target)]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)

    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def copied(capsys, source, target):
    capsys.readouterr()
    assert main(["copy", str(source), str(target), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def url(variant, tmp_path):
    del variant
    found = shared_server().url(f"resumed-{tmp_path.name}")
    yield found
    with connect(found) as cache:
        cache.clear()


ENDS = ["to a server", "from a server", "to a directory", "to shards"]


@pytest.fixture
def ends(request, tmp_path, url):
    """Source and destination of a copy."""
    directory, other = tmp_path / "directory", tmp_path / "other"
    ends = {
        "to a server": (directory, url),
        "from a server": (url, directory),
        "to a directory": (directory, other),
        "to shards": (directory, other),
    }[request.param]
    if request.param == "to shards":
        FanoutCache(other, 3).close()
    with connect(str(ends[0])) as cache:
        fill(cache)
    return ends


def opened(end):
    is_fanout = isinstance(end, Path) and (end / "000").is_dir()
    return FanoutCache(end) if is_fanout else connect(str(end))


@pytest.mark.parametrize(
    ("ends", "name", "number"),
    [
        *[(ends, "put_many", 1) for ends in ENDS],
        *[(ends, "note", 4) for ends in ENDS],
        # Between directories a file is stored by itself.
        ("to a directory", "put", 0),
        ("to shards", "put", 0),
    ],
    indirect=["ends"],
)
def test_copy_that_was_killed_goes_on(capsys, ends, name, number):
    source, target = ends
    assert killed(name, number, source, target)
    with opened(target) as cache:
        there = list(cache)
        # The last ones are of the block that was being stored.
        changed = {*there[:2], *there[-2:]}
        for key in changed:
            cache[key] = "changed"
    with opened(source) as cache:
        cache["late"] = "added before the copy went on"
        expected = told(cache)
    report = copied(capsys, source, target)
    with opened(target) as cache:
        found = told(cache)
        assert cache.check() == []

    for key in changed:
        assert found.pop(key)[0] == "changed"
        del expected[key]
    assert found == expected
    assert report["entries"] == COUNT + 6 - len(there)


def test_copy_that_is_killed_again_and_again_ends(capsys, tmp_path, url):
    with Cache(tmp_path / "from") as cache:
        fill(cache)
        expected = told(cache)
    runs = itertools.takewhile(lambda _: killed("note", 3, tmp_path / "from", url), range(COUNT))
    count = sum(1 for _ in runs)
    with connect(url) as there:
        assert told(there) == expected
        assert list(there) == list(expected)
        assert [there.pull(prefix="jobs")[1] for _ in range(3)] == ["a", "b", "c"]
        assert there.evict("t1") == COUNT // 3
        marks = shared_server().client().hkeys(f"{{{there._namespace}}}:m")
        assert not any(mark.startswith(b"m:copy") for mark in marks)
    assert 1 < count < COUNT


def test_copy_of_a_source_that_was_filled_anew_begins_anew(capsys, tmp_path, url):
    with Cache(tmp_path / "from") as cache:
        fill(cache)
    assert killed("put_many", 2, tmp_path / "from", url)
    with Cache(tmp_path / "from") as cache:
        cache.clear()
        for number in range(COUNT):
            cache[number] = "new"
        expected = told(cache)
    assert copied(capsys, tmp_path / "from", url)["entries"] == COUNT
    with connect(url) as there:
        assert {key: value for key, value in told(there).items() if key in expected} == expected


def test_copy_that_was_not_interrupted_replaces_what_is_there(capsys, tmp_path, url):
    with Cache(tmp_path / "from") as cache:
        cache["k"] = "source"
    with connect(url) as there:
        there["k"] = "there before"
    copied(capsys, tmp_path / "from", url)
    with connect(url) as there:
        assert there["k"] == "source"


def test_entry_removed_after_it_was_copied_is_not_brought_back(capsys, tmp_path):
    with Cache(tmp_path / "from") as cache:
        fill(cache)
    assert killed("note", 2, tmp_path / "from", tmp_path / "to")
    with Cache(tmp_path / "to") as cache:
        gone = next(iter(cache))
        del cache[gone]
    copied(capsys, tmp_path / "from", tmp_path / "to")
    with Cache(tmp_path / "to") as cache:
        assert gone not in cache
        assert len(cache) == COUNT + 4


@pytest.mark.parametrize("found", [None, 5, "text", b"", b"\xff", b"\x93\x01\x02\x03", b"\xa4text"])
def test_mark_that_a_stranger_wrote_counts_as_none(found):
    assert Track()._parsed(found) == Track.start
