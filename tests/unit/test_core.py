"""The modules of version 5 are there, and `diskcache.core` offers what existing code imports."""

from __future__ import annotations

import importlib
import subprocess
import sys

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


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (
            "core",
            "Cache Disk JSONDisk Timeout args_to_key full_name ENOVAL UNKNOWN DBNAME METADATA",
        ),
        ("fanout", "FanoutCache"),
        ("persistent", "Deque Index"),
        ("recipes", "Averager BoundedSemaphore Lock RLock barrier memoize_stampede throttle"),
        ("cli", ""),
    ],
)
def test_module_of_version_5_has_its_names(module, names):
    found = importlib.import_module(f"diskcache.{module}")

    for name in names.split():
        assert getattr(found, name) is getattr(diskcache, name, getattr(core, name, None))


@pytest.mark.parametrize(
    "expression",
    [
        "diskcache.core.ENOVAL is diskcache.ENOVAL",
        "diskcache.core.JSONDisk is diskcache.JSONDisk",
        "diskcache.fanout.FanoutCache is diskcache.FanoutCache",
        "diskcache.persistent.Deque is diskcache.Deque",
        "diskcache.recipes.Lock is diskcache.Lock",
        "not hasattr(diskcache, 'nothing')",
    ],
)
def test_modules_are_attributes_of_the_package_without_being_imported(expression):
    program = f"import diskcache; assert {expression}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_module_that_cannot_be_imported_is_no_attribute(monkeypatch):
    monkeypatch.delattr(diskcache, "djangocache", raising=False)
    monkeypatch.setitem(sys.modules, "diskcache.djangocache", None)

    with pytest.raises(AttributeError, match="no attribute 'djangocache'"):
        diskcache.djangocache  # noqa: B018 - the access is the subject
