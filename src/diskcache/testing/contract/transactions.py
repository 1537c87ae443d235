"""Transactions, and waiting for the write lock."""

from __future__ import annotations

import contextlib
import sqlite3
import threading

import pytest

from diskcache import Timeout, TransactionError
from diskcache.testing.contract import Contract

LARGE = b"x" * 100_000


@contextlib.contextmanager
def locked_by_another_thread(cache):
    """Hold the write lock of *cache* in another thread."""
    held, release = threading.Event(), threading.Event()

    def hold():
        with cache.transact():
            held.set()
            release.wait(60)
        cache.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(60)
        yield release
    finally:
        release.set()
        holder.join(60)


def in_thread(function):
    """Run *function* in another thread and return what it returned."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join(60)
    return results[0]


class TransactContract(Contract):
    needs = frozenset({"transactions"})

    def test_transact_commits_what_was_written(self, cache, make_cache):
        with cache.transact() as given:
            cache["a"] = 1
            cache["b"] = 2
            del cache["a"]

        assert given is None
        assert {key: make_cache()[key] for key in cache} == {"b": 2}

    def test_transact_reads_its_own_writes(self, cache):
        cache["a"] = 1
        with cache.transact():
            cache["a"] = 2
            cache["b"] = LARGE

            assert cache["a"] == 2
            assert cache["b"] == LARGE
            assert len(cache) == 2
            assert list(cache) == ["a", "b"]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_transact_rolls_back_on_any_exception_and_lets_it_pass(self, cache, error):
        cache["a"] = 1
        with pytest.raises(error), cache.transact():
            cache["a"] = 2
            cache["b"] = 2
            cache.incr("c")
            cache.push("d")
            cache.pop("a")
            raise error

        assert list(cache) == ["a"]
        assert cache["a"] == 1
        assert len(cache) == 1

    @pytest.mark.since6("version 5 leaves them")
    def test_transact_rolled_back_leaves_no_value_file(self, cache):
        with pytest.raises(ZeroDivisionError), cache.transact():
            cache["a"] = LARGE
            cache["a"] = LARGE + b"2"
            raise ZeroDivisionError

        assert len(cache) == 0
        assert cache.check() == []

    @pytest.mark.since6("version 5 removes the files before the transaction ends")
    @pytest.mark.parametrize(
        "change",
        [
            lambda cache: cache.set("a", b"y" * 100_000),
            lambda cache: cache.set("a", 1),
            lambda cache: cache.pop("a"),
            lambda cache: cache.delete("a"),
            lambda cache: cache.clear(),
            lambda cache: cache.evict("t"),
            lambda cache: cache.pull(prefix="a"),
        ],
        ids=["replace", "shrink", "pop", "delete", "clear", "evict", "pull"],
    )
    def test_transact_rolled_back_keeps_value_files(self, cache, change):
        cache.set("a", LARGE, tag="t")
        queued = cache.push(LARGE, prefix="a")
        with pytest.raises(ZeroDivisionError), cache.transact():
            change(cache)
            raise ZeroDivisionError

        assert cache["a"] == LARGE
        assert cache[queued] == LARGE
        assert cache.check() == []

    def test_transact_nested_is_one_transaction(self, cache):
        with pytest.raises(ZeroDivisionError), cache.transact():
            cache["a"] = 1
            with cache.transact():
                cache["b"] = 2
            raise ZeroDivisionError

        assert len(cache) == 0

    def test_transact_nested_error_caught_outside_keeps_the_writes(self, cache):
        with cache.transact():
            cache["a"] = 1
            with contextlib.suppress(ZeroDivisionError), cache.transact():
                cache["b"] = 2
                raise ZeroDivisionError

        assert list(cache) == ["a", "b"]

    def test_transact_after_a_rollback_works_again(self, cache):
        with contextlib.suppress(ZeroDivisionError), cache.transact():
            raise ZeroDivisionError
        with cache.transact():
            cache["a"] = 1

        assert cache["a"] == 1

    def test_transact_hides_its_writes_from_others_until_it_ends(self, cache, make_cache):
        other = make_cache()
        cache["a"] = 1

        def look():
            with other:
                return other.get("a"), "b" in other, len(other)

        with cache.transact():
            cache["a"] = 2
            cache["b"] = 2
            during = in_thread(look)

        assert during == (1, False, 1)
        assert in_thread(look) == (2, True, 2)

    def test_transact_failing_operation_inside_leaves_the_rest(self, cache):
        with cache.transact():
            cache["a"] = 1
            with pytest.raises(KeyError):
                cache["missing"]
            with pytest.raises(TypeError):
                cache.set("b", 1, expire="soon")
            cache["c"] = 3

        assert list(cache) == ["a", "c"]

    def test_transact_around_bulk_removal_makes_it_one_step(self, cache):
        with cache.transact():
            for number in range(250):
                cache[number] = 0
        with pytest.raises(ZeroDivisionError), cache.transact():
            cache.clear()

            assert len(cache) == 0
            raise ZeroDivisionError

        assert len(cache) == 250

    def test_transact_with_close_inside_raises_at_the_end(self, cache):
        with pytest.raises(sqlite3.Error), cache.transact():
            cache["a"] = 1
            cache.close()

        assert "a" not in cache

    @pytest.mark.parametrize("is_nested", [False, True])
    def test_transact_with_close_inside_stores_nothing_that_follows(self, cache, is_nested):
        with pytest.raises(TransactionError), cache.transact():
            inner = cache.transact() if is_nested else contextlib.nullcontext()
            with contextlib.suppress(TransactionError), inner:
                cache["a"] = 1
                cache.close()
            for write in (lambda: cache.set("b", 2), lambda: cache.set_many({"c": 3})):
                with pytest.raises(TransactionError):
                    write()

        assert len(cache) == 0
        cache["d"] = 4
        with cache.transact():
            cache["e"] = 5
        assert sorted(cache) == ["d", "e"]


WRITES = {
    "set": lambda cache: cache.set("a", 1),
    "set_file": lambda cache: cache.set("a", LARGE),
    "add": lambda cache: cache.add("new", 1),
    "touch": lambda cache: cache.touch("a", expire=10),
    "pop": lambda cache: cache.pop("a"),
    "delete": lambda cache: cache.delete("a"),
    "incr": lambda cache: cache.incr("n"),
    "decr": lambda cache: cache.decr("n"),
    "push": lambda cache: cache.push(1),
    "pull": lambda cache: cache.pull(),
    "transact": lambda cache: cache.transact().__enter__(),
}

BULK_WRITES = {
    "clear": lambda cache: cache.clear(),
    "evict": lambda cache: cache.evict("t"),
    "expire": lambda cache: cache.expire(),
    "cull": lambda cache: cache.cull(),
}


class TimeoutContract(Contract):
    needs = frozenset({"transactions"})

    @pytest.fixture
    def cache(self, make_cache):
        """A cache that does not wait long, with something for each operation to do."""
        cache = make_cache(timeout=0.01, cull_limit=0)
        cache.set("a", 1, tag="t")
        cache["n"] = 1
        cache.push("queued")
        cache.set("gone", 1, expire=-1)
        return cache

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    def test_write_raises_timeout_while_the_lock_is_held(self, cache, make_cache, write):
        entries = len(cache)
        with locked_by_another_thread(make_cache()):
            with pytest.raises(Timeout) as raised:
                write(cache)
            assert raised.value.args == ()

        assert len(cache) == entries

    @pytest.mark.parametrize("write", BULK_WRITES.values(), ids=BULK_WRITES)
    def test_bulk_removal_raises_timeout_with_the_count_so_far(self, cache, make_cache, write):
        with locked_by_another_thread(make_cache()), pytest.raises(Timeout) as raised:
            write(cache)

        assert raised.value.args == (0,)

    def test_timeout_of_zero_does_not_wait(self, make_cache):
        cache = make_cache(timeout=0)
        with locked_by_another_thread(make_cache()), pytest.raises(Timeout):
            cache.set("a", 1)

    def test_timeout_for_another_thread_of_the_same_object(self, cache):
        with locked_by_another_thread(cache), pytest.raises(Timeout):
            cache.set("b", 1)

    def test_reads_need_no_lock(self, cache, make_cache):
        with locked_by_another_thread(make_cache()):
            assert cache["a"] == 1
            assert cache.get("missing", default=5) == 5
            assert "a" in cache
            assert len(cache) == 4
            assert list(cache)[:2] == ["a", "n"]
            assert cache.volume() > 0

    @pytest.mark.since6("version 5 writes on each read")
    @pytest.mark.parametrize("policy", ["least-recently-used", "least-frequently-used"])
    def test_reads_need_no_lock_whatever_the_policy(self, make_cache, policy):
        cache = make_cache(timeout=0.01, eviction_policy=policy, statistics=True)
        cache["a"] = 1
        with locked_by_another_thread(make_cache()):
            assert cache["a"] == 1
            assert cache.get("missing") is None

    @pytest.mark.parametrize(
        "write",
        [
            lambda cache: cache.set("b", 2, retry=True),
            lambda cache: cache.__setitem__("b", 2),
            lambda cache: cache.incr("b", 2, retry=True),
        ],
        ids=["set", "setitem", "incr"],
    )
    def test_retry_waits_until_the_lock_is_free(self, cache, make_cache, write):
        with locked_by_another_thread(make_cache()) as release:
            timer = threading.Timer(0.05, release.set)
            timer.start()
            write(cache)
            timer.join()

        assert cache["b"] == 2

    @pytest.mark.since6("version 5 waits for itself")
    def test_second_object_in_the_same_thread_raises_at_once(self, make_cache):
        cache, other = make_cache(timeout=60), make_cache(timeout=60)
        with cache.transact(), pytest.raises(RuntimeError):
            other.set("a", 1)

        other["a"] = 1

        assert cache["a"] == 1

    @pytest.mark.since6("version 5 raises sqlite3.OperationalError")
    def test_create_tag_index_raises_timeout_while_the_lock_is_held(self, cache, make_cache):
        with locked_by_another_thread(make_cache()), pytest.raises(Timeout):
            cache.create_tag_index()
