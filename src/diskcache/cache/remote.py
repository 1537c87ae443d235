"""`RemoteCache`: the same cache on a Redis or Valkey server."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from diskcache import settings as rules
from diskcache.bridging import bridged, is_possible
from diskcache.cache import Cache
from diskcache.cache.arguments import (
    checked_memory_limit,
    checked_on_error,
    checked_timeout,
    packer_for,
    serializer_for,
    unusual,
)
from diskcache.cache.computed import CacheStore
from diskcache.cache.reading import Found, Load
from diskcache.cache.watching import bare_engine
from diskcache.clock import Clock
from diskcache.codecs.compression import DEFAULT_MINIMUM, Method
from diskcache.codecs.secretfile import names_secret
from diskcache.disk import Disk
from diskcache.engines.base import Engine
from diskcache.engines.redis import open_server, without_password
from diskcache.engines.redis.tolerant import Tolerant
from diskcache.entry import (
    EXPIRE_TIME,
    VERSION,
    EncodedKey,
    Only,
    Payload,
    Tag,
    expiry,
    in_place_of,
)
from diskcache.errors import TooLargeError, UnsupportedError
from diskcache.files import ValueFiles
from diskcache.flight import Place, Share, place_of
from diskcache.memory.tier import MEMORY_LIMIT
from diskcache.sentinels import ENOVAL, UNKNOWN

if TYPE_CHECKING:
    from diskcache.archive import Archive
    from diskcache.cache.exporting import ExportReport, Progress
    from diskcache.cache.importing import ImportReport
    from diskcache.engines.base import Copied

ANSWER: Final = 5.0
"""Seconds to wait for the server, unless told otherwise."""
LARGEST: Final = 512 * 2**20 - 2**16
"""Bytes of a value at most."""


class RemoteCache(Cache):
    """A cache on a Redis or Valkey server, shared by all machines that connect to it.

    Made by `diskcache.connect`. Its methods are those of `Cache`; docs/redis.md has a table of what
    is different. Thread-safe, process-safe and fork-safe: connections are pooled, at most 50, and a
    child connects anew. Pickling gives another object on the same server, with the password of the
    URL, without the secret.

    Reads may be answered from memory: never with anything older than what this process has written,
    than what the server has told of, or than a second. `memory_limit=0` rules that out.

    Cost: a look-up in memory for what was read before; otherwise an operation on one entry is one
    round trip, and reading one with a tag takes two.

    Args:
        url: `redis://host:port/db?namespace=app`, `rediss://` with TLS, `valkey://`,
            `redis+cluster://host:port,…`, `redis+sentinel://host:port,…/name`, `unix:///path`.
        timeout: Seconds to wait for each answer, and while a step of a structure holds the slot.
        pickle: `'never'` unless a secret is given, then `'signed'`; or `'unsafe'`. Whoever can
            write to the server can write pickles.
        secret: As for `Cache`; the same on all machines.
        readonly: Write nothing; a replica will do.
        strict: Raise for entries that may not be loaded, instead of treating them as missing.
        clock: Where time comes from; by default the server.
        serializer: As for `Cache`.
        memory_limit: Bytes of what was read that this process keeps; 0 keeps nothing, and needs no
            thread and no connection that hears of changes.
        compress: As for `Cache`.
        compress_min: As for `Cache`.
        compress_level: As for `Cache`.
        authenticate: As for `Cache`.
        on_error: `'raise'`, or `'miss'` to go on without a server that is away: reads miss and
            writes are lost. `incr`, `push`, `update`, locks, `info`, `check`, `export` and
            `import_from` raise all the same.
        namespace: What all keys begin with, if the URL does not say so.
        shards: Slots of a cluster that the cache is spread over; fixed by the first that connects.
            1 by default, 16 on a cluster. What must be one step needs 1: `Deque`, `Index`, and
            `set_many` of all or nothing.
        **settings: `statistics`; those on size and eviction are accepted and have no effect.
    """

    _is_bridged = True
    """Whether event loops can use it without threads; see `diskcache.bridging`."""

    _parts: dict[str, RemoteCache]
    """Caches beside this one, by name."""

    def __init__(
        self,
        url: str,
        timeout: float = ANSWER,
        *,
        pickle: str | None = None,
        secret: bytes | Sequence[bytes] | None = None,
        readonly: bool = False,
        strict: bool = False,
        clock: Clock | None = None,
        serializer: Any = None,
        compress: Method | None = None,
        compress_min: int = DEFAULT_MINIMUM,
        compress_level: int | None = None,
        authenticate: str = "pickles",
        on_error: str = "raise",
        namespace: str | None = None,
        shards: int | None = None,
        memory_limit: int = MEMORY_LIMIT,
        **settings: Any,
    ) -> None:
        self._memory_limit = checked_memory_limit(memory_limit)
        if pickle is None:
            pickle = "signed" if secret is not None or names_secret(os.environ) else "never"
        self._serializer = serializer_for(Disk, serializer, authenticate)
        packer = packer_for(Disk, compress, compress_min, compress_level)
        self._url, self._directory = url, without_password(url)
        self._secret, self._parts = secret, {}
        self._timeout = checked_timeout(timeout)
        self._options = {"pickle": pickle, "readonly": readonly, "strict": strict}
        self._options |= unusual(
            serializer=(self._serializer, None),
            memory_limit=(memory_limit, MEMORY_LIMIT),
            compress=(compress, None),
            compress_min=(compress_min, DEFAULT_MINIMUM),
            compress_level=(compress_level, None),
            authenticate=(authenticate, "pickles"),
        )
        self._remote: dict[str, Any] = {"namespace": namespace, "shards": shards, "clock": clock}
        self._strict = strict
        self._untrusted = self._corrupt = self._unavailable = 0
        self._has_warned: set[type[Warning]] = set()
        self._measured: dict[str, int] = {}
        given, self._disk_options, _ = self._split(settings)
        self._settings = {**rules.DEFAULT_SETTINGS, **given}
        self._engine: Engine = self._connect(on_error)
        marks = self._settle(given)
        self._settings["disk_min_file_size"] = math.inf
        self._check_writer(Disk, marks)
        self._attach_disk(
            Disk, self._make_codec(pickle, secret, packer), ValueFiles(self._directory)
        )
        self._attach_memory(Disk, {}, secret)
        self._obey_environment()

    def _memory_place(self) -> tuple[str, ...]:
        # The whole URL, as whoever shares values must also hear of changes by the same way.
        return self._url, self._namespace

    def _connect(self, on_error: str) -> Any:
        """Return the engine, connected if the server is there.

        Raises:
            SettingError: An argument is not allowed.
        """
        checked_on_error(on_error)
        readonly = self._options["readonly"]
        engine: Any = open_server(
            self._url, self._settings, timeout=self._timeout, readonly=readonly, **self._remote
        )
        self._remote["on_error"] = on_error
        self._clock, self._namespace = engine.clock, engine.namespace
        self._now = self._clock.time
        if on_error == "miss":
            engine = Tolerant(engine, self._clock.monotonic)
        engine.open(create=True)
        return engine

    # -- Values are never in files --

    def _pack(self, value: Any, read: bool, key: EncodedKey, user_key: Any = UNKNOWN) -> Payload:
        if read and type(value) not in (str, bytes, int, float):
            value = value.read(LARGEST + 1)
        mode, data = self._encode(value, key)
        if type(data) in (str, bytes) and len(data) > LARGEST // 4:
            self._check_size(data)
        return mode, data, None

    def _check_size(self, data: str | bytes) -> None:
        size = len(data.encode()) if isinstance(data, str) else len(data)
        if size > LARGEST:
            raise TooLargeError(
                f"a value on a server has at most {LARGEST} bytes: got {size} or more; store it in"
                " parts, or in a cache in a directory"
            )

    def _fetch(self, key: Any, read: bool = False, load: Load | None = None) -> Found:
        value, expire_time, tag = super()._fetch(key, False, load)
        if read and type(value) is bytes:
            value = io.BytesIO(value)
        return value, expire_time, tag

    # -- Computing --

    def _flight_place(self, key: EncodedKey) -> tuple[Place, Share]:
        engine: Any = self._engine
        return engine.flight_place(key, place_of("", key).name), engine.lease

    # -- Storing --

    def __setitem__(self, key: Any, value: Any) -> None:
        """Store *value* under *key* without expiry or tag; see `Cache`."""
        encoded = self._encode_key(key)
        payload = self._pack(value, False, encoded, key)
        self._engine.put(encoded, payload, None, None, self._now(), None)

    def update(
        self,
        key: Any,
        func: Callable[[Any], Any],
        default: Any = None,
        *,
        expire: float | None = None,
        tag: Tag = None,
    ) -> Any:
        """Replace the value of *key* by what *func* makes of it; see `Cache.update`.

        Raises:
            ServerUnavailableError: The server is away, whatever `on_error` is.
        """
        with self._raising():
            return super().update(key, func, default, expire=expire, tag=tag)

    def _drop_unreadable(self, key: EncodedKey) -> None:
        now = self._now()
        row = self._engine.get(key, now)
        if row is not None and self._load(key, row) is ENOVAL:
            self._engine.delete_version(key, row[VERSION], now, None)

    def _raising(self) -> AbstractContextManager[None]:
        engine: Any = bare_engine(self)
        return engine.raising() if isinstance(engine, Tolerant) else nullcontext()

    def _incr_through_store(
        self,
        key: Any,
        delta: float,
        default: float | None,
        expire: float | None,
        tag: Tag,
        wait: float | None,
    ) -> Any:
        """Add to a number that a serializer stores in a form of its own."""
        with self._raising():
            return self._add(key, delta, default, expire, tag, wait)

    def _add(
        self,
        key: Any,
        delta: float,
        default: float | None,
        expire: float | None,
        tag: Tag,
        wait: float | None,
    ) -> Any:
        encoded = self._encode_key(key)
        while True:
            now = self._now()
            row = self._engine.get(encoded, now)
            value = ENOVAL if row is None else self._load(encoded, row)
            if value is ENOVAL and default is None:
                raise KeyError(key)
            start: Any = default if value is ENOVAL else value
            total = start + delta
            expires, label = expiry(expire, now), tag
            only: Only | int = Only.ABSENT
            payload = self._pack(total, False, encoded, key)
            if row is not None:
                only = row[VERSION]
                if value is not ENOVAL:
                    expires, label = row[EXPIRE_TIME], row[6]
                    payload = in_place_of(row, payload)
            if self._engine.put(encoded, payload, expires, label, now, wait, only):
                return total

    # -- In event loops --

    @property
    def _computed(self) -> CacheStore:
        return RemoteStore(self, self._home) if is_possible() else super()._computed

    # -- What a server does otherwise --

    def transact(self, retry: bool = False) -> AbstractContextManager[None]:
        """Raise: a server cannot hold a transaction open for its client.

        Raises:
            UnsupportedError: Always; it names what to use instead.
        """
        del retry
        raise UnsupportedError(
            "a cache on a server has no transactions: use update(key, func), or incr, add, pop,"
            " set_many, push and pull, each of which is one step, or a Lock"
        )

    def backup(
        self, destination: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> Copied:
        """Raise: a server has no directory to copy.

        Raises:
            UnsupportedError: Always; it names what to use instead.
        """
        del destination, progress
        raise UnsupportedError(
            'a cache on a server is copied by export(), or by "python -m diskcache copy URL'
            ' DIRECTORY"'
        )

    def export(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        pickles: bool = True,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write all live entries to an archive; see `Cache.export`.

        Raises:
            ServerUnavailableError: The server is away, whatever `on_error` is: an archive without
                entries would replace one that has them.
        """
        with self._raising():
            return super().export(file, pickles=pickles, progress=progress)

    def import_from(
        self,
        file: str | os.PathLike[str] | BinaryIO | Archive,
        *,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Store the entries of an archive; see `Cache.import_from`.

        Raises:
            ServerUnavailableError: The server is away, whatever `on_error` is.
        """
        with self._raising():
            return super().import_from(file, progress=progress)

    def disk_usage(self) -> int:
        """Return `volume`: the server keeps it in memory.

        Cost: as `volume`.
        """
        return self.volume()

    def cache(self, name: str) -> RemoteCache:
        """Return a cache of its own on the same server, in one slot: for a `Deque` or an `Index`.

        Its namespace is that of this cache, a slash, and *name*; `clear` here leaves it alone.

        Raises:
            SettingError: The name holds spaces, braces or characters that patterns use.
        """
        found = self._parts.get(name)
        if found is None:
            keywords: dict[str, Any] = {**self._options, **self._remote, "shards": 1}
            # Structures do not read from memory.
            keywords["memory_limit"] = 0
            keywords["namespace"] = f"{self._namespace}/{name}"
            keywords |= {"timeout": self._timeout, "secret": self._secret}
            found = self._parts.setdefault(name, type(self)(self._url, **keywords))
        return found

    def close(self, *, everywhere: bool = True) -> None:
        """Close the connections of this object. May be repeated; it connects again."""
        for part in list(self._parts.values()):
            part.close(everywhere=everywhere)
        self._engine.close(everywhere=everywhere)
        if everywhere:
            self._tier.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        keywords = {"timeout": self._timeout, **self._options, **self._remote}
        return _rebuilt, (type(self), self._url, keywords)

    @property
    def url(self) -> str:
        """Where the server is, with the password."""
        return self._url


class RemoteStore(CacheStore):
    """A cache on a server, as the steps of a computation use it: in event loops without threads."""

    async def hop(self, step: Callable[..., Any], *args: Any) -> Any:
        """Do a step in the task of the caller."""
        return await bridged(step, *args)


def _rebuilt(kind: type[RemoteCache], url: str, keywords: dict[str, Any]) -> RemoteCache:
    """Return another object on the server of a pickled one."""
    return kind(url, **keywords)
