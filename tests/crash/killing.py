"""Processes that are killed while they work on a directory, and what is found there afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diskcache import Cache
from tests.crash import scenarios
from tests.support.clock import ManualClock
from tests.support.leaks import assert_tidy, value_files

LIMIT = 60.0
"""Seconds after which a child is taken for hung."""
STUCK = 40.0
"""Seconds after which a lock is taken for stuck."""


class Child:
    """A forked process that does *operations* in a directory, and what it said of it.

    What it has done it says through a pipe, one byte before and one behind each operation: the
    state that is expected is kept outside the cache.
    """

    def __init__(
        self,
        directory: Path,
        operations: Iterator[Any],
        prepare: Callable[[], None] = lambda: None,
        scenario: scenarios.Scenario = scenarios.CACHE,
    ) -> None:
        self._scenario = scenario
        self._report, sender = os.pipe()
        self.told, operations = itertools.tee(operations)
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                _work(scenario, str(directory), operations, sender, prepare)
            os._exit(1)
        os.close(sender)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> bytes:
        """Wait for the end of the process and return what it reported."""
        deadline = time.monotonic() + LIMIT
        while (ended := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                self.kill()
                os.waitpid(self.pid, 0)
                raise AssertionError(f"a process hangs after {LIMIT} s")
            time.sleep(0.001)
        chunks = iter(lambda: os.read(self._report, 65536), b"")
        report = b"".join(chunks)
        os.close(self._report)

        assert os.WIFSIGNALED(ended[1]), "a process failed before it was killed"
        return report

    def outcomes(self, state: Any) -> list[Any]:
        """Return what may be left: without and with the operation that was under way."""
        report = self.wait()
        for operation in itertools.islice(self.told, report.count(b"e")):
            state = self._scenario.after(state, operation)
        if report.endswith(b"b"):
            return [state, self._scenario.after(state, next(self.told))]
        return [state]


def _work(
    scenario: scenarios.Scenario,
    directory: str,
    operations: Iterator[Any],
    report: int,
    prepare: Callable[[], None],
) -> None:
    prepare()
    target = scenario.open(directory)
    os.write(report, b"o")
    for operation in operations:
        os.write(report, b"b")
        scenario.perform(target, operation)
        os.write(report, b"e")


def recovered(directory: Path, scenario: scenarios.Scenario = scenarios.CACHE) -> Any:
    """Open the directory and return what is in it, after all the checks that a user could do."""
    began = time.monotonic()
    target = scenario.open(str(directory))
    try:
        found = scenario.content(target)
        scenario.write_once(target)

        # The holder is dead: a lock that is stuck stays so, while a busy machine takes its time.
        assert time.monotonic() - began < STUCK, "a lock is stuck"
        assert scenario.agrees(scenario.content(target), found)
    finally:
        scenario.close(target)
    for part in scenario.parts(directory):
        assert_exact(part)
    return found


def assert_exact(directory: Path) -> None:
    """Fail if a cache is not sound, or if its totals are not those of a recount."""
    with Cache(directory, timeout=20) as cache:
        cache["after"] = "the crash"
        assert cache.pop("after") == "the crash"
        assert [str(finding.message) for finding in cache.check()] == []
        assert len(cache) == sum(1 for _ in cache.iterkeys())
        cache.volume()
        assert cache.size == sum(path.stat().st_size for path in value_files(directory))


def assert_sweeps(directory: Path, scenario: scenarios.Scenario = scenarios.CACHE) -> None:
    """Fail if a repair, a minute later, does not remove what lies in `tmp/`."""
    for part in scenario.parts(directory):
        with Cache(part, clock=ManualClock(time.time() + 120)) as cache:
            assert cache.check(fix=True) == []
        assert_tidy(part)
