"""Have processes use one cache on a server, and check what they read against what memory promises.

    python -m tests.remote.history [--operations N] [--mutation NAME]

Starts a server, prints what was done and how old values were, exits with 1 if a promise is broken.

A process whose memory tier is on may read what others have replaced, but

* never what was replaced by a write of its own that had returned before the read began;
* never what was replaced before the last sign of life was asked for, that had been answered when
  the read began: the server tells of changes in order, so the process had been told;
* never what was replaced a second before.

Every write is an *event* of its keys: it makes them hold a value that no other write makes, or
nothing. An event is *over* at the earliest response of an event that began after its own response:
from then on its value is certainly not the newest. What overlaps may have happened in either order,
which is to the advantage of the product. All processes use one clock, that of the machine.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Final, NamedTuple

from diskcache import connect
from diskcache.engines.redis import engine, listening, tracking
from tests.history.mutations import changed
from tests.support.servers import Server, await_memory

ROOT: Final = Path(__file__).resolve().parents[2]
PROCESSES: Final = 3
THREADS: Final = 3
KEYS: Final = 128
HOT: Final = 8
"""Keys that get most of the writes; the others rest long enough for a stale value to be seen."""
TAGS: Final = 4
BEAT: Final = 0.02
"""Seconds between signs of life: the more there are, the more exactly it is known who was told."""
ALL: Final = -1
NOTHING: Final = -1
SOMETHING: Final = -2
FAR: Final = 2**62
SECOND: Final = 1_000_000_000
LONGEST: Final = 600
"""Seconds after which workers must have come to their end."""

READ, WRITTEN, REMOVED, EVICTED, CLEARED = range(5)


def key_of(number: int) -> str:
    return f"key-{number}"


def tag_of(number: int) -> int | None:
    """Return the tag of a key: every second one has none."""
    return number % TAGS if number % 2 else None


# -- A process -------------------------------------------------------------------------------


def late() -> None:
    """Draw the generation after the read: what was replaced meanwhile is kept."""
    ticket = "ticket = self.site.tracking.ticket(keyspace.ident_of(key))\n"
    asked = "entry = self._current(key, ticket.slot)\n"
    again = "pause(); ticket = self.site.tracking.ticket(keyspace.ident_of(key)) or ticket\n"
    changed(engine, engine.RedisEngine, "look", (ticket, ticket), (asked, f"{asked}    {again}"))


def deaf_to_itself() -> None:
    """Wait until the server tells of the writes of this process."""
    changed(
        listening,
        listening.TrackedDriver,
        "call",
        ("self._tracking.invalidate(call.written(answer))", "pass"),
        ("super()", "super(TrackedDriver, self)"),
    )


def deaf_to_others() -> None:
    """Take no notice of what the server tells."""
    told = "self._tracking.invalidate(_keys_in(message))"
    changed(tracking, tracking.Line, "receive", (told, "pass"))


MUTATIONS: Final = {made.__name__: made for made in (late, deaf_to_itself, deaf_to_others)}


class Worker:
    """One thread; what it does goes into a flat array: kind, key, invoked, responded, value."""

    def __init__(self, cache: Any, seed: str, first: int) -> None:
        self.cache, self.dice, self.number = cache, random.Random(seed), first
        self.records = array("q")

    def note(self, kind: int, key: int, began: int, value: int) -> None:
        self.records.extend((kind, key, began, time.monotonic_ns(), value))

    def run(self, operations: int) -> None:
        for _ in range(operations):
            dice = self.dice.random()
            if dice < 0.85:
                self.read(self.dice.randrange(KEYS) if dice < 0.5 else self.dice.randrange(HOT))
            elif dice < 0.9985:
                self.write(self.dice.randrange(HOT if self.dice.random() < 0.7 else KEYS))
            else:
                self.remove()

    def read(self, number: int) -> None:
        key, dice, cache = key_of(number), self.dice.random(), self.cache
        began = time.monotonic_ns()
        if dice < 0.9:
            found = cache.get(key, NOTHING)
        elif dice < 0.95:
            found = SOMETHING if key in cache else NOTHING
        else:
            found = cache.get(key, NOTHING, version=True)[0]
        self.note(READ, number, began, found[0] if type(found) is list else found)

    def write(self, number: int) -> None:
        key, dice, cache = key_of(number), self.dice.random(), self.cache
        self.number += 1
        # Counters make numbers that nobody else makes, too.
        value = self.number << 20 | self.dice.getrandbits(20)
        tag = tag_of(number)
        began = time.monotonic_ns()
        if dice < 0.5:
            cache.set(key, value, tag=tag)
        elif dice < 0.6:
            cache.set(key, [value], tag=tag)
        elif dice < 0.7:
            cache.set_many({key: value}, tag=tag)
        elif dice < 0.85:
            try:
                value = cache.incr(key, value >> 3, tag=tag)
            except TypeError:
                return
        else:
            cache.delete(key)
            self.note(REMOVED, number, began, NOTHING)
            return
        self.note(WRITTEN, number, began, value)

    def remove(self) -> None:
        began = time.monotonic_ns()
        if self.dice.random() < 0.7:
            tag = self.dice.choice((1, 3))
            self.cache.evict(tag)
            self.note(EVICTED, tag, began, NOTHING)
        else:
            self.cache.clear()
            self.note(CLEARED, ALL, began, NOTHING)


def work(url: str, where: str, serial: int, seed: str, operations: int, mutation: str) -> None:
    """Be one process: use the cache, and write down what happened."""
    if mutation:
        MUTATIONS[mutation]()
    vars(tracking)["BEAT"] = vars(listening)["BEAT"] = BEAT
    signs = array("q")
    cache = connect(url)
    cache._tier._expected = bytearray(b"\1") * 2**17
    await_memory(cache)
    tracked = cache._engine.site.tracking
    trust = tracked.trust

    def noting(epoch: int, until: float) -> None:
        trust(epoch, until)
        asked = int((until - tracking.TRUST) * SECOND)
        if not signs or signs[-1] != asked:
            signs.extend((time.monotonic_ns(), asked))

    tracked.trust = noting
    workers = [
        Worker(cache, f"{seed}-{serial}-{each}", (serial * THREADS + each + 1) << 24)
        for each in range(THREADS)
    ]
    threads = [threading.Thread(target=each.run, args=(operations,)) for each in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache.close()
    Path(where, f"{serial}-signs").write_bytes(signs.tobytes())
    for each, worker in enumerate(workers):
        Path(where, f"{serial}-{each}").write_bytes(worker.records.tobytes())


# -- The check -------------------------------------------------------------------------------


class Event(NamedTuple):
    """A write, as one key sees it."""

    began: int
    ended: int
    value: int
    process: int


class Read(NamedTuple):
    """A read."""

    began: int
    ended: int
    value: int
    process: int


class Ends:
    """Tells from when on something that ended at a moment was certainly replaced."""

    def __init__(self, events: list[Event]) -> None:
        ordered = sorted(events)
        self._began = [event.began for event in ordered]
        self._ended = [event.ended for event in ordered] + [FAR]
        for at in range(len(ordered) - 1, -1, -1):
            self._ended[at] = min(self._ended[at], self._ended[at + 1])

    def after(self, ended: int) -> int:
        return self._ended[bisect_right(self._began, ended)]


class Latest:
    """Tells when that of some events ended which ended last, of those that began before."""

    def __init__(self, events: list[Event]) -> None:
        ordered = sorted(events)
        self._began = [event.began for event in ordered]
        self._ended: list[int] = []
        for event in ordered:
            self._ended.append(max(event.ended, self._ended[-1] if self._ended else -1))

    def before(self, moment: int) -> int | None:
        at = bisect_left(self._began, moment)
        return self._ended[at - 1] if at else None


class Report(NamedTuple):
    """What came of it."""

    operations: int
    reads: int
    seconds: float
    ages: list[int]
    """Of what was not the newest value, in nanoseconds, sorted."""
    broken: Counter[str]
    first: str

    def __str__(self) -> str:
        ages = self.ages or [0]
        told = ", ".join(
            f"{name} {ages[min(int(len(ages) * part), len(ages) - 1)] / 1e6:.2f} ms"
            for name, part in (("median", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("most", 1))
        )
        return (
            f"{self.operations:,} operations by {PROCESSES} processes of {THREADS} threads in"
            f" {self.seconds:.1f} s\n{self.reads:,} reads, of which {len(self.ages):,} were of"
            f" values replaced before: {told}\n{self.broken.total()} violations"
            + "".join(f"\n  {count} {name}" for name, count in self.broken.items())
            + (f"\n  {self.first}" if self.first else "")
        )


class Key:
    """What happened to one key."""

    def __init__(self, events: list[Event]) -> None:
        events = [Event(-1, -1, NOTHING, ALL), *events]
        there = [event for event in events if event.value != NOTHING]
        gone = [event for event in events if event.value == NOTHING]
        self._makers = {event.value: event for event in there}
        self._there, self._gone = Latest(there), Latest(gone)
        self._ends = {
            process: (
                Ends([event for event in events if event.process in whose]),
                Ends([event for event in gone if event.process in whose]),
                Ends([event for event in there if event.process in whose]),
            )
            for process in (ALL, *range(PROCESSES))
            for whose in [range(PROCESSES) if process == ALL else (process,)]
        }

    def replaced(self, read: Read) -> tuple[int, int] | None:
        """Return when what was read was replaced for certain: by anybody, and by its own process.

        None if nobody can have written it.
        """
        if read.value >= 0:
            maker = self._makers.get(read.value)
            if maker is None or maker.began > read.ended:
                return None
            ended, kind = maker.ended, 0
        else:
            latest = self._there if read.value == SOMETHING else self._gone
            found = latest.before(read.ended)
            if found is None:
                return None
            ended, kind = found, 1 if read.value == SOMETHING else 2
        return self._ends[ALL][kind].after(ended), self._ends[read.process][kind].after(ended)


def check(
    events: dict[int, list[Event]], reads: dict[int, list[Read]], signs: dict[int, list[int]]
) -> tuple[list[int], Counter[str], str]:
    """Return how old values were, and which promises were broken, how often."""
    ages: list[int] = []
    broken: Counter[str] = Counter()
    first = ""
    for number, found in reads.items():
        key = Key(events[number])
        for read in found:
            replaced = key.replaced(read)
            why = "read what nobody wrote"
            if replaced is not None:
                by_all, by_own = replaced
                if by_all < read.began:
                    ages.append(read.began - by_all)
                why = _judged(read, by_all, by_own, signs[read.process])
            if why:
                broken[why] += 1
                first = first or f"for example {key_of(number)}: {read}, replaced at {replaced}"
    return sorted(ages), broken, first


def _judged(read: Read, by_all: int, by_own: int, signs: list[int]) -> str:
    """Return which promise a read breaks."""
    if by_own < read.began:
        return "read what this process had replaced"
    # Pairs: when the process knew, and what it was asked for.
    at = bisect_left(range(len(signs) // 2), read.began, key=lambda pair: signs[2 * pair])
    if at and by_all < signs[2 * at - 1]:
        return "read what the server had told to be replaced"
    if read.began - by_all > tracking.TRUST * SECOND:
        return "read what was replaced a second ago"
    return ""


def _gathered(
    where: Path,
) -> tuple[int, dict[int, list[Event]], dict[int, list[Read]], dict[int, list[int]]]:
    count = 0
    events: dict[int, list[Event]] = defaultdict(list)
    reads: dict[int, list[Read]] = defaultdict(list)
    signs: dict[int, list[int]] = {}
    for path in where.iterdir():
        process, _, name = path.name.partition("-")
        words = array("q", path.read_bytes())
        if name == "signs":
            signs[int(process)] = list(words)
            continue
        count += len(words) // 5
        for at in range(0, len(words), 5):
            kind, key, began, ended, value = words[at : at + 5]
            if kind == READ:
                reads[key].append(Read(began, ended, value, int(process)))
                continue
            keys = [key] if kind in (WRITTEN, REMOVED) else range(KEYS)
            for each in keys:
                if kind != EVICTED or tag_of(each) == key:
                    events[each].append(Event(began, ended, value, int(process)))
    return count, events, reads, signs


def run(operations: int, mutation: str = "", seed: str = "") -> Report:
    """Record a history of about so many operations, and check it."""
    seed = seed or str(random.randrange(2**32))
    each = operations // (PROCESSES * THREADS)
    server = Server()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="history-") as where:
        children = []
        try:
            for serial in range(PROCESSES):
                words = ["work", server.url(), where, serial, seed, each, mutation]
                children.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "tests.remote.history", *map(str, words)], cwd=ROOT
                    )
                )
            codes = [child.wait(LONGEST) for child in children]
        finally:
            for child in children:
                child.kill()
                child.wait()
            server.remove()
        lasted = time.monotonic() - began
        if any(codes):
            raise RuntimeError(f"workers ended with {codes}")
        count, events, reads, signs = _gathered(Path(where))
    ages, broken, first = check(events, reads, signs)
    return Report(count, sum(map(len, reads.values())), lasted, ages, broken, first)


def main() -> None:
    """Do what the command line asks for."""
    if sys.argv[1:2] == ["work"]:
        _, _, url, where, serial, seed, operations, mutation = sys.argv
        work(url, where, int(serial), seed, int(operations), mutation)
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--operations", type=int, default=1_010_000)
    parser.add_argument("--mutation", default="", choices=["", *MUTATIONS])
    parser.add_argument("--seed", default="")
    report = run(**vars(parser.parse_args()))
    print(report)
    sys.exit(1 if report.broken else 0)


if __name__ == "__main__":
    main()
