"""Whatever a row or a planted link names, nothing outside the directory is touched."""

from __future__ import annotations

import io
import os
import shutil
import socket
import struct
import warnings
from pathlib import Path

import pytest

from diskcache import Cache, CacheFormatError, CodecError, Deque, DiskCacheError, Index
from diskcache.engines.sqlite import room
from diskcache.files import TEMPORARY, is_safe
from tests.security import hostile, paths
from tests.support.crew import run_script

CONTENT = b"not yours"


@pytest.fixture
def outside(tmp_path):
    """A file that nobody may read, change or remove, and the folder that it is in."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_bytes(CONTENT)
    # An executable bit that a stray chmod would take away.
    (folder / "file").chmod(0o711)
    return folder


@pytest.fixture
def directory(tmp_path):
    Cache(tmp_path / "cache", secret=hostile.SECRET).close()
    return tmp_path / "cache"


REMOVING = (
    "set",
    "set: large",
    "pop",
    "pop: all",
    "delete",
    "delete_many",
    "expire",
    "expire: far",
    "evict",
    "evict: untagged",
    "cull",
    "reset",
    "clear",
    "check: fix",
)
"""Cases that may remove the file of an entry."""


def use_in_every_way(directory, plant):
    """Return everything that came out; *plant* is called before what may remove the entry."""
    found = []

    def use(cases):
        plant()
        with warnings.catch_warnings(), Cache(directory, secret=hostile.SECRET) as cache:
            warnings.simplefilter("ignore")
            found.extend(hostile.attempt(lambda case=case: case(cache)) for case in cases)

    use(paths.READING.values())
    for name in REMOVING:
        use([paths.CHANGING[name]])
    return found


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


NAMES = [
    "../outside/file",
    "ab/../../outside/file",
    "/{outside}/file",
    "./../outside/file",
    "ab/cd/../../../outside/file",
    "..",
    "",
    ".",
    "//{outside}/file",
    "ab\\..\\..\\outside\\file",
    "tmp/../../outside/file",
    "link",
    "link to a folder/file",
    "ab/link to a folder/file",
    "\0",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", [2, 4])
def test_name_that_leads_outside_is_a_miss_and_touches_nothing(directory, outside, name, mode):
    name = name.replace("{outside}", str(outside))
    link(directory / "link", outside / "file")
    link(directory / "link to a folder", outside)
    link(directory / "ab" / "link to a folder", outside)
    before = hostile.snapshot(outside)
    columns = {"mode": mode, "tag": paths.TAG, "checksum": None, "expire_time": 1e11}
    for number in (2, 4):
        few = dict(list(columns.items())[:number])
        found = use_in_every_way(
            directory, lambda few=few: hostile.file_row(directory, name, **few)
        )

        assert CONTENT not in found
    assert hostile.snapshot(outside) == before


@pytest.mark.parametrize("name", ["../outside/file", "link"])
def test_name_that_leads_outside_is_missing_and_is_counted(directory, outside, name):
    link(directory / "link", outside / "file")
    hostile.file_row(directory, name)
    with Cache(directory) as cache:
        assert cache.get("k", "missing") == "missing"
        assert cache.info().corrupt == 1
        assert "k" not in cache


@pytest.mark.parametrize("kind", [Deque, Index], ids=lambda kind: kind.__name__)
def test_name_that_leads_outside_is_an_error_of_a_structure(directory, outside, kind):
    hostile.file_row(directory, "../outside/file", key=500_000_000_000_000)
    with Cache(directory) as cache:
        thing = kind.fromcache(cache)
        with pytest.raises(CodecError, match="kept"):
            list(thing.values() if kind is Index else thing)
        assert len(thing) == 1


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


def folder_with_a_file(path):
    path.mkdir()
    (path / "inner").write_bytes(CONTENT)


def listener(path):
    path.parent.joinpath("s").unlink(missing_ok=True)
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def node(path):
    if os.geteuid():
        pytest.skip("only root makes devices")
    try:
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("no devices may be made here")


KINDS = [pipe, device, folder, folder_with_a_file, listener, node]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("make", KINDS)
def test_what_is_no_file_is_a_miss_and_never_hangs(directory, make):
    name = "ab/cd/" + "0" * 28 + ".val"
    (directory / "ab" / "cd").mkdir(parents=True)
    make(directory / name)
    for checksum in (0, None):
        hostile.insert(directory, file=name, size=0, checksum=checksum, mode=2)
        with Cache(directory) as cache:
            assert cache.get("k", "missing") == "missing"
            assert cache.get("k", "missing", read=True) == "missing"
    row = {"file": name, "size": 0, "checksum": 0, "mode": 2}
    use_in_every_way(directory, lambda: hostile.insert(directory, **row))


@pytest.mark.timeout(90)
@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        "cache.db",
        "cache.db-wal",
        "cache.db-shm",
        "cache.db-journal",
        "control",
        "gate.lock",
        "users.lock",
        "tmp",
        "locks",
        "locks/fence",
        "reserve",
    ],
)
def test_own_file_that_is_something_else_raises_or_is_replaced(directory, name, make):
    path = directory / name
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    make(path)
    for readonly in (False, True):
        try:
            with Cache(directory, readonly=readonly, timeout=5) as cache:
                cache.get("k")
                if not readonly:
                    cache["large"] = bytes(40_000)
                    paths.RECIPES["Lock"](cache)
        except DiskCacheError:
            pass


WAYS_PAST_OPENING = """
import os, sys
from diskcache import Cache, CacheFormatError
from diskcache.cli.main import main
from diskcache.engines.sqlite import hardening, repair, upgrade

directory = sys.argv[1]
cache = Cache(directory)
cache["k"] = "v"
os.mkfifo(directory + "/cache.db-journal")

def refused(way):
    try:
        way()
    except CacheFormatError as exc:
        return "not a regular file" in str(exc)

print(cache["k"], refused(lambda: cache._engine.set_aside("")))
print(refused(lambda: repair(directory)))
print(refused(lambda: upgrade.survey(directory, None)))
print(refused(lambda: upgrade.upgrade([directory], None)))
print(hardening.remove_log(directory), cache.close())
"""


def test_pipe_instead_of_a_journal_hangs_nobody_who_looks_without_opening(directory):
    """SQLite would wait there, and no signal ends that: it is tried where it can be killed."""
    ended = run_script(WAYS_PAST_OPENING, directory, limit=60)

    assert ended.stdout.split() == ["v", *["True"] * 4, "None", "None"], ended.stderr


@pytest.mark.parametrize(
    "name",
    [
        "cache.db",
        "cache.db-wal",
        "cache.db-shm",
        "cache.db-journal",
        "control",
        "gate.lock",
        "users.lock",
        "tmp",
        "locks",
        "locks/fence",
        "reserve",
        "control.new",
        "cache.db.new",
    ],
)
@pytest.mark.parametrize("target", ["file", "."])
def test_own_file_that_is_a_link_is_not_followed(directory, outside, name, target):
    path = directory / name
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    link(path, outside / target)
    before = hostile.snapshot(outside)
    for readonly in (False, True):
        try:
            with Cache(directory, readonly=readonly, timeout=5) as cache:
                cache.get("k")
                if not readonly:
                    cache["large"] = bytes(40_000)
                    paths.RECIPES["Lock"](cache)
                    cache.check(fix=True)
                    cache.clear()
        except DiskCacheError:
            pass

    assert hostile.snapshot(outside) == before


def hard_link(path, target):
    os.link(target, path)


@pytest.mark.parametrize("make", [link, hard_link])
def test_reserve_that_is_a_link_has_no_other_file_cut_or_extended(directory, outside, make):
    content = bytes(room.RESERVE + 1)
    (outside / "file").write_bytes(content)
    (directory / "reserve").unlink()
    make(directory / "reserve", outside / "file")
    with Cache(directory) as cache:
        for number in range(600):
            cache[number] = bytes(1500)
        cache.clear()
        cache.check(fix=True)

    assert (outside / "file").read_bytes() == content


def test_reserve_that_cannot_be_made_is_no_full_disk(directory):
    (directory / "reserve").unlink()
    (directory / "reserve").mkdir()
    with Cache(directory) as cache:
        for number in range(600):
            cache[number] = bytes(1500)

        assert len(cache) == 600


def test_journal_that_names_a_file_outside_is_refused_and_removes_nothing(directory, outside):
    """SQLite up to 3.40, at least, removes the file that is named as another journal."""
    database = directory / "cache.db"
    # A database in rollback mode, so that the journal would be played back.
    Cache(directory, sqlite_journal_mode="delete").close()
    plant_journal(database, outside / "file")
    with pytest.raises(CacheFormatError, match="names another journal"):
        Cache(directory)

    assert (outside / "file").read_bytes() == CONTENT


def plant_journal(database, target):
    """Write a journal of a transaction on several databases, led by *target*."""
    content = database.read_bytes()
    size = struct.unpack(">H", content[16:18])[0]
    magic = bytes.fromhex("d9d505f920a163d7")
    header = magic + struct.pack(">IIIII", 1, 0, len(content) // size, 512, size)
    page = content[:size]
    checksum = sum(page[place] for place in range(size - 200, 0, -200)) & 0xFFFFFFFF
    name = str(target).encode()
    end = struct.pack(">I", 0x40000000 // size + 1) + name
    end += struct.pack(">II", len(name), sum(name)) + magic
    journal = header.ljust(512, b"\0") + struct.pack(">I", 1) + page + struct.pack(">I", checksum)
    Path(f"{database}-journal").write_bytes(journal + end)


def test_check_with_fix_removes_no_file_of_others(directory, outside):
    (directory / "thesis.txt").write_text("mine")
    (directory / "photos").mkdir()
    link(directory / "12", outside)
    link(directory / "ab" / "cd", outside)
    (directory / "34" / "56").mkdir(parents=True)
    link(directory / "34" / "56" / ("0" * 28 + ".val"), outside / "file")
    (directory / TEMPORARY).mkdir(exist_ok=True)
    link(directory / TEMPORARY / ("0" * 32 + ".tmp"), outside / "file")
    os.utime(directory / TEMPORARY / ("0" * 32 + ".tmp"), (1, 1), follow_symlinks=False)
    before = hostile.snapshot(outside)
    with Cache(directory) as cache:
        cache.check(fix=True)

    assert hostile.snapshot(outside) == before
    assert (directory / "thesis.txt").exists()
    assert (directory / "photos").exists()


@pytest.mark.parametrize(
    "name",
    [
        "cache.db",
        "CACHE.DB",
        "000/cache.db",
        "a/b/cache.db-wal",
        "Control",
        "tmp/x",
        "gate.LOCK",
        None,
        5,
        b"ab/cd",
        "a//b",
        "a/./b",
        "a/../b",
        "a\\b",
    ],
)
def test_name_of_the_library_itself_is_not_safe(name):
    assert not is_safe(name)


def test_stream_is_never_stored_through_a_link(directory, outside):
    shutil.rmtree(directory / TEMPORARY)
    link(directory / TEMPORARY, outside)
    before = hostile.snapshot(outside)
    with Cache(directory) as cache, pytest.raises(DiskCacheError):
        cache.set("k", io.BytesIO(b"x"), read=True)

    assert hostile.snapshot(outside) == before
