"""A damaged database costs a cache its content, as far as it cannot be read, and never the service.

Property: whatever is done to the file, the second open works at the latest; no value is wrong; what
was damaged lies in a folder of its own; one warning tells so; the new database is sound. Databases
of others, and newer ones, stay as they are, and nothing but damage is taken for damage.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sqlite3
import threading
import warnings
from pathlib import Path

import apsw
import pytest

from diskcache import (
    Cache,
    CacheCorruptError,
    CacheCorruptionWarning,
    CacheFormatError,
    Deque,
    DiskCacheError,
    FanoutCache,
    Index,
    NewerFormatError,
)
from diskcache.cli.main import main
from diskcache.engines.sqlite import control, quarantine, salvage
from diskcache.files import ValueFiles
from diskcache.testing import ManualClock
from tests.faults import damage
from tests.support.crew import in_processes, run_script

pytestmark = pytest.mark.damaged("that is what is tested")

CONTENT = {
    **{f"k{number}": [number, "x" * (number % 100)] for number in range(150)},
    **{f"f{number}": bytes([number]) * 40_000 for number in range(4)},
}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Nobody else has the directory open, who would have to be waited for."""
    monkeypatch.setattr(control, "LOOK_EVERY", 0)
    monkeypatch.setattr(control, "LEASE", 0)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    directory = tmp_path_factory.mktemp("original") / "cache"
    with Cache(directory) as cache:
        for key, value in CONTENT.items():
            cache.set(key, value, tag="t" if key.startswith("f") else None)
    return directory


@pytest.fixture
def size(original):
    return (original / "cache.db").stat().st_size


@pytest.fixture
def copy(original, tmp_path):
    shutil.copytree(original, tmp_path / "copy")
    return tmp_path / "copy"


def used(directory: Path, opens: int = 2) -> tuple[dict[str, object], list[str]]:
    """Use a damaged cache as a program would; return what it still has, and the warnings.

    An error may end the program once, and not be one of somebody else's.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for attempt in range(opens):
            try:
                found = use(directory)
                break
            except DiskCacheError:
                assert attempt < opens - 1, "it does not work at the second open"
    told = [str(each.message) for each in caught if each.category is CacheCorruptionWarning]

    assert {key: value for key, value in found.items() if value != CONTENT[key]} == {}
    return found, told


def use(directory: Path) -> dict[str, object]:
    with Cache(directory) as cache:
        found = {key: cache.get(key) for key in CONTENT}
        cache["new"] = b"n" * 50_000
        assert cache.pop("new") == b"n" * 50_000
        # Damage that no operation met is found, and mended, here.
        cache.check(fix=True)
        assert [str(each.message) for each in cache.check()] == []
        found = {key: cache[key] for key in found if key in cache}
        assert len(cache) == sum(1 for _ in cache)
    return found


def folders(directory: Path) -> list[Path]:
    return sorted(directory.glob("damaged-*"))


def test_every_page_of_garbage_in_turn_costs_no_more_than_that_page(original, size, tmp_path):
    kept = []
    for number, spoil in enumerate(damage.pages_of_garbage(size)):
        copy = tmp_path / str(number)
        shutil.copytree(original, copy)
        before = (copy / "cache.db").read_bytes()
        spoil(copy)
        after = (copy / "cache.db").read_bytes()
        found, told = used(copy)
        kept.append(len(found))

        assert len(told) <= 1
        assert [(folder / "cache.db").stat().st_size for folder in folders(copy)] == [len(before)]
        assert not told or (folders(copy)[0] / "cache.db").read_bytes() == after
        shutil.rmtree(copy)

    # One page is the root of the table; without the others a few entries are lost at most.
    worst, second = sorted(kept)[:2]
    assert worst == 0
    assert second > 0.75 * len(CONTENT)
    assert kept[0] == len(CONTENT), "the first page tells nothing that is not known"


@pytest.mark.parametrize(
    "length", [0, 1, 99, 100, 511, 512, 1000, 2047, 2048, 6000, 10_240, 20_001]
)
def test_truncated_database_is_set_aside(copy, length):
    damage.truncated(length)(copy)
    found, told = used(copy)

    assert len(told) == 1
    assert len(folders(copy)) == 1
    assert len(found) < len(CONTENT)


def test_disk_that_damages_again_and_again_does_not_fill_up(copy, tmp_path):
    (tmp_path / "kept").mkdir()
    (copy / "damaged-20000101T000000-0123abcd").symlink_to(tmp_path / "kept")
    (copy / "damaged-by-me").mkdir()
    (copy / "damaged-by-me" / "note").touch()
    of_a_user = set(folders(copy))
    for _ in range(5):
        damage.overwritten(0, bytes(100))(copy)
        before = set(folders(copy))
        with pytest.warns(CacheCorruptionWarning), Cache(copy) as cache:
            cache["new"] = 1
        made = set(folders(copy)) - before

        assert len(made) == 1
    assert len(set(folders(copy)) - of_a_user) == 3
    assert of_a_user < set(folders(copy))
    assert (tmp_path / "kept").is_dir()


@pytest.mark.parametrize("lost", [1, 100, 2048, 5000])
def test_database_without_its_end_is_set_aside_or_whole(copy, size, lost):
    damage.truncated(size - lost)(copy)
    used(copy)


@pytest.mark.parametrize("length", [1, 16, 100, 2048])
def test_zeroed_header_costs_nothing(copy, length):
    damage.overwritten(0, bytes(length))(copy)
    found, told = used(copy)

    assert found == CONTENT
    if length >= 16:
        assert len(told) == 1


def test_all_zeros_cost_the_content(copy, size):
    damage.overwritten(0, bytes(size))(copy)
    found, told = used(copy)

    assert found == {}
    assert len(told) == 1


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bits_cost_no_more_than_entries(copy, size, seed):
    """In the pages of values a flip may go unnoticed, so only keys and errors are judged."""
    damage.flipped(seed, 1 + seed % 8, size)(copy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for attempt in range(2):
            try:
                with Cache(copy) as cache:
                    for key in CONTENT:
                        cache.get(key)
                    cache["new"] = 1
                    assert cache["new"] == 1
                    cache.check(fix=True)
                    assert cache.check() == []
                break
            except NewerFormatError:
                break  # The number of the format was hit, and what is newer stays.
            except DiskCacheError:
                assert attempt == 0


@pytest.mark.parametrize("name", ["control", "gate.lock", "users.lock"])
def test_missing_companion_costs_nothing(copy, name):
    damage.without(name)(copy)
    found, told = used(copy)

    assert found == CONTENT
    assert told == []


KILLED = """
import os, signal, sys
from diskcache import Cache
cache = Cache(sys.argv[1])
cache['late'] = b'l' * 40_000
cache['small'] = 1
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    "names", [["cache.db-wal"], ["cache.db-shm"], ["cache.db-wal", "cache.db-shm"]]
)
def test_lost_log_costs_what_was_in_it(copy, names):
    run_script(KILLED, copy)
    for name in names:
        damage.without(name)(copy)
    with Cache(copy) as cache:
        assert cache.get("late") == (None if "cache.db-wal" in names else b"l" * 40_000)
        cache["more"] = 1
        assert len(cache) == sum(1 for _ in cache)
        assert [str(each.message) for each in cache.check()] == []
        assert {key: cache[key] for key in CONTENT} == CONTENT


@pytest.mark.parametrize("place", [0, 40])
def test_log_that_is_none_any_more_costs_what_was_in_it(copy, place):
    """The totals were those of what SQLite does not read any more."""
    run_script(KILLED, copy)
    with open(copy / "cache.db-wal", "r+b") as file:
        file.seek(place)
        file.write(b"garbage")
    with Cache(copy) as cache:
        assert cache.get("late") is None
        cache["more"] = 1
        assert len(cache) == sum(1 for _ in cache)
        assert [str(each.message) for each in cache.check()] == []
        assert {key: cache[key] for key in CONTENT} == CONTENT


@pytest.mark.parametrize("left", [["cache.db-wal", "cache.db-shm"], ["cache.db-shm"]])
def test_emptied_database_beside_what_a_killed_process_left_is_set_aside(copy, left):
    run_script(KILLED, copy)
    os.truncate(copy / "cache.db", 0)
    if "cache.db-wal" not in left:
        damage.without("cache.db-wal")(copy)

    assert len(used(copy)[1]) == 1


def test_foreign_log_beside_our_database_is_set_aside(copy, tmp_path):
    """SQLite would make of the cache what the log is of."""
    os.mkdir(tmp_path / "other")
    damage.foreign_in_use(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "cache.db-wal", copy)
    found, told = used(copy)

    assert found == CONTENT
    assert len(told) == 1


def test_foreign_log_beside_a_structure_is_told_and_mended_on_request(tmp_path, copy):
    index = Index(str(tmp_path / "index"), a=1)
    index.cache.close()
    os.mkdir(tmp_path / "other")
    damage.foreign_in_use(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "cache.db-wal", tmp_path / "index")
    for opened in (Index, Cache):
        with pytest.raises(CacheCorruptError, match="check --fix"):
            opened(str(tmp_path / "index"))
    main(["check", "--fix", str(tmp_path / "index")])

    assert dict(Index(str(tmp_path / "index"))) == {"a": 1}


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
@pytest.mark.parametrize("has_locks", [True, False])
def test_foreign_database_that_was_in_use_stays_as_it_is(copy, has_locks, mode):
    for path in list(copy.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name.startswith("cache.db") or not has_locks:
            path.unlink()
    damage.foreign_in_use(copy, mode)
    before = {path.name: path.read_bytes() for path in copy.glob("cache.db*")}
    for readonly in (False, True, False):
        with pytest.raises(CacheFormatError):
            Cache(copy, readonly=readonly)

    # The index of a log is made anew by whoever looks.
    before.pop("cache.db-shm", None)
    assert {name: (copy / name).read_bytes() for name in before} == before


def test_log_of_a_database_that_is_gone_is_not_taken_for_that_of_the_next(copy):
    run_script(KILLED.replace("cache['small']", "for n in range(100): cache[n]"), copy)
    damage.without("cache.db")(copy)
    with Cache(copy) as cache:
        assert list(cache) == []
        assert len(cache) == 0
        cache["a"] = 1
        cache.check(fix=True)
        assert cache.check() == []
        assert list(cache) == ["a"]


def test_stray_garbage_log_costs_nothing(copy):
    (copy / "cache.db-wal").write_bytes(os.urandom(10_000))
    (copy / "cache.db-shm").write_bytes(os.urandom(32_768))
    found, told = used(copy)

    assert found == CONTENT
    assert told == []


def test_garbage_log_holds_no_reader_up_and_is_none_for_the_command_line(copy, capsys):
    (copy / "cache.db-wal").write_bytes(b"garbage" * 1000)
    clock = ManualClock()
    with Cache(copy, readonly=True, clock=clock) as reader:
        assert {key: reader[key] for key in CONTENT} == CONTENT
        assert main(["check", "--fix", str(copy)]) == 0
        assert capsys.readouterr().out == "no problems found\n"

        with Cache(copy) as cache:
            cache["later"] = 1
            clock.advance(1)
            assert reader["later"] == 1


@pytest.mark.parametrize("index", [b"", "later"])
def test_index_that_is_none_of_its_log_leads_no_reader_astray(copy, tmp_path, index):
    """It is never flushed, and copied at another moment than the log."""
    run_script(KILLED, copy)
    if index == "later":
        shutil.copytree(copy, tmp_path / "later")
        run_script(KILLED.replace("late", "much later"), tmp_path / "later")
        index = (tmp_path / "later" / "cache.db-shm").read_bytes()
    (copy / "cache.db-shm").write_bytes(index)
    with Cache(copy, readonly=True) as cache:
        assert cache["late"] == b"l" * 40_000
        assert {key: cache[key] for key in CONTENT} == CONTENT
        assert len(cache) == sum(1 for _ in cache)
        assert cache.info().off == {}


COPIED = """
import os, shutil, sys
from diskcache import Cache
source, target = sys.argv[1:]
cache = Cache(source)
os.mkdir(target)
for name in ('control', 'gate.lock', 'users.lock'):
    shutil.copy(f'{source}/{name}', target)
cache['late'] = [1]
for name in ('cache.db', 'cache.db-wal'):
    os.system(f'cp {source}/{name} {target}')
"""


def test_copy_of_a_directory_in_use_counts_its_entries(copy, tmp_path):
    """Its files are of several moments."""
    assert run_script(COPIED, copy, tmp_path / "target").returncode == 0
    with Cache(tmp_path / "target") as cache:
        assert cache["late"] == [1]
        assert len(cache) == sum(1 for _ in cache) == len(CONTENT) + 1
        cache["more"] = 1
        assert len(cache) == len(CONTENT) + 2
        assert [message for message in map(str, cache.check()) if "count" in message] == []


# -- What is never touched --


@pytest.mark.parametrize("kind", [damage.foreign, damage.newer])
@pytest.mark.parametrize("has_locks", [True, False])
def test_foreign_and_newer_databases_stay_as_they_are(copy, kind, has_locks):
    kind(copy)
    if not has_locks:
        (copy / "gate.lock").unlink()
    before = (copy / "cache.db").read_bytes()
    for _ in range(2):
        with pytest.raises(CacheFormatError):
            Cache(copy)
    with pytest.raises(CacheFormatError):
        Cache(copy, readonly=True)

    assert (copy / "cache.db").read_bytes() == before
    assert folders(copy) == []


def test_text_file_of_a_stranger_stays_as_it_is(tmp_path):
    (tmp_path / "cache.db").write_text("a diary " * 500)
    for _ in range(2):
        with pytest.raises(DiskCacheError):
            Cache(tmp_path)

    assert os.listdir(tmp_path) == ["cache.db"]


@pytest.mark.parametrize(
    "options", [{"readonly": True}, {"strict": True}, {"eviction_policy": "none"}]
)
def test_damage_is_only_told_where_nobody_asked_for_more(copy, options):
    damage.overwritten(0, bytes(100))(copy)
    before = (copy / "cache.db").read_bytes()
    for _ in range(2):
        with pytest.raises(CacheCorruptError, match="python -m diskcache check --fix"):
            Cache(copy, **options)

    assert (copy / "cache.db").read_bytes() == before
    assert folders(copy) == []


@pytest.mark.parametrize(
    "error", [apsw.BusyError, apsw.FullError, apsw.IOError, apsw.PermissionsError, apsw.NoMemError,
              apsw.CantOpenError, apsw.ReadOnlyError, apsw.InterruptError, apsw.LockedError]
)  # fmt: skip
def test_other_errors_are_never_taken_for_damage(copy, error, monkeypatch):
    monkeypatch.setattr(quarantine, "set_aside", lambda *_, **__: pytest.fail("set aside"))
    with Cache(copy, timeout=0.01, memory_limit=0) as cache:
        cache.get("k1")
        engine = cache._engine
        link = engine._link()

        def fail(*_):
            raise error("as injected")

        monkeypatch.setattr(link, "look_up", fail)
        monkeypatch.setattr(link, "execute", fail)
        monkeypatch.setattr(link, "run", fail)
        for operate in (lambda: cache.get("k1"), lambda: cache.set("k1", 2), lambda: len(cache)):
            with contextlib.suppress(DiskCacheError):
                operate()
        link.renew_cursors()
        link.execute = link.con.execute
        monkeypatch.undo()
        assert cache.get("k1") == CONTENT["k1"]


def test_error_of_one_connection_alone_is_no_damage(copy, monkeypatch):
    """A second look, on a connection of its own, decides."""
    with Cache(copy, memory_limit=0) as cache:
        link = cache._engine._link()

        def fail(*_):
            raise apsw.CorruptError("as injected")

        link.look_up = link.execute = fail
        with pytest.raises(CacheCorruptError):
            cache.get("k1")
        cache.close()

        assert folders(copy) == []
        assert cache.get("k1") == CONTENT["k1"]


# -- In the middle of use --


def spoil_table(directory: Path) -> None:
    """Damage the table and its index under whoever has them open."""
    size = (directory / "cache.db").stat().st_size
    script = (
        "import sys\nwith open(sys.argv[1], 'r+b') as file:\n"
        f" file.seek(3 * 2048)\n file.write(b'\\xa5' * ({size} - 3 * 2048))"
    )
    run_script(script, directory / "cache.db")


@pytest.mark.parametrize(
    ("operate", "expected"),
    [
        (lambda cache: cache.get("k1"), None),
        (lambda cache: cache.set("k1", 5), True),
        (lambda cache: cache.set("k1", b"x" * 50_000), True),
        (lambda cache: cache.delete("k1"), False),
        (lambda cache: cache.incr("n"), 1),
        (lambda cache: "k1" in cache, False),
        (lambda cache: cache.pop("k1"), None),
        (lambda cache: cache.push("v"), 500_000_000_000_000),
        (lambda cache: cache.pull(), (None, None)),
        (lambda cache: cache.set_many({"a": 1}), 1),
        (lambda cache: cache.get_many(["k1"]), {}),
        (lambda cache: cache.clear(), 0),
        (lambda cache: cache.expire(), 0),
        (lambda cache: list(cache), []),
        (lambda cache: cache.peekitem, None),
    ],
)  # fmt: skip
def test_damage_in_the_middle_of_use_is_set_aside_at_once(copy, operate, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheCorruptionWarning)
        with Cache(copy, memory_limit=0, sqlite_cache_size=1) as cache:
            spoil_table(copy)
            try:
                result = operate(cache)
            except CacheCorruptError:
                result = operate(cache)

            if expected is not None:
                assert result == expected
            cache["after"] = 1
            assert cache["after"] == 1
            cache.check(fix=True)
            assert cache.check() == []
            assert len(folders(copy)) == 1


def test_cache_that_was_closed_sets_the_damage_aside_when_it_is_used_again(copy):
    cache = Cache(copy)
    assert cache.get("k1") == CONTENT["k1"]
    cache.close()
    damage.overwritten(0, bytes(100))(copy)
    with pytest.warns(CacheCorruptionWarning):
        assert cache.get("k1") == CONTENT["k1"]
    cache["k1"] = 2
    cache.close()
    assert len(folders(copy)) == 1


def test_damage_in_a_transaction_is_raised_and_set_aside_afterwards(copy):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheCorruptionWarning)
        with Cache(copy, memory_limit=0, sqlite_cache_size=1) as cache:
            spoil_table(copy)
            with pytest.raises(DiskCacheError), cache.transact():
                for key in CONTENT:
                    cache.get(key)
                    cache[key] = 1
            assert cache.get("k1") is None
            with cache.transact():
                cache["k1"] = 2
            assert cache["k1"] == 2


def write_on(directory, name):
    """Read and write until somebody has set the damage aside, and then write some more."""
    directory = Path(directory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheCorruptionWarning)
        with Cache(directory, memory_limit=0, sqlite_cache_size=1) as cache:
            for number in range(100_000):
                with contextlib.suppress(CacheCorruptError):
                    cache[f"{name}{number % 50}"] = number
                    if name != "c":
                        cache.get(f"k{number % 150}")
                if number == 100 and name == "a":
                    spoil_table(directory)
                if number % 20 == 0 and folders(directory):
                    break
            for number in range(20):
                cache[f"{name}-late{number}"] = number
    return f"{name}-late"


def test_live_processes_go_on_in_one_new_database(copy, monkeypatch):
    monkeypatch.undo()
    late = in_processes(write_on, [(copy, name) for name in "abc"], limit=100)
    with Cache(copy) as cache:
        missing = [f"{p}{n}" for p in late for n in range(20) if cache.get(f"{p}{n}") != n]
        assert missing == []
        assert cache.check() == []
    assert len(folders(copy)) == 1


def test_threads_that_meet_the_damage_together_set_it_aside_once(copy):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheCorruptionWarning)
        cache = Cache(copy, memory_limit=0, sqlite_cache_size=1)
        spoil_table(copy)
        failed = []

        def look():
            for key in CONTENT:
                try:
                    cache.get(key)
                except DiskCacheError as exc:
                    failed.append(exc)
            cache.close()

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        cache.close()

    assert failed == []
    assert len(folders(copy)) == 1


def test_memory_does_not_outlive_the_database(copy, monkeypatch):
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheCorruptionWarning)
        with Cache(copy) as mine, Cache(copy, memory_limit=0, sqlite_cache_size=1) as other:
            for _ in range(3):
                assert mine.get("k1") == CONTENT["k1"]
            spoil_table(copy)
            other.clear()
            other["k1"] = "new"

            assert mine.get("k1") == "new"


# -- Caches that may lose nothing --


@pytest.mark.parametrize("spoil", [damage.overwritten(0, bytes(100)), damage.truncated(0)])
@pytest.mark.parametrize("make", [Index, lambda directory: Deque(directory=directory)])
def test_structures_raise_and_name_the_remedy(tmp_path, make, spoil, capsys):
    with Index(tmp_path / "x").cache as cache:
        cache.set_many({number: number for number in range(100)})
    spoil(tmp_path / "x")
    for _ in range(2):
        with pytest.raises(CacheCorruptError, match="python -m diskcache check --fix"):
            make(str(tmp_path / "x"))

    assert main(["check", str(tmp_path / "x")]) == 1
    assert main(["check", "--fix", str(tmp_path / "x")]) == 0
    assert main(["check", str(tmp_path / "x")]) == 0
    capsys.readouterr()
    make(str(tmp_path / "x")).cache.close()
    assert len(folders(tmp_path / "x")) == 1


def test_structure_in_use_raises_and_is_mended_on_request(tmp_path):
    index = Index(tmp_path / "x")
    index.update(dict.fromkeys(range(300), "x" * 200))
    index.cache.close()
    spoil = damage.overwritten(9 * 2048, b"\xa5" * 8192)
    spoil(tmp_path / "x")
    with pytest.raises(CacheCorruptError, match="check --fix"):
        list(index.items())
    assert folders(tmp_path / "x") == []

    found = [str(each.message) for each in index.cache.check(fix=True)]

    assert "entries that could be read go on in a new one" in found[-1]
    assert index.cache.check() == []
    assert 150 < len(index) < 300
    assert set(index.values()) == {"x" * 200}
    index.cache.close()


def test_stored_policy_that_loses_nothing_is_respected(tmp_path):
    """Also by who opens the directory without saying so, as long as it can be read."""
    with Cache(tmp_path / "c", eviction_policy="none") as cache:
        cache.set_many(dict.fromkeys(range(300), "x" * 200))
    damage.overwritten(12 * 2048, b"\xa5" * 2048)(tmp_path / "c")
    with Cache(tmp_path / "c") as cache, pytest.raises(CacheCorruptError):
        list(map(cache.get, range(300)))
    assert folders(tmp_path / "c") == []


@pytest.mark.parametrize("length", [16, 100, 2048])
def test_stored_policy_behind_a_lost_header_is_respected(tmp_path, length):
    with Cache(tmp_path / "c", eviction_policy="none") as cache:
        cache.set_many(dict.fromkeys(range(300), "x" * 200))
    damage.overwritten(0, bytes(length))(tmp_path / "c")
    damage.overwritten(12 * 2048, b"\xa5" * 2048)(tmp_path / "c")
    with pytest.raises(CacheCorruptError, match="policy is 'none'"):
        Cache(tmp_path / "c")

    assert folders(tmp_path / "c") == []
    assert main(["check", "--fix", str(tmp_path / "c")]) == 0
    with Cache(tmp_path / "c") as cache:
        assert cache.eviction_policy == "none"
        assert 150 < len(cache) < 300


# -- Shards, copies, and what stays --


def test_one_damaged_shard_costs_only_that_one(tmp_path):
    with FanoutCache(tmp_path / "c", shards=4) as cache:
        for number in range(200):
            cache[number] = number
        before = [len(shard) for shard in cache._shards]
    damage.overwritten(0, bytes(40_000))(tmp_path / "c" / "002")
    with pytest.warns(CacheCorruptionWarning) as told, FanoutCache(tmp_path / "c") as cache:
        after = [len(shard) for shard in cache._shards]
        cache["new"] = 1
        assert cache["new"] == 1
        assert cache.check() == []

    assert len(told) == 1
    assert [n for n, m in zip(after, before, strict=True) if n != m] == [after[2]]


def test_settings_tags_and_order_survive(tmp_path):
    with Cache(tmp_path / "c", size_limit=10**7, cull_limit=3, tag_index=True) as cache:
        for number in (3, 1, 2):
            cache.push(number)
            cache.set(f"t{number}", number, tag="even" if number % 2 == 0 else "odd", expire=900)
        cache_id = cache.info().cache_id
    damage.overwritten(0, bytes(100))(tmp_path / "c")
    with pytest.warns(CacheCorruptionWarning), Cache(tmp_path / "c") as cache:
        assert (cache.size_limit, cache.cull_limit, bool(cache.tag_index)) == (10**7, 3, True)
        assert cache.info().cache_id == cache_id
        assert [cache.pull()[1] for _ in range(3)] == [3, 1, 2]
        assert cache.get("t2", tag=True, expire_time=True)[2] == "even"
        assert cache.evict("odd") == 2


def test_value_files_of_lost_entries_are_kept_with_the_database(copy, size):
    damage.overwritten(0, bytes(size))(copy)
    with pytest.warns(CacheCorruptionWarning), Cache(copy) as cache:
        assert len(cache) == 0
        assert cache.check() == []
    (folder,) = folders(copy)

    kept = sorted(path.read_bytes() for path in folder.rglob("*.val"))
    assert kept == sorted(value for key, value in CONTENT.items() if key.startswith("f"))


def test_damage_folder_is_ours_and_no_finding(copy):
    damage.truncated(100)(copy)
    with pytest.warns(CacheCorruptionWarning), Cache(copy) as cache:
        assert cache.check(fix=True) == []
        assert folders(copy)[0].is_dir()


def test_a_full_disk_while_saving_costs_the_content_only(copy, monkeypatch):
    def fail(*_):
        raise apsw.FullError("as injected")

    monkeypatch.setattr(salvage, "rescue", fail)
    damage.overwritten(0, bytes(100))(copy)
    with pytest.warns(CacheCorruptionWarning, match="and 0 entries"), Cache(copy) as cache:
        cache["a"] = 1
        assert list(cache) == ["a"]


@pytest.mark.parametrize("step", ["_make", "_rescue", "_swap", "_renew_control", "_move_files"])
@pytest.mark.parametrize("is_behind", [False, True])
def test_dying_while_setting_aside_leaves_a_cache_that_works(copy, step, is_behind):
    damage.overwritten(0, bytes(100))(copy)
    text = f"""
import os, signal, sys, warnings
warnings.simplefilter('ignore')
from diskcache import Cache
from diskcache.engines.sqlite import quarantine
one = quarantine._Replacement.{step}
def die(*args):
    {"one(*args)" if is_behind else "pass"}
    os.kill(os.getpid(), signal.SIGKILL)
quarantine._Replacement.{step} = die
Cache(sys.argv[1])
"""
    assert run_script(text, copy).returncode == -9
    found, _ = used(copy, opens=1)

    assert found == CONTENT


@pytest.mark.parametrize("step", ["_rescue", "_swap", "_renew_control", "_move_files"])
def test_cache_that_comes_to_the_place_while_a_database_is_set_aside_stays(copy, step, monkeypatch):
    """The directory was removed and made again: its new gate holds nobody up."""
    files = {key: value for key, value in CONTENT.items() if key.startswith("f")}

    def replace():
        shutil.rmtree(copy)
        with Cache(copy) as cache:
            cache.set_many(files)

    if step == "_move_files":
        owner, name = ValueFiles, "listed"
    else:
        owner, name = quarantine._Replacement, step
    one, replaced = getattr(owner, name), []

    def step_and_replace(*args):
        done = one(*args)
        if not replaced:
            replaced.append(step)
            replace()
        return done

    monkeypatch.setattr(owner, name, step_and_replace)
    damage.overwritten(0, bytes(100))(copy)
    with Cache(copy) as cache:
        assert {key: cache[key] for key in cache} == files
        assert cache.check() == []
    assert folders(copy) == []


def test_sqlite_of_others_can_read_what_was_set_aside(copy):
    damage.overwritten(5 * 2048, random.Random(5).randbytes(2048))(copy)
    used(copy)
    (folder,) = folders(copy)
    connection = sqlite3.connect(f"file:{folder / 'cache.db'}?mode=ro", uri=True)
    try:
        assert connection.execute("PRAGMA user_version").fetchone() == (6,)
    finally:
        connection.close()


def test_disk_error_while_setting_aside_is_raised_and_nothing_is_lost(copy, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EIO, "as injected")

    damage.overwritten(0, bytes(100))(copy)
    before = (copy / "cache.db").read_bytes()
    monkeypatch.setattr(quarantine.opening, "build", fail)
    with pytest.raises(DiskCacheError):
        Cache(copy)
    monkeypatch.undo()

    assert (copy / "cache.db").read_bytes() == before
    found, _ = used(copy)
    assert found == CONTENT


def test_copy_of_a_file_that_claims_to_be_large_takes_no_room(tmp_path):
    path, target = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"first")
    with path.open("r+b") as file:
        file.seek(2**26)
        file.write(b"last")
    if path.stat().st_blocks * 512 > 2**25:
        pytest.skip("this file system keeps zeros")
    size = salvage._copied(str(path), str(target))

    assert size == path.stat().st_size
    assert target.read_bytes() == path.read_bytes()
    assert target.stat().st_blocks * 512 < 2**24
