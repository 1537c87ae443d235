"""Points at which a process can be made to die, by name; for tests, and nowhere else.

    DISKCACHE_FAILPOINTS=after_commit:3 python program.py

kills the program, as `kill -9` does, when it gets to that point for the third time. The points
exist only where the variable is set as this package is imported: then the functions that a point
lies in are replaced by ones that pass it. Otherwise this module is not even imported, and there is
nothing in the way of any call.

A point lies at a step that any implementation of the protocol has: a rename, a commit, an unlink.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Final

from diskcache.engines.sqlite import checkpoints, connection, control, opening, quarantine
from diskcache.engines.sqlite import upgrade as upgrading
from diskcache.errors import SettingError
from diskcache.files import ValueFiles

VARIABLE: Final = "DISKCACHE_FAILPOINTS"
LONG: Final = 10_000
"""Bytes from which a write to a file is one of a value."""

Step = Callable[[], None]


def die() -> None:
    """End this process as if its power had failed, but for what it gave the system."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _counted(countdown: int) -> Step:
    left = countdown

    def step() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            die()

    return step


def wrap(owner: Any, name: str, *, before: Any = None, behind: Any = None) -> None:
    """Have a function of a class or module call others before and behind it."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **keywords: Any) -> Any:
        if before is not None:
            before(*args)
        result = original(*args, **keywords)
        if behind is not None:
            behind(*args)
        return result

    setattr(owner, name, wrapped)


def before_rename(step: Step) -> None:
    """Before a value file gets its name."""
    wrap(ValueFiles, "publish", before=lambda *_: step())


def after_rename(step: Step) -> None:
    """After it got it, and before any row names it."""
    wrap(ValueFiles, "publish", behind=lambda *_: step())


def half_written_file(step: Step) -> None:
    """In the middle of writing a value file."""
    write = os.write

    def wrapped(descriptor: int, data: Any) -> int:
        if len(data) > LONG:
            written = write(descriptor, data[: LONG // 2])
            step()
            return written
        return write(descriptor, data)

    os.write = wrapped


def after_begin(step: Step) -> None:
    """With the gate in hand, and nothing done."""
    wrap(connection.Link, "begin", behind=lambda *_: step())


def before_commit(step: Step) -> None:
    """Before SQLite writes a transaction to the log."""

    def hook() -> bool:
        step()
        return False

    wrap(connection.Link, "__init__", behind=lambda link, *_: link.con.set_commit_hook(hook))


def after_commit(step: Step) -> None:
    """When the database has committed, and the control file does not know yet."""
    wrap(connection.Link, "_on_log", before=lambda *_: step())


def _unless_temporary(step: Step) -> Callable[[object, str], None]:
    def reached(_: object, name: str) -> None:
        if not name.startswith("tmp/"):
            step()

    return reached


def _around(owner: Any, name: str, step: Step) -> None:
    wrap(owner, name, before=lambda *_: step(), behind=lambda *_: step())


def before_unlink(step: Step) -> None:
    """Before a value file that no row names is removed."""
    wrap(ValueFiles, "remove", before=_unless_temporary(step))


def after_unlink(step: Step) -> None:
    """After it was."""
    wrap(ValueFiles, "remove", behind=_unless_temporary(step))


def in_checkpoint(step: Step) -> None:
    """Around the copying of the log into the database."""
    _around(checkpoints.Checkpointer, "after_commit", step)


def in_recovery(step: Step) -> None:
    """While what a dead writer left is being mended."""
    _around(connection.Link, "_recover", step)


def in_creation(step: Step) -> None:
    """At one of the steps that make a directory: folders, files, renames, the database."""
    for name in ("mkdir", "open", "rename", "chmod"):
        wrap(os, name, before=lambda *_: step())
    wrap(opening, "build", behind=lambda *_: step())
    wrap(control, "attach", before=lambda *_: step())


def in_upgrade(step: Step) -> None:
    """At one of the steps that take over a directory of version 5."""
    wrap(upgrading, "reached", before=lambda *_: step())


def in_quarantine(step: Step) -> None:
    """At one of the steps that put a new database in the place of a damaged one."""
    for name in ("_make", "_rescue", "_swap", "_renew_control", "_move_files"):
        wrap(quarantine._Replacement, name, before=lambda *_: step())  # noqa: SLF001
    for name in ("link", "rename"):
        wrap(os, name, before=lambda *_: step())


POINTS: Final[dict[str, Callable[[Step], None]]] = {
    function.__name__: function
    for function in (
        before_rename,
        after_rename,
        half_written_file,
        after_begin,
        before_commit,
        after_commit,
        before_unlink,
        after_unlink,
        in_checkpoint,
        in_recovery,
        in_creation,
        in_upgrade,
        in_quarantine,
    )
}


def arm(name: str, countdown: int = 1) -> None:
    """Have this process die when it gets to a point for the *countdown*-th time."""
    POINTS[name](_counted(countdown))


def arm_all(text: str) -> None:
    """Arm the points of the variable: names, each with a colon and a number or not, and commas.

    Raises:
        SettingError: There is no such point, or the number is none.
    """
    for part in filter(None, text.split(",")):
        name, _, number = part.strip().partition(":")
        if name not in POINTS or not (number or "1").isdigit():
            raise SettingError(
                f"{VARIABLE} must be names of points with the number of the time to die, such as"
                f" after_commit:3: got {part!r}; points are {', '.join(POINTS)}"
            )
        arm(name, int(number or 1))
