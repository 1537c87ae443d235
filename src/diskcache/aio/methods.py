"""Asynchronous counterparts of methods, with their parameters and results.

A new method of a cache gets its counterpart by one line in the class of `aio`:

    touch = writing(Cache.touch)

`reading` and `writing` choose the threads. They call the method by its name, so that one that a
subclass overrides is called. `paging` makes an asynchronous iterator of one that returns an
iterable, and `same` is for what does no more than return something that is used later. Where the
result depends on the arguments, `shaped_as` with a pattern of `shapes` gives the types.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from io import BufferedIOBase
from sys import getsizeof
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar, cast

from diskcache.aio.pool import READ, WRITE

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

Counterpart = Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]

PAGE: Final = 100
"""Most entries that are read in one hop while iterating."""
PAGE_BYTES: Final = 2**20
"""Bytes after which a page is not made longer."""

_END: Final = object()


def reading(method: Callable[Concatenate[S, P], R]) -> Counterpart[P, R]:
    """Return the counterpart of a method that waits for nobody."""
    return _counterpart(READ, method)


def writing(method: Callable[Concatenate[S, P], R]) -> Counterpart[P, R]:
    """Return the counterpart of a method that may wait for the write lock."""
    return _counterpart(WRITE, method)


def _counterpart(lane: int, method: Callable[Concatenate[S, P], R]) -> Counterpart[P, R]:
    name = method.__name__

    async def counterpart(self: Any, /, *args: P.args, **keywords: P.kwargs) -> R:
        sync = self._sync
        if sync is None:
            sync = await self._opened()
        pool = self._pool
        # Nothing may refer to the job when it fails: the error refers to this frame.
        result: R = await pool.submit(lane, pool.job(getattr(sync, name), args, keywords)).future
        return result

    _dress(counterpart, method, name.strip("_"))
    return counterpart


def opening(method: Callable[Concatenate[S, P], R]) -> Counterpart[P, R]:
    """Return the counterpart of a method that may return an open file, which is not lost."""
    name = method.__name__

    async def counterpart(self: Any, /, *args: P.args, **keywords: P.kwargs) -> R:
        sync = self._sync
        if sync is None:
            sync = await self._opened()
        pool = self._pool
        result: R = await pool.submit(
            READ, pool.job(getattr(sync, name), args, keywords, close_file)
        ).result()
        return result

    _dress(counterpart, method, name)
    return counterpart


def close_file(value: Any) -> None:
    """Close what `get` returned for nobody, if it is an open file."""
    if isinstance(value, tuple) and value:
        value = value[0]
    if isinstance(value, BufferedIOBase):
        value.close()


def paging(
    method: Callable[Concatenate[S, P], Iterable[R]], name: str | None = None
) -> Callable[Concatenate[Any, P], AsyncIterator[R]]:
    """Return the counterpart of a method that returns an iterable: it is read a page in a hop.

    Args:
        method: The method.
        name: Name of the counterpart; None for that of the method.
    """
    called = method.__name__

    async def counterpart(self: Any, /, *args: P.args, **keywords: P.kwargs) -> AsyncIterator[R]:
        sync = self._sync
        if sync is None:
            sync = await self._opened()

        def begin() -> Any:
            return iter(getattr(sync, called)(*args, **keywords))

        pool = self._pool
        rest = await pool.submit(READ, pool.job(begin)).future
        is_over = False
        while not is_over:
            page, is_over = await pool.submit(READ, pool.job(_page, (rest,))).future
            for entry in page:
                yield entry

    _dress(counterpart, method, name or called.strip("_"))
    return counterpart


def _page(rest: Any) -> tuple[list[Any], bool]:
    """Return the next entries, and whether they are the last."""
    page: list[Any] = []
    size = 0
    while len(page) < PAGE and size < PAGE_BYTES:
        entry = next(rest, _END)
        if entry is _END:
            return page, True
        size += sum(map(getsizeof, entry)) if type(entry) is tuple else getsizeof(entry)
        page.append(entry)
    return page, False


def same(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Return a method that does what the method of the cache does, at once."""
    name = method.__name__

    def counterpart(self: Any, /, *args: P.args, **keywords: P.kwargs) -> R:
        result: R = getattr(self.sync, name)(*args, **keywords)
        return result

    _dress(counterpart, method, name)
    return counterpart


class Mirror(Generic[R]):
    """An attribute of the object behind this one, which is opened if it is not yet."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> R:
        """Return what it is there."""
        if instance is None:
            return cast("R", self)
        return cast("R", getattr(instance.sync, self._name))

    def __set__(self, instance: Any, value: R) -> None:
        """Refuse: to change it may take time."""
        raise AttributeError(
            f"{self._name} of an asynchronous object cannot be assigned: settings are changed by"
            f" `await cache.reset({self._name!r}, value)`, all else where the object is made"
        )


def _dress(counterpart: Callable[..., Any], method: Callable[..., Any], name: str) -> None:
    """Give a counterpart the name and the parameters of its method."""
    functools.update_wrapper(counterpart, method)
    counterpart.__name__ = name
    counterpart.__qualname__ = f"Async{method.__qualname__.rpartition('.')[0]}.{name}"
    counterpart.__doc__ = f"Do `{method.__qualname__}`; see there."
