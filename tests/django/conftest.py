"""A Django project for the tests of `DjangoCache`, and the checks that follow each of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if os.environ.get("DISKCACHE_CI"):
    import django
else:
    django = pytest.importorskip("django")

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django.project.settings"
django.setup()

from asgiref.sync import sync_to_async  # noqa: E402 - it comes with Django
from django.core.cache import caches  # noqa: E402 - it needs the settings
from django.test import override_settings  # noqa: E402

from diskcache import DjangoCache  # noqa: E402
from diskcache.aio.pool import pool_of  # noqa: E402
from tests.conftest import assert_left_clean, findings_of  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def thread_of_django() -> None:
    """Have Django start the one thread that it keeps for synchronous code."""

    async def start() -> None:
        await sync_to_async(int)()

    asyncio.run(start())


@pytest.fixture
def make_backend(directory: Path, clock: Any) -> Iterator[Callable[..., DjangoCache]]:
    """Make backends, by default in `directory` and on `clock`, and check all of them afterwards."""
    made: list[DjangoCache] = []

    def make(where: Any = directory, **params: Any) -> DjangoCache:
        options = {"clock": clock, "KEEP_OPEN": False, **params.pop("OPTIONS", {})}
        made.append(DjangoCache(where, {"SHARDS": 2, **params, "OPTIONS": options}))
        return made[-1]

    yield make
    check_and_close(made)


def check_and_close(backends: list[DjangoCache]) -> None:
    """Fail if a backend or its directory is not sound, or if closing leaves anything open."""
    caches_of_them = [backend._shared.cache for backend in backends]
    writable = [cache for cache in caches_of_them if not cache._shards[0].options["readonly"]]
    found = findings_of(writable)
    for cache in caches_of_them:
        cache.close()
        end_threads(cache)

    assert found == []
    assert_left_clean({Path(cache.directory) for cache in caches_of_them}, damaged=False)


def end_threads(cache: Any) -> None:
    """End the threads that served event loops, as `aclose` does."""
    for thread in pool_of(cache).close():
        thread.join(60)


@pytest.fixture
def backend(make_backend: Callable[..., DjangoCache]) -> DjangoCache:
    """An empty cache with default settings."""
    return make_backend()


@pytest.fixture
def site(directory: Path) -> Iterator[Any]:
    """The settings of a site whose cache is in `directory`; returns how to change them."""
    changed: list[Any] = []
    used: dict[int, DjangoCache] = {}

    def change(options: dict[str, Any] | None = None, **settings: Any) -> None:
        note()
        entry = {
            "BACKEND": "diskcache.DjangoCache",
            "LOCATION": directory,
            "SHARDS": 2,
            "OPTIONS": options or {},
        }
        changed.append(override_settings(CACHES={"default": entry}, **settings))
        changed[-1].enable()

    def note() -> None:
        if changed:
            used.update((id(found), found) for found in caches.all(initialized_only=True))

    change()
    yield change
    note()
    for settings in reversed(changed):
        settings.disable()
    check_and_close(list(used.values()))
