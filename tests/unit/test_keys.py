"""Keys that the library makes itself."""

from __future__ import annotations

import pytest

from diskcache.keys import (
    QUEUE_START,
    args_to_key,
    full_name,
    queue_bounds,
    queue_key,
    queue_number,
)


@pytest.mark.parametrize(
    ("args", "kwargs", "typed", "ignore", "expected"),
    [
        ((), {}, False, (), ("f", None)),
        ((1, "a"), {}, False, (), ("f", 1, "a", None)),
        ((), {"b": 2, "a": 1}, False, (), ("f", None, "a", 1, "b", 2)),
        ((1,), {"a": 2}, False, (), ("f", 1, None, "a", 2)),
        ((1, 2.0), {"a": "x"}, True, (), ("f", 1, 2.0, None, "a", "x", int, float, str)),
        ((1, 2, 3), {}, False, {1}, ("f", 1, 3, None)),
        ((1, 2, 3), {}, False, [0, 2], ("f", 2, None)),
        ((1,), {"a": 2, "b": 3}, False, {"a"}, ("f", 1, None, "b", 3)),
        ((1,), {"a": 2}, False, {0, "a"}, ("f", None)),
        ((1, 2), {"a": 3, "b": 4.0}, True, {0, "a"}, ("f", 2, None, "b", 4.0, int, float)),
        (([1],), {"a": {2}}, False, (), ("f", [1], None, "a", {2})),
        ((), {}, True, (), ("f", None)),
    ],
)
def test_args_to_key_is_base_positions_none_and_sorted_names(args, kwargs, typed, ignore, expected):
    assert args_to_key(("f",), args, kwargs, typed, ignore) == expected


def test_args_to_key_keeps_a_longer_base():
    assert args_to_key(("f", 7), (1,), {}, False, ()) == ("f", 7, 1, None)


def test_args_to_key_leaves_its_arguments_alone():
    kwargs = {"b": 2, "a": 1}
    args_to_key(("f",), (1,), kwargs, False, {"a"})

    assert list(kwargs.items()) == [("b", 2), ("a", 1)]


def test_full_name_is_module_and_qualified_name():
    class Outer:
        def method(self):
            """Do nothing."""

    assert full_name(Outer.method) == (
        f"{__name__}.test_full_name_is_module_and_qualified_name.<locals>.Outer.method"
    )


@pytest.mark.parametrize(
    ("prefix", "number", "expected"),
    [
        (None, QUEUE_START, 500_000_000_000_000),
        ("a", QUEUE_START, "a-500000000000000"),
        ("a", 7, "a-000000000000007"),
        ("", 7, "-000000000000007"),
        ("a-b", 7, "a-b-000000000000007"),
    ],
)
def test_queue_key_can_be_taken_apart_again(prefix, number, expected):
    assert queue_key(prefix, number) == expected
    assert queue_number(prefix, expected) == number


def test_queue_keys_of_a_prefix_sort_by_number():
    numbers = [1, 9, 10, 499_999_999_999_999, QUEUE_START, 999_999_999_999_998]

    assert sorted(queue_key("a", number) for number in reversed(numbers)) == [
        queue_key("a", number) for number in numbers
    ]


@pytest.mark.parametrize("prefix", [None, "", "jobs"])
def test_queue_bounds_enclose_the_keys_of_the_queue(prefix):
    low, high = queue_bounds(prefix)

    assert low < queue_key(prefix, 1) < queue_key(prefix, 999_999_999_999_998) < high
    assert low == queue_key(prefix, 0)


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        (None, "text"),
        (None, b"7"),
        (None, None),
        ("a", 7),
        ("a", "a-5xyz"),
        ("a", "a-"),
        ("a", "a-٣"),
    ],
    ids=repr,
)
def test_queue_number_of_a_foreign_key_is_none(prefix, key):
    assert queue_number(prefix, key) is None
