"""A `Deque` does, step for step, what a `collections.deque` does.

Property: after any sequence of operations through two objects on one directory, on items of all
kinds, inline and in files, every result, every error and the order of items are those of a
`collections.deque`. What differs, and is left out or translated here:

1. `maxlen` reads `inf`, not None, without a limit, and can be set: as in version 5.
2. `copy()` is a second object on the same directory: as in version 5.
3. Comparison with any sequence, a list for example, compares the items: as in version 5.
4. Items are stored by value: what comes out is another object, so a NaN is not found by identity.
5. Changing a deque while iterating over it raises no `RuntimeError`: other processes may do so
   at any time, so iteration goes on with what is there.
6. A failing item among those of a sized iterable leaves out the whole batch that it is in, not
   only itself and what follows: a batch is one transaction.
"""

from __future__ import annotations

import collections
import operator
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from diskcache import Cache, Deque
from tests.support.leaks import assert_tidy
from tests.support.machines import run_with

LARGE = 400
"""Length from which values of these caches are files; a signed item is shorter."""


class Point:
    """An item that has to be pickled, and so is signed for its key."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and self.x == other.x

    def __lt__(self, other: object) -> bool:
        return isinstance(other, Point) and self.x < other.x

    def __hash__(self) -> int:
        return hash(self.x)


ITEMS = [
    0, 1, 1.0, True, None, "a", "", b"a", (1, "x"), [1, [2]], {"k": None}, 2**70,
    "t" * LARGE, b"b" * LARGE, ["long"] * LARGE, Point(1), Point(2**300),
]  # fmt: skip
NUMBERS = [0, 1, 2, 3, 2.5, -1]

items = st.sampled_from(ITEMS)
lists = st.lists(items, max_size=6)
places = st.integers(-9, 9)
limits = st.none() | st.integers(8, 14) | st.sampled_from([None, None, 0, 1, 3])
STEPS = run_with(100, 40)


def outcome(action: Any, target: Any) -> Any:
    """Return what an action gives: a result and its type, or the class of its error."""
    try:
        result = action(target)
    except (IndexError, ValueError, TypeError) as error:
        return type(error)
    return type(result), result


class DequeMachine(RuleBasedStateMachine):
    """Two objects on one directory beside one model."""

    @initialize(maxlen=limits, start=st.lists(items, min_size=3, max_size=12))
    def make(self, maxlen: int | None, start: list[Any]) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="machine-"))
        self.model = collections.deque(start, maxlen)
        self.caches = [self.opened(), self.opened()]
        self.deques = [Deque.fromcache(cache, maxlen=maxlen) for cache in self.caches]
        self.deques[0].extend(start)
        self.at = 0

    def opened(self) -> Cache:
        return Cache(self.directory, eviction_policy="none", disk_min_file_size=LARGE)

    @property
    def deque(self) -> Deque:
        return self.deques[self.at]

    def both(self, action: Any) -> None:
        """Do the same to deque and model; their results must be equal."""
        found, expected = outcome(action, self.deque), outcome(action, self.model)

        assert found == expected

    @rule(at=st.integers(0, 1))
    def take_turns(self, at: int) -> None:
        self.at = at

    @rule(item=items, left=st.booleans())
    def append(self, item: Any, left: bool) -> None:
        self.both(lambda d: (d.appendleft if left else d.append)(item))

    @rule(left=st.booleans())
    def pop(self, left: bool) -> None:
        self.both(lambda d: (d.popleft if left else d.pop)())

    @rule(left=st.booleans())
    def peek(self, left: bool) -> None:
        found = outcome(lambda d: (d.peekleft if left else d.peek)(), self.deque)

        assert found == outcome(lambda d: d[0 if left else -1], self.model)

    @rule(values=lists, left=st.booleans(), lazy=st.booleans())
    def extend(self, values: list[Any], left: bool, lazy: bool) -> None:
        self.both(lambda d: (d.extendleft if left else d.extend)(iter(values) if lazy else values))

    @rule(left=st.booleans())
    def extend_by_itself(self, left: bool) -> None:
        if len(self.model) < 20:
            self.both(lambda d: (d.extendleft if left else d.extend)(d))

    @rule(values=lists)
    def extend_in_place(self, values: list[Any]) -> None:
        def add(d: Any) -> None:
            d += values

        self.both(add)

    @rule(times=st.integers(-1, 3))
    def repeat_in_place(self, times: int) -> None:
        def repeat(d: Any) -> None:
            d *= times

        if len(self.model) < 10:
            self.both(repeat)

    @rule(values=lists)
    def add(self, values: list[Any]) -> None:
        found = self.deque + collections.deque(values)

        assert list(found) == list(self.model + collections.deque(values))
        self.discard(found)

    @rule(times=st.integers(-1, 2))
    def multiply(self, times: int) -> None:
        found = times * self.deque

        assert list(found) == list(self.model * times)
        self.discard(found)

    def discard(self, made: Deque) -> None:
        made.cache.close()
        shutil.rmtree(made.directory)

    @rule(place=places)
    def get(self, place: int) -> None:
        self.both(lambda d: d[place])

    @rule(place=places, item=items)
    def set(self, place: int, item: Any) -> None:
        self.both(lambda d: operator.setitem(d, place, item))

    @rule(place=places)
    def delete(self, place: int) -> None:
        self.both(lambda d: operator.delitem(d, place))

    @rule(place=places, item=items)
    def insert(self, place: int, item: Any) -> None:
        self.both(lambda d: d.insert(place, item))

    @rule(steps=st.integers(-15, 15) | st.booleans())
    def rotate(self, steps: int) -> None:
        self.both(lambda d: d.rotate(steps))

    @rule()
    def reverse(self) -> None:
        self.both(lambda d: d.reverse())

    @rule(item=items)
    def look_for(self, item: Any) -> None:
        self.both(lambda d: item in d)
        self.both(lambda d: d.count(item))

    @rule(item=items, bounds=st.lists(places, max_size=2))
    def index(self, item: Any, bounds: list[int]) -> None:
        self.both(lambda d: d.index(item, *bounds))

    @rule(item=items)
    def remove(self, item: Any) -> None:
        self.both(lambda d: d.remove(item))

    @rule(really=st.integers(0, 9))
    def clear(self, really: int) -> None:
        if not really:
            self.both(lambda d: d.clear())

    @rule(maxlen=limits)
    def limit(self, maxlen: int | None) -> None:
        for deque in self.deques:
            deque.maxlen = maxlen
        # The model's limit is fixed; a new one keeps the right end, as the setter does.
        self.model = collections.deque(self.model, maxlen)

    @rule(numbers=st.lists(st.sampled_from(NUMBERS), max_size=4), others=lists)
    def compare(self, numbers: list[Any], others: list[Any]) -> None:
        for values in (numbers, others, list(self.model)):
            twin = collections.deque(values)
            for compare in (operator.eq, operator.ne, operator.lt, operator.ge):
                found = outcome(lambda d, c=compare, t=twin: c(d, t), self.deque)

                assert found == outcome(lambda d, c=compare, t=twin: c(d, t), self.model)

    @rule(bad=st.sampled_from([slice(1), "1", 1.0, None]))
    def places_that_are_no_numbers(self, bad: Any) -> None:
        self.both(lambda d: d[bad])
        self.both(lambda d: operator.delitem(d, bad))
        self.both(lambda d: d.rotate(bad))

    @rule()
    def close(self) -> None:
        self.deque.cache.close()

    @invariant()
    def holds_the_items_of_the_model(self) -> None:
        if hasattr(self, "model"):
            expected = list(self.model)

            assert outcome(list, self.deque) == (list, expected)
            assert [type(item) for item in self.deque] == [type(item) for item in expected]
            assert list(reversed(self.deque)) == expected[::-1]
            assert len(self.deque) == len(expected)
            assert bool(self.deque) is bool(expected)

    def teardown(self) -> None:
        if not hasattr(self, "caches"):
            return
        findings = [str(found.message) for found in self.caches[0].check()]
        for cache in self.caches:
            cache.close()

        assert findings == []
        assert_tidy(self.directory)
        shutil.rmtree(self.directory)


def test_deque_does_what_a_collections_deque_does():
    run_state_machine_as_test(DequeMachine, settings=STEPS)
