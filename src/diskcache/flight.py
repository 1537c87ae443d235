"""Single flight: of all threads, tasks and processes that want a value, one computes it.

Implementation note.

*A flight* is the computation of one value. In a process it is an object in a table, under the place
of its key; whoever finds it there waits for its *landing*. Between processes it is a file in the
folder `locks` of the cache directory, locked while the flight lasts. The kernel unlocks the file of
a process that dies, so the next one takes over at once. Nothing is written to the database. Of a
cache on a server the sign of a flight is a lease instead (`engines/redis/lease.py`).

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
computes without waiting. A function that blocks an event loop holds up all that the loop computes,
so it waits on behalf of that, too.

*Landing without an outcome*: the function was interrupted, cancelled, its process killed, or the
event loop that ran it closed before it was done, which nobody is told. Then one of those who wait
takes its place.

*Many at once.* Files take descriptors, which functions need too. What is beyond a part of those
that the process may have is computed once in the process, not once in all.

*Fork.* A child forgets all flights and closes its copies of the files, which keeps the locks of the
parent.
"""

from __future__ import annotations

import enum
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeVar

from diskcache.errors import RecursiveLoaderError
from diskcache.signs import LONGEST_NAP, Landing, LockFile, Place, Share, Sign, place_of, record_of

__all__ = [
    "Alone",
    "Flight",
    "Landing",
    "LockFile",
    "Place",
    "Share",
    "Sign",
    "Waiting",
    "come_down_together",
    "computing_together",
    "place_of",
    "running_loop",
    "take_off",
    "take_off_at_once",
    "take_off_together",
]

T = TypeVar("T")

FIRST_NAP: Final = 0.001
"""Seconds between two looks at the file of another process, at first."""
PART: Final = 0.1
"""Part of the time waited so far that the next nap may take."""
FARTHEST: Final = 1000
"""Flights that are looked at in search of a ring."""
GLANCE: Final = 0.5
"""Seconds between two looks whether an event loop that computes is closed."""


AT_ONCE: Final = 8
"""Files that an event loop makes, or removes, before its other tasks have their turn."""


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

    async def do(self, step: Callable[..., Any], *args: Any) -> Any:
        """Do what may block."""
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

    def __init__(self, place: Place, loop: Loop | None = None, share: Share | None = None) -> None:
        self.place = place
        self.loop = loop
        self.share = share
        self.pid = os.getpid()
        self.waits: list[Place] = []
        """What is waited for on the way to this value."""
        self.sign: Sign | None = None
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

    @property
    def is_slow(self) -> bool:
        """Whether it takes a while to land, so that many had better do it together."""
        return self.sign is not None and self.sign.is_slow

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
            if self.sign is not None:
                self.sign.release(record_of(landing, is_stored))
        finally:
            with _lock:
                self.is_over = True
                if _flights.get(self.place) is self:
                    del _flights[self.place]
                futures = list(self._futures)
            for future in futures:
                if future.set_running_or_notify_cancel():
                    future.set_result(landing)

    async def come_down(
        self, waiting: Waiting, landing: Landing, *, is_stored: bool = False
    ) -> None:
        """Land, but where giving back the sign takes a while wait for that first.

        So who asks again at once finds nobody under way.
        """
        await come_down_together([(self, landing, is_stored)], waiting)

    @contextmanager
    def computing(self, *, alone: bool = False) -> Iterator[None]:
        """Let what the function asks for know that it is on the way to this value.

        Args:
            alone: Nobody who computes another value waits for this one.
        """
        with _on_the_way((self,) if alone else (*_under_way.get(), self)):
            yield


@contextmanager
def computing_together(flights: Iterable[Flight]) -> Iterator[None]:
    """Let what a function asks for know that it is on the way to the values of many flights."""
    with _on_the_way((*_under_way.get(), *flights)):
        yield


@contextmanager
def _on_the_way(flights: tuple[Flight, ...]) -> Iterator[None]:
    token = _under_way.set(flights)
    try:
        yield
    finally:
        # Steps that a closed loop left are thrown away in the context of somebody else.
        with suppress(ValueError):
            _under_way.reset(token)


_flights: dict[Place, Flight] = {}
# A signal handler may ask for a value while its thread is in here.
_lock = threading.RLock()
_under_way: ContextVar[tuple[Flight, ...]] = ContextVar("diskcache_under_way", default=())


# -- Taking off ------------------------------------------------------------------------------


async def take_off(
    place: Place,
    waiting: Waiting,
    seconds: float | None,
    *,
    shared: Share | None,
    label: object = None,
) -> Flight | Landing | Alone:
    """Become the one who computes the value of a place, or wait for the landing of who does.

    Args:
        place: Where the value is.
        waiting: How to wait.
        seconds: How long to wait; None for as long as the other lives.
        shared: How other processes have a say; None if they have none.
        label: What a message calls the value.

    Returns:
        A flight, which the caller must land; the landing of another; or why it is not waited for.

    Raises:
        RecursiveLoaderError: The caller computes that very value.
    """
    deadline = None if seconds is None else waiting.monotonic() + seconds
    while True:
        flight, future = _join(place, waiting.loop, shared)
        if future is None:
            return await _lead(flight, waiting, deadline, label) if shared else flight
        async with _said(place, flight, waiting, label) as may_wait:
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
    """Go for the sign of a flight, on behalf of all who wait for it in this process."""
    try:
        found = await _take_sign(flight, waiting, deadline, label)
    except BaseException:
        flight.land(None)
        raise
    if found is None or (isinstance(found, Landing) and found.is_elsewhere):
        return flight
    flight.land(found if isinstance(found, Landing) else None)
    return found


async def take_off_at_once(
    place: Place, waiting: Waiting, *, shared: Share | None
) -> Flight | None:
    """Become the one who computes a value; None if somebody does already."""
    (flight,) = await take_off_together([(place, shared)], waiting)
    return flight


async def take_off_together(
    places: Sequence[tuple[Place, Share | None]], waiting: Waiting
) -> list[Flight | None]:
    """Become the one who computes each of many values; None for those that somebody computes.

    Nobody is waited for. All signs of one kind are taken at once.
    """
    flights: list[Flight | None] = []
    try:
        for place, shared in places:
            flights.append(_first(place, waiting.loop, shared))
        await _take_signs([flight for flight in flights if flight is not None], waiting)
    except BaseException:
        for flight in flights:
            if flight is not None:
                flight.land(None)
        raise
    return [flight if flight is not None and flight.is_live() else None for flight in flights]


def _first(place: Place, loop: Loop | None, shared: Share | None) -> Flight | None:
    """Return a new flight to a place; None if there is one already in this process."""
    _give_up_if_stranded(place)
    with _lock:
        if place in _flights:
            return None
        flight = _flights[place] = Flight(place, loop, shared)
        return flight


async def _take_signs(flights: Sequence[Flight], waiting: Waiting) -> None:
    """Take the signs of flights; end those whose sign somebody else has."""
    shares: dict[Share, list[tuple[Flight, Sign]]] = {}
    for flight in flights:
        if flight.share is not None:
            # Nowhere to take it is nowhere to store either: who stores will say so.
            with suppress(OSError):
                sign = flight.sign = flight.share(flight.place)
                shares.setdefault(flight.share, []).append((flight, sign))
    for those in shares.values():
        taken = await _taken([sign for _, sign in those], waiting)
        for (flight, sign), is_taken in zip(those, taken, strict=True):
            if is_taken is None:
                sign.close()
                flight.sign = None
            elif not is_taken:
                flight.land(None)


async def _taken(signs: Sequence[Sign], waiting: Waiting) -> list[bool | None]:
    """Take those of many signs of one kind that are free."""
    taken: list[bool | None] = []
    for piece in _pieces(signs, waiting, is_quick=not signs[0].is_slow):
        if taken:
            await waiting.nap(0)
        taken += await _used(piece[0], waiting, "take_all", piece)
    return taken


async def come_down_together(
    landings: Sequence[tuple[Flight, Landing, bool]], waiting: Waiting
) -> None:
    """Land many flights, each with whether its value is stored; see `Flight.come_down`."""
    shares: dict[Share | None, list[tuple[Sign, tuple[Any, ...]]]] = {}
    for flight, landing, is_stored in landings:
        if flight.sign is not None and flight.is_slow and flight.is_live():
            record = record_of(landing, is_stored)
            shares.setdefault(flight.share, []).append((flight.sign, record))
    try:
        for those in shares.values():
            await waiting.do(those[0][0].release_all, those)
        for piece in _pieces(landings, waiting):
            if piece[0] is not landings[0]:
                await waiting.nap(0)
            for flight, landing, is_stored in piece:
                flight.land(landing, is_stored=is_stored)
    finally:
        for flight, landing, is_stored in landings:
            flight.land(landing, is_stored=is_stored)


def _pieces(
    items: Sequence[T], waiting: Waiting, *, is_quick: bool = True
) -> Iterator[Sequence[T]]:
    """Yield what is to be done at a time, so that an event loop is not held up for long."""
    step = AT_ONCE if is_quick and waiting.loop is not None else max(len(items), 1)
    for start in range(0, len(items), step):
        yield items[start : start + step]


def _give_up_if_stranded(place: Place) -> None:
    flight = _flights.get(place)
    if flight is not None:
        flight.give_up_if_stranded()


def _join(
    place: Place, loop: Loop | None, share: Share | None
) -> tuple[Flight, Future[Landing | None] | None]:
    """Return the flight to a place, a new one if there is none, and what to wait for."""
    _give_up_if_stranded(place)
    with _lock:
        flight = _flights.get(place)
        if flight is None:
            flight = _flights[place] = Flight(place, loop, share)
            return flight, None
        future: Future[Landing | None] = Future()
        flight._futures.append(future)  # noqa: SLF001 - it would take the lock again
        return flight, future


def _left(deadline: float | None, waiting: Waiting) -> float | None:
    return None if deadline is None else max(deadline - waiting.monotonic(), 0)


# -- Rings -----------------------------------------------------------------------------------


@asynccontextmanager
async def _said(
    place: Place, flight: Flight, waiting: Waiting, label: object
) -> AsyncIterator[bool]:
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
    mine += [held for held in _held_up(waiting) if held not in mine]
    for held in mine:
        held.waits.append(place)
        await _write_waits(held, waiting)
    try:
        goals = {held.place for held in mine}
        yield not mine or not await _leads_to(place, goals, _shares(), waiting)
    finally:
        for held in mine:
            held.waits.remove(place)
            await _write_waits(held, waiting)


def _held_up(waiting: Waiting) -> list[Flight]:
    """Return the flights of an event loop that the caller blocks: they wait for what it does."""
    loop = running_loop()
    if loop is None or loop is waiting.loop:
        return []
    return [held for held in list(_flights.values()) if held.loop is loop and held.is_live()]


def running_loop() -> object:
    """Return the event loop that runs in this thread; None for none."""
    # Whoever has not imported it runs no loop.
    asyncio = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _write_waits(flight: Flight, waiting: Waiting) -> None:
    if flight.sign is not None and flight.is_live():
        waits = [tuple(place) for place in flight.waits]
        await _used(flight.sign, waiting, "write", ("waits", *waits) if waits else ())


def _shares() -> dict[str, Share | None]:
    """Return what tells of flights in the caches that are in use here."""
    return {held.place.directory: held.share for held in list(_flights.values())}


async def _leads_to(
    place: Place, goals: set[Place], shares: dict[str, Share | None], waiting: Waiting
) -> bool:
    """Tell whether who flies to a place waits, in the end, for one of *goals*."""
    # Only caches that are in use here are looked at, whatever a sign says.
    directories = {goal.directory for goal in goals} | set(shares)
    seen: set[Place] = set()
    to_do = [place]
    while to_do and len(seen) < FARTHEST:
        current = to_do.pop()
        if current in goals:
            return True
        if current not in seen and current.directory in directories:
            seen.add(current)
            to_do += await _waits_of(current, shares.get(current.directory), waiting)
    return False


async def _waits_of(place: Place, share: Share | None, waiting: Waiting) -> list[Place]:
    flight = _flights.get(place)
    said = [] if flight is None else list(flight.waits)
    record = () if share is None else await _used(share(place), waiting, "peek")
    if record[:1] == ("waits",):
        said += [Place(*pair) for pair in record[1:] if _is_place(pair)]
    return said


async def _used(sign: Sign, waiting: Waiting, name: str, *args: Any) -> Any:
    """Call a method of a sign, where it may be waited for."""
    method = getattr(sign, name)
    return await waiting.do(method, *args) if sign.is_slow else method(*args)


def _is_place(pair: object) -> bool:
    match pair:
        case (str(), str() as name):
            return len(name) == 32 and not set(name) - set("0123456789abcdef")
    return False


# -- Signs -----------------------------------------------------------------------------------


async def _take_sign(
    flight: Flight, waiting: Waiting, deadline: float | None, label: object
) -> Landing | Alone | None:
    """Take the sign of a flight.

    Returns:
        How the flight of another process ended instead, or why it is not waited for.
    """
    found = await _tried(flight, waiting)
    if found is True:
        return None
    start = waiting.monotonic()
    longest = LONGEST_NAP if flight.sign is None else flight.sign.longest_nap
    async with _said(flight.place, flight, waiting, label) as may_wait:
        while found is False:
            now = waiting.monotonic()
            if not may_wait:
                return Alone.RING
            if deadline is not None and now >= deadline:
                return Alone.LATE
            nap = min(max(FIRST_NAP, (now - start) * PART), longest)
            await waiting.nap(nap if deadline is None else min(nap, deadline - now))
            found = await _tried(flight, waiting)
    return found if isinstance(found, Landing) else None


async def _tried(flight: Flight, waiting: Waiting) -> bool | Landing:
    """Take the sign of a flight if nobody has it; or return how the last flight ended."""
    if flight.share is None:
        return True
    try:
        if flight.sign is None:
            flight.sign = flight.share(flight.place)
        taken: bool | Landing = await _used(flight.sign, waiting, "take")
    except OSError:
        # Nowhere to take it is nowhere to store either: who stores will say so.
        if flight.sign is not None:
            flight.sign.close()
            flight.sign = None
        return True
    return taken


def _after_fork_in_child() -> None:
    """Forget the flights of the parent, which it goes on with."""
    global _lock  # noqa: PLW0603 - a thread that is not here may hold it
    _lock = threading.RLock()
    _flights.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
