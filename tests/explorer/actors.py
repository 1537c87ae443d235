"""Actors that are asked what they do next, given all that they have seen.

An actor is a program on a `Process`. It is deterministic: what it asks for next depends only on the
answers that it got. So the explorer never copies a running program. It keeps a tree of answers for
each actor, and in each place what the actor asks for there; the program itself runs only to find
that out. Where an operation begins, everything the process carries on is compared, and equal
places become one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from greenlet import GreenletExit, getcurrent, greenlet

from diskcache.engines.sqlite import removal
from diskcache.entry import Only
from diskcache.errors import DiskCacheError
from tests.explorer.rows import value_of
from tests.explorer.stage import ERRORS, Process, running
from tests.explorer.world import Raised, Request

OVER: Final[Request] = ("over",)
KEPT_ALIVE: Final = 200


class Place:
    """Where an actor is: what it has seen, and what it asks for."""

    __slots__ = ("__weakref__", "_answer", "_before", "answers", "request")

    def __init__(self, before: Place | None, answer: Any, request: Request) -> None:
        self._before = before
        self._answer = answer
        self.request = request
        self.answers: dict[Any, Place] = {}

    def seen(self) -> list[Any]:
        """Return all answers on the way here."""
        found, place = [], self
        while place._before is not None:
            found.append(place._answer)
            place = place._before
        return found[::-1]


class Actor:
    """A program, and the tree of what it does.

    Args:
        name: What it is called in a schedule.
        program: Uses a `Player`.
        may_die: Whether its process may be killed.
        may_fail: Whether its commits may fail, and its steps be interrupted.
        is_last: Whether it waits until all others have ended.
        keywords: See `Process`.
    """

    def __init__(
        self,
        name: str,
        program: Program,
        *,
        may_die: bool = False,
        may_fail: bool = False,
        is_last: bool = False,
        **keywords: bool,
    ) -> None:
        self.name = name
        self.may_die = may_die
        self.may_fail = may_fail
        self.is_last = is_last
        self._program = program
        self._keywords = keywords
        self._alive: OrderedDict[Place, Run] = OrderedDict()
        self._beginnings: dict[Request, Place] = {}
        run = Run(self)
        self.first = self._settled(Place(None, None, run.request), run)
        self.places = 1
        self.runs = 1

    def after(self, place: Place, answer: Any) -> Place:
        """Return where the actor is once it has an answer."""
        found = place.answers.get(answer)
        if found is None:
            run = self._alive.pop(place, None)
            if run is None:
                run = Run(self)
                self.runs += 1
                for seen in place.seen():
                    run.go_on(seen)
            run.go_on(answer)
            found = self._settled(Place(place, answer, run.request), run)
            place.answers[answer] = found
            self.places += 1
        return found

    def _settled(self, place: Place, run: Run) -> Place:
        if place.request[0] == "op":
            place = self._beginnings.setdefault(place.request, place)
        if run.request is not OVER:
            self._alive[place] = run
            if len(self._alive) > KEPT_ALIVE:
                self._alive.popitem(last=False)
        return place


class Run:
    """A program in the middle of a request."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._is_left = False
        self.request: Request = OVER
        self._greenlet = greenlet(self._play)
        self._process: Process | None = None
        self._switch(None)

    def go_on(self, answer: Any) -> None:
        """Answer the request, and go on to the next one."""
        self._switch(answer)

    def _switch(self, answer: Any) -> None:
        if self._process is not None:
            running.append(self._process)
        self._greenlet.parent = getcurrent()
        request = self._greenlet.switch(answer)
        running.clear()
        self.request = OVER if request is None or self._greenlet.dead else request

    def _play(self, _: object) -> None:
        process = Process(self._ask, **self._actor._keywords)
        self._process = process
        running.append(process)
        self._actor._program(Player(process))

    def _ask(self, *request: Any) -> Any:
        if self._is_left:
            return 0  # Nobody wants to know what this program does to clean up.
        try:
            answer = self._greenlet.parent.switch(request)
        except GreenletExit:
            self._is_left = True
            raise
        if type(answer) is Raised:
            raise ERRORS[answer.error]
        return answer


class Rollback(Exception):  # noqa: N818 - it is a signal, not an error
    """Leaves a transaction."""


class Player:
    """The operations that programs are made of; each is an operation of the product."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._number = 0

    def begin(self, text: str, key: str | None = None) -> None:
        """Say that an operation begins."""
        self._number += 1
        process = self.process
        process.ask("op", self._number, text, key, process.digest())

    def get(self, key: str) -> None:
        """Read a key, which must not be stale."""
        self.begin(f"get {key}", key)
        self.process.ask("end", self.process.cache.get(key))

    def glance(self, key: str) -> None:
        """Read a key whatever comes: in the middle of an older read it may well be old."""
        self.begin(f"get {key} as of then")
        self.process.cache.get(key)

    def put(self, key: str, value: str, tag: str | None = None) -> None:
        """Store an entry: the short way if that is possible; then it is kept in memory, too."""
        self.begin(f"set {key} = {value}")
        engine, entry = self.process.engine, ((key, 1), (1, value, None), None, tag)
        keep = partial(self.process.cache._keep_stored, key, *entry)
        self._told(lambda: engine.put(*entry, 0.0, None, Only.ALWAYS, keep), (key, value))

    def delete(self, key: str) -> None:
        """Remove an entry."""
        self.begin(f"delete {key}")
        self._told(lambda: self.process.engine.delete((key, 1), 0.0, None))

    def remove(self, cause: Any, tag: str | None = None) -> None:
        """Remove many entries."""
        self.begin(f"{cause.value} {tag or ''}".strip())
        engine = self.process.engine
        self._told(
            lambda: engine._write(None, removal.remove, engine._culler, cause, None, 0.0, tag)
        )

    def transact(self, *steps: tuple[str, Any], fails: bool = False) -> None:
        """Do several things in one transaction; reads in it see its own writes."""
        self.begin(f"transaction of {' '.join(f'{k}={v}' for k, v in steps)}")
        self._told(lambda: self._transact(steps, fails), *(() if fails else steps))

    def _transact(self, steps: tuple[tuple[str, Any], ...], fails: bool) -> None:
        process = self.process
        engine, cache = process.engine, process.cache
        try:
            with engine.transaction(None):
                for key, value in steps:
                    if value is None:
                        engine.delete((key, 1), 0.0, None)
                    else:
                        engine.put((key, 1), (1, value, None), None, None, 0.0, None)
                    self._expect(key, value, cache.get(key))
                for other in ("a", "b"):
                    own = value_of(process.con.content_inside(), other)
                    self._expect(other, own, cache.get(other))
                if fails:
                    raise Rollback
        except Rollback:
            pass

    def _expect(self, key: str, expected: Any, found: Any) -> None:
        if found != expected:
            self.process.ask(
                "never", f"in its transaction {key} is {expected!r}, but {found!r} is read"
            )

    def _told(self, write: Callable[[], Any], *changes: tuple[str, Any]) -> None:
        try:
            write()
        except (DiskCacheError, KeyboardInterrupt):
            return
        stored = [(key, value) for key, value in dict(changes).items() if value is not None]
        if stored:
            self.process.ask("told", *stored)

    def pin(self) -> None:
        """Leave a read of this connection in the middle."""
        self.begin("begins an iteration")
        self.process.con.pin()

    def unpin(self) -> None:
        """End it."""
        self.begin("ends the iteration")
        self.process.con.unpin()

    def happen(self, what: str) -> None:
        """Let something happen to the world."""
        self.process.ask(what)

    def reopen(self) -> None:
        """All others have ended: perhaps they have closed."""
        self.process.ask("reopen", None)


Program: TypeAlias = Callable[[Player], None]
