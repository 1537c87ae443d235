"""Python's own tests of `collections.deque` pass for a `Deque`, but for a list with reasons.

They are given a class whose second argument is `maxlen`, and whose `maxlen` reads None without a
limit, as that of a `collections.deque`: this difference is known, and would hide all others.
"""

from __future__ import annotations

import unittest
from typing import Any

import pytest

from diskcache import Cache, Deque
from tests.support.optional import skip_or_fail

try:
    from test import test_deque as python
except ImportError:
    python = None  # type: ignore[assignment]

ROUNDS = 1_100
"""How long the longest of Python's deques here are, instead of 100,000."""

_COPY = "what comes out is a copy of what went in, so it is neither the same object nor shared"
_LOCAL = "its items cannot be pickled: they are instances of local classes"
_MUTATE = "changing a deque while it is looked through is no error: other processes may, any time"
_SAME = "copy() and copy.copy() give a second object on the same directory"
_ITERATOR = "iterators read a directory: they are generators, which cannot be made or pickled"

NOT_FOR_DEQUES = {
    "TestBasic.test_comparisons": "it equals every sequence of equal items, a list for example",
    "TestBasic.test_container_iterator": _LOCAL,
    "TestBasic.test_contains": _MUTATE,
    "TestBasic.test_contains_count_index_stop_crashes": _LOCAL,
    "TestBasic.test_contains_count_stop_crashes": _LOCAL,
    "TestBasic.test_copy": _COPY,
    "TestBasic.test_count": _LOCAL,
    "TestBasic.test_deepcopy": _SAME,
    "TestBasic.test_index": _MUTATE,
    "TestBasic.test_iterator_pickle": _ITERATOR,
    "TestBasic.test_maxlen": "it shows its directory, not its items",
    "TestBasic.test_maxlen_attribute": "maxlen can be set",
    "TestBasic.test_pickle_recursive": "a deque inside a deque is a copy of it",
    "TestBasic.test_remove": _COPY,
    "TestBasic.test_repr": "it shows its directory, not its items",
    "TestBasic.test_reversed_new": _ITERATOR,
    "TestBasic.test_sizeof": "its items are not in memory",
    "TestSequence.test_contains_fake": _COPY,
    "TestSequence.test_contains_order": _LOCAL,
    "TestSequence.test_count": _COPY,
    "TestSequence.test_index": _COPY,
    "TestVariousIteratorArgs.test_iter_with_altered_data": _MUTATE,
    "TestVariousIteratorArgs.test_runtime_error_on_empty_deque": _MUTATE,
}
"""Tests of Python that a `Deque` does not pass, each with the reason."""

RENAMED = {
    "TestBasic.test_contains_count_stop_crashes": "TestBasic.test_contains_count_index_stop_crashes"
}
"""Names that depend on the version of Python."""

TOO_SLOW = {
    "TestBasic.test_delitem",
    "TestBasic.test_gc_doesnt_blowup",
    "TestBasic.test_getitem",
    "TestBasic.test_imul",
    "TestBasic.test_mul",
    "TestBasic.test_reverse",
    "TestSequence.test_repeat",
}
"""Tests that are left out: they take seconds, for what the comparison with a model looks at too."""


class Shaped(Deque):
    """A deque that is made and asked as one of Python's, and is closed at the end of the test."""

    made: list[Cache] = []  # noqa: RUF012 - one list for all is the purpose

    def __init__(self, iterable: Any = (), maxlen: Any = None) -> None:
        super().__init__(iterable, maxlen=maxlen)

    def _attach(self, cache: Cache, maxlen: float) -> None:
        super()._attach(cache, maxlen)
        Shaped.made.append(cache)

    @property
    def maxlen(self) -> Any:
        return None if self._maxlen == float("inf") else self._maxlen

    @maxlen.setter
    def maxlen(self, value: Any) -> None:
        Deque.maxlen.fset(self, value)


def names() -> list[str]:
    kinds = ["TestBasic", "TestVariousIteratorArgs", "TestSequence"] if python else []
    return [
        f"{kind}.{name}"
        for kind in kinds
        for name in unittest.defaultTestLoader.getTestCaseNames(getattr(python, kind))
    ]


def run(name: str) -> unittest.TestResult:
    kind, _, method = name.partition(".")
    tests = type(kind, (getattr(python, kind),), {"type2test": Shaped})
    result = unittest.TestResult()
    tests(method).run(result)
    return result


@pytest.fixture(autouse=True)
def shaped(monkeypatch, tmp_path):
    """Let Python's module make deques of this library, below a directory of the test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(python, "deque", Shaped)
    monkeypatch.setattr(python, "BIG", ROUNDS)
    yield
    while Shaped.made:
        Shaped.made.pop().close()


def test_python_has_them():
    if python is None:
        skip_or_fail("this Python comes without its tests")
    there = set(names())
    assert there > (set(NOT_FOR_DEQUES) | TOO_SLOW) - set(RENAMED) - set(RENAMED.values())
    assert all((old in there) is not (new in there) for old, new in RENAMED.items())


@pytest.mark.parametrize("name", sorted(set(names()) - set(NOT_FOR_DEQUES) - TOO_SLOW))
def test_passes(name):
    result = run(name)

    assert result.testsRun == 1
    assert [text for _, text in result.errors + result.failures] == []


@pytest.mark.parametrize("name", sorted(set(names()) & set(NOT_FOR_DEQUES)))
def test_does_not_pass_for_the_reason_given(name):
    result = run(name)

    assert len(result.errors + result.failures) == 1
