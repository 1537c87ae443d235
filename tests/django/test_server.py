"""`LOCATION` may be the address of a server."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from diskcache import SettingError
from diskcache.integrations.django import DjangoCache
from tests.support.servers import need_server, shared_server


@pytest.fixture
def location(request):
    need_server()
    return shared_server().url(f"django-{request.node.name}")


@pytest.fixture
def cache(location):
    cache = DjangoCache(location, {"TIMEOUT": 300, "KEY_PREFIX": "p"})
    yield cache
    cache._cache.close()


class Thing:
    def __eq__(self, other):
        return isinstance(other, Thing)

    __hash__ = None


def test_api_of_django_works_on_a_server(cache):
    assert cache.add("a", 1)
    assert not cache.add("a", 2)
    assert cache.incr("a", 4) == 5
    assert cache.get_or_set("b", lambda: [2]) == [2]
    assert cache.set_many({"c": 3, "d": None}) == []
    assert cache.get_many(["a", "c", "missing"]) == {"a": 5, "c": 3}
    assert cache.touch("a", 10)
    assert cache.incr_version("a") == 2
    assert cache.get("a", version=2) == 5
    assert cache.set("t", 1, tag="tag")
    assert cache.evict("tag") == 1
    cache.delete_many(["b", "c"])
    assert "c" not in cache
    assert cache.pop("d", "default") is None
    with pytest.raises(ValueError, match="missing"):
        cache.incr("missing")
    assert cache.clear() == 1


def test_objects_are_signed_by_the_secret_key(cache, location):
    cache.set("thing", Thing())
    other = DjangoCache(location, {"TIMEOUT": 300, "KEY_PREFIX": "p"})

    assert other.get("thing") == Thing()
    assert other._cache is cache._cache
    assert pickle.loads(pickle.dumps(cache)).get("thing") == Thing()


def test_aclose_ends_connections_and_the_next_use_makes_new_ones(cache):
    async def use():
        await cache.aset("a", 1)
        await cache.aclose()
        found = await cache.aget("a")
        await cache.aclose()
        return found

    assert asyncio.run(use()) == 1


def test_parts_are_in_namespaces_of_their_own(cache):
    cache.deque("names").append("ada")
    cache.index("births")["ada"] = 1815
    cache.cache("users")["ada"] = 1
    cache.clear()

    assert list(cache.deque("names")) == ["ada"]
    assert cache.index("births")["ada"] == 1815
    assert cache.cache("users")["ada"] == 1


def test_limit_on_entries_is_refused(location):
    with pytest.raises(SettingError, match="maxmemory"):
        DjangoCache(location, {"OPTIONS": {"MAX_ENTRIES": 10}})


def test_server_that_is_away_is_a_miss_if_asked():
    location = "redis://:word@127.0.0.1:1/0?namespace=a"
    cache = DjangoCache(location, {"OPTIONS": {"on_error": "miss"}})

    assert cache.get("a") is None
    assert not cache.set("a", 1)
    assert "word" not in repr(cache)
