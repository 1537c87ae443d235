"""What a process that will be killed does, and what may be left of it.

A story is a sequence of operations that follows from a seed, so that the parent knows it without
being told: the child only says how far it has come. What it said it had done must be there; the
one operation that it was at may have happened or not; nothing else may have changed.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from typing import Any

from diskcache import Cache

LARGE = 40_000
KEYS = 12

State = dict[Any, Any]
Operation = tuple[Any, ...]


def value_of(token: int, is_large: bool) -> Any:
    """Return a value that cannot be taken for another one, in a file or not."""
    return f"{token}:".encode() + b"x" * (LARGE + token % 1000) if is_large else [token, "small"]


def operations(name: str, seed: int) -> Iterator[Operation]:
    """Yield the operations of a process called *name*; it uses no keys but its own."""
    dice = random.Random(f"{name}{seed}")
    token = seed * 1_000_000

    def pair() -> tuple[str, Any]:
        nonlocal token
        token += 1
        return f"{name}{dice.randrange(KEYS)}", value_of(token, dice.random() < 0.5)

    while True:
        kind = dice.choices(
            ["set", "delete", "incr", "push", "pull", "set_many", "transact", "pop", "undone"],
            [8, 2, 2, 2, 1, 1, 3, 1, 1],
        )[0]
        if kind == "set":
            yield kind, *pair()
        elif kind in {"delete", "pop"}:
            yield kind, pair()[0]
        elif kind == "incr":
            yield kind, f"{name}-n"
        elif kind == "push":
            yield kind, f"{name}-q", pair()[1]
        elif kind == "pull":
            yield kind, f"{name}-q"
        else:
            yield kind, dict(pair() for _ in range(dice.randrange(1, 6)))


class Undone(Exception):  # noqa: N818 - it is a signal
    """Leaves a transaction."""


def perform(cache: Cache, operation: Operation) -> None:
    """Do *operation*."""
    kind, *given = operation
    if kind == "push":
        cache.push(given[1], prefix=given[0])
    elif kind == "pull":
        cache.pull(prefix=given[0])
    elif kind == "transact":
        with cache.transact():
            for key, value in given[0].items():
                cache.delete(key)
                cache[key] = value
    elif kind == "undone":
        try:
            with cache.transact():
                for key, value in given[0].items():
                    cache[key] = value
                raise Undone
        except Undone:
            pass
    else:
        getattr(cache, kind)(*given)


def after(state: State, operation: Operation) -> State:
    """Return what *operation* makes of *state*."""
    kind, *given = operation
    if kind in {"push", "pull"}:
        return _after_queue(state, operation)
    state = dict(state)
    if kind == "set":
        state[given[0]] = given[1]
    elif kind in {"delete", "pop"}:
        state.pop(given[0], None)
    elif kind == "incr":
        state[given[0]] = state.get(given[0], 0) + 1
    elif kind in {"transact", "set_many"}:
        state.update(given[0])
    return state


def _after_queue(state: State, operation: Operation) -> State:
    prefix = operation[1]
    queue = sorted(key for key in state if key.startswith(prefix))
    if operation[0] == "push":
        number = int(queue[-1][-15:]) + 1 if queue else 500_000_000_000_000
        return {**state, f"{prefix}-{number:015d}": operation[2]}
    return {key: value for key, value in state.items() if key not in queue[:1]}


def die() -> None:
    """End this process as if its power had failed, but for what it gave the system."""
    os.kill(os.getpid(), signal.SIGKILL)


def child(
    directory: str,
    story: Iterator[Operation],
    report: int,
    prepare: Callable[[], None],
) -> None:
    """Open the cache and tell *story*, reporting each step, until the process is killed."""
    prepare()
    cache = Cache(directory)
    os.write(report, b"o")
    for operation in story:
        os.write(report, b"b")
        perform(cache, operation)
        os.write(report, b"e")
