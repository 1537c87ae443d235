"""What the contract suite is run for: a way to make a cache, and what such a cache can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Variant:
    """A way to make a cache, and what such a cache can do."""

    make: Callable[..., Any]
    """Called with the directory and keywords of `Cache`."""
    capabilities: frozenset[str]
    """Some of: culling, durable, files, ordered, settings, transactions."""
