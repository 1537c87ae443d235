"""Arguments of the constructor of `Cache`: which are allowed, and which go together."""

from __future__ import annotations

import logging
import numbers
import os
import tempfile
from collections.abc import Hashable
from typing import Any, Final, cast

from diskcache import settings as rules
from diskcache.codecs.compression import Packer
from diskcache.codecs.values import ValueCodec, effective_mode
from diskcache.disk import Disk
from diskcache.errors import SettingError, UnknownPolicyError
from diskcache.host import dangers
from diskcache.policy import find_policy
from diskcache.serializers import checked as checked_serializer

log: Final = logging.getLogger("diskcache")


def serializer_for(disk: object, serializer: Any, authenticate: str) -> Any:
    """Return a serializer in a form that can be pickled with a cache.

    Raises:
        SettingError: It is none, *disk* is no disk, both say how values are stored, or the disk
            does so in a way that cannot be signed.
    """
    if not (isinstance(disk, type) and issubclass(disk, Disk)):
        raise SettingError(f"disk must be Disk or a subclass of it: got {disk!r}")
    if serializer is not None and disk is not Disk:
        raise SettingError(
            f"serializer and disk both say how values are stored: got {serializer!r} and {disk!r};"
            " pass one of them"
        )
    _check_sealed(disk, authenticate)
    return checked_serializer(serializer)


def _check_sealed(disk: type[Disk], authenticate: str) -> None:
    """Refuse a disk that does not leave the bytes of values to the library, if all are signed.

    Raises:
        SettingError: It stores values in a way of its own.
    """
    is_own = disk.store is not Disk.store or disk.fetch is not Disk.fetch
    if authenticate == "all" and is_own:
        raise SettingError(
            f"authenticate='all' signs what Disk stores: got {disk!r}, which stores in another way;"
            " use serializer= instead"
        )


def unusual(**arguments: tuple[Any, Any]) -> dict[str, Any]:
    """Return the arguments that are not their defaults; each is given with its own."""
    return {name: value for name, (value, usual) in arguments.items() if value is not usual}


def packer_for(
    disk: type[Disk], method: str | None, minimum: int, level: int | None
) -> Packer | None:
    """Return what compresses the values of a cache; None for no *method*.

    Raises:
        SettingError: An argument is not allowed, or the disk stores values in a way of its own.
        MissingExtraError: The package of the method is not installed.
    """
    if method is None:
        return None
    if disk.store is not Disk.store or disk.fetch is not Disk.fetch:
        raise SettingError(
            f"compress works with Disk and with serializers, not with {disk.__name__}, which stores"
            " values in a way of its own: leave it out"
        )
    return Packer(method, minimum, level)


def named(writer: object) -> str:
    """Return how a message names the disk or serializer that a directory is marked with."""
    return f"the disk or serializer {writer!r}" if writer else "the default ones"


def insecurities(directory: str, pickle: str) -> list[str]:
    """Return who else can change what is in a directory, as sentences; none if it is ours alone."""
    found = [f"{danger}." for danger in dangers(directory)]
    if found and effective_mode(pickle) != "unsafe":
        found.append("Code execution is prevented by signatures.")
    return found


def checked_setting(name: str, value: Any) -> Any:
    """Return *value* if it is allowed for the setting *name*.

    Raises:
        SettingError: It is not.
        UnknownPolicyError: It names no eviction policy.
    """
    checked = rules.checked(name, value)
    if name == "eviction_policy":
        find_policy(str(checked))
    return checked


def believed_policy(name: Any, directory: str) -> str:
    """Return a policy that a directory names; the default if it is not defined here."""
    fallback = str(rules.DEFAULT_SETTINGS["eviction_policy"])
    try:
        return find_policy(name).name
    except UnknownPolicyError:
        log.warning(
            "cache %r: eviction policy %r is not defined here; %r is used",
            directory,
            name,
            fallback,
        )
        return fallback


def checked_timeout(timeout: Any) -> float:
    """Return *timeout* if it is a number of seconds.

    Raises:
        SettingError: It is not.
    """
    if not isinstance(timeout, numbers.Real) or timeout != timeout:  # noqa: PLR0124 - NaN
        raise SettingError(f"timeout must be a number of seconds: got {timeout!r}")
    return cast("float", timeout)


def checked_memory_limit(value: Any) -> int:
    """Return a number of bytes.

    Raises:
        SettingError: It is not one.
    """
    is_number = type(value) in (int, float) and 0 <= value < 2**63
    if not is_number:
        raise SettingError(
            f"memory_limit must be a number of bytes, 0 or more: got {value!r}; 0 keeps nothing in"
            " memory"
        )
    return int(value)


def decoding(
    disk: type[Disk], options: dict[str, Any], codec: ValueCodec, secret: Any, serializer: Any
) -> tuple[Hashable, ...]:
    """Return what decides how this object decodes: equal for objects that decode alike."""
    secrets: Hashable = secret if secret is None or isinstance(secret, bytes) else tuple(secret)
    policy = codec.pickle_mode, codec.is_sealing
    parts: tuple[Any, ...] = (disk, *sorted(options.items()), *policy, secrets, serializer)
    try:
        hash(parts)
    except TypeError:
        return (object(),)
    return parts


def expanded(directory: str | bytes | os.PathLike[str] | None) -> str:
    """Return the path that a directory argument means; a new temporary directory for None."""
    if directory is None:
        return tempfile.mkdtemp(prefix="diskcache-")
    text = os.fsdecode(directory) if isinstance(directory, (bytes, os.PathLike)) else str(directory)
    if not text:
        raise SettingError(
            "directory must not be empty: pass a path, '.' for the working directory, or None for"
            " a new temporary directory"
        )
    if "\0" in text:
        raise SettingError(f"directory must not contain a null character: got {text!r}")
    text = os.path.expandvars(os.path.expanduser(text))
    if "://" in text:
        _refuse_address(text)
    return text


def _refuse_address(text: str) -> None:
    """Refuse the address of a server, of which a directory of that name would be made.

    Raises:
        SettingError: It is one.
    """
    # Few need it.
    from diskcache.engines.redis import is_address, without_password

    if not is_address(text):
        return
    message = (
        f"directory must be a path: got {without_password(text)!r}, the address of a server; open"
        " what is there by diskcache.connect(...), or diskcache.aio.connect(...)"
    )
    if os.path.isdir(text):
        message += ". A directory of that name is here, too: it is opened with './' before its name"
    raise SettingError(message)


def checked_on_error(value: Any) -> str:
    """Return what to do without a server that is away.

    Raises:
        SettingError: It is neither of the two.
    """
    if value not in ("raise", "miss"):
        raise SettingError(f"on_error must be 'raise' or 'miss': got {value!r}")
    return str(value)


def for_directory(settings: dict[str, Any]) -> dict[str, Any]:
    """Return keywords of `connect` without those that are about servers alone.

    `on_error` has no effect, as nothing can be away.

    Raises:
        SettingError: There is a namespace, which would not keep entries apart.
    """
    rest = dict(settings)
    checked_on_error(rest.pop("on_error", "raise"))
    namespace = rest.pop("namespace", None)
    if namespace is not None:
        raise SettingError(
            f"namespace is the name of a cache on a server, and a directory is one cache: got"
            f" {namespace!r}; leave it out, and give each cache a directory of its own"
        )
    return rest
