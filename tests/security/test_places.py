"""Each row of the table of environments, as far as it can be simulated; and the messages."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import warnings

import pytest

from diskcache import Cache, NotPlainError, PickleKeyError, SettingError, UntrustedPickleWarning
from tests.security import hostile
from tests.support.pages import ROOT, sections, table
from tests.support.users import ALICE, BOB, TEAM, as_user, needs_root, shared_place

__all__ = ["shared_place"]
TABLE = table(sections("docs/security.md")["Where it works"], "environment")


class Thing:
    """A value that must be pickled."""

    def __eq__(self, other):
        return type(other) is Thing

    __hash__ = None


class Place:
    """An environment in which a cache is used."""

    def __init__(self, directory, monkeypatch):
        self.directory = directory
        self._patch = monkeypatch
        for name in ("XDG_STATE_HOME", "HOME", "DISKCACHE_SECRET", "DISKCACHE_SECRET_FILE"):
            monkeypatch.delenv(name, raising=False)
        # Without HOME the system is asked for the home of the user.
        monkeypatch.setattr("diskcache.codecs.secretfile._home_of_user", lambda: None)

    def set(self, **variables):
        for name, value in variables.items():
            self._patch.setenv(name, str(value))

    def store(self, value=None, **options):
        with Cache(self.directory, **options) as cache:
            cache["plain"] = {"a": (1, None)}
            cache["k"] = Thing() if value is None else value

    def load(self, **options):
        """Return the plain value, the other one, and how many entries were not trusted."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Cache(self.directory, **options) as cache:
                return cache["plain"], cache.get("k", "missing"), cache.info().untrusted


PLAIN = {"a": (1, None)}
FOUND = (PLAIN, Thing(), 0)
MISSING = (PLAIN, "missing", 1)


@pytest.fixture
def place(tmp_path, monkeypatch):
    return Place(tmp_path / "volume" / "cache", monkeypatch)


def in_a_process(directory, **environ):
    """Return what another process finds."""
    program = (
        "import sys; from diskcache import Cache; from tests.security.test_places import Thing\n"
        "with Cache(sys.argv[1]) as cache: print(cache.get('k') == Thing())"
    )
    keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(directory)],
        env={**keep, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **environ},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.strip()


def test_one_user_on_one_machine(place, tmp_path):
    place.set(HOME=tmp_path)
    place.store()

    assert place.load() == FOUND
    assert (tmp_path / ".local" / "state" / "diskcache" / "key").exists()
    assert in_a_process(place.directory, HOME=str(tmp_path)) == "True"
    assert in_a_process(place.directory, HOME=str(tmp_path / "other")) == "False"


def test_container_with_a_writable_home_and_a_new_one_after_a_redeploy(place, tmp_path):
    place.set(HOME=tmp_path / "first")
    place.store()
    assert place.load() == FOUND
    place.set(HOME=tmp_path / "second")
    with Cache(place.directory) as cache:
        with pytest.warns(UntrustedPickleWarning, match="another user or machine"):
            assert cache.get("k") is None
        cache["k"] = Thing()

    assert place.load() == FOUND


@pytest.mark.parametrize("home", [None, "file", "/proc", "relative"])
def test_container_with_a_read_only_root_or_without_home(place, tmp_path, home):
    (tmp_path / "file").touch()
    if home is not None:
        place.set(HOME=tmp_path / home if home == "file" else home)
    place.store(PLAIN)
    with Cache(place.directory) as cache, pytest.raises(PickleKeyError, match="DISKCACHE_SECRET"):
        cache["k"] = Thing()
    place.set(DISKCACHE_SECRET=hostile.SECRET.hex())
    place.store()

    assert place.load() == FOUND


def test_several_pods_on_one_volume(place, tmp_path):
    place.set(HOME=tmp_path / "pod 1", DISKCACHE_SECRET=hostile.SECRET.hex())
    place.store()
    place.set(HOME=tmp_path / "pod 2")

    assert place.load() == FOUND
    assert not (tmp_path / "pod 1").exists()


@needs_root
def test_several_users_one_directory(shared_place, monkeypatch):
    place = Place(shared_place / "cache", monkeypatch)
    place.directory.mkdir()
    os.chown(place.directory, 0, TEAM)
    place.directory.chmod(0o2770)
    shared_place.joinpath("secret").write_text("ab" * 32)
    os.chown(shared_place / "secret", 0, TEAM)
    shared_place.joinpath("secret").chmod(0o640)
    for name, uid in (("alice", ALICE), ("bob", BOB)):
        (shared_place / name).mkdir()
        os.chown(shared_place / name, uid, TEAM)

    def use(step, name, **options):
        os.environ["HOME"] = str(shared_place / name)
        return step(**options)

    as_user(ALICE, lambda: use(place.store, "alice"), TEAM)
    assert as_user(ALICE, lambda: use(place.load, "alice"), TEAM) == FOUND
    assert as_user(BOB, lambda: use(place.load, "bob"), TEAM) == MISSING
    assert as_user(BOB, lambda: use(place.load, "bob", pickle="never"), TEAM) == MISSING
    place.set(DISKCACHE_SECRET_FILE=shared_place / "secret")
    as_user(ALICE, lambda: use(place.store, "alice"), TEAM)
    assert as_user(BOB, lambda: use(place.load, "bob"), TEAM) == FOUND


@needs_root
def test_sudo_with_the_home_of_the_user(shared_place, monkeypatch):
    place = Place(shared_place / "cache", monkeypatch)
    (shared_place / "home").mkdir()
    os.chown(shared_place / "home", ALICE, TEAM)
    shared_place.chmod(0o777)
    place.set(HOME=shared_place / "home")
    as_user(ALICE, place.store, TEAM)
    assert place.load() == MISSING
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Cache(place.directory) as cache, pytest.raises(PickleKeyError, match="belongs to"):
            cache["k"] = Thing()


def test_directory_copied_to_another_machine(place, tmp_path):
    place.set(HOME=tmp_path / "here")
    place.store()
    shutil.copytree(place.directory, tmp_path / "there" / "cache")
    place.directory = tmp_path / "there" / "cache"
    assert place.load() == FOUND, "the place of a cache is not part of a signature"
    place.set(HOME=tmp_path / "there")
    assert place.load() == MISSING
    shutil.copytree(tmp_path / "here" / ".local", tmp_path / "there" / ".local", dirs_exist_ok=True)
    assert place.load() == FOUND


def test_rotation_of_the_secret(place):
    old, new = b"o" * 32, b"n" * 32
    place.set(DISKCACHE_SECRET=old.hex())
    place.store()
    place.set(DISKCACHE_SECRET=f"{new.hex()},{old.hex()}")
    assert place.load() == FOUND
    place.set(DISKCACHE_SECRET=new.hex())
    assert place.load() == MISSING
    place.store()
    assert place.load() == FOUND
    assert place.load(secret=[b"x" * 32, new]) == FOUND
    assert place.load(secret=[b"x" * 32, old]) == MISSING


ROWS = {
    "one user on one machine": test_one_user_on_one_machine,
    "container with a writable HOME, cache on a volume": (
        test_container_with_a_writable_home_and_a_new_one_after_a_redeploy
    ),
    "container with a read-only root or without HOME": (
        test_container_with_a_read_only_root_or_without_home
    ),
    "several pods on one volume": test_several_pods_on_one_volume,
    "several users, one directory": test_several_users_one_directory,
    "`sudo` with the HOME of the user": test_sudo_with_the_home_of_the_user,
    "rotation of the secret": test_rotation_of_the_secret,
    "directory copied to another machine": test_directory_copied_to_another_machine,
}
"""The test of each row."""


def test_every_row_of_the_table_is_tested():
    assert [row[0] for row in TABLE] == list(ROWS)


# -- Policy and messages -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "keyword", "expected"),
    [
        (None, "signed", "signed"),
        ("never", "signed", "never"),
        ("never", "unsafe", "never"),
        ("signed", "unsafe", "signed"),
        ("unsafe", "signed", "signed"),
        ("unsafe", "never", "never"),
        ("signed", "never", "never"),
    ],
)
def test_variable_can_only_tighten(place, variable, keyword, expected):
    if variable is not None:
        place.set(DISKCACHE_PICKLE=variable)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Cache(place.directory, pickle=keyword) as cache:
            assert cache.info().pickle == expected


def test_variable_that_is_no_mode_is_an_error(place):
    place.set(DISKCACHE_PICKLE="sometimes")
    with pytest.raises(SettingError, match="DISKCACHE_PICKLE must be one of"):
        Cache(place.directory)


def test_messages_are_those_of_the_specification(place, tmp_path):
    plain_label = str(place.directory)
    label = repr(plain_label)
    kind = f"{Thing!r}"
    with Cache(place.directory, pickle="never") as cache:
        with pytest.raises(NotPlainError) as refused:
            cache["k"] = Thing()
        assert isinstance(refused.value, TypeError)
        assert str(refused.value) == (
            f"{kind} is not plain data and this cache was opened with pickle='never'."
        )
    with Cache(place.directory) as cache:
        with pytest.raises(PickleKeyError) as keyless:
            cache["k"] = Thing()
        assert str(keyless.value) == (
            f"cannot store {kind}: it is not plain data, and no key to sign pickles is available"
            ' (HOME is not set). Set DISKCACHE_SECRET (for example: python -c "import secrets;'
            ' print(secrets.token_hex(32))"), or pass secret=..., or store plain data, or pass'
            f" pickle='unsafe' if only you can write to {label}."
        )
    place.store(secret=b"o" * 32)
    with Cache(place.directory, secret=b"n" * 32) as cache:
        with pytest.warns(UntrustedPickleWarning) as caught:
            cache.get("k")
        assert str(caught[0].message) == (
            f"1 entry of cache {label} is a pickle without a valid signature (written by diskcache"
            " 5, by another user or machine, or altered) and was treated as missing. Values of"
            f' your own can be recovered with "python -m diskcache migrate {plain_label}'
            ' --trust-pickles"; only do so if nobody else could write to this directory. Shown'
            ' once; see "python -m diskcache info".'
        )


def test_pickle_mode_is_kept_in_no_directory(place):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place.store(pickle="unsafe")
    place.set(DISKCACHE_SECRET=hostile.SECRET.hex())

    assert place.load() == MISSING
    assert pickle.dumps(Thing()) is not None
