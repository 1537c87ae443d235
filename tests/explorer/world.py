"""The outside world of the protocol: what processes share, as a value.

A world is a tuple, so that two ways to the same state are found to be one. `apply` answers a
request of an actor, and gives the world that follows.

What SQLite is taken to do: COMMIT makes a transaction visible at one moment; a read sees what was
committed when it began, or, in the middle of an unfinished read of the same connection, what was
committed when that began; a process killed in COMMIT leaves nothing, everything, or a *ghost*: a
transaction in the log that nobody sees, that the next commit overwrites, and that comes back when
every connection has closed.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeAlias

from diskcache.engines.sqlite.control import (
    BEGIN,
    COUNT,
    END,
    FILES,
    HEADER,
    STATE,
    slot_of,
)
from diskcache.engines.sqlite.session import LOOK_EVERY
from tests.explorer.rows import Content, run, value_of

Request: TypeAlias = tuple[Any, ...]
"""A name, and what belongs to it."""

NOBODY: Final = -1

KEPT_WORDS: Final = (BEGIN, END, COUNT, STATE, FILES)
"""Words before the generations that the protocol depends on. Others are zero and stay so."""

HIDDEN_BY_GATE: Final = frozenset({"read", "begin", "rollback", "select"})
"""What others cannot tell from one another's doing while one has the gate."""

START: Final = 1000.0
"""What clocks show at first."""
FIRST_GENERATION: Final = 10
LIMIT_OF_FILES: Final = 3


class Raised(NamedTuple):
    """An answer that is an error."""

    error: str


class World(NamedTuple):
    """Everything outside the processes."""

    controls: tuple[tuple[int, ...], ...]
    """The words of each control file there ever was, in the order of `Layout.words`."""
    path: int
    """Number of the control file that is at the path."""
    gate: int
    """The actor that holds it."""
    lock: int
    """The actor in a write transaction of the database."""
    content: Content
    ghost: Content | None
    pins: tuple[Content | None, ...]
    """What a connection in the middle of a read sees, by actor."""
    wrote: tuple[frozenset[tuple[str, str | None]], ...]
    """What the step of each actor has committed."""
    awaited: tuple[tuple[str, frozenset[str | None]] | None, ...]
    """What the read of each actor may return: the key, and every value that was the newest since
    it began."""
    older: tuple[tuple[str, str | None], ...] | None
    """What was the newest before, while a process may believe in a control file that is gone;
    else None."""
    now: float
    shared: tuple[tuple[str, Any], ...]
    """What the threads of one process share."""
    deaths: int
    """How many actors may still die."""
    faults: int
    """How many steps may still fail or be interrupted."""


class Kind(IntEnum):
    """When others may go before a request is answered."""

    LOCAL = 0
    """Nobody can tell: it is answered at once."""
    ALONE = 1
    """Nobody else can tell, but whoever finds this process dead."""
    SHARED = 2
    BLOCKED = 3


class Layout:
    """Which words there are, and which actors.

    Args:
        keys: All keys that there are.
        actors: How many actors.
        suspicious: Whether readers meet a dead writer for so long that they look at begin and end.
    """

    def __init__(self, keys: Iterable[str], actors: int, *, suspicious: bool = False) -> None:
        self.is_suspicious = suspicious
        self.keys = tuple(keys)
        self.slots = tuple(sorted({slot_of(key) for key in self.keys}))
        self.words = (*KEPT_WORDS, *self.slots)
        self.place = {word: place for place, word in enumerate(self.words)}
        self.actors = actors

    def first(
        self,
        content: Content,
        *,
        deaths: int = 0,
        faults: int = 0,
        shared: tuple[tuple[str, Any], ...] = (),
    ) -> World:
        """Return the world before anybody has done anything."""
        nobody = (None,) * self.actors
        control = self._control(FIRST_GENERATION, len(content), dirty=False)
        nothing: frozenset[Any] = frozenset()
        return World(
            (control,),
            0,
            NOBODY,
            NOBODY,
            content,
            None,
            nobody,
            (nothing,) * self.actors,
            nobody,
            None,
            START,
            shared,
            deaths,
            faults,
        )

    def _control(self, generation: int, count: int, *, dirty: bool) -> tuple[int, ...]:
        words = {BEGIN: int(dirty), COUNT: 0 if dirty else count}
        return tuple(generation if w >= HEADER else words.get(w, 0) for w in self.words)

    def name(self, word: int) -> str:
        """Return what a word is called in a schedule."""
        if word < HEADER:
            return {BEGIN: "begin", END: "end", COUNT: "count", STATE: "state", FILES: "files"}[
                word
            ]
        return "generation of " + "=".join(key for key in self.keys if slot_of(key) == word)

    def describe(self, request: Request, answer: Any) -> str | None:
        """Return what a request does, in words; None if that is of no interest."""
        name = request[0]
        if name in ("read", "write") and request[2] not in self.place:
            return None
        if name == "read":
            return f"reads {self.name(request[2])}: {answer}"
        if name == "write":
            return f"sets {self.name(request[2])} to {request[3]}"
        if name == "op":
            return f"begins: {request[2]}"
        if name == "change":
            return f"runs and commits {request[1].split()[0]} {request[2][0]}"
        if name in ("select", "look", "put"):
            return f"runs {name} {' '.join(map(str, request[1:]))[:60]}: {answer}"
        texts = {
            "acquire": "takes the gate",
            "release": "releases the gate",
            "begin": "runs BEGIN IMMEDIATE",
            "commit": "runs COMMIT",
            "rollback": "runs ROLLBACK",
            "end": f"has read {request[-1]!r}",
            "told": None,
            "never": None,
            "time": None,
        }
        text = texts.get(name, " ".join(map(str, request)))
        return f"{text}: {answer.error}" if text and isinstance(answer, Raised) else text

    # -- When --

    def kind(self, world: World, me: int, request: Request) -> Kind:
        """Tell when others may go before a request is answered.

        Words change only in the hands of whoever has the gate, which `apply` sees to. So what the
        holder reads, and what of the words nobody reads without it, is of no concern to others.
        Giving the gate back at once forbids nothing that giving it back later would allow.
        """
        name = request[0]
        if name in ("end", "told", "never", "release"):
            return Kind.LOCAL
        if not self._may_go_on(world, me, request):
            return Kind.BLOCKED
        if world.gate == me:
            if name == "write":
                is_seen = request[2] >= HEADER or (
                    self.is_suspicious and request[2] in (BEGIN, END)
                )
                return Kind.SHARED if is_seen else Kind.ALONE
            return Kind.LOCAL if name in HIDDEN_BY_GATE else Kind.SHARED
        is_unseen = name == "read" and request[2] < HEADER and not self.is_suspicious
        return Kind.LOCAL if is_unseen else Kind.SHARED

    def _may_go_on(self, world: World, me: int, request: Request) -> bool:
        name = request[0]
        if name == "acquire":
            return world.gate == NOBODY or request[1] == 0
        return name != "sleep" or world.lock in (NOBODY, me)

    # -- What --

    def apply(self, world: World, me: int, request: Request) -> tuple[World, Any]:
        """Answer a request; return the world that follows, and the answer.

        Raises:
            Violation: The request breaks a rule, or shows that one was broken.
        """
        return getattr(self, "_do_" + request[0])(world, me, *request[1:])

    def _do_read(self, world: World, me: int, file: int, word: int) -> tuple[World, Any]:
        if word < HEADER and world.gate != me and not self.is_suspicious:
            return world, 0  # No reader waits long enough for a dead writer to suspect one.
        place = self.place.get(word)
        return world, 0 if place is None else world.controls[file][place]

    def _do_write(self, world: World, me: int, file: int, word: int, value: int) -> Any:
        if world.gate != me:
            raise Violation(f"{self.name(word)} is changed without the gate")
        place = self.place.get(word)
        if place is None:
            return world, None
        words = world.controls[file]
        words = (*words[:place], value, *words[place + 1 :])
        controls = (*world.controls[:file], words, *world.controls[file + 1 :])
        return world._replace(controls=controls), None

    def _do_acquire(self, world: World, me: int, wait: float | None) -> Any:
        if world.gate != NOBODY:
            return world, Raised("timeout")
        return world._replace(gate=me), None

    def _do_release(self, world: World, me: int) -> Any:
        return world._replace(gate=NOBODY) if world.gate == me else world, None

    def _do_begin(self, world: World, me: int) -> Any:
        if world.lock != NOBODY:
            return world, Raised("busy")
        return world._replace(lock=me), world.content

    def _do_commit(self, world: World, me: int, content: Content, writes: bool) -> Any:
        world = world._replace(lock=NOBODY)
        return (self._committed(world, me, content) if writes else world), None

    def _do_rollback(self, world: World, me: int) -> Any:
        return world._replace(lock=NOBODY) if world.lock == me else world, None

    def _do_select(self, world: World, me: int, statement: str, values: Any) -> Any:
        pinned = world.pins[me]
        content = world.content if pinned is None else pinned
        return world, run(content, statement, values).found

    def _do_change(self, world: World, me: int, statement: str, values: Any) -> Any:
        if world.lock != NOBODY:
            return world, Raised("busy")
        answer = run(world.content, statement, values)
        if answer.writes:
            world = self._committed(world, me, answer.content)
        return world, (answer.found, answer.changes, answer.rowid)

    def _committed(self, world: World, me: int, content: Content) -> World:
        before, after = dict(_items(world.content)), dict(_items(content))
        changed = {(key, after.get(key)) for key in self.keys if before.get(key) != after.get(key)}
        awaited = tuple(
            one and (one[0], one[1] | {value for key, value in changed if key == one[0]})
            for one in world.awaited
        )
        wrote = _with(world.wrote, me, world.wrote[me] | changed)
        older = world.older
        if older is not None:
            older = tuple(
                sorted({*older, *((key, before.get(key)) for key, _ in changed)}, key=str)
            )
        return world._replace(
            content=content, ghost=None, awaited=awaited, wrote=wrote, older=older
        )

    def _do_pin(self, world: World, me: int) -> Any:
        return world._replace(pins=_with(world.pins, me, world.content)), None

    def _do_unpin(self, world: World, me: int) -> Any:
        return world._replace(pins=_with(world.pins, me, None)), None

    # -- What the schedule says --

    def _do_op(self, world: World, me: int, number: int, text: str, key: Any, digest: Any) -> Any:
        awaited = None
        if key is not None:
            newest = {value_of(world.content, key)}
            awaited = (key, frozenset(newest | {v for k, v in world.older or () if k == key}))
        return world._replace(
            awaited=_with(world.awaited, me, awaited), wrote=_with(world.wrote, me, frozenset())
        ), None

    def _do_end(self, world: World, me: int, value: Any) -> Any:
        key, allowed = world.awaited[me] or ("", frozenset())
        if value not in allowed:
            raise Violation(
                f"stale: {key} is {value!r}, though since the read began it was never other than"
                f" {' or '.join(sorted(map(repr, allowed)))}"
            )
        return world._replace(awaited=_with(world.awaited, me, None)), None

    def _do_told(self, world: World, me: int, *changes: tuple[str, str | None]) -> Any:
        missing = [change for change in changes if change not in world.wrote[me]]
        if missing:
            raise Violation(f"told of a write that is not committed: {missing}")
        return world._replace(wrote=_with(world.wrote, me, frozenset())), None

    def _do_never(self, world: World, me: int, text: str) -> Any:
        raise Violation(text)

    # -- Time, and the control file --

    def _do_time(self, world: World, me: int) -> Any:
        return world, world.now

    def _do_sleep(self, world: World, me: int, seconds: float) -> Any:
        return world._replace(now=world.now + seconds), None

    def _do_vanish(self, world: World, me: int) -> Any:
        """Somebody removes the control file."""
        return world._replace(path=NOBODY, older=()), None

    def _do_pass(self, world: World, me: int) -> Any:
        """Enough time passes for every process to look at the path again."""
        return world._replace(now=world.now + 2 * LOOK_EVERY, older=None), None

    def _do_inode(self, world: World, me: int) -> Any:
        return world, world.path + 1

    def _do_create(self, world: World, me: int) -> Any:
        number = len(world.controls)
        if number >= LIMIT_OF_FILES:
            raise Violation("control files without end")
        control = self._control(FIRST_GENERATION * 10 * number, 0, dirty=True)
        return world._replace(controls=(*world.controls, control)), number

    def _do_publish(self, world: World, me: int, number: int) -> Any:
        return world._replace(path=number), None

    # -- What threads of one process share --

    def _do_look(self, world: World, me: int, name: str) -> Any:
        return world, dict(world.shared).get(name)

    def _do_put(self, world: World, me: int, name: str, value: Any) -> Any:
        shared = {**dict(world.shared), name: value}
        return world._replace(shared=tuple(sorted(shared.items()))), None

    # -- What else may happen --

    def killed(self, world: World, me: int) -> World:
        """Return the world after a process is gone: the kernel frees what it held."""
        return world._replace(
            gate=NOBODY if world.gate == me else world.gate,
            lock=NOBODY if world.lock == me else world.lock,
            pins=_with(world.pins, me, None),
            awaited=_with(world.awaited, me, None),
            wrote=_with(world.wrote, me, frozenset()),
            deaths=world.deaths - 1,
        )

    def ghost_of(self, world: World, request: Request) -> Content | None:
        """Return what is in the log when a process dies late in a commit."""
        if request[0] == "commit":
            return request[1] if request[2] else None
        if request[0] == "change" and world.lock == NOBODY:
            answer = run(world.content, request[1], request[2])
            return answer.content if answer.writes else None
        return None

    def _do_reopen(self, world: World, me: int, everybody: bool) -> Any:
        if everybody and world.ghost is not None:
            world = world._replace(content=world.ghost)
        return (world._replace(ghost=None) if everybody else world), None

    # -- What must be true --

    def check(self, world: World) -> None:
        """Look at the words, whenever nobody is in the middle of a write.

        Raises:
            Violation: Something is wrong that no writer will ever see.
        """
        if world.gate != NOBODY or world.path == NOBODY:
            return
        words = dict(zip(self.words, world.controls[world.path], strict=True))
        if words[BEGIN] != words[END]:
            return
        for slot in self.slots:
            if words[slot] & 1:
                raise Violation(f"{self.name(slot)} stays odd: {words[slot]}, with begin = end")
        for content in (world.content, world.ghost):
            if content is not None and words[COUNT] != len(content):
                when = "" if content is world.content else ", once all have closed"
                raise Violation(
                    f"count says {words[COUNT]}, with begin = end, but there are"
                    f" {len(content)} entries{when}"
                )

    def check_end(self, world: World) -> None:
        """Look at the words after all have ended and one more writer has written."""
        if world.path == NOBODY:
            raise Violation("there is no control file at the end")
        words = dict(zip(self.words, world.controls[world.path], strict=True))
        if words[BEGIN] != words[END]:
            raise Violation(f"begin = {words[BEGIN]} and end = {words[END]} at the end")


class Violation(Exception):  # noqa: N818 - it is a finding, not an error
    """The product breaks its promise."""


def _items(content: Content) -> Iterable[tuple[str, str]]:
    return ((key, value) for _, key, value, _ in content)


def _with(items: tuple[Any, ...], place: int, item: Any) -> tuple[Any, ...]:
    return (*items[:place], item, *items[place + 1 :])
