"""`diskcache.core` offers what existing code imports from it."""

from __future__ import annotations

import pytest

import diskcache
from diskcache import core


@pytest.mark.parametrize(
    "name",
    """
    Cache Disk JSONDisk Timeout UnknownFileWarning EmptyDirWarning ENOVAL UNKNOWN
    DEFAULT_SETTINGS EVICTION_POLICY
    """.split(),
)
def test_name_is_the_same_object_as_in_the_package(name):
    assert getattr(core, name) is getattr(diskcache, name)


def test_constants_are_those_of_version_5():
    assert core.DBNAME == "cache.db"
    assert core.METADATA == {"count": 0, "size": 0, "hits": 0, "misses": 0}
    assert [core.MODE_NONE, core.MODE_RAW, core.MODE_BINARY, core.MODE_TEXT, core.MODE_PICKLE] == [
        0, 1, 2, 3, 4,
    ]  # fmt: skip


def test_functions_for_keys_are_there():
    base = (core.full_name(test_functions_for_keys_are_there),)

    assert core.args_to_key(base, (1,), {"b": 2}, False, []) == (*base, 1, None, "b", 2)


def test_database_has_the_name_that_is_told(cache, directory):
    assert (directory / core.DBNAME).exists()
