"""`Index` beyond what an `OrderedDict` does: directories, trust, threads and processes."""

from __future__ import annotations

import collections
import copy
import pickle
import tempfile
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diskcache import Cache, CodecError, Disk, Index, UntrustedPickleError
from diskcache.errors import NotPlainError, ReadOnlyError, TooLargeError
from tests.support.crew import in_processes, in_threads
from tests.support.leaks import value_files
from tests.support.optional import skip_or_fail

SECRET = b"0123456789abcdef0123456789abcdef"
OTHER_SECRET = b"another secret of thirty-two byte"


class Thing:
    """A value, or a key, that is no plain data."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


class Upside(Disk):
    """A disk of a user, which stores text keys and values backwards."""

    def put(self, key: Any) -> Any:
        return super().put(key[::-1])

    def get(self, key: Any, raw: Any) -> Any:
        return super().get(key, raw)[::-1]

    def store(self, value: Any, read: bool, key: Any = None) -> Any:
        return super().store(value[::-1], read)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        return super().fetch(mode, filename, value, read)[::-1]


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep directories without a name where they can be removed; sockets need a short path."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("t")))


@pytest.fixture
def index(make_cache: Callable[..., Cache]) -> Index:
    return Index.fromcache(make_cache(eviction_policy="none"))


@pytest.fixture
def made(directory: Path) -> Iterator[Callable[..., Index]]:
    """Make indexes by the constructor, in `directory`, and close them afterwards."""
    indexes: list[Index] = []

    def make(*args: Any, where: Any = directory, **keywords: Any) -> Index:
        indexes.append(Index(where, *args, **keywords))
        return indexes[-1]

    yield make
    for index in indexes:
        index.cache.close()


class TestConstruction:
    @pytest.mark.parametrize("form", [str, Path, lambda path: str(path).encode()])
    def test_first_argument_may_be_the_directory(self, made, directory, form):
        first = made({"a": 1}, where=form(directory))
        second = made([("b", 2)], c=3)

        assert list(first.items()) == list(second.items()) == [("a", 1), ("b", 2), ("c", 3)]
        assert first.directory == str(directory)
        assert repr(first) == f"Index({str(directory)!r})"

    @pytest.mark.parametrize(
        "args", [({"a": 1},), (None, {"a": 1}), ([("a", 1)],), (None, [("a", 1)])]
    )
    def test_without_a_directory_it_is_a_new_one(self, args):
        with Index(*args) as one, Index(*args) as other:
            assert one == {"a": 1}
            assert one.directory != other.directory

    @pytest.mark.parametrize("args", [({}, {}), (None, {}, {})])
    def test_two_mappings_are_refused(self, args):
        with pytest.raises(TypeError, match="one mapping"):
            Index(*args)

    def test_any_name_may_be_a_key(self, made):
        index = made(self=1, args=2, directory=3)
        index.update(self=4, other=5)

        assert dict(index) == {"self": 4, "args": 2, "directory": 3, "other": 5}

    def test_nothing_is_ever_evicted(self, made):
        assert made().cache.eviction_policy == "none"
        assert made().cache.timeout == 60

    def test_fromcache_uses_that_very_object(self, cache):
        index = Index.fromcache(cache, {"a": 1}, b=2)

        assert index.cache is cache
        assert dict(index) == {"a": 1, "b": 2}
        with pytest.raises(TypeError, match="one mapping"):
            Index.fromcache(cache, {}, {})


class TestKind:
    def test_is_a_mutable_mapping_and_unhashable(self, index):
        assert isinstance(index, collections.abc.MutableMapping)
        with pytest.raises(TypeError):
            hash(index)

    def test_order_matters_beside_an_ordered_mapping_only(self, index, make_cache):
        index.update(a=1, b=2)
        turned = Index.fromcache(make_cache(index.directory + "-2"), {"b": 2, "a": 1})

        assert index == {"b": 2, "a": 1}
        assert {"b": 2, "a": 1}.__eq__(index) is NotImplemented
        assert index != turned
        assert index != collections.OrderedDict(b=2, a=1)
        assert index == collections.OrderedDict(a=1, b=2)
        assert index == collections.UserDict(b=2, a=1)
        assert index != {"a": 1}
        assert index != {"a": 1, "c": 2}
        assert index != {"a": 1, "b": 3}

    @pytest.mark.parametrize("other", [5, None, [], "", [("a", 1)], {"a"}, object()])
    def test_is_unequal_to_what_is_no_mapping(self, index, other):
        assert (index == other) is False
        assert index.__eq__(other) is NotImplemented

    @pytest.mark.parametrize("other", [5, None, [("b", 2)], "b"])
    def test_union_with_what_is_no_mapping_is_a_type_error(self, index, other):
        with pytest.raises(TypeError):
            index | other
        with pytest.raises(TypeError):
            other | index

    def test_union_stores_as_the_left_one_does(self, make_cache):
        index = Index.fromcache(make_cache(pickle="never"), a=1)
        with index | {"b": 2} as union:
            assert union.cache.info().pickle == "never"
            assert type(union) is Index
        assert dict(index) == {"a": 1}

    def test_lists_may_be_keys_and_true_is_not_one(self, index):
        index[[1]] = "list"
        index[1] = "one"

        assert index[[1]] == "list"
        assert True not in index
        assert index != {1: "one", 2: "two"}

    def test_looking_for_a_key_does_not_load_its_value(self, index, monkeypatch):
        index["a"] = [1]

        def fail(*_: Any) -> None:
            raise RuntimeError

        monkeypatch.setattr(index.cache, "_unpack", fail)

        assert "a" in index
        assert "a" in index.keys()  # noqa: SIM118 - the view is the subject
        assert list(index) == ["a"]
        del index["a"]

    def test_iterating_over_items_leaves_out_what_is_gone(self, index):
        index.update(a=1, b=2, c=3)
        seen = []
        for key, value in index.items():
            seen.append((key, value))
            index.pop("b", None)
            index["c"] = "changed"
            index["new"] = 4

        assert seen == [("a", 1), ("c", "changed")]

    def test_more_entries_than_a_page_keep_their_order(self, index):
        index.update((number, -number) for number in range(250))

        assert list(index) == list(range(250))
        assert list(reversed(index.items())) == [(n, -n) for n in range(249, -1, -1)]
        assert index.popitem(last=False) == (0, 0)

    def test_large_values_keep_their_place_in_an_update(self, make_cache):
        index = Index.fromcache(make_cache(eviction_policy="none", disk_min_file_size=50))
        index.update([("a", "x" * 60), ("b", 1), ("c", "y" * 60), ("a", 2), ("b", "z" * 60)])

        assert list(index.items()) == [("a", 2), ("b", "z" * 60), ("c", "y" * 60)]
        assert len(value_files(index.directory)) == 2


class TestOneStep:
    def test_update_that_fails_stores_nothing_and_leaves_no_file(self, make_cache):
        cache = make_cache(pickle="never", eviction_policy="none", disk_min_file_size=50)
        index = Index.fromcache(cache, a=1)
        with pytest.raises(NotPlainError):
            index.update({"a": 2, "b": "x" * 60, "c": Thing("c")})

        assert dict(index) == {"a": 1}
        assert value_files(cache.directory) == []

    def test_update_with_a_value_over_the_limit_stores_nothing(self, make_cache):
        cache = make_cache(size_limit=100_000)
        index = Index.fromcache(cache, a=1)
        with pytest.raises(TooLargeError, match="100000 bytes"):
            index.update({"a": 2, "b": "x" * 200_000})
        with pytest.raises(TooLargeError):
            index.setdefault("b", "x" * 200_000)

        assert dict(index) == {"a": 1}

    def test_setdefault_of_many_threads_stores_once(self, index):
        def offer(number: int) -> Callable[[], int]:
            return lambda: index.setdefault("key", number)

        got = in_threads(*(offer(number) for number in range(6)))

        assert set(got) == {index["key"]}

    def test_setdefault_looks_again_with_the_lock_in_hand(self, index, make_cache, monkeypatch):
        other, access = Index.fromcache(make_cache()), index._access
        real, locked = access.get, []

        def get(key: Any) -> Any:
            value = real(key)
            if not locked:
                other[key] = "theirs"
            locked.append(index.cache._engine.in_transaction())
            return value

        monkeypatch.setattr(access, "get", get)

        assert index.setdefault("key", "mine") == "theirs"
        assert locked == [False, True]

    def test_transaction_that_fails_brings_everything_back(self, index):
        index.update(a=1, b=2)
        with pytest.raises(RuntimeError), index.transact():
            index.popitem()
            index["c"] = 3
            del index["a"]
            raise RuntimeError

        assert list(index.items()) == [("a", 1), ("b", 2)]

    def test_queues_push_and_pull(self, index):
        first = index.push("a")
        index.push("b", side="front")
        key = index.push("c", prefix="jobs")

        assert index.pull() == (first - 1, "b")
        assert index.pull(side="back") == (first, "a")
        assert index.pull() == (None, None)
        assert index.pull("jobs") == (key, "c")
        assert index.pull("jobs", default="none") == "none"
        with pytest.raises(KeyError):
            index.pull(side="left")

    def test_memoized_results_are_kept_under_their_key(self, index):
        calls = []

        @index.memoize(name="area", ignore={"verbose"})
        def area(width, height, verbose=False):
            calls.append((width, height))
            return None if width == 0 else width * height

        assert [area(2, 3), area(2, 3, verbose=True), area(0, 1), area(0, 1)] == [6, 6, None, None]
        assert calls == [(2, 3), (0, 1)]
        assert index[area.__cache_key__(2, 3)] == 6
        with pytest.raises(TypeError):
            index.memoize(area)


class TestWhatCannotBeLoaded:
    """A miss would lose it, so it raises and stays, whatever `strict` says."""

    @pytest.fixture
    def forged(self, make_cache):
        Index.fromcache(make_cache(secret=SECRET), {"a": Thing("a")})
        return Index.fromcache(make_cache(secret=OTHER_SECRET), {"b": 1})

    LOOKS = (
        lambda d: d["a"], lambda d: d.get("a"), lambda d: d.pop("a", None),
        lambda d: list(d.items()),
        lambda d: d.popitem(last=False), lambda d: d.peekitem(last=False), lambda d: dict(d),
        lambda d: d.setdefault("a", 1), lambda d: d == {"a": 1, "b": 1}, lambda d: list(d.values()),
    )  # fmt: skip

    @pytest.mark.parametrize("look", LOOKS)
    def test_value_of_a_stranger_raises_and_stays(self, forged, look):
        with pytest.raises(UntrustedPickleError, match="is kept") as caught:
            look(forged)

        assert caught.value.reason == "unknown-key"
        assert list(forged) == ["a", "b"]

    def test_key_of_a_stranger_raises_and_stays(self, make_cache):
        Index.fromcache(make_cache(secret=SECRET), [(Thing("a"), 1)])
        index = Index.fromcache(make_cache(secret=OTHER_SECRET))

        for look in (
            list,
            lambda d: d.popitem(),
            lambda d: d.peekitem(),
            lambda d: list(d.items()),
        ):
            with pytest.raises(UntrustedPickleError, match="an encoded key"):
                look(index)
        assert len(index) == 1

    def test_value_of_a_stranger_can_be_removed_or_replaced_unseen(self, forged):
        forged["a"] = 1
        assert forged["a"] == 1
        del forged["a"]

        assert list(forged) == ["b"]

    def test_pull_of_a_stranger_raises_and_stays(self, make_cache):
        Index.fromcache(make_cache(secret=SECRET)).push(Thing("a"))
        index = Index.fromcache(make_cache(secret=OTHER_SECRET))
        with pytest.raises(UntrustedPickleError):
            index.pull()

        assert len(index) == 1

    @pytest.mark.parametrize("look", LOOKS)
    @pytest.mark.parametrize("is_missing", [False, True])
    @pytest.mark.damaged("a value file is gone")
    def test_damaged_file_raises_and_names_the_remedy(self, make_cache, look, is_missing):
        cache = make_cache(eviction_policy="none", disk_min_file_size=50)
        index = Index.fromcache(cache, {"a": "x" * 60, "b": 1})
        (file,) = value_files(cache.directory)
        file.write_text("y" * 60)
        if is_missing:
            file.unlink()
        with pytest.raises(CodecError, match=r"python -m diskcache check .* --fix"):
            look(index)

        assert list(index) == ["a", "b"]
        if is_missing:
            cache.check(fix=True)
            assert list(index) == ["b"]


class TestCaches:
    def test_readonly_cache_can_be_looked_at(self, make_cache):
        Index.fromcache(make_cache(), a=1).cache.close()
        index = Index.fromcache(make_cache(readonly=True))

        assert (dict(index), index.peekitem(), index.setdefault("a", 2)) == ({"a": 1}, ("a", 1), 1)
        with pytest.raises(ReadOnlyError):
            index["b"] = 1

    def test_custom_disk_stores_keys_and_values(self, make_cache):
        index = Index.fromcache(make_cache(disk=Upside), {"ab": "cd", "ef": "gh"})

        assert list(index.items()) == [("ab", "cd"), ("ef", "gh")]
        assert index.popitem() == ("ef", "gh")
        assert "ab" in index
        assert index.pop("ab") == "cd"

    def test_statistics_count_reads_but_not_in(self, make_cache):
        index = Index.fromcache(make_cache(statistics=1), a=1)
        assert "a" in index
        assert (index["a"], index.get("b")) == (1, None)

        assert index.cache.stats() == (1, 1)

    def test_with_block_closes_and_use_reopens(self, index):
        with index as same:
            index["a"] = 1

        assert same is index
        assert dict(index) == {"a": 1}


class TestCopies:
    @pytest.mark.parametrize(
        "again", [lambda d: pickle.loads(pickle.dumps(d)), copy.copy, copy.deepcopy]
    )
    def test_is_another_object_on_the_directory(self, made, again):
        index = made(a=1)
        other = again(index)
        other["b"] = 2

        assert other is not index
        assert dict(index) == {"a": 1, "b": 2}
        other.cache.close()

    def test_state_of_version_5_is_understood(self, made, directory):
        index = made(a=1)
        old = Index.__new__(Index)
        old.__setstate__(str(directory))

        assert index.__getstate__() == str(directory)
        assert dict(old) == {"a": 1}
        old.cache.close()


def take_all(directory: Path) -> list[Any]:
    with Index(directory) as index:
        taken = []
        while True:
            try:
                taken.append(index.popitem(last=False)[0])
            except KeyError:
                return taken


class TestTogether:
    COUNT = 400

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_processes_take_each_entry_once(self, made, directory, method):
        made((number, None) for number in range(self.COUNT)).cache.close()
        shares = in_processes(take_all, [(directory,)] * 4, method=method)

        assert sorted(key for share in shares for key in share) == list(range(self.COUNT))
        assert all(share == sorted(share) for share in shares)

    def test_forked_child_uses_the_object_of_its_parent(self, made):
        index = made(a=1)
        (taken,) = in_processes(index.pop, [("a",)], method="fork")

        assert taken == 1
        assert dict(index) == {}

    def test_updates_are_seen_whole(self, index):
        index.update(a=0, b=0)

        def write() -> None:
            for number in range(30):
                index.update(a=number, b=-number)

        def look() -> set[int]:
            seen = set()
            for _ in range(30):
                with index.transact():
                    seen.add(index["a"] + index["b"])
            return seen

        assert in_threads(write, look)[1] == {0}


class Tracked(Index):
    """An index that is closed at the end of the test, however it was made."""

    made: list[Cache] = []  # noqa: RUF012 - one list for all is the purpose

    def _attach(self, cache: Cache) -> None:
        super()._attach(cache)
        Tracked.made.append(cache)


NOT_FOR_INDEXES = {
    "test_copy": "there is no copy(): would it copy the entries or open the directory again?",
    "test_eq": "its keys cannot be pickled: they are instances of local classes",
    "test_getitem": "the same; and keys are not hashed, so a failing hash would not be met",
    "test_pop": "the same",
    "test_popitem": "popitem() takes an argument, as that of an OrderedDict",
    "test_repr": "it shows the directory",
    "test_repr_deep": "the same; and an index inside an index is a copy of it",
    "test_setdefault": "what comes out is a copy, so appending to it changes nothing",
}
"""Tests of Python for mappings that an index does not pass, each with the reason."""


def mapping_tests() -> list[str]:
    try:
        from test.mapping_tests import TestHashMappingProtocol as Tests
    except ImportError:
        return []
    return unittest.defaultTestLoader.getTestCaseNames(Tests)


class TestPythonsOwnTestsOfMappings:
    @pytest.fixture(autouse=True)
    def closed(self):
        yield
        while Tracked.made:
            Tracked.made.pop().close()

    def run(self, name: str) -> unittest.TestResult:
        from test.mapping_tests import TestHashMappingProtocol

        kind = type("Tests", (TestHashMappingProtocol,), {"type2test": Tracked})
        result = unittest.TestResult()
        kind(name).run(result)
        return result

    def test_they_are_there(self):
        if not mapping_tests():
            skip_or_fail("this Python comes without its tests")
        assert set(mapping_tests()) > set(NOT_FOR_INDEXES)

    @pytest.mark.parametrize("name", sorted(set(mapping_tests()) - set(NOT_FOR_INDEXES)))
    def test_passes(self, name):
        result = self.run(name)

        assert result.testsRun == 1
        assert [text for _, text in result.errors + result.failures] == []

    @pytest.mark.parametrize("name", sorted(set(mapping_tests()) & set(NOT_FOR_INDEXES)))
    def test_does_not_pass_for_the_reason_given(self, name):
        result = self.run(name)

        assert len(result.errors + result.failures) == 1
