"""Results of functions are kept by their arguments."""

from __future__ import annotations

import pytest

from diskcache.sentinels import ENOVAL
from diskcache.testing.contract import Contract


def square(number):
    """Return the square."""
    return number * number


class Calls(list):
    """A function that records how it is called, and how often."""

    def function(self, *args, **kwargs):
        """Record the call and return how many there were."""
        self.append((args, kwargs))
        return len(self)


class MemoizeContract(Contract):
    @pytest.fixture
    def calls(self):
        return Calls()

    def test_memoize_calls_the_function_once_per_arguments(self, cache, calls):
        function = cache.memoize("f")(calls.function)

        assert [function(1), function(1), function(2), function(1)] == [1, 1, 2, 1]
        assert calls == [((1,), {}), ((2,), {})]

    def test_memoize_keeps_the_metadata_of_the_function(self, cache):
        function = cache.memoize()(square)

        assert function.__name__ == "square"
        assert function.__doc__ == "Return the square."
        assert function.__wrapped__ is square
        assert function(3) == 9

    def test_memoize_cache_key_is_the_key_used(self, cache):
        function = cache.memoize()(square)
        function(3)

        assert list(cache) == [function.__cache_key__(3)]
        assert cache[function.__cache_key__(3)] == 9

    def test_memoize_cache_key_starts_with_module_and_qualified_name(self, cache):
        function = cache.memoize()(square)

        assert function.__cache_key__(3) == (f"{__name__}.square", 3, None)

    def test_memoize_takes_an_argument_called_self_by_name(self, cache):
        function = cache.memoize("f")(lambda self: self)

        assert function(self=3) == 3
        assert function.__cache_key__(self=3) in cache

    def test_memoize_with_name_uses_it_in_the_key(self, cache):
        assert cache.memoize("f")(square).__cache_key__(3) == ("f", 3, None)
        assert cache.memoize("")(square).__cache_key__(3) == ("", 3, None)

    def test_memoize_cache_key_holds_sorted_keywords(self, cache, calls):
        function = cache.memoize("f")(calls.function)

        assert function.__cache_key__(1, b=2, a=3) == ("f", 1, None, "a", 3, "b", 2)

    def test_memoize_does_not_care_about_the_order_of_keywords(self, cache, calls):
        function = cache.memoize("f")(calls.function)

        assert function(a=1, b=2) == function(b=2, a=1)
        assert len(calls) == 1

    def test_memoize_tells_positional_from_keyword_arguments(self, cache, calls):
        function = cache.memoize("f")(calls.function)
        function(1)
        function(x=1)

        assert len(calls) == 2

    def test_memoize_without_name_and_parentheses_raises_type_error(self, cache):
        with pytest.raises(TypeError, match="name cannot be callable"):
            cache.memoize(square)

    def test_memoize_keeps_none(self, cache, calls):
        def function():
            calls.append(())

        memoized = cache.memoize("f")(function)

        assert memoized() is None
        assert memoized() is None
        assert len(calls) == 1

    @pytest.mark.parametrize("lock", [False, True])
    def test_memoize_keeps_nothing_where_the_function_says_that_there_is_none(self, cache, lock):
        memoized = cache.memoize("f", lock=lock)(lambda: ENOVAL)

        assert memoized() is ENOVAL
        assert memoized() is ENOVAL
        assert len(cache) == 0

    def test_memoize_does_not_keep_exceptions(self, cache, calls):
        def function():
            calls.append(())
            raise ZeroDivisionError

        memoized = cache.memoize("f")(function)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                memoized()

        assert len(calls) == 2
        assert len(cache) == 0

    @pytest.mark.parametrize("typed", [False, True])
    def test_memoize_tells_equal_arguments_of_different_types_apart(self, cache, calls, typed):
        function = cache.memoize("f", typed=typed)(calls.function)
        function(1)
        function(1.0)
        function(True)
        function("1")

        assert len(calls) == 4

    def test_memoize_typed_key_ends_with_the_types(self, cache, calls):
        function = cache.memoize("f", typed=True)(calls.function)

        assert function.__cache_key__(1, a="x") == ("f", 1, None, "a", "x", int, str)
        assert function(1, a="x") == function(1, a="x") == 1

    def test_memoize_with_ignored_position_leaves_it_out(self, cache, calls):
        function = cache.memoize("f", ignore={0})(calls.function)

        assert function("one", 1) == function("two", 1)
        assert function("one", 2) == 2
        assert function.__cache_key__("one", 1) == ("f", 1, None)

    def test_memoize_with_ignored_name_leaves_it_out(self, cache, calls):
        function = cache.memoize("f", ignore={"verbose"})(calls.function)

        assert function(1, verbose=True) == function(1, verbose=False)
        assert len(calls) == 1

    def test_memoize_typed_with_ignored_arguments_leaves_their_types_out(self, cache, calls):
        function = cache.memoize("f", typed=True, ignore={0, "a"})(calls.function)

        assert function.__cache_key__(1, "x", a=2, b=3.0) == ("f", "x", None, "b", 3.0, str, float)

    def test_memoize_with_expire_calls_again_afterwards(self, cache, calls, clock):
        function = cache.memoize("f", expire=10)(calls.function)

        assert function() == 1

        clock.advance(9)

        assert function() == 1

        clock.advance(2)

        assert function() == 2

    @pytest.mark.parametrize("expire", [0, -1])
    def test_memoize_with_expire_not_above_zero_stores_nothing(self, cache, calls, expire):
        function = cache.memoize("f", expire=expire)(calls.function)

        assert [function(), function()] == [1, 2]
        assert len(cache) == 0

    def test_memoize_with_expire_zero_still_looks_up(self, cache, calls):
        function = cache.memoize("f", expire=0)(calls.function)
        cache[function.__cache_key__()] = "found"

        assert function() == "found"
        assert calls == []

    def test_memoize_with_tag_gives_it_to_the_entries(self, cache, calls):
        function = cache.memoize("f", tag="t")(calls.function)
        function(1)
        function(2)

        assert cache.evict("t") == 2

    def test_memoize_takes_arguments_that_cannot_be_hashed(self, cache, calls):
        function = cache.memoize("f")(calls.function)

        assert function([1, {"a": {2}}]) == function([1, {"a": {2}}])
        assert len(calls) == 1

    @pytest.mark.since6("version 5 takes equal arguments for different ones")
    def test_memoize_takes_equal_arguments_for_the_same(self, cache, calls):
        function = cache.memoize("f")(calls.function)
        text = "".join(["a", "b"])
        function(text, text)
        function("".join(["a", "b"]), "".join(["a", "b"]))

        assert len(calls) == 1

    def test_memoize_counts_in_the_statistics(self, make_cache, calls):
        cache = make_cache(statistics=True)
        function = cache.memoize("f")(calls.function)
        function()
        function()

        assert cache.stats() == (1, 1)

    def test_memoize_of_two_functions_keeps_them_apart(self, cache):
        @cache.memoize()
        def one():
            return 1

        @cache.memoize()
        def two():
            return 2

        assert (one(), two(), one(), two()) == (1, 2, 1, 2)
