"""The module of version 5 in which `Cache`, `Disk` and what belongs to them were found."""

from __future__ import annotations

from typing import Final

from diskcache import settings
from diskcache.cache import Cache
from diskcache.codecs.base import MODE_BINARY, MODE_NONE, MODE_PICKLE, MODE_RAW, MODE_TEXT
from diskcache.disk import Disk
from diskcache.errors import EmptyDirWarning, Timeout, UnknownFileWarning
from diskcache.jsondisk import JSONDisk
from diskcache.keys import args_to_key, full_name
from diskcache.policy import EVICTION_POLICY
from diskcache.sentinels import ENOVAL, UNKNOWN, Constant
from diskcache.settings import DEFAULT_SETTINGS

__all__ = [
    "DBNAME",
    "DEFAULT_SETTINGS",
    "ENOVAL",
    "EVICTION_POLICY",
    "METADATA",
    "MODE_BINARY",
    "MODE_NONE",
    "MODE_PICKLE",
    "MODE_RAW",
    "MODE_TEXT",
    "UNKNOWN",
    "Cache",
    "Constant",
    "Disk",
    "EmptyDirWarning",
    "JSONDisk",
    "Timeout",
    "UnknownFileWarning",
    "args_to_key",
    "full_name",
]

DBNAME: Final = "cache.db"
"""Name of the database in a cache directory."""

METADATA: Final = dict.fromkeys(settings.METADATA, 0)
"""Names that look like settings but are measured."""
