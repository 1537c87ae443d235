"""What happens between the question for a value and the call of its function.

The order in which a question is answered:

1. a live value; near the end of its life also a new one, in the background (`refresh`);
2. a failure that is remembered (`errors`);
3. a value in grace: at once if somebody computes already, or failed lately (`backoff`); else after
   `soft_timeout` at the latest, or if the function fails;
4. what the function gives, called by one of all who ask (`lock`), within `hard_timeout`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

from diskcache import flight
from diskcache.background import COMPUTATIONS, background
from diskcache.computing.terms import Terms, seconds_of
from diskcache.computing.ways import Stale, Store, Version, Way, original
from diskcache.errors import (
    IntegerRangeError,
    LoaderError,
    LoaderTimeoutError,
    RecursiveLoaderError,
    TagTypeError,
)
from diskcache.failures import FAILURES, Failure
from diskcache.flight import Alone, Flight, Landing, Place, Share
from diskcache.sentinels import ENOVAL

log: Final = logging.getLogger("diskcache")

REMEMBERED: Final = "remembered from an earlier call"


RESTING: Final = 1000
"""Values of which a process remembers that their refresh failed, at most."""

_resting: Final[dict[Place, float]] = {}
"""Until when values are not refreshed, by the clocks of their caches."""


class Tally:
    """What became of the calls of one function in this process; lossy between threads."""

    __slots__ = ("failed", "hits", "misses", "refreshed", "stale")

    def __init__(self) -> None:
        self.hits = self.misses = self.stale = self.refreshed = self.failed = 0


class Computer:
    """Values of one kind: where they are kept, and on which terms they are computed."""

    def __init__(
        self, store: Store, terms: Terms, *, name: str = "value", tally: Tally | None = None
    ) -> None:
        self.store = store
        self.terms = terms
        self.tally = Tally() if tally is None else tally
        self._name = name
        self._keeps = terms.grace is not None or bool(terms.errors)

    # -- Asking --

    async def get(self, way: Way, key: Any, func: Callable[[], Any]) -> Any:
        """Return the value of a key; compute it if need be."""
        terms = self.terms
        if terms.refresh is None:
            value = await way.do(self.store.find, key)
        else:
            value, until, _ = await way.do(self.store.find_until, key)
            if value is not ENOVAL and self._is_due(value, until):
                await self._refresh_behind(way, key, func)
        if value is not ENOVAL:
            self.tally.hits += 1
            return value
        return await self.miss(way, key, func)

    async def miss(self, way: Way, key: Any, func: Callable[[], Any]) -> Any:
        """Return the value of a key that is known to have no live one."""
        stale = await self._stale(way, key) if self._keeps else None
        if stale is not None and self.store.clock.time() < stale.retry_time:
            return self._served(stale)
        place = self.store.place(key)
        if place is None:
            landing = await self._flown(way, key, func, None, stale)
            return await self._outcome(way, key, landing, stale)
        if stale is not None:
            if self._rests(place[0]):
                return self._served(stale)
            led = await flight.take_off_at_once(place[0], way, shared=place[1])
            if led is None:
                return self._served(stale)
            return await self._compute(way, key, func, led, stale, look=True)
        if not self.terms.lock:
            return await self._compute(way, key, func, None, None)
        return await self._fly(way, key, func, place)

    async def _stale(self, way: Way, key: Any) -> Stale | None:
        """Return a value that may be served although it has expired.

        Raises:
            Exception: The failure that is remembered instead.
        """
        stale = await way.do(self.store.find_stale, key)
        if stale is not None and stale.failure is not None:
            raise way.told(stale.failure.revived(self.terms.errors, REMEMBERED))
        return None if self.terms.grace is None else stale

    async def renew(self, way: Way, key: Any, func: Callable[[], Any]) -> Any:
        """Compute and keep a value, whatever there is."""
        value = await way.call(func)
        await self.keep(way, key, value)
        self.tally.refreshed += 1
        return value

    def _served(self, stale: Stale) -> Any:
        self.tally.stale += 1
        return stale.value

    # -- Flying --

    async def _fly(
        self, way: Way, key: Any, func: Callable[[], Any], place: tuple[Place, Share | None]
    ) -> Any:
        """Compute a value, or wait for whoever does."""
        terms = self.terms
        where, shared = place
        start = way.monotonic()
        limits = [limit for limit in (terms.lock_timeout, terms.hard_timeout) if limit is not None]
        while True:
            limit = min(limits, default=None)
            left = None if limit is None else max(limit - (way.monotonic() - start), 0)
            landed = await flight.take_off(where, way, left, shared=shared, label=key)
            spent = way.monotonic() - start
            if landed is Alone.LATE and limit == terms.hard_timeout:
                raise self._too_late(key)
            if isinstance(landed, Alone):
                return await self._compute(way, key, func, None, None, spent=spent)
            if isinstance(landed, Flight):
                return await self._compute(way, key, func, landed, None, look=True, spent=spent)
            if landed.error is None:
                # A copy of one's own, if there is one.
                value = await way.do(self.store.find_again, key)
                if value is ENOVAL and landed.is_stored:
                    continue
                self.tally.hits += 1
                return landed.value if value is ENOVAL else value
            if terms.share_errors:
                raise way.told(landed.error)

    async def _compute(
        self,
        way: Way,
        key: Any,
        func: Callable[[], Any],
        led: Flight | None,
        stale: Stale | None,
        *,
        look: bool = False,
        spent: float = 0,
    ) -> Any:
        """Call the function, within the time that there is; serve what is stale instead of failing.

        Args:
            way: How to do it.
            key: The key.
            func: Computes the value.
            led: The flight that this is; it is over afterwards.
            stale: What to serve otherwise.
            look: Another one may have stored a value just before the flight.
            spent: Seconds that were waited already.
        """
        terms = self.terms
        soft = terms.soft_timeout if stale is not None else None
        limits = [limit for limit in (soft, terms.hard_timeout) if limit is not None]
        if not limits:
            landing = await self._flown(way, key, func, led, stale, look=look)
        else:
            behind = Flight(Place("", "")) if led is None else led
            left = max(min(limits) - spent, 0)
            found = await self._flown_behind(way, key, func, behind, stale, left, look=look)
            if found is None:
                if stale is None:
                    raise self._too_late(key)
                value = await self._kept(way, key)
                # Whoever deleted it wants no old one: the new one is waited for.
                return await self.miss(way, key, func) if value is ENOVAL else value
            landing = found
        return await self._outcome(way, key, landing, stale)

    async def _outcome(self, way: Way, key: Any, landing: Landing, stale: Stale | None) -> Any:
        """Return the value of a landing, or one in grace; or raise."""
        if landing.error is None:
            return landing.value
        value = ENOVAL if stale is None else await self._kept(way, key)
        if value is ENOVAL:
            raise way.told(landing.error)
        return value

    async def _kept(self, way: Way, key: Any) -> Any:
        """Return what is there now of a key that had a value in grace; `ENOVAL` for nothing."""
        stale = await way.do(self.store.find_stale, key)
        if stale is not None and stale.failure is None:
            return self._served(stale)
        return await way.do(self.store.find_again, key)

    def _too_late(self, key: Any) -> LoaderTimeoutError:
        return LoaderTimeoutError(
            f"the value of {key!r} was not computed within {self.terms.hard_timeout} seconds:"
            " the computation goes on, and its result will be stored"
        )

    def _without_thread(self, key: Any) -> LoaderTimeoutError | RecursiveLoaderError:
        if background.is_spent:
            return RecursiveLoaderError(
                f"the value of {key!r} cannot be computed within a limit of time: {COMPUTATIONS}"
                " computations in the background wait for it, one for the other, and more there may"
                " not be; leave hard_timeout out of what a function calls that has one itself"
            )
        return LoaderTimeoutError(
            f"the value of {key!r} was not computed within {self.terms.hard_timeout} seconds:"
            " none of the threads that compute in the background was free"
        )

    async def _flown_behind(
        self,
        way: Way,
        key: Any,
        func: Callable[[], Any],
        led: Flight,
        stale: Stale | None,
        seconds: float,
        *,
        look: bool,
    ) -> Landing | None:
        """Compute behind the back of the caller, who waits no longer than that."""
        future = led.expect()
        start = way.monotonic()

        async def steps() -> None:
            landing = await self._flown(way, key, func, led, stale, look=look)
            if landing.error is not None and has_left:
                self._report(landing.error)

        has_left = started = False
        try:
            started = way.start(steps, f"computing {self._name}", seconds, partial(led.land, None))
            left = max(seconds - (way.monotonic() - start), 0)
            has_left = not started or not await way.future(future, left)
        finally:
            if not started:
                led.land(None)
        if not started and stale is None:
            raise self._without_thread(key)
        if has_left:
            return None
        return future.result() or Landing(error=LoaderError("interrupted", f"value of {key!r}"))

    async def _flown(
        self,
        way: Way,
        key: Any,
        func: Callable[[], Any],
        led: Flight | None,
        stale: Stale | None,
        *,
        look: bool = False,
        replaces: tuple[int | None, float | None] | None = None,
    ) -> Landing:
        """Call the function, keep what it gives, and land.

        Args:
            way: How to do it.
            key: The key.
            func: Computes the value.
            led: The flight that this is.
            stale: What is kept in grace.
            look: Another one may have stored a value just before the flight.
            replaces: Version and expiry of the value that is computed anew behind the backs of all.
        """
        try:
            # What is called to keep a value, `when` or a codec, may ask for values as well.
            with nullcontext() if led is None else led.computing(alone=replaces is not None):
                landing, is_stored = await self._made(way, key, func, led, stale, replaces, look)
        except BaseException:
            if led is not None:
                led.land(None)
            raise
        if led is not None:
            await led.come_down(way, landing, is_stored=is_stored)
        return landing

    async def _made(
        self,
        way: Way,
        key: Any,
        func: Callable[[], Any],
        led: Flight | None,
        stale: Stale | None,
        replaces: tuple[int | None, float | None] | None,
        look: bool,
    ) -> tuple[Landing, bool]:
        """Call the function and keep what it gives, unless a value is there; see `_flown`."""
        value = await way.do(self.store.find_again, key) if look else ENOVAL
        if value is not ENOVAL:
            self.tally.hits += 1
            return Landing(value), True
        landing = await self._called(way, func)
        if landing.error is None:
            return await self._landed(way, key, landing, self.condition(led, replaces))
        if replaces is None:
            await self._remember(way, key, landing.error, stale)
        return landing, False

    async def _landed(
        self, way: Way, key: Any, landing: Landing, version: Version
    ) -> tuple[Landing, bool]:
        """Keep the value of a landing; return how it ended after that, and whether it is stored."""
        try:
            return landing, await self.keep(way, key, landing.value, version)
        except FAILURES as exc:
            # An option that is a function raised, or makes no sense.
            return Landing(error=original(exc)), False

    async def _called(self, way: Way, func: Callable[[], Any]) -> Landing:
        try:
            value = await way.call(func)
        except FAILURES as exc:
            self.tally.failed += 1
            return Landing(error=original(exc))
        self.tally.misses += 1
        return Landing(value)

    # -- Keeping --

    def condition(
        self, led: Flight | None, replaces: tuple[int | None, float | None] | None = None
    ) -> Version:
        """Return the version that must still be there; None for no live value, `ENOVAL` for any.

        Who deletes, evicts or replaces a value while a new one is computed behind the backs of all
        has the last word; who stores one while another process may be computing it, too.
        """
        if replaces is not None:
            version, until = replaces
            if until is None or until > self.store.clock.time():
                return ENOVAL if version is None else version
        sign = None if led is None else led.sign
        return ENOVAL if sign is None or not sign.must_yield else None

    async def keep(self, way: Way, key: Any, value: Any, version: Version = ENOVAL) -> bool:
        """Keep a value if it is to be kept, and can be, where a version is; see `condition`."""
        expire = self.life(way, value)
        return expire != 0 and await self.store_one(way, key, value, expire, version)

    def life(self, way: Way, value: Any) -> float | None:
        """Return for how many seconds a value is to be kept; None for ever, 0 for not at all."""
        terms = self.terms
        try:
            if value is ENOVAL or not (terms.when is None or terms.when(value)):
                return 0
            expire = terms.lifetime(value, spread=True)
        except StopIteration as stop:
            raise way.told(stop) from None
        return expire if expire is None or expire > 0 else 0

    async def store_one(
        self, way: Way, key: Any, value: Any, expire: float | None, version: Version
    ) -> bool:
        """Store a value if it can be, where a version is; tell whether it was."""
        terms = self.terms
        grace = seconds_of(terms.grace) or 0
        try:
            return await way.do(self.store.save, key, value, expire, terms.tag, grace, version)
        except (TagTypeError, IntegerRangeError):
            raise
        except FAILURES as exc:
            # Whoever asked wants the value: that it cannot be kept is another matter.
            log.warning("the value of %r was not stored: %s: %s", key, type(exc).__name__, exc)
            return False

    async def _remember(self, way: Way, key: Any, exc: Exception, stale: Stale | None) -> None:
        """Remember a failure: by leaving a value in grace alone, or instead of a value."""
        if stale is not None:
            step, seconds = partial(self._hold_off, key, stale), seconds_of(self.terms.backoff)
        else:
            step, seconds = partial(self._save_failure, key, exc), self.terms.memory_of(exc)
        try:
            if seconds:
                await way.do(step, seconds)
        except TagTypeError:
            raise
        except FAILURES as error:
            # Whoever asked is to get what is stale, or what the function raised.
            kind = type(error).__name__
            log.warning("the failure of %r was not remembered: %s: %s", key, kind, error)

    def _hold_off(self, key: Any, stale: Stale, seconds: float) -> None:
        self.store.hold_off(key, stale, self.store.clock.time() + seconds)

    def _save_failure(self, key: Any, exc: Exception, seconds: float) -> None:
        self.store.save_failure(key, Failure.of(exc), seconds, self.terms.tag)

    # -- Refreshing --

    def _is_due(self, value: Any, until: float | None) -> bool:
        """Tell whether a live value is near the end of its life."""
        terms = self.terms
        life = None if until is None or terms.refresh is None else terms.lifetime(value)
        if life is None or until is None or terms.refresh is None:
            return False
        return until - self.store.clock.time() < (1 - terms.refresh) * life

    async def _refresh_behind(self, way: Way, key: Any, func: Callable[[], Any]) -> None:
        """Compute a live value anew, unless somebody does, or there is no room."""
        place = self.store.place(key)
        if place is None or self._rests(place[0]):
            return
        led = await flight.take_off_at_once(place[0], way, shared=place[1])
        if led is None:
            return
        started = False
        try:
            steps = partial(self._refreshed, way, key, func, led)
            started = way.start(steps, f"refreshing {self._name}", 0, partial(led.land, None))
        finally:
            if not started:
                led.land(None)

    async def _refreshed(self, way: Way, key: Any, func: Callable[[], Any], led: Flight) -> None:
        try:
            value, until, version = await way.do(self.store.find_until, key)
            if value is not ENOVAL and not self._is_due(value, until):
                await led.come_down(way, Landing(value), is_stored=True)
                return
        except BaseException:
            led.land(None)
            raise
        landing = await self._flown(way, key, func, led, None, replaces=(version, until))
        if landing.error is None:
            self.tally.refreshed += 1
        else:
            self._rest(led.place)
            self._report(landing.error)

    def _rest(self, place: Place) -> None:
        """Leave a function alone whose refresh failed, as `backoff` says.

        Nothing is noted at the value, which is live, and whose version others may rely on.
        """
        seconds = seconds_of(self.terms.backoff)
        if seconds:
            if len(_resting) >= RESTING:
                _resting.clear()
            _resting[place] = self.store.clock.time() + seconds

    def _rests(self, place: Place) -> bool:
        seconds = seconds_of(self.terms.backoff) or 0
        # A clock that was set back does not make it longer.
        return seconds > 0 and 0 < _resting.get(place, 0) - self.store.clock.time() <= seconds

    def _report(self, exc: Exception) -> None:
        log.error("computing %s in the background failed", self._name, exc_info=exc)
