"""A directory that is removed under a live cache can be made anew at once, and stays sound.

Properties: whatever an object of the old directory goes on doing (write, end a transaction, close,
be collected, exit), the new one loses nothing and holds nothing foreign; its log stays in place;
within a second the old object works on the new directory, or says that there is none.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import time

import pytest

from diskcache import Cache
from tests.support.crew import run_script
from tests.support.leaks import assert_tidy, open_below

LARGE = b"x" * 40_000

READ = """
import sys
from diskcache import Cache
with Cache(sys.argv[1]) as cache:
    assert {key: len(cache[key]) for key in cache} == {n: 40_000 for n in range(int(sys.argv[2]))}
"""


@pytest.fixture(autouse=True)
def sound(directory):
    """Whatever happened, the directory is sound, and nobody has it open."""
    yield
    with Cache(directory) as cache:
        assert [str(finding.message) for finding in cache.check()] == []
    gc.collect()
    assert open_below(directory) == []
    assert_tidy(directory)


def filled(directory):
    cache = Cache(directory)
    for number in range(20):
        cache["old", number] = LARGE
    cache["old"] = 1
    return cache


def use(old):
    """Do with the old object what would damage the new directory if it did not look."""
    old.set("old", 2)
    old.set(("old", 1), LARGE)
    old.delete(("old", 2))
    old.incr("n")
    old.get(("old", 3))
    old.push(LARGE, prefix="q")


ENDS = {
    "close": lambda old: old.close(),
    "use and close": lambda old: (use(old), old.close()),
    "collect": lambda _: None,
    "clear": lambda old: (old.clear(), old.close()),
    "check": lambda old: (old.check(fix=True), old.close()),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("pause", [0, 0.7])
def test_new_cache_is_not_damaged_by_an_object_of_the_old_directory(directory, end, pause):
    """The old object may still write to what was removed, but for a moment only."""
    old = filled(directory)
    shutil.rmtree(directory)
    with Cache(directory) as new:
        for number in range(10):
            new[number] = LARGE
        time.sleep(pause)
        if pause and end != "collect":
            assert old.get(3) == LARGE
            assert ("old", 3) not in old
        else:
            ENDS[end](old)
        del old
        gc.collect()
        own = [key for key in new if type(key) is int]
        if end != "clear":
            assert own == list(range(10))
        new.clear()
        for number in range(12):
            new[number] = LARGE

        assert new.check() == []
        assert os.path.exists(directory / "cache.db-wal")
        ended = run_script(READ, directory, 12)

        assert ended.returncode == 0, ended.stderr


def test_new_cache_is_not_damaged_by_a_transaction_in_the_old_directory(directory):
    old = filled(directory)
    with old.transact():
        old["old", 1] = LARGE + b"1"
        old["small"] = 1
        shutil.rmtree(directory)
        new = Cache(directory)
        for number in range(10):
            new[number] = LARGE
    old.close()
    for number in range(10, 12):
        new[number] = LARGE

    assert list(new) == list(range(12))
    assert new.check() == []
    assert run_script(READ, directory, 12).returncode == 0
    new.close()


def test_file_of_a_transaction_in_the_old_directory_does_not_go_astray(directory):
    old = filled(directory)
    with pytest.raises(FileNotFoundError), old.transact():
        shutil.rmtree(directory)
        new = Cache(directory)
        new[0] = LARGE
        old["old", 1] = LARGE + b"1"
    old.close()

    assert list(new) == [0]
    assert new.check() == []
    new.close()


def test_file_whose_directory_is_replaced_at_the_last_moment_leaves_no_folder(
    directory, monkeypatch
):
    old = filled(directory)
    publish = type(old._files).publish
    made = []

    def replace_first(files, staged):
        if not made:
            shutil.rmtree(directory)
            made.append(Cache(directory))
        publish(files, staged)

    monkeypatch.setattr(type(old._files), "publish", replace_first)
    with pytest.raises(FileNotFoundError):
        old["a"] = LARGE
    old.close()
    (new,) = made

    assert [str(finding.message) for finding in new.check()] == []
    new.close()


OLD = """
import contextlib, select, sys, time
from diskcache import Cache
cache = Cache(sys.argv[1])
for number in range(20):
    cache["old", number] = b"x" * 40_000
print("ready", flush=True)
deadline = time.monotonic() + 60
number = 0
while time.monotonic() < deadline and not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    with contextlib.suppress(FileNotFoundError):
        cache["old", number % 7] = b"x" * (40_000 + number)
        cache["small", number % 7] = number
        cache.get(("old", 3))
"""


def test_new_cache_is_not_damaged_by_another_process_that_goes_on(directory, tmp_path):
    """The other process notices, and its later writes are in the new directory."""
    other = subprocess.Popen(
        [sys.executable, "-c", OLD, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout.readline() == b"ready\n"
        while directory.exists():
            # The other process goes on making folders in it.
            shutil.rmtree(directory, ignore_errors=True)
        with Cache(directory) as new:
            for number in range(10):
                new[number] = LARGE
            deadline = time.monotonic() + 60
            while len(new) < 24 and time.monotonic() < deadline:
                time.sleep(0.05)
            other.stdin.close()
            assert other.wait(60) == 0

            assert [key for key in new if type(key) is int] == list(range(10))
            assert len([key for key in new if type(key) is tuple]) == 14
            assert [str(finding.message) for finding in new.check()] == []
    finally:
        other.kill()
        other.wait()
        other.stdin.close()
        other.stdout.close()


def test_old_object_says_that_the_directory_is_gone(directory):
    with Cache(directory) as old:
        old["a"] = 1
        shutil.rmtree(directory)
        time.sleep(0.7)
        with pytest.raises(FileNotFoundError):
            old["b"] = 2
        with pytest.raises(FileNotFoundError):
            old.get("a")


def test_many_generations_of_one_path_leave_nothing_behind(directory):
    kept = []
    for generation in range(20):
        cache = Cache(directory)
        cache["generation"] = generation
        cache["large"] = LARGE
        kept.append(cache)
        if generation % 3 == 0:
            kept.pop(0).close()
        assert list(cache) == ["generation", "large"]
        shutil.rmtree(directory)
    with Cache(directory) as last:
        last["a"] = LARGE
        while kept:
            kept.pop().close()

        assert last["a"] == LARGE
        assert last.check() == []
