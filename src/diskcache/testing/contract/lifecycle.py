"""Closing, reopening, copying and pickling a cache."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import sqlite3
import stat
import threading

import pytest

from diskcache.testing.contract import Contract, asks_for
from diskcache.testing.directories import open_below


def write_in_transaction(cache):
    with cache.transact():
        return cache.set("b", 1)


class LifecycleContract(Contract):
    needs = frozenset({"durable"})

    def test_entries_survive_closing(self, cache, make_cache, clock):
        cache.set("a", [1], expire=10, tag="t")
        cache["b"] = b"x" * 100_000
        cache.close()

        again = make_cache()

        assert again.get("a", expire_time=True, tag=True) == ([1], clock.time() + 10, "t")
        assert again["b"] == b"x" * 100_000
        assert list(again) == ["a", "b"]

    def test_close_may_be_repeated_and_use_reopens(self, cache):
        cache["a"] = 1
        cache.close()
        cache.close()

        assert cache["a"] == 1

        cache.close()
        cache["b"] = 2

        assert len(cache) == 2

    def test_close_leaves_no_open_file(self, cache, directory):
        cache["a"] = b"x" * 100_000
        cache.close()

        assert open_below(directory) == []

    @asks_for("database")
    def test_close_leaves_a_directory_that_can_be_copied(self, cache, make_cache, directory):
        cache["a"] = 1
        cache["b"] = b"x" * 100_000
        cache.close()

        assert not (directory / "cache.db-wal").exists()
        assert not (directory / "cache.db-shm").exists()

        shutil.copytree(directory, directory.with_name("copy"))
        copied = make_cache(directory.with_name("copy"))

        assert copied["a"] == 1
        assert copied["b"] == b"x" * 100_000
        assert len(copied) == 2

    def test_with_gives_the_cache_itself_and_closes_it(self, cache, directory):
        with cache as given:
            given["a"] = 1

            assert given is cache

        assert open_below(directory) == []
        assert cache["a"] == 1

    def test_with_closes_after_an_exception_and_lets_it_pass(self, cache, directory):
        with pytest.raises(ZeroDivisionError), cache:
            cache["a"] = 1
            raise ZeroDivisionError

        assert open_below(directory) == []

    def test_pickled_cache_opens_the_same_directory(self, cache, make_cache):
        cache = make_cache(timeout=5, cull_limit=3)
        cache["a"] = 1

        again = pickle.loads(pickle.dumps(cache))
        try:
            assert again is not cache
            assert again.directory == cache.directory
            assert again.timeout == 5
            assert again.cull_limit == 3
            assert again["a"] == 1

            again["b"] = 2

            assert cache["b"] == 2
        finally:
            again.close()

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
    def test_copied_cache_opens_the_same_directory(self, cache, duplicate):
        cache["a"] = 1

        again = duplicate(cache)
        try:
            assert again is not cache
            assert again.directory == cache.directory
            assert again["a"] == 1
        finally:
            again.close()

    def test_threads_share_one_object(self, cache):
        def work(number):
            for step in range(20):
                cache[number, step] = step
            cache.close()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert len(cache) == 80
        assert set(cache) == {(number, step) for number in range(4) for step in range(20)}

    @pytest.mark.parametrize(
        ("operation", "expected"),
        [
            (lambda cache: cache["a"], 1),
            (lambda cache: "a" in cache, True),
            (lambda cache: len(cache), 1),
            (lambda cache: list(cache), ["a"]),
            (lambda cache: cache.peekitem(), ("a", 1)),
            (lambda cache: cache.stats(), (0, 0)),
            (lambda cache: cache.check(), []),
            (lambda cache: cache.reset("cull_limit"), 10),
            (lambda cache: cache.volume() > 0, True),
            (lambda cache: cache.set("a", 2), True),
            (lambda cache: cache.set("a", b"x" * 100_000), True),
            (lambda cache: cache.incr("a"), 2),
            (lambda cache: cache.pop("a"), 1),
            (lambda cache: cache.push(1), 500_000_000_000_000),
            (lambda cache: cache.clear(), 1),
            (write_in_transaction, True),
        ],
        ids=[
            "getitem", "contains", "len", "iter", "peekitem", "stats", "check", "reset", "volume",
            "set", "set_file", "incr", "pop", "push", "clear", "transact",
        ],
    )  # fmt: skip
    def test_close_in_another_thread_leaves_this_one_working(self, cache, operation, expected):
        cache["a"] = 1

        def use_and_close():
            cache.get("a")
            cache.close()

        for _ in range(2):
            thread = threading.Thread(target=use_and_close)
            thread.start()
            thread.join(60)

        assert operation(cache) == expected

    @pytest.mark.since6("version 5 keeps the connection")
    def test_thread_that_ends_without_closing_leaves_no_open_file(self, cache, directory):
        def work():
            cache["a"] = 1

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)
        cache.close()

        assert open_below(directory) == []

    @asks_for("files")
    def test_directory_removed_and_made_anew_works_at_once(self, cache, make_cache, directory):
        cache["a"] = 1
        cache.close()
        shutil.rmtree(directory)
        again = make_cache()

        assert len(again) == 0

        again["b"] = b"x" * 100_000

        assert list(again) == ["b"]
        assert again.check() == []

    @asks_for("files")
    def test_directory_removed_under_an_open_cache_and_made_anew_works_at_once(
        self, cache, make_cache, directory
    ):
        cache["a"] = 1
        shutil.rmtree(directory)
        again = make_cache()
        again["b"] = 1

        assert list(again) == ["b"]
        cache.close()

    @asks_for("database")
    def test_reopening_changes_no_file(self, cache, make_cache, directory):
        cache["a"] = 1
        cache.close()
        before = (directory / "cache.db").stat()
        again = make_cache()
        again.get("a")
        again.close()
        after = (directory / "cache.db").stat()

        assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)


@pytest.mark.since6("version 5 always writes")
class ReadonlyContract(Contract):
    needs = frozenset({"files", "durable"})

    @pytest.fixture
    def cache(self, make_cache):
        """A read-only cache of what another object wrote."""
        with make_cache(cull_limit=0, statistics=True) as writer:
            writer["a"] = [1]
            writer["b"] = b"x" * 100_000
            writer.set("gone", 1, expire=-1)
            writer.push("queued")
        return make_cache(readonly=True)

    def test_readonly_reads(self, cache):
        assert cache["a"] == [1]
        assert cache["b"] == b"x" * 100_000
        assert cache.get("gone") is None
        assert cache.get("missing", default=5) == 5
        assert "a" in cache
        assert len(cache) == 4
        assert list(cache)[:2] == ["a", "b"]
        assert cache.volume() > 100_000

    @pytest.mark.parametrize(
        "write",
        [
            lambda cache: cache.set("c", 1),
            lambda cache: cache.set("c", b"x" * 100_000),
            lambda cache: cache.__setitem__("c", 1),
            lambda cache: cache.add("c", 1),
            lambda cache: cache.incr("c"),
            lambda cache: cache.delete("a"),
            lambda cache: cache.pop("a"),
            lambda cache: cache.touch("a"),
            lambda cache: cache.push(1),
            lambda cache: cache.pull(),
            lambda cache: cache.clear(),
            lambda cache: cache.evict("t"),
            lambda cache: cache.expire(),
            lambda cache: cache.cull(),
            lambda cache: cache.set_many({"c": 1}),
            lambda cache: cache.delete_many(["a"]),
            lambda cache: cache.reset("cull_limit", 1),
        ],
        ids=[
            "set", "set_file", "setitem", "add", "incr", "delete", "pop", "touch", "push", "pull",
            "clear", "evict", "expire", "cull", "set_many", "delete_many", "reset",
        ],
    )  # fmt: skip
    def test_readonly_refuses_writes(self, cache, write):
        with pytest.raises(PermissionError) as raised:
            write(cache)

        assert isinstance(raised.value, sqlite3.OperationalError)
        assert len(cache) == 4

    def test_readonly_writes_nothing(self, cache, directory):
        def state():
            return {
                path.relative_to(directory).as_posix(): path.stat().st_mtime_ns
                for path in directory.rglob("*")
                if path.suffix != ".db-shm"
            }

        cache.close()
        before = state()
        cache.get("a")
        cache.get("missing")
        list(cache)
        cache.stats()
        cache.close()

        assert state() == before

    def test_readonly_of_a_missing_directory_raises_and_makes_none(self, make_cache, tmp_path):
        with pytest.raises(FileNotFoundError) as raised:
            make_cache(tmp_path / "missing", readonly=True)

        assert isinstance(raised.value, sqlite3.OperationalError)
        assert not (tmp_path / "missing").exists()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_readonly_works_on_a_directory_that_may_not_be_written(self, cache, directory):
        cache.close()
        paths = [directory, *directory.rglob("*")]
        for path in paths:
            path.chmod(0o500 if path.is_dir() else 0o400)
        try:
            assert cache["a"] == [1]
            assert cache["b"] == b"x" * 100_000
            assert stat.S_IMODE(directory.stat().st_mode) == 0o500
            cache.close()
        finally:
            for path in paths:
                path.chmod(0o700 if path.is_dir() else 0o600)
