"""A variable has processes die at named points; without it nothing of that is there."""

from __future__ import annotations

import signal

import pytest

from diskcache import Cache
from diskcache.engines.sqlite import failpoints
from tests.support.crew import run_script

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")

WRITE = """
import sys
from diskcache import Cache
cache = Cache(sys.argv[1])
for number in range(20):
    cache[number] = b'x' * 40_000
    cache[number] = b'y' * 40_000
    print(number, flush=True)
"""


RARE = {"in_recovery", "in_upgrade", "in_quarantine"}
"""Points that a process does not come by without a reason."""


@pytest.mark.parametrize("point", [name for name in failpoints.POINTS if name not in RARE])
def test_process_dies_at_the_point_that_the_variable_names(directory, monkeypatch, point):
    monkeypatch.setenv(failpoints.VARIABLE, f"{point}:2")
    done = run_script(WRITE, directory)

    assert done.returncode == -signal.SIGKILL
    monkeypatch.delenv(failpoints.VARIABLE)
    acknowledged = [int(line) for line in done.stdout.split()]
    with Cache(directory, timeout=20) as cache:
        assert [cache.get(number) for number in acknowledged] == [b"y" * 40_000] * len(acknowledged)
        cache["more"] = 1
        assert cache.check() == []


def test_recovery_that_dies_is_recovered_from(directory, monkeypatch):
    for text in ("after_commit:3", "in_recovery:1", "in_recovery:2"):
        monkeypatch.setenv(failpoints.VARIABLE, text)
        assert run_script(WRITE, directory).returncode == -signal.SIGKILL
    with Cache(directory) as cache:
        cache["more"] = 1
        assert len(cache) == sum(1 for _ in cache)
        assert cache.check() == []


def test_without_the_variable_the_module_is_not_imported(directory):
    text = """
import sys
from diskcache import Cache
Cache(sys.argv[1]).set('a', 1)
print('diskcache.engines.sqlite.failpoints' in sys.modules)
"""
    assert run_script(text, directory).stdout == "False\n"


@pytest.mark.parametrize("text", ["nowhere", "after_commit:often", "after_commit,nowhere:2"])
def test_unknown_point_is_an_error_that_names_those_that_there_are(directory, monkeypatch, text):
    monkeypatch.setenv(failpoints.VARIABLE, text)
    done = run_script(WRITE, directory)

    assert done.returncode == 1
    assert "SettingError" in done.stderr
    assert "after_rename" in done.stderr


def test_every_point_says_where_it_is():
    assert all(function.__doc__ for function in failpoints.POINTS.values())
