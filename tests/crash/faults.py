"""Points in the library where a process can be made to die, by name.

Each function arms one point in this process: the process dies when it gets there for the
*countdown*-th time. They hang on steps that any implementation of the protocol has: a rename, an
unlink, a commit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from diskcache.engines.sqlite import connection, control, opening, removal
from diskcache.files import ValueFiles
from tests.crash.story import die


def _dies(countdown: int) -> Callable[[], None]:
    left = countdown

    def step() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            die()

    return step


def _wrap(owner: Any, name: str, *, before: Any = None, behind: Any = None) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **keywords: Any) -> Any:
        if before is not None:
            before(*args)
        result = original(*args, **keywords)
        if behind is not None:
            behind(*args)
        return result

    setattr(owner, name, wrapped)


def before_rename(countdown: int) -> None:
    step = _dies(countdown)
    _wrap(ValueFiles, "publish", before=lambda *_: step())


def after_rename(countdown: int) -> None:
    step = _dies(countdown)
    _wrap(ValueFiles, "publish", behind=lambda *_: step())


def half_written_file(countdown: int) -> None:
    step = _dies(countdown)
    write = os.write

    def wrapped(descriptor: int, data: Any) -> int:
        if len(data) > 10_000:
            written = write(descriptor, data[:5000])
            step()
            return written
        return write(descriptor, data)

    os.write = wrapped


def before_commit(countdown: int) -> None:
    step = _dies(countdown)

    def hook() -> bool:
        step()
        return False

    _wrap(connection.Link, "__init__", behind=lambda link, *_: link.con.set_commit_hook(hook))


def after_commit(countdown: int) -> None:
    """Dies when the database has committed and the control file does not know yet."""
    step = _dies(countdown)
    _wrap(connection.Link, "_on_log", before=lambda *_: step())


def before_unlink(countdown: int) -> None:
    step = _dies(countdown)
    _wrap(ValueFiles, "remove", before=lambda _, name: name.startswith("tmp/") or step())


def after_unlink(countdown: int) -> None:
    step = _dies(countdown)
    _wrap(ValueFiles, "remove", behind=lambda _, name: name.startswith("tmp/") or step())


def in_clear(countdown: int) -> None:
    """Dies in a commit, where bulk removals take five entries at a time."""
    removal.BATCH = 5
    before_commit(countdown)


def behind_clear(countdown: int) -> None:
    removal.BATCH = 5
    after_commit(countdown)


def in_creation(countdown: int) -> None:
    """Dies at one of the steps that make a directory: folders, files, renames, the database."""
    step = _dies(countdown)
    for name in ("mkdir", "open", "rename", "chmod"):
        _wrap(os, name, before=lambda *_: step())
    _wrap(opening, "_build", behind=lambda *_: step())
    _wrap(control, "attach", before=lambda *_: step())


NAMED: dict[str, Callable[[int], None]] = {
    function.__name__: function
    for function in (
        before_rename,
        after_rename,
        half_written_file,
        before_commit,
        after_commit,
        before_unlink,
        after_unlink,
    )
}
