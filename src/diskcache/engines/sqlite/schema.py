"""The database of a cache directory: format 6.

A cache directory holds

    cache.db, cache.db-wal, cache.db-shm    the database; opened by SQLite only
    control                                 totals and generations (see control.py)
    gate.lock                               locked by the process that writes
    users.lock                              locked, shared, by every process that has it open
    ab/cd/<28 hex digits>.val               value files (see diskcache/files.py)
    tmp/                                    files being written

The database has `application_id` 0x44634136 ("DcA6"), `user_version` 6, UTF-8 text and pages of
`PAGE_SIZE` bytes. Its schema is exactly one of the enumerated ones: the constant statements below
and any subset of the optional indexes. Anything else is not a cache and is refused before another
statement runs, so no view, trigger, generated column or virtual table of a stranger is ever used.
A policy that is written as SQL templates may add indexes on columns of the table: `is_own_index`
says of which form, and nothing in such a text is ever computed.

Table Settings, one row per name:

    key     name
    value   native value
    kind    'setting' (section 2.1 of the settings, believed only if in range), 'state' (kept by
            the engine: cache_id, the marks disk and shards, the ranking of entries, what is
            left of version 5),
            'statistics' (hits and misses, where there is no control file), or 'policy' (s3-fifo's
            state row)

Three columns, where version 5 has two: a version-5 process that opens the directory fails at its
first statement and changes nothing.

A database that version 5 made and this version took over (see upgrade.py) differs in the statements
of `UPGRADED`: columns that were added later come last, and pages keep their size.

Table Cache, one row per entry:

    rowid         insertion order; an entry that is overwritten keeps it
    key, raw      native key and 1, or the codec's bytes and 0; unique together
    store_time    when the entry was last stored, seconds since the epoch
    expire_time   when it expires; NULL is never
    access_time   when it was last read, as far as the eviction policy records reads
    access_count  how often it was read since it was stored, as far as the policy records reads;
                  s3-fifo's hits, 0 to 3
    tag           NULL, or the tag
    size          length of the value file in bytes, 0 without one
    mode          how the value is encoded: low four bits 1 native, 2 bytes in a file, 3 UTF-8 text
                  in a file, 4 pickle (see codecs/signing.py; a bare one of version 5 is read as
                  data only, see codecs/legacy.py), 5 plain data (see codecs/plain.py),
                  6 JSON text, 7 bytes and 8 text of a user's serializer, 9 any of these under a
                  signature (see codecs/sealing.py); bits 4 and 5 how it is compressed: 0 not,
                  1 zlib, 2 zstd; bit 6 is set for a lock or guard of the library's own, which is
                  never evicted or culled; bit 7 for an entry that is kept after its expiry, to be
                  served stale: bits 8 to 39 are the seconds, and bits 40 to 61 the seconds after
                  the expiry before which nobody computes the value anew. These are all set where
                  the value stands for an exception: name of its class, arguments or None, text
    file          relative name of the value file, NULL if the value is in the row. Version 5
                  calls it `filename`: its statements name a column that is not here, so a
                  version-5 process that still has the directory open fails instead of writing
    checksum      CRC-32 of the value file; NULL if a user's Disk wrote it, or version 5
    value         the value, or its bytes, or NULL with a file
    version       another random number, of 47 bits, with each write: compare-and-set compares it;
                  0 at first in entries of version 5
    rank          position in the eviction order, smallest first; NULL while entries need no order
                  because the cache is far from its limit

Table Ghost, the memory of the policy s3-fifo: `h` a 64-bit hash of the key of an entry that was
culled, `n` its number in the order of culling.
"""

from __future__ import annotations

import math
import re
from typing import Final

APPLICATION_ID: Final = 0x44634136
FORMAT: Final = 6
LAST_FORMAT: Final = 999
"""No version of this library will have a format beyond: such a number is damage."""
FEW: Final = 4
"""Characters that damage may change in a schema that was ours."""
PAGE_SIZE: Final = 2048
"""Measured best for small and middling values; see docs/decisions.md."""

TABLES: Final = {
    "Settings": (
        "CREATE TABLE Settings (key TEXT NOT NULL PRIMARY KEY, value, kind TEXT NOT NULL)"
        " WITHOUT ROWID"
    ),
    "Cache": (
        "CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER,"
        " store_time REAL, expire_time REAL, access_time REAL, access_count INTEGER DEFAULT 0,"
        " tag BLOB, size INTEGER DEFAULT 0, mode INTEGER DEFAULT 0, file TEXT, checksum INTEGER,"
        " value BLOB, version INTEGER, rank REAL)"
    ),
    "Ghost": "CREATE TABLE Ghost (h INTEGER PRIMARY KEY, n INTEGER)",
    "Cache_key_raw": "CREATE UNIQUE INDEX Cache_key_raw ON Cache (key, raw)",
    "Cache_expire_time": (
        "CREATE INDEX Cache_expire_time ON Cache (expire_time + ((mode >> 8) & 4294967295))"
        " WHERE expire_time IS NOT NULL"
    ),
    "Cache_file": "CREATE INDEX Cache_file ON Cache (file, size) WHERE file IS NOT NULL",
    "Cache_rank": "CREATE INDEX Cache_rank ON Cache (rank) WHERE rank IS NOT NULL",
}
"""What every database of format 6 has, by name, in the order of creation."""

OPTIONAL: Final = {
    "Cache_tag": "CREATE INDEX Cache_tag ON Cache (tag) WHERE tag IS NOT NULL",
    "Ghost_n": "CREATE INDEX Ghost_n ON Ghost (n)",
}
"""What a database may have besides, by name."""

COLUMNS: Final = (
    "key",
    "store_time",
    "expire_time",
    "access_time",
    "access_count",
    "tag",
    "size",
)
"""Columns that an index of a policy may be on."""

MOST_OWN: Final = 8
"""Indexes of policies that a database may have."""

_COLUMN: Final = rf"(?:{'|'.join(COLUMNS)})"
_ORDERED: Final = rf"{_COLUMN}(?: ASC| DESC)?"
_OWN_INDEX: Final = re.compile(
    rf"CREATE INDEX (?P<name>[a-z_]\w{{0,63}}) ON Cache \({_ORDERED}(?:, {_ORDERED}){{0,7}}\)"
    rf"(?: WHERE {_COLUMN} IS NOT NULL)?",
    re.ASCII | re.IGNORECASE,
)

UPGRADED: Final = {
    "Cache": (
        "CREATE TABLE Cache ( rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL,"
        " expire_time REAL, access_time REAL, access_count INTEGER DEFAULT 0, tag BLOB,"
        " size INTEGER DEFAULT 0, mode INTEGER DEFAULT 0, file TEXT, value BLOB,"
        " checksum INTEGER, version INTEGER DEFAULT 0, rank REAL)"
    ),
    "Cache_key_raw": "CREATE UNIQUE INDEX Cache_key_raw ON Cache(key, raw)",
}
"""What a database that version 5 made has instead of the statements of the same names."""

VERSION_5_TABLES: Final = {
    "Settings": "CREATE TABLE Settings ( key TEXT NOT NULL UNIQUE, value)",
    "Cache": (
        "CREATE TABLE Cache ( rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL,"
        " expire_time REAL, access_time REAL, access_count INTEGER DEFAULT 0, tag BLOB,"
        " size INTEGER DEFAULT 0, mode INTEGER DEFAULT 0, filename TEXT, value BLOB)"
    ),
    "Cache_key_raw": UPGRADED["Cache_key_raw"],
}
"""What every database of version 5 has; the same since version 4.1."""

VERSION_5_OPTIONAL: Final = {
    "Cache_expire_time": (
        "CREATE INDEX Cache_expire_time ON Cache (expire_time)",
        "CREATE INDEX Cache_expire_time ON Cache (expire_time) WHERE expire_time IS NOT NULL",
    ),
    "Cache_store_time": ("CREATE INDEX Cache_store_time ON Cache (store_time)",),
    "Cache_access_time": ("CREATE INDEX Cache_access_time ON Cache (access_time)",),
    "Cache_access_count": ("CREATE INDEX Cache_access_count ON Cache (access_count)",),
    "Cache_tag_rowid": (
        "CREATE INDEX Cache_tag_rowid ON Cache(tag, rowid)",
        "CREATE INDEX Cache_tag_rowid ON Cache(tag, rowid) WHERE tag IS NOT NULL",
    ),
}
"""Indexes that a database of version 5 may have, by name, each with its known texts."""

_COUNTING: Final = "CREATE TRIGGER Settings_{0}_{1} AFTER {2} ON Cache FOR EACH ROW BEGIN UPDATE"
_COUNTED: Final = ' Settings SET value = value {3} WHERE key = "{0}"; END'
VERSION_5_TRIGGERS: Final = {
    f"Settings_{name}_{event.lower()}": (_COUNTING + _COUNTED).format(
        name, event.lower(), event, change
    )
    for name, event, change in (
        ("count", "INSERT", "+ 1"),
        ("count", "DELETE", "- 1"),
        ("size", "INSERT", "+ NEW.size"),
        ("size", "UPDATE", "+ NEW.size - OLD.size"),
        ("size", "DELETE", "- OLD.size"),
    )
}
"""Triggers of version 5. None ever runs here: connections have triggers switched off."""


def is_known(schema: dict[str, str | None]) -> bool:
    """Tell whether *schema*, SQL by name, is an enumerated one, with indexes of policies or not."""
    if schema == TABLES:
        return True
    is_upgraded = schema.get("Cache") == UPGRADED["Cache"]
    required = {**TABLES, **UPGRADED} if is_upgraded else TABLES
    if not all(schema.get(name) == sql for name, sql in required.items()):
        return False
    others = [
        (name, sql) for name, sql in schema.items() if OPTIONAL.get(name, required.get(name)) != sql
    ]
    return len(others) <= MOST_OWN and all(is_own_index(*each) for each in others)


def is_own_index(name: str, text: str | None) -> bool:
    """Tell whether a text makes an index of a policy: on columns, under no name of this library."""
    found = _OWN_INDEX.fullmatch(text or "")
    lower = name.lower()
    is_taken = lower.startswith("sqlite_") or any(
        lower == ours.lower() for ours in (*TABLES, *OPTIONAL)
    )
    return found is not None and found["name"] == name and not is_taken


def is_bent(schema: dict[str, str]) -> bool:
    """Tell whether *schema*, SQL by name, is one of the enumerated ones but for a few characters.

    Whoever changes a schema on purpose writes a text of another length, and it is refused.
    """
    known = [*TABLES.values(), *UPGRADED.values(), *OPTIONAL.values()]
    if not len(TABLES) <= len(schema) <= len(TABLES) + len(OPTIONAL):
        return False
    return sum(min(_distance(text, other) for other in known) for text in schema.values()) <= FEW


def _distance(text: str, other: str) -> float:
    """Return in how many characters two texts of one length differ."""
    if len(text) != len(other):
        return math.inf
    return sum(a != b for a, b in zip(text, other, strict=True))


def is_version_5(schema: dict[str, str | None]) -> bool:
    """Tell whether *schema*, SQL by name, is one that version 5 makes, policies included."""
    known: dict[str, tuple[str, ...]] = {
        name: (sql,) for name, sql in (VERSION_5_TABLES | VERSION_5_TRIGGERS).items()
    }
    known.update(VERSION_5_OPTIONAL)
    return all(name in schema for name in (*VERSION_5_TABLES, *VERSION_5_TRIGGERS)) and all(
        sql in known.get(name, ()) or is_own_index(name, sql) for name, sql in schema.items()
    )
