"""A cache takes no more room than it may, whoever writes and reads, and gives it back.

Properties, under eight writers and four readers that never pause: the volume stays within 1.25
times the limit, the write-ahead logs within 8 MiB; what was just written is there; `volume` is
what pages in use and value files take, `disk_usage` what `du` says, to 5 %; expired entries leave
although nobody calls `expire`; after `clear` the file system has its space back.

`DISKCACHE_TEST_SOAK=1` (`make soak`) runs for a minute each, with caches eight times as large.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

from diskcache import Cache, FanoutCache
from diskcache.engines.sqlite import checkpoints, control
from diskcache.testing import ManualClock
from tests.support.crew import in_processes
from tests.support.leaks import assert_tidy, value_files

IS_SOAK = bool(os.environ.get("DISKCACHE_TEST_SOAK"))
SECONDS = 60.0 if IS_SOAK else 2.5
LIMIT = (64 if IS_SOAK else 8) * 2**20
LONGEST_LOG = 8 * 2**20
WRITERS, READERS = 8, 4

SIZES = {
    "small": lambda _, chance: chance.randrange(10, 2000),
    "mixed": lambda _, chance: chance.choice([20, 500, 5000, 60_000, 200_000]),
    "small then large": lambda share, chance: (
        chance.randrange(10, 200) if share < 0.5 else chance.randrange(100_000, 300_000)
    ),
}


class Seen(NamedTuple):
    """What one process did and saw."""

    rounds: int
    missing: int
    """Entries that were not there right after they had been written, though others wrote little."""
    longest: float
    """Seconds that its longest read took."""


def open_cache(directory: Path, kind: str, **keywords: Any) -> Any:
    if kind == "fanout":
        return FanoutCache(directory, 4, size_limit=LIMIT, **keywords)
    return Cache(directory, size_limit=LIMIT, **keywords)


def work(directory: Path, kind: str, sizes: str, number: int) -> Seen:
    """Write, or read without a pause, until the time is over; writers until they have done much."""
    chance = random.Random(number)
    rounds = missing = stored = 0
    longest = 0.0
    enough = 0 if sizes == "small" else LIMIT / WRITERS
    began = time.monotonic()
    with open_cache(directory, kind) as cache:
        while (passed := time.monotonic() - began) < SECONDS or (
            number < WRITERS and (rounds <= 10 or stored < enough)
        ):
            rounds += 1
            if number < WRITERS:
                key = (number, chance.randrange(100_000))
                value = b"x" * SIZES[sizes](passed / SECONDS, chance)
                before = written(cache)
                cache[key] = value
                is_missing = key not in cache
                # Others may have filled the cache anew before the writer looks again.
                by_others = written(cache) - before - len(value)
                missing += is_missing and by_others < (1 if kind == "fanout" else LIMIT / 16)
                stored += len(value)
                if rounds % 50 == 0:
                    cache.set((number, "brief"), b"y" * 1000, expire=0.01)
            elif number % 2:
                last = time.monotonic()
                for _ in cache.items():
                    now = time.monotonic()
                    longest = max(longest, now - last)
                    last = now
                    if now - began > SECONDS:
                        break
            else:
                last = time.monotonic()
                cache.get((chance.randrange(WRITERS), chance.randrange(100_000)))
                longest = max(longest, time.monotonic() - last)
    return Seen(rounds, missing, longest)


def written(cache: Any) -> int:
    """Return how many bytes were ever written."""
    parts = getattr(cache, "_shards", [cache])
    return sum(part._engine._link().site.control.words[control.WRITTEN] for part in parts)


class Watch(threading.Thread):
    """Looks at the sizes of a cache until it is stopped."""

    def __init__(self, cache: Any, directory: Path) -> None:
        super().__init__(daemon=True)
        self.volume = self.log = 0
        self._cache, self._directory = cache, directory
        self._over = threading.Event()

    def run(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._over.wait(0.02)
            self.volume = max(self.volume, self._cache.volume())
            logs = [part / "cache.db-wal" for part in parts_of(self._directory)]
            self.log = max(self.log, sum(map(size_of, logs)))

    def stop(self) -> None:
        self._over.set()
        self.join(60)


def parts_of(directory: Path) -> list[Path]:
    """Return the directories with a database: shards, or the only one."""
    return sorted(directory.glob("[0-9][0-9][0-9]")) or [directory]


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def reserves(directory):
    """Return what is kept for a full disk, in all shards."""
    return sum(path.stat().st_size for path in Path(directory).rglob("reserve"))


def du(directory: Path) -> int:
    command = ["du", "--summarize", "--block-size=1", directory]
    return int(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    )


def in_use(directory: Path) -> int:
    """Return the bytes of pages in use and of value files, counted without the library."""
    total = sum(path.stat().st_size for path in value_files(directory))
    for part in parts_of(directory):
        connection = apsw.Connection(str(part / "cache.db"), flags=apsw.SQLITE_OPEN_READONLY)
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").get
            for name in ("page_count", "freelist_count", "page_size")
        )
        connection.close()
        total += (pages - free) * size
    return total


@pytest.mark.timeout(120 + 2 * SECONDS)
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("cache", "small"), ("cache", "mixed"), ("cache", "small then large"), ("fanout", "mixed")],
)
def test_cache_under_writers_and_readers_takes_no_more_room_than_it_may(directory, kind, sizes):
    with open_cache(directory, kind) as cache:
        watch = Watch(cache, directory)
        watch.start()
        jobs = [(directory, kind, sizes, number) for number in range(WRITERS + READERS)]
        try:
            seen = in_processes(work, jobs, limit=60 + 2 * SECONDS)
        finally:
            watch.stop()
        writes = sum(found.rounds for found in seen[:WRITERS])
        missing = sum(found.missing for found in seen)
        longest = max(found.longest for found in seen)
        print(
            f"{kind}, {sizes}: {writes} writes, volume {watch.volume / LIMIT:.3f} of the limit,"
            f" logs {watch.log / 2**20:.1f} MiB, {missing} missing after their own write,"
            f" longest read {longest * 1000:.0f} ms"
        )

        assert all(found.rounds > 10 for found in seen[:WRITERS])
        assert LIMIT / 2 < watch.volume <= 1.25 * LIMIT or sizes == "small"
        assert watch.volume <= 1.25 * LIMIT
        # A reader that stops in the middle of a read is not waited for.
        assert watch.log <= LONGEST_LOG or longest > checkpoints.STUCK
        assert missing <= writes / 100
        assert abs(cache.disk_usage() - du(directory)) <= 0.05 * du(directory)
        assert abs(cache.volume() - in_use(directory)) <= 0.05 * in_use(directory)
        full = du(directory)
        cache.clear()
        assert cache.volume() < 2**18 * (4 if kind == "fanout" else 1)
        assert du(directory) < full / 2 + LONGEST_LOG
        assert value_files(directory) == []
    assert du(directory) - reserves(directory) < 2**20
    for part in parts_of(directory):
        assert_tidy(part)


@pytest.mark.parametrize("size", [50, 5000, 60_000], ids=["rows", "long rows", "files"])
def test_expired_entries_leave_although_nobody_calls_expire(directory, size):
    clock = ManualClock()
    with Cache(directory, clock=clock) as cache:
        cache["kept"] = 1
        with cache.transact():
            for number in range(400):
                cache.set(number, b"x" * size, expire=10)
        full = cache.volume()
        clock.advance(11)
        for number in range(100):
            cache["new", number] = 1

        assert len(cache) == 101
        assert cache.volume() < full / 2 or size == 50
        assert value_files(directory) == []
        assert "kept" in cache


def test_removed_entries_give_their_space_back_without_a_call(directory):
    """Deleting one by one frees pages, which later writes hand back to the file system."""
    with Cache(directory) as cache:
        with cache.transact():
            for number in range(2000):
                cache[number] = b"x" * 5000
        full = (directory / "cache.db").stat().st_size + size_of(directory / "cache.db-wal")
        cache.evict(None)
        cache.close()

        assert du(directory) < full / 5


@pytest.fixture(autouse=True)
def removed(directory):
    """What is left takes much room: nobody looks at it."""
    yield
    shutil.rmtree(directory, ignore_errors=True)
