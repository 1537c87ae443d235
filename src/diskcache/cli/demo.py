"""The demonstration: an expensive job on real input, run once, from the cache, and in part.

The job is the analysis of every source file of the running Python's standard library, done by
several processes that share one cache directory. All figures are measured while it runs.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import shutil
import sys
import sysconfig
import tempfile
import time
import uuid
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from diskcache import Cache, __version__
from diskcache.cli import CommandError, ExitCode, crew
from diskcache.cli.analysis import Report, Summary, source_files, summarise
from diskcache.cli.commands import require_room
from diskcache.cli.render import Output, human_bytes, human_seconds, human_time

RECORD: Final = "demo"
"""Key of the figures of the last run that had to compute everything; it marks the directory."""

TITLES: Final = ("first run", "second run", "one file changed")


class Job(NamedTuple):
    """What is to be done, and how."""

    directory: str
    root: str
    paths: list[str]
    processes: int
    method: str | None


class Run(NamedTuple):
    """What happened when all files were analysed once."""

    title: str
    seconds: float
    computed: list[str]
    """Files whose analysis really ran, because the cache did not have it: the misses."""
    reports: dict[str, Report]
    digests: dict[str, str]


def run(args: Namespace, output: Output) -> int:
    """Do the three runs, print what was measured, and return an exit code."""
    job = _job(args)
    record = _claim(job.directory)
    _say(output, *_introduction(job, record))
    first = _run(job, TITLES[0], output)
    if len(first.computed) == len(job.paths):
        record = _write_record(job, first)
    again = _run(job, TITLES[1], output)
    summary = summarise(first.reports.values())
    changed, third = _run_changed(job, summary, output)
    runs = (first, again, third)
    broken = _broken_promises(runs, changed)
    data = _data(job, runs, summary, changed, record) | {"broken_promises": broken}
    if args.json:
        output.json(data)
    else:
        _print(job, data, output)
    for promise in broken:
        output.note(f"error: {promise}")
    return ExitCode.FAILED if broken else ExitCode.OK


# -- Before ------------------------------------------------------------------------------------


def _job(args: Namespace) -> Job:
    """Return what the command line asks for.

    Raises:
        CommandError: There is nothing to analyse, or the directory is not free.
    """
    root = os.path.abspath(args.root or sysconfig.get_paths()["stdlib"])
    paths = source_files(root)
    if not paths:
        raise CommandError(
            f"no Python files below {root!r}: name a folder with --root", ExitCode.USAGE
        )
    if args.directory is not None:
        require_room(args.directory)
    return Job(
        directory=args.directory or tempfile.mkdtemp(prefix="diskcache-demo-"),
        root=root,
        paths=paths,
        processes=args.processes or max(2, _cores()),
        method=args.start_method,
    )


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _claim(directory: str) -> dict[str, Any]:
    """Mark the cache as the demonstration's; return the figures kept there, or none.

    Raises:
        CommandError: It holds entries of something else, which this could push out.
    """
    with contextlib.closing(Cache(directory)) as cache:
        record = cache.get(RECORD)
        if not isinstance(record, dict):
            if len(cache):
                raise CommandError(
                    f"{directory!r} is a cache of something else with {len(cache):,} entries: "
                    "choose a directory that is missing or empty",
                    ExitCode.USAGE,
                )
            record = {}
            cache.set(RECORD, record)
            # So that `info` shows the hits and misses of everybody who uses the directory.
            cache.stats(enable=True)
        return record


# -- The runs ----------------------------------------------------------------------------------


def _run(job: Job, title: str, output: Output) -> Run:
    """Analyse all files once, and measure it; workers are started anew for each run."""
    done: list[crew.Done] = []
    started = time.perf_counter()
    work = crew.analyse_files(
        job.directory, job.root, job.paths, processes=job.processes, method=job.method
    )
    with contextlib.closing(work), output.progress(title, len(job.paths)) as advance:
        for one in work:
            done.append(one)
            advance(1)
    seconds = time.perf_counter() - started
    return Run(
        title=title,
        seconds=seconds,
        computed=sorted(one.report["path"] for one in done if one.computed),
        reports={one.report["path"]: one.report for one in done},
        digests={one.report["path"]: one.digest for one in done},
    )


def _run_changed(job: Job, summary: Summary, output: Output) -> tuple[str, Run]:
    """Analyse a temporary copy of the tree in which one file is changed."""
    ranked = summary["complex_functions"]
    changed = ranked[0][2] if ranked else job.paths[0]
    with tempfile.TemporaryDirectory(prefix="diskcache-demo-tree-") as copy:
        for path in job.paths:
            target = os.path.join(copy, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(os.path.join(job.root, path), target)
        with open(os.path.join(copy, changed), "ab") as file:
            # A new name each time: with the same one a second demonstration would find the file.
            file.write(f"\n\ndef added_{uuid.uuid4().hex}():\n    return 1\n".encode("ascii"))
        return changed, _run(job._replace(root=copy), TITLES[2], output)


def _write_record(job: Job, first: Run) -> dict[str, Any]:
    """Keep the figures of a run that computed everything, for later demonstrations."""
    record = {
        "analysis": crew.NAME,
        "root": job.root,
        "files": len(job.paths),
        "processes": job.processes,
        "seconds": first.seconds,
        "finished": time.time(),
    }
    with contextlib.closing(Cache(job.directory)) as cache:
        cache.set(RECORD, record)
    return record


def _broken_promises(runs: Sequence[Run], changed: str) -> list[str]:
    """Return what should have been true of the three runs and was not."""
    first, again, third = runs
    broken = []
    if again.computed:
        broken.append(f"the second run computed {len(again.computed):,} files, not 0")
    if again.reports != first.reports:
        broken.append("the second run gave other results than the first")
    if third.computed != [changed]:
        broken.append(
            f"the third run computed {len(third.computed):,} files, not {changed!r} alone"
        )
    others = [path for path in first.reports if path != changed]
    if any(third.reports.get(path) != first.reports[path] for path in others):
        broken.append("the third run gave other results for files that were not changed")
    return broken


# -- After -------------------------------------------------------------------------------------


def _data(
    job: Job, runs: Sequence[Run], summary: Summary, changed: str, record: dict[str, Any]
) -> dict[str, Any]:
    """Return all figures, as JSON shows them."""
    first, again, third = runs
    with contextlib.closing(Cache(job.directory, readonly=True)) as cache:
        entries, size = len(cache), cache.disk_usage()
    comparable = record.get("analysis") == crew.NAME and record.get("root") == job.root
    cold = record["seconds"] if comparable else None
    return {
        "directory": job.directory,
        "root": job.root,
        "python": platform.python_version(),
        "processes": job.processes,
        "warm": len(first.computed) < len(job.paths),
        "runs": [_run_data(one) for one in runs],
        "cold_seconds": cold,
        "speed_up": None if cold is None else cold / again.seconds,
        "entries": entries,
        "disk_usage": size,
        "summary": summary,
        "changed": changed,
        "recomputed": third.computed,
        "look_inside": _look_inside(job, changed, first.digests[changed]),
    }


def _run_data(run: Run) -> dict[str, Any]:
    """Return the figures of one run."""
    return {
        "title": run.title,
        "files": len(run.reports),
        "hits": len(run.reports) - len(run.computed),
        "misses": len(run.computed),
        "seconds": run.seconds,
    }


def _look_inside(job: Job, path: str, digest: str) -> list[str]:
    """Return commands that show what the demonstration left behind."""
    python = sys.executable
    if python.startswith(os.getcwd() + os.sep):
        python = os.path.relpath(python)
    # Double quotes inside, since the shell wants single ones around.
    key = f'("{crew.NAME}", "{path}", "{digest}", None)'
    commands: tuple[tuple[str, ...], ...] = (
        ("info", job.directory),
        ("ls", job.directory, "--tag", crew.TAG, "--limit", "10"),
        ("get", job.directory, RECORD),
        ("get", job.directory, "--type", "literal", key),
        ("check", job.directory),
        ("demo", job.directory),
    )
    return [shlex.join((python, "-m", "diskcache", *command)) for command in commands]


# -- Printing ----------------------------------------------------------------------------------


def _say(output: Output, *lines: str) -> None:
    """Print lines, unless only JSON is wanted."""
    if not output.as_json:
        for line in lines:
            output.line(line)
        output.stdout.flush()


def _introduction(job: Job, record: dict[str, Any]) -> list[str]:
    """Return what is going to happen."""
    size = sum(os.path.getsize(os.path.join(job.root, path)) for path in job.paths)
    lines = [
        f"DiskCache {__version__} on Python {platform.python_version()}",
        f"  input  {len(job.paths):,} files, {human_bytes(size)}, in {job.root}",
        "  job    parse each file, rate each function's complexity, follow the imports",
        f"  cache  {job.directory}",
        f"  work   {job.processes} processes that share the cache directory",
    ]
    if record.get("analysis") == crew.NAME:
        lines.append(
            f"  warm   filled on {human_time(record['finished'])} by a run that took "
            f"{human_seconds(record['seconds'])}"
        )
    return [*lines, ""]


def _print(job: Job, data: dict[str, Any], output: Output) -> None:
    """Print all figures for a person."""
    _print_runs(data, output)
    output.line()
    output.line("Only what changed is computed again")
    output.line(f"  changed     {data['changed']}, in a temporary copy of the tree")
    output.line(f"  recomputed  {', '.join(data['recomputed']) or 'nothing'}")
    output.line(f"  from cache  {data['runs'][2]['hits']:,} other files")
    _print_summary(data["summary"], output)
    output.line()
    output.line("Look inside")
    for command in data["look_inside"]:
        output.line(f"  {command}")
    output.line(f"Delete it all: rm -r {shlex.quote(job.directory)}")


def _print_runs(data: dict[str, Any], output: Output) -> None:
    """Print the three runs beside each other."""
    cold = data["cold_seconds"]
    output.line()
    output.table(
        ("", "files", "misses", "hits", "seconds", "speed-up"),
        [
            (
                one["title"],
                one["files"],
                one["misses"],
                one["hits"],
                one["seconds"],
                "-" if cold is None else f"{cold / one['seconds']:.1f}x",
            )
            for one in data["runs"]
        ],
    )
    output.line()
    if data["warm"]:
        output.line(
            f"The first run started warm: {data['runs'][0]['hits']:,} results were there from an "
            "earlier demonstration; speed-up is measured against the run that computed them."
        )
    output.line("A miss was computed, a hit came from the cache.")
    output.line(f"On disk: {data['entries']:,} entries, {human_bytes(data['disk_usage'])}")


def _print_summary(summary: Summary, output: Output) -> None:
    """Print what the analysis found."""
    output.line()
    output.line(
        f"Found in {summary['files']:,} files: {summary['lines']:,} lines, "
        f"{summary['functions']:,} functions, {summary['edges']:,} imports between modules; "
        f"{summary['unparsable']:,} files could not be parsed"
    )
    output.line()
    output.table(
        ("complexity", "function", "place"),
        [
            (complexity, name, f"{path}:{line}")
            for complexity, name, path, line in summary["complex_functions"]
        ],
    )
    output.line()
    output.table(("importers", "module"), [(n, name) for name, n in summary["imported_modules"]])
