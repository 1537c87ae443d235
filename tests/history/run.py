"""Have several processes use the same caches, kill some of them, and check what they recorded.

    python -m tests.history.run [--operations N] [--seconds S] [--kills N] [--mutation NAME]

Prints what was done and how long it took; exits with 1 if the history cannot be explained.
"""

from __future__ import annotations

import argparse
import itertools
import mmap
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from tests.history import records, worker
from tests.history.checker import Violation, check
from tests.history.records import (
    ACTIONS,
    CLEARED,
    EVERYWHERE,
    EVICTED,
    GET,
    KEYED,
    UNDONE,
    Operation,
    Part,
)

ROOT: Final = Path(__file__).resolve().parents[2]
PROCESSES: Final = 4
LIMIT: Final = 1800.0
"""Seconds after which workers that do not come to an end are killed."""
GROUPS: Final = range(worker.LIMITED.stop)


class Report(NamedTuple):
    """What came of it."""

    operations: int
    """Calls, and parts of transactions."""
    by_name: Counter[str]
    kills: int
    unanswered: int
    """Operations that their process was killed in."""
    violations: list[Violation]
    findings: list[str]
    """What the caches themselves found wrong in the end."""
    failures: list[str]
    """What workers that were not killed had to say."""
    run_time: float
    check_time: float

    @property
    def is_sound(self) -> bool:
        return not (self.violations or self.findings or self.failures)

    def __str__(self) -> str:
        """Return a few lines for a person."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.by_name.most_common())
        lines = [
            (
                f"{self.operations:,} operations by {PROCESSES} processes of {worker.THREADS}"
                f" threads in {self.run_time:.1f} s: {counts}"
            ),
            f"{self.kills} processes killed, {self.unanswered} of their operations unanswered",
            f"checked in {self.check_time:.1f} s: {len(self.violations)} violations",
        ]
        return "\n".join([*lines, *map(str, self.violations[:5]), *self.findings, *self.failures])


class Crew:
    """The processes."""

    def __init__(self, directory: Path, seed: str, mutation: str) -> None:
        self.directory = directory
        self.records = directory / "records"
        self.records.mkdir()
        self._seed, self._mutation = seed, mutation
        with (self.records / "progress").open("w+b") as file:
            file.truncate(worker.PROGRESS)
            self._progress = memoryview(mmap.mmap(file.fileno(), worker.PROGRESS)).cast("Q")
        self._serials = itertools.count()
        self.alive: dict[int, subprocess.Popen[str]] = {}
        self.deaths: dict[int, int] = {}
        self.failures: list[str] = []

    def start(self) -> None:
        """Start one more process."""
        serial = next(self._serials)
        names = [self.directory, self.records, serial, self._seed]
        if self._mutation:
            names.append(self._mutation)
        self.alive[serial] = subprocess.Popen(
            [sys.executable, "-m", "tests.history.worker", *map(str, names)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self, serial: int) -> None:
        """Kill a process; what it was doing can have happened until now."""
        process = self.alive.pop(serial)
        process.kill()
        process.communicate()
        self.deaths[serial] = time.monotonic_ns()

    def stop(self) -> None:
        """Have all processes come to an end."""
        self._progress[0] = 1
        for serial, process in self.alive.items():
            _, errors = process.communicate(timeout=60)
            self.deaths[serial] = time.monotonic_ns()
            if process.returncode:
                self.failures.append(f"worker {serial} ended with {process.returncode}: {errors}")

    def close(self) -> None:
        """Leave nothing running."""
        for process in self.alive.values():
            process.kill()
            process.communicate()
        self._progress.release()

    @property
    def done(self) -> int:
        return sum(self._progress[1:])

    @property
    def has_stopped(self) -> bool:
        return bool(self._progress[0])


def run(
    directory: Path,
    *,
    operations: int,
    seconds: float = LIMIT,
    kills: int = 0,
    seed: str = "",
    mutation: str = "",
    checkers: int = 1,
) -> Report:
    """Record a history of at least so many operations, or of so many seconds, and check it."""
    seed = seed or str(random.randrange(2**32))
    crew = Crew(directory, seed, mutation)
    began = time.monotonic()
    try:
        for cache in worker.open_caches(directory):
            cache.close()
        for _ in range(PROCESSES):
            crew.start()
        _watch(crew, operations, began + seconds, kills, random.Random(seed))
        killed = len(crew.deaths)
        crew.stop()
    finally:
        crew.close()
    run_time = time.monotonic() - began
    last, findings = _last_look(directory)
    began = time.monotonic()
    history, by_name, unanswered = _gather(crew, last)
    violations = _check(history, checkers)
    return Report(
        by_name.total(),
        by_name,
        killed,
        unanswered,
        violations,
        findings,
        crew.failures,
        run_time,
        time.monotonic() - began,
    )


def _watch(crew: Crew, operations: int, deadline: float, kills: int, dice: random.Random) -> None:
    """Kill a process now and then, until enough is done and enough are killed."""
    killed = 0
    while (
        (crew.done < operations or killed < kills)
        and not crew.has_stopped
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
        if killed < kills and crew.done > operations * (killed + 1) / (kills + 1):
            crew.kill(dice.choice(sorted(crew.alive)))
            crew.start()
            killed += 1


def _last_look(directory: Path) -> tuple[list[Operation], list[str]]:
    """Read every key once more, when all processes have ended; and have the caches checked."""
    last, findings = [], []
    caches = worker.open_caches(directory)
    for group in GROUPS:
        cache = caches[group in worker.LIMITED]
        for key in range(worker.keys_of(group)):
            began = time.monotonic_ns()
            number = worker.number_of(cache.get(worker.key_of(group, key)))
            parts = (Part(key, GET, 0, number),)
            last.append(Operation(KEYED, group, began, time.monotonic_ns(), parts))
    for cache in caches:
        findings += [str(finding.message) for finding in cache.check()]
        cache.close()
    return last, findings


_Group = list[tuple[Operation, int]]


def _gather(crew: Crew, last: list[Operation]) -> tuple[dict[int, _Group], Counter[str], int]:
    """Return the operations of each group, with the moment until which they can have happened."""
    history: dict[int, _Group] = defaultdict(list)
    by_name: Counter[str] = Counter()
    unanswered = 0
    streams = [(crew.deaths[_serial(path)], records.read(path)) for path in _files(crew)]
    for death, stream in [*streams, (0, iter(last))]:
        for operation in stream:
            unanswered += not operation.responded
            by_name.update(_names(operation))
            for group in _groups(operation):
                history[group].append((operation, death))
    return history, by_name, unanswered


def _files(crew: Crew) -> list[Path]:
    return sorted(path for path in crew.records.iterdir() if path.name != "progress")


def _serial(path: Path) -> int:
    return int(path.name.split("-")[0])


def _names(operation: Operation) -> list[str]:
    if operation.kind in (CLEARED, EVICTED):
        return ["clear" if operation.kind == CLEARED else "evict"]
    names = [ACTIONS[part.action] for part in operation.parts]
    return [*names, "rollback"] if operation.kind == UNDONE else names


def _groups(operation: Operation) -> list[int]:
    """Return the groups that an operation concerns."""
    if operation.group != EVERYWHERE:
        return [operation.group]
    if operation.parts[0].key == worker.CULLED:
        return list(worker.LIMITED)
    whole = [group for group in GROUPS if group not in worker.LIMITED]
    if operation.kind == EVICTED:
        return [group for group in whole if group not in worker.COUNTERS]
    return whole


def _check_group(given: tuple[int, _Group]) -> Violation | None:
    group, operations = given
    is_culled = group in worker.LIMITED
    return check(operations, group, worker.keys_of(group), vanishing=is_culled)


def _check(history: dict[int, _Group], checkers: int) -> list[Violation]:
    given = sorted(history.items(), key=lambda item: -len(item[1]))
    if checkers == 1:
        found = list(map(_check_group, given))
    else:
        with ProcessPoolExecutor(checkers) as pool:
            found = list(pool.map(_check_group, given))
    return [violation for violation in found if violation is not None]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=LIMIT)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", default="")
    parser.add_argument("--mutation", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="history-") as directory:
        report = run(Path(directory), checkers=os.cpu_count() or 1, **vars(given))
    print(report)
    sys.exit(0 if report.is_sound else 1)


if __name__ == "__main__":
    main()
