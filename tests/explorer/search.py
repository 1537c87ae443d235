"""All schedules, breadth first: what may happen next in a state, and the shortest way to one."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from tests.explorer.actors import OVER, Actor, Place
from tests.explorer.world import NOBODY, Kind, Layout, Raised, Request, Violation, World

State: TypeAlias = tuple[World, tuple[Place | None, ...]]
"""The world, and where each actor is: None if it is dead."""

Choice: TypeAlias = tuple[int, str]
"""An actor, and what happens to it: `goes on`, or a mishap."""

GOES_ON = "goes on"
MOST_STATES = 5_000_000


class Report(NamedTuple):
    """What an exploration has found."""

    states: int
    schedules: int
    places: int
    """Distinct places in programs of the product."""
    runs: int
    violation: str | None
    way: list[str]
    """The shortest schedule that leads to it."""


class Explorer:
    """Explores what a set of actors can do to each other."""

    def __init__(self, layout: Layout, first: World, actors: Sequence[Actor]) -> None:
        self._layout = layout
        self._actors = actors
        self._first: State = (first, tuple(actor.first for actor in actors))
        self._log: list[tuple[int, Request, Any]] | None = None

    def explore(self) -> Report:
        """Visit every state, or all on the way to the nearest violation."""
        was_enabled = gc.isenabled()
        gc.disable()  # Millions of tuples that all stay.
        try:
            return self._explore()
        finally:
            if was_enabled:
                gc.enable()

    def _explore(self) -> Report:
        numbers = {self._first: 0}
        states = [self._first]
        parents: list[tuple[int, Choice]] = [(-1, (0, ""))]
        following: list[list[int]] = []
        for number, state in _growing(states):
            row: list[int] = []
            choices = self._choices(state)
            for choice in choices:
                try:
                    after = self._take(state, choice)
                    self._layout.check(after[0])
                except Violation as exc:
                    return self._report(
                        states, following, str(exc), self._way(states, parents, number, choice)
                    )
                found = numbers.setdefault(after, len(states))
                if found == len(states):
                    states.append(after)
                    parents.append((number, choice))
                row.append(found)
            if not choices and (problem := self._problem_at_end(state)):
                return self._report(
                    states, following, problem, self._way(states, parents, number, None)
                )
            following.append(row)
            if len(states) > MOST_STATES:
                raise RuntimeError(f"more than {MOST_STATES} states")
        return self._report(states, following, None, [])

    # -- What may happen --

    def _choices(self, state: State) -> list[Choice]:
        """Return what may happen next; nothing if all have ended, or nobody can go on."""
        world, places = state
        waits = any(
            place is not None and place.request is not OVER
            for place, actor in zip(places, self._actors, strict=True)
            if not actor.is_last
        )
        found: list[Choice] = []
        for me, (place, actor) in enumerate(zip(places, self._actors, strict=True)):
            if place is None or place.request is OVER or (actor.is_last and waits):
                continue
            kind = self._layout.kind(world, me, place.request)
            own = list(self._choices_of(world, me, actor, place.request, kind))
            if kind is Kind.ALONE:
                return own
            found += own
        return found

    def _choices_of(
        self, world: World, me: int, actor: Actor, request: Request, kind: Kind
    ) -> Iterator[Choice]:
        name = request[0]
        if name == "reopen":
            yield from ((me, "somebody has it open still"), (me, "all have closed"))
            return
        if kind is not Kind.BLOCKED:
            yield me, GOES_ON
        is_inside = me in (world.gate, world.lock)
        if actor.may_die and world.deaths and is_inside:
            yield me, "dies"
            if self._layout.ghost_of(world, request) is not None:
                yield me, "dies late in the commit"
        if actor.may_fail and world.faults:
            if name in ("commit", "change") and kind is not Kind.BLOCKED:
                yield me, "disk is full"
            if is_inside and name not in ("rollback", "release"):
                yield me, "is interrupted"

    def _take(self, state: State, choice: Choice) -> State:
        """Return the state after a choice, and after all that follows of which nobody can tell."""
        world, places = state
        me, what = choice
        place = places[me]
        assert place is not None
        if what.startswith("dies"):
            ghost = self._layout.ghost_of(world, place.request) if "late" in what else None
            world = self._layout.killed(world, me)
            if ghost is not None:
                world = world._replace(ghost=ghost)
            return world, _with(places, me, None)
        if what in FAULTS:
            world = world._replace(faults=world.faults - 1)
            if what == "disk is full" and place.request[0] == "commit":
                world = world._replace(lock=NOBODY)
            place = self._actors[me].after(place, Raised(FAULTS[what]))
        elif place.request[0] == "reopen":
            world, answer = self._layout.apply(world, me, ("reopen", what == "all have closed"))
            place = self._actors[me].after(place, answer)
        else:
            world, place = self._answer(world, me, place)
        return self._go_on(world, me, place, places)

    def _go_on(
        self, world: World, me: int, place: Place, places: tuple[Place | None, ...]
    ) -> State:
        actor, kind_of = self._actors[me], self._layout.kind
        may_stop = (actor.may_die and world.deaths > 0) or (actor.may_fail and world.faults > 0)
        while place.request is not OVER:
            kind = kind_of(world, me, place.request)
            if kind is Kind.SHARED or kind is Kind.BLOCKED or (kind is Kind.ALONE and may_stop):
                break
            world, place = self._answer(world, me, place)
        return world, _with(places, me, place)

    def _answer(self, world: World, me: int, place: Place) -> tuple[World, Place]:
        """Answer a request; an operation begins together with the first thing that it asks for."""
        is_begin = place.request[0] == "op"
        world, place = self._answer_one(world, me, place)
        if is_begin and place.request is not OVER:
            kind = self._layout.kind(world, me, place.request)
            if kind is not Kind.BLOCKED and place.request[0] not in ("op", "reopen"):
                world, place = self._answer_one(world, me, place)
        return world, place

    def _answer_one(self, world: World, me: int, place: Place) -> tuple[World, Place]:
        request = place.request
        entry = (me, request, None)
        if self._log is not None:
            self._log.append(entry)
        world, answer = self._layout.apply(world, me, request)
        if self._log is not None:
            self._log[-1] = (me, request, answer)
        return world, self._actors[me].after(place, answer)

    def _problem_at_end(self, state: State) -> str | None:
        world, places = state
        stuck = [
            actor.name
            for place, actor in zip(places, self._actors, strict=True)
            if place is not None and place.request is not OVER
        ]
        if stuck:
            return f"{' and '.join(stuck)} cannot go on"
        try:
            if any(actor.is_last for actor in self._actors):
                self._layout.check_end(world)
        except Violation as exc:
            return str(exc)
        return None

    # -- What was found --

    def _report(
        self,
        states: list[State],
        following: list[list[int]],
        violation: str | None,
        way: list[str],
    ) -> Report:
        return Report(
            len(states),
            0 if violation else count_ways(following),
            sum(actor.places for actor in self._actors),
            sum(actor.runs for actor in self._actors),
            violation,
            way,
        )

    def _way(
        self,
        states: list[State],
        parents: list[tuple[int, Choice]],
        number: int,
        last: Choice | None,
    ) -> list[str]:
        choices = [] if last is None else [(number, last)]
        while number:
            number, choice = parents[number]
            choices.append((number, choice))
        lines: list[str] = []
        for before, choice in reversed(choices):
            lines += self._told(states[before], choice)
        return lines

    def _told(self, state: State, choice: Choice) -> list[str]:
        """Return what happens in one step, in words."""
        self._log = []
        lines = []
        me, what = choice
        if what != GOES_ON:
            lines.append(f"{self._actors[me].name} {what}")
        try:
            self._take(state, choice)
        except Violation:
            pass
        finally:
            log, self._log = self._log, None
        for who, request, answer in log:
            text = self._layout.describe(request, answer)
            if text:
                lines.append(f"{self._actors[who].name} {text}")
        return lines


FAULTS = {"disk is full": "full", "is interrupted": "interrupt"}


def count_ways(following: list[list[int]]) -> int:
    """Return in how many ways one can go from the first state to an end."""
    ways: list[int] = [0] * len(following)
    stack = [0]
    while stack:
        number = stack[-1]
        if ways[number]:
            stack.pop()
            continue
        open_ones = [one for one in following[number] if not ways[one]]
        if open_ones:
            stack += open_ones
            continue
        ways[number] = sum(ways[one] for one in following[number]) or 1
        stack.pop()
    return ways[0]


def _growing(states: list[State]) -> Iterator[tuple[int, State]]:
    number = 0
    while number < len(states):
        yield number, states[number]
        number += 1


def _with(places: tuple[Place | None, ...], me: int, place: Place | None) -> Any:
    return (*places[:me], place, *places[me + 1 :])
