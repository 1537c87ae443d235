"""Locks shaped like those of `threading`, for all threads and processes that share a directory.

Implementation note.

*The entry* of a lock is there while somebody holds it: a tuple of holders, each with the name of
its process, of the object or thread in it, its fencing number, and the end of its lease. Nothing
about who holds what is remembered elsewhere, so that a rollback, a lease that ran out or a cleared
cache is seen by the holder too.

*Holders die.* A holder counts no more once its process is gone (see `parties`) or its lease is
over. Only somebody who finds the lock taken looks, and drops it in the transaction in which it
takes its place.

*Leases* are measured in uptime, which all processes share, and within one boot, because setting
the clock must neither end nor prolong them. After a boot all holders are dead anyway. On a server
its clock measures them, and they are all that ends a hold: see `parties`.

*Waiting* is looking, without the write lock, after naps that grow to `LONGEST_NAP`; the write lock
is only asked for when the lock seems to be free.
"""

from __future__ import annotations

import itertools
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, NamedTuple

from diskcache.bridging import keeping
from diskcache.entry import Tag
from diskcache.errors import DiskCacheError, GateError, LockReleaseError, Timeout
from diskcache.recipes import liveness
from diskcache.recipes.parties import Owner, parties_of
from diskcache.recipes.rows import CacheLike, Cell, Restorable
from diskcache.sentinels import ENOVAL

FIRST_NAP: Final = 0.001
"""Seconds between two looks at a lock that is taken, at first."""
LONGEST_NAP: Final = 0.05
"""Seconds between two looks later on; a dead holder is replaced after this time at most."""
PATIENCE: Final = 1.0
"""Seconds that an attempt without waiting allows for the writes of others to the cache."""

VERSION_5_OWNER: Final = re.compile(r"\d+-\d+")
"""Process and thread in the entry of an `RLock` of version 5."""

_objects = itertools.count(1)
_threads = itertools.count(1)


class _Thread(threading.local):
    """A number for each thread that no other one of its process has or will have."""

    def __init__(self) -> None:
        self.number = next(_threads)


_thread = _Thread()


def new_party() -> int:
    """Return a number for a party that is no thread."""
    return next(_threads)


@contextmanager
def acting_as(party: int) -> Iterator[None]:
    """Let this thread take locks, and give them back, as another party."""
    with keeping(_thread):
        own, _thread.number = _thread.number, party
        try:
            yield
        finally:
            _thread.number = own


class Holder(NamedTuple):
    """Somebody who holds a lock or a permit."""

    token: str
    """Name of the process."""
    lock: int
    """Number of the object, in its process."""
    thread: int
    """Number of the thread, in its process."""
    depth: int
    """How often it took the lock; more than once only where that is allowed."""
    fence: int
    boot: int
    until: float | None
    """Uptime at which the lease ends, in that boot; None for no lease."""


FIELDS: Final = len(Holder._fields)


class Record(NamedTuple):
    """The entry of a lock."""

    holders: tuple[Holder, ...] = ()
    extra: int = 0
    """Permits that were given to a semaphore beyond its own; whoever takes one uses it up."""

    def as_value(self) -> Any:
        """Return what to store; nothing where nobody holds anything."""
        if not self.holders and not self.extra:
            return ENOVAL
        return ("lock", 1, self.extra, *itertools.chain.from_iterable(self.holders))


class _Shared(Restorable):
    """What all locks have in common: taking one of a number of permits, and giving it back."""

    _kind = "lock"

    def __init__(
        self, cache: CacheLike, key: Any, expire: float | None = None, tag: Tag = None
    ) -> None:
        if expire is not None and not expire > 0:
            raise ValueError(f"expire must be a number of seconds above 0, or None: got {expire!r}")
        self._cache = cache
        self._key = key
        self._expire = expire
        self._tag = tag
        self._permits = 1
        self._cell = Cell(cache, key, tag)
        self._number = next(_objects)
        self._parties = parties_of(self._cell, expire)
        self._owner: Owner | None = None

    # -- The interface of threading --

    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> int:
        """Take the lock, waiting for it if it is taken. May wait for other processes.

        A holder whose process died is replaced, and one whose lease is over.

        Cost: two write transactions for `acquire` and `release` together; while waiting, a point
        read every 50 ms.

        Args:
            blocking: Wait. False tries once.
            timeout: Seconds to wait; -1 or None for no limit.

        Returns:
            The fencing number of this hold, greater than that of every earlier one; False if the
            lock could not be had.

        Raises:
            ValueError: *timeout* is negative, or given although *blocking* is false.
            OverflowError: *timeout* is beyond `threading.TIMEOUT_MAX`.
            GateError: The lock is taken, and this thread is inside a transaction of the cache, so
                that nobody could give it back.
            KeyInUseError: The key is that of an entry that is not a lock.
        """
        limit = limit_of(blocking, timeout)
        clock = self._cell.clock
        deadline = None if limit is None else clock.monotonic() + limit
        # Mostly the lock is free. Whoever does not want to wait, or has waited, looks first.
        is_first = limit != 0
        for nap in naps():
            left = None if deadline is None else max(deadline - clock.monotonic(), 0)
            if fence := self._try(PATIENCE if limit == 0 else left, look=not is_first):
                return fence
            is_first = False
            if deadline is not None:
                left = deadline - clock.monotonic()
                if left <= 0:
                    break
                nap = min(nap, left)
            self._refuse_in_transaction()
            clock.sleep(nap)
        return False

    def release(self) -> None:
        """Give the lock back.

        Raises:
            LockReleaseError: It is not held here, or not any more: its lease ended and another
                took it, or the cache was cleared. Also a `RuntimeError` and an `AssertionError`.
        """
        self._give_back(1)

    def locked(self) -> bool:
        """Tell whether somebody who lives holds the lock, so that none is left to take.

        Cost: one point read.
        """
        return not self._has_room(self._parsed(self._cell.read_or_raise()))

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._cache, self._key, self._expire, self._tag)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._cache!r}, {self._key!r})"

    def _refuse_in_transaction(self) -> None:
        """Refuse to wait where the wait would have no end.

        Raises:
            GateError: This thread is inside a transaction of the cache.
        """
        if self._cell.in_transaction():
            raise GateError(
                f"{self!r} is taken, and cannot be given back while this thread is inside a"
                " transaction of the cache: take locks before transactions"
            )

    # -- Taking --

    def _try(self, wait: float | None, *, look: bool = True) -> int:
        """Take a permit if there is one; return the fencing number, or 0.

        With *look* the write lock is only asked for if there seems to be one.
        """
        if look and not self._may_enter(self._parsed(self._cell.read())):
            return 0
        try:
            fence = self._cell.change(self._taken, wait)
        except GateError:
            raise
        except Timeout:
            return 0
        return fence and self._confirmed(fence)

    def _confirmed(self, fence: int) -> int:
        """Return the number of the hold that was just taken: greater than those of all earlier."""
        try:
            latest = self._parties.confirmed(fence)
            if latest == fence:
                return fence
            return self._cell.change(partial(self._renumbered, fence, latest))
        except BaseException:
            with suppress(DiskCacheError):
                self._give_back(1)
            raise

    def _renumbered(self, fence: int, latest: int, value: Any) -> tuple[Any, int]:
        """Return the value with a later number for the hold that has *fence*, and its number."""
        record = self._parsed(value)
        for place, holder in enumerate(record.holders):
            # Who took it again keeps the number that it got first.
            if holder.fence == fence and holder.depth == 1 and self._is_mine(holder):
                holders = list(record.holders)
                holders[place] = holder._replace(fence=latest)
                return record._replace(holders=tuple(holders)).as_value(), latest
        return value, fence

    def _taken(self, value: Any) -> tuple[Any, int]:
        """Return the value with one more hold in it, and its fencing number; or as it is, and 0."""
        if value is ENOVAL and self._permits:
            # Mostly the lock is free.
            holder = self._new_holder(0)
            return ("lock", 1, 0, *holder), holder.fence
        record = self._parsed(value)
        again = self._taken_again(record)
        if again is not None:
            return again
        holders = record.holders
        if len(holders) >= self._permits:
            holders = tuple(filter(self._is_alive, holders))
        is_full = len(holders) >= self._permits
        if is_full and not record.extra:
            return value, 0
        above = max((holder.fence for holder in record.holders), default=0)
        if is_full:
            fence = self._parties.next_fence(self._own(), above)
            return Record(holders, record.extra - 1).as_value(), fence
        holder = self._new_holder(above)
        return record._replace(holders=(*holders, holder)).as_value(), holder.fence

    def _own(self) -> Owner:
        owner = self._owner = self._parties.owner()
        return owner

    def _new_holder(self, above: int) -> Holder:
        """Return what says that this object, in this thread, holds a permit."""
        owner = self._own()
        fence = self._parties.next_fence(owner, above)
        self._parties.keep(owner)
        return Holder(owner.token, self._number, _thread.number, 1, fence, *self._lease())

    def _taken_again(self, record: Record) -> tuple[Any, int] | None:
        """Return what `_taken` returns for somebody who has the lock already, if that may be."""
        return None

    def _lease(self) -> tuple[int, float | None]:
        return self._parties.lease(self._expire)

    # -- Looking --

    def _may_enter(self, record: Record) -> bool:
        return self._has_room(record)

    def _has_room(self, record: Record) -> bool:
        return (
            record.extra > 0
            or len(record.holders) < self._permits
            or sum(map(self._is_alive, record.holders)) < self._permits
        )

    def _is_alive(self, holder: Holder) -> bool:
        return not self._parties.is_over(holder.token, holder.boot, holder.until)

    def _parsed(self, value: Any) -> Record:
        if value is ENOVAL or _is_of_version_5(value):
            return Record()
        if type(value) is tuple and value[:2] == ("lock", 1) and len(value) % FIELDS == 3:
            holders = [
                Holder._make(value[start : start + FIELDS])
                for start in range(3, len(value), FIELDS)
            ]
            if type(value[2]) is int and all(map(_is_sound, holders)):
                return Record(tuple(holders), value[2])
        raise self._cell.refuse(value, self._kind)

    # -- Giving back --

    def _is_mine(self, holder: Holder) -> bool:
        token = "" if self._owner is None else self._owner.token
        return bool(token) and holder.token == token and holder.lock == self._number

    def _give_back(self, count: int) -> None:
        dropped = self._cell.change(lambda value: self._given_back(value, count))
        if self._owner is not None:
            self._parties.let_go(self._owner, dropped)

    def _given_back(self, value: Any, count: int) -> tuple[Any, int]:
        """Return the value without *count* of our holds, and how many holders are gone."""
        record = self._parsed(value)
        is_alone = count == 1 == len(record.holders) and not record.extra
        if is_alone and self._is_mine(record.holders[0]):
            return ENOVAL, 1
        # The holds of this thread first, the latest of them first of all.
        mine = sorted(
            filter(self._is_mine, record.holders),
            key=lambda holder: (holder.thread == _thread.number, holder.fence),
        )
        gone = mine[-count:]
        record = record._replace(holders=tuple(h for h in record.holders if h not in gone))
        return self._given_more(record, count - len(gone)).as_value(), len(gone)

    def _given_more(self, record: Record, count: int) -> Record:
        """Give back *count* more than was taken, where that is allowed."""
        if count:
            raise LockReleaseError(
                f"cannot release {self!r}: it is not held here; it was never taken, or its lease"
                " ended and another took it, or the cache was cleared"
            )
        return record


class Lock(_Shared):
    """A lock that one holder at a time has, over all threads and processes.

    Like `threading.Lock` it is given back through the object that took it, by any thread; another
    object with the same key is another party, even in the same thread. Taking it twice waits for
    oneself. Pickled, copied or inherited by a forked child, it is an object that holds nothing.

    Args:
        cache: Where the entry of the lock is.
        key: Names the lock.
        expire: Seconds after which another may take it although its holder lives; None for never.
        tag: Tag of the entry; `evict` does not remove it.

    Example:
        >>> from diskcache import Lock
        >>> lock = Lock(cache, 'report')
        >>> with lock:
        ...     lock.locked()
        True
        >>> lock.acquire(timeout=5) > 0
        True
        >>> lock.acquire(blocking=False)
        False
        >>> lock.release()
    """


class RLock(_Shared):
    """A lock that its holder, a thread of a process, may take several times.

    It must be given back as often, by the same thread, through any object with the same key. The
    thread keeps the fencing number that it got first, and every time its lease starts anew.

    Args:
        cache: Where the entry of the lock is.
        key: Names the lock.
        expire: Seconds after which another may take it although its holder lives; None for never.
        tag: Tag of the entry; `evict` does not remove it.

    Example:
        >>> from diskcache import RLock
        >>> lock = RLock(cache, 'tree')
        >>> with lock, lock:
        ...     lock.locked()
        True
    """

    def _is_mine(self, holder: Holder) -> bool:
        owner = self._parties.known_owner()
        return owner is not None and holder.token == owner.token and holder.thread == _thread.number

    def _may_enter(self, record: Record) -> bool:
        return any(map(self._is_mine, record.holders)) or self._has_room(record)

    def _taken_again(self, record: Record) -> tuple[Any, int] | None:
        for holder in filter(self._is_mine, record.holders):
            boot, until = self._lease()
            again = holder._replace(depth=holder.depth + 1, boot=boot, until=until)
            return record._replace(holders=(again,)).as_value(), holder.fence
        return None

    def _given_back(self, value: Any, count: int) -> tuple[Any, int]:
        record = self._parsed(value)
        for holder in filter(self._is_mine, record.holders):
            if holder.depth > 1:
                once_less = holder._replace(depth=holder.depth - 1)
                return record._replace(holders=(once_less,)).as_value(), 0
            self._owner = self._parties.known_owner()
            return ENOVAL, 1
        return self._given_more(record, count).as_value(), 0


class BoundedSemaphore(_Shared):
    """A number of permits, of which each holder has one, over all threads and processes.

    A permit is given back through the object that took it, by any thread; giving back more than
    was taken is an error. The permits of a process that died are free again.

    Args:
        cache: Where the entry of the semaphore is.
        key: Names the semaphore.
        value: Number of permits. All objects with the same key should agree on it.
        expire: Seconds after which a permit may go to another although its holder lives.
        tag: Tag of the entry; `evict` does not remove it.

    Example:
        >>> from diskcache import BoundedSemaphore
        >>> semaphore = BoundedSemaphore(cache, 'workers', value=2)
        >>> with semaphore, semaphore:
        ...     semaphore.acquire(blocking=False)
        False
    """

    _kind = "semaphore"

    def __init__(
        self,
        cache: CacheLike,
        key: Any,
        value: int = 1,
        expire: float | None = None,
        tag: Tag = None,
    ) -> None:
        if value < 0:
            raise ValueError(f"value must be a number of permits, 0 or more: got {value!r}")
        super().__init__(cache, key, expire, tag)
        self._permits = value

    def release(self, n: int = 1) -> None:
        """Give *n* permits back, all or none.

        Raises:
            LockReleaseError: Fewer are held here. Also a `RuntimeError` and an `AssertionError`.
            ValueError: *n* is less than 1.
        """
        if n < 1:
            raise ValueError(f"n must be one or more: got {n!r}")
        self._give_back(n)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._cache, self._key, self._permits, self._expire, self._tag)


class Semaphore(BoundedSemaphore):
    """A number of permits to which more can be added, over all threads and processes.

    As `BoundedSemaphore`, but `release` without a permit to give back adds one, as that of
    `threading.Semaphore` does: one process can tell another that there is something to do. A
    permit that was added stays until somebody takes it, which uses it up: unlike one of the first
    *value* permits it does not come back when its taker dies.

    Args:
        cache: Where the entry of the semaphore is.
        key: Names the semaphore.
        value: Number of permits at first.
        expire: Seconds after which a permit may go to another although its holder lives.
        tag: Tag of the entry; `evict` does not remove it.

    Example:
        >>> from diskcache import Semaphore
        >>> ready = Semaphore(cache, 'ready', value=0)
        >>> ready.acquire(blocking=False)
        False
        >>> ready.release()
        >>> ready.acquire(blocking=False) > 0
        True
    """

    def _given_more(self, record: Record, count: int) -> Record:
        return record._replace(extra=record.extra + count)


def _is_sound(holder: Holder) -> bool:
    """Tell whether a holder is one that this library could have written."""
    return (
        type(holder.token) is str
        and {*map(type, holder[1:6])} == {int}
        and 0 < holder.fence < liveness.LAST
        and type(holder.until) in (float, type(None))
    )


def _is_of_version_5(value: Any) -> bool:
    """Tell whether a lock of version 5 left *value*: nobody knows its holder, if there is one."""
    match value:
        case None:
            return True
        case (str(owner), int()):
            return VERSION_5_OWNER.fullmatch(owner) is not None
    return type(value) is int


def limit_of(blocking: bool, timeout: float | None) -> float | None:
    """Return how many seconds to wait, None for no limit."""
    if timeout is None:
        timeout = -1
    if not blocking:
        if timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return 0
    if timeout < 0 and timeout != -1:
        raise ValueError(f"timeout must be a number of seconds, 0 or more, or -1: got {timeout!r}")
    if timeout > threading.TIMEOUT_MAX:
        raise OverflowError(f"timeout must be at most {threading.TIMEOUT_MAX} seconds")
    return None if timeout == -1 else timeout


def naps() -> Iterator[float]:
    """Yield ever longer times to wait, none quite like another's."""
    nap = FIRST_NAP
    while True:
        yield nap * random.uniform(0.5, 1)
        nap = min(nap * 1.5, LONGEST_NAP)
