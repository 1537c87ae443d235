"""What all operations of the engine stand on: shards, the server's clock and its policy."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final

from diskcache.bridging import here
from diskcache.clock import SYSTEM_CLOCK, Clock, uptime
from diskcache.engines.redis import commands, keyspace
from diskcache.engines.redis.address import CLUSTER_SHARDS, Address, checked_shards
from diskcache.engines.redis.commands import LOOKS, TIDIED, Call, Change
from diskcache.engines.redis.keyspace import Entry, Shard, meta_key
from diskcache.engines.redis.lease import Keeper, Lease, key_in
from diskcache.engines.redis.listening import Listener, TrackedDriver, site_of
from diskcache.entry import EncodedKey
from diskcache.errors import (
    CacheFormatError,
    DiskCacheError,
    NewerFormatError,
    ReadOnlyError,
    ServerPolicyError,
    SettingError,
)
from diskcache.signs import Place

if TYPE_CHECKING:
    from diskcache.engines.redis.transactions import Transaction

FORMAT: Final = 1
BEFORE: Final = float("-inf")
"""A moment at which nothing has expired."""
ANSWER: Final = 5.0
"""Seconds to wait for an answer of the server, where transactions are not waited for at all."""
LONGEST: Final = 1e8
"""Seconds to wait at most: three years."""
POLICY_GOOD: Final = 10.0
"""Seconds for which the maxmemory-policy need not be asked for again."""
MOST: Final = 1000
"""Entries that one script changes at most, so that others need not wait long."""
MOST_BYTES: Final = 8 * 2**20
"""Bytes that one script stores at most, unless a single value is larger."""


class ServerClock:
    """A clock that shows the time of the server, so that all machines judge expiry alike.

    The difference to the clock of this machine is measured when the engine connects.
    """

    def __init__(self, base: Clock = SYSTEM_CLOCK) -> None:
        self._base = base
        self.ahead = 0.0
        """Seconds that the server is ahead of this machine."""
        self.monotonic = base.monotonic
        self.sleep = base.sleep

    def time(self) -> float:
        """Return seconds since the epoch, as the server counts them."""
        return self._base.time() + self.ahead

    def uptime(self) -> float:
        """Return seconds since this machine started."""
        return uptime(self._base)

    def measure(self, driver: TrackedDriver) -> None:
        """Compare with the server."""
        before = self._base.time()
        seconds, micros = driver.time()
        after = self._base.time()
        self.ahead = seconds + micros / 1e6 - (before + after) / 2


class _Local(threading.local):
    transaction: Transaction | None = None


class Core:
    """Connection, shards and the sending of changes; see `RedisEngine`."""

    def __init__(
        self,
        address: Address,
        settings: dict[str, Any],
        clock: Clock | None,
        *,
        timeout: float,
        readonly: bool,
    ) -> None:
        self.clock: Clock = ServerClock() if clock is None else clock
        self._address = address
        self._settings = settings
        self.is_readonly = readonly
        # What sockets and locks of threads take.
        timeout = self._timeout = min(max(timeout, 0), LONGEST)
        self.site = site_of(address)
        self.driver = TrackedDriver(
            address, timeout or ANSWER, self.clock, tracking=self.site.tracking
        )
        self._keeper = Keeper(self.driver)
        self._meta = meta_key(address.namespace)
        self.local = _Local()
        self._opening, self._pid = threading.Lock(), os.getpid()
        self._open_as: dict[bytes, bytes] | None = None
        self._policy, self._policy_at = "", 0.0
        self._made: list[Shard] = []
        self._most = TIDIED
        self._tidy = f"{TIDIED}:0"
        self._listener: Listener | None = None
        self._epoch = 0
        """The connections were made in this one, or a later one; see `Ticket.epoch`."""
        self.may_evict_lists = False
        self._hits = self._misses = 0

    # -- Opening --

    @property
    def cache_id(self) -> bytes:
        """Sixteen bytes that name this cache: the same wherever its namespace has this name."""
        name = self._address.namespace.encode()
        return hashlib.blake2b(name, digest_size=16, person=b"diskcache-remote").digest()

    def open(self, *, create: bool = False) -> None:
        """Connect, and read what is known of the cache; with *create*, note it there.

        Raises:
            ServerUnavailableError: The server cannot be reached.
            SettingError: It has another number of shards.
            CacheFormatError: It is of a format that this version does not know.
        """
        del create
        if self._pid != os.getpid():
            # A thread that is not here may hold the lock, and wait for the server.
            self._opening, self._pid = threading.Lock(), os.getpid()
        # Tasks of one thread may open it twice: a lock must not be held while they wait.
        with self._opening if here.call is None else nullcontext():
            if self._open_as is not None:
                return
            # A master that another one replaces from here on may be the one connected to.
            self._epoch = self.site.tracking.epoch
            found = self.driver.hash(self._meta)
            default = CLUSTER_SHARDS if self._address.is_cluster else 1
            if b"shards" not in found and not self.is_readonly:
                count = self._address.shards or default
                for name, value in ((b"format", b"%d" % FORMAT), (b"shards", b"%d" % count)):
                    self.driver.command("HSETNX", self._meta, name, value)
                found = self.driver.hash(self._meta)
            self._made = [
                Shard(self._address.namespace, number)
                for number in range(self._checked(found, default))
            ]
            if isinstance(self.clock, ServerClock):
                self.clock.measure(self.driver)
            self._ask_policy()
            self._open_as = found

    def _checked(self, found: dict[bytes, bytes], default: int) -> int:
        try:
            version = int(found.get(b"format", b"%d" % FORMAT))
            count = int(found.get(b"shards", b"%d" % (self._address.shards or default)))
            checked_shards(count)
        except (ValueError, SettingError) as exc:
            raise CacheFormatError(
                f"namespace {self._address.namespace!r} on {self._address.safe} holds something"
                " that this library did not write: choose another one"
            ) from exc
        if version > FORMAT:
            raise NewerFormatError(
                f"namespace {self._address.namespace!r} has format {version}, newer than this"
                f" library's {FORMAT}: upgrade diskcache"
            )
        if self._address.shards not in (None, count):
            raise SettingError(
                f"namespace {self._address.namespace!r} has {count} shards: got"
                f" shards={self._address.shards}; leave it out, or choose another namespace"
            )
        return count

    def _ask_policy(self) -> None:
        self._policy, self._policy_at = self.driver.policy(), self.clock.monotonic()
        self.settings_changed()

    def settings_changed(self) -> None:
        """Take note of a changed `cull_limit`: how many expired entries a write removes."""
        looks = LOOKS if self._policy.startswith("allkeys") else 0
        self._most = min(int(self._settings["cull_limit"]), TIDIED)
        self._tidy = f"{self._most}:{looks}"
        self.may_evict_lists = bool(looks)

    @property
    def parts(self) -> list[Shard]:
        """The shards; the first use connects."""
        if self._open_as is None:
            self.open()
        return self._made

    @property
    def namespace(self) -> str:
        """What all keys begin with."""
        return self._address.namespace

    @property
    def shards(self) -> int:
        """Into how many slots the cache is cut."""
        return len(self.parts)

    def close(self, *, everywhere: bool = True) -> None:
        """Close the connections of this process; the next operation connects again."""
        if everywhere:
            self.site.leave(self)
            self._listener = None
            self._flush_counts()
            self._keeper.close()
            self.driver.close()
            self._open_as = None

    def _flush_counts(self) -> None:
        """Write down hits and misses; a part of the class that counts them."""

    # -- Keys --

    def _place(self, key: EncodedKey) -> tuple[Shard, bytes]:
        """Return the shard and the ident of a key."""
        ident = keyspace.ident_of(key)
        shards = self.parts
        return shards[keyspace.shard_of(key, ident, len(shards))], ident

    def _queue_shard(self, prefix: str | None) -> Shard:
        shards = self.parts
        return shards[keyspace.shard_of_queue(prefix, len(shards)) if len(shards) > 1 else 0]

    # -- Leases --

    def flight_place(self, key: EncodedKey, name: str) -> Place:
        """Return the place of a key whose hash is *name*: its first digits are those of a shard."""
        # Before the server was reached nobody knows how many there are, and nobody has a lease.
        number = keyspace.shard_of(key, keyspace.ident_of(key), len(self._made) or 1)
        where = f"{self._address.safe}#{self.namespace}"
        return Place(where, f"{number:04x}{name[4:]}")

    def lease(self, place: Place) -> Lease:
        """Return the lease of a place, which is in the slot of its key."""
        number = int(place.name[:4], 16) % self.shards
        return Lease(self.driver, self._keeper, key_in(place, self.parts[number].prefix))

    # -- Changes --

    def _apply(
        self, shard: Shard, changes: Sequence[Change], now: float, wait: float | None
    ) -> list[int]:
        """Make changes of one shard, all at once as far as they fit one script."""
        self.check_writable()
        results: list[int] = []
        for piece in in_pieces(changes):
            stores = any(change.what in b"pP" for change in piece)
            call = commands.apply(shard, piece, now, self._tidy if stores else "0:0")
            results += self.driver.call(call, wait)
        return results

    def _run(self, call: Call, wait: float | None) -> Any:
        """Run a script that writes."""
        self.check_writable()
        return self.driver.call(call, wait)

    # -- What is damaged --

    def _read(self, shard: Shard, ident: bytes, data: bytes | None) -> Entry | None:
        """Return the entry in what was found; remove one that cannot be read."""
        if data is None:
            return None
        entry = keyspace.read_entry(data)
        if entry is None:
            self._drop_damaged(shard, ident, data)
        return entry

    def _drop_damaged(self, shard: Shard, ident: bytes, data: bytes) -> bool:
        """Remove an entry that at most scripts take for one; tell whether it was removed.

        They would store nothing that must not replace an entry, and readers would find none.
        """
        if self.is_readonly:
            return False
        changes = [commands.sweep_change(ident)]
        if len(data) >= keyspace.HEADER.size:
            changes.insert(0, Change(b"d", ident, data[10:18]))
        with suppress(DiskCacheError):
            return any(self._apply(shard, changes, BEFORE, 0))
        return False

    def check_writable(self) -> None:
        """Refuse to write where that was ruled out.

        Raises:
            ReadOnlyError: It was.
        """
        if self.is_readonly:
            raise ReadOnlyError(
                f"cache {self._address.safe} was opened with readonly=True: nothing is written"
            )

    # -- The server --

    @property
    def policy(self) -> str:
        """The server's maxmemory-policy; empty where it does not tell."""
        if self._open_as is None:
            self.open()
        return self._policy

    def refuse_eviction(self, what: str, *, one_place: bool = False) -> None:
        """Refuse a server that may evict entries without an expiry, or more than one slot.

        Raises:
            ServerPolicyError: It is one.
        """
        if one_place and self.shards > 1:
            raise ServerPolicyError(
                f"{what} is kept in one slot, and namespace {self._address.namespace!r} is spread"
                f" over {self.shards}: connect to a namespace of its own with shards=1"
            )
        self.open()
        if self.clock.monotonic() - self._policy_at > POLICY_GOOD:
            # Servers are configured while programs run.
            self._ask_policy()
        if self.policy.startswith("allkeys"):
            raise ServerPolicyError(
                f"{what} cannot be kept on server {self._address.safe}: its maxmemory-policy"
                f" {self.policy!r} may evict any entry; use one with 'noeviction' or 'volatile-lru'"
            )


def in_pieces(changes: Sequence[Change]) -> list[Sequence[Change]]:
    """Return changes in pieces that one script can make without holding up the server."""
    pieces: list[Sequence[Change]] = []
    start = size = 0
    for index, change in enumerate(changes):
        if index > start and (index - start >= MOST or size + change.size > MOST_BYTES):
            pieces.append(changes[start:index])
            start, size = index, 0
        size += change.size
    if start < len(changes):
        pieces.append(changes[start:])
    return pieces
