"""Pickles of version 5 as data: a reader that can import nothing and call nothing.

Version 5 pickled whatever was no text, bytes or number. Most of that is made of the built-in types,
and its pickle names no class. This reader understands just those operations of a pickle, protocols
0 to 5, that build None, bool, int, float, str, bytes, bytearray, list, tuple, set, frozenset and
dict. Anything else (a class or function, a persistent id, an extension code, a buffer out of band)
ends in `ForeignPickleError`. It is no subclass of an unpickler, so there is no machine behind it
that could be talked into more.

A type that is only mentioned, as in the keys of functions memoized with `typed=True`, is data too
if it is one of `names.BUILTIN_TYPES`.

What a pickle refers to many times is one object, but is written many times when it is encoded anew.
So the size of a value with all its parts counted each time is bounded by that of its pickle.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Final, NoReturn, TypeAlias

from diskcache.codecs.names import BUILTIN_TYPES
from diskcache.errors import CodecError

LARGEST_GROWTH: Final = 64
"""How many times longer than its pickle a value may be when nothing in it is shared."""
FREE_GROWTH: Final = 2**16
"""Bytes that a value may always have."""

_DOUBLE: Final = Struct(">d")
_MARK: Final = object()
_CONTAINERS: Final = frozenset({tuple, list, dict, set, frozenset})
_FROZEN: Final = frozenset({tuple, frozenset})


class ForeignPickleError(CodecError):
    """The pickle is of something that is not made of built-in types.

    Attributes:
        name: Module and name of the class or function that it names first; empty if it does
            something else that is not data.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__(f"the pickle names {name}" if name else "the pickle is not plain data")
        self.name = name


class _Mention:
    """A class or function as a pickle names it."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        # Protocols below 3 write the name that the module had in Python 2.
        self.module = "builtins" if module == "__builtin__" else module
        self.name = name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def loads(data: bytes) -> Any:
    r"""Return the value of a pickle that is made of built-in types only.

    Cost: a quarter of a microsecond per operation; memory a small multiple of *data*.

    Raises:
        ForeignPickleError: It names a class or a function.
        CodecError: It is damaged, or no pickle.

    Example:
        >>> loads(b'\x80\x04\x95\x07\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01Ne.')
        [1, None]
    """
    reader = _Reader(data)
    try:
        value = reader.run()
        if reader.shares:
            reader.weigh(value)
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as exc:
        if isinstance(exc, CodecError):
            raise
        raise CodecError(f"cannot read a pickle: {type(exc).__name__}: {exc}") from exc
    return value


def is_pickle(data: bytes) -> bool:
    """Tell whether bytes look like a pickle: a protocol from 2 on, and an end."""
    return len(data) > 2 and data[0] == 0x80 and 2 <= data[1] <= 5 and data[-1:] == b"."


class _Reader:
    """The stack, the memo and the position in one pickle."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.shares = False
        """Whether something may be in two places."""
        self.allowance = LARGEST_GROWTH * len(data) + FREE_GROWTH

    def run(self) -> Any:
        data, table = self.data, _OPERATIONS
        while True:
            operation = data[self.at]
            self.at += 1
            if operation == _STOP:
                return self.plain(self.stack.pop())
            handler = table.get(operation)
            if handler is None:
                raise ForeignPickleError
            handler(self)

    # -- Arguments --

    def take(self, count: int) -> bytes:
        end = self.at + count
        found = self.data[self.at : end]
        if len(found) != count:
            raise CodecError("cannot read a pickle: it ends too early")
        self.at = end
        return found

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def line(self) -> bytes:
        end = self.data.index(b"\n", self.at)
        found = self.data[self.at : end]
        self.at = end + 1
        return found

    def since_mark(self) -> list[Any]:
        """Take everything above the topmost mark, and the mark."""
        stack = self.stack
        place = len(stack) - 1
        while stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise CodecError("cannot read a pickle: it has no mark")
        found = [self.plain(item) for item in stack[place + 1 :]]
        del stack[place:]
        return found

    def top(self, kind: type[Any]) -> Any:
        """Return the container on top of the stack."""
        found = self.stack[-1]
        if type(found) is not kind:
            raise CodecError(f"cannot read a pickle: {kind.__name__} expected")
        return found

    # -- What may become part of a value --

    def plain(self, item: Any) -> Any:
        if item is _MARK:
            raise CodecError("cannot read a pickle: a mark is no value")
        if type(item) is not _Mention:
            return item
        if item.module == "builtins" and item.name in BUILTIN_TYPES:
            return BUILTIN_TYPES[item.name]
        raise ForeignPickleError(str(item))

    def hashable(self, item: Any) -> Any:
        # A tuple hashes its parts each time, and so what it holds many times as often.
        if self.shares and type(item) in _FROZEN:
            self.weigh(item)
        return item

    def set_items(self, target: dict[Any, Any], items: list[Any]) -> None:
        if len(items) % 2:
            raise CodecError("cannot read a pickle: a key without a value")
        for place in range(0, len(items), 2):
            target[self.hashable(items[place])] = items[place + 1]

    def weigh(self, value: Any) -> None:
        """Count a value as if nothing in it were shared.

        Raises:
            CodecError: It contains itself, or grows beyond what its pickle's size allows.
        """
        weight = _weight(value, {}, self.allowance)
        self.allowance -= weight
        if self.allowance < 0:
            raise CodecError("cannot read a pickle: what it shares would take too much memory")


def _weight(value: Any, known: dict[int, int], most: int) -> int:
    kind = type(value)
    if kind not in _CONTAINERS:
        return len(value) + 8 if kind in (str, bytes, bytearray) else 8
    found = known.get(id(value))
    if found is not None:
        if found < 0:
            raise CodecError("cannot read a pickle: a value that contains itself")
        return found
    known[id(value)] = -1
    total = 8
    for part in value:
        total += _weight(part, known, most)
        if kind is dict:
            total += _weight(value[part], known, most)
        if total > most:
            raise CodecError("cannot read a pickle: what it shares would take too much memory")
    known[id(value)] = total
    return total


# -- Operations --------------------------------------------------------------------------------

_Operation: TypeAlias = Callable[[_Reader], None]
_STOP: Final = ord(".")


def _proto(reader: _Reader) -> None:
    if reader.number(1) > 5:
        raise CodecError("cannot read a pickle: its protocol is newer than 5")


def _frame(reader: _Reader) -> None:
    reader.take(8)


def _constant(value: object) -> _Operation:
    def push(reader: _Reader) -> None:
        reader.stack.append(value)

    return push


def _empty(kind: Callable[[], Any]) -> _Operation:
    def push(reader: _Reader) -> None:
        reader.stack.append(kind())

    return push


def _int(width: int, *, signed: bool = False) -> _Operation:
    def push(reader: _Reader) -> None:
        reader.stack.append(int.from_bytes(reader.take(width), "little", signed=signed))

    return push


def _long(width: int) -> _Operation:
    def push(reader: _Reader) -> None:
        data = reader.take(reader.number(width))
        reader.stack.append(int.from_bytes(data, "little", signed=True))

    return push


def _int_text(reader: _Reader) -> None:
    text = reader.line()
    value: int | bool = text == b"01" if text in (b"00", b"01") else int(text)
    reader.stack.append(value)


def _long_text(reader: _Reader) -> None:
    reader.stack.append(int(reader.line().removesuffix(b"L")))


def _float_text(reader: _Reader) -> None:
    reader.stack.append(float(reader.line()))


def _double(reader: _Reader) -> None:
    reader.stack.append(_DOUBLE.unpack(reader.take(8))[0])


def _text(width: int) -> _Operation:
    def push(reader: _Reader) -> None:
        data = reader.take(reader.number(width))
        reader.stack.append(data.decode("utf-8", "surrogatepass"))

    return push


def _text_line(reader: _Reader) -> None:
    reader.stack.append(reader.line().decode("raw-unicode-escape"))


def _bytes(width: int, kind: Callable[[bytes], Any] = bytes) -> _Operation:
    def push(reader: _Reader) -> None:
        reader.stack.append(kind(reader.take(reader.number(width))))

    return push


def _pop(reader: _Reader) -> None:
    reader.stack.pop()


def _pop_mark(reader: _Reader) -> None:
    reader.since_mark()


def _dup(reader: _Reader) -> None:
    reader.shares = True
    reader.stack.append(reader.stack[-1])


def _append(reader: _Reader) -> None:
    item = reader.plain(reader.stack.pop())
    reader.top(list).append(item)


def _appends(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.top(list).extend(items)


def _list(reader: _Reader) -> None:
    reader.stack.append(reader.since_mark())


def _tuple(reader: _Reader) -> None:
    reader.stack.append(tuple(reader.since_mark()))


def _short_tuple(count: int) -> _Operation:
    def push(reader: _Reader) -> None:
        stack = reader.stack
        if len(stack) < count:
            raise CodecError("cannot read a pickle: its stack is empty")
        stack[-count:] = [tuple(map(reader.plain, stack[-count:]))]

    return push


def _dict(reader: _Reader) -> None:
    made: dict[Any, Any] = {}
    reader.set_items(made, reader.since_mark())
    reader.stack.append(made)


def _set_item(reader: _Reader) -> None:
    value, key = reader.plain(reader.stack.pop()), reader.plain(reader.stack.pop())
    reader.set_items(reader.top(dict), [key, value])


def _set_items(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.set_items(reader.top(dict), items)


def _add_items(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.top(set).update(map(reader.hashable, items))


def _frozenset(reader: _Reader) -> None:
    reader.stack.append(frozenset(map(reader.hashable, reader.since_mark())))


def _put(number: Callable[[_Reader], int]) -> _Operation:
    def remember(reader: _Reader) -> None:
        reader.memo[number(reader)] = reader.stack[-1]

    return remember


def _get(number: Callable[[_Reader], int]) -> _Operation:
    def recall(reader: _Reader) -> None:
        reader.shares = True
        reader.stack.append(reader.memo[number(reader)])

    return recall


def _global(reader: _Reader) -> None:
    module, name = reader.line(), reader.line()
    reader.stack.append(_Mention(module.decode(), name.decode()))


def _stack_global(reader: _Reader) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise CodecError("cannot read a pickle: a name is no text")
    reader.stack.append(_Mention(module, name))


def _reduce(reader: _Reader) -> None:
    args, called = reader.stack.pop(), reader.stack.pop()
    if type(called) is _Mention and str(called) == "builtins.type" and args == (None,):
        # The type of None has no name of its own to be pickled by.
        reader.stack.append(type(None))
        return
    _foreign(called)


def _new_object(reader: _Reader) -> None:
    _foreign(reader.stack[-2])


def _foreign(called: object) -> NoReturn:
    raise ForeignPickleError(str(called) if type(called) is _Mention else "")


_OPERATIONS: Final[dict[int, _Operation]] = {
    0x80: _proto,
    0x95: _frame,
    ord("("): _constant(_MARK),
    ord("0"): _pop,
    ord("1"): _pop_mark,
    ord("2"): _dup,
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord("I"): _int_text,
    ord("J"): _int(4, signed=True),
    ord("K"): _int(1),
    ord("M"): _int(2),
    ord("L"): _long_text,
    0x8A: _long(1),
    0x8B: _long(4),
    ord("F"): _float_text,
    ord("G"): _double,
    ord("V"): _text_line,
    ord("X"): _text(4),
    0x8C: _text(1),
    0x8D: _text(8),
    ord("B"): _bytes(4),
    ord("C"): _bytes(1),
    0x8E: _bytes(8),
    0x96: _bytes(8, bytearray),
    ord("]"): _empty(list),
    ord("a"): _append,
    ord("e"): _appends,
    ord("l"): _list,
    ord(")"): _constant(()),
    ord("t"): _tuple,
    0x85: _short_tuple(1),
    0x86: _short_tuple(2),
    0x87: _short_tuple(3),
    ord("}"): _empty(dict),
    ord("d"): _dict,
    ord("s"): _set_item,
    ord("u"): _set_items,
    0x8F: _empty(set),
    0x90: _add_items,
    0x91: _frozenset,
    ord("p"): _put(lambda reader: int(reader.line())),
    ord("q"): _put(lambda reader: reader.number(1)),
    ord("r"): _put(lambda reader: reader.number(4)),
    0x94: _put(lambda reader: len(reader.memo)),
    ord("g"): _get(lambda reader: int(reader.line())),
    ord("h"): _get(lambda reader: reader.number(1)),
    ord("j"): _get(lambda reader: reader.number(4)),
    ord("c"): _global,
    0x93: _stack_global,
    ord("R"): _reduce,
    0x81: _new_object,
}
"""What builds plain data, by the byte that stands for it; every other byte is foreign."""
