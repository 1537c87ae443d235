"""Which pickles are loaded: those that somebody with the secret has signed."""

from __future__ import annotations

import pickle
import warnings

import pytest

from diskcache import PickleKeyError, UnsafePickleWarning, UntrustedPickleWarning
from diskcache.testing.contract import Contract

SECRET = b"0123456789abcdef0123456789abcdef"
OTHER_SECRET = b"another secret of thirty-two byte"


class Thing:
    """A value that is no plain data."""

    def __init__(self, name):
        self.name = name

    def __eq__(self, other):
        return type(other) is Thing and other.name == self.name

    def __hash__(self):
        return hash(self.name)


LARGE = Thing("x" * 100_000)


@pytest.mark.since6("version 5 loads every pickle")
class TrustContract(Contract):
    needs = frozenset({"durable"})

    @pytest.fixture
    def plant(self, make_cache):
        """Store something without a signature, as anyone who can write to the cache could."""

        def planted(key, value):
            with pytest.warns(UnsafePickleWarning, match="can run code"):
                cache = make_cache(pickle="unsafe")
            cache.set(key, value, tag="planted")
            cache.close()

        return planted

    def test_signed_object_comes_back_in_another_object_with_the_secret(self, make_cache):
        make_cache(secret=SECRET)["a"] = Thing("a")
        make_cache(secret=SECRET)["b"] = LARGE

        again = make_cache(secret=SECRET)

        assert again["a"] == Thing("a")
        assert again["b"] == LARGE
        assert again.info().untrusted == 0

    def test_signed_object_is_a_miss_with_another_secret(self, make_cache):
        make_cache(secret=SECRET)["a"] = Thing("a")
        cache = make_cache(secret=OTHER_SECRET)

        with pytest.warns(UntrustedPickleWarning):
            assert cache.get("a", default=5) == 5

    def test_older_secrets_verify_and_the_newest_signs(self, make_cache):
        make_cache(secret=SECRET)["old"] = Thing("old")
        cache = make_cache(secret=[OTHER_SECRET, SECRET])
        cache["new"] = Thing("new")

        assert cache["old"] == Thing("old")
        assert make_cache(secret=OTHER_SECRET)["new"] == Thing("new")

    def test_secret_may_come_from_the_environment(self, make_cache, monkeypatch):
        make_cache(secret=SECRET)["a"] = Thing("a")
        monkeypatch.setenv("DISKCACHE_SECRET", SECRET.hex())

        assert make_cache()["a"] == Thing("a")

    def test_secret_of_the_user_is_made_at_need_and_kept(self, make_cache):
        make_cache()["a"] = Thing("a")

        assert make_cache()["a"] == Thing("a")

    @pytest.mark.parametrize("value", [Thing("a"), LARGE], ids=["small", "file"])
    def test_unsigned_pickle_is_a_miss_with_one_warning_and_is_counted(
        self, make_cache, plant, value
    ):
        plant("a", value)
        cache = make_cache()
        with pytest.warns(UntrustedPickleWarning, match="1 entry") as issued:
            assert cache.get("a", default=5) == 5
            assert cache.get("a", default=5, expire_time=True, tag=True) == (5, None, None)
            with pytest.raises(KeyError):
                cache["a"]

        assert len(issued) == 1
        assert cache.directory in str(issued[0].message)
        assert cache.info().untrusted == 3

    def test_unsigned_pickle_is_kept_until_it_is_replaced(self, make_cache, plant):
        plant("a", Thing("a"))
        cache = make_cache()
        with pytest.warns(UntrustedPickleWarning):
            cache.get("a")

        assert len(cache) == 1

        cache["a"] = "mine"

        assert cache["a"] == "mine"

    def test_unsigned_pickle_is_never_loaded(self, make_cache, plant, tmp_path):
        plant("a", Planted(tmp_path / "proof"))
        cache = make_cache(strict=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cache.get("a")
            cache.pop("a")
            list(cache.items())
            list(cache.values())
            cache.get_many(["a"])
            cache.check()

        assert not (tmp_path / "proof").exists()

    def test_unsigned_key_is_never_loaded(self, make_cache, plant, tmp_path):
        plant(Planted(tmp_path / "proof"), 1)
        cache = make_cache()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for listing in (cache, cache.iterkeys(), cache.keys(), cache.items()):
                assert list(listing) == []

        assert not (tmp_path / "proof").exists()

    def test_strict_cache_raises_for_an_unsigned_pickle(self, make_cache, plant):
        plant("a", Thing("a"))
        cache = make_cache(strict=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(pickle.UnpicklingError):
                cache.get("a")

    def test_signature_holds_for_its_own_key_alone(self, make_cache, tmp_path):
        """What is signed for one cache is not loaded from another of the same user."""
        first, second = make_cache(tmp_path / "1"), make_cache(tmp_path / "2")
        first["a"] = Thing("a")
        second["a"] = Thing("b")

        assert first.info().cache_id != second.info().cache_id
        assert (first["a"], second["a"]) == (Thing("a"), Thing("b"))

    def test_object_without_any_secret_raises_and_says_what_to_do(
        self, make_cache, monkeypatch, tmp_path
    ):
        (tmp_path / "file").write_text("no directory")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
        cache = make_cache()
        cache["plain"] = {"a": (1, None)}

        with pytest.raises(PickleKeyError, match=r"Thing.*DISKCACHE_SECRET"):
            cache["a"] = Thing("a")
        assert isinstance(PickleKeyError("x"), pickle.PicklingError)
        assert list(cache) == ["plain"]

    @pytest.mark.parametrize("secret", [b"short", "x" * 32, [], [b"short"]], ids=repr)
    def test_secret_that_is_too_short_or_no_bytes_raises_value_error(self, make_cache, secret):
        with pytest.raises(ValueError, match="secret"):
            make_cache(secret=secret)

    def test_pickle_mode_that_is_unknown_raises_value_error(self, make_cache):
        with pytest.raises(ValueError, match="sometimes"):
            make_cache(pickle="sometimes")

    def test_pickle_never_treats_a_signed_object_as_missing(self, make_cache):
        make_cache(secret=SECRET)["a"] = Thing("a")
        cache = make_cache(secret=SECRET, pickle="never")

        with pytest.warns(UntrustedPickleWarning):
            assert cache.get("a") is None

    def test_secret_is_never_stored_nor_pickled_with_the_cache(self, make_cache, directory):
        cache = make_cache(secret=SECRET)
        cache["a"] = Thing("a")
        dumped = pickle.dumps(cache)
        cache.close()

        assert SECRET not in dumped
        for path in directory.rglob("*"):
            assert not path.is_file() or SECRET not in path.read_bytes()


class Planted:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path):
        self._path = str(path)

    def __reduce__(self):
        return (open, (self._path, "w"))
