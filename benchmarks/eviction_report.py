"""What a replay of traces shows: the table, what was to be reached, the plot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import report
from eviction_rows import MODEL, OPTIMUM
from report import Document

FIFO, BEST, PEER = "least-recently-stored", "s3-fifo", "theine"
LARGE = 100
"""Entries in a cache whose figures are not those of small numbers."""
MEAN_LARGE, MEAN_ALL, WORST, APART = 14.0, 11.0, -2.0, 1.0
"""What `s3-fifo` is to reach, in percent fewer misses than FIFO."""
LOWEST = -25
"""Where the plot ends: what does worse is outside."""
MANY = 4
"""Processes that share a cache, in what is to be reached."""


class Spot(NamedTuple):
    """A trace at a size: where contenders are compared."""

    trace: str
    share: float
    rows: int
    is_sized: bool


Misses = dict[tuple[Spot, str, int], float]
"""Share of requests that missed, by place, contender and number of processes."""


def write(document: Document, path: Path) -> None:
    """Write a document as JSON, a row on a line."""
    rest = {name: value for name, value in document.items() if name != "rows"}
    rows = ",\n".join(map(json.dumps, document["rows"]))
    head = json.dumps(rest, indent=1).removesuffix("\n}")
    path.write_text(f'{head},\n "rows": [\n{rows}\n]}}\n', encoding="utf-8")


def misses(document: Document, figure: str = "misses") -> Misses:
    """Return how much of a trace each contender missed: requests, or bytes of them."""
    return {
        (spot_of(row), name_of(row), row["processes"]): row[figure]
        for row in document["rows"]
        if "error" not in row
    }


def spot_of(row: dict[str, Any]) -> Spot:
    return Spot(row["trace"], row["share"], row["rows"], row["is sized"])


def name_of(row: dict[str, Any]) -> str:
    """Return a contender; a model stands for what it is a model of."""
    return str(row["contender"]).removeprefix(MODEL)


def score(fifo: float, other: float) -> float:
    """Return by how many percent *other* misses less than FIFO; below 0, FIFO less than it."""
    return 0.0 if fifo == other else 100 * (fifo - other) / max(fifo, other)


def scores(
    found: Misses, contender: str, processes: int, *, is_sized: bool = False
) -> dict[Spot, float]:
    """Return the score of a contender by place, against FIFO of as many processes."""
    return {
        spot: score(found[spot, FIFO, processes], missed)
        for (spot, name, count), missed in found.items()
        if (name, count, spot.is_sized) == (contender, processes, is_sized)
        and (spot, FIFO, processes) in found
    }


def large(by_spot: dict[Spot, float]) -> list[float]:
    return [value for spot, value in by_spot.items() if spot.rows >= LARGE]


def average(values: Iterable[float]) -> float | None:
    found = list(values)
    return mean(found) if found else None


def participants(document: Document) -> list[tuple[str, int]]:
    """Return contenders with numbers of processes, the smaller numbers first."""
    pairs = dict.fromkeys((name_of(row), row["processes"]) for row in document["rows"])
    return sorted(pairs, key=lambda pair: pair[1])


# -- Tables --


def points(value: float | None) -> str:
    return "" if value is None else f"{value:+.1f}"


def summary(document: Document) -> list[tuple[str, ...]]:
    """Return the mean scores of all contenders."""
    requests, volume = misses(document), misses(document, "missed_bytes")
    lines = [
        (
            "percent fewer misses than FIFO", f"from {LARGE} entries", "worst of these",
            "all sizes", "sized: requests", "sized: bytes",
        )
    ]  # fmt: skip
    for name, count in participants(document):
        alike = scores(requests, name, count)
        lines.append(
            (
                name if count == 1 else f"{name}, {count} processes",
                points(average(large(alike))),
                points(min(large(alike), default=None)),
                points(average(alike.values())),
                points(average(scores(requests, name, count, is_sized=True).values())),
                points(average(scores(volume, name, count, is_sized=True).values())),
            )
        )
    return lines


def short(name: str) -> str:
    """Return the name of a contender for the head of a column: initials of the long ones."""
    *before, policy = name.split()
    words = policy.split("-")
    return " ".join((*before, "".join(word[0].upper() for word in words) if words[2:] else policy))


def ratios(document: Document, count: int) -> list[tuple[str, ...]]:
    """Return the part of requests that each contender missed, place by place."""
    found = misses(document)
    names = [name for name, processes in participants(document) if processes == count]
    lines = [("trace, size", "entries", *map(short, names))]
    for spot in dict.fromkeys(spot_of(row) for row in document["rows"]):
        missed = [found.get((spot, name, count)) for name in names]
        asked = document["requests"][spot.trace]
        if any(value is not None for value in missed):
            lines.append(
                (
                    f"{spot.trace} {spot.share * 100:g} %",
                    f"{spot.rows:,}",
                    *("" if value is None else f"{value / asked:.4f}" for value in missed),
                )
            )
    return lines


def failures(document: Document) -> list[str]:
    """Return what went wrong."""
    found = []
    for row in document["rows"]:
        where = f"{row['trace']} {row['share'] * 100:g} %, {row['processes']} x {name_of(row)}"
        if "error" in row:
            found.append(f"failed: {where}: {row['error']}")
        elif row["wrong"]:
            found.append(f"failed: {where}: {row['wrong']} hits with a wrong value")
    return found


def text(document: Document, *, as_markdown: bool = False) -> str:
    """Return the run as text."""
    counts = sorted({count for _, count in participants(document)})
    asked = ", ".join(f"{name} {count:,}" for name, count in document["requests"].items())
    parts = [
        f"{report.place(document['machine'])}\nrequests: {asked}",
        report.laid_out(summary(document), as_markdown=as_markdown),
    ]
    for count in counts:
        who = "one process" if count == 1 else f"{count} processes"
        table = report.laid_out(ratios(document, count), as_markdown=as_markdown)
        parts.append(f"part of requests that missed, {who}:\n\n{table}")
    parts.append("\n".join((*claims(document), *failures(document))))
    return "\n\n".join(parts)


# -- What is to be reached --


def claims(document: Document) -> list[str]:
    """Return what is to be so on traces without sizes, and whether it was."""
    found = misses(document)
    alone, together = scores(found, BEST, 1), scores(found, BEST, MANY)
    peer = average(scores(found, PEER, 1).values())
    all_sizes, shared = average(alone.values()), average(together.values())
    apart = None if all_sizes is None or shared is None else abs(all_sizes - shared)
    ahead = None if all_sizes is None or peer is None else all_sizes - peer
    return [
        judged(f"{BEST} misses {MEAN_LARGE:g} % less than FIFO on average from {LARGE} entries",
               average(large(alone)), lambda reached: reached >= MEAN_LARGE),
        judged(f"{BEST} misses {MEAN_ALL:g} % less on average over all sizes",
               all_sizes, lambda reached: reached >= MEAN_ALL),
        judged(f"{BEST} misses nowhere more than {-WORST:g} % more from {LARGE} entries",
               min(large(alone), default=None), lambda reached: reached >= WORST),
        judged(f"{BEST} is ahead of {PEER} on average", ahead, lambda reached: reached > 0),
        judged(f"{MANY} processes are within {APART:g} point of one",
               apart, lambda reached: reached <= APART),
    ]  # fmt: skip


def judged(claim: str, reached: float | None, holds: Callable[[float], bool]) -> str:
    if reached is None:
        return f"{claim}: not measured"
    return f"{claim}: {'yes' if holds(reached) else 'NO'} ({reached:.1f})"


# -- The plot --


def plot(document: Document, path: Path) -> bool:
    """Draw scores over size of cache, a panel for each trace; False without matplotlib."""
    plt = report.canvas()
    if plt is None:
        return False
    found = misses(document)
    names = [name for name, count in participants(document) if count == 1]
    traces = list(document["requests"])
    figure, panels = plt.subplots(
        1, len(traces), figsize=(3 * len(traces), 4.5), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    labelled = {}
    for axes, trace in zip(panels[0], traces, strict=True):
        for place, name in enumerate(names):
            line = [
                (spot.share * 100, value)
                for sized in (False, True)
                for spot, value in scores(found, name, 1, is_sized=sized).items()
                if spot.trace == trace
            ]
            if line:
                (labelled[name],) = axes.plot(
                    *zip(*sorted(line), strict=True), **style(name, place)
                )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda number, _: f"{number:g} %")
        axes.set_title(trace, fontsize="medium")
        axes.set_xlabel("size of cache")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylim(bottom=LOWEST)
    panels[0][0].set_ylabel("percent fewer misses than first in, first out")
    figure.legend(
        labelled.values(), labelled, loc="outside lower center", ncols=5, fontsize="small"
    )
    report.save(figure, path)
    plt.close(figure)
    return True


def style(name: str, place: int) -> dict[str, Any]:
    """Return how the line of a contender is drawn: what this page is about stands out."""
    if name == BEST:
        return {"color": "black", "marker": "o", "markersize": 4, "zorder": 3}
    if name == OPTIMUM:
        return {"color": "grey", "linestyle": "--"}
    marks = "s ^ v D P X < > * h d".split()
    return {"color": f"C{place}", "marker": marks[place % len(marks)], "markersize": 4,
            "alpha": 0.8, "linewidth": 1}  # fmt: skip
