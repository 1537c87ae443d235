"""One version of `diskcache` in a process of its own, driven by lines of JSON.

Reads one request per line from standard input, answers each with one line on standard output:

    {"do": "hello"}                            -> versions
    {"do": "prepare", "row": NAME, "n": N}     -> {}
    {"do": "round"}                            -> {"elapsed": S, "cpu": S, "facts": {...}}
    {"do": "finish"}                           -> {}

Seconds are those of one operation. An error is answered by {"error": TEXT}; the worker goes on.
`serve` does the same for scripts that have rows of their own.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

from operations import Bench, Place, Row


class Worker:
    """The row that is set up, and its directory."""

    def __init__(
        self,
        parent: str | None,
        row_named: Callable[[str], Row],
        hello: Callable[[], dict[str, Any]],
    ) -> None:
        self.parent = parent
        self.row_named = row_named
        self.hello = hello
        self.folder: str | None = None
        self.bench: Bench | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked."""
        match request["do"]:
            case "hello":
                return self.hello()
            case "prepare":
                self.finish()
                self.folder = tempfile.mkdtemp(prefix="diskcache-bench-", dir=self.parent)
                row = self.row_named(request["row"])
                self.bench = row.make(Place(self.folder, request["n"]))
                return {}
            case "round":
                return self.round()
            case "finish":
                self.finish()
                return {}
            case other:
                raise ValueError(f"unknown request {other!r}")

    def round(self) -> dict[str, Any]:
        """Run the row once; garbage is collected before, not meanwhile."""
        bench = self.bench
        if bench is None:
            raise ValueError("no row is prepared")
        bench.before()
        gc.collect()
        gc.disable()
        try:
            start, started = process_time(), perf_counter()
            measured = bench.run()
            elapsed, cpu = perf_counter() - started, process_time() - start
        finally:
            gc.enable()
        bench.after()
        if measured is not None:
            elapsed = cpu = measured
        n = bench.operations
        return {"elapsed": elapsed / n, "cpu": cpu / n, "facts": bench.facts}

    def finish(self) -> None:
        """Let go of the row and remove its directory."""
        bench, self.bench = self.bench, None
        folder, self.folder = self.folder, None
        try:
            if bench is not None:
                bench.close()
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def versions() -> dict[str, Any]:
    """Return what this process runs on."""
    import diskcache

    found = {"diskcache": diskcache.__version__, "python": sys.version.split()[0]}
    if diskcache.__version__.startswith("5."):
        import sqlite3

        found["sqlite"] = sqlite3.sqlite_version
    else:
        import apsw

        found["sqlite"] = apsw.sqlite_lib_version()
    return found


def serve(row_named: Callable[[str], Row], hello: Callable[[], dict[str, Any]] = versions) -> None:
    """Answer requests about the rows that *row_named* finds, until there are none."""
    warnings.simplefilter("ignore")
    worker = Worker(sys.argv[1] if len(sys.argv) > 1 else None, row_named, hello)
    # Children of a row, and whatever else prints, must not write between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            reply = worker.answer(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever a version raises is its result
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()
    worker.finish()


if __name__ == "__main__":
    from rows import row_named

    serve(row_named)
