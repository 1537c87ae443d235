"""The values of many keys, of which those that are missing are computed by one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeAlias

from diskcache import flight
from diskcache.computing.steps import Computer, log
from diskcache.computing.ways import Version, Way, original
from diskcache.entry import Tag
from diskcache.errors import ServerUnavailableError
from diskcache.failures import FAILURES
from diskcache.flight import Flight, Landing, Place, Share
from diskcache.sentinels import ENOVAL

Entry: TypeAlias = tuple[Any, Any, float | None]
"""A key, its value, and for how many seconds that is kept; None for ever."""


class ManyStore(Protocol):
    """What a store does with many keys at a time. Every method may block."""

    @property
    def saves_together(self) -> bool:
        """Whether `save_many` does what `save` does for each."""
        ...

    def find_many(self, keys: list[Any]) -> dict[Any, Any]:
        """Return the live values."""
        ...

    def find_many_again(self, keys: list[Any]) -> dict[Any, Any]:
        """Return the live values of keys that were just looked for; they are not counted again."""
        ...

    def save_many(self, entries: list[Entry], tag: Tag, version: Version) -> bool:
        """Keep values if a version is there, all or none if one fails; tell whether all are."""
        ...


async def get_many(
    computer: Computer,
    way: Way,
    keys: list[Any],
    func: Callable[[list[Any]], Any],
    store: ManyStore,
) -> dict[Any, Any]:
    """Return the values of many keys; compute those that are missing with one call.

    Where whoever computes some of them does not come to an end, one caller takes its place, and
    computes with one more call what nobody else does.
    """
    many = _Many(computer, way, func, store)
    found = many.found = await way.do(store.find_many, keys)
    rest = [key for key in dict.fromkeys(keys) if key not in found]
    start, limit = way.monotonic(), computer.terms.lock_timeout
    may_wait = computer.terms.lock
    while rest:
        rest = await many.lead(rest, may_wait=may_wait)
        rest = await many.wait(rest)
        may_wait = limit is None or way.monotonic() - start < limit
    return {key: found[key] for key in keys if key in found}


class _Many:
    """The values of many keys, on their way."""

    def __init__(
        self,
        computer: Computer,
        way: Way,
        func: Callable[[list[Any]], Any],
        store: ManyStore,
    ) -> None:
        self.found: dict[Any, Any] = {}
        self._computer = computer
        self._way = way
        self._func = func
        self._store = store

    # -- Waiting --

    async def wait(self, keys: list[Any]) -> list[Any]:
        """Wait for the values that others compute, one after the other.

        Where another one computes many, all are there when the first one is: they are read
        together, as long as that finds half of those that are looked for.

        Returns:
            Those that nobody may be computing any more, because one of them was computed here.
        """
        rest, together = keys[::-1], True
        while rest:
            if await self._wait_for_one(rest.pop()):
                break
            if rest and together:
                there = await self._way.do(self._store.find_many_again, rest)
                together = 2 * len(there) >= len(rest)
                self.found |= there
                rest = [key for key in rest if key not in there]
        return rest[::-1]

    async def _wait_for_one(self, key: Any) -> bool:
        """Wait for a value; tell whether it was computed here after all."""
        one, is_own = self._way.one(self._func, key), False

        def own() -> Any:
            nonlocal is_own
            is_own = True
            return one()

        value = await self._computer.miss(self._way, key, own)
        if value is not ENOVAL:
            self.found[key] = value
        return is_own

    # -- Computing --

    async def lead(self, keys: list[Any], *, may_wait: bool) -> list[Any]:
        """Compute with one call what nobody else does, or all where the caller may not wait.

        Returns:
            The others.
        """
        led: dict[Any, Flight] = {}
        try:
            await self._take_off(keys, led, may_wait=may_wait)
            if led:
                with flight.computing_together(led.values()):
                    self.found |= await self._fly(led)
        finally:
            # Who waits for the first one finds all of them free.
            for one in reversed(led.values()):
                one.land(None)
        return [key for key in keys if key not in led]

    async def _take_off(self, keys: list[Any], led: dict[Any, Flight], *, may_wait: bool) -> None:
        """Take those of *keys* that nobody computes; wait for none."""
        places: dict[Any, tuple[Place, Share | None]] = {}
        for key in keys:
            place = self._computer.store.place(key) if may_wait else None
            if place is None:
                led[key] = Flight(Place("", ""))
            else:
                places[key] = place
        taken = await flight.take_off_together(list(places.values()), self._way)
        led.update((key, one) for key, one in zip(places, taken, strict=True) if one is not None)

    async def _fly(self, led: dict[Any, Flight]) -> dict[Any, Any]:
        """Call the function once for all that nobody stored just before."""
        way = self._way
        found = dict(await way.do(self._store.find_many_again, list(led)))
        those = [(led[key], Landing(value), True) for key, value in found.items()]
        await flight.come_down_together(those, way)
        wanted = {key: one for key, one in led.items() if key not in found}
        if not wanted:
            return found
        values = await self._call(wanted)
        landings = await self._keep(wanted, values)
        await flight.come_down_together([(led[key], *landings[key]) for key in wanted], way)
        for landing, _ in landings.values():
            if landing.error is not None:
                raise way.told(landing.error)
        return found | {key: values[key] for key in wanted if key in values}

    async def _call(self, led: dict[Any, Flight]) -> dict[Any, Any]:
        """Call the function; if it fails, that is the outcome of all."""
        try:
            values = dict(await self._way.call(partial(self._func, list(led))))
        except FAILURES as exc:
            self._computer.tally.failed += 1
            landing = Landing(error=original(exc))
            those = [(one, landing, False) for one in led.values()]
            await flight.come_down_together(those, self._way)
            raise
        self._computer.tally.misses += len(led)
        return values

    # -- Keeping --

    async def _keep(
        self, led: dict[Any, Flight], values: Mapping[Any, Any]
    ) -> dict[Any, tuple[Landing, bool]]:
        """Keep what a call gave; tell of each key how its flight ended, and whether it is stored.

        What is wrong with the value of one key is the outcome of that one: all others are kept.
        """
        landings: dict[Any, tuple[Landing, bool]] = {}
        entries: dict[Version, list[Entry]] = {}
        for key, one in led.items():
            value = values.get(key, ENOVAL)
            landings[key] = Landing(value), False
            try:
                life = self._computer.life(self._way, value)
            except FAILURES as exc:
                landings[key] = Landing(error=original(exc)), False
            else:
                if life != 0:
                    version = self._computer.condition(one)
                    entries.setdefault(version, []).append((key, value, life))
        for version, those in entries.items():
            landings |= await self._store_all(those, version)
        return landings

    async def _store_together(self, entries: list[Entry], version: Version) -> bool:
        """Store values in one step; tell whether all are stored."""
        try:
            tag = self._computer.terms.tag
            return await self._way.do(self._store.save_many, entries, tag, version)
        except ServerUnavailableError as exc:
            # It is away for each of them.
            log.warning("the values of %d keys were not stored: %s", len(entries), exc)
            return False

    async def _store_all(
        self, entries: list[Entry], version: Version
    ) -> dict[Any, tuple[Landing, bool]]:
        """Store values together; one by one if one of them cannot be."""
        way, computer = self._way, self._computer
        if self._store.saves_together:
            # Which one it is that fails, and why, is told below.
            with suppress(*FAILURES):
                is_stored = await self._store_together(entries, version)
                return {key: (Landing(value), is_stored) for key, value, _ in entries}
        landings: dict[Any, tuple[Landing, bool]] = {}
        for key, value, life in entries:
            try:
                is_stored = await computer.store_one(way, key, value, life, version)
                landings[key] = Landing(value), is_stored
            except FAILURES as exc:
                landings[key] = Landing(error=exc), False
        return landings
