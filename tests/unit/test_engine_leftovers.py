"""Files that a killed writer was still writing are removed by whoever opens the cache next."""

from __future__ import annotations

import os

import pytest

from diskcache import Cache
from diskcache.engines.sqlite import checking
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.control import FILES
from diskcache.host import lock
from tests.support.crew import run_script


@pytest.fixture
def leftover(directory):
    Cache(directory).close()
    path = directory / "tmp" / ("0" * 32 + ".tmp")
    path.write_bytes(b"half")
    return path


def age(path, seconds):
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_old_file_of_a_dead_writer_is_removed(directory, leftover):
    age(leftover, 120)
    Cache(directory).close()

    assert not leftover.exists()


def test_young_file_stays(directory, leftover):
    Cache(directory).close()

    assert leftover.exists()
    leftover.unlink()


def test_file_of_a_living_writer_stays(directory, leftover):
    age(leftover, 120)
    with leftover.open("rb") as writer:
        assert lock(writer.fileno())
        Cache(directory).close()

        assert leftover.exists()
    leftover.unlink()


def test_link_in_place_of_the_folder_is_not_followed(directory, leftover, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    thesis = outside / "thesis.txt"
    thesis.write_bytes(b"mine")
    age(thesis, 120)
    leftover.unlink()
    (directory / "tmp").rmdir()
    (directory / "tmp").symlink_to(outside)
    Cache(directory).close()

    assert thesis.read_bytes() == b"mine"


def test_old_file_of_a_user_in_the_folder_of_temporary_ones_stays(directory):
    Cache(directory).close()
    mine = directory / "tmp" / "mine.txt"
    mine.write_text("mine")
    os.utime(mine, (1, 1))

    with Cache(directory) as cache:
        cache.check(fix=True)

    assert mine.read_text() == "mine"
    mine.unlink()


# A process that was stopped for a moment between its look at the directory and its search for files
# that no row names finds those of another cache, which is now there in place of its own.

LARGE = b"x" * 40_000


REPLACE = """
import shutil, sys
from diskcache import Cache
shutil.rmtree(sys.argv[1])
with Cache(sys.argv[1]) as new:
    for number in range(10):
        new[number] = b"x" * 40_000
"""
"""Has another cache in the place of one, with files of its own."""


@pytest.fixture
def replaced_before(monkeypatch, directory):
    """Have the directory replaced right before a function runs for the first time."""

    def arrange(owner, name):
        original = getattr(owner, name)

        def late(*args):
            monkeypatch.setattr(owner, name, original)
            assert run_script(REPLACE, directory).returncode == 0
            return original(*args)

        monkeypatch.setattr(owner, name, late)

    return arrange


@pytest.mark.parametrize("step", ["_sweep", "_meet_control"])
def test_search_for_files_leaves_those_of_a_cache_that_took_the_place(
    directory, replaced_before, step
):
    old = Cache(directory)
    old["a"] = LARGE
    # As after a writer that died.
    old._engine._local.link.site.control.words[FILES] = 1
    replaced_before(Link, step)
    old["b"] = 1
    old.close()

    with Cache(directory) as new:
        assert {key: new[key] for key in range(10)} == dict.fromkeys(range(10), LARGE)
        assert new["b"] == 1
        assert new.check() == []


def test_repair_leaves_files_of_a_cache_that_took_the_place(directory, replaced_before):
    old = Cache(directory)
    old["a"] = LARGE
    replaced_before(checking, "_walk")
    old.check(fix=True)
    old.close()

    with Cache(directory) as new:
        assert {key: new[key] for key in range(10)} == dict.fromkeys(range(10), LARGE)
        assert new.check() == []
