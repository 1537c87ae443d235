"""A full disk refuses what is new, and nothing else.

Property: whichever call fails, an operation raises an `OSError` with ENOSPC, or succeeds; what was
stored before is there; no part of a file is left; the same objects work again as soon as there is
room. On a real full disk `get`, opening, removing and closing work.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from pathlib import Path

import pytest

from diskcache import Cache, CacheFullError, Deque, FanoutCache, Index
from diskcache.engines.sqlite.control import BEGIN
from tests.faults.disks import CALLS, Ballast, failing_disk, small_disk
from tests.support.crew import in_processes
from tests.support.leaks import assert_tidy

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs Linux")

EARLIER = {"a": 1, "b": "text", "c": [1, 2], "large": b"x" * 40_000, "tagged": 5}
LARGE = b"y" * 50_000

OPERATIONS = {
    "set": lambda cache: cache.set("new", 1),
    "set a large value": lambda cache: cache.set("new", LARGE),
    "set with expiry and tag": lambda cache: cache.set("new", 1, expire=100, tag="t"),
    "overwrite": lambda cache: cache.set("new", "other"),
    "overwrite a file by a file": lambda cache: cache.set("old file", LARGE),
    "overwrite a file": lambda cache: cache.set("old file", 1),
    "add": lambda cache: cache.add("new", 1),
    "touch": lambda cache: cache.touch("tagged", 1000),
    "incr": lambda cache: cache.incr("n"),
    "incr of a new key": lambda cache: cache.incr("other n"),
    "delete": lambda cache: cache.delete("spare"),
    "delete a file": lambda cache: cache.delete("old file"),
    "pop": lambda cache: cache.pop("spare"),
    "push": lambda cache: cache.push("v"),
    "push a large value": lambda cache: cache.push(LARGE),
    "pull": lambda cache: cache.pull(),
    "set_many": lambda cache: cache.set_many({"new": 1, "newer": LARGE, "newest": 3}),
    "delete_many": lambda cache: cache.delete_many(["spare", "old file"]),
    "transact": lambda cache: transact(cache),
    "evict": lambda cache: cache.evict("spare"),
    "expire": lambda cache: cache.expire(),
    "cull": lambda cache: cache.cull(),
    "reset": lambda cache: cache.reset("cull_limit", 9),
    "check": lambda cache: cache.check(fix=True),
}


def transact(cache):
    with cache.transact():
        cache["new"] = 1
        cache["newer"] = LARGE
        cache.delete("spare")


def prepare(cache):
    for key, value in EARLIER.items():
        cache.set(key, value, tag="t" if key == "tagged" else None)
    cache["n"] = 1
    cache["old file"] = b"o" * 40_000
    cache.set("spare", b"s" * 40_000, tag="spare")
    cache.set("expired", 1, expire=-1)
    cache.push("first")


@pytest.fixture
def disk(monkeypatch, tmp_path):
    with failing_disk(monkeypatch) as disk:
        yield disk
    for database in tmp_path.rglob("cache.db"):
        assert_tidy(database.parent)


@contextlib.contextmanager
def refused_if_full():
    """Expect the error of a full disk, or none; yield a list that then holds it."""
    refused = []
    try:
        yield refused
    except CacheFullError as exc:
        refused.append(exc.errno)

    assert refused in ([], [errno.ENOSPC])


def assert_intact(cache):
    assert {key: cache.get(key) for key in EARLIER} == EARLIER


def assert_usable(cache, directory):
    cache["after"] = LARGE
    assert cache.pop("after") == LARGE
    with cache.transact():
        cache["after"] = 1
        del cache["after"]
    assert [str(finding.message) for finding in cache.check()] == []
    assert len(cache) == sum(1 for _ in cache.iterkeys())
    assert not os.listdir(Path(directory) / "tmp")


@pytest.mark.parametrize("name", ["set", "overwrite a file by a file", "delete a file", "transact"])
def test_quota_that_is_used_up_is_a_full_disk(disk, directory, name):
    disk.number = errno.EDQUOT
    with Cache(directory, memory_limit=0) as cache:
        prepare(cache)
        for number in itertools.count():
            disk.arm(number)
            with refused_if_full():
                OPERATIONS[name](cache)
            is_over = not disk.failures
            disk.disarm()
            assert_intact(cache)
            if is_over:
                break
        assert number > 1
        assert_usable(cache, directory)


@pytest.mark.parametrize("is_lasting", [True, False], ids=["for good", "once"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_call_that_can_fail_costs_nothing_but_the_operation(
    disk, directory, name, is_lasting
):
    operate = OPERATIONS[name]
    with Cache(directory, memory_limit=0) as cache:
        prepare(cache)
        for number in itertools.count():
            disk.arm(number, lasting=is_lasting)
            with refused_if_full():
                operate(cache)
            failures = disk.failures
            # Reading works while it is full.
            assert_intact(cache)
            disk.disarm()
            assert_usable(cache, directory)
            if not failures:
                break
            prepare(cache)

            assert number < 200, "it never succeeds"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_every_call_that_can_fail_while_a_cache_is_made_leaves_nothing_in_the_way(
    disk, tmp_path, error
):
    disk.number = error
    if error == errno.EDQUOT:
        disk.kinds -= {"open"}  # No connection tells why.
    for number in itertools.count():
        directory = tmp_path / str(number)
        disk.arm(number)
        with refused_if_full():
            Cache(directory).close()
        failures = disk.failures
        disk.disarm()
        with Cache(directory) as cache:
            cache["a"] = LARGE
            assert cache.check() == []
        if not failures:
            break
    assert number > 5


def test_every_call_that_can_fail_while_a_cache_is_opened_and_closed_costs_nothing(disk, directory):
    with Cache(directory) as cache:
        prepare(cache)
    for number in itertools.count():
        disk.arm(number)
        with refused_if_full(), Cache(directory) as cache:
            assert_intact(cache)
        failures = disk.failures
        disk.disarm()
        with Cache(directory) as cache:
            assert_intact(cache)
            assert_usable(cache, directory)
        if not failures:
            break


@pytest.mark.parametrize("kind", CALLS[:4])
def test_checkpoints_that_fail_cost_nothing(disk, directory, kind):
    """Whatever fails while the log is copied: the log has it all."""
    disk.kinds = frozenset({kind})
    with Cache(directory, memory_limit=0, size_limit=2**22) as cache:
        stored = {}
        for number in range(300):
            disk.arm(number % 7, lasting=number % 2 == 0)
            try:
                cache[number % 50] = str(number) * 500
                stored[number % 50] = str(number) * 500
            except CacheFullError:
                stored[number % 50] = cache.get(number % 50)
        disk.disarm()

        assert {key: cache.get(key) for key in stored} == stored
        assert_usable(cache, directory)


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (
            lambda path: Deque(directory=str(path)),
            [
                lambda deque: deque.append(LARGE),
                lambda deque: deque.appendleft(1),
                lambda deque: deque.rotate(1),
                lambda deque: deque.popleft(),
                lambda deque: deque.__setitem__(0, LARGE),
            ],
        ),
        (
            lambda path: Index(str(path)),
            [
                lambda index: index.__setitem__("new", LARGE),
                lambda index: index.setdefault("other", 1),
                lambda index: index.popitem(),
                lambda index: index.update({"x": 1, "y": LARGE}),
            ],
        ),
    ],
    ids=["deque", "index"],
)
def test_structures_are_before_or_behind_an_operation(disk, tmp_path, make, steps):
    for step in steps:
        for number in itertools.count():
            structure = make(tmp_path / f"{id(step)}-{number}")
            before = contents(fill(structure))
            disk.arm(number)
            with refused_if_full() as refused:
                step(structure)
            failures = disk.failures
            disk.disarm()
            # `update` stores one by one, as a dict does.
            assert not refused or contents(structure) == before or step is steps[-1]
            step(structure)
            assert structure.cache.check() == []
            structure.cache.close()
            if not failures:
                break


def fill(structure):
    if isinstance(structure, Deque):
        structure.extend([1, b"l" * 40_000, 3])
    else:
        structure.update({"a": 1, "b": b"l" * 40_000, "c": 3})
    return structure


def contents(structure):
    return list(structure) if isinstance(structure, Deque) else dict(structure.items())


def test_shards_are_intact_and_work_again(disk, directory):
    with FanoutCache(directory, shards=3) as cache:
        for number in range(30):
            cache[number] = number
        for number in range(40):
            disk.arm(number % 9)
            with refused_if_full():
                cache.set(f"new{number}", LARGE if number % 2 else number)
        disk.disarm()
        assert all(cache[number] == number for number in range(30))
        cache["after"] = LARGE
        assert cache.check() == []


# -- A real disk --


@pytest.fixture
def place(tmp_path):
    with small_disk(tmp_path / "disk") as place:
        yield place


def fill_up(cache, size):
    """Store until there is no room; return what is stored."""
    stored = {}
    with pytest.raises(OSError, match="full") as caught:
        for number in itertools.count():
            value = os.urandom(size)
            cache.set(number, value, tag="odd" if number % 2 else "even")
            stored[number] = value
    assert caught.value.errno == errno.ENOSPC
    assert isinstance(caught.value, CacheFullError)
    return stored


REMOVALS = {
    "delete": lambda cache: cache.delete(0) and cache.delete(7),
    "pop": lambda cache: cache.pop(0),
    "delete_many": lambda cache: cache.delete_many([0, 3]),
    "clear": lambda cache: cache.clear(),
    "evict": lambda cache: cache.evict("odd"),
    "expire": lambda cache: cache.expire(),
    "cull": lambda cache: cache.cull(),
}


@pytest.mark.parametrize(
    ("size", "is_reopened"), [(300, False), (1500, True), (40_000, False), (40_000, True)]
)
@pytest.mark.parametrize("name", REMOVALS)
def test_full_disk_is_read_and_emptied(place, name, size, is_reopened):
    directory = place / "cache"
    ballast = Ballast(place)
    limit = 5 * 2**20 if name == "cull" else 2**30
    cache = Cache(directory, size_limit=limit, cull_limit=0)
    try:
        cache.set("expired", 1, expire=-1)
        stored = {"expired": 1, **fill_up(cache, size)}
        if is_reopened:
            cache.close()
        ballast.fill()
        if is_reopened:
            cache = Cache(directory)
        for key in list(stored)[1 :: max(len(stored) // 200, 1)]:
            assert cache.get(key) == stored[key]

        assert REMOVALS[name](cache)

        left = {key: cache.get(key) for key in cache if key != "expired" or cache.get(key)}
        assert {k: v for k, v in left.items() if v != stored[k]} == {}
        if name == "clear":
            assert left == {}
        elif name == "cull":
            assert cache.volume() <= limit
            assert len(left) > 0
        assert not os.listdir(directory / "tmp")
        cache.close()
        cache = Cache(directory)
        assert len(left) <= len(cache) <= len(left) + 1, "the expired one may still be there"
        ballast.remove()
        cache["after"] = LARGE
        assert cache["after"] == LARGE
        assert cache.check() == []
    finally:
        cache.close()
    assert_tidy(directory)


def test_full_disk_again_and_again_is_emptied_each_time(place):
    """What is kept for a full disk comes back when there is room."""
    directory = place / "cache"
    with Cache(directory, size_limit=2**30, cull_limit=0) as cache:
        for number in range(4):
            stored = fill_up(cache, 1500 if number % 2 else 40_000)
            assert all(cache.delete(key) for key in list(stored)[:20])
            cache.clear()
            assert len(cache) == 0
        assert (directory / "reserve").exists()


@pytest.mark.parametrize("fix", [False, True])
def test_full_disk_is_checked_although_a_writer_died(place, fix):
    """The totals are counted anew, which is a write."""
    ballast = Ballast(place)
    with Cache(place / "cache", size_limit=2**30, cull_limit=0) as cache:
        stored = fill_up(cache, 40_000)
        ballast.fill()
        for _ in range(20):
            cache._engine._link().site.control.words[BEGIN] += 1
            assert cache.check(fix=fix) == []
        assert len(cache) == len(stored)
        assert cache.delete(0)


def test_no_part_of_a_file_stays_on_a_full_disk(place):
    directory = place / "cache"
    with Cache(directory, size_limit=2**30, cull_limit=0) as cache:
        fill_up(cache, 900_000)
        before = sorted(path.stat().st_size for path in directory.rglob("*.val"))
        for _ in range(5):
            with pytest.raises(CacheFullError):
                cache["large"] = b"x" * 3_000_000
            with pytest.raises(CacheFullError):
                cache.set_many({"one": b"x" * 1_000_000, "two": b"y" * 3_000_000})

        assert not os.listdir(directory / "tmp")
        assert sorted(path.stat().st_size for path in directory.rglob("*.val")) == before
        assert cache.check() == []


def test_a_transaction_on_a_full_disk_is_undone_as_a_whole(place):
    directory = place / "cache"
    ballast = Ballast(place)
    with Cache(directory, size_limit=2**30, cull_limit=0) as cache:
        cache["kept"] = 1
        fill_up(cache, 40_000)
        ballast.fill()
        with pytest.raises(OSError, match="full"), cache.transact():
            cache["kept"] = 2
            for number in range(100_000):
                cache[f"new{number}"] = "x" * 500
        assert cache["kept"] == 1
        assert "new0" not in cache
        ballast.remove()
        with cache.transact():
            cache["kept"] = 3
        assert cache["kept"] == 3
        assert cache.check() == []


def crowd(directory, name):
    """Store until long after the disk is full; return how many removals it was too full for."""
    failed = refused = 0
    with Cache(directory, size_limit=2**30) as cache:
        numbers = itertools.count()
        while refused < 200:
            number = next(numbers)
            key = f"{name}-{number}"
            try:
                cache.set(key, f"{key}:" * (2, 50, 5000)[number % 3])
            except CacheFullError:
                refused += 1
            if number % 20 == 19:
                try:
                    cache.delete(f"{name}-{number - 10}")
                except CacheFullError:
                    failed += 1
    return failed


def test_processes_that_fill_a_disk_together_can_remove_and_open(place):
    """What one gives up for a removal is not taken by another that stores."""
    directory = place / "cache"
    for number in range(3):
        failed = in_processes(crowd, [(directory, f"{number}-{name}") for name in range(3)])
        assert failed == [0, 0, 0]
        with Cache(directory) as cache:
            assert cache.delete(next(iter(cache)))
            assert cache.check() == []
            cache.clear()
            cache["after"] = LARGE
