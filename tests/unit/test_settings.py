"""Which values a setting may have, from a keyword and from a directory."""

from __future__ import annotations

import math
import pickle

import pytest

from diskcache import SettingError
from diskcache.settings import DEFAULT_SETTINGS, METADATA, SPECS, believed, checked, problem


def test_every_setting_has_a_default_that_is_allowed():
    assert set(DEFAULT_SETTINGS) == set(SPECS)
    assert {
        name: problem(name, value) for name, value in DEFAULT_SETTINGS.items()
    } == dict.fromkeys(SPECS)


def test_what_is_measured_is_no_setting():
    assert set(METADATA) == {"count", "size", "hits", "misses"}
    assert not set(METADATA) & set(SPECS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("statistics", True),
        ("statistics", 0),
        ("size_limit", 0),
        ("size_limit", 2**63 - 1),
        ("size_limit", 1e9),
        ("cull_limit", 0),
        ("sqlite_cache_size", -2000),
        ("sqlite_journal_mode", "WAL"),
        ("sqlite_synchronous", 3),
        ("disk_min_file_size", 0),
        ("disk_pickle_protocol", 0),
        ("eviction_policy", "made by the user"),
    ],
)
def test_checked_returns_an_allowed_value_unchanged(name, value):
    assert checked(name, value) == value
    assert type(checked(name, value)) is type(value)


def test_checked_takes_a_whole_float_for_an_int():
    assert checked("cull_limit", 5.0) == 5
    assert type(checked("cull_limit", 5.0)) is int


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("statistics", 2),
        ("statistics", "1"),
        ("tag_index", None),
        ("size_limit", -1),
        ("size_limit", math.nan),
        ("size_limit", math.inf),
        ("size_limit", True),
        ("size_limit", "1 giga"),
        ("cull_limit", 2.5),
        ("cull_limit", -1),
        ("eviction_policy", 5),
        ("sqlite_auto_vacuum", 3),
        ("sqlite_journal_mode", "off"),
        ("sqlite_journal_mode", "memory"),
        ("sqlite_mmap_size", -1),
        ("sqlite_synchronous", 4),
        ("disk_min_file_size", 2**31),
        ("disk_pickle_protocol", pickle.HIGHEST_PROTOCOL + 1),
    ],
)
def test_checked_refuses_what_is_not_allowed_and_says_what_is(name, value):
    with pytest.raises(SettingError) as raised:
        checked(name, value)

    message = str(raised.value)

    assert message.startswith(f"setting {name} must be ")
    assert message.endswith(f"got {value!r}")


def test_believed_uses_what_a_keyword_could_have_set():
    stored = {"cull_limit": 3, "size_limit": 1e6, "eviction_policy": "none"}

    assert believed(stored) == (stored, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cull_limit", -1),
        ("cull_limit", "3"),
        ("size_limit", b"x"),
        ("sqlite_journal_mode", "off"),
        ("no_such_setting", 1),
        ("disk_class", "os.system"),
        ("sqlite_trusted_schema", 1),
        ("timeout", 0),
    ],
)
def test_believed_ignores_everything_else_by_name(name, value):
    assert believed({name: value, "cull_limit": 3} | {name: value}) == (
        {} if name == "cull_limit" else {"cull_limit": 3},
        [name],
    )


def test_believed_never_takes_the_mmap_size_from_a_directory():
    assert believed({"sqlite_mmap_size": 2**30}) == ({}, [])
