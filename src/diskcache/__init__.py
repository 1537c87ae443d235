"""A persistent cache that feels like a dict: on disk, shared by threads and processes.

Names are imported when they are first used, so that importing the package costs next to nothing
and a part that is not used never loads what only it needs.

Example:
    >>> from diskcache import Cache
    >>> with Cache() as cache:
    ...     cache['answer'] = 42
    ...     cache['answer']
    42
"""

from __future__ import annotations

import importlib
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from diskcache.aio import (
        AsyncBoundedSemaphore,
        AsyncCache,
        AsyncDeque,
        AsyncFanoutCache,
        AsyncIndex,
        AsyncLock,
        AsyncRemoteCache,
        AsyncRLock,
        AsyncSemaphore,
    )
    from diskcache.archive import Archive
    from diskcache.cache import Cache, CacheInfo
    from diskcache.cache.exporting import ExportReport
    from diskcache.cache.importing import ImportReport
    from diskcache.cache.remote import RemoteCache
    from diskcache.codecs.registration import register, unregister
    from diskcache.connecting import connect
    from diskcache.deque import Deque
    from diskcache.disk import Disk
    from diskcache.engines.base import Copied
    from diskcache.errors import (
        ArchiveError,
        CacheCorruptError,
        CacheCorruptionWarning,
        CacheFormatError,
        CacheFullError,
        CodecError,
        DirectoryError,
        DirectoryMissingError,
        DirectoryNotADirectoryError,
        DirectoryPermissionError,
        DiskCacheError,
        DiskCacheWarning,
        EmptyDirWarning,
        EngineError,
        GateError,
        InsecureDirectoryWarning,
        IntegerRangeError,
        KeyInUseError,
        LoaderError,
        LoaderTimeoutError,
        LockedError,
        LockReleaseError,
        MissingExtraError,
        NetworkFilesystemWarning,
        NewerFormatError,
        NotPlainError,
        OlderFormatError,
        PickleKeyError,
        PrivateNameError,
        QueueFullError,
        QueueKeyError,
        QueueSideError,
        RateLimitError,
        ReadOnlyError,
        RecursiveLoaderError,
        RegistrationError,
        ServerAccessError,
        ServerError,
        ServerKeyError,
        ServerPolicyError,
        ServerReadOnlyError,
        ServerTimeoutError,
        ServerUnavailableError,
        SettingError,
        StatementError,
        StringIterableWarning,
        TagTypeError,
        Timeout,
        TooLargeError,
        TransactionError,
        UnavailableError,
        UnavailableWarning,
        UnknownFileWarning,
        UnknownPolicyError,
        UnknownSettingWarning,
        UnsafePickleWarning,
        UnsafeSQLiteError,
        UnsupportedError,
        UntrustedPickleError,
        UntrustedPickleWarning,
    )
    from diskcache.events import Event
    from diskcache.fanout import FanoutCache, FanoutInfo
    from diskcache.index import Index
    from diskcache.integrations.django import DjangoCache
    from diskcache.jsondisk import JSONDisk
    from diskcache.policy import EVICTION_POLICY, Standing, register_policy, unregister_policy
    from diskcache.recipes import (
        Averager,
        BoundedSemaphore,
        Lock,
        RLock,
        Semaphore,
        barrier,
        memoize_stampede,
        throttle,
    )
    from diskcache.sentinels import ENOVAL, UNKNOWN
    from diskcache.serializers import json_serializer
    from diskcache.settings import DEFAULT_SETTINGS

__title__ = "diskcache"
__version__ = "6.0.0"
__build__ = 0x060000
__author__ = "DiskCache contributors"
__license__ = "Apache-2.0"
__copyright__ = "Copyright DiskCache contributors"

__all__ = [  # noqa: RUF022 - grouped by module, as they are found
    # aio
    "AsyncBoundedSemaphore",
    "AsyncCache",
    "AsyncDeque",
    "AsyncFanoutCache",
    "AsyncIndex",
    "AsyncLock",
    "AsyncRLock",
    "AsyncRemoteCache",
    "AsyncSemaphore",
    # archive
    "Archive",
    # cache
    "Cache",
    "CacheInfo",
    "Copied",
    "ExportReport",
    "ImportReport",
    "RemoteCache",
    # codecs
    "register",
    "unregister",
    # connecting
    "connect",
    # deque
    "Deque",
    # disk
    "Disk",
    # errors
    "ArchiveError",
    "CacheCorruptError",
    "CacheCorruptionWarning",
    "CacheFormatError",
    "CacheFullError",
    "CodecError",
    "DirectoryError",
    "DirectoryMissingError",
    "DirectoryNotADirectoryError",
    "DirectoryPermissionError",
    "DiskCacheError",
    "DiskCacheWarning",
    "EmptyDirWarning",
    "EngineError",
    "GateError",
    "InsecureDirectoryWarning",
    "IntegerRangeError",
    "KeyInUseError",
    "LoaderError",
    "LoaderTimeoutError",
    "LockReleaseError",
    "LockedError",
    "MissingExtraError",
    "NetworkFilesystemWarning",
    "NewerFormatError",
    "NotPlainError",
    "OlderFormatError",
    "PickleKeyError",
    "PrivateNameError",
    "QueueFullError",
    "QueueKeyError",
    "QueueSideError",
    "RateLimitError",
    "ReadOnlyError",
    "RecursiveLoaderError",
    "RegistrationError",
    "ServerAccessError",
    "ServerError",
    "ServerKeyError",
    "ServerPolicyError",
    "ServerReadOnlyError",
    "ServerTimeoutError",
    "ServerUnavailableError",
    "SettingError",
    "StatementError",
    "StringIterableWarning",
    "TagTypeError",
    "Timeout",
    "TooLargeError",
    "TransactionError",
    "UnavailableError",
    "UnavailableWarning",
    "UnknownFileWarning",
    "UnknownPolicyError",
    "UnknownSettingWarning",
    "UnsafePickleWarning",
    "UnsafeSQLiteError",
    "UnsupportedError",
    "UntrustedPickleError",
    "UntrustedPickleWarning",
    # events
    "Event",
    # fanout
    "FanoutCache",
    "FanoutInfo",
    # index
    "Index",
    # jsondisk
    "JSONDisk",
    # policy
    "EVICTION_POLICY",
    "Standing",
    "register_policy",
    "unregister_policy",
    # recipes
    "Averager",
    "BoundedSemaphore",
    "Lock",
    "RLock",
    "Semaphore",
    "barrier",
    "memoize_stampede",
    "throttle",
    # sentinels
    "ENOVAL",
    "UNKNOWN",
    # serializers
    "json_serializer",
    # settings
    "DEFAULT_SETTINGS",
]

# As in version 5, the name is not offered where Django is not installed.
if PathFinder.find_spec("django") is not None:
    __all__ += ["DjangoCache"]

_HOME: Final = {
    "AsyncBoundedSemaphore": "aio",
    "AsyncCache": "aio",
    "AsyncDeque": "aio",
    "AsyncFanoutCache": "aio",
    "AsyncIndex": "aio",
    "AsyncLock": "aio",
    "AsyncRLock": "aio",
    "AsyncRemoteCache": "aio",
    "AsyncSemaphore": "aio",
    "Cache": "cache",
    "CacheInfo": "cache",
    "Archive": "archive",
    "Copied": "engines.base",
    "Event": "events",
    "ExportReport": "cache.exporting",
    "ImportReport": "cache.importing",
    "RemoteCache": "cache.remote",
    "connect": "connecting",
    "register": "codecs.registration",
    "unregister": "codecs.registration",
    "Deque": "deque",
    "DjangoCache": "integrations.django",
    "Index": "index",
    "Disk": "disk",
    "FanoutCache": "fanout",
    "FanoutInfo": "fanout",
    "JSONDisk": "jsondisk",
    "EVICTION_POLICY": "policy",
    "Standing": "policy",
    "register_policy": "policy",
    "unregister_policy": "policy",
    "Averager": "recipes",
    "BoundedSemaphore": "recipes",
    "Lock": "recipes",
    "RLock": "recipes",
    "Semaphore": "recipes",
    "barrier": "recipes",
    "memoize_stampede": "recipes",
    "throttle": "recipes",
    "ENOVAL": "sentinels",
    "UNKNOWN": "sentinels",
    "json_serializer": "serializers",
    "DEFAULT_SETTINGS": "settings",
}
"""Modules of the public names that are not errors or warnings."""


_MODULES: Final = frozenset({"core", "djangocache", "fanout", "persistent", "recipes"})
"""Modules that `import diskcache` brought in version 5: programs say `diskcache.core.ENOVAL`."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ImportError as exc:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {exc}") from exc
    if name not in __all__ and name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_HOME.get(name, 'errors')}")
    except ImportError as exc:
        if name in __all__:
            raise
        # What `hasattr` takes for an answer.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {exc}") from exc
    value = getattr(module, name)
    # The next access finds it as an ordinary global and does not come here.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
