"""Types of methods that return a tuple where more than the value is asked for, written once.

`Cache` and `FanoutCache` share them; `pull` and `peek` do too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar, overload

from diskcache.entry import Tag

F = TypeVar("F", bound=Callable[..., Any])


def shaped_as(_pattern: F) -> Callable[[Callable[..., Any]], F]:
    """Return a decorator that gives a method the type of a pattern, and nothing else."""

    def decorator(method: Any) -> F:
        typed: F = method
        return typed

    return decorator


class Shapes(Protocol):
    """Patterns for `shaped_as`: never called."""

    @overload
    def get(
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
    def get(
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
    def get(
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
    def get(
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
    def get(
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
    def get(
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
    def pop(
        self: Any,
        key: Any,
        default: Any = None,
        expire_time: Literal[False] = False,
        tag: Literal[False] = False,
        retry: bool = False,
    ) -> Any: ...
    @overload
    def pop(
        self: Any,
        key: Any,
        default: Any = None,
        *,
        expire_time: Literal[True],
        tag: Literal[False] = False,
        retry: bool = False,
    ) -> tuple[Any, float | None]: ...
    @overload
    def pop(
        self: Any,
        key: Any,
        default: Any = None,
        expire_time: Literal[False] = False,
        *,
        tag: Literal[True],
        retry: bool = False,
    ) -> tuple[Any, Tag]: ...
    @overload
    def pop(
        self: Any,
        key: Any,
        default: Any = None,
        *,
        expire_time: Literal[True],
        tag: Literal[True],
        retry: bool = False,
    ) -> tuple[Any, float | None, Tag]: ...
    @overload
    def pop(
        self: Any,
        key: Any,
        default: Any = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any: ...
    @overload
    def pull(
        self: Any,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        expire_time: Literal[False] = False,
        tag: Literal[False] = False,
        retry: bool = False,
    ) -> Any: ...
    @overload
    def pull(
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
    def pull(
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
    def pull(
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
    def pull(
        self: Any,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any: ...
    @overload
    def peekitem(
        self: Any,
        last: bool = True,
        expire_time: Literal[False] = False,
        tag: Literal[False] = False,
        retry: bool = False,
    ) -> Any: ...
    @overload
    def peekitem(
        self: Any,
        last: bool = True,
        *,
        expire_time: Literal[True],
        tag: Literal[False] = False,
        retry: bool = False,
    ) -> tuple[Any, float | None]: ...
    @overload
    def peekitem(
        self: Any,
        last: bool = True,
        expire_time: Literal[False] = False,
        *,
        tag: Literal[True],
        retry: bool = False,
    ) -> tuple[Any, Tag]: ...
    @overload
    def peekitem(
        self: Any,
        last: bool = True,
        *,
        expire_time: Literal[True],
        tag: Literal[True],
        retry: bool = False,
    ) -> tuple[Any, float | None, Tag]: ...
    @overload
    def peekitem(
        self: Any,
        last: bool = True,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any: ...
