"""`JSONDisk`: keys and values as JSON, values compressed."""

from __future__ import annotations

import json
import zlib
from typing import Any, Final

from diskcache.codecs.base import MODE_BINARY, MODE_JSON, MODE_RAW, ZLIB
from diskcache.codecs.keys import is_native
from diskcache.codecs.values import load_json
from diskcache.disk import Disk, as_native
from diskcache.entry import GUARD
from diskcache.errors import CodecError
from diskcache.sentinels import UNKNOWN

_PACKED: Final = MODE_JSON | ZLIB
_NATIVE_KEYS: Final = frozenset({int, str})
LONGEST_KEY: Final = 2**20
"""Bytes of a key of version 5 beyond which nobody looks into it."""
_PEEK: Final = 256
_JSON_STARTS: Final = frozenset(bytes((byte,)) for byte in b'[{"-0123456789tfnNI')


class JSONDisk(Disk):
    """A disk that keeps values as JSON text compressed by zlib, and keys as JSON text.

    What comes back is what JSON keeps: tuples are lists, keys of dicts are text. Two keys are the
    same if their JSON texts are, so `(1, 2)` and `[1, 2]` are, and `1` and `1.0` are not.

    Values that were stored with `read=True` are kept as they are; with `read=True` they are
    returned as open files, and every other value as itself.

    Args:
        directory: Directory of the cache.
        compress_level: Of zlib, 0 to 9. Directories are readable whatever it was before.
        **kwargs: As for `Disk`.

    Example:
        >>> from diskcache import Cache
        >>> with Cache(disk=JSONDisk, disk_compress_level=6) as cache:
        ...     cache['k'] = {'a': (1, 2)}
        ...     cache['k']
        {'a': [1, 2]}
    """

    def __init__(self, directory: str, compress_level: int = 1, **kwargs: Any) -> None:
        self.compress_level = compress_level
        super().__init__(directory, **kwargs)

    def put(self, key: Any) -> tuple[Any, Any]:
        """Return what to store for *key*: text and integers themselves, else JSON text.

        Raises:
            TypeError: The key is of a type that JSON does not know.
        """
        kind = type(key)
        if kind in _NATIVE_KEYS and is_native(key, kind):
            return key, True
        # Not compressed: another level or library would make another key of it.
        return json.dumps(key).encode(), False

    def get(self, key: Any, raw: Any) -> Any:
        """Return the key that `put` was given."""
        return as_native(key) if raw else load_json(as_native(key))

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str | None, Any]:
        """Return size, mode, file name and database value to store for *value*.

        Raises:
            TypeError: The value, or a part of it, is of a type that JSON does not know.
        """
        if read and type(value) not in (str, int, float, bytes):
            return super().store(value, True, key=key)
        data = zlib.compress(json.dumps(value).encode(), self.compress_level)
        size, _, name, stored = super().store(data, False, key=key)
        return size, _PACKED, name, stored

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """Return the value; with *read*, one that was stored with it as an open file.

        Raises:
            OSError: The file is missing or damaged.
            CodecError: It is damaged.
        """
        if mode & ~GUARD != _PACKED:
            return super().fetch(mode, filename, value, read)
        data = super().fetch(MODE_RAW if filename is None else MODE_BINARY, filename, value, False)
        try:
            return load_json(zlib.decompress(data))
        except (TypeError, zlib.error) as exc:
            raise CodecError(f"cannot decompress JSON text: {exc}") from exc

    def upgrade_key(self, key: Any, raw: int) -> tuple[Any, int]:
        """Return what `put` stores for a key of version 5, which was compressed JSON text."""
        if not raw or type(key) is not bytes:
            return key, raw
        try:
            db_key, is_native_key = self.put(load_json(unpacked(key, LONGEST_KEY)))
        except (CodecError, zlib.error, EOFError):
            return key, raw
        return db_key, int(is_native_key)

    def upgrade_value(self, mode: int, filename: str | None, value: Any) -> tuple[int, Any]:
        """Return mode and value for a value of version 5, which was compressed JSON text.

        What does not begin like that was stored with `read=True`.
        """
        try:
            if mode == MODE_RAW and type(value) is bytes and filename is None:
                return (_PACKED if _is_packed(value) else mode), value
            if mode == MODE_BINARY and filename is not None:
                with self._files.open(filename) as file:
                    return (_PACKED if _is_packed(file.read(_PEEK)) else mode), value
        except OSError:
            pass
        return mode, value


def _is_packed(data: bytes) -> bool:
    """Tell whether bytes begin as compressed JSON text does."""
    try:
        text = zlib.decompressobj().decompress(data[:_PEEK], _PEEK)
    except zlib.error:
        return False
    return text[:1] in _JSON_STARTS


def unpacked(data: bytes, most: int) -> bytes:
    """Return decompressed bytes.

    Raises:
        zlib.error: They are not compressed.
        EOFError: There are more than *most*, or something is missing.
    """
    stream = zlib.decompressobj()
    text = stream.decompress(data, most)
    if not stream.eof:
        raise EOFError
    return text
