"""An engine that tells what it did, for as long as somebody listens."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ContextDecorator, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from diskcache.engines.base import Batch, Engine, Put
from diskcache.entry import EncodedKey, Only, RemovalCause, Tag
from diskcache.errors import CodecError, DiskCacheError, UntrustedPickleError
from diskcache.events import Event, Listeners
from diskcache.memory.tier import VALUE, Held
from diskcache.sentinels import ENOVAL, UNKNOWN

if TYPE_CHECKING:
    from diskcache.cache.foundation import Foundation

Told: TypeAlias = tuple[str, EncodedKey | None, Tag, int]
"""Name of an event; encoded key, tag, and how many entries."""

_OPERATIONS: Final = frozenset(
    name for name, member in vars(Engine).items() if inspect.isfunction(member)
) - {"__init__", "__subclasshook__", "transaction", "in_transaction", "put_many", "delete_many"}

METHODS: Final = ("_count_read", "_note_hit", "_note_promptly", "_refuse", "_lose")
"""Methods of a cache in whose place others are while somebody listens."""

_REMOVALS: Final = {
    RemovalCause.EXPIRED: "expire",
    RemovalCause.EVICTED: "evict",
    RemovalCause.CULLED: "cull",
    RemovalCause.CLEARED: "delete",
}


class TellingEngine:
    """An `Engine` that does what another one does, and tells of it afterwards.

    Args:
        engine: The engine that does the work.
        cache: The cache that decodes its keys.
        listeners: Who is told.
    """

    def __init__(self, engine: Any, cache: Foundation, listeners: Listeners) -> None:
        self.bare = engine
        self._cache = cache
        self._listeners = listeners

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.bare, name)
        if name not in _OPERATIONS:
            return found
        events = _EVENTS_OF.get(name)

        def call(*args: Any, **keywords: Any) -> Any:
            return self._run(events, found, args, keywords)

        vars(self)[name] = call
        return call

    def put_many(
        self, puts: Iterable[Put], now: float, wait: float | None, only: Only = Only.ALWAYS
    ) -> int:
        """Store entries, and tell of each that was not too large."""
        puts = list(puts)
        if only is not Only.ALWAYS:
            # How many the condition allowed does not tell which.
            return sum(self.put(*put, now, wait, only) for put in puts)
        told = [put for put in puts if not self.bare.is_too_large(put[1])]

        def events(result: int, *_: Any) -> Iterator[Told]:
            del result
            for key, _payload, _expire_time, tag in told:
                yield "set", key, tag, 1

        stored: int = self._run(events, self.bare.put_many, (puts, now, wait), {})
        return stored

    def delete_many(self, keys: Iterable[EncodedKey], now: float, wait: float | None) -> int:
        """Remove entries, and tell of each that was there."""
        keys = list(dict.fromkeys(keys))
        gone: list[EncodedKey] = []

        def remove() -> int:
            is_one_step = self.bare.capabilities.transactions
            with self.bare.transaction(wait) if is_one_step else nullcontext():
                gone.extend(key for key in keys if self.bare.contains(key, now))
                removed: int = self.bare.delete_many(gone, now, wait)
                return removed

        def events(result: int) -> Iterator[Told]:
            del result
            for key in gone:
                yield "delete", key, None, 1

        removed: int = self._run(events, remove, (), {})
        return removed

    def transaction(self, wait: float | None) -> AbstractContextManager[None]:
        """Return a block whose events are told after its end, or never."""
        return _Block(self.bare, self.bare.transaction(wait), self._listeners)

    def _run(
        self,
        events: Callable[..., Iterable[Told]] | None,
        operation: Callable[..., Any],
        args: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Any:
        listeners = self._listeners
        # A transaction that is older than the first listener is not told of: it may fail.
        is_told = bool(listeners.depth) or not self.bare.in_transaction()
        listeners.enter()
        try:
            result = operation(*args, **keywords)
            if events is not None and is_told:
                for told in events(result, *args, **keywords):
                    self._tell(*told)
        except DiskCacheError as exc:
            listeners.happened(Event("error", error=exc))
            raise
        finally:
            listeners.leave()
        return result

    def _tell(
        self, name: str, key: EncodedKey | None, tag: Tag, count: int, young: int = 0
    ) -> None:
        if self._listeners.wants(name):
            known = UNKNOWN if key is None else self._decoded(key)
            event = Event(name, known, tag, count, young=young)
            self._listeners.happened(event, self.bare)

    def _decoded(self, key: EncodedKey) -> Any:
        try:
            found = self._cache._decode_key(key)
        except (CodecError, UntrustedPickleError):
            return UNKNOWN
        return UNKNOWN if found is ENOVAL else found

    def tell_removed(self, expired: int, culled: int, young: int) -> None:
        """Tell what a write removed to make room, after its commit."""
        if expired:
            self._tell("expire", None, None, expired)
        if culled:
            self._tell("cull", None, None, culled, young)


class _Block(ContextDecorator, AbstractContextManager[None]):
    """A transaction that keeps its events until it is over."""

    def __init__(self, engine: Any, block: Any, listeners: Listeners) -> None:
        self._engine = engine
        self._block = block
        self._listeners = listeners
        self._is_outermost = False

    def _recreate_cm(self) -> _Block:
        block = self._block._recreate_cm()
        return _Block(self._engine, block, self._listeners)

    def __enter__(self) -> None:
        self._is_outermost = not self._engine.in_transaction()
        self._listeners.enter()
        try:
            self._block.__enter__()
        except BaseException as exc:
            self._fail(exc)
            self._listeners.leave()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._block.__exit__(kind, error, trace)
        except BaseException as exc:
            self._undo()
            self._fail(exc)
            raise
        else:
            if kind is not None:
                self._undo()
        finally:
            self._listeners.leave()

    def _undo(self) -> None:
        if self._is_outermost:
            self._listeners.forget(self._engine)

    def _fail(self, exc: BaseException) -> None:
        if isinstance(exc, DiskCacheError):
            self._listeners.happened(Event("error", error=exc))


# -- What operations mean, by their result and their arguments --


def _of_put(stored: bool, key: EncodedKey, _: Any, __: Any, tag: Tag, *___: Any) -> Iterator[Told]:
    if stored:
        yield "set", key, tag, 1


def _of_incr(_: Any, key: EncodedKey, *__: Any) -> Iterator[Told]:
    yield "set", key, None, 1


def _of_push(
    key: Any, _: Any, __: Any, ___: Any, ____: Any, tag: Tag, *_____: Any
) -> Iterator[Told]:
    yield "set", (key, 1), tag, 1


def _of_delete(result: Any, key: EncodedKey, *_: Any) -> Iterator[Told]:
    if result is not None and result is not False:
        yield "delete", key, None, 1


def _of_pull(found: Any, *_: Any, remove: bool) -> Iterator[Told]:
    if remove and found is not None:
        yield "delete", found[0], None, 1


def _of_removal(batch: Batch, cause: RemovalCause, *_: Any, tag: Tag = None) -> Iterator[Told]:
    # What made room for another shard is told by `tell_removed`, as after a write.
    if batch.removed and cause in _REMOVALS:
        yield _REMOVALS[cause], None, tag, batch.removed


def _of_trim(removed: int, *_: Any) -> Iterator[Told]:
    if removed:
        yield "cull", None, None, removed


_EVENTS_OF: Final[dict[str, Callable[..., Iterable[Told]]]] = {
    "put": _of_put,
    "incr": _of_incr,
    "push": _of_push,
    "delete": _of_delete,
    "pop": _of_delete,
    "pull": _of_pull,
    "edge": _of_pull,
    "remove": _of_removal,
    "trim": _of_trim,
}


def telling_methods(cache: Any, listeners: Listeners) -> dict[str, Callable[..., Any]]:
    """Return what takes the place of the methods in which a cache meets hits, misses and errors.

    What notes hits has just been chosen, and is called by what is returned in its place.
    """
    kind, note = type(cache), cache._note_hit

    def read(key: Any, is_hit: bool) -> None:
        name = "hit" if is_hit else "miss"
        if listeners.wants(name):
            listeners.happened(Event(name, key))

    def count_read(key: Any, value: Any) -> None:
        if cache._settings["statistics"]:
            kind._count_read(cache, key, value)
        read(key, value is not ENOVAL)

    def note_hit(key: Any, held: Held) -> None:
        note(key, held)
        read(key, held[VALUE] is not ENOVAL)

    def note_promptly(key: Any, held: Held) -> bool:
        is_noted: bool = kind._note_promptly(cache, key, held)
        if is_noted:
            read(key, held[VALUE] is not ENOVAL)
        return is_noted

    def refuse(exc: Any) -> Any:
        listeners.happened(Event("error", error=exc))
        return kind._refuse(cache, exc)

    def lose(key: EncodedKey, row: Any, exc: OSError) -> Any:
        listeners.happened(Event("error", error=exc))
        return kind._lose(cache, key, row, exc)

    made = (count_read, note_hit, note_promptly, refuse, lose)
    return dict(zip(METHODS, made, strict=True))
