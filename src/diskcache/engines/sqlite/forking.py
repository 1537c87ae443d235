"""Forking: a child inherits no connection, so that it starts like any other process.

Implementation note.

SQLite keeps a book, per process, of the locks that its connections have on each file. A forked
child inherits the book but not the locks. It would go without the locks that its parent has, so
that others may reset the log under it; it would wait for ever for a writer that the book says is
another thread of its own; and a mutex that another thread held at the moment of the fork stays
locked. A connection that was inherited must not even be closed, because the parent may be in the
middle of a write.

So before a fork every connection of this process is closed, while other threads are kept out of
the database. They connect again when they need to.

What cannot be closed is a transaction. For one of another thread the fork waits, `PATIENCE` at
most. One of the forking thread goes on in the parent, and the child closes its copy while the
parent waits: nobody else can commit meanwhile, so that rolling back changes nothing but the
child's own memory (pages are not spilled to the log before a commit).
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import apsw

from diskcache.engines.sqlite import site
from diskcache.engines.sqlite.gate import Gate

if TYPE_CHECKING:
    from diskcache.engines.sqlite.connection import Link

PATIENCE: Final = 5.0
"""Seconds that a fork waits for the transactions of other threads."""
NAP: Final = 0.0005

_paused: list[Gate] = []
_own: list[Link] = []
"""Connections on which the forking thread is inside a transaction."""
_pipe: list[int] = []


def before() -> None:
    """Close every connection that can be closed, and keep other threads from making new ones."""
    deadline = time.monotonic() + PATIENCE
    Gate.fork_is_pending = True
    site.registry.lock.acquire()
    naps = 0
    while not _is_quiet() and time.monotonic() < deadline:
        naps += 1
        if _writers_are_out() and naps % 20:
            time.sleep(NAP)
            continue
        # Whoever is to come to an end, or is just closing, may need the registry for that.
        site.registry.lock.release()
        time.sleep(NAP)
        site.registry.lock.acquire()
    _own.extend(link for here in site.opened() if here.gate.is_mine for link in here.links)
    if _own:
        _pipe.extend(os.pipe())


def _is_quiet() -> bool:
    """Close what is idle; tell whether no other thread is in the database."""
    if not _writers_are_out():
        return False
    for here in site.opened():
        for link in list(here.links):
            if not link.depth:
                link.close()
    return all(link.depth for here in site.opened() for link in here.links)


def _writers_are_out() -> bool:
    """Keep the other threads from writing; tell whether none is in a transaction."""
    for here in site.opened():
        gate = here.gate
        if gate in _paused or gate.is_mine:
            continue
        if not gate.pause():
            return False
        _paused.append(gate)
    return True


def _resume() -> None:
    Gate.fork_is_pending = False
    while _paused:
        _paused.pop().resume()


def after_in_parent() -> None:
    """Let the other threads go on, when the child has let go of this thread's transactions."""
    _own.clear()
    try:
        if _pipe:
            _await_child(*_pipe)
    finally:
        _pipe.clear()
        _resume()
        site.registry.lock.release()


def _await_child(receiver: int, sender: int) -> None:
    """Wait until the child has closed its copy of the pipe."""
    os.close(sender)
    # Not `select`, which knows no descriptors beyond 1023.
    waiting = select.poll()
    waiting.register(receiver, select.POLLIN)
    waiting.poll(PATIENCE * 1000)
    os.close(receiver)


def after_in_child() -> None:
    """Forget all that was inherited."""
    for link in _own:
        link.is_closed = True
        with suppress(apsw.Error):
            link.con.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            link.con.close(True)
    _own.clear()
    for descriptor in _pipe:
        os.close(descriptor)
    _pipe.clear()
    _paused.clear()
    Gate.fork_is_pending = False
    site.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=before, after_in_parent=after_in_parent, after_in_child=after_in_child
    )
