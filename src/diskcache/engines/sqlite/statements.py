"""Every SQL statement of the engine, by name, with the index that answers it.

"point" is a search of Cache_key_raw for one row; "rowid" a search of the table itself.
"""

from __future__ import annotations

import re
from typing import Final

ROW: Final = "mode, value, file, size, checksum, expire_time, tag, version, rowid"
"""The columns of `diskcache.entry.Row`, in its order."""

ROW_WITHOUT_VALUE: Final = ROW.replace("value", "NULL", 1)

LIVE: Final = "(expire_time IS NULL OR expire_time > ?)"

END: Final = "expire_time + ((mode >> 8) & 4294967295)"
"""When an entry is of no use any more: its expiry, or the end of its grace."""
COST: Final = (
    "64 + size + CASE WHEN typeof(key) IN ('text','blob') THEN octet_length(key) ELSE 8 END"
    " + CASE WHEN typeof(value) IN ('text','blob') THEN octet_length(value) ELSE 8 END"
)
"""Bytes that an entry counts for: `s3fifo.cost` is the same in Python. No value is loaded."""

VERSION: Final = "((random() & 70368744177663) | 70368744177664)"
"""Another version with each write, of 47 bits, so that a row keeps its length. What was written
does not decide the next one, or the version of a write that is undone would come again: for
another value, which whoever had read it in the transaction would take for the one that is gone."""

# -- Reading: point --

GET: Final = f"SELECT {ROW} FROM Cache WHERE key = ? AND raw = ? AND {LIVE}"
CONTAINS: Final = f"SELECT 1 FROM Cache WHERE key = ? AND raw = ? AND {LIVE}"
STALE: Final = (
    f"SELECT {ROW} FROM Cache WHERE key = ? AND raw = ? AND mode >= 128 AND expire_time <= ?"
    f" AND {END} > ?"
)
FIND: Final = "SELECT rowid, expire_time, file, size FROM Cache WHERE key = ? AND raw = ?"
FIND_PLACE: Final = (
    f"SELECT rowid, expire_time, file, size, mode, rank, access_count, {COST} FROM Cache"
    " WHERE key = ? AND raw = ?"
)
PLACE: Final = f"SELECT rank, {COST} FROM Cache WHERE rowid = ?"
FIND_NUMBER: Final = (
    "SELECT rowid, expire_time, file, size, mode, value, access_count, tag FROM Cache"
    " WHERE key = ? AND raw = ?"
)
GRACE: Final = "SELECT mode & 1099511627648 FROM Cache WHERE key = ? AND raw = ?"
"""The bits of a mode that say whether, and for how long, an entry is kept beyond its expiry."""
FIND_VERSION: Final = f"SELECT version FROM Cache WHERE key = ? AND raw = ? AND {LIVE}"

# -- Writing: point, or rowid --

# One statement for a new and an old key. Version 5 found that slower than SELECT followed by
# UPDATE or INSERT; without triggers it is faster. An old row with a value file is left alone
# (no change is counted) because its file must be remembered: the caller then takes the long way.
UPSERT: Final = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, tag, mode, value,"
    f" rank, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, {VERSION})"
    " ON CONFLICT (key, raw) DO UPDATE SET store_time = excluded.store_time,"
    " expire_time = excluded.expire_time, access_time = excluded.access_time, access_count = 0,"
    " tag = excluded.tag, mode = excluded.mode, value = excluded.value, version = excluded.version,"
    " rank = excluded.rank WHERE file IS NULL"
)
# The same for the most common row: no expiry, no tag, no rank, no access time.
UPSERT_SIMPLE: Final = (
    "INSERT INTO Cache (key, raw, store_time, mode, value, version)"
    f" VALUES (?, ?, ?, ?, ?, {VERSION})"
    " ON CONFLICT (key, raw) DO UPDATE SET store_time = excluded.store_time,"
    " expire_time = NULL, access_time = NULL, access_count = 0, tag = NULL,"
    " mode = excluded.mode, value = excluded.value, version = excluded.version, rank = NULL"
    " WHERE file IS NULL"
)
# In a batch versions are numbered from a random one on, which saves drawing one for each row.
UPSERT_NUMBERED: Final = UPSERT.replace(VERSION, "?")
UPSERT_SIMPLE_NUMBERED: Final = UPSERT_SIMPLE.replace(VERSION, "?")
# Where the policy is s3-fifo, an entry that is stored again keeps its reads.
UPSERT_KEEPING: Final = UPSERT.replace(" access_count = 0,", "")
UPSERT_SIMPLE_KEEPING: Final = UPSERT_SIMPLE.replace(" access_count = 0,", "")
UPSERT_NUMBERED_KEEPING: Final = UPSERT_NUMBERED.replace(" access_count = 0,", "")
UPSERT_SIMPLE_NUMBERED_KEEPING: Final = UPSERT_SIMPLE_NUMBERED.replace(" access_count = 0,", "")
TOGETHER: Final = 20
"""Rows that one statement of a batch stores: half of its time is its beginning and its end."""
STORE_TOGETHER: Final = {
    one: re.sub(
        r"VALUES (\([?, ]+\))", lambda found: "VALUES " + ", ".join([found[1]] * TOGETHER), one
    )
    for one in (
        UPSERT_NUMBERED,
        UPSERT_SIMPLE_NUMBERED,
        UPSERT_NUMBERED_KEEPING,
        UPSERT_SIMPLE_NUMBERED_KEEPING,
    )
}
"""What stores so many rows, by what stores one of them."""
# The row of an entry under s3-fifo, if it is a new one: no change is counted if it is not.
INSERT_QUEUED: Final = (
    "INSERT OR IGNORE INTO Cache (key, raw, store_time, expire_time, tag, mode, value, rank,"
    f" version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, {VERSION})"
)
# And if it is not remembered.
INSERT_UNKNOWN: Final = (
    INSERT_QUEUED.partition("VALUES")[0] + f"SELECT ?, ?, ?, ?, ?, ?, ?, ?, {VERSION}"
    " WHERE NOT EXISTS (SELECT 1 FROM Ghost WHERE h = ?)"
)
# Entries of the library's own, which have neither rank nor file.
INSERT_OWN: Final = (
    "INSERT OR IGNORE INTO Cache (key, raw, store_time, expire_time, tag, mode, value, version)"
    f" VALUES (?, ?, ?, ?, ?, ?, ?, {VERSION})"
)
REPLACE_OWN: Final = (
    "UPDATE Cache SET store_time = ?, expire_time = ?, access_time = NULL, access_count = 0,"
    f" tag = ?, mode = ?, value = ?, version = {VERSION}"
    " WHERE rowid = ? AND version = ? AND file IS NULL AND rank IS NULL"
)
DELETE_OWN: Final = (
    "DELETE FROM Cache WHERE rowid = ? AND version = ? AND file IS NULL AND rank IS NULL"
)
INSERT: Final = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, tag, mode, value,"
    f" rank, file, size, checksum, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {VERSION})"
)
REPLACE: Final = (
    "UPDATE Cache SET store_time = ?, expire_time = ?, access_time = ?, access_count = ?,"
    f" tag = ?, mode = ?, value = ?, version = {VERSION}, rank = ?, file = ?, size = ?,"
    " checksum = ? WHERE rowid = ?"
)
# One in grace goes, too: what was deleted is not served.
DELETE: Final = (
    f"DELETE FROM Cache WHERE key = ? AND raw = ? AND ({LIVE} OR mode >= 128)"
    " RETURNING CAST(file AS BLOB), size,"
    f" CASE typeof(expire_time) WHEN 'real' THEN expire_time END, rowid, rank, {COST}"
)
DELETE_STALE: Final = (
    "DELETE FROM Cache WHERE key = ? AND raw = ? AND mode >= 128"
    f" RETURNING CAST(file AS BLOB), size, rowid, rank, {COST}"
)
HOLD_OFF: Final = (
    f"UPDATE Cache SET mode = (mode & 1099511627775) | ?, version = {VERSION}"
    " WHERE key = ? AND raw = ? AND version = ? AND mode >= 128"
)
DELETE_SIMPLE: Final = f"DELETE FROM Cache WHERE key = ? AND raw = ? AND {LIVE} AND file IS NULL"
DELETE_ROW: Final = "DELETE FROM Cache WHERE rowid = ?"
DELETE_QUEUED: Final = f"DELETE FROM Cache WHERE rowid = ? RETURNING rowid, rank, {COST}"
DISCARD: Final = (
    "DELETE FROM Cache WHERE key = ? AND raw = ? AND rowid = ? AND file = ?"
    f" RETURNING CAST(file AS BLOB), size, rowid, rank, {COST}"
)
TOUCH: Final = (
    f"UPDATE Cache SET expire_time = ?, version = {VERSION} WHERE key = ? AND raw = ? AND {LIVE}"
)
ADD: Final = (
    f"UPDATE Cache SET store_time = ?, value = ?, version = {VERSION},"
    " access_time = coalesce(?, access_time), access_count = access_count + ?,"
    " rank = CASE WHEN rank IS NULL THEN NULL ELSE coalesce(?, rank) END WHERE rowid = ?"
)

# The same for an integer or a float, without a policy that records reads.
ADD_SIMPLE: Final = (
    f"UPDATE Cache SET value = value + ?, store_time = ?, version = {VERSION}"
    " WHERE key = ? AND raw = ? AND mode = 1 AND rank IS NULL"
    " AND (typeof(value) = 'real' OR (typeof(value) = 'integer' AND value BETWEEN ? AND ?))"
    f" AND {LIVE} RETURNING value"
)

# -- Queues: a range of Cache_key_raw --

QUEUE_LAST: Final = (
    "SELECT key FROM Cache WHERE ? < key AND key < ? AND raw = 1 ORDER BY key DESC LIMIT 1"
)
QUEUE_FIRST: Final = (
    "SELECT key FROM Cache WHERE ? < key AND key < ? AND raw = 1 ORDER BY key ASC LIMIT 1"
)
PULL_LAST: Final = (
    f"SELECT key, raw, {ROW} FROM Cache WHERE ? < key AND key < ? AND raw = 1"
    " ORDER BY key DESC LIMIT 1"
)
PULL_FIRST: Final = (
    f"SELECT key, raw, {ROW} FROM Cache WHERE ? < key AND key < ? AND raw = 1"
    " ORDER BY key ASC LIMIT 1"
)
# But for those in grace: they have expired, and are kept.
_edge: Final = (
    f"SELECT key, raw, {ROW} FROM Cache"
    f" WHERE mode < 128 OR expire_time IS NULL OR expire_time >= ?1 OR {END} <= ?1"
)
EDGE_LAST: Final = f"{_edge} ORDER BY rowid DESC LIMIT 1"
EDGE_FIRST: Final = f"{_edge} ORDER BY rowid ASC LIMIT 1"

# -- Removal in batches --

# Cache_expire_time
EXPIRED: Final = (
    f"SELECT rowid, file, size, key, raw FROM Cache WHERE expire_time IS NOT NULL AND {END} < ?"
    f" ORDER BY {END} LIMIT ?"
)
FIRST_EXPIRY: Final = (
    f"SELECT {END} FROM Cache WHERE expire_time IS NOT NULL AND {END} <= 9e999"
    f" ORDER BY {END} LIMIT 1"
)
# Cache_tag where it exists, else the table in row order
TAGGED: Final = (
    "SELECT rowid, file, size, key, raw FROM Cache WHERE tag = ? AND rowid > ? AND (mode & 64) = 0"
    " ORDER BY rowid LIMIT ?"
)
UNTAGGED: Final = (
    "SELECT rowid, file, size, key, raw FROM Cache WHERE tag IS NULL AND rowid > ?"
    " AND (mode & 64) = 0 ORDER BY rowid LIMIT ?"
)
ALL: Final = "SELECT rowid, file, size, key, raw FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT ?"
# Cache_rank
VICTIMS: Final = (
    "SELECT rowid, file, size, key, raw, mode, rank, store_time FROM Cache"
    " WHERE rank IS NOT NULL AND rowid <> ? ORDER BY rank, rowid LIMIT ?"
)

# In row order, while the disk is full
OLDEST: Final = (
    "SELECT rowid, file, size, key, raw, mode FROM Cache WHERE mode < 64 ORDER BY rowid LIMIT ?"
)
RANKS: Final = (
    "SELECT rank FROM Cache WHERE rank IS NOT NULL AND rowid <> ? ORDER BY rank, rowid LIMIT ?"
)

# -- Eviction order --

RANK_BATCH: Final = "SELECT rowid FROM Cache WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?"
RANK_STORED: Final = (
    "UPDATE Cache SET rank = store_time WHERE rowid > ? AND rowid <= ? AND (mode & 64) = 0"
)
RANK_USED: Final = (
    "UPDATE Cache SET rank = max(store_time, coalesce(access_time, store_time))"
    " WHERE rowid > ? AND rowid <= ? AND (mode & 64) = 0"
)
RANK_ROWS: Final = (
    "SELECT rowid, key, store_time, access_time, access_count, expire_time, tag,"
    f" {COST} FROM Cache WHERE rowid > ? AND rowid <= ? AND (mode & 64) = 0 ORDER BY rowid"
)
RANK_ROW: Final = "UPDATE Cache SET rank = ? WHERE rowid = ?"
RANK_COUNT: Final = (
    "UPDATE Cache SET rank = access_count WHERE rowid > ? AND rowid <= ? AND (mode & 64) = 0"
)
READ_USED: Final = (
    "UPDATE Cache SET access_time = ?1, rank = CASE WHEN rank IS NULL THEN NULL ELSE ?1 END"
    " WHERE key = ?2 AND raw = ?3 AND coalesce(access_time, 0) <= ?1"
)
READ_COUNT: Final = (
    "UPDATE Cache SET access_count = access_count + ?1,"
    " rank = CASE WHEN rank IS NULL THEN NULL ELSE ?4 + access_count + ?1 END"
    " WHERE key = ?2 AND raw = ?3"
)
# Where the order is that of another policy, its ranks are not for us to give.
READ_TIME: Final = (
    "UPDATE Cache SET access_time = ?1"
    " WHERE key = ?2 AND raw = ?3 AND coalesce(access_time, 0) <= ?1"
)
READ_NUMBER: Final = "UPDATE Cache SET access_count = access_count + ?1 WHERE key = ?2 AND raw = ?3"
READ_OWN: Final = (
    "UPDATE Cache SET access_count = access_count + ?1, access_time = ?2"
    " WHERE key = ?3 AND raw = ?4"
    " RETURNING rowid, key, store_time, access_time, access_count, expire_time, tag,"
    f" {COST}, rank"
)
READ_HITS: Final = (
    "UPDATE Cache SET access_count = min(access_count + ?1, 3)"
    " WHERE key = ?2 AND raw = ?3 AND access_count < 3"
)
FORGET_RANKING: Final = "DELETE FROM Settings WHERE key LIKE 'rank\\_%' ESCAPE '\\'"

# -- Queues of s3-fifo: Cache_rank, Ghost and Ghost_n --

_queued: Final = (
    f"SELECT rank, rowid, file, size, key, raw, access_count, store_time, {COST} FROM Cache"
    " WHERE rank {0} AND (mode & 64) = 0"
    " ORDER BY rank, rowid LIMIT ?"
)
SMALL: Final = _queued.format("< 0")
MAIN: Final = _queued.format(">= 0 AND rank < 9e999")
LATER: Final = (
    f"SELECT count(*), CAST(total({COST}) AS INTEGER), max(rank) FROM Cache"
    " WHERE rank >= ? AND rank < 0 AND NOT (rowid > ? AND rowid <= ?)"
)
MOVE: Final = "UPDATE Cache SET rank = ?, access_count = ? WHERE rowid = ?"
MOVE_FROM: Final = f"{MOVE} AND rank = ? RETURNING {COST}"
IS_GHOST: Final = "SELECT 1 FROM Ghost WHERE h = ?"
RECALL: Final = "DELETE FROM Ghost WHERE h = ?"
REMEMBER: Final = "INSERT OR IGNORE INTO Ghost (h, n) VALUES (?, ?)"
FORGET_GHOSTS: Final = "DELETE FROM Ghost WHERE h IN (SELECT h FROM Ghost ORDER BY n LIMIT ?)"
FORGET_ALL_GHOSTS: Final = "DELETE FROM Ghost"
POLICY: Final = "SELECT value FROM Settings WHERE key = ? AND kind = 'policy'"
FORGET_POLICIES: Final = "DELETE FROM Settings WHERE kind = 'policy'"

# -- Totals --

# Cache_key_raw, the only index that has every row; asked for after a crash, or without totals.
COUNT: Final = "SELECT count(*) FROM Cache"
# Cache_file holds both columns, so only rows with files are visited.
# Unlike `sum`, `total` cannot overflow, whatever a stranger wrote.
FILE_BYTES: Final = "SELECT max(CAST(total(size) AS INTEGER), 0) FROM Cache WHERE file IS NOT NULL"
LAST_ROWID: Final = "SELECT max(rowid) FROM Cache"
BEFORE_BATCH: Final = f"SELECT (SELECT max(rowid) FROM Cache), {VERSION}"
"""The last row, and the version from which those of a batch are numbered."""
NAMES_FILE: Final = "SELECT 1 FROM Cache WHERE file = ?"

# Cache_file
FILES_AFTER: Final = "SELECT file, size, checksum FROM Cache WHERE file > ? ORDER BY file LIMIT ?"
FILE_COUNT: Final = "SELECT count(*) FROM Cache WHERE file IS NOT NULL"
FORGET_FILE: Final = "DELETE FROM Cache WHERE file = ?"

# -- Settings and state --

# However much a stranger wrote there, no more is read than this library writes.
_OF_OURS: Final = "length(key) < 200 AND (value IS NULL OR length(value) < 2000) LIMIT 1000"
SETTINGS: Final = f"SELECT key, value FROM Settings WHERE kind = ? AND {_OF_OURS}"
ALL_SETTINGS: Final = f"SELECT key, value, kind FROM Settings WHERE {_OF_OURS}"
STATE: Final = "SELECT value FROM Settings WHERE key = ? AND kind = 'state'"
RANKING: Final = (
    "SELECT key, value FROM Settings WHERE key > 'rank_' AND key < 'rank`' AND kind = ?"
    " AND (value IS NULL OR length(value) < 2000)"
)
STORE: Final = (
    "INSERT INTO Settings (key, value, kind) VALUES (?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, kind = excluded.kind"
)
FORGET_STATE: Final = "DELETE FROM Settings WHERE key = ? AND kind = 'state'"
RECOVERED: Final = (
    "INSERT INTO Settings (key, value, kind) VALUES ('recovered', 1, 'state')"
    " ON CONFLICT (key) DO UPDATE SET value = value + 1"
)
HAS_INDEX: Final = "SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ?"
SCHEMA: Final = "SELECT name, sql FROM sqlite_schema LIMIT 100"
SCHEMA_AS_BYTES: Final = (
    "SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM sqlite_schema"
    " WHERE name IS NOT NULL AND sql IS NOT NULL LIMIT 100"
)
