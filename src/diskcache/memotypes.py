"""What a decorated function is, for type checkers and for readers.

How a checker tells functions in a class apart: it applies `@classmethod` and `@staticmethod` after
all other decorators, wherever they stand, and then asks `__get__`. If the class is what the first
parameter takes, it is a class method; if the object is, a method; if neither, a static one.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeGuard, TypeVar, overload

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
R = TypeVar("R")
C_co = TypeVar("C_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)


def is_awaited(func: object) -> TypeGuard[Callable[..., Coroutine[Any, Any, Any]]]:
    """Tell whether a call gives a coroutine: also that of an object whose class says so."""
    return inspect.iscoroutinefunction(func) or (
        not inspect.isroutine(func)
        and not isinstance(func, type)
        and inspect.iscoroutinefunction(getattr(type(func), "__call__", None))  # noqa: B004
    )


class CallInfo(NamedTuple):
    """What became of the calls of a function in this process; lossy where many threads call."""

    hits: int
    """Calls that found a result, or waited for that of another."""
    misses: int
    """Calls of the function itself that returned."""
    stale: int
    """Calls that were given a result in grace."""
    refreshed: int
    """Results that were made anew before they expired, or on request."""
    failed: int
    """Calls of the function itself that raised."""


class Keyed(Protocol[P]):
    """A function whose calls have keys."""

    __wrapped__: Callable[P, Any]

    def __cache_key__(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Any, ...]:
        """Return the key under which the result of the call is cached."""
        ...


class Renewed(Keyed[P], Protocol[P, R_co]):
    """A function whose results are cached, and renewed before they expire."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the cached result of the call, or make and cache it."""
        ...

    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], R], instance: object, owner: S, /
    ) -> Callable[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> Renewed[P, R_co]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], R], instance: S, owner: type | None = None, /
    ) -> Callable[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type, /) -> Renewed[P, R_co]: ...
    def __get__(self, instance: Any, owner: Any = None, /) -> Any:
        """Return the method of *instance*, as functions do: their first argument is the object."""
        ...


class Controlled(Keyed[P], Protocol[P, R_co]):
    """What controls the results of a memoized function.

    Of a method everything is asked through the class, and given the object:
    `Class.method.invalidate(object, ...)`; of a class method, given the class.
    """

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of a call; tell whether there was one."""
        ...

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function, cache the result in place of an old one, and return it."""
        ...

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the cached result of a call, or `ENOVAL`; the function is not called."""
        ...

    def bypass(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function, and leave the cache alone."""
        ...

    def clear(self) -> int:
        """Forget all results of the function; return how many there were."""
        ...

    def cache_info(self) -> CallInfo:
        """Return what became of the calls in this process."""
        ...


class ClassMemoized(Controlled[P, R_co], Protocol[P, Q, R_co]):
    """A memoized class method: called without the class, controlled with it."""

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R_co:
        """Return the cached result of the call, or make and cache it."""
        ...


class Memoized(Controlled[P, R_co], Protocol[P, R_co]):
    """A function whose results are cached."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the cached result of the call, or make and cache it."""
        ...

    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], R], instance: object, owner: S, /
    ) -> ClassMemoized[P, Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> Memoized[P, R_co]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], R], instance: S, owner: type | None = None, /
    ) -> Callable[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type, /) -> Memoized[P, R_co]: ...
    def __get__(self, instance: Any, owner: Any = None, /) -> Any:
        """Return the method of *instance*, as functions do: their first argument is the object."""
        ...


class AsyncControlled(Keyed[P], Protocol[P, C_co, R_co]):
    """What controls the results of a coroutine function, or of an asynchronous generator.

    As `Controlled`; what may block is awaited.
    """

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of a call; tell whether there was one."""
        ...

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function, cache the result in place of an old one, and return it."""
        ...

    async def peek(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the cached result of a call, or `ENOVAL`; the function is not called."""
        ...

    def bypass(self, *args: P.args, **kwargs: P.kwargs) -> C_co:
        """Call the function, and leave the cache alone."""
        ...

    async def clear(self) -> int:
        """Forget all results of the function; return how many there were."""
        ...

    def cache_info(self) -> CallInfo:
        """Return what became of the calls in this process."""
        ...


class AsyncClassMemoized(AsyncControlled[P, C_co, R_co], Protocol[P, Q, C_co, R_co]):
    """A memoized class method that is awaited: called without the class, controlled with it."""

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> C_co:
        """Give the cached result of the call, or make and cache it."""
        ...


class AsyncMemoized(AsyncControlled[P, C_co, R_co], Protocol[P, C_co, R_co]):
    """A coroutine function, or an asynchronous generator, whose results are cached."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C_co:
        """Give the cached result of the call, or make and cache it."""
        ...

    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], R], instance: object, owner: S, /
    ) -> AsyncClassMemoized[P, Q, R, R_co]: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> AsyncMemoized[P, C_co, R_co]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], R], instance: S, owner: type | None = None, /
    ) -> Callable[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type, /) -> AsyncMemoized[P, C_co, R_co]: ...
    def __get__(self, instance: Any, owner: Any = None, /) -> Any:
        """Return the method of *instance*."""
        ...


class Memoizer(Protocol):
    """A decorator that caches the results of a function."""

    # The last of the four takes what the others do, too: the first that fits counts.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, func: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncMemoized[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, func: Callable[P, AsyncGenerator[R, None]], /
    ) -> AsyncMemoized[P, AsyncGenerator[R, None], AsyncGenerator[R, None]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, func: Callable[P, AsyncIterator[R]], /
    ) -> AsyncMemoized[P, AsyncIterator[R], AsyncIterator[R]]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Memoized[P, R]: ...
    def __call__(self, func: Any, /) -> Any:
        """Return the function that looks into the cache first."""
        ...
