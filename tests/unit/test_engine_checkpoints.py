"""When a writer waits for readers, so that the write-ahead log can start over."""

from __future__ import annotations

from types import SimpleNamespace

import apsw
import pytest

from diskcache.engines.sqlite import checkpoints, room
from diskcache.engines.sqlite.checkpoints import HARD, STEP, Checkpointer

PAGE = 2048


@pytest.fixture(autouse=True)
def no_reserve(monkeypatch):
    """There is no directory, hence nothing to keep in it."""
    monkeypatch.setattr(room, "provide", lambda *_: None)
    monkeypatch.setattr(room, "shrink", lambda *_: None)


class Log:
    """The log of a cache, as a checkpointer sees it: a reader keeps it from starting over."""

    def __init__(self, clock):
        self.page_size = PAGE
        self.log_pages = HARD // PAGE
        self.log_mark = 0
        self.clock = clock
        self.con = self
        self.site = SimpleNamespace(gate=self, directory="nowhere")
        self.copied = 0
        self.attempts = 0

    def wal_checkpoint(self, mode):
        if mode == apsw.SQLITE_CHECKPOINT_RESTART:
            self.attempts += 1
            raise apsw.BusyError
        return self.log_pages, self.copied

    def grow(self):
        self.log_pages += STEP // PAGE

    def set_busy_timeout(self, milliseconds):
        pass

    def acquire(self, wait, holder):
        pass

    def release(self, holder):
        pass


@pytest.fixture
def log(clock, monkeypatch):
    # What SQLite spends on waiting is not spent here.
    monkeypatch.setattr(checkpoints, "READERS_WAIT", 0)
    return Log(clock)


def test_readers_that_go_on_are_waited_for_at_every_step(log, clock):
    checkpointer = Checkpointer()
    for number in range(5):
        log.copied = number * 10
        checkpointer.after_commit(log, 2**30)
        clock.advance(0.15)
        log.grow()

    assert log.attempts == 5


def test_a_reader_that_stopped_is_waited_for_once_a_second(log, clock):
    checkpointer = Checkpointer()
    checkpointer.after_commit(log, 2**30)
    clock.advance(0.3)
    for _ in range(5):
        log.grow()
        checkpointer.after_commit(log, 2**30)
        clock.advance(0.1)

    assert log.attempts == 2

    clock.advance(1)
    log.grow()
    checkpointer.after_commit(log, 2**30)

    assert log.attempts == 3


def test_a_log_that_did_not_grow_is_left_alone(log):
    checkpointer = Checkpointer()
    checkpointer.after_commit(log, 2**30)
    checkpointer.after_commit(log, 2**30)

    assert log.attempts == 1


class Copied(Log):
    """A log that another process is just copying: every attempt fails at once, for a while."""

    def __init__(self, clock, attempts):
        super().__init__(clock)
        self.left = attempts

    def wal_checkpoint(self, mode):
        self.attempts += mode == apsw.SQLITE_CHECKPOINT_RESTART
        if self.left:
            self.left -= 1
            raise apsw.BusyError
        return self.log_pages, self.log_pages


def test_another_process_that_copies_is_waited_for(clock, monkeypatch):
    monkeypatch.setattr(checkpoints, "READERS_WAIT", 60_000)
    log = Copied(clock, 4)
    Checkpointer().after_commit(log, 2**30)

    assert log.left == 0
    assert log.attempts == 4


def test_another_process_that_copies_is_not_taken_for_a_reader_that_stopped(clock, monkeypatch):
    monkeypatch.setattr(checkpoints, "READERS_WAIT", 0)
    log, checkpointer = Copied(clock, 1000), Checkpointer()
    for _ in range(5):
        checkpointer.after_commit(log, 2**30)
        clock.advance(0.25)
        log.grow()

    assert log.attempts == 5
