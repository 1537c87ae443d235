"""An upgrade is alone, and version 5 neither reads nor writes the directory afterwards."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from diskcache import Cache, LockedError, OlderFormatError
from diskcache.engines.sqlite import upgrade
from tests.support.legacy import OldVersionError

LIVE = {
    "a cache in the main thread": "cache = diskcache.Cache(directory); cache['a'] = 1",
    "a cache just opened": "cache = diskcache.Cache(directory)",
    "a connection of another thread": (
        "cache = diskcache.Cache(directory); cache['a'] = 1; cache.close()\n"
        "held, go = threading.Event(), threading.Event()\n"
        "def hold():\n    cache.get('a'); held.set(); go.wait()\n"
        "threading.Thread(target=hold, daemon=True).start(); held.wait()"
    ),
    "a deque": "deque = diskcache.Deque([1], directory); cache = deque.cache",
    "a transaction": (
        "cache = diskcache.Cache(directory); cache['a'] = 1\n"
        "block = cache.transact(); block.__enter__(); cache['b'] = 2"
    ),
}


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    monkeypatch.setattr(upgrade, "PATIENCE", 0.1)


@pytest.fixture
def much_patience(little_patience, monkeypatch):
    """For openings at once: those who only look have the database open for a moment, too."""
    monkeypatch.setattr(upgrade, "PATIENCE", 60)


def contents(directory):
    """Return every file that is not the log, and what is in it."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


@pytest.mark.parametrize("how", LIVE)
def test_upgrade_refuses_while_version_5_has_the_directory_open(start_old, directory, how):
    process = start_old()
    process.run(LIVE[how], directory=str(directory))
    before = contents(directory)

    with pytest.raises(LockedError, match="stop the processes that still use version 5"):
        Cache(directory)

    assert contents(directory) == before
    assert process.run("cache['after'] = 3; result = cache['after']") == 3
    if how == "a transaction":
        process.run("block.__exit__(None, None, None)")
    process.stop()
    with Cache(directory) as cache:
        assert cache["after"] == 3
        assert cache.check() == []


def test_upgrade_waits_for_version_5_to_end(start_old, directory, monkeypatch):
    monkeypatch.setattr(upgrade, "PATIENCE", 60)
    process = start_old()
    process.run(LIVE["a cache just opened"], directory=str(directory))
    timer = threading.Timer(0.3, process.stop)
    timer.start()

    with Cache(directory, timeout=60) as cache:
        assert len(cache) == 0
    timer.join()


LATER = """
cache = diskcache.Cache(directory, timeout=1)
result = cache.get('a')
"""


def test_version_5_started_later_fails_and_changes_nothing(fill, start_old, directory):
    fill({"a": 1, "large": "x" * 50_000, (1,): [2]})
    with Cache(directory) as cache:
        cache["b"] = 2
    before = contents(directory)
    process = start_old()

    for opening in ("Cache(directory)", "Deque(directory=directory)", "Index(directory)"):
        with pytest.raises(OldVersionError):
            process.run(f"diskcache.{opening}", directory=str(directory))
    process.stop()

    assert contents(directory) == before
    with Cache(directory) as cache:
        assert dict.fromkeys(cache) == dict.fromkeys(["a", "large", (1,), "b"])
        assert cache.check() == []


def test_version_5_started_while_this_version_is_open_fails(fill, start_old, directory):
    fill({"a": 1})
    with Cache(directory) as cache:
        with pytest.raises(OldVersionError):
            start_old().run(LATER, directory=str(directory))
        cache["b"] = 2
        assert list(cache) == ["a", "b"]


@pytest.mark.parametrize(
    "operation",
    [
        "cache.set('a', 2)", "cache.set('new', 2)", "cache.add('new', 2)", "cache.incr('a')",
        "result = cache['a']", "cache.get('a', 7)", "cache.delete('a')", "cache.pop('a')",
        "cache.push(1)", "cache.pull()", "cache.clear()", "cache.expire()", "cache.evict('t')",
        "cache.cull()", "cache.check(fix=True)", "len(cache)", "cache.set('f', 'x' * 50_000)",
    ],
)  # fmt: skip
def test_object_of_version_5_whose_connection_was_closed_cannot_go_on(
    fill, old, directory, operation
):
    fill({"a": 1})
    old.run("cache = diskcache.Cache(directory); cache.close()", directory=str(directory))
    with Cache(directory) as cache:
        before = dict(cache.items())

    with pytest.raises(OldVersionError):
        old.run(operation)
    old.run("cache.close(); del cache")

    with Cache(directory) as cache:
        assert dict(cache.items()) == before
        cache.check(fix=True)


def test_live_version_5_without_a_log_gets_errors(start_old, directory):
    """Without a log an idle connection holds no lock: it is not noticed, but it cannot go on."""
    process = start_old()
    process.run(
        "cache = diskcache.Cache(directory, sqlite_journal_mode='delete'); cache['a'] = 1",
        directory=str(directory),
    )
    with Cache(directory) as cache:
        for operation in ("cache['a'] = 2", "cache['b'] = 2", "cache['a']", "del cache['a']"):
            with pytest.raises(OldVersionError):
                process.run(operation)
        assert dict(cache.items()) == {"a": 1}


def test_readonly_says_what_to_do(fill, directory):
    fill({"a": 1})
    before = contents(directory)

    with pytest.raises(OlderFormatError, match="without readonly=True"):
        Cache(directory, readonly=True)

    assert contents(directory) == before


@pytest.mark.usefixtures("much_patience")
def test_many_processes_that_open_at_once_upgrade_once(fill, directory):
    fill({(number, "k"): [number] for number in range(500)})
    children = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with Cache(directory) as cache:
                    found = {key: cache[key] for key in cache}
                    code = 0 if found == {(n, "k"): [n] for n in range(500)} else 2
            finally:
                os._exit(code)
        children.append(pid)

    assert {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children} == {0}
    with Cache(directory) as cache:
        assert cache.check() == []


@pytest.mark.usefixtures("much_patience")
def test_many_threads_that_open_at_once_upgrade_once(fill, directory):
    fill({number: [number] for number in range(500)})
    ids = []
    start = threading.Barrier(6)

    def work():
        start.wait()
        cache = Cache(directory)
        ids.append(cache.info().cache_id)
        cache.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ids) == 6
    assert len(set(ids)) == 1
