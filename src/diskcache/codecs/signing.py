"""Signatures for pickles: who made this, for which cache, in which role, under which key.

Envelope::

    0x01 | key id (4 bytes) | tag (16 bytes) | payload

    tag    = BLAKE2b, 16 bytes, keyed, person b'diskcache6-pkl', over
             cache id, role, key, payload: each after its length as u64, big-endian;
             of a payload beyond 32 kB its own length, then its SHA-256
    key    = BLAKE2b, 32 bytes, person b'diskcache6-key', of the secret
    key id = BLAKE2b, 4 bytes, person b'diskcache6-kid', of the key

The role is `value` for the pickle of a value, `packed` for a compressed one, `key` for a key.

A signature stops others from having pickles loaded, and entries from being swapped between keys,
roles and caches. It does not stop an older value of the same key from being put back.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from diskcache.errors import PickleKeyError, SettingError, UntrustedPickleError

if TYPE_CHECKING:
    import os

Role: TypeAlias = Literal["value", "packed", "key", "sealed", "tag", "meta"]
SigningKey: TypeAlias = tuple[bytes, bytes]
"""Key id and key."""

ENVELOPE: Final = 0x01
_ENVELOPE: Final = b"\x01"
_ID_SIZE: Final = 4
_TAG_SIZE: Final = 16
_TAG_START: Final = 1 + _ID_SIZE
HEADER_SIZE: Final = _TAG_START + _TAG_SIZE

_HASH_BEYOND: Final = 32 * 1024
"""Payload size from which hashing first is faster (0.65 ms/MB against 1.6)."""

MIN_SECRET: Final = 32
"""Bytes of a secret: less could be guessed offline."""

_PERSON: Final = b"diskcache6-pkl"
_KEY_PERSON: Final = b"diskcache6-key"
_ID_PERSON: Final = b"diskcache6-kid"

REMEDY: Final = (
    "Set DISKCACHE_SECRET "
    '(for example: python -c "import secrets; print(secrets.token_hex(32))"), or pass secret=...'
)


class NoSigningKeyError(PickleKeyError):
    """There is no key to sign with; `why` says where it was looked for."""

    def __init__(self, why: str) -> None:
        super().__init__(f"no key to sign pickles is available ({why}). {REMEDY}")
        self.why = why


def derive(secret: bytes) -> SigningKey:
    """Return the key id and key of a secret."""
    key = blake2b(secret, digest_size=32, person=_KEY_PERSON).digest()
    return blake2b(key, digest_size=_ID_SIZE, person=_ID_PERSON).digest(), key


class Keyring:
    """Finds the secrets, at the first need: the newest signs, all of them verify.

    They come from the first of these that is set: `secret`; DISKCACHE_SECRET;
    DISKCACHE_SECRET_FILE; the key file in the user's state directory, which is made when
    something must be signed. Nothing is read before.

    Threads may share a keyring. It cannot be pickled.

    Args:
        secret: At least 32 bytes, or several of them, newest first.
        environ: Where the variables are looked up.
        directory: The cache directory: no key may lie inside.
    """

    def __init__(
        self,
        secret: bytes | Sequence[bytes] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        self._environ = environ
        self._directory = directory
        self._keys: tuple[SigningKey, ...] = ()
        if secret is not None:
            self._keys = tuple(map(derive, _checked(secret)))

    def __repr__(self) -> str:
        return f"<Keyring of {self._directory!r}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("cannot pickle a Keyring: secrets do not travel with caches")

    def signing_key(self) -> SigningKey:
        """Return the id and the key to sign with.

        Raises:
            PickleKeyError: There is no key, or the key file is not safe to use.
        """
        return (self._keys or self._load(mint=True))[0]

    def verifying_keys(self) -> tuple[SigningKey, ...]:
        """Return the ids and keys that signatures may come from; none if no key exists yet.

        Raises:
            PickleKeyError: A secret is malformed, or the key file is not safe to use.
        """
        return self._keys or self._load(mint=False)

    def _load(self, *, mint: bool) -> tuple[SigningKey, ...]:
        from diskcache.codecs import secretfile

        secrets = secretfile.find_secrets(self._environ, self._directory, mint=mint)
        self._keys = tuple(map(derive, secrets))
        return self._keys


def _checked(secret: bytes | Sequence[bytes]) -> list[bytes]:
    secrets = [secret] if isinstance(secret, bytes) else list(secret)
    if not secrets:
        raise SettingError(
            "secret must be bytes or a list of them, newest first: got an empty list"
        )
    for each in secrets:
        if not isinstance(each, bytes):
            raise SettingError(f"secret must be bytes or a list of them: got {type(each)!r}")
        if len(each) < MIN_SECRET:
            raise SettingError(f"secret must have at least {MIN_SECRET} bytes: got {len(each)}")
    return secrets


class Signer:
    """Signs and verifies payloads for one cache.

    Args:
        keyring: Where the keys come from.
        cache_id: 16 random bytes that name the cache.
    """

    def __init__(self, keyring: Keyring, cache_id: bytes) -> None:
        self._keyring = keyring
        self._cache_id = cache_id
        self._states: dict[bytes, blake2b] = {}
        self._signing: tuple[bytes, blake2b] | None = None

    def sign(self, role: Role, key: bytes, payload: bytes) -> bytes:
        """Return *payload* in an envelope.

        Cost: 1 us for small payloads.

        Args:
            role: What the payload is.
            key: `keys.key_bytes` of the entry's key.
            payload: The bytes to vouch for.

        Raises:
            PickleKeyError: No key is available.
        """
        signing = self._signing
        if signing is None:
            key_id, secret = self._keyring.signing_key()
            signing = self._signing = (_ENVELOPE + key_id, self._state(key_id, secret))
        return signing[0] + _tag(signing[1], role, key, payload) + payload

    def verify(self, role: Role, key: bytes, envelope: bytes) -> bytes:
        """Return the payload of an envelope that was signed for the same role and key.

        Raises:
            UntrustedPickleError: It was not; `reason` is `'unsigned'`, `'unknown-key'` or
                `'bad-tag'`.
        """
        if len(envelope) < HEADER_SIZE or envelope[0] != ENVELOPE:
            raise UntrustedPickleError("the pickle carries no signature", "unsigned")
        key_id = envelope[1:_TAG_START]
        state = self._states.get(key_id)
        if state is None:
            state = self._find_state(key_id)
        payload = envelope[HEADER_SIZE:]
        tag = _tag(state, role, key, payload)
        if not hmac.compare_digest(tag, envelope[_TAG_START:HEADER_SIZE]):
            raise UntrustedPickleError(
                "the signature does not match: the entry was altered or damaged", "bad-tag"
            )
        return payload

    def of(self, cache_id: bytes) -> Signer:
        """Return the signer of another cache, with the same keys."""
        return Signer(self._keyring, cache_id)

    def _find_state(self, key_id: bytes) -> blake2b:
        try:
            keys = self._keyring.verifying_keys()
        except PickleKeyError as exc:
            raise UntrustedPickleError(f"cannot verify a signature: {exc}", "unknown-key") from exc
        for known_id, secret in keys:
            if known_id == key_id:
                return self._state(key_id, secret)
        raise UntrustedPickleError("the pickle was signed with an unknown key", "unknown-key")

    def _state(self, key_id: bytes, secret: bytes) -> blake2b:
        state = blake2b(digest_size=_TAG_SIZE, key=secret, person=_PERSON)
        state.update(_sized(self._cache_id))
        self._states[key_id] = state
        return state


def _tag(state: blake2b, role: str, key: bytes, payload: bytes) -> bytes:
    mac = state.copy()
    size = len(payload)
    body = payload if size <= _HASH_BEYOND else sha256(payload).digest()
    mac.update(
        b"".join(
            (
                _ROLES[role],
                len(key).to_bytes(8, "big"),
                key,
                size.to_bytes(8, "big"),
                body,
            )
        )
    )
    return mac.digest()


def _sized(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big") + part


_ROLES: Final = {
    role: _sized(role.encode()) for role in ("value", "packed", "key", "sealed", "tag", "meta")
}
