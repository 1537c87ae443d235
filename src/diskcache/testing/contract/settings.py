"""Settings: what is given wins over what is stored, which wins over the defaults."""

from __future__ import annotations

import pickle

import pytest

import diskcache
from diskcache import DEFAULT_SETTINGS
from diskcache.testing.contract import Contract

SETTINGS = {
    "statistics": (0, 1),
    "tag_index": (0, 1),
    "eviction_policy": ("least-recently-stored", "least-recently-used"),
    "size_limit": (2**30, 10**6),
    "cull_limit": (10, 3),
    "sqlite_cache_size": (8192, 4096),
    "sqlite_journal_mode": ("wal", "delete"),
    "sqlite_synchronous": (1, 2),
    "disk_min_file_size": (2**15, 100),
    "disk_pickle_protocol": (pickle.HIGHEST_PROTOCOL, 4),
}
"""Default and another value of each setting that is stored with a cache."""

each_setting = pytest.mark.parametrize(
    ("name", "other"), [(name, other) for name, (_, other) in SETTINGS.items()], ids=SETTINGS
)


class SettingsContract(Contract):
    needs = frozenset({"settings"})

    @pytest.mark.parametrize("name", SETTINGS)
    def test_new_cache_has_the_defaults_as_attributes(self, cache, name):
        assert getattr(cache, name) == SETTINGS[name][0]
        assert DEFAULT_SETTINGS[name] == SETTINGS[name][0]

    @each_setting
    def test_keyword_wins_over_the_default_and_is_kept_for_later_openers(
        self, make_cache, name, other
    ):
        cache = make_cache(**{name: other})

        assert getattr(cache, name) == other

        cache.close()

        assert getattr(make_cache(), name) == other

    def test_keyword_wins_over_what_is_stored(self, make_cache):
        make_cache(cull_limit=3, size_limit=10**6).close()
        cache = make_cache(cull_limit=4)

        assert (cache.cull_limit, cache.size_limit) == (4, 10**6)
        assert make_cache().cull_limit == 4

    def test_changed_defaults_are_used_by_later_constructors(self, make_cache, monkeypatch):
        monkeypatch.setitem(DEFAULT_SETTINGS, "cull_limit", 7)

        assert make_cache().cull_limit == 7

    def test_changed_defaults_do_not_overrule_what_is_stored(self, make_cache, monkeypatch):
        make_cache(cull_limit=3).close()
        monkeypatch.setitem(DEFAULT_SETTINGS, "cull_limit", 7)

        assert make_cache().cull_limit == 3

    def test_size_limit_may_be_a_float(self, make_cache):
        assert make_cache(size_limit=1e9).size_limit == 1e9
        assert make_cache().size_limit == 1e9

    def test_assigning_an_attribute_changes_this_object_alone(self, cache, make_cache):
        cache.cull_limit = 0

        assert cache.cull_limit == 0
        assert make_cache().cull_limit == 10

    def test_attribute_is_not_refreshed_by_another_object(self, cache, make_cache):
        make_cache().reset("cull_limit", 3)

        assert cache.cull_limit == 10
        assert cache.reset("cull_limit") == 3
        assert cache.cull_limit == 3

    @pytest.mark.filterwarnings("ignore")
    def test_unknown_keyword_becomes_an_attribute(self, make_cache):
        assert make_cache(MAX_ENTRIES=30).MAX_ENTRIES == 30

    @pytest.mark.since6("version 5 accepts a typo without a word")
    def test_unknown_keyword_is_warned_about_by_name(self, make_cache):
        with pytest.warns(diskcache.UnknownSettingWarning, match="sise_limit"):
            make_cache(sise_limit=5)

    @pytest.mark.since6("version 5 accepts anything")
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("size_limit", -1),
            ("size_limit", "1G"),
            ("size_limit", float("nan")),
            ("cull_limit", -1),
            ("cull_limit", 1.5),
            ("cull_limit", None),
            ("statistics", 2),
            ("sqlite_journal_mode", "off; DROP TABLE Cache"),
            ("sqlite_synchronous", 9),
            ("disk_min_file_size", -1),
            ("disk_pickle_protocol", pickle.HIGHEST_PROTOCOL + 1),
        ],
    )
    def test_keyword_that_is_not_allowed_raises_value_error_that_names_it(
        self, make_cache, name, value
    ):
        with pytest.raises(ValueError, match=name):
            make_cache(**{name: value})

    @pytest.mark.parametrize("name", ["count", "size", "hits", "misses"])
    def test_keywords_that_are_measured_are_ignored(self, make_cache, name):
        cache = make_cache(**{name: 99})

        assert cache.reset(name) == 0


class ResetContract(Contract):
    needs = frozenset({"settings"})

    @each_setting
    def test_reset_stores_the_value_and_returns_it(self, cache, make_cache, name, other):
        assert cache.reset(name, other) == other
        assert getattr(cache, name) == other
        assert make_cache().reset(name) == other

    @pytest.mark.parametrize("name", SETTINGS)
    def test_reset_without_value_returns_what_is_stored(self, cache, name):
        assert cache.reset(name) == SETTINGS[name][0]

    def test_reset_without_value_drops_an_assigned_attribute(self, cache):
        cache.cull_limit = 5

        assert cache.reset("cull_limit") == 10
        assert cache.cull_limit == 10

    def test_reset_without_update_stores_nothing(self, cache, make_cache):
        assert cache.reset("cull_limit", 5, update=False) == 5
        assert cache.cull_limit == 5
        assert make_cache().cull_limit == 10

    def test_reset_unknown_name_without_value_raises_value_error(self, cache):
        with pytest.raises(ValueError):
            cache.reset("no_such_setting")

    @pytest.mark.parametrize("name", ["count", "size", "hits", "misses"])
    def test_reset_reads_what_is_measured(self, cache, name):
        cache["a"] = b"x" * 100_000

        assert cache.reset(name) == {"count": 1, "size": 100_000}.get(name, 0)

    @pytest.mark.since6("version 5 stores anything")
    @pytest.mark.parametrize(("name", "value"), [("cull_limit", -1), ("size_limit", "big")])
    def test_reset_to_what_is_not_allowed_raises_value_error_and_changes_nothing(
        self, cache, name, value
    ):
        with pytest.raises(ValueError, match=name):
            cache.reset(name, value)

        assert cache.reset(name) == SETTINGS[name][0]

    def test_reset_of_a_disk_setting_reaches_the_disk(self, cache):
        cache.reset("disk_min_file_size", 5)

        assert cache.disk.min_file_size == 5

    def test_reset_of_the_size_limit_takes_effect(self, cache):
        for number in range(5):
            cache[number] = 0
        cache.reset("cull_limit", 1)
        cache.reset("size_limit", 1000)
        cache["x"] = 0

        assert len(cache) == 5
