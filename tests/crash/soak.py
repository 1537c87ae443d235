"""Kill processes, one after the other, until there are enough of them or the time is up.

    python -m tests.crash.soak --kills 10000 --seconds 600

Each round takes a scenario, lets a process work on its directory and kills it: at a named point,
or at any time. Then the directory is opened and looked through; see `killing`. Twenty rounds in one
directory, then another one. The first violation ends the run, names its seed, and keeps the
directory. The last line of the output is the figures.
"""

from __future__ import annotations

import argparse
import collections
import functools
import logging
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from diskcache.engines.sqlite import failpoints
from tests.crash import faults, scenarios
from tests.crash.killing import Child, assert_sweeps, recovered

POINTS = [*faults.NAMED, "in_recovery", "in_checkpoint"]
ROUNDS = 20
"""Kills in one directory."""


def tell(directory: Path, scenario: scenarios.Scenario, seed: int, deaths: list[str]) -> None:
    """Kill some processes in a directory, and look at it after each."""
    dice = random.Random(seed)
    state = scenario.empty
    for number in range(ROUNDS):
        operations = scenario.operations(seed * ROUNDS + number)
        if dice.random() < 0.5:
            point = dice.choice(POINTS)
            arm = functools.partial(failpoints.arm, point, _times(point, dice))
            child = Child(directory, operations, arm, scenario)
            # Not every scenario comes by every point.
            _kill_after(child, 0.25)
        else:
            point = "any time"
            child = Child(directory, operations, scenario=scenario)
            time.sleep(dice.uniform(0, 0.08))
            child.kill()
        outcomes = child.outcomes(state)
        deaths.append(point)
        found = recovered(directory, scenario)

        assert scenarios.is_allowed(scenario, found, outcomes), (
            point,
            _difference(found, outcomes),
        )
        state = found
    assert_sweeps(directory, scenario)


def _times(point: str, dice: random.Random) -> int:
    """Return at which time the process dies at a point."""
    return dice.randint(1, 2) if point == "in_recovery" else dice.randint(1, 30)


def _kill_after(child: Child, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _has_ended(child.pid):
            return
        time.sleep(0.001)
    child.kill()


def _has_ended(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return status == "Z"


def _difference(found: object, outcomes: list[object]) -> str:
    if not isinstance(found, dict):
        return f"{str(found)[:200]} is none of {str(outcomes)[:400]}"
    expected = outcomes[0]
    assert isinstance(expected, dict)
    keys = {k for k in {*found, *expected} if found.get(k) != expected.get(k)}
    return ", ".join(
        f"{key}: found {str(found.get(key))[:30]}, expected {str(expected.get(key))[:30]}"
        for key in sorted(keys)
    )


def main() -> int:
    """Run the soak; return 0 if nothing was violated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    # Small limits are part of it: that young entries go is no news.
    logging.getLogger("diskcache").setLevel(logging.ERROR)
    began = time.monotonic()
    deaths: list[str] = []
    seed = args.seed
    while len(deaths) < args.kills and time.monotonic() - began < args.seconds:
        seed += 1
        root = Path(tempfile.mkdtemp(prefix="diskcache-soak-"))
        scenario = scenarios.ALL[seed % len(scenarios.ALL)]
        try:
            tell(root / "cache", scenario, seed, deaths)
        except AssertionError as exc:
            print(f"VIOLATED after {len(deaths)} kills, seed {seed}, {scenario.name}: {exc}")
            print(f"the directory is kept: {root}")
            return 1
        shutil.rmtree(root)
    took = time.monotonic() - began
    by_point = ", ".join(f"{n} {name}" for name, n in collections.Counter(deaths).most_common())
    print(f"deaths: {by_point}")
    print(
        f"{len(deaths)} kills in {took:.0f} s ({len(deaths) / took:.1f} per second), seed"
        f" {args.seed}: 0 acknowledged writes lost, 0 values wrong, totals exact, no stray file,"
        " no stuck lock"
    )
    return 0


if __name__ == "__main__":
    if not hasattr(signal, "SIGKILL"):
        sys.exit("needs SIGKILL")
    sys.exit(main())
