"""Faults put into the product's own code, to see that a recorded history shows them.

Each changes the source of one function of the product, and waits a little where the order of steps
matters, so that what is possible also happens. `slow` only waits: it must not be noticed.
"""

from __future__ import annotations

import inspect
import random
import textwrap
import time
from collections.abc import Callable
from types import ModuleType
from typing import Final

from diskcache.engines.sqlite import alone, connection

_COMMIT: Final = "result = link.run(statement, values).get\n"
_MARK: Final = "words[slot] = odd = words[slot] | 1\n"
_SETTLE: Final = "    words[slot] = (odd + 1) & MASK\n    return result\n"


def _pause() -> None:
    """Let others run, now and then."""
    if random.random() < 0.5:
        time.sleep(0.001)


def changed(module: ModuleType, owner: object, name: str, *changes: tuple[str, str]) -> None:
    """Change the text of a function.

    Raises:
        LookupError: The text that is to be changed is not there exactly once.
    """
    text = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    for old, new in changes:
        if text.count(old) != 1:
            raise LookupError(f"{old!r} is not once in {name}: change this mutation with it")
        text = text.replace(old, new)
    scope = {**vars(module), "pause": _pause}
    exec(compile(text, f"<changed {name}>", "exec", dont_inherit=True, flags=_ANNOTATIONS), scope)
    setattr(owner, name, scope[name])


_ANNOTATIONS: Final = 0x1000000
"""What `from __future__ import annotations` stands for."""

_LATER: Final = (_COMMIT, _COMMIT.rstrip() + "; pause()\n")


def slow() -> None:
    """Wait between COMMIT and what follows it; that is allowed."""
    changed(alone, alone, "_commit", _LATER)


def no_mark() -> None:
    """Leave the generation even while a write of one statement commits."""
    changed(alone, alone, "_commit", (_MARK, "odd = words[slot] | 1\n"), _LATER)


def no_settle() -> None:
    """Give the generation back that it had."""
    changed(
        alone, alone, "_commit", (_SETTLE, "    words[slot] = odd - 1\n    return result\n"), _LATER
    )


def early_settle() -> None:
    """Make the generation even before the COMMIT of a write of one statement."""
    changed(
        alone,
        alone,
        "_commit",
        (_COMMIT, "words[slot] = (odd + 1) & MASK; pause()\n        " + _COMMIT),
        (_SETTLE, "    return result\n"),
    )


def early_settle_of_transactions() -> None:
    """Make generations even before the COMMIT of a transaction."""
    changed(
        connection,
        connection.Link,
        "commit",
        (
            'self.run("COMMIT")\n            settle(words, self.slots)\n',
            'settle(words, self.slots)\n            pause()\n            self.run("COMMIT")\n',
        ),
    )


def forgotten_keys() -> None:
    """Note no key that a transaction changes."""

    def touched(link: connection.Link, _: object) -> None:
        link.has_changes = True

    connection.Link.touched = touched  # type: ignore[method-assign,assignment]


ALL: Final[dict[str, Callable[[], None]]] = {
    function.__name__: function
    for function in (
        slow,
        no_mark,
        no_settle,
        early_settle,
        early_settle_of_transactions,
        forgotten_keys,
    )
}
