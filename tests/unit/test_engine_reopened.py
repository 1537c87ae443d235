"""What another object on the same directory needs to know."""

from __future__ import annotations

import copy
import pickle

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
