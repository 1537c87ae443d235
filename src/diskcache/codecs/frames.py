"""Data frames and series of pandas and polars, and tables of Arrow, as Arrow IPC streams.

The state is the bytes of one IPC stream that holds one table; of a series, its name and the table
of its one column `value`. What comes back is validated in full
before anything looks at it. What Arrow cannot hold, such as columns of arbitrary objects, is not
plain data.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from diskcache.codecs.registered import Triple
from diskcache.errors import CodecError, MissingExtraError, NotPlainError, RegistrationError

NEEDED: Final = 15
"""Major version of pyarrow: older ones unpickle types that a stream names (CVE-2023-47248)."""

_COLUMN: Final = "value"
"""What the column of a series is called: its own name may be anything."""


def derive(kind: type[Any]) -> Triple:
    """Return the functions for a type of pandas, polars or pyarrow.

    Raises:
        RegistrationError: It is none of those that have an encoding.
        MissingExtraError: pyarrow is not installed, or too old.
    """
    library, name = kind.__module__.partition(".")[0], kind.__qualname__
    ways = _WAYS.get((library, name))
    if ways is None or getattr(sys.modules.get(library), name, None) is not kind:
        known = ", ".join(".".join(pair) for pair in _WAYS)
        raise RegistrationError(
            f"cannot derive how to store {kind!r}: known are {known}; pass dumps and loads"
        )
    arrow = _arrow()
    to_state, from_state = ways

    def dumps(value: Any) -> Any:
        try:
            return to_state(value)
        except (arrow.ArrowException, TypeError, ValueError, NotImplementedError) as exc:
            raise NotPlainError(
                f"{kind!r} with contents that Arrow cannot hold ({exc}) is not plain data"
            ) from exc

    return dumps, from_state, dumps


@cache
def _arrow() -> Any:
    """Return pyarrow.

    Raises:
        MissingExtraError: It is not installed, or too old.
    """
    try:
        import pyarrow as arrow
    except ImportError as exc:
        raise MissingExtraError(
            'data frames are stored by pyarrow: pip install "diskcache[arrow]"'
        ) from exc
    found = re.match(r"\d+", arrow.__version__)
    if found is None or int(found[0]) < NEEDED:
        raise MissingExtraError(
            f"pyarrow {arrow.__version__} may run code from data, and {NEEDED} or newer is needed:"
            ' pip install --upgrade "diskcache[arrow]"'
        )
    return arrow


def _written(table: Any) -> bytes:
    arrow = _arrow()
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(memoryview(sink.getvalue()))


def _read(data: Any) -> Any:
    if type(data) is not bytes:
        raise CodecError(f"a table is the bytes of an Arrow stream: got {type(data)!r}")
    with _arrow().ipc.open_stream(data) as reader:
        table = reader.read_all()
    # Until now, offsets and lengths are the stream's own word.
    table.validate(full=True)
    return table


# -- Each library ------------------------------------------------------------------------------


def _from_pandas(frame: Any) -> bytes:
    kinds = [frame.columns.dtype, frame.index.dtype, *frame.dtypes]
    if frame.columns.inferred_type.startswith("mixed"):
        raise TypeError("its columns have names of several types")
    data = _written(_arrow().Table.from_pandas(frame))
    # Arrow guesses what is in a column of objects, and may guess something else.
    if frame.attrs or "O" in {getattr(kind, "kind", "") for kind in kinds}:
        again = _to_pandas(data)
        same = again.equals(frame) and again.attrs == frame.attrs
        if not same or kinds != [again.columns.dtype, again.index.dtype, *again.dtypes]:
            raise TypeError("a column would come back as another type")
    return data


def _to_pandas(state: Any) -> Any:
    return _read(state).to_pandas()


def _from_pandas_series(series: Any) -> tuple[Any, bytes]:
    return series.name, _from_pandas(series.to_frame(_COLUMN))


def _to_pandas_series(state: Any) -> Any:
    name, data = state
    return _to_pandas(data)[_COLUMN].rename(name)


def _from_polars(frame: Any) -> bytes:
    return _written(frame.to_arrow())


def _to_polars(state: Any) -> Any:
    import polars

    return polars.from_arrow(_read(state))


def _from_polars_series(series: Any) -> tuple[Any, bytes]:
    return series.name, _from_polars(series.to_frame(_COLUMN))


def _to_polars_series(state: Any) -> Any:
    name, data = state
    return _to_polars(data)[_COLUMN].alias(name)


_WAYS: Final[dict[tuple[str, str], tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    ("pandas", "DataFrame"): (_from_pandas, _to_pandas),
    ("pandas", "Series"): (_from_pandas_series, _to_pandas_series),
    ("polars", "DataFrame"): (_from_polars, _to_polars),
    ("polars", "Series"): (_from_polars_series, _to_polars_series),
    ("pyarrow", "Table"): (_written, _read),
}
"""Functions to a state and back, by library and class."""
