"""Values under the three policies on pickles."""

from __future__ import annotations

import enum
import math
import os
import pickle
from typing import Any, NamedTuple

import pytest

from diskcache.codecs import MODE_DATA, MODE_PICKLE, MODE_RAW, Keyring, Signer, ValueCodec
from diskcache.codecs.values import effective_mode
from diskcache.errors import (
    CodecError,
    NotPlainError,
    PickleKeyError,
    SettingError,
    UntrustedPickleError,
)
from diskcache.sentinels import ENOVAL

KEY = b"sk"
CACHE_ID = bytes(16)


class Colour(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    one: Any
    two: Any


class Thing:
    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)


class Stubborn:
    def __setstate__(self, state: Any) -> None:
        raise ZeroDivisionError("no way back")

    def __getstate__(self) -> Any:
        return {"a": 1}


class Bomb:
    def __reduce__(self) -> Any:
        return os.putenv, ("DISKCACHE_TEST_BOMB", "exploded")


@pytest.fixture(autouse=True)
def _no_policy_from_outside(monkeypatch):
    monkeypatch.delenv("DISKCACHE_PICKLE", raising=False)


def codec(mode: str = "signed", *, secret: bytes = b"s" * 32, label: str = "/x") -> ValueCodec:
    return ValueCodec(pickle=mode, signer=Signer(Keyring(secret), CACHE_ID), label=label)


def keyless() -> ValueCodec:
    """Return a codec that finds no place for a key."""
    environ = {"XDG_STATE_HOME": os.path.abspath(__file__)}
    return ValueCodec(signer=Signer(Keyring(environ=environ), CACHE_ID), label="/x")


@pytest.mark.parametrize("mode", ["signed", "never", "unsafe"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", MODE_RAW),
        ("é", MODE_RAW),
        (b"bytes", MODE_RAW),
        (7, MODE_RAW),
        (-(2**63), MODE_RAW),
        (0.5, MODE_RAW),
        (-0.0, MODE_RAW),
        (math.inf, MODE_RAW),
        (math.nan, MODE_DATA),
        ("\ud800", MODE_DATA),
        (2**63, MODE_DATA),
        (True, MODE_DATA),
        (None, MODE_DATA),
        ({"a": (1, [2])}, MODE_DATA),
    ],
)
def test_plain_values_need_no_pickle_in_any_mode(mode, value, expected):
    subject = codec(mode)
    number, data = subject.encode(value, KEY)
    back = subject.decode(number, data, KEY)

    assert number == expected
    assert type(back) is type(value)
    assert repr(back) == repr(value)


@pytest.mark.parametrize("value", [Colour.RED, Pair(1, "x"), Thing(3), [Thing(1)], Thing, len])
def test_other_values_are_signed_pickles(value):
    subject = codec()
    number, data = subject.encode(value, KEY)

    assert number == MODE_PICKLE
    assert data[0] == 1
    assert subject.decode(number, data, KEY) == value
    assert pickle.loads(data[21:]) == value


def test_signed_pickle_of_another_key_is_not_loaded():
    subject = codec()
    number, data = subject.encode(Bomb(), KEY)

    with pytest.raises(UntrustedPickleError) as caught:
        subject.decode(number, data, b"another")

    assert caught.value.reason == "bad-tag"


@pytest.mark.parametrize(("mode", "reason"), [("signed", "unsigned"), ("never", "refused")])
def test_planted_pickles_do_not_run(mode, reason):
    bare = pickle.dumps(Bomb())

    with pytest.raises(UntrustedPickleError) as caught:
        codec(mode).decode(MODE_PICKLE, bare, KEY)

    assert caught.value.reason == reason
    for blob in (bare, b"\x01" + bytes(20) + bare, b"\x02" + bare):
        with pytest.raises(UntrustedPickleError):
            codec(mode).decode(MODE_PICKLE, blob, KEY)
        with pytest.raises((UntrustedPickleError, CodecError)):
            codec(mode).decode_key(b"\x01" + blob, 0)
        with pytest.raises((UntrustedPickleError, CodecError)):
            codec(mode).decode_key(b"\x02" + blob, 0)


def test_planted_pickle_as_plain_data_does_not_run():
    with pytest.raises(CodecError):
        codec().decode(MODE_DATA, b"cos\nputenv\n", KEY)


def test_signed_pickle_is_refused_by_never():
    number, data = codec().encode(Thing(1), KEY)

    with pytest.raises(UntrustedPickleError, match="pickle='never'") as caught:
        codec("never").decode(number, data, KEY)

    assert caught.value.reason == "refused"


def test_unsafe_writes_bare_pickles_and_reads_both():
    subject = codec("unsafe")
    number, data = subject.encode(Thing(1), KEY)
    signed = codec(secret=b"x" * 32).encode(Thing(2), KEY)

    assert number == MODE_PICKLE
    assert pickle.loads(data) == Thing(1)
    assert subject.decode(number, data, KEY) == Thing(1)
    assert subject.decode(*signed, KEY) == Thing(2)
    assert ValueCodec(pickle="unsafe").encode(Thing(1), KEY) == (number, data)


def test_never_message():
    with pytest.raises(NotPlainError) as caught:
        codec("never").encode(Thing(1), KEY)

    assert isinstance(caught.value, TypeError)
    assert str(caught.value) == (
        f"{Thing!r} is not plain data and this cache was opened with pickle='never'."
    )


def test_message_without_a_key():
    with pytest.raises(PickleKeyError) as caught:
        keyless().encode(Thing(1), KEY)

    assert isinstance(caught.value, pickle.PicklingError)
    assert str(caught.value) == (
        f"cannot store {Thing!r}: it is not plain data, and no key to sign pickles is available "
        "(XDG_STATE_HOME is not writable). Set DISKCACHE_SECRET (for example: "
        'python -c "import secrets; print(secrets.token_hex(32))"), or pass secret=..., '
        "or store plain data, or pass pickle='unsafe' if only you can write to '/x'."
    )


def test_plain_data_works_without_a_key():
    subject = keyless()

    assert subject.decode(*subject.encode({"a": [1]}, KEY), KEY) == {"a": [1]}
    assert subject.encode_key(("f", 1)) == (b"\x92\xa1f\x01", 0)


def test_codec_without_signer_says_so():
    with pytest.raises(PickleKeyError, match="none was given"):
        ValueCodec().encode(Thing(1), KEY)
    with pytest.raises(UntrustedPickleError):
        ValueCodec().decode(*codec().encode(Thing(1), KEY), KEY)


@pytest.mark.parametrize("value", [lambda: None, (n for n in "x"), memoryview(b"x")])
def test_errors_of_pickle_pass_through(value):
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as expected:
        pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    with pytest.raises(expected.type):
        codec().encode(value, KEY)


def test_classes_that_refuse_are_codec_errors():
    subject = codec()
    number, data = subject.encode(Stubborn(), KEY)

    with pytest.raises(CodecError, match="ZeroDivisionError: no way back") as caught:
        subject.decode(number, data, KEY)

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_class_that_is_gone_is_a_codec_error(monkeypatch):
    subject = codec()
    number, data = subject.encode(Thing(1), KEY)
    monkeypatch.delitem(globals(), "Thing")

    with pytest.raises(CodecError, match="AttributeError"):
        subject.decode(number, data, KEY)


@pytest.mark.parametrize("mode", [-1, 0, 2, 3, 7])
def test_unknown_mode_is_a_codec_error(mode):
    with pytest.raises(CodecError, match="unknown mode"):
        codec().decode(mode, b"x", KEY)


def test_data_of_another_kind_is_a_codec_error():
    with pytest.raises(CodecError):
        codec().decode(MODE_DATA, "text", KEY)
    with pytest.raises(CodecError):
        codec().decode(MODE_PICKLE, 5, KEY)


def test_views_of_bytes_are_accepted():
    number, data = codec().encode({"a": 1}, KEY)

    assert codec().decode(number, memoryview(data), KEY) == {"a": 1}


# -- Keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [Colour.RED, Pair(1, "x"), ("f", Thing(1)), Thing(7)])
@pytest.mark.parametrize("mode", ["signed", "unsafe"])
def test_other_keys_are_pickles(mode, key):
    subject = codec(mode)
    db_key, raw = subject.encode_key(key)

    assert raw == 0
    assert db_key[0] == (1 if mode == "signed" else 2)
    assert subject.decode_key(db_key, raw) == key
    assert codec(mode).encode_key(key) == (db_key, raw)


def test_pickled_keys_do_not_depend_on_identity():
    text = "".join(["a", "b"])
    other = "".join(["a", "b"])

    assert codec().encode_key(Pair(text, text)) == codec().encode_key(Pair(text, other))


def test_key_that_contains_itself_is_pickled():
    key: Any = Thing(1)
    key.itself = [key]
    db_key, raw = codec().encode_key(key)

    assert codec().decode_key(db_key, raw).itself[0].number == 1


def test_value_is_not_accepted_as_key():
    _, data = codec().encode(Thing(1), b"")

    with pytest.raises(UntrustedPickleError):
        codec().decode_key(data, 0)


def test_other_keys_are_refused_by_never():
    with pytest.raises(NotPlainError, match="pickle='never'"):
        codec("never").encode_key(Colour.RED)


def test_native_keys_pass():
    assert codec().encode_key("k") == ("k", 1)
    assert codec().decode_key("k", 1) == "k"


# -- Policy ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "variable", "expected"),
    [
        ("signed", "never", "never"),
        ("unsafe", "signed", "signed"),
        ("unsafe", "never", "never"),
        ("signed", "unsafe", "signed"),
        ("never", "unsafe", "never"),
        ("unsafe", "", "unsafe"),
    ],
)
def test_variable_only_tightens(monkeypatch, asked, variable, expected):
    monkeypatch.setenv("DISKCACHE_PICKLE", variable)

    assert effective_mode(asked) == expected
    assert codec(asked).pickle_mode == expected


def test_unknown_modes_are_refused(monkeypatch):
    with pytest.raises(SettingError, match=r"pickle must be one of .*: got 'yes'"):
        codec("yes")
    monkeypatch.setenv("DISKCACHE_PICKLE", "no")
    with pytest.raises(SettingError, match=r"DISKCACHE_PICKLE must be one of .*: got 'no'"):
        codec()


@pytest.mark.parametrize("pickle_mode", ["signed", "never", "unsafe"])
def test_encode_of_no_value_is_refused_with_what_to_store_instead(pickle_mode):
    codec = ValueCodec(pickle=pickle_mode)

    with pytest.raises(NotPlainError, match=r"cannot store ENOVAL as a value.*store None"):
        codec.encode(ENOVAL, KEY)
    assert codec.decode(*codec.encode((ENOVAL,), KEY), KEY) == (ENOVAL,)
