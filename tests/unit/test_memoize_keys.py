"""Keys of memoized calls are the same bytes in every process and every version of Python.

They are recorded here: a directory that is filled under one version is read under another, so none
may ever change. What other interpreters on this machine make is compared with them, too.

`DISKCACHE_PYTHONS` names more interpreters, with colons between.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import diskcache
from diskcache import Cache, FanoutCache, Index
from tests.support import memoize_keys

RECORDED = json.loads(Path(__file__).with_name("memoize_keys.json").read_text(encoding="utf-8"))
"""Key in the database, `raw`, and number of one of eight shards; by kind and name of the call."""

PYTHONS = os.environ.get("DISKCACHE_PYTHONS", "").split(os.pathsep)
"""Interpreters to compare with, besides those that are found."""
ROOT = Path(diskcache.__file__).parents[1]
NEEDED = "import apsw, ormsgpack"


def others():
    """Return interpreters of other versions that can run the library."""
    found = [shutil.which(f"python3.{minor}") for minor in range(11, 16)]
    able = []
    for path in dict.fromkeys(filter(None, [*PYTHONS, *found])):
        asked = f"{NEEDED}; import sys; print(sys.version_info[:2])"
        answer = subprocess.run([path, "-c", asked], capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip() != str(sys.version_info[:2]):
            able.append(path)
    return able


def made_by(python, seed):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
    answer = subprocess.run(
        [python, memoize_keys.__file__],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(answer.stdout)


@pytest.mark.parametrize("kind", ["plain", "typed"])
def test_keys_are_those_that_were_recorded(kind):
    assert memoize_keys.made(kind == "typed") == RECORDED[kind]


@pytest.mark.parametrize("seed", ["1", "2"])
def test_keys_of_another_process_are_those_that_were_recorded(seed):
    assert made_by(sys.executable, seed) == RECORDED


def test_keys_of_other_versions_of_python_are_those_that_were_recorded():
    pythons = others()
    if not pythons:
        pytest.skip("no other interpreter here has apsw and ormsgpack")

    assert {python: made_by(python, "3") == RECORDED for python in pythons} == dict.fromkeys(
        pythons, True
    )


@pytest.mark.parametrize("typed", [False, True])
def test_every_class_makes_the_same_keys_and_finds_results_by_them(tmp_path, typed):
    calls = []

    def double(number):
        calls.append(number)
        return None if number == 3 else number * 2

    with (
        Cache(tmp_path / "cache") as cache,
        FanoutCache(tmp_path / "fanout", 4) as fanout,
        Index(tmp_path / "index") as index,
    ):
        decorated = [owner.memoize(typed=typed)(double) for owner in (cache, fanout, index)]

        assert [[func(number) for number in (2, 3, 2, 3)] for func in decorated] == [
            [4, None, 4, None]
        ] * 3
        assert calls == [2, 3] * 3
        assert len({func.__cache_key__(2) for func in decorated}) == 1
        assert {func.__wrapped__ for func in decorated} == {double}
        for owner, func in zip((cache, fanout, index), decorated, strict=True):
            assert owner[func.__cache_key__(2)] == 4
            assert owner[func.__cache_key__(3)] is None
