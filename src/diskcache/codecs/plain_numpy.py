"""Arrays and scalars of numpy as plain data: code 32.

The payload is the array (dtype, order, shape, data): *dtype* as numpy's own text for it, a byte
order, a kind and a size, with the unit of a moment or duration, as `<f8` or `<M8[ns]`; *order* `C`
or `F` for an array whose elements lie row by row or column by column, `S` for a scalar; *shape* an
array of integers; *data* the elements and nothing else.

Kinds are b, i, u, f, c, S, U, M and m, no objects and no records. In a key the order is `C` or
`S`, the bytes little-endian, -0.0 is 0.0 and every NaN one and the same.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import ormsgpack
from ormsgpack import Ext

from diskcache.codecs.registered import note_trouble
from diskcache.errors import CodecError, NotPlainError, UnavailableError

EXT_NDARRAY: Final = 32

_DTYPE: Final = re.compile(
    r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248]|[<>]c(?:8|16)|\|S[1-9][0-9]{0,8}|[<>]U[1-9][0-9]{0,8}"
    r"|[<>][Mm]8(?:\[(?:[1-9][0-9]{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
)
_MAX_BYTES: Final = 2**31
_MAX_DIMENSIONS: Final = 32
_ORDERS: Final = frozenset({"C", "F", "S"})

SCALARS: Final = (
    *("bool", "bool_", "float16", "float32", "float64", "complex64", "complex128"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("str_", "bytes_", "datetime64", "timedelta64"),
)
"""Names of the classes of scalars that have an encoding."""


def encode_ndarray(value: Any) -> Ext:
    """Encode an array, or a scalar, of a plain dtype."""
    return _encode(value, _order(value))


def _order(value: Any) -> str:
    if type(value).__name__ != "ndarray":
        return "S"
    flags = value.flags
    return "F" if flags.f_contiguous and not flags.c_contiguous else "C"


def _encode(value: Any, order: str) -> Ext:
    dtype = value.dtype
    if not _DTYPE.fullmatch(dtype.str) or dtype.metadata is not None:
        raise NotPlainError(f"an array of dtype {dtype!r} is not plain data")
    if value.nbytes >= _MAX_BYTES:
        raise NotPlainError(f"an array of {value.nbytes} bytes is not plain data")
    data = value.tobytes() if order == "S" else value.tobytes(order)
    return Ext(EXT_NDARRAY, ormsgpack.packb([dtype.str, order, [*value.shape], data]))


def encode_canonical(value: Any) -> Ext:
    """Encode an array or a scalar so that equal ones of a dtype have equal bytes."""
    import numpy

    order = _order(value)
    array = numpy.array(value, order="C", copy=True)
    if array.dtype.kind in "fc":
        array += 0  # -0.0 becomes 0.0
        parts = array.reshape(-1).view(array.real.dtype)
        parts[numpy.isnan(parts)] = math.nan
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return _encode(array, "S" if order == "S" else "C")


def load_ndarray(payload: bytes) -> Any:
    """Return the array or scalar of a payload.

    Raises:
        UnavailableError: numpy is not installed.
        CodecError: The payload makes no sense.
    """
    try:
        import numpy
    except ImportError as exc:
        raise note_trouble(
            UnavailableError("a value is an array of numpy, which is not installed here")
        ) from exc
    name, order, shape, data = ormsgpack.unpackb(payload)
    if type(name) is not str or not _DTYPE.fullmatch(name) or order not in _ORDERS:
        raise CodecError("an array has no plain dtype, or no order")
    if type(data) is not bytes or not _is_shape(shape):
        raise CodecError("an array has no shape, or no data")
    dtype = numpy.dtype(name)
    if len(data) != dtype.itemsize * math.prod(shape):
        raise CodecError("an array is not as long as its shape")
    array = numpy.ndarray(shape, dtype, bytearray(data), order="F" if order == "F" else "C")
    _check_elements(numpy, array.reshape(-1, order="A") if array.size else array)
    if order == "S" and shape:
        raise CodecError("a scalar has dimensions")
    return array[()] if order == "S" else array


def _is_shape(shape: Any) -> bool:
    return (
        type(shape) is list
        and len(shape) <= _MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size < _MAX_BYTES for size in shape)
    )


def _check_elements(numpy: Any, elements: Any) -> None:
    """Refuse bit patterns that no operation makes, and that others do not expect."""
    kind = elements.dtype.kind
    if not elements.size or kind not in "bU":
        return
    if kind == "b":
        wrong = elements.view(numpy.uint8) > 1
    else:
        points = numpy.ascontiguousarray(elements).view(elements.dtype.byteorder + "u4")
        wrong = points > 0x10FFFF
    if wrong.any():
        raise CodecError("an array has elements that its dtype does not have")
