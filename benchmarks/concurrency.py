"""Show how many processes, or threads, share one cache: throughput, waits, fairness, beside 5.6.3.

Both versions work in turns, each for the same time. Throughput is the most of the rounds, a
percentile the least of them; how even the writers were served is the worst of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import environment
import report
from crowd_rows import PROCESSES, THREADS, WAYS, name_of
from operations import Row
from report import NEW, OLD, Document, Measured, best
from run import measure, sides

COUNTS = (1, 2, 4, 8, 16)
PERCENTS = (0, 10, 50, 100)
WRITERS = 8
"""Writers at which the claims are about."""
FASTER = 1.5
"""Times as many operations per second as 5.6.3 with as many writers."""
LEAST_SHARE = 1 / 3
"""What the slowest writer must get of the mean."""
SHARE = "slowest writer of mean"
LABELS = {OLD: "5.6.3", NEW: "6"}
FAILED = 1


def run(options: argparse.Namespace) -> Document:
    """Measure and return the document."""
    names = [
        (way, count, percent)
        for way in options.ways
        for percent in options.writes
        for count in options.counts
    ]
    document: Document = {
        "machine": environment.machine(options.directory or tempfile.gettempdir()),
        "options": {"rounds": options.rounds, "seconds": options.seconds},
        "rows": [],
    }
    with sides(options, script="crowd_rows.py") as workers:
        document["versions"] = {name: side.versions for name, side in workers.items()}
        for way, count, percent in names:
            row = Row(name_of(way, count, percent), int(options.seconds * 1000), lambda _: None)
            measured = measure(row, workers, options.rounds, 1.0)
            measured |= {"way": way, "count": count, "writes": percent}
            document["rows"].append(measured)
            print("  ".join(cells(measured)), file=sys.stderr, flush=True)
    return document


# -- What it shows --


def rate(row: Measured, side: str) -> float | None:
    """Return the most operations per second of a side."""
    seconds = best(row, side)
    return 1 / seconds if seconds else None


def fact(row: Measured, side: str, name: str) -> float | None:
    """Return a percentile, the least of the rounds, or the worst share."""
    found = [facts[name] for facts in row.get(side, {}).get("facts", ()) if name in facts]
    return min(found, default=None)


def waits(row: Measured, side: str, kind: str) -> str:
    """Return the percentiles of reads or of writes."""
    found = [fact(row, side, f"{kind} p{part} us") for part in ("50", "99", "99.9")]
    return " / ".join(_three(number) for number in found if number is not None)


def _three(number: float) -> str:
    """Return a number with about three digits."""
    return f"{number:.2f}" if number < 10 else f"{number:.0f}"


def cells(row: Measured) -> tuple[str, ...]:
    """Return one line of the table."""
    rates = {side: rate(row, side) for side in (OLD, NEW)}
    shares = {side: fact(row, side, SHARE) for side in (OLD, NEW)}
    old, new = rates[OLD], rates[NEW]
    failed = {side: "error" in row.get(side, {}) for side in (OLD, NEW)}
    return (
        row["name"],
        *("failed" if failed[s] else f"{r:,.0f}" if r else "" for s, r in rates.items()),
        f"{new / old:.1f}x" if old and new else "",
        *(waits(row, side, kind) for kind in ("reads", "writes") for side in (OLD, NEW)),
        *("" if share is None else f"{share:.2f}" for share in shares.values()),
    )


HEADINGS = (
    "", "5.6.3, per second", "6", "ratio", "reads, us: 5.6.3", "6", "writes, us: 5.6.3", "6",
    "slowest writer: 5.6.3", "6",
)  # fmt: skip


def claims(document: Document) -> list[str]:
    """Return what is to be so, and whether it was."""
    found = []
    for row in document["rows"]:
        if row["count"] == WRITERS and row["writes"] == 100:
            found += [
                judged_rate(row),
                judged_wait(row),
            ]
    shares = {row["name"]: fact(row, NEW, SHARE) for row in document["rows"]}
    starved = [f"{n}: {s:.2f}" for n, s in shares.items() if s is not None and s < LEAST_SHARE]
    verdict = f"NO ({', '.join(starved)})" if starved else "yes"
    return [*found, f"the slowest writer gets at least a third of the mean: {verdict}"]


def judged_rate(row: Measured) -> str:
    old, new = rate(row, OLD), rate(row, NEW)
    if not old or not new:
        return f"{row['name']}: not compared"
    verdict = "yes" if new / old >= FASTER else "NO"
    return f"{row['name']}: {FASTER:g}x the throughput: {verdict} ({new / old:.2f}x)"


def judged_wait(row: Measured) -> str:
    old, new = (fact(row, side, "writes p99.9 us") for side in (OLD, NEW))
    if old is None or new is None:
        return f"{row['name']}: no percentiles"
    verdict = "yes" if new < old else "NO"
    return (
        f"{row['name']}: 99.9 % of writes wait less: {verdict}"
        f" ({new / 1e3:.1f} ms, 5.6.3 {old / 1e3:.1f} ms)"
    )


def text(document: Document, *, as_markdown: bool = False) -> str:
    """Return the run as text."""
    options = document["options"]
    heading = (
        f"{report.place(document['machine'])}\n"
        f"{options['rounds']} rounds of {options['seconds']:g} s; us: p50 / p99 / p99.9"
    )
    lines = [HEADINGS, *(cells(row) for row in document["rows"])]
    table = report.laid_out(lines, as_markdown=as_markdown)
    return "\n\n".join((heading, table, "\n".join(claims(document))))


def plot(document: Document, path: Path) -> bool:
    """Draw throughput and the slowest calls over the number of processes and of threads."""
    plt = report.canvas()
    if plt is None:
        return False
    ways = [way for way in WAYS if any(row["way"] == way for row in document["rows"])]
    figure, panels = plt.subplots(
        2, len(ways), figsize=(5 * len(ways), 7), squeeze=False, sharex=True, layout="constrained"
    )
    for column, way in enumerate(ways):
        rows = [row for row in document["rows"] if row["way"] == way]
        panels[0][column].set_title(way)
        draw(panels[0][column], rows, rate)
        draw(panels[1][column], rows, slowest)
        panels[1][column].set_xlabel(way)
    panels[0][0].set_ylabel("operations per second")
    panels[1][0].set_ylabel("p99.9 of reads or writes, us")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    report.save(figure, path)
    plt.close(figure)
    return True


def slowest(row: Measured, side: str) -> float | None:
    """Return the 99.9 % percentile of reads or of writes, whichever are slower."""
    both = (fact(row, side, f"{kind} p99.9 us") for kind in ("writes", "reads"))
    return max((number for number in both if number is not None), default=None)


def draw(axes: Any, rows: Sequence[Measured], figure_of: Any) -> None:
    """Draw a line for each version and share of writes."""
    for place, percent in enumerate(sorted({row["writes"] for row in rows})):
        for side, style in ((NEW, "-"), (OLD, "--")):
            found = [(r["count"], figure_of(r, side)) for r in rows if r["writes"] == percent]
            points = [(count, number) for count, number in found if number]
            if points:
                label = f"{LABELS[side]}, {percent} % writes"
                axes.plot(
                    *zip(*points, strict=True), style, marker="o", markersize=3,
                    color=f"C{place}", label=label,
                )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda number, _: f"{number:g}")
    axes.grid(alpha=0.3)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[PROCESSES, THREADS])
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="how many at once")
    parser.add_argument("--writes", type=int, nargs="+", default=PERCENTS, help="percent")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each row (default: 3)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round (default: 1)")
    parser.add_argument("--side", choices=("both", OLD, NEW), default="both")
    parser.add_argument("--old-python", metavar="PATH", help="an interpreter that has 5.6.3")
    parser.add_argument("--directory", help="where the caches are made (default: as tempfile)")
    parser.add_argument("--markdown", action="store_true", help="print the table for a page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them (needs 'bench')")
    parser.add_argument("--verbose", action="store_true", help="show what the workers complain of")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.seconds < 0.01 or min(options.counts) < 1:
        parser.error("--rounds and --counts must be at least 1, and --seconds at least 0.01")
    if not all(0 <= percent <= 100 for percent in options.writes):
        parser.error("--writes are percentages, from 0 to 100")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write what was asked for; 1 if a row failed."""
    options = parse(arguments)
    try:
        document = run(options)
    except environment.EnvironmentProblemError as problem:
        print(problem, file=sys.stderr)
        return FAILED
    report.deliver(
        document, text(document, as_markdown=options.markdown), plot,
        json_path=options.json, plot_path=options.plot,
    )  # fmt: skip
    failed = any("error" in row.get(side, {}) for row in document["rows"] for side in (OLD, NEW))
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
