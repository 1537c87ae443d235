"""The commands that copy a cache: `backup`, `export`, `import`, `copy`.

A standard output that is the archive carries nothing else: the report then goes to standard error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, cast

from diskcache import Archive, ArchiveError, Cache, DiskCacheError, FanoutCache
from diskcache.cache.journal import Track
from diskcache.cli import CommandError, ExitCode
from diskcache.cli.commands import (
    DATABASE,
    Result,
    connected,
    disk_of,
    opened_file,
    require_cache,
    require_room,
)
from diskcache.cli.render import Meter, Output, human_bytes
from diskcache.connecting import is_address
from diskcache.policy import is_policy

KEPT: Final = (
    "size_limit",
    "count_limit",
    "value_limit",
    "cull_limit",
    "eviction_policy",
    "size_weight",
    "tag_index",
    "disk_min_file_size",
)
"""Settings of an archive that a cache made for it gets."""

PIPE: Final = "-"


def run(args: Namespace, output: Output) -> int:
    """Run one of the commands, print what it did, and return an exit code."""
    functions = {"backup": _backup, "export": _export, "import": _import, "copy": _copy}
    function = functions[args.command]
    with output.meter(f"{args.command} {args.directory}") as meter:
        result = function(args, meter)
    to_stdout = args.command != "export" or args.file != PIPE
    if args.json:
        output.json(result.data, to_stdout=to_stdout)
    elif to_stdout:
        output.line(_sentence(args, result.data))
    else:
        output.note(_sentence(args, result.data))
    return result.code


# -- The commands ------------------------------------------------------------------------------


def _backup(args: Namespace, meter: Meter) -> Result:
    path = _expanded(args.destination)
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise CommandError(
            f"the destination must be missing or empty: got {args.destination!r}", ExitCode.USAGE
        )
    # Others can be kept from writing for a moment only by somebody who may write.
    readonly = not os.access(_expanded(args.directory), os.W_OK)
    with _opened(args, readonly=readonly) as cache:
        copied = cache.backup(path, progress=meter)
    return Result(copied._asdict(), ExitCode.FINDINGS if copied.lost else ExitCode.OK)


def _export(args: Namespace, meter: Meter) -> Result:
    target = cast("BinaryIO", sys.stdout.buffer) if args.file == PIPE else _expanded(args.file)
    with _opened(args, readonly=True) as cache:
        report = cache.export(target, pickles=not args.no_pickles, progress=meter)
    return Result(dataclasses.asdict(report))


def _import(args: Namespace, meter: Meter) -> Result:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_source(args.file))
        archive = stack.enter_context(Archive(file))
        size = os.fstat(file.fileno()).st_size if args.file != PIPE else 0
        cache = stack.enter_context(_target(args, archive))
        report = cache.import_from(archive, progress=lambda done, _: meter(done, size))
    code = ExitCode.FINDINGS if report.skipped or report.refused else ExitCode.OK
    return Result(dataclasses.asdict(report), code)


def _copy(args: Namespace, meter: Meter) -> Result:
    """Send the entries of one cache through a pipe into another, or the rest of them."""
    target = Namespace(**{**vars(args), "directory": args.destination})
    incoming, outgoing = os.pipe()
    failures: list[BaseException] = []
    track = Track()

    def send() -> None:
        try:
            with (
                # Whoever reads may stop, and says why.
                contextlib.suppress(BrokenPipeError),
                open(outgoing, "wb") as pipe,
                _opened(args, readonly=True) as cache,
            ):
                cache._send_copy(pipe, track, pickles=not args.no_pickles, progress=meter)
        except (CommandError, DiskCacheError, OSError, ValueError) as exc:
            failures.append(exc)
        finally:
            track.cancel()

    sender = threading.Thread(target=send, name="diskcache-copy")
    sender.start()
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(incoming, "rb"))
            archive = stack.enter_context(Archive(file))
            report = stack.enter_context(_target(target, archive))._take_copy(archive, track)
    except ArchiveError:
        sender.join()
        if not failures:
            raise
    finally:
        track.cancel()
        sender.join()
    if failures:
        # What was not sent is missed by whoever reads, and it is no fault of the archive.
        raise failures[0]
    code = ExitCode.FINDINGS if report.skipped or report.refused else ExitCode.OK
    return Result(dataclasses.asdict(report), code)


# -- Opening -----------------------------------------------------------------------------------


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))


def _is_fanout(directory: str) -> bool:
    return os.path.isfile(os.path.join(_expanded(directory), "000", DATABASE))


@contextlib.contextmanager
def _opened(args: Namespace, *, readonly: bool) -> Iterator[Cache | FanoutCache]:
    """Return a context with the cache of the command line, whichever of the two it is."""
    cache: Cache | FanoutCache
    if is_address(args.directory):
        cache = connected(args, readonly=readonly)
    elif _is_fanout(args.directory):
        cache = FanoutCache(
            args.directory, timeout=args.timeout, disk=disk_of(args), readonly=readonly
        )
    else:
        require_cache(args.directory)
        disk = disk_of(args)
        if not readonly:
            # Opening for writing makes lock files, also beside a stranger's database.
            Cache(args.directory, disk=disk, readonly=True).close()
        cache = Cache(args.directory, timeout=args.timeout, disk=disk, readonly=readonly)
    with contextlib.closing(cache):
        yield cache


def _is_new(directory: str) -> bool:
    """Whether there is no cache, but may be one."""
    if is_address(directory) or _is_fanout(directory):
        return False
    try:
        require_cache(directory)
    except CommandError:
        require_room(directory)
        return True
    return False


@contextlib.contextmanager
def _target(args: Namespace, archive: Archive) -> Iterator[Cache | FanoutCache]:
    """Return a context with the cache to import into; a new one is like that of the archive."""
    directory = args.directory
    if archive.writer and args.disk == "Disk":
        raise CommandError(
            f"the archive was written with the disk or serializer {archive.writer!r}: pass --disk,"
            " or import it by import_from in a program that has it",
            ExitCode.FAILED,
        )
    if not _is_new(directory):
        with _opened(args, readonly=False) as cache:
            yield cache
        return
    settings: dict[str, Any] = {
        name: value for name, value in archive.settings.items() if name in KEPT
    }
    if not is_policy(settings.get("eviction_policy")):
        settings.pop("eviction_policy", None)
    disk = disk_of(args)
    made: Cache | FanoutCache
    if archive.shards:
        made = FanoutCache(directory, archive.shards, args.timeout, disk, **settings)
    else:
        made = Cache(directory, args.timeout, disk, **settings)
    with contextlib.closing(made):
        yield made


@contextlib.contextmanager
def _source(path: str) -> Iterator[BinaryIO]:
    """Return a context with the archive of the command line, open for reading."""
    if path == PIPE:
        yield sys.stdin.buffer
        return
    with opened_file(_expanded(path)) as file:
        yield file


# -- Reports -----------------------------------------------------------------------------------


def _sentence(args: Namespace, data: dict[str, Any]) -> str:
    entries = f"{data['entries']:,} {'entry' if data['entries'] == 1 else 'entries'}"
    if args.command == "backup":
        lost = f"; {data['lost']:,} left out, whose files are unusable" if data["lost"] else ""
        return f"copied {entries}, {human_bytes(data['volume'])}{lost}"
    if args.command == "export":
        skipped = f"; {data['skipped']:,} left out" if data["skipped"] else ""
        return f"exported {entries}, {human_bytes(data['size'])}{skipped}"
    parts = [f"{'copied' if args.command == 'copy' else 'imported'} {entries}"]
    for name, text in (
        ("earlier", f"{'copied' if args.command == 'copy' else 'imported'} earlier"),
        ("skipped", "left out: pickles that may not be loaded here"),
        ("refused", "larger than the size limit"),
    ):
        if data[name]:
            parts.append(f"{data[name]:,} {text}")
    return "; ".join(parts)
