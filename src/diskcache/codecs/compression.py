"""Compressed values: what `compress=` stores, and how it is read without believing it.

Format. Bits 4 and 5 of the mode of a value say that its bytes are compressed: 1 by zlib, 2 by
zstd. They are then

    0x00    no dictionary (other numbers are reserved)
    length  of what they decompress to, u32, big-endian
    stream  one zlib stream (RFC 1950) or one zstd frame (RFC 8878), to the end

and decompress to the bytes that the mode stands for without these bits; text is in UTF-8. A pickle
is compressed first and then signed, in a role of its own (`signing`), so that a stream is
decompressed only once its signature is verified.

Reading gives up at the first byte beyond *length*, so it never takes more memory than that, and
*length* is at most `FREE_LENGTH`, or `MAX_RATIO` times the bytes that are stored; writing leaves a
value that would shrink more as it is. zstd frames may ask for a window of at most 8 MiB.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any, Final, Literal, TypeAlias

from diskcache.codecs.base import ZLIB, ZSTD
from diskcache.errors import CodecError, MissingExtraError, SettingError, UnavailableError

Method: TypeAlias = Literal["zlib", "zstd"]

METHODS: Final = {"zlib": ZLIB, "zstd": ZSTD}
LEVELS: Final = {"zlib": (1, 9), "zstd": (1, 19)}
DEFAULT_LEVELS: Final = {"zlib": 1, "zstd": 3}
"""Beyond these, time grows faster than values shrink: see docs/compression.md."""
DEFAULT_MINIMUM: Final = 1024
"""Bytes from which a value is compressed, unless told otherwise."""

HEADER_SIZE: Final = 5
MAX_LENGTH: Final = 2**30
"""Bytes of the largest value that is compressed."""
FREE_LENGTH: Final = 2**24
MAX_RATIO: Final = 1024
"""Bytes that one stored byte may stand for, beyond `FREE_LENGTH`: what zlib can do at best."""
WINDOW_LOG: Final = 23

EXTRA: Final = 'pip install "diskcache[zstd]"'


class Packer:
    """Compresses values of one cache. Threads may share it.

    Args:
        method: `'zlib'` or `'zstd'`.
        minimum: Bytes from which it is tried.
        level: Of the method; None for its default.

    Raises:
        SettingError: An argument is not allowed.
        MissingExtraError: zstd is not installed.
    """

    def __init__(
        self, method: str, minimum: int = DEFAULT_MINIMUM, level: int | None = None
    ) -> None:
        if method not in METHODS:
            raise SettingError(f"compress must be None, 'zlib' or 'zstd': got {method!r}")
        if type(minimum) is not int or minimum < 0:
            raise SettingError(f"compress_min must be a number of bytes: got {minimum!r}")
        low, high = LEVELS[method]
        chosen = DEFAULT_LEVELS[method] if level is None else level
        if type(chosen) is not int or not low <= chosen <= high:
            raise SettingError(
                f"compress_level must be from {low} to {high} for {method}: got {level!r}"
            )
        self.minimum = minimum
        self._bits = METHODS[method]
        self._level = chosen
        if method == "zstd":
            try:
                zstd()
            except ImportError as exc:
                raise MissingExtraError(f"compress='zstd' needs a package: {EXTRA}") from exc

    def pack(self, data: bytes) -> tuple[int, bytes] | None:
        """Return the bits and the compressed bytes, or None if that would not be smaller."""
        size = len(data)
        if not self.minimum <= size <= MAX_LENGTH:
            return None
        if self._bits == ZLIB:
            stream = zlib.compress(data, self._level)
        else:
            stream = zstd().compress(data, level=self._level)
        stored = HEADER_SIZE + len(stream)
        if stored >= size or not _is_plausible(size, stored):
            return None
        return self._bits, size.to_bytes(HEADER_SIZE, "big") + stream


def unpack(bits: int, data: bytes) -> bytes:
    """Return what *data* was before it was compressed.

    Raises:
        UnavailableError: It is of a method whose package is not installed.
        CodecError: It is damaged, or would become larger than it may.
    """
    size = int.from_bytes(data[:HEADER_SIZE], "big")
    if len(data) < HEADER_SIZE or data[0] or not _is_plausible(size, len(data)):
        raise CodecError("cannot decompress a value: its length is missing or not believable")
    if bits == ZLIB:
        return _unzlib(data[HEADER_SIZE:], size)
    if bits == ZSTD:
        return _unzstd(data[HEADER_SIZE:], size)
    raise CodecError(f"cannot decompress a value: unknown method {bits:#04x}")


def _is_plausible(size: int, stored: int) -> bool:
    return size <= MAX_LENGTH and (size <= FREE_LENGTH or size <= stored * MAX_RATIO)


def _unzlib(stream: bytes, size: int) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        # Without a byte to spare a stream that ends exactly here would not say that it does; a
        # limit of 0 would be none.
        found = decompressor.decompress(stream, size + 1)
    except zlib.error as exc:
        raise CodecError(f"cannot decompress a value: {exc}") from exc
    return _whole(found, size, decompressor.eof, decompressor.unused_data)


def _unzstd(stream: bytes, size: int) -> bytes:
    try:
        library = zstd()
    except ImportError as exc:
        raise UnavailableError(f"a value is compressed by zstd: {EXTRA}") from exc
    options = {library.DecompressionParameter.window_log_max: WINDOW_LOG}
    decompressor = library.ZstdDecompressor(options=options)
    try:
        found: bytes = decompressor.decompress(stream, size + 1)
    except library.ZstdError as exc:
        raise CodecError(f"cannot decompress a value: {exc}") from exc
    return _whole(found, size, decompressor.eof, decompressor.unused_data)


def _whole(found: bytes, size: int, at_end: bool, rest: bytes) -> bytes:
    if not at_end or rest or len(found) != size:
        raise CodecError("cannot decompress a value: it is not of the length that it claims")
    return found


@cache
def zstd() -> Any:
    """Return the module for zstd: the standard library's, or its backport.

    Raises:
        ImportError: There is none.
    """
    try:
        from compression import zstd as module
    except ImportError:
        from backports import zstd as module
    return module
