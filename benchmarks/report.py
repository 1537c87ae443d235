"""What a run shows: the table, the comparison with an older run, the plot."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

Document = dict[str, Any]
"""A run as written to JSON: machine, versions, options, rows."""
Measured = dict[str, Any]
"""One row of it: name, n, stage, final, and per side samples, facts, error."""

OLD, NEW = "5", "6"
"""Names of the two sides."""
NOTICEABLE = 1.1
"""A change of less than this factor between two runs is noise."""


def best(row: Measured, side: str) -> float | None:
    """Return the least seconds per operation of a side; None if it was not measured."""
    samples = row.get(side, {}).get("samples")
    return min(samples) if samples else None


def middle(row: Measured, side: str) -> float | None:
    """Return the median seconds per operation of a side."""
    samples = row.get(side, {}).get("samples")
    return median(samples) if samples else None


def ratio(row: Measured) -> float | None:
    """Return how many times faster than 5.6.3 a row is."""
    old, new = best(row, OLD), best(row, NEW)
    return old / new if old and new else None


def verdict(row: Measured, which: str) -> str:
    """Return a target with a word on whether it is reached; nothing where there is none."""
    target, reached = row[which], ratio(row)
    if target is None:
        return ""
    if reached is None:
        return f"{target:g}x"
    return f"{target:g}x {'yes' if reached >= target else 'NO'}"


HEADINGS = ("operation", "5.6.3", "median", "6", "median", "ratio", "now", "in the end")


def cells(row: Measured) -> tuple[str, ...]:
    """Return one line of the table."""
    times = [_us(value(row, side)) for side in (OLD, NEW) for value in (best, middle)]
    for side, place in ((OLD, 0), (NEW, 2)):
        if "error" in row.get(side, {}):
            times[place] = "failed"
    reached = ratio(row)
    shown = f"{reached:.2f}x" if reached else ""
    return (row["name"], *times, shown, verdict(row, "stage"), verdict(row, "final"))


def _us(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e6:.2f}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return columns as text: the first to the left, the others to the right."""
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return the same as a table for a page."""
    heads, *rest = lines
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, rule, *rest))


def laid_out(lines: Sequence[Sequence[str]], *, as_markdown: bool) -> str:
    """Return a table for a page, or for a terminal."""
    return markdown(lines) if as_markdown else aligned(lines)


def place(machine: dict[str, Any]) -> str:
    """Return where and when something was measured."""
    return (
        f"{machine['processor']}, {machine['usable cores']} cores, {machine['file system']};"
        f" {machine['time']}, load {machine['load'][0]}"
    )


def table(document: Document, *, as_markdown: bool = False) -> str:
    """Return the run as text: microseconds per operation, least and median of the rounds."""
    lines = [HEADINGS, *(cells(row) for row in document["rows"])]
    parts = [heading(document), laid_out(lines, as_markdown=as_markdown)]
    details = "\n".join(filter(None, (facts(row) for row in document["rows"])))
    if details:
        parts.append(details)
    missed = [row["name"] for row in document["rows"] if verdict(row, "stage").endswith("NO")]
    if missed:
        parts.append("below the target for now: " + "; ".join(missed))
    return "\n\n".join(parts)


def heading(document: Document) -> str:
    """Return what was measured, on what."""
    machine, options = document["machine"], document["options"]
    lines = [
        f"{machine['processor']}, {machine['usable cores']} cores, {machine['file system']}",
        f"{machine['time']}, load {machine['load'][0]}",
        *(
            f"diskcache {found['diskcache']}: Python {found['python']}, SQLite {found['sqlite']}"
            for found in document["versions"].values()
        ),
        f"us per operation ({options['clock']}): least and median of {options['rounds']} rounds",
    ]
    return "\n".join(lines)


def facts(row: Measured) -> str:
    """Return what a row showed besides the time: medians over the rounds."""
    parts = []
    for side, label in ((OLD, "5.6.3"), (NEW, "6")):
        rounds = row.get(side, {}).get("facts") or []
        names = rounds[0] if rounds else {}
        if names:
            figures = (f"{name} {median(r[name] for r in rounds):.4g}" for name in names)
            parts.append(f"{label}: " + ", ".join(figures))
        if "error" in row.get(side, {}):
            parts.append(f"{label}: {row[side]['error']}")
    return f"{row['name']}: " + "; ".join(parts) if parts else ""


def comparison(document: Document, older: Document) -> str:
    """Return how this version's figures differ from those of an earlier run.

    Where both runs measured 5.6.3, its change shows how much the machine itself changed.
    """
    before = {row["name"]: row for row in older["rows"]}
    lines = [("operation", "then", "now", "change", "5.6.3 changed", "")]
    for row in document["rows"]:
        old = before.get(row["name"])
        then, now = (best(old, NEW) if old else None), best(row, NEW)
        if old is None or not then or not now:
            continue
        reference_then, reference_now = best(old, OLD), best(row, OLD)
        drift = reference_now / reference_then if reference_then and reference_now else None
        change = now / then / (drift or 1)
        note = "slower" if change > NOTICEABLE else "faster" if change < 1 / NOTICEABLE else ""
        lines.append(
            (
                row["name"],
                _us(then),
                _us(now),
                f"{now / then - 1:+.0%}",
                f"{drift - 1:+.0%}" if drift else "",
                note,
            )
        )
    return aligned(lines)


def plot(document: Document, path: Path) -> bool:
    """Draw the ratios as bars, with the targets; False if matplotlib is not installed."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        return False
    rows = [(row, reached) for row in reversed(document["rows"]) if (reached := ratio(row))]
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.32 * len(rows)), layout="constrained")
    colours = ["#c44e52" if verdict(row, "stage").endswith("NO") else "#4c72b0" for row, _ in rows]
    names = [f"{row['name']}   {reached:.1f}x" for row, reached in rows]
    axes.barh(names, [reached for _, reached in rows], color=colours)
    for which, mark, label in (("stage", "|", "target now"), ("final", "d", "target in the end")):
        pairs = zip(rows, names, strict=True)
        points = [(row[which], name) for (row, _), name in pairs if row[which] is not None]
        if points:
            axes.plot(
                *zip(*points, strict=True), mark, color="black", label=label, linestyle="",
                markersize=9 if mark == "|" else 5, markeredgewidth=1.5,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda number, _: f"{number:g}x")
    axes.margins(y=0.01)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xlabel("times as fast as 5.6.3 (least of the rounds)")
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def canvas() -> Any:
    """Return pyplot, set so that equal figures give equal files; None without matplotlib."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        return None
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "diskcache"
    return plt


def save(figure: Any, path: Path) -> None:
    """Write a drawing, without the time of day."""
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


NO_PLOT = "no plot: matplotlib is not installed; install it with: pip install 'diskcache[bench]'"


def deliver(
    document: Document,
    text: str,
    draw: Callable[[Document, Path], bool],
    *,
    json_path: Path | None,
    plot_path: Path | None,
) -> None:
    """Print *text*, and write the samples and the drawing where they are asked for."""
    print(text)
    if json_path:
        json_path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if plot_path and not draw(document, plot_path):
        print(NO_PLOT, file=sys.stderr)
