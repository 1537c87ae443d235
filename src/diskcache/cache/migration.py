"""Encoding anew what version 5 pickled: what is plain data, and on request everything else.

A bare pickle is read as data where that is possible (see `codecs.legacy`). Whatever names a class
is only loaded if the caller trusts the directory; it is then stored as any other value, under a
signature. What cannot be loaded, for want of a class for example, stays as it is.

Work is done in batches, each of which is one transaction. What was done is no longer found, so an
interrupted run is taken up by the next.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from diskcache.codecs import legacy
from diskcache.codecs.base import MODE_PICKLE
from diskcache.codecs.values import BARE_KEY, UNSAFE_WARNING, load_pickle
from diskcache.disk import Disk
from diskcache.entry import GUARD, EncodedKey, Payload
from diskcache.errors import (
    CodecError,
    DiskCacheError,
    PickleKeyError,
    SettingError,
    UnsafePickleWarning,
)

if TYPE_CHECKING:
    from diskcache.cache.foundation import Foundation
    from diskcache.engines.sqlite.rewriting import OldRow, Rewriting
    from diskcache.files import ValueFiles

log: Final = logging.getLogger("diskcache")

BATCH: Final = 200
"""Entries in one transaction."""

MARK: Final = "legacy"
"""State of a directory: how many entries still hold a pickle of version 5."""

NAMELESS: Final = "(not data)"
"""Stands for the class where a pickle does something else that is not data."""

Progress = Callable[[int], None]
Place = Callable[[Any], "Foundation"]
"""Which cache an entry belongs to, by its key: another one where keys are spread over shards."""


class Report:
    """What a migration found and did."""

    def __init__(self) -> None:
        self.converted: Counter[str] = Counter()
        """Entries that were encoded anew, by the type of what was pickled."""
        self.kept: Counter[str] = Counter()
        """Entries that stay unreadable, by the class that their pickle names first."""
        self.failed: Counter[str] = Counter()
        """Entries that were to be loaded and could not be, by the reason."""

    @property
    def left(self) -> int:
        """Entries that still hold a pickle of version 5."""
        return sum(self.kept.values()) + sum(self.failed.values())


class _Kept(Exception):  # noqa: N818 - it is a signal
    """A pickle that is not to be loaded."""


class Migration:
    """The migration of one directory.

    Args:
        cache: The open cache.
        trust: Whether pickles that name classes are loaded.
        place: Where entries belong; None if they stay where they are.
        report: Where to count.
        dry_run: Change nothing, and load nothing.
    """

    def __init__(
        self,
        cache: Foundation,
        *,
        trust: bool,
        report: Report,
        place: Place | None = None,
        dry_run: bool = False,
    ) -> None:
        self._cache = cache
        self._engine = engine_of(cache)
        self._trust = trust and not dry_run
        self._report = report
        self._place: Place = place or (lambda _key: cache)
        self._dry_run = dry_run

    def run(self, progress: Progress | None = None) -> None:
        """Visit every entry with a pickle of version 5."""
        last = -(2**63)
        while rows := self._engine.pickled(last, BATCH):
            if self._dry_run:
                for row in rows:
                    self._plan(row, self._cache)
            else:
                self._convert(rows)
            last = rows[-1].ident
            if progress is not None:
                progress(len(rows))

    def _convert(self, rows: list[OldRow]) -> None:
        """Encode a batch anew. No two directories are locked at a time."""
        here: list[tuple[OldRow, EncodedKey, Payload | None]] = []
        moved: list[OldRow] = []
        for row in rows:
            plan = self._plan(row, self._cache)
            made = None if plan is None else self._made(row, *plan)
            if made is None:
                continue
            target, key, payload = made
            if target is self._cache:
                here.append((row, key, payload))
            else:
                engine_of(target).receive(row, key, payload)
                moved.append(row)
        with self._engine.transaction(None):
            for row, key, payload in here:
                self._engine.rewrite(row, key, payload)
            for row in moved:
                self._engine.release(row)

    # -- One entry --

    def _made(
        self, row: OldRow, key: EncodedKey, user_key: Any, value: Any
    ) -> tuple[Foundation, EncodedKey, Payload | None] | None:
        """Return where an entry belongs, and what it is there; count what cannot be stored."""
        target = self._place(user_key)
        try:
            return target, key, self._packed(target, row, key, value)
        except PickleKeyError:
            raise
        except (DiskCacheError, OSError) as exc:
            self._report.failed[f"{type(exc).__name__}: {exc}"] += 1
        return None

    def _plan(self, row: OldRow, cache: Foundation) -> tuple[EncodedKey, Any, Any] | None:
        """Return key, the user's key and the value; count what cannot be had."""
        try:
            key, user_key = self._key(row, cache)
            value = self._value(row)
        except _Kept as exc:
            self._report.kept[str(exc)] += 1
        except PickleKeyError:
            raise
        except (DiskCacheError, OSError) as exc:
            self._report.failed[str(exc)] += 1
        else:
            named = user_key if value is _SAME else value
            self._report.converted[_name(type(named))] += 1
            return key, user_key, value
        return None

    def _key(self, row: OldRow, cache: Foundation) -> tuple[EncodedKey, Any]:
        key = cast("EncodedKey", (row.key, row.raw))
        if row.raw == 0 and isinstance(row.key, bytes) and row.key[:1] == BARE_KEY:
            loaded = self._loaded(row.key[1:])
            if self._dry_run:
                return key, loaded
            key = cache._codec.encode_key(loaded)
        return key, cache._disk.get(*key)

    def _value(self, row: OldRow) -> Any:
        if row.mode & ~GUARD != MODE_PICKLE:
            return _SAME
        data: Any = row.value
        if row.file is not None:
            data = self._cache._files.read(row.file, row.size, row.checksum)
        if not isinstance(data, bytes):
            raise CodecError("a pickle is not made of bytes")
        return self._loaded(data)

    def _loaded(self, data: bytes) -> Any:
        try:
            return legacy.loads(data)
        except legacy.ForeignPickleError as exc:
            if not self._trust:
                raise _Kept(exc.name or NAMELESS) from exc
        return load_pickle(data)

    def _packed(
        self, target: Foundation, row: OldRow, key: EncodedKey, value: Any
    ) -> Payload | None:
        if value is not _SAME:
            # What a subclass does around it is in what was loaded.
            return Disk.pack(target._disk, value, False, key)
        if target is self._cache or row.file is None:
            return None
        with self._cache._files.open(row.file) as file:
            staged = target._files.stage_stream(file.read)
        return row.mode, None, staged


_SAME: Final = object()
"""Stands for the value of an entry of which only the key was pickled."""


def _name(kind: type[Any]) -> str:
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def engine_of(cache: Foundation) -> Rewriting:
    """Return the engine of a cache on SQLite."""
    return cast("Rewriting", cache._engine)


def is_needed(cache: Foundation) -> bool:
    """Tell whether a directory may hold pickles of version 5."""
    return cache._engine.mark(MARK) is not None


def check_trust(cache: Foundation) -> None:
    """Warn of what it means to trust a directory.

    Raises:
        SettingError: The cache stores no pickles.
    """
    if cache._codec.pickle_mode == "never":
        raise SettingError(
            "trust_legacy_pickles=True loads pickles, and pickle='never' (or DISKCACHE_PICKLE)"
            " forbids it: leave one of them out"
        )
    warnings.warn(
        f"pickles of version 5 are loaded: {UNSAFE_WARNING.format(label=cache._directory)}",
        UnsafePickleWarning,
        stacklevel=5,
    )


def migrate_if_needed(cache: Foundation) -> None:
    """Load every pickle that version 5 left in a directory, and store it as this version does."""
    if is_needed(cache):
        check_trust(cache)
        report = Report()
        migrate(cache, trust=True, report=report)
        tell(cache, report)


def migrate(
    cache: Foundation,
    *,
    trust: bool,
    report: Report,
    place: Place | None = None,
    progress: Progress | None = None,
) -> None:
    """Encode anew what version 5 pickled.

    Cost: a write transaction per 200 entries.

    Args:
        cache: The open cache.
        trust: Whether pickles that name classes are loaded.
        report: Where to count.
        place: Which cache an entry belongs to; None if all belong here.
        progress: Told how many entries more have been visited.

    Raises:
        PickleKeyError: There is no key to sign with; what was done until then stays.
    """
    before = report.left
    Migration(cache, trust=trust, report=report, place=place).run(progress)
    engine_of(cache).set_state(MARK, (report.left - before) or None)


def count_pickled(cache: Foundation) -> int:
    """Return how many entries hold a pickle of version 5."""
    return engine_of(cache).count_pickled()


def preview(directory: str, report: Report, files: ValueFiles) -> int | None:
    """Count what a migration of a directory of version 5 would do; nothing is changed or loaded.

    Returns:
        The number of entries; None if it is not of version 5.
    """
    from diskcache.engines.sqlite.upgrade import survey

    def visit(key: Any, raw: int, mode: int, file: str | None, value: Any) -> None:
        try:
            found = _SAME
            if raw == 0 and isinstance(key, bytes):
                found = legacy.loads(key)
            if mode == MODE_PICKLE:
                data = files.read(file, 0, None) if file is not None else value
                found = legacy.loads(data) if isinstance(data, bytes) else found
        except legacy.ForeignPickleError as exc:
            report.kept[exc.name or NAMELESS] += 1
        except (CodecError, OSError) as exc:
            report.failed[str(exc)] += 1
        else:
            if found is not _SAME:
                report.converted[_name(type(found))] += 1

    return survey(directory, visit)


def tell(cache: Foundation, report: Report) -> None:
    """Tell the log what a migration did."""
    log.info("cache %r: %d entries encoded anew", cache._directory, report.converted.total())
    for reason, count in report.failed.items():
        log.warning("cache %r: %d entries could not be: %s", cache._directory, count, reason)
