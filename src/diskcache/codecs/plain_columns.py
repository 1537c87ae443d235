"""Columns of dates, datetimes and Decimals: rows of a database without a call of Python per cell.

The C code of the standard library writes and reads these types as text faster than a hook could
take them apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

import ormsgpack
from ormsgpack import Ext

from diskcache.codecs import plain_ext as ext

_fold = attrgetter("fold")
_zone = attrgetter("tzinfo")


def pack_columns(columns: list[list[Any]]) -> list[Any]:
    """Return *columns*, those that have one of the types replaced by their extension."""
    packed: list[Any] = []
    for column in columns:
        kind = type(column[0])
        encoder = None if kind in ext.SCALARS else ext.resolve(kind)
        code = _CODES.get(encoder) if encoder else None
        texts = None if code is None else _texts(column, kind, code)
        if texts is None:
            packed.append(column)
        else:
            packed.append(Ext(ext.EXT_COLUMN, ormsgpack.packb([code, texts])))
    return packed


def _texts(column: list[Any], kind: type[Any], code: int) -> list[str] | None:
    """Return the column as text, or None if text would not tell all of it."""
    if {*map(type, column)} != {kind}:
        return None
    if code == ext.EXT_DECIMAL:
        return [*map(str, column)]
    if code == ext.EXT_DATETIME and (any(map(_fold, column)) or not _are_in_text(column)):
        return None
    return [*map(kind.isoformat, column)]


def _are_in_text(column: Iterable[Any]) -> bool:
    """Whether ISO text tells the zones of these datetimes: none, or timezones that it can tell."""
    return all(
        zone is None
        or (ext.resolve(type(zone)) is ext.encode_timezone and ext.is_told_by_text(zone))
        for zone in {*map(_zone, column)}
    )


_CODES: Final[dict[ext.Encoder, int]] = {
    ext.encode_date: ext.EXT_DATE,
    ext.encode_datetime: ext.EXT_DATETIME,
    ext.encode_decimal: ext.EXT_DECIMAL,
}
