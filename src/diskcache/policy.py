"""Eviction policies as data: what a read leaves behind, and which entry goes first.

A policy of this library orders entries by one number, their *rank*: the victim is the entry with
the smallest, the one stored first among equals. What the rank is follows from `Policy.rank`. Only
`s3-fifo` has more than one queue; see engines/sqlite/s3fifo.py.

A policy of a program's own is a function that ranks entries, added by `register_policy`; or SQL
templates in the form of version 5, added by name to `EVICTION_POLICY`:
`init` (a statement run when the cache is opened: CREATE INDEX IF NOT EXISTS, or an UPDATE; or
None), `get` (an assignment list for the row that was read, with the placeholder `{now}`, or None)
and `cull` (a SELECT with `{fields}` and optionally `{now}`, and one parameter, the number of rows;
or None).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypedDict

from diskcache.entry import DbValue, Tag
from diskcache.errors import SettingError, UnknownPolicyError


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
    """How often it was read since it was stored, plus the rank of the last victim before that."""
    QUEUES = "queues"
    """Its place in one of the two queues of s3-fifo."""
    OWN = "own"
    """What the policy's own function returns."""
    TEMPLATE = "template"
    """Decided by the policy's own SQL."""


class Standing(NamedTuple):
    """What a policy of your own is told of an entry."""

    key: DbValue
    """The key as it is stored: text, bytes, a number, or the encoded bytes of any other key."""
    size: int
    """Bytes of key and value, and 64 for the row."""
    store_time: float
    """When it was last stored, in seconds since the epoch."""
    access_time: float
    """When it was last stored or read, as far as the policy records reads."""
    reads: int
    """How often it was read since it was stored, as far as the policy records reads."""
    expire_time: float | None
    """When it expires; None is never."""
    tag: Tag


Ranker: TypeAlias = Callable[[Standing, float], float]
"""Returns the rank of an entry, given the rank of the last victim (0 before the first)."""


class Policy(NamedTuple):
    """One eviction policy."""

    name: str
    rank: Rank
    template: Template | None = None
    ranker: Ranker | None = None
    has_reads: bool = False
    """Whether a read changes the rank that the policy's own function gives."""

    @property
    def records_reads(self) -> bool:
        """Whether a read changes the order."""
        return self.has_reads or self.rank in (Rank.USED, Rank.COUNT, Rank.QUEUES)

    def ranked(self, entry: Standing, floor: float) -> float:
        """Return the rank that the policy's own function gives an entry.

        Raises:
            SettingError: It is not a finite number, or the function raised something.
        """
        try:
            found: Any = None if self.ranker is None else self.ranker(entry, floor)
        except BaseException as exc:
            if not isinstance(exc, Exception):
                raise  # An interrupt is none of the function's doing.
            raise SettingError(
                f"eviction policy {self.name!r} must rank every entry by a finite number: its"
                f" function raised {exc!r}"
            ) from exc
        try:
            if type(found) in (int, float, bool) and math.isfinite(found):
                return float(found)
            got = repr(found)
        except OverflowError:
            got = "an int that is too large"
        raise SettingError(
            f"eviction policy {self.name!r} must rank every entry by a finite number: got {got}"
        )


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
    "s3-fifo": {
        "init": None,
        "get": "access_count = min(access_count + 1, 3)",
        "cull": _ORDER + "rank LIMIT ?",
    },
}
"""Policies by name; add one to define it.

The templates of these five say what the policies of version 5 did, or are to be read as. This
library recognizes them and does not run them.
"""

_RANKS: Final = {
    "none": Rank.NONE,
    "least-recently-stored": Rank.STORED,
    "least-recently-used": Rank.USED,
    "least-frequently-used": Rank.COUNT,
    "s3-fifo": Rank.QUEUES,
}
_BUILT_IN: Final = {name: dict(template) for name, template in EVICTION_POLICY.items()}


_PLACES: Final[dict[str, dict[str, str]]] = {
    "init": {},
    "get": {"now": "0"},
    "cull": {"now": "0", "fields": "0"},
}
"""Parts of a template, each with what is filled in."""

_own: dict[str, Policy] = {}
"""Policies that were registered, by name."""


def register_policy(name: str, rank: Ranker, *, reads: bool = False) -> None:
    """Define an eviction policy by a function that ranks entries; the smallest rank goes first.

    The function is called inside the write transaction when an entry is stored, when reads of it
    are written down (if *reads*), and for each entry when an existing directory is switched to
    the policy. It must be quick, and must not use the cache. A rank is kept until the next call,
    so it cannot depend on the present; the rank of the last victim, which is passed, serves as a
    clock: what is added to it ages. Every process that writes to the directory must register the
    same function; in one that does not, *least-recently-stored* stands in.

    Where it raises, or returns anything but a finite number, storing that entry is a
    `SettingError`; entries that are there already keep their rank, and go first if they have none.

    Cost: one call per entry that is stored, or whose reads are written down.

    Args:
        name: What `eviction_policy` is to be; registering it again replaces it for caches that
            are opened later.
        rank: Called with a `Standing` and the rank of the last victim; returns a finite number.
        reads: Whether reads change the rank, so that they have to be recorded.

    Raises:
        SettingError: The name is that of a policy that is not registered, or *rank* cannot be
            called.

    Example:
        >>> register_policy('largest-first', lambda entry, floor: -entry.size)
        >>> register_policy('gdsf', lambda entry, floor: floor + (1 + entry.reads) / entry.size,
        ...                 reads=True)
        >>> unregister_policy('largest-first'), unregister_policy('gdsf')
        (None, None)
    """
    if type(name) is not str or not name or name in EVICTION_POLICY:
        raise SettingError(
            f"name of a policy must be a text that is not in EVICTION_POLICY: got {name!r}"
        )
    if not callable(rank):
        raise SettingError(f"rank of policy {name!r} must be a function: got {rank!r}")
    _own[name] = Policy(name, Rank.OWN, ranker=rank, has_reads=bool(reads))


def unregister_policy(name: str) -> None:
    """Forget a policy that `register_policy` defined; caches that are open keep it.

    Raises:
        UnknownPolicyError: There is none of that name; it is also a `KeyError`.
    """
    if _own.pop(name, None) is None:
        raise UnknownPolicyError(f"no eviction policy {name!r} was registered")


def is_policy(name: object) -> bool:
    """Tell whether there is a policy called *name*."""
    return isinstance(name, str) and (name in _own or name in EVICTION_POLICY)


def find_policy(name: str) -> Policy:
    """Return the policy called *name*.

    Raises:
        UnknownPolicyError: There is none; it is also a `KeyError`.
        SettingError: It is an entry of `EVICTION_POLICY` that has not the form of one.
    """
    template = EVICTION_POLICY.get(name)
    if template is None:
        if name in _own:
            return _own[name]
        known = ", ".join(map(repr, sorted({*EVICTION_POLICY, *_own})))
        raise UnknownPolicyError(f"unknown eviction policy {name!r}: choose one of {known}")
    if name in _RANKS and template == _BUILT_IN[name]:
        return Policy(name, _RANKS[name])
    _check_template(name, template)
    return Policy(name, Rank.TEMPLATE, template)


def _check_template(name: str, template: object) -> None:
    """Refuse a template that lacks a part, or asks for what is not filled in."""
    if not isinstance(template, Mapping) or not _PLACES.keys() <= template.keys():
        raise SettingError(
            f"EVICTION_POLICY[{name!r}] must be a dict with the keys 'init', 'get' and 'cull', each"
            f" an SQL text or None: got {template!r}"
        )
    for part, places in _PLACES.items():
        text = template[part]
        if text is None:
            continue
        try:
            if part != "init":
                text.format(**places)
            is_right = part != "cull" or "{fields}" in text
        except (AttributeError, LookupError, ValueError):
            is_right = False
        if not isinstance(text, str) or not is_right:
            allowed = " and ".join(f"{{{place}}}" for place in places) or "nothing"
            raise SettingError(
                f"{part!r} of EVICTION_POLICY[{name!r}] must be None or an SQL text in which"
                f" {allowed} is filled in{', {fields} always' if part == 'cull' else ''}: got"
                f" {text!r}"
            )
