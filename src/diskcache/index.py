"""`Index`: an ordered dict on disk, shared by threads and processes."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import (
    Callable,
    Collection,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from contextlib import AbstractContextManager
from itertools import chain, zip_longest
from typing import Any, Final, Self

from diskcache.cache import Cache
from diskcache.cache.computed import CacheStore
from diskcache.cache.lossless import LosslessCopies
from diskcache.cache.queues import check_queue
from diskcache.cache.strict import StrictAccess, sibling
from diskcache.computing.terms import Terms
from diskcache.entry import EncodedKey, Listed, Order, Row
from diskcache.memoizing import Memoizer, check_name, memoizer
from diskcache.memory.tier import DIRECT
from diskcache.sentinels import ENOVAL, UNKNOWN

_END: Final = object()


class Index(LosslessCopies, MutableMapping[Any, Any]):
    """A mapping in a directory: a dict whose entries stay, in the order in which they were added.

    Keys and values are plain data, or anything that can be pickled; what comes out is a copy, so
    store a value again after changing it. Nothing is ever evicted. Every method is one step that
    others see whole or not at all, but for `clear`. An entry that may not be loaded, or is
    damaged, raises and stays: treating it as missing would lose it.

    Thread-safe, process-safe and fork-safe. Pickling and copying give another object on the same
    directory.

    Close it by `index.cache.close()`, or use it in a `with` block; it can still be used
    afterwards.

    Args:
        *args: The directory (a path, or None for a new temporary one) if the first is a str,
            bytes or `pathlib.Path` or None; then a mapping, or pairs of key and value.
        **kwargs: More entries.

    Raises:
        TypeError: There are more positional arguments than a directory and a mapping.

    Example:
        >>> from diskcache import Index
        >>> index = Index({'a': 1}, b=2)
        >>> index['c'] = 3
        >>> list(index.items())
        [('a', 1), ('b', 2), ('c', 3)]
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        directory = None
        if args and (args[0] is None or isinstance(args[0], (str, bytes, os.PathLike))):
            directory, *args = args  # type: ignore[assignment]
        if len(args) > 1:
            raise TypeError(
                f"Index takes a directory and one mapping: got {len(args)} arguments after the"
                " directory"
            )
        self._attach(Cache(directory, eviction_policy="none"))
        self.update(*args, **kwargs)

    @classmethod
    def fromcache(cls, cache: Cache, *args: Any, **kwargs: Any) -> Self:
        """Return an index in an open cache, which it uses as it is.

        Unless its eviction policy is `'none'`, entries may be culled.

        Args:
            cache: The cache.
            *args: A mapping, or pairs of key and value.
            **kwargs: More entries.

        Example:
            >>> from diskcache import Index
            >>> index = Index.fromcache(cache, {'a': 1})
            >>> index.cache is cache
            True
        """
        if len(args) > 1:
            raise TypeError(f"fromcache takes one mapping after the cache: got {len(args)}")
        index = cls.__new__(cls)
        index._attach(cache)  # noqa: SLF001 - it is one of this class
        index.update(*args, **kwargs)
        return index

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None, /) -> Self:
        """Return a new index in a temporary directory, with *value* for each of *keys*.

        Example:
            >>> list(Index.fromkeys('ab', 0).items())
            [('a', 0), ('b', 0)]
        """
        index = cls()
        for key in keys:
            index[key] = value
        return index

    def _attach(self, cache: Cache) -> None:
        self._cache = cache
        self._access = StrictAccess(cache)
        self._engine = self._access.engine
        self._hit = self._access.hit

    # -- What it is --

    @property
    def cache(self) -> Cache:
        """The cache that holds the entries."""
        return self._cache

    @property
    def directory(self) -> str:
        """Path of the directory."""
        return self._cache.directory

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.directory!r})"

    def __len__(self) -> int:
        """Return the number of entries.

        Cost: a look at memory shared by all processes.
        """
        return len(self._cache)

    # -- One entry --

    def __getitem__(self, key: Any) -> Any:
        """Return the value of *key*.

        Cost: one point read; never a lock.

        Raises:
            KeyError: There is no such entry.
            UntrustedPickleError: It may not be loaded; it stays.
            CodecError: It is damaged; it stays.
        """
        value = self._hit(key) if type(key) in DIRECT else UNKNOWN
        if value is UNKNOWN:
            value = self._access.get(key)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*, or *default* if there is no such entry; see `[]`.

        Example:
            >>> Index(a=1).get('b', 0)
            0
        """
        value = self._access.get(key)
        return default if value is ENOVAL else value

    def __contains__(self, key: object) -> bool:
        """Tell whether there is an entry, without loading it.

        Cost: one point read; never a lock.
        """
        return key in self._cache

    def __setitem__(self, key: Any, value: Any) -> None:
        """Store *value* under *key*; a key that is there keeps its place.

        Cost: one write transaction.
        """
        self._cache[key] = value

    def __delitem__(self, key: Any) -> None:
        """Remove the entry of *key*, without loading it.

        Cost: one write transaction.

        Raises:
            KeyError: There is no such entry.
        """
        del self._cache[key]

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*, after storing *default* if there was none, as one step.

        Cost: one point read; if it stores, one write transaction.

        Example:
            >>> index = Index(a=1)
            >>> index.setdefault('a', 5), index.setdefault('b', 5)
            (1, 5)
        """
        value = self._access.get(key)
        if value is not ENOVAL:
            return value
        with self._engine.transaction(None):
            value = self._access.get(key)
            if value is ENOVAL:
                self[key] = value = default
        return value

    def pop(self, key: Any, default: Any = ENOVAL) -> Any:
        """Remove the entry of *key* and return its value, as one step.

        Cost: one write transaction.

        Args:
            key: The key.
            default: What to return if there is no such entry.

        Raises:
            KeyError: There is none, and no *default*.

        Example:
            >>> index = Index(a=1)
            >>> index.pop('a'), index.pop('a', 0)
            (1, 0)
        """
        value = self._access.pop(key)
        if value is not ENOVAL:
            return value
        if default is ENOVAL:
            raise KeyError(key)
        return default

    # -- Ends --

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        """Remove the last or the first entry and return its key and value, as one step.

        Of concurrent callers each gets another.

        Cost: one write transaction.

        Raises:
            KeyError: There is no entry.

        Example:
            >>> index = Index(a=1, b=2)
            >>> index.popitem(), index.popitem(last=False)
            (('b', 2), ('a', 1))
        """
        return self._edge(last, remove=True)

    def peekitem(self, last: bool = True) -> tuple[Any, Any]:
        """Return key and value of the last or the first entry.

        Cost: one read; never a lock.

        Raises:
            KeyError: There is no entry.

        Example:
            >>> index = Index(a=1, b=2)
            >>> index.peekitem(), index.peekitem(last=False)
            (('b', 2), ('a', 1))
        """
        return self._edge(last, remove=False)

    def _edge(self, last: bool, *, remove: bool) -> tuple[Any, Any]:
        access = self._access

        def load(key: EncodedKey, row: Row) -> tuple[Any, Any]:
            return access.decode_key(key), access.load_queued(key, row)

        found = self._engine.edge(last, access.now(), None, load, remove=remove)
        if found is None:
            raise KeyError("dictionary is empty")
        return found[1]

    def push(self, value: Any, prefix: str | None = None, side: str = "back") -> int | str:
        """Store *value* at an end of a queue, under a key that is made for it; return the key.

        Cost: one write transaction; see `Cache.push`.

        Args:
            value: The value.
            prefix: Name of the queue; None for the one with integer keys.
            side: `'back'` or `'front'`.

        Example:
            >>> index = Index()
            >>> index.push('first'), index.push('job', prefix='jobs')
            (500000000000000, 'jobs-500000000000000')
        """
        return self._cache.push(value, prefix, side, retry=True)

    def pull(
        self, prefix: str | None = None, default: Any = (None, None), side: str = "front"
    ) -> Any:
        """Remove the entry at an end of a queue and return its key and value, as one step.

        Cost: one write transaction; see `Cache.pull`.

        Args:
            prefix: Name of the queue; None for the one with integer keys.
            default: What to return if the queue is empty.
            side: `'front'` or `'back'`.

        Example:
            >>> index = Index()
            >>> key = index.push('first')
            >>> index.pull() == (key, 'first'), index.pull()
            (True, (None, None))
        """
        check_queue(prefix, side)
        access = self._access
        found = self._engine.pull(prefix, side, access.now(), None, access.load_queued, remove=True)
        return default if found is None else (found[0][0], found[1])

    # -- Many entries --

    def update(self, other: Any = (), /, **kwargs: Any) -> None:
        """Store the entries of a mapping, or pairs of key and value, all of them or none.

        Cost: one write transaction.

        Args:
            other: The mapping or the pairs.
            **kwargs: More entries.

        Example:
            >>> index = Index(a=1)
            >>> index.update({'b': 2}, c=3)
            >>> list(index)
            ['a', 'b', 'c']
        """
        # All of it is read before anything is locked: it may be slow, or this index.
        pairs = list(chain(_pairs(other), kwargs.items()))
        if pairs:
            self._access.put_pairs(pairs)

    def clear(self) -> None:
        """Remove all entries.

        Cost: one write transaction for every few hundred entries; others write in between, unless
        it is inside `transact`.
        """
        self._cache.clear(retry=True)

    def __or__(self, other: object) -> Index:
        """Return a new index in a temporary directory, with the entries of both."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return self._new(self, other)

    def __ror__(self, other: object) -> Index:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self._new(other, self)

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        """Update by a mapping or pairs."""
        self.update(other)
        return self

    def _new(self, *mappings: Mapping[Any, Any]) -> Index:
        index = type(self).fromcache(sibling(self._cache))
        for mapping in mappings:
            index.update(mapping)
        return index

    # -- Iteration --

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the keys in the order in which they were added, without a lock.

        Keys that are added after this call are not seen; removed ones disappear.
        """
        last = self._engine.last_cursor()
        return iter(()) if last is None else self._keys(until=last)

    def __reversed__(self) -> Iterator[Any]:
        """Iterate over the keys from the last to the first."""
        return self._keys(reverse=True)

    def _keys(self, *, reverse: bool = False, until: object | None = None) -> Iterator[Any]:
        for listed in self._access.listed(Order.INSERTION, reverse=reverse, until=until):
            yield self._access.decode_key(listed.key)

    def _entries(self, *, reverse: bool = False) -> Iterator[tuple[Any, Any]]:
        """Iterate over keys and values; entries that are removed meanwhile are left out."""
        access = self._access
        last = self._engine.last_cursor()
        if last is None:
            return
        until = None if reverse else last
        for listed in access.listed(Order.INSERTION, reverse=reverse, until=until):
            key, value = access.decode_key(listed.key), self._value(listed)
            if value is not ENOVAL:
                yield key, value

    def _value(self, listed: Listed) -> Any:
        row = self._engine.get(listed.key, self._access.now())
        return ENOVAL if row is None else self._access.load(listed.key, row)

    def keys(self) -> KeysView[Any]:
        """Return a live, set-like view of the keys.

        Example:
            >>> Index(a=1, b=2).keys() & {'b', 'c'}
            {'b'}
        """
        return IndexKeys(self)

    def values(self) -> ValuesView[Any]:
        """Return a live view of the values."""
        return IndexValues(self)

    def items(self) -> ItemsView[Any, Any]:
        """Return a live, set-like view of pairs of key and value."""
        return IndexItems(self)

    # -- Comparison --

    def __eq__(self, other: object) -> bool:
        """Tell whether *other* is a mapping of equal entries.

        The order matters if it is an `Index` or an `OrderedDict`.
        """
        if not isinstance(other, Mapping):
            return NotImplemented
        if len(self) != len(other):
            return False
        if isinstance(other, (Index, OrderedDict)):
            pairs = zip_longest(self.items(), other.items(), fillvalue=_END)
            return all(mine == theirs for mine, theirs in pairs)
        for key, theirs in other.items():
            mine = self.get(key, _END)
            if mine is _END or not mine == theirs:
                return False
        return True

    # -- Memoizing, transactions and life --

    def memoize(
        self,
        name: str | None = None,
        typed: bool = False,
        ignore: Collection[int | str] = (),
        *,
        lock: bool = False,
        lock_timeout: float | None = None,
        key: Callable[..., Any] | str | None = None,
        version: object = None,
    ) -> Memoizer:
        """Return a decorator that keeps the results of a function; see `Cache.memoize`.

        Args:
            name: Starts the keys; None for the full name of the function.
            typed: Keep arguments of different types apart.
            ignore: Positions and names of arguments that do not matter.
            lock: As for `Cache.memoize`; so are the following.
            lock_timeout: As there.
            key: As there.
            version: As there.

        Example:
            >>> index = Index()
            >>> @index.memoize()
            ... def square(number):
            ...     return number * number
            >>> square(4), square.__cache_key__(4) in index
            (16, True)
        """
        check_name(name)
        return memoizer(
            CacheStore(self._cache, lambda _: self._cache, find=self._access.get),
            Terms(lock=lock, lock_timeout=lock_timeout),
            load=self._access.get,
            name=name,
            typed=typed,
            ignore=ignore,
            key=key,
            version=version,
        )

    def transact(self) -> AbstractContextManager[None]:
        """Return a context in which operations of this thread happen together or not at all.

        Waits for the write lock without limit; see `Cache.transact`.

        Example:
            >>> index = Index(a=1)
            >>> with index.transact():
            ...     index['b'] = index.pop('a')
            >>> list(index.items())
            [('b', 1)]
        """
        return self._cache.transact(retry=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._cache.close()

    def __reduce__(self) -> tuple[Any, ...]:
        kind = type(self)
        if kind.__getstate__ is Index.__getstate__ and kind.__setstate__ is Index.__setstate__:
            return _rebuilt, (kind, self._cache)
        # A subclass that has a state of its own, as it had in version 5, is made from it.
        return object.__new__, (kind,), self.__getstate__()

    def __getstate__(self) -> str:
        return self.directory

    def __setstate__(self, state: str) -> None:
        self._attach(Cache(state, eviction_policy="none"))


class IndexKeys(KeysView[Any]):
    """The keys of an index, as they are when they are looked at."""

    _mapping: Index

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._mapping)


class IndexValues(ValuesView[Any]):
    """The values of an index, as they are when they are looked at."""

    _mapping: Index

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._entries())  # noqa: SLF001 - its view

    def __reversed__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._entries(reverse=True))  # noqa: SLF001 - its view

    def __contains__(self, value: object) -> bool:
        return any(found == value for found in self)


class IndexItems(ItemsView[Any, Any]):
    """Keys and values of an index, as they are when they are looked at."""

    _mapping: Index

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._entries()  # noqa: SLF001 - its view

    def __reversed__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._entries(reverse=True)  # noqa: SLF001 - its view

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        found = self._mapping.get(item[0], _END)
        return found is not _END and bool(found == item[1])


def _rebuilt(kind: type[Index], cache: Cache) -> Index:
    """Return another object on the directory of a pickled one."""
    return kind.fromcache(cache)


def _pairs(other: Any) -> Iterable[tuple[Any, Any]]:
    """Return the entries of a mapping, of what has `keys` like one, or of pairs."""
    if isinstance(other, Mapping):
        return other.items()
    if hasattr(other, "keys"):
        return [(key, other[key]) for key in other.keys()]  # noqa: SIM118 - all it need have
    return (_pair(item) for item in other)


def _pair(item: Any) -> tuple[Any, Any]:
    key, value = item
    return key, value
