"""What another object on the same directory needs to know."""

from __future__ import annotations

import copy
import pickle

import pytest

from diskcache import Cache, Disk


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
