"""What all wrappers of one memoized function share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from diskcache.computing.steps import Computer, Tally
from diskcache.computing.terms import Terms
from diskcache.computing.ways import Store
from diskcache.memotypes import CallInfo
from diskcache.sentinels import ENOVAL

Key: TypeAlias = tuple[Any, ...]
MakeKey: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Key]
Load: TypeAlias = Callable[[Key], Any]


class Calls:
    """A memoized function: where its results are, under which keys, and on which terms."""

    def __init__(
        self,
        store: Store,
        terms: Terms,
        load: Load,
        recall: Load | None,
        make_key: MakeKey,
        name: str,
    ) -> None:
        self.store = store
        self.terms = terms
        self.load = load
        self.recall = recall
        self.make_key = make_key
        self.name = name
        self.tally = Tally()
        self.computer = Computer(store, terms, name=name, tally=self.tally)

    def cache_key(self, /, *args: Any, **kwargs: Any) -> Key:
        """Return the key of a call."""
        return self.make_key(args, kwargs)

    def save(self, key: Key, result: Any) -> None:
        """Keep a result on plain terms; `ENOVAL` says that there is nothing to keep."""
        self.tally.misses += 1
        if result is ENOVAL:
            return
        expire = self.terms.lifetime(result)
        if expire is None or expire > 0:
            self.store.save(key, result, expire, self.terms.tag, 0)

    def info(self) -> CallInfo:
        """Return what became of the calls."""
        tally = self.tally
        return CallInfo(tally.hits, tally.misses, tally.stale, tally.refreshed, tally.failed)


def attach(wrapper: Any, calls: Calls, *controls: Callable[..., Any]) -> None:
    """Give a wrapper the functions that control it."""
    wrapper.__cache_key__ = calls.cache_key
    wrapper.cache_info = calls.info
    for control in controls:
        setattr(wrapper, control.__name__, control)
