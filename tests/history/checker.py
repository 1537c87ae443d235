"""Tells whether what many threads have seen can be explained by one cache that is never stale.

A history is *linearizable* if every operation can be given one moment between its invocation and
its response, so that the results are those of the operations done one after the other in the order
of these moments. This holds for a whole if it holds for each part that has nothing to do with the
others: here for each *group* of keys, of which single operations concern one, and transactions
several.

The method is that of Wing and Gong, with the moments chosen as late as possible (Lowe). The events
of a group are gone through in the order of time. A *configuration* is a state that the group may
have, with those operations whose moment has come but whose response has not. When an operation
responds, its moment must have come, or must come now, possibly after those of others that are
still going on. If no configuration is left, nothing can explain the history. A read that agrees
with a state takes place in it at once: that never takes a possibility away.

What is special here:

* An operation of a process that was killed may have happened, up to the death of the process, or
  not.
* A value that expires is there up to a moment and not there from it on. Operations see the moment
  by their own clock, so it is known up to the time that the storing operation took.
* A touch judges by its own clock whether an entry is live, a little before the entry changes. So
  one that began before the entry expired may still give it another expiry after others have missed
  it.
* Evicting and clearing remove each key at a moment of its own.
* Where a cache is culled, any entry may vanish at any time. It may not come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from tests.history.records import (
    ACTIONS,
    ADD,
    CLEARED,
    DELETE,
    EVICTED,
    GET,
    IN,
    INCR,
    NOTHING,
    POP,
    SET,
    TOUCH,
    UNDONE,
    Operation,
    Part,
)

FOREVER: Final = 2**62
SLACK: Final = 1_000_000
"""Nanoseconds by which the clock of expiry may differ from the one of the records."""
TAGS: Final = 3
"""The tag of a value is the value modulo this."""

Entry: TypeAlias = tuple[int, int, int]
"""Value; nanoseconds from which it may have expired, and from which it must have."""
State: TypeAlias = tuple[Entry, ...]
"""The entries of a group's keys."""
Configuration: TypeAlias = tuple[State, frozenset[int]]

ABSENT: Final[Entry] = (NOTHING, FOREVER, FOREVER)
LAPSED: Final = -2
"""In place of the value of an entry that has expired; then come the value, and the latest moment
at which it can have expired."""

_READS: Final = frozenset({GET, IN})


class Step(NamedTuple):
    """An operation as the checker needs it."""

    number: int
    invoked: int
    latest: int
    """Moment up to which it may take place: of its response, or of the death of its process."""
    parts: tuple[Part, ...]
    kind: int
    has_ended: bool
    is_reading: bool
    """Whether it changes nothing."""


class Violation(NamedTuple):
    """A history that nothing can explain."""

    group: int
    step: Step
    """The operation whose result cannot be."""
    going_on: tuple[Step, ...]
    configurations: frozenset[Configuration]
    before: tuple[Step, ...]
    """What responded last."""

    def __str__(self) -> str:
        """Return the story, in nanoseconds before the response that cannot be."""
        origin = self.step.latest
        lines = [f"group {self.group}: nothing explains {told(self.step, origin)}"]
        lines += [f"  before it:  {told(step, origin)}" for step in self.before]
        lines += [f"  going on:   {told(step, origin)}" for step in self.going_on]
        lines += [f"  can only be {state}" for state, _ in sorted(self.configurations)[:8]]
        return "\n".join(lines)


def told(step: Step, origin: int) -> str:
    """Return an operation in words."""
    parts = ", ".join(
        f"{ACTIONS.get(part.action, step.kind)}(key {part.key}, {part.argument},"
        f" expire={part.expire}) -> {part.result}"
        for part in step.parts
    )
    end = step.latest - origin if step.has_ended else "killed"
    undone = " undone" if step.kind == UNDONE else ""
    return f"[{step.invoked - origin} .. {end}]{undone} {parts}"


def check(
    operations: Iterable[tuple[Operation, int]], group: int, keys: int, *, vanishing: bool = False
) -> Violation | None:
    """Check what happened to one group of keys.

    Args:
        operations: Operations, and the moment until which they can have happened: that of their
            response, or the death of their process.
        group: Number of the group, to be told in a violation.
        keys: How many keys the group has.
        vanishing: Whether entries may vanish at any time, because the cache is culled.
    """
    return _Search(list(_steps(operations, keys)), group, keys, vanishing).run()


def _steps(operations: Iterable[tuple[Operation, int]], keys: int) -> Iterator[Step]:
    number = 0
    for operation, until in operations:
        has_ended = operation.responded != 0
        latest = operation.responded if has_ended else until
        kind, parts = operation.kind, operation.parts
        if not parts:
            continue
        if kind in (CLEARED, EVICTED):
            # A key at a time.
            for key in range(keys):
                part = Part(key, 0, parts[0].argument)
                yield Step(number, operation.invoked, latest, (part,), kind, has_ended, False)
                number += 1
            continue
        if has_ended:
            is_reading = kind == UNDONE or all(_is_read(part) for part in parts)
        elif all(part.action in _READS for part in parts):
            continue
        else:
            is_reading = False
        yield Step(number, operation.invoked, latest, parts, kind, has_ended, is_reading)
        number += 1


def _is_read(part: Part) -> bool:
    """Tell whether a part changed nothing, as its result says."""
    action, result = part.action, part.result
    return (
        action in _READS
        or (action in (ADD, DELETE, TOUCH) and result == 0)
        or (action == POP and result == NOTHING)
    )


class _Search:
    def __init__(self, steps: list[Step], group: int, keys: int, vanishing: bool) -> None:
        self._steps = steps
        self._group = group
        self._vanishing = vanishing
        self._configurations: set[Configuration] = {((ABSENT,) * keys, frozenset())}
        self._pending: dict[int, Step] = {}
        self._last: list[Step] = []

    def run(self) -> Violation | None:
        events = sorted(
            [(step.invoked, 0, step.number) for step in self._steps]
            + [(step.latest, 1, step.number) for step in self._steps]
        )
        for _, is_response, number in events:
            step = self._steps[number]
            if not is_response:
                self._invoke(step)
            elif not self._respond(step):
                going_on = tuple(other for other in self._pending.values() if other is not step)
                before = tuple(self._last[-12:])
                return Violation(
                    self._group, step, going_on, frozenset(self._configurations), before
                )
            else:
                self._last.append(step)
                if len(self._last) > 100:
                    del self._last[:50]
        return None

    def _invoke(self, step: Step) -> None:
        self._pending[step.number] = step
        if step.is_reading:
            self._configurations = {
                (state, done | {step.number} if state in self._after(state, step) else done)
                for state, done in self._configurations
            }

    def _respond(self, step: Step) -> bool:
        """Let the moment of a step come, where it has not; false if that is impossible."""
        number = step.number
        found: set[Configuration] = set()
        for configuration in self._configurations:
            state, done = configuration
            if number in done:
                found.add((state, done - {number}))
                continue
            if not step.has_ended:
                found.add(configuration)
            if len(self._pending) == 1:
                found.update((after, done) for after in self._after(state, step))
            else:
                self._explore(configuration, step, found)
        if not found:
            return False
        self._configurations = found
        del self._pending[number]
        return True

    def _explore(self, start: Configuration, step: Step, found: set[Configuration]) -> None:
        """Let the moments of any others come first, in any order."""
        seen, todo = {start}, [start]
        while todo:
            state, done = todo.pop()
            for number, other in self._pending.items():
                if number in done:
                    continue
                for after in self._after(state, other):
                    if other is step:
                        found.add((after, self._with_reads(after, done, step.number)))
                        continue
                    reached = (after, self._with_reads(after, done | {number}, step.number))
                    if reached not in seen:
                        seen.add(reached)
                        todo.append(reached)

    def _with_reads(self, state: State, done: frozenset[int], but: int) -> frozenset[int]:
        """Return what is done, and the reads that take place in this state."""
        more = [
            number
            for number, other in self._pending.items()
            if other.is_reading
            and number != but
            and number not in done
            and state in self._after(state, other)
        ]
        return done.union(more) if more else done

    # -- What a step makes of a state --

    def _after(self, state: State, step: Step) -> list[State]:
        """Return the states that a step with its result may leave; none if it cannot be."""
        states = [state]
        for part in step.parts:
            following = []
            for before in states:
                entry = before[part.key]
                for after in self._entries_after(entry, part, step):
                    if after is entry:
                        following.append(before)
                    else:
                        following.append((*before[: part.key], after, *before[part.key + 1 :]))
            states = following
            if not states:
                return states
        return [state] if step.kind == UNDONE else states

    def _entries_after(self, entry: Entry, part: Part, step: Step) -> list[Entry]:
        found = []
        value, may_expire, must_expire = entry
        if value >= 0:
            if step.invoked < must_expire:
                found += _on_present(entry, part, step)
            if self._vanishing:
                found += _on_absent(ABSENT, part, step)
            elif step.latest >= may_expire:
                found += _on_absent((LAPSED, value, must_expire), part, step)
        else:
            found += _on_absent(entry, part, step)
        return found


def _stored(value: int, part: Part, step: Step) -> Entry:
    if part.expire is None:
        return (value, FOREVER, FOREVER)
    later = part.expire * 1_000_000
    return (value, step.invoked + later - SLACK, step.latest + later + SLACK)


def _on_present(entry: Entry, part: Part, step: Step) -> list[Entry]:
    value, result, action = entry[0], part.result, part.action
    if step.kind == CLEARED:
        return [ABSENT]
    if step.kind == EVICTED:
        return [ABSENT if value % TAGS == part.argument else entry]
    outcome, after = {
        GET: (value, entry),
        IN: (1, entry),
        SET: (1, _stored(part.argument, part, step)),
        ADD: (0, entry),
        DELETE: (1, ABSENT),
        POP: (value, ABSENT),
        INCR: (value + part.argument, (value + part.argument, *entry[1:])),
        # The value stays, with another expiry.
        TOUCH: (1, _stored(value, part, step)),
    }[action]
    is_possible = result == outcome or (not step.has_ended and action not in _READS)
    return [after] if is_possible else []


def _on_absent(entry: Entry, part: Part, step: Step) -> list[Entry]:
    result, action = part.result, part.action
    if step.kind in (CLEARED, EVICTED):
        return [entry]
    if action == TOUCH and entry[0] == LAPSED and result != 0 and step.invoked < entry[2]:
        return [_stored(entry[1], part, step)]
    outcome, after = {
        GET: (NOTHING, entry),
        IN: (0, entry),
        SET: (1, _stored(part.argument, part, step)),
        ADD: (1, _stored(part.argument, part, step)),
        DELETE: (0, entry),
        POP: (NOTHING, entry),
        # A number that is not there counts from 0, and does not expire.
        INCR: (part.argument, (part.argument, FOREVER, FOREVER)),
        TOUCH: (0, entry),
    }[action]
    is_possible = result == outcome or (not step.has_ended and action not in _READS)
    return [after] if is_possible else []
