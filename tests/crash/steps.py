"""Kills a process between any two steps of one operation on a full cache, and looks what is left.

    python -m tests.crash.steps POLICY DIRECTORY [SCENE …] [every]

A scene is an operation of a process that has noted reads: a write that culls, writing reads down,
and so on. It is traced once, line by line. A step is a line after which the directory is not what
it was: the control file, the log, the names of files. Then, for each step, the operation is done
again by a child on a copy of the directory, and the child is killed behind it. What it leaves must
be the state of before or after, every row, rank, count, ghost and number of it; `check` must find
nothing; and the cache must go on from there as if nothing had happened. With *every* it is killed
at each line instead, twice at those of loops.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import diskcache
from diskcache import Cache
from diskcache.engines.sqlite import s3fifo
from diskcache.testing.clock import ManualClock

LIMIT = 12
FILE = 1_000
"""Length from which values of these caches are files."""
START = 1_000_000.0
TRACED = tuple(
    str(Path(diskcache.__file__).parent / part)
    for part in ("engines/sqlite/", "files.py", "coherence.py")
)
Line = tuple[str, int, int]
"""File, number, and how often the operation has come there."""


def opened(directory: Path, policy: str, now: float, **settings: Any) -> Cache:
    return Cache(
        directory,
        clock=ManualClock(now),
        eviction_policy=policy,
        disk_min_file_size=FILE,
        timeout=20,
        **settings,
    )


def fill(directory: Path, policy: str) -> None:
    """Make a full cache with entries of all kinds, some of which were read."""
    with opened(directory, policy, START, count_limit=LIMIT) as cache:
        for number in range(30):
            size = FILE + number if number % 3 == 0 else number
            expire = 50 if number in (26, 27) else None
            cache.set(f"k{number}", b"v" * size, expire=expire, tag="t" if number % 2 else None)
            cache._clock.advance(1)
            for back in range(0, number, 5):
                cache.get(f"k{number - back}")
        # Some that come back, so that s3-fifo has entries in its long queue.
        for number in (17, 18, 12):
            cache[f"k{number}"] = b"w" * (FILE + number)


def write(cache: Cache) -> None:
    """One write that removes expired entries and several victims, and stores a file."""
    cache.count_limit = LIMIT - 4
    cache["new"] = b"n" * (FILE + 1)


def write_again(cache: Cache) -> None:
    """A write of an entry that went, over what has become too much."""
    cache.count_limit = LIMIT - 2
    cache["k17"] = b"again"


def flush(cache: Cache) -> None:
    """Writing reads down."""
    cache._engine._flush()


def transact(cache: Cache) -> None:
    """Several writes that happen together."""
    with cache.transact():
        cache["new"] = b"n" * (FILE + 1)
        cache.get("k29")
        cache.delete("k28")
        cache["k29"] = b"m"
        cache["newer"] = b"n"


def cull(cache: Cache) -> None:
    """Removing victims by hand."""
    cache.count_limit = LIMIT // 2
    cache.cull()


def switch(cache: Cache) -> None:
    """Another policy, and a write that puts entries into its order and culls."""
    name = "s3-fifo" if cache.eviction_policy != "s3-fifo" else "least-recently-used"
    with cache.transact():
        cache.reset("eviction_policy", name)
        cache["new"] = b"n" * (FILE + 1)


SCENES: dict[str, Callable[[Cache], None]] = {
    scene.__name__: scene for scene in (write, write_again, flush, transact, cull, switch)
}


def perform(directory: Path, policy: str, scene: str, trace: Any) -> None:
    """Do what a scene is about, under a trace, in a process that has noted reads."""
    cache = opened(directory, policy, START + 100)
    for key in ("k29", "k25", "k12", "k29", "k28"):
        cache.get(key)
    sys.settrace(trace)
    try:
        SCENES[scene](cache)
    finally:
        sys.settrace(None)
    cache._engine._culler.drop_reads()
    cache.close()


def tracer(reached: Callable[[Line], None]) -> Any:
    """Return a trace function that tells of each line of the engine."""
    seen: Counter[tuple[str, int]] = Counter()

    def line(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            place = frame.f_code.co_filename, frame.f_lineno
            seen[place] += 1
            reached((*place, seen[place]))
        return line

    def call(frame: FrameType, *_: object) -> Any:
        return line if frame.f_code.co_filename.startswith(TRACED) else None

    return call


def state(directory: Path, policy: str) -> Any:
    """Return all that matters of a directory, after somebody has looked at it."""
    with opened(directory, policy, START + 100) as cache:
        found = [str(finding.message) for finding in cache.check()]
        assert found == [], found
        execute = cache._engine._link().execute
        rows = execute(
            "SELECT key, value, size, file IS NULL, tag, mode, store_time, expire_time,"
            " access_time, access_count, rank FROM Cache ORDER BY rowid"
        ).fetchall()
        ghosts = execute("SELECT h, n FROM Ghost ORDER BY n").fetchall()
        settings = execute(
            "SELECT key, value FROM Settings WHERE kind IN ('state', 'policy', 'setting')"
            " AND key NOT IN ('recovered', 'cache_id') ORDER BY key"
        ).fetchall()
        assert len(cache) == len(rows)
        assert cache._engine.volume().files == sum(row[2] for row in rows)
        return rows, ghosts, settings


def go_on(directory: Path, policy: str) -> None:
    """Use a cache for a while; then everything must agree once more."""
    with opened(directory, policy, START + 200) as cache:
        for number in range(40, 46):
            cache[f"k{number}"] = b"x" * (FILE * (number % 2))
            cache.get(f"k{number - 2}")
            cache._clock.advance(1)
        assert len(cache) <= LIMIT or policy == "none"
        assert cache.check() == []


def child(action: Callable[[], None]) -> int:
    """Run *action* in a child; return how it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException:  # noqa: BLE001 - the parent is told by the exit code
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def print_of(directory: Path) -> tuple[object, ...]:
    """Return what another process could see of a directory.

    The database is not opened: to close it would drop the locks of this process.
    """
    found = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            status = os.stat(path)
            is_written = name.startswith("cache.db")
            found.append((path, status.st_size, status.st_mtime_ns if is_written else 0))
    return (directory / "control").read_bytes(), sorted(found)


def lines_of(directory: Path, policy: str, scene: str, every: bool) -> list[Line]:
    """Return the lines behind the steps of a scene; or all, each at most twice."""
    path = directory.parent / "lines.json"

    def action() -> None:
        lines: list[Line] = []
        last: tuple[object, ...] = ()

        def reached(line: Line) -> None:
            nonlocal last
            now = () if every else print_of(directory)
            if now != last or (every and line[2] <= 2):
                lines.append(line)
            last = now

        perform(directory, policy, scene, tracer(reached))
        path.write_text(json.dumps(lines))

    assert child(action) == 0
    return [tuple(line) for line in json.loads(path.read_text())]


def kill_at(wanted: Line, before: Path, work: Path, policy: str, scene: str) -> Any:
    """Have a child do what a scene is about, and die at a line; return the state that is left."""

    def die(line: Line) -> None:
        if line == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    shutil.copytree(before, work)
    ended = child(lambda: perform(work, policy, scene, tracer(die)))
    assert ended == -signal.SIGKILL, (ended, wanted)
    found = state(work, policy)
    go_on(work, policy)
    shutil.rmtree(work)
    return found


def kill_everywhere(policy: str, scene: str, root: Path, *, every: bool) -> Counter[str]:
    """Kill a scene at each of its steps; return how often what was left."""
    before, after = root / "before", root / scene
    shutil.copytree(before, after)
    lines = lines_of(after, policy, scene, every)
    allowed = [state(before, policy), state(after, policy)]
    assert allowed[0] != allowed[1]
    if policy == "s3-fifo":
        rows, ghosts, _ = allowed[0]
        assert ghosts
        assert s3fifo.NAME in dict(allowed[0][2])
        assert {row[-1] < 0 for row in rows} == {True, False}
    outcomes = Counter[str]()
    for wanted in lines:
        found = kill_at(wanted, before, root / "work", policy, scene)
        if found in allowed:
            outcomes["before" if found == allowed[0] else "after"] += 1
        else:
            # Several transactions, each of which happens or not.
            assert scene == "cull", (wanted, found, allowed)
            left, first, last = ({row[0] for row in each[0]} for each in (found, *allowed))
            assert last <= left <= first, wanted
            outcomes["between"] += 1
    return outcomes


def main(policy: str, place: str, *scenes: str, every: bool = False) -> None:
    s3fifo.FLOOR = 3  # type: ignore[misc] # so that a small cache has both queues
    root = Path(place)
    fill(root / "before", policy)
    found = {scene: kill_everywhere(policy, scene, root, every=every) for scene in scenes or SCENES}
    print(json.dumps(found))


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if name != "every"]
    main(*names, every="every" in sys.argv)
