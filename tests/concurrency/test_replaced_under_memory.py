"""Directories and control files that vanish, come back or are damaged under processes that have
entries in memory.

Properties: whatever takes the place of a directory, or of its control file, is what every process
works with within a second, readers and writers alike; from then on none reads anything stale. A
control file that cannot be made, or must not be used, switches memory off with a reason; nothing
else fails, no process is killed by a signal, and memory comes back when it can.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from diskcache import Cache
from diskcache.engines.sqlite import control
from tests.support.crew import ROOT
from tests.support.leaks import assert_tidy

NOTICED = 1.0
"""Seconds within which every process works with what is at the path."""

PEER = """
import importlib, sys
from diskcache import Cache, host

def fill_disk():
    def allocate(*_):
        raise OSError(28, "no space left")
    host.allocate, host.has_blocks = allocate, lambda *_: False

def free_disk():
    importlib.reload(host)

cache = Cache(sys.argv[1])
for line in sys.stdin:
    try:
        answer = repr(eval(line))
    except Exception as exc:
        answer = repr(f"!{type(exc).__name__}: {exc}")
    print(answer, flush=True)
"""


class Peer:
    """Another process that has a cache open, and does with it what it is told."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PEER, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def ask(self, expression: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the process ended with {self._process.wait(10)}"
        return eval(answer)

    def close(self) -> int:
        """Have the process end; return its exit status, negative for a signal."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        return self._process.wait(60)


@contextmanager
def peers(directory: Path, count: int = 3) -> Iterator[list[Peer]]:
    """Have several processes open a directory, with what they read in memory; and end well."""
    crew = [Peer(directory) for _ in range(count)]
    try:
        for peer in crew:
            peer.ask("[cache.get('k') for _ in range(3)]")
            peer.ask("[cache.get('missing') for _ in range(3)]")
        yield crew
    finally:
        ended = [peer.close() for peer in crew]
    assert ended == [0] * count


def settled(crew: list[Peer], expression: str, expected: Any) -> None:
    """Fail unless all processes give the expected answer within a second, and go on to."""
    began = time.monotonic()
    while time.monotonic() < began + 1.3 * NOTICED:
        asked = time.monotonic() - began
        answers = [peer.ask(expression) for peer in crew]
        if asked > NOTICED:
            assert answers == [expected] * len(crew), answers


def agree(crew: list[Peer], rounds: int = 20) -> None:
    """Fail if one process does not see at once what another one has written."""
    for number in range(rounds):
        writer = crew[number % len(crew)]
        assert writer.ask(f"cache.set('k', {number})") is True
        for peer in crew:
            assert peer.ask("[cache['k'], cache.get('k'), cache.get('k')]") == [number] * 3
        assert writer.ask("cache.incr('n')") == number + 1


@pytest.fixture
def backup(directory: Path, tmp_path: Path) -> Path:
    """A copy of the directory, of an earlier time, as `cp -a` makes it."""
    with Cache(directory) as cache:
        cache["k"] = "restored"
    copy = tmp_path / "backup"
    shutil.copytree(directory, copy)
    with Cache(directory) as cache:
        cache["k"] = "old"
        cache["missing"] = 1
        del cache["missing"]
    return copy


@pytest.fixture(autouse=True)
def sound(directory: Path) -> Iterator[None]:
    """Whatever happened, the directory is sound, and nobody has it open."""
    yield
    with Cache(directory) as cache:
        assert [str(finding.message) for finding in cache.check()] == []
    assert_tidy(directory)


def remove_and_copy(directory: Path, backup: Path) -> None:
    shutil.rmtree(directory)
    shutil.copytree(backup, directory)


def move_away_and_copy(directory: Path, backup: Path) -> None:
    os.rename(directory, directory.with_name("away"))
    os.rename(backup, directory)


def replace_each_file(directory: Path, backup: Path) -> None:
    """As rsync does: every file under another name, then renamed over the old one."""
    for name in ("cache.db-wal", "cache.db-shm"):
        (directory / name).unlink(missing_ok=True)
    for path in backup.iterdir():
        if path.is_file():
            shutil.copy2(path, directory / ".partial")
            os.replace(directory / ".partial", directory / path.name)


@pytest.mark.parametrize("restore", [remove_and_copy, move_away_and_copy, replace_each_file])
def test_directory_that_is_restored_is_noticed_within_a_second(directory, backup, restore):
    with peers(directory) as crew:
        assert [peer.ask("cache['k']") for peer in crew] == ["old"] * 3
        restore(directory, backup)
        settled(crew, "cache.get('k')", "restored")
        agree(crew)


def test_process_that_only_writes_notices_that_the_database_is_another(directory, backup):
    """Nothing but the database is replaced, and the process reads nothing."""
    with peers(directory, 1) as (writer,):
        for name in ("cache.db-wal", "cache.db-shm"):
            (directory / name).unlink()
        os.replace(backup / "cache.db", directory / "cache.db")
        time.sleep(2 * control.LEASE)
        assert writer.ask("cache.set('late', 1)") is True
        with Cache(directory) as cache:
            assert cache["late"] == 1
            # Its totals are those of the other database.
            (directory / "control").unlink()
            time.sleep(2 * control.LEASE)
            cache["k"] = 1


def test_directory_that_is_deleted_is_noticed_within_a_second(directory, backup):
    with peers(directory) as crew:
        shutil.rmtree(directory)
        began = time.monotonic()
        while time.monotonic() < began + 1.3 * NOTICED:
            asked = time.monotonic() - began
            answers = [peer.ask("cache.get('k')") for peer in crew]
            if asked > NOTICED:
                assert all(str(answer).startswith("!Directory") for answer in answers), answers


def delete(path: Path, backup: Path) -> None:
    path.unlink()


def restore_old(path: Path, backup: Path) -> None:
    shutil.copy2(backup / "control", path.with_name("control.copy"))
    os.replace(path.with_name("control.copy"), path)


def replacing(content: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    def replace(path: Path, _: Path) -> None:
        new = path.with_name("control.copy")
        new.write_bytes(content(path.read_bytes()))
        os.replace(new, path)

    return replace


def sparse(path: Path, _: Path) -> None:
    new = path.with_name("control.copy")
    with new.open("wb") as file:
        file.truncate(control.SIZE)
    os.replace(new, path)


def sparse_but_valid(path: Path, backup: Path) -> None:
    """As `cp --sparse=always` leaves it: a header, and holes."""
    sparse(path, backup)
    header = (backup / "control").read_bytes()[:512]
    with path.open("r+b") as file:
        file.write(header)


UNUSABLE = {
    "truncated": replacing(lambda data: data[:100]),
    "empty": replacing(lambda _: b""),
    "longer": replacing(lambda data: data + b"\0" * 8),
    "wrong magic": replacing(lambda data: b"\0" * 8 + data[8:]),
    "other format": replacing(lambda data: data[:8] + b"\7" + data[9:]),
    "foreign": replacing(lambda data: data[:16] + bytes(16) + data[32:]),
    "garbage": replacing(lambda data: os.urandom(len(data))),
    "sparse": sparse,
}
REPLACED = {
    "deleted": delete,
    "restored": restore_old,
    "sparse but valid": sparse_but_valid,
    "garbage": UNUSABLE["garbage"],
}


def assert_in_use(directory: Path) -> None:
    """Fail unless there is a control file that is whole, and used."""
    with Cache(directory) as cache:
        assert cache.info().off == {}
        found = control.attach(str(directory), bytes.fromhex(cache.info().cache_id))
    assert found is not None
    found.close()
    assert os.stat(directory / "control").st_blocks * 512 >= control.SIZE


def test_control_file_that_is_replaced_is_noticed(directory, backup):
    """Processes that had another one mapped, and one that comes later, agree again."""
    with peers(directory, 2) as crew:
        for replace in REPLACED.values():
            replace(directory / "control", backup)
            time.sleep(0.55)
            agree(crew, rounds=4)
            assert_in_use(directory)
            assert [peer.ask("cache.pop('n')") for peer in crew] == [4, None]


def test_control_file_that_must_not_be_used_is_replaced(directory, backup):
    """A process that meets it when it opens the cache is not killed by a signal."""
    with peers(directory, 2) as crew:
        for name, replace in UNUSABLE.items():
            for peer in crew:
                peer.ask("cache.close()")
            replace(directory / "control", backup)
            assert "control" in crew[0].ask("cache.info().off"), name
            assert crew[0].ask("len(cache)") == 1
            agree(crew, rounds=4)
            assert_in_use(directory)
            assert [peer.ask("cache.pop('n')") for peer in crew] == [4, None]


def test_disk_that_is_full_when_the_control_file_is_to_be_made_switches_memory_off(directory):
    with Cache(directory) as cache:
        cache["k"] = 1
    with peers(directory, 1) as (peer,):
        peer.ask("fill_disk()")
        (directory / "control").unlink()
        time.sleep(0.6)
        for number in range(5):
            assert peer.ask(f"cache.set('k', {number})") is True
            assert peer.ask("[cache.get('k') for _ in range(3)]") == [number] * 3
        assert "control" in peer.ask("cache.info().off")
        assert peer.ask("cache.stats(), len(cache), cache.volume() > 0")[1:] == (1, True)
        assert not (directory / "control").exists()
        peer.ask("free_disk()")
        time.sleep(2 * control.LEASE)
        assert peer.ask("cache.set('k', 9)") is True
        assert peer.ask("cache.info().off") == {}
        assert peer.ask("[cache.get('k') for _ in range(3)]") == [9] * 3
        assert peer.ask("len(cache._tier)") >= 1


def test_process_that_cannot_map_the_control_file_makes_nobody_read_stale_values(directory):
    """Others have it mapped; the next write of this one must reach them."""
    with Cache(directory) as cache:
        cache["k"] = "old"
    with peers(directory, 2) as crew, peers(directory, 1) as (blind,):
        blind.ask("cache.close()")
        blind.ask("fill_disk()")
        assert blind.ask("cache.set('k', 'new')") is True
        assert [peer.ask("cache.get('k')") for peer in crew] == ["new"] * 2
        for number in range(5):
            assert blind.ask(f"cache.set('k', {number})") is True
            assert [peer.ask("cache.get('k')") for peer in crew] == [number] * 2
        blind.ask("free_disk()")
        time.sleep(2 * control.LEASE)
        agree([*crew, blind], rounds=6)


def test_new_cache_on_a_disk_without_space_for_the_control_file_works(directory, monkeypatch):
    def allocate(*_: Any) -> None:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr("diskcache.host.allocate", allocate)
        with Cache(directory) as cache:
            cache["k"] = 1
            assert [cache["k"] for _ in range(3)] == [1, 1, 1]
            assert "control" in cache.info().off
            with cache.transact():
                cache["k"] = 2
                assert Cache(directory)["k"] == 1
            assert len(cache) == 1
    time.sleep(2 * control.LEASE)
    with Cache(directory) as cache:
        cache["k"] = 3
        assert cache.info().off == {}
