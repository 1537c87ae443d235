"""How long the upgrade of a version-5 directory takes.

The directories are made by version 5.6.3 itself (see environment.py), one for each kind of entry;
each round upgrades a fresh copy. Opening the upgraded directory again is measured beside it.

    python benchmarks/upgrade.py [--entries N] [--rounds N] [--old-python PATH] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import environment

FILL = """
import diskcache, sys
directory, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
make = {
    'native': lambda n: ('key %d' % n, 'value of %d' % n),
    'pickled values': lambda n: ('key %d' % n, {'id': n, 'name': 'n%d' % n, 'tags': ['a', 'b']}),
    'pickled keys': lambda n: (('mod.function', n, None), n),
    'objects': lambda n: ('key %d' % n, complex(n, n)),
}[kind]
cache = diskcache.Cache(directory, cull_limit=0, sqlite_synchronous=0)
for start in range(0, count, 10_000):
    with cache.transact():
        for n in range(start, min(start + 10_000, count)):
            key, value = make(n)
            cache[key] = value
cache.close()
"""
OPEN = """
import diskcache, json, resource, sys, time
started = time.perf_counter()
cache = diskcache.Cache(sys.argv[1])
took = time.perf_counter() - started
entries = len(cache)
cache.close()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([took, entries, peak]))
"""
KINDS = ("native", "pickled values", "pickled keys", "objects")


def opened(directory: Path) -> list[float]:
    """Open a directory in a process of its own: seconds, entries, most memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(directory)], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def measure(python: str, kind: str, entries: int, rounds: int, room: Path) -> dict[str, Any]:
    """Return the figures of one kind of entry."""
    source, copy = room / "source", room / "copy"
    subprocess.run([python, "-I", "-c", FILL, str(source), kind, str(entries)], check=True)
    size = sum(path.stat().st_size for path in source.rglob("*")) / 2**20
    upgrades, again, peaks = [], [], []
    for _ in range(rounds):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
        seconds, found, peak = opened(copy)
        assert found == entries
        upgrades.append(seconds)
        peaks.append(peak)
        again.append(opened(copy)[0])
    after = (copy / "cache.db").stat().st_size / 2**20
    shutil.rmtree(source)
    shutil.rmtree(copy)
    return {
        "entries": f"{entries:,} {kind}",
        "seconds": min(upgrades),
        "us per entry": min(upgrades) / entries * 1e6,
        "open again, ms": min(again) * 1e3,
        "MiB before": size,
        "MiB after": after,
        "peak memory, MiB": max(peaks),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--old-python", help="interpreter with version 5.6.3")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    try:
        python = args.old_python or environment.old_python()
    except environment.EnvironmentProblemError as exc:
        print(exc, file=sys.stderr)
        return 2
    rows = []
    started = perf_counter()
    for kind in args.kinds:
        with tempfile.TemporaryDirectory(prefix="diskcache-bench-") as room:
            rows.append(measure(python, kind, args.entries, args.rounds, Path(room)))
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        cells = [cell if isinstance(cell, str) else f"{cell:.1f}" for cell in row.values()]
        print("| " + " | ".join(cells) + " |")
    print(f"\n{perf_counter() - started:.0f} s in all", file=sys.stderr)
    if args.json:
        facts = environment.machine(tempfile.gettempdir())
        args.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
