"""Replay traces of real accesses through caches on disk: which eviction policy misses less?

Each cache is asked for a key and, after a miss, given the entry; at several sizes, by one process
and by four that share a directory. Beside them: version 5.6.3, caches in memory, and what Belady's
look into the future would miss. The traces are not part of this project: name a folder of them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import environment
import eviction_report as reports
import report
from eviction_rows import MODEL, OLD_MARK, OPTIMUM, PACKAGES, SEPARATOR, TRACE
from eviction_traces import SHARES, Size, TraceError, files, name_of, read, sizes
from report import Document
from run import Side

FOLDER = environment.ROOT.parent / "shared" / "traces"
POLICIES = ("least-recently-stored", "least-recently-used", "least-frequently-used", "s3-fifo")
OLD = tuple(OLD_MARK + policy for policy in POLICIES[:2])
IN_MEMORY = ("theine", "cachebox LRU", "cachebox LFU")
CONTENDERS = (*POLICIES, *OLD, *IN_MEMORY, OPTIMUM)
MODELS = tuple(MODEL + policy for policy in POLICIES)
BRIEF = 20_000
"""Requests of each trace, unless all are wanted: some ten minutes on two cores."""
PROCESSES = (1, 4)
FAILED, MISUSED = 1, 2


class Cell(NamedTuple):
    """One replay."""

    path: Path
    footprint: int
    size: Size
    is_sized: bool
    contender: str
    processes: int


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """Yield what is to be replayed, trace by trace."""
    for path in files(options.traces, options.only_traces):
        trace = read(path, options.requests)
        is_sized = trace.sizes is not None
        for size in sizes(trace, options.shares):
            for processes in options.processes:
                for contender in options.only:
                    if is_possible(contender, processes, is_sized=is_sized):
                        yield Cell(path, trace.footprint, size, is_sized, contender, processes)


def is_possible(contender: str, processes: int, *, is_sized: bool) -> bool:
    """Tell whether a contender can be shared by so many, and knows sizes where there are some."""
    if contender.partition(" ")[0] in PACKAGES:
        return processes == 1 and not is_sized
    return processes == 1 or not (contender == OPTIMUM or contender.startswith(MODEL))


class Runner:
    """Has workers replay cells, and puts what they say into the document."""

    def __init__(self, options: argparse.Namespace, document: Document) -> None:
        self.options = options
        self.document = document

    def run(self) -> None:
        rows = self.document["rows"]
        done = {identity(row) for row in rows}
        wanted = [cell for cell in cells(self.options) if identity(about(cell)) not in done]
        with ThreadPoolExecutor(self.options.jobs) as pool:
            for number, row in enumerate(pool.map(self.replayed, wanted), 1):
                rows.append(row)
                print(f"{number}/{len(wanted)} {told(row)}", file=sys.stderr, flush=True)
                if self.options.json:
                    # What takes hours is not lost with the process.
                    reports.write(self.document, self.options.json)
        rows.sort(key=order)

    def replayed(self, cell: Cell) -> dict[str, Any]:
        """Replay one cell in a worker of its own."""
        row = about(cell)
        try:
            python = self.python(cell.contender)
        except environment.EnvironmentProblemError as problem:
            return {**row, "error": str(problem)}
        side = Side(
            python,
            self.options.directory,
            quiet=not self.options.verbose,
            script="eviction_rows.py",
            environ={TRACE: str(cell.path)},
        )
        with closing(side):
            self.document["versions"].setdefault(python_of(cell.contender), side.versions)
            return {**row, **self.answer(side, cell)}

    def answer(self, side: Side, cell: Cell) -> dict[str, Any]:
        name = SEPARATOR.join((cell.contender, str(cell.size.limit), str(cell.processes)))
        count = self.options.requests or sys.maxsize
        prepared = side.ask("prepare", row=name, n=count)
        if "error" in prepared:
            return prepared
        done = side.ask("round")
        if "error" in done:
            return done
        return {"microseconds": round(done["elapsed"] * 1e6, 2), **done["facts"]}

    def python(self, contender: str) -> str:
        if not contender.startswith(OLD_MARK):
            return sys.executable
        return str(self.options.old_python or environment.old_python())


def about(cell: Cell) -> dict[str, Any]:
    """Return what the row of a cell says before it is replayed."""
    return {
        "trace": name_of(cell.path),
        "footprint": cell.footprint,
        "is sized": cell.is_sized,
        **cell.size._asdict(),
        "contender": cell.contender,
        "processes": cell.processes,
    }


def identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("trace", "footprint", "limit", "contender", "processes"))


def order(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what sorts rows, those of a resumed run too."""
    place = (*CONTENDERS, *MODELS).index(row["contender"])
    return row["trace"], row["share"], row["processes"], place


def python_of(contender: str) -> str:
    return report.OLD if contender.startswith(OLD_MARK) else report.NEW


def told(row: dict[str, Any]) -> str:
    """Return one replay as a line."""
    where = f"{row['trace']} {row['share']:.1%}, {row['processes']} x {row['contender']}"
    return f"{where}: {row.get('error') or format(row['misses'], ',') + ' misses'}"


def run(options: argparse.Namespace) -> Document:
    """Replay everything; return the document."""
    document = begun(options)
    document["requests"] |= {
        name_of(path): len(read(path, options.requests).keys)
        for path in files(options.traces, options.only_traces)
    }
    Runner(options, document).run()
    return document


def begun(options: argparse.Namespace) -> Document:
    """Return the document of a run that is gone on with, without what failed; or a new one."""
    if options.resume and options.json.exists():
        document: Document = json.loads(options.json.read_text(encoding="utf-8"))
        document["rows"] = [row for row in document["rows"] if "error" not in row]
        return document
    directory = options.directory or tempfile.gettempdir()
    return {
        "machine": environment.machine(directory),
        "options": {"requests": options.requests},
        "versions": {},
        "requests": {},
        "rows": [],
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "traces", nargs="?", type=Path, default=FOLDER, metavar="FOLDER",
        help="where the traces are (default: ../shared/traces beside the project)",
    )  # fmt: skip
    parser.add_argument(
        "--requests", type=int, default=BRIEF, metavar="N",
        help=f"the first N requests of each trace (default: {BRIEF})",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="all requests: hours")
    parser.add_argument(
        "--only", nargs="+", choices=(*CONTENDERS, *MODELS), metavar="CONTENDER",
        help=f"some of: {', '.join((*CONTENDERS, *MODELS))}",
    )  # fmt: skip
    parser.add_argument(
        "--model", action="store_true",
        help="models of the policies in place of caches on disk: a minute or two",
    )  # fmt: skip
    parser.add_argument("--only-traces", nargs="+", default=(), metavar="NAME", help="some traces")
    parser.add_argument(
        "--shares", nargs="+", type=float, default=SHARES, metavar="SHARE",
        help="sizes, as shares of the footprint (default: 0.001 0.01 0.1 0.3)",
    )  # fmt: skip
    parser.add_argument("--processes", nargs="+", type=int, default=PROCESSES, help="default: 1 4")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="replays at once (default: as cores)"
    )
    parser.add_argument("--old-python", metavar="PATH", help="an interpreter that has 5.6.3")
    parser.add_argument("--directory", help="where the caches are made (default: as tempfile)")
    parser.add_argument("--markdown", action="store_true", help="print tables for a page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them (needs 'bench')")
    parser.add_argument(
        "--resume", action="store_true", help="keep what the file of --json has, add the rest"
    )
    parser.add_argument(
        "--shown", type=Path, metavar="FILE", help="show an earlier run instead of a new one"
    )
    parser.add_argument("--verbose", action="store_true", help="show what the workers complain of")
    return checked(parser, parser.parse_args(arguments))


def checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.Namespace:
    if options.full:
        options.requests = None
    if options.requests is not None and options.requests < 1:
        parser.error("--requests must be at least 1")
    if not all(0 < share < 1 for share in options.shares):
        parser.error("--shares must be between 0 and 1")
    if min(options.processes) < 1 or options.jobs < 1:
        parser.error("--processes and --jobs must be at least 1")
    if options.resume and not options.json:
        parser.error("--resume needs --json")
    if not options.only:
        options.only = (*MODELS, *IN_MEMORY, OPTIMUM) if options.model else CONTENDERS
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay, print, write what was asked for; 1 if a replay failed."""
    options = parse(arguments)
    try:
        if options.shown:
            document = json.loads(options.shown.read_text(encoding="utf-8"))
        else:
            document = run(options)
    except TraceError as problem:
        print(problem, file=sys.stderr)
        return MISUSED
    text = reports.text(document, as_markdown=options.markdown)
    report.deliver(document, text, reports.plot, json_path=None, plot_path=options.plot)
    if options.json:
        reports.write(document, options.json)
    failed = any("error" in row or row["wrong"] for row in document["rows"])
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
