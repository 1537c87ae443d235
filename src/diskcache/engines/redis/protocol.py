"""Commands as they are sent, and RESP3 where a connection only listens: no input or output here.

Every message begins with a letter and ends with CR LF:

    +text  -error  :integer  ,double  (big integer  #t or #f  _          one line
    $length text  =length text  !length error                            a length, then its bytes
    *n  ~n  >n  %n  |n      n messages follow (of % and |: n pairs); > is a push, | is skipped
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

LONGEST: Final = 512 * 2**20
"""Bytes of a text, and parts of a message, at most."""
LARGE: Final = 2**14
"""Bytes of a word that is sent by itself, instead of being copied."""
DEEPEST: Final = 8
"""Messages inside of messages at most."""


class Push(list[Any]):
    """What the server says without being asked."""


class Refused:
    """An error that the server answered with."""

    def __init__(self, text: str) -> None:
        self.text = text


def packed(words: Sequence[Any]) -> list[bytes]:
    """Return a command as it is sent, in pieces.

    Args:
        words: Its words: bytes, text or numbers.
    """
    pieces: list[bytes] = []
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if type(word) is bytes else str(word).encode()
        if len(data) < LARGE:
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
            continue
        parts.append(b"$%d\r\n" % len(data))
        pieces += (b"".join(parts), data)
        parts = [b"\r\n"]
    pieces.append(b"".join(parts))
    return pieces


def encode(*words: bytes) -> bytes:
    """Return a command as it is sent, in one piece."""
    return b"".join(packed(words))


class Decoder:
    """Turns bytes, in whatever pieces they come, into messages.

    Its memory is that of what it was fed. After an error it is of no more use.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._messages: list[Any] = []
        self._work = self._read_all()
        next(self._work)

    def feed(self, data: bytes) -> list[Any]:
        """Return the messages that are complete.

        Raises:
            ValueError: It is no RESP3.
        """
        self._buffer = self._buffer[self._at :] + data
        self._at = 0
        self._work.send(None)
        found, self._messages = self._messages, []
        return found

    def _read_all(self) -> Generator[None, None, None]:
        yield
        while True:
            message = yield from self._message(0)
            self._messages.append(message)

    def _line(self) -> Generator[None, None, bytes]:
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            if len(self._buffer) - self._at > LONGEST:
                raise ValueError("a line without an end")
            yield
        line = self._buffer[self._at : end]
        self._at = end + 2
        return line

    def _text(self, length: int) -> Generator[None, None, bytes]:
        if not 0 <= length <= LONGEST:
            raise ValueError(f"a text of {length} bytes")
        if len(self._buffer) - self._at < length + 2:
            yield from self._wait_for(length + 2)
        text = self._buffer[self._at : self._at + length]
        self._at += length + 2
        return text

    def _wait_for(self, length: int) -> Generator[None, None, None]:
        """Collect pieces of something long without copying all of it for each."""
        pieces, size = [self._buffer[self._at :]], len(self._buffer) - self._at
        while size < length:
            self._buffer, self._at = b"", 0
            yield
            pieces.append(self._buffer)
            size += len(self._buffer)
        self._buffer, self._at = b"".join(pieces), 0

    def _message(self, depth: int) -> Generator[None, None, Any]:
        line = yield from self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            length = int(rest)
            return None if length == -1 else (yield from self._text(length))
        if kind in _MANY:
            return (yield from self._parts(kind, int(rest), depth + 1))
        if kind in (b"=", b"!"):
            text = yield from self._text(int(rest))
            return text[4:] if kind == b"=" else Refused(text.decode(errors="replace"))
        if kind not in _SINGLE:
            raise ValueError(f"a message that begins with {kind!r}")
        return _SINGLE[kind](rest)

    def _parts(self, kind: bytes, length: int, depth: int) -> Generator[None, None, Any]:
        if depth > DEEPEST or not -1 <= length <= LONGEST:
            raise ValueError(f"a message of {length} parts, {depth} deep")
        found: list[Any] = Push() if kind == b">" else []
        for _ in range(length * 2 if kind in (b"%", b"|") else length):
            part = yield from self._message(depth)
            found.append(part)
        return (yield from self._message(depth)) if kind == b"|" else found


_MANY: Final = frozenset({b"*", b"~", b">", b"%", b"|"})
_SINGLE: Final[dict[bytes, Any]] = {
    b"+": bytes,
    b"-": lambda text: Refused(text.decode(errors="replace")),
    b":": int,
    b"(": int,
    b",": float,
    b"#": lambda text: text == b"t",
    b"_": lambda _: None,
}
