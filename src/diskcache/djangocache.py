"""The module of version 5 in which `DjangoCache` was found."""

from __future__ import annotations

from diskcache.integrations.django import DjangoCache

__all__ = ["DjangoCache"]
