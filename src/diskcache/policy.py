"""Eviction policies as data: what a read leaves behind, and which entry goes first.

A policy of this library orders entries by one number, their *rank*: the victim is the entry with
the smallest, the one stored first among equals. What the rank is follows from `Policy.rank`.

A policy may also be added by name to `EVICTION_POLICY`, as SQL templates in the form of version 5:
`init` (a statement run when the cache is opened, or None), `get` (an assignment list for the row
that was read, with the placeholder `{now}`, or None) and `cull` (a SELECT with `{fields}` and
optionally `{now}`, and one parameter, the number of rows; or None).
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, TypedDict

from diskcache.errors import UnknownPolicyError


class Template(TypedDict):
    """A policy written as SQL templates."""

    init: str | None
    get: str | None
    cull: str | None


class Rank(enum.Enum):
    """What an entry's rank is."""

    NONE = "none"
    STORED = "stored"
    """When it was last stored, in seconds since the epoch."""
    USED = "used"
    """When it was last stored or read."""
    COUNT = "count"
    """How often it was read since it was stored."""
    TEMPLATE = "template"
    """Decided by the policy's own SQL."""


class Policy(NamedTuple):
    """One eviction policy."""

    name: str
    rank: Rank
    template: Template | None = None

    @property
    def records_reads(self) -> bool:
        """Whether a read changes the order."""
        return self.rank in (Rank.USED, Rank.COUNT)


_ORDER: Final = "SELECT {fields} FROM Cache ORDER BY "

EVICTION_POLICY: dict[str, Template] = {
    "none": {"init": None, "get": None, "cull": None},
    "least-recently-stored": {
        "init": None,
        "get": None,
        "cull": _ORDER + "store_time LIMIT ?",
    },
    "least-recently-used": {
        "init": None,
        "get": "access_time = {now}",
        "cull": _ORDER + "access_time LIMIT ?",
    },
    "least-frequently-used": {
        "init": None,
        "get": "access_count = access_count + 1",
        "cull": _ORDER + "access_count LIMIT ?",
    },
}
"""Policies by name; add one to define it."""

_RANKS: Final = {
    "none": Rank.NONE,
    "least-recently-stored": Rank.STORED,
    "least-recently-used": Rank.USED,
    "least-frequently-used": Rank.COUNT,
}
_BUILT_IN: Final = {name: dict(template) for name, template in EVICTION_POLICY.items()}


def find_policy(name: str) -> Policy:
    """Return the policy called *name*.

    Raises:
        UnknownPolicyError: There is none; it is also a `KeyError`.
    """
    template = EVICTION_POLICY.get(name)
    if template is None:
        known = ", ".join(map(repr, sorted(EVICTION_POLICY)))
        raise UnknownPolicyError(f"unknown eviction policy {name!r}: choose one of {known}")
    if name in _RANKS and dict(template) == _BUILT_IN[name]:
        return Policy(name, _RANKS[name])
    return Policy(name, Rank.TEMPLATE, template)
