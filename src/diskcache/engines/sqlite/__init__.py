"""The engine on SQLite: one database and value files in a directory of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from diskcache.clock import SYSTEM_CLOCK, Clock
from diskcache.engines.base import Copied
from diskcache.errors import (
    CacheCorruptError,
    CacheFormatError,
    LockedError,
    NewerFormatError,
    OlderFormatError,
)
from diskcache.files import ValueFiles

if TYPE_CHECKING:
    from diskcache.engines.sqlite.copying import DirectoryCopy, Progress
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
    strict: bool = False,
) -> tuple[SqliteEngine, ValueFiles]:
    """Open the cache of a directory, making both if they do not exist.

    *upgrade* is called where the directory is one of version 5. A damaged database is set aside,
    unless *strict*, or where nothing may be lost; see `quarantine`.

    Raises:
        MissingExtraError: apsw cannot be imported.
        DiskCacheError: The cache cannot be opened; the class and the message say why.
    """
    from diskcache.engines.sqlite.engine import SqliteEngine
    from diskcache.engines.sqlite.opening import prepare_directory

    mode = prepare_directory(directory, mode, readonly)
    files = ValueFiles(directory, mode)
    engine = SqliteEngine(
        directory,
        settings,
        files,
        clock,
        mode=mode,
        readonly=readonly,
        pragmas=pragmas,
        strict=strict,
    )
    _open(engine, directory, upgrade)
    return engine, files


def _open(engine: SqliteEngine, directory: str, upgrade: Callable[[], None]) -> None:
    for attempt in range(TRIES):
        try:
            engine.open(create=True)
        except OlderFormatError:
            if engine.is_readonly or attempt == TRIES - 1:
                raise
            upgrade()
        except (CacheFormatError, CacheCorruptError, LockedError) as exc:
            from diskcache.engines.sqlite.upgrade import alone

            if isinstance(exc, NewerFormatError) or attempt == TRIES - 1:
                raise
            if attempt and isinstance(exc, CacheCorruptError) and _set_aside(engine, exc):
                continue
            # So it looks while another process upgrades it; that one is waited for.
            with alone(directory):
                pass
        else:
            return


def _set_aside(engine: SqliteEngine, exc: CacheCorruptError) -> bool:
    """Put a new database in the place of a damaged one, where that may be done."""
    from diskcache.engines.sqlite.errors import reason_of
    from diskcache.engines.sqlite.quarantine import is_ours

    if not engine.may_heal or not is_ours(engine.directory):
        return False
    return engine.set_aside(reason_of(exc)) is not None


def repair(directory: str, clock: Clock = SYSTEM_CLOCK) -> str | None:
    """Put a new database in the place of a damaged one.

    Returns:
        What became of the old one; None if it is not damaged.

    Raises:
        DiskCacheError: It is not the database of a cache, or it cannot be replaced now.
    """
    from diskcache.engines.sqlite.engine import SqliteEngine
    from diskcache.engines.sqlite.opening import prepare_directory
    from diskcache.engines.sqlite.quarantine import is_ours
    from diskcache.settings import DEFAULT_SETTINGS

    directory = os.path.realpath(os.path.expandvars(os.path.expanduser(directory)))
    mode = prepare_directory(directory, 0o700, False)
    files = ValueFiles(directory, mode)
    engine = SqliteEngine(directory, DEFAULT_SETTINGS, files, clock, mode=mode)
    if not is_ours(directory):
        return None
    done = engine.set_aside("", forced=True)
    return None if done is None else done.told(directory)


def start_copy(
    directory: str,
    destination: str,
    settings: Mapping[str, Any],
    clock: Clock,
    *,
    readonly: bool,
    progress: Progress,
) -> DirectoryCopy:
    """Begin to copy the cache of a directory, which exists; bring it to an end by `copy_all`.

    Raises:
        DiskCacheError: The cache cannot be opened, or the destination not be used.
    """
    from diskcache.engines.sqlite.copying import DirectoryCopy
    from diskcache.engines.sqlite.opening import Place, prepare_directory

    mode = prepare_directory(directory, 0o700, True)
    files = ValueFiles(directory, mode)
    place = Place(directory, files, clock, mode, settings, readonly, {})
    return DirectoryCopy(place, destination, progress)


@contextmanager
def copy_below(
    source: str,
    target: str,
    settings: Mapping[str, Any],
    clock: Clock,
    progress: Progress | None,
) -> Iterator[Callable[[str, bool], DirectoryCopy]]:
    """Return a context to copy several caches below a directory to places below another one.

    It gives a function that begins to copy the one of a relative name. If the block fails, nothing
    is left of the copies.

    Raises:
        DirectoryError: The destination cannot be used.
    """
    from diskcache.engines.sqlite.copying import empty, make_target

    is_new, mode = make_target(source, target)
    before = 0

    def begin(name: str, readonly: bool) -> DirectoryCopy:
        done = 0

        def told(now: int, total: int) -> None:
            nonlocal before, done
            before += now - done
            done = now
            if progress is not None:
                progress(before, max(before, total))

        folder = target
        for part in name.split(os.sep):
            folder = os.path.join(folder, part)
            make_directory(folder, mode, False)
        return start_copy(
            os.path.join(source, name), folder, settings, clock, readonly=readonly, progress=told
        )

    try:
        yield begin
    except BaseException:
        empty(target, is_new)
        raise


def copy_all(copies: list[DirectoryCopy], wait: float | None) -> list[Copied]:
    """Bring copies to an end, all as of one moment; remove them if that fails.

    Raises:
        Timeout: The write lock was not free within *wait* seconds.
        DiskCacheError: Something could not be read or written.
    """
    from diskcache.engines.sqlite.copying import copy_together

    return copy_together(copies, wait)


if "DISKCACHE_FAILPOINTS" in os.environ:
    from diskcache.engines.sqlite import failpoints

    failpoints.arm_all(os.environ[failpoints.VARIABLE])
