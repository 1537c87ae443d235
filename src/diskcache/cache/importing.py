"""Entries from an archive, which is believed no more than a directory is.

A block is stored in one transaction, together with its number; so an import that was interrupted
goes on behind the last block that was stored, and stores none of them twice; see `journal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from diskcache.archive import (
    CHUNK,
    COMPLETE,
    ENTRIES,
    MISTAKE,
    SOURCE,
    TRAILER,
    VALUE,
    Archive,
    Block,
)
from diskcache.cache.bulk import BulkMethods
from diskcache.cache.journal import Journal
from diskcache.cache.watching import bare_engine
from diskcache.codecs.base import inlined, is_encoded, is_native, is_number
from diskcache.codecs.sealing import is_signed
from diskcache.engines.base import Put
from diskcache.entry import EncodedKey, Only, Payload
from diskcache.errors import (
    ArchiveError,
    CodecError,
    SettingError,
    UntrustedPickleError,
)

Progress: TypeAlias = Callable[[int, int], None]
Part: TypeAlias = BulkMethods
"""A cache, or a shard of one."""

_ID_SIZE: Final = 16


@dataclass(frozen=True)
class ImportReport:
    """What `import_from` stored."""

    entries: int
    skipped: int
    """Entries left out: pickles that may not be loaded here, or not signed where all must be."""
    refused: int
    """Entries that are larger than the size limit."""
    earlier: int
    """Entries that an import of the same archive stored before it was interrupted."""


class Entry(NamedTuple):
    """One entry of an archive, checked."""

    key: EncodedKey
    mode: int
    value: Any
    expire_time: float | None
    tag: Any
    size: int | None
    """Length of its value file; None without one."""


class _Mistake(Exception):  # noqa: N818 - it is a signal, not an error
    """The value file that was begun is damaged, says the archive."""


class Importer:
    """Stores the entries of an archive in a cache, or in shards.

    Args:
        archive: Where from.
        parts: The cache, or all shards.
        part_of: Which of them a key belongs to.
        takes: Whether an entry may be here, or None if every one may.
        progress: Called with the bytes that were read, and 0 for the whole, which nobody knows.
        journal: Keeps how far it has come; by default by the blocks of the archive.

    Raises:
        SettingError: The values were made by another disk or serializer than these.
    """

    def __init__(
        self,
        archive: Archive,
        parts: Iterable[Part],
        part_of: Callable[[EncodedKey], Part],
        *,
        takes: Callable[[Entry], bool] | None = None,
        progress: Progress | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._archive = archive
        self._parts = list(parts)
        self._part_of = part_of
        self._takes = takes
        self._progress = progress
        self._source = b""
        self._journal = journal or Journal(f"import:{archive.id.hex()}")
        self._stored = self._skipped = self._refused = self._earlier = 0
        for part in self._parts:
            _check_writer(part, archive.writer)
        self._at = self._journal.begin(self._parts)

    @property
    def is_begun(self) -> bool:
        """Whether a part of the archive was imported before."""
        return any(self._at.values())

    def run(self) -> ImportReport:
        """Store all entries.

        Raises:
            ArchiveError: The archive is damaged or truncated; whole blocks before that are stored.
        """
        blocks = self._archive.blocks()
        seen = 0
        for block in blocks:
            if block.kind == ENTRIES:
                rows = block.loads(list)
                seen += len(rows)
                self._store(block, [_checked(row, block) for row in rows])
            elif block.kind == VALUE:
                seen += self._store_file(block, blocks)
            elif block.kind == SOURCE:
                self._source = _source_of(block)
            elif block.kind == TRAILER:
                self._finish(block, seen)
            else:
                raise ArchiveError(f"block {block.number} of the archive is not where it belongs")
            if self._progress is not None:
                self._progress(self._archive.size, 0)
        return ImportReport(self._stored, self._skipped, self._refused, self._earlier)

    def _finish(self, block: Block, seen: int) -> None:
        if block.loads(dict).get("entries") != seen:
            raise ArchiveError("the archive does not hold as many entries as its trailer says")
        self._journal.clear(self._parts)

    # -- Entries in rows --

    def _store(self, block: Block, entries: list[Entry]) -> None:
        puts: dict[Part, list[tuple[Any, Put]]] = {}
        positions = self._journal.positions(block.number, len(entries))
        for position, entry in zip(positions, entries, strict=True):
            adopted = self._adopted(entry, block)
            if adopted is None:
                continue
            part, key, value = adopted
            if self._at[part] >= position:
                self._earlier += 1
                continue
            payload = _laid_out(part, entry.mode, value)
            put = key, payload, entry.expire_time, entry.tag
            puts.setdefault(part, []).append((position, put))
        for part, each in puts.items():
            self._put(part, each)
        if positions:
            self._journal.stored(self._parts, positions[-1])

    def _put(self, part: Part, puts: list[tuple[Any, Put]]) -> None:
        """Store entries of one part; of those that may have been stored before, what is missing."""
        sure: list[Put] = []
        unsure: list[Put] = []
        for position, put in puts:
            (unsure if self._journal.is_unsure(part, position) else sure).append(put)
        with self._journal.storing(part, puts[-1][0]):
            for put in unsure:
                is_new = bare_engine(part).put(*put, part._now(), None, Only.ABSENT)
                self._stored += is_new
                self._earlier += not is_new
            stored = bare_engine(part).put_many(sure, part._now(), None) if sure else 0
        self._stored += stored
        self._refused += len(sure) - stored

    def _adopted(self, entry: Entry, block: Block) -> tuple[Part, EncodedKey, Any] | None:
        """Return where an entry belongs, its key and its value; None if it may not be here."""
        source = self._source
        if not source:
            raise ArchiveError(f"block {block.number} of the archive is not where it belongs")
        if self._takes is not None and not self._takes(entry):
            raise ArchiveError(
                f"block {block.number} of the archive has an entry with key {entry.key[0]!r}, which"
                " cannot be here: import it into a Cache"
            )
        try:
            first = self._parts[0]
            key = _adopted_key(first, entry.key, source)
            part = self._part_of(key)
            if part is not first:
                # A key that is a pickle is signed for its shard, which the first one's tells.
                key = _adopted_key(part, entry.key, source)
            value = entry.value
            if value is not None:
                value = part._codec.adopt_value(entry.mode, value, source, entry.key, key)
        except UntrustedPickleError:
            self._skipped += 1
            return None
        except CodecError as exc:
            raise ArchiveError(
                f"block {block.number} of the archive has a key that makes no sense: {exc}"
            ) from exc
        return part, key, value

    # -- Entries with files --

    def _store_file(self, block: Block, blocks: Iterator[Block]) -> int:
        """Store an entry whose value follows in chunks; return how many entries that is."""
        entry = _checked(block.loads(tuple), block, has_file=True)
        chunks = _Chunks(entry.size or 0, blocks)
        try:
            (position,) = self._journal.positions(block.number, 1)
            adopted = self._adopted(entry, block)
            if adopted is None or self._at[adopted[0]] >= position:
                self._earlier += adopted is not None
                for _ in chunks:
                    pass
                return 1
            self._put_file(block, entry, chunks, position, adopted[:2])
            self._journal.stored(self._parts, position)
        except _Mistake:
            return 0
        return 1

    def _put_file(
        self,
        block: Block,
        entry: Entry,
        chunks: _Chunks,
        position: Any,
        place: tuple[Part, EncodedKey],
    ) -> None:
        part, key = place
        capabilities = part._engine.capabilities
        data: bytes | None = None
        if is_signed(entry.mode) or part._codec.is_sealing:
            try:
                data = part._codec.adopt_value(
                    entry.mode, b"".join(chunks), self._source, entry.key, key
                )
            except UntrustedPickleError:
                self._skipped += 1
                return
        if not capabilities.files:
            content = b"".join(chunks) if data is None else data
            self._put(part, [(position, _inlined(block, entry, key, content))])
            return
        if data is not None:
            staged = part._on_disk(part._files.stage, data)
        else:
            staged = part._on_disk(part._files.stage_stream, chunks.read)
        payload = (entry.mode, None, staged)
        engine = bare_engine(part)
        try:
            with self._journal.storing(part, position):
                stored = engine.put(key, payload, entry.expire_time, entry.tag, part._now(), None)
        except BaseException:
            part._files.discard(staged)
            raise
        self._stored += stored
        self._refused += not stored


def _inlined(block: Block, entry: Entry, key: EncodedKey, content: bytes) -> Put:
    """Return what to store of an entry whose value was in a file, where there are none."""
    try:
        mode, data = inlined(entry.mode, content)
    except ValueError as exc:
        raise ArchiveError(
            f"block {block.number} of the archive has an entry that makes no sense"
        ) from exc
    return key, (mode, data, None), entry.expire_time, entry.tag


def _laid_out(part: Part, mode: int, value: Any) -> Payload:
    """Return the payload of an encoded value: in a file where this cache would have put it."""
    is_large = type(value) in (str, bytes) and len(value) >= part._settings["disk_min_file_size"]
    if is_large and part._engine.capabilities.files and not part._has_own_store:
        return part._on_disk(part._disk.spill, mode, value, value)
    return mode, value, None


class _Chunks:
    """The chunks of one value file, which must have the length that was announced."""

    def __init__(self, size: int, blocks: Iterator[Block]) -> None:
        self._missing = size
        self._blocks = blocks
        self._is_complete = False

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read():
            yield chunk

    def read(self, _: int = 0) -> bytes:
        """Return the next chunk, and nothing behind the last."""
        if self._is_complete:
            return b""
        block = next(self._blocks)
        if block.kind == MISTAKE:
            raise _Mistake
        if block.kind == COMPLETE and not self._missing:
            self._is_complete = True
            return b""
        if block.kind != CHUNK or not 0 < len(block.payload) <= self._missing:
            raise ArchiveError(f"block {block.number} of the archive is not where it belongs")
        self._missing -= len(block.payload)
        return block.payload


def _adopted_key(part: Part, key: EncodedKey, source: bytes) -> EncodedKey:
    """Return a key as a cache encodes it; as it is where a disk of a user's encodes keys."""
    if key[1] or not part._has_own_keys:
        return part._codec.adopt_key(*key, source)
    return key


# -- Checks ------------------------------------------------------------------------------------


def _check_writer(part: Part, writer: str) -> None:
    found = part._engine.mark("disk") or ""
    if found != writer:
        raise SettingError(
            f"the archive was written with {writer or 'the default disk'!r}, and cache"
            f" {part._directory!r} with {found or 'the default disk'!r}: pass the same disk= or"
            " serializer="
        )


def _source_of(block: Block) -> bytes:
    found = block.loads(dict).get("cache_id")
    if not isinstance(found, bytes) or len(found) != _ID_SIZE:
        raise ArchiveError(f"block {block.number} of the archive names no cache")
    return found


def _checked(row: Any, block: Block, *, has_file: bool = False) -> Entry:
    """Return an entry, if it is one that a cache could hold.

    Raises:
        ArchiveError: It is not.
    """
    if type(row) is tuple and len(row) == (7 if has_file else 6):
        key, raw, mode, value, expire_time, tag = row[:6]
        size = row[6] if has_file else None
        if (
            type(raw) is int
            and raw in (0, 1)
            and is_native(key)
            and is_encoded(mode, value, in_file=has_file)
            and (not has_file or (type(size) is int and size >= 0))
            and (expire_time is None or is_number(expire_time))
            and (tag is None or is_native(tag))
        ):
            return Entry((key, raw), mode, value, expire_time, tag, size)
    raise ArchiveError(f"block {block.number} of the archive has an entry that makes no sense")
