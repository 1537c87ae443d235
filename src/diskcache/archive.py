"""Archives: the entries of a cache as one stream of bytes, checked block by block.

Format, version 1. Numbers are big-endian. An archive is the eight bytes `DcArch01` and blocks:

    type     one byte
    length   of the payload, u32
    payload
    digest   BLAKE2b of 16 bytes over the digest before (of the magic, for the first block), type,
             length and payload

so no block can be altered, left out, repeated or moved without its being noticed there. The
digest finds damage; it does not tell who wrote an archive. Payloads are plain data
(`codecs.plain`), but for chunks, which are bytes:

    H  header    the first block: a dict with `id`, 16 random bytes that name the archive; `shards`,
                 the number of shards of a FanoutCache or 0; `settings`, the settings of the cache
                 by name; `writer`, the mark of the disk or serializer that made the values;
                 `created`, seconds since the epoch; `version` of the library
    S  source    begins the entries of one cache, or shard: a dict with `cache_id`, which the
                 signatures of its pickles are bound to
    E  entries   a list of tuples: key, raw, mode, value, expire_time, tag; as in the database, see
                 docs/on-disk-format.md, in the order in which they were inserted
    V  value     one such tuple, whose value None stands for a value file: its length is the
                 seventh field, its bytes are the chunks that follow
    C  chunk     bytes of a value file, at most 1 MiB
    Y  complete  the value file that was begun is complete, and its entry counts; nil
    X  mistake   it turned out to be damaged, and its entry does not count; nil
    Z  trailer   the last block: a dict with `entries`, how many there are

What follows the trailer is no part of it. A reader refuses types and versions that it does not
know.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from typing import Any, BinaryIO, Final, NamedTuple, Self, TypeAlias

from diskcache.codecs import plain
from diskcache.errors import ArchiveError, CodecError
from diskcache.settings import SettingValue, believed

MAGIC: Final = b"DcArch01"
HEADER: Final = b"H"
SOURCE: Final = b"S"
ENTRIES: Final = b"E"
VALUE: Final = b"V"
CHUNK: Final = b"C"
COMPLETE: Final = b"Y"
MISTAKE: Final = b"X"
TRAILER: Final = b"Z"
TYPES: Final = frozenset((HEADER, SOURCE, ENTRIES, VALUE, CHUNK, COMPLETE, MISTAKE, TRAILER))

DIGEST_SIZE: Final = 16
CHUNK_SIZE: Final = 2**20
MAX_BLOCK: Final = 2**30 + 2**20
"""Bytes of the largest block: one entry whose value is as large as a row may be."""

Write: TypeAlias = Callable[[bytes], object]
Read: TypeAlias = Callable[[int], bytes]


class Block(NamedTuple):
    """One block, verified."""

    number: int
    """Counted from 0, the header."""
    kind: bytes
    payload: bytes

    def loads(self, expected: type[Any]) -> Any:
        """Return what the payload says.

        Raises:
            ArchiveError: It is not of the expected type.
        """
        try:
            value = plain.loads(self.payload)
        except CodecError as exc:
            raise ArchiveError(f"block {self.number} of the archive is damaged: {exc}") from exc
        if type(value) is not expected:
            raise ArchiveError(f"block {self.number} of the archive holds no {expected.__name__}")
        return value


class ArchiveWriter:
    """Writes blocks.

    Args:
        write: Takes bytes: the method of an open file.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._digest = _digest(b"", MAGIC)
        self.size = len(MAGIC)
        """Bytes written."""
        self.blocks = 0
        """Blocks written: the number of the next one."""
        write(MAGIC)

    def put(self, kind: bytes, value: Any) -> None:
        """Write a block; a chunk is bytes, all other values are plain data."""
        payload = value if kind == CHUNK else plain.dumps(value)
        head = kind + len(payload).to_bytes(4, "big")
        self._digest = _digest(self._digest, head, payload)
        for part in (head, payload, self._digest):
            self._write(part)
            self.size += len(part)
        self.blocks += 1


class ArchiveReader:
    """Reads blocks and verifies each before it is given out.

    Args:
        read: Returns at most so many bytes, and none at the end: the method of an open file.

    Raises:
        ArchiveError: What it returns is no archive.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self.size = 0
        """Bytes read."""
        found = self._take(len(MAGIC), "the beginning")
        if found != MAGIC:
            known = "of another version" if found.startswith(MAGIC[:6]) else "no archive"
            raise ArchiveError(f"the file is {known} of diskcache: it starts with {found!r}")

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks, the trailer as the last.

        Raises:
            ArchiveError: A block is damaged or missing; the message says which.
        """
        digest = _digest(b"", MAGIC)
        number = 0
        while True:
            where = f"block {number}"
            head = self._take(5, where)
            kind, size = head[:1], int.from_bytes(head[1:], "big")
            if kind not in TYPES or size > MAX_BLOCK:
                raise ArchiveError(f"{where} of the archive is damaged, or of an unknown type")
            payload = self._take(size, where)
            digest = _digest(digest, head, payload)
            if self._take(DIGEST_SIZE, where) != digest:
                raise ArchiveError(f"{where} of the archive is damaged: its digest is wrong")
            if (kind == HEADER) != (number == 0):
                raise ArchiveError(f"{where} of the archive is not where it belongs")
            yield Block(number, kind, payload)
            if kind == TRAILER:
                return
            number += 1

    def _take(self, size: int, where: str) -> bytes:
        """Return exactly so many bytes, in portions: what a length claims may not be there."""
        parts: list[bytes] = []
        missing = size
        while missing:
            part = self._read(min(missing, CHUNK_SIZE))
            if not part:
                raise ArchiveError(f"the archive is truncated in {where}, after {self.size} bytes")
            parts.append(part)
            missing -= len(part)
            self.size += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Archive:
    """An archive, open for reading: what `import_from` reads from, and what it says of itself.

    Args:
        file: Path, or an open binary file; it is read once, from where it stands, and need not be
            one that can be searched.

    Raises:
        ArchiveError: It is no archive, or its header is damaged.

    Example:
        >>> import io
        >>> stream = io.BytesIO()
        >>> cache['key'] = 'value'
        >>> cache.export(stream).entries
        1
        >>> with Archive(io.BytesIO(stream.getvalue())) as archive:
        ...     archive.shards
        0
    """

    id: bytes
    """16 bytes that name the archive."""
    shards: int
    """Shards of the `FanoutCache` that it was made of; 0 for a `Cache`."""
    settings: dict[str, SettingValue]
    """Settings of the cache that it was made of, as far as they are allowed here."""
    writer: str
    """Name of the disk or serializer that made the values; empty for the default."""
    created: float
    """Seconds since the epoch."""
    version: str
    """Version of the library that made it."""

    def __init__(self, file: str | os.PathLike[str] | BinaryIO) -> None:
        self._own: BinaryIO | None = None
        if isinstance(file, (str, os.PathLike)):
            self._own = file = open(file, "rb")  # noqa: SIM115 - closed by `close`
        try:
            self._reader = ArchiveReader(file.read)
            self._blocks = self._reader.blocks()
            self._read_header(next(self._blocks).loads(dict))
        except BaseException:
            self.close()
            raise

    def _read_header(self, header: dict[Any, Any]) -> None:
        for name, kind in (
            *(("id", bytes), ("shards", int), ("settings", dict), ("writer", str)),
            *(("created", float), ("version", str)),
        ):
            if type(header.get(name)) is not kind:
                raise ArchiveError(f"the header of the archive is damaged: no valid {name}")
            setattr(self, name, header[name])
        self.settings = believed(self.settings)[0]
        if len(self.id) != DIGEST_SIZE:
            raise ArchiveError("the header of the archive is damaged: no valid id")

    @property
    def size(self) -> int:
        """Bytes read so far."""
        return self._reader.size

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks behind the header, once.

        Raises:
            ArchiveError: A block is damaged or missing; the message says which.
        """
        return self._blocks

    def close(self) -> None:
        """Close the file, if it was given by its path."""
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def new_id() -> bytes:
    """Return the name of a new archive."""
    return secrets.token_bytes(DIGEST_SIZE)


@contextmanager
def created(file: str | os.PathLike[str] | BinaryIO) -> Iterator[Write]:
    """Return a context with a function that writes an archive to a path, or to an open file.

    A file at the path is replaced when all is written and on the disk, and not touched if that
    fails. Only its owner may read it.
    """
    if not isinstance(file, (str, os.PathLike)):
        yield file.write
        file.flush()
        return
    path = os.fspath(file)
    temporary = f"{path}.{secrets.token_hex(4)}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(temporary, flags, 0o600), "wb") as writer:
            yield writer.write
            writer.flush()
            os.fsync(writer.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _digest(*parts: bytes) -> bytes:
    state = blake2b(digest_size=DIGEST_SIZE)
    for part in parts:
        state.update(part)
    return state.digest()
