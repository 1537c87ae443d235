"""What `from diskcache import …` offers."""

from __future__ import annotations

import ast
import inspect
import pickle
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import diskcache
from diskcache import errors

ERRORS = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and value.__module__ == errors.__name__
}
WARNINGS = {name for name, value in ERRORS.items() if issubclass(value, Warning)}

VERSION_5 = {
    "Averager",
    "BoundedSemaphore",
    "Cache",
    "DEFAULT_SETTINGS",
    "Deque",
    "Disk",
    "DjangoCache",
    "ENOVAL",
    "EVICTION_POLICY",
    "EmptyDirWarning",
    "Index",
    "JSONDisk",
    "Lock",
    "RLock",
    "Timeout",
    "UNKNOWN",
    "UnknownFileWarning",
    "barrier",
    "memoize_stampede",
    "throttle",
}
"""The names of version 5 that are here already."""

CAUGHT_AS = {
    "CacheCorruptError": sqlite3.DatabaseError,
    "CacheFormatError": sqlite3.DatabaseError,
    "CacheFullError": (OSError, sqlite3.OperationalError),
    "DirectoryMissingError": (FileNotFoundError, sqlite3.OperationalError),
    "DirectoryNotADirectoryError": (NotADirectoryError, sqlite3.OperationalError),
    "DirectoryPermissionError": (PermissionError, sqlite3.OperationalError),
    "IntegerRangeError": OverflowError,
    "KeyInUseError": ValueError,
    "LockReleaseError": (RuntimeError, AssertionError, ValueError),
    "MissingExtraError": ImportError,
    "NotPlainError": TypeError,
    "PickleKeyError": pickle.PicklingError,
    "QueueFullError": sqlite3.IntegrityError,
    "QueueKeyError": ValueError,
    "RateLimitError": RuntimeError,
    "ReadOnlyError": (PermissionError, sqlite3.OperationalError),
    "SettingError": ValueError,
    "TagTypeError": (TypeError, sqlite3.ProgrammingError),
    "TooLargeError": ValueError,
    "UnknownPolicyError": KeyError,
    "UnsafeSQLiteError": sqlite3.OperationalError,
    "UntrustedPickleError": pickle.UnpicklingError,
}


@pytest.mark.parametrize("name", sorted(diskcache.__all__))
def test_public_name_is_there(name):
    assert getattr(diskcache, name) is not None
    assert name in dir(diskcache)


def test_all_holds_each_name_once():
    assert len(diskcache.__all__) == len(set(diskcache.__all__))


def test_all_holds_the_names_of_version_5():
    assert set(diskcache.__all__) >= VERSION_5


def test_all_holds_every_error_and_warning():
    assert set(diskcache.__all__) >= set(ERRORS)


def test_all_is_what_type_checkers_see():
    source = Path(diskcache.__file__).read_text(encoding="utf-8")
    (block,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = [alias.name for node in block.body for alias in node.names]

    assert sorted(seen) == sorted(diskcache.__all__)


def test_all_is_what_a_star_import_brings():
    namespace = {}
    exec("from diskcache import *", namespace)
    del namespace["__builtins__"]

    assert set(namespace) == set(diskcache.__all__)


def test_unknown_name_raises_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="no_such_name"):
        diskcache.no_such_name  # noqa: B018 - the access is the subject


def test_metadata_describes_version_6():
    assert diskcache.__title__ == "diskcache"
    assert diskcache.__version__ == "6.0.0"
    assert diskcache.__build__ == 0x060000
    assert diskcache.__license__ == "Apache-2.0"
    assert diskcache.__author__ == "DiskCache contributors"
    assert diskcache.__author__ in diskcache.__copyright__


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_error_has_a_docstring_of_its_own(name):
    assert ERRORS[name].__doc__
    assert ERRORS[name].__doc__ not in {base.__doc__ for base in ERRORS[name].__mro__[1:]}


@pytest.mark.parametrize("name", sorted(set(ERRORS) - WARNINGS))
def test_error_derives_from_the_common_base(name):
    assert issubclass(ERRORS[name], errors.DiskCacheError)


@pytest.mark.parametrize("name", sorted(WARNINGS))
def test_warning_derives_from_user_warning_and_is_no_error(name):
    assert issubclass(ERRORS[name], UserWarning)
    assert not issubclass(ERRORS[name], errors.DiskCacheError)


@pytest.mark.parametrize(("name", "caught"), sorted(CAUGHT_AS.items()))
def test_error_is_caught_as_what_existing_code_expects(name, caught):
    for base in caught if isinstance(caught, tuple) else (caught,):
        assert issubclass(ERRORS[name], base)


def test_cache_full_error_has_the_errno_of_a_full_disk():
    import errno

    error = errors.CacheFullError("the disk is full")

    assert error.errno == errno.ENOSPC
    assert "the disk is full" in str(error)


@pytest.mark.parametrize(
    "error",
    [
        errors.Timeout(),
        errors.Timeout(5),
        errors.UnknownPolicyError("unknown eviction policy 'x'"),
        errors.UntrustedPickleError("no", "bad-tag"),
        errors.CacheFullError("full"),
        errors.RateLimitError("slow down", 2.5),
        errors.ReadOnlyError("no"),
        errors.DirectoryPermissionError(13, "no", "/x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_survives_pickling(error):
    again = pickle.loads(pickle.dumps(error))

    assert type(again) is type(error)
    assert str(again) == str(error)


@pytest.mark.parametrize("name", ["ENOVAL", "UNKNOWN"])
def test_marker_names_itself_and_survives_pickling(name):
    marker = getattr(diskcache, name)

    assert repr(marker) == name
    assert marker == (name,)
    assert pickle.loads(pickle.dumps(marker)) is marker


def test_import_loads_neither_the_engine_nor_anything_heavy():
    program = (
        "import sys; before = set(sys.modules); import diskcache;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()

    heavy = {"apsw", "asyncio", "django", "redis", "numpy", "ormsgpack", "sqlite3", "pickle"}

    assert "diskcache" in loaded
    assert heavy & set(loaded) == set()
