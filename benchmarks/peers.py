"""Compare this version with other ways to keep things, one key at a time.

Each contender runs in a process of its own, in turns; the least of several rounds counts. Redis and
memcached are started on free ports of loopback where they are installed, and ended afterwards. The
other peers are installed into `.bench/peers`. What is not on the machine is shown as "not here".
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import environment
import report
from contenders import (
    CONTENDERS,
    GET,
    ITEM,
    MEMCACHED,
    NEW,
    NO_SUCH_OPERATION,
    OLD,
    OPERATIONS,
    PEER,
    REDIS,
    SIZES,
    WHO,
    WRITES,
)
from operations import Row
from report import Document, Measured, best
from run import Side, measure, merge

OURS = "diskcache"
WITHIN = 4
"""A hot read takes at most as many times what `functools.lru_cache` takes."""
COLD = 1.3
"""On a server an operation takes at most as many times what the client alone takes."""
HOT = 50
"""A hit in memory is at least as many times faster than a read from the server."""
UP_TO = ("40 B", "4 kB")
"""Sizes at which servers are to be slower."""
WAIT = 60
"""Seconds that a server may take to listen."""
NOT_HERE, NO_SUCH = "not here", "-"
FAILED = 1


# -- Servers --


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def redis_command(port: int, folder: str) -> list[str]:
    return [
        "redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", folder,
        "--save", "", "--appendonly", "no",
    ]  # fmt: skip


def memcached_command(port: int, _: str) -> list[str]:
    user = ["-u", "root"] if os.geteuid() == 0 else []
    return ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "256", *user]


SERVERS = {
    "redis": ("redis-server", REDIS, redis_command),
    "memcached": ("memcached", MEMCACHED, memcached_command),
}


@contextmanager
def servers(names: Sequence[str], folder: str) -> Iterator[dict[str, str]]:
    """Start the servers that are wanted and installed; give the variables that name their ports."""
    with ExitStack() as stack:
        variables = {}
        for binary, variable, command in SERVERS.values():
            is_wanted = any(CONTENDERS[each].variable == variable for each in names)
            if not is_wanted or shutil.which(binary) is None:
                continue
            port = free_port()
            process = subprocess.Popen(
                command(port, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            if listens(port, process):
                variables[variable] = str(port)
        yield variables


def listens(port: int, process: Any) -> bool:
    """Wait until a server answers; False if it ended instead."""
    deadline = time.monotonic() + WAIT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


# -- Measuring --


def pythons(names: Sequence[str], options: argparse.Namespace) -> dict[str, str]:
    """Return the interpreter of each contender; one whose environment cannot be made has none."""
    makers = {
        NEW: lambda: sys.executable,
        OLD: lambda: options.old_python or environment.old_python(),
        PEER: lambda: options.peers_python or environment.peers_python(),
    }
    found: dict[str, str] = {}
    for where in {CONTENDERS[name].where for name in names}:
        try:
            found[where] = makers[where]()
        except environment.EnvironmentProblemError as problem:
            print(problem, file=sys.stderr)
    wheres = {name: CONTENDERS[name].where for name in names}
    return {name: found[where] for name, where in wheres.items() if where in found}


@contextmanager
def sides(options: argparse.Namespace, names: Sequence[str]) -> Iterator[dict[str, Side]]:
    """Start a worker for every contender that is here."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="diskcache-servers-"))
        variables = stack.enter_context(servers(names, folder))
        started = {}
        for name, python in pythons(names, options).items():
            side = Side(
                python,
                options.directory,
                quiet=not options.verbose,
                script="contenders.py",
                environ={**variables, WHO: name},
            )
            stack.callback(side.close)
            if "error" not in side.versions:
                started[name] = side
        yield started


def run(options: argparse.Namespace, names: Sequence[str]) -> Document:
    """Measure and return the document."""
    directory = options.directory or tempfile.gettempdir()
    document: Document = {
        "machine": environment.machine(directory),
        "options": {
            "rounds": options.rounds * options.passes,
            "scale": options.scale,
            "sizes": options.sizes,
        },
        "contenders": list(names),
    }
    pairs = [(size, operation) for size in options.sizes for operation in OPERATIONS]
    with sides(options, names) as workers:
        document["versions"] = {name: side.versions for name, side in workers.items()}
        rows: dict[tuple[str, str], Measured] = {}
        for number in range(options.passes):
            for size, operation in pairs:
                row = Row(f"{operation}/{size}", WRITES[size], lambda _: None)
                measured = measure(row, workers, options.rounds, options.scale)
                merged = rows.setdefault((size, operation), measured)
                if merged is not measured:
                    merge(merged, measured, workers)
                shown = ", ".join(f"{name} {microseconds(merged, name)}" for name in workers)
                print(f"{number + 1}/{options.passes} {row.name}: {shown}", file=sys.stderr)
    document["rows"] = [
        {**measured, "size": size, "operation": operation}
        for (size, operation), measured in rows.items()
    ]
    return document


# -- What it shows --


def microseconds(row: Measured, name: str) -> str:
    """Return the least time of one contender, or why there is none."""
    found = row.get(name)
    if found is None:
        return NOT_HERE
    if "error" in found:
        return NO_SUCH if found["error"].endswith(NO_SUCH_OPERATION) else "failed"
    seconds = best(row, name)
    return NO_SUCH if seconds is None else f"{seconds * 1e6:.2f}"


def named(document: Document, name: str) -> str:
    """Return a contender with its version."""
    found = document["versions"].get(name, {})
    contender = CONTENDERS[name]
    number = found.get(contender.package) if contender.package else found.get("dbm")
    is_told = number is None or number in contender.title
    return contender.title if is_told else f"{contender.title} ({number})"


def tables(document: Document, *, as_markdown: bool) -> str:
    """Return a table for each size of value."""
    parts = []
    for size in document["options"]["sizes"]:
        rows = {row["operation"]: row for row in document["rows"] if row["size"] == size}
        lines = [
            (f"values of {size}", *rows),
            *(
                (named(document, name), *(microseconds(row, name) for row in rows.values()))
                for name in document["contenders"]
            ),
        ]
        parts.append(report.laid_out(lines, as_markdown=as_markdown))
    return "\n\n".join(parts)


def text(document: Document, *, as_markdown: bool = False) -> str:
    """Return the run as text: microseconds per operation."""
    heading = (
        f"{report.place(document['machine'])}\n"
        f"us per operation, least of {document['options']['rounds']} rounds"
    )
    return "\n\n".join(
        (heading, tables(document, as_markdown=as_markdown), "\n".join(claims(document)))
    )


def claims(document: Document) -> list[str]:
    """Return what is to be so, and whether it was."""
    rows = document["rows"]
    hot = [row for row in rows if row["operation"] in {GET, ITEM}]
    small = [row for row in rows if row["size"] in UP_TO]
    return [
        judged("hot reads ahead of", hot, "lmdb", 1),
        judged("hot reads ahead of", hot, "rocksdict", 1),
        judged("up to 4 kB ahead of", small, "redis", 1),
        judged("up to 4 kB ahead of", small, "memcached", 1),
        judged(f"hot reads within {WITHIN}x of", hot, "lru_cache", WITHIN),
        judged(f"on a server within {COLD}x of", small, "redis-py", COLD, ours="remote"),
        judged("on a server ahead of", small, "django redis", 1, ours="remote"),
        judged(f"on a server hot reads {HOT}x ahead of", hot, "redis-py", 1 / HOT, "remote hot"),
    ]


def judged(
    claim: str, rows: Sequence[Measured], other: str, allowed: float, ours: str = OURS
) -> str:
    """Return a claim with the rows that contradict it."""
    both = [(row, best(row, ours), best(row, other)) for row in rows]
    ratios = {row["name"]: ours / theirs for row, ours, theirs in both if ours and theirs}
    against = [f"{name}: {ratio:.2f}x" for name, ratio in ratios.items() if ratio > allowed]
    verdict = "not measured" if not ratios else f"NO ({', '.join(against)})" if against else "yes"
    return f"{claim} {CONTENDERS[other].title}: {verdict}"


def plot(document: Document, path: Path) -> bool:
    """Draw a panel for each size: a mark per contender; False if matplotlib is not installed."""
    plt = report.canvas()
    if plt is None:
        return False
    sizes = document["options"]["sizes"]
    figure, panels = plt.subplots(
        1, len(sizes), figsize=(4 * len(sizes), 4.2), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    marks = "o s ^ v D P X < > * h d p H 8 1 2 3".split()
    places = {operation: place for place, operation in enumerate(reversed(OPERATIONS))}
    for axes, size in zip(panels[0], sizes, strict=True):
        rows = [row for row in document["rows"] if row["size"] == size]
        for name, mark in zip(CONTENDERS, marks, strict=True):
            found = [(best(row, name), places[row["operation"]]) for row in rows]
            points = [(seconds * 1e6, place) for seconds, place in found if seconds]
            if points:
                colour = {"color": "black", "zorder": 3} if name == OURS else {"alpha": 0.8}
                axes.plot(*zip(*points, strict=True), mark, label=CONTENDERS[name].title, **colour)
        axes.set_xscale("log")
        axes.set_title(f"values of {size}")
        axes.set_xlabel("us per operation")
        axes.grid(axis="x", alpha=0.3)
    panels[0][0].set_yticks(list(places.values()), list(places))
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize="small")
    report.save(figure, path)
    plt.close(figure)
    return True


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="CONTENDER",
        help=f"some of: {', '.join(CONTENDERS)}",
    )  # fmt: skip
    parser.add_argument(
        "--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="sizes of values"
    )
    parser.add_argument("--passes", type=int, default=2, help="times through all rows (default: 2)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds per pass (default: 4)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies operations per round")
    parser.add_argument("--old-python", metavar="PATH", help="an interpreter that has 5.6.3")
    parser.add_argument("--peers-python", metavar="PATH", help="an interpreter that has the peers")
    parser.add_argument("--directory", help="where they keep things (default: as tempfile)")
    parser.add_argument("--markdown", action="store_true", help="print tables for a page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them (needs 'bench')")
    parser.add_argument("--verbose", action="store_true", help="show what the workers complain of")
    options = parser.parse_args(arguments)
    if options.passes < 1 or options.rounds < 1 or options.scale <= 0:
        parser.error("--passes and --rounds must be at least 1, and --scale above 0")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write what was asked for; 1 if something failed that is here."""
    options = parse(arguments)
    names = [name for name in CONTENDERS if name in options.only]
    document = run(options, names)
    report.deliver(
        document, text(document, as_markdown=options.markdown), plot,
        json_path=options.json, plot_path=options.plot,
    )  # fmt: skip
    failed = any(microseconds(row, name) == "failed" for row in document["rows"] for name in names)
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
