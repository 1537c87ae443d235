"""Compare this version of diskcache with 5.6.3, operation by operation.

Each version runs in a process and an environment of its own. Their rounds alternate, so that what
disturbs the machine disturbs both; the list is gone through several times, so that what disturbs
for seconds does not decide a row. The least of the rounds counts, the median stands beside it.
What the rows mean: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import environment
import report
from operations import Row
from report import NEW, OLD, Document, Measured
from rows import ROWS

HERE = Path(__file__).resolve().parent
QUICK = {"passes": 1, "rounds": 3, "scale": 0.2}
FAILED = 1
MISUSED = 2


class Side:
    """One version, in its own process."""

    def __init__(
        self,
        python: str,
        directory: str | None,
        *,
        quiet: bool,
        script: str = "worker.py",
        environ: dict[str, str] | None = None,
    ) -> None:
        command = [python, "-E", str(HERE / script), *([directory] if directory else [])]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
            env=None if environ is None else {**os.environ, **environ},
        )
        self.versions = self.ask("hello")

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send one request and return the answer; what went wrong is in its `error`."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            return {"error": "the worker has no pipes"}
        try:
            stdin.write(json.dumps({"do": do, **request}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except OSError as error:
            return {"error": f"the worker is gone: {error}"}
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the worker ended"}
        return answer

    def close(self) -> None:
        """Let the worker end, and wait for it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def sides(options: argparse.Namespace, script: str = "worker.py") -> Iterator[dict[str, Side]]:
    """Start the workers that are wanted."""
    pythons = {}
    if options.side in {OLD, "both"}:
        pythons[OLD] = options.old_python or environment.old_python()
    if options.side in {NEW, "both"}:
        pythons[NEW] = sys.executable
    with ExitStack() as stack:
        started = {}
        for name, python in pythons.items():
            started[name] = Side(
                python, options.directory, quiet=not options.verbose, script=script
            )
            stack.callback(started[name].close)
        yield started


def measure(
    row: Row, workers: dict[str, Side], rounds: int, scale: float, clock: str = "elapsed"
) -> Measured:
    """Measure one row on all sides, in turns; the first round warms up and does not count."""
    n = max(int(row.n * scale), 10)
    result: Measured = {"name": row.name, "n": n, "stage": row.stage, "final": row.final}
    for name, side in workers.items():
        result[name] = {
            "samples": [],
            "facts": [],
            **errors(side.ask("prepare", row=row.name, n=n)),
        }
    for number in range(rounds + 1):
        for name in sorted(workers, reverse=bool(number % 2)):
            if "error" in result[name]:
                continue
            answer = workers[name].ask("round")
            if number and "error" not in answer:
                result[name]["samples"].append(answer[clock])
                result[name]["facts"].append(answer["facts"])
            result[name].update(errors(answer))
    for side in workers.values():
        side.ask("finish")
    return result


def errors(answer: dict[str, Any]) -> dict[str, str]:
    """Return only what went wrong."""
    return {"error": answer["error"]} if "error" in answer else {}


def chosen(pattern: str | None) -> list[Row]:
    """Return the rows whose name contains *pattern*, a regular expression."""
    if pattern is None:
        return list(ROWS)
    return [row for row in ROWS if re.search(pattern, row.name)]


def run(options: argparse.Namespace, rows: Sequence[Row]) -> Document:
    """Measure *rows* and return the document."""
    directory = options.directory or tempfile.gettempdir()
    document: Document = {
        "machine": environment.machine(directory),
        "options": {
            "rounds": options.rounds * options.passes,
            "passes": options.passes,
            "scale": options.scale,
            "only": options.only,
            "clock": options.clock,
        },
    }
    with sides(options) as workers:
        document["versions"] = {name: side.ask("hello") for name, side in workers.items()}
        for name, found in document["versions"].items():
            if "error" in found:
                raise environment.EnvironmentProblemError(
                    f"diskcache {name} does not start: {found['error']}; see --verbose"
                )
        found_rows: dict[str, Measured] = {}
        for number in range(options.passes):
            for row in rows:
                measured = measure(row, workers, options.rounds, options.scale, options.clock)
                merged = found_rows.setdefault(row.name, measured)
                if merged is not measured:
                    merge(merged, measured, workers)
                line = "  ".join(filter(None, report.cells(merged)))
                print(f"{number + 1}/{options.passes} {line}", file=sys.stderr, flush=True)
    document["rows"] = list(found_rows.values())
    return document


def merge(row: Measured, later: Measured, names: Iterable[str]) -> None:
    """Add the rounds of a later pass to those of a row."""
    for name in names:
        row[name]["samples"] += later[name]["samples"]
        row[name]["facts"] += later[name]["facts"]
        row[name].update(errors(later[name]))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="PATTERN", help="rows whose name matches this expression")
    parser.add_argument("--passes", type=int, default=3, help="times through all rows (default: 3)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds per pass (default: 4)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies operations per round")
    parser.add_argument("--quick", action="store_true", help="1 pass of 3 rounds at scale 0.2")
    parser.add_argument(
        "--clock",
        choices=("elapsed", "cpu"),
        default="elapsed",
        help="cpu: processor time, steadier on a busy machine, but blind to waiting for the disk",
    )
    parser.add_argument("--side", choices=("both", OLD, NEW), default="both")
    parser.add_argument("--old-python", metavar="PATH", help="an interpreter that has 5.6.3")
    parser.add_argument("--directory", help="where the caches are made (default: as tempfile)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios (needs 'bench')")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="show what changed since")
    parser.add_argument("--markdown", action="store_true", help="print the table for a page")
    parser.add_argument("--list", action="store_true", help="list the rows and their targets")
    parser.add_argument("--verbose", action="store_true", help="show what the workers complain of")
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(QUICK)
    if options.passes < 1 or options.rounds < 1 or options.scale <= 0:
        parser.error("--passes and --rounds must be at least 1, and --scale above 0")
    return options


def targets(rows: Sequence[Row]) -> str:
    """Return the rows and how many times faster than 5.6.3 each must be."""
    lines = ((row.name, *(f"{t:g}x" if t else "" for t in (row.stage, row.final))) for row in rows)
    return report.aligned([("operation", "now", "in the end"), *lines])


def publish(document: Document, options: argparse.Namespace) -> None:
    """Print the table and write what was asked for."""
    print(report.table(document, as_markdown=options.markdown))
    if options.compare:
        older = json.loads(options.compare.read_text(encoding="utf-8"))
        print("\n" + report.comparison(document, older))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if options.plot and not report.plot(document, options.plot):
        print(
            "no plot: matplotlib is not installed; install it with: pip install 'diskcache[bench]'",
            file=sys.stderr,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether every row ran."""
    options = parse(arguments)
    rows = chosen(options.only)
    if not rows:
        print(f"no row matches {options.only!r}: see --list", file=sys.stderr)
        return MISUSED
    if options.list:
        print(targets(rows))
        return 0
    try:
        document = run(options, rows)
    except environment.EnvironmentProblemError as problem:
        print(problem, file=sys.stderr)
        return FAILED
    publish(document, options)
    failed = any("error" in row.get(side, {}) for row in document["rows"] for side in (OLD, NEW))
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
