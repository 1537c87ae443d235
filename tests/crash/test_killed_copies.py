"""A process that is killed while it imports or copies leaves nothing that is half done.

Properties: after the kill the cache is sound and holds whole entries; the import that follows
stores exactly the rest; a copy that was not finished is no cache, and the original is as it was.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diskcache import Cache
from diskcache.cli.main import main

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")

IMPORT = "import sys; from diskcache import Cache; Cache(sys.argv[1]).import_from(sys.stdin.buffer)"
BACKUP = """
import os, signal, sys
from diskcache import Cache

def die(done, total):
    if total:
        os.kill(os.getpid(), signal.SIGKILL)

Cache(sys.argv[1]).backup(sys.argv[2], progress=die)
"""


def value_of(number):
    return b"%d" % number * (20_000 if number % 10 == 0 else 500)


@pytest.fixture
def archive(tmp_path):
    with Cache(tmp_path / "source") as cache:
        for number in range(200):
            cache[number] = value_of(number)
        stream = io.BytesIO()
        cache.export(stream)
    return stream.getvalue()


@pytest.mark.parametrize("share", [0.2, 0.55, 0.9])
def test_import_goes_on_after_a_kill(archive, directory, share):
    with Cache(directory) as cache:
        cache["mine"] = 1
    child = subprocess.Popen(
        [sys.executable, "-c", IMPORT, directory], stdin=subprocess.PIPE, cwd=ROOT
    )
    try:
        child.stdin.write(archive[: int(len(archive) * share)])
        child.stdin.flush()
        deadline = time.monotonic() + 60
        with Cache(directory) as cache:
            while len(cache) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
        child.stdin.close()

    with Cache(directory) as cache:
        stored = len(cache) - 1
        assert 0 < stored < 200
        assert all(cache[key] == value_of(key) for key in cache if key != "mine")
        found = cache.import_from(io.BytesIO(archive))
        assert (found.earlier, found.entries) == (stored, 200 - stored)
        assert all(cache[number] == value_of(number) for number in range(200))
        cache.check(fix=True)
        assert [str(each.message) for each in cache.check()] == []


def test_killed_backup_is_no_cache_and_harms_nothing(archive, tmp_path, capsys):
    child = subprocess.run(
        [sys.executable, "-c", BACKUP, tmp_path / "source", tmp_path / "copy"],
        cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip

    assert child.returncode == -signal.SIGKILL
    assert "cache.db" not in os.listdir(tmp_path / "copy")
    assert main(["info", str(tmp_path / "copy")]) == 3
    with Cache(tmp_path / "source") as cache:
        cache["more"] = 1
        assert len(cache) == 201
        assert cache.check() == []
        assert cache.backup(tmp_path / "other").entries == 201
    capsys.readouterr()
