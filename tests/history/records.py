"""What every thread writes down of its operations, so that nothing is lost when it is killed.

Format of a file: records one after the other, little-endian, in a file that is mapped, so that a
record is there as soon as it is written, whatever becomes of the process. A file ends at a record
of kind 0.

    record  kind u8, status u8, parts u16, group u32, invoked u64, responded u64
    part    key u8, action u8, pad u16, expire u32, argument i64, result i64

Times are nanoseconds of CLOCK_MONOTONIC, which is the same clock in all processes. *expire* is
milliseconds, plus one; 0 means none was given. The parts of a transaction are appended as it
goes, those of other operations are there before it begins.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Final, NamedTuple

HEAD: Final = struct.Struct("<BBHIQQ")
PART: Final = struct.Struct("<BBHIqq")
TIME: Final = struct.Struct("<Q")
RESULT: Final = struct.Struct("<q")

# Kinds of records.
KEYED: Final = 1
"""An operation on the keys of one group, all at one moment."""
UNDONE: Final = 2
"""A transaction that was rolled back: it read, and changed nothing."""
CLEARED: Final = 3
EVICTED: Final = 4

# Status.
BEGUN: Final = 0
DONE: Final = 1

# Actions.
GET: Final = 1
IN: Final = 2
SET: Final = 3
ADD: Final = 4
DELETE: Final = 5
POP: Final = 6
INCR: Final = 7
TOUCH: Final = 8
ACTIONS: Final = {
    GET: "get",
    IN: "in",
    SET: "set",
    ADD: "add",
    DELETE: "delete",
    POP: "pop",
    INCR: "incr",
    TOUCH: "touch",
}

NOTHING: Final = -1
"""Result of a read that found no entry; also of a part that has not ended."""

EVERYWHERE: Final = 2**32 - 1
"""Group of operations that concern all groups of a cache; the cache is their argument."""


class Part(NamedTuple):
    """What an operation does to one key."""

    key: int
    action: int
    argument: int = 0
    """Value that is stored; what is added; or the tag."""
    result: int = NOTHING
    """What it returned: a value, `NOTHING`, or 0 and 1 for false and true."""
    expire: int | None = None
    """Milliseconds until the entry expires."""


class Operation(NamedTuple):
    """A record."""

    kind: int
    group: int
    invoked: int
    responded: int
    """0 if it did not respond."""
    parts: tuple[Part, ...]


class Recorder:
    """Writes the records of one thread."""

    def __init__(self, path: Path, size: int) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.truncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._end = size - 4096
        self._at = self._next = 0
        self._parts = 0

    @property
    def is_full(self) -> bool:
        return self._next > self._end

    def begin(
        self,
        group: int,
        key: int,
        action: int,
        argument: int = 0,
        expire: int | None = None,
        kind: int = KEYED,
    ) -> None:
        """Record an operation with one part, just before it is invoked."""
        at = self._at = self._next
        self._next = at + HEAD.size + PART.size
        given = 0 if expire is None else expire + 1
        PART.pack_into(self._map, at + HEAD.size, key, action, 0, given, argument, NOTHING)
        HEAD.pack_into(self._map, at, kind, BEGUN, 1, group, monotonic_ns(), 0)

    def end(self, result: int = NOTHING) -> None:
        """Record that an operation with one part has returned."""
        now = monotonic_ns()
        RESULT.pack_into(self._map, self._at + HEAD.size + 16, result)
        TIME.pack_into(self._map, self._at + 16, now)
        self._map[self._at + 1] = DONE

    def open(self, group: int) -> None:
        """Record the beginning of an operation with several parts."""
        self._at = self._next
        self._parts = 0
        self._next = self._at + HEAD.size
        HEAD.pack_into(self._map, self._at, KEYED, BEGUN, 0, group, monotonic_ns(), 0)

    def part(self, part: Part) -> None:
        """Record a part: one that has ended, or one of an operation that does all at once."""
        given = 0 if part.expire is None else part.expire + 1
        PART.pack_into(
            self._map, self._next, part.key, part.action, 0, given, part.argument, part.result
        )
        self._next += PART.size
        self._parts += 1
        struct.pack_into("<H", self._map, self._at + 2, self._parts)

    def results(self, results: list[int]) -> None:
        """Record what the parts of an operation that does all at once have returned."""
        for number, result in enumerate(results):
            at = self._at + HEAD.size + number * PART.size
            RESULT.pack_into(self._map, at + 16, result)

    def close(self, kind: int = KEYED) -> None:
        """Record the end of an operation with several parts."""
        TIME.pack_into(self._map, self._at + 16, monotonic_ns())
        self._map[self._at] = kind
        self._map[self._at + 1] = DONE


def read(path: Path) -> Iterator[Operation]:
    """Yield the operations of one thread."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield from _read(data)


def _read(data: mmap.mmap) -> Iterator[Operation]:
    at = 0
    while True:
        kind, status, count, group, invoked, responded = HEAD.unpack_from(data, at)
        if not kind:
            return
        at += HEAD.size
        parts = []
        for _ in range(count):
            key, action, _, given, argument, result = PART.unpack_from(data, at)
            at += PART.size
            parts.append(Part(key, action, argument, result, given - 1 if given else None))
        yield Operation(kind, group, invoked, responded if status == DONE else 0, tuple(parts))
