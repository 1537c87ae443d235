"""The careful way to encode plain data, and the only one for keys of an unusual shape.

`plain.dumps` comes here when the library refused a value or wrote it as something else. A
builder turns the value into what the library writes exactly: native values and `Ext` objects.
For values it keeps everything as it is. For keys it is *canonical*: of equal values of equal
types it makes equal bytes (the rules are in `keys`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, ClassVar, Final

import ormsgpack
from ormsgpack import Ext

from diskcache.codecs import plain_canon
from diskcache.codecs import plain_ext as ext
from diskcache.codecs.registered import BY_TYPE, Registered, nearest_base
from diskcache.errors import NotPlainError

_packb = ormsgpack.packb

NOT_PLAIN: Final = " is not plain data"
"""End of every refusal; others put their own before or behind it."""

_STR: Final = frozenset((str,))
_FLAT: Final = ext.SCALARS
_FLAT_CANONICAL: Final = ext.SCALARS - {float}
"""Types that a canonical encoding leaves to the library: a float may be -0.0 or a NaN."""

_UINT64_MAX: Final = 2**64 - 1
_INT64_MIN: Final = -(2**63)


def dumps(value: Any, *, canonical: bool = False) -> bytes:
    """Encode *value* as `plain.dumps` does, or canonically.

    Raises:
        NotPlainError: A type inside is not plain, or the nesting is too deep.
    """
    if not canonical and _is_hopeless(type(value)):
        raise NotPlainError(f"{_described(type(value))}{NOT_PLAIN}")
    try:
        try:
            return _dumps(_Builder(canonical=canonical, careful=False), value)
        except TypeError as exc:
            if isinstance(exc, NotPlainError):
                raise
            # The library refused text somewhere in a flat container: look at each.
            return _dumps(_Builder(canonical=canonical, careful=True), value)
    except RecursionError:
        raise NotPlainError(
            "a value nested too deep for what is left of the recursion limit is not plain data"
        ) from None


def _is_hopeless(kind: type[Any]) -> bool:
    """Whether no value of this type is plain: most that are to be pickled are told at once."""
    return (
        kind not in ext.SCALARS
        and kind not in ext.CONTAINERS
        and kind not in BY_TYPE
        and ext.resolve(kind) is None
    )


def _described(kind: type[Any]) -> str:
    base = nearest_base(kind)
    if base is None:
        return f"{kind!r}"
    return f"{kind!r} (registered is {base!r}, and only that exact type)"


def _dumps(builder: _Builder, value: Any) -> bytes:
    kind = type(value)
    if kind is tuple:
        # An array that is not announced as a list is a tuple.
        data = builder.pack(builder.build_items(value, 1, "[{}]"))
    else:
        data = builder.pack(builder.build(value, 1))
    if kind is list or (kind is int and data[0] < 0x80):
        data = b"V" + data
    builder.check_size(data)
    return data


def _key_leaf(value: Any) -> Ext:
    encoder = plain_canon.resolve(type(value))
    if encoder is None:
        raise TypeError
    return encoder(value)


def _make_key_hook(deeper: Callable[[Any], Ext] | None) -> Callable[[Any], Ext]:
    """Return the canonical counterpart of `plain_ext.HOOKS` for one level."""
    if deeper is None:
        return _key_leaf

    def hook(value: Any) -> Ext:
        kind = type(value)
        if kind is tuple:
            return Ext(ext.EXT_TUPLE, _packb([*value], deeper, KEY_OPTIONS))
        if kind is frozenset or kind is set:
            code = ext.EXT_SET if kind is set else ext.EXT_FROZENSET
            return Ext(code, array(sorted(_packb(item, deeper, KEY_OPTIONS) for item in value)))
        if kind is slice:
            return Ext(ext.EXT_SLICE, _packb(ext.slice_parts(value), deeper, KEY_OPTIONS))
        return _key_leaf(value)

    return hook


def _make_key_hooks() -> list[Callable[[Any], Ext]]:
    hooks = [_make_key_hook(None)]
    for _ in range(ext.FREE_LEVELS):
        hooks.insert(0, _make_key_hook(hooks[0]))
    return hooks


KEY_OPTIONS: Final = ext.OPTIONS | ormsgpack.OPT_SORT_KEYS
KEY_HOOKS: Final = _make_key_hooks()
"""Canonical but for floats, which the library writes without asking: see `keys`."""


class _Builder:
    """Builds the object to pack for one value.

    `build` recurses once per container; `depth` counts containers including the one at hand, so
    what contains itself ends at `MAX_DEPTH`.
    """

    def __init__(self, *, canonical: bool, careful: bool) -> None:
        self._canonical = canonical
        self._careful = careful
        self._flat = _FLAT_CANONICAL if canonical else _FLAT
        self._options = KEY_OPTIONS if canonical else ext.OPTIONS
        self._levels = 0
        self._path: list[str] = []

    def pack(self, built: Any) -> bytes:
        return _packb(built, _leaf_hook, self._options)

    def check_size(self, data: bytes) -> None:
        """Make sure that the decoder will accept payloads nested beyond its free levels."""
        if self._levels > ext.FREE_LEVELS:
            from diskcache.codecs.plain import loads
            from diskcache.errors import CodecError

            try:
                loads(data)
            except CodecError:
                raise NotPlainError("a value both so large and so deep is not plain data") from None

    def build(self, value: Any, depth: int, levels: int = 0) -> Any:
        kind = type(value)
        if kind in ext.SCALARS:
            return self._scalar(value, kind)
        handler = self._handlers.get(kind)
        if handler is not None:
            return handler(self, value, depth, levels)
        entry = BY_TYPE.get(kind)
        if entry is not None:
            return self._registered(entry, value, depth, levels)
        encoder = (plain_canon.resolve if self._canonical else ext.resolve)(kind)
        if encoder is None:
            raise self._refusal(_described(kind))
        try:
            return encoder(value)
        except NotPlainError as exc:
            raise self._refusal(str(exc).removesuffix(NOT_PLAIN)) from None

    def build_items(self, items: Any, depth: int, step: str, levels: int = 0) -> list[Any]:
        """Build the elements of a container that is the *depth*-th around them."""
        if depth > ext.MAX_DEPTH:
            raise NotPlainError(
                f"a value that contains itself or is nested deeper than {ext.MAX_DEPTH} levels "
                "is not plain data"
            )
        self._levels = max(self._levels, levels)
        if not self._careful and self._flat.issuperset(map(type, items)):
            return [*items]
        built = []
        for index, item in enumerate(items):
            self._path.append(step.format(index))
            built.append(self.build(item, depth + 1, levels))
            self._path.pop()
        return built

    def _registered(self, entry: Registered, value: Any, depth: int, levels: int) -> Ext:
        try:
            state = (entry.key_dumps if self._canonical else entry.dumps)(value)
        except NotPlainError as exc:
            raise self._refusal(str(exc).removesuffix(NOT_PLAIN)) from exc
        parts = self.build_items([entry.name, state], depth, " (state)", levels + 1)
        return Ext(ext.EXT_REGISTERED, self.pack(parts))

    def _refusal(self, subject: str) -> NotPlainError:
        where = "".join(self._path)
        return NotPlainError(f"{subject}{' at value' + where if where else ''}{NOT_PLAIN}")

    def _scalar(self, value: Any, kind: type[Any]) -> Any:
        if kind is float and self._canonical:
            return plain_canon.normal_float(value)
        if kind is int and not _INT64_MIN <= value <= _UINT64_MAX:
            return ext.encode_int(value)
        if kind is str and has_surrogates(value):
            return Ext(ext.EXT_TEXT, value.encode("utf-8", "surrogatepass"))
        return value

    # -- One method per type of container --

    def _list(self, value: list[Any], depth: int, levels: int) -> Any:
        return self.build_items(value, depth, "[{}]", levels)

    def _tuple(self, value: tuple[Any, ...], depth: int, levels: int) -> Any:
        return Ext(ext.EXT_TUPLE, self.pack(self.build_items(value, depth, "[{}]", levels + 1)))

    def _set(self, value: Iterable[Any], depth: int, levels: int) -> Any:
        code = ext.EXT_SET if type(value) is set else ext.EXT_FROZENSET
        items = self.build_items(value, depth, " (element)", levels + 1)
        if self._canonical:
            return Ext(code, array(sorted(map(self.pack, items))))
        return Ext(code, self.pack(items))

    def _slice(self, value: slice, depth: int, levels: int) -> Any:
        parts = self.build_items(ext.slice_parts(value), depth, "[{}]", levels + 1)
        return Ext(ext.EXT_SLICE, self.pack(parts))

    def _dict(self, value: dict[Any, Any], depth: int, levels: int) -> Any:
        if _STR.issuperset(map(type, value)) and not (
            self._careful and any(map(has_surrogates, value))
        ):
            return self._map(value, depth, levels)
        keys = self.build_items([*value], depth, " (key)", levels + 1)
        values = [*self._map(value, depth, levels + 1, keep_keys=False).values()]
        if not self._canonical:
            return Ext(
                ext.EXT_DICT, self.pack([*chain.from_iterable(zip(keys, values, strict=True))])
            )
        pairs = sorted(zip(map(self.pack, keys), map(self.pack, values), strict=True))
        return Ext(ext.EXT_DICT, array([*chain.from_iterable(pairs)]))

    def _map(
        self, value: dict[Any, Any], depth: int, levels: int, *, keep_keys: bool = True
    ) -> dict[Any, Any]:
        if depth > ext.MAX_DEPTH:
            self.build_items((), depth, "")
        if not self._careful and self._flat.issuperset(map(type, value.values())):
            return value
        built = {}
        for number, (key, item) in enumerate(value.items()):
            self._path.append(f"[{key!r}]")
            built[key if keep_keys else number] = self.build(item, depth + 1, levels)
            self._path.pop()
        return built

    _handlers: ClassVar[dict[type[Any], Callable[[_Builder, Any, int, int], Any]]] = {
        list: _list,
        tuple: _tuple,
        set: _set,
        frozenset: _set,
        slice: _slice,
        dict: _dict,
    }


def _leaf_hook(value: Any) -> Ext:
    """Encode what flat containers leave over: an int that the library cannot hold."""
    if type(value) is int:
        return ext.encode_int(value)
    raise TypeError


def has_surrogates(text: str) -> bool:
    """Whether *text* has a code point that UTF-8 cannot encode."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def array(parts: list[bytes]) -> bytes:
    """Return a MessagePack array of objects that are encoded already."""
    size = len(parts)
    if size < 0x10:
        header = bytes((0x90 | size,))
    elif size < 0x10000:
        header = b"\xdc" + size.to_bytes(2, "big")
    else:
        header = b"\xdd" + size.to_bytes(4, "big")
    return header + b"".join(parts)
