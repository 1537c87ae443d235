"""Types as data: which names decode to a type, and what the others decode to."""

from __future__ import annotations

from types import NoneType
from typing import Any, Final

BUILTIN_TYPES: Final[dict[str, type[Any]]] = {
    kind.__qualname__: kind
    for kind in (
        NoneType,
        bool,
        bytearray,
        bytes,
        complex,
        dict,
        float,
        frozenset,
        int,
        list,
        object,
        range,
        set,
        slice,
        str,
        tuple,
        type,
    )
}
"""Qualified names in module `builtins` that decode to the type itself. Part of the format."""


class TypeName:
    """The name of a type, as it comes back in the keys of functions memoized with `typed=True`.

    It stands for the type without importing anything, is immutable, and equals the type of that
    name and every other `TypeName` of it. Its hash is the name's, not the type's: look for it in
    lists, not as a type in dicts.

    Example:
        >>> TypeName('fractions', 'Fraction')
        TypeName('fractions', 'Fraction')
    """

    __slots__ = ("module", "qualname")

    module: str
    qualname: str

    def __init__(self, module: str, qualname: str) -> None:
        object.__setattr__(self, "module", module)
        object.__setattr__(self, "qualname", qualname)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot set {name!r}: a TypeName does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete {name!r}: a TypeName does not change")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TypeName):
            return (self.module, self.qualname) == (other.module, other.qualname)
        if isinstance(other, type):
            return (self.module, self.qualname) == (other.__module__, other.__qualname__)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.module, self.qualname))

    def __repr__(self) -> str:
        return f"TypeName({self.module!r}, {self.qualname!r})"

    def __reduce__(self) -> tuple[type[TypeName], tuple[str, str]]:
        return TypeName, (self.module, self.qualname)
