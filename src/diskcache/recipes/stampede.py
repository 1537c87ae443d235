"""A memoizing decorator that computes results anew before they expire, in the background.

The decision follows A. Vattani, F. Chierichetti and K. Lowenstein, "Optimal Probabilistic Cache
Stampede Prevention", VLDB 2015: the nearer the expiry, and the longer the function takes, the
likelier is a call to be the one that starts the computation.
"""

from __future__ import annotations

import functools
import math
import random
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar, cast

from diskcache.background import background
from diskcache.clock import Clock
from diskcache.entry import Tag, expiry
from diskcache.errors import Timeout
from diskcache.memoizing import check_name, key_maker
from diskcache.memotypes import Renewed, is_awaited
from diskcache.recipes.rows import CacheLike, Cell
from diskcache.sentinels import ENOVAL

P = ParamSpec("P")
R = TypeVar("R")

LEAST_CHANCE: Final = sys.float_info.min


def memoize_stampede(
    cache: CacheLike,
    expire: float | None,
    name: str | None = None,
    typed: bool = False,
    tag: Tag = None,
    beta: float = 1,
    ignore: Collection[int | str] = (),
) -> Callable[[Callable[P, R]], Renewed[P, R]]:
    """Return a decorator that caches results and renews them early, so that no call waits.

    A call that finds a result returns it. Near the expiry, one of the calls also starts a thread
    that computes it anew; of all threads and processes one at a time does. A call that finds no
    result computes it: where many may at once, put a `barrier` around the function. An error in
    the background goes to `threading.excepthook`, and the result stays until it expires. The
    interpreter waits at its exit for what is being computed. A result of a coroutine function is
    renewed in a task; an error there is logged.

    Cost: of a hit, a `get`; of a miss, the call and a `set`.

    Args:
        cache: Where the results are.
        expire: Seconds until a result expires; None means never, and never early.
        name: Starts the keys; None for the full name of the function.
        typed: Keep arguments of different types apart.
        tag: Label for `evict`.
        beta: More than 1 renews earlier, less than 1 later, 0 never early.
        ignore: Positions and names of arguments that do not matter.

    Raises:
        TypeError: *name* is a function: a decorator was used without its parentheses.

    Example:
        >>> from diskcache import memoize_stampede
        >>> @memoize_stampede(cache, expire=60)
        ... def landing_page(language):
        ...     return f'Welcome ({language})'
        >>> landing_page('en'), landing_page('en')
        ('Welcome (en)', 'Welcome (en)')
        >>> landing_page.__cache_key__('en') in cache
        True
    """
    check_name(name)
    expire = expiry(expire, 0)

    def decorator(func: Callable[P, R]) -> Renewed[P, R]:
        cache_key = key_maker(func, name=name, typed=typed, ignore=ignore)
        results = Results(cache, expire, tag, beta, func)
        if is_awaited(func):
            from diskcache.recipes.coroutines import renewing

            return cast("Renewed[P, R]", renewing(func, results, cache_key))

        @functools.wraps(func)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            key = cache_key(args, kwargs)
            compute = functools.partial(func, *args, **kwargs)
            result = results.get(key, compute)
            return cast("R", results.renew(key, compute) if result is ENOVAL else result)

        def key_of(*args: P.args, **kwargs: P.kwargs) -> tuple[Any, ...]:
            return cache_key(args, kwargs)

        wrapper.__cache_key__ = key_of  # type: ignore[attr-defined]
        return cast("Renewed[P, R]", wrapper)

    return decorator


class Results:
    """Pairs of a result and the seconds that it took, under the keys of calls."""

    def __init__(
        self,
        cache: CacheLike,
        expire: float | None,
        tag: Tag,
        beta: float,
        func: Callable[..., Any],
    ) -> None:
        self._cache = cache
        self._expire = expire
        self._tag = tag
        self._beta = beta
        self.name = getattr(func, "__qualname__", "function")
        self.clock: Clock = Cell(cache, self.name).clock
        self.directory = cache.directory

    def get(self, key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        """Return the result, or `ENOVAL`; start to renew it if it is time."""
        result, delta = self.look(key)
        if delta is not None:
            self._renew_behind(key, delta, compute)
        return result

    def look(self, key: tuple[Any, ...]) -> tuple[Any, float | None]:
        """Return the result, or `ENOVAL`; and the seconds that it took, if it is time to renew."""
        pair, expire_time = self._cache.get(key, ENOVAL, expire_time=True, retry=True)
        match pair:
            # A Disk of the user may give a list for a tuple.
            case (result, int() | float() as delta):
                is_time = expire_time is not None and not self._is_early(expire_time, delta)
                return result, delta if is_time else None
        return ENOVAL, None

    def _is_early(self, expire_time: float, delta: float) -> bool:
        """Draw whether it is too early to renew."""
        left = expire_time - self.clock.time()
        # 0 has no logarithm. `random` never gives 1, but it may be replaced by what does.
        chance = max(1 - random.random(), LEAST_CHANCE)
        return -delta * self._beta * math.log(chance) < left

    def renew(self, key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        """Compute a result, store it, and return it."""
        start = self.clock.monotonic()
        result = compute()
        delta = self.clock.monotonic() - start
        self.keep(key, result, delta)
        return result

    def keep(self, key: tuple[Any, ...], result: Any, delta: float) -> None:
        """Store a result, and the seconds that it took."""
        if self._expire is None or self._expire > 0:
            self._cache.set(key, (result, delta), expire=self._expire, tag=self._tag, retry=True)

    def _renew_behind(self, key: tuple[Any, ...], delta: float, compute: Callable[[], Any]) -> None:
        """Renew a result in the background, unless somebody does already."""
        guard, entry = self._guard(key), Cell(self._cache, key)

        def work() -> None:
            try:
                self.renew(key, compute)
            finally:
                guard.disconnect()
                entry.disconnect()

        def may_start() -> bool:
            return _is_first(guard, delta)

        background.start(work, may_start, f"renewing {self.name}")

    def _guard(self, key: tuple[Any, ...]) -> Cell:
        return Cell(self._cache, (*key, ENOVAL))

    def may_renew(self, key: tuple[Any, ...], delta: float) -> bool:
        """Tell whether the caller is the one who renews a result."""
        return _is_first(self._guard(key), delta)


def _is_first(guard: Cell, delta: float) -> bool:
    # A hit waits for nobody: whoever finds the write lock taken leaves it to the next call.
    with suppress(Timeout):
        return guard.change(lambda value: (None, value is ENOVAL), 0, expire=delta)
    return False
