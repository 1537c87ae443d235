"""Directories that are not what one hopes."""

from __future__ import annotations

import pytest

from diskcache import Cache, SettingError


def test_empty_path_is_refused():
    with pytest.raises(SettingError, match="directory"):
        Cache("")


def test_check_leaves_a_nested_cache_to_itself(make_cache, directory):
    with Cache(directory) as outer, Cache(directory / "inner") as inner:
        inner["large"] = b"x" * 100_000
        assert outer.check(fix=True) == []
        assert inner["large"] == b"x" * 100_000
        assert inner.check() == []


def test_leftovers_of_making_a_cache_are_mended(directory):
    with Cache(directory) as cache:
        (directory / "cache.db.new").write_bytes(b"half")
        (directory / "control.new").write_bytes(b"half")
        assert len(cache.check(fix=True)) == 2
        assert cache.check() == []


def test_cache_without_a_log_waits_for_readers_and_writers(directory):
    Cache(directory, sqlite_journal_mode="delete").close()
    with Cache(directory) as cache, Cache(directory) as other:
        execute = other._engine._link().execute
        for number in range(20):
            cache[number] = number
            assert other[number] == number
        assert execute("PRAGMA busy_timeout").get > 0
