"""What the tests of the suite ask for.

In the `conftest.py` of the project: `pytest_plugins = ["diskcache.testing.contract.fixtures"]`.

`variant` is yours to define. `make_cache`, `directory`, `clock` and `cache` may be replaced, for
example to look closer at what a test leaves behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diskcache.testing.clock import ManualClock
from diskcache.testing.variants import Variant


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers of the suite known."""
    for line in (
        "since6(reason): version 5 behaves otherwise here, and the reason says how",
        "damaged(reason): the directory is left damaged on purpose, and not checked afterwards",
    ):
        config.addinivalue_line("markers", line)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where `cache` lives; not yet there."""
    return tmp_path / "cache"


@pytest.fixture
def make_cache(
    request: pytest.FixtureRequest, variant: Variant, clock: ManualClock, directory: Path
) -> Iterator[Callable[..., Any]]:
    """Make caches, by default in `directory` and on `clock`; check and close them afterwards."""
    made: list[Any] = []
    checked: dict[str, Any] = {}

    def make(where: Any = directory, **keywords: Any) -> Any:
        keywords.setdefault("clock", clock)
        cache = variant.make(where, **keywords)
        made.append(cache)
        if not keywords.get("readonly"):
            checked[str(where)] = cache
        return cache

    yield make
    found = []
    if request.node.get_closest_marker("damaged") is None:
        for where, cache in checked.items():
            if "files" not in variant.capabilities or Path(where).exists():
                found += [str(finding.message) for finding in cache.check()]
    for cache in made:
        cache.close()
    if found:
        pytest.fail("check() finds: " + "; ".join(found))


@pytest.fixture
def cache(make_cache: Callable[..., Any]) -> Any:
    """An empty cache with default settings."""
    return make_cache()
