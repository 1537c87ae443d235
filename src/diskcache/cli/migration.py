"""`diskcache migrate`: directories of version 5 become directories of this version."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from argparse import Namespace
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from diskcache import Cache, Disk, FanoutCache
from diskcache.cache import migration
from diskcache.cli import CommandError, ExitCode
from diskcache.cli.commands import disk_of
from diskcache.cli.render import Cell, Output
from diskcache.engines.sqlite.upgrade import alone
from diskcache.fanout import upgrading
from diskcache.files import ValueFiles

SHARD: Final = re.compile(r"[0-9]{3}")


class Part(NamedTuple):
    """A cache at or below the directory of the command line."""

    path: str
    shards: list[str]
    """Directories of its shards; none for a `Cache`."""


def run(args: Namespace, output: Output) -> int:
    """Migrate what is at and below a directory; print what was done."""
    disk = disk_of(args)
    parts = list(_parts(os.path.expandvars(os.path.expanduser(args.directory))))
    if not parts:
        raise CommandError(
            f"{args.directory!r} is not a cache: there is no cache.db in it, nor below it",
            ExitCode.NOT_A_CACHE,
        )
    reports = []
    with _log_as_notes(output):
        for part in parts:
            report = migration.Report()
            entries = (
                _preview(part, report, disk)
                if args.dry_run
                else _migrate(part, report, disk, args, output)
            )
            reports.append((part, entries, report))
    _show(args, reports, output)
    return ExitCode.FINDINGS if any(report.left for *_, report in reports) else ExitCode.OK


def _parts(directory: str) -> Iterator[Part]:
    """Yield the caches at and below a directory; the shards of one are not caches themselves."""
    for folder, folders, files in os.walk(directory):
        folders.sort()
        shards = upgrading.shard_directories(folder)
        if shards:
            yield Part(folder, shards)
            folders[:] = [name for name in folders if not SHARD.fullmatch(name)]
        elif "cache.db" in files:
            yield Part(folder, [])


def _preview(part: Part, report: migration.Report, disk: type[Disk]) -> int:
    """Count what a migration would do."""
    entries = 0
    for directory in part.shards or [part.path]:
        found = migration.preview(os.path.realpath(directory), report, ValueFiles(directory))
        if found is None:
            with contextlib.closing(Cache(directory, disk=disk, readonly=True)) as cache:
                migration.Migration(cache, trust=False, report=report, dry_run=True).run()
                found = len(cache)
        entries += found
    return entries


def _migrate(
    part: Part, report: migration.Report, disk: type[Disk], args: Namespace, output: Output
) -> int:
    """Upgrade a cache and encode anew what is pickled in it."""
    kind: type[Any] = FanoutCache if part.shards else Cache
    with output.working(f"upgrade {part.path}"):
        cache = kind(part.path, timeout=args.timeout, disk=disk)
    steps: Any = upgrading if part.shards else migration
    with contextlib.closing(cache), alone(os.path.realpath(part.path)):
        total = steps.count_pickled(cache)
        with output.progress(f"migrate {part.path}", total) as advance:
            steps.migrate(cache, trust=args.trust_pickles, report=report, progress=advance)
        return len(cache)


@contextlib.contextmanager
def _log_as_notes(output: Output) -> Iterator[None]:
    """Return a context in which what the library logs is shown beside the result."""

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            output.note(record.getMessage())

    log, handler = logging.getLogger("diskcache"), Notes()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _show(
    args: Namespace, reports: list[tuple[Part, int, migration.Report]], output: Output
) -> None:
    data = {
        "dry_run": args.dry_run,
        "caches": [
            {
                "directory": part.path,
                "shards": len(part.shards),
                "entries": entries,
                "converted": dict(report.converted),
                "kept": dict(report.kept),
                "failed": dict(report.failed),
            }
            for part, entries, report in reports
        ],
    }
    if args.json:
        output.json(data)
        return
    done = "to be encoded anew" if args.dry_run else "encoded anew"
    for part, entries, report in reports:
        output.line(f"{part.path}: {entries:,} entries")
        rows: list[tuple[Cell, ...]] = [
            (count, what, state)
            for counts, state in (
                (report.converted, done),
                (report.kept, "kept, not trusted"),
                (report.failed, "kept, cannot be loaded"),
            )
            for what, count in counts.most_common()
        ]
        if rows:
            output.table(("entries", "pickle of", "state"), rows)
    if any(report.kept for *_, report in reports):
        output.line(
            "Pickles that name classes are loaded with --trust-pickles; only do so if nobody else"
            " could write to the directory."
        )
