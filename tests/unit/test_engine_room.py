"""What is kept for a full disk: it is there, grows with what it is for, and comes back."""

from __future__ import annotations

import errno
import os

import pytest

from diskcache import CacheFullError
from diskcache.engines.sqlite import room
from diskcache.engines.sqlite.control import SPENT


def size_of_reserve(directory):
    return (directory / "reserve").stat().st_size


def lacking(cache, directory):
    """Return the bytes by which the database must grow before it holds what is in the log."""
    link = cache._engine._link()
    pages = link.execute("PRAGMA page_count").get
    return max(pages * link.page_size - (directory / "cache.db").stat().st_size, 0)


def test_new_cache_has_a_reserve_that_is_allocated(cache, directory):
    found = (directory / "reserve").stat()

    assert found.st_size == room.RESERVE
    assert found.st_blocks * 512 >= room.RESERVE


def test_reserve_grows_by_what_the_database_lacks(cache, directory):
    for number in range(1500):
        cache[number] = "x" * 1000
        need = lacking(cache, directory)
        assert size_of_reserve(directory) >= room.RESERVE + need - 2 * room.STEP
    assert need > 2 * room.STEP


def test_reserve_shrinks_when_the_log_has_been_copied(cache, directory):
    for number in range(8000):
        cache[number % 2000] = "x" * 1000
    assert lacking(cache, directory) == 0
    assert size_of_reserve(directory) <= room.RESERVE + 2 * room.STEP


@pytest.fixture
def full(monkeypatch):
    """The disk is full, for whatever is allocated."""
    state = {"is_full": True}
    allocate = os.posix_fallocate

    def fail(*args):
        if state["is_full"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(*args)

    monkeypatch.setattr(os, "posix_fallocate", fail)
    return state


def test_no_page_is_added_while_the_reserve_cannot_grow(cache, full):
    with pytest.raises(CacheFullError):
        for number in range(2000):
            cache[number] = "x" * 1000
    assert number < 600
    cache[0] = "y" * 1000
    assert cache.delete(1)
    assert cache.get(0) == "y" * 1000


@pytest.mark.parametrize("is_block", [False, True])
def test_pages_are_added_again_as_soon_as_it_can(cache, full, is_block):
    with pytest.raises(CacheFullError):
        for number in range(2000):
            cache[number] = "x" * 1000
    full["is_full"] = False
    if is_block:
        with cache.transact():
            cache["new"] = "x" * 10_000
    else:
        cache["new"] = "x" * 10_000
    assert cache["new"] == "x" * 10_000


def test_half_a_reserve_is_none(tmp_path, full):
    assert not room.keep(str(tmp_path), 0o600)
    assert os.listdir(tmp_path) == []


def test_reserve_that_is_spent_comes_back_with_the_next_long_log(cache, directory):
    assert room.spend(cache.directory)
    assert not room.spend(cache.directory)
    for number in range(300):
        cache[number] = "x" * 1000
    assert size_of_reserve(directory) >= room.RESERVE


def test_keep_beside_another_that_makes_the_reserve_leaves_it(directory, monkeypatch):
    path = directory / "reserve"
    stat = os.lstat

    def late(name, *args, **kwargs):
        """The reserve is made right after it was looked for, and the disk is full then."""
        if name == str(path) and not path.is_file():
            path.write_bytes(bytes(room.RESERVE))
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return stat(name, *args, **kwargs)

    directory.mkdir()
    monkeypatch.setattr(os, "lstat", late)

    with monkeypatch.context() as context:
        context.setattr(os, "posix_fallocate", no_room)
        assert room.keep(str(directory), 0o700) is False

    assert size_of_reserve(directory) == room.RESERVE


def test_keep_beside_another_that_spends_the_reserve_tells_so(directory, monkeypatch):
    directory.mkdir()

    def spent(*args):
        room.spend(str(directory))
        no_room()

    monkeypatch.setattr(os, "posix_fallocate", spent)

    assert room.keep(str(directory), 0o700) is False
    assert not os.listdir(directory)


def test_nothing_is_stored_while_the_reserve_is_spent(cache, directory, full):
    cache["before"] = 1
    room.note_spent(cache._engine._link())
    room.spend(str(directory))

    for store in (
        lambda: cache.set("key", 1),
        lambda: cache.set("key", b"x" * 100_000),
        lambda: cache.push(1),
        lambda: cache.set_many({"key": 1, "other": 2}),
    ):
        with pytest.raises(CacheFullError):
            store()
    assert cache.delete("before")
    assert len(cache) == 0

    full["is_full"] = False
    cache["key"] = 1
    assert cache["key"] == 1
    assert size_of_reserve(directory) == room.RESERVE
    assert cache._engine._link().site.control.words[SPENT] == 0


def no_room(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_clear_gives_the_file_of_the_database_back_at_once(cache, directory):
    for number in range(4000):
        cache[number] = "x" * 1000
    assert cache.disk_usage() > 4_000_000

    cache.clear()

    assert (directory / "cache.db").stat().st_size < 400_000
    assert cache.disk_usage() < 600_000
