"""A full disk: what is kept free for that day, and how removals get along without more.

Three things make sure that a cache on a full disk can be opened, read and emptied.

*The file `reserve`* has `RESERVE` allocated bytes. It is removed when opening, or removing entries,
meets a full disk: the index of the log and a few removals fit in its place. It is made again when
there is room.

*It grows with the log.* What is in the log can be copied to the database only if that file can
grow. So whenever the log has grown by `STEP`, the reserve is made larger by what the database
lacks. In its place the log can always be copied; it then starts over in the file that it has, and
takes removals without a byte more. (To extend the file of the database itself would not do: SQLite
extends it by writing bytes, perhaps over a page that another process is just copying there.)

*Where the reserve cannot grow* the connection may add no more pages to the database, or the next
writes would spend what removals need. It may again as soon as the reserve can.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import apsw

from diskcache import host
from diskcache.engines.sqlite.gate import GateClosed
from diskcache.errors import Timeout

if TYPE_CHECKING:
    from diskcache.engines.sqlite.connection import Link

NAME: Final = "reserve"
RESERVE: Final = 2**18
AHEAD: Final = 2**19
"""Bytes by which it is made larger than it must be, so that that is not done all the time."""
STEP: Final = 2**17
"""Bytes of log after which the reserve is looked at."""
MOST_PAGES: Final = 2**32 - 2
WAIT: Final = 0.5
"""Seconds that the emptying of the log waits for writers, and for readers."""


def keep(directory: str, mode: int, more: int = 0) -> bool:
    """Make the reserve, or make it larger; tell whether it is as large now as it must be.

    Args:
        directory: Where it is.
        mode: Of the file.
        more: Bytes that it has beyond what it always has.
    """
    path = os.path.join(directory, NAME)
    try:
        size = os.stat(path).st_size
    except OSError:
        size = 0
    if size >= RESERVE + more:
        return True
    try:
        descriptor = _opened(path, mode & 0o666)
    except OSError:
        return False
    try:
        try:
            host.allocate(descriptor, RESERVE + more + (AHEAD if more else 0))
        except OSError:
            host.allocate(descriptor, RESERVE + more)
    except OSError:
        # A part of it is worth nothing: it would not be there when it is needed, nor be missed.
        if not size:
            os.unlink(path)
        return False
    finally:
        os.close(descriptor)
    return True


def _opened(path: str, mode: int) -> int:
    with suppress(FileExistsError):
        return host.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    return host.open_file(path, os.O_WRONLY)


def shrink(directory: str) -> None:
    """Give back what the reserve has beyond what it always has."""
    path = os.path.join(directory, NAME)
    with suppress(OSError):
        if os.stat(path).st_size > RESERVE:
            os.truncate(path, RESERVE)


def spend(directory: str) -> bool:
    """Remove the reserve; tell whether there was one."""
    try:
        os.unlink(os.path.join(directory, NAME))
    except OSError:
        return False
    return True


def provide(link: Link, more: int = 0) -> None:
    """See to it that the log can be copied to the database, whatever else happens to the disk.

    Where that cannot be, this connection adds no more pages until it can.

    Args:
        link: The connection; not in a transaction.
        more: Bytes beyond.
    """
    pages: int = link.con.execute("PRAGMA page_count").get
    here = link.site
    try:
        lacking = pages * link.page_size - os.stat(here.database_path).st_size
    except OSError:
        return
    can_grow = keep(here.directory, here.mode, max(lacking, 0) + more)
    if can_grow == link.is_limited:
        link.is_limited = not can_grow
        most = MOST_PAGES if can_grow else pages
        link.con.execute(f"PRAGMA max_page_count = {most}").fetchall()


def make(link: Link) -> None:
    """Have the log start over, and spend the reserve if that takes room. Call it without gate."""
    if not _start_over(link, apsw.SQLITE_CHECKPOINT_RESTART):
        spend(link.site.directory)
        _start_over(link, apsw.SQLITE_CHECKPOINT_RESTART)


def restore(link: Link) -> None:
    """Give back what the log takes, and make the reserve again if there is room for it."""
    directory, mode = link.site.directory, link.site.mode
    if os.path.exists(os.path.join(directory, NAME)):
        return
    _start_over(link, apsw.SQLITE_CHECKPOINT_TRUNCATE)
    keep(directory, mode)


def _start_over(link: Link, mode: int) -> bool:
    gate = link.site.gate
    try:
        gate.acquire(WAIT, link)
        link.con.set_busy_timeout(int(WAIT * 1000))
        link.con.wal_checkpoint(mode=mode)
    except (GateClosed, Timeout, apsw.BusyError):
        return True  # Not for want of room.
    except apsw.Error:
        return False
    finally:
        try:
            with suppress(apsw.Error):
                link.con.set_busy_timeout(0)
        finally:
            gate.release(link)
    return True
