"""Two markers that mean "nothing here": unique, self-naming, and unpickled to themselves."""

from __future__ import annotations

from typing import Final, Self


class Constant(tuple[str]):
    """A marker that prints its own name and is compared by identity.

    It is a 1-tuple of its name, as in version 5, so that it is a valid part of a stored key.
    """

    __slots__ = ()

    def __new__(cls, name: str | tuple[str]) -> Self:
        """Return the marker called *name*; the one there is, for what version 5 pickled."""
        if isinstance(name, tuple):
            marker = globals().get(name[0])
            if isinstance(marker, cls):
                return marker
            (name,) = name
        return tuple.__new__(cls, (name,))

    def __repr__(self) -> str:
        return self[0]

    def __reduce__(self) -> str:
        # A string tells pickle to look the object up by this name in its module.
        return self[0]

    def __copy__(self) -> Constant:
        return self

    def __deepcopy__(self, memo: object) -> Constant:
        return self


ENOVAL: Final = Constant("ENOVAL")
"""No value was given, or no such entry exists."""

UNKNOWN: Final = Constant("UNKNOWN")
"""The key or the value is not known at this point."""
