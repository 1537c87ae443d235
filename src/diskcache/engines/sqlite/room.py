"""A full disk: what is kept free for that day, and how removals get along without more.

Four things make sure that a cache on a full disk can be opened, read and emptied.

*The file `reserve`* has `RESERVE` allocated bytes. It is removed when opening, or removing entries,
meets a full disk: the index of the log and a few removals fit in its place. It is made again when
there is room.

*It grows with the log.* What is in the log can be copied to the database only if that file can
grow. So whenever the log has grown by `STEP`, the reserve is made larger by what the database
lacks. In its place the log can always be copied; it then starts over in the file that it has, and
takes removals without a byte more. (To extend the file of the database itself would not do: SQLite
extends it by writing bytes, perhaps over a page that another process is just copying there.)

*While it is spent* nothing is added, by any process: others who write would take its place before
the removal that it is for. The control file tells them.

*Where the reserve cannot grow* the connection may add no more pages to the database, or the next
writes would spend what removals need. It may again as soon as the reserve can.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import apsw

from diskcache import host
from diskcache.engines.sqlite.control import SPENT
from diskcache.engines.sqlite.errors import full
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


def keep(directory: str, mode: int, more: int = 0) -> bool | None:
    """Make the reserve, or make it larger; tell whether it is as large now as it must be.

    None: another process is at it, or something else than want of room is in the way; the next look
    will show.

    Args:
        directory: Where it is.
        mode: Of the file.
        more: Bytes that it has beyond what it always has.
    """
    path = os.path.join(directory, NAME)
    size = _size(path)
    if size is None:
        return None
    if size >= RESERVE + more:
        return True
    try:
        descriptor = _opened(path, mode & 0o666)
    except OSError as exc:
        return False if exc.errno in (errno.ENOSPC, errno.EDQUOT) else None
    try:
        return _grow(descriptor, path, RESERVE + more, AHEAD if more else 0)
    finally:
        os.close(descriptor)


def _size(path: str) -> int | None:
    """Return how long the reserve is; None if what is in its place cannot be removed.

    A link there would have a file of somebody else made longer, and cut.
    """
    try:
        found = os.lstat(path)
        if _is_own(found):
            return found.st_size
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        return None
    return 0


def _is_own(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _grow(descriptor: int, path: str, wanted: int, ahead: int) -> bool | None:
    """Allocate what is wanted, and more if there is room; tell whether it is there."""
    if not host.lock(descriptor):
        return None
    size = os.fstat(descriptor).st_size
    for length in (wanted + ahead, wanted):
        with suppress(OSError):
            host.allocate(descriptor, length)
            return True
    # A part of it is worth nothing: it would not be there when it is needed, nor be missed. But
    # what another process made since the first look, or put in its place, is not a part.
    with suppress(OSError):
        if size >= RESERVE:
            if os.fstat(descriptor).st_size > size:
                os.ftruncate(descriptor, size)
        elif os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            os.unlink(path)
    return False


def _opened(path: str, mode: int) -> int:
    with suppress(FileExistsError):
        return host.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    return host.open_file(path, os.O_WRONLY)


def shrink(directory: str) -> None:
    """Give back what the reserve has beyond what it always has."""
    path = os.path.join(directory, NAME)
    with suppress(OSError):
        if os.lstat(path).st_size <= RESERVE:
            return
        descriptor = host.open_file(path, os.O_WRONLY)
        try:
            if _is_own(os.fstat(descriptor)):
                os.ftruncate(descriptor, RESERVE)
        finally:
            os.close(descriptor)


def spend(directory: str) -> bool:
    """Remove the reserve; tell whether there was one."""
    try:
        os.unlink(os.path.join(directory, NAME))
    except OSError:
        return False
    return True


def refuse_to_spend(link: Link) -> None:
    """Refuse to add anything while the reserve is spent: a removal may be using its place.

    Call it in a write transaction.

    Raises:
        CacheFullError: It is, and there is no room for another one.
    """
    control = link.site.control
    if control is None or not control.words[SPENT]:
        return
    if keep(link.site.directory, link.site.mode) is not True:
        raise full(link.site.directory)
    control.words[SPENT] = 0


def note_spent(link: Link) -> None:
    """Have all processes know that the reserve is spent, or is about to be."""
    control = link.site.control
    if control is not None:
        control.words[SPENT] = 1


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
    if can_grow is not None and can_grow == link.is_limited:
        link.is_limited = not can_grow
        most = MOST_PAGES if can_grow else pages
        link.con.execute(f"PRAGMA max_page_count = {most}").fetchall()


def make(link: Link, *, at_any_price: bool = False) -> None:
    """Have the log start over, and spend the reserve if that takes room. Call it without gate.

    With *at_any_price* it is spent in any case: a short log has too little room of its own.
    """
    if at_any_price or not _start_over(link, apsw.SQLITE_CHECKPOINT_RESTART):
        _spend_for_all(link)
        _start_over(link, apsw.SQLITE_CHECKPOINT_RESTART)


def _spend_for_all(link: Link) -> None:
    """Spend the reserve while nobody writes: a writer that still sees it would add more."""
    gate = link.site.gate
    try:
        with suppress(GateClosed, Timeout):
            gate.acquire(WAIT, link)
        note_spent(link)
        spend(link.site.directory)
    finally:
        gate.release(link)


def restore(link: Link) -> None:
    """Give back what the log takes, and make the reserve again if there is room for it."""
    directory, mode = link.site.directory, link.site.mode
    if os.path.exists(os.path.join(directory, NAME)):
        return
    _start_over(link, apsw.SQLITE_CHECKPOINT_TRUNCATE)
    keep(directory, mode)


def hand_back(link: Link, wait: float) -> None:
    """Shorten the file of the database to its pages, and the log, if that is worth it.

    Pages that were given back leave the file only as the log is copied.
    """
    pages: int = link.con.execute("PRAGMA page_count").get
    try:
        surplus = os.stat(link.site.database_path).st_size - pages * link.page_size
    except OSError:
        return
    if surplus >= STEP:
        _start_over(link, apsw.SQLITE_CHECKPOINT_TRUNCATE, wait)
        shrink(link.site.directory)


def _start_over(link: Link, mode: int, wait: float = WAIT) -> bool:
    gate = link.site.gate
    try:
        gate.acquire(wait, link)
        link.con.set_busy_timeout(int(wait * 1000))
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
