"""The module of version 5 in which `Deque` and `Index` were found."""

from __future__ import annotations

from diskcache.deque import Deque
from diskcache.index import Index

__all__ = ["Deque", "Index"]
