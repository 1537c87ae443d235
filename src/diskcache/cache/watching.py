"""Listening to a cache, and bypassing it: `on` and `bypass`, of `Cache` and of `FanoutCache`.

Implementation note. Nobody who neither listens nor bypasses pays for it: no path asks whether
somebody does. Instead the first listener puts an engine that tells in place of the engine of the
cache, and methods that tell in place of a few of its methods; while a block of `bypass` is open
anywhere in the process, an engine that looks at a context variable is in place, and an empty memory
tier, which answers nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar, overload

from diskcache.cache.bypassing import BypassingEngine, Switch, is_disabled
from diskcache.cache.telling import METHODS, TellingEngine
from diskcache.engines.base import Engine
from diskcache.errors import SettingError
from diskcache.events import EVENTS, Event, Listeners
from diskcache.memory.tier import Tier
from diskcache.memotypes import is_awaited

L = TypeVar("L", bound=Callable[[Event], object])


class _Wiring:
    """One lock for all changes of what is in whose place; a forked child has its own."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


_wiring = _Wiring()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_wiring.__init__)  # type: ignore[misc]


class Watching:
    """Events, and the way around a cache."""

    _directory: str
    _tier: Tier
    _listeners: Listeners | None = None
    _switch: Switch | None = None
    """Who bypasses the object, while anybody does."""
    close: Callable[[], None]
    _shown: Tier | None = None
    """The memory tier, while another is in its place."""

    def _members(self) -> Sequence[Any]:
        """Return the caches that the entries are in."""
        return (self,)

    # -- Listening --

    @overload
    def on(self, name: str, func: Callable[[Event], object]) -> Callable[[], None]: ...
    @overload
    def on(self, name: str, func: None = None) -> Callable[[L], L]: ...
    def on(self, name: str, func: Any = None) -> Any:
        """Call *func* whenever this object does something of a kind.

        It is called in the thread that did it, after the outermost transaction was committed,
        without a lock. Of a transaction that is rolled back nothing is told but errors. What *func*
        raises is logged, not raised. It may use the cache; what it does is not told. Objects of
        others on the same directory, and other processes, are not listened to.

        Cost: nothing for events that nobody listens to while nobody listens to any; else a
        little for each operation, and the time that *func* takes.

        Args:
            name: `'hit'`, `'miss'`, `'set'`, `'delete'`, `'evict'`, `'cull'`, `'expire'` or
                `'error'`.
            func: Called with an `Event`; left out, this is a decorator of a function.

        Returns:
            A function without arguments that ends it, and may be called more than once.

        Raises:
            SettingError: There is no such event.
            TypeError: *func* cannot be called, or nobody would await it.

        Example:
            >>> off = cache.on('set', lambda event: print(event.name, event.key))
            >>> cache['key'] = 'value'
            set key
            >>> off()
        """
        if name not in EVENTS:
            raise SettingError(f"name must be one of {', '.join(EVENTS)}: got {name!r}")
        if func is None:
            return lambda decorated: (self.on(name, decorated), decorated)[1]
        if not callable(func):
            raise TypeError(f"func must be a function of an event: got {func!r}")
        if is_awaited(func):
            raise TypeError(
                f"func must be called, not awaited: got the coroutine function {func!r}; give a"
                " function that hands the event to a loop, by loop.call_soon_threadsafe"
            )
        with _wiring.lock:
            if self._listeners is None:
                self._listeners = Listeners(repr(self._directory))
            self._listeners.add(name, func)
            self._rewire()
        left = [func]

        def off() -> None:
            with _wiring.lock:
                if left and self._listeners is not None:
                    self._listeners.remove(name, left.pop())
                    self._rewire()

        return off

    # -- Bypassing --

    def bypass(self) -> AbstractContextManager[None]:
        """Return a block in which reads of the caller miss, and nothing is stored.

        It is as if the cache were empty and forgot at once what is stored: `set` and `add` return
        True, `incr` counts from its default, `get_or_set` and memoized functions call the function
        each time, without waiting for others. Concerned is the thread, or the task, that is in the
        block. Removals (`delete`, `pop`, `evict`, `clear` and so on) are done, so that nothing
        that was declared invalid comes back; entries that `set` would have replaced are there
        again after the block. Not bypassed are queues (`push`, `pull`, `peek`), `Deque`, `Index`,
        locks and their kin, which would lose data, iteration, `len`, copies and archives.

        While a block is open, other threads read from the database instead of memory.

        Example:
            >>> cache['key'] = 'value'
            >>> with cache.bypass():
            ...     cache.get('key')
            >>> cache.get('key')
            'value'
        """
        return self._bypass()

    @contextmanager
    def _bypass(self) -> Iterator[None]:
        with _wiring.lock:
            if self._switch is None:
                self._switch = Switch()
            switch = self._switch
            switch.blocks += 1
            self._rewire()
        try:
            with switch.on():
                yield
        finally:
            with _wiring.lock:
                switch.blocks -= 1
                if not (switch.blocks or switch.is_always_on):
                    self._switch = None
                self._rewire()

    def _obey_environment(self) -> None:
        """Bypass this object for good if the environment says so."""
        try:
            disabled = is_disabled()
        except SettingError:
            self.close()
            raise
        if disabled:
            with _wiring.lock:
                self._switch = Switch()
                self._switch.is_always_on = True
                self._rewire()

    # -- What is in whose place --

    def _rewire(self) -> None:
        members = self._members()
        for member in members:
            member._listeners, member._switch = self._listeners, self._switch
            _wire(member)
        for front in {id(front): front for front in (*members, self)}.values():
            _show_memory(front, is_shown=self._switch is None)
        self._wired()

    def _wired(self) -> None:
        """Take note that what is in whose place has changed."""


def bare_engine(cache: Any) -> Engine:
    """Return the engine of a cache that does the work, whoever listens to it or bypasses it."""
    engine = cache._engine
    while isinstance(engine, (TellingEngine, BypassingEngine)):
        engine = engine.bare
    found: Engine = engine
    return found


def _wire(cache: Any) -> None:
    """Put in place of the engine of one cache, and of its methods, what its state asks for."""
    bare = bare_engine(cache)
    engine: Any = bare
    listeners: Listeners | None = cache._listeners
    told: Callable[[int, int, int], None] | None = None
    if listeners:
        engine = TellingEngine(bare, cache, listeners)
        told = engine.tell_removed
    else:
        for name in METHODS:
            vars(cache).pop(name, None)
    bare.watch(told)
    if cache._switch is not None:
        engine = BypassingEngine(engine, cache._switch, cache._files)
    cache._engine = engine
    cache._choose_noter()


def _show_memory(front: Any, *, is_shown: bool) -> None:
    """Have reads look into the memory tier, or into an empty one."""
    if is_shown and front._shown is not None:
        front._tier, front._shown = front._shown, None
    elif not is_shown and front._shown is None:
        front._tier, front._shown = Tier(0), front._tier
