"""The control file: what processes tell each other without touching the database.

Format. The file `control` has `SIZE` bytes, all of them allocated, and is mapped by every process.
It is an array of 64-bit unsigned words in the byte order of the machine:

    word  name          meaning
    0     magic         0x36666b6344314c43, written last: a file without it is not ready
    1     format        1
    2-3   cache id      the sixteen bytes of the cache that it belongs to
    4     boot          number of the boot it was made in, XOR the number of this file; another
                        one means that words may be older than the database after a power failure,
                        or are a copy, of another moment than that of the database
    5     begin         one more before each COMMIT
    6     end           equal to *begin* after it; different: a writer died in between
    7     open          1 since the database was opened, 0 when the last process has closed it: if
                        it is 1, nobody has it open and there is no log, a log has got lost
    8     count         entries
    9     bytes         bytes of value files
    10    hits          reads that found a live entry
    11    misses        reads that did not
    12    next expiry   no entry expires earlier: microseconds since the epoch, all ones if never
    13    written       upper bound of bytes ever written, modulo 2**64
    14    state         generation of settings and ranking
    15    files         not 0 while value files are being published or removed, so that it is
                        found not 0 if the writer was killed: then stray files may exist in the
                        folders from this number, less one, on (four hexadecimal digits)
    16    spent         not 0 while the reserve for a full disk is spent: nothing is added then
    17-63               zero
    64-   generations   one word per slot of keys; odd while a write to one of its keys commits

The slot of a key is `HEADER` plus the lowest twelve bits: for text of the CRC-32 of its UTF-8, for
bytes of their CRC-32, for a number of `hash(number) * 0x9e3779b97f4a7c15 >> 40`, where *hash* is
that of Python for numbers on 64-bit machines. The order in which generations and *begin* and *end*
change is that of `diskcache.coherence`.

Words 4-6, 8-15 and the generations change only while the writer gate is held. A word is read and
written whole, through a memoryview of 8-byte items: `struct.pack_into` writes byte by byte, and a
reader in another process would see halves.

Every writer looks at least every `LEASE` seconds whether its mapping is still the file at the
path, and does so under the gate. Whoever makes a new file, because the old one is gone, first waits
twice as long with the gate in hand: no other writer can then change the old one unnoticed. A writer
that can neither map the file nor make another one removes it, and waits `LOOK_EVERY` seconds with
the gate in hand: no reader then believes the old one any longer.

Between two equal values of *begin* and *end* the totals are exact. A writer that finds them
different counts again. The file is made together with a new cache, or inside a write transaction,
and then made dirty.
"""

from __future__ import annotations

import mmap
import os
import secrets
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Final, cast
from zlib import crc32

from diskcache import host
from diskcache.coherence import Source
from diskcache.entry import DbValue

NAME: Final = "control"
MAGIC: Final = 0x36666B6344314C43
VERSION: Final = 1
HEADER: Final = 64
SLOTS: Final = 4096
LAST_SLOT: Final = SLOTS - 1
ALL_SLOTS: Final = range(HEADER, HEADER + SLOTS)
SIZE: Final = (HEADER + SLOTS) * 8
MASK: Final = 2**64 - 1

BOOT: Final = 4
BEGIN: Final = 5
END: Final = 6
OPEN: Final = 7
COUNT: Final = 8
BYTES: Final = 9
HITS: Final = 10
MISSES: Final = 11
NEXT_EXPIRY: Final = 12
WRITTEN: Final = 13
STATE: Final = 14
FILES: Final = 15
SPENT: Final = 16

LEASE: Final = 0.05
"""Seconds for which a writer believes that its mapping is the file at the path."""

LOOK_EVERY: Final = 0.5
"""Seconds for which a reader believes that its mapping is the file at the path."""

NEVER: Final = MASK
"""Value of *next expiry* when no entry expires."""


_SPREAD: Final = 0x9E3779B97F4A7C15


def slot_of(key: DbValue) -> int:
    """Return the word that holds the generation of a stored key, the same in every process."""
    if type(key) is str:
        return HEADER + (crc32(key.encode("utf-8", "surrogatepass")) & LAST_SLOT)
    if type(key) is bytes:
        return HEADER + (crc32(key) & LAST_SLOT)
    return HEADER + (hash(key) * _SPREAD >> 40 & LAST_SLOT)


def slots_of(keys: Collection[DbValue]) -> set[int]:
    """Return the words of many keys; without a call for each if all are text."""
    if {*map(type, keys)} != {str}:
        return set(map(slot_of, keys))
    texts = cast("Collection[str]", keys)
    return {HEADER + (crc32(key.encode("utf-8", "surrogatepass")) & LAST_SLOT) for key in texts}


def boot_of(inode: int) -> int:
    """Return what the file of that number says about the boot it was made in."""
    return (host.boot_id() ^ inode) & MASK


class Control:
    """A mapped control file.

    Only `words` is used on hot paths; the class keeps the mapping and says which file it is.
    """

    __slots__ = ("_map", "inode", "is_of_this_boot", "source", "words")

    def __init__(self, mapping: mmap.mmap, inode: int) -> None:
        self._map = mapping
        self.inode = inode
        self.words = memoryview(mapping).cast("Q")
        self.is_of_this_boot = self.words[BOOT] == boot_of(inode)
        self.source = Source(self.words)

    @property
    def is_clean(self) -> bool:
        """Whether the totals can be believed: no writer or machine died, it is no copy."""
        words = self.words
        end = words[END]
        return words[BEGIN] == end and self.is_of_this_boot

    def close(self) -> None:
        """Unmap the file."""
        self.words.release()
        self._map.close()


def attach(directory: str, cache_id: bytes, *, readonly: bool = False) -> Control | None:
    """Map the control file of a directory; None if there is none that can be used."""
    path = os.path.join(directory, NAME)
    try:
        descriptor = host.open_file(path, os.O_RDONLY if readonly else os.O_RDWR)
    except OSError:
        return None
    try:
        return _map(descriptor, cache_id, readonly=readonly)
    finally:
        os.close(descriptor)


def _map(descriptor: int, cache_id: bytes, *, readonly: bool = False) -> Control | None:
    try:
        found = os.fstat(descriptor)
        if found.st_size != SIZE or not (readonly or host.has_blocks(descriptor, SIZE)):
            return None
        access = mmap.ACCESS_READ if readonly else mmap.ACCESS_WRITE
        mapping = mmap.mmap(descriptor, SIZE, access=access)
    except (OSError, ValueError):
        return None
    control = Control(mapping, found.st_ino)
    if control.words[:2].tolist() != [MAGIC, VERSION] or control.words[2:4].tobytes() != cache_id:
        control.close()
        return None
    return control


def cache_id_of(directory: str) -> bytes | None:
    """Return the id of the cache that the control file of a directory belongs to, if it has one."""
    try:
        descriptor = host.open_file(os.path.join(directory, NAME), os.O_RDONLY)
    except OSError:
        return None
    try:
        words = memoryview(os.pread(descriptor, SIZE, 0))
    finally:
        os.close(descriptor)
    if len(words) != SIZE or words[:16].cast("Q").tolist() != [MAGIC, VERSION]:
        return None
    return bytes(words[16:32])


def inode_of(path: str) -> int:
    """Return the number of the file at *path*; 0 if there is none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def create(directory: str, cache_id: bytes, mode: int, *, is_new: bool = False) -> Control | None:
    """Make a control file, and map it.

    For a new cache (*is_new*) it says that there are no entries. Otherwise it takes the place of
    one that is gone, and is dirty: call it only inside a write transaction. None if the directory
    cannot hold one.
    """
    path = os.path.join(directory, NAME)
    temporary = f"{path}.new"
    try:
        # Nobody else is making one now, so this is what a dead maker left.
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        descriptor = host.open_file(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    except OSError:
        return None
    try:
        host.allocate(descriptor, SIZE)
        os.pwrite(descriptor, _first_words(cache_id, descriptor, is_new), 0)
        control = _map(descriptor, cache_id)
        if control is None:
            os.unlink(temporary)
            return None
        if not is_new:
            time.sleep(2 * LEASE)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        return None
    finally:
        os.close(descriptor)
    return control


def withdraw(directory: str) -> None:
    """Remove a control file that this process cannot use, before it writes without one.

    Others that have it mapped must not believe it any longer. Call it with the gate in hand; when
    it returns, all of them have looked at the path again.

    Raises:
        OSError: It cannot be removed.
    """
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, NAME))
        time.sleep(LOOK_EVERY)


def _first_words(cache_id: bytes, descriptor: int, is_new: bool) -> bytes:
    # Generations start at random even numbers: one seen in an earlier file must not come again.
    words = memoryview(bytearray(secrets.token_bytes(SIZE))).cast("Q")
    words[:HEADER] = memoryview(bytes(HEADER * 8)).cast("Q")
    words[0], words[1] = MAGIC, VERSION
    words[2:4] = memoryview(cache_id).cast("Q")
    words[BEGIN] = 0 if is_new else 1
    words[NEXT_EXPIRY] = NEVER if is_new else 0
    words[FILES] = 0 if is_new else 1
    words[BOOT] = boot_of(os.fstat(descriptor).st_ino)
    for slot in range(HEADER, HEADER + SLOTS):
        words[slot] &= MASK - 1
    return words.tobytes()
