"""Many processes that open one directory at the same moment all succeed, and change nothing.

Properties: of 64 processes that make one fresh cache none fails, and all have the same; opening and
closing one that exists writes nothing: no file is another one, longer, or newer.

`DISKCACHE_TEST_SOAK=1` (`make soak`) runs 50 rounds.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from diskcache import Cache, FanoutCache, host
from diskcache.engines.sqlite import hardening, site
from tests.support.crew import in_processes
from tests.support.leaks import assert_tidy

PROCESSES = 64
ROUNDS = 50 if os.environ.get("DISKCACHE_TEST_SOAK") else 5
PATIENCE = 60.0
# What stays while a cache is open, but for the index of the log. Never read by those who have it
# open: closing a file of a database drops the locks that SQLite holds in the process.
LASTING = ("cache.db", "cache.db-wal", "control")

KINDS = {"cache": Cache, "fanout": lambda directory: FanoutCache(directory, 2)}


def open_in_rounds(
    barrier: Any, directory: Path, kind: str, name: int, rounds: int
) -> list[tuple[str, object]]:
    """Open a fresh directory in each round, together with the others; return what was wrong."""
    problems: list[tuple[str, object]] = []
    for number in range(rounds):
        barrier.wait(PATIENCE)
        try:
            with KINDS[kind](directory / str(number)) as cache:
                cache[name] = number
                if cache[name] != number:
                    problems.append(("missing", number))
        except Exception as exc:  # noqa: BLE001 - it is reported
            problems.append((repr(exc), number))
    return problems


@pytest.fixture(autouse=True)
def imported(tmp_path):
    """Import here what 64 children would all import, each for itself."""
    FanoutCache(tmp_path / "imported", 1).close()


@pytest.mark.timeout(60 + 10 * ROUNDS)
@pytest.mark.parametrize(("kind", "rounds"), [("cache", ROUNDS), ("fanout", max(ROUNDS // 5, 1))])
def test_many_processes_make_one_cache_without_an_error(tmp_path, kind, rounds):
    barrier = multiprocessing.get_context("fork").Barrier(PROCESSES)
    jobs = [(barrier, tmp_path, kind, name, rounds) for name in range(PROCESSES)]
    problems = in_processes(open_in_rounds, jobs, limit=50 + 10 * rounds)

    assert [problem for some in problems for problem in some] == []
    for number in range(rounds):
        with KINDS[kind](tmp_path / str(number)) as cache:
            assert {name: cache[name] for name in cache} == dict.fromkeys(range(PROCESSES), number)
            assert cache.check() == []
        for part in sorted((tmp_path / str(number)).glob("[0-9][0-9][0-9]")):
            assert_tidy(part)
        if kind == "cache":
            assert_tidy(tmp_path / str(number))


def open_and_read(barrier: Any, directory: Path, kind: str, rounds: int) -> None:
    for _ in range(rounds):
        barrier.wait(PATIENCE)
        with KINDS[kind](directory) as cache:
            assert cache["a"] == 1
            assert len(cache) == 2


def state(directory: Path) -> dict[str, tuple[object, ...]]:
    """Return what is in the directory: which files, when they were written, what is in them."""
    return {
        path.relative_to(directory).as_posix(): (
            path.stat().st_ino,
            path.stat().st_size,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_many_processes_open_an_existing_cache_and_write_nothing(directory, kind):
    with KINDS[kind](directory) as cache:
        cache["a"] = 1
        cache["large"] = b"x" * 100_000
    before = state(directory)
    barrier = multiprocessing.get_context("fork").Barrier(PROCESSES)
    in_processes(open_and_read, [(barrier, directory, kind, 3)] * PROCESSES, limit=PATIENCE)

    assert state(directory) == before


def test_log_that_each_left_to_the_other_is_removed(directory, monkeypatch):
    """Two processes that close at the same moment each find the other one there."""
    cache = Cache(directory)
    cache["a"] = 1
    answers = iter([False])
    real = host.lock
    monkeypatch.setattr(
        host, "lock", lambda *args, **how: next(answers, True) and real(*args, **how)
    )
    cache.close()

    assert next(answers, None) is None
    assert [path.name for path in directory.glob("cache.db*")] == ["cache.db"]
    with Cache(directory) as cache:
        assert cache["a"] == 1
    assert_tidy(directory)


def test_log_that_another_had_open_a_little_longer_is_removed(directory, monkeypatch):
    """It failed to lock the others out, and closed after the one who had done so."""
    cache = Cache(directory)
    cache["a"] = 1
    other = hardening.connect_to_judge(str(directory))
    assert other.execute("SELECT count(*) FROM Cache").get == 1
    monkeypatch.setattr(site.Site, "note_closed", lambda *_: other.close())
    cache.close()

    assert [path.name for path in directory.glob("cache.db*")] == ["cache.db"]
    with Cache(directory) as cache:
        assert cache["a"] == 1


def hold_or_open(barrier: Any, directory: Path, is_holder: bool) -> None:
    """Have a cache open, and look what becomes of its files while others open and close it."""
    if not is_holder:
        barrier.wait(PATIENCE)
        for _ in range(5):
            with Cache(directory) as cache:
                assert cache["a"] == 1
        barrier.wait(PATIENCE)
        return
    with Cache(directory) as cache:
        cache["large"] = b"y" * 100_000
        before = {directory / name: _outside(directory / name) for name in LASTING}
        barrier.wait(PATIENCE)
        barrier.wait(PATIENCE)

        assert {path: _outside(path) for path in before} == before


def test_opening_beside_one_who_has_it_open_writes_nothing(directory):
    with Cache(directory) as cache:
        cache["a"] = cache["large"] = 1
    barrier = multiprocessing.get_context("fork").Barrier(9)
    in_processes(hold_or_open, [(barrier, directory, number == 0) for number in range(9)])


def _outside(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
