"""What is worked on while processes are killed: a cache, shards, a deque, an index.

Each has a model, so that the parent knows what must be there without asking.
"""

from __future__ import annotations

import collections
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

from diskcache import Cache, Deque, FanoutCache, Index
from tests.crash import story

SHARDS = 3


class Scenario:
    """A cache, worked on by the operations of `story`."""

    name = "cache"
    empty: Any = MappingProxyType({})

    def open(self, directory: str) -> Any:
        return Cache(directory, timeout=20)

    def close(self, target: Any) -> None:
        target.close()

    def operations(self, seed: int) -> Iterator[Any]:
        return story.operations("a", seed)

    def perform(self, target: Any, operation: Any) -> None:
        story.perform(target, operation)

    def after(self, state: Any, operation: Any) -> Any:
        return story.after(state, operation)

    def content(self, target: Any) -> Any:
        missing = object()
        pairs = ((key, target.get(key, missing)) for key in list(target))
        return {key: value for key, value in pairs if value is not missing}

    def agrees(self, found: Any, expected: Any) -> bool:
        """Tell whether what was found is what must be there."""
        return bool(found == expected)

    def write_once(self, target: Any) -> None:
        """Write something, and undo it."""
        target["after"] = "the crash"
        assert target.pop("after") == "the crash"

    def parts(self, directory: Path) -> list[Path]:
        return [directory]


class Bounded(Scenario):
    """A cache that is full: what is found is what was stored last; what is missing was evicted."""

    name = "full cache"

    def open(self, directory: str) -> Any:
        return Cache(directory, timeout=20, size_limit=400_000, cull_limit=3)

    def operations(self, seed: int) -> Iterator[Any]:
        teller = story.Teller("a", seed)
        while True:
            key = f"a{teller.dice.randrange(200)}"
            yield "set", key, teller.value()
            if teller.dice.random() < 0.02:
                yield ("cull",)

    def agrees(self, found: Any, expected: Any) -> bool:
        return bool(found.items() <= expected.items())


class Shards(Scenario):
    """Three shards."""

    name = "shards"

    def open(self, directory: str) -> Any:
        return FanoutCache(directory, shards=SHARDS, timeout=20)

    def operations(self, seed: int) -> Iterator[Any]:
        kinds = {"set", "add", "touch", "delete", "pop", "incr"}
        return (each for each in story.operations("a", seed) if each[0] in kinds)

    def perform(self, target: Any, operation: Any) -> None:
        kind, *given = operation
        getattr(target, kind)(*given)

    def parts(self, directory: Path) -> list[Path]:
        return [directory / f"{number:03}" for number in range(SHARDS)]


class Steps(Scenario):
    """A structure, worked on by methods that its model has too."""

    def thoughts(self, dice: random.Random) -> dict[str, tuple[Any, ...]]:
        """Return the methods that may come next, with arguments."""
        raise NotImplementedError

    def operations(self, seed: int) -> Iterator[Any]:
        dice = random.Random(seed)
        while True:
            thoughts = self.thoughts(dice)
            name = dice.choice([*thoughts])
            yield name, *thoughts[name]

    def perform(self, target: Any, operation: Any) -> None:
        name, *given = operation
        # If it is empty, so is the model.
        with contextlib.suppress(IndexError, KeyError):
            getattr(target, name)(*given)

    def after(self, state: Any, operation: Any) -> Any:
        model = self.model(state)
        self.perform(model, operation)
        return self.plain(model)

    def model(self, state: Any) -> Any:
        raise NotImplementedError

    def plain(self, model: Any) -> Any:
        raise NotImplementedError

    def content(self, target: Any) -> Any:
        return self.plain(target)

    def agrees(self, found: Any, expected: Any) -> bool:
        return bool(found == self.plain(self.model(expected)))

    def close(self, target: Any) -> None:
        target.cache.close()


class Deques(Steps):
    """A deque."""

    name = "deque"
    empty: Any = ()

    def open(self, directory: str) -> Any:
        return Deque(directory=directory)

    def thoughts(self, dice: random.Random) -> dict[str, tuple[Any, ...]]:
        value = story.value_of(dice.randrange(10**6), dice.random() < 0.3)
        return {
            "append": (value,),
            "appendleft": (value,),
            "pop": (),
            "popleft": (),
            "rotate": (dice.choice([-2, -1, 1, 2]),),
            "__setitem__": (0, value),
            "__delitem__": (-1,),
        }

    def model(self, state: Any) -> Any:
        return collections.deque(state)

    def plain(self, model: Any) -> Any:
        return list(model)

    def write_once(self, target: Any) -> None:
        target.append("after")
        assert target.pop() == "after"


class Indexes(Steps):
    """An index."""

    name = "index"

    def open(self, directory: str) -> Any:
        return Index(directory)

    def thoughts(self, dice: random.Random) -> dict[str, tuple[Any, ...]]:
        key = f"a{dice.randrange(20)}"
        value = story.value_of(dice.randrange(10**6), dice.random() < 0.3)
        return {
            "__setitem__": (key, value),
            "setdefault": (key, value),
            "pop": (key,),
            "popitem": (),
            "__delitem__": (key,),
        }

    def model(self, state: Any) -> Any:
        return dict(state)

    def plain(self, model: Any) -> Any:
        return dict(model.items())


CACHE = Scenario()
ALL = (CACHE, Bounded(), Shards(), Deques(), Indexes())


def is_allowed(scenario: Scenario, found: Any, outcomes: list[Any]) -> bool:
    """Tell whether what was found is one of the outcomes."""
    return any(scenario.agrees(found, each) for each in outcomes)
