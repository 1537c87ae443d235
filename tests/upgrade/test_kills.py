"""A kill at any step of an upgrade leaves the old directory or the new one, and both are usable."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from diskcache import Cache, FanoutCache
from diskcache.engines.sqlite import upgrade
from diskcache.fanout import upgrading
from tests.crash.story import die
from tests.support.leaks import assert_tidy

ENTRIES = {
    **{(number, "k"): [number] for number in range(1100)},
    **{f"text {number}": number for number in range(50)},
    "file": "x" * 50_000,
    "pickled file": list(range(20_000)),
}

STEPS = {
    "taken": True, "copied": True, "kept": True, "begun": True, "altered": True,
    "converted": True, "indexed": True, "finished": True, "committed": False, "closed": False,
}  # fmt: skip
"""Each step of an upgrade, and whether the directory is still the old one if it ends there."""


def killed_at(module, step, open_it, countdown=1):
    """Open a cache in a process that dies when it reaches *step*; tell whether it did."""
    pid = os.fork()
    if pid == 0:
        left = countdown

        def reached(name):
            nonlocal left
            left -= name == step
            if not left:
                die()

        with contextlib.suppress(BaseException):
            module.reached = reached
            open_it()
        os._exit(0)
    deadline = time.monotonic() + 60
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return os.WIFSIGNALED(ended[1])


def found_by_old(old, directory):
    return old.run(
        "cache = diskcache.Cache(directory)\nresult = {key: cache[key] for key in cache}\n"
        "warnings = cache.check()\ncache.close(); del cache",
        directory=str(directory),
    )


@pytest.mark.parametrize("step", STEPS)
def test_kill_at_a_step_leaves_the_old_or_the_new_directory(fill, old, directory, step):
    fill(ENTRIES, eviction_policy="none")

    assert killed_at(upgrade, step, lambda: Cache(directory))

    if STEPS[step]:
        assert found_by_old(old, directory) == ENTRIES
    with Cache(directory) as cache:
        assert {key: cache[key] for key in cache} == ENTRIES
        assert list(cache) == list(ENTRIES)
        cache["after"] = "the crash"
        cache.check(fix=True)
        assert cache.check() == []
    assert_tidy(directory)


def test_kill_between_batches_leaves_the_old_directory(fill, old, directory):
    fill(ENTRIES)
    assert killed_at(upgrade, "converted", lambda: Cache(directory), countdown=2)
    assert found_by_old(old, directory) == ENTRIES


def test_kill_without_a_log_leaves_the_old_directory(fill, old, directory):
    entries = {(number, "k"): [number] for number in range(50)}
    fill(entries, sqlite_journal_mode="delete", sqlite_synchronous=0)
    assert killed_at(upgrade, "finished", lambda: Cache(directory))
    assert os.path.getsize(directory / "cache.db-journal") > 0

    with Cache(directory) as cache:
        assert {key: cache[key] for key in cache} == entries


def test_kill_after_the_commit_leaves_no_dropped_files(old, directory):
    old.run(
        "cache = diskcache.Cache(directory)\ns, t = 'ab', ''.join(['a', 'b'])\n"
        "cache[(s, s)] = 'x' * 50_000; cache[(s, t)] = 1; cache.close()",
        directory=str(directory),
    )
    assert killed_at(upgrade, "closed", lambda: Cache(directory))

    with Cache(directory) as cache:
        assert cache["ab", "ab"] == 1
        cache["after"] = "the crash"
        assert cache.check() == []
    assert_tidy(directory)


@pytest.mark.parametrize(
    ("module", "step", "countdown"),
    [
        (upgrade, "committed", 1),
        (upgrade, "begun", 3),
        (upgrading, "stored", 1),
        (upgrading, "stored", 3),
        (upgrading, "moved", 2),
    ],
)
def test_kill_while_shards_are_upgraded_is_taken_up(old, directory, module, step, countdown):
    entries = {(number, "k"): [number, "x" * 100] for number in range(200)}
    entries |= {number / 2: "y" * 40_000 for number in range(20)}
    old.run(
        "cache = diskcache.FanoutCache(directory, shards=4)\n"
        "for key, value in entries.items(): cache[key] = value\ncache.close(); del cache",
        directory=str(directory), entries=entries,
    )  # fmt: skip
    assert killed_at(module, step, lambda: FanoutCache(directory), countdown)

    with FanoutCache(directory) as cache:
        assert len(cache) == len(entries)
        assert {key: cache[key] for key in entries} == entries
        cache["after"] = 1
        assert cache.check() == []
    for shard in directory.iterdir():
        assert_tidy(shard)
