"""Keys of memoized calls: which arguments are in them, and what they are called on."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import pickle
import subprocess
import sys

import pytest


def pair(first, second=2):
    return first, second


def mixed(first, /, second, *rest, third=3, **more):
    return first, second, rest, third, more


@pytest.fixture
def key_of(cache):
    """Return the key of a call, without the name."""

    def make(func, ignore, *args, **kwargs):
        return cache.memoize("f", ignore=ignore)(func).__cache_key__(*args, **kwargs)[1:]

    return make


@pytest.mark.parametrize("ignore", [{"second"}, {1}, ["second"], (1, "second")])
def test_argument_is_ignored_by_name_or_position_in_both_call_styles(key_of, ignore):
    assert key_of(pair, ignore, 1, 5) == (1, None)
    assert key_of(pair, ignore, 1, second=5) == (1, None)
    assert key_of(pair, ignore, 1) == (1, None)
    assert key_of(pair, ignore, first=1, second=5) == (None, "first", 1)


@pytest.mark.parametrize("ignore", [{"first"}, {0}])
def test_other_arguments_keep_their_place(key_of, ignore):
    assert key_of(pair, ignore, 1, 5) == (5, None)
    assert key_of(pair, ignore, first=1, second=5) == (None, "second", 5)


def test_position_of_a_positional_only_parameter_is_no_name(key_of):
    assert key_of(mixed, {0}, 1, 2, first=3) == (2, None, "first", 3)


def test_name_of_a_positional_only_parameter_is_ignored_by_position_and_as_keyword(key_of):
    assert key_of(mixed, {"first"}, 1, 2, first=3) == (2, None)


def test_positions_beyond_the_named_parameters_are_those_of_the_call(key_of):
    assert key_of(mixed, {2}, 1, 2, 3, 4) == (1, 2, 4, None)


def test_keyword_only_and_unknown_keywords_are_ignored_by_name(key_of):
    assert key_of(mixed, {"third", "odd"}, 1, 2, third=4, odd=5, even=6) == (1, 2, None, "even", 6)


def test_names_of_no_parameter_ignore_nothing(key_of):
    assert key_of(pair, {"third", 7}, 1, 5) == (1, 5, None)


def test_function_that_does_not_tell_its_signature_is_taken_at_its_word(cache, key_of):
    with pytest.raises(ValueError, match="signature"):
        inspect.signature(max)

    assert key_of(max, {0}, 1, 5) == (5, None)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1,), {}), ((1, 2), {}), ((1,), {"second": 2}), ((), {"second": 2, "first": 1})],
)
def test_without_ignore_call_styles_have_keys_of_their_own(key_of, args, kwargs):
    items = [part for item in sorted(kwargs.items()) for part in item]

    assert key_of(pair, (), *args, **kwargs) == (*args, None, *items)


def test_key_is_the_same_bytes_in_every_process(cache):
    program = (
        "from diskcache import Cache;"
        "import sys;"
        "f = lambda *args, **kwargs: None;"
        "f.__module__, f.__qualname__ = 'm', 'f';"
        "cache = Cache(sys.argv[1]);"
        "g = cache.memoize(typed=True)(f);"
        "key = g.__cache_key__(1, 'x', {'b': {3, 1}, 'a': frozenset('xyz')}, z=None, a=1.5);"
        "print(cache._encode_key(key)[0].hex())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program, cache.directory],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert seen == {KEY}


# An array of 14: the name, the arguments, None, the sorted keywords, the types.
KEY = (
    "9ea36d2e6601a17882a161c7070793a178a179a17aa162c70306920103c0a161cb3ff80000000000"
    "00a17ac0c70c146275696c74696e7300696e74c70c146275696c74696e7300737472c70d14627569"
    "6c74696e730064696374c70e146275696c74696e7300666c6f6174c711146275696c74696e73004e"
    "6f6e6554797065"
)


# -- Methods -----------------------------------------------------------------------------------


class Point:
    """Has a value, and methods that are memoized where the class is made."""

    calls = 0

    def __init__(self, x):
        self.x = x

    def times(self, factor):
        """Multiply."""
        type(self).calls += 1
        return self.x * factor


@pytest.fixture
def point_class(cache):
    """A class with memoized methods of every kind."""
    memoize = cache.memoize

    class Memoized(Point):
        calls = 0
        plain = memoize("plain", ignore={"self"})(Point.times)
        by_position = memoize("by_position", ignore={0})(Point.times)

        @classmethod
        @memoize("of_class", ignore={"cls"})
        def of_class(cls, factor):
            cls.calls += 1
            return factor

        @staticmethod
        @memoize("static")
        def static(factor):
            Memoized.calls += 1
            return factor

    return Memoized


@pytest.mark.parametrize("name", ["plain", "by_position"])
def test_method_without_self_in_the_key_shares_results_of_all_objects(point_class, name):
    one, two = point_class(1), point_class(2)

    assert getattr(one, name)(10) == 10
    assert getattr(two, name)(10) == 10
    assert getattr(two, name)(factor=20) == 40
    assert point_class.calls == 2


@pytest.mark.parametrize("name", ["of_class", "static"])
def test_class_and_static_methods_are_memoized_below_their_decorator(point_class, name):
    method = getattr(point_class(1), name)

    assert [method(3), method(3), method(4)] == [3, 3, 4]
    assert point_class.calls == 2


@pytest.mark.parametrize("is_above", [True, False])
def test_class_method_is_called_without_the_class_and_controlled_with_it(cache, is_above):
    def rate(cls, country, *, day=0):
        return len(country) + day

    memoize = cache.memoize("rate", ignore={"cls"})
    kind = classmethod(memoize(rate)) if is_above else memoize(classmethod(rate))
    shop = type("Shop", (), {"rate": kind})

    assert (shop.rate("de"), shop().rate("de"), shop.rate("de", day=1)) == (2, 2, 3)
    assert shop.rate.__cache_key__(shop, "de") == ("rate", "de", None)
    assert (shop.rate.peek(shop, "de"), shop.rate.bypass(shop, "de", day=5)) == (2, 7)
    assert (shop.rate.invalidate(shop, "de"), shop.rate.invalidate(shop, "de")) == (True, False)
    assert (shop.rate.refresh(shop, "de"), shop.rate.clear()) == (2, 2)


@pytest.mark.parametrize("is_above", [True, False])
def test_static_method_is_controlled_through_class_and_object(cache, is_above):
    def tax(amount):
        return amount * 2

    memoize = cache.memoize("tax")
    kind = staticmethod(memoize(tax)) if is_above else memoize(staticmethod(tax))
    shop = type("Shop", (), {"tax": kind})

    assert (shop.tax(1), shop().tax(1), shop.tax.cache_info()[:2]) == (2, 2, (1, 1))
    assert (shop.tax.invalidate(1), shop().tax.refresh(1), shop().tax.peek(1)) == (True, 2, 2)


def test_what_is_awaited_in_a_class_is_called_and_controlled_as_its_types_say(cache):
    class Site:
        @cache.memoize("open", ignore={"cls"})
        @classmethod
        async def open(cls, path):
            return path

        @classmethod
        @cache.memoize("pages", ignore={"cls"})
        async def pages(cls, path):
            yield path

        @staticmethod
        @cache.memoize("ping")
        async def ping(host):
            return host

        @cache.memoize("lines", ignore={"self"})
        def lines(self, path):
            yield path

    async def use():
        assert (await Site.open("a"), await Site().open("a")) == ("a", "a")
        assert (await Site.open.invalidate(Site, "a"), await Site.open.refresh(Site, "a")) == (
            1,
            "a",
        )
        assert [page async for page in Site.pages("a")] == ["a"]
        assert [page async for page in Site().pages("a")] == ["a"]
        assert await Site.pages.invalidate(Site, "a")
        assert [page async for page in await Site.pages.refresh(Site, "a")] == ["a"]
        assert (await Site.ping("a"), await Site().ping("a")) == ("a", "a")
        assert await Site.ping.invalidate("a")

    asyncio.run(use())
    assert (list(Site().lines("a")), list(Site.lines(Site(), "a"))) == (["a"], ["a"])
    assert (Site.lines.invalidate(None, "a"), list(Site.lines.refresh(None, "a"))) == (True, ["a"])


def test_method_keeps_results_by_object_where_objects_are_keys(cache, monkeypatch):
    monkeypatch.setattr(Point, "calls", 0)
    monkeypatch.setattr(Point, "twice", cache.memoize("twice")(Point.times), raising=False)

    assert [Point(1).twice(2), Point(5).twice(2), Point(1).twice(2)] == [2, 10, 2]
    assert Point.calls == 2
    assert Point.twice.__cache_key__(Point(1), 2)[0] == "twice"
    assert Point.twice.__cache_key__(Point(5), 2) in cache


def test_method_is_bound_and_pickled_as_methods_are(cache, monkeypatch):
    monkeypatch.setattr(Point, "times", cache.memoize("times", ignore={"self"})(Point.times))
    bound = Point(3).times

    assert bound.__self__.x == 3
    assert bound.__doc__ == "Multiply."
    assert pickle.loads(pickle.dumps(bound))(2) == 6


def test_bound_method_is_a_function_of_its_other_arguments(cache):
    method = cache.memoize("m", ignore={"factor"})(Point(4).times)

    assert method(1) == 4
    assert method(factor=2) == 4
    assert method.__cache_key__(1) == ("m", None)


def test_signature_is_that_of_the_function(cache):
    function = cache.memoize()(mixed)

    assert inspect.signature(function) == inspect.signature(mixed)
    assert inspect.isfunction(function)
    assert inspect.unwrap(function) is mixed


def test_callable_without_a_name_needs_one(cache):
    partial = functools.partial(pair, second=5)

    assert cache.memoize("p")(partial)(1) == (1, 5)
    with pytest.raises(TypeError, match="pass name="):
        cache.memoize()(partial)
