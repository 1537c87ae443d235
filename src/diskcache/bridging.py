"""Functions that wait, called by a task of an event loop: where they wait, the task awaits.

Implementation note.

A *bridged* call is an ordinary function in a greenlet of its own. Where it has to wait for a server
it calls `wait` with an awaitable: that switches back to the task, which awaits it as any coroutine
would, and then goes on with the function. So one text of the engine on a server serves threads and
tasks: no thread is used, and a task that is cancelled has `CancelledError` raised where the
function waits. Outside of a bridged call nothing here costs more than one look at a variable.

*Locks* of `threading` must not be held while a bridged call waits: another task of its thread would
wait for them for ever.

*State of a thread*, a `threading.local`, is seen by all tasks of its thread. What a call has
changed there and not yet changed back is put away while it waits: `keep`.

*The end.* A task that is destroyed raises `GeneratorExit` where its function waits, and again
wherever that waits once more: nobody is left to await anything.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")


IDLE: Final = 128
"""Greenlets of a thread that are kept for later calls."""


class _Here(threading.local):
    call: _Call | None = None
    """The bridged call whose function runs in this thread just now."""

    def __init__(self) -> None:
        self.stages: list[_Stage] = []
        """Greenlets that wait for a call."""


here: Final = _Here()

_library: list[Any] = []
"""The package greenlet, once it was asked for; None if it is not there."""


def _loaded() -> Any:
    if not _library:
        try:
            import greenlet
        except ModuleNotFoundError:
            _library.append(None)
        else:
            _library.append(greenlet)
    return _library[0]


def is_possible() -> bool:
    """Tell whether calls can be bridged: whether the package greenlet is there."""
    return _loaded() is not None


class _Stage:
    """A greenlet in which one function after the other runs.

    A new one takes eight microseconds, most of them for memory that it gets from the system.
    """

    __slots__ = ("greenlet",)

    def __init__(self) -> None:
        self.greenlet = _loaded().greenlet(_play)
        self.greenlet.switch()


def _play() -> None:
    getcurrent = _loaded().getcurrent
    while True:
        # Nothing here may refer to a call that is over, nor to this greenlet.
        getcurrent().parent.switch().play()


class _Call:
    """A function that a task runs, between two moments at which it waits."""

    __slots__ = ("_function", "_is_closing", "error", "is_over", "keeps", "result", "stage")

    def __init__(self, function: Callable[[], Any]) -> None:
        stages = here.stages
        self.stage = stages.pop() if stages else _Stage()
        self._function = function
        self._is_closing = self.is_over = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.keeps: list[tuple[threading.local, dict[str, Any]]] = []
        """What it has changed of its thread, and how that was before."""

    # -- In the task --

    def begin(self) -> Any:
        """Run the function up to the first awaitable, and return that."""
        greenlet = self.stage.greenlet
        greenlet.parent = _loaded().getcurrent()
        greenlet.gr_context = copy_context()
        before, here.call = here.call, self
        try:
            return greenlet.switch(self)
        finally:
            here.call = before

    def run(self, answer: Any) -> Any:
        """Go on with an answer; return the next awaitable."""
        before, here.call = here.call, self
        try:
            return self.stage.greenlet.switch(answer)
        finally:
            here.call = before

    def fail(self, error: BaseException) -> Any:
        """Go on with an error; return the next awaitable."""
        before, here.call = here.call, self
        try:
            return self.stage.greenlet.throw(error)
        finally:
            here.call = before

    def close(self) -> None:
        """Let the function end where it waits: the task is no more."""
        self._is_closing = True
        # It may be another thread that collects the garbage: then the function just ends.
        with suppress(_loaded().error, ValueError):
            # Garbage may be collected in the middle of another call: that goes on afterwards.
            self.stage.greenlet.parent = _loaded().getcurrent()
            self.fail(GeneratorExit())
            self.end()

    def end(self) -> None:
        """Have the greenlet serve another call of this thread."""
        stages = here.stages
        if len(stages) < IDLE:
            stages.append(self.stage)

    def outcome(self) -> Any:
        """Return what came of the function, or raise it."""
        if self.error is None:
            return self.result
        try:
            raise self.error
        finally:
            # The traceback refers to this frame.
            self.error = None

    # -- In the function --

    def play(self) -> None:
        """Run the function to its end."""
        with self:
            self.result = self._function()
        self.is_over = True

    def __enter__(self) -> None:
        """Note an error that the block raises: it is for somebody else."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.error = error
        return True

    def ask(self, awaitable: Awaitable[T]) -> T:
        """Have the task await something."""
        if self._is_closing:
            close = getattr(awaitable, "close", None)
            if close is not None:
                close()
            raise GeneratorExit
        answer: T = self.stage.greenlet.parent.switch(awaitable)
        return answer


async def bridged(function: Callable[..., T], /, *args: Any, **keywords: Any) -> T:
    """Call a function; where it waits by `wait`, the task awaits.

    `is_possible` must have said so.
    """
    call = _Call(partial(function, *args, **keywords))
    asked = call.begin()
    while not call.is_over:
        with call:
            answer = await asked
        error, call.error = call.error, None
        if error is None:
            asked = call.run(answer)
        elif isinstance(error, GeneratorExit):
            call.close()
            raise error
        else:
            asked = call.fail(error)
        # The traceback refers to this frame.
        error = None
    call.end()
    result: T = call.outcome()
    return result


def wait(awaitable: Awaitable[T]) -> T:
    """Return what comes of an awaitable. Only for functions in a bridged call."""
    call = here.call
    if call is None:
        raise RuntimeError("only a bridged call can wait for an awaitable")
    keeps = call.keeps
    if not keeps:
        return call.ask(awaitable)
    inside = [(local, dict(vars(local))) for local, _ in keeps]
    for local, before in reversed(keeps):
        _put(local, before)
    try:
        return call.ask(awaitable)
    finally:
        for local, state in inside:
            _put(local, state)


def _put(local: threading.local, state: dict[str, Any]) -> None:
    found = vars(local)
    found.clear()
    found.update(state)


def keep(local: threading.local) -> None:
    """Have what is changed of *local* from now on put away while this bridged call waits."""
    if here.call is not None:
        here.call.keeps.append((local, dict(vars(local))))


def drop(local: threading.local) -> None:
    """Undo the latest `keep` of *local*: it is again as it was."""
    call = here.call
    if call is not None:
        for at in range(len(call.keeps) - 1, -1, -1):
            if call.keeps[at][0] is local:
                del call.keeps[at]
                return


@contextmanager
def keeping(local: threading.local) -> Iterator[None]:
    """Return a block of `keep` and `drop`; elsewhere than in a bridged call it does nothing."""
    keep(local)
    try:
        yield
    finally:
        drop(local)
