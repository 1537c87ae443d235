"""Who does what: small programs that meet in every way.

A reader that only reads cannot change what others see. So more than one reader matters only where
readers mend what a dead writer left; elsewhere one is enough, and its program is longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from diskcache.entry import RemovalCause
from tests.explorer.actors import Actor, Player, Program
from tests.explorer.rows import Content
from tests.explorer.search import Explorer, Report
from tests.explorer.stage import set_up
from tests.explorer.world import Layout

CLEARED, EVICTED = RemovalCause.CLEARED, RemovalCause.EVICTED
SAME_SLOT: Final = "a1295"
"""A key that shares the generation of `a`."""
TWO: Final[Content] = ((1, "a", "0", None), (2, "b", "0", "tag"))


@dataclass(frozen=True)
class Role:
    """One actor of a scenario."""

    name: str
    program: Program
    may_die: bool = False
    may_fail: bool = False
    is_last: bool = False
    has_looked: bool = False
    """Whether the process has just seen that its control file is at the path."""


@dataclass(frozen=True)
class Scenario:
    """A story of which every course is explored."""

    title: str
    roles: tuple[Role, ...]
    least: int
    """States there are at least; fewer mean that something is not explored any more."""
    soaks: bool = False
    """Whether it takes too long for every test run."""
    keys: tuple[str, ...] = ("a", "b")
    content: Content = TWO
    deaths: int = 0
    faults: int = 0
    suspicious: bool = False
    threads: tuple[str, ...] = ()
    """Names of the roles that are threads of one process."""
    timed: bool = False
    """Whether time passes; else nobody ever looks at the path of the control file."""
    shared: Mapping[str, Any] = field(default_factory=dict)

    def explore(self) -> Report:
        """Explore every course, or find the shortest one that goes wrong."""
        layout = Layout(self.keys, len(self.roles), suspicious=self.suspicious)
        world = layout.first(
            self.content,
            deaths=self.deaths,
            faults=self.faults,
            shared=tuple(sorted(self.shared.items())),
        )
        with set_up(layout):
            actors = [
                Actor(
                    role.name,
                    role.program,
                    may_die=role.may_die,
                    may_fail=role.may_fail,
                    is_last=role.is_last,
                    threads=role.name in self.threads,
                    timed=self.timed,
                    has_looked=role.has_looked,
                )
                for role in self.roles
            ]
            return Explorer(layout, world, actors).explore()


def program(*steps: Callable[[Player], None]) -> Program:
    """Return the program that does one thing after the other."""

    def play(player: Player) -> None:
        for step in steps:
            step(player)

    return play


def get(key: str) -> Program:
    return lambda player: player.get(key)


def put(key: str, value: str) -> Program:
    return lambda player: player.put(key, value)


def delete(key: str) -> Program:
    return lambda player: player.delete(key)


def remove(cause: RemovalCause, tag: str | None = None) -> Program:
    return lambda player: player.remove(cause, tag)


def transact(*steps: tuple[str, str | None], fails: bool = False) -> Program:
    return lambda player: player.transact(*steps, fails=fails)


def glance(key: str) -> Program:
    return lambda player: player.glance(key)


def pin(player: Player) -> None:
    player.pin()


def unpin(player: Player) -> None:
    player.unpin()


def happen(what: str) -> Program:
    return lambda player: player.happen(what)


def reopen(player: Player) -> None:
    player.reopen()


LAST: Final = Role("the last one", program(reopen, put("b", "last"), get("a")), is_last=True)
READER: Final = Role("reader", program(get("a"), get("a")))


SCENARIOS: Final = {
    scenario.title: scenario
    for scenario in (
        Scenario(
            "two writers that may die, a bulk removal, a reader",
            (
                Role("writer 1", put("a", "1"), may_die=True),
                Role("writer 2", transact(("a", "2")), may_die=True),
                Role("bulk", remove(CLEARED)),
                READER,
            ),
            least=250_000,
            deaths=2,
        ),
        Scenario(
            "a writer that may die, a bulk removal, two readers",
            (
                Role("writer", put("a", "1"), may_die=True),
                Role("bulk", remove(EVICTED, "tag")),
                Role("reader 1", program(get("a"), get("a"))),
                Role("reader 2", program(get("b"), get("b"))),
                LAST,
            ),
            least=42_000,
            deaths=1,
        ),
        Scenario(
            "readers that mend what a dead writer left",
            (
                Role("writer", put("a", "1"), may_die=True),
                Role("reader 1", program(get("a"), get("a"), get("a")), may_die=True),
                Role("reader 2", program(get("a"), get("a"))),
                LAST,
            ),
            least=72_000,
            deaths=2,
            suspicious=True,
        ),
        Scenario(
            "writers that keep what they store",
            (
                Role("writer 1", program(put("a", "1"), get("a")), may_die=True),
                Role("writer 2", program(put("a", "2"), get("a")), may_die=True),
                Role("writer 3", program(delete("a"), get("a"))),
            ),
            least=52_000,
            deaths=1,
        ),
        Scenario(
            "misses that are kept",
            (
                Role("writer 1", put("a", "1"), may_die=True),
                Role("writer 2", program(delete("a"), get("a")), may_die=True),
                Role("reader", program(get("a"), get("a"), get("a"))),
                LAST,
            ),
            least=57_000,
            content=((2, "b", "0", None),),
            deaths=1,
        ),
        Scenario(
            "two keys with one generation, and a rollback",
            (
                Role("writer 1", put(SAME_SLOT, "1")),
                Role("writer 2", program(transact(("a", "2"), fails=True), get("b"), get("a"))),
                Role("writer 3", transact(("a", "3"), (SAME_SLOT, None))),
                Role("reader", program(get("a"), get(SAME_SLOT), get("a"))),
            ),
            least=38_000,
            keys=("a", SAME_SLOT, "b"),
        ),
        Scenario(
            "a connection in the middle of a read",
            (
                Role("writer 1", program(put("a", "1"), put("a", "2")), may_die=True),
                Role("writer 2", transact(("a", "3")), may_die=True),
                Role("reader", program(pin, glance("a"), unpin, get("a"))),
                LAST,
            ),
            least=9_500,
            deaths=1,
        ),
        Scenario(
            "full disks and interrupts",
            (
                Role("writer 1", program(put("a", "1"), get("a")), may_fail=True),
                Role("writer 2", transact(("a", "2")), may_fail=True),
                READER,
            ),
            least=53_000,
            faults=1,
        ),
        Scenario(
            "two threads of one process, one of them in a transaction",
            (
                Role("thread 1", program(transact(("a", "1")), get("a"))),
                Role("thread 2", program(get("a"), get("a"))),
                LAST,
            ),
            least=17_000,
            threads=("thread 1", "thread 2"),
            shared={"hidden": 0, "is shown": True, "look_at": -1.0},
        ),
        Scenario(
            "a control file that vanishes",
            (
                Role("somebody", program(happen("vanish"), happen("pass"))),
                Role("writer", put("a", "1")),
                Role("reader", program(get("a"), get("a"))),
            ),
            least=22_500,
            timed=True,
        ),
        Scenario(
            "a control file that vanishes under writers who have just looked",
            (
                Role("somebody", happen("vanish")),
                Role(
                    "writer 1", program(put("a", "1"), get("a"), happen("pass"), get("b"), get("a"))
                ),
                Role("writer 2", program(put("a", "2"), get("a")), has_looked=True),
            ),
            least=22_500,
            timed=True,
        ),
        Scenario(
            "two writers that may die, a bulk removal, a reader, and one after all",
            (
                Role("writer 1", put("a", "1"), may_die=True),
                Role("writer 2", transact(("a", "2")), may_die=True),
                Role("bulk", remove(CLEARED)),
                READER,
                LAST,
            ),
            least=490_000,
            deaths=2,
            soaks=True,
        ),
        Scenario(
            "two writers that may die, a bulk removal, two readers",
            (
                Role("writer 1", put("a", "1"), may_die=True),
                Role("writer 2", delete("a"), may_die=True),
                Role("bulk", remove(EVICTED, "tag")),
                Role("reader 1", program(get("a"), get("a"))),
                Role("reader 2", program(get("b"), get("b"))),
            ),
            least=2_400_000,
            deaths=2,
            soaks=True,
        ),
        Scenario(
            "two faults",
            (
                Role("writer 1", program(put("a", "1"), get("a")), may_fail=True),
                Role(
                    "writer 2",
                    program(transact(("a", "2"), ("b", "2")), get("a")),
                    may_fail=True,
                ),
                READER,
                LAST,
            ),
            least=950_000,
            faults=2,
            soaks=True,
        ),
    )
}
