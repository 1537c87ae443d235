"""Types of the counterparts of methods that may return tuples: those of `Shapes`, awaited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol, TypeVar, overload

from diskcache.computing.terms import Expire, Seconds
from diskcache.entry import Tag

T = TypeVar("T")


class AsyncShapes(Protocol):
    """Patterns for `shaped_as`: never called."""

    @overload
    async def get(
        self: Any,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: Literal[False] = False,
        tag: Literal[False] = False,
        retry: bool = False,
        *,
        version: Literal[False] = False,
        stale: bool = False,
    ) -> Any: ...
    @overload
    async def get(
        self: Any,
        key: Any,
        default: Any = None,
        read: bool = False,
        *,
        expire_time: Literal[True],
        tag: Literal[False] = False,
        retry: bool = False,
        version: Literal[False] = False,
        stale: bool = False,
    ) -> tuple[Any, float | None]: ...
    @overload
    async def get(
        self: Any,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: Literal[False] = False,
        *,
        tag: Literal[True],
        retry: bool = False,
        version: Literal[False] = False,
        stale: bool = False,
    ) -> tuple[Any, Tag]: ...
    @overload
    async def get(
        self: Any,
        key: Any,
        default: Any = None,
        read: bool = False,
        *,
        expire_time: Literal[True],
        tag: Literal[True],
        retry: bool = False,
        version: Literal[False] = False,
        stale: bool = False,
    ) -> tuple[Any, float | None, Tag]: ...
    @overload
    async def get(
        self: Any,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: Literal[False] = False,
        tag: Literal[False] = False,
        retry: bool = False,
        *,
        version: Literal[True],
        stale: bool = False,
    ) -> tuple[Any, int | None]: ...
    @overload
    async def get(
        self: Any,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
        *,
        version: bool = False,
        stale: bool = False,
    ) -> Any: ...
    @overload
    async def pop(
        self: Any,
        key: Any,
        default: Any = None,
        expire_time: Literal[False] = False,
        tag: Literal[False] = False,
        retry: bool = False,
    ) -> Any: ...
    @overload
    async def pop(
        self: Any,
        key: Any,
        default: Any = None,
        *,
        expire_time: Literal[True],
        tag: Literal[False] = False,
        retry: bool = False,
    ) -> tuple[Any, float | None]: ...
    @overload
    async def pop(
        self: Any,
        key: Any,
        default: Any = None,
        expire_time: Literal[False] = False,
        *,
        tag: Literal[True],
        retry: bool = False,
    ) -> tuple[Any, Tag]: ...
    @overload
    async def pop(
        self: Any,
        key: Any,
        default: Any = None,
        *,
        expire_time: Literal[True],
        tag: Literal[True],
        retry: bool = False,
    ) -> tuple[Any, float | None, Tag]: ...
    @overload
    async def pop(
        self: Any,
        key: Any,
        default: Any = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any: ...
    @overload
    async def pull(
        self: Any,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        expire_time: Literal[False] = False,
        tag: Literal[False] = False,
        retry: bool = False,
    ) -> Any: ...
    @overload
    async def pull(
        self: Any,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        *,
        expire_time: Literal[True],
        tag: Literal[False] = False,
        retry: bool = False,
    ) -> tuple[Any, float | None]: ...
    @overload
    async def pull(
        self: Any,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        expire_time: Literal[False] = False,
        *,
        tag: Literal[True],
        retry: bool = False,
    ) -> tuple[Any, Tag]: ...
    @overload
    async def pull(
        self: Any,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        *,
        expire_time: Literal[True],
        tag: Literal[True],
        retry: bool = False,
    ) -> tuple[Any, float | None, Tag]: ...
    @overload
    async def pull(
        self: Any,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any: ...
    @overload
    async def peekitem(
        self: Any,
        last: bool = True,
        expire_time: Literal[False] = False,
        tag: Literal[False] = False,
        retry: bool = False,
    ) -> Any: ...
    @overload
    async def peekitem(
        self: Any,
        last: bool = True,
        *,
        expire_time: Literal[True],
        tag: Literal[False] = False,
        retry: bool = False,
    ) -> tuple[Any, float | None]: ...
    @overload
    async def peekitem(
        self: Any,
        last: bool = True,
        expire_time: Literal[False] = False,
        *,
        tag: Literal[True],
        retry: bool = False,
    ) -> tuple[Any, Tag]: ...
    @overload
    async def peekitem(
        self: Any,
        last: bool = True,
        *,
        expire_time: Literal[True],
        tag: Literal[True],
        retry: bool = False,
    ) -> tuple[Any, float | None, Tag]: ...
    @overload
    async def peekitem(
        self: Any,
        last: bool = True,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any: ...


class ComputedShapes(Protocol):
    """Patterns of what takes a function, or a coroutine function."""

    @overload
    async def get_or_set(
        self: Any,
        key: Any,
        func: Callable[[], Awaitable[T]],
        *,
        expire: Expire = None,
        tag: Tag = None,
        lock: bool = True,
        lock_timeout: float | None = None,
        share_errors: bool = True,
        grace: Seconds | None = None,
        backoff: Seconds | None = None,
        refresh: float | None = None,
        soft_timeout: float | None = None,
        hard_timeout: float | None = None,
        jitter: float | None = None,
        when: Callable[[T], object] | None = None,
        errors: Mapping[type[Exception], Seconds] | None = None,
    ) -> T: ...
    @overload
    async def get_or_set(
        self: Any,
        key: Any,
        func: Callable[[], T],
        *,
        expire: Expire = None,
        tag: Tag = None,
        lock: bool = True,
        lock_timeout: float | None = None,
        share_errors: bool = True,
        grace: Seconds | None = None,
        backoff: Seconds | None = None,
        refresh: float | None = None,
        soft_timeout: float | None = None,
        hard_timeout: float | None = None,
        jitter: float | None = None,
        when: Callable[[T], object] | None = None,
        errors: Mapping[type[Exception], Seconds] | None = None,
    ) -> T: ...
