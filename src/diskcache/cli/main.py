"""The command line: parses arguments, calls a command, prints its result, returns a code."""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from diskcache import errors
from diskcache.cli import CommandError, ExitCode

if TYPE_CHECKING:
    from diskcache.cli.commands import Result
    from diskcache.cli.render import Output

TYPES: Final = ("str", "int", "float", "bytes", "json", "literal")

LONG: Final = frozenset({"check", "evict", "expire", "cull", "clear"})
"""Commands that may take minutes on a large cache."""

COPYING: Final = frozenset({"backup", "copy", "export", "import"})
"""Commands that show their own progress."""

EPILOG: Final = """\
exit codes:
  0    done
  1    no such key, check found problems, a copy had to leave entries out, or migrate left
       pickles
  2    the command line makes no sense; nothing was done
  3    the directory is not a cache, or cannot be opened; it was left untouched
  4    the cache was busy for longer than --timeout seconds
  5    the cache or the archive is damaged, the cache is full or read-only, an entry may not be
       loaded or stored, or the server cannot be reached
  130  interrupted by Ctrl-C
  141  the reader of the output went away

A key or value that starts with '-' goes behind '--':  diskcache get DIR -- -key
"""


# -- The parser --------------------------------------------------------------------------------


def _common(directory: bool, disk: bool) -> argparse.ArgumentParser:
    """Return the arguments that every command has, or all that open a cache of somebody's."""
    common = argparse.ArgumentParser(add_help=False)
    if directory:
        common.add_argument(
            "directory", metavar="DIR", help="directory of the cache, or URL of a server"
        )
    common.add_argument("--json", action="store_true", help="print one JSON document")
    common.add_argument(
        "--timeout",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for the write lock (default: %(default)s)",
    )
    if disk:
        common.add_argument(
            "--disk",
            default="Disk",
            metavar="NAME",
            help="how DIR was opened: Disk, JSONDisk or MODULE:CLASS (default: %(default)s)",
        )
    return common


def _seconds(text: str) -> float:
    """Return a period given on the command line."""
    seconds = float(text)
    if math.isnan(seconds):
        raise ValueError(text)
    return seconds


def _count(text: str) -> int:
    """Return a number of things given on the command line."""
    count = int(text)
    if count < 0:
        raise ValueError(text)
    return count


# argparse names the type in its message when the text does not fit.
_seconds.__name__ = "number of seconds"
_count.__name__ = "count"


def _key_type(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--type",
        choices=TYPES,
        default="str",
        help="what the key is; 'literal' reads Python, for example \"('a', 1)\" (default: str)",
    )


def _tag_type(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tag-type",
        choices=("str", "int", "float", "bytes"),
        default="str",
        help="what the tag is (default: str)",
    )


def _looking(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands that change nothing."""
    add("info", "show the figures of a cache: entries, sizes, limits, hits and misses")

    ls = add("ls", "list the live entries, the oldest key first")
    ls.add_argument("--prefix", metavar="TEXT", help="only text keys that start with TEXT")
    ls.add_argument("--tag", metavar="TAG", help="only entries with this tag")
    _tag_type(ls)
    ls.add_argument(
        "--limit",
        type=_count,
        default=1000,
        metavar="N",
        help="stop after N entries; 0 lists all (default: %(default)s)",
    )

    get = add("get", "print one value: text as it is, other values as Python writes them")
    get.add_argument("key", metavar="KEY", help="key of the entry")
    _key_type(get)
    get.add_argument(
        "--raw", action="store_true", help="print text or bytes unchanged, without a newline"
    )

    check = add("check", "look for damage: missing, wrong and stray files, wrong totals")
    check.add_argument("--fix", action="store_true", help="mend what is found")


def _changing(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands that change entries one by one."""
    put = add("set", "store one value", name="set_")
    put.add_argument("key", metavar="KEY", help="key of the entry")
    put.add_argument("value", metavar="VALUE", nargs="?", help="the value; '-' reads it from stdin")
    put.add_argument("--file", metavar="PATH", help="read the value from a file")
    _key_type(put)
    put.add_argument(
        "--value-type", choices=TYPES, default="str", help="what the value is (default: str)"
    )
    put.add_argument("--expire", type=_seconds, metavar="SECONDS", help="forget it after SECONDS")
    put.add_argument("--tag", metavar="TAG", help="tag of the entry, to evict it by")
    _tag_type(put)
    put.add_argument(
        "--create", action="store_true", help="make the cache if DIR is missing or empty"
    )

    delete = add("delete", "delete the entries of some keys")
    delete.add_argument("keys", metavar="KEY", nargs="+", help="keys of the entries")
    _key_type(delete)


def _removing(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands that remove many entries."""
    evict = add("evict", "remove the entries of a tag")
    evict.add_argument("tag", metavar="TAG", nargs="?", help="tag of the entries to remove")
    _tag_type(evict)
    evict.add_argument("--untagged", action="store_true", help="remove the entries without a tag")

    add("expire", "remove the entries whose time has passed")
    add("cull", "remove expired entries, then victims until the size limit is kept")

    clear = add("clear", "remove every entry")
    clear.add_argument("--yes", action="store_true", help="do it, even when typed on a terminal")


def _migrating(add: Callable[..., argparse.ArgumentParser]) -> None:
    migrate = add("migrate", "upgrade a directory of version 5, and all caches below it")
    migrate.add_argument(
        "--trust-pickles",
        action="store_true",
        help="load pickles that name classes, which can run code; only if nobody else could write"
        " to DIR",
    )
    migrate.add_argument(
        "--dry-run", action="store_true", help="only report what is there; load and change nothing"
    )


def _copying(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands that copy a whole cache."""
    backup = add("backup", "copy a cache to another directory, as of one moment, while it is used")
    backup.add_argument("destination", metavar="DEST", help="directory that is missing or empty")

    copy = add("copy", "send the live entries of a cache to another one, also to or from a server")
    copy.add_argument(
        "destination", metavar="DEST", help="directory, made if it is missing or empty; or URL"
    )
    copy.add_argument(
        "--no-pickles", action="store_true", help="leave out entries that are pickles"
    )

    export = add("export", "write the live entries to an archive")
    export.add_argument("file", metavar="FILE", help="file to write; '-' is standard output")
    export.add_argument(
        "--no-pickles", action="store_true", help="leave out entries that are pickles"
    )

    load = add(
        "import", "store the entries of an archive; an interrupted import goes on", directory=False
    )
    load.add_argument("file", metavar="FILE", help="archive to read; '-' is standard input")
    load.add_argument(
        "directory", metavar="DIR", help="cache to store them in; made if it is missing or empty"
    )


def _demo(add: Callable[..., argparse.ArgumentParser]) -> None:
    demo = add(
        "demo",
        "analyse Python's standard library once, then again from the cache",
        directory=False,
        disk=False,
    )
    demo.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        help="cache to use: missing, empty, or of an earlier demo (default: a new temporary one)",
    )
    demo.add_argument(
        "--root", metavar="PATH", help="tree to analyse (default: the standard library)"
    )
    demo.add_argument(
        "--processes",
        type=_count,
        metavar="N",
        help="worker processes (default: one per core, at least 2)",
    )
    demo.add_argument(
        "--start-method",
        choices=("spawn", "fork", "forkserver"),
        help="how to start them (default: the platform's way)",
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="diskcache",
        description="Look into a cache directory and work on it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def add(
        command: str, text: str, *, name: str = "", directory: bool = True, disk: bool = True
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            command,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            parents=[_common(directory, disk)],
            allow_abbrev=False,
        )
        added.set_defaults(function=name or command)
        return added

    for group in (_looking, _changing, _removing, _copying, _migrating, _demo):
        group(add)
    return parser


# -- Running -----------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return what the process should return; see `ExitCode`.

    Args:
        argv: Arguments without the program's name; those of the process unless given.
    """
    try:
        try:
            code = _main(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        return ExitCode.BROKEN_PIPE
    return int(code)


def _main(argv: Sequence[str]) -> int:
    """Run one command; a closed pipe is the caller's to handle."""
    from diskcache.cli.render import Output

    parser = build_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else ExitCode.USAGE
    if args.version:
        return _version(Output())
    if args.command is None:
        parser.print_help(sys.stderr)
        return ExitCode.USAGE
    output = Output(as_json=args.json)
    try:
        with _warnings_as_notes(output):
            return _run(args, output)
    except KeyboardInterrupt:
        output.note("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        raise
    except (CommandError, errors.DiskCacheError, OSError, ValueError, TypeError) as exc:
        output.note(f"error: {_message(exc, args)}")
        return _code(exc)


def _run(args: argparse.Namespace, output: Output) -> int:
    """Call the command and print what it returns."""
    if args.command == "demo":
        from diskcache.cli import demo

        return demo.run(args, output)
    if args.command == "migrate":
        from diskcache.cli import migration

        return migration.run(args, output)
    if args.command in COPYING:
        from diskcache.cli import copies

        return copies.run(args, output)
    from diskcache.cli import commands, views

    function: Callable[[argparse.Namespace], Result] = getattr(commands, args.function)
    with contextlib.ExitStack() as stack:
        if args.command in LONG:
            stack.enter_context(output.working(f"{args.command} {args.directory}"))
        result = function(args)
    views.show(args, result, output)
    return result.code


def _version(output: Output) -> int:
    import diskcache

    output.line(f"diskcache {diskcache.__version__}")
    return ExitCode.OK


# Looked up in this order: a subclass stands before its base.
CODES: Final[tuple[tuple[type[BaseException], ExitCode], ...]] = (
    (errors.ReadOnlyError, ExitCode.FAILED),
    (errors.CacheFullError, ExitCode.FAILED),
    (errors.DirectoryError, ExitCode.NOT_A_CACHE),
    (errors.CacheFormatError, ExitCode.NOT_A_CACHE),
    (errors.UnsafeSQLiteError, ExitCode.NOT_A_CACHE),
    (errors.Timeout, ExitCode.BUSY),
    (errors.LockedError, ExitCode.BUSY),
    (errors.GateError, ExitCode.BUSY),
)


def _code(exc: BaseException) -> int:
    """Return the exit code for an error."""
    if isinstance(exc, CommandError):
        return exc.code
    return next((code for kind, code in CODES if isinstance(exc, kind)), ExitCode.FAILED)


def _message(exc: BaseException, args: argparse.Namespace) -> str:
    """Return one line that says what went wrong."""
    if isinstance(exc, errors.Timeout):
        removed = exc.args[0] if exc.args and isinstance(exc.args[0], int) else 0
        done = f" after removing {removed:,} entries" if removed else ""
        return (
            f"{args.directory!r} is busy{done}: another process held its write lock for "
            f"{args.timeout:g} seconds; try again, or with a longer --timeout"
        )
    return str(exc) or type(exc).__name__


@contextlib.contextmanager
def _warnings_as_notes(output: Output) -> Iterator[None]:
    """Return a context in which warnings are one line each, without the place in the code."""
    told: set[str] = set()

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        # A command may open the cache more than once.
        if str(message) not in told:
            told.add(str(message))
            output.note(f"warning: {message}")

    with warnings.catch_warnings():
        for category in (UserWarning, errors.DiskCacheWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = note
        yield


def _drop_stdout() -> None:
    """Send what is still buffered nowhere, so that the interpreter's exit does not complain."""
    with contextlib.suppress(OSError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
