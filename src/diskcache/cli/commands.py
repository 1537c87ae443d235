"""What each command does: it takes parsed arguments and returns data, and prints nothing."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import itertools
import json
import math
import os
import stat
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple

from diskcache import ENOVAL, Cache, Disk, connect
from diskcache.cli import CommandError, ExitCode
from diskcache.cli.render import described
from diskcache.connecting import is_address
from diskcache.engines.sqlite import repair
from diskcache.errors import CacheCorruptError

DATABASE: Final = "cache.db"


class Result(NamedTuple):
    """What a command found or did."""

    data: dict[str, Any]
    """As JSON shows it."""
    code: ExitCode = ExitCode.OK
    value: object = ENOVAL
    """The value itself, where `data` can only describe it."""


# -- Opening -----------------------------------------------------------------------------------


def require_cache(directory: str) -> None:
    """Raise unless *directory* holds a cache, without touching it.

    Only names and sizes are looked at: opening the database as a file and closing it again would
    drop the locks that SQLite holds on it in this process.
    """
    path = os.path.expandvars(os.path.expanduser(directory))
    database = os.path.join(path, DATABASE)
    if _size(database) or _is_emptied(path):
        return
    if not os.path.exists(path):
        problem = "no such directory"
    elif not os.path.isdir(path):
        problem = "it is a file, not a directory"
    elif _size(os.path.join(path, "000", DATABASE)):
        problem = f"its parts are caches of their own: try {os.path.join(directory, '000')!r}"
    else:
        problem = f"there is no {DATABASE} in it"
    raise CommandError(f"{directory!r} is not a cache: {problem}", ExitCode.NOT_A_CACHE)


def _is_emptied(path: str) -> bool:
    """Tell whether there was a cache, whose database has no byte left."""
    return os.path.isfile(os.path.join(path, DATABASE)) and os.path.exists(
        os.path.join(path, "gate.lock")
    )


def _size(path: str) -> int:
    """Return the length of the regular file *path*; 0 where there is none."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as exc:
        raise CommandError(
            f"cannot look at {path!r}: {exc.strerror or exc}", ExitCode.NOT_A_CACHE
        ) from exc
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def require_room(directory: str) -> None:
    """Raise unless *directory* is a cache, or may become one: it is missing or empty."""
    try:
        require_cache(directory)
    except CommandError:
        path = os.path.expandvars(os.path.expanduser(directory))
        if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
            raise


@contextlib.contextmanager
def opened(args: Namespace, *, readonly: bool, create: bool = False) -> Iterator[Cache]:
    """Return a context with the cache of the command line; it must exist unless *create*."""
    if is_address(args.directory):
        with contextlib.closing(connected(args, readonly=readonly)) as cache:
            yield cache
        return
    disk = disk_of(args)
    if create:
        require_room(args.directory)
    else:
        require_cache(args.directory)
        if not readonly:
            # Opening for writing makes lock files and a log, also beside a stranger's database.
            Cache(args.directory, disk=disk, readonly=True).close()
    cache = Cache(args.directory, timeout=args.timeout, disk=disk, readonly=readonly)
    with contextlib.closing(cache):
        yield cache


def disk_of(args: Namespace) -> type[Disk]:
    """Return the disk that the command line names: one of the library, or MODULE:CLASS."""
    name: str = args.disk
    module, _, attribute = name.rpartition(":")
    try:
        found = getattr(importlib.import_module(module or "diskcache"), attribute)
    except (ImportError, AttributeError, ValueError) as exc:
        raise CommandError(f"no such disk: {name!r}: {exc}", ExitCode.USAGE) from exc
    if not (isinstance(found, type) and issubclass(found, Disk)):
        raise CommandError(f"{name!r} is not a subclass of Disk", ExitCode.USAGE)
    return found


def connected(args: Namespace, *, readonly: bool) -> Cache:
    """Return the cache on the server of the command line."""
    if args.disk != "Disk":
        raise CommandError(f"--disk is for directories: got {args.disk!r}", ExitCode.USAGE)
    cache: Cache = connect(args.directory, timeout=args.timeout, readonly=readonly)
    return cache


# -- Arguments to values -----------------------------------------------------------------------


def parsed(text: str, kind: str, what: str) -> Any:
    """Return the object that *text* means when read as *kind*."""
    try:
        return PARSERS[kind](text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as exc:
        raise CommandError(
            f"{what} must be valid for type {kind!r}: got {text!r}", ExitCode.USAGE
        ) from exc


PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "str": str,
    "int": int,
    "float": float,
    "bytes": os.fsencode,
    "json": json.loads,
    "literal": ast.literal_eval,
}
"""How the text of an argument becomes a key, a value or a tag."""


def _key(args: Namespace) -> Any:
    """Return the key of the command line."""
    return parsed(args.key, args.type, "key")


def _tag(args: Namespace) -> Any:
    """Return the tag of the command line; None if there is none."""
    return None if args.tag is None else parsed(args.tag, args.tag_type, "tag")


@contextlib.contextmanager
def _value(args: Namespace) -> Iterator[tuple[Any, bool]]:
    """Return a context with the value of `set`, and whether it is an open file to copy from."""
    if (args.value is None) == (args.file is None):
        raise CommandError("set needs either VALUE or --file, not both", ExitCode.USAGE)
    if args.value not in (None, "-"):
        yield parsed(args.value, args.value_type, "value"), False
    elif args.file in (None, "-"):
        yield _decoded(sys.stdin.buffer.read(), args.value_type), False
    else:
        with opened_file(args.file) as file:
            stream = args.value_type == "bytes"
            yield (file if stream else _decoded(file.read(), args.value_type)), stream


def opened_file(path: str) -> BinaryIO:
    """Return the file *path*, open for reading."""
    try:
        return open(path, "rb")
    except OSError as exc:
        raise CommandError(f"cannot read {path!r}: {exc.strerror or exc}", ExitCode.USAGE) from exc


def _decoded(data: bytes, kind: str) -> Any:
    """Return the value that bytes from a file or a pipe mean."""
    if kind == "bytes":
        return data
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise CommandError(
            "value is not UTF-8 text: store it with --value-type bytes", ExitCode.USAGE
        ) from exc
    return parsed(text, kind, "value")


# -- Looking -----------------------------------------------------------------------------------


def info(args: Namespace) -> Result:
    """Return the figures of a cache."""
    with opened(args, readonly=True) as cache:
        return Result(dataclasses.asdict(cache.info()))


def ls(args: Namespace) -> Result:
    """Return the live entries in insertion order, up to a limit."""
    now = time.time()
    with opened(args, readonly=True) as cache:
        keys = cache.keys(prefix=args.prefix, tag=_tag(args))
        chosen = itertools.islice(keys, args.limit or None)
        entries = [_entry(cache, key, now) for key in chosen]
        truncated = args.limit > 0 and next(iter(keys), ENOVAL) is not ENOVAL
    return Result({"entries": entries, "truncated": truncated})


def _entry(cache: Cache, key: Any, now: float) -> dict[str, Any]:
    """Return what is known about the entry of *key*."""
    value, expire_time, tag = cache.get(key, ENOVAL, read=True, expire_time=True, tag=True)
    value_type, size = (None, None) if value is ENOVAL else _type_and_size(value)
    expire_time = _finite(expire_time)
    return {
        "key": described(key),
        "value_type": value_type,
        "size": size,
        "tag": None if tag is None else described(tag),
        "expire_time": expire_time,
        "expires_in": None if expire_time is None else expire_time - now,
        "loadable": value is not ENOVAL,
    }


def _finite(moment: float | None) -> float | None:
    """Return a point in time for JSON, which knows no infinity: that is never, too."""
    return moment if moment is not None and math.isfinite(moment) else None


def _type_and_size(value: Any) -> tuple[str, int | None]:
    """Return the type of a value, and its length in bytes where it has one."""
    if hasattr(value, "read"):
        with value:
            return "bytes", value.seek(0, os.SEEK_END)
    if type(value) is str:
        return "str", len(value.encode("utf-8", "surrogatepass"))
    return type(value).__name__, len(value) if type(value) is bytes else None


def get(args: Namespace) -> Result:
    """Return one value."""
    key = _key(args)
    with opened(args, readonly=True) as cache:
        value, expire_time, tag = cache.get(key, ENOVAL, read=args.raw, expire_time=True, tag=True)
        if value is ENOVAL:
            raise _missing(cache, key)
    if args.raw and type(value) not in (str, bytes) and not hasattr(value, "read"):
        raise CommandError(
            f"--raw prints text and bytes: the value of {key!r} is of type "
            f"{type(value).__name__!r}; leave --raw out",
            ExitCode.USAGE,
        )
    data: dict[str, Any] = {"key": described(key)}
    if not args.raw:
        data["value"] = described(value)
    data["tag"] = None if tag is None else described(tag)
    data["expire_time"] = _finite(expire_time)
    return Result(data, value=value)


def _missing(cache: Cache, key: Any) -> CommandError:
    """Return why *key* has no value: there is no entry, or it may not be loaded."""
    if key in cache:
        return CommandError(
            f"entry of key {key!r} may not be loaded: it is damaged, or a pickle without a valid "
            "signature",
            ExitCode.FAILED,
        )
    return CommandError(f"no such key: {key!r}", ExitCode.FINDINGS)


def check(args: Namespace) -> Result:
    """Return the broken invariants; with `--fix`, mend them and return what is left."""
    damage = _damage(args)
    if damage and not args.fix:
        return _checked(args, damage, damage)
    # Also looking for damage needs the write lock: nothing may change meanwhile. Who may not write
    # looks without it.
    with opened(args, readonly=not (args.fix or _may_write(args.directory))) as cache:
        found = _findings(cache, fix=args.fix)
        left = _findings(cache, fix=False) if args.fix and (found or damage) else found
    return _checked(args, damage + found, left)


def _may_write(directory: str) -> bool:
    """Tell whether this user may write to a cache, as far as the system can tell."""
    path = os.path.expandvars(os.path.expanduser(directory))
    return is_address(directory) or os.access(path, os.W_OK)


def _damage(args: Namespace) -> list[dict[str, str]]:
    """Return why the database cannot be opened, if it is damaged; with `--fix`, replace it."""
    if is_address(args.directory):
        return []
    require_cache(args.directory)
    try:
        Cache(args.directory, disk=disk_of(args), readonly=True).close()
    except CacheCorruptError as exc:
        problem = str(exc)
    else:
        return []
    if args.fix:
        done = repair(args.directory)
        problem = problem.partition(": run ")[0] if done is None else done
    return [{"category": UserWarning.__name__, "message": problem}]


def _checked(args: Namespace, found: list[dict[str, str]], left: list[dict[str, str]]) -> Result:
    data: dict[str, Any] = {"findings": found, "fixed": len(found) - len(left) if args.fix else 0}
    data["remaining"] = len(left)
    return Result(data, ExitCode.FINDINGS if left else ExitCode.OK)


def _findings(cache: Cache, fix: bool) -> list[dict[str, str]]:
    """Return what `check` warns about."""
    with warnings.catch_warnings():
        # The filters of the caller apply to what `check` returns.
        warnings.simplefilter("always")
        found = cache.check(fix=fix)
    return [
        {"category": warning.category.__name__, "message": str(warning.message)}
        for warning in found
    ]


# -- Changing ----------------------------------------------------------------------------------


def set_(args: Namespace) -> Result:
    """Store one value."""
    key, tag = _key(args), _tag(args)
    with _value(args) as (value, stream), opened(args, readonly=False, create=args.create) as cache:
        stored = cache.set(key, value, expire=args.expire, tag=tag, read=stream)
    if not stored:
        raise CommandError(
            f"value of {key!r} was not stored: it is larger than the size limit of the cache",
            ExitCode.FAILED,
        )
    return Result({"key": described(key), "stored": True})


def delete(args: Namespace) -> Result:
    """Delete the entries of some keys."""
    keys = [parsed(text, args.type, "key") for text in args.keys]
    with opened(args, readonly=False) as cache:
        missing = [described(key) for key in keys if not cache.delete(key)]
    code = ExitCode.FINDINGS if missing else ExitCode.OK
    return Result({"removed": len(keys) - len(missing), "missing": missing}, code)


def evict(args: Namespace) -> Result:
    """Remove the entries of a tag, or those without one."""
    if (args.tag is None) != args.untagged:
        raise CommandError("evict needs either TAG or --untagged, not both", ExitCode.USAGE)
    tag = _tag(args)
    with opened(args, readonly=False) as cache:
        return Result({"removed": cache.evict(tag)})


def expire(args: Namespace) -> Result:
    """Remove the entries whose time has passed."""
    with opened(args, readonly=False) as cache:
        return Result({"removed": cache.expire()})


def cull(args: Namespace) -> Result:
    """Remove expired entries, then victims until the volume is under the size limit."""
    with opened(args, readonly=False) as cache:
        return Result({"removed": cache.cull()})


def clear(args: Namespace) -> Result:
    """Remove every entry; on a terminal only with `--yes`."""
    if not args.yes and sys.stdin is not None and sys.stdin.isatty():
        with opened(args, readonly=True) as cache:
            count = len(cache)
        raise CommandError(
            f"clear removes all {count:,} entries of {args.directory!r}: repeat it with --yes",
            ExitCode.USAGE,
        )
    with opened(args, readonly=False) as cache:
        return Result({"removed": cache.clear()})
