"""Count what one operation does: figures that stay the same where seconds do not.

Per operation: statements, log frames (changed pages written), bytes appended to the log, calls of
Python and C functions, and, where `strace` is installed, system calls. The database and its log
are never opened here: their sizes come from `os.stat`.

    python benchmarks/count.py [--only PATTERN] [--n N] [--json FILE] [--calls] [--statements]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, NamedTuple

import apsw
from operations import ENTRIES, KINDS, LARGE_BYTES, dict_of, fill, key_of, opened, value_of
from report import aligned

N = 50
"""Operations that are counted; few enough that no checkpoint falls among them."""
FILLED = 200
"""Entries of other kinds that are there: queue, memoized results."""
LOG_HEADER = 32
FRAME_HEADER = 24


Act = Callable[[Any, int], object]


class Operation(NamedTuple):
    """One kind of operation, done once per number."""

    name: str
    act: Act
    """What is done, with the cache (or what *prepare* made of it) and a number."""
    settings: Mapping[str, Any] = MappingProxyType({})
    whole: bool = False
    """Whether all of them are one transaction."""
    prepare: Callable[[Any], Any] = lambda cache: cache


def memoized(cache: Any) -> Callable[[int], int]:
    """Return a function whose results are all there."""

    def double(number: int) -> int:
        return 2 * number

    kept: Callable[[int], int] = cache.memoize()(double)
    for number in range(FILLED):
        kept(number)
    return kept


def large(cache: Any) -> Any:
    """Add what is kept in files."""
    for number in range(4):
        cache.set(f"large-{number}", bytes(LARGE_BYTES))
    return cache


def store(cache: Any, number: int) -> object:
    return cache.set(key_of(number), value_of(number + KINDS))


def store_new(cache: Any, number: int) -> object:
    return cache.set(key_of(number + 10**6), value_of(number))


def read(cache: Any, number: int) -> object:
    return cache.get(key_of(number))


OPERATIONS: tuple[Operation, ...] = (
    Operation("nothing", lambda _, number: number),
    Operation("get", read),
    Operation("get, missing key", lambda c, i: c.get(f"absent-{i}")),
    Operation("get, LRU", read, {"eviction_policy": "least-recently-used"}),
    Operation("get, LFU", read, {"eviction_policy": "least-frequently-used"}),
    Operation("get, statistics", read, {"statistics": 1}),
    Operation("in", lambda c, i: key_of(i) in c),
    Operation("set, key exists", store),
    Operation("set, small dict", lambda c, i: c.set(key_of(i), dict_of(i))),
    Operation("set, new key", store_new),
    Operation("set, new key, LRU", store_new, {"eviction_policy": "least-recently-used"}),
    Operation("set, with expire", lambda c, i: c.set(key_of(i), value_of(i), expire=600)),
    Operation("set, with tag", lambda c, i: c.set(key_of(i), value_of(i), tag="red")),
    Operation("set in transact", store, whole=True),
    Operation("set in transact, new key", store_new, whole=True),
    Operation("add, key exists", lambda c, i: c.add(key_of(i), i)),
    Operation("touch", lambda c, i: c.touch(key_of(i), 600)),
    Operation("incr", lambda c, i: c.incr("counter", 1 + i % 2)),
    Operation("delete", lambda c, i: c.delete(key_of(i))),
    Operation("pop", lambda c, i: c.pop(key_of(i))),
    Operation("push", lambda c, i: c.push(i)),
    Operation("pull", lambda c, _: c.pull()),
    Operation("memoize, hit", lambda double, i: double(i), prepare=memoized),
    Operation("set, 200 kB", lambda c, i: c.set(key_of(i % 4), bytes(LARGE_BYTES))),
    Operation("get, 200 kB", lambda c, i: c.get(f"large-{i % 4}"), prepare=large),
)


class Counts(NamedTuple):
    """What one operation does, on average."""

    statements: float
    frames: float
    log_bytes: float
    python_calls: float
    c_calls: float
    system_calls: float | None


class Subject(NamedTuple):
    """A cache that is set up for an operation."""

    operation: Operation
    cache: Any
    target: Any
    folder: str

    def perform(self, n: int) -> None:
        """Do the operation *n* times."""
        act, target = self.operation.act, self.target
        with self.cache.transact() if self.operation.whole else nullcontext():
            for number in range(n):
                act(target, number)


@contextmanager
def prepared(operation: Operation) -> Iterator[Subject]:
    """Yield a cache with entries, ready for an operation."""
    folder = tempfile.mkdtemp(prefix="diskcache-count-")
    try:
        with opened(folder, **operation.settings) as cache:
            fill(cache)
            operation.prepare(cache)
            for number in range(FILLED):
                cache.push(number)
        # Opening it again empties the log, so that its size tells how much is appended.
        with opened(folder, **operation.settings) as cache:
            target = operation.prepare(cache)
            for number in range(3):
                operation.act(target, ENTRIES - 1 - number)
            yield Subject(operation, cache, target, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def traced() -> Iterator[list[str]]:
    """Yield a list to which every statement of every connection made from now on is added."""
    statements: list[str] = []

    def hook(connection: apsw.Connection) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: statements.append(event["sql"]))

    apsw.connection_hooks.append(hook)
    try:
        yield statements
    finally:
        apsw.connection_hooks.remove(hook)


@contextmanager
def profiled() -> Iterator[Counter[str]]:
    """Yield a count of function calls by name; C functions are marked."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            code = frame.f_code
            calls[f"{Path(code.co_filename).stem}.{code.co_qualname}"] += 1
        elif event == "c_call":
            calls[f"C {getattr(argument, '__qualname__', argument)}"] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def log_size(folder: str) -> int:
    """Return how long the log is; 0 if there is none."""
    try:
        return os.stat(os.path.join(folder, "cache.db-wal")).st_size
    except FileNotFoundError:
        return 0


def page_size(folder: str) -> int:
    """Return the page size of a database, asked of SQLite."""
    connection = apsw.Connection(os.path.join(folder, "cache.db"))
    try:
        return int(connection.pragma("page_size"))
    finally:
        connection.close()


def count(operation: Operation, n: int, *, strace: bool) -> Counts:
    """Count what one operation does, without and with the Python profiler."""
    with traced() as statements, prepared(operation) as subject:
        statements.clear()
        before = log_size(subject.folder)
        subject.perform(n)
        appended = log_size(subject.folder) - max(before, LOG_HEADER)
        made = len(statements)
        frame = page_size(subject.folder) + FRAME_HEADER
    calls = call_counts(operation, n)
    c_calls = sum(times for name, times in calls.items() if name.startswith("C "))
    return Counts(
        statements=made / n,
        frames=max(appended, 0) / frame / n,
        log_bytes=max(appended, 0) / n,
        python_calls=(sum(calls.values()) - c_calls) / n,
        c_calls=c_calls / n,
        system_calls=sum(system_calls(operation, n).values()) / n if strace else None,
    )


def call_counts(operation: Operation, n: int) -> Counter[str]:
    """Return the function calls of *n* operations, by name."""
    with prepared(operation) as subject, profiled() as calls:
        subject.perform(n)
    return calls


def statement_counts(operation: Operation, n: int) -> Counter[str]:
    """Return the statements of *n* operations, by text."""
    with traced() as statements, prepared(operation) as subject:
        statements.clear()
        subject.perform(n)
        return Counter(statements)


def system_calls(operation: Operation, n: int) -> Counter[str]:
    """Return the system calls of *n* operations: a child with them, less one without."""
    return _straced(operation, n) - _straced(operation, 0)


def _straced(operation: Operation, n: int) -> Counter[str]:
    with tempfile.NamedTemporaryFile(prefix="diskcache-strace-") as summary:
        # -E PYTHONHASHSEED: both children must take the same way to the operation.
        command = ["strace", "-f", "-c", "-E", "PYTHONHASHSEED=0", "-o", summary.name]
        command += [sys.executable, __file__, "--child", operation.name, "--n", str(n)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return parse_summary(Path(summary.name).read_text(encoding="utf-8"))


def parse_summary(text: str) -> Counter[str]:
    """Return the calls by name from the table that `strace -c` prints."""
    calls: Counter[str] = Counter()
    for line in text.splitlines():
        found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if found and found[2] != "total":
            calls[found[2]] += int(found[1])
    return calls


HEADINGS = ("operation", "statements", "frames", "log bytes", "py calls", "C calls", "sys calls")


def line(name: str, counts: Counts) -> tuple[str, ...]:
    """Return one line of the table."""
    figures = (
        "" if figure is None else f"{figure:.0f}" if place == 2 else f"{figure:.1f}"
        for place, figure in enumerate(counts)
    )
    return (name, *figures)


def show(title: str, counter: Counter[str], n: int) -> None:
    """Print a count by name, per operation, the commonest first."""
    print(f"{title}, per operation:")
    for name, times in counter.most_common():
        if times >= n / 10:
            print(f"{times / n:8.2f}  {' '.join(name.split())}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="PATTERN", help="operations that match this expression")
    parser.add_argument("--n", type=int, default=N, help=f"operations to count (default: {N})")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--no-strace", action="store_true", help="do not count system calls")
    parser.add_argument("--calls", action="store_true", help="show calls by name")
    parser.add_argument("--statements", action="store_true", help="show statements by text")
    parser.add_argument("--child", metavar="NAME", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def detail(operation: Operation, options: argparse.Namespace, *, strace: bool) -> None:
    """Print what was asked for by name."""
    if options.statements:
        statements = statement_counts(operation, options.n)
        show(f"{operation.name}: statements", statements, options.n)
    if options.calls:
        show(f"{operation.name}: functions", call_counts(operation, options.n), options.n)
        if strace:
            calls = system_calls(operation, options.n)
            show(f"{operation.name}: system calls", calls, options.n)


def main(arguments: Sequence[str] | None = None) -> int:
    """Count and print."""
    options = parse(arguments)
    if options.child:
        operation = next(o for o in OPERATIONS if o.name == options.child)
        with prepared(operation) as subject:
            subject.perform(options.n)
        return 0
    strace = shutil.which("strace") is not None and not options.no_strace
    lines: list[tuple[str, ...]] = [HEADINGS]
    document = {}
    for operation in OPERATIONS:
        if options.only and not re.search(options.only, operation.name):
            continue
        counts = count(operation, options.n, strace=strace)
        lines.append(line(operation.name, counts))
        document[operation.name] = counts._asdict()
        detail(operation, options, strace=strace)
    print(aligned(lines))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
