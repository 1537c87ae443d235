"""What all methods of `Cache` stand on: settings, and where codec and engine meet."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, cast, overload

from diskcache import settings as rules
from diskcache.cache.arguments import (
    believed_policy,
    checked_memory_limit,
    checked_setting,
    checked_timeout,
    decoding,
    expanded,
    insecurities,
    named,
    packer_for,
    serializer_for,
    unusual,
)
from diskcache.cache.watching import Watching
from diskcache.clock import SYSTEM_CLOCK, Clock
from diskcache.codecs.base import MODE_DATA, MODE_RAW
from diskcache.codecs.compression import DEFAULT_MINIMUM, Method, Packer
from diskcache.codecs.plain import loads
from diskcache.codecs.signing import Keyring, Signer
from diskcache.codecs.values import (
    ALTERED_ERROR,
    UNSAFE_WARNING,
    UNSIGNED_WARNING,
    UNTRUSTED_WARNING,
    ValueCodec,
)
from diskcache.disk import Disk, as_native, writer_name
from diskcache.engines.base import Engine
from diskcache.engines.sqlite import open_engine
from diskcache.entry import EncodedKey, Payload, Row
from diskcache.errors import (
    CodecError,
    DiskCacheError,
    InsecureDirectoryWarning,
    NetworkFilesystemWarning,
    SettingError,
    UnavailableError,
    UnavailableWarning,
    UnknownSettingWarning,
    UnsafePickleWarning,
    UntrustedPickleError,
    UntrustedPickleWarning,
)
from diskcache.files import ValueFiles, is_lost
from diskcache.host import network_filesystem
from diskcache.memory.tier import MEMORY_LIMIT, Tier, tier_of
from diskcache.policy import find_policy
from diskcache.sentinels import ENOVAL, UNKNOWN
from diskcache.serializers import is_foreign, make_codec, name_of

T = TypeVar("T")
log: Final = logging.getLogger("diskcache")

_SIZED: Final = frozenset({str, bytes})

PATIENCE: Final = 60.0
"""Seconds that settings wait for the write lock, whatever `timeout` is."""

REPORT_EVERY: Final = 60.0
"""Seconds between two log messages about altered entries."""

FAR: Final = (
    "cache {directory!r} is on a network file system ({kind}), where locks and shared memory cannot"
    " be trusted: nothing is kept in memory, and there is no write-ahead log; use it from one"
    " machine at a time, or move it to a local disk"
)
"""What is wrong with a directory that other machines may see too."""
UNKNOWN_WRITER: Final = "?"
"""Mark of a cache that was saved from a damaged database, without the mark that it had."""

LOOKS: Final = 1000
"""How often an entry is looked up again because its value file vanished under the reader.

Each time a writer has replaced it: ten in a row do happen where readers outnumber processors.
"""


class Setting(Generic[T]):
    """A setting as an attribute of a cache; assigning changes this object only."""

    def __init__(self, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, cache: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, cache: Foundation, owner: type) -> T: ...
    def __get__(self, cache: Foundation | None, owner: type) -> Setting[T] | T:
        """Return the value that this object works with."""
        if cache is None:
            return self
        return cast("T", cache._settings[self._name])  # noqa: SLF001 - a part of that class

    def __set__(self, cache: Foundation, value: T) -> None:
        """Work with *value* from now on."""
        cache._apply(self._name, checked_setting(self._name, value))  # noqa: SLF001


class Measured:
    """A total as an attribute of a cache: what it was when somebody last asked."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, cache: Foundation | None, owner: type) -> Any:
        """Return the total as it was last read; read it the first time."""
        if cache is None:
            return self
        if self._name not in cache._measured:  # noqa: SLF001 - a part of that class
            cache._refresh_metadata()  # noqa: SLF001
        return cache._measured[self._name]  # noqa: SLF001

    def __set__(self, cache: Foundation, value: int) -> None:
        """Remember what was read."""
        cache._measured[self._name] = value  # noqa: SLF001


class Foundation(Watching):
    """Construction, settings and the meeting of codec and engine; see `Cache`."""

    _counts = False
    """Whether every read has to be counted, or told."""
    _report_at = float("-inf")
    """When an altered entry is logged again; those before are counted."""
    _unreported = 0
    _choose_noter: Callable[[], None]
    _real_directory: str
    """Path of the directory when it was opened, without symbolic links."""

    size_limit = Setting[float]("size_limit")
    count_limit = Setting[int]("count_limit")
    value_limit = Setting[int]("value_limit")
    cull_limit = Setting[int]("cull_limit")
    eviction_policy = Setting[str]("eviction_policy")
    size_weight = Setting[float]("size_weight")
    statistics = Setting[int]("statistics")
    tag_index = Setting[int]("tag_index")
    disk_min_file_size = Setting[int]("disk_min_file_size")
    disk_pickle_protocol = Setting[int]("disk_pickle_protocol")
    sqlite_auto_vacuum = Setting[int]("sqlite_auto_vacuum")
    sqlite_cache_size = Setting[int]("sqlite_cache_size")
    sqlite_journal_mode = Setting[str]("sqlite_journal_mode")
    sqlite_mmap_size = Setting[int]("sqlite_mmap_size")
    sqlite_synchronous = Setting[int]("sqlite_synchronous")

    count = Measured("count")
    """Number of entries when it was last read; prefer `len(cache)`."""
    size = Measured("size")
    """Bytes of value files when they were last read; prefer `volume()`."""
    hits = Measured("hits")
    """Reads that found an entry, when last read; prefer `stats()`."""
    misses = Measured("misses")
    """Reads that found none, when last read; prefer `stats()`."""

    def __init__(
        self,
        directory: str | bytes | os.PathLike[str] | None = None,
        timeout: float = 60,
        disk: type[Disk] = Disk,
        *,
        pickle: str = "signed",
        secret: bytes | Sequence[bytes] | None = None,
        readonly: bool = False,
        strict: bool = False,
        mode: int = 0o700,
        clock: Clock = SYSTEM_CLOCK,
        serializer: Any = None,
        memory_limit: int = MEMORY_LIMIT,
        compress: Method | None = None,
        compress_min: int = DEFAULT_MINIMUM,
        compress_level: int | None = None,
        trust_legacy_pickles: bool = False,
        authenticate: str = "pickles",
        **settings: Any,
    ) -> None:
        if restored := vars(self).pop("_restored", None):
            # A copy is opened as the original was, whatever a subclass passes on.
            keywords = {"clock": clock, "serializer": serializer, **settings, **restored}
            Foundation.__init__(
                self, directory, timeout, disk, secret=secret, mode=mode, **keywords
            )
            return
        self._memory_limit = checked_memory_limit(memory_limit)
        self._serializer = serializer_for(disk, serializer, authenticate)
        packer = packer_for(disk, compress, compress_min, compress_level)
        self._directory = expanded(directory)
        self._timeout = checked_timeout(timeout)
        self._options: dict[str, Any] = {"pickle": pickle, "readonly": readonly, "strict": strict}
        self._options |= unusual(
            clock=(clock, SYSTEM_CLOCK),
            serializer=(self._serializer, None),
            memory_limit=(memory_limit, MEMORY_LIMIT),
            compress=(compress, None),
            compress_min=(compress_min, DEFAULT_MINIMUM),
            compress_level=(compress_level, None),
            authenticate=(authenticate, "pickles"),
        )
        self._strict = strict
        self._clock = clock
        self._now = clock.time
        self._untrusted = self._corrupt = self._unavailable = 0
        self._has_warned: set[type[Warning]] = set()
        self._measured: dict[str, int] = {}
        given, self._disk_options, pragmas = self._split(settings)
        # Another object on this directory, by pickling or copying, needs these again.
        self._options.update({f"disk_{name}": value for name, value in self._disk_options.items()})
        self._options.update({f"sqlite_{name}": value for name, value in pragmas.items()})
        self._settings: dict[str, Any] = {**rules.DEFAULT_SETTINGS, **given}
        find_policy(self._settings["eviction_policy"])
        self._engine, files = self._open_engine(disk, mode, readonly, pragmas)
        self._check_writer(disk, self._settle(given))
        self._attach_disk(disk, self._make_codec(pickle, secret, packer), files)
        self._attach_memory(disk, self._disk_options, secret)
        self._finish(trust_legacy_pickles and not readonly)

    # -- Construction --

    def _split(self, settings: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Sort keywords into settings, arguments of the disk, and pragmas."""
        given: dict[str, Any] = {}
        disk_options: dict[str, Any] = {}
        pragmas: dict[str, Any] = {}
        for name, value in settings.items():
            if name in rules.METADATA:
                continue
            if name in rules.SPECS:
                given[name] = rules.checked(name, value)
            elif name.startswith("disk_"):
                disk_options[name[5:]] = value
                vars(self)[name] = value
            elif name.startswith("sqlite_"):
                pragmas[name[7:]] = value
                vars(self)[name] = value
            else:
                self._add_unknown(name, value)
        return given, disk_options, pragmas

    def _add_unknown(self, name: str, value: Any) -> None:
        if name.startswith("_") or hasattr(type(self), name):
            raise SettingError(
                f"keyword {name} is the name of a part of the cache, not of a setting: settings"
                f" are {', '.join(sorted(rules.SPECS))}"
            )
        # Upper-case names are options of Django that every backend is given.
        if not name.isupper():
            self._warn(
                f"{name} is not a setting: it becomes an attribute and has no other effect;"
                f" settings are {', '.join(sorted(rules.SPECS))}",
                UnknownSettingWarning,
            )
        vars(self)[name] = value

    def _open_engine(
        self, disk: type[Disk], mode: int, readonly: bool, pragmas: dict[str, Any]
    ) -> tuple[Engine, ValueFiles]:
        found = insecurities(self._directory, self._options["pickle"])
        if found:
            message = " ".join(found)
            if self._strict:
                raise SettingError(message)
            self._warn(message, InsecureDirectoryWarning)
        directory = self._real_directory = os.path.realpath(self._directory)
        if far := network_filesystem(directory):
            message = FAR.format(directory=self._directory, kind=far)
            if self._strict:
                raise SettingError(message)
            self._warn(message, NetworkFilesystemWarning)
        return open_engine(
            directory,
            self._settings,
            self._clock,
            mode=mode,
            readonly=readonly,
            pragmas=pragmas,
            upgrade=lambda: self._upgrade(self._new_disk(disk)),
            strict=self._strict,
        )

    def _new_disk(self, disk: type[Disk]) -> Disk:
        size, protocol = map(self._settings.get, ("disk_min_file_size", "disk_pickle_protocol"))
        options = {"min_file_size": size, "pickle_protocol": protocol, **self._disk_options}
        return disk(self._directory, **options)

    def _upgrade(self, disk: Disk) -> None:
        """Make a directory of version 5 one of this version."""
        from diskcache.cache.upgrading import upgrade_cache

        upgrade_cache(disk, self._directory, self._clock, self._settings)

    def _finish(self, trust: bool) -> None:
        """Store what version 5 pickled as this version does; bypass the cache if told to."""
        if trust:
            from diskcache.cache.migration import migrate_if_needed

            migrate_if_needed(self)
        self._obey_environment()

    def _warn(self, message: str, category: type[Warning]) -> None:
        """Warn whoever is constructing the cache."""
        warnings.warn(message, category, stacklevel=5)

    def _settle(self, given: dict[str, Any]) -> Mapping[str, Any] | None:
        """Work out settings (defaults, then stored, then given) and store what is new.

        Returns:
            What the cache is marked with, if that was looked up in passing.
        """
        stored, has_tag_index, marks = self._engine.opened_with()
        used, ignored = rules.believed(stored)
        if ignored:
            log.warning(
                "cache %r: ignored stored settings %s: unknown, or out of range",
                self._directory,
                ", ".join(sorted(map(repr, ignored))),
            )
        before = dict(self._settings)
        self._settings.update({**used, **given})
        connected = {**before, **used}
        if any(connected[name] != self._settings[name] for name in given if name in connected):
            self._engine.configure()
        if used.get("eviction_policy") is not None and "eviction_policy" not in given:
            known = believed_policy(used["eviction_policy"], self._directory)
            self._settings["eviction_policy"] = known
        is_lasting = not self._options["readonly"]
        self._engine.prepare_policy(self._settings["eviction_policy"], PATIENCE, lasting=is_lasting)
        self._engine.settings_changed()
        if not is_lasting:
            return marks
        # A new cache stores all settings, so that a later change of the defaults leaves it alone.
        wanted = given if stored else {n: self._settings[n] for n in rules.SPECS}
        changed = {
            name: int(value) if isinstance(value, bool) else value
            for name, value in wanted.items()
            if name not in stored or stored[name] != value
        }
        if changed:
            self._engine.store_settings(changed, PATIENCE)
        if bool(self._settings["tag_index"]) != has_tag_index:
            self._engine.index_tags(bool(self._settings["tag_index"]), PATIENCE)
        return marks

    def _check_writer(self, disk: type[Disk], marks: Mapping[str, Any] | None) -> None:
        """Mark a cache without entries as written by this disk or serializer.

        Raises:
            SettingError: There are entries, and another one wrote them.
        """
        name = name_of(self._serializer) or writer_name(disk)
        found = (self._engine.mark("disk") if marks is None else marks.get("disk")) or ""
        if found == UNKNOWN_WRITER and not self._options["readonly"]:
            self._engine.note("disk", name or None, PATIENCE)
            found = name
        if found != name and not (self._options["readonly"] or self._engine.count()):
            found = self._engine.claim("disk", name, PATIENCE, if_empty=True) or ""
        if found != name and self._engine.count():
            raise SettingError(
                f"cache {self._directory!r} was written with {named(found)}: got {named(name)};"
                " pass the same one, or choose another directory"
            )

    def _make_codec(
        self, pickle: str, secret: bytes | Sequence[bytes] | None, packer: Packer | None
    ) -> ValueCodec:
        return make_codec(
            self._serializer,
            pickle=pickle,
            signer=Signer(Keyring(secret, directory=self._directory), self._engine.cache_id),
            protocol=self._settings["disk_pickle_protocol"],
            label=self._directory,
            packer=packer,
            authenticate=self._options.get("authenticate", "pickles"),
        )

    def _attach_disk(
        self,
        disk: type[Disk],
        codec: ValueCodec,
        files: ValueFiles,
    ) -> None:
        if codec.pickle_mode == "unsafe":
            message = UNSAFE_WARNING.format(label=self._directory)
            self._warn(message, UnsafePickleWarning)
        self._codec, self._files = codec, files
        self._encode: Callable[[Any, EncodedKey], tuple[int, Any]] = codec.encoder
        self._is_direct = codec.encoder == codec.encode and type(codec) is ValueCodec
        self._disk = self._new_disk(disk)
        self._disk.attach(codec, files)
        self._has_own_keys = disk.put is not Disk.put or disk.get is not Disk.get
        self._encode_key: Callable[[Any], EncodedKey] = (
            self._encode_key_by_disk if self._has_own_keys else cast("Any", codec.encode_key)
        )
        self._has_own_numbers = (
            disk.store is not Disk.store or is_foreign(self._serializer) or codec.is_sealing
        )
        self._has_own_store = disk.store is not Disk.store or disk.filename is not Disk.filename
        self._is_plain = (
            disk.fetch is Disk.fetch and not self._has_own_store and not codec.is_sealing
        )
        self._unpack: Callable[[Row, bool, EncodedKey], Any] = (
            self._disk.unpack if disk.fetch is Disk.fetch else self._disk.unpack_through_fetch
        )

    def _attach_memory(self, disk: type[Disk], options: dict[str, Any], secret: Any) -> None:
        """Share the memory tier of all objects that read this directory as this one does."""
        self._decoding = decoding(disk, options, self._codec, secret, self._serializer)
        self._choose_noter()
        self._tier: Tier = tier_of((*self._memory_place(), *self._decoding), self._memory_limit)

    def _memory_place(self) -> tuple[str, ...]:
        """Return what objects have in common that may share a memory tier."""
        return (self._real_directory,)

    # -- Settings at work --

    def _largest(self) -> str:
        """Return which limit a value must not exceed, for a message."""
        size, value = self._settings["size_limit"], self._settings["value_limit"]
        name, limit = ("value_limit", value) if 0 < value <= size else ("size_limit", size)
        return f"{name}, {limit} bytes"

    def _apply(self, name: str, value: Any) -> None:
        """Work with a setting from now on."""
        if name == "eviction_policy":
            self._engine.prepare_policy(value, PATIENCE, lasting=False)
        self._settings[name] = value
        if name.startswith("disk_"):
            setattr(self._disk, name[5:], value)
            if name == "disk_pickle_protocol":
                self._codec.protocol = value
        elif name.startswith("sqlite_"):
            self._engine.configure()
        else:
            self._engine.settings_changed()
            self._choose_noter()

    def _refresh_metadata(self) -> None:
        self.count = self._engine.count()
        self.size = self._engine.volume().files
        self.hits, self.misses = self._engine.hits_and_misses()

    # -- Where codec and engine meet --

    def _encode_key_by_disk(self, key: Any) -> EncodedKey:
        db_key, raw = self._disk.put(key)
        return cast("EncodedKey", (as_native(db_key), int(raw)))

    def _decode_key(self, key: EncodedKey) -> Any:
        """Return the key of an entry, or `ENOVAL` if it may not be loaded."""
        if key[1] and type(self._disk).get is Disk.get:
            return key[0]
        try:
            return self._disk.get(key[0], key[1])
        except (UntrustedPickleError, CodecError) as exc:
            return self._refuse(exc)

    def _pack(self, value: Any, read: bool, key: EncodedKey, user_key: Any = UNKNOWN) -> Payload:
        if self._has_own_store:
            return self._on_disk(self._disk.pack_through_store, value, read, key, user_key)
        if read:
            return self._on_disk(self._disk.pack, value, read, key)
        if self._is_direct and (type(value) is bytes or (type(value) is str and value.isascii())):
            mode, data = MODE_RAW, value
        else:
            mode, data = self._encode(value, key)
        if type(data) in _SIZED and len(data) >= self._settings["disk_min_file_size"]:
            return self._on_disk(self._disk.spill, mode, data, value)
        return mode, data, None

    def _on_disk(self, write: Callable[..., T], *args: Any) -> T:
        """Write a value file; errors of the file system become errors of this library."""
        try:
            return write(*args)
        except OSError as exc:
            raise self._engine.file_error(exc) from exc

    def _load(
        self,
        key: EncodedKey,
        row: Row,
        read: bool = False,
        unpack: Callable[[Row, bool, EncodedKey], Any] | None = None,
    ) -> Any:
        """Return the value of a row, or `ENOVAL` if it cannot be had: then it is a miss.

        Between reading a row and opening its file, a writer may replace both: the row is then
        read again. An entry whose file is really gone, or damaged, is removed.
        """
        if unpack is None and row[0] == MODE_DATA and type(row[1]) is bytes and self._is_plain:
            try:
                return loads(row[1])
            except CodecError as exc:
                return self._refuse(exc)
        seen: Row | None = row
        for _ in range(LOOKS):
            if seen is None:
                return ENOVAL
            try:
                return (unpack or self._unpack)(seen, read, key)
            except (UntrustedPickleError, CodecError) as exc:
                return self._refuse(exc)
            except OSError as exc:
                again = self._engine.get(key, self._now())
                if again is not None and again[2] == seen[2] and again[8] == seen[8]:
                    return self._lose(key, seen, exc)
                seen = again
        return ENOVAL

    def _load_held(self, key: EncodedKey, row: Row) -> Any:
        """Return the value of a row inside a write transaction, or `ENOVAL` if its file is lost.

        Raises:
            UntrustedPickleError: It is a pickle that may not be loaded; the entry is kept.
            CodecError: It cannot be decoded here, perhaps because a class is missing in this
                process; the entry is kept, for one that can.
        """
        try:
            return self._unpack(row, False, key)
        except UntrustedPickleError as exc:
            self._count_untrusted(exc)
            raise
        except CodecError as exc:
            self._count_corrupt(exc)
            raise
        except OSError:
            self._count_corrupt()
            return ENOVAL

    def _lose(self, key: EncodedKey, row: Row, exc: OSError) -> Any:
        """Treat an entry without a usable file as missing, and remove it."""
        self._count_corrupt()
        if row[2] is not None and not self._options["readonly"] and is_lost(exc):
            try:
                self._engine.discard(key, row[8], row[2], self._timeout)
            except DiskCacheError as problem:
                log.warning("cache %r: %s", self._directory, problem)
        return ENOVAL

    def _refuse(self, exc: UntrustedPickleError | CodecError) -> Any:
        """Treat an entry that may not, or cannot, be decoded as missing."""
        if self._strict:
            raise exc
        if isinstance(exc, UntrustedPickleError):
            self._count_untrusted(exc)
        else:
            self._count_corrupt(exc)
        return ENOVAL

    def _count_corrupt(self, exc: Exception | None = None) -> None:
        if not isinstance(exc, UnavailableError):
            self._corrupt += 1
            return
        self._unavailable += 1
        self._warn_once(
            f"an entry of cache {self._directory!r} was treated as missing: {exc}. Shown once;"
            ' see "python -m diskcache info".',
            UnavailableWarning,
        )

    def _warn_once(self, message: str, category: type[Warning]) -> None:
        if category not in self._has_warned:
            self._has_warned.add(category)
            warnings.warn(message, category, stacklevel=6)

    def _count_untrusted(self, exc: UntrustedPickleError) -> None:
        self._note_untrusted(exc, "treated as missing")
        text = UNSIGNED_WARNING if self._codec.is_sealing else UNTRUSTED_WARNING
        message = text.format(count="1 entry", label=self._directory)
        self._warn_once(message, UntrustedPickleWarning)

    def _note_untrusted(self, exc: UntrustedPickleError, outcome: str) -> None:
        """Count an entry that may not be loaded, and log one that somebody altered.

        An attacker must not be able to fill the log: the first of every minute is logged.
        """
        self._untrusted += 1
        if exc.reason != "bad-tag":
            return
        now = self._clock.monotonic()
        if now < self._report_at:
            self._unreported += 1
            return
        message = ALTERED_ERROR.format(label=self._directory, outcome=outcome)
        if self._unreported:
            message += f" ({self._unreported} more since the last report)"
        log.error(message)
        self._report_at, self._unreported = now + REPORT_EVERY, 0

    def _wait(self, retry: bool) -> float | None:
        return None if retry else self._timeout
