"""Locks of others are waited for with a limit, unless the caller says so; no loop is endless."""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest

from diskcache import Cache, LockedError, host
from diskcache.engines.sqlite import removal, site, upgrade

pytestmark = pytest.mark.timeout(60)


@contextmanager
def locked(path):
    """Lock a file, or a folder, as a program of somebody else would."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert host.lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def test_opening_beside_a_program_that_locked_the_directory_ends(directory, monkeypatch):
    directory.mkdir()
    (directory / "cache.db").write_bytes(b"no database" * 100)
    monkeypatch.setattr(upgrade, "LONGEST_UPGRADE", 0.05)
    with locked(directory), pytest.raises(LockedError, match="stop the program that has locked"):
        Cache(directory)


def test_lock_of_users_that_another_got_meanwhile_is_waited_for_with_a_limit(
    cache, directory, monkeypatch
):
    """To make a lock exclusive the system gives the shared one up first."""
    here = cache._engine._link().site
    here.distrust()
    monkeypatch.setattr(site, "LONGEST_CLOSING", 0.05)
    host.unlock(here._users)
    with locked(directory / "users.lock"), pytest.raises(LockedError, match="is being closed"):
        here.distrust()

    here.distrust()
    with pytest.raises(AssertionError), locked(directory / "users.lock"):
        pass


@pytest.mark.parametrize("vacuum", [0, 1, 2])
def test_clear_ends_whether_pages_are_given_back_or_not(make_cache, monkeypatch, vacuum):
    monkeypatch.setattr(removal, "VACUUM_PAGES", 50)
    cache = make_cache(sqlite_auto_vacuum=vacuum)
    cache.set_many(dict.fromkeys(range(300), b"x" * 1900))

    assert cache.clear() == 300
    free = cache._engine._link().execute("PRAGMA freelist_count").get
    assert free > 250 if vacuum == 0 else free < removal.FREE_PAGES
