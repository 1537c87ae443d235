"""Volume, check and info."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path

import pytest

from diskcache import EmptyDirWarning, UnknownFileWarning
from diskcache.testing.contract import Contract
from diskcache.testing.directories import value_files

STRAY = "00112233445566778899aabbccdd.val"
"""Name of a value file, in whatever folder."""


def vacant(directory):
    """Return a path for a folder of value files where there is none, nor one above it.

    Value files lie in folders with random names.
    """
    names = map("{:02x}".format, range(256))
    return next(path for path in map(directory.joinpath, names) if not path.exists()) / "cd"


class VolumeContract(Contract):
    def test_volume_of_an_empty_cache_is_small_and_positive(self, cache):
        assert 0 < cache.volume() <= 65_536

    def test_volume_grows_with_what_is_stored(self, cache):
        before = cache.volume()
        cache.set_many(dict.fromkeys(range(200), b"x" * 1000))

        assert 200_000 < cache.volume() - before < 500_000

    def test_volume_shrinks_when_everything_is_removed(self, cache):
        cache.set_many(dict.fromkeys(range(200), b"x" * 1000))
        full = cache.volume()
        cache.clear()

        assert cache.volume() < full / 2

    def test_volume_is_the_same_for_another_object(self, cache, make_cache):
        cache["a"] = b"x" * 100_000

        assert make_cache().volume() == cache.volume()


class CheckContract(Contract):
    needs = frozenset({"files"})

    @pytest.fixture
    def cache(self, cache):
        cache["small"] = 1
        cache["large"] = b"x" * 100_000
        return cache

    def test_check_of_a_sound_cache_is_empty(self, cache):
        assert cache.check() == []
        assert cache.check(fix=True) == []
        assert cache["large"] == b"x" * 100_000

    def test_check_finds_and_mends_a_missing_file(self, cache):
        (path,) = value_files(cache.directory)
        path.unlink()

        found = check(cache)

        assert any(path.name in str(finding.message) for finding in found)

        check(cache, fix=True)
        check(cache, fix=True)

        assert check(cache) == []
        assert list(cache) == ["small"]

    def test_check_finds_and_mends_a_file_of_the_wrong_size(self, cache):
        (path,) = value_files(cache.directory)
        path.write_bytes(b"x" * 10)

        assert any(path.name in str(finding.message) for finding in check(cache))

        check(cache, fix=True)

        assert check(cache) == []

    def test_check_finds_and_mends_a_file_that_belongs_to_no_entry(self, cache, directory):
        stray = vacant(directory) / STRAY
        stray.parent.mkdir(parents=True)
        stray.write_bytes(b"stray")

        found = check(cache)

        assert [finding.category for finding in found] == [UnknownFileWarning]
        assert stray.name in str(found[0].message)

        check(cache, fix=True)
        check(cache, fix=True)

        assert check(cache) == []
        assert not stray.exists()
        assert cache["large"] == b"x" * 100_000

    def test_check_finds_and_mends_empty_folders(self, cache, directory):
        folder = vacant(directory)
        folder.mkdir(parents=True)

        found = check(cache)

        assert {finding.category for finding in found} == {EmptyDirWarning}

        check(cache, fix=True)
        check(cache, fix=True)

        assert check(cache) == []
        assert not folder.parent.exists()

    def test_check_returns_warning_messages(self, cache, directory):
        folder = vacant(directory)
        folder.mkdir(parents=True)

        found = check(cache)

        assert all(isinstance(finding, warnings.WarningMessage) for finding in found)
        assert all(isinstance(finding.message, Warning) for finding in found)

        folder.rmdir()
        folder.parent.rmdir()

    @pytest.mark.since6("version 5 finds nothing then")
    @pytest.mark.parametrize("action", ["ignore", "error"])
    def test_check_does_not_depend_on_the_filters_of_the_caller(self, cache, directory, action):
        stray = vacant(directory) / STRAY
        stray.parent.mkdir(parents=True)
        stray.write_bytes(b"stray")
        with warnings.catch_warnings():
            warnings.simplefilter(action)

            assert [finding.category for finding in cache.check()] == [UnknownFileWarning]

        cache.check(fix=True)

    @pytest.mark.since6("version 5 removes them")
    def test_check_leaves_files_and_folders_of_others_alone(self, cache, directory):
        (directory / "photos").mkdir()
        (directory / "thesis.txt").write_text("mine")
        cache.check(fix=True)

        assert (directory / "thesis.txt").read_text() == "mine"
        assert (directory / "photos").is_dir()

        (directory / "thesis.txt").unlink()
        (directory / "photos").rmdir()

    @pytest.mark.since6("version 5 needs several rounds")
    def test_check_mends_everything_in_one_round(self, cache, directory):
        stray = vacant(directory) / STRAY
        stray.parent.mkdir(parents=True)
        stray.write_bytes(b"stray")
        vacant(directory).mkdir(parents=True)
        cache.check(fix=True)

        assert cache.check() == []


def check(cache, **keywords):
    """Return the findings, whatever the filters of the test run are."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        return cache.check(**keywords)


@pytest.mark.since6("version 5 has neither")
class InfoContract(Contract):
    needs = frozenset({"files"})

    def test_info_tells_what_the_cache_is(self, make_cache, directory):
        cache = make_cache(statistics=True, size_limit=10**6)
        cache["a"] = 1
        cache["b"] = b"x" * 100_000
        cache.get("a")
        cache.get("missing")

        info = cache.info()

        assert info.directory == str(directory)
        assert info.version.startswith("6.")
        assert info.entries == 2
        assert info.volume == cache.volume()
        assert info.size_limit == 10**6
        assert info.eviction_policy == "least-recently-stored"
        assert (info.hits, info.misses) == (1, 1)
        assert (info.untrusted, info.corrupt) == (0, 0)
        assert info.pickle == "signed"
        assert info.readonly is False
        assert isinstance(info.off, dict)

    def test_info_cannot_be_changed(self, cache):
        with pytest.raises(dataclasses.FrozenInstanceError):
            cache.info().entries = 5

    def test_info_names_the_same_cache_for_every_object(self, cache, make_cache, tmp_path):
        assert make_cache().info().cache_id == cache.info().cache_id
        assert make_cache(tmp_path / "other").info().cache_id != cache.info().cache_id

    def test_disk_usage_is_what_the_files_take(self, cache, directory):
        cache["a"] = b"x" * 3_000_000
        with cache.transact():
            for number in range(1000):
                cache[number] = b"x" * 500

        blocks = sum(
            os.lstat(path).st_blocks * 512 for path in [directory, *Path(directory).rglob("*")]
        )

        assert abs(cache.disk_usage() - blocks) <= blocks * 0.05
