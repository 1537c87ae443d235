"""Traces of real accesses, and the sizes of cache at which they are replayed.

The name of a file says what is in it, compressed with xz, in numbers of 4 bytes, the highest first:

    NAME.int32be.xz            the keys that were asked for, in order
    NAME.key-size-int32be.xz   the same, then as many sizes in bytes, one for each request
"""

from __future__ import annotations

import lzma
import sys
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

SHARES = (0.001, 0.01, 0.1, 0.3)
"""Sizes of cache, as shares of the footprint of a trace."""
FEWEST_ROWS = 20
"""A cache of fewer entries shows the luck of a policy rather than its worth."""
KEYS, SIZED = ".int32be.xz", ".key-size-int32be.xz"
NUMBER_BYTES = 4


class TraceError(Exception):
    """What should be a trace is none."""


class Trace(NamedTuple):
    """Requests, in the order in which they came."""

    name: str
    keys: array[int]
    sizes: array[int] | None
    """Bytes of the value of each request; None if the trace does not tell."""

    @property
    def footprint(self) -> int:
        """How many keys there are, or how many bytes all their values have."""
        if self.sizes is None:
            return len(set(self.keys))
        return sum(dict(zip(self.keys, self.sizes, strict=True)).values())


class Size(NamedTuple):
    """A size of cache for one trace."""

    share: float
    limit: int
    """Entries; or bytes of values, if the trace tells them."""
    rows: int
    """Entries that it holds; of mean size, if the trace tells sizes."""


def files(folder: Path, names: Iterable[str] = ()) -> list[Path]:
    """Return the traces of a folder, or those whose names are asked for.

    Raises:
        TraceError: There is none, or one of those asked for is missing.
    """
    found = {name_of(path): path for path in sorted(folder.glob("*")) if is_trace(path)}
    if not found:
        raise TraceError(f"no traces in {str(folder)!r}: files are named *{KEYS} or *{SIZED}")
    missing = [name for name in names if name not in found]
    if missing:
        raise TraceError(
            f"no trace {missing[0]!r} in {str(folder)!r}: there are {', '.join(found)}"
        )
    return [found[name] for name in names or found]


def is_trace(path: Path) -> bool:
    return path.name.endswith((KEYS, SIZED))


def name_of(path: Path) -> str:
    return path.name.removesuffix(SIZED).removesuffix(KEYS)


def read(path: Path, requests: int | None = None) -> Trace:
    """Return a trace, or its first *requests*.

    Raises:
        TraceError: The file is damaged.
    """
    is_sized = path.name.endswith(SIZED)
    unit = NUMBER_BYTES * (2 if is_sized else 1)
    try:
        with lzma.open(path) as stream:
            content = stream.read()
    except (lzma.LZMAError, EOFError) as error:
        raise TraceError(f"{str(path)!r} cannot be decompressed: {error}") from error
    if not content or len(content) % unit:
        raise TraceError(
            f"{str(path)!r} is no trace: it holds {len(content)} bytes, not a multiple of {unit}"
        )
    numbers = array("i", content)
    if sys.byteorder == "little":
        numbers.byteswap()
    count = len(numbers) // 2 if is_sized else len(numbers)
    wanted = count if requests is None else min(count, requests)
    sizes = numbers[count : count + wanted] if is_sized else None
    return Trace(name_of(path), numbers[:wanted], sizes)


def sizes(trace: Trace, shares: Sequence[float] = SHARES) -> list[Size]:
    """Return the sizes of cache for a trace; without those that hold next to nothing."""
    footprint, keys = trace.footprint, len(set(trace.keys))
    found = [Size(share, int(footprint * share), int(keys * share)) for share in shares]
    return [size for size in found if size.rows >= FEWEST_ROWS]
