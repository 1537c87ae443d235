"""Methods of `FanoutCache` that copy it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from diskcache.archive import Archive
from diskcache.cache.copying import not_in_transaction
from diskcache.cache.exporting import ExportReport, Progress, export
from diskcache.cache.importing import Importer, ImportReport
from diskcache.cache.journal import Track
from diskcache.codecs.keys import shard_hash
from diskcache.engines.base import Copied
from diskcache.entry import EncodedKey
from diskcache.fanout.parts import FanoutParts
from diskcache.fanout.shard import Shard

PARTS = ("cache", "deque", "index")
"""Folders of the objects that are in one place."""


class FanoutCopies(FanoutParts):
    """Copies of all shards, as a directory and as an archive."""

    def backup(
        self, destination: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> Copied:
        """Copy all shards as they are at one moment to another directory, while others write.

        What `cache`, `deque` and `index` keep below the directory is copied too, each as it is at
        a moment of its own. See `Cache.backup`.

        Raises:
            DirectoryError: The destination cannot be used.
            Timeout: A write lock was not free within `timeout` seconds; nothing is left.
            TransactionError: It was called inside a transaction.

        Example:
            >>> cache['key'] = 'value'
            >>> cache.backup(cache.directory + '-copy').entries
            1
        """
        from diskcache.engines.sqlite import copy_all, copy_below

        self._refuse_in_transaction("backup")
        target = os.path.realpath(os.path.expanduser(os.fspath(destination)))
        source = os.path.realpath(self._directory)
        first = self._shards[0]
        with copy_below(source, target, first.settings, first.clock, progress) as begin:
            names = [f"{number:03d}" for number in range(self._count)]
            readonly = first.options["readonly"]
            done = copy_all([begin(name, readonly) for name in names], self._timeout)
            for name in _caches_below(source):
                done += copy_all([begin(name, readonly)], self._timeout)
        return Copied(*map(sum, zip(*done, strict=True)))

    def export(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        pickles: bool = True,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write the live entries of all shards to an archive; see `Cache.export`.

        Example:
            >>> import io
            >>> cache['key'] = 'value'
            >>> cache.export(io.BytesIO()).entries
            1
        """
        return self._send_copy(file, None, pickles=pickles, progress=progress)

    def import_from(
        self,
        file: str | os.PathLike[str] | BinaryIO | Archive,
        *,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Store the entries of an archive, of whatever cache; see `Cache.import_from`.

        Each goes to the shard that its key belongs to here.

        Raises:
            ArchiveError: The archive is damaged, or none.
            SettingError: Its values were written by another disk or serializer.
            Timeout: A write lock was not free within `timeout` seconds.

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
            return Importer(file, self._shards, self._shard_of_encoded, progress=progress).run()
        with Archive(file) as archive:
            return self.import_from(archive, progress=progress)

    def _send_copy(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        track: Track | None,
        *,
        pickles: bool,
        progress: Progress | None,
    ) -> ExportReport:
        """Do as `export`; with *track* for `_take_copy` in another thread.

        Then it goes on where an earlier copy stopped.
        """
        strict = self._shards[0].options["strict"]
        return export(
            self._shards,
            file,
            shards=self._count,
            pickles=pickles,
            strict=strict,
            progress=progress,
            track=track,
        )

    def _take_copy(self, archive: Archive, track: Track) -> ImportReport:
        """Do as `import_from` with what `_send_copy` sends."""
        return Importer(archive, self._shards, self._shard_of_encoded, journal=track).run()

    def _shard_of_encoded(self, key: EncodedKey) -> Shard:
        if key[1] or not self._hashes_text:
            return self._shard_of(self.disk.get(*key))
        return self._shards[shard_hash(*key) % self._count]

    def _refuse_in_transaction(self, name: str) -> None:
        if self._shards[0].in_transaction():
            raise not_in_transaction(name)


def _caches_below(directory: str) -> Iterator[str]:
    """Yield the relative names of the caches that are in one place; links are not followed."""
    for part in PARTS:
        if os.path.islink(os.path.join(directory, part)):
            continue
        for folder, folders, files in os.walk(os.path.join(directory, part)):
            if "cache.db" in files:
                folders.clear()
                yield os.path.relpath(folder, directory)
