"""Private names of version 5 that programs use all the same, as far as they can be honest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from diskcache.cache.foundation import Foundation
from diskcache.errors import PrivateNameError

Values: TypeAlias = Sequence[Any] | Mapping[str, Any]

GONE: Final = {
    "_cull": "cull(), or the setting cull_limit",
    "_iter": "iter(cache) and reversed(cache)",
    "_local": "close(), which closes the connection of this thread",
    "_page_size": "volume()",
    "_row_insert": "set() and add()",
    "_row_update": "set()",
    "_select_delete": "evict(), expire(), cull() and clear()",
    "_sql_retry": "the methods that write, with retry=True",
    "_transact": "transact()",
    "_txn_id": "transact(), which nests",
}
"""Private names that are not there, and what there is instead."""

_CONNECTION_GONE: Final = {
    "close": "cache.close()",
    "commit": "cache.transact()",
    "executemany": "cache.set_many() and cache.delete_many()",
    "executescript": "the methods of the cache",
    "rollback": "an exception that leaves cache.transact()",
    "total_changes": "what the methods of the cache return",
}


@runtime_checkable
class _Selecting(Protocol):
    """An engine that keeps entries in tables that can be read with SQL."""

    def select(self, statement: str, values: Values) -> tuple[tuple[str, ...], list[Any]]:
        """Return the names of the columns, and the rows."""
        ...


class Rows:
    """The rows of a statement, with what programs ask of a cursor of `sqlite3`."""

    arraysize = 1
    rowcount = -1
    lastrowid = None

    def __init__(self, columns: tuple[str, ...], rows: list[Any]) -> None:
        self.description = tuple((name, *[None] * 6) for name in columns) or None
        self._left = iter(rows)

    def __iter__(self) -> Iterator[Any]:
        return self._left

    def __next__(self) -> Any:
        return next(self._left)

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return next(self._left, None)

    def fetchmany(self, size: int = arraysize) -> list[Any]:
        """Return the next rows, *size* at most."""
        return list(islice(self._left, size))

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return list(self._left)

    def close(self) -> None:
        """Forget the rows that are left."""
        self._left = iter(())


class Reading:
    """What is left of version 5's connection: statements that only read."""

    def __init__(self, cache: Foundation) -> None:
        self._cache = cache

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is inside `transact`."""
        return self._cache._engine.in_transaction()  # noqa: SLF001 - a part of that class

    def execute(self, statement: str, values: Values = ()) -> Rows:
        """Run a statement that only reads; see `PrivateNames`."""
        engine = self._cache._engine  # noqa: SLF001 - a part of that class
        if not isinstance(engine, _Selecting):
            raise PrivateNameError(f"{self._cache!r} keeps no tables that SQL could read")
        return Rows(*engine.select(statement, values))

    def cursor(self) -> Reading:
        """Return what statements are run on."""
        return self

    def __getattr__(self, name: str) -> Any:
        raise missing("Cache._con", name, _CONNECTION_GONE)


class PrivateNames(Foundation):
    """Reading with SQL, and errors that say what to use instead of a private name.

    A statement runs on the connection of this thread, takes no lock, and sees what this thread has
    written inside `transact`. All of its rows are fetched at once. Columns hold what the format
    says: values that are not int, float, str or bytes are encoded.
    """

    @property
    def _con(self) -> Reading:
        return Reading(self)

    @property
    def _sql(self) -> Any:
        return self._con.execute

    def __getattr__(self, name: str) -> Any:
        raise missing(type(self).__name__, name, GONE)


def missing(owner: str, name: str, instead: Mapping[str, str]) -> AttributeError:
    """Return the error of an attribute that is not there."""
    if name not in instead:
        return AttributeError(f"{owner!r} object has no attribute {name!r}")
    return PrivateNameError(
        f"{owner}.{name} is a private name of version 5 that is not there any more: use"
        f" {instead[name]}; see docs/migration-from-5.md"
    )
