"""Signatures: bound to cache, role and key; and where the secrets for them are found."""

from __future__ import annotations

import base64
import os
import pickle
import stat
import subprocess
import sys
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import pytest

from diskcache.codecs import secretfile, signing
from diskcache.codecs.signing import Keyring, Signer
from diskcache.errors import PickleKeyError, SettingError, UntrustedPickleError

SOURCES = Path(__file__).resolve().parents[2] / "src"
SECRET = b"s" * 32
OTHER = b"o" * 32
CACHE_ID = bytes(range(16))
posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs owners and modes")


def signer(*secrets: bytes, cache_id: bytes = CACHE_ID) -> Signer:
    return Signer(Keyring([*secrets] or [SECRET]), cache_id)


def refused(reason: str, verifier: Signer, role: Any, key: bytes, envelope: bytes) -> None:
    with pytest.raises(UntrustedPickleError) as caught:
        verifier.verify(role, key, envelope)

    assert caught.value.reason == reason


# -- Envelopes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, 32 * 1024, 32 * 1024 + 1, 200_000])
def test_signed_payload_verifies(size):
    payload = os.urandom(size)
    envelope = signer().sign("value", b"k", payload)

    assert signer().verify("value", b"k", envelope) == payload
    assert signer().sign("value", b"k", payload) == envelope


def test_envelope_is_that_of_the_specification():
    def sized(part: bytes) -> bytes:
        return len(part).to_bytes(8, "big") + part

    key = blake2b(SECRET, digest_size=32, person=b"diskcache6-key").digest()
    key_id = blake2b(key, digest_size=4, person=b"diskcache6-kid").digest()
    for payload in (b"payload", b"p" * 40_000):
        body = sized(payload)
        if len(payload) > 32 * 1024:
            body = len(payload).to_bytes(8, "big") + sha256(payload).digest()
        message = sized(CACHE_ID) + sized(b"value") + sized(b"the key") + body
        tag = blake2b(message, digest_size=16, key=key, person=b"diskcache6-pkl").digest()
        expected = b"\x01" + key_id + tag + payload

        assert signer().sign("value", b"the key", payload) == expected


def test_swaps_are_refused():
    envelope = signer().sign("value", b"one", b"payload")

    refused("bad-tag", signer(), "value", b"two", envelope)
    refused("bad-tag", signer(), "key", b"one", envelope)
    refused("bad-tag", signer(cache_id=bytes(16)), "value", b"one", envelope)
    refused("unknown-key", signer(OTHER), "value", b"one", envelope)


def test_fields_do_not_run_into_each_other():
    one = signer().sign("value", b"ab", b"c")
    two = signer().sign("value", b"a", b"bc")

    assert one[5:21] != two[5:21]


@pytest.mark.parametrize("position", [5, 20, 21, 27])
def test_altered_bytes_are_refused(position):
    envelope = bytearray(signer().sign("value", b"k", b"payload"))
    envelope[position] ^= 1

    refused("bad-tag", signer(), "value", b"k", bytes(envelope))


def test_altered_key_id_is_an_unknown_key():
    envelope = bytearray(signer().sign("value", b"k", b"payload"))
    envelope[1] ^= 1

    refused("unknown-key", signer(), "value", b"k", bytes(envelope))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01" * 20, pickle.dumps(["x"] * 20), b"x" * 50])
def test_what_is_no_envelope_is_unsigned(data):
    refused("unsigned", signer(), "value", b"k", data)


def test_rotation_signs_with_the_newest_and_verifies_with_all():
    old, both = signer(SECRET), signer(OTHER, SECRET)
    envelope = old.sign("value", b"k", b"payload")
    renewed = both.sign("value", b"k", b"payload")

    assert both.verify("value", b"k", envelope) == b"payload"
    assert renewed == signer(OTHER).sign("value", b"k", b"payload")
    refused("unknown-key", signer(OTHER), "value", b"k", envelope)
    refused("unknown-key", old, "value", b"k", renewed)


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        (b"short", "at least 32 bytes: got 5"),
        ([], "got an empty list"),
        ([SECRET, b"x"], "at least 32 bytes: got 1"),
        ("s" * 32, "got <class 'str'>"),
        ([SECRET, None], "got <class 'NoneType'>"),
    ],
)
def test_bad_secrets_are_refused_at_once(secret, message):
    with pytest.raises(SettingError, match=message):
        Keyring(secret)


def test_keyring_is_not_pickled():
    with pytest.raises(TypeError, match="secrets do not travel"):
        pickle.dumps(Keyring(SECRET))


def test_keyring_does_not_show_secrets():
    assert "sss" not in repr(Keyring(SECRET))


# -- Where secrets come from -------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "XDG_STATE_HOME": str(home / "state")}


@pytest.fixture
def key_file(home: Path) -> Path:
    return home / "state" / "diskcache" / "key"


def write_key(path: Path, mode: int = 0o600, text: str = "ab" * 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(text, encoding="ascii")
    path.chmod(mode)


def test_nothing_is_read_or_made_before_the_first_need(environ, key_file):
    Keyring(environ=environ)
    Signer(Keyring(environ=environ), CACHE_ID)

    assert not key_file.parent.parent.exists()


def test_key_file_is_made_when_something_must_be_signed(environ, key_file):
    keyring = Keyring(environ=environ)

    assert keyring.verifying_keys() == ()
    assert not key_file.exists()

    made = keyring.signing_key()

    assert keyring.verifying_keys() == (made,)
    assert Keyring(environ=environ).signing_key() == made
    assert os.listdir(key_file.parent) == ["key"]
    if hasattr(os, "geteuid"):
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(key_file.parent.stat().st_mode) == 0o700


def test_verifying_without_any_key_is_an_unknown_key(environ):
    envelope = signer().sign("value", b"k", b"payload")

    refused("unknown-key", Signer(Keyring(environ=environ), CACHE_ID), "value", b"k", envelope)


@pytest.mark.parametrize("name", ["DISKCACHE_SECRET", "DISKCACHE_KEY"])
@pytest.mark.parametrize(
    "text",
    [
        SECRET.hex(),
        f"  {SECRET.hex().upper()}\n",
        base64.b64encode(SECRET).decode(),
        base64.urlsafe_b64encode(SECRET).decode().rstrip("="),
    ],
)
def test_variable_is_hexadecimal_or_base64(name, text):
    assert Keyring(environ={name: text}).signing_key() == signing.derive(SECRET)


def test_variable_with_several_secrets_is_newest_first():
    keyring = Keyring(environ={"DISKCACHE_SECRET": f"{OTHER.hex()}, {SECRET.hex()}"})

    assert keyring.signing_key() == signing.derive(OTHER)
    assert keyring.verifying_keys() == (signing.derive(OTHER), signing.derive(SECRET))


def test_order_of_sources(environ, tmp_path, key_file):
    path = tmp_path / "secret"
    write_key(path, text=OTHER.hex())
    write_key(key_file)
    both = {**environ, "DISKCACHE_SECRET_FILE": str(path)}
    all_of_them = {**both, "DISKCACHE_SECRET": SECRET.hex(), "DISKCACHE_KEY": "00" * 32}

    assert Keyring(b"p" * 32, environ=all_of_them).signing_key() == signing.derive(b"p" * 32)
    assert Keyring(environ=all_of_them).signing_key() == signing.derive(SECRET)
    assert Keyring(environ=both).signing_key() == signing.derive(OTHER)
    assert Keyring(environ=environ).signing_key() == signing.derive(b"\xab" * 32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abcd", "at least 32 bytes after decoding: got 2"),
        ("not-base64!", "neither hexadecimal nor base64"),
        (" , ", "holds no secret"),
    ],
)
def test_malformed_variable_is_refused_without_repeating_it(text, message):
    with pytest.raises(PickleKeyError, match=message) as caught:
        Keyring(environ={"DISKCACHE_SECRET": text}).signing_key()

    assert "DISKCACHE_SECRET" in str(caught.value)
    assert text.strip(" ,") == "" or text not in str(caught.value)


def test_missing_secret_file_is_an_error_not_a_reason_to_make_a_key(environ, tmp_path, key_file):
    environ["DISKCACHE_SECRET_FILE"] = str(tmp_path / "absent")

    with pytest.raises(PickleKeyError, match="which does not exist"):
        Keyring(environ=environ).signing_key()

    assert not key_file.exists()


# -- Checks of the key file --------------------------------------------------------------------


@posix
def test_message_for_a_file_that_others_can_read(environ, key_file):
    write_key(key_file, mode=0o644)

    with pytest.raises(PickleKeyError) as caught:
        Keyring(environ=environ).signing_key()

    assert str(caught.value) == (
        f"refusing key file {str(key_file)!r}: mode 0644 lets others read it. "
        f"Run: chmod 600 {key_file} and consider the key known."
    )


@posix
@pytest.mark.parametrize(
    ("mode", "own_accepted", "named_accepted"),
    [
        (0o600, True, True),
        (0o400, True, True),
        (0o640, False, True),
        (0o440, False, True),
        (0o660, False, False),
        (0o604, False, False),
        (0o602, False, False),
        (0o610, False, False),
    ],
)
def test_modes_of_key_files(environ, tmp_path, key_file, mode, own_accepted, named_accepted):
    named = tmp_path / "named"
    write_key(key_file, mode)
    write_key(named, mode)

    assert accepts(Keyring(environ=environ)) is own_accepted
    assert accepts(Keyring(environ={"DISKCACHE_SECRET_FILE": str(named)})) is named_accepted


def accepts(keyring: Keyring) -> bool:
    try:
        keyring.signing_key()
    except PickleKeyError:
        return False
    return True


@posix
def test_file_of_another_user_is_refused(environ, key_file, monkeypatch):
    write_key(key_file)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    with pytest.raises(PickleKeyError, match=f"belongs to user {owner}, not to user {owner + 1}"):
        Keyring(environ=environ).signing_key()


@posix
def test_refused_file_makes_entries_untrusted_not_errors(environ, key_file):
    write_key(key_file, mode=0o666)
    envelope = signer().sign("value", b"k", b"payload")
    verifier = Signer(Keyring(environ=environ), CACHE_ID)

    with pytest.raises(UntrustedPickleError, match="lets others read it") as caught:
        verifier.verify("value", b"k", envelope)

    assert caught.value.reason == "unknown-key"


@posix
def test_symbolic_link_is_refused(environ, tmp_path, key_file):
    write_key(tmp_path / "elsewhere")
    key_file.parent.mkdir(parents=True, mode=0o700)
    key_file.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PickleKeyError, match="it is a symbolic link"):
        Keyring(environ=environ).signing_key()


@posix
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "directory"])
def test_what_is_no_regular_file_is_refused(environ, key_file, make):
    key_file.parent.mkdir(parents=True, mode=0o700)
    make(key_file)

    with pytest.raises(PickleKeyError, match="it is not a regular file"):
        Keyring(environ=environ).signing_key()


def test_file_that_is_too_large_is_refused(environ, key_file):
    write_key(key_file, text="ab" * 50_000)

    with pytest.raises(PickleKeyError, match="larger than 65536 bytes"):
        Keyring(environ=environ).signing_key()


def test_empty_file_is_refused(environ, key_file):
    write_key(key_file, text="\n")

    with pytest.raises(PickleKeyError, match="holds no secret"):
        Keyring(environ=environ).signing_key()


@posix
def test_key_directory_that_others_can_write_to_is_refused(environ, key_file):
    key_file.parent.mkdir(parents=True)
    key_file.parent.chmod(0o777)

    with pytest.raises(PickleKeyError, match=r"others can write to it .*mode 0777"):
        Keyring(environ=environ).signing_key()

    assert os.listdir(key_file.parent) == []


@pytest.mark.parametrize("inside", [".", "state", "state/diskcache"])
def test_key_inside_the_cache_directory_is_refused(environ, home, key_file, inside):
    keyring = Keyring(environ=environ, directory=home / inside)

    with pytest.raises(PickleKeyError, match="it lies inside the cache directory"):
        keyring.signing_key()

    assert not key_file.exists()


@posix
def test_key_inside_the_cache_directory_is_found_behind_links(environ, tmp_path, home):
    (tmp_path / "cache").symlink_to(home)

    with pytest.raises(PickleKeyError, match="it lies inside the cache directory"):
        Keyring(environ=environ, directory=tmp_path / "cache").signing_key()


def test_named_file_inside_the_cache_directory_is_refused(tmp_path):
    write_key(tmp_path / "secret")
    keyring = Keyring(
        environ={"DISKCACHE_SECRET_FILE": str(tmp_path / "secret")}, directory=tmp_path
    )

    with pytest.raises(PickleKeyError, match="it lies inside the cache directory"):
        keyring.signing_key()


def test_cache_beside_the_key_is_fine(environ, home):
    keyring = Keyring(environ=environ, directory=home / "state" / "disk")

    assert keyring.signing_key()


# -- No place for a key ------------------------------------------------------------------------


def test_unwritable_home_raises_and_says_what_to_do(environ, monkeypatch):
    def refuse(*_args: Any, **_keywords: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "makedirs", refuse)
    del environ["XDG_STATE_HOME"]

    with pytest.raises(PickleKeyError, match=r"no key .* is available \(HOME is not writable\)"):
        Keyring(environ=environ).signing_key()


def test_home_that_is_a_file_raises(tmp_path):
    (tmp_path / "file").touch()
    environ = {"XDG_STATE_HOME": str(tmp_path / "file")}

    with pytest.raises(PickleKeyError, match="XDG_STATE_HOME is not writable"):
        Keyring(environ=environ).signing_key()


def test_no_home_at_all_raises(monkeypatch):
    monkeypatch.setattr(secretfile, "_home_of_user", lambda: None)

    assert Keyring(environ={}).verifying_keys() == ()
    with pytest.raises(PickleKeyError, match="HOME is not set"):
        Keyring(environ={}).signing_key()


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {"HOME": "/h"}, "/h/.local/state/diskcache"),
        ("linux", {"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/diskcache"),
        ("linux", {"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/diskcache"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Application Support/diskcache"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/diskcache"),
        ("win32", {}, None),
    ],
)
def test_state_directory(monkeypatch, platform, environ, expected):
    monkeypatch.setattr(sys, "platform", platform)

    assert secretfile.state_directory(environ) == expected


# -- Races -------------------------------------------------------------------------------------

MINT = """
import sys
from diskcache.codecs.signing import Keyring
sys.stdin.readline()
print(Keyring().signing_key()[1].hex())
"""


def test_sixteen_racing_processes_make_one_key(environ, key_file):
    environ = {**os.environ, **environ, "PYTHONPATH": str(SOURCES)}
    for name in ("DISKCACHE_SECRET", "DISKCACHE_SECRET_FILE", "DISKCACHE_KEY"):
        environ.pop(name, None)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", MINT],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(16)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    found = [racer.communicate(timeout=60)[0] for racer in racers]

    assert len(set(found)) == 1
    assert len(found[0].strip()) == 64
    assert os.listdir(key_file.parent) == ["key"]
