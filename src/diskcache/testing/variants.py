"""What the contract suite is run for: a way to make a cache, and what such a cache can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

CAPABILITIES: Final = frozenset(
    {"culling", "database", "durable", "files", "ordered", "settings", "transactions"}
)
"""What a cache may be able to do.

* `culling`: it removes entries by itself to stay within a size limit;
* `database`: its directory holds a SQLite database, `cache.db`;
* `durable`: entries survive the end of every process;
* `files`: large values are files in its directory, and can be handed out open;
* `ordered`: entries are listed in insertion order and in key order;
* `settings`: settings are kept with the cache;
* `transactions`: reads and writes in the middle of a block that happens as a whole.
"""


@dataclass(frozen=True)
class Variant:
    """A way to make a cache, and what such a cache can do."""

    make: Callable[..., Any]
    """Called with the directory and keywords of `Cache`."""
    capabilities: frozenset[str]
    """Some of `CAPABILITIES`."""
