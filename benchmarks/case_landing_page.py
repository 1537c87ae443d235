"""Case study: a landing page that is slow to make, asked for by many at once.

Processes with several threads each ask for the page over and over, as workers of a web server
would. Once a second, more or less, what is cached expires. Four ways to make the page are compared:
without a cache, memoized, memoized behind a barrier, and by `memoize_stampede`. Each runs for the
same time in a directory of its own; what is printed, and drawn, is what the workers saw.
docs/case-study-landing-page.md tells what it shows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import environment
import report
from operations import percentile

from diskcache import Cache, Lock, barrier, memoize_stampede

Page = Callable[[], str]
Spans = list[tuple[float, float]]
"""Beginnings and ends, in seconds."""

SLOW = 0.1
"""Seconds from which an answer counts as slow."""
BINS_PER_SECOND = 10
"""Steps of the drawing."""


class Plan(NamedTuple):
    """How the page is asked for."""

    seconds: float
    processes: int
    threads: int
    making: float
    """Seconds that it takes to make the page."""
    expire: float
    pause: float
    """Seconds between an answer and the next request of a worker."""


# -- Ways to make the page --


def without_cache(_cache: Cache, _expire: float, make: Page) -> Page:
    return make


def memoized(cache: Cache, expire: float, make: Page) -> Page:
    return cache.memoize(name="landing page", expire=expire)(make)


def behind_barrier(cache: Cache, expire: float, make: Page) -> Page:
    """Let one caller make the page; others wait for it, but only while there is none."""
    inner = cache.memoize(name="landing page", expire=expire)(make)
    one_at_a_time = barrier(cache, Lock, name="landing page lock")(inner)
    # With an `expire` of 0 this one looks, and leaves storing to the inner one.
    return cache.memoize(name="landing page", expire=0)(one_at_a_time)


def stampede(cache: Cache, expire: float, make: Page) -> Page:
    return memoize_stampede(cache, expire, name="landing page")(make)


WAYS: dict[str, Callable[[Cache, float, Page], Page]] = {
    "no cache": without_cache,
    "memoize": memoized,
    "memoize behind a barrier": behind_barrier,
    "memoize_stampede": stampede,
}


# -- Workers --


def work(way: str, directory: str, plan: Plan, start: Any, results: Any) -> None:
    """Ask for the page in several threads of this process; report every request and making."""
    made: Spans = []
    asked: Spans = []

    def make() -> str:
        began = time.time()
        time.sleep(plan.making)
        made.append((began, time.time()))
        return "Welcome"

    with Cache(directory) as cache:
        page = WAYS[way](cache, plan.expire, make)

        def ask() -> None:
            start.wait()
            end = time.time() + plan.seconds
            while (began := time.time()) < end:
                page()
                asked.append((began, time.time()))
                time.sleep(plan.pause)

        threads = [threading.Thread(target=ask) for _ in range(plan.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while threading.active_count() > 1:
            time.sleep(0.01)  # The page is being renewed in the background.
    results.put((asked, made))


def run(way: str, plan: Plan, folder: str) -> dict[str, Any]:
    """Let all workers ask for the page that is made in one way; return what they saw."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(plan.processes * plan.threads)
    results = context.Queue()
    arguments = (way, os.path.join(folder, way.replace(" ", "-")), plan, start, results)
    children = [context.Process(target=work, args=arguments) for _ in range(plan.processes)]
    for child in children:
        child.start()
    found = [results.get(timeout=plan.seconds + 60) for _ in children]
    for child in children:
        child.join()
    asked = sorted(span for part, _ in found for span in part)
    made = sorted(span for _, part in found for span in part)
    first = asked[0][0]
    return {
        "way": way,
        "asked": [(began - first, ended - first) for began, ended in asked],
        "made": [(began - first, ended - first) for began, ended in made],
    }


# -- What it shows --


def most_at_once(spans: Spans) -> int:
    """Return how many of *spans* overlap at most."""
    steps = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    count = most = 0
    for _, step in steps:
        count += step
        most = max(most, count)
    return most


def summary(seen: dict[str, Any], after: float) -> dict[str, Any]:
    """Return the figures of one way, of requests from *after* seconds on: the cache is warm."""
    took = sorted(ended - began for began, ended in seen["asked"] if began >= after)
    made = [span for span in seen["made"] if span[0] >= after]
    return {
        "way": seen["way"],
        "requests": len(took),
        "made": len(made),
        "at once": most_at_once(made),
        "at once, at the start": most_at_once([span for span in seen["made"] if span[0] < after]),
        "median ms": median(took) * 1e3,
        "99 % ms": percentile(took, 0.99) * 1e3,
        "longest ms": took[-1] * 1e3,
        "slow %": 100 * sum(second > SLOW for second in took) / len(took),
    }


def table(figures: Sequence[dict[str, Any]]) -> str:
    """Return the figures as text."""
    lines = [
        [f"{value:.3g}" if isinstance(value, float) else str(value) for value in figure.values()]
        for figure in figures
    ]
    return report.aligned([list(figures[0]), *lines])


def longest(asked: Spans, times: Sequence[float], step: float) -> list[float]:
    """Return how many milliseconds the longest request took that was waiting at each time."""
    found = [0.0] * len(times)
    for began, ended in asked:
        for place in range(int(began / step), min(int(ended / step) + 1, len(times))):
            found[place] = max(found[place], (ended - began) * 1e3)
    return found


def plot(seen: Sequence[dict[str, Any]], plan: Plan, path: Path) -> bool:
    """Draw pages in the making, and the longest answers, over time; False without matplotlib."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        return False
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "diskcache"
    figure, axes = plt.subplots(
        len(seen), 2, figsize=(9, 1.4 * len(seen)), sharex=True, sharey="col", layout="constrained"
    )
    step = 1 / BINS_PER_SECOND
    times = [number * step for number in range(round(plan.seconds * BINS_PER_SECOND))]
    for row, one in zip(axes, seen, strict=True):
        making = [
            sum(began <= at + step / 2 < ended for began, ended in one["made"]) for at in times
        ]
        row[0].stairs(making, [*times, plan.seconds], fill=True, color="#c44e52")
        row[0].set_title(one["way"], loc="left", fontsize=10)
        row[1].stairs(longest(one["asked"], times, step), [*times, plan.seconds], color="#4c72b0")
    axes[0][0].set_title(f"pages in the making: {seen[0]['way']}", loc="left", fontsize=10)
    axes[0][1].set_title("longest answer, ms", loc="left", fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    return True


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="for each way (default: 8)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=5, help="of each process")
    parser.add_argument("--making", type=float, default=0.2, help="seconds to make the page")
    parser.add_argument("--expire", type=float, default=1.0, help="seconds that it is kept")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between requests")
    parser.add_argument("--directory", help="where the caches are made (default: as tempfile)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every request here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it (needs 'bench')")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every way, print the table, and write what was asked for."""
    options = parse(arguments)
    names = ("seconds", "processes", "threads", "making", "expire", "pause")
    plan = Plan(*(getattr(options, name) for name in names))
    with tempfile.TemporaryDirectory(prefix="diskcache-case-", dir=options.directory) as folder:
        machine = environment.machine(folder)
        seen = [run(way, plan, folder) for way in WAYS]
    # At first nothing is there, and all workers ask at once, whatever the way.
    warm = min(plan.making * 1.5, plan.seconds / 2)
    figures = [summary(one, warm) for one in seen]
    print(
        f"{machine['processor']}, {machine['usable cores']} cores, {machine['file system']};"
        f" {plan.processes} processes of {plan.threads} threads, {plan.seconds:g} s each way;"
        f" the page takes {plan.making:g} s and expires after {plan.expire:g} s\n"
        f"from {warm:g} s on:\n"
    )
    print(table(figures))
    if options.json:
        document = {"machine": machine, "plan": plan._asdict(), "figures": figures, "seen": seen}
        options.json.write_text(json.dumps(document) + "\n", encoding="utf-8")
    if options.plot and not plot(seen, plan, options.plot):
        print(
            "no plot: matplotlib is not installed; install it with: pip install 'diskcache[bench]'",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
