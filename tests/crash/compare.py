"""The same kills for this version and for version 5.6.3, seen from outside.

    python -m tests.crash.compare --kills 60

Each round a process of its own, which uses only what both versions have, works on a directory and
is killed at any time; another one then says what is there. A line of figures per version.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LARGE = 40_000
ROUNDS = 10
"""Kills in one directory."""


def operations(seed: int) -> Any:
    """Yield operations: name, key, number of the value, whether it is large."""
    dice = random.Random(seed)
    number = seed * 1_000_000
    while True:
        number += 1
        name = dice.choices(["set", "delete", "incr", "transact"], [8, 2, 2, 2])[0]
        yield name, f"k{dice.randrange(12)}", number, dice.random() < 0.5


def value_of(number: int, is_large: bool) -> Any:
    return b"%d:" % number + b"x" * LARGE if is_large else [number, "small"]


def after(state: dict[str, Any], operation: Any) -> dict[str, Any]:
    name, key, number, is_large = operation
    if name == "delete":
        return {k: v for k, v in state.items() if k != key}
    if name == "incr":
        return {**state, "n": state.get("n", 0) + 1}
    return {**state, key: [number, is_large]}


def work(directory: str, seed: int) -> None:
    """Do operations until killed; a byte before and one behind each."""
    from diskcache import Cache

    cache = Cache(directory)
    os.write(1, b"o")
    for name, key, number, is_large in operations(seed):
        os.write(1, b"b")
        if name == "delete":
            cache.delete(key)
        elif name == "incr":
            cache.incr("n")
        elif name == "set":
            cache.set(key, value_of(number, is_large))
        else:
            with cache.transact():
                cache.delete(key)
                cache.set(key, value_of(number, is_large))
        os.write(1, b"e")


def look(directory: str) -> None:
    """Print what is there, as JSON."""
    from diskcache import Cache

    cache = Cache(directory, timeout=5)
    began = time.monotonic()
    cache.set("after", 1)
    cache.delete("after")
    waited = time.monotonic() - began
    found: dict[str, Any] = {}
    for key in list(cache):
        value = cache.get(key)
        if isinstance(value, bytes):
            number = int(value[: value.index(b":")]) if b":" in value else -1
            is_whole = value == value_of(number, True)
            found[key] = [number, True] if is_whole else "torn"
        else:
            found[key] = value if key == "n" else [value[0], False] if value else None
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        findings = [str(each.message) for each in cache.check()]
    cache.close()
    print(json.dumps({"found": found, "findings": findings, "waited": waited}))


def run(python: str, kills: int) -> dict[str, int]:
    """Kill *kills* processes of an interpreter; return what went wrong, and how often."""
    figures = dict.fromkeys(
        ("kills", "acknowledged", "lost", "wrong", "findings after", "stray after", "stuck"), 0
    )
    script = [python, str(Path(__file__).resolve())]
    dice = random.Random(1)
    seed = 0
    while figures["kills"] < kills:
        directory = tempfile.mkdtemp(prefix="diskcache-kills-")
        state: dict[str, Any] = {}
        for _ in range(ROUNDS):
            seed += 1
            child = subprocess.Popen(
                [*script, "work", directory, str(seed)], stdout=subprocess.PIPE
            )
            assert child.stdout is not None
            assert child.stdout.read(1) == b"o"
            time.sleep(dice.uniform(0, 0.1))
            child.send_signal(signal.SIGKILL)
            report = child.stdout.read()
            child.wait()
            child.stdout.close()
            figures["kills"] += 1
            done = report.count(b"e")
            figures["acknowledged"] += done
            told = operations(seed)
            for _ in range(done):
                state = after(state, next(told))
            outcomes = [state]
            if report.endswith(b"b"):
                outcomes.append(after(state, next(told)))
            answer = json.loads(subprocess.check_output([*script, "look", directory]))
            found = answer["found"]
            figures["stuck"] += answer["waited"] > 1
            figures["findings after"] += bool(answer["findings"])
            figures["stray after"] += any("nknown file" in each for each in answer["findings"])
            figures["wrong"] += "torn" in found.values()
            if found not in outcomes:
                figures["lost"] += 1
            state = found
        shutil.rmtree(directory)
    return figures


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from environment import old_python

    for version, python in (("6", sys.executable), ("5.6.3", old_python())):
        figures = run(python, args.kills)
        print(version, ", ".join(f"{name} {count}" for name, count in figures.items()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["look"]:
        look(sys.argv[2])
    else:
        main()
