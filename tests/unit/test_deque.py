"""`Deque` beyond what `collections.deque` does: directories, trust, threads and processes."""

from __future__ import annotations

import collections
import copy
import math
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diskcache import ENOVAL, Cache, CodecError, Deque, Disk, UntrustedPickleError
from diskcache.codecs import MODE_DATA, plain
from diskcache.errors import NotPlainError, QueueFullError, ReadOnlyError, StringIterableWarning
from tests.support.crew import in_processes, in_threads
from tests.support.leaks import value_files

SECRET = b"0123456789abcdef0123456789abcdef"
OTHER_SECRET = b"another secret of thirty-two byte"


class Thing:
    """A value that is no plain data."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


class Nosy:
    """A value that uses a cache while it is loaded."""

    used: Cache

    def __setstate__(self, _state: Any) -> None:
        Nosy.used.delete("nothing")

    def __getstate__(self) -> tuple[int]:
        return (1,)


class Upside(Disk):
    """A disk of a user, which stores text backwards."""

    def store(self, value: Any, read: bool, key: Any = None) -> Any:
        return super().store(value[::-1], read)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        return super().fetch(mode, filename, value, read)[::-1]


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep directories without a name where they can be removed; sockets need a short path."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("t")))


@pytest.fixture
def deque(make_cache: Callable[..., Cache]) -> Deque:
    return Deque.fromcache(make_cache(eviction_policy="none"))


@pytest.fixture
def made(directory: Path) -> Iterator[Callable[..., Deque]]:
    """Make deques by the constructor, in `directory`, and close them afterwards."""
    deques: list[Deque] = []

    def make(*args: Any, **keywords: Any) -> Deque:
        keywords.setdefault("directory", directory)
        deques.append(Deque(*args, **keywords))
        return deques[-1]

    yield make
    for deque in deques:
        deque.cache.close()


class TestConstruction:
    def test_directory_keeps_the_items(self, made, directory):
        first = made([1, 2])
        second = made([3])

        assert list(first) == list(second) == [1, 2, 3]
        assert first.directory == str(directory)
        assert repr(first) == f"Deque(directory={str(directory)!r})"

    def test_nothing_is_ever_evicted(self, made):
        deque = made()

        assert deque.cache.eviction_policy == "none"
        assert deque.cache.timeout == 60

    def test_path_as_first_argument_is_the_directory(self, directory):
        with Deque(directory) as deque:
            deque.append(1)

        assert deque.directory == str(directory)
        assert (directory / "cache.db").exists()

    def test_two_directories_are_refused(self, tmp_path):
        with pytest.raises(TypeError, match="two directories"):
            Deque(tmp_path / "a", tmp_path / "b")

    def test_string_is_an_iterable_of_characters(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Deque("abcde", maxlen=3) as deque:
                assert list(deque) == ["c", "d", "e"]

    def test_string_that_looks_like_a_path_warns_and_names_the_argument(self):
        with pytest.warns(StringIterableWarning, match=r"Deque\(directory='data/todo'\)") as found:
            deque = Deque("data/todo")

        with deque:
            assert "".join(deque) == "data/todo"
        assert found[0].filename == __file__

    def test_string_beside_a_directory_is_meant_as_it_is(self, made):
        with warnings.catch_warnings():
            warnings.simplefilter("error")

            assert list(made("a/b")) == ["a", "/", "b"]

    def test_fromcache_uses_that_very_object(self, cache):
        deque = Deque.fromcache(cache, [1, 2, 3], maxlen=2)

        assert deque.cache is cache
        assert list(deque) == [2, 3]

    def test_opening_a_longer_one_with_maxlen_removes_nothing(self, made):
        made(range(5))
        deque = made(maxlen=2)

        assert list(deque) == [0, 1, 2, 3, 4]
        deque.append(5)
        assert list(deque) == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("maxlen", ["2", 2.5, [2]])
    def test_maxlen_that_is_no_int_is_refused(self, made, maxlen):
        with pytest.raises(TypeError, match="maxlen must be an int or None"):
            made(maxlen=maxlen)

    def test_negative_maxlen_is_refused_before_anything_is_made(self, made, directory):
        with pytest.raises(ValueError, match="maxlen must be non-negative: got -1"):
            made([1], maxlen=-1)

        assert not directory.exists()


class TestMaxlen:
    def test_reads_inf_without_a_limit(self, deque):
        assert deque.maxlen == math.inf
        assert Deque.fromcache(deque.cache, maxlen=math.inf).maxlen == math.inf

    def test_setting_it_removes_from_the_left_at_once(self, deque):
        deque.extend(range(250))
        deque.maxlen = 3

        assert list(deque) == [247, 248, 249]
        assert deque.maxlen == 3

    def test_none_lifts_it(self, deque):
        deque.maxlen = 1
        deque.maxlen = None
        deque.extend("ab")

        assert list(deque) == ["a", "b"]

    def test_append_over_it_is_one_step(self, deque, monkeypatch):
        deque.extend([1, 2])
        deque.maxlen = 2

        def fail(side: str) -> bool:
            raise RuntimeError(side)

        monkeypatch.setattr(deque._line, "drop", fail)
        with pytest.raises(RuntimeError):
            deque.append(3)

        assert list(deque) == [1, 2]


class TestKind:
    def test_is_a_mutable_sequence_and_unhashable(self, deque):
        assert isinstance(deque, collections.abc.MutableSequence)
        with pytest.raises(TypeError):
            hash(deque)

    def test_has_every_method_of_a_collections_deque(self):
        missing = {name for name in dir(collections.deque) if not hasattr(Deque, name)}

        assert missing == {"__class_getitem__", "__copy__"} - set(dir(Deque))

    def test_compares_with_every_sequence(self, deque):
        deque.extend("ab")

        assert deque == ["a", "b"] == deque
        assert deque == ("a", "b")
        assert deque == "ab"
        assert deque == collections.deque("ab")
        assert deque != ["a"]
        assert deque < ["a", "c"]
        assert deque > ["a"]
        assert deque <= "ab" <= deque

    @pytest.mark.parametrize("other", [{"a"}, {"a": 1}, 5, None, iter("a")])
    def test_does_not_compare_with_what_is_no_sequence(self, deque, other):
        deque.append("a")

        assert (deque == other) is False
        with pytest.raises(TypeError):
            deque < other  # noqa: B015 - the comparison is the subject

    def test_mutating_while_iterating_skips_what_is_gone_and_sees_what_is_new(self, deque):
        deque.extend(range(4))
        seen = []
        for item in deque:
            seen.append(item)
            if item == 0:
                deque.remove(2)
                deque.append(9)

        assert seen == [0, 1, 3, 9]

    def test_adding_makes_a_new_one_elsewhere(self, deque):
        deque.append(1)
        total = deque + collections.deque([2])
        with total:
            assert list(total) == [1, 2]
            assert total.directory != deque.directory
            assert type(total) is Deque
        assert list(deque) == [1]

    @pytest.mark.parametrize("other", [[1], "a", None])
    def test_adding_something_else_is_a_type_error(self, deque, other):
        with pytest.raises(TypeError):
            deque + other
        with pytest.raises(TypeError):
            deque * "a"


class TestOrder:
    def test_moving_items_keeps_large_ones_and_signed_ones(self, make_cache):
        deque = Deque.fromcache(make_cache(eviction_policy="none", disk_min_file_size=50))
        items = [Thing("a" * n) if n % 2 else "b" * (40 * n) for n in range(7)]
        deque.extend(items)
        deque.rotate(3)
        deque.insert(2, "new")
        deque.reverse()

        expected = collections.deque(items)
        expected.rotate(3)
        expected.insert(2, "new")
        expected.reverse()
        assert list(deque) == list(expected)

    @pytest.mark.parametrize(
        "change", [lambda d: d.rotate(2), lambda d: d.reverse(), lambda d: d.insert(2, "new")]
    )
    def test_change_that_fails_changes_nothing(self, make_cache, monkeypatch, change):
        cache = make_cache(eviction_policy="none", disk_min_file_size=50)
        deque = Deque.fromcache(cache, ["x" * 60, Thing("a"), 1, Thing("b"), "y" * 60])
        before, files = list(deque), value_files(cache.directory)

        access = deque._line._access
        real, moved = access.moved, []

        def fail_at_the_second(*args: Any) -> Any:
            if moved:
                raise RuntimeError
            moved.append(args)
            return real(*args)

        monkeypatch.setattr(access, "moved", fail_at_the_second)
        with pytest.raises(RuntimeError):
            change(deque)
        monkeypatch.undo()

        assert moved

        assert list(deque) == before
        assert value_files(cache.directory) == files

    def test_more_items_than_a_page_keep_their_order(self, deque):
        deque.extend(range(1050))
        deque.rotate(-301)
        deque.reverse()
        deque.insert(500, "new")

        expected = collections.deque(range(1050))
        expected.rotate(-301)
        expected.reverse()
        expected.insert(500, "new")
        assert list(deque) == list(expected)
        assert list(reversed(deque)) == list(expected)[::-1]
        assert deque[700] == expected[700]
        assert deque[-700] == expected[-700]

    def test_queue_without_keys_left_says_so_and_stays(self, cache):
        cache[1] = "first"
        deque = Deque.fromcache(cache)
        with pytest.raises(QueueFullError):
            deque.appendleft("no")
        with pytest.raises(QueueFullError):
            deque.extendleft(["no", "no"])

        assert list(deque) == ["first"]

    def test_a_batch_that_fails_leaves_no_file(self, make_cache):
        cache = make_cache(eviction_policy="none", disk_min_file_size=50)
        deque = Deque.fromcache(cache)
        with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
            deque.extend(["x" * 60, lambda: None])

        assert list(deque) == []

    def test_an_iterator_stores_what_came_before_its_error(self, deque):
        def items():
            yield 1
            yield 2
            raise RuntimeError

        with pytest.raises(RuntimeError):
            deque.extend(items())

        assert list(deque) == [1, 2]


class TestWhatCannotBeLoaded:
    """A miss would lose it, so it raises and stays, whatever `strict` says."""

    @pytest.fixture
    def forged(self, make_cache):
        Deque.fromcache(make_cache(secret=SECRET), [Thing("a"), "b", "c"])
        return Deque.fromcache(make_cache(secret=OTHER_SECRET))

    @pytest.mark.parametrize(
        "look",
        [
            lambda d: d.popleft(), lambda d: d.peekleft(), lambda d: d[0], list,
            lambda d: d.remove("b"), lambda d: "d" in d, lambda d: d.index("b"),
            lambda d: d.rotate(-1), lambda d: d.reverse(), lambda d: d == ["a", "b", "c"],
        ],
    )  # fmt: skip
    def test_item_of_a_stranger_raises_and_stays(self, forged, look):
        with pytest.raises(UntrustedPickleError, match="is kept") as caught:
            look(forged)

        assert caught.value.reason == "unknown-key"
        assert len(forged) == 3
        assert forged[1] == "b"

    def test_item_of_a_stranger_can_be_removed_unseen(self, forged):
        assert forged.pop() == "c"
        assert forged.pop() == "b"
        del forged[0]

        assert list(forged) == []

    @pytest.fixture
    def damaged(self, make_cache):
        cache = make_cache(eviction_policy="none", disk_min_file_size=50)
        deque = Deque.fromcache(cache, ["x" * 60, "b"])
        (file,) = value_files(cache.directory)
        file.write_text("y" * 60)
        return deque, file

    @pytest.mark.parametrize(
        "look",
        [lambda d: d.popleft(), lambda d: d.peekleft(), lambda d: d[0], list, lambda d: d[-2]],
    )
    @pytest.mark.parametrize("is_missing", [False, True])
    @pytest.mark.damaged("a value file is gone")
    def test_damaged_file_raises_and_names_the_remedy(self, damaged, look, is_missing):
        deque, file = damaged
        if is_missing:
            file.unlink()
        with pytest.raises(CodecError, match=r"python -m diskcache check .* --fix"):
            look(deque)

        assert len(deque) == 2
        assert deque.pop() == "b"

    @pytest.mark.damaged("a value file is gone")
    def test_remedy_removes_it(self, damaged):
        deque, file = damaged
        file.unlink()
        deque.cache.check(fix=True)

        assert list(deque) == ["b"]

    def test_file_out_of_reach_raises_what_it_is(self, damaged, monkeypatch):
        deque, _ = damaged

        def refuse(*_: Any) -> bytes:
            raise PermissionError(13, "no")

        monkeypatch.setattr(deque.cache._files, "read", refuse)
        with pytest.raises(PermissionError):
            deque.peekleft()
        monkeypatch.undo()
        del deque[0]

        assert list(deque) == ["b"]

    def test_value_that_is_replaced_while_it_is_read_is_read_again(self, make_cache, monkeypatch):
        cache = make_cache(eviction_policy="none", disk_min_file_size=50)
        deque = Deque.fromcache(cache, ["x" * 60, "y" * 60, "z" * 60])
        other = Deque.fromcache(make_cache(), [])
        real = cache._files.read
        calls = []

        def read(*args: Any) -> bytes:
            if not calls:
                calls.append(args)
                other[1] = "new"
            return real(*args)

        monkeypatch.setattr(cache._files, "read", read)

        assert deque[1] == "new"
        assert calls


class TestCaches:
    def test_readonly_cache_can_be_looked_at(self, make_cache):
        Deque.fromcache(make_cache(), [1, 2]).cache.close()
        deque = Deque.fromcache(make_cache(readonly=True))

        assert (list(deque), deque.peek(), deque[0], 2 in deque) == ([1, 2], 2, 1, True)
        with pytest.raises(ReadOnlyError):
            deque.pop()

    def test_custom_disk_stores_the_items(self, make_cache):
        deque = Deque.fromcache(make_cache(disk=Upside), ["ab", "cd", "ef"])
        deque.rotate(1)
        deque.insert(1, "new")
        deque[0] = "first"

        assert list(deque) == ["first", "new", "ab", "cd"]
        assert deque.popleft() == "first"

    def test_items_pushed_through_the_cache_are_items(self, deque):
        deque.append("a")
        deque.cache.push("b")

        assert list(deque) == ["a", "b"]

    def test_expired_entries_are_no_items(self, deque, clock):
        deque.cache.push("old", expire=1)
        deque.append("new")
        clock.advance(2)

        assert list(deque) == ["new"]
        assert deque[0] == deque.peekleft() == deque.popleft() == "new"

    def test_item_may_use_the_cache_while_it_is_loaded(self, deque):
        Nosy.used = deque.cache
        deque.append(Nosy())

        assert type(deque.popleft()) is Nosy
        assert len(deque) == 0

    def test_transaction_that_fails_brings_everything_back(self, deque):
        deque.extend([1, 2, 3])
        with pytest.raises(RuntimeError), deque.transact():
            deque.popleft()
            deque.append(4)
            deque.rotate(1)
            raise RuntimeError

        assert list(deque) == [1, 2, 3]

    def test_with_block_closes_and_use_reopens(self, deque):
        with deque as same:
            deque.append(1)

        assert same is deque
        assert list(deque) == [1]


class TestCopies:
    @pytest.mark.parametrize(
        "again",
        [
            lambda d: pickle.loads(pickle.dumps(d)), copy.copy, copy.deepcopy,
            lambda d: d.copy(),
        ],
    )  # fmt: skip
    def test_is_another_object_on_the_directory(self, made, again):
        deque = made([1, 2], maxlen=2)
        other = again(deque)
        other.append(3)

        assert other is not deque
        assert other.maxlen == 2
        assert list(deque) == [2, 3]
        other.cache.close()

    def test_pickling_keeps_how_the_cache_was_opened(self, make_cache):
        deque = Deque.fromcache(make_cache(pickle="never"))
        other = pickle.loads(pickle.dumps(deque))

        assert other.cache.info().pickle == "never"
        other.cache.close()

    def test_state_of_version_5_is_understood(self, made, directory):
        deque = made([1, 2])
        old = Deque.__new__(Deque)
        old.__setstate__((str(directory), math.inf))

        assert deque.__getstate__() == (str(directory), math.inf)
        assert list(old) == [1, 2]
        old.cache.close()


def take_all(directory: Path) -> list[Any]:
    with Deque(directory=directory) as deque:
        taken = []
        while True:
            try:
                taken.append(deque.popleft())
            except IndexError:
                return taken


class TestTogether:
    """Of concurrent takers each item goes to exactly one."""

    COUNT = 400

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_processes_take_each_item_once(self, made, directory, method):
        made(range(self.COUNT)).cache.close()
        shares = in_processes(take_all, [(directory,)] * 4, method=method)

        assert sorted(item for share in shares for item in share) == list(range(self.COUNT))
        assert all(share == sorted(share) for share in shares)

    def test_threads_of_one_object_take_each_item_once(self, made):
        deque = made(range(self.COUNT))

        def take() -> list[Any]:
            return [deque.popleft() for _ in range(self.COUNT // 4)]

        shares = in_threads(take, take, take, take)

        assert sorted(item for share in shares for item in share) == list(range(self.COUNT))

    def test_forked_child_uses_the_object_of_its_parent(self, made):
        deque = made([1, 2])
        (taken,) = in_processes(deque.popleft, [()], method="fork")

        assert taken == 1
        assert list(deque) == [2]

    def test_threads_rotate_and_none_sees_an_item_missing(self, made):
        deque = made(range(5))

        def turn() -> None:
            for _ in range(20):
                deque.rotate(2)

        def look() -> set[int]:
            seen = set()
            for _ in range(20):
                with deque.transact():
                    seen.add(sum(deque))
            return seen

        assert in_threads(turn, look, turn)[1] == {10}
        assert sorted(deque) == [0, 1, 2, 3, 4]

    def test_limit_holds_whoever_appends(self, made, directory):
        made()
        shares = in_processes(append_limited, [(directory, n) for n in range(3)])

        assert max(share for share in shares) <= 5


def append_limited(directory: Path, number: int) -> int:
    longest = 0
    with Deque(directory=directory, maxlen=5) as deque:
        for index in range(40):
            deque.append((number, index))
            longest = max(longest, len(deque))
    return longest


def test_no_value_is_refused_and_the_deque_stays(
    make_cache: Callable[..., Cache],
) -> None:
    deque = Deque.fromcache(make_cache(), "ab")
    with pytest.raises(NotPlainError, match="cannot store ENOVAL"):
        deque.append(ENOVAL)
    with pytest.raises(NotPlainError):
        deque.extend([1, ENOVAL])
    with pytest.raises(NotPlainError):
        deque[1] = ENOVAL

    assert list(deque) == ["a", "b"]


@pytest.mark.parametrize(
    "use",
    [
        lambda deque: deque[1],
        lambda deque: deque[-2],
        lambda deque: list(deque),
        lambda deque: (deque.popleft(), deque.popleft()),
    ],
)
def test_stored_no_value_raises_and_stays(
    make_cache: Callable[..., Cache], use: Callable[[Deque], Any]
) -> None:
    cache = make_cache()
    deque = Deque.fromcache(cache, "abc")
    middle = list(cache)[1]
    payload = (MODE_DATA, plain.dumps(ENOVAL), None)
    cache._engine.put((middle, 1), payload, None, None, 0, None)

    with pytest.raises(CodecError, match="its value is ENOVAL"):
        use(deque)
    assert middle in cache
