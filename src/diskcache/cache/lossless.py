"""Copies of `Deque` and `Index`: as those of their caches, but nothing may be left out."""

from __future__ import annotations

import os
from typing import BinaryIO, ClassVar

from diskcache.archive import Archive
from diskcache.cache import Cache
from diskcache.cache.exporting import ExportReport, Progress, export
from diskcache.cache.importing import Entry, Importer, ImportReport
from diskcache.engines.base import Copied
from diskcache.errors import SettingError, TooLargeError, UntrustedPickleError
from diskcache.keys import QUEUE_END


class LosslessCopies:
    """The methods that copy a structure on disk."""

    _cache: Cache
    _is_queue: ClassVar[bool] = False
    """Whether all keys are those of a queue."""

    def backup(
        self, destination: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> Copied:
        """Copy all to another directory, as it is at one moment; see `Cache.backup`."""
        return self._cache.backup(destination, progress=progress)

    def export(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        pickles: bool = True,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write all to an archive; see `Cache.export`.

        Raises:
            CodecError: The file of a value is missing or damaged.
        """
        return export([self._cache], file, pickles=pickles, strict=True, progress=progress)

    def import_from(
        self,
        file: str | os.PathLike[str] | BinaryIO | Archive,
        *,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Store what is in an archive; see `Cache.import_from`.

        A deque must be empty, or hold what an interrupted import of the same archive stored. An
        index keeps its other keys.

        Raises:
            ArchiveError: The archive is damaged, or holds what cannot be here.
            SettingError: The deque has items of another origin.
            TooLargeError: Values are larger than the size limit; all others are stored.
            UntrustedPickleError: Values are pickles that may not be loaded here; all others are
                stored.
        """
        if not isinstance(file, Archive):
            with Archive(file) as archive:
                return self.import_from(archive, progress=progress)
        cache = self._cache
        takes = _is_queued if self._is_queue else None
        importer = Importer(file, [cache], lambda _: cache, takes=takes, progress=progress)
        if self._is_queue and len(cache) and not importer.is_begun:
            raise SettingError(
                f"deque {cache.directory!r} has items already: import an archive into an empty one"
            )
        return _complete(importer.run())


def _complete(report: ImportReport) -> ImportReport:
    if report.refused:
        raise TooLargeError(
            f"{report.refused} values are larger than size_limit, and were not stored: raise the"
            " limit, and import the archive again into an empty directory"
        )
    if report.skipped:
        raise UntrustedPickleError(
            f"{report.skipped} entries are pickles that may not be loaded here, and were not"
            " stored: import the archive with the secret that they were signed with, into an empty"
            " directory",
            "unknown-key",
        )
    return report


def _is_queued(entry: Entry) -> bool:
    key, raw = entry.key
    return raw == 1 and type(key) is int and 0 < key < QUEUE_END
