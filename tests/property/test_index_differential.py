"""An `Index` does, step for step, what an `OrderedDict` does.

Property: after any sequence of operations through two objects on one directory, with keys and
values of all kinds, inline and in files, every result, every error and the order of entries are
those of an `OrderedDict`. What differs, and is left out or translated here:

1. `copy`, `move_to_end` and hashing of keys are not there: a copy would be ambiguous (another
   object or another directory?), an entry cannot move before all others, and keys are compared by
   their encoding. So lists and dicts may be keys, and `True` is another key than `1`.
2. Values are stored by value: what comes out is another object, and changing it changes nothing.
3. Changing an index while iterating over it raises no `RuntimeError`: other processes may do so at
   any time, so iteration goes on with what is there.
4. `update` is one step: if one of the pairs is none, nothing is stored, where a dict keeps those
   before it.
5. `|` takes any mapping, not only a dict, and makes an `Index` in a temporary directory.
6. `repr` shows the directory, not the entries: there may be millions.
"""

from __future__ import annotations

import operator
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
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

from diskcache import Cache, Index
from tests.support.leaks import assert_tidy
from tests.support.machines import run_with

LARGE = 400
"""Length from which values of these caches are files; a signed value is shorter."""


class Point:
    """A key, or a value, that has to be pickled and signed."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and self.x == other.x

    def __hash__(self) -> int:
        return hash(self.x)


KEYS = ["a", "b", "", b"a", 1, 2.5, (1, "x"), None, 2**70, frozenset("a"), Point(1), "k" * 900]
VALUES = [0, 1.5, None, "text", b"raw", [1, [2]], {"k": (1,)}, Point(2), "t" * LARGE, ["l"] * LARGE]

keys = st.sampled_from(KEYS)
values = st.sampled_from(VALUES)
pairs = st.lists(st.tuples(keys, values), max_size=5)
STEPS = run_with(100, 40)


def outcome(action: Any, target: Any, key: Any = None) -> Any:
    """Return what an action gives: a result and its type, or the class and key of its error."""
    try:
        result = action(target)
    except (KeyError, ValueError, TypeError) as error:
        # An OrderedDict unpacks a tuple that it does not find, and takes None for no argument.
        wanted = ((key,), key) if key is not None else ((None,), ())
        return type(error), type(error) is KeyError and error.args in wanted
    return type(result), result


class IndexMachine(RuleBasedStateMachine):
    """Two objects on one directory beside one model."""

    @initialize(start=st.lists(st.tuples(keys, values), max_size=12))
    def make(self, start: list[Any]) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="machine-"))
        self.model = OrderedDict(start)
        self.caches = [self.opened(), self.opened()]
        self.indexes = [Index.fromcache(cache) for cache in self.caches]
        self.indexes[0].update(start)
        self.at = 0

    def opened(self) -> Cache:
        return Cache(self.directory, eviction_policy="none", disk_min_file_size=LARGE)

    @property
    def index(self) -> Index:
        return self.indexes[self.at]

    def both(self, action: Any, key: Any = None) -> None:
        """Do the same to index and model; their results must be equal."""
        assert outcome(action, self.index, key) == outcome(action, self.model, key)

    @rule(at=st.integers(0, 1))
    def take_turns(self, at: int) -> None:
        self.at = at

    @rule(key=keys, value=values)
    def set(self, key: Any, value: Any) -> None:
        self.both(lambda d: operator.setitem(d, key, value))

    @rule(key=keys)
    def get(self, key: Any) -> None:
        self.both(lambda d: d[key], key)
        self.both(lambda d: d.get(key))
        self.both(lambda d: d.get(key, "default"))
        self.both(lambda d: key in d)

    @rule(key=keys)
    def delete(self, key: Any) -> None:
        self.both(lambda d: operator.delitem(d, key), key)

    @rule(key=keys, value=values)
    def setdefault(self, key: Any, value: Any) -> None:
        self.both(lambda d: d.setdefault(key, value))

    @rule(key=keys, default=st.lists(values, max_size=1))
    def pop(self, key: Any, default: list[Any]) -> None:
        self.both(lambda d: d.pop(key, *default), key)

    @rule(last=st.lists(st.booleans(), max_size=1), keyword=st.booleans())
    def popitem(self, last: list[bool], keyword: bool) -> None:
        if keyword and last:
            self.both(lambda d: d.popitem(last=last[0]))
        else:
            self.both(lambda d: d.popitem(*last))

    @rule(last=st.booleans())
    def peekitem(self, last: bool) -> None:
        if self.model:
            expected = list(self.model.items())[-1 if last else 0]

            assert self.index.peekitem(last) == expected

    @rule(entries=pairs, form=st.sampled_from([list, dict, OrderedDict, iter]))
    def update(self, entries: Any, form: Any) -> None:
        self.both(lambda d: d.update(form(entries), b="keyword"))

    @rule(entries=pairs, form=st.sampled_from([list, dict]))
    def update_in_place(self, entries: Any, form: Any) -> None:
        def add(d: Any) -> None:
            d |= form(entries)

        self.both(add)

    @rule()
    def update_by_itself(self) -> None:
        self.both(lambda d: d.update(d))

    @rule(entries=pairs, swapped=st.booleans())
    def unite(self, entries: Any, swapped: bool) -> None:
        other = dict(entries)
        found = other | self.index if swapped else self.index | other
        expected = other | self.model if swapped else self.model | other

        assert list(found.items()) == list(expected.items())
        found.cache.close()
        shutil.rmtree(found.directory)

    @rule(bad=st.sampled_from([[1], [(1, 2, 3)], 5, [("a", 1), "abc"]]))
    def update_by_what_is_no_mapping(self, bad: Any) -> None:
        before = list(self.index.items())

        assert outcome(lambda d: d.update(bad), self.index)[0] in (TypeError, ValueError)
        assert list(self.index.items()) == before

    @rule(really=st.integers(0, 9))
    def clear(self, really: int) -> None:
        if not really:
            self.both(lambda d: d.clear())

    @rule(others=st.sets(keys, max_size=5))
    def keys_are_a_set(self, others: Any) -> None:
        for combine in (operator.and_, operator.or_, operator.sub, operator.xor):
            self.both(lambda d, c=combine: set(c(d.keys(), others)))
            self.both(lambda d, c=combine: set(c(others, d.keys())))
        for compare in (operator.le, operator.lt, operator.eq, operator.ge):
            self.both(lambda d, c=compare: c(d.keys(), others))
        self.both(lambda d: d.keys().isdisjoint(others))

    @rule(key=keys, value=values)
    def views_tell_what_is_in_them(self, key: Any, value: Any) -> None:
        self.both(lambda d: key in d.keys())  # noqa: SIM118 - the view is the subject
        self.both(lambda d: value in d.values())
        self.both(lambda d: (key, value) in d.items())
        self.both(lambda d: (key, d.get(key)) in d.items())
        self.both(lambda d: key in d.items())
        self.both(lambda d: d.items() == dict(d).items())

    @rule(entries=pairs)
    def compare(self, entries: Any) -> None:
        turned = list(self.model.items())[::-1]
        for other in (entries, turned, list(self.model.items())):
            for form in (dict, OrderedDict, list):
                twin = form(other)
                self.both(lambda d, t=twin: d == t)
                self.both(lambda d, t=twin: t != d)

    @rule()
    def close(self) -> None:
        self.index.cache.close()

    @invariant()
    def holds_the_entries_of_the_model(self) -> None:
        if hasattr(self, "model"):
            index, expected = self.index, list(self.model.items())

            assert outcome(lambda d: list(d.items()), index) == (list, expected)
            assert list(index) == list(index.keys()) == [key for key, _ in expected]
            assert list(reversed(index)) == list(reversed(self.model))
            assert list(index.values()) == [value for _, value in expected]
            assert list(reversed(index.items())) == expected[::-1]
            assert list(reversed(index.values())) == [value for _, value in expected[::-1]]
            assert len(index) == len(index.keys()) == len(expected)
            assert bool(index) is bool(expected)
            assert isinstance(index, Mapping)

    def teardown(self) -> None:
        if not hasattr(self, "caches"):
            return
        findings = [str(found.message) for found in self.caches[0].check()]
        for cache in self.caches:
            cache.close()

        assert findings == []
        assert_tidy(self.directory)
        shutil.rmtree(self.directory)


def test_index_does_what_an_ordered_dict_does():
    run_state_machine_as_test(IndexMachine, settings=STEPS)
