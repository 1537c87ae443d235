"""Settings: names, defaults, types and ranges.

A setting that comes from a keyword is checked loudly; one that comes from a directory is checked
silently, since whoever can write to the directory must not be able to do more with it than choose
a value that a keyword could have chosen.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from diskcache.errors import SettingError

SettingValue = int | float | str | bool


class Spec(NamedTuple):
    """What is allowed for one setting."""

    types: tuple[type, ...]
    unit: str
    low: float = 0
    high: float = 2**63 - 1
    choices: tuple[str, ...] = ()
    believed: bool = True
    """Whether a value found in a directory is used."""


SPECS: Final[Mapping[str, Spec]] = {
    "statistics": Spec((bool, int), "0 or 1", high=1),
    "tag_index": Spec((bool, int), "0 or 1", high=1),
    "eviction_policy": Spec((str,), "the name of a policy"),
    "size_limit": Spec((int, float), "a number of bytes, or text such as '2 GB' or '64KiB'"),
    "count_limit": Spec((int,), "a number of entries"),
    "value_limit": Spec((int,), "a number of bytes, or text such as '2 GB' or '64KiB'"),
    "cull_limit": Spec((int,), "a number of entries"),
    "size_weight": Spec((int, float), "a number", high=1),
    "sqlite_auto_vacuum": Spec((int,), "0 (none), 1 (full) or 2 (incremental)", high=2),
    "sqlite_cache_size": Spec((int,), "pages, or kibibytes if negative", low=-(2**24), high=2**24),
    "sqlite_journal_mode": Spec(
        (str,), "a journal mode", choices=("wal", "delete", "truncate", "persist")
    ),
    "sqlite_mmap_size": Spec((int,), "a number of bytes", high=2**40, believed=False),
    "sqlite_synchronous": Spec((int,), "0 (off), 1 (normal), 2 (full) or 3 (extra)", high=3),
    "disk_min_file_size": Spec((int,), "a number of bytes", high=2**30),
    "disk_pickle_protocol": Spec((int,), "a pickle protocol", high=pickle.HIGHEST_PROTOCOL),
}
"""The settings that a directory remembers."""

DEFAULT_SETTINGS: dict[str, SettingValue] = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "least-recently-stored",
    "size_limit": 2**30,
    "count_limit": 0,
    "value_limit": 0,
    "cull_limit": 10,
    "size_weight": 0.5,
    "sqlite_auto_vacuum": 2,
    "sqlite_cache_size": 8192,
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 0,
    "sqlite_synchronous": 1,
    "disk_min_file_size": 2**15,
    "disk_pickle_protocol": pickle.HIGHEST_PROTOCOL,
}
"""Defaults of new caches; changing them changes later constructors."""

METADATA: Final = ("count", "size", "hits", "misses")
"""Names that look like settings but are measured; they can be read with `reset`, never set."""


SIZES: Final = frozenset({"size_limit", "value_limit"})
"""Settings that may be given as text with a unit."""

_PREFIXES: Final = {letter: power for power, letter in enumerate("kmgtp", 1)}
_SIZE: Final = re.compile(
    r"(\d{1,20}(?:\.\d{1,20})?)\s*(?:(?:([kmgtp])(i?))?b)?", re.ASCII | re.IGNORECASE
)


def bytes_of(text: str) -> int | None:
    """Return the number of bytes that a text such as `'2 GB'` or `'64KiB'` means.

    Units are B, kB, MB, GB, TB, PB (powers of 1000) and KiB, MiB, GiB, TiB, PiB (of 1024), in
    any case; without one it is bytes. Fractions of a byte are dropped.

    Returns:
        The number; None if the text means none.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    number, prefix, binary = found.groups()
    factor: int = (1024 if binary else 1000) ** _PREFIXES[prefix.lower()] if prefix else 1
    whole, _, fraction = number.partition(".")
    scale: int = 10 ** len(fraction)
    return int(whole) * factor + int(fraction or 0) * factor // scale


def problem(name: str, value: object) -> str | None:
    """Return what is wrong with *value* as the setting *name*; None if nothing is."""
    spec = SPECS[name]
    kind = type(value)
    if kind not in spec.types:
        return f"must be {spec.unit}"
    if isinstance(value, str):
        if spec.choices and value.lower() not in spec.choices:
            return "must be one of " + ", ".join(map(repr, spec.choices))
        return None
    if kind is float and value != value:  # noqa: PLR0124 - NaN
        return f"must be {spec.unit}"
    if isinstance(value, (int, float)) and not spec.low <= value <= spec.high:
        return f"must be {spec.unit}, from {spec.low} to {spec.high}"
    return None


def checked(name: str, value: Any) -> SettingValue:
    """Return *value* if it is allowed for the setting *name*.

    Raises:
        SettingError: It is not.
    """
    given = value
    if name in SIZES and isinstance(value, str):
        value = bytes_of(value)
    if type(value) is float and value.is_integer() and float not in SPECS[name].types:
        value = int(value)
    wrong = problem(name, value)
    if wrong is not None:
        raise SettingError(f"setting {name} {wrong}: got {given!r}")
    return value  # type: ignore[no-any-return]


def believed(stored: Mapping[str, Any]) -> tuple[dict[str, SettingValue], list[str]]:
    """Split what a directory holds into the settings to use and the names to ignore."""
    used: dict[str, SettingValue] = {}
    ignored: list[str] = []
    for name, value in stored.items():
        if name not in SPECS or problem(name, value) is not None:
            ignored.append(name)
        elif SPECS[name].believed:
            used[name] = value
    return used, ignored
