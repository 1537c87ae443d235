"""Methods of `Cache` that copy it: `backup`, `export` and `import_from`."""

from __future__ import annotations

import os
from typing import BinaryIO

from diskcache.archive import Archive
from diskcache.cache.computed import ComputedMethods
from diskcache.cache.exporting import ExportReport, Progress, export
from diskcache.cache.importing import Importer, ImportReport
from diskcache.cache.journal import Track
from diskcache.cache.upkeep import UpkeepMethods
from diskcache.engines.base import Copied
from diskcache.errors import TransactionError


class CopyMethods(ComputedMethods, UpkeepMethods):
    """Copies of a cache, as a directory and as an archive."""

    def backup(
        self, destination: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> Copied:
        """Copy the cache as it is at one moment to another directory, while others write.

        The copy is a cache like this one, with its settings, its entries and its id, so that
        signed pickles are valid in it. Copying the directory by other means is safe only while
        nobody has it open.

        Cost: all bytes are read, written and flushed to the disk. The write lock is held only while
        value files that were stored during the copying are copied.

        Args:
            destination: A directory outside the cache that is missing or empty.
            progress: Called with the bytes that were copied, and that there are as far as is known.

        Returns:
            What the copy holds.

        Raises:
            DirectoryError: The destination cannot be used.
            Timeout: The write lock was not free within `timeout` seconds; nothing is left.
            TransactionError: It was called inside a transaction.

        Example:
            >>> cache['key'] = 'value'
            >>> cache.backup(cache.directory + '-copy').entries
            1
        """
        from diskcache.engines.sqlite import copy_all, start_copy

        target = os.path.realpath(os.path.expanduser(os.fspath(destination)))
        self._refuse_in_transaction("backup")
        copy = start_copy(
            os.path.realpath(self._directory),
            target,
            self._settings,
            self._clock,
            readonly=self._options["readonly"],
            progress=progress or _ignored,
        )
        return copy_all([copy], self._timeout)[0]

    def export(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        pickles: bool = True,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write all live entries to an archive that `import_from` reads, on other machines too.

        Key, value, expiry, tag and order are kept; locks are not exported. Entries are read a
        hundred at a time, without a lock: what is written meanwhile may be in the archive or not.
        For one moment of a cache, export a `backup`. Values are not decoded, and value files are
        copied in portions, so little memory is needed.

        Pickles keep their signatures, which whoever has the secret can verify.

        Args:
            file: Path of a file, which is replaced once all is written; or an open binary file,
                which may be a pipe.
            pickles: Whether entries that are pickles are exported.
            progress: Called with the number of entries that were written, and that there are.

        Returns:
            How many entries were written, and left out.

        Example:
            >>> import io
            >>> cache['key'] = 'value'
            >>> cache.export(io.BytesIO()).entries
            1
        """
        return export([self], file, pickles=pickles, strict=self._strict, progress=progress)

    def import_from(
        self,
        file: str | os.PathLike[str] | BinaryIO | Archive,
        *,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Store the entries of an archive, replacing those with the same keys.

        The archive is checked block by block; at a block that is damaged or missing the import
        stops, and what was before it is stored. An import that was interrupted, by whatever it
        was, goes on where it stopped when it is called again with the same archive. Pickles are
        verified and signed anew, so the secret that they were signed with is needed; those that may
        not be loaded are left out. Nothing is unpickled.

        Cost: one write transaction for each block of a quarter of a megabyte, and each value file.

        Args:
            file: Path, open binary file, or `Archive`.
            progress: Called with the number of bytes that were read, and 0.

        Returns:
            How many entries were stored, and left out.

        Raises:
            ArchiveError: The archive is damaged, or none.
            SettingError: Its values were written by another disk or serializer.
            Timeout: The write lock was not free within `timeout` seconds.

        Example:
            >>> import io
            >>> cache['key'] = 'value'
            >>> stream = io.BytesIO()
            >>> cache.export(stream).entries, cache.clear()
            (1, 1)
            >>> cache.import_from(io.BytesIO(stream.getvalue())).entries, cache['key']
            (1, 'value')
        """
        self._refuse_in_transaction("import_from")
        if isinstance(file, Archive):
            return Importer(file, [self], lambda _: self, progress=progress).run()
        with Archive(file) as archive:
            return self.import_from(archive, progress=progress)

    def _send_copy(
        self, file: BinaryIO, track: Track, *, pickles: bool, progress: Progress | None
    ) -> ExportReport:
        """Do as `export` for `_take_copy` in another thread, from where an earlier copy stopped."""
        return export(
            [self], file, pickles=pickles, strict=self._strict, progress=progress, track=track
        )

    def _take_copy(self, archive: Archive, track: Track) -> ImportReport:
        """Do as `import_from` with what `_send_copy` sends."""
        return Importer(archive, [self], lambda _: self, journal=track).run()

    def _refuse_in_transaction(self, name: str) -> None:
        if self._engine.in_transaction():
            raise not_in_transaction(name)


def not_in_transaction(name: str) -> TransactionError:
    """Return the error of a method that is called inside a transaction and cannot be part of it."""
    return TransactionError(
        f"{name} cannot be part of a transaction: call it before or after the block"
    )


def _ignored(done: int, total: int) -> None:
    """Show no progress."""
