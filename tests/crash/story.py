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
from typing import Any, NamedTuple

from diskcache import Cache

LARGE = 40_000
KEYS = 12

State = dict[Any, Any]
Operation = tuple[Any, ...]


def value_of(token: int, is_large: bool) -> Any:
    """Return a value that cannot be taken for another one, in a file or not."""
    return f"{token}:".encode() + b"x" * (LARGE + token % 1000) if is_large else [token, "small"]


class Undone(Exception):  # noqa: N818 - it is a signal
    """Leaves a transaction."""


class Teller:
    """Thinks of the arguments of operations, for a process called *name*."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.dice = random.Random(f"{name}{seed}")
        self._token = seed * 1_000_000

    def value(self) -> Any:
        self._token += 1
        return value_of(self._token, self.dice.random() < 0.5)

    def key(self) -> str:
        return f"{self.name}{self.dice.randrange(KEYS)}"

    def pair(self) -> tuple[str, Any]:
        return self.key(), self.value()

    def tagged(self) -> tuple[str, Any]:
        return f"{self.name}-t{self.dice.randrange(KEYS)}", self.value()

    def pairs(self) -> tuple[dict[str, Any]]:
        return (dict(self.pair() for _ in range(self.dice.randrange(1, 6))),)


class Kind(NamedTuple):
    """One kind of operation."""

    weight: int
    think: Callable[[Teller], tuple[Any, ...]]
    """Returns the arguments."""
    act: Callable[..., Any]
    """Does it: takes a cache and the arguments."""
    effect: Callable[..., State]
    """Takes a state of the cache and the arguments, and returns the next state."""


def _key(teller: Teller) -> tuple[str]:
    return (teller.key(),)


def _without(state: State, key: str, *_: Any) -> State:
    return {name: value for name, value in state.items() if name != key}


def _with(state: State, key: str, value: Any) -> State:
    return {**state, key: value}


def _transact(cache: Cache, items: dict[str, Any]) -> None:
    with cache.transact():
        for key, value in items.items():
            cache.delete(key)
            cache[key] = value


def _undone(cache: Cache, items: dict[str, Any]) -> None:
    try:
        with cache.transact():
            for key, value in items.items():
                cache[key] = value
            raise Undone
    except Undone:
        pass


def _pushed(state: State, prefix: str, value: Any) -> State:
    queue = sorted(key for key in state if key.startswith(prefix))
    number = int(queue[-1][-15:]) + 1 if queue else 500_000_000_000_000
    return {**state, f"{prefix}-{number:015d}": value}


def _pulled(state: State, prefix: str) -> State:
    queue = sorted(key for key in state if key.startswith(prefix))
    return {key: value for key, value in state.items() if key not in queue[:1]}


def _evicted(state: State, tag: str) -> State:
    return {key: value for key, value in state.items() if not key.startswith(tag)}


def _nothing(state: State, *_: Any) -> State:
    return state


def _merged(state: State, items: dict[str, Any]) -> State:
    return {**state, **items}


KINDS: dict[str, Kind] = {
    "set": Kind(8, Teller.pair, Cache.set, _with),
    "add": Kind(1, Teller.pair, Cache.add, lambda state, key, value: {key: value, **state}),
    "touch": Kind(1, _key, Cache.touch, _nothing),
    "delete": Kind(2, _key, Cache.delete, _without),
    "pop": Kind(1, _key, Cache.pop, _without),
    "incr": Kind(
        2,
        lambda teller: (f"{teller.name}-n",),
        Cache.incr,
        lambda state, key: {**state, key: state.get(key, 0) + 1},
    ),
    "push": Kind(
        2,
        lambda teller: (f"{teller.name}-q", teller.value()),
        lambda cache, prefix, value: cache.push(value, prefix=prefix),
        _pushed,
    ),
    "pull": Kind(
        1,
        lambda teller: (f"{teller.name}-q",),
        lambda cache, prefix: cache.pull(prefix=prefix),
        _pulled,
    ),
    "set_many": Kind(1, Teller.pairs, Cache.set_many, _merged),
    "transact": Kind(3, Teller.pairs, _transact, _merged),
    "undone": Kind(1, Teller.pairs, _undone, _nothing),
    "tagged": Kind(
        3,
        Teller.tagged,
        lambda cache, key, value: cache.set(key, value, tag=key.rstrip("0123456789")),
        _with,
    ),
    "evict": Kind(1, lambda teller: (f"{teller.name}-t",), Cache.evict, _evicted),
    "short": Kind(
        1,
        Teller.pair,
        lambda cache, key, value: cache.set(key, value, expire=-1),
        _without,
    ),
    "expire": Kind(1, lambda _: (), Cache.expire, _nothing),
    "cull": Kind(1, lambda _: (), Cache.cull, _nothing),
    "clear": Kind(0, lambda _: (), Cache.clear, lambda _: {}),
}


def operations(name: str, seed: int) -> Iterator[Operation]:
    """Yield the operations of a process called *name*; it uses no keys but its own."""
    teller = Teller(name, seed)
    weights = [kind.weight for kind in KINDS.values()]
    while True:
        (chosen,) = teller.dice.choices([*KINDS], weights)
        yield chosen, *KINDS[chosen].think(teller)


def perform(cache: Cache, operation: Operation) -> None:
    """Do *operation*."""
    kind, *given = operation
    KINDS[kind].act(cache, *given)


def after(state: State, operation: Operation) -> State:
    """Return what *operation* makes of *state*."""
    kind, *given = operation
    return KINDS[kind].effect(state, *given)


def die() -> None:
    """End this process as if its power had failed, but for what it gave the system."""
    os.kill(os.getpid(), signal.SIGKILL)
