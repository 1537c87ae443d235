"""Making a cache: the directory and the disk."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from diskcache import Disk, SettingError
from diskcache.testing.contract import Contract, asks_for


class SubDisk(Disk):
    """A disk of the user's."""


class ConstructionContract(Contract):
    needs = frozenset({"files", "durable"})

    def test_directory_is_made_with_its_parents(self, make_cache, tmp_path):
        where = tmp_path / "a" / "b" / "c"
        cache = make_cache(where)
        cache["a"] = 1

        assert where.is_dir()
        assert cache["a"] == 1

    @pytest.mark.parametrize("kind", [str, Path], ids=["str", "path"])
    def test_directory_is_kept_as_text(self, make_cache, directory, kind):
        cache = make_cache(kind(directory))

        assert cache.directory == str(directory)
        assert type(cache.directory) is str

    def test_directory_expands_home_and_variables(self, make_cache, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("PART", "variable")

        assert make_cache("~/x/$PART").directory == str(tmp_path / "x" / "variable")

    @pytest.mark.since6("version 5 makes a directory named b'…'")
    def test_directory_as_bytes_is_decoded(self, make_cache, directory):
        assert make_cache(os.fsencode(directory)).directory == str(directory)

    def test_directory_none_is_a_new_temporary_one(self, make_cache):
        first, second = make_cache(None), make_cache(None)
        try:
            assert first.directory != second.directory
            assert Path(first.directory).name.startswith("diskcache-")
            assert Path(first.directory).is_dir()
        finally:
            for cache in (first, second):
                cache.close()
                shutil.rmtree(cache.directory)

    @pytest.mark.since6("version 5 lets others read")
    def test_directory_and_files_are_private(self, make_cache, directory):
        os.umask(os.umask(0o022))
        cache = make_cache()
        cache["a"] = b"x" * 100_000

        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")}

        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
        assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}

    @pytest.mark.since6("version 5 has no mode")
    def test_mode_shares_the_cache_with_a_group(self, make_cache, directory):
        make_cache(mode=0o770)["a"] = b"x" * 100_000

        assert stat.S_IMODE(directory.stat().st_mode) & 0o777 == 0o770
        for path in directory.rglob("*"):
            expected = 0o770 if path.is_dir() else 0o660
            assert stat.S_IMODE(path.stat().st_mode) & 0o777 == expected, path

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
    def test_directory_that_cannot_be_made_raises_os_error_with_its_errno(
        self, make_cache, monkeypatch, code, directory
    ):
        def fail(*args, **kwargs):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "makedirs", fail)

        with pytest.raises(OSError) as raised:
            make_cache()
        assert raised.value.errno == code
        assert str(directory) in str(raised.value)

    def test_directory_that_is_a_file_raises_operational_error(self, make_cache, tmp_path):
        (tmp_path / "file").write_text("mine")

        with pytest.raises((sqlite3.OperationalError, OSError)):
            make_cache(tmp_path / "file")
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.since6("version 5 raises one or the other")
    def test_directory_below_a_file_raises_both_kinds_of_error(self, make_cache, tmp_path):
        (tmp_path / "file").write_text("mine")

        with pytest.raises(NotADirectoryError) as raised:
            make_cache(tmp_path / "file" / "cache")
        assert isinstance(raised.value, sqlite3.OperationalError)

    @asks_for("database")
    @pytest.mark.damaged("it never was a cache")
    def test_file_that_is_no_database_raises_database_error_and_is_kept(
        self, make_cache, directory
    ):
        directory.mkdir()
        (directory / "cache.db").write_bytes(b"something else entirely" * 100)

        with pytest.raises(sqlite3.DatabaseError):
            make_cache()
        assert (directory / "cache.db").read_bytes() == b"something else entirely" * 100

    def test_files_of_others_in_the_directory_are_left_alone(self, make_cache, directory):
        (directory / "photos").mkdir(parents=True)
        (directory / "thesis.txt").write_text("mine")
        cache = make_cache()
        cache["a"] = b"x" * 100_000
        cache.clear()

        assert (directory / "thesis.txt").read_text() == "mine"
        assert (directory / "photos").is_dir()

        (directory / "thesis.txt").unlink()
        (directory / "photos").rmdir()

    def test_timeout_is_sixty_seconds_unless_given(self, make_cache):
        assert make_cache().timeout == 60
        assert make_cache(timeout=0.5).timeout == 0.5

    @pytest.mark.parametrize("timeout", [None, "1", float("nan"), [1]], ids=repr)
    def test_timeout_that_is_no_number_is_refused(self, make_cache, directory, timeout):
        with pytest.raises(SettingError, match="timeout must be a number of seconds"):
            make_cache(timeout=timeout)
        assert not directory.exists()

    @pytest.mark.parametrize("name", ["directory", "timeout", "disk"])
    def test_directory_timeout_and_disk_cannot_be_assigned(self, cache, name):
        with pytest.raises(AttributeError):
            setattr(cache, name, None)

    @pytest.mark.parametrize(
        "disk", [object(), dict, "Disk", None], ids=["object", "dict", "text", "none"]
    )
    def test_disk_that_is_no_disk_class_raises_value_error(self, make_cache, disk):
        with pytest.raises(ValueError):
            make_cache(disk=disk)

    def test_disk_instance_raises_value_error(self, make_cache, tmp_path):
        with pytest.raises(ValueError):
            make_cache(disk=Disk(str(tmp_path)))

    def test_disk_is_an_instance_of_the_class_given(self, make_cache, tmp_path):
        assert type(make_cache().disk) is Disk
        assert type(make_cache(tmp_path / "other", disk=SubDisk).disk) is SubDisk

    def test_disk_setting_reaches_the_disk(self, make_cache):
        assert make_cache(disk_min_file_size=7).disk.min_file_size == 7

    def test_disk_setting_that_the_class_does_not_take_raises_type_error(self, make_cache):
        with pytest.raises(TypeError):
            make_cache(disk_no_such_thing=1)
