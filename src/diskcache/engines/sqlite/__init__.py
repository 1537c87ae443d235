"""The engine on SQLite: one database and value files in a directory of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diskcache.clock import Clock
from diskcache.files import ValueFiles

if TYPE_CHECKING:
    from diskcache.engines.sqlite.engine import SqliteEngine


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
) -> tuple[SqliteEngine, ValueFiles]:
    """Open the cache of a directory, making both if they do not exist.

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
    engine.open(create=True)
    return engine, files
