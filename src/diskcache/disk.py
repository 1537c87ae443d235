"""`Disk`: how values become rows and files, and where users change that.

A subclass overrides `put`/`get` for keys, `store`/`fetch` for values, `filename` for the names of
value files; whatever it does not override goes the short way through `pack` and `unpack`.
"""

from __future__ import annotations

import functools
import io
import os
import threading
from typing import Any, cast

from diskcache.codecs import keys, legacy, plain
from diskcache.codecs.base import (
    MODE_BINARY,
    MODE_DATA,
    MODE_PICKLE,
    MODE_RAW,
    MODE_SEALED,
    MODE_TEXT,
)
from diskcache.codecs.keys import shard_hash
from diskcache.codecs.sealing import refuse_unsealed
from diskcache.codecs.signing import Keyring, Signer
from diskcache.codecs.values import BARE_KEY, ValueCodec
from diskcache.entry import DAMAGED, GUARD, DbValue, EncodedKey, Payload, Row, Staged
from diskcache.errors import CodecError, NotPlainError, SettingError
from diskcache.files import ValueFiles, is_safe, new_name
from diskcache.sentinels import UNKNOWN

_NATIVE = frozenset({str, bytes, int, float})
_FORMAT = ("put", "get", "store", "fetch", "hash")
"""Methods that decide how entries are stored, and so who can read them."""
_NOWHERE: EncodedKey = ("", 1)


class _Context(threading.local):
    """What a user's `store` and `fetch` are not told, kept for the call in this thread."""

    key: EncodedKey = _NOWHERE
    user_key: Any = UNKNOWN
    row: Row | None = None
    staged: Staged | None = None


class Disk:
    """Serializes keys and values, and keeps large values in files.

    Threads may share it. A subclass may take further keyword arguments; a cache passes it those
    of its own that start with `disk_`, without that prefix.

    Args:
        directory: Directory of the cache.
        min_file_size: Bytes (characters for text) from which a value gets a file of its own.
        pickle_protocol: Protocol for values that are pickled.
    """

    def __init__(self, directory: str, min_file_size: int = 0, pickle_protocol: int = 0) -> None:
        self._directory = str(directory)
        self.min_file_size = min_file_size
        self.pickle_protocol = pickle_protocol
        self._context = _Context()
        # On its own, as in a test of a subclass, a disk signs for no cache in particular.
        signer = Signer(Keyring(directory=self._directory), bytes(16))
        self.attach(
            ValueCodec(signer=signer, protocol=pickle_protocol, label=self._directory),
            ValueFiles(self._directory),
        )

    def attach(self, codec: ValueCodec, files: ValueFiles) -> None:
        """Use the codec and the files of a cache. The cache calls this once."""
        self._codec = codec
        self._files = files
        self._encode = codec.encoder
        self._decode = codec.decode

    # -- The way of the library --

    def pack(self, value: Any, read: bool, key: EncodedKey) -> Payload:
        """Encode a value; write it to a temporary file if it is large.

        Args:
            value: The value, or with *read* an open binary file.
            read: Copy the file *value* into a file of the cache.
            key: Encoded key of the entry; signatures are bound to it.
        """
        if read and type(value) not in _NATIVE:
            return self._pack_stream(value, key)
        mode, data = self._encode(value, key)
        if isinstance(data, (str, bytes)) and len(data) >= self.min_file_size:
            return self.spill(mode, data, value)
        return mode, data, None

    def _pack_stream(self, stream: Any, key: EncodedKey) -> Payload:
        """Copy an open file to a temporary one; a signature needs all of it at once."""
        if self._codec.is_sealing:
            content = stream.read()
            mode, data = self._codec.protected(MODE_RAW, content, key)
            return self.spill(mode, cast("bytes", data), stream)
        return MODE_BINARY, None, self._files.stage_stream(stream.read, self._file_name(stream))

    def spill(self, mode: int, data: str | bytes, value: Any) -> Payload:
        """Write an encoded value to a temporary file."""
        if mode == MODE_RAW:
            mode = MODE_TEXT if type(data) is str else MODE_BINARY
        encoded = data.encode("utf-8") if isinstance(data, str) else data
        return mode, None, self._files.stage(encoded, self._file_name(value))

    def _file_name(self, value: Any) -> str | None:
        if type(self).filename is Disk.filename:
            return None
        return self._confined(self.filename(self._context.user_key, value)[0])

    def _confined(self, name: str) -> str:
        """Return a name that a subclass chose, with slashes.

        Raises:
            SettingError: It leads outside the directory, or is one that the library uses.
        """
        slashed = name.replace(os.sep, "/")
        if not is_safe(slashed):
            raise SettingError(
                f"{type(self).__name__} must name files inside the cache directory, and not as the"
                f" library names its own: got {name!r}"
            )
        return slashed

    def unpack(self, row: Row, read: bool, key: EncodedKey) -> Any:
        """Decode a stored value, or with *read* open its file.

        Raises:
            OSError: Its file is missing or damaged.
            CodecError: Its bytes are damaged.
            UntrustedPickleError: It is a pickle that may not be loaded.
        """
        mode, data, file, size, checksum = row[:5]
        if type(mode) is not int:
            raise CodecError(f"cannot decode value: unknown mode {mode!r}")
        mode &= ~GUARD
        if mode == MODE_SEALED or self._codec.is_sealing:
            return self._unpack_sealed(mode, row, read, key)
        if file is None:
            return data if mode == MODE_RAW else self._decode(mode, cast("Any", data), key)
        if mode == MODE_BINARY:
            if read:
                return self._files.open(file, None if checksum is None else size)
            return self._files.read(file, size, checksum)
        content = self._files.read(file, size, checksum)
        if mode == MODE_TEXT:
            return _text(content)
        return self._decode(mode, content, key)

    def _unpack_sealed(self, mode: int, row: Row, read: bool, key: EncodedKey) -> Any:
        """Decode a signed value; with *read*, content that was read from a file is one again."""
        if self._codec.is_sealing:
            refuse_unsealed(mode, self._directory)
        data, file, size, checksum = row[1:5]
        if file is not None:
            data = self._files.read(file, size, checksum)
        value = self._decode(mode, cast("Any", data), key)
        is_content = read and file is not None and type(value) is bytes
        return io.BytesIO(value) if is_content else value

    # -- The way of a subclass --

    def pack_through_store(self, value: Any, read: bool, key: EncodedKey, user_key: Any) -> Payload:
        """Encode a value by the `store` of a subclass."""
        context = self._context
        context.key, context.user_key, context.staged = key, user_key, None
        try:
            if user_key is UNKNOWN:
                _, mode, name, data = self.store(value, read)
            else:
                _, mode, name, data = self.store(value, read, key=user_key)
            staged: Staged | None = cast("Any", context).staged
        except BaseException:
            self._files.discard(context.staged)
            raise
        finally:
            context.key, context.user_key, context.staged = _NOWHERE, UNKNOWN, None
        if name is None:
            return mode, as_native(data), None
        name = self._confined(name)
        if staged is None or staged.name != name:
            size = os.path.getsize(os.path.join(self._directory, name))
            staged = Staged(name, None, size, None)
        return mode, None, staged

    def unpack_through_fetch(self, row: Row, read: bool, key: EncodedKey) -> Any:
        """Decode a stored value by the `fetch` of a subclass.

        What the library keeps for itself did not pass through `store`, and is none of its business.
        """
        if type(row[0]) is not int or row[0] & GUARD or row[0] == DAMAGED:
            return Disk.unpack(self, row, read, key)
        context = self._context
        context.key, context.row = key, row
        try:
            return self.fetch(row[0], row[2], row[1], read)
        finally:
            context.key, context.row = _NOWHERE, None

    # -- Methods that subclasses override --

    def put(self, key: Any) -> tuple[Any, Any]:
        """Return what to store for *key*, and whether it is *key* itself.

        Raises:
            NotPlainError: The key is not plain data and pickling is off.
            PickleKeyError: The key must be signed and no key to sign with is available.
        """
        db_key, raw = self._codec.encode_key(key)
        return db_key, bool(raw)

    def get(self, key: Any, raw: Any) -> Any:
        """Return the key that `put` was given."""
        return self._codec.decode_key(as_native(key), int(raw))  # type: ignore[arg-type]

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str | None, Any]:
        """Return size, mode, file name and database value to store for *value*.

        The size is that of the file, 0 without one; either the name or the value is None. A file
        is written under a temporary name and gets its own when the entry is stored.
        """
        mode, data, staged = self.pack(value, read, self._context.key)
        if staged is None:
            return 0, mode, None, data
        if self._context.key is _NOWHERE:
            # Called without a cache: there is no transaction to wait for.
            self._files.publish(staged)
        self._context.staged = staged
        return staged.size, mode, staged.name.replace("/", os.sep), None

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """Return the value, or with *read* and a file of bytes the open file.

        Raises:
            OSError: The file is missing or damaged.
        """
        row = self._context.row
        name = None if filename is None else filename.replace(os.sep, "/")
        size, checksum = (0, None) if row is None or row[2] != name else (row[3], row[4])
        native = as_native(value)
        return Disk.unpack(
            self,
            (mode, native, name, size, checksum, None, None, 0, 0),
            read,
            self._context.key,
        )

    def filename(self, key: Any = UNKNOWN, value: Any = UNKNOWN) -> tuple[str, str]:
        """Return a name for a value file, relative to the directory, and its full path."""
        name = new_name().replace("/", os.sep)
        return name, os.path.join(self._directory, name)

    def remove(self, file_path: str) -> None:
        """Remove a value file by its relative name; a missing one is no error."""
        self._files.remove(file_path.replace(os.sep, "/"))

    def hash(self, key: Any) -> int:
        """Return a number from 0 to 2**32 - 1 for *key*, the same in every process."""
        db_key, raw = self.put(key)
        return shard_hash(as_native(db_key), int(raw))  # type: ignore[arg-type]

    # -- Entries of version 5 --

    def upgrade_key(self, key: Any, raw: int) -> tuple[Any, int]:
        """Return what `put` stores for a key that version 5 stored as *key* and *raw*.

        A subclass whose `put` makes other bytes than it did with version 5 overrides this; one that
        pickles keys itself need not.

        Args:
            key: The database key.
            raw: 1 for a native key, 0 for a pickle of version 5 or bytes of a subclass.
        """
        if key is None:
            # Version 5 stored NaN so.
            return keys.encode_key(float("nan"))
        if raw or type(key) is not bytes or self._pickles_keys:
            return key, raw
        try:
            return keys.encode_key(legacy.loads(key))
        except (legacy.ForeignPickleError, NotPlainError):
            return BARE_KEY + key, 0
        except CodecError:
            return (BARE_KEY + key if legacy.is_pickle(key) else key), raw

    @functools.cached_property
    def _pickles_keys(self) -> bool:
        """Whether a subclass pickles keys itself, so that they stay what they are."""
        if type(self).put is Disk.put:
            return False
        try:
            made, raw = self.put(("a", 1))
        except (TypeError, ValueError):
            return False
        return not raw and legacy.is_pickle(bytes(as_native(made)))  # type: ignore[arg-type]

    def upgrade_value(self, mode: int, filename: str | None, value: Any) -> tuple[int, Any]:
        """Return mode and database value for a value of version 5.

        What a subclass stores in ways of its own is left as it is.

        Args:
            mode: Its mode.
            filename: Name of its file, or None.
            value: The database value; None for a value in a file.
        """
        if type(self).store is not Disk.store or type(self).fetch is not Disk.fetch:
            return mode, value
        if mode == MODE_RAW and value is None and filename is None:
            # Version 5 stored NaN so.
            return MODE_DATA, plain.dumps(float("nan"))
        if mode == MODE_PICKLE and type(value) is bytes:
            try:
                return MODE_DATA, plain.dumps(legacy.loads(value))
            except (CodecError, NotPlainError):
                return mode, value
        return mode, value


def writer_name(disk: type[Disk]) -> str:
    """Return what a directory is marked with; nothing for a disk that stores as `Disk` does.

    A class counts by its name alone: it may be in the main module here and an imported one there.
    """
    if disk is Disk or all(getattr(disk, name) is getattr(Disk, name) for name in _FORMAT):
        return ""
    is_ours = disk.__module__.startswith("diskcache.")
    return f"diskcache.{disk.__name__}" if is_ours else disk.__name__


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise CodecError(f"cannot decode text: {exc}") from exc


def as_native(value: Any) -> DbValue:
    """Return what a subclass made as a value that an engine can hold."""
    if isinstance(value, (memoryview, bytearray)):
        return bytes(value)
    if isinstance(value, bool):
        return int(value)
    return cast("DbValue", value)
