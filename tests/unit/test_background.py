"""Work in the background: how much of it there is at a time, and who would wait in vain."""

from __future__ import annotations

import os
import threading

import pytest

from diskcache.background import Background


def always():
    return True


class Chain:
    """Work of which each piece starts the next one, and notes what came of that."""

    def __init__(self, limit, wait):
        self.background, self.wait = Background(limit), wait
        self.started, self.was_spent = [], []
        self.is_done = threading.Event()

    def start(self, length):
        """Start work of so many pieces, and wait for the last one."""
        self.length = length
        self.go_on(length, None)
        assert self.is_done.wait(60)

    def go_on(self, left, before):
        """Be a piece, or the caller of the first."""
        if before is not None and self.wait == 0:
            # Nobody waits for what has been started without waiting: it is over by now.
            before.join()
        self.was_spent.append(self.background.is_spent)
        # The caller of the first one waits for the last.
        me = None if left == self.length else threading.current_thread()
        work = threading.Event()

        def piece():
            try:
                self.go_on(left - 1, me)
            finally:
                work.set()

        is_started = left > 0 and self.background.start(piece, always, "piece", self.wait)
        self.started.append(is_started)
        if not is_started:
            self.is_done.set()
        elif self.wait != 0:
            assert work.wait(60)


@pytest.mark.parametrize("wait", [None, 3600])
def test_work_that_waits_for_work_is_refused_more_of_it_than_there_may_be(wait):
    chain = Chain(3, wait)
    chain.start(10)

    assert chain.was_spent == [False, False, False, True]
    assert chain.started.count(True) == 3
    assert not chain.background.is_spent


def test_work_that_nobody_waits_for_goes_on_without_end():
    chain = Chain(3, 0)
    chain.start(10)

    assert chain.was_spent == [False] * 11


def test_room_that_others_take_is_waited_for():
    background, go_on, found = Background(1), threading.Event(), []
    assert background.start(go_on.wait, always, "other", 0)
    assert not background.start(lambda: found.append("early"), always, "early", 0.001)
    assert not background.is_spent
    threading.Timer(0.01, go_on.set).start()
    done = threading.Event()
    assert background.start(done.set, always, "work", 60)

    assert done.wait(60)
    assert found == []


def test_forked_child_does_not_wait_for_work_of_its_parent():
    background, done, found = Background(1), threading.Event(), []

    def work():
        child = os.fork()
        if child == 0:
            background.renew()
            os._exit(background.is_spent)
        found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        found.append(background.is_spent)
        done.set()

    assert background.start(work, always, "work", None)
    assert done.wait(60)
    assert found == [0, True]
