"""What takes a path, what the address of a server, and which keywords go with each."""

from __future__ import annotations

import asyncio
import os
import pickle
import warnings

import pytest

from diskcache import (
    AsyncCache,
    AsyncDeque,
    AsyncFanoutCache,
    AsyncIndex,
    Cache,
    Deque,
    FanoutCache,
    Index,
    SettingError,
    aio,
    connect,
)

ADDRESSES = [
    "redis://localhost/0?namespace=app",
    b"redis://localhost/0?namespace=app",
    "rediss://me:secret@localhost?namespace=app",
    "valkey://localhost?namespace=app",
    "valkeys://localhost?namespace=app",
    "unix:///tmp/socket?namespace=app",
    "redis+cluster://one,two?namespace=app",
    "rediss+sentinel://one,two/master?namespace=app",
]


@pytest.fixture(params=[connect, aio.connect], ids=["connect", "aio.connect"])
def connecting(request):
    return request.param


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory: relative names of directories are made there."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shards", [None, 2])
@pytest.mark.parametrize("namespace", ["app", ""])
def test_connect_to_a_path_with_a_namespace_is_refused(connecting, here, shards, namespace):
    with pytest.raises(SettingError, match=f"a directory is one cache: got '{namespace}'"):
        connecting(here / "cache", shards=shards, namespace=namespace)


@pytest.mark.parametrize("shards", [None, 2])
def test_connect_to_a_path_with_a_wrong_on_error_is_refused(connecting, here, shards):
    with pytest.raises(SettingError, match="on_error must be 'raise' or 'miss': got 'ignore'"):
        connecting(here / "cache", shards=shards, on_error="ignore")


@pytest.mark.parametrize(("shards", "kind"), [(None, Cache), (2, FanoutCache)])
def test_connect_to_a_path_with_on_error_has_no_attribute_of_it(tmp_path, shards, kind):
    with warnings.catch_warnings(action="error"):
        made = connect(tmp_path, shards=shards, on_error="miss", namespace=None)
        counterpart = aio.connect(tmp_path, shards=shards, on_error="miss", namespace=None).sync

    assert type(made) is type(counterpart) is kind
    assert "on_error" not in {**vars(made), **vars(counterpart)}
    made.close()
    counterpart.close()


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("kind", [Cache, FanoutCache, Index, lambda name: Deque((), name)])
def test_directory_named_like_an_address_is_refused(here, kind, address):
    del here
    with pytest.raises(SettingError, match=r"the address of a server; .*diskcache\.connect\("):
        kind(address)


@pytest.mark.parametrize(
    "kind", [AsyncCache, AsyncFanoutCache, AsyncIndex, lambda name: AsyncDeque((), name)]
)
def test_directory_of_a_loop_named_like_an_address_is_refused(here, kind):
    del here
    with pytest.raises(SettingError, match=r"diskcache\.aio\.connect\("):
        asyncio.run(kind("redis://localhost?namespace=app").open())


def test_refused_address_shows_no_password(here):
    del here
    with pytest.raises(SettingError) as caught:
        Cache("redis://me:secret@localhost?namespace=app")
    assert "secret" not in str(caught.value)
    assert "of that name" not in str(caught.value)


def test_variable_that_holds_an_address_is_refused(here, monkeypatch):
    del here
    monkeypatch.setenv("CACHE_URL", "redis://localhost?namespace=app")
    with pytest.raises(SettingError, match="the address of a server"):
        Cache("$CACHE_URL")


def test_directory_that_an_earlier_version_named_like_an_address_is_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "redis://localhost?namespace=app"
    os.makedirs(name)
    with pytest.raises(SettingError, match=r"is here, too: it is opened with '\./' before its"):
        Cache(name)
    with Cache(f"./{name}") as cache, pickle.loads(pickle.dumps(cache)) as other:
        cache["k"] = 1
        assert other["k"] == 1
        assert os.listdir(name)
    with FanoutCache(f"./{name}/shards", shards=2) as shards:
        shards["k"] = 1
        with shards.cache("part") as part:
            part["k"] = 2


@pytest.mark.parametrize("name", ["http://host", "file:///tmp", "of redis://a", "redis:/a"])
def test_directory_named_like_no_server_is_made(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with Cache(name) as cache:
        cache["k"] = 1
    assert os.path.isdir(name)
