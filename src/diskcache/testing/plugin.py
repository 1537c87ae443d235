"""Fixtures for pytest: `pytest_plugins = ["diskcache.testing.plugin"]` in a `conftest.py`.

The names begin with `diskcache_`, so that they are in nobody's way. The library has no entry point
for pytest: runs that do not ask for these fixtures do not load them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diskcache.cache import Cache
from diskcache.testing.clock import ManualClock
from diskcache.testing.directories import open_below


@pytest.fixture
def diskcache_clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()


@pytest.fixture
def diskcache_directory(tmp_path: Path) -> Path:
    """Where the caches of this test live; not yet there."""
    return tmp_path / "diskcache"


@pytest.fixture
def diskcache_variant() -> Callable[..., Any]:
    """What makes the caches: called with a directory and keywords; replace it for another class."""
    return Cache


@pytest.fixture
def make_diskcache(
    diskcache_variant: Callable[..., Any],
    diskcache_clock: ManualClock,
    diskcache_directory: Path,
) -> Iterator[Callable[..., Any]]:
    """Make caches that are closed after the test, which fails if one is damaged or stays open.

    Called without arguments it opens `diskcache_directory`, on `diskcache_clock`; a second time it
    is another object on the same one.
    """
    made: list[Any] = []

    def make(directory: Any = None, **keywords: Any) -> Any:
        keywords.setdefault("clock", diskcache_clock)
        where = diskcache_directory if directory is None else directory
        made.append(diskcache_variant(where, **keywords))
        return made[-1]

    yield make
    writable = {str(cache.directory): cache for cache in made if not _is_readonly(cache)}
    found = [
        f"{where}: {finding.message}"
        for where, cache in writable.items()
        if Path(where).exists()
        for finding in cache.check()
    ]
    for cache in made:
        cache.close()
    left = [name for cache in made for name in open_below(Path(cache.directory))]
    if found or left:
        pytest.fail("; ".join([*found, *(f"still open: {name}" for name in left)]))


def _is_readonly(cache: Any) -> bool:
    options: dict[str, Any] = getattr(cache, "_options", {})
    return bool(options.get("readonly"))


@pytest.fixture
def diskcache_cache(make_diskcache: Callable[..., Any]) -> Any:
    """An empty cache with default settings, closed and checked after the test."""
    return make_diskcache()
