"""The entries that recipes keep, and the one place where recipes reach into a cache.

An entry of a recipe is plain data, whatever the `Disk` or serializer of the cache, and carries
the GUARD bit: it expires, is deleted and cleared like any other, but never evicted or culled.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from diskcache.cache import Cache
from diskcache.cache.watching import bare_engine
from diskcache.clock import Clock
from diskcache.codecs import plain
from diskcache.codecs.base import MODE_DATA
from diskcache.disk import Disk
from diskcache.engines.base import Engine
from diskcache.entry import GUARD, VERSION, Only, Payload, Row, Tag, expiry
from diskcache.errors import KeyInUseError, TooLargeError
from diskcache.sentinels import ENOVAL

T = TypeVar("T")


class CacheLike(Protocol):
    """A `Cache`, or several of them behind one face."""

    @property
    def directory(self) -> str:
        """Path of the cache directory."""
        ...

    @property
    def disk(self) -> Disk:
        """The object that serializes keys and values."""
        ...

    def get(self, key: Any, default: Any = ..., *, expire_time: bool, retry: bool) -> Any:
        """Return the value of *key*, with its expire_time if asked."""
        ...

    def set(
        self, key: Any, value: Any, expire: float | None = ..., *, tag: Tag = ..., retry: bool = ...
    ) -> bool:
        """Store *value* under *key*."""
        ...

    def transact(self, retry: bool = ...) -> AbstractContextManager[None]:
        """Return a context in which operations happen together or not at all."""
        ...


class Restorable:
    """A recipe that can be made of what version 5 pickled: its arguments, as private attributes."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        arguments = {name.removeprefix("_"): value for name, value in state.items()}
        self.__init__(**arguments)  # type: ignore[misc]


def home(cache: CacheLike, key: Any) -> Cache:
    """Return the `Cache` that holds the entry of *key*.

    Raises:
        TypeError: *cache* is not a `Cache`, nor made of such.
    """
    if isinstance(cache, Cache):
        return cache
    shard_of = getattr(cache, "_shard_of", None)
    if shard_of is not None:
        return cast("Cache", shard_of(key))
    raise TypeError(f"cache must be a Cache or a FanoutCache: got {cache!r}")


def replace(
    cache: Cache,
    key: Any,
    step: Callable[[Any], Any],
    expire: float | None = None,
    tag: Tag = None,
) -> Any:
    """Replace the value of an entry by what *step* makes of it; return the old one.

    Nobody gets between: *step* is called again where somebody else has written meanwhile. It is
    given `ENOVAL` where there is no value, and returns it to have none.

    Args:
        cache: Where the entry is.
        key: Its key.
        step: Makes the new value; if it raises, nothing is changed.
        expire: Seconds until the entry expires, from now on.
        tag: Its tag.
    """
    engine, encoded = _engine_of(cache), cache._encode_key(key)
    while True:
        now = cache._now()
        row = engine.get(encoded, now)
        old = ENOVAL if row is None else cache._load(encoded, row)
        new = step(old)
        if new is ENOVAL:
            if row is None or engine.delete_version(encoded, row[VERSION], now, None):
                return old
            if old is ENOVAL:
                cache._drop_unreadable(encoded)
            continue
        payload = cache._pack(new, False, encoded, key)
        only = Only.ABSENT if row is None else row[VERSION]
        at = expiry(expire, now)
        if engine.put(encoded, payload, at, tag, now, None, only):
            return old
        if engine.is_too_large(payload):
            raise TooLargeError(
                f"the entry of {key!r} is larger than size_limit, {cache.size_limit} bytes: raise"
                " the limit"
            )
        if row is not None and old is ENOVAL:
            # Nobody can read it, and its version need not be one that can be asked for.
            cache._drop_unreadable(encoded)


def _engine_of(cache: Cache) -> Engine:
    """Return the engine that tells when it could not do something, whatever the cache makes of it.

    What is done again until it succeeds would go on for ever otherwise. Nor is it bypassed.
    """
    bare = bare_engine(cache)
    engine: Engine = getattr(bare, "engine", bare)
    return engine


def look(cache: Cache, key: Any) -> Any:
    """Return the value of an entry as `get` does, also where the cache is bypassed, or `ENOVAL`."""
    if cache._switch is None:
        return cache.get(key, ENOVAL)
    encoded = cache._encode_key(key)
    row = bare_engine(cache).get(encoded, cache._now())
    return ENOVAL if row is None else cache._load(encoded, row)


class Cell:
    """The entry of one recipe. Threads may share it; a forked child may go on with it.

    Raises:
        TypeError: *cache* is not a cache.
    """

    def __init__(self, cache: CacheLike, key: Any, tag: Tag = None) -> None:
        self._cache = home(cache, key)
        self._key = key
        self._encoded = self._cache._encode_key(key)
        self._tag = tag

    @property
    def directory(self) -> str:
        """Absolute path of the directory that the entry is in."""
        return self._cache._files._directory

    @property
    def clock(self) -> Clock:
        """The clock of the cache."""
        return self._cache._clock

    @property
    def patience(self) -> float:
        """Seconds that the cache waits for its write lock."""
        return self._cache.timeout

    def in_transaction(self) -> bool:
        """Tell whether this thread is inside a transaction of the cache."""
        return self._cache._engine.in_transaction()

    def read(self) -> Any:
        """Return the value, or `ENOVAL`; it is not counted in the statistics."""
        row = bare_engine(self._cache).get(self._encoded, self._cache._now())
        return ENOVAL if row is None else self._cache._load(self._encoded, row)

    def read_or_raise(self) -> Any:
        """Do the same, but of a server that is away say so, even where that counts as a miss."""
        with getattr(self._cache, "_raising", nullcontext)():
            return self.read()

    def change(
        self,
        step: Callable[[Any], tuple[Any, T]],
        wait: float | None = None,
        expire: float | None = None,
        *,
        alone: bool = True,
    ) -> T:
        """Replace the value by the first of the two that *step* makes of it; return the second.

        It is one step that nobody gets between. *step* is given `ENOVAL` where there is no
        value, and returns it to have none; if it returns what it was given, nothing is written.

        Args:
            step: Decides; if it raises, nothing is changed.
            wait: Seconds to wait for the write lock of the cache; None for no limit.
            expire: Seconds until the entry expires, if it is written.
            alone: Whether *step* uses nothing else of the cache: then the write may be a single
                statement, without a transaction. *step* may be called again where that fails.
        """
        cache, engine = self._cache, bare_engine(self._cache)
        if not engine.capabilities.transactions:
            return self._change_unless_changed(step, wait, expire)
        results: list[T] = []
        short = getattr(type(engine), "change_alone", None) if alone and cache._is_plain else None
        if short is not None and short(
            engine,
            self._encoded,
            partial(self._decided, step, expire, results),
            cache._now,
            wait,
        ):
            return results[-1]
        with engine.transaction(wait):
            now = cache._now()
            row = engine.get(self._encoded, now)
            old = ENOVAL if row is None else cache._load(self._encoded, row)
            try:
                new, result = step(old)
            except OSError as exc:
                raise engine.file_error(exc) from exc
            if new is ENOVAL and old is not ENOVAL:
                engine.delete(self._encoded, now, None)
            elif new is not old:
                at = expiry(expire, now)
                only = _condition(row, old)
                if not engine.put(self._encoded, self._packed(new), at, self._tag, now, None, only):
                    raise TooLargeError(
                        f"the entry of {self._key!r} is larger than size_limit,"
                        f" {cache.size_limit} bytes: raise the limit"
                    )
            return result

    def _decided(
        self,
        step: Callable[[Any], tuple[Any, T]],
        expire: float | None,
        results: list[T],
        row: Row | None,
        now: float,
    ) -> tuple[Payload, float | None, Tag] | bool:
        """Return what is to be stored; False for nothing, True for what is there."""
        cache = self._cache
        old = ENOVAL if row is None else cache._load(self._encoded, row)
        try:
            new, result = step(old)
        except OSError as exc:
            raise bare_engine(cache).file_error(exc) from exc
        results.append(result)
        if new is old:
            return True
        if new is ENOVAL:
            return False
        return self._packed(new), expiry(expire, now), self._tag

    def _change_unless_changed(
        self, step: Callable[[Any], tuple[Any, T]], wait: float | None, expire: float | None
    ) -> T:
        """Do as `change` without a transaction: again, if somebody else has written meanwhile."""
        cache, engine = self._cache, _engine_of(self._cache)
        while True:
            now = cache._now()
            row = engine.get(self._encoded, now)
            old = ENOVAL if row is None else cache._load(self._encoded, row)
            new, result = step(old)
            if new is old:
                return result
            if new is ENOVAL:
                version = 0 if row is None else row[VERSION]
                is_done = engine.delete_version(self._encoded, version, now, wait)
            else:
                at = expiry(expire, now)
                only = Only.ABSENT if row is None else row[VERSION]
                is_done = engine.put(
                    self._encoded, self._packed(new), at, self._tag, now, wait, only
                )
            if is_done:
                return result

    def _packed(self, value: Any) -> Payload:
        mode, data = self._cache._codec.protected(MODE_DATA, plain.dumps(value), self._encoded)
        return mode | GUARD, data, None

    # -- Where it is --

    @property
    def is_on_one_machine(self) -> bool:
        """Whether all processes that share the entry are on this machine."""
        return self._cache._engine.capabilities.one_machine

    def refuse_eviction(self, what: str) -> None:
        """Refuse a server that may evict the entry.

        Raises:
            ServerPolicyError: It may.
        """
        self._cache._engine.refuse_eviction(what)

    def next_fence(self, above: int) -> int:
        """Return a number larger than *above*, and than all before it."""
        return self._cache._engine.next_fence(self._encoded, above)

    def refuse(self, value: Any, kind: str) -> KeyInUseError:
        """Return the error for a value that is not the recipe's."""
        return KeyInUseError(
            f"the key {self._key!r} is not that of a {kind}: it holds a"
            f" {type(value).__name__}; use another key, or delete the entry"
        )

    def disconnect(self) -> None:
        """Close this thread's connection: the thread is about to end."""
        self._cache._engine.close(everywhere=False)


def _condition(row: Row | None, value: Any) -> Only | int:
    """Return what must be true of the entry, and is: nobody else writes meanwhile.

    A put under a condition is stored at once; any other is put aside until the end of the
    transaction, which for a single one is the longer way.
    """
    if row is None:
        return Only.ABSENT
    # What could not be loaded may have been removed for it.
    return Only.ALWAYS if value is ENOVAL else row[VERSION]
