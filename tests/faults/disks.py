"""Disks that fill up: a real one of eight megabytes, and one that fails when it is told to."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

NAME = "failing"
"""Name of the VFS, which is the default one while a `FailingDisk` is in use."""

CALLS = ("open", "write", "truncate", "sync", "value")
"""What can fail: calls of SQLite to its files, and of the library to value files."""


class FailingDisk:
    """A disk that fails at a chosen call.

    Args:
        kinds: Calls that are counted, of `CALLS`.
    """

    def __init__(self, kinds: frozenset[str] = frozenset(CALLS)) -> None:
        self.kinds = kinds
        self.left = -1
        """Calls that still succeed; negative: all do."""
        self.is_lasting = True
        """Whether all calls behind the first that fails do too, as on a full disk."""
        self.failures = 0
        self.number = errno.ENOSPC
        """Error number of the system."""

    def arm(self, calls: int, *, lasting: bool = True) -> None:
        """Let this many calls succeed, and fail from then on, or once."""
        self.left, self.is_lasting, self.failures = calls, lasting, 0

    def disarm(self) -> None:
        self.left = -1

    def error(self) -> apsw.Error:
        """Return what SQLite says: of a quota no more than that writing failed."""
        if self.number == errno.ENOSPC:
            return apsw.FullError("as injected")
        error = apsw.IOError("as injected")
        error.extendedresult = apsw.SQLITE_IOERR_WRITE
        return error

    def counted(self, kind: str) -> bool:
        """Count a call; tell whether it fails."""
        if self.left < 0 or kind not in self.kinds:
            return False
        if self.left:
            self.left -= 1
            return False
        self.failures += 1
        if not self.is_lasting:
            self.left = -1
        return True


class _File(apsw.VFSFile):
    """A file of SQLite on a disk that can fail."""

    def __init__(self, disk: FailingDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - a name of SQLite's
        if self._disk.counted("write"):
            raise self._disk.error()
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        if self._disk.counted("truncate"):
            raise self._disk.error()
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._disk.counted("sync"):
            raise self._disk.error()
        super().xSync(flags)

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: N802
        is_growth = op == apsw.SQLITE_FCNTL_SIZE_HINT
        if is_growth and self._disk.counted("write"):
            raise self._disk.error()
        return bool(super().xFileControl(op, pointer))


class _Vfs(apsw.VFS):
    def __init__(self, disk: FailingDisk) -> None:
        self._disk = disk
        super().__init__(NAME, "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        is_new = flags[0] & apsw.SQLITE_OPEN_CREATE
        if is_new and self._disk.counted("open"):
            raise self._disk.error()
        return _File(self._disk, name, flags)

    def xGetLastError(self) -> tuple[int, str]:  # noqa: N802
        return self._disk.number, "as injected"


@contextlib.contextmanager
def failing_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingDisk]:
    """Return a context in which SQLite and the library write to a disk that can fail."""
    disk = FailingDisk()
    vfs = _Vfs(disk)
    write, fallocate, rename = os.write, os.posix_fallocate, os.rename

    def refuse() -> None:
        if disk.counted("value"):
            raise OSError(disk.number, os.strerror(disk.number))

    def failing_write(descriptor: int, data: bytes) -> int:
        if disk.left >= 0 and len(data) > 1000:
            refuse()
        return write(descriptor, data)

    def failing_fallocate(*args: Any) -> None:
        refuse()
        fallocate(*args)

    def failing_rename(*args: Any, **keywords: Any) -> None:
        refuse()
        rename(*args, **keywords)

    monkeypatch.setattr(os, "write", failing_write)
    monkeypatch.setattr(os, "posix_fallocate", failing_fallocate)
    monkeypatch.setattr(os, "rename", failing_rename)
    try:
        yield disk
    finally:
        disk.disarm()
        monkeypatch.undo()
        vfs.unregister()


@contextlib.contextmanager
def small_disk(place: Path, size: str = "8m") -> Iterator[Path]:
    """Return a context with a file system of its own; only root can make one."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        if os.geteuid() == 0 and os.environ.get("DISKCACHE_CI"):
            pytest.fail(f"root cannot mount a small file system: {done.stderr}")
        pytest.skip(f"a small file system can be mounted by root only: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


class Ballast:
    """A file that takes all the room there is."""

    def __init__(self, place: Path) -> None:
        self._path = place / "ballast"
        self._path.write_bytes(bytes(2**20))

    def fill(self) -> None:
        with open(self._path, "r+b", buffering=0) as file, contextlib.suppress(OSError):
            file.seek(0, os.SEEK_END)
            while True:
                file.write(bytes(4096))

    def remove(self) -> None:
        with open(self._path, "r+b") as file:
            file.truncate(0)
