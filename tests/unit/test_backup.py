"""`backup`: a copy that is a cache, of one moment, and complete or not there."""

from __future__ import annotations

import os

import pytest

from diskcache import (
    Cache,
    Deque,
    DirectoryError,
    FanoutCache,
    Index,
    JSONDisk,
    SettingError,
    Timeout,
    TransactionError,
)
from diskcache.engines.sqlite import copying
from tests.support.leaks import assert_tidy

SECRET = b"0123456789abcdef0123456789abcdef"


class Thing:
    """A value that is no plain data."""

    def __init__(self, name):
        self.name = name

    def __eq__(self, other):
        return type(other) is Thing and other.name == self.name

    __hash__ = None


@pytest.fixture
def filled(make_cache, tmp_path):
    cache = make_cache(tmp_path / "source", secret=SECRET, size_limit=10**8)
    cache.set("small", (1, 2), expire=1000, tag="t")
    cache.set("large", "x" * 100_000)
    cache.set("thing", Thing("v"))
    cache.set("large thing", Thing("v" * 100_000))
    return cache


def names_below(path):
    return sorted(
        os.path.relpath(os.path.join(folder, name), path)
        for folder, _, names in os.walk(path)
        for name in names
    )


def test_copy_is_a_cache_with_the_same_entries(filled, make_cache, tmp_path):
    copied = filled.backup(tmp_path / "copy")
    assert [n for n in names_below(tmp_path / "copy") if not n.endswith(".val")] == ["cache.db"]
    again = make_cache(tmp_path / "copy", secret=SECRET)

    assert (copied.entries, copied.files, copied.lost) == (4, 2, 0)
    assert copied.volume > 200_000
    assert again.get("small", expire_time=True, tag=True) == filled.get(
        "small", expire_time=True, tag=True
    )
    for key in filled:
        assert again[key] == filled[key]
    assert again.size_limit == 10**8
    assert again.info().cache_id == filled.info().cache_id
    assert again.check() == []


def test_copy_is_independent_of_its_original(filled, make_cache, tmp_path):
    filled.backup(tmp_path / "copy")
    filled["large"] = "y" * 50_000
    filled.delete("large thing")
    again = make_cache(tmp_path / "copy", secret=SECRET)

    assert again["large"] == "x" * 100_000
    assert again["large thing"] == Thing("v" * 100_000)
    again.clear()
    assert filled["thing"] == Thing("v")


def test_files_are_private_whatever_the_umask(filled, tmp_path):
    before = os.umask(0)
    try:
        filled.backup(tmp_path / "copy")
    finally:
        os.umask(before)
    for name in names_below(tmp_path / "copy"):
        assert os.stat(tmp_path / "copy" / name).st_mode & 0o777 == 0o600
    assert os.stat(tmp_path / "copy").st_mode & 0o777 == 0o700


def test_destination_may_be_an_empty_directory(filled, tmp_path):
    (tmp_path / "copy").mkdir()

    assert filled.backup(tmp_path / "copy").entries == 4


def test_destination_that_is_something_is_refused_and_kept(filled, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("dear")
    (tmp_path / "file").write_text("x")

    for name in ("full", "file"):
        with pytest.raises(DirectoryError):
            filled.backup(tmp_path / name)
    assert (tmp_path / "full" / "letter").read_text() == "dear"
    assert (tmp_path / "file").read_text() == "x"


def test_destination_inside_the_cache_is_refused(filled):
    with pytest.raises(SettingError, match="outside"):
        filled.backup(os.path.join(filled.directory, "copy"))


def test_backup_that_fails_leaves_nothing(filled, tmp_path):
    (tmp_path / "empty").mkdir()

    def fail(done, total):
        raise RuntimeError("stop")

    for name in ("new", "empty"):
        with pytest.raises(RuntimeError, match="stop"):
            filled.backup(tmp_path / name, progress=fail)
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "empty").iterdir()) == []
    filled["still"] = "works"


def test_progress_ends_with_all_that_there_is(filled, tmp_path):
    seen = []

    filled.backup(tmp_path / "copy", progress=lambda done, total: seen.append((done, total)))

    assert seen[-1][0] == seen[-1][1] > 200_000
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_backup_behind_a_writer_that_does_not_end_is_a_timeout(filled, make_cache, tmp_path):
    import threading

    begun, done = threading.Event(), threading.Event()

    def hold():
        with filled.transact():
            begun.set()
            done.wait(60)
        filled.close()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(60)
    try:
        with pytest.raises(Timeout):
            make_cache(tmp_path / "source", timeout=0.01).backup(tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
    finally:
        done.set()
        thread.join()


@pytest.mark.damaged("a file is missing, another one cut")
def test_entries_without_usable_files_are_left_out_and_counted(filled, make_cache, tmp_path):
    filled["also"] = b"z" * 50_000
    names = [filled._engine.get((key, 1), 0.0)[2] for key in ("large", "also")]
    (tmp_path / "source" / names[0]).unlink()
    (tmp_path / "source" / names[1]).write_bytes(b"Z" * 50_000)

    copied = filled.backup(tmp_path / "copy")
    again = make_cache(tmp_path / "copy", secret=SECRET)

    assert (copied.entries, copied.lost) == (3, 2)
    assert list(again) == ["small", "thing", "large thing"]
    assert again.check() == []


def test_files_that_were_replaced_meanwhile_are_not_in_the_copy(
    filled, make_cache, tmp_path, monkeypatch
):
    """Between the first pass and the last one, entries are replaced, added and removed."""
    gather = copying.DirectoryCopy.gather

    def gather_and_write(copy):
        gather(copy)
        filled["large"] = "new" * 50_000
        filled["more"] = "m" * 70_000
        del filled["large thing"]

    monkeypatch.setattr(copying.DirectoryCopy, "gather", gather_and_write)
    copied = filled.backup(tmp_path / "copy")
    files = [name for name in names_below(tmp_path / "copy") if name.endswith(".val")]
    again = make_cache(tmp_path / "copy", secret=SECRET)

    assert (copied.entries, copied.files, copied.lost) == (4, len(files), 0)
    assert len(files) == 2
    assert again["large"] == "new" * 50_000
    assert again.check() == []


def test_writes_after_the_moment_are_not_in_the_copy(filled, make_cache, tmp_path, monkeypatch):
    finish = copying.DirectoryCopy.finish

    def write_and_finish(copy):
        filled["late"] = "l" * 70_000
        filled["large"] = "late" * 50_000
        return finish(copy)

    monkeypatch.setattr(copying.DirectoryCopy, "finish", write_and_finish)
    filled.backup(tmp_path / "copy")
    again = make_cache(tmp_path / "copy", secret=SECRET)

    assert "late" not in again
    assert again["large"] == "x" * 100_000
    assert again.check() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_in_the_middle_does_not_harm_the_copy(filled, make_cache, tmp_path, monkeypatch):
    finish = copying.DirectoryCopy.finish
    forks = []

    def fork_and_finish(copy):
        if not forks:
            forks.append(os.fork())
            if forks == [0]:
                os._exit(0)
            os.waitpid(forks[0], 0)
        return finish(copy)

    monkeypatch.setattr(copying.DirectoryCopy, "finish", fork_and_finish)
    assert filled.backup(tmp_path / "copy").entries == 4

    assert make_cache(tmp_path / "copy", secret=SECRET)["thing"] == Thing("v")


def test_backup_of_a_cache_that_is_only_read(filled, make_cache, tmp_path):
    filled.close()
    reader = make_cache(tmp_path / "source", readonly=True)
    before = names_below(tmp_path / "source")

    assert reader.backup(tmp_path / "copy").entries == 4
    assert names_below(tmp_path / "source") == before


def test_backup_without_a_log(make_cache, tmp_path):
    cache = make_cache(tmp_path / "s", sqlite_journal_mode="delete")
    cache["k"], cache["large"] = 1, "x" * 50_000
    cache.backup(tmp_path / "copy")

    assert make_cache(tmp_path / "copy")["large"] == "x" * 50_000


def test_backup_of_a_disk_of_ones_own(tmp_path):
    with Cache(tmp_path / "s", disk=JSONDisk) as cache:
        cache["k"] = ["x" * 3] * 100
        cache.backup(tmp_path / "copy")
    with Cache(tmp_path / "copy", disk=JSONDisk) as again:
        assert again["k"] == ["x" * 3] * 100


def test_shards_and_what_is_beside_them_are_copied(tmp_path):
    with FanoutCache(tmp_path / "s", shards=3, secret=SECRET) as cache:
        for number in range(30):
            cache[number], cache[f"large {number}"] = Thing(number), "x" * 40_000
        cache.cache("users/names")["ada"] = 1815
        cache.deque("jobs").append(1)
        cache.index("births")["ada"] = "y" * 50_000
        copied = cache.backup(tmp_path / "copy")
        with cache.transact(), pytest.raises(TransactionError):
            cache.backup(tmp_path / "other")
    with FanoutCache(tmp_path / "copy", secret=SECRET) as again:
        assert copied.entries == 63
        assert all(again[number] == Thing(number) for number in range(30))
        assert again.cache("users/names")["ada"] == 1815
        assert list(again.deque("jobs")) == [1]
        assert again.index("births")["ada"] == "y" * 50_000
        assert [str(each.message) for each in again.check()] == []
    for part in (tmp_path / "copy").glob("[0-9]*"):
        assert_tidy(part)


def test_shards_that_cannot_be_copied_leave_nothing(tmp_path, monkeypatch):
    def fails(copy):
        raise RuntimeError("stop")

    with FanoutCache(tmp_path / "s", shards=3) as cache:
        cache["k"] = 1
        monkeypatch.setattr(copying.DirectoryCopy, "finish", fails)
        with pytest.raises(RuntimeError):
            cache.backup(tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
        cache["k"] = 2


def test_deque_and_index_are_copied(tmp_path):
    with (
        Deque([1, "x" * 50_000], directory=tmp_path / "d") as deque,
        Index(tmp_path / "i", a=1) as index,
    ):
        deque.backup(tmp_path / "d2")
        index.backup(tmp_path / "i2")
        with Deque(directory=tmp_path / "d2") as again, Index(tmp_path / "i2") as other:
            assert list(again) == list(deque)
            assert list(other.items()) == [("a", 1)]
