"""On a network file system a cache does without what cannot be trusted there, and says so."""

from __future__ import annotations

import builtins
import io

import apsw
import pytest

from diskcache import Cache, Deque, FanoutCache, SettingError, host
from diskcache.errors import NetworkFilesystemWarning

KINDS = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "ceph",
    "glusterfs",
    "fuse.sshfs",
    "fuse",
    "fuse.s3fs",
]
LOCAL = ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "fuseblk", "fuse.fuse-overlayfs", "zfs"]


@pytest.fixture
def mounted(monkeypatch, tmp_path):
    """Have a file system of some type mounted at `tmp_path`, as the system lists it."""

    def mount(kind, below=""):
        lines = (
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
            f"50 22 0:45 / {tmp_path}{below} rw shared:9 - {kind} server:/x rw\n"
            "51 22 0:46 / /somewhere/else rw - nfs4 other:/y rw\n"
        )
        real = builtins.open
        monkeypatch.setattr(
            builtins,
            "open",
            lambda name, *args, **how: (
                io.StringIO(lines) if name == "/proc/self/mountinfo" else real(name, *args, **how)
            ),
        )
        host.filesystem_type.cache_clear()

    yield mount
    host.filesystem_type.cache_clear()


def journal_of(directory):
    connection = apsw.Connection(str(directory / "cache.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute("PRAGMA journal_mode").get
    finally:
        connection.close()


@pytest.mark.parametrize("kind", KINDS)
def test_network_filesystem_is_named_by_a_warning(mounted, directory, kind):
    mounted(kind)
    with pytest.warns(NetworkFilesystemWarning, match=rf"\({kind}\).*local disk"):
        cache = Cache(directory)
    with cache:
        assert cache.info().off["control"] == f"{kind} is a network file system"


@pytest.mark.parametrize(
    ("name", "listed"), [("a b", r"a\040b"), ("a\tb", r"a\011b"), (r"a\040b", r"a\134040b")]
)
def test_network_filesystem_at_an_odd_path_is_found(mounted, tmp_path, name, listed):
    mounted("nfs4", f"/{listed}")
    (tmp_path / name).mkdir()

    assert host.network_filesystem(str(tmp_path / name)) == "nfs4"
    assert host.network_filesystem(str(tmp_path)) is None


@pytest.mark.parametrize("kind", LOCAL)
def test_local_filesystem_is_used_without_a_word(mounted, directory, kind):
    mounted(kind)
    with Cache(directory) as cache:
        cache["a"] = 1

        assert cache.info().off == {}


def test_cache_there_has_a_rollback_journal_and_keeps_nothing_in_memory(mounted, directory):
    mounted("nfs4")
    with pytest.warns(NetworkFilesystemWarning):
        cache = Cache(directory)
    with cache:
        cache["a"] = 1
        cache["large"] = b"x" * 100_000
        with cache.transact():
            cache.incr("n")
        assert [cache["a"] for _ in range(5)] == [1] * 5

        assert journal_of(directory) == "delete"
        assert not (directory / "cache.db-wal").exists()
        assert not (directory / "control").exists()
        assert len(cache._tier) == 0
        assert len(cache) == 3
        assert cache.check() == []


def test_cache_that_is_moved_there_and_back_keeps_its_entries(mounted, directory, monkeypatch):
    with Cache(directory) as cache:
        cache["a"] = 1
    mounted("nfs")
    with pytest.warns(NetworkFilesystemWarning), Cache(directory) as cache:
        cache["b"] = 2

        assert journal_of(directory) == "delete"
        # It could not be kept up to date there.
        assert not (directory / "control").exists()
    mounted("ext4")
    with Cache(directory) as cache:
        assert list(cache.items()) == [("a", 1), ("b", 2)]
        assert journal_of(directory) == "wal"
        assert [cache["a"] for _ in range(5)] == [1] * 5
        assert cache.check() == []


@pytest.mark.parametrize("make", [Cache, lambda where, **how: FanoutCache(where, 2, **how)])
def test_strict_refuses_and_makes_nothing(mounted, directory, make):
    mounted("cifs")
    with pytest.raises(SettingError, match="cifs"):
        make(directory / "deeper", strict=True)

    assert not (directory / "deeper" / "cache.db").exists()


def test_shards_warn_once_together(mounted, directory):
    mounted("9p")
    with pytest.warns(NetworkFilesystemWarning) as caught:
        cache = FanoutCache(directory, 4)
    with cache:
        cache["a"] = 1

        assert len([item for item in caught if item.category is NetworkFilesystemWarning]) == 1
        assert cache["a"] == 1


def test_structures_work_there(mounted, directory):
    mounted("fuse.sshfs")
    with pytest.warns(NetworkFilesystemWarning):
        deque = Deque([1, 2, 3], str(directory))
    deque.rotate(1)

    assert list(deque) == [3, 1, 2]
    deque.cache.close()


def test_readonly_object_there_reads(mounted, directory):
    with Cache(directory) as cache:
        cache["a"] = 1
    mounted("nfs")
    with pytest.warns(NetworkFilesystemWarning):
        cache = Cache(directory, readonly=True)
    with cache:
        assert cache["a"] == 1
