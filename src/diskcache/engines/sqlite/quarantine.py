"""A damaged database is set aside, and what can still be read of it goes on in a new one.

How it goes, with the gate in hand:

1. *The damage is real.* A connection of its own meets it too, or the check of SQLite finds it. A
   database that is busy, a full disk, an error of the disk and missing rights are no damage.
2. *A new database is made* as `cache.db.new`, and what verifies is copied to it; see salvage.py.
3. *The control file goes*, so that nobody believes in it any longer.
4. *The old files go* to a folder `damaged-…`: log and index first, so that they can never be taken
   for those of the new database. Then the new one takes the place of the old, and all readers are
   waited for: until they have looked at the path, nothing new is written that they would not see.
5. *A new control file* is made, dirty, so that the next writer counts. Value files that no entry
   names go to the folder as well.
6. *Of earlier folders* the newest stay, `KEPT_FOLDERS` with the new one. Where somebody asked for
   the mending none is removed.

Who has the old database open finds another one at the path: writers before their next write,
because the new control file was waited for, readers within half a second. The id of the cache
stays if it is known, from the database or from the control file, so that signatures stay valid.

Caches that may lose nothing are not set aside on their own: those with the policy 'none', as
`Deque` and `Index` have, and those opened with `strict=True`. Their users are told how.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Final, NamedTuple

import apsw

from diskcache import host
from diskcache.engines.sqlite import control as control_file
from diskcache.engines.sqlite import opening, salvage, site
from diskcache.engines.sqlite.errors import DAMAGE, damaged, directory_error, translate
from diskcache.engines.sqlite.gate import GateClosed
from diskcache.engines.sqlite.hardening import (
    connect,
    connect_file,
    connect_to_judge,
    persist_log,
)
from diskcache.engines.sqlite.site import DATABASE, GATE
from diskcache.errors import (
    CacheCorruptError,
    CacheCorruptionWarning,
    CacheFormatError,
    DiskCacheError,
)
from diskcache.files import DAMAGE_FOLDER, new_damage_folder

log: Final = logging.getLogger("diskcache")

LOOKING: Final = 5.0
"""Seconds that the check of SQLite may take, before an error is believed without it."""
SALVAGING: Final = 10.0
"""Seconds spent on reading a damaged database where nobody asked for it to be mended."""
KEPT_FOLDERS: Final = 3
"""Folders of damaged databases that a directory keeps: a disk that fails must not fill up."""
TRIES: Final = 20
UNKNOWN_WRITER: Final = "?"
"""Mark of a cache whose entries were saved, but not by what they were written."""


class SetAside(NamedTuple):
    """What became of a damaged database."""

    folder: str
    """Where it is, relative to the directory of the cache."""
    entries: int
    """Entries that were saved."""

    def told(self, directory: str, reason: str = "") -> str:
        """Return what happened, as a sentence."""
        why = f" ({reason})" if reason else ""
        return (
            f"the database of cache {directory!r} was damaged{why}: it was moved to"
            f" {os.path.join(directory, self.folder)!r}, and {self.entries:,} entries that could"
            " be read go on in a new one; remove the folder when you no longer need it, or it goes"
            f" when there are {KEPT_FOLDERS} newer ones"
        )


def set_aside(
    place: opening.Place, reason: str, *, forced: bool = False, seen: int = 0
) -> SetAside | None:
    """Put a new database in the place of a damaged one; None if it is not damaged (any more).

    Args:
        place: The cache.
        reason: What the damage is.
        forced: Do it too where nothing may be lost, and take all the time that it needs.
        seen: Number of the database file that was found damaged; another one is believed.

    Raises:
        CacheCorruptError: Nothing may be lost in this cache, and it was not *forced*.
        DiskCacheError: It cannot be done now: the disk is full, for example.
    """
    directory = place.directory
    for _ in range(TRIES):
        with site.registry.lock:
            here = site.enter(directory, place.clock, place.mode)
        try:
            with _gate(here), _translated(directory):
                path = os.path.join(directory, DATABASE)
                opening.refuse_odd_files(directory)
                if (seen and control_file.inode_of(path) != seen) or not _is_damaged(place):
                    return None
                done = _Replacement(place, here, forced).run()
        except GateClosed:
            continue
        finally:
            here.leave()
        if not forced:
            _remove_oldest(directory, done.folder)
            _tell(directory, reason, done)
        return done
    return None


def _remove_oldest(directory: str, newest: str) -> None:
    # A link of that name is a user's. The names start with the time, in UTC.
    with suppress(OSError), os.scandir(directory) as entries:
        found = [
            entry.path
            for entry in entries
            if DAMAGE_FOLDER.fullmatch(entry.name)
            and entry.name != newest
            and entry.is_dir(follow_symlinks=False)
        ]
        for folder in sorted(found)[: 1 - KEPT_FOLDERS]:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _gate(here: site.Site) -> Iterator[None]:
    holder = object()
    try:
        here.gate.acquire(opening.LONGEST_OPENING, holder)
        yield
    finally:
        here.gate.release(holder)


@contextmanager
def _translated(directory: str) -> Iterator[None]:
    try:
        yield
    except DiskCacheError:
        raise
    except apsw.Error as exc:
        raise translate(exc, directory) from exc
    except OSError as exc:
        raise directory_error(exc.errno or 0, directory) from exc


def _tell(directory: str, reason: str, done: SetAside) -> None:
    message = done.told(directory, reason.partition("\n")[0][:200])
    log.error(message)
    warnings.warn(message, CacheCorruptionWarning, stacklevel=2)


def _is_damaged(place: opening.Place) -> bool:
    """Tell whether a database is damaged, and not only a connection to it."""
    directory = place.directory
    if opening.is_short(directory):
        return True
    deadline = monotonic() + LOOKING
    try:
        connection = connect_to_judge(directory)
    except DAMAGE:
        return True
    try:
        connection.set_busy_timeout(int(LOOKING * 1000))
        opening.read_found(connection, directory)
        opening.refuse_short(connection, directory)
        connection.set_progress_handler(lambda: monotonic() > deadline, 10_000)
        text: str = connection.execute("PRAGMA integrity_check(1)").get
    except (*DAMAGE, CacheCorruptError, apsw.InterruptError):
        return True
    except CacheFormatError:
        if not opening.has_foreign_log(directory):
            raise
        return True
    finally:
        connection.close()
    return text != "ok"


class _Replacement:
    """The making of a new database for an old one, with the gate in hand."""

    def __init__(self, place: opening.Place, here: site.Site, forced: bool) -> None:
        self.place = place
        self.here = here
        self.forced = forced
        self.directory = place.directory
        self.path = os.path.join(place.directory, DATABASE)
        self.new = f"{self.path}.new"
        self.copy = f"{self.path}.old.new"

    def run(self) -> SetAside:
        try:
            cache_id = self._cache_id()
            self._make(cache_id)
            rest = self._rescue()
            self._refuse_another()
            os.chmod(self.new, self.place.mode & 0o666)
            folder = new_damage_folder(self.place.clock.time())
            host.make_folder(os.path.join(self.directory, folder), self.place.mode)
            with suppress(FileNotFoundError):
                os.unlink(self.here.control_path)
            self._swap(os.path.join(self.directory, folder))
            # Whoever reads the old one, or from memory, looks at the path before anybody writes.
            time.sleep(control_file.LOOK_EVERY)
        finally:
            opening.remove_database(self.new)
            opening.remove_database(self.copy)
        self._refuse_another()
        self._renew_control(cache_id)
        self._move_files(folder)
        return SetAside(folder, rest.entries)

    def _refuse_another(self) -> None:
        """Leave a cache alone that has come to the place of this one: it has a gate of its own.

        Raises:
            GateClosed: There is one, or nothing.
        """
        if not self.here.is_in_place():
            raise GateClosed

    def _cache_id(self) -> bytes:
        with suppress(apsw.Error, DiskCacheError):
            connection = connect_to_judge(self.directory)
            try:
                return opening.read_found(connection, self.directory)[0]
            finally:
                connection.close()
        return control_file.cache_id_of(self.directory) or secrets.token_bytes(16)

    def _make(self, cache_id: bytes) -> None:
        opening.remove_database(self.new)
        opening.remove_database(self.copy)
        opening.build(self.new, self.place, self.here, cache_id)

    def _rescue(self) -> salvage.Rest:
        """Copy what can be read; without room for a copy the cache starts empty."""
        if not self.forced:
            self._refuse_to_lose()
        seconds = None if self.forced else SALVAGING
        source = None
        try:
            source = salvage.source_of(self.directory, self.new, self.copy)
            if source is None:
                return salvage.Rest(None, 0)
            if not self.forced:
                # What could not be asked itself may tell as a mended copy.
                self._refuse_policy(source)
            target = connect_file(self.new)
            try:
                rest = salvage.rescue(source, target, self.directory, seconds)
                if rest.settings is None and rest.entries:
                    target.execute(
                        "INSERT INTO Settings (key, value, kind) VALUES ('disk', ?, 'state')",
                        (UNKNOWN_WRITER,),
                    )
                return rest
            finally:
                target.close()
        except (apsw.FullError, OSError):
            if self.forced:
                raise
            return salvage.Rest(None, 0)
        finally:
            if source is not None:
                source.close()

    def _refuse_to_lose(self) -> None:
        """Refuse to go on where the database itself says that nothing may be lost.

        Raises:
            CacheCorruptError: It does.
        """
        with suppress(*DAMAGE):
            is_hidden = opening.has_foreign_log(self.directory)
            look = opening.connect_without_log if is_hidden else connect_to_judge
            connection = look(self.directory)
            try:
                self._refuse_policy(connection)
            except apsw.Error:
                return
            finally:
                connection.close()

    def _refuse_policy(self, connection: apsw.Connection) -> None:
        stored = salvage.settings_of(connection) or {}
        if stored.get("eviction_policy", ("",))[0] == "none":
            raise damaged(self.directory, "its eviction policy is 'none'")

    def _swap(self, folder: str) -> None:
        kept = os.path.join(folder, DATABASE)
        is_linked = True
        try:
            # There is a database at the path at any time.
            os.link(self.path, kept, follow_symlinks=False)
        except (OSError, NotImplementedError):
            is_linked = False
        for suffix in opening.COMPANIONS:
            with suppress(FileNotFoundError):
                os.rename(self.path + suffix, kept + suffix)
        if not is_linked:
            os.rename(self.path, kept)
        os.rename(self.new, self.path)

    def _renew_control(self, cache_id: bytes) -> None:
        if self.here.is_shared_memory_safe:
            made = control_file.create(self.directory, cache_id, self.place.mode & 0o666)
            if made is not None:
                made.close()
        # Connections of this process look at the path before anything else.
        self.here.use(None)
        self.here.look_at = 0.0

    def _move_files(self, folder: str) -> None:
        connection = connect(self.directory)
        try:
            persist_log(connection, True)
            rows = connection.execute("SELECT file FROM Cache WHERE file IS NOT NULL").fetchall()
        finally:
            connection.close()
        named = {name for (name,) in rows}
        names = list(self.place.files.listed())
        self._refuse_another()
        for name in names:
            if name not in named:
                self.place.files.move_into(folder, name)
        self.place.files.prune()


def is_ours(directory: str) -> bool:
    """Tell whether a database that cannot be read was one of a cache: it may be set aside."""
    return os.path.exists(os.path.join(directory, GATE)) or opening.is_empty(directory)
