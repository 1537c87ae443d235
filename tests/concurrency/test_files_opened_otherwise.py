"""What else in the process opens and closes the files of a cache costs it nothing.

Any `close` of a descriptor drops the locks that SQLite has on that file. A program that does not
know of `users.lock`, such as the module `sqlite3`, then takes the cache for closed, and removes
the log under the process that goes on writing into it.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import sqlite3
import threading
from contextlib import closing

import pytest

from diskcache import Cache, host
from diskcache.engines.sqlite import guard
from diskcache.engines.sqlite.control import LEASE
from tests.support.crew import in_processes, in_threads, run_script
from tests.support.leaks import assert_tidy, open_below

pytestmark = pytest.mark.skipif(
    not host.HAS_RANGE_LOCKS, reason="the system has no locks of descriptors"
)

ACCIDENTS = {
    "sqlite3": """
with contextlib.closing(sqlite3.connect(f'{directory}/cache.db')) as connection:
    connection.execute('SELECT count(*) FROM Cache').fetchall()
""",
    "copytree": "shutil.copytree(directory, f'{directory}-copy')",
    "checksum of cache.db": "pathlib.Path(directory, 'cache.db').read_bytes()",
    "checksum of cache.db-wal": "pathlib.Path(directory, 'cache.db-wal').read_bytes()",
    "checksum of cache.db-shm": "pathlib.Path(directory, 'cache.db-shm').read_bytes()",
}
IMPORTS = "import contextlib, os, pathlib, shutil, signal, sqlite3, subprocess, sys\n"
STORY = (
    IMPORTS
    + """
import diskcache
directory, other = sys.argv[1:]
cache = diskcache.Cache(directory)
for number in range(20):
    cache['before', number] = number
{accident}
subprocess.run([sys.executable, '-c', other, directory], check=True)
for number in range(100):
    cache['after', number] = number
count = '''import diskcache, sys
with diskcache.Cache(sys.argv[1]) as cache:
    print(sum(cache.get((when, number)) == number
              for when, n in (('before', 20), ('after', 100)) for number in range(n)))
'''
subprocess.run([sys.executable, '-c', count, directory], check=True)
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
)
OTHERS = f"""{IMPORTS}
import diskcache
directory = sys.argv[1]
with diskcache.Cache(directory) as cache:
    cache['other'] = 1
{ACCIDENTS["sqlite3"]}
"""
"""A process that opens and closes the cache, first as it should, then as a stranger."""


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_later_writes_are_seen_by_others_and_survive_a_kill(directory, accident):
    result = run_script(STORY.replace("{accident}", ACCIDENTS[accident]), directory, OTHERS)

    assert result.stdout.split() == ["120"], result.stderr
    if accident != "checksum of cache.db-wal":
        assert "drops the locks of SQLite" in result.stderr
    with Cache(directory) as cache:
        assert [cache.get(("after", number)) for number in range(100)] == [*range(100)]
        assert cache.check() == []
    assert_tidy(directory)


def second_locks(directory):
    """Return what this process has of a directory, or None."""
    return guard.of(str(directory / "cache.db"))


def drop_locks(directory):
    (directory / "cache.db").read_bytes()


def wait_for_a_look(cache):
    """Have the next write look whether the locks are there, as it does every `LEASE` seconds."""
    threading.Event().wait(LEASE * 1.2)
    cache["look"] = 1


def test_loss_of_locks_is_logged_and_names_the_file_and_the_remedy(cache, directory, caplog):
    cache["a"] = 1
    drop_locks(directory)
    wait_for_a_look(cache)

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.name == "diskcache"
    assert re.search(
        f"cache '{directory}': .* closed cache.db, which drops .* backup()", record.getMessage()
    )


def test_reader_notices_the_loss_of_locks(cache, directory, clock, caplog):
    cache["a"] = 1
    drop_locks(directory)
    clock.advance(1)
    cache.get("b")

    assert len(caplog.records) == 1


def test_losses_of_one_minute_are_logged_once(cache, directory, caplog):
    for _ in range(3):
        drop_locks(directory)
        wait_for_a_look(cache)

    assert len(caplog.records) == 1
    assert second_locks(directory).lost == 3


def test_ordinary_use_is_not_taken_for_a_loss(directory, tmp_path, caplog):
    def work(number):
        for _ in range(5):
            with Cache(directory) as mine:
                mine[number] = number
                mine.get(number)
                wait_for_a_look(mine)
                Cache(directory, readonly=True).close()

    with Cache(directory) as cache:
        in_threads(*(lambda number=number: work(number) for number in range(4)))
        cache.backup(tmp_path / "backup")
        cache.sqlite_journal_mode = "delete"
        cache["b"] = 1
        cache.sqlite_journal_mode = "wal"
        cache.clear()
        wait_for_a_look(cache)
        with Cache(directory, readonly=True) as reader:
            cache["c"] = 1
            assert reader["c"] == 1

        assert caplog.records == []
    assert open_below(directory) == []


def test_last_of_all_processes_still_removes_the_log(directory):
    cache = Cache(directory)
    cache["a"] = 1
    drop_locks(directory)
    wait_for_a_look(cache)
    cache.close()

    assert sorted(path.name for path in directory.glob("cache.db*")) == ["cache.db"]


def test_readonly_object_of_the_same_process_keeps_its_locks(directory):
    with Cache(directory) as writer:
        writer["a"] = 1
        with Cache(directory, readonly=True) as reader:
            assert reader["a"] == 1
            writer.close()
            assert len(second_locks(directory)._users) == 1
            # Nobody else may remove the log while it reads.
            with closing(sqlite3.connect(directory / "cache.db")) as other:
                other.execute("SELECT count(*) FROM Cache").fetchall()
            assert (directory / "cache.db-wal").exists()
            assert reader["a"] == 1
    with Cache(directory) as writer:
        assert writer["a"] == 1


def _use_in_child(directory):
    with Cache(directory) as cache:
        cache["child"] = os.getpid()
        shutil.copytree(directory, f"{directory}-copy")
        wait_for_a_look(cache)
    return second_locks(directory)


def test_forked_child_has_second_locks_of_its_own(directory, caplog):
    with Cache(directory) as cache:
        cache["a"] = 1
        assert in_processes(_use_in_child, [(directory,)]) == [None]
        wait_for_a_look(cache)

        assert second_locks(directory).lost == 0
        assert cache["a"] == 1


def test_system_without_such_locks_works_without_them(directory, monkeypatch):
    monkeypatch.setattr("diskcache.host.HAS_RANGE_LOCKS", False)
    with Cache(directory) as cache:
        cache["a"] = 1
        cache.get("a")

        assert second_locks(directory) is None
        assert "locks" in cache.info().off


def _fail(*_):
    raise OSError(errno.EINVAL, "not here")


def test_file_system_without_such_locks_is_used_without_them(directory, monkeypatch):
    monkeypatch.setattr(guard.host, "hold_range", _fail)
    with Cache(directory) as cache:
        cache["a"] = 1
        wait_for_a_look(cache)

        assert not second_locks(directory).is_held
    assert open_below(directory) == []


def test_index_that_cannot_be_opened_does_not_have_the_database_closed(directory, monkeypatch):
    real = guard.host.open_file
    monkeypatch.setattr(
        guard.host,
        "open_file",
        lambda path, *rest: _fail() if path.endswith("-shm") else real(path, *rest),
    )
    with Cache(directory) as cache:
        cache["a"] = 1
        wait_for_a_look(cache)

        # To close it would drop the locks of SQLite.
        assert f"{directory}/cache.db" in open_below(directory)
        assert not second_locks(directory).is_held
    assert open_below(directory) == []


def test_connection_that_wants_the_database_for_itself_gets_it(directory):
    with Cache(directory, sqlite_locking_mode="exclusive") as cache:
        cache["a"] = 1
        with cache.transact():
            cache["b"] = b"x" * 100_000

        assert cache["a"] == 1
        assert second_locks(directory) is None


def test_end_of_a_thread_in_the_middle_of_the_locking_hangs_nobody(directory, monkeypatch):
    """The collector may end a thread's connection at any allocation."""
    others = [Cache(directory.with_name("other"))]
    others[0]["a"] = 1
    real = guard.host.is_planted

    def collect(*args):
        while others:
            others.pop().close()
        return real(*args)

    with Cache(directory) as cache:
        cache["b"] = 1
        monkeypatch.setattr(guard.host, "is_planted", collect)
        wait_for_a_look(cache)
        assert not others
        assert cache["b"] == 1
