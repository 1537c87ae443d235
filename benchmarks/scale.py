"""Show what operations cost in a cache of ten thousand entries, and of more, up to ten million.

One cache is filled and copied at each size; then every row is measured at all sizes in turns, each
in a process of its own. Last, a cache is cleared while another process writes: how long does that
one wait?
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import environment
import report
from operations import Row, opened, percentile
from report import Document, Measured, best
from run import Side, measure
from scale_rows import ENTRIES, FULL, HOT, ROWS, UNLIMITED, entries_at

SMALLEST = 10_000
CLEARED = 1_000_000
"""Entries in the cache that is cleared."""
TOGETHER = 10_000
"""Entries stored in one call while the cache is filled."""
GROWTH = 2.0
"""Times that an operation may take in the largest cache what it takes in the smallest."""
BLOCKED_MS = 100
"""Milliseconds that a writer may wait for one that clears."""
FAILED = 1


def sizes(smallest: int, largest: int) -> list[int]:
    """Return sizes ten times apart, the largest among them."""
    found = []
    size = smallest
    while size < largest:
        found.append(size)
        size *= 10
    return [*found, largest]


# -- The caches --


def directory_of(folder: str, size: int, name: str = "cache") -> str:
    return os.path.join(folder, str(size), name)


def fill(folder: str, wanted: Sequence[int]) -> dict[str, float]:
    """Make a cache of each size; return microseconds per entry of `set_many` on the way there."""
    growing = os.path.join(folder, "growing")
    costs, made = {}, 0
    for size in wanted:
        with opened(growing, size_limit=UNLIMITED) as cache:
            began, first = time.perf_counter(), made
            while made < size:
                numbers = range(made, min(made + TOGETHER, size))
                cache.set_many(entries_at(numbers))
                made = numbers.stop
            costs[str(size)] = (time.perf_counter() - began) / (size - first) * 1e6
        print(f"{size} entries: {costs[str(size)]:.1f} us each", file=sys.stderr, flush=True)
        if size == wanted[-1]:
            os.makedirs(os.path.dirname(directory_of(folder, size)))
            os.rename(growing, directory_of(folder, size))
        else:
            shutil.copytree(growing, directory_of(folder, size))
    return costs


@contextmanager
def sides(folder: str, wanted: Sequence[int], *, quiet: bool) -> Iterator[dict[str, Side]]:
    """Start a worker for every size."""
    with ExitStack() as stack:
        started = {}
        for size in wanted:
            started[str(size)] = Side(
                sys.executable,
                os.path.join(folder, str(size)),
                quiet=quiet,
                script="scale_rows.py",
                environ={ENTRIES: str(size)},
            )
            stack.callback(started[str(size)].close)
        yield started


def chosen(pattern: str | None) -> list[Row]:
    """Return the rows whose name contains *pattern*, a regular expression."""
    return [row for row in ROWS if pattern is None or re.search(pattern, row.name)]


def measure_all(options: argparse.Namespace, folder: str, wanted: Sequence[int]) -> list[Measured]:
    """Measure every row at every size, in turns; those of full caches last, on copies."""
    rows: list[Measured] = []
    with sides(folder, wanted, quiet=not options.verbose) as workers:
        for row in sorted(chosen(options.only), key=lambda row: row.name in FULL):
            if row.name in FULL and not os.path.exists(directory_of(folder, wanted[0], "full")):
                for size in wanted:
                    shutil.copytree(directory_of(folder, size), directory_of(folder, size, "full"))
            measured = measure(row, workers, options.rounds, options.scale)
            shown = ", ".join(f"{name}: {shown_us(measured, name)}" for name in workers)
            print(f"{row.name}: {shown}", file=sys.stderr, flush=True)
            rows.append(measured)
    return rows


# -- Clearing while another process writes --


def write_on(directory: str, stop: Any, ready: Any, results: Any) -> None:
    """Write until told to stop; report how long each write took."""
    seconds = []
    with opened(directory) as cache:
        number = 0
        cache.set("mine-0", 0)
        ready.set()
        # Once at least, also if it was held up meanwhile.
        while not (seconds and stop.is_set()):
            start = time.perf_counter()
            cache.set(f"mine-{number % HOT}", number)
            seconds.append(time.perf_counter() - start)
            number += 1
    results.put(seconds)


def beside_a_writer(directory: str, work: Any) -> dict[str, float]:
    """Do *work* while another process writes; return how that one fared."""
    context = multiprocessing.get_context("spawn")
    stop, ready, results = context.Event(), context.Event(), context.SimpleQueue()
    writer = context.Process(target=write_on, args=(directory, stop, ready, results))
    writer.start()
    ready.wait()
    began = time.perf_counter()
    work()
    elapsed = time.perf_counter() - began
    stop.set()
    seconds = sorted(results.get())
    writer.join()
    return {
        "seconds": elapsed,
        "writes": len(seconds),
        "p99.9 ms": percentile(seconds, 0.999) * 1e3,
        "longest ms": seconds[-1] * 1e3,
    }


def clearing(folder: str, size: int, alone_for: float) -> dict[str, Any]:
    """Clear a copy of the cache of *size* entries beside a writer; first, the writer alone."""
    directory = directory_of(folder, size, "cleared")
    shutil.copytree(directory_of(folder, size), directory)
    alone = beside_a_writer(directory, lambda: time.sleep(alone_for))
    removed = []
    with opened(directory) as cache:
        cleared = beside_a_writer(directory, lambda: removed.append(cache.clear()))
    shutil.rmtree(directory)
    return {"entries": size, "removed": removed[0], "alone": alone, "cleared": cleared}


def run(options: argparse.Namespace) -> Document:
    """Fill, measure, clear; return the document."""
    wanted = sizes(options.smallest, options.largest)
    with tempfile.TemporaryDirectory(prefix="diskcache-scale-", dir=options.directory) as folder:
        document: Document = {
            "machine": environment.machine(folder),
            "options": {"rounds": options.rounds, "scale": options.scale},
            "sizes": wanted,
            "fill": fill(folder, wanted),
        }
        cleared = max((size for size in wanted if size <= CLEARED), default=wanted[0])
        document["clear"] = clearing(folder, cleared, options.alone)
        document["rows"] = measure_all(options, folder, wanted)
        document["bytes"] = {
            str(size): os.path.getsize(os.path.join(directory_of(folder, size), "cache.db"))
            for size in wanted
        }
    return document


# -- What it shows --


def shown_us(row: Measured, name: str) -> str:
    if "error" in row[name]:
        return "failed"
    seconds = best(row, name)
    return "" if seconds is None else f"{seconds * 1e6:.2f}"


def growth(row: Measured, wanted: Sequence[int]) -> float | None:
    """Return how many times as long a row takes in the largest cache as in the smallest."""
    small, large = best(row, str(wanted[0])), best(row, str(wanted[-1]))
    return large / small if small and large else None


def memory(document: Document, size: int) -> float:
    """Return the most megabytes that a process with a cache of this size had in memory."""
    rounds = [facts for row in document["rows"] for facts in row[str(size)]["facts"]]
    return max((facts.get("RSS MB", 0.0) for facts in rounds), default=0.0)


def lines(document: Document) -> list[tuple[str, ...]]:
    """Return the table: operations, sizes, growth."""
    wanted = document["sizes"]
    found = [("us per operation", *(f"{size:,}" for size in wanted), "growth")]
    for row in document["rows"]:
        times = growth(row, wanted)
        found.append(
            (
                row["name"],
                *(shown_us(row, str(size)) for size in wanted),
                f"{times:.2f}x" if times else "",
            )
        )
    fills = document["fill"]
    found += [
        ("set_many, an entry", *(f"{fills[str(size)]:.2f}" for size in wanted), ""),
        ("memory of the process, MB", *(f"{memory(document, size):.0f}" for size in wanted), ""),
        ("database, MB", *(f"{document['bytes'][str(size)] / 1e6:.0f}" for size in wanted), ""),
    ]
    return found


def fared(writer: dict[str, float]) -> str:
    """Return how the other writer fared."""
    return (
        f"{writer['writes']:,} writes, 99.9 % within {writer['p99.9 ms']:.1f} ms,"
        f" the longest {writer['longest ms']:.1f} ms"
    )


def claims(document: Document) -> list[str]:
    """Return what is to be so, and whether it was."""
    wanted, clear = document["sizes"], document["clear"]
    grown = {row["name"]: growth(row, wanted) or 0.0 for row in document["rows"]}
    over = [f"{name}: {times:.2f}x" for name, times in grown.items() if times > GROWTH]
    longest = clear["cleared"]["longest ms"]
    blocked = "yes" if longest <= BLOCKED_MS else "NO"
    grows = f"NO ({', '.join(over)})" if over else "yes" if any(grown.values()) else "not measured"
    return [
        f"no operation grows by more than {GROWTH:g}x: {grows}",
        (
            f"clear of {clear['removed']:,} entries, {clear['cleared']['seconds']:.1f} s: another"
            f" writer waits at most {BLOCKED_MS} ms: {blocked} ({fared(clear['cleared'])};"
            f" while nobody clears {fared(clear['alone'])})"
        ),
    ]


def text(document: Document, *, as_markdown: bool = False) -> str:
    """Return the run as text."""
    heading = (
        f"{report.place(document['machine'])}\n"
        f"us per operation, least of {document['options']['rounds']} rounds"
    )
    table = report.laid_out(lines(document), as_markdown=as_markdown)
    return "\n\n".join((heading, table, "\n".join(claims(document))))


def plot(document: Document, path: Path) -> bool:
    """Draw time over size; False if matplotlib is not installed."""
    plt = report.canvas()
    if plt is None:
        return False
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    marks = "o s ^ v D P X < > * h d".split()
    for row, mark in zip(document["rows"], cycle(marks), strict=False):
        found = [(size, best(row, str(size))) for size in document["sizes"]]
        points = [(size, seconds * 1e6) for size, seconds in found if seconds]
        if points:
            axes.plot(*zip(*points, strict=True), marker=mark, markersize=5, label=row["name"])
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("entries")
    axes.set_ylabel("us per operation")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    report.save(figure, path)
    plt.close(figure)
    return True


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smallest", type=int, default=SMALLEST, help="entries (default: 10000)")
    parser.add_argument(
        "--largest", type=int, default=1_000_000,
        help="entries (default: a million; ten million need 4 GB of disk and twenty minutes)",
    )  # fmt: skip
    parser.add_argument("--only", metavar="PATTERN", help="rows whose name matches this expression")
    parser.add_argument(
        "--alone", type=float, default=3.0, help="seconds that a writer writes before the clear"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row (default: 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies operations per round")
    parser.add_argument("--directory", help="where the caches are made (default: as tempfile)")
    parser.add_argument("--markdown", action="store_true", help="print the table for a page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them (needs 'bench')")
    parser.add_argument("--verbose", action="store_true", help="show what the workers complain of")
    options = parser.parse_args(arguments)
    if not 2 * HOT <= options.smallest <= options.largest:
        parser.error(f"--smallest must be at least {2 * HOT}, and --largest no less")
    if options.rounds < 1 or options.scale <= 0:
        parser.error("--rounds must be at least 1, and --scale above 0")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write what was asked for; 1 if a row failed."""
    options = parse(arguments)
    document = run(options)
    report.deliver(
        document, text(document, as_markdown=options.markdown), plot,
        json_path=options.json, plot_path=options.plot,
    )  # fmt: skip
    failed = any("error" in row[str(s)] for row in document["rows"] for s in document["sizes"])
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
