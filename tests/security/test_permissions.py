"""Who may read and write what a cache makes, and who is warned of."""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path

import pytest

import diskcache.codecs.secretfile  # noqa: F401 - another user may not be able to import it
from diskcache import (
    Cache,
    Deque,
    FanoutCache,
    InsecureDirectoryWarning,
    Lock,
    PickleKeyError,
    SettingError,
)
from diskcache.codecs import Keyring
from tests.support.users import ALICE, BOB, EVE, TEAM, as_user, needs_root, shared_place

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
__all__ = ["shared_place"]


@pytest.fixture
def umask():
    """Set the umask; it is put back afterwards."""
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(Path(path).lstat().st_mode)


def modes_below(directory):
    """Return the modes of the folders and of the files, the directory included."""
    found = [directory, *directory.rglob("*")]
    folders = {mode_of(path) for path in found if path.is_dir()}
    return folders, {mode_of(path) for path in found if path.is_file()}


def fill(cache):
    """Have files of every kind made."""
    cache["large"] = bytes(50_000)
    cache.set("stream", io.BytesIO(bytes(10)), read=True)
    lock = Lock(cache, "lock")
    lock.acquire()
    return lock


MODES = {
    0o700: (0o700, 0o600),
    0o750: (0o750, 0o640),
    0o770: (0o770, 0o660),
    0o755: (0o755, 0o644),
}


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o277])
@pytest.mark.parametrize("mode", [None, *MODES])
def test_mode_is_that_of_the_keyword_whatever_the_umask_is(tmp_path, umask, mode, mask):
    directory = tmp_path / "deep" / "cache"
    directory.parent.mkdir()
    umask(mask)
    folder, file = MODES[mode or 0o700]
    options = {} if mode is None else {"mode": mode}
    with Cache(directory, **options) as cache:
        lock = fill(cache)

        assert {"cache.db-wal", "cache.db-shm"} <= {path.name for path in directory.iterdir()}
        assert modes_below(directory) == ({folder}, {file})
        lock.release()
    (directory / "control").unlink()
    with Cache(directory, **options) as cache:
        fill(cache).release()
        assert modes_below(directory) == ({folder}, {file})


@pytest.mark.parametrize("mask", [0, 0o077])
def test_mode_of_a_fanout_cache_and_its_parts(tmp_path, umask, mask):
    umask(mask)
    directory = tmp_path / "fanout"
    cache = FanoutCache(directory, shards=2, mode=0o770)
    cache["large"] = bytes(50_000)
    cache.deque("d").append(bytes(50_000))
    folders, files = modes_below(directory)
    cache.close()

    assert folders == {0o770}
    assert files == {0o660}


def test_missing_parents_are_as_private_as_the_directory(tmp_path, umask):
    umask(0)
    Cache(tmp_path / "a" / "b" / "cache").close()

    assert {mode_of(tmp_path / "a"), mode_of(tmp_path / "a" / "b")} == {0o700}


def test_directory_of_a_deque_and_a_temporary_one_are_private(tmp_path, umask):
    umask(0)
    with Deque(directory=tmp_path / "deque") as deque:
        deque.append(bytes(50_000))
        assert modes_below(tmp_path / "deque") == ({0o700}, {0o600})
    with Cache() as cache:
        assert mode_of(cache.directory) == 0o700


@pytest.mark.parametrize(
    ("mode", "folder", "file"),
    [
        (0o700, 0o700, 0o600),
        (0o750, 0o750, 0o640),
        (0o770, 0o770, 0o660),
        (0o755, 0o750, 0o640),
        (0o1700, 0o700, 0o600),
    ],
)
def test_existing_directory_keeps_its_mode_and_files_follow_its_group(
    tmp_path, umask, mode, folder, file
):
    umask(0o077)
    directory = tmp_path / "cache"
    directory.mkdir()
    directory.chmod(mode)
    with Cache(directory, mode=0o770) as cache:
        fill(cache).release()
        folders, files = modes_below(directory)

    assert mode_of(directory) == mode
    assert folders == {mode, folder}
    assert files == {file}


def test_group_is_inherited_by_all_folders(tmp_path, umask):
    """The set-group-id bit is what makes files of several users one group's."""
    umask(0o077)
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent").chmod(0o2770)
    for options in ({"mode": 0o770}, {}):
        with Cache(tmp_path / "parent" / f"cache{len(options)}", **options) as cache:
            fill(cache).release()
    folders = [path for path in (tmp_path / "parent").rglob("*") if path.is_dir()]

    assert all(mode_of(path) & stat.S_ISGID for path in folders)


@needs_root
def test_users_of_a_group_share_a_cache(shared_place):
    directory = shared_place / "cache"
    directory.mkdir()
    os.chown(directory, 0, TEAM)
    directory.chmod(0o2770)

    def use(name):
        os.umask(0o077)
        with Cache(directory) as cache:
            cache[name] = bytes(50_000)
            with Lock(cache, "lock"):
                return sorted(key for key in cache if cache.get(key) == bytes(50_000))

    assert as_user(ALICE, lambda: use("alice"), TEAM) == ["alice"]
    assert as_user(BOB, lambda: use("bob"), TEAM) == ["alice", "bob"]
    assert as_user(ALICE, lambda: use("again"), TEAM) == ["again", "alice", "bob"]
    assert as_user(EVE, lambda: os.access(directory, os.R_OK | os.X_OK)) is False


@needs_root
def test_web_server_of_the_group_may_read_files_and_not_write(shared_place):
    def store():
        with Cache(shared_place / "cache", mode=0o750) as cache:
            cache.set("page", io.BytesIO(b"content"), read=True)
            with cache.read("page") as reader:
                return reader.name

    shared_place.chmod(0o777)
    path = as_user(ALICE, store, TEAM)

    assert as_user(BOB, lambda: Path(path).read_bytes(), TEAM) == b"content"
    assert as_user(BOB, lambda: os.access(path, os.W_OK), TEAM) is False
    assert as_user(EVE, lambda: os.access(path, os.R_OK)) is False


# -- Warnings ----------------------------------------------------------------------------------


def danger_of(make, *args, **keywords):
    """Return the one warning of a constructor; with `strict=True` it is an error of that text."""
    with pytest.warns(InsecureDirectoryWarning) as caught:
        make(*args, **keywords).close()
    # The collector may say something of other tests meanwhile.
    (text,) = [str(each.message) for each in caught if each.category is InsecureDirectoryWarning]
    with pytest.raises(SettingError) as raised:
        make(*args, strict=True, **keywords)
    assert str(raised.value) == text
    return text


@pytest.mark.parametrize("make", [Cache, FanoutCache])
def test_directory_that_everybody_may_write_to_warns(tmp_path, make):
    directory = tmp_path / "cache"
    directory.mkdir()
    directory.chmod(0o777)

    assert danger_of(make, directory) == (
        f"{str(directory)!r} is writable for other users (mode 0777): they can delete or replay"
        " entries. Code execution is prevented by signatures."
    )


def test_warning_promises_no_protection_where_there_is_none(tmp_path):
    tmp_path.joinpath("cache").mkdir()
    tmp_path.joinpath("cache").chmod(0o777)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Cache(tmp_path / "cache", pickle="unsafe").close()
    texts = [str(warning.message) for warning in caught]

    assert f"anyone who can write to {str(tmp_path / 'cache')!r} can run code in this process." in (
        texts
    )
    assert not any("prevented" in text for text in texts)


@pytest.mark.parametrize("make", [Cache, FanoutCache])
@pytest.mark.parametrize("slash", ["", "/"])
def test_directory_that_is_a_link_warns(tmp_path, make, slash):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    text = danger_of(make, f"{tmp_path}/link{slash}")

    assert "is a symbolic link to" in text
    assert str(tmp_path / "real") in text


@pytest.mark.parametrize("folder", ["cache", "cache/a"])
def test_link_on_the_way_to_a_part_of_a_fanout_cache_warns(tmp_path, folder):
    (tmp_path / "real").mkdir()
    FanoutCache(tmp_path / "fanout", 1).close()
    link = tmp_path / "fanout" / folder
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "real")
    with (
        FanoutCache(tmp_path / "fanout") as cache,
        pytest.warns(InsecureDirectoryWarning, match="is a symbolic link to") as caught,
    ):
        cache.cache("a/b")["k"] = 1
    with (
        FanoutCache(tmp_path / "fanout", strict=True) as cache,
        pytest.raises(SettingError, match="is a symbolic link to"),
    ):
        cache.cache("a/b")

    assert [warning.filename for warning in caught] == [__file__]


@needs_root
def test_directory_of_another_user_warns(shared_place):
    directory = shared_place / "cache"
    directory.mkdir(mode=0o700)
    os.chown(directory, EVE, EVE)
    text = danger_of(Cache, directory)

    assert f"belongs to user {EVE}, not to user 0 who runs this process" in text


@needs_root
def test_directory_of_root_does_not_warn_a_user_who_may_use_it(shared_place):
    directory = shared_place / "cache"
    directory.mkdir()
    os.chown(directory, 0, TEAM)
    directory.chmod(0o770)

    def use():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Cache(directory).close()
            return [str(warning.message) for warning in caught]

    assert as_user(ALICE, use, TEAM) == []


def test_private_directory_does_not_warn(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Cache(tmp_path / "cache", strict=True).close()
        Cache(tmp_path / "cache", strict=True).close()


# -- The key file ------------------------------------------------------------------------------


@needs_root
def test_key_file_of_the_user_before_sudo_is_refused(shared_place):
    """`sudo` keeps HOME: root must not sign with, nor trust, the key of the user."""
    home = shared_place / "home"
    home.mkdir()
    os.chown(home, ALICE, ALICE)
    environ = {"HOME": str(home)}
    as_user(ALICE, lambda: Keyring(environ=environ).signing_key())
    with pytest.raises(PickleKeyError, match=f"belongs to user {ALICE}, not to user 0"):
        Keyring(environ=environ).signing_key()


@needs_root
@pytest.mark.parametrize(
    ("owner", "mode", "is_accepted"),
    [
        (0, 0o640, True),
        (0, 0o440, True),
        (0, 0o644, False),
        (0, 0o660, False),
        (ALICE, 0o640, False),
    ],
)
def test_secret_file_of_a_group_may_be_read_by_it_alone(shared_place, owner, mode, is_accepted):
    path = shared_place / "secret"
    path.write_text("ab" * 32)
    os.chown(path, owner, TEAM)
    path.chmod(mode)

    def accepts():
        try:
            Keyring(environ={"DISKCACHE_SECRET_FILE": str(path)}).signing_key()
        except PickleKeyError:
            return False
        return True

    assert as_user(BOB, accepts, TEAM) is is_accepted


def test_key_directory_that_others_can_write_to_is_refused_for_reading_too(tmp_path):
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    Keyring(environ=environ).signing_key()
    assert mode_of(tmp_path / "diskcache") == 0o700
    assert mode_of(tmp_path / "diskcache" / "key") == 0o600
    (tmp_path / "diskcache").chmod(0o777)
    with pytest.raises(PickleKeyError, match="others can write to it"):
        Keyring(environ=environ).verifying_keys()
