"""What a session does when it meets a full disk, or a damaged database."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import apsw

from diskcache.engines.sqlite import removal, room, site
from diskcache.engines.sqlite.connection import ThreadState
from diskcache.engines.sqlite.control import inode_of
from diskcache.engines.sqlite.errors import DAMAGE, damaged, full, is_over_quota, translate
from diskcache.errors import CacheFullError, DiskCacheError

if TYPE_CHECKING:
    from diskcache.engines.sqlite.connection import Link
    from diskcache.engines.sqlite.opening import Place
    from diskcache.engines.sqlite.quarantine import SetAside

T = TypeVar("T")

PAUSES: Final = (0.001, 0.01, 0.05)
"""Seconds between the attempts of a removal on a full disk."""


class Mending(ABC):
    """The part of a session that goes on where a disk or a database fails."""

    directory: str
    is_readonly: bool
    _is_strict: bool
    _settings: Mapping[str, Any]
    _place: Place
    _local: ThreadState

    @abstractmethod
    def _write(self, wait: float | None, step: Callable[..., T], *args: Any) -> T: ...

    @abstractmethod
    def _drop(self) -> None: ...

    def _write_anew(
        self, exc: apsw.Error, wait: float | None, step: Callable[..., T], args: tuple[Any, ...]
    ) -> T:
        """Run a step again that met a damaged database, in the new one if there is one.

        Raises:
            CacheCorruptError: There is none, or the step cannot be repeated.
        """
        link = self._local.link
        # A file that has its name already goes with the transaction.
        can_be_repeated = link is None or not link.published
        if link is not None:
            link.rollback()
        if not (self._heals(exc) and can_be_repeated):
            raise self._foreign(exc) from exc
        return self._write(wait, step, *args)

    # -- A full disk --

    def _remove(self, wait: float | None, step: Callable[..., T], *args: Any) -> T:
        """Run a step that removes entries, also while the disk is full."""
        try:
            return self._write(wait, step, *args)
        except CacheFullError:
            self._make_room()
        return self._remove_on_full_disk(wait, step, *args)

    def _remove_on_full_disk(self, wait: float | None, step: Callable[..., T], *args: Any) -> T:
        """Run a step that removes entries in the room that was made for it."""
        for pause in PAUSES:
            try:
                result = self._write(wait, step, *args)
                break
            except CacheFullError:
                self._make_room(at_any_price=True)
            # A value file that is about to be refused takes the place for a moment.
            self._place.clock.sleep(pause)
        else:
            result = self._write(wait, step, *args)
        self._restore_room()
        return result

    def _make_room(self, *, at_any_price: bool = False) -> None:
        """Make room for a removal; raise the error at hand again inside a transaction."""
        link = self._local.link
        if link is None or link.depth or link.is_closed:
            raise  # noqa: PLE0704 - called where one is handled
        room.make(link, at_any_price=at_any_price)

    def _restore_room(self) -> None:
        link = self._local.link
        if link is not None and not link.depth and not link.is_closed:
            room.restore(link)

    def _give_back(self, link: Link, wait: float | None) -> None:
        """Give free pages back to the file system: after a removal, and not in a transaction."""
        patience = removal.PATIENCE if wait is None else min(wait, removal.PATIENCE)
        with suppress(DiskCacheError):
            while self._write(patience, removal.give_back):
                link.site.gate.leave_open()
            room.hand_back(link, patience)

    # -- Damage --

    def _heals(self, exc: apsw.Error) -> bool:
        """Set a damaged database aside where that may be done; tell whether to try again."""
        if not isinstance(exc, DAMAGE) or not self.may_heal:
            return False
        link = self._local.link
        if link is not None and link.depth:
            return False
        seen = 0 if link is None else link.site.database
        path = os.path.join(self.directory, site.DATABASE)
        done = self.set_aside(str(exc), seen=seen)
        if done is None and seen and inode_of(path) == seen:
            return False
        self._drop()
        if link is not None:
            link.close()
        return True

    @property
    def may_heal(self) -> bool:
        """Whether a damaged database may be replaced without anybody asking for it."""
        policy = self._settings["eviction_policy"]
        return not (self.is_readonly or self._is_strict or policy == "none")

    def set_aside(self, reason: str, *, forced: bool = False, seen: int = 0) -> SetAside | None:
        """Put a new database in the place of a damaged one; see `quarantine`."""
        from diskcache.engines.sqlite import quarantine

        return quarantine.set_aside(self._place, reason, forced=forced, seen=seen)

    def _foreign(self, exc: apsw.Error) -> DiskCacheError:
        """Return what an error means on a connection whose database was one of a cache."""
        if isinstance(exc, DAMAGE):
            return damaged(self.directory, str(exc))
        link = self._local.link
        if link is not None and is_over_quota(exc, link.con):
            return full(self.directory)
        return translate(exc, self.directory)
