"""Faults on order: an engine that fails, or takes its time, when a test says so.

A program that uses a cache should survive a full disk, a lock that is not to be had and a slow
disk. None of them can be had at will; this makes the calls below `Cache` behave as if.
"""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ContextDecorator, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from diskcache.clock import SYSTEM_CLOCK, Clock
from diskcache.engines.base import Engine
from diskcache.errors import SettingError
from diskcache.memory.tier import Tier

COMMIT: Final = "commit"
"""The end of a `transact()` block, where it becomes visible to others."""

OPERATIONS: Final = frozenset(
    {name for name, member in vars(Engine).items() if inspect.isfunction(member)} | {COMMIT}
) - {"__init__", "__subclasshook__"}
"""Names of operations: the methods of `diskcache.engines.base.Engine`, and `commit`."""

GROUPS: Final = {
    "reads": frozenset(
        "get look contains get_many page last_cursor ranks count rough_count volume rough_volume"
        " hits_and_misses opened_with mark stored_settings has_tag_index".split()
    ),
    "writes": frozenset(
        "put delete discard touch incr pop put_many delete_many push pull edge remove trim claim"
        " note store_settings reset_statistics index_tags transaction commit".split()
    ),
    "any": OPERATIONS,
}
"""Operations under one name. `pull` and `edge` are also what `peek` and `peekitem` call."""


@dataclass
class _Rule:
    operations: frozenset[str]
    first: int
    """Number of the first call that is concerned, from the moment the rule was made."""
    last: float
    act: Callable[[], None]
    is_late: bool
    calls: int = 0


class Faults:
    """What goes wrong, and what was called. Made by `faulty`; threads may share it.

    Attributes:
        calls: How often each operation was called.
        happened: How many faults there were.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.calls: Counter[str] = Counter()
        self.happened = 0
        self._clock = clock
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()

    def fail(
        self,
        operation: str,
        error: BaseException | type[BaseException],
        *,
        nth: int = 1,
        times: int | None = 1,
        late: bool = False,
    ) -> None:
        """Have calls of an operation fail.

        Args:
            operation: A method of `Engine`, `'commit'`, or one of the groups `'reads'`, `'writes'`
                and `'any'`. The `get` of a cache is the operation `get` when an entry is read
                for the first time, and `look` afterwards: `'reads'` means both.
            error: What is raised. Engines raise only what derives from `DiskCacheError`.
            nth: Which call is the first to fail, counted from now.
            times: How many calls fail in a row; None for all from there on.
            late: Fail after the operation was done, as when its answer gets lost.

        Raises:
            SettingError: There is no such operation, a number is not positive, or *error* is none.
        """
        is_class = isinstance(error, type) and issubclass(error, BaseException)
        if not (is_class or isinstance(error, BaseException)):
            raise SettingError(f"error must be an exception, or the class of one: got {error!r}")
        self._add(operation, nth, times, lambda: _raise(error), late)

    def delay(self, operation: str, seconds: float, *, nth: int = 1, times: int | None = 1) -> None:
        """Have calls of an operation take longer, by the clock of the cache.

        Args:
            operation: As for `fail`.
            seconds: What is spent before the operation.
            nth: Which call is the first, counted from now.
            times: How many calls in a row; None for all from there on.

        Raises:
            SettingError: There is no such operation, or a number is not positive.
        """
        if not 0 < seconds < float("inf"):
            raise SettingError(f"seconds must be positive: got {seconds!r}")
        self._add(operation, nth, times, lambda: self._clock.sleep(seconds), False)

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._rules.clear()

    def _add(
        self, operation: str, nth: int, times: int | None, act: Callable[[], None], late: bool
    ) -> None:
        names = GROUPS.get(operation) or frozenset({operation}) & OPERATIONS
        if not names:
            known = ", ".join([*GROUPS, *sorted(OPERATIONS)])
            raise SettingError(f"operation must be one of {known}: got {operation!r}")
        if nth < 1 or (times is not None and times < 1):
            raise SettingError(f"nth and times must be positive: got {nth!r} and {times!r}")
        last = float("inf") if times is None else nth + times - 1
        with self._lock:
            self._rules.append(_Rule(names, nth, last, act, late))

    def before(self, operation: str) -> list[Callable[[], None]]:
        """Do what is to happen before a call; return what is to happen after it."""
        early: list[Callable[[], None]] = []
        late: list[Callable[[], None]] = []
        with self._lock:
            self.calls[operation] += 1
            for rule in self._rules:
                if operation in rule.operations:
                    rule.calls += 1
                    if rule.first <= rule.calls <= rule.last:
                        self.happened += 1
                        (late if rule.is_late else early).append(rule.act)
        for act in early:
            act()
        return late


def _raise(error: BaseException | type[BaseException]) -> None:
    raise error


class FaultyEngine:
    """An `Engine` that does what another one does, except for faults.

    Usually made by `faulty`. Whoever builds caches on engines of their own may wrap one directly.

    Args:
        engine: The engine that does the work.
        faults: What goes wrong.
    """

    def __init__(self, engine: Any, faults: Faults) -> None:
        self._engine = engine
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if name not in OPERATIONS:
            return found

        def call(*args: Any, **keywords: Any) -> Any:
            late = self._faults.before(name)
            result = found(*args, **keywords)
            for act in late:
                act()
            return _Block(result, self._faults) if name == "transaction" else result

        return call


class _Block(ContextDecorator, AbstractContextManager[None]):
    """A transaction whose end may fail."""

    def __init__(self, block: Any, faults: Faults) -> None:
        self._block = block
        self._faults = faults
        self._depth = 0

    def _recreate_cm(self) -> _Block:
        return _Block(self._block._recreate_cm(), self._faults)  # noqa: SLF001 - as contextlib does

    def __enter__(self) -> None:
        self._block.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        late: list[Callable[[], None]] = []
        if kind is None:
            try:
                late = self._faults.before(COMMIT)
            except BaseException as exc:
                self._block.__exit__(type(exc), exc, exc.__traceback__)
                raise
        result: bool | None = self._block.__exit__(kind, error, trace)
        for act in late:
            act()
        return result


@contextmanager
def faulty(cache: Any, *, memory: bool = False) -> Iterator[Faults]:
    """Return a context in which the engines of a cache fail when they are told to.

    Inside the block each read goes to the engine, unless *memory* is true: otherwise a fault in a
    read would depend on what the process has in memory.

    Other objects on the same directory, and other processes, are not concerned.

    Args:
        cache: A `Cache`, `FanoutCache`, `Deque`, `Index` or `DjangoCache`.
        memory: Let reads be answered from memory.

    Raises:
        SettingError: The object has no engine.

    Example:
        >>> from diskcache import CacheFullError
        >>> from diskcache.testing import faulty
        >>> with faulty(cache) as faults:
        ...     faults.fail('put', CacheFullError('the disk is full'), nth=2)
        ...     cache.set('a', 1)
        ...     try:
        ...         cache.set('b', 2)
        ...     except CacheFullError:
        ...         print(sorted(cache), faults.happened)
        True
        ['a'] 1
    """
    places = list(_places(cache, set()))
    if not any(name in _ENGINES for _, name in places):
        raise SettingError(f"object has no engine that could fail: got {cache!r}")
    clocks = [holder._clock for holder, _ in places if hasattr(holder, "_clock")]  # noqa: SLF001
    faults = Faults(clocks[0] if clocks else SYSTEM_CLOCK)
    wrapped: dict[int, FaultyEngine] = {}
    before = [(holder, name, getattr(holder, name)) for holder, name in places]
    try:
        for holder, name, found in before:
            if name in _ENGINES:
                put = wrapped.setdefault(id(found), FaultyEngine(found, faults))
                setattr(holder, name, put)
            elif not memory:
                setattr(holder, name, Tier(0))
        yield faults
    finally:
        for holder, name, found in before:
            setattr(holder, name, found)


_ENGINES: Final = frozenset({"_engine", "engine"})
_MEMORY: Final = "_tier"


def _places(thing: Any, seen: set[int]) -> Iterator[tuple[Any, str]]:
    """Yield where an object and its parts keep engines and what they hold in memory."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, (list, tuple)):
        for part in thing:
            yield from _places(part, seen)
    if not hasattr(thing, "__dict__") or inspect.isclass(thing):
        return
    if not any(base.__module__.startswith("diskcache.") for base in type(thing).__mro__):
        return
    for name, value in list(vars(thing).items()):
        if name in _ENGINES or name == _MEMORY:
            yield thing, name
        else:
            yield from _places(value, seen)
