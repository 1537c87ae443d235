"""Steps that encode entries of version 5 anew, or move them to another shard, as they are.

What an entry is does not change: its times, its tag and its place among the others stay. A row is
only written if its *version* is still the one that was read.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from diskcache.engines.sqlite import reading
from diskcache.engines.sqlite import statements as sql
from diskcache.engines.sqlite.connection import Link
from diskcache.engines.sqlite.culling import Culler, footprint, forget
from diskcache.engines.sqlite.s3fifo import cost
from diskcache.engines.sqlite.upkeep import Upkeep
from diskcache.engines.sqlite.writing import drop_file, note_expiry, publish
from diskcache.entry import DAMAGED, MODE, DbValue, EncodedKey, Payload, Staged, Tag
from diskcache.files import ValueFiles, is_safe

PICKLED: Final = (
    "(raw = 0 AND substr(key, 1, 1) = x'02') OR (mode & 15 = 4"
    " AND CASE WHEN file IS NULL THEN substr(value, 1, 1) IS NOT x'01' ELSE checksum IS NULL END)"
)
"""Whether a row holds a bare pickle, as key or value."""

WANDERING: Final = (
    "raw = 0 OR typeof(key) IN ('integer', 'real') OR substr(key, -16) GLOB '-" + "[0-9]" * 15 + "'"
)
"""Whether a key may have led version 5 to another shard: it is a number, encoded, or of a queue."""

_COLUMNS: Final = (
    "rowid, key, raw, mode, value, file, size, checksum, version,"
    " store_time, expire_time, access_time, access_count, tag"
)
_INSERT: Final = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count, tag,"
    " size, mode, file, checksum, value, rank, version) VALUES (" + "?, " * 13 + f"{sql.VERSION})"
)
_REKEY: Final = f"UPDATE Cache SET key = ?, raw = ?, version = {sql.VERSION} WHERE rowid = ?"
_REWRITE: Final = (
    "UPDATE Cache SET key = ?, raw = ?, mode = ?, value = ?, file = ?, size = ?, checksum = ?,"
    f" version = {sql.VERSION} WHERE rowid = ?"
)


_TIMES: Final = frozenset({float, type(None)})


class OldRow(NamedTuple):
    """An entry with all that belongs to it."""

    ident: int
    key: DbValue
    raw: int
    mode: int
    value: DbValue
    file: str | None
    size: int
    checksum: int | None
    version: int
    store_time: float
    expire_time: float | None
    access_time: float | None
    access_count: int
    tag: Tag


class Rewriting(Upkeep):
    """The part of an engine that works on what version 5 left."""

    _culler: Culler

    def pickled(self, after: int, limit: int) -> list[OldRow]:
        """Return rows that hold a bare pickle, from the row number *after* on."""
        return self._query(_rows, PICKLED, after, limit)

    def wandering(self, after: int, limit: int, *, every: bool) -> list[OldRow]:
        """Return rows whose shard may be another one than in version 5; with *every*, all rows."""
        return self._query(_rows, "1" if every else WANDERING, after, limit)

    def count_pickled(self) -> int:
        """Return how many rows hold a bare pickle."""
        return self._query(_count, PICKLED)

    def rewrite(self, row: OldRow, key: EncodedKey, payload: Payload | None) -> bool:
        """Give an entry another key or value; tell whether it was still there.

        Of two entries that have the same key then, the one stored later stays.

        Args:
            row: The entry.
            key: Its key from now on.
            payload: Its value from now on; None if it stays what it is.
        """
        return self._write(None, _rewrite, row, key, payload)

    def receive(self, row: OldRow, key: EncodedKey, payload: Payload | None) -> None:
        """Store an entry of another directory, unless a newer one is there.

        Args:
            row: The entry.
            key: Its key here.
            payload: Its value here; None if it stays what it is.
        """
        self._write(None, _receive, self._culler, row, key, payload)

    def receive_file(self, row: OldRow, source: ValueFiles) -> bool:
        """Store an entry of another directory together with its file.

        False if the file is not there: then nothing is stored.
        """
        return self._write(None, _receive_file, self._culler, row, source)

    def release(self, row: OldRow) -> bool:
        """Remove an entry if it is still what was read; tell whether it was."""
        return self._write(None, _release, row)

    def set_state(self, name: str, value: DbValue) -> None:
        """Keep something about the directory; None forgets it."""
        self._write(None, _set_state, name, value)


def _rows(link: Link, condition: str, after: int, limit: int) -> list[OldRow]:
    statement = (
        f"SELECT {_COLUMNS} FROM Cache WHERE rowid > ? AND ({condition}) ORDER BY rowid LIMIT ?"
    )
    found: list[OldRow] = []
    while not found and (rows := reading.fetch(link.execute, statement, (after, limit))):
        found = [row for row in (OldRow(*each) for each in rows) if _is_sound(row)]
        after = rows[-1][0]
    return found


def _is_sound(row: OldRow) -> bool:
    """Tell whether the columns of a row hold what they must; otherwise it stays where it is."""
    value = row.mode, row.value, row.file, row.size, row.checksum
    known = reading.sound((*value, row.expire_time, row.tag, row.version, row.ident))
    return (
        known[MODE] != DAMAGED
        and reading.sound_key((row.key, row.raw)) is not reading.UNREADABLE
        and type(row.version) is int
        and type(row.access_count) is int
        and type(row.store_time) is float
        and type(row.access_time) in _TIMES
    )


def _count(link: Link, condition: str) -> int:
    count: int = link.execute(f"SELECT count(*) FROM Cache WHERE {condition}").get
    return count


def _is_unchanged(link: Link, row: OldRow) -> bool:
    statement = "SELECT version, file FROM Cache WHERE rowid = ?"
    found = reading.first(link.execute, statement, (row.ident,))
    return bool(found == (row.version, row.file))


def _rewrite(link: Link, row: OldRow, key: EncodedKey, payload: Payload | None) -> bool:
    is_there = _is_unchanged(link, row)
    if is_there and key != (row.key, row.raw) and not _make_room(link, row, key):
        forget(link, row.ident, row.file, row.size, row.key)
        is_there = False
    if not is_there:
        link.files.discard(payload[2] if payload is not None else None)
        return False
    place = _place(link, row.ident)
    if payload is None:
        link.execute(_REKEY, (*key, row.ident))
    else:
        mode, value, staged = payload
        file, size, checksum = _published(link, staged)
        link.execute(_REWRITE, (*key, mode, value, file, size, checksum, row.ident))
        if row.file is not None:
            drop_file(link, row.file, row.size, file)
        link.size += size
        link.written += footprint(key[0], value) + size
    if link.queues is not None:
        link.queues.changed(row.ident, *place, *_place(link, row.ident))
    link.touched(row.key)
    link.touched(key[0])
    return True


def _place(link: Link, rowid: int) -> Any:
    """Return the rank of a row and the bytes it counts for, where it is in a queue."""
    return (None, 0) if link.queues is None else link.execute(sql.PLACE, (rowid,)).get


def _published(link: Link, staged: Staged | None) -> tuple[str | None, int, int | None]:
    if staged is None:
        return None, 0, None
    publish(link, staged)
    return staged.name, staged.size, staged.checksum


def _make_room(link: Link, row: OldRow, key: EncodedKey) -> bool:
    """Remove an entry that has the key already; tell whether it was the older one."""
    statement = "SELECT rowid, store_time, file, size FROM Cache WHERE key = ? AND raw = ?"
    found = reading.first(link.execute, statement, key)
    if found is None:
        return True
    ident, store_time, file, size = found
    if type(store_time) is float and store_time >= row.store_time:
        return False
    forget(link, ident, file, size, key[0])
    return True


def _receive(
    link: Link, culler: Culler, row: OldRow, key: EncodedKey, payload: Payload | None
) -> bool:
    mode, value, staged = payload or (row.mode, row.value, None)
    if not _make_room(link, row, key):
        link.files.discard(staged)
        return False
    _insert(link, culler, row, key, (mode, value), _published(link, staged))
    return True


def _receive_file(link: Link, culler: Culler, row: OldRow, source: ValueFiles) -> bool:
    key: Any = (row.key, row.raw)
    if row.file is None or not is_safe(row.file) or not source.exists(row.file):
        return False
    if _make_room(link, row, key):
        link.note_files()
        link.published.append(row.file)
        link.files.adopt(row.file, source)
        _insert(link, culler, row, key, (row.mode, None), (row.file, row.size, row.checksum))
    return True


def _insert(
    link: Link,
    culler: Culler,
    row: OldRow,
    key: EncodedKey,
    value: tuple[int, DbValue],
    file: tuple[str | None, int, int | None],
) -> None:
    culler.load(link)
    name, size, checksum = file
    times = (row.store_time, row.expire_time, row.access_time, row.access_count, row.tag)
    weight = cost(key[0], value[1], size)
    if link.queues is not None:
        rank: float | None = link.queues.place(link, key, weight)
    else:
        entry = (key[0], value[1], size, row.expire_time, row.tag, row.access_count)
        rank = culler.rank_of_new(row.store_time, *entry)
    stored = (size, value[0], name, checksum, value[1], rank)
    link.execute(_INSERT, (*key, *times, *stored))
    if link.queues is not None:
        link.queues.changed(link.con.last_insert_rowid(), None, 0, rank, weight)
    link.rows += 1
    link.size += size
    link.touched(key[0])
    link.written += footprint(key[0], value[1]) + size
    if row.expire_time is not None:
        note_expiry(link, row.expire_time)


def _release(link: Link, row: OldRow) -> bool:
    if not _is_unchanged(link, row):
        return False
    forget(link, row.ident, row.file, row.size, row.key)
    return True


def _set_state(link: Link, name: str, value: DbValue) -> None:
    if value is None:
        link.execute("DELETE FROM Settings WHERE key = ? AND kind = 'state'", (name,))
    else:
        link.execute(sql.STORE, (name, value, "state"))
    link.has_changes = True
