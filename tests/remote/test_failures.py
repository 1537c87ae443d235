"""What goes wrong with a server is an error that says so, within its time, or a miss if asked."""

from __future__ import annotations

import gc
import io
import logging
import pickle
import socket
import threading
import time

import pytest
from redis import exceptions as theirs

from diskcache import (
    Averager,
    Cache,
    CacheFormatError,
    CacheFullError,
    Deque,
    DiskCacheError,
    Index,
    Lock,
    ReadOnlyError,
    ServerAccessError,
    ServerKeyError,
    ServerPolicyError,
    ServerReadOnlyError,
    ServerTimeoutError,
    ServerUnavailableError,
    SettingError,
    TooLargeError,
    UntrustedPickleWarning,
    connect,
    throttle,
)
from diskcache.cache import remote as remote_module
from diskcache.engines.redis import keyspace
from diskcache.engines.redis.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Breaker
from diskcache.engines.redis.errors import translated
from diskcache.testing import ManualClock
from tests.support.cluster import wait_for
from tests.support.servers import DEADLINE, Server, free_port, need_server


@pytest.fixture
def server(own_server):
    return own_server


@pytest.fixture
def opened():
    """Open caches, and close them at the end."""
    made = []

    def open_one(url, **settings):
        made.append(connect(url, **settings))
        return made[-1]

    yield open_one
    for cache in made:
        cache.close()


def in_the_end(call):
    """Return what a call returns once the server answers in time: the machine may be held up."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return call()
        except ServerUnavailableError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def hasty(opened, url, timeout, **settings):
    """Open a cache that waits only so long for answers, and has a connection and an entry."""

    def try_once():
        cache = opened(url, timeout=timeout, **settings)
        cache["a"] = 1
        return cache

    return in_the_end(try_once)


READS = [
    lambda cache: cache.get("a"),
    lambda cache: "a" in cache,
    lambda cache: cache.get_many("ab"),
    lambda cache: len(cache),
    lambda cache: list(cache),
    lambda cache: cache.peek(),
    lambda cache: cache.volume(),
    lambda cache: cache.stats(),
]
WRITES = [
    lambda cache: cache.set("a", 1),
    lambda cache: cache.add("a", 1),
    lambda cache: cache.delete("a"),
    lambda cache: cache.touch("a", 1),
    lambda cache: cache.pop("a"),
    lambda cache: cache.set_many({"a": 1}),
    lambda cache: cache.evict("t"),
    lambda cache: cache.clear(),
    lambda cache: cache.pull(),
]


def _archive():
    with Cache() as cache:
        cache["a"] = 1
        stream = io.BytesIO()
        cache.export(stream)
        return stream.getvalue()


UNANSWERABLE = [
    lambda cache: cache.incr("a"),
    lambda cache: cache.push("a"),
    lambda cache: cache.update("a", str),
    lambda cache: Averager(cache, "a").add(1),
    lambda cache: throttle(cache, 1, 1, name="a")(print)(),
    lambda cache: Lock(cache, "a", expire=1).acquire(blocking=False),
    lambda cache: Lock(cache, "a", expire=1).locked(),
    lambda cache: cache.check(),
    lambda cache: cache.export(io.BytesIO()),
    lambda cache: cache.import_from(io.BytesIO(_archive())),
]


@pytest.mark.parametrize("operation", [*READS, *WRITES, *UNANSWERABLE])
def test_server_that_is_away_raises_at_once(opened, operation):
    with pytest.raises(ConnectionError, match="cannot be reached") as info:
        operation(opened(f"redis://127.0.0.1:{free_port()}/0?namespace=test", timeout=1))

    assert isinstance(info.value, DiskCacheError)


@pytest.mark.parametrize("operation", [*READS, *WRITES])
def test_server_that_is_away_is_a_miss_if_asked(opened, operation, caplog):
    cache = opened(f"redis://127.0.0.1:{free_port()}/0?namespace=test", on_error="miss")
    with caplog.at_level(logging.WARNING, "diskcache"):
        operation(cache)
        cache["a"] = 1

    assert cache.get("a", "default") == "default"


@pytest.mark.parametrize("operation", UNANSWERABLE)
def test_what_cannot_be_made_up_raises_all_the_same(opened, operation):
    cache = opened(f"redis://127.0.0.1:{free_port()}/0?namespace=test", on_error="miss")

    with pytest.raises(ServerUnavailableError):
        operation(cache)


def test_update_without_a_server_raises_although_somebody_listens(opened):
    cache = opened(f"redis://127.0.0.1:{free_port()}/0?namespace=test", on_error="miss")
    cache.on("hit", print)

    with pytest.raises(ServerUnavailableError):
        cache.update("a", str)


def test_structure_is_refused_where_a_miss_would_be_loss(opened):
    cache = opened(f"redis://127.0.0.1:{free_port()}/0?namespace=test", on_error="miss")

    with pytest.raises(SettingError, match="on_error='raise'"):
        Deque.fromcache(cache)


def test_cluster_that_is_away_is_an_error_or_a_miss(opened):
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}?namespace=test"
    with pytest.raises(ServerUnavailableError, match="cannot be reached") as info:
        opened(url, timeout=0.1)
    cache = opened(url, timeout=0.1, on_error="miss")

    assert not info.value.is_sent
    assert cache.get("a", "default") == "default"


def test_write_to_a_cluster_that_broke_before_no_node_was_found_may_have_happened():
    """What the client of redis-py raises then was caused by the search, not by the write."""
    try:
        try:
            raise theirs.ConnectionError("Connection closed by server.")
        except theirs.ConnectionError:
            raise theirs.RedisClusterException("cannot be connected") from OSError("refused")
    except theirs.RedisClusterException as exc:
        error = translated(exc, "redis+cluster://h")

    assert isinstance(error, ServerUnavailableError)
    assert error.is_sent


def test_server_that_does_not_answer_raises_within_the_timeout(opened):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        before = time.monotonic()

        with pytest.raises(TimeoutError) as info:
            opened(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0?namespace=test", timeout=0.2)

    # Not the minute that it is by default.
    assert time.monotonic() - before < 40
    assert isinstance(info.value, ServerTimeoutError)


def test_server_that_stops_answering_is_left_alone(server, opened, monkeypatch):
    cache = hasty(opened, server.url(), 0.2)
    driver, asked, waits = cache._engine.driver, [], []
    once = driver._once
    monkeypatch.setattr(driver, "_once", lambda send: asked.append(1) or once(send))
    # Longer than any machine takes for what follows.
    driver.breaker._pause = 60
    server.process.send_signal(19)
    for _ in range(FAILURES + 2):
        before = time.monotonic()
        with pytest.raises(ServerUnavailableError):
            cache.get("a")
        waits.append(time.monotonic() - before)
    server.process.send_signal(18)

    assert min(waits[:FAILURES]) >= 0.2
    assert len(asked) == FAILURES


def test_write_that_may_have_happened_says_so_and_is_not_sent_again(server, opened):
    cache = hasty(opened, server.url(), 0.2)
    server.process.send_signal(19)
    with pytest.raises(ServerUnavailableError) as info:
        cache.incr("a")
    server.process.send_signal(18)

    assert info.value.is_sent
    assert in_the_end(lambda: cache["a"]) in (1, 2)


def test_cache_goes_on_after_the_server_was_restarted(server, opened):
    cache = opened(server.url())
    cache.set("a", 1, tag="t")
    server.stop()
    server.start()

    assert cache.get("a") is None
    assert cache.set("a", 2, tag="t")
    assert cache.incr("a") == 3
    assert len(cache) == 1
    assert cache.evict("t") == 1


def test_scripts_that_were_flushed_are_sent_again(server, opened):
    cache = opened(server.url())
    cache.set("a", 1)
    server.client().script_flush()

    assert cache.incr("a") == 2
    assert cache.push("b")


def test_replica_may_be_read_and_refuses_writes(server, opened):
    cache = opened(server.url())
    cache.set("a", [1], tag="t")
    cache.push("b")
    replica = Server("--replicaof", f"127.0.0.1 {server.port}", "--repl-diskless-sync-delay", "0")
    wait_for(lambda: replica.client().dbsize() == server.client().dbsize())
    other = opened(replica.url())

    assert other["a"] == [1]
    assert list(other.keys(tag="t")) == ["a"]
    assert other.peek()[1] == "b"
    with pytest.raises(ServerReadOnlyError, match="replica") as info:
        other.set("a", 2)
    assert isinstance(info.value, ReadOnlyError)
    assert opened(replica.url(), on_error="miss").set("a", 2) is False
    replica.remove()


def test_readonly_cache_writes_nothing(server, opened):
    opened(server.url())["a"] = 1
    cache = opened(server.url(), readonly=True)

    assert cache["a"] == 1
    for operation in [*WRITES[:4], *WRITES[5:8], *UNANSWERABLE[:2]]:
        with pytest.raises(ReadOnlyError):
            operation(cache)


def test_full_server_raises_cache_full_and_keeps_what_it_has(opened):
    need_server()
    server = Server("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    cache = opened(server.url())

    def fill():
        for number in range(1000):
            cache[number] = b"x" * 50_000

    with pytest.raises(CacheFullError, match="maxmemory") as info:
        fill()
    assert info.value.errno == 28
    assert cache[0] == b"x" * 50_000
    assert opened(server.url(), on_error="miss").set("more", b"x" * 500_000) is False
    server.remove()


REMOVALS = [
    lambda cache: cache.delete("a"),
    lambda cache: cache.pop("a"),
    lambda cache: cache.delete_many(["a"]),
    lambda cache: cache.evict("t"),
    lambda cache: cache.evict(None),
    lambda cache: cache.clear(),
    lambda cache: cache.expire(),
    lambda cache: cache.pull("q"),
    lambda cache: Deque.fromcache(cache.cache("d")).popleft(),
    lambda cache: Deque.fromcache(cache.cache("d")).clear(),
    lambda cache: Index.fromcache(cache.cache("i")).clear(),
]


def test_full_server_lets_everything_be_removed(server, opened):
    cache = opened(server.url(), memory_limit=0)
    for remove in REMOVALS:
        server.client().config_set("maxmemory", "90mb")
        cache.set_many({"a": 1, "b": 2})
        cache.set("c", 3, tag="t")
        cache.push("x", "q")
        Deque.fromcache(cache.cache("d")).append(1)
        Index.fromcache(cache.cache("i"))["k"] = 1
        server.client().config_set("maxmemory", 1)
        remove(cache)
        with pytest.raises(CacheFullError):
            cache["new"] = 1

    assert cache.clear() > 0
    assert len(cache) == 0


def test_wrong_password_is_refused_and_not_shown(opened):
    need_server()
    server = Server("--requirepass", "secret-word")
    right = server.url().replace("redis://", "redis://:secret-word@")
    cache = opened(right)
    cache["a"] = 1

    for url in (server.url(), server.url().replace("redis://", "redis://:other-word@")):
        with pytest.raises(PermissionError) as info:
            opened(url, on_error="miss")
        assert isinstance(info.value, ServerAccessError)
        assert "other-word" not in str(info.value)
    assert "secret-word" not in repr(cache) + cache.directory + str(cache.info())
    assert pickle.loads(pickle.dumps(cache))["a"] == 1
    server.remove()


def test_foreign_thing_under_a_key_is_an_error_or_a_miss(server, opened):
    cache = opened(server.url())
    cache["a"] = 1
    shard = cache._engine.parts[0]
    client = server.client()
    client.set(shard.entry + b"2foreign", b"not an entry")
    client.delete(shard.entry + b"2a")
    client.rpush(shard.entry + b"2a", "x")

    assert cache.get("foreign") is None
    assert cache.get("a") is None
    with pytest.raises(ServerKeyError, match="something else"):
        cache.set("a", 1)


DAMAGES = {
    "kind": lambda data: data[:1] + b"?" + data[2:],
    "format": lambda data: b"9" + data[1:],
    "text": lambda data: data[:1] + b"s" + data[2:] + b"\xff",
    "number": lambda data: data[:1] + b"i" + data[2:] + b"x",
    "double": lambda data: data[:1] + b"f" + data[2:],
    "tag": lambda data: data[:42] + b"\0\0\0\1?" + data[46:],
    "empty": lambda _: b"",
}
ANSWERS_ON_DAMAGED = {
    "get": (lambda cache: cache.get("n"), None),
    "get_many": (lambda cache: cache.get_many(["n", "z"]), {"z": 2}),
    "incr": (lambda cache: cache.incr("n", default=5), 6),
    "incr of a float": (lambda cache: cache.incr("n", 0.5, default=5), 5.5),
    "update": (lambda cache: cache.update("n", lambda value: (value, 1)), (None, 1)),
    "get and add": (lambda cache: (cache.get("n"), cache.add("n", 3)), (None, True)),
    "get_or_set": (lambda cache: (cache.get_or_set("n", lambda: 4), cache["n"]), (4, 4)),
    "peekitem": (lambda cache: cache.peekitem(last=False), ("z", 2)),
    "pop": (lambda cache: cache.pop("n", default=7), 7),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_entry_that_cannot_be_read_is_a_miss_and_stands_in_the_way_of_nothing(
    server, opened, damage
):
    cache, client = opened(server.url(), memory_limit=0), server.client()
    found = {}
    for name, (operation, _) in ANSWERS_ON_DAMAGED.items():
        cache.clear()
        cache.set_many({"n": 1, "z": 2})
        where = cache._engine.parts[0].entry + b"2n"
        client.set(where, DAMAGES[damage](client.get(where)))
        found[name] = operation(cache)

    assert found == {name: wanted for name, (_, wanted) in ANSWERS_ON_DAMAGED.items()}
    cache["n"] = 1
    client.set(where, DAMAGES[damage](client.get(where)))
    assert cache.get("n") is None
    assert not client.exists(where)
    assert cache.check() == []


def test_queue_goes_on_behind_an_entry_that_cannot_be_read(server, opened):
    cache, client = opened(server.url(), memory_limit=0), server.client()
    keys = [cache.push(number) for number in range(3)]
    where = cache._engine.parts[0].entry + keyspace.ident_of((keys[0], 1))
    client.setrange(where, 1, b"?")

    assert [cache.pull() for _ in range(3)] == [(keys[1], 1), (keys[2], 2), (None, None)]


@pytest.mark.parametrize("size", [0, 1, 15, 17])
def test_versions_of_another_length_count_as_none(server, opened, size):
    cache, client = opened(server.url(), memory_limit=0), server.client()
    shard = cache._engine.parts[0]
    cache.set_many({"a": 1, "b": 2}, tag="t")
    client.set(shard.versions, b"x" * size)
    assert cache.get("a") is None
    cache["a"] = 3
    assert cache.update("a", lambda value: value + 1) == 4
    client.set(shard.tag_version(b"2t"), b"x" * size)
    cache.set("b", 5, tag="t")

    assert cache.get_many("ab") == {"a": 4, "b": 5}
    assert cache.evict("t") == 1


def test_user_who_may_not_run_what_a_script_does_is_refused_access(server, opened):
    server.client().execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-zadd")
    cache = opened(server.url().replace("//", "//u:p@"), memory_limit=0)
    for write in (lambda: cache.set("a", 1), lambda: cache.push(1)):
        with pytest.raises(ServerAccessError, match="refused access"):
            write()


def test_user_who_may_not_ask_for_information_has_a_cache(server, opened):
    server.client().execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-info")
    cache = opened(server.url().replace("//", "//u:p@"))
    cache["a"] = 1

    assert cache["a"] == 1
    assert cache.info().sqlite == ""


def test_policy_that_is_changed_later_is_noticed(server, opened):
    clock = ManualClock()
    cache = opened(server.url(), clock=clock, memory_limit=0)
    make = [lambda: Deque.fromcache(cache), lambda: Lock(cache, "a", expire=1)]
    for each in make:
        each()
    server.client().config_set("maxmemory-policy", "allkeys-lru")
    clock.advance(11)

    for each in make:
        with pytest.raises(ServerPolicyError, match="allkeys-lru"):
            each()
    assert cache._engine.may_evict_lists


@pytest.mark.parametrize("shards", [0, -1, 1025])
def test_number_of_shards_that_cannot_be_is_refused(server, opened, shards):
    """So many that all memory would be needed for their names, for instance."""
    server.client().hset("{test}:m", "shards", shards)

    with pytest.raises(CacheFormatError, match="did not write"):
        opened(server.url())


def test_statistics_that_are_no_numbers_count_as_none(server, opened):
    cache = opened(server.url())
    server.client().hset("{test}:m", mapping={"hits": "many", b"s:\xff": "i1"})

    assert cache.stats() == (0, 0)
    assert opened(server.url()).stats() == (0, 0)


@pytest.mark.parametrize("timeout", [-1, 0, 1e300, float("inf")])
def test_timeout_of_any_length_is_one_as_in_a_directory(server, opened, timeout):
    cache = opened(server.url(), timeout=timeout)
    cache["a"] = 1

    assert (cache["a"], cache["a"], cache.timeout) == (1, 1, timeout)


@pytest.mark.parametrize("expire", [1e306, -1e306])
def test_expiry_beyond_all_counting_is_never_or_now(server, opened, expire):
    cache = opened(server.url(), memory_limit=0)
    cache.set("a", 1, expire=expire)

    assert cache.get("a") == (1 if expire > 0 else None)


def test_namespace_of_a_newer_format_is_refused(server, opened):
    server.client().hset("{test}:m", "format", 2)

    with pytest.raises(DiskCacheError, match="upgrade diskcache"):
        opened(server.url())


def test_number_of_shards_is_what_the_first_one_said(server, opened):
    opened(server.url(shards=3))["a"] = 1

    assert opened(server.url())["a"] == 1
    with pytest.raises(SettingError, match="has 3 shards"):
        opened(server.url(), shards=2)


def test_clear_touches_nothing_but_its_namespace(server, opened):
    client = server.client()
    client.set("foreign", 1)
    for namespace in ("a", "a:0", "b"):
        opened(server.url(namespace)).set_many({number: number for number in range(1200)}, tag="t")

    assert opened(server.url("a")).clear() == 1200
    assert len(opened(server.url("b"))) == len(opened(server.url("a:0"))) == 1200
    assert client.get("foreign") == b"1"
    assert [key for key in client.keys("{a:0}:*") if b":e:" in key] == []


def test_value_that_is_too_large_is_refused(server, opened, monkeypatch):
    monkeypatch.setattr(remote_module, "LARGEST", 1000)
    cache = opened(server.url())

    with pytest.raises(TooLargeError, match="in parts"):
        cache.set("a", b"x" * 1001)
    assert "a" not in cache


def test_object_is_refused_unless_a_secret_is_given(server, opened, monkeypatch):
    cache = opened(server.url())
    with pytest.raises(TypeError, match="pickle"):
        cache["a"] = ManualClock
    signing = opened(server.url(), secret=b"s" * 32)
    signing["a"] = Lock.acquire

    with pytest.warns(UntrustedPickleWarning):
        assert cache.get("a") is None
    assert opened(server.url(), secret=b"s" * 32)["a"] is Lock.acquire
    monkeypatch.setenv("DISKCACHE_SECRET", "73" * 32)
    assert opened(server.url())["a"] is Lock.acquire


def test_connections_are_bounded_and_shared(server, opened):
    cache = opened(server.url())
    cache._engine.driver._connections = 3
    cache.close()

    def work():
        for number in range(20):
            cache[number] = number

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(cache) == 20
    client, deadline = server.client(), time.monotonic() + DEADLINE
    # The server may not have seen yet that those of before were closed.
    while client.info("clients")["connected_clients"] > 3 + 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_connections_of_what_is_dropped_are_closed_before_it_is_finalized(server):
    """A socket that is finalized first warns, and the server waits for nobody until then."""
    found = []

    class First:
        def __del__(self):
            found.extend(connection._sock for connection in self.idle)

    gc.collect()
    gc.disable()
    try:
        first = First()
        first.cache = connect(server.url(), memory_limit=0)
        first.cache["a"] = 1
        first.idle = first.cache._engine.driver._held.send.__self__._idle
        first.itself = first
        assert [connection._sock.fileno() for connection in first.idle] != [-1]
        del first
        gc.collect()
    finally:
        gc.enable()

    assert found == [None]


def test_exchange_that_gets_no_turn_is_a_timeout(server, opened):
    cache = hasty(opened, server.url(), 0.05, memory_limit=0)
    turns = cache._engine.driver._held._turns
    turns._free, kept = [], turns._free
    with pytest.raises(ServerTimeoutError, match="all connections were in use"):
        cache.get("a")
    with pytest.raises(ServerTimeoutError, match="all connections were in use"):
        len(cache)
    turns._free = kept

    assert in_the_end(lambda: cache["a"]) == 1


def test_answer_of_an_interrupted_command_is_not_that_of_the_next_one(server, opened, monkeypatch):
    cache = opened(server.url(), memory_limit=0)
    cache.set_many({"a": 1, "b": 2})
    assert cache["a"] == 1
    driver = cache._engine.driver
    held = driver._held
    (connection,) = held.send.__self__._idle

    def interrupted():
        raise KeyboardInterrupt

    server.client().execute_command("CLIENT", "PAUSE", 200, "ALL")
    with monkeypatch.context() as patches, pytest.raises(KeyboardInterrupt):
        patches.setattr(connection, "read_response", interrupted)
        cache.get("a")

    assert [cache["b"], cache["a"], cache["b"]] == [2, 1, 2]
    # Nor is anything else used that the interrupt may have left half-done.
    assert driver._held is not held
    assert connection._sock is None


def test_breaker_refuses_until_a_pause_is_over_and_doubles_it():
    clock = ManualClock()
    breaker = Breaker(clock.monotonic)
    away = ServerUnavailableError("away")
    for _ in range(FAILURES):
        breaker.enter()
        breaker.fail(away)

    with pytest.raises(ServerUnavailableError, match="not tried again"):
        breaker.enter()
    clock.advance(FIRST_PAUSE)
    breaker.enter()
    breaker.fail(away)
    clock.advance(FIRST_PAUSE * 1.5)
    with pytest.raises(ServerUnavailableError):
        breaker.enter()
    clock.advance(LONGEST_PAUSE)
    breaker.enter()
    breaker.succeed()
    breaker.enter()
    assert not breaker.is_open


def test_redis_py_that_is_missing_is_named(monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith("diskcache.engines.redis.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(ImportError, match=r'pip install "diskcache\[redis\]"'):
        connect("redis://localhost/0?namespace=test")
