"""Entries are stored in the order in which they are given, and all of them."""

from __future__ import annotations

import pytest

from diskcache import Cache, Disk


def test_set_many_keeps_the_order_of_small_and_large_values(make_cache):
    cache = make_cache(disk_min_file_size=50)

    assert cache.set_many([("a", "x" * 60), ("b", 1), ("a", 2), ("c", "y" * 60)]) == 4
    assert list(cache.items()) == [("a", 2), ("b", 1), ("c", "y" * 60)]


def test_set_many_with_a_bad_tag_stores_nothing(cache):
    with pytest.raises(TypeError, match="tag"):
        cache.set_many({"a": 1, "b": b"x" * 100_000}, tag=["list"])
    assert len(cache) == 0


class Writing(Disk):
    """A disk that writes to its cache while a value is read."""

    cache: Cache | None = None

    def fetch(self, mode, filename, value, read):
        if self.cache is not None:
            self.cache.set("seen", 1)
        return super().fetch(mode, filename, value, read)


def test_write_made_while_a_value_is_loaded_is_kept(make_cache):
    cache = make_cache(disk=Writing)
    cache["k"] = "value"
    Writing.cache = cache
    try:
        assert cache.pop("k") == "value"
    finally:
        Writing.cache = None

    assert cache["seen"] == 1
    assert len(cache) == 1
