"""Each invariant of a directory is broken alone, found alone, and mended."""

from __future__ import annotations

import os
import sys
import threading
import warnings

import apsw
import pytest

from diskcache import Cache, EmptyDirWarning, UnknownFileWarning
from diskcache.engines.sqlite.control import BYTES, COUNT, HEADER
from tests.support.crew import in_processes
from tests.support.leaks import value_files

STRAY = "ab/cd/00112233445566778899aabbccdd.val"


@pytest.fixture
def cache(make_cache):
    cache = make_cache(memory_limit=0)
    cache["small"] = 1
    cache["text"] = "t"
    cache["large"] = b"x" * 100_000
    return cache


def change(cache, statement):
    """Write to the database past the library."""
    # Not through the SQLite of Python: what it closes is closed for the whole process.
    connection = apsw.Connection(f"{cache.directory}/cache.db")
    try:
        connection.execute(statement)
    finally:
        connection.close()


def words(cache):
    return cache._engine._link().site.control.words


def file_is_gone(cache):
    (path,) = value_files(cache.directory)
    path.unlink()
    path.parent.rmdir()
    path.parent.parent.rmdir()


def file_is_short(cache):
    value_files(cache.directory)[0].write_bytes(b"x")


def file_is_stray(cache):
    folder = value_files(cache.directory)[0].parent
    (folder / ("0" * 28 + ".val")).write_bytes(b"stray")


def folder_is_empty(cache):
    (path,) = value_files(cache.directory)
    name = "00" if path.parent.name != "00" else "01"
    (path.parent.parent / name).mkdir()


def leftover(cache):
    with open(f"{cache.directory}/cache.db.new", "wb") as file:
        file.write(b"half a database")


def name_leads_outside(cache):
    change(cache, "UPDATE Cache SET file = '../outside' WHERE key = 'large'")
    for path in value_files(cache.directory):
        path.unlink()
        path.parent.rmdir()
        path.parent.parent.rmdir()


def value_is_missing(cache):
    change(cache, "UPDATE Cache SET value = NULL WHERE key = 'small'")


def mode_is_text(cache):
    change(cache, "UPDATE Cache SET mode = 'one' WHERE key = 'small'")


def text_is_torn(cache):
    change(cache, "UPDATE Cache SET value = CAST(x'ff' AS TEXT) WHERE key = 'text'")


def count_is_wrong(cache):
    words(cache)[COUNT] += 5


def size_is_wrong(cache):
    words(cache)[BYTES] += 5


def generation_is_odd(cache):
    words(cache)[HEADER + 7] |= 1


BREAKS = {
    file_is_gone: "file not found",
    file_is_short: "wrong file size",
    file_is_stray: "unknown file",
    folder_is_empty: "empty directory",
    leftover: "unknown file",
    name_leads_outside: "not the name of a value file",
    value_is_missing: "entries have no value",
    mode_is_text: "entries have no value",
    text_is_torn: "entries have no value",
    count_is_wrong: "count of entries is 8, should be 3",
    size_is_wrong: "size of entries is 100005, should be 100000",
    generation_is_odd: "1 generations are odd",
}


@pytest.mark.parametrize("broken", BREAKS, ids=lambda function: function.__name__)
def test_invariant_that_is_broken_is_found_alone_and_mended(cache, broken):
    broken(cache)
    found = [str(each.message) for each in cache.check()]

    assert len(found) == 1
    assert BREAKS[broken] in found[0]
    assert [str(each.message) for each in cache.check()] == found, "looking changes nothing"
    assert [str(each.message) for each in cache.check(fix=True)] == found
    assert cache.check() == []
    assert len(cache) == sum(1 for _ in cache)


def test_file_of_an_unsound_entry_goes_with_it(cache):
    (path,) = value_files(cache.directory)
    change(cache, "UPDATE Cache SET mode = 'one' WHERE key = 'large'")
    found = [str(each.message) for each in cache.check(fix=True)]

    assert found[0] == "1 entries have no value, two, or columns of wrong types"
    assert found[1:] == [f"unknown file: {path}"]
    assert cache.check() == []
    assert value_files(cache.directory) == []


def test_unknown_kind_is_reported_and_kept(cache):
    change(cache, "UPDATE Cache SET mode = 12 WHERE key = 'small'")
    for fix in (False, True, False):
        (found,) = cache.check(fix=fix)
        assert "entries are of an unknown kind" in str(found.message)

    change(cache, "UPDATE Cache SET mode = 1 WHERE key = 'small'")
    assert cache["small"] == 1


@pytest.mark.parametrize("action", ["ignore", "error", "once"])
@pytest.mark.parametrize("broken", [file_is_gone, count_is_wrong, value_is_missing])
def test_findings_do_not_depend_on_filters(cache, broken, action):
    broken(cache)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        assert len(cache.check()) == 1
        assert len(cache.check()) == 1
    cache.check(fix=True)


def test_what_a_user_keeps_below_the_directory_stays(cache, directory):
    kept = {
        "thesis.txt": b"mine",
        "photos/1.jpg": b"mine",
        "ab/notes.txt": b"mine, in a folder of the library's name",
        "ab/cd/00112233.val": b"nearly a name of the library's",
        "tmp/draft.txt": b"mine",
        "control.bak": b"mine",
        "damaged-mine/cache.db": b"no folder of the library's",
    }
    for name, content in kept.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    (directory / "empty").mkdir()
    (directory / STRAY).write_bytes(b"stray")

    categories = {each.category for each in cache.check(fix=True)}

    assert {UnknownFileWarning, EmptyDirWarning} == categories
    assert {name: (directory / name).read_bytes() for name in kept} == kept
    assert (directory / "empty").is_dir()
    assert not (directory / STRAY).exists()
    (directory / "empty").rmdir()
    for name in sorted(kept, reverse=True):
        (directory / name).unlink()
        if not any((directory / name).parent.iterdir()) and "tmp" not in name:
            (directory / name).parent.rmdir()
    if (directory / "ab").is_dir() and not any((directory / "ab").iterdir()):
        (directory / "ab").rmdir()


def write(directory, name):
    """Write and remove, values in files and in the database, for a while."""
    with Cache(directory) as cache:
        for number in range(250):
            key = f"{name}{number % 7}"
            cache[key] = b"x" * (40_000 if number % 2 else 10)
            if number % 5 == 0:
                cache.pop(key)
            if number % 20 == 0:
                cache.set_many({f"{name}a": 1, f"{name}b": b"y" * 40_000})
            if number % 60 == 0:
                cache.clear()
    return []


def check(directory, fix):
    with Cache(directory) as cache:
        return [str(each.message) for _ in range(25) for each in cache.check(fix=fix)]


@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_name_that_is_not_utf_8_is_a_file_of_nobody(cache, directory):
    path = os.path.join(os.fsencode(directory), b"caf\xe9")
    with open(path, "wb"):
        pass
    found = [[warning.category for warning in cache.check(fix=fix)] for fix in (False, True)]

    assert found == [[UnknownFileWarning]] * 2
    assert os.path.exists(path)
    os.unlink(path)


def test_check_beside_live_writers_raises_no_false_alarm(directory):
    found = in_processes(
        lambda kind, *given: kind(*given),
        [(write, directory, "a"), (write, directory, "b"), (check, directory, False),
         (check, directory, True)],
    )  # fmt: skip
    assert found == [[], [], [], []]


def test_check_beside_threads_that_write_raises_no_false_alarm(directory):
    with Cache(directory) as cache:
        done = threading.Event()

        def work():
            number = 0
            while not done.is_set():
                number += 1
                cache[number % 5] = b"x" * (40_000 if number % 2 else 10)
                cache.pop(number % 3)
            cache.close()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        found = [str(each.message) for _ in range(20) for each in cache.check()]
        done.set()
        for thread in threads:
            thread.join()

        assert found == []
