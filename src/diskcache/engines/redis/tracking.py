"""Which entries in memory are still those on the server: no input or output here.

The server tells of every key of the namespace that changes (`CLIENT TRACKING ON BCAST`), on a
connection of its own to each master, and this module draws the conclusions. As on one machine
(see `diskcache.coherence`) every key belongs to a *generation*, here a number in this process.

    a read                                      a write of this process
    1  g := generation of the key               1  send it, await the answer
    2  ask the server                           2  another generation
    3  keep what it answered under g            3  return to the caller
    a hit: the generation is still g            told of a write: another generation

*Reads its own writes.* A hit after step 3 of a write was kept under a generation that was read
after step 2, and so asked for after the write. What was on its way at that moment was asked for
under the generation before, and is never a hit. The same goes for what others write, from the
moment at which this process is told. Generations are drawn from one counter and never come again.

*Never older than a second.* `Line` asks each master for a sign of life (PING) four times a second
and is told of writes on the same connection, in order. What the server did before it received the
PING is known when the answer is there. So a hit needs an answer to something that was asked less
than `TRUST` seconds ago. Only one PING is under way at a time: the server tells of writes at the
end of a turn of its loop, after what it answers in that turn, and a PING that was sent before a
turn began was sent before the writes of that turn were made.

*A connection that is lost*, an answer that does not come, a master that is another one now, all
keys gone (FLUSHALL): everything is forgotten, which is one step, because what is kept refers to a
`Source` that is retired.

*Tags.* An entry counts only while its tag has the version that it was stored under. A change of
that version is told by the key `:g:TAG`; who reads an entry with a tag notes the generations that
depend on it, before asking for the version.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import count
from time import monotonic
from typing import Any, Final, NamedTuple
from zlib import crc32

from diskcache.coherence import INFINITY, Source, Tally
from diskcache.engines.redis.protocol import Decoder, Push, Refused, encode

TRUST: Final = 1.0
"""Seconds for which a sign of life is good."""
BEAT: Final = 0.25
"""Seconds between two signs of life."""
SLOTS: Final = 2**16
"""Generations. Keys that share one are forgotten together."""
LAST_SLOT: Final = SLOTS - 1
MOST_TAGGED: Final = 2**16
"""Pairs of a tag and a generation that are remembered; with one more everything is forgotten."""
NARROW: Final = 4
"""Shards up to which the server is asked for exactly the keys that matter; it compares every key
that changes with every prefix."""


class Ticket(NamedTuple):
    """Under what an answer may be kept, drawn before the server is asked."""

    source: Source
    slot: int
    generation: int
    epoch: int
    """Grows when connections that tell of changes are made, for the first time or anew."""


class Tracking:
    """What a process knows of the newness of what it keeps of one namespace. Thread-safe."""

    def __init__(self, namespace: str) -> None:
        self._start = f"{{{namespace}:".encode()
        self._words: memoryview[int] | None = None
        self._source: Source | None = None
        self._numbers: Iterator[int] = count(2, 2)
        self.epoch = 0
        self.tally = Tally()
        """Hits of memory that are not written down yet."""
        self.reset()

    def reset(self) -> None:
        """Forget everything, the lock included: a thread that is not here may hold it."""
        # A signal handler, or a finalizer, may use the cache in the middle of this.
        self._lock = threading.RLock()
        self._tagged: dict[bytes, set[int]] = {}
        self._pairs = self._hidden = 0
        self._retire()

    # -- Reads --

    def ticket(self, ident: bytes) -> Ticket | None:
        """Return under what an entry may be kept; None while nothing may be."""
        with self._lock:
            source, epoch = self._source, self.epoch
        if source is None:
            return None
        slot = crc32(ident) & LAST_SLOT
        generation = source.words[slot]
        # While a step of a structure hides what is kept, all generations look odd.
        return None if generation & 1 else Ticket(source, slot, generation, epoch)

    def note_tag(self, tag: bytes, slot: int) -> None:
        """Note that a generation depends on a tag, before the version of that is asked for."""
        with self._lock:
            slots = self._tagged.setdefault(tag, set())
            self._pairs += slot not in slots
            slots.add(slot)
            if self._pairs > MOST_TAGGED:
                self._forget()

    # -- What has changed --

    def invalidate(self, keys: Iterable[bytes] | None) -> None:
        """Note that keys have changed on the server, or all of them."""
        if keys is None:
            with self._lock:
                self._forget()
            return
        words, start = self._words, self._start
        if words is None:
            return
        for key in keys:
            head, _, rest = key.partition(b"}:")
            if not head.startswith(start):
                continue
            if rest.startswith(b"e:"):
                words[crc32(rest[2:]) & LAST_SLOT] = next(self._numbers)
            elif rest.startswith(b"g:"):
                self._renew(rest[2:])
            elif rest == b"v":
                with self._lock:
                    self._forget()

    def _renew(self, tag: bytes) -> None:
        with self._lock:
            slots, words = self._tagged.pop(tag, None), self._words
            if slots is not None and words is not None:
                self._pairs -= len(slots)
                for slot in slots:
                    words[slot] = next(self._numbers)

    def _forget(self) -> None:
        """Forget everything that is kept, with the lock in hand; the connections are good."""
        words, until = self._words, -INFINITY if self._source is None else self._source.look_at
        self._tagged, self._pairs = {}, 0
        if self._source is not None and words is not None:
            made = self._new_source(words, until)
            self._retire()
            self._source = made

    # -- Connections --

    def begin(self, until: float) -> int:
        """Keep what is read from now on: all masters tell of what changes.

        Returns:
            The epoch that begins, for `trust` and `lost`.
        """
        with self._lock:
            self._retire()
            if self._words is None:
                self._words = memoryview(bytearray(8 * SLOTS)).cast("Q")
            self.epoch += 1
            self._tagged, self._pairs = {}, 0
            self._source = self._new_source(self._words, until)
            return self.epoch

    def _retire(self) -> None:
        if self._source is not None:
            self._source.retire()
            self._source = None

    def _new_source(self, words: memoryview[int], until: float) -> Source:
        source = Source(words)
        source.tally = self.tally
        source.trust(until)
        for _ in range(self._hidden):
            source.hide()
        return source

    def trust(self, epoch: int, until: float) -> None:
        """Believe in what is kept until a moment of the clock that nobody can set."""
        with self._lock:
            if self._source is not None and epoch == self.epoch:
                self._source.trust(until)

    def lost(self, epoch: int) -> None:
        """Forget everything, and keep nothing until `begin`."""
        with self._lock:
            if epoch == self.epoch:
                self._retire()

    @property
    def is_live(self) -> bool:
        """Whether what is kept may be a hit now."""
        source = self._source
        return source is not None and monotonic() < source.look_at

    # -- Steps of structures --

    def hide(self) -> None:
        """Let nothing be a hit while a thread sees what only it has written."""
        with self._lock:
            self._hidden += 1
            if self._source is not None:
                self._source.hide()

    def show(self) -> None:
        """Undo one `hide`."""
        with self._lock:
            # In a forked child nothing is hidden any more.
            if self._hidden:
                self._hidden -= 1
                if self._source is not None:
                    self._source.show()


def prefixes(namespace: str, shards: int) -> list[bytes]:
    """Return what the keys that matter begin with, and few others."""
    if shards > NARROW:
        return [f"{{{namespace}:".encode()]
    return [
        f"{{{namespace}:{number}}}:{kind}".encode()
        for number in range(shards)
        for kind in ("e:", "g:", "v")
    ]


class LineLostError(Exception):
    """A master tells of no changes any more, or not of all."""


class Line:
    """The conversation with one master, on a connection that speaks RESP3.

    Whoever drives it sends what `greeting` and `beat` return, and hands on what it receives.

    Args:
        tracking: Is told what changes.
        starts: What the keys begin with.
        is_cluster: Whether to ask for the state of a cluster as well.
    """

    def __init__(self, tracking: Tracking, starts: list[bytes], *, is_cluster: bool) -> None:
        self._tracking = tracking
        self._starts = starts
        self._beat = encode(b"CLUSTER", b"INFO") if is_cluster else encode(b"PING")
        self._is_cluster = is_cluster
        self._decoder = Decoder()
        self._is_tracked = False
        self._asked_at: float | None = None
        self._next_at = -INFINITY
        self._members: list[bytes] | None = None
        self.good_until = -INFINITY
        """Until when the connection counts as one that told everything."""

    def greeting(self) -> bytes:
        """Return what to send first."""
        words = [b"CLIENT", b"TRACKING", b"ON", b"BCAST"]
        for start in self._starts:
            words += [b"PREFIX", start]
        return encode(*words)

    def beat(self, now: float) -> bytes:
        """Return what to send now, if anything.

        Raises:
            LineLostError: An answer is overdue.
        """
        if self._asked_at is not None:
            if now - self._asked_at > TRUST:
                raise LineLostError("no sign of life for a second")
            return b""
        if not self._is_tracked or now < self._next_at:
            return b""
        self._asked_at, self._next_at = now, now + BEAT
        return self._beat

    def receive(self, data: bytes) -> None:
        """Take what the server sent.

        Raises:
            LineLostError: It refuses, or is a member of another cluster now.
            ValueError: It is no RESP3.
        """
        for message in self._decoder.feed(data):
            if isinstance(message, Push):
                if message[:1] == [b"invalidate"]:
                    self._tracking.invalidate(_keys_in(message))
            elif isinstance(message, Refused):
                raise LineLostError(message.text)
            elif not self._is_tracked:
                self._is_tracked = True
            elif self._asked_at is not None:
                self._compare(message)
                self.good_until, self._asked_at = self._asked_at + TRUST, None

    def _compare(self, answer: Any) -> None:
        """Look whether the cluster is still the one that was connected to."""
        if not self._is_cluster:
            return
        if not isinstance(answer, bytes):
            raise LineLostError(f"the state of the cluster is not told in words: {answer!r:.40}")
        members = [line for line in answer.split() if line.startswith(_TELLING)]
        if self._members not in (None, members):
            raise LineLostError("the masters of the cluster have changed")
        self._members = members


def _keys_in(message: Push) -> list[bytes] | None:
    """Return the keys that a message names; None for all there are.

    Raises:
        LineLostError: It names none.
    """
    if len(message) == 2:
        keys = message[1]
        if keys is None or (isinstance(keys, list) and {bytes}.issuperset(map(type, keys))):
            return keys
    raise LineLostError(f"what changed is not told by keys: {message!r:.60}")


_TELLING: Final = (b"cluster_known_nodes:", b"cluster_size:", b"cluster_current_epoch:")
"""What changes when a node joins, a replica takes over, or a slot has moved."""
