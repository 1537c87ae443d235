"""Values and keys to what an engine stores, and back, under one policy on pickles.

What a value becomes: str, 64-bit int, float and bytes are stored as they are, other plain data
in the encoding of `plain`, and the rest as a pickle: signed, refused, or bare.

A key that is not plain is stored as 0x01..., a signed pickle, or as 0x02 and a bare pickle.
"""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from diskcache.codecs import keys, legacy, plain
from diskcache.codecs.base import (
    INT64_MAX,
    INT64_MIN,
    KIND,
    MODE_BINARY,
    MODE_DATA,
    MODE_JSON,
    MODE_PICKLE,
    MODE_RAW,
    MODE_SEALED,
    MODE_TEXT,
    PACKED,
    Native,
    PickleMode,
)
from diskcache.codecs.compression import Packer, unpack
from diskcache.codecs.plain_tree import NOT_PLAIN
from diskcache.codecs.sealing import is_signed, refuse_unsealed, unwrapped, wrapped
from diskcache.codecs.signing import (
    ENVELOPE,
    HEADER_SIZE,
    REMEDY,
    NoSigningKeyError,
    Role,
    Signer,
)
from diskcache.entry import EncodedKey
from diskcache.errors import (
    CodecError,
    NotPlainError,
    PickleKeyError,
    SettingError,
    UnavailableError,
    UntrustedPickleError,
)
from diskcache.sentinels import ENOVAL

_STRICTEST_LAST: Final[tuple[PickleMode, ...]] = ("unsafe", "signed", "never")

_KEY_PROTOCOL: Final = 5
"""Of pickled keys, whatever the setting says: another protocol would make another key."""

_SIGNED: Final = bytes((ENVELOPE,))
BARE_KEY: Final = b"\x02"
"""In front of a key that is a bare pickle: of `pickle='unsafe'`, or of version 5."""
_PICKLED_KEYS: Final = frozenset({b"\x01", b"\x02"})

UNTRUSTED_WARNING: Final = (
    "{count} of cache {label!r} is a pickle without a valid signature (written by diskcache 5, "
    "by another user or machine, or altered) and was treated as missing. Values of your own can "
    'be recovered with "python -m diskcache migrate {label} --trust-pickles"; only do so if '
    'nobody else could write to this directory. Shown once; see "python -m diskcache info".'
)
UNSIGNED_WARNING: Final = (
    "{count} of cache {label!r} is not signed with a known key (written without"
    " authenticate='all', by another user or machine, or altered) and was treated as missing."
    ' Shown once; see "python -m diskcache info".'
)
ALTERED_ERROR: Final = (
    "signature check failed for an entry of {label!r} made with the current key: "
    "the entry was altered or damaged; {outcome}."
)
UNSAFE_WARNING: Final = "anyone who can write to {label!r} can run code in this process."


def effective_mode(pickle_mode: str, environ: Mapping[str, str] | None = None) -> PickleMode:
    """Return the stricter of *pickle_mode* and DISKCACHE_PICKLE.

    Raises:
        SettingError: One of them is not a mode.

    Example:
        >>> effective_mode('signed', {'DISKCACHE_PICKLE': 'never'})
        'never'
    """
    wanted = (os.environ if environ is None else environ).get("DISKCACHE_PICKLE") or pickle_mode
    return max(
        _checked(pickle_mode, "pickle"),
        _checked(wanted, "DISKCACHE_PICKLE"),
        key=_STRICTEST_LAST.index,
    )


def _checked(mode: str, name: str) -> PickleMode:
    for known in _STRICTEST_LAST:
        if mode == known:
            return known
    allowed = ", ".join(map(repr, _STRICTEST_LAST))
    raise SettingError(f"{name} must be one of {allowed}: got {mode!r}")


class ValueCodec:
    """Encodes the values and keys of one cache.

    Threads may share a codec. It holds a signer, and so is not pickled with the cache.

    Args:
        pickle: What happens to values that are not plain: `'signed'` pickles under a signature,
            `'never'` refuses them, `'unsafe'` pickles without protection. DISKCACHE_PICKLE can
            only make it stricter.
        signer: Needed for `'signed'`.
        protocol: Of pickled values.
        label: Names the cache in messages; usually its directory.
        packer: Compresses values; None for none. Compressed ones are read in any case.
        authenticate: `'pickles'`, or `'all'` to sign every value.

    Raises:
        SettingError: A mode is none, or two of them contradict each other.
    """

    def __init__(
        self,
        *,
        pickle: str = "signed",
        signer: Signer | None = None,
        protocol: int = pickle.HIGHEST_PROTOCOL,
        label: str = "",
        packer: Packer | None = None,
        authenticate: str = "pickles",
    ) -> None:
        self.pickle_mode = effective_mode(pickle)
        self.is_sealing = _is_sealing(authenticate, self.pickle_mode)
        """Whether every value is signed, and none loaded that is not."""
        self.protocol = protocol
        self._signer = signer
        self._label = label
        self._packer = packer

    # -- Values --

    def encode(self, value: Any, key: bytes | EncodedKey) -> tuple[int, Native]:
        """Return the mode number and the data to store for *value*.

        Args:
            value: Anything.
            key: The entry's encoded key, or `keys.key_bytes` of it; signatures are bound to it.

        Raises:
            NotPlainError: The value is not plain and pickling is off, or it is `ENOVAL`.
            PickleKeyError: The value must be signed and no key is available.
        """
        kind = type(value)
        if (
            (kind is str and value.isascii())
            or kind is bytes
            or (kind is int and INT64_MIN <= value <= INT64_MAX)
            or keys.is_native(value, kind)
        ):
            return MODE_RAW, value
        if value is ENOVAL:
            raise NotPlainError(
                "cannot store ENOVAL as a value: it says that there is none, so reading it would be"
                " a miss; store None, or a value that holds it, such as (ENOVAL,)"
            )
        try:
            return MODE_DATA, plain.dumps(value)
        except NotPlainError as exc:
            return self._pickle_value(value, key, exc)

    def encode_packed(self, value: Any, key: bytes | EncodedKey) -> tuple[int, Native]:
        """Do as `encode`, and compress what becomes smaller by it."""
        mode, data = self.encode(value, key)
        packer = self._packer
        # Pickles are compressed before they are signed.
        if packer is None or not isinstance(data, (str, bytes)) or mode & KIND == MODE_PICKLE:
            return mode, data
        if len(data) < packer.minimum:
            return mode, data
        packed = packer.pack(data if isinstance(data, bytes) else data.encode())
        if packed is None:
            return mode, data
        if mode == MODE_RAW:
            mode = MODE_TEXT if isinstance(data, str) else MODE_BINARY
        return mode | packed[0], packed[1]

    @property
    def encoder(self) -> Callable[[Any, EncodedKey], tuple[int, Native]]:
        """The one of `encode`, `encode_packed` and `encode_protected` that is needed."""
        if self.is_sealing:
            return self.encode_protected
        return self.encode if self._packer is None else self.encode_packed

    def decode(self, mode: int, data: Native, key: bytes | EncodedKey) -> Any:
        """Return the value that `encode` made *data* of.

        Raises:
            CodecError: The data is damaged, or its class is gone or refuses it.
            UntrustedPickleError: The data is a pickle that may not be loaded here.
        """
        if mode == MODE_RAW:
            return data
        if mode == MODE_DATA:
            return plain.loads(_as_bytes(data))
        if mode == MODE_PICKLE:
            return self._decode_pickle(_as_bytes(data), key)
        if mode == MODE_JSON:
            return load_json(data)
        if mode == MODE_SEALED:
            return self._unseal(key, _as_bytes(data))
        if mode > 0 and mode & PACKED and mode & KIND != MODE_SEALED:
            return self._decode_packed(mode & KIND, mode & PACKED, _as_bytes(data), key)
        raise CodecError(f"cannot decode value: unknown mode {mode!r}")

    def _decode_pickle(self, data: bytes, key: bytes | EncodedKey) -> Any:
        is_bare = data[:1] != _SIGNED and self.pickle_mode != "unsafe"
        if is_bare and not self.is_sealing:
            # A bare pickle, as version 5 left it, may still be read as data.
            try:
                return legacy.loads(data)
            except legacy.ForeignPickleError:
                pass
            except CodecError:
                if legacy.is_pickle(data):
                    raise
        return self._unpickle("value", key, data)

    def _decode_packed(self, mode: int, bits: int, data: bytes, key: bytes | EncodedKey) -> Any:
        if mode == MODE_PICKLE:
            return load_pickle(unpack(bits, self._verified("packed", key, data)))
        content = unpack(bits, data)
        if mode == MODE_BINARY:
            return content
        if mode == MODE_TEXT:
            return as_text(content)
        return self.decode(mode, content, key)

    # -- Values that are all signed --

    def encode_protected(self, value: Any, key: bytes | EncodedKey) -> tuple[int, Native]:
        """Return what `encode_packed` does, under a signature."""
        return self.protected(*self.encode_packed(value, key), key)

    def protected(self, mode: int, data: Native, key: bytes | EncodedKey) -> tuple[int, Native]:
        """Return an encoded value as it is stored: under a signature, if all of them are.

        Raises:
            PickleKeyError: It must be signed and no key is available.
        """
        if not self.is_sealing or mode & KIND == MODE_PICKLE:
            return mode, data
        try:
            if self._signer is None:
                raise NoSigningKeyError("none was given")
            return MODE_SEALED, self._signer.sign("sealed", _bound(key), wrapped(mode, data))
        except NoSigningKeyError as exc:
            raise PickleKeyError(
                "cannot store a value: authenticate='all' signs every one, and no key to sign with"
                f" is available ({exc.why}). {REMEDY}, or leave authenticate out."
            ) from exc

    def _unseal(self, key: bytes | EncodedKey, data: bytes) -> Any:
        if self._signer is None:
            raise UntrustedPickleError("no key to verify signatures was given", "unknown-key")
        mode, inner = unwrapped(self._signer.verify("sealed", _bound(key), data))
        if is_signed(mode):
            raise CodecError(f"cannot decode value: mode {mode} in a sealed one")
        return self.decode(mode, inner, key)

    # -- Keys --

    def encode_key(self, key: Any) -> tuple[Native, int]:
        """Return the database key, and 1 if it is *key* itself or 0 if it is encoded.

        Raises:
            NotPlainError: The key is not plain and pickling is off.
            PickleKeyError: The key must be signed and no key to sign with is available.
        """
        kind = type(key)
        if (kind is str and key.isascii()) or kind is bytes:
            return key, 1
        try:
            return keys.encode_key(key)
        except NotPlainError as exc:
            return self._pickle_key(key, exc), 0

    def decode_key(self, db_key: Native, raw: int) -> Any:
        """Return the key that `encode_key` was given, or an equal one.

        Raises:
            CodecError: The bytes are damaged, or the key's class is gone or refuses them.
            UntrustedPickleError: The key is a pickle that may not be loaded here.
        """
        if raw:
            return db_key
        data = _as_bytes(db_key)
        if data[:1] == b"\x01":
            return self._unpickle("key", b"", data)
        if data[:1] == BARE_KEY:
            return self._unpickle("key", b"", data[1:])
        return plain.loads(data)

    # -- Pickles --

    def _pickle_value(
        self, value: Any, key: bytes | EncodedKey, refusal: NotPlainError
    ) -> tuple[int, bytes]:
        self._allow_pickle(refusal)
        payload = pickle.dumps(value, self.protocol)
        packed = None if self._packer is None else self._packer.pack(payload)
        mode, role = MODE_PICKLE, "value"
        if packed is not None:
            mode, role, payload = MODE_PICKLE | packed[0], "packed", packed[1]
        if self.pickle_mode == "unsafe":
            return mode, payload
        return mode, self._sign(role, key, payload, refusal)

    def _pickle_key(self, key: Any, refusal: NotPlainError) -> bytes:
        self._allow_pickle(refusal)
        payload = _pickle_by_value(key)
        if self.pickle_mode == "unsafe":
            return BARE_KEY + payload
        return self._sign("key", b"", payload, refusal)

    def _allow_pickle(self, refusal: NotPlainError) -> None:
        if self.pickle_mode == "never":
            raise NotPlainError(f"{refusal} and this cache was opened with pickle='never'.")

    def _sign(
        self, role: Any, key: bytes | EncodedKey, payload: bytes, refusal: NotPlainError
    ) -> bytes:
        try:
            if self._signer is None:
                raise NoSigningKeyError("none was given")
            return self._signer.sign(role, _bound(key), payload)
        except NoSigningKeyError as exc:
            subject = str(refusal).removesuffix(NOT_PLAIN)
            raise PickleKeyError(
                f"cannot store {subject}: it is not plain data, and no key to sign pickles is "
                f"available ({exc.why}). {REMEDY}, or store plain data, or pass pickle='unsafe' "
                f"if only you can write to {self._label!r}."
            ) from exc

    def _unpickle(self, role: Role, key: bytes | EncodedKey, data: bytes) -> Any:
        return load_pickle(self._verified(role, key, data))

    # -- Entries of other caches --

    def adopt_key(self, db_key: Native, raw: int, source: bytes) -> EncodedKey:
        """Return an encoded key of another cache as this one would encode it.

        Args:
            db_key: The key as it is stored there.
            raw: The same.
            source: Id of that cache.

        Raises:
            UntrustedPickleError: It is a pickle that may not be loaded here.
            CodecError: It is damaged, or not the encoding of any key.
        """
        if raw:
            if not keys.is_native(db_key, type(db_key)):
                raise CodecError(f"{type(db_key)!r} is not stored as a key of its own")
            return db_key, 1
        data = _as_bytes(db_key)
        if data[:1] in _PICKLED_KEYS:
            return self._adopted("key", data, source, b"", b""), 0
        try:
            again = keys.encode_key(plain.loads(data))
        except UnavailableError:
            # A type that is not registered here: whoever registers it will check.
            return data, 0
        if again != (data, 0):
            raise CodecError("bytes are not the one encoding of a key")
        return again

    def adopt_value(
        self, mode: int, data: Any, source: bytes, old: EncodedKey, new: EncodedKey
    ) -> Any:
        """Return the encoded value of an entry of another cache as this one may keep it.

        Signatures are verified, and made anew for this cache; nothing else is decoded.

        Raises:
            UntrustedPickleError: It is a pickle that may not be loaded here, or not signed where
                all values must be.
        """
        if mode == MODE_SEALED:
            return self._signed_anew("sealed", _as_bytes(data), source, _bound(old), _bound(new))
        if self.is_sealing:
            refuse_unsealed(mode, self._label)
        if mode & KIND != MODE_PICKLE:
            return data
        role: Role = "packed" if mode & PACKED else "value"
        return self._adopted(role, data, source, _bound(old), _bound(new))

    def _adopted(self, role: Role, data: bytes, source: bytes, old: bytes, new: bytes) -> bytes:
        if self.pickle_mode == "unsafe":
            is_signed_key = role == "key" and data[0] == ENVELOPE
            return BARE_KEY + data[HEADER_SIZE:] if is_signed_key else data
        if self.pickle_mode == "never":
            raise UntrustedPickleError("pickles are not loaded here", "refused")
        return self._signed_anew(role, data, source, old, new)

    def _signed_anew(self, role: Role, data: bytes, source: bytes, old: bytes, new: bytes) -> bytes:
        if self._signer is None:
            raise UntrustedPickleError("no key to verify signatures was given", "unknown-key")
        return self._signer.sign(role, new, self._signer.of(source).verify(role, old, data))

    def _verified(self, role: Role, key: bytes | EncodedKey, data: bytes) -> bytes:
        if self.pickle_mode == "never":
            raise UntrustedPickleError(
                f"an entry of {self._label!r} is a pickle and this cache was opened with "
                "pickle='never'",
                "refused",
            )
        if self.pickle_mode == "unsafe":
            return data[HEADER_SIZE:] if data[:1] == _SIGNED else data
        if self._signer is None:
            raise UntrustedPickleError("no key to verify signatures was given", "unknown-key")
        return self._signer.verify(role, _bound(key), data)


def _is_sealing(authenticate: str, pickle_mode: PickleMode) -> bool:
    if authenticate not in ("pickles", "all"):
        raise SettingError(f"authenticate must be 'pickles' or 'all': got {authenticate!r}")
    if authenticate == "all" and pickle_mode == "unsafe":
        raise SettingError("authenticate='all' and pickle='unsafe' contradict each other")
    return authenticate == "all"


def load_json(text: Any) -> Any:
    """Return what JSON text stands for.

    Raises:
        CodecError: It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as exc:
        raise CodecError(f"cannot decode JSON text: {exc}") from exc


def as_text(data: Native) -> str:
    """Return text that is kept as bytes.

    Raises:
        CodecError: It is not UTF-8.
    """
    try:
        return data.decode() if isinstance(data, bytes) else cast("str", data)
    except UnicodeDecodeError as exc:
        raise CodecError(f"cannot decode text: {exc}") from exc


def _bound(key: bytes | EncodedKey) -> bytes:
    # Most values need no signature, so their key's bytes are not worth making in advance.
    return key if isinstance(key, bytes) else keys.key_bytes(*key)


def _as_bytes(data: Native) -> bytes:
    if type(data) is bytes:
        return data
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise CodecError(f"cannot decode data: {type(data)!r} where bytes are expected")


def load_pickle(payload: bytes) -> Any:
    """Load a pickle that is as trustworthy as it will get."""
    try:
        return pickle.loads(payload)
    except BaseException as exc:
        # The classes of the value run here, and may raise anything.
        if isinstance(exc, MemoryError) or not isinstance(exc, Exception):
            raise
        raise CodecError(f"cannot load a pickled value: {type(exc).__name__}: {exc}") from exc


def _pickle_by_value(key: Any) -> bytes:
    """Pickle a key so that the identity of its parts does not matter.

    A pickle refers back to an object that it met before, so that `(s, s)` and `(s, t)` with
    equal but distinct `s` and `t` pickle differently; `fast` writes each anew.
    """
    file = io.BytesIO()
    pickler = pickle.Pickler(file, _KEY_PROTOCOL)
    pickler.fast = True
    try:
        pickler.dump(key)
    except (ValueError, RecursionError):
        # The key contains itself.
        import pickletools

        return pickletools.optimize(pickle.dumps(key, _KEY_PROTOCOL))
    return file.getvalue()
