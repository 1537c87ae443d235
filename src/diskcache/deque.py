"""`Deque`: a `collections.deque` on disk, shared by threads and processes."""

from __future__ import annotations

import operator
import os
import warnings
from collections import deque as collections_deque
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence, Sized
from contextlib import AbstractContextManager
from itertools import islice, zip_longest
from typing import Any, Final, Self, overload

from diskcache.cache import Cache
from diskcache.cache.line import Line
from diskcache.cache.lossless import LosslessCopies
from diskcache.cache.strict import sibling
from diskcache.errors import StringIterableWarning
from diskcache.sentinels import ENOVAL

UNLIMITED: Final = float("inf")
"""What `maxlen` is for a deque without a limit."""

BATCH: Final = 1000
"""Items of a sized iterable that are stored in one transaction."""

_END: Final = object()


class Deque(LosslessCopies, MutableSequence[Any]):
    """A double-ended queue in a directory: `collections.deque` whose items stay.

    Items are plain data, or anything that can be pickled; what comes out is a copy. Nothing is
    ever evicted. Every method is one step that others see whole or not at all, but for `clear`
    and for extending by more than a thousand items or by an iterator. An item that may not be
    loaded, or is damaged, raises and stays: skipping it would lose it.

    Thread-safe and process-safe: of concurrent takers each gets another item. Fork-safe.
    Pickling, copying and `copy` give another object on the same directory.

    All entries of the cache count as items: keep nothing else in it. Close it by
    `deque.cache.close()`, or use the deque in a `with` block; it can still be used afterwards.

    Args:
        iterable: Items to append. A `pathlib.Path` is taken as the *directory*; a string is an
            iterable of characters.
        directory: Path; None makes a new temporary directory.
        maxlen: Most items that this object leaves in it; None for no limit. Items that are there
            already stay until something is appended.

    Raises:
        TypeError: *maxlen* is not an int.
        ValueError: *maxlen* is negative.

    Example:
        >>> from diskcache import Deque
        >>> deque = Deque('abcde', maxlen=3)
        >>> list(deque), deque.popleft(), deque.pop()
        (['c', 'd', 'e'], 'c', 'e')
    """

    __hash__ = None  # type: ignore[assignment]
    _is_queue = True

    def __init__(
        self,
        iterable: Iterable[Any] | os.PathLike[str] = (),
        directory: str | bytes | os.PathLike[str] | None = None,
        maxlen: float | None = None,
    ) -> None:
        limit = _checked(maxlen)
        if isinstance(iterable, os.PathLike):
            if directory is not None:
                raise TypeError(
                    f"Deque was given two directories, {iterable!r} and {directory!r}: give one,"
                    " and the items as iterable="
                )
            directory, iterable = iterable, ()
        elif directory is None and isinstance(iterable, str) and _looks_like_path(iterable):
            warnings.warn(
                f"Deque({iterable!r}) holds the characters of that string, in a new temporary"
                f" directory: to open a directory, write Deque(directory={iterable!r})",
                StringIterableWarning,
                stacklevel=2,
            )
        self._attach(Cache(directory, eviction_policy="none"), limit)
        self.extend(iterable)

    @classmethod
    def fromcache(
        cls, cache: Cache, iterable: Iterable[Any] = (), maxlen: float | None = None
    ) -> Self:
        """Return a deque in an open cache, which it uses as it is.

        Unless its eviction policy is `'none'`, items may be culled.

        Args:
            cache: The cache.
            iterable: Items to append.
            maxlen: Most items; None for no limit.

        Example:
            >>> from diskcache import Deque
            >>> deque = Deque.fromcache(cache, [1, 2])
            >>> deque.cache is cache
            True
        """
        deque = cls.__new__(cls)
        deque._attach(cache, _checked(maxlen))  # noqa: SLF001 - it is one of this class
        deque.extend(iterable)
        return deque

    def _attach(self, cache: Cache, maxlen: float) -> None:
        self._cache = cache
        self._line = Line(cache)
        self._maxlen = maxlen

    # -- What it is --

    @property
    def cache(self) -> Cache:
        """The cache that holds the items."""
        return self._cache

    @property
    def directory(self) -> str:
        """Path of the directory."""
        return self._cache.directory

    @property
    def maxlen(self) -> float:
        """Most items that this object leaves in the deque; `inf` without a limit.

        Setting it, also to None, removes items from the left at once.
        """
        return self._maxlen

    @maxlen.setter
    def maxlen(self, value: float | None) -> None:
        self._maxlen = _checked(value)
        if len(self) > self._maxlen:
            with self._step():
                self._trim("front")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(directory={self.directory!r})"

    def __len__(self) -> int:
        """Return the number of items.

        Cost: a look at memory shared by all processes.
        """
        return len(self._cache)

    # -- Ends --

    def append(self, value: Any) -> None:
        """Add an item at the right; over `maxlen`, remove one at the left in the same step.

        Cost: one write transaction.

        Raises:
            TooLargeError: It is larger than `value_limit` or `size_limit` of the cache.

        Example:
            >>> deque = Deque()
            >>> deque.append('a')
        """
        self._push(value, "back", "front")

    def appendleft(self, value: Any) -> None:
        """Add an item at the left; over `maxlen`, remove one at the right in the same step.

        Cost: one write transaction.
        """
        self._push(value, "front", "back")

    def _push(self, value: Any, side: str, other: str) -> None:
        if self._maxlen == UNLIMITED:
            self._line.push(value, side)
            return
        with self._step():
            self._line.push(value, side)
            if len(self) > self._maxlen:
                self._line.drop(other)

    def pop(self) -> Any:  # type: ignore[override]
        """Remove the last item and return it. Of concurrent takers each gets another.

        Cost: one write transaction.

        Raises:
            IndexError: There is none.
            UntrustedPickleError: It may not be loaded; it stays.
            CodecError: It is damaged; it stays.

        Example:
            >>> deque = Deque('ab')
            >>> deque.pop()
            'b'
        """
        return self._pull("back")

    def popleft(self) -> Any:
        """Remove the first item and return it; see `pop`.

        Example:
            >>> deque = Deque('ab')
            >>> deque.popleft()
            'a'
        """
        return self._pull("front")

    def _pull(self, side: str) -> Any:
        value = self._line.pull(side)
        if value is ENOVAL:
            raise IndexError("pop from an empty deque")
        return value

    def peek(self) -> Any:
        """Return the last item without removing it.

        Cost: one read; never a lock.

        Raises:
            IndexError: There is none.

        Example:
            >>> deque = Deque('ab')
            >>> deque.peek(), deque.peekleft()
            ('b', 'a')
        """
        return self._peek(-1)

    def peekleft(self) -> Any:
        """Return the first item without removing it; see `peek`."""
        return self._peek(0)

    def _peek(self, index: int) -> Any:
        value = self._line.value(index)
        if value is ENOVAL:
            raise IndexError("peek from an empty deque")
        return value

    # -- Many items --

    def extend(self, iterable: Iterable[Any]) -> None:
        """Add items at the right, in their order.

        Items of a sized iterable are stored a thousand in a transaction, those of an iterator one
        by one, as they come. The deque itself may be given.
        """
        self._extend(iterable, "back", "front", self.append)

    def extendleft(self, iterable: Iterable[Any]) -> None:
        """Add items at the left one after the other, which reverses their order; see `extend`.

        Example:
            >>> deque = Deque('c')
            >>> deque.extendleft('ba')
            >>> list(deque)
            ['a', 'b', 'c']
        """
        self._extend(iterable, "front", "back", self.appendleft)

    def _extend(
        self, values: Iterable[Any], side: str, other: str, add: Callable[[Any], None]
    ) -> None:
        if isinstance(values, Deque) and _is_same(values.directory, self.directory):
            values = list(values)
        if not isinstance(values, Sized):
            for value in values:
                add(value)
            return
        iterator = iter(values)
        while batch := list(islice(iterator, BATCH)):
            if self._maxlen == UNLIMITED:
                self._line.extend(batch, side)
                continue
            with self._step():
                # Of more items than may stay, the others need not be stored.
                self._line.extend(batch[max(len(batch) - int(self._maxlen), 0) :], side)
                self._trim(other)

    def _trim(self, side: str) -> None:
        excess = len(self) - self._maxlen
        if excess > 0:
            self._line.trim(int(excess), side)

    def __iadd__(self, values: Iterable[Any]) -> Self:  # type: ignore[misc]
        """Extend by *values*."""
        self.extend(values)
        return self

    def __add__(self, other: object) -> Deque:
        """Return a new deque in a temporary directory, with the items of both.

        The other is a `Deque` or a `collections.deque`.
        """
        if not isinstance(other, (Deque, collections_deque)):
            return NotImplemented
        return self._new([self, other])

    def __mul__(self, count: object) -> Deque:
        """Return a new deque in a temporary directory, with the items *count* times."""
        if not hasattr(count, "__index__"):
            return NotImplemented
        return self._new([self] * max(operator.index(count), 0))

    __rmul__ = __mul__

    def __imul__(self, count: int) -> Self:  # type: ignore[misc]
        """Repeat the items; once for each *count*."""
        times = operator.index(count)
        if times <= 0:
            self.clear()
            return self
        with self._step():
            values = list(self)
            for _ in range(times - 1):
                self.extend(values)
        return self

    def _new(self, parts: list[Iterable[Any]]) -> Deque:
        deque = type(self).fromcache(sibling(self._cache), maxlen=self._maxlen)
        for part in parts:
            deque.extend(part)
        return deque

    def copy(self) -> Self:
        """Return a second object on the same directory: the items are not copied.

        `Deque(deque)` copies them, into a new temporary directory.
        """
        return type(self).fromcache(self._cache, maxlen=self._maxlen)

    def clear(self) -> None:
        """Remove all items.

        Cost: one write transaction for every few hundred items; others write in between, unless
        it is inside `transact`.
        """
        self._cache.clear(retry=True)

    # -- Places --

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> MutableSequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Return the item at a place; negative places count from the right.

        Cost: one read, which passes over the keys from that end to the place.

        Raises:
            IndexError: There is no such place.
            TypeError: *index* is not an int; slices are not offered.
        """
        value = self._line.value(_place(index))
        if value is ENOVAL:
            raise IndexError("deque index out of range")
        return value

    @overload
    def __setitem__(self, index: int, value: Any) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[Any]) -> None: ...
    def __setitem__(self, index: int | slice, value: Any) -> None:
        """Replace the item at a place; see `__getitem__`.

        Cost: one write transaction.
        """
        if not self._line.replace(_place(index), value):
            raise IndexError("deque index out of range")

    def __delitem__(self, index: int | slice) -> None:
        """Remove the item at a place, without loading it; see `__getitem__`.

        Cost: one write transaction.
        """
        if not self._line.delete(_place(index)):
            raise IndexError("deque index out of range")

    def insert(self, index: int, value: Any) -> None:
        """Add an item before a place; the others move.

        Cost: one write transaction that stores every item on the shorter side again.

        Raises:
            IndexError: There are `maxlen` items.

        Example:
            >>> deque = Deque('ac')
            >>> deque.insert(1, 'b')
            >>> list(deque)
            ['a', 'b', 'c']
        """
        place = operator.index(index)
        with self._step():
            count = len(self)
            if count >= self._maxlen:
                raise IndexError("deque already at its maximum size")
            self._line.insert(max(place + count, 0) if place < 0 else place, value, count)

    def rotate(self, steps: int = 1) -> None:
        """Move items from the right end to the left; with negative *steps* the other way.

        Cost: one write transaction that stores every moved item again: *steps*, or what remains
        to a full turn if that is less.

        Example:
            >>> deque = Deque(range(5))
            >>> deque.rotate(2)
            >>> list(deque)
            [3, 4, 0, 1, 2]
        """
        turn = operator.index(steps)
        with self._step():
            count = len(self)
            if count > 1 and (turn := turn % count):
                self._line.rotate(turn if turn <= count // 2 else turn - count)

    def reverse(self) -> None:
        """Reverse the order of the items, in place.

        Cost: one write transaction that stores every item again.
        """
        self._line.reverse()

    # -- Searching --

    def __iter__(self) -> Iterator[Any]:
        """Iterate from left to right, without a lock.

        Items that are removed meanwhile are skipped, and those added at the end are seen.
        """
        return (value for _, value in self._line.values())

    def __reversed__(self) -> Iterator[Any]:
        """Iterate from right to left; see `__iter__`."""
        return (value for _, value in self._line.values(reverse=True))

    def __contains__(self, value: object) -> bool:
        """Tell whether an item equals *value*. Cost: a look at every item."""
        return any(value == found for found in self)

    def count(self, value: Any) -> int:
        """Return how many items equal *value*. Cost: a look at every item."""
        return sum(1 for found in self if value == found)

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Return the first place, from *start* up to *stop*, whose item equals *value*.

        Cost: a look at every item before it.

        Raises:
            ValueError: There is none.

        Example:
            >>> Deque('abca').index('a', 1)
            3
        """
        count = len(self)
        first = _clamped(start, count)
        last = None if stop is None else _clamped(stop, count)
        for place, found in islice(enumerate(self), first, last):
            if value == found:
                return place
        raise ValueError(f"{value!r} is not in deque")

    def remove(self, value: Any) -> None:
        """Remove the first item that equals *value*.

        Cost: a look at every item before it, and one write transaction.

        Raises:
            ValueError: There is none.
        """
        for listed, found in self._line.values():
            # Somebody else may have taken or replaced it since it was read.
            if value == found and self._line.delete_unchanged(listed):
                return
        raise ValueError("deque.remove(value): value not in deque")

    # -- Comparison --

    def __eq__(self, other: object) -> bool:
        """Tell whether *other* is a sequence of equal items."""
        if not isinstance(other, Sequence):
            return NotImplemented
        if len(self) != len(other):
            return False
        return all(mine == theirs for mine, theirs in zip_longest(self, other, fillvalue=_END))

    def __lt__(self, other: Sequence[Any]) -> Any:
        """Compare items in order, then lengths, with any sequence."""
        return self._compared(other, operator.lt)

    def __le__(self, other: Sequence[Any]) -> Any:
        return self._compared(other, operator.le)

    def __gt__(self, other: Sequence[Any]) -> Any:
        return self._compared(other, operator.gt)

    def __ge__(self, other: Sequence[Any]) -> Any:
        return self._compared(other, operator.ge)

    def _compared(self, other: object, compare: Callable[[Any, Any], Any]) -> Any:
        if not isinstance(other, Sequence):
            return NotImplemented
        for mine, theirs in zip_longest(self, other, fillvalue=_END):
            if mine is _END or theirs is _END:
                return compare(mine is not _END, theirs is not _END)
            if not mine == theirs:  # noqa: SIM201 - as `index` and `count` compare
                return compare(mine, theirs)
        return compare(0, 0)

    # -- Transactions and life --

    def transact(self) -> AbstractContextManager[None]:
        """Return a context in which operations of this thread happen together or not at all.

        Waits for the write lock without limit; see `Cache.transact`.

        Example:
            >>> deque = Deque('ab')
            >>> with deque.transact():
            ...     deque.append(deque.popleft())
            >>> list(deque)
            ['b', 'a']
        """
        return self._cache.transact(retry=True)

    def _step(self) -> AbstractContextManager[None]:
        """Return a context in which several operations are one step, wherever the items are."""
        return self._line.step()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._cache.close()

    def __reduce__(self) -> tuple[Any, ...]:
        kind = type(self)
        if kind.__getstate__ is Deque.__getstate__ and kind.__setstate__ is Deque.__setstate__:
            return _rebuilt, (kind, self._cache, self._maxlen)
        # A subclass that has a state of its own, as it had in version 5, is made from it.
        return object.__new__, (kind,), self.__getstate__()

    def __getstate__(self) -> tuple[str, float]:
        return self.directory, self._maxlen

    def __setstate__(self, state: tuple[str, float]) -> None:
        directory, maxlen = state
        self._attach(Cache(directory, eviction_policy="none"), _checked(maxlen))


def _rebuilt(kind: type[Deque], cache: Cache, maxlen: float) -> Deque:
    """Return another object on the directory of a pickled one."""
    return kind.fromcache(cache, maxlen=maxlen)


def _checked(maxlen: float | None) -> float:
    """Return a limit of the length, `inf` for none.

    Raises:
        TypeError: It is not an int.
        ValueError: It is negative.
    """
    if maxlen is None or maxlen == UNLIMITED:
        return UNLIMITED
    if not hasattr(maxlen, "__index__"):
        raise TypeError(f"maxlen must be an int or None: got {maxlen!r}")
    limit = operator.index(maxlen)
    if limit < 0:
        raise ValueError(f"maxlen must be non-negative: got {limit}")
    return limit


def _place(index: object) -> int:
    if not hasattr(index, "__index__"):
        raise TypeError(f"deque indices must be integers, not {type(index).__name__}")
    return operator.index(index)


def _clamped(bound: int, count: int) -> int:
    place = operator.index(bound)
    return max(place + count, 0) if place < 0 else place


def _looks_like_path(text: str) -> bool:
    return "/" in text or os.sep in text


def _is_same(directory: str, other: str) -> bool:
    return os.path.realpath(directory) == os.path.realpath(other)
