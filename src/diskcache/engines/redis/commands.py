"""What to send to the server, and how to read its answers: no input or output here.

A `Call` is one script on one shard; anything else is a plain command, a tuple. Drivers send them;
what a script asks for, the tags of entries that it met, is added and the call sent again.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from math import ceil, isfinite
from typing import Any, Final, NamedTuple, TypeAlias

from diskcache.engines.redis import keyspace, scripts
from diskcache.engines.redis.keyspace import Entry, Shard
from diskcache.engines.redis.scripts import Script
from diskcache.entry import GUARD, EncodedKey, Only, Payload, Tag
from diskcache.errors import QueueFullError, QueueKeyError
from diskcache.keys import QUEUE_END, queue_bounds

Command: TypeAlias = tuple[Any, ...]
"""Name and arguments."""

TIDIED: Final = 10
"""Expired entries that a write removes in passing."""
LOOKS: Final = 4
"""Idents that a write looks at, where the server may evict any key: two in each list, which keeps
it within about twice of what it should be."""
READS: Final = "*"
"""Token of what only reads."""
LONGEST_LIFE: Final = 2**53
"""Milliseconds; what lives longer does not expire on the server."""

_random = random.SystemRandom()

SHORT: Final = frozenset({scripts.PUT, scripts.DROP})
"""Scripts whose ARGV are nothing but their own."""


class Call(NamedTuple):
    """One script on one shard."""

    script: Script
    shard: Shard
    keys: tuple[bytes, ...]
    args: tuple[Any, ...]
    now: float
    tidy: str = "0:0"
    token: str = ""
    tags: tuple[bytes, ...] = ()
    is_idempotent: bool = False
    """Whether it may be sent again if nobody knows whether it arrived."""

    def with_tag(self, tag: bytes) -> Call:
        """Return the call with the keys of one more tag."""
        return self._replace(tags=(*self.tags, tag))

    def written(self, answer: Any) -> list[bytes]:
        """Return the keys that the script has changed, or may have, if nobody knows the answer.

        Those are enough that say whether what is kept of an entry still counts.
        """
        if self.token == READS:
            return []
        if self.script is scripts.RENEW:
            return [*map(self.shard.tag_version, self.tags)] or [self.shard.versions]
        if self.script is scripts.PUSH:
            return [self.shard.entry + answer[1]] if answer and answer[0] == b"key" else []
        return list(self.keys)

    def all_keys(self) -> list[bytes]:
        """Return KEYS of the script."""
        shard = self.shard
        found = [shard.versions, shard.lock, shard.order, shard.keys, shard.times, *self.keys]
        for tag in self.tags:
            found += [shard.tag_version(tag), shard.tagged(tag)]
        return found

    def all_args(self) -> list[Any]:
        """Return ARGV of the script."""
        if self.script in SHORT:
            return list(self.args)
        return [
            self.token,
            repr(self.now),
            _random.randbytes(24),
            self.tidy,
            len(self.tags),
            *self.tags,
            *self.args,
        ]


class Refusal(NamedTuple):
    """What a script answers instead of doing anything."""

    word: bytes
    """`busy`, `lost` or `tag`."""
    tag: bytes = b""


def refusal_of(answer: Any) -> Refusal | None:
    """Return the refusal in an answer, if it is one."""
    if type(answer) is not list or not answer:
        return None
    word = answer[0]
    if word == b"tag" and len(answer) == 3:
        return Refusal(word, answer[2])
    return Refusal(word) if word in (b"busy", b"lost") and len(answer) == 1 else None


# -- Changes ---------------------------------------------------------------------------------


class Change(NamedTuple):
    """One change of one entry, as the script APPLY takes it."""

    what: bytes
    ident: bytes
    condition: bytes = b""
    head: bytes = b""
    tag: bytes = b""
    tail: bytes = b""
    life: bytes = b""
    removable: bytes = b""

    @property
    def size(self) -> int:
        """Roughly the bytes that it sends."""
        return len(self.tail) + 2 * len(self.ident) + 100


def new_version() -> int:
    """Return a version that no other entry has had, whatever seeds programs choose."""
    return _random.getrandbits(63)


def version_bytes(version: int) -> bytes:
    """Return a version as it stands in an entry."""
    return (version % 2**64).to_bytes(8, "big")


def condition_bytes(only: Only | int) -> bytes:
    """Return a condition as scripts take it."""
    if isinstance(only, int):
        return version_bytes(only)
    return b"-" if only is Only.ABSENT else b""


def life_of(expire_time: float | None, now: float, grace: float = 0) -> tuple[bytes, bytes]:
    """Return for how many milliseconds the server keeps an entry, and when it may be removed.

    Both are empty where that is for ever.
    """
    if expire_time is None or not isfinite(expire_time):
        return b"", b""
    milliseconds = (expire_time + grace - now) * 1000
    if milliseconds > LONGEST_LIFE:
        return b"", b""
    return b"%d" % ceil(max(milliseconds, 1)), repr(expire_time + grace).encode()


def put_change(
    key: EncodedKey,
    payload: Payload,
    expire_time: float | None,
    tag: Tag,
    now: float,
    only: Only | int = Only.ALWAYS,
) -> Change:
    """Return the change that stores an entry.

    Raises:
        TagTypeError: The tag cannot be stored.
    """
    mode, value, _ = payload
    kind, data = keyspace.pack_value(value)
    if expire_time is not None and expire_time != expire_time:  # noqa: PLR0124 - NaN
        expire_time = None
    return Change(
        b"P" if mode & GUARD else b"p",
        keyspace.ident_of(key),
        condition_bytes(only),
        keyspace.pack_head(mode, kind, new_version(), expire_time),
        keyspace.tag_ident(tag),
        data,
        *life_of(expire_time, now, keyspace.grace_of(mode)),
    )


def delete_change(key: EncodedKey, version: int | None = None) -> Change:
    """Return the change that removes a live entry, if it has that version."""
    condition = b"" if version is None else version_bytes(version)
    return Change(b"d", keyspace.ident_of(key), condition)


def sweep_change(ident: bytes, tag: bytes = b"", *, with_grace: bool = True) -> Change:
    """Return the change that removes what is left of an entry that is not alive.

    With a tag, also from the set of that, unless it is the tag of the entry. Without *with_grace*
    an entry in grace stays.
    """
    return Change(b"x" if with_grace else b"s", ident, tag=tag)


def apply(
    shard: Shard,
    changes: Sequence[Change],
    now: float,
    tidy: str,
    token: str = "",
    tags: Iterable[bytes] = (),
) -> Call:
    """Return the call that makes all of *changes*, or none.

    The answer is a list with 1 for each that was made, else 0.
    """
    declared = dict.fromkeys(change.tag for change in changes if change.tag)
    declared.update(dict.fromkeys(tags))
    return Call(
        scripts.APPLY,
        shard,
        tuple(shard.entry + change.ident for change in changes),
        tuple(part for change in changes for part in change),
        now,
        tidy,
        token,
        tuple(declared),
        all(not change.condition and change.what != b"d" for change in changes),
    )


_UNVERSIONED: Final = bytes(keyspace.HEADER.size - keyspace.HEAD.size)
"""Two versions that are not known yet, and the length of no tag."""


def put_alone(shard: Shard, change: Change, now: float, most: int) -> Call:
    """Return the call that stores one entry without a tag; the answer is 0 if `apply` must do it.

    Args:
        shard: The shard.
        change: A put on no condition, of an entry without a tag that is no guard.
        now: The moment.
        most: How many expired entries to remove in passing.
    """
    _, ident, _, head, _, tail, life, removable = change
    args: tuple[Any, ...] = (b"".join((head, _UNVERSIONED, tail)), most, f"({now!r}")
    if life:
        args += (life, removable)
    return Call(scripts.PUT, shard, (shard.entry + ident,), args, now, is_idempotent=True)


def drop_alone(shard: Shard, ident: bytes, now: float) -> Call:
    """Return the call that removes one live entry without a tag.

    The answer is 1 or 0 for whether there was one, or a list if `apply` must do it.
    """
    return Call(scripts.DROP, shard, (shard.entry + ident,), (repr(now),), now)


def touch(
    shard: Shard, ident: bytes, expire_time: float | None, now: float, token: str = ""
) -> Call:
    """Return the call that changes an expiry; the answer is 1 if there was a live entry."""
    renewed = keyspace.pack_head(0, b"n", new_version(), expire_time)[10:26]
    args = (ident, renewed, *life_of(expire_time, now))
    return Call(scripts.TOUCH, shard, (shard.entry + ident,), args, now, token=token)


def hold_off(shard: Shard, ident: bytes, version: int, mode: int, now: float) -> Call:
    """Return the call that changes the mode of an entry, if it is of that version."""
    args = (ident, version_bytes(version), mode.to_bytes(8, "big"))
    return Call(scripts.HOLD, shard, (shard.entry + ident,), args, now, is_idempotent=True)


def add(shard: Shard, ident: bytes, delta: int, now: float, token: str = "") -> Call:
    """Return the call that adds to a 64-bit integer; see the script."""
    args = (ident, b"%d" % delta, version_bytes(new_version()))
    return Call(scripts.ADD, shard, (shard.entry + ident, shard.scratch), args, now, token=token)


def push(
    shard: Shard, prefix: str | None, side: str, change: Change, now: float, tidy: str
) -> Call:
    """Return the call that stores an entry beyond an end of a queue.

    Args:
        shard: That of the queue.
        prefix: Name of the queue.
        side: `'back'` or `'front'`.
        change: The put; its ident is the one that is expected, or empty.
        now: The moment.
        tidy: See `scripts`.
    """
    low, high = queue_range(prefix)
    start = b"1" if prefix is None else b"2" + prefix.encode() + b"-"
    what, expected, _, head, tag, tail, life, removable = change
    args = (start, low, high, QUEUE_END, side, expected, what, head, tag, tail, life, removable)
    return Call(scripts.PUSH, shard, (), args, now, tidy, tags=(tag,) if tag else ())


def queue_range(prefix: str | None) -> tuple[bytes, bytes]:
    """Return the idents strictly between which a queue lies."""
    low, high = queue_bounds(prefix)
    return keyspace.ident_of((low, 1)), keyspace.ident_of((high, 1))


def read_push(answer: Any, prefix: str | None, side: str) -> tuple[bytes, bool]:
    """Return the ident of a push, and whether the entry was stored under it.

    Raises:
        QueueKeyError: The key at that end does not end in a number.
        QueueFullError: No number is left on that side.
    """
    if answer[0] == b"bad":
        last = keyspace.key_of(answer[1])[0]
        raise QueueKeyError(
            f"cannot push to queue {prefix!r}: its last key {last!r} does not end in a number;"
            " choose a prefix that no other key starts with, or remove that key"
        )
    if answer[0] == b"full":
        raise QueueFullError(
            f"cannot push to the {side} of queue {prefix!r}: numbers run from 1 to"
            f" {QUEUE_END - 1}; push to the other side, or empty the queue"
        )
    return answer[1], answer[0] == b"key"


def renew(shard: Shard, what: str, now: float, tag: bytes = b"") -> Call:
    """Return the call after which what was stored before counts no more."""
    tags = (tag,) if tag else ()
    return Call(scripts.RENEW, shard, (), (what,), now, tags=tags, is_idempotent=True)


# -- Reads -----------------------------------------------------------------------------------


def get(shard: Shard, ident: bytes) -> Command:
    """Return the command that reads an entry and the version of its shard."""
    return "MGET", shard.entry + ident, shard.versions


def head(shard: Shard, ident: bytes) -> Command:
    """Return the command that reads an entry without most of its value."""
    return "GETRANGE", shard.entry + ident, 0, keyspace.LOOK


def read_head(data: bytes) -> Entry | None:
    """Return what `head` says, but for the value; of a tag that is too long nothing is known."""
    return keyspace.read_entry(data, with_value=False)


def edge(shard: Shard, command: str, bounds: tuple[bytes, bytes], most: int, now: float) -> Call:
    """Return the call that finds the first live entry of a range.

    Args:
        shard: The shard.
        command: `ZRANGEBYLEX`, `ZREVRANGEBYLEX`, `ZRANGEBYSCORE` or `ZREVRANGEBYSCORE`.
        bounds: From and to, as that command takes them.
        most: How many to look at.
        now: The moment.
    """
    args = (command, *bounds, most)
    return Call(scripts.EDGE, shard, (), args, now, token=READS, is_idempotent=True)


class Edge(NamedTuple):
    """What `edge` found."""

    met: list[bytes]
    """Idents; the last is that of the entry, if there is one."""
    entry: Entry | None = None
    score: float = 0.0
    damaged: bytes | None = None
    """What is under the last ident, if it cannot be read."""


def read_edge(answer: Any) -> Edge:
    """Return what the answer to `edge` says."""
    if len(answer) == 1:
        return Edge(answer[0])
    met, data, score = answer
    entry = keyspace.read_entry(data)
    return Edge(met, entry, float(score) if score else 0.0, data if entry is None else None)
