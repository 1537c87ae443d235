"""A decorator that lets one call at a time through, over all threads and processes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar, cast

from diskcache.entry import Tag
from diskcache.keys import full_name
from diskcache.memoizing import check_name
from diskcache.memotypes import is_awaited
from diskcache.recipes.rows import CacheLike

P = ParamSpec("P")
R = TypeVar("R")


def barrier(
    cache: CacheLike,
    lock_factory: Callable[..., AbstractContextManager[Any]],
    name: str | None = None,
    expire: float | None = None,
    tag: Tag = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that holds a lock around each call of a function.

    Of a coroutine function the lock is awaited: other tasks go on. A task that is cancelled gives
    it back.

    Cost: of a call, taking and releasing the lock.

    Args:
        cache: Where the lock is.
        lock_factory: `Lock`, `RLock`, or anything that is called in the same way; with a
            `BoundedSemaphore` (`functools.partial(BoundedSemaphore, value=4)`) several calls at a
            time are let through.
        name: Key of the lock; None for the full name of the function.
        expire: Passed to *lock_factory*.
        tag: Passed to *lock_factory*.

    Raises:
        TypeError: *name* is a function; or by the decorator: the lock is one of a thread, as
            `RLock` is, and the function one of a task.

    Example:
        >>> from diskcache import Lock, barrier
        >>> @barrier(cache, Lock)
        ... def work(number):
        ...     return number + 1
        >>> work(1)
        2
    """
    check_name(name)

    def decorator(func: Callable[P, R]) -> Callable[P, R]:
        lock = lock_factory(
            cache, full_name(func) if name is None else name, expire=expire, tag=tag
        )
        if is_awaited(func):
            from diskcache.recipes.coroutines import guarded

            return cast("Callable[P, R]", guarded(func, lock, cache))

        @functools.wraps(func)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            with lock:
                return func(*args, **kwargs)

        return wrapper

    return decorator
