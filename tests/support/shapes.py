"""Classes that tests register; importable, so that other processes find them."""

from __future__ import annotations

import enum
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from diskcache import register, unregister


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 - an alias
    BLUE = ("b", 2)


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Size(enum.IntEnum):
    SMALL = 1


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - this kind is stored too


class Place(NamedTuple):
    name: str
    floor: int = 0


@dataclass(frozen=True)
class Order:
    number: int
    parts: Any = ()
    note: str = field(default="", compare=False)


@dataclass
class Counted:
    name: str
    length: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.length = len(self.name)


class Money:
    """A class of no known kind."""

    def __init__(self, cents: int) -> None:
        if type(cents) is not int:
            raise TypeError(f"cents must be an int: got {cents!r}")
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    def __hash__(self) -> int:
        return hash(self.cents)


def money_state(money: Money) -> int:
    return money.cents


def register_money(name: str = "money") -> None:
    register(Money, money_state, Money, name=name)


@contextmanager
def registered(*kinds: type[Any]) -> Iterator[None]:
    """Register types while the block runs."""
    for kind in kinds:
        register(kind)
    try:
        yield
    finally:
        for kind in kinds:
            unregister(kind)
