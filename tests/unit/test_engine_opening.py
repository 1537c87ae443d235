"""What opening a cache costs, in figures that are the same on a busy machine.

Statements, system calls made by the library itself (those of SQLite are its own affair), and calls
of Python functions: whoever adds one to an opening has to say so here.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

import diskcache
from diskcache import Cache, FanoutCache

PACKAGE = str(Path(diskcache.__file__).parent)

STATEMENTS = [
    "BEGIN",
    "PRAGMA user_version",
    "SELECT name, sql FROM sqlite_schema LIMIT 100",
    "SELECT key, value, kind FROM Settings",
    "PRAGMA page_size",
    "PRAGMA page_count",
    "COMMIT",
    "PRAGMA cache_spill = 0",
    "PRAGMA cell_size_check = 1",
    "PRAGMA mmap_size = 0",
    "PRAGMA cache_size = 8192",
    "PRAGMA synchronous = 1",
    "PRAGMA journal_mode",
]
MOST_SYSTEM_CALLS = 50
MOST_FRAMES = 250


@pytest.fixture
def statements():
    """The statements of all connections that are made during the test."""
    made = []

    def hook(connection):
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: made.append(event["sql"]))

    apsw.connection_hooks.append(hook)
    yield made
    apsw.connection_hooks.remove(hook)


@contextmanager
def counted():
    """Yield counts of calls of Python functions, and of functions of the system."""
    frames, system = Counter(), Counter()

    def note(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            frames[frame.f_code.co_qualname] += 1
        elif event == "c_call" and getattr(argument, "__module__", "") in ("posix", "fcntl"):
            # How many parts a path has is not the library's choice.
            is_of_path = "posixpath" in frame.f_code.co_filename
            if argument.__name__ != "fspath" and not is_of_path:
                system[argument.__name__] += 1

    # What earlier tests left is not collected meanwhile: that may call the library, too.
    gc.disable()
    sys.setprofile(note)
    try:
        yield frames, system
    finally:
        sys.setprofile(None)
        gc.enable()


def test_opening_runs_these_statements_once(directory, statements):
    Cache(directory).close()
    statements.clear()
    Cache(directory).close()

    assert [text.partition(" WHERE")[0].strip(" ;") for text in statements] == STATEMENTS


def test_opening_many_times_makes_few_calls(directory):
    for _ in range(2):
        Cache(directory).close()
    with counted() as (frames, system):
        for _ in range(10):
            Cache(directory).close()

    assert sum(system.values()) / 10 <= MOST_SYSTEM_CALLS, system.most_common()
    assert sum(frames.values()) / 10 <= MOST_FRAMES, frames.most_common(20)


def test_opening_looks_once_at_what_two_ask_for(directory):
    Cache(directory).close()
    with counted() as (frames, _):
        Cache(directory).close()
    asked = "realpath read_found verify attach_control _sizes_of_files Site.enter _missing look"

    assert all(frames[name] <= 1 for name in asked.split())


def test_opening_of_shards_costs_no_more_for_each(directory, statements):
    FanoutCache(directory).close()
    statements.clear()
    FanoutCache(directory).close()

    assert len(statements) <= 8 * len(STATEMENTS) + 4


class Ending:
    """A connection of a thread that has ended, collected while the others are gone through."""

    def __init__(self, here):
        self.here = here

    @property
    def is_closed(self):
        self.here.links.discard(self)
        return True


def test_connection_that_ends_while_another_is_opened_is_in_nobodys_way(cache):
    here = cache._engine._link().site
    mine, here.links = here.links, set()
    here.links.update(Ending(here) for _ in range(3))
    try:
        here.protect()
        assert here.links == set()
    finally:
        here.links = mine
