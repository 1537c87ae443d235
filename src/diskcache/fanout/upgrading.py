"""Shards of version 5: upgraded together, and keys moved to where this version looks for them.

Version 5 chose a shard by the pickle of a key, or by the bytes of a float; here equal keys lead to
one shard, and the keys of a queue to that of their queue. So after the upgrade some entries are in
a shard where nobody looks. They are stored in the right one, and then removed from the wrong one,
in batches. Until all are moved shard 000 is not marked with the number of shards: whoever opens the
cache then takes up the work. One process at a time does it, and the others wait: an entry that one
of them has moved, and removed, must not be moved by another one again.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from diskcache.cache.foundation import PATIENCE
from diskcache.cache.migration import Progress, Report, check_trust, engine_of, is_needed, tell
from diskcache.cache.migration import count_pickled as count_in_one
from diskcache.cache.migration import migrate as migrate_one
from diskcache.cache.upgrading import DiskConverter, upgrade
from diskcache.codecs.values import BARE_KEY
from diskcache.disk import Disk
from diskcache.errors import CodecError, SettingError, UntrustedPickleError
from diskcache.fanout.shard import Shard

if TYPE_CHECKING:
    from diskcache.engines.sqlite.rewriting import OldRow
    from diskcache.fanout.foundation import FanoutFoundation as FanoutCache

BATCH: Final = 500
"""Entries that are moved at a time."""


def shard_directories(directory: str) -> list[str]:
    """Return the directories of the shards that are there."""
    found: list[str] = []
    while True:
        shard = os.path.join(directory, f"{len(found):03d}")
        if not os.path.exists(os.path.join(shard, "cache.db")):
            return found
        found.append(shard)


def upgrade_shards(directory: str, disk: Disk, first: Shard, wanted: int | None) -> None:
    """Upgrade every shard of a directory, or none.

    Raises:
        SettingError: There are not as many as *wanted*.
        LockedError: A process of version 5 has one of them open.
    """
    found = shard_directories(directory)
    if wanted not in (None, len(found)):
        raise SettingError(
            f"cache {directory!r} of version 5 has {len(found)} shards: got shards={wanted}; leave"
            " it out, or choose another directory"
        )
    keeps = first._settings["eviction_policy"] == "none"
    converter = DiskConverter(disk, directory, len(found), keeps=keeps)
    upgrade([os.path.realpath(shard) for shard in found], converter, first._clock)


def take_over(cache: FanoutCache, *, trust: bool) -> None:
    """Move what is in a wrong shard; with *trust* load every pickle that version 5 left."""
    from diskcache.engines.sqlite.upgrade import alone

    shards = cache._shards
    with alone(os.path.realpath(cache._directory)):
        if shards[0].mark("shards") is None:
            settle(shards, cache._index)
            shards[0].claim("shards", len(shards), PATIENCE)
        if trust and any(map(is_needed, shards)):
            check_trust(shards[0])
            report = Report()
            migrate(cache, trust=True, report=report)
            tell(shards[0], report)


def settle(shards: Sequence[Shard], index: Callable[[Any], int]) -> int:
    """Move every entry to the shard that its key leads to; return how many were moved."""
    return sum(_settle(shards, number, index) for number in range(len(shards)))


def _settle(shards: Sequence[Shard], number: int, index: Callable[[Any], int]) -> int:
    shard = shards[number]
    engine = engine_of(shard)
    disk = type(shard._disk)
    every = disk.put is not Disk.put or disk.hash is not Disk.hash
    last, moved = -(2**63), 0
    while rows := engine.wandering(last, BATCH, every=every):
        last = rows[-1].ident
        away: dict[int, list[OldRow]] = defaultdict(list)
        for row in rows:
            place = _place(shard, row, index)
            if place is not None and place != number:
                away[place].append(row)
        for place, some in away.items():
            _move(shard, shards[place], some)
            moved += len(some)
    return moved


def _place(shard: Shard, row: OldRow, index: Callable[[Any], int]) -> int | None:
    """Return the shard that the key of an entry leads to; None if that cannot be told."""
    key: Any = row.key
    if row.raw == 0 and isinstance(key, bytes) and key[:1] == BARE_KEY:
        return None
    try:
        return index(shard._disk.get(key, row.raw))
    except (CodecError, UntrustedPickleError):
        return None


def _move(source: Shard, target: Shard, rows: list[OldRow]) -> None:
    """Store entries in another shard, then remove them. No two shards are locked at a time."""
    gone: list[OldRow] = []
    engine = engine_of(target)
    with engine.transaction(None):
        for row in rows:
            if row.file is None:
                key: Any = (row.key, row.raw)
                engine.receive(row, key, None)
                gone.append(row)
            elif engine.receive_file(row, source._files):
                gone.append(row)
    reached("stored")
    engine = engine_of(source)
    with engine.transaction(None):
        for row in gone:
            engine.release(row)
    reached("moved")


def reached(step: str) -> None:
    """Do nothing; tests end the process here."""


def migrate(
    cache: FanoutCache, *, trust: bool, report: Report, progress: Progress | None = None
) -> None:
    """Encode anew what version 5 pickled; see `cache.migration.migrate`."""
    for shard in cache._shards:
        migrate_one(shard, trust=trust, report=report, place=cache._shard_of, progress=progress)


def count_pickled(cache: FanoutCache) -> int:
    """Return how many entries hold a pickle of version 5."""
    return sum(map(count_in_one, cache._shards))
