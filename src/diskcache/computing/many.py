"""The values of many keys, of which those that are missing are computed by one call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from diskcache import flight
from diskcache.computing.steps import Computer
from diskcache.computing.ways import Way, original
from diskcache.failures import FAILURES
from diskcache.flight import Flight, Landing, Place, Share
from diskcache.sentinels import ENOVAL


async def get_many(
    computer: Computer,
    way: Way,
    keys: list[Any],
    func: Callable[[list[Any]], Any],
    find_many: Callable[[list[Any]], dict[Any, Any]],
) -> dict[Any, Any]:
    """Return the values of many keys; compute those that are missing with one call."""
    found = await way.do(find_many, keys)
    missing = [key for key in dict.fromkeys(keys) if key not in found]
    led: dict[Any, Flight] = {}
    try:
        await _take_off_many(computer, way, missing, led)
        if led:
            found |= await _flown_many(computer, way, led, func, find_many)
    finally:
        for one in led.values():
            one.land(None)
    for key in missing:
        if key not in led:
            value = await computer.miss(way, key, way.one(func, key))
            if value is not ENOVAL:
                found[key] = value
    return {key: found[key] for key in keys if key in found}


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
    find_many: Callable[[list[Any]], dict[Any, Any]],
) -> dict[Any, Any]:
    """Call the function once for all that nobody stored just before."""
    found = dict(await way.do(find_many, list(led)))
    those = [(led[key], Landing(value), True) for key, value in found.items()]
    await flight.come_down_together(those, way)
    wanted = [key for key in led if key not in found]
    if not wanted:
        return found
    with ExitStack() as stack:
        for key in wanted:
            stack.enter_context(led[key].computing())
        try:
            values = dict(await way.call(partial(func, wanted)))
        except FAILURES as exc:
            computer.tally.failed += 1
            landing = Landing(error=original(exc))
            await flight.come_down_together([(led[key], landing, False) for key in wanted], way)
            raise
    those = []
    for key in wanted:
        value = values.get(key, ENOVAL)
        is_stored = await computer.keep(way, key, value, computer.condition(led[key]))
        those.append((led[key], Landing(value), is_stored))
        if not led[key].is_slow:
            led[key].land(Landing(value), is_stored=is_stored)
    await flight.come_down_together(those, way)
    computer.tally.misses += len(wanted)
    return found | {key: values[key] for key in wanted if key in values}
