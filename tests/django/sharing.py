"""What the processes of these tests do; importable, so that a spawned one finds it."""

from __future__ import annotations

from diskcache import DjangoCache


class Thing:
    """Something that is no plain data."""

    def __init__(self, number: int) -> None:
        self.number = number


def use_given(backend: DjangoCache, name: int) -> int:
    """Use a backend that was pickled, or inherited; return what is in the parent's thing."""
    for _ in range(20):
        backend.incr("total", default=0)
    backend.set(name, Thing(name))
    number: int = backend.get("thing").number
    backend.close()
    return number
