"""What URLs of servers mean, and which are refused."""

from __future__ import annotations

import pytest

from diskcache import Cache, FanoutCache, SettingError, connect
from diskcache.engines.base import Engine
from diskcache.engines.redis.address import is_address, parse, without_password
from diskcache.engines.redis.engine import RedisEngine
from diskcache.engines.redis.tolerant import ANSWERS


@pytest.mark.parametrize(
    ("url", "kind", "hosts", "options"),
    [
        ("redis://h?namespace=n", "server", (("h", 6379),), {"db": 0}),
        ("valkey://h:1/2?namespace=n", "server", (("h", 1),), {"db": 2}),
        ("redis://?namespace=n", "server", (("localhost", 6379),), {"db": 0}),
        ("redis://[::1]:7?namespace=n", "server", (("::1", 7),), {"db": 0}),
        (
            "rediss://u:p%40@h/1?namespace=n&ssl_cert_reqs=none",
            "server",
            (("h", 6379),),
            {"username": "u", "password": "p@", "ssl": True, "db": 1, "ssl_cert_reqs": "none"},
        ),
        ("redis+cluster://a:1,b:2?namespace=n", "cluster", (("a", 1), ("b", 2)), {}),
        ("rediss+cluster://a?namespace=n", "cluster", (("a", 6379),), {"ssl": True}),
        (
            "unix://:p@/run/server?db=2&namespace=n&shards=1&client_name=me",
            "server",
            (),
            {"url": "unix://:p@/run/server?db=2&client_name=me"},
        ),
        ("redis+sentinel://a,b:5/m/3?namespace=n", "sentinel", (("a", 26379), ("b", 5)), {"db": 3}),
    ],
)
def test_address_says_where_and_how(url, kind, hosts, options):
    address = parse(url)

    assert (address.kind, address.hosts, address.options) == (kind, hosts, options)
    assert address.namespace == "n"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://h?namespace=n", "is not the address of a server"),
        ("redis://h", "namespace=NAME"),
        ("redis://h?namespace=a{b}", "namespace must be"),
        ("redis://h?namespace=n&shards=0", "shards must be"),
        ("redis://h?namespace=n&shards=many", "shards must be"),
        ("redis://h/x?namespace=n", "names no database"),
        ("redis+cluster://h/1?namespace=n", "a cluster has one database"),
        ("redis+sentinel://h?namespace=n", "names no master"),
        ("redis://h?namespace=n&colour=red", "unknown parts in its query: colour"),
        ("redis://h:port?namespace=n", "names no host and port"),
        ("unix:///run/server?namespace=n&decode_responses=1", "parts in its query: decode_resp"),
        ("unix:///run/server?namespace=n&db=first", "names no database"),
        ("redis://h?namespace=n&sentinel_password=x", "unknown parts .*: sentinel_password"),
        ("redis://h?namespace=n&ssl_check_hostname=1", "where the address is of rediss://"),
        ("redis://h?namespace=n&health_check_interval=often", "no whole number: .*'often'"),
        ("redis://h:65536?namespace=n", "names no host and port: 'h:65536'"),
        ("redis://h:0?namespace=n", "names no host and port: 'h:0'"),
        (f"redis://h:{'9' * 5000}?namespace=n", "names no host and port"),
        (f"redis://{'h' * 64}.org?namespace=n", "names no host and port"),
        ("redis+sentinel://h..i/name?namespace=n", "names no host and port"),
        ("redis://h\0?namespace=n", "names no host and port"),
        ("redis://[::1?namespace=n", "is no URL"),
        ("redis://h?namespace=\udc80", "is no URL"),
        ("unix://u:a/b@/s?namespace=n", "names no socket"),
    ],
)
def test_address_that_cannot_be_is_refused(url, message):
    with pytest.raises(SettingError, match=message):
        parse(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:secret@h", "redis://u:***@h"),
        ("redis://:secret@h", "redis://:***@h"),
        ("redis://h?password=secret&x=1", "redis://h?password=***&x=1"),
        ("redis://h", "redis://h"),
        ("redis://:a/b@h/0?namespace=n", "redis://:***@h/0?namespace=n"),
        ("redis://u:a@b@h/0?namespace=n", "redis://u:***@h/0?namespace=n"),
        ("redis://u:a/b=@h", "redis://u:***@h"),
        ("redis://u:1/2@h", "redis://u:***@h"),
        ("redis://u:a?b#c@h?namespace=n", "redis://u:***@h?namespace=n"),
        ("unix://u:a/b@/s?namespace=n", "unix://u:***@/s?namespace=n"),
        ("redis://h?PASSWORD=secret", "redis://h?PASSWORD=***"),
        *[
            (url, url)
            for url in (
                "redis://h:1/0?client_name=a@b",
                "redis://h:1?client_name=a@b",
                "redis+cluster://h:1,i:2?client_name=a@b",
                "redis://[::1]:1/0?client_name=a@b",
                "unix:///a:b@c?namespace=n",
            )
        ],
    ],
)
def test_password_is_not_shown(url, shown):
    assert without_password(url) == shown


def test_engine_has_all_that_the_protocol_asks_for():
    wanted = {*dir(Engine), *Engine.__annotations__}

    assert [n for n in wanted if not n.startswith("_") and not hasattr(RedisEngine, n)] == []
    assert [name for name in ANSWERS if name not in wanted] == []


def test_path_is_no_address():
    assert not any(map(is_address, ["/a/b", "redis", "C:\\a", "", None]))


def test_connect_to_a_path_gives_a_cache_or_shards(tmp_path):
    with connect(tmp_path / "one", timeout=1) as cache, connect(tmp_path / "many", shards=2) as fan:
        assert type(cache) is Cache
        assert type(fan) is FanoutCache
        assert cache.timeout == 1


def test_connect_to_an_unknown_scheme_is_refused():
    with pytest.raises(SettingError, match="redis\\+cluster"):
        connect("http://host/path")


@pytest.mark.parametrize("name", ["\udc80", "a\x7fb", "a\u2028b"])
def test_namespace_that_cannot_be_sent_or_shown_is_refused(name):
    with pytest.raises(SettingError, match="1 to 200 characters"):
        parse("redis://h", namespace=name)


def test_part_of_a_password_that_reads_like_a_host_is_not_shown():
    with pytest.raises(SettingError, match=r"names no host and port$"):
        parse("redis://:secret?more@h&namespace=n")
