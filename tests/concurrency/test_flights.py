"""Of threads, tasks and processes that want one value, one computes it.

Property: while the one that computes lives, nobody else does; all get its value, or its exception;
nobody waits for ever, in whatever order values ask for each other.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diskcache import Cache

PRELUDE = """
import asyncio, os, sys, threading, time
from pathlib import Path
from diskcache import *
here = Path(sys.argv[1])
cache = Cache(here / 'cache')
def note(text):
    with open(here / 'notes', 'a') as file:
        file.write(f'{text}\\n')
def asking():
    return (here / 'asks').read_text().split()
def slow(value='value', seconds=0.1):
    note(os.getpid())
    while len(asking()) < int(sys.argv[2]):
        time.sleep(0.001)
    time.sleep(seconds)
    return value
def waits(pid):
    # Who waits for a flight has its file open.
    folder = f'/proc/{pid}/fd'
    for name in os.listdir(folder):
        try:
            if '/cache/locks/' in os.readlink(f'{folder}/{name}'):
                return True
        except OSError:
            pass
    return False
def until_all_wait():
    note(os.getpid())
    deadline = time.monotonic() + 40
    while not (len(asking()) == int(sys.argv[2]) and all(map(waits, asking()))):
        assert time.monotonic() < deadline, 'not all wait'
        time.sleep(0.001)
print('ready', flush=True)
sys.stdin.readline()
with open(here / 'asks', 'a') as file:
    file.write(f'{os.getpid()}\\n')
"""


WAIT_FOR = """
def wait_for(word, times=1):
    deadline = time.monotonic() + 40
    while (here / 'notes').read_text().split().count(word) < times:
        assert time.monotonic() < deadline, f'nobody says {word}'
        time.sleep(0.001)
    return times
"""


class Crew:
    """Processes that start together."""

    def __init__(self, here: Path) -> None:
        self.here = here
        self.started: list[subprocess.Popen[str]] = []

    def start(self, program: str, count: int) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + program, str(self.here), str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.started.append(child)
        return child

    def run(self, *programs: str) -> list[str]:
        """Run programs that start together; return what each printed."""
        children = [self.start(program, len(programs)) for program in programs]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        outputs = [child.communicate(timeout=60)[0].strip() for child in children]

        assert [child.returncode for child in children] == [0] * len(children)
        return outputs

    @property
    def notes(self) -> list[str]:
        path = self.here / "notes"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def end(self) -> None:
        for child in self.started:
            child.kill()
            child.communicate()


@pytest.fixture
def crew(tmp_path):
    Cache(tmp_path / "cache").close()
    made = Crew(tmp_path)
    yield made
    made.end()

    with Cache(tmp_path / "cache") as cache:
        assert cache.check() == []
    assert list(tmp_path.glob("cache/locks/*")) == []


MIXED = """
function = cache.memoize('f', lock=True)(lambda: slow())
async def awaited():
    return await asyncio.to_thread(slow)
coroutine = cache.memoize('f', lock=True)(awaited)
found = []
thread = threading.Thread(target=lambda: found.append(function()))
thread.start()
async def ask():
    return await asyncio.gather(*(coroutine() for _ in range(5)), asyncio.to_thread(function))
found += asyncio.run(ask())
thread.join()
print(set(found))
"""


def test_threads_tasks_and_processes_compute_once(crew):
    assert crew.run(*[MIXED] * 4) == ["{'value'}"] * 4
    assert len(crew.notes) == 1


def test_exception_of_a_built_in_class_reaches_other_processes(crew):
    program = """
def fail():
    until_all_wait()
    raise ValueError('wrong', 7)
try:
    cache.get_or_set('k', fail)
except ValueError as error:
    print(error.args, getattr(error, '__notes__', []))
"""
    outputs = crew.run(*[program] * 3)

    assert len(crew.notes) == 1
    note = "raised in another process, which computed the value"
    assert sorted(outputs) == [f"('wrong', 7) ['{note}']"] * 2 + ["('wrong', 7) []"]


def test_exception_of_another_class_reaches_other_processes_as_loader_error(crew):
    program = """
class Refused(Exception):
    pass
def fail():
    until_all_wait()
    raise Refused('no')
try:
    cache.get_or_set('k', fail)
except Refused as error:
    print('own')
except LoaderError as error:
    print(error)
"""
    assert sorted(crew.run(*[program] * 3)) == [
        "__main__.Refused: no",
        "__main__.Refused: no",
        "own",
    ]
    assert len(crew.notes) == 1


def test_exception_is_not_shared_where_each_wants_to_try(crew):
    program = """
def fail():
    slow()
    raise ValueError
try:
    cache.get_or_set('k', fail, share_errors=False)
except ValueError as error:
    print(getattr(error, '__notes__', 'own'))
"""
    assert crew.run(*[program] * 3) == ["own"] * 3
    assert len(set(crew.notes)) == 3


def test_value_that_is_not_stored_is_computed_by_each_process_at_once(crew):
    program = """
def compute():
    try:
        open(here / 'first', 'x').close()
    except FileExistsError:
        note('computing')
        wait_for('computing', 3)
    else:
        until_all_wait()
        note('ended')
    return 'value'
print(cache.get_or_set('k', compute, when=lambda _: False))
"""
    assert crew.run(*[WAIT_FOR + program] * 4) == ["value"] * 4
    # The first one ends, and then the other three together, not one behind the other.
    assert crew.notes[1:] == ["ended", "computing", "computing", "computing"]


def test_two_keys_in_both_orders_come_to_an_end(crew):
    program = """
def outer():
    note('a')
    while not (here / 'notes').read_text().count('a') == 2:
        time.sleep(0.001)
    return cache.get_or_set({1!r}, lambda: 'ring')
print(cache.get_or_set({0!r}, outer))
"""
    assert crew.run(program.format("one", "two"), program.format("two", "one")) == ["ring"] * 2


def test_ring_of_three_over_threads_and_processes_comes_to_an_end(crew):
    program = """
def outer(name, other):
    note('a')
    while not (here / 'notes').read_text().count('a') == 3:
        time.sleep(0.001)
    return cache.get_or_set(other, lambda: 'ring')
def ask(name, other):
    os.write(1, cache.get_or_set(name, lambda: outer(name, other)).encode() + b'\\n')
threads = [threading.Thread(target=ask, args=pair) for pair in {}]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    one, two = crew.run(program.format(["ab", "bc"]), program.format(["ca"]))

    assert (one, two) == ("ring\nring", "ring")


def test_wait_ends_with_the_lock_timeout(crew):
    first = WAIT_FOR + "print(cache.get_or_set('k', lambda: slow() and wait_for('own')))"
    second = """
while not (here / 'notes').exists():
    time.sleep(0.001)
print(cache.get_or_set('k', lambda: 'own', lock_timeout=0.1))
note('own')
"""
    assert crew.run(first, second) == ["1", "own"]


def test_many_keys_by_processes_are_computed_once_each(crew):
    program = """
def func(keys):
    for key in keys:
        note(key)
    time.sleep(0.2)
    return dict((key, key * 2) for key in keys)
print(list(cache.get_or_set_many({!r}, func).values()))
"""
    assert crew.run(program.format("abc"), program.format("cbad")) == [
        "['aa', 'bb', 'cc']",
        "['cc', 'bb', 'aa', 'dd']",
    ]
    assert sorted(crew.notes) == ["a", "b", "c", "d"]


def test_value_in_grace_is_computed_by_one_process(crew):
    program = """
function = cache.memoize('f', expire=100, grace=60)(lambda: slow() and wait_for('old', 3))
print(found := function())
note(found)
"""
    with Cache(crew.here / "cache") as cache:
        cache.memoize("f", expire=0.001, grace=60)(lambda: "old")()
    time.sleep(0.01)

    # The one who computes waits for the others, so they do not wait for it.
    assert sorted(crew.run(*[WAIT_FOR + program] * 4)) == ["3", "old", "old", "old"]
    computed = [note for note in crew.notes if note not in ("3", "old")]
    assert len(computed) == 1


def test_update_by_processes_loses_none(crew):
    program = "for _ in range(50): cache.update('n', lambda number: number + 1, 0)"
    crew.run(*[program] * 3)

    with Cache(crew.here / "cache") as cache:
        assert cache["n"] == 150


def test_fork_while_computing_leaves_the_flight_to_the_parent(tmp_path):
    cache = Cache(tmp_path / "cache")
    reader, writer = os.pipe()

    def func():
        child = os.fork()
        if child == 0:
            # The child waits for the parent, as any other process.
            value = cache.get_or_set("k", lambda: "child", lock_timeout=60)
            os.write(writer, value.encode())
            os._exit(0)
        time.sleep(0.2)
        return f"parent of {child}"

    value = cache.get_or_set("k", func)
    os.close(writer)
    os.waitpid(int(value.split()[-1]), 0)

    assert os.read(reader, 100).decode() == value
    os.close(reader)
    cache.close()


def test_refresh_is_finished_at_the_exit_of_the_interpreter(crew):
    program = """
function = cache.memoize('f', expire=1, refresh=0)(lambda: slow(os.getpid()))
function()
function()
"""
    crew.run(program)

    assert len(crew.notes) == 2
