"""Coroutine functions that do what a method does, in a thread: the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

in_thread: Final = asyncio.to_thread


def off_loop(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Return the asynchronous counterpart of a method: `aget` for `get`, with its parameters.

    It calls the method by its name, so that one that a subclass overrides is called. If the caller
    is cancelled, the thread still comes to its end.
    """
    name = method.__name__

    async def counterpart(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = await in_thread(getattr(self, name), *args, **kwargs)
        return result

    functools.update_wrapper(counterpart, method)
    counterpart.__name__ = f"a{name}"
    counterpart.__qualname__ = f"{method.__qualname__.rpartition('.')[0]}.a{name}".lstrip(".")
    counterpart.__doc__ = f"Do `{name}` in a thread; see there."
    return counterpart
