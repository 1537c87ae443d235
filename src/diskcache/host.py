"""What differs between operating systems: locks, allocation, safe opening, mounts.

What a platform lacks switches a feature off with a reason; it never weakens a promise silently.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

if sys.platform == "win32":  # pragma: no cover - other platform
    import msvcrt
else:
    import fcntl
    import resource

OPEN_SAFE: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
"""Flags for every descriptor: never through a symbolic link, never into another program."""

OPEN_DIRECTORY: Final = getattr(os, "O_DIRECTORY", 0) | OPEN_SAFE | os.O_RDONLY

HAS_DIR_FD: Final = os.open in os.supports_dir_fd and bool(getattr(os, "O_NOFOLLOW", 0))
"""Whether files can be reached relative to an open folder, out of reach of swapped links."""

NETWORK_FILESYSTEMS: Final = frozenset(
    "nfs nfs4 cifs smb3 smbfs smb2 ncpfs afs 9p ceph lustre gpfs glusterfs beegfs ocfs2".split()
)
ESCAPED: Final = re.compile(r"\\([0-7]{3})")
"""How the list of mounts writes a space, a tab, a line feed or a backslash in a path."""
LOCAL_FUSE: Final = frozenset({"fuse.fuse-overlayfs", "fuseblk", "fuse.ntfs-3g", "fuse.lxcfs"})


if sys.platform == "win32":  # pragma: no cover - other platform
    EXCLUSIVE_NOW: Final = 1
    UNLOCK: Final = 2

    def flock(descriptor: int, operation: int, /) -> None:
        """Lock or unlock a file; raise `BlockingIOError` if it is locked."""
        if operation == UNLOCK:
            unlock(descriptor)
        elif not _lock_windows(descriptor, False):
            raise BlockingIOError(errno.EAGAIN, "locked")
else:
    EXCLUSIVE_NOW: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
    UNLOCK: Final = fcntl.LOCK_UN
    flock = fcntl.flock


def lock(descriptor: int, *, shared: bool = False, block: bool = False) -> bool:
    """Lock an open file against other descriptors of it; tell whether that worked.

    The lock ends when it is given back, or when every copy of the descriptor is closed, hence
    also when the process dies.
    """
    if sys.platform == "win32":  # pragma: no cover - other platform
        return _lock_windows(descriptor, block)
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if block else fcntl.LOCK_NB)
    try:
        fcntl.flock(descriptor, how)
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def unlock(descriptor: int) -> None:
    """Give a lock back. Never call it on a descriptor that a forked child inherited."""
    if sys.platform == "win32":  # pragma: no cover - other platform
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _lock_windows(descriptor: int, block: bool) -> bool:  # pragma: no cover - other platform
    if sys.platform == "win32":
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if block else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
    return True


HAS_RANGE_LOCKS: Final = (
    sys.platform == "linux" and sys.maxsize > 2**32 and hasattr(fcntl, "F_OFD_SETLK")
)
"""Whether a range of a file can be locked by a descriptor, instead of by the process."""

_RANGE: Final = struct.Struct("@hhqqi0q")
"""`struct flock` of Linux on 64-bit machines: type, whence, start, length, process."""


def _range_lock(descriptor: int, command: str, kind: str, start: int, length: int) -> bytes:
    """Do something with the lock on a range; return the lock that is there then."""
    if sys.platform == "win32":  # pragma: no cover - other platform
        raise OSError(errno.ENOTSUP, "no locks on ranges")
    request = _RANGE.pack(getattr(fcntl, kind), os.SEEK_SET, start, length, 0)
    return fcntl.fcntl(descriptor, getattr(fcntl, command), request)


def hold_range(descriptor: int, start: int, length: int) -> None:
    """Lock a range of an open file against exclusive locks of others, this process included.

    Unlike SQLite's own, such a lock is not lost when somebody in this process opens and closes the
    file. It ends when it is given back, or when every copy of the descriptor is closed.

    Raises:
        OSError: Somebody holds an exclusive lock, or the system has no such locks.
    """
    _range_lock(descriptor, "F_OFD_SETLK", "F_RDLCK", start, length)


def give_range_back(descriptor: int, start: int, length: int) -> None:
    """Give up what `hold_range` has locked."""
    _range_lock(descriptor, "F_OFD_SETLK", "F_UNLCK", start, length)


def plant(descriptor: int, place: int) -> None:
    """Lock one byte of an open file the way SQLite does, to see later whether that is lost."""
    _range_lock(descriptor, "F_SETLK", "F_RDLCK", place, 1)


def is_planted(descriptor: int, place: int) -> bool:
    """Tell whether a byte, such as the one that `plant` has locked, is locked the way of SQLite."""
    if sys.platform == "win32":  # pragma: no cover - other platform
        return True
    found = _range_lock(descriptor, "F_OFD_GETLK", "F_WRLCK", place, 1)
    return int(_RANGE.unpack(found)[0]) != fcntl.F_UNLCK


def allocate(descriptor: int, size: int) -> None:
    """Give a file *size* bytes that really exist on the disk.

    A sparse file that is mapped kills the process when the disk is full; an allocated one fails
    here, with an error.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as exc:
            if exc.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
        else:
            return
    view = memoryview(bytes(size))
    while view:
        view = view[os.write(descriptor, view) :]


def has_blocks(descriptor: int, size: int) -> bool:
    """Tell whether all of an open file exists on the disk, making what does not.

    A copy may have holes, and to write into one through a mapping kills the process when the disk
    is full.
    """
    allocated: int | None = getattr(os.fstat(descriptor), "st_blocks", None)
    if allocated is None or allocated * 512 >= size or not hasattr(os, "posix_fallocate"):
        return True
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        return False
    return True


def _pread(descriptor: int, size: int, offset: int) -> bytes:  # pragma: no cover - other platform
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size)


def _pwrite(descriptor: int, data: bytes, offset: int) -> int:  # pragma: no cover - other platform
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, data)


pread: Final[Callable[[int, int, int], bytes]] = getattr(os, "pread", _pread)
"""Read from a place in a file; one call of the system where there is one for it."""
pwrite: Final[Callable[[int, bytes, int], int]] = getattr(os, "pwrite", _pwrite)
"""Write to a place in a file."""


def open_file(path: str, flags: int, mode: int = 0o600, dir_fd: int | None = None) -> int:
    """Open a regular file, not through a symbolic link, irrespective of the umask.

    Raises:
        OSError: It cannot be opened, or is not a regular file.
    """
    # O_NONBLOCK: a planted pipe must not hang who opens it; it means nothing for files.
    flags |= getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags | OPEN_SAFE, mode, dir_fd=dir_fd)
    try:
        found = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(found):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if flags & os.O_EXCL and stat.S_IMODE(found) != mode and hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def spare_descriptors() -> int:
    """Return how many descriptors may be kept open by locks: a quarter of those there may be."""
    if sys.platform == "win32":  # pragma: no cover - other platform
        return 2048
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if most == resource.RLIM_INFINITY else most // 4


def make_folder(path: str, mode: int, dir_fd: int | None = None) -> bool:
    """Make a folder of *mode*, irrespective of the umask; tell whether it was not there yet.

    It keeps the set-group-id bit that it inherits, so that what is made in it has its group.
    """
    try:
        os.mkdir(path, mode, dir_fd=dir_fd)
    except FileExistsError:
        return False
    _set_mode(path, mode, dir_fd)
    return True


def _set_mode(path: str, mode: int, dir_fd: int | None) -> None:
    if not HAS_DIR_FD:  # pragma: no cover - other platform
        os.chmod(path, mode)
        return
    descriptor = os.open(path, OPEN_DIRECTORY, dir_fd=dir_fd)
    try:
        os.fchmod(descriptor, mode | (os.fstat(descriptor).st_mode & stat.S_ISGID))
    finally:
        os.close(descriptor)


def make_folders(path: str, mode: int) -> bool:
    """Make a folder, and those around it that are missing; tell whether it was not there yet."""
    outer = os.path.dirname(path)
    if outer and not os.path.isdir(outer):
        make_folders(outer, mode)
    try:
        # Programs that were tested with version 5 replace this function to have it fail.
        os.makedirs(path, mode)
    except FileExistsError:
        return False
    _set_mode(path, mode, None)
    return True


def dangers(path: str) -> Iterator[str]:
    """Yield who else can change what is in a directory, as sentences without an end."""
    try:
        found = link = os.lstat(path.rstrip(os.sep) or path)
        if stat.S_ISLNK(link.st_mode):
            found = os.stat(path)
    except OSError:
        return
    if found is not link:
        yield (
            f"{path!r} is a symbolic link to {os.path.realpath(path)!r}: whoever can replace it"
            " decides where entries are kept, so open that directory itself"
        )
    if not hasattr(os, "geteuid"):  # pragma: no cover - other platform
        return
    if found.st_uid not in (os.geteuid(), 0):
        yield (
            f"{path!r} belongs to user {found.st_uid}, not to user {os.geteuid()} who runs this"
            " process: they can delete or replay entries"
        )
    if found.st_mode & stat.S_IWOTH:
        yield (
            f"{path!r} is writable for other users (mode {stat.S_IMODE(found.st_mode) & 0o777:04o}"
            "): they can delete or replay entries"
        )


@lru_cache(maxsize=1)
def boot_id() -> int:
    """Return a 64-bit number that changes when the machine starts again; 0 if unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return int(file.read().strip().replace("-", "")[:16], 16)
    except (OSError, ValueError):
        return 0


@lru_cache(maxsize=64)
def filesystem_type(path: str, device: int) -> str | None:
    """Return the type of the file system that holds *path*, or None where it is not known.

    *path* has no symbolic links. *device*, its number, makes sure that what is remembered of a
    path is forgotten when another file system is mounted there.
    """
    del device
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:
        return None
    best, found = "", None
    for line in lines:
        left, _, right = line.partition(" - ")
        point = ESCAPED.sub(lambda found: chr(int(found[1], 8)), left.split(" ")[4])
        prefix = point.rstrip("/") + "/"
        if (path + "/").startswith(prefix) and len(prefix) >= len(best):
            best, found = prefix, right.split(" ")[0]
    return found


def is_network_filesystem(kind: str | None) -> bool:
    """Tell whether locks and shared mappings cannot be trusted on this kind of file system."""
    if kind is None:
        return False
    if kind.startswith("fuse"):
        return kind not in LOCAL_FUSE
    return kind in NETWORK_FILESYSTEMS


def network_filesystem(path: str) -> str | None:
    """Return the type of the network file system that holds *path*, or will; None if none does.

    *path* has no symbolic links.
    """
    while True:
        try:
            kind = filesystem_type(path, os.stat(path).st_dev)
        except OSError:
            outer = os.path.dirname(path)
            if outer == path:
                return None
            path = outer
        else:
            return kind if is_network_filesystem(kind) else None
