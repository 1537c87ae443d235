"""Entries to an archive: nothing is decoded, and no more than a block is held in memory."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeAlias

from diskcache import settings as rules
from diskcache.archive import (
    CHUNK,
    CHUNK_SIZE,
    COMPLETE,
    ENTRIES,
    HEADER,
    MISTAKE,
    SOURCE,
    TRAILER,
    VALUE,
    ArchiveWriter,
    created,
    new_id,
)
from diskcache.cache.bulk import BulkMethods
from diskcache.cache.journal import Track, position_of
from diskcache.codecs.base import KIND, MODE_PICKLE, is_encoded, is_native
from diskcache.entry import (
    CHECKSUM,
    EXPIRE_TIME,
    FILE,
    GUARD,
    IDENT,
    MODE,
    SIZE,
    TAG,
    EncodedKey,
    Listed,
    Order,
    Row,
)
from diskcache.entry import VALUE as VALUE_COLUMN
from diskcache.errors import CodecError

BATCH: Final = 2**18
"""Bytes of entries in a block, roughly."""
ROW: Final = 64
"""Bytes that an entry takes beside key and value, roughly."""
LOOKS: Final = 100
"""How often an entry is looked up again because its file was replaced."""

Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote."""

    entries: int
    skipped: int
    """Entries left out: pickles, if they were not wanted, and values whose files are unusable."""
    size: int
    """Bytes of the archive."""


def export(
    caches: Iterable[BulkMethods],
    file: str | os.PathLike[str] | BinaryIO,
    *,
    shards: int = 0,
    pickles: bool = True,
    strict: bool = False,
    progress: Progress | None = None,
    track: Track | None = None,
) -> ExportReport:
    """Write the live entries of caches, one after the other, to an archive.

    Args:
        caches: One cache, or the shards of one.
        file: Path, or an open binary file.
        shards: How many shards there are; 0 if the cache has none.
        pickles: Whether entries that are pickles, or have a key that is one, are written.
        strict: Raise for a value whose file is missing or damaged.
        progress: Called with the number of entries that were written, and that there are.
        track: Says behind which entry to begin, and is told where each one is.

    Raises:
        CodecError: With *strict*, a value whose file is unusable.
    """
    parts = list(caches)
    first = parts[0]
    if track is not None:
        track.identify(parts)
    with created(file) as write:
        exporter = _Exporter(ArchiveWriter(write), pickles, strict, progress)
        exporter.total = sum(map(len, parts))
        exporter.writer.put(HEADER, _header(first, shards))
        start = () if track is None else _agreed(track, parts, file)
        if track is not None and start:
            exporter.sent = start[-1]
        exporter.track = track
        for number, part in enumerate(parts):
            if not start or number >= start[0]:
                exporter.add(part, number, start[1] if start and number == start[0] else None)
        exporter.writer.put(TRAILER, {"entries": exporter.entries})
        return ExportReport(exporter.entries, exporter.skipped, exporter.writer.size)


def _agreed(track: Track, parts: list[BulkMethods], file: Any) -> Any:
    """Return where to begin, as whoever reads the stream, and has the header, wants it."""
    file.flush()
    return track.resume(parts)


def _header(cache: BulkMethods, shards: int) -> dict[str, Any]:
    from diskcache import __version__

    return {
        "id": new_id(),
        "shards": shards,
        "settings": {name: _allowed(name, cache._settings[name]) for name in rules.SPECS},
        "writer": cache._engine.mark("disk") or "",
        "created": float(cache._now()),
        "version": __version__,
    }


def _allowed(name: str, value: Any) -> Any:
    """Return a setting, or the default of one that has no meaning where this cache is."""
    return value if rules.problem(name, value) is None else rules.DEFAULT_SETTINGS[name]


class _Exporter:
    def __init__(
        self, writer: ArchiveWriter, pickles: bool, strict: bool, progress: Progress | None
    ) -> None:
        self.writer = writer
        self.entries = self.skipped = self.total = self.sent = 0
        self.track: Track | None = None
        self._part = 0
        self._pickles = pickles
        self._strict = strict
        self._progress = progress
        self._batch: list[tuple[Any, ...]] = []
        self._positions: list[Any] = []
        self._size = 0

    def add(self, cache: BulkMethods, number: int, after: object | None) -> None:
        """Write the entries of a cache behind a cursor, as they are when it is their turn."""
        self._part = number
        self.writer.put(SOURCE, {"cache_id": cache._engine.cache_id})
        last = cache._engine.last_cursor()
        if last is None:
            return
        for entry in cache._entries(Order.INSERTION, until=last, values=True, after=after):
            row = entry.row
            if row[MODE] & GUARD or (
                row[EXPIRE_TIME] is not None and row[EXPIRE_TIME] <= cache._now()
            ):
                continue
            if not _is_sound(entry.key, row):
                self._miss(cache, entry.key, "its columns make no sense")
            elif not self._pickles and _is_pickle(entry.key, row):
                self.skipped += 1
            elif row[FILE] is None:
                self._add_row(entry, row)
            else:
                self._add_file(cache, entry)
        self._flush()

    def _place(self, entry: Listed, row: Row) -> Any:
        self.sent += 1
        return position_of(self._part, entry.cursor, entry.key, row, self.sent)

    def _put(self, kind: bytes, value: Any, positions: list[Any]) -> None:
        if self.track is not None:
            self.track.add(self.writer.blocks, positions)
        self.writer.put(kind, value)

    def _add_row(self, entry: Listed, row: Row) -> None:
        key = entry.key
        self._positions.append(self._place(entry, row))
        self._batch.append((*key, row[MODE], row[VALUE_COLUMN], row[EXPIRE_TIME], row[TAG]))
        for part in (key[0], row[VALUE_COLUMN], row[TAG]):
            self._size += len(part) if isinstance(part, (str, bytes)) else 8
        self._size += ROW
        if self._size >= BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._batch:
            self._put(ENTRIES, self._batch, self._positions)
            self._count(len(self._batch))
            self._batch, self._positions, self._size = [], [], 0

    def _count(self, entries: int) -> None:
        self.entries += entries
        if self._progress is not None:
            self._progress(self.sent, max(self.total, self.sent))

    def _add_file(self, cache: BulkMethods, entry: Listed) -> None:
        """Write an entry with a value file; the latest one, if it is being replaced."""
        key = entry.key
        seen: Row | None = entry.row
        for _ in range(LOOKS):
            if seen is None:
                return
            if seen[FILE] is None:
                self._add_row(entry, seen)
                return
            expected = None if seen[CHECKSUM] is None else seen[SIZE]
            try:
                reader = cache._files.open(seen[FILE], expected)
            except OSError as exc:
                again = cache._engine.get(key, cache._now())
                if again is not None and (again[FILE], again[IDENT]) == (seen[FILE], seen[IDENT]):
                    self._miss(cache, key, f"its file is missing or damaged ({exc})")
                    return
                seen = again
                continue
            with reader:
                self._copy(cache, entry, seen, reader)
            return

    def _copy(self, cache: BulkMethods, entry: Listed, row: Row, reader: BinaryIO) -> None:
        self._flush()
        key = entry.key
        size = os.fstat(reader.fileno()).st_size
        fields = (*key, row[MODE], None, row[EXPIRE_TIME], row[TAG], size)
        self._put(VALUE, fields, [self._place(entry, row)])
        checksum = found = 0
        while chunk := reader.read(min(CHUNK_SIZE, size - found)):
            checksum = zlib.crc32(chunk, checksum)
            found += len(chunk)
            self.writer.put(CHUNK, chunk)
        if found == size and row[CHECKSUM] in (None, checksum):
            self.writer.put(COMPLETE, None)
            self._count(1)
            return
        self.writer.put(MISTAKE, None)
        self._miss(cache, key, "its file is damaged: its bytes are not those that were stored")

    def _miss(self, cache: BulkMethods, key: EncodedKey, why: str) -> None:
        if self._strict:
            raise CodecError(
                f"the entry of {cache._directory!r} with key {key[0]!r} cannot be exported: {why}"
            )
        self.skipped += 1


def _is_sound(key: EncodedKey, row: Row) -> bool:
    """Tell whether an entry can be one that this library wrote; an archive holds no other."""
    return is_native(key[0]) and is_encoded(
        row[MODE], row[VALUE_COLUMN], in_file=row[FILE] is not None
    )


def _is_pickle(key: EncodedKey, row: Row) -> bool:
    if row[MODE] & KIND == MODE_PICKLE:
        return True
    return not key[1] and isinstance(key[0], bytes) and key[0][:1] in (b"\x01", b"\x02")
