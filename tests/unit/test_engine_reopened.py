"""What another object on the same directory needs to know."""

from __future__ import annotations

import copy
import pickle

import pytest

from diskcache import Cache, Disk, DiskCacheError


class Leveled(Disk):
    """A disk with an argument of its own."""

    def __init__(self, directory, level=1, **kwargs):
        self.level = level
        super().__init__(directory, **kwargs)


def test_pickled_cache_keeps_the_arguments_of_its_disk(directory):
    with Cache(directory, disk=Leveled, disk_level=7, sqlite_temp_store=2) as cache:
        for again in (pickle.loads(pickle.dumps(cache)), copy.copy(cache), copy.deepcopy(cache)):
            with again:
                assert type(again.disk) is Leveled
                assert again.disk.level == 7
                assert again.sqlite_temp_store == 2


def test_memoize_on_a_readonly_cache_computes_and_returns(directory):
    Cache(directory).close()
    with Cache(directory, readonly=True) as cache:

        @cache.memoize()
        def double(number):
            return 2 * number

        assert double(4) == 8
        assert len(cache) == 0


READS = {
    "get": lambda cache: cache.get("a"),
    "get_many": lambda cache: cache.get_many(["a"])["a"],
    "items": lambda cache: dict(cache.items())["a"],
    "in": lambda cache: "a" in cache,
    "peekitem": lambda cache: cache.peekitem()[1],
}


@pytest.mark.parametrize("name", READS)
def test_connection_closed_between_a_statement_and_its_rows_is_made_anew(make_cache, name):
    """As a fork does, or `close`, in another thread."""
    cache = make_cache(memory_limit=0)
    cache["a"] = 1
    link = cache._engine._reader()
    closed = []

    def closing(execute):
        def run(*words):
            cursor = execute(*words)
            closed.append(link.close())
            return cursor

        return run

    link.execute, link.look_up = closing(link.execute), closing(link.look_up)

    assert READS[name](cache) == 1
    assert closed


def test_transaction_that_is_closed_in_the_middle_of_a_step_is_an_error_of_this_library(make_cache):
    """As a signal handler may do."""
    cache = make_cache(memory_limit=0)
    with pytest.raises(DiskCacheError), cache.transact():
        cache["a"] = 1
        cache._engine._local.link.close()
        cache._engine._inside(cache._engine._local.link, lambda link: link.execute("SELECT 1"), ())

    assert "a" not in cache
