"""How the steps of a computation are made: by blocking a thread, or by awaiting.

The steps are a coroutine that waits, and calls what may block, through a `Way`. `Blocking` does
both in the thread of the caller and never suspends, so that `run` drives the coroutine to its end
in one go. `diskcache.computing.looping.Looping` awaits.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from threading import TIMEOUT_MAX
from types import CoroutineType
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from diskcache import flight
from diskcache.background import background
from diskcache.clock import Clock
from diskcache.entry import Tag
from diskcache.failures import Failure
from diskcache.flight import Place, Share
from diskcache.sentinels import ENOVAL, Constant

T = TypeVar("T")
Version: TypeAlias = int | Constant | None
"""What must be there, as for `Cache.set`: a version, None for no live value, `ENOVAL` for any."""


class Stale(NamedTuple):
    """What is kept of a key beyond its expiry."""

    value: Any
    failure: Failure | None
    """What the last call raised, instead of a value."""
    retry_time: float
    """When it may be computed again, seconds since the epoch."""
    version: int


class Carried(Exception):  # noqa: N818 - it is never seen outside
    """A `StopIteration` on its way through coroutines that block: none of them can raise it."""

    def __init__(self, stop: StopIteration) -> None:
        super().__init__(stop)
        self.stop = stop


def original(exc: Exception) -> Exception:
    """Return what was raised, of what came through the steps."""
    return exc.stop if isinstance(exc, Carried) else exc


class Store(Protocol):
    """Where values are kept. Every method may block, but for `place` and `clock`."""

    clock: Clock

    def find(self, key: Any) -> Any:
        """Return the live value; `ENOVAL` if there is none."""
        ...

    def find_again(self, key: Any) -> Any:
        """Return the live value of a key that was just looked for; it is not counted again."""
        ...

    def find_until(self, key: Any) -> tuple[Any, float | None, int | None]:
        """Return the live value, when it expires, and its version."""
        ...

    def find_stale(self, key: Any) -> Stale | None:
        """Return what is kept of a key beyond its expiry."""
        ...

    def save(
        self,
        key: Any,
        value: Any,
        expire: float | None,
        tag: Tag,
        grace: float,
        version: Version = ENOVAL,
    ) -> bool:
        """Keep a value, if a version is there; tell whether that was so, and possible."""
        ...

    def save_failure(self, key: Any, failure: Failure, seconds: float, tag: Tag) -> None:
        """Remember that there is no value now."""
        ...

    def hold_off(self, key: Any, stale: Stale, until: float) -> None:
        """Let nobody compute a value in grace anew before a moment."""
        ...

    def drop(self, key: Any) -> bool:
        """Forget a value; tell whether there was one."""
        ...

    def drop_calls(self, name: str) -> int:
        """Forget the values of all keys that start with a name; tell how many."""
        ...

    def place(self, key: Any) -> tuple[Place, Share | None] | None:
        """Return the place of a key, and how other processes are kept from computing, if they are.

        None where the caller must not wait: inside a transaction, which others wait for.
        """
        ...

    def hold(self) -> Any:
        """Return the open transaction of an event loop that the task is in; None for none."""
        ...

    def disconnect(self) -> None:
        """Close the connections of this thread, which is about to end."""
        ...


class Way(flight.Waiting, Protocol):
    """How steps are made: by blocking a thread, or by awaiting."""

    async def do(self, step: Callable[..., T], *args: Any) -> T:
        """Do what may block."""
        ...

    async def call(self, func: Callable[[], Any]) -> Any:
        """Call the function of the user."""
        ...

    def told(self, exc: Exception) -> Exception:
        """Return what to raise, so that the caller gets an exception."""
        ...

    def one(self, func: Callable[[list[Any]], Any], key: Any) -> Callable[[], Any]:
        """Return a function that gives the value of one key, of a function of many."""
        ...

    def start(
        self,
        steps: Callable[[], Coroutine[Any, Any, None]],
        name: str,
        wait: float | None,
        at_end: Callable[[], None],
    ) -> bool:
        """Make steps behind the back of the caller, if there is room; tell whether.

        Args:
            steps: What to do; it may be that not even its first step is made.
            name: Name of the thread or task.
            wait: Seconds to wait for room; None for no limit.
            at_end: Called when nothing more will be done.
        """
        ...


class Blocking:
    """Steps that block the thread of the caller."""

    loop = None

    def __init__(self, store: Store) -> None:
        self._store = store

    def monotonic(self) -> float:
        """Return seconds of the clock of the cache."""
        return self._store.clock.monotonic()

    async def future(self, future: Future[Any], seconds: float | None) -> bool:
        """Block until there is a result."""
        return bool(wait_for([future], None if seconds is None else min(seconds, TIMEOUT_MAX)).done)

    async def nap(self, seconds: float) -> None:
        """Sleep, by the clock of the cache."""
        self._store.clock.sleep(seconds)

    async def do(self, step: Callable[..., T], *args: Any) -> T:
        """Do it."""
        return step(*args)

    async def call(self, func: Callable[[], Any]) -> Any:
        """Call it.

        Raises:
            TypeError: It is a coroutine function.
        """
        try:
            result = func()
        except StopIteration as stop:
            raise Carried(stop) from None
        if isinstance(result, CoroutineType):
            result.close()
            raise TypeError(
                f"{func!r} is a coroutine function, and nobody awaits it here: decorate it with"
                " memoize, or pass a function"
            )
        return result

    def told(self, exc: Exception) -> Exception:
        """Return what `run` raises as that exception."""
        return Carried(exc) if isinstance(exc, StopIteration) else exc

    def one(self, func: Callable[[list[Any]], Any], key: Any) -> Callable[[], Any]:
        """Return a function that picks the value of one key."""
        return lambda: func([key]).get(key, ENOVAL)

    def start(
        self,
        steps: Callable[[], Coroutine[Any, Any, None]],
        name: str,
        wait: float | None,
        at_end: Callable[[], None],
    ) -> bool:
        """Make steps in a thread."""
        store = self._store

        def work() -> None:
            try:
                run(steps())
            finally:
                at_end()
                store.disconnect()

        return background.start(work, _always, name, wait)


def _always() -> bool:
    return True


def run(steps: Coroutine[Any, Any, T]) -> T:
    """Return the result of steps that never suspend."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    except Carried as carried:
        stop = carried.stop
    else:
        steps.close()
        raise RuntimeError("steps that block were suspended")
    # Out here, it has no other context than its own.
    raise stop
