"""A stampede: processes that ask for one key that expires again and again.

For each way to cache it: how often it was computed, how long callers waited, how old what they got
was. `--plot FILE` draws the latencies (needs matplotlib).

    python benchmarks/stampede.py --seconds 12 --processes 8 --plot stampede.svg
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path

HERE = Path(__file__).resolve().parent
COST = 0.2
LIFE = 1.0
PAUSE = 0.006

WAYS = {
    "5.6.3 memoize": (5, "cache.memoize(name='f', expire=LIFE)(compute)"),
    "5.6.3 memoize_stampede": (5, "memoize_stampede(cache, LIFE, name='f')(compute)"),
    "memoize": (6, "cache.memoize(name='f', expire=LIFE)(compute)"),
    "memoize_stampede": (6, "memoize_stampede(cache, LIFE, name='f')(compute)"),
    "lock": (6, "cache.memoize(name='f', expire=LIFE, lock=True)(compute)"),
    "lock, grace": (6, "cache.memoize(name='f', expire=LIFE, lock=True, grace=60)(compute)"),
    "lock, refresh": (
        6,
        "cache.memoize(name='f', expire=LIFE, lock=True, refresh=0.5)(compute)",
    ),
}

WORKER = """
import json, sys, threading, time
from diskcache import Cache, memoize_stampede
directory, calls, *numbers = sys.argv[1:]
start, seconds, COST, LIFE, PAUSE = map(float, numbers)
cache = Cache(directory)
def compute():
    with open(calls, 'a') as file:
        file.write('x')
    time.sleep(COST)
    return time.time()
function = {way}
while time.time() < start:
    time.sleep(0.001)
end = start + seconds
latencies, ages = [], []
while (now := time.time()) < end:
    began = time.perf_counter()
    made = function()
    latencies.append(time.perf_counter() - began)
    ages.append(time.time() - made)
    time.sleep(PAUSE)
print(json.dumps([latencies, ages]))
"""


def python_of(version):
    """Return the interpreter that has a version of the library."""
    if version == 6:
        return sys.executable
    from environment import old_python

    return old_python()


def measure(name, processes, seconds):
    version, way = WAYS[name]
    with tempfile.TemporaryDirectory() as folder:
        calls = Path(folder, "calls")
        calls.touch()
        start = time.time() + 2 + processes * 0.3
        arguments = [os.path.join(folder, "cache"), str(calls), start, seconds, COST, LIFE, PAUSE]
        code = WORKER.replace("{way}", way)
        children = [
            subprocess.Popen(
                [python_of(version), "-c", code, *map(str, arguments)],
                stdout=subprocess.PIPE, text=True, cwd=folder,
            )
            for _ in range(processes)
        ]  # fmt: skip
        found = [json.loads(child.communicate()[0]) for child in children]
        latencies = sorted(value for one, _ in found for value in one)
        ages = [value for _, one in found for value in one]
        return {
            "name": name,
            "computations": calls.stat().st_size,
            "calls": len(latencies),
            "p50_ms": statistics.median(latencies) * 1000,
            "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
            "longest_ms": latencies[-1] * 1000,
            "oldest_s": max(ages),
            "latencies": latencies,
        }


def cost():
    """Print what it costs that one computes, where nobody else wants to: new keys, no work."""
    from diskcache import Cache, Lock

    with tempfile.TemporaryDirectory() as folder, Cache(folder) as cache:
        lock = Lock(cache, "lock")
        keys = iter(range(10**9))

        def behind_lock():
            key = ("key", next(keys))
            with lock:
                if key not in cache:
                    cache[key] = 1

        ways = {
            "lock=False": lambda: cache.get_or_set(("key", next(keys)), int, lock=False),
            "lock=True, a locked file": lambda: cache.get_or_set(("key", next(keys)), int),
            "a Lock, an entry, around a look and a set": behind_lock,
        }
        for name, way in ways.items():
            best = min(timeit.repeat(way, number=200, repeat=15)) / 200
            print(f"| {name} | {best * 1e6:.0f} |")


def table(rows):
    print("| | computations | calls | p50, ms | p99, ms | longest, ms | oldest value, s |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['name']} | {row['computations']} | {row['calls']} | {row['p50_ms']:.3f}"
            f" | {row['p99_ms']:.1f} | {row['longest_ms']:.0f} | {row['oldest_s']:.2f} |"
        )


def plot(rows, file):
    import matplotlib

    matplotlib.use("svg" if file.endswith(".svg") else "agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for row in rows:
        values = row["latencies"]
        shares = [1 - number / len(values) for number in range(len(values))]
        label = f"{row['name']} ({row['computations']} computations)"
        axes.loglog([value * 1000 for value in values], shares, label=label)
    axes.set_xlabel("latency of a call, ms")
    axes.set_ylabel("share of calls that take longer")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None} if file.endswith(".svg") else None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--only", help="names that contain this")
    parser.add_argument("--plot", help="file to draw to")
    parser.add_argument("--cost", action="store_true", help="only the cost of a miss")
    options = parser.parse_args()
    if options.cost:
        cost()
        return
    names = [name for name in WAYS if not options.only or options.only in name]
    rows = [measure(name, options.processes, options.seconds) for name in names]
    table(rows)
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
