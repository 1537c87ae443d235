"""How far entries have been carried over: marks in the cache that takes them, so that it goes on.

A *position* is that of an entry in the stream; later ones are larger. Each part of a cache, itself
or a shard, keeps under a name the last position that it has stored. Where entries and mark cannot
be stored in one step, on a server, a second mark says before what is about to be stored: entries
between the two may be there or not, and are then stored only where no entry is.

For an archive a position is the number of its block. For a copy it is where the entry is in the
source, with its key and version, by which the source tells whether it is still what it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from hashlib import blake2b
from typing import Any, Final

from diskcache.cache.bulk import BulkMethods
from diskcache.codecs import plain
from diskcache.entry import VERSION, DbValue, EncodedKey, Row
from diskcache.errors import CodecError

Part = BulkMethods
"""A cache, or a shard of one."""

BEGUN: Final = ":begun"
"""Ends the name of the mark of what is about to be stored."""
ALL: Final = ":all"
"""Ends the name of the mark, in the first of several parts, of what all of them have stored."""


class Journal:
    """Marks of an import.

    Args:
        name: Starts the names of the marks.
    """

    start: Any = 0
    """Before all positions."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._begun: dict[Part, Any] = {}

    def begin(self, parts: Sequence[Part]) -> dict[Part, Any]:
        """Return the last position that each part has stored."""
        self._begun = {part: self._found(part, BEGUN) for part in parts}
        return {part: self._found(part, "") for part in parts}

    def positions(self, block: int, count: int) -> list[Any]:
        """Return the positions of the entries of a block."""
        return [block] * count

    def is_unsure(self, part: Part, position: Any) -> bool:
        """Tell whether an entry behind the last position may be there all the same."""
        return bool(position <= self._begun[part])

    @contextmanager
    def storing(self, part: Part, position: Any) -> Iterator[None]:
        """Return a context in which entries up to a position are stored in a part."""
        engine = part._engine
        if engine.capabilities.transactions:
            with engine.transaction(part._timeout):
                yield
                engine.note(self.name, self._packed(position), None)
            return
        engine.note(self.name + BEGUN, self._packed(position), None)
        yield
        engine.note(self.name, self._packed(position), None)

    def stored(self, parts: Sequence[Part], position: Any) -> None:
        """Note that all parts have stored their entries up to a position."""

    def clear(self, parts: Sequence[Part]) -> None:
        """Remove all marks; the first one last, by which a copy that ends here goes on."""
        for part in reversed(parts):
            for end in (BEGUN, ALL, ""):
                if part._engine.mark(self.name + end) is not None:
                    part._engine.note(self.name + end, None, part._timeout)

    def _found(self, part: Part, end: str) -> Any:
        return self._parsed(part._engine.mark(self.name + end))

    def _packed(self, position: Any) -> DbValue:
        found: DbValue = position
        return found

    def _parsed(self, found: DbValue) -> Any:
        return found if isinstance(found, int) else self.start


class Track(Journal):
    """Marks of a copy, which a thread that reads and one that stores share.

    The one that reads calls `identify`, `resume` and `add`; the other one the methods of `Journal`.
    A position is a tuple: number of the part of the source, cursor in it, key, raw, version, and
    how many entries were sent before.
    """

    start: Any = ()

    def __init__(self) -> None:
        super().__init__("")
        self._blocks: dict[int, list[Any]] = {}
        self._wanted: Future[Any] = Future()
        self._agreed: Future[bool] = Future()

    # -- The one that reads --

    def identify(self, parts: Sequence[Part]) -> None:
        """Name the copy after its source."""
        first = parts[0]
        where = os.fsencode(first._directory)
        digest = blake2b(first._engine.cache_id + where, digest_size=16, person=b"copy")
        self.name = f"copy:{digest.hexdigest()}"

    def resume(self, parts: Sequence[Part]) -> Any:
        """Return the position behind which to go on; begin anew where the source has changed."""
        position = self._wanted.result()
        is_there = position == self.start or _is_there(parts, position)
        with suppress(InvalidStateError):
            self._agreed.set_result(is_there)
        return position if is_there else self.start

    def add(self, block: int, positions: list[Any]) -> None:
        """Say what the entries of a block are, before it is sent."""
        self._blocks[block] = positions

    def cancel(self) -> None:
        """Let nobody wait for a thread that has ended."""
        for future, answer in ((self._wanted, self.start), (self._agreed, False)):
            # The other thread may have given the answer just now.
            with suppress(InvalidStateError):
                future.set_result(answer)

    # -- The one that stores --

    def begin(self, parts: Sequence[Part]) -> dict[Part, Any]:
        """Return the last position that each part has stored; agree with the source first."""
        found = super().begin(parts)
        of_all = self._found(parts[0], ALL) if len(parts) > 1 else found[parts[0]]
        with suppress(InvalidStateError):
            self._wanted.set_result(of_all)
        if self._agreed.result():
            return found
        self.clear(parts)
        return super().begin(parts)

    def positions(self, block: int, count: int) -> list[Any]:
        """Return the positions of the entries of a block."""
        del count
        return self._blocks.pop(block)

    def stored(self, parts: Sequence[Part], position: Any) -> None:
        """Note that all parts have stored their entries up to a position."""
        if len(parts) > 1:
            parts[0]._engine.note(self.name + ALL, self._packed(position), None)

    def _packed(self, position: Any) -> DbValue:
        return plain.dumps(position)

    def _parsed(self, found: DbValue) -> Any:
        with suppress(CodecError):
            if isinstance(found, bytes):
                position = plain.loads(found)
                if _is_position(position):
                    return position
        return self.start


def position_of(
    part: int, cursor: object, key: EncodedKey, row: Row, sent: int
) -> tuple[int, object, object, int, int, int]:
    """Return the position of an entry of a source."""
    return part, cursor, *key, row[VERSION], sent


def _is_position(value: object) -> bool:
    match value:
        case (int(), cursor, str() | bytes() | int() | float(), int(), int(), int()):
            return _is_cursor(cursor)
    return False


def _is_cursor(value: object) -> bool:
    match value:
        case int() | (float(), bytes()):
            return True
    return False


def _is_there(parts: Sequence[Part], position: Any) -> bool:
    """Tell whether the source still has the entry at a position, as it was."""
    number, _, key, raw, version, _ = position
    if number >= len(parts):
        return False
    part = parts[number]
    row = part._engine.get((key, raw), part._now())
    return row is not None and row[VERSION] == version
