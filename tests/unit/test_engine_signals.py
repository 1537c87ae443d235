"""A signal handler that raises, at any point of an operation, leaves nothing behind.

The interpreter runs signal handlers when a function begins and when a call of a C function ends.
A profile function sees exactly these moments, so each operation is run again and again, and
interrupted at the first of them, at the second, and so on, until it ends by itself.
"""

from __future__ import annotations

import fcntl
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Self

import pytest

from diskcache import Cache
from diskcache.engines.sqlite.gate import Gate
from diskcache.errors import GateError, Timeout, TransactionError

# What is raised in the end of an object is swallowed by the interpreter.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MOMENTS = frozenset({"call", "c_return"})
LARGE = b"x" * 40_000


class Interrupted(BaseException):
    """What the signal handler raises."""


class InterruptedLikeAnError(Exception):
    """What a signal handler that limits time raises."""


class Alarm:
    """Raises an exception at one moment of everything that runs in the block."""

    def __init__(self, moment: int, exception: type[BaseException]) -> None:
        self.left = moment
        self.exception = exception

    def __enter__(self) -> Self:
        sys.setprofile(self.look)
        return self

    def look(self, _frame: Any, event: str, _argument: object) -> None:
        if event in MOMENTS:
            self.left -= 1
            if self.left < 0:
                sys.setprofile(None)
                raise self.exception

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    @property
    def is_due(self) -> bool:
        """Whether the operation ended before the moment came."""
        return self.left >= 0


def transact(cache):
    with cache.transact():
        cache["in-block"] = 1
        cache["large-in-block"] = LARGE
        with cache.transact():
            cache.delete("small")
        cache.get("large")


def reopen(cache):
    cache.close()
    cache.get("small")


def swallow(cache):
    """Go on with a transaction after an interrupt of one of its operations."""
    # An interrupt of what stores earlier writes breaks the transaction, which then says so.
    with suppress(TransactionError), cache.transact():
        cache["before"] = 1
        with suppress(Interrupted, InterruptedLikeAnError):
            cache["large"] = LARGE + b"y"
            cache.delete("other-large")
        cache["after"] = 1


OPERATIONS: dict[str, Callable[[Any], object]] = {
    "set": lambda cache: cache.set("small", 2),
    "set-new": lambda cache: cache.set("new", 1, expire=5, tag="t"),
    "set-large": lambda cache: cache.set("large", LARGE + b"y"),
    "set-stream": lambda cache: cache.set("stream", io.BytesIO(LARGE), read=True),
    "set-expired": lambda cache: cache.set("expired", 1, expire=-1),
    "add": lambda cache: cache.add("added", LARGE),
    "get": lambda cache: cache.get("small"),
    "get-large": lambda cache: cache.get("large"),
    "contains": lambda cache: "small" in cache,
    "delete": lambda cache: cache.delete("small"),
    "delete-large": lambda cache: cache.delete("large"),
    "incr": lambda cache: cache.incr("small"),
    "incr-new": lambda cache: cache.incr("number"),
    "pop": lambda cache: cache.pop("large"),
    "touch": lambda cache: cache.touch("small", 10),
    "push": lambda cache: cache.push(LARGE),
    "pull": lambda cache: cache.pull(),
    "peekitem": lambda cache: cache.peekitem(),
    "get_many": lambda cache: cache.get_many(["small", "large"]),
    "set_many": lambda cache: cache.set_many({"small": 3, "large": LARGE, "more": 1}),
    "delete_many": lambda cache: cache.delete_many(["small", "large"]),
    "iterate": lambda cache: list(cache),
    "clear": lambda cache: cache.clear(),
    "check": lambda cache: cache.check(fix=True),
    "reset": lambda cache: cache.reset("cull_limit", 5),
    "transact": transact,
    "swallow": swallow,
}


@pytest.fixture
def cache(directory, clock) -> Iterator[Cache]:
    """A cache that may leak a descriptor: nobody can close what an interrupt kept `open` from
    returning."""
    cache = Cache(directory, clock=clock)
    fill(cache)
    yield cache
    cache.close()


def fill(cache):
    cache.set_many({"small": 1, "large": LARGE, "other-large": LARGE})


def interrupt(cache, operation, moment, exception):
    """Run *operation*, interrupted at a moment; tell whether it came to its end before."""
    alarm = Alarm(moment, exception)
    try:
        with alarm:
            operation(cache)
    except exception:
        pass
    return alarm.is_due


def is_gate_free(cache):
    """Tell whether another process could write."""
    with open(os.path.join(cache.directory, "gate.lock"), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def set_from_another_thread(cache):
    results = []
    thread = threading.Thread(
        target=lambda: (results.append(cache.set("other", 1)), cache.delete("other"), cache.close())
    )
    thread.start()
    thread.join(60)
    return results


def faults(cache):
    """Return what is wrong after an interrupt."""
    engine = cache._engine
    link = engine._local.link
    found = []
    if engine.in_transaction():
        found.append("in a transaction")
    if link is not None and not link.is_closed and link.con.in_transaction:
        found.append("the connection is in a transaction")
    if not is_gate_free(cache):
        found.append("the gate is locked")
    if len(cache) != len(list(cache)):
        found.append("the count is wrong")
    found += [str(each.message) for each in cache.check() if "empty directory" not in str(each)]
    return found


@pytest.mark.parametrize("exception", [Interrupted, InterruptedLikeAnError])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_interrupt_at_any_moment_leaves_nothing_behind(cache, name, exception):
    wrong = {}
    moment, is_over = 0, False
    while not is_over:
        is_over = interrupt(cache, OPERATIONS[name], moment, exception)
        found = faults(cache)
        if found:
            wrong[moment] = found
            break
        fill(cache)
        moment += 1

    assert wrong == {}
    assert moment > 5
    assert set_from_another_thread(cache) == [True]


def test_an_interrupt_while_a_cache_is_opened_or_closed_leaves_it_usable(cache):
    moment, is_over = 0, False
    while not is_over:
        is_over = interrupt(cache, reopen, moment, Interrupted)

        assert cache.get("small") == 1
        assert is_gate_free(cache)
        moment += 1

    assert moment > 50
    assert set_from_another_thread(cache) == [True]


def test_a_thread_that_does_not_get_the_gate_gives_back_nothing(tmp_path, clock):
    descriptor = os.open(tmp_path / "gate", os.O_RDWR | os.O_CREAT)
    gate = Gate(descriptor, clock)
    gate.acquire(None, "mine")
    refusals = []

    def refuse():
        try:
            gate.acquire(0, "other")
        except Timeout as exc:
            refusals.append(exc)
        gate.release("other")

    thread = threading.Thread(target=refuse)
    thread.start()
    thread.join()
    with pytest.raises(GateError):
        gate.acquire(0, "another object of this thread")

    assert len(refusals) == 1
    assert gate.is_mine
    gate.release("mine")
    gate.release("mine")
    assert not gate.is_mine
    gate.close()
