"""The values of many keys, of which those that are missing are computed by one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol, TypeAlias

from diskcache import flight
from diskcache.computing.steps import Computer
from diskcache.computing.ways import Version, Way, original
from diskcache.entry import Tag
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
    """Return the values of many keys; compute those that are missing with one call."""
    found = await way.do(store.find_many, keys)
    missing = [key for key in dict.fromkeys(keys) if key not in found]
    led: dict[Any, Flight] = {}
    try:
        await _take_off_many(computer, way, missing, led)
        if led:
            found |= await _flown_many(computer, way, led, func, store)
    finally:
        for one in led.values():
            one.land(None)
    rest = [key for key in missing if key not in led]
    found |= await _waited_many(computer, way, rest, func, store)
    return {key: found[key] for key in keys if key in found}


async def _waited_many(
    computer: Computer,
    way: Way,
    keys: list[Any],
    func: Callable[[list[Any]], Any],
    store: ManyStore,
) -> dict[Any, Any]:
    """Wait for the values that others compute, one after the other.

    Where one of them computes many, all are there when the first one is: they are read together,
    as long as that finds half of those that are looked for.
    """
    found: dict[Any, Any] = {}
    rest, together = keys[::-1], True
    while rest:
        key = rest.pop()
        value = await computer.miss(way, key, way.one(func, key))
        if value is not ENOVAL:
            found[key] = value
        if rest and together:
            there = await way.do(store.find_many_again, rest)
            together = 2 * len(there) >= len(rest)
            found |= there
            rest = [key for key in rest if key not in there]
    return found


async def _take_off_many(
    computer: Computer, way: Way, keys: list[Any], led: dict[Any, Flight]
) -> None:
    """Take those of *keys* that nobody computes; wait for none."""
    places: dict[Any, tuple[Place, Share | None]] = {}
    for key in keys:
        place = computer.store.place(key)
        if place is None or not computer.terms.lock:
            led[key] = Flight(Place("", ""))
        else:
            places[key] = place
    taken = await flight.take_off_together(list(places.values()), way)
    led.update((key, one) for key, one in zip(places, taken, strict=True) if one is not None)


async def _flown_many(
    computer: Computer,
    way: Way,
    led: dict[Any, Flight],
    func: Callable[[list[Any]], Any],
    store: ManyStore,
) -> dict[Any, Any]:
    """Call the function once for all that nobody stored just before."""
    found = dict(await way.do(store.find_many_again, list(led)))
    those = [(led[key], Landing(value), True) for key, value in found.items()]
    await flight.come_down_together(those, way)
    wanted = {key: one for key, one in led.items() if key not in found}
    if not wanted:
        return found
    with ExitStack() as stack:
        for one in wanted.values():
            stack.enter_context(one.computing())
        try:
            values = dict(await way.call(partial(func, list(wanted))))
        except FAILURES as exc:
            computer.tally.failed += 1
            landing = Landing(error=original(exc))
            await flight.come_down_together([(one, landing, False) for one in wanted.values()], way)
            raise
    computer.tally.misses += len(wanted)
    landings = await _kept_many(computer, way, wanted, values, store)
    await flight.come_down_together([(led[key], *landings[key]) for key in wanted], way)
    for landing, _ in landings.values():
        if landing.error is not None:
            raise way.told(landing.error)
    return found | {key: values[key] for key in wanted if key in values}


# -- Keeping ---------------------------------------------------------------------------------


async def _kept_many(
    computer: Computer,
    way: Way,
    led: dict[Any, Flight],
    values: Mapping[Any, Any],
    store: ManyStore,
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
            life = computer.life(way, value)
        except FAILURES as exc:
            landings[key] = Landing(error=original(exc)), False
        else:
            if life != 0:
                entries.setdefault(computer.condition(one), []).append((key, value, life))
    for version, those in entries.items():
        landings |= await _stored_many(computer, way, those, version, store)
    return landings


async def _stored_many(
    computer: Computer, way: Way, entries: list[Entry], version: Version, store: ManyStore
) -> dict[Any, tuple[Landing, bool]]:
    """Store values together; one by one if one of them cannot be."""
    if store.saves_together:
        try:
            is_stored = await way.do(store.save_many, entries, computer.terms.tag, version)
        except FAILURES:
            # Which one it is, and why, is told below.
            pass
        else:
            return {key: (Landing(value), is_stored) for key, value, _ in entries}
    landings: dict[Any, tuple[Landing, bool]] = {}
    for key, value, life in entries:
        try:
            is_stored = await computer.store_one(way, key, value, life, version)
            landings[key] = Landing(value), is_stored
        except FAILURES as exc:
            landings[key] = Landing(error=exc), False
    return landings
