"""Files that a killed writer was still writing are removed by whoever opens the cache next."""

from __future__ import annotations

import os

import pytest

from diskcache import Cache
from diskcache.host import lock


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
