"""A cache as `Deque` and `Index` use it: what cannot be loaded is an error, and stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from diskcache.cache import Cache
from diskcache.cache.foundation import LOOKS
from diskcache.cache.watching import bare_engine
from diskcache.codecs.base import MODE_RAW
from diskcache.codecs.sealing import is_signed
from diskcache.disk import Disk
from diskcache.engines.base import Engine, Put, SkipEntry
from diskcache.entry import (
    EXPIRE_TIME,
    FILE,
    IDENT,
    MODE,
    VALUE,
    EncodedKey,
    Listed,
    Order,
    Payload,
    Row,
)
from diskcache.errors import CodecError, TooLargeError, UnavailableError, UntrustedPickleError
from diskcache.files import is_lost
from diskcache.sentinels import ENOVAL, UNKNOWN

PAGE: Final = 100
"""Entries read at a time while iterating."""


class StrictAccess:
    """The entries of a cache, for structures in which a silent miss would be loss of data.

    An entry that may not be loaded, or whose value is damaged, raises and is not removed,
    whatever the cache does. All operations wait for the write lock without limit.

    Args:
        cache: Any cache; the object is shared, not copied.
    """

    def __init__(self, cache: Cache) -> None:
        if not isinstance(cache, Cache):
            raise TypeError(
                f"cache must be a Cache, as all entries are in one place: got {cache!r};"
                " a FanoutCache has deque(name), index(name) and cache(name)"
            )
        self.cache = cache
        self.engine: Engine = bare_engine(cache)
        self.engine.refuse_eviction("a Deque or an Index", one_place=True)
        self.now: Callable[[], float] = cache._now
        self.encode_key: Callable[[Any], EncodedKey] = cache._encode_key
        self.pack_early: Callable[[Any, bool], Payload | None] = cache._pack_early
        self._reads_memory = self.engine.capabilities.one_machine
        """Whether memory is never stale, as a structure needs it."""
        self.hit: Callable[[Any], Any] = cache._hit if self._reads_memory else _unknown
        """Answers from memory, where the key is its own place; else `UNKNOWN`."""
        self.discard: Callable[[Payload | None], None] = cache._discard
        self._has_own_keys = type(cache._disk).get is not Disk.get

    # -- Loading --

    def load(self, key: EncodedKey, row: Row) -> Any:
        """Return the value of a row, or `ENOVAL` if the entry was removed meanwhile.

        Raises:
            UntrustedPickleError: It is a pickle that may not be loaded.
            UnavailableError: Its type is not registered here, or an extra is missing.
            CodecError: It is damaged, or its file is missing or damaged.
        """
        seen: Row | None = row
        for _ in range(LOOKS):
            if seen is None:
                return ENOVAL
            if seen[MODE] == MODE_RAW and seen[VALUE] is not None and self.cache._is_plain:
                return seen[VALUE]
            try:
                return self._unpacked(key, seen)
            except (UntrustedPickleError, CodecError) as exc:
                raise self._kept(key, exc) from exc
            except OSError as exc:
                again = self.engine.get(key, self.now())
                if again is not None and (again[FILE], again[IDENT]) == (seen[FILE], seen[IDENT]):
                    if not is_lost(exc):
                        raise
                    raise self._kept(key, exc) from exc
                seen = again
        return ENOVAL

    def _unpacked(self, key: EncodedKey, row: Row) -> Any:
        value = self.cache._unpack(row, False, key)
        if value is ENOVAL:
            # Nothing here stores it; whoever asks would take it for no entry.
            raise CodecError("its value is ENOVAL, which says that there is none")
        return value

    def load_queued(self, key: EncodedKey, row: Row) -> Any:
        """Return the value of a row met by the engine, or tell it to look again."""
        value = self.load(key, row)
        if value is ENOVAL:
            raise SkipEntry
        return value

    def decode_key(self, key: EncodedKey) -> Any:
        """Return the key of an entry.

        Raises:
            UntrustedPickleError: It is a pickle that may not be loaded.
            CodecError: It is damaged.
        """
        if key[1] and not self._has_own_keys:
            return key[0]
        try:
            return self.cache._disk.get(key[0], key[1])
        except (UntrustedPickleError, CodecError) as exc:
            raise self._kept(key, exc) from exc

    def _kept(self, key: EncodedKey, exc: Exception) -> Exception:
        """Count an entry that cannot be loaded; return the error that says what to do."""
        name = f"entry {key[0]!r}" if key[1] else "an entry with an encoded key"
        subject = f"{name} of {self.cache.directory!r} cannot be loaded and is kept"
        if isinstance(exc, UntrustedPickleError):
            self.cache._note_untrusted(exc, "it was kept, and an error raised")
            remedy = "open it with the secret that it was signed with"
            if exc.reason == "unsigned" and not self.cache._codec.is_sealing:
                remedy = (
                    "if version 5 wrote it, and nobody else could, run"
                    f' "python -m diskcache migrate {self.cache.directory} --trust-pickles"'
                )
            return UntrustedPickleError(
                f"{subject}: {exc}; {remedy}, or remove it with del", exc.reason
            )
        if isinstance(exc, UnavailableError):
            self.cache._unavailable += 1
            return UnavailableError(f"{subject}: {exc}")
        self.cache._corrupt += 1
        return CodecError(
            f"{subject}: {exc}; restore its file, or remove it with del, or all entries whose"
            f' files are missing with "python -m diskcache check {self.cache.directory} --fix"'
        )

    # -- One entry --

    def get(self, key: Any) -> Any:
        """Return the value of a key, or `ENOVAL`."""
        if self.cache._switch is not None or not self._reads_memory:
            # The cache may be bypassed; what is in here would be lost by that.
            encoded = self.encode_key(key)
            row = self.engine.get(encoded, self.now())
            return ENOVAL if row is None else self.load(encoded, row)
        return self.cache._fetch(key, load=self.load)[0]

    def pack(self, value: Any, key: EncodedKey) -> Payload:
        """Encode a value for a key."""
        return self.cache._pack(value, False, key)

    def put(self, key: EncodedKey, payload: Payload) -> None:
        """Store an encoded value.

        Raises:
            TooLargeError: It is larger than the size limit of the cache.
        """
        if not self.engine.put(key, payload, None, None, self.now(), None):
            raise self._too_large()

    def pop(self, key: Any) -> Any:
        """Remove the entry of a key and return its value, or `ENOVAL`."""
        encoded = self.encode_key(key)

        def load(row: Row) -> tuple[Any]:
            return (self.load(encoded, row),)

        found = self.engine.pop(encoded, self.now(), None, load)
        return ENOVAL if found is None else found[0]

    def check_size(self, payload: Payload) -> None:
        """Refuse an encoded value that is too large, and remove its file.

        Raises:
            TooLargeError: It is larger than the size limit of the cache.
        """
        if self.engine.is_too_large(payload):
            self.discard(payload)
            raise self._too_large()

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"a value is larger than {self.cache._largest()}, and was not stored: raise the"
            " limit, or store it in parts"
        )

    # -- Many entries --

    def put_all(self, entries: Iterable[tuple[EncodedKey, Payload]]) -> None:
        """Store encoded values in their order, all or none.

        Files of those that were not stored are removed.

        Raises:
            TooLargeError: One is larger than the size limit of the cache.
        """
        puts: list[Put] = [(key, payload, None, None) for key, payload in entries]
        try:
            if any(self.engine.is_too_large(payload) for _, payload, _, _ in puts):
                raise self._too_large()
            if all(payload[2] is None for _, payload, _, _ in puts):
                self.engine.put_many(puts, self.now(), None)
                return
            # A bulk put would store values with files after all others.
            with self.engine.transaction(None):
                for key, payload, _, _ in puts:
                    self.put(key, payload)
        except BaseException:
            for put in puts:
                self.discard(put[1])
            raise

    def put_pairs(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Store keys and values in their order, all or none."""
        packed: list[tuple[EncodedKey, Payload]] = []
        try:
            for key, value in pairs:
                encoded = self.encode_key(key)
                packed.append((encoded, self.cache._pack(value, False, encoded, key)))
        except BaseException:
            for _, payload in packed:
                self.discard(payload)
            raise
        self.put_all(packed)

    def moved(self, listed: Listed, key: EncodedKey) -> Payload:
        """Return the value of an entry, encoded for another key."""
        mode, value, file = listed.row[MODE], listed.row[VALUE], listed.row[FILE]
        # What is signed is signed for its key; and two entries must not name one file.
        if file is None and not is_signed(mode) and self.cache._is_plain:
            return mode, value, None
        return self.pack(self.load_queued(listed.key, listed.row), key)

    def listed(
        self,
        order: Order,
        after: object | None = None,
        *,
        reverse: bool = False,
        values: bool = False,
        skip: int = 0,
        limit: int = PAGE,
        until: object | None = None,
    ) -> Iterator[Listed]:
        """Yield live entries in pages of *limit*; what is removed in between may be among them."""
        while page := self.engine.page(
            order, after, limit, reverse=reverse, values=values, skip=skip, until=until
        ):
            for listed in page:
                expire_time = listed.row[EXPIRE_TIME]
                if expire_time is None or expire_time > self.now():
                    yield listed
            after, skip = page[-1].cursor, 0


def _unknown(key: Any) -> Any:
    """Answer nothing from memory."""
    del key
    return UNKNOWN


def sibling(cache: Cache) -> Cache:
    """Return a new cache in a temporary directory that stores as *cache* does."""
    options = {name: value for name, value in cache._options.items() if name != "readonly"}
    return Cache(None, cache.timeout, type(cache.disk), eviction_policy="none", **options)
