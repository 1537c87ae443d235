"""The engine on SQLite: one database and value files in a directory of this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from diskcache.clock import Clock
from diskcache.errors import (
    CacheCorruptError,
    CacheFormatError,
    LockedError,
    NewerFormatError,
    OlderFormatError,
)
from diskcache.files import ValueFiles

if TYPE_CHECKING:
    from diskcache.engines.sqlite.engine import SqliteEngine

TRIES: Final = 3
"""Attempts to open a directory that other processes may be upgrading."""


def make_directory(directory: str, mode: int, readonly: bool) -> int:
    """Make a directory for caches if it is missing; return the mode that those in it follow.

    Raises:
        DirectoryError: It cannot be made or used; `errno` says why.
    """
    from diskcache.engines.sqlite.opening import prepare_directory

    return prepare_directory(directory, mode, readonly)


def open_engine(
    directory: str,
    settings: Mapping[str, Any],
    clock: Clock,
    *,
    mode: int,
    readonly: bool,
    pragmas: Mapping[str, Any],
    upgrade: Callable[[], None],
) -> tuple[SqliteEngine, ValueFiles]:
    """Open the cache of a directory, making both if they do not exist.

    *upgrade* is called where the directory is one of version 5.

    Raises:
        MissingExtraError: apsw cannot be imported.
        DiskCacheError: The cache cannot be opened; the class and the message say why.
    """
    from diskcache.engines.sqlite.engine import SqliteEngine
    from diskcache.engines.sqlite.opening import prepare_directory

    mode = prepare_directory(directory, mode, readonly)
    files = ValueFiles(directory, mode)
    engine = SqliteEngine(
        directory, settings, files, clock, mode=mode, readonly=readonly, pragmas=pragmas
    )
    _open(engine, directory, upgrade)
    return engine, files


def _open(engine: SqliteEngine, directory: str, upgrade: Callable[[], None]) -> None:
    from diskcache.engines.sqlite.upgrade import alone

    for attempt in range(TRIES):
        try:
            engine.open(create=True)
        except OlderFormatError:
            if engine.is_readonly or attempt == TRIES - 1:
                raise
            upgrade()
        except (CacheFormatError, CacheCorruptError, LockedError) as exc:
            if isinstance(exc, NewerFormatError) or attempt == TRIES - 1:
                raise
            # So it looks while another process upgrades it; that one is waited for.
            with alone(directory):
                pass
        else:
            return
