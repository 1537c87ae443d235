"""Arguments of the constructor of `Cache` that go together, or do not."""

from __future__ import annotations

from typing import Any

from diskcache.codecs.compression import Packer
from diskcache.disk import Disk
from diskcache.errors import SettingError
from diskcache.serializers import checked as checked_serializer


def serializer_for(disk: object, serializer: Any) -> Any:
    """Return a serializer in a form that can be pickled with a cache.

    Raises:
        SettingError: It is none, *disk* is no disk, or both say how values are stored.
    """
    if not (isinstance(disk, type) and issubclass(disk, Disk)):
        raise SettingError(f"disk must be Disk or a subclass of it: got {disk!r}")
    if serializer is not None and disk is not Disk:
        raise SettingError(
            f"serializer and disk both say how values are stored: got {serializer!r} and {disk!r};"
            " pass one of them"
        )
    return checked_serializer(serializer)


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
