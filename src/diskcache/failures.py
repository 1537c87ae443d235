"""Exceptions as data: what a computation that failed leaves for other processes, and for later.

An exception is kept as the name of its class, its arguments if they are plain data, and its text.
It comes back as its own class only if that is one that the caller named, or a subclass of one, or
if it is built in, or of this library; else as `LoaderError`. Nothing is imported, and nothing
unpickled.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from diskcache import errors
from diskcache.codecs import plain
from diskcache.errors import DiskCacheError, LoaderError

LONGEST: Final = 1000
"""Characters of a text that are kept."""

_OURS: Final = {"builtins": builtins, errors.__name__: errors}
"""Modules whose exceptions are what they say, wherever they come from."""

FAILURES: Final = (Exception,)
"""What a function may raise as its outcome. Anything else interrupts it, and is no outcome."""


class Failure(NamedTuple):
    """An exception as data."""

    name: str
    """Module and qualified name of the class."""
    arguments: tuple[Any, ...] | None
    """What the exception was made of; None if that is not plain data, or too long."""
    text: str

    @classmethod
    def of(cls, exc: BaseException) -> Failure:
        """Return an exception as data."""
        kind = type(exc)
        return cls(f"{kind.__module__}.{kind.__qualname__}", _plain(exc.args), _text(exc))

    @classmethod
    def parsed(cls, value: object) -> Failure | None:
        """Return the failure that a tuple of plain data stands for; None if for none."""
        match value:
            case (str() as name, (tuple() | None) as arguments, str() as text):
                return cls(name, arguments, text)
        return None

    def revived(self, known: Iterable[type[BaseException]], note: str) -> Exception:
        """Return an exception to raise.

        Args:
            known: Classes that it may be made of, and their subclasses, besides the built-in ones
                and our own.
            note: Says where it comes from.
        """
        exc = self._made(known) or LoaderError(self.name, self.text)
        exc.add_note(note)
        return exc

    def _made(self, known: Iterable[type[BaseException]]) -> Exception | None:
        kind = _known_as(self.name, known)
        module, _, name = self.name.rpartition(".")
        if kind is None and module in _OURS:
            kind = getattr(_OURS[module], name, None)
        if self.arguments is None or not (isinstance(kind, type) and issubclass(kind, Exception)):
            return None
        try:
            return kind(*self.arguments)
        except FAILURES:
            # Its constructor takes something else than what `args` says, and fails as it likes.
            return None


def _known_as(name: str, known: Iterable[type[BaseException]]) -> type | None:
    """Return the class of a name: one of those that are known, or a subclass of theirs."""
    to_do, seen = list(known), set[type]()
    while to_do:
        kind = to_do.pop()
        if _name_of(kind) == name:
            return kind
        # The last one of a name is the one that its module has now.
        to_do += [one for one in kind.__subclasses__() if one not in seen]
        seen.update(to_do)
    return None


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _plain(arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    try:
        is_short = len(plain.dumps(arguments)) <= LONGEST
    except (DiskCacheError, TypeError, ValueError, RecursionError):
        return None
    return arguments if is_short else None


def _text(exc: BaseException) -> str:
    try:
        text = str(exc)
    except FAILURES:
        text = "(no text)"
    return text.encode(errors="replace").decode()[:LONGEST]
