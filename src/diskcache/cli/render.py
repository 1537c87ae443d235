"""How results look: tables with `rich` on a terminal, plain text otherwise, or JSON."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TextIO

Cell = str | int | float
Advance = Callable[[int], None]
Meter = Callable[[int, int], None]

UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
REDRAW: Final = 0.1
"""Seconds between two pictures of a progress bar; drawing one takes milliseconds."""

PERIODS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


# -- Plain data as text ------------------------------------------------------------------------


def human_bytes(count: float) -> str:
    """Return a number of bytes in the largest unit that keeps it above 1.

    Example:
        >>> human_bytes(512), human_bytes(1536)
        ('512 bytes', '1.5 KiB')
    """
    for unit in UNITS[:-1]:
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} {UNITS[-1]}"


def human_seconds(seconds: float) -> str:
    """Return a period in its two largest units.

    Example:
        >>> human_seconds(90), human_seconds(0.25)
        ('1 min 30 s', '0.2 s')
    """
    if math.isinf(seconds):
        return "never"
    if seconds < 10:
        return f"{seconds:.1f} s"
    left, parts = int(seconds), []
    for length, unit in PERIODS:
        if left >= length:
            parts.append(f"{left // length} {unit}")
            left %= length
    return " ".join(parts[:2])


def human_time(moment: float) -> str:
    """Return a point in time, in Unix seconds, as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def shown(value: object) -> str:
    """Return *value* on one line, free of anything that could steer a terminal."""
    if type(value) is str and value.isprintable() and value.strip() == value != "":
        return value
    return repr(value)


def described(value: object) -> dict[str, Any]:
    """Return *value* for JSON: its type, and its value as far as JSON can hold it exactly.

    Bytes are given as `base64`, whatever else JSON does not know as `repr`.

    Example:
        >>> described('a'), described((1, 2))
        ({'type': 'str', 'value': 'a'}, {'type': 'tuple', 'repr': '(1, 2)'})
    """
    name = type(value).__name__
    if type(value) is bytes:
        return {"type": name, "base64": base64.b64encode(value).decode("ascii")}
    if _fits_json(value):
        return {"type": name, "value": value}
    return {"type": name, "repr": repr(value)}


def _fits_json(value: object) -> bool:
    """Tell whether JSON gives back *value* equal and of the same types."""
    if value is None or type(value) in (str, int, bool):
        return True
    if isinstance(value, float):
        return type(value) is float and math.isfinite(value)
    if type(value) is list:
        return all(map(_fits_json, value))
    if type(value) is dict:
        return all(type(key) is str and _fits_json(item) for key, item in value.items())
    return False


# -- Where it goes -----------------------------------------------------------------------------


class Output:
    """Writes results to *stdout* and everything else to *stderr*.

    Args:
        as_json: Print one JSON document instead of text.
        stdout: Where results go; `sys.stdout` unless given.
        stderr: Where progress, warnings and errors go; `sys.stderr` unless given.
    """

    def __init__(
        self, as_json: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.as_json = as_json
        self.stdout = sys.stdout if stdout is None else stdout
        self.stderr = sys.stderr if stderr is None else stderr
        self.rich = _rich() if self.stdout.isatty() and not as_json else None

    def line(self, text: str = "") -> None:
        """Print one line of a result."""
        _write(self.stdout, text + "\n")

    def note(self, text: str) -> None:
        """Print one line beside the result: a warning or an error."""
        _write(self.stderr, "diskcache: " + " ".join(text.split()) + "\n")

    def raw(self, data: bytes) -> None:
        """Print bytes as they are."""
        self.stdout.flush()
        binary = getattr(self.stdout, "buffer", None)
        if binary is None:
            _write(self.stdout, data.decode("utf-8", "backslashreplace"))
        else:
            binary.write(data)
            binary.flush()

    def json(self, data: object, *, to_stdout: bool = True) -> None:
        """Print a JSON document; text outside ASCII is escaped."""
        text = json.dumps(data, indent=2, allow_nan=False) + "\n"
        _write(self.stdout if to_stdout else self.stderr, text)

    def fields(self, pairs: Sequence[tuple[str, Cell]]) -> None:
        """Print names and values below each other."""
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self.line(f"{name:<{width}}  {_cell(value)}")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Print a table; columns of numbers are aligned to the right."""
        texts = [[_cell(cell) for cell in row] for row in rows]
        numeric = [
            bool(rows) and all(not isinstance(row[index], str) for row in rows)
            for index in range(len(headers))
        ]
        if self.rich is not None:
            self._rich_table(headers, texts, numeric)
            return
        widths = [max(map(len, column)) for column in zip(headers, *texts, strict=True)]
        for row in (headers, *texts):
            cells = [
                text.rjust(width) if right else text.ljust(width)
                for text, width, right in zip(row, widths, numeric, strict=True)
            ]
            self.line("  ".join(cells).rstrip())

    def _rich_table(
        self, headers: Sequence[str], texts: Sequence[Sequence[str]], numeric: list[bool]
    ) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
        first = numeric.index(False) if False in numeric else 0
        for index, (header, right) in enumerate(zip(headers, numeric, strict=True)):
            # Only the first text column, which tells the rows apart, may be broken into lines.
            table.add_column(
                header,
                justify="right" if right else "left",
                no_wrap=index != first,
                overflow="fold",
            )
        for row in texts:
            # Text, not str: a key such as '[red]' must not be read as markup.
            table.add_row(*map(Text, row))
        Console(file=self.stdout).print(table)

    # -- Long work --

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """Show how far a piece of work is; the context gives a function that adds steps.

        A bar on a terminal, a line at each quarter otherwise, nothing with JSON.
        """
        if self.as_json:
            yield _ignore
        elif self.rich is not None:
            with self._rich_progress(label, total) as advance:
                yield advance
        else:
            yield _Lines(self, label, total)

    @contextlib.contextmanager
    def _rich_progress(self, label: str, total: int) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
        # No refreshing thread: worker processes may be forked while the bar is shown.
        with Progress(*columns, console=Console(file=self.stdout), auto_refresh=False) as bar:
            task = bar.add_task(label, total=total)
            drawn = 0.0

            def advance(steps: int) -> None:
                nonlocal drawn
                bar.update(task, advance=steps)
                if time.monotonic() - drawn > REDRAW or bar.finished:
                    drawn = time.monotonic()
                    bar.refresh()

            yield advance

    @contextlib.contextmanager
    def meter(self, label: str) -> Iterator[Meter]:
        """Show on *stderr*, if it is a terminal, how far a piece of work is.

        The context gives a function that takes what is done and what there is to do; that may be
        0 for unknown, and may change.
        """
        if self.as_json or not self.stderr.isatty() or _rich() is None:
            yield _ignore_both
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        columns = (TextColumn("{task.description}"), BarColumn(), Elapsed())
        console = Console(file=self.stderr)
        with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
            task = bar.add_task(label, total=None)
            drawn = 0.0

            def show(done: int, total: int) -> None:
                nonlocal drawn
                if time.monotonic() - drawn > REDRAW:
                    drawn = time.monotonic()
                    bar.update(task, completed=done, total=total or None)
                    bar.refresh()

            yield show

    @contextlib.contextmanager
    def working(self, label: str) -> Iterator[None]:
        """Show that something of unknown length is going on, if *stderr* is a terminal."""
        if self.as_json or not self.stderr.isatty() or _rich() is None:
            yield
            return
        from rich.console import Console

        with Console(file=self.stderr).status(label):
            yield


class _Lines:
    """Progress as plain lines."""

    def __init__(self, output: Output, label: str, total: int) -> None:
        self.output = output
        self.label = label
        self.total = total
        self.done = 0

    def __call__(self, steps: int) -> None:
        before = self.done * 4 // max(self.total, 1)
        self.done += steps
        quarters = self.done * 4 // max(self.total, 1)
        if quarters > before:
            share = f"{quarters * 25:3} %"
            self.output.line(f"  {self.label}: {share} ({self.done:,} of {self.total:,})")
            self.output.stdout.flush()


def _ignore_both(done: int, total: int) -> None:
    """Show no progress."""


def _ignore(steps: int) -> None:
    """Show no progress."""


def _cell(value: Cell) -> str:
    """Return a cell as text."""
    if isinstance(value, str):
        return value
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"


def _write(stream: TextIO, text: str) -> None:
    """Write *text*; what the stream's encoding lacks is escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _rich() -> Any | None:
    """Return the `rich` package, or None where it is not installed."""
    try:
        import rich
    except ImportError:
        return None
    return rich
