"""Rows for `DjangoCache`, with Django's own backends measured beside it.

Both versions answer through Django. In this version's process each round also does the same in
Django's backends: in memory (of one process), in files, and in a database (SQLite). Their times are
the facts of the row, microseconds per operation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from operations import ENTRIES, HOT, Bench, Place, Row, dict_of, key_of, repeated

BACKENDS = {
    "locmem": "django.core.cache.backends.locmem.LocMemCache",
    "file": "django.core.cache.backends.filebased.FileBasedCache",
    "database": "django.core.cache.backends.db.DatabaseCache",
}
UNLIMITED = {"MAX_ENTRIES": 10**9}
"""Django's backends would otherwise hold 300 entries."""
BESIDE = 10
"""The others do a part of the operations: some take milliseconds for one."""

Call = Callable[[str, int], object]
Pick = Callable[[Any], Call]


def configure() -> None:
    """Configure Django once in this process; where its database lies changes with each row."""
    import django
    from django.conf import settings

    if settings.configured:
        return
    settings.configure(
        SECRET_KEY="of a benchmark",
        USE_TZ=False,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        CACHES={},
    )
    django.setup()


def disk_cache(folder: str, options: dict[str, Any]) -> Any:
    from diskcache import DjangoCache

    return DjangoCache(os.path.join(folder, "diskcache"), {"TIMEOUT": 300, "OPTIONS": options})


def others(folder: str) -> dict[str, Any]:
    """Return Django's backends, filled as the measured one is."""
    from django.core.management import call_command
    from django.db import connections
    from django.test import override_settings
    from django.utils.module_loading import import_string

    connections["default"].close()
    connections["default"].settings_dict["NAME"] = os.path.join(folder, "database")
    places = {"locmem": folder, "file": os.path.join(folder, "files"), "database": "cache"}
    made = {
        name: import_string(path)(places[name], {"TIMEOUT": 300, "OPTIONS": UNLIMITED})
        for name, path in BACKENDS.items()
    }
    entry = {"BACKEND": BACKENDS["database"], "LOCATION": "cache"}
    with override_settings(CACHES={"default": entry}):
        call_command("createcachetable", verbosity=0)
    return made


def filled(cache: Any, count: int = ENTRIES) -> Any:
    for number in range(count):
        cache.set(key_of(number), dict_of(number))
    return cache


def timed(call: Call, work: Iterable[tuple[str, int]]) -> float:
    start = perf_counter()
    for key, number in work:
        call(key, number)
    return perf_counter() - start


class Subject:
    """A cache that is measured, and others that are timed beside it."""

    def __init__(self, place: Place, pick: Pick, options: dict[str, Any], *, new: bool) -> None:
        import diskcache

        configure()
        self.n, self.pick, self.new, self.turn = place.n, pick, new, 0
        self.cache = filled(disk_cache(place.folder, options))
        self.beside: dict[str, Any] = {}
        if not diskcache.__version__.startswith("5."):
            made = others(place.folder)
            self.beside = {name: filled(made[name], HOT) for name in made}
        self.facts: dict[str, float] = {}
        self.work: list[tuple[str, int]] = []

    def before(self) -> None:
        """Choose keys: hot ones, or such as no round had."""
        self.turn += 1
        first, count = (self.turn * 10**6, self.n) if self.new else (0, HOT)
        names = repeated([key_of(first + number) for number in range(count)], self.n)
        self.work = [(key, self.turn) for key in names]

    def run(self) -> None:
        timed(self.pick(self.cache), self.work)

    def after(self) -> None:
        """Do a part of it in the other backends."""
        some = self.work[: max(self.n // BESIDE, 10)]
        for name, other in self.beside.items():
            self.facts[f"{name} us"] = timed(self.pick(other), some) / len(some) * 1e6

    def close(self) -> None:
        from django.db import connection

        getattr(self.cache, "_cache", self.cache).close()
        connection.close()
        if self.beside:
            self.beside["locmem"].clear()


def backend(pick: Pick, *, new: bool = False, **options: Any) -> Callable[[Place], Bench]:
    """Return a row that calls what *pick* returns, for hot or for new keys."""

    def make(place: Place) -> Bench:
        subject = Subject(place, pick, options, new=new)
        return Bench(
            subject.run,
            place.n,
            before=subject.before,
            after=subject.after,
            close=subject.close,
            facts=subject.facts,
        )

    return make


def getting(cache: Any) -> Call:
    return lambda key, _: cache.get(key)


def setting(cache: Any) -> Call:
    return lambda key, turn: cache.set(key, dict_of(turn))


def requesting(cache: Any) -> Call:
    """Do what a short request does, and what Django does after it."""

    def request(key: str, turn: int) -> None:
        cache.get(key)
        cache.set(key, turn)
        cache.close()

    return request


ROWS: tuple[Row, ...] = (
    Row("Django get, hot", 5000, backend(getting)),
    Row("Django set, key exists", 1000, backend(setting)),
    Row("Django set, new key", 1000, backend(setting, new=True)),
    Row("Django request: get, set, close", 200, backend(requesting)),
    Row("Django request, KEEP_OPEN off", 200, backend(requesting, KEEP_OPEN=False)),
)
