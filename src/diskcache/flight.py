"""Single flight: of all threads, tasks and processes that want a value, one computes it.

Implementation note.

*A flight* is the computation of one value. In a process it is an object in a table, under the place
of its key; whoever finds it there waits for its *landing*. Between processes it is a file in the
folder `locks` of the cache directory, locked while the flight lasts. The kernel unlocks the file of
a process that dies, so the next one takes over at once. Nothing is written to the database.

*The file* is named by 32 hexadecimal digits, a hash of the key. It is empty, or holds one value of
plain data, a tuple that starts with

    'waits'   directories and names of other flights that this one waits for, in turn
    'failed'  the exception that ended the flight, as in `failures.Failure`
    'kept'    nothing: the flight succeeded, and its result was not stored

A process that waits has the file open. The one that flies removes the file when it lands and only
then unlocks it, so who waited gets the lock of a file that is at its path no more, and reads there
how *that* flight ended. Who comes later makes another file.

*Order.* Lock the file; see that it is still at its path; look whether the value is there by now;
compute; store; remove the file; unlock it. What a successor finds is therefore never older.

*Rings.* Who computes one value and asks for another waits for its flight, which may be waiting for
the first. So before such a wait everybody says what they wait for, in the table and in the file,
and then follows what others said. Of several that wait in a ring, the last one sees it whole: it
computes without waiting.

*Landing without an outcome*: the function was interrupted, cancelled, its process killed, or the
event loop that ran it closed before it was done, which nobody is told. Then one of those who wait
takes its place.

*Fork.* A child forgets all flights and closes its copies of the files, which keeps the locks of the
parent.
"""

from __future__ import annotations

import enum
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol

from diskcache import host
from diskcache.codecs import plain
from diskcache.codecs.keys import key_bytes
from diskcache.entry import EncodedKey
from diskcache.errors import CodecError, RecursiveLoaderError
from diskcache.failures import Failure
from diskcache.lockfiles import is_there, open_folder, open_or_make

FIRST_NAP: Final = 0.001
"""Seconds between two looks at the file of another process, at first."""
LONGEST_NAP: Final = 0.025
"""Seconds between two looks later on: what is waited in vain at most."""
PART: Final = 0.1
"""Part of the time waited so far that the next nap may take."""
LONGEST: Final = 4096
"""Bytes of a file that are read."""
FARTHEST: Final = 1000
"""Flights that are looked at in search of a ring."""
GLANCE: Final = 0.5
"""Seconds between two looks whether an event loop that computes is closed."""


class Place(NamedTuple):
    """Where a value is kept."""

    directory: str
    """Absolute path of the directory of the cache."""
    name: str
    """What the key is called in the folder of locks."""


def place_of(directory: str, key: EncodedKey) -> Place:
    """Return the place of a key in the cache of a directory."""
    return Place(directory, blake2b(key_bytes(*key), digest_size=16, person=b"flight").hexdigest())


class Landing(NamedTuple):
    """How a flight ended: with an exception, or a value."""

    value: Any = None
    error: Exception | None = None
    is_elsewhere: bool = False
    """Whether another process had the value, and did not store it."""


class Alone(enum.Enum):
    """Why a caller does not wait for another."""

    LATE = "the other one took too long"
    RING = "the other one waits for the caller"


class Waiting(Protocol):
    """How the steps of a computation wait: by blocking a thread, or by awaiting."""

    async def future(self, future: Future[Any], seconds: float | None) -> bool:
        """Wait for the result of a future; tell whether there is one."""
        ...

    async def nap(self, seconds: float) -> None:
        """Let time pass."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    @property
    def loop(self) -> Loop | None:
        """The event loop that runs the caller; None for none."""
        ...


class Loop(Protocol):
    """What is asked of an event loop here; whoever has none need not import `asyncio`."""

    def is_closed(self) -> bool:
        """Tell whether nothing will run in it any more."""
        ...


class Flight:
    """The computation of one value in this process."""

    def __init__(self, place: Place, loop: Loop | None = None) -> None:
        self.place = place
        self.loop = loop
        self.pid = os.getpid()
        self.waits: list[Place] = []
        """What is waited for on the way to this value."""
        self.file: LockFile | None = None
        self.is_over = False
        self._futures: list[Future[Landing | None]] = []

    def expect(self) -> Future[Landing | None]:
        """Return what will hold the landing; None if the flight is given up."""
        future: Future[Landing | None] = Future()
        with _lock:
            self._futures.append(future)
        return future

    @property
    def is_expected(self) -> bool:
        """Whether anybody asked for the landing."""
        return bool(self._futures)

    def is_live(self) -> bool:
        """Tell whether this process is still computing."""
        return not self.is_over and self.pid == os.getpid()

    def give_up_if_stranded(self) -> None:
        """End the flight if the event loop that computes is closed: nothing will end it."""
        if self.loop is not None and self.loop.is_closed():
            self.land(None)

    def land(self, landing: Landing | None, *, is_stored: bool = False) -> None:
        """End the flight, and tell all who wait how; None if there is no outcome."""
        if not self.is_live():
            return
        try:
            if self.file is not None:
                self.file.release(_record_of(landing, is_stored))
        finally:
            with _lock:
                self.is_over = True
                if _flights.get(self.place) is self:
                    del _flights[self.place]
                futures = list(self._futures)
            for future in futures:
                if future.set_running_or_notify_cancel():
                    future.set_result(landing)

    @contextmanager
    def computing(self, *, alone: bool = False) -> Iterator[None]:
        """Let what the function asks for know that it is on the way to this value.

        Args:
            alone: Nobody who computes another value waits for this one.
        """
        token = _under_way.set((self,) if alone else (*_under_way.get(), self))
        try:
            yield
        finally:
            _under_way.reset(token)


_flights: dict[Place, Flight] = {}
# A signal handler may ask for a value while its thread is in here.
_lock = threading.RLock()
_under_way: ContextVar[tuple[Flight, ...]] = ContextVar("diskcache_under_way", default=())


def _record_of(landing: Landing | None, is_stored: bool) -> tuple[Any, ...]:
    if landing is None or is_stored:
        return ()
    if landing.error is not None:
        return ("failed", *Failure.of(landing.error))
    return ("kept",)


# -- Taking off ------------------------------------------------------------------------------


async def take_off(
    place: Place, waiting: Waiting, seconds: float | None, *, shared: bool, label: object = None
) -> Flight | Landing | Alone:
    """Become the one who computes the value of a place, or wait for the landing of who does.

    Args:
        place: Where the value is.
        waiting: How to wait.
        seconds: How long to wait; None for as long as the other lives.
        shared: Whether other processes have a say.
        label: What a message calls the value.

    Returns:
        A flight, which the caller must land; the landing of another; or why it is not waited for.

    Raises:
        RecursiveLoaderError: The caller computes that very value.
    """
    deadline = None if seconds is None else waiting.monotonic() + seconds
    while True:
        flight, future = _join(place, waiting.loop)
        if future is None:
            return await _lead(flight, waiting, deadline, label) if shared else flight
        with _said(place, flight, waiting.loop, label) as may_wait:
            if not may_wait:
                return Alone.RING
            if not await _landed(flight, future, waiting, deadline):
                return Alone.LATE
        landing = future.result()
        if landing is not None:
            return landing


async def _landed(
    flight: Flight, future: Future[Landing | None], waiting: Waiting, deadline: float | None
) -> bool:
    """Wait for the landing of a flight in this process; tell whether it came in time."""
    if flight.loop is None or flight.loop is waiting.loop:
        return await waiting.future(future, _left(deadline, waiting))
    while True:
        left = _left(deadline, waiting)
        if await waiting.future(future, GLANCE if left is None else min(left, GLANCE)):
            return True
        flight.give_up_if_stranded()
        if not flight.is_live():
            return True
        if left is not None and left <= GLANCE:
            return False


async def _lead(
    flight: Flight, waiting: Waiting, deadline: float | None, label: object
) -> Flight | Landing | Alone:
    """Go for the file of a flight, on behalf of all who wait for it in this process."""
    try:
        found = await _take_file(flight, waiting, deadline, label)
    except BaseException:
        flight.land(None)
        raise
    if found is None or (isinstance(found, Landing) and found.is_elsewhere):
        return flight
    flight.land(found if isinstance(found, Landing) else None)
    return found


def take_off_at_once(place: Place, loop: Loop | None = None, *, shared: bool) -> Flight | None:
    """Become the one who computes a value; None if somebody does already."""
    _give_up_if_stranded(place)
    with _lock:
        if place in _flights:
            return None
        flight = _flights[place] = Flight(place, loop)
    try:
        if not shared or _try_file(flight) is True:
            return flight
    except BaseException:
        flight.land(None)
        raise
    flight.land(None)
    return None


def _give_up_if_stranded(place: Place) -> None:
    flight = _flights.get(place)
    if flight is not None:
        flight.give_up_if_stranded()


def _join(place: Place, loop: Loop | None) -> tuple[Flight, Future[Landing | None] | None]:
    """Return the flight to a place, a new one if there is none, and what to wait for."""
    _give_up_if_stranded(place)
    with _lock:
        flight = _flights.get(place)
        if flight is None:
            flight = _flights[place] = Flight(place, loop)
            return flight, None
        future: Future[Landing | None] = Future()
        flight._futures.append(future)  # noqa: SLF001 - it would take the lock again
        return flight, future


def _left(deadline: float | None, waiting: Waiting) -> float | None:
    return None if deadline is None else max(deadline - waiting.monotonic(), 0)


# -- Rings -----------------------------------------------------------------------------------


@contextmanager
def _said(place: Place, flight: Flight, loop: Loop | None, label: object) -> Iterator[bool]:
    """Say that the caller waits for a place, while it does; yield whether it may.

    Raises:
        RecursiveLoaderError: The caller computes that very value.
    """
    mine = [held for held in _under_way.get() if held.is_live()]
    if any(held is flight for held in mine):
        raise RecursiveLoaderError(
            f"the function that computes the value of {label!r} asks for that value itself: call it"
            " with another key, or without the cache"
        )
    if flight.loop is not None and flight.loop is not loop and flight.loop is _running_loop():
        # A function that blocks the event loop cannot wait for a coroutine of that loop.
        yield False
        return
    for held in mine:
        held.waits.append(place)
        _write_waits(held)
    try:
        yield not mine or not _leads_to(place, {held.place for held in mine})
    finally:
        for held in mine:
            held.waits.remove(place)
            _write_waits(held)


def _running_loop() -> object:
    # Whoever has not imported it runs no loop.
    asyncio = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.get_running_loop()
    except RuntimeError:
        return None


def _write_waits(flight: Flight) -> None:
    if flight.file is not None and flight.is_live():
        waits = [tuple(place) for place in flight.waits]
        flight.file.write(("waits", *waits) if waits else ())


def _leads_to(place: Place, goals: set[Place]) -> bool:
    """Tell whether who flies to a place waits, in the end, for one of *goals*."""
    # Only caches that are in use here are looked at, whatever a file says.
    directories = {goal.directory for goal in (*goals, *list(_flights))}
    seen: set[Place] = set()
    to_do = [place]
    while to_do and len(seen) < FARTHEST:
        current = to_do.pop()
        if current in goals:
            return True
        if current not in seen and current.directory in directories:
            seen.add(current)
            to_do += _waits_of(current)
    return False


def _waits_of(place: Place) -> list[Place]:
    flight = _flights.get(place)
    said = [] if flight is None else list(flight.waits)
    record = LockFile(place).peek()
    if record[:1] == ("waits",):
        said += [Place(*pair) for pair in record[1:] if _is_place(pair)]
    return said


def _is_place(pair: object) -> bool:
    match pair:
        case (str(), str() as name):
            return len(name) == 32 and not set(name) - set("0123456789abcdef")
    return False


# -- Files -----------------------------------------------------------------------------------


async def _take_file(
    flight: Flight, waiting: Waiting, deadline: float | None, label: object
) -> Landing | Alone | None:
    """Lock the file of a flight.

    Returns:
        How the flight of another process ended instead, or why it is not waited for.
    """
    found = _try_file(flight)
    if found is True:
        return None
    start = waiting.monotonic()
    with _said(flight.place, flight, waiting.loop, label) as may_wait:
        while found is False:
            now = waiting.monotonic()
            if not may_wait:
                return Alone.RING
            if deadline is not None and now >= deadline:
                return Alone.LATE
            nap = min(max(FIRST_NAP, (now - start) * PART), LONGEST_NAP)
            await waiting.nap(nap if deadline is None else min(nap, deadline - now))
            found = _try_file(flight)
    return found if isinstance(found, Landing) else None


def _try_file(flight: Flight) -> bool | Landing:
    """Lock the file of a flight if nobody has it locked; or return how the last flight ended."""
    file = flight.file
    if file is None:
        file = flight.file = LockFile(flight.place)
    try:
        return file.take()
    except OSError:
        # Nowhere to lock is nowhere to store either: who stores will say so.
        file.close()
        flight.file = None
        return True


class LockFile:
    """The file that stands for a flight between processes."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._descriptor = -1
        self._is_mine = False
        # The number of a descriptor that was closed soon means another file.
        self._in_use = threading.RLock()

    def take(self) -> bool | Landing:
        """Lock the file if it is free; return how the flight that was waited for ended, if it did.

        Raises:
            OSError: It cannot be made.
        """
        while True:
            if self._descriptor < 0:
                self._open()
            if not host.lock(self._descriptor):
                return False
            record = _parsed(_content(self._descriptor))
            if is_there(*self._place, self._descriptor):
                self._is_mine = True
                if record:
                    self.write(())
                return True
            self.close()
            landing = _landing_of(record)
            if landing is not None:
                return landing

    def _open(self) -> None:
        # No child is made while a descriptor is open but not recorded.
        with _forking:
            try:
                self._make(make=False)
            except FileNotFoundError:
                self._make(make=True)
            _open_files.add(self)

    def _make(self, *, make: bool) -> None:
        with open_folder(self._place.directory, make=make) as folder:
            self._descriptor = open_or_make(folder, self._place.name)

    def write(self, record: tuple[Any, ...]) -> None:
        """Replace the content of a file that is locked here."""
        data = plain.dumps(record) if record else b""
        with self._in_use, suppress(OSError):
            if self._is_mine and len(data) <= LONGEST:
                os.ftruncate(self._descriptor, 0)
                os.lseek(self._descriptor, 0, os.SEEK_SET)
                os.write(self._descriptor, data)

    def peek(self) -> tuple[Any, ...]:
        """Return what the file at the path says; nothing if there is none."""
        try:
            with open_folder(self._place.directory) as folder:
                descriptor = host.open_file(folder.path(self._place.name), _READ, dir_fd=folder.fd)
        except OSError:
            return ()
        try:
            return _parsed(_content(descriptor))
        finally:
            os.close(descriptor)

    def release(self, record: tuple[Any, ...]) -> None:
        """Say how the flight ended, remove the file, and unlock it."""
        if self._is_mine:
            if record:
                self.write(record)
            with suppress(OSError), open_folder(self._place.directory) as folder:
                os.unlink(folder.path(self._place.name), dir_fd=folder.fd)
        self.close()

    def close(self) -> None:
        """Close the file; a lock is given back."""
        with _forking, self._in_use:
            descriptor, self._descriptor = self._descriptor, -1
            _open_files.discard(self)
            if descriptor >= 0:
                # A child made by a program in C may have a copy: closing ours would not unlock it.
                if self._is_mine:
                    host.unlock(descriptor)
                os.close(descriptor)
            self._is_mine = False

    def forget(self) -> None:
        """Close the copy of a file that the parent has locked."""
        descriptor, self._descriptor = self._descriptor, -1
        self._is_mine = False
        if descriptor >= 0:
            os.close(descriptor)


_READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _content(descriptor: int) -> bytes:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.read(descriptor, LONGEST)
    except OSError:
        return b""


def _parsed(content: bytes) -> tuple[Any, ...]:
    """Return the record in a file; nothing if there is none, or it is being written."""
    if not content:
        return ()
    try:
        record = plain.loads(content)
    except CodecError:
        return ()
    return record if isinstance(record, tuple) else ()


def _landing_of(record: tuple[Any, ...]) -> Landing | None:
    match record:
        case ("failed", *parts):
            failure = Failure.parsed(tuple(parts))
            if failure is not None:
                return Landing(error=failure.revived((), NOTE))
        case ("kept",):
            return Landing(is_elsewhere=True)
    return None


NOTE: Final = "raised in another process, which computed the value"

_open_files: set[LockFile] = set()
_forking = threading.RLock()


def _before_fork() -> None:
    _forking.acquire()


def _after_fork_in_parent() -> None:
    _forking.release()


def _after_fork_in_child() -> None:
    """Forget the flights of the parent, which it goes on with."""
    global _lock, _forking
    _lock, _forking = threading.RLock(), threading.RLock()
    _flights.clear()
    for file in list(_open_files):
        file.forget()
    _open_files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
