"""The contract between `Cache` and whatever stores its entries.

An engine works on encoded keys and encoded values: it never pickles, never calls user code other
than the *load* and *pack* functions described below, and never reads the clock: every *now* is
passed in, once per public call. Every method is one atomic step, seen by others whole or not at
all, unless its docstring says "in bounded batches".

*wait* is how many seconds a method may wait for the write lock before it raises `Timeout`; None
means without limit. No exception of a storage library leaves an engine: all derive from
`DiskCacheError`.

*load* receives the stored row and returns what the caller wants of it. It runs before the entry
is removed, and the entry is removed only if it is still the one that *load* saw; what *load*
raises passes through and leaves the entry in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from diskcache.coherence import Keep, Mark, Seen
from diskcache.entry import (
    DbValue,
    EncodedKey,
    Listed,
    Only,
    OpenedWith,
    Order,
    Payload,
    RemovalCause,
    Row,
    Tag,
)

T = TypeVar("T")


class Capabilities(NamedTuple):
    """What an engine can do beyond the single-key operations."""

    transactions: bool
    """Interactive transactions: reads and writes in the middle, rollback at the end."""
    ordered: bool
    """Entries are listed in insertion order and in key order."""
    files: bool
    """Large values are files that can be handed out open."""
    durable: bool
    """Entries survive the end of every process."""
    one_machine: bool = True
    """All processes that share entries are on one machine, and see each other live and die."""


Put: TypeAlias = tuple[EncodedKey, Payload, float | None, Tag]
"""One entry of a bulk put: key, payload, expire_time, tag."""


class Batch(NamedTuple):
    """What one bounded batch of a bulk removal did."""

    removed: int
    cursor: object | None
    """Where the next batch starts; None when nothing is left to do."""


class Volume(NamedTuple):
    """How much a cache holds, in bytes."""

    pages: int
    """Bytes of database pages in use."""
    files: int
    """Bytes of value files."""


class Finding(NamedTuple):
    """One broken invariant."""

    category: str
    """`'file'`, `'directory'` or `'data'`."""
    message: str


class Copied(NamedTuple):
    """What a copy of a cache holds."""

    entries: int
    files: int
    """Value files."""
    volume: int
    """Bytes of the database and of value files."""
    lost: int
    """Entries that were left out, because their files are missing or damaged in the original."""


class Neighbours(Protocol):
    """The other caches that share one limit on size, and one on entries, with a cache.

    A limit is judged against the sum. A cache removes its own victims as long as it holds half
    of its share; below that it asks for room elsewhere.
    """

    shards: int
    """How many caches share the limit, this one included."""

    def volume(self) -> int:
        """Return how many bytes the others hold, roughly."""
        ...

    def count(self) -> int:
        """Return how many entries the others hold."""
        ...

    def approach(self, bound: float, *, is_near: bool) -> None:
        """Say up to how many entries this one will not look; if they are near, all look always."""
        ...

    def ask_for_room(self) -> None:
        """Have entries removed from a cache that holds more than its share, soon."""
        ...


class Book(Protocol):
    """Reads that were noted and are not written down yet."""

    reads: dict[EncodedKey, float]
    """When an entry was last read, or how often, as far as that is in no mark."""
    most_reads: int
    """How often at most."""
    pen: object
    """What a mark has in it that is taken."""

    def take(self, mark: Mark, now: float) -> None:
        """Note a hit of an entry, and let further ones be noted in its mark."""
        ...


class SkipEntry(Exception):  # noqa: N818 - it is a signal, not an error
    """Raised by a *load* function of a queue: the entry is of no use, remove it and go on."""


class Engine(Protocol):
    """Where entries are kept."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        ...

    @property
    def cache_id(self) -> bytes:
        """Sixteen random bytes that name this cache for as long as it exists."""
        ...

    # -- One key --

    def get(self, key: EncodedKey, now: float) -> Row | None:
        """Return the live entry of *key*: one whose expire_time is None or later than *now*.

        Cost: one point read; no lock.
        """
        ...

    def look(self, key: EncodedKey, now: float, *, noting: bool = True) -> Seen:
        """Do as `get`, and tell under which generation what was read may be kept in memory.

        With *noting* false the read is not recorded.

        Cost: as `get`, and a look at shared memory.
        """
        ...

    def find_stale(self, key: EncodedKey, now: float) -> tuple[Row, int] | None:
        """Return an entry that has expired and is in grace; see `diskcache.entry.GRACE`.

        Returns:
            The row, and the seconds after its expiry before which nobody computes it anew, or
            `HOLD_FAILED`.
        """
        ...

    def hold_off(self, key: EncodedKey, version: int, until: float, wait: float | None) -> None:
        """Let nobody compute the value of an entry in grace before a moment.

        Nothing happens if the entry is not of that version any more.
        """
        ...

    @property
    def book(self) -> Book | None:
        """Where reads may be noted directly; None if only by `note_read`, or if nobody asks."""
        ...

    records_reads: bool
    """Whether the eviction policy asks for what is read, also from memory."""

    def note_read(self, key: EncodedKey, now: float) -> None:
        """Remember that an entry was read from memory, if the eviction policy asks for that."""
        ...

    def note_promptly(self, key: EncodedKey, now: float) -> bool:
        """Do as `note_read`, unless that means to write something down; tell whether it is done."""
        ...

    def contains(self, key: EncodedKey, now: float) -> bool:
        """Tell whether *key* has a live entry, without recording a read."""
        ...

    def put(
        self,
        key: EncodedKey,
        payload: Payload,
        expire_time: float | None,
        tag: Tag,
        now: float,
        wait: float | None,
        only: Only | int = Only.ALWAYS,
        keep: Keep | None = None,
    ) -> bool:
        """Store an entry, replacing value, expiry and tag of an old one; then cull.

        An entry that replaces another keeps its place in insertion order, even an expired one.
        A staged file is published in the same step, or removed if nothing is stored.
        *only* is a condition; a number stands for the version that a live entry must have
        (compare-and-set). *keep* is called once the entry is stored, if it may be kept in memory
        and the engine can tell under what.

        Returns:
            Whether it was stored: False if *only* forbids it, or if the value is too large.
        """
        ...

    def delete(self, key: EncodedKey, now: float, wait: float | None) -> bool:
        """Remove a live entry; tell whether there was one."""
        ...

    def delete_version(self, key: EncodedKey, version: int, now: float, wait: float | None) -> bool:
        """Remove a live entry if it is of that version; tell whether it was."""
        ...

    def is_too_large(self, payload: Payload) -> bool:
        """Tell whether a value alone is over the limit on values, or on the size of the cache."""
        ...

    def discard(self, key: EncodedKey, ident: int, file: str, wait: float | None) -> bool:
        """Remove an entry whose value file is missing or damaged, if it still names that file."""
        ...

    def touch(
        self, key: EncodedKey, expire_time: float | None, now: float, wait: float | None
    ) -> bool:
        """Give a live entry another expiry; tell whether there was one."""
        ...

    def incr(
        self,
        key: EncodedKey,
        delta: float,
        default: float | None,
        expire_time: float | None,
        tag: Tag,
        now: float,
        wait: float | None,
    ) -> DbValue:
        """Add *delta* to a stored number and return the sum.

        A live entry keeps its expiry, grace, tag and place. A missing or expired one is stored as
        *default* + *delta* with *expire_time* and *tag*.

        Raises:
            KeyError: There is no live entry and *default* is None.
            TypeError: The entry does not hold something that *delta* can be added to.
            OverflowError: The sum does not fit 64 bits; the entry keeps its old value.
        """
        ...

    def pop(
        self, key: EncodedKey, now: float, wait: float | None, load: Callable[[Row], T]
    ) -> T | None:
        """Remove the live entry of *key* and return what *load* made of it; None if none."""
        ...

    # -- Many keys --

    def get_many(self, keys: Sequence[EncodedKey], now: float) -> list[Row | None]:
        """Return the live entries of *keys* as of one moment, None for each missing one."""
        ...

    def put_many(
        self, puts: Iterable[Put], now: float, wait: float | None, only: Only = Only.ALWAYS
    ) -> int:
        """Store all of *puts* that a condition allows, or none if one fails; return how many."""
        ...

    def delete_many(self, keys: Iterable[EncodedKey], now: float, wait: float | None) -> int:
        """Remove the live entries of *keys* in one step; return how many there were."""
        ...

    # -- Queues: the native keys of one range, in order --

    def push(
        self,
        prefix: str | None,
        side: str,
        pack: Callable[[EncodedKey], Payload] | Payload,
        expire_time: float | None,
        tag: Tag,
        now: float,
        wait: float | None,
    ) -> int | str:
        """Store an entry beyond the last (`'back'`) or first (`'front'`) key; return its key.

        *pack* is the value, or called with the key once it is known, and makes the value.

        Raises:
            QueueFullError: No number is left on that side.
            QueueKeyError: The key at that end does not end in a number.
        """
        ...

    def pull(
        self,
        prefix: str | None,
        side: str,
        now: float,
        wait: float | None,
        load: Callable[[EncodedKey, Row], T],
        *,
        remove: bool,
    ) -> tuple[EncodedKey, T] | None:
        """Return the first or last live entry of a queue, removing it if *remove*.

        Expired entries that are met on the way are removed.
        """
        ...

    def edge(
        self,
        last: bool,
        now: float,
        wait: float | None,
        load: Callable[[EncodedKey, Row], T],
        *,
        remove: bool,
    ) -> tuple[EncodedKey, T] | None:
        """Return the last or first live entry in insertion order, removing it if *remove*.

        Expired entries that are met on the way are removed.
        """
        ...

    # -- Removal in bounded batches: others may write between two batches --

    def remove(
        self,
        cause: RemovalCause,
        cursor: object | None,
        now: float,
        wait: float | None,
        *,
        tag: Tag = None,
    ) -> Batch:
        """Remove one bounded batch of entries and tell where the next one starts.

        *cause* selects them: `EXPIRED` those whose expire_time is earlier than *now*; `EVICTED`
        those whose tag equals *tag* (None: those without a tag); `CULLED` victims in policy order
        while the volume is over the limit; `CROWDED` the same for a write to another shard: young
        ones are counted, *cursor* is the key of an entry that stays; `CLEARED` all.
        """
        ...

    def trim(self, limit: int, spared: EncodedKey, now: float, wait: float | None) -> int:
        """Remove up to *limit* victims in policy order, whatever the volume is.

        *spared* is never one. With a limit of 0 entries are only put in order, a batch at a time.

        Returns:
            How many were removed: fewer if the rest is not in order yet, or under the policy
            that has none.
        """
        ...

    def ranks(self, limit: int, spared: EncodedKey) -> list[float]:
        """Return the ranks of the next *limit* victims but *spared*, in their order.

        They can be compared with those of other caches. Empty where the policy is somebody's own.
        """
        ...

    # -- Listing --

    def page(
        self,
        order: Order,
        after: object | None,
        limit: int,
        *,
        reverse: bool = False,
        prefix: str | None = None,
        tag: Tag = None,
        until: object | None = None,
        values: bool = False,
        skip: int = 0,
    ) -> list[Listed]:
        """Return up to *limit* entries behind the cursor *after*, expired ones included.

        Args:
            order: Insertion order or key order.
            after: Cursor of the last entry seen; None to start.
            limit: Most entries to return.
            reverse: Go backwards.
            prefix: Only native text keys that start with this.
            tag: Only entries with this tag, unless None.
            until: Do not go beyond this cursor.
            values: Load the values too; without, the value of each row is None.
            skip: Leave out so many first.
        """
        ...

    def last_cursor(self) -> object | None:
        """Return the cursor of the newest entry in insertion order; None if there is none."""
        ...

    # -- Totals, statistics and settings --

    def count(self) -> int:
        """Return how many entries are stored, expired ones included."""
        ...

    def rough_count(self) -> int:
        """Return how many entries were stored in the directory as it was last looked at.

        Cost: a look at shared memory; a connection is made where there is none.
        """
        ...

    def volume(self) -> Volume:
        """Return what the size limit is compared with."""
        ...

    def rough_volume(self, slack: float) -> int:
        """Return the volume as it was when no more than *slack* bytes less had been written.

        Cost: a look at shared memory; a read where more was written.
        """
        ...

    def share_limit(self, neighbours: Neighbours) -> None:
        """Judge the size limit against the volume of this cache and its neighbours together."""
        ...

    def hits_and_misses(self) -> tuple[int, int]:
        """Return how many reads found a live entry and how many did not, over all processes."""
        ...

    def record(self, hits: int, misses: int) -> None:
        """Add to the counts of hits and misses; may be written down later."""
        ...

    def reset_statistics(self, wait: float | None) -> None:
        """Set hits and misses to zero."""
        ...

    def opened_with(self) -> OpenedWith:
        """Return what was found when this thread connected; once, then what is there now."""
        ...

    def mark(self, name: str) -> DbValue:
        """Return what the cache is marked with under *name*; None if with nothing."""
        ...

    def claim(self, name: str, value: DbValue, wait: float | None, *, if_empty: bool) -> DbValue:
        """Mark the cache with *value*, once; return what it is marked with then.

        A mark that is there stays; with *if_empty* any mark stays, and none is made, unless the
        cache has no entries.
        """
        ...

    def note(self, name: str, value: DbValue, wait: float | None) -> None:
        """Mark the cache with *value*, whatever it is marked with; with None no longer."""
        ...

    def stored_settings(self) -> dict[str, Any]:
        """Return the settings kept with the cache, as found: unchecked."""
        ...

    def store_settings(self, settings: dict[str, Any], wait: float | None) -> None:
        """Keep *settings* with the cache."""
        ...

    def has_tag_index(self) -> bool:
        """Tell whether removal by tag is fast."""
        ...

    def settings_changed(self) -> None:
        """Take note that a setting of the object that owns this engine has changed."""
        ...

    def file_error(self, exc: OSError) -> Exception:
        """Return what to raise for an error met while a value file was written."""
        ...

    def configure(self) -> None:
        """Apply the low-level settings of the storage library to this thread's connection."""
        ...

    def run_pragma(self, name: str, value: Any) -> None:
        """Apply a low-level option of the storage library now, to this thread's connection."""
        ...

    def look_always(self) -> None:
        """Count the entries of the neighbours at the next write, whatever was known of them."""
        ...

    @property
    def culled_young(self) -> int:
        """How many entries writes of this object culled less than 10 s after they were stored."""
        ...

    def watch(self, told: Callable[[int, int, int], None] | None) -> None:
        """Have a function told how many expired entries, and how many victims, a write removed.

        And how many of the victims had been stored just before. Only writes of this object count,
        and what they had removed from another shard. It is called after the commit, without a lock.
        """
        ...

    @property
    def off(self) -> dict[str, str]:
        """What is switched off here, and why."""
        ...

    @property
    def library(self) -> str:
        """Name and version of the storage library."""
        ...

    def prepare_policy(self, name: str, wait: float | None, *, lasting: bool) -> None:
        """Refuse an eviction policy that cannot work here; with *lasting*, make what it asks for.

        Raises:
            SettingError: It is one.
        """
        ...

    def index_tags(self, wanted: bool, wait: float | None) -> None:
        """Make, or drop, what makes removal by tag fast."""
        ...

    # -- Places for what must not be lost --

    def refuse_eviction(self, what: str, *, one_place: bool = False) -> None:
        """Refuse to keep *what*, if entries without an expiry may be lost here.

        With *one_place* also if they are spread, so that no step can change several of them.

        Raises:
            ServerPolicyError: It is so.
        """
        ...

    def next_fence(self, key: EncodedKey, above: int) -> int:
        """Return a number larger than *above*, and than all that were returned for *key* before.

        For engines of more than one machine; elsewhere `recipes` count in a file.
        """
        ...

    # -- Transactions, health and life --

    def in_transaction(self) -> bool:
        """Tell whether this thread is inside a transaction."""
        ...

    def transaction(self, wait: float | None) -> AbstractContextManager[None]:
        """Return a context in which this thread's operations happen together or not at all.

        Nests: an inner one does nothing of its own. Any exception that leaves the outermost one
        rolls back.
        """
        ...

    def check(self, fix: bool, wait: float | None) -> list[Finding]:
        """Return the broken invariants; with *fix*, mend them."""
        ...

    def open(self, *, create: bool = False) -> None:
        """Connect this thread; with *create*, make the cache if it does not exist.

        Other methods connect by themselves, but never create.
        """
        ...

    def close(self, *, everywhere: bool = True) -> None:
        """Let go of this thread's connection, and with *everywhere* of the idle ones of others.

        May be repeated; the next operation connects again.
        """
        ...
