"""The short scripts for one entry leave on the server what the long one does."""

from __future__ import annotations

import select
import threading

import pytest

from diskcache import ServerKeyError
from diskcache.engines.redis import commands
from tests.support.servers import DEADLINE, shared_server

BEFORE = {
    "nothing": lambda _: None,
    "another entry": lambda cache: cache.set("other", 1),
    "live": lambda cache: cache.set("k", "old"),
    "expiring": lambda cache: cache.set("k", "old", expire=60),
    "expired": lambda cache: [cache.set("k", "old", expire=-1), cache.set("gone", 1, expire=-1)],
    "in grace": lambda cache: cache.set("k", "old", expire=-1, grace=60),
    "with a tag": lambda cache: cache.set("k", "old", tag="t"),
}
PUTS = {
    "for ever": {},
    "for a minute": {"expire": 60},
    "in grace": {"expire": 60, "grace": 60},
}


def state(cache):
    """Return what is on the server, without what is random or a moment."""
    client, found = shared_server().client(), {}
    prefix = cache._engine.parts[0].prefix
    for key in sorted(client.keys(prefix.replace(b"{", b"[{]") + b"*")):
        kind, name = client.type(key), key[len(prefix) :]
        if kind == b"zset":
            found[name] = [ident for ident, _ in client.zrange(key, 0, -1, withscores=True)]
        elif name.startswith(b"e:"):
            data = client.get(key)
            versions = client.get(prefix + b"v")
            is_now = data[26:34] == versions[:8], data[34:42] == versions[8:]
            found[name] = data[:10], is_now, data[42:], client.ttl(key) > 0
        elif name != b"v" and not name.startswith(b"g:"):
            found[name] = client.get(key)
    return found


def renewed(cache):
    """Let what is there count no more, as the first step of `clear` does."""
    engine = cache._engine
    engine._run(commands.renew(engine.parts[0], "all", 0.0), None)


BEFORE["cleared"] = lambda cache: [cache.set("k", "old"), renewed(cache)]


@pytest.mark.parametrize("put", PUTS)
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("value", ["new", b"\0" * 70_000])
def test_short_put_leaves_what_the_long_one_does(make_cache, tmp_path, before, put, value):
    states = []
    for number, may_be_short in enumerate((True, False)):
        cache = make_cache(tmp_path / str(number), clock=None)
        if not may_be_short:
            cache._engine.may_evict_lists = True
        BEFORE[before](cache)
        assert cache.set("k", value, **PUTS[put])
        assert cache["k"] == value
        states.append(state(cache))

    assert states[0] == states[1]


@pytest.mark.parametrize("name", ["order", "keys", "times"])
@pytest.mark.parametrize("may_be_short", [True, False])
def test_put_that_fails_at_a_list_stores_nothing(make_cache, name, may_be_short):
    cache = make_cache(clock=None)
    cache["first"] = 1
    cache._engine.may_evict_lists = not may_be_short
    client, listed = shared_server().client(), getattr(cache._engine.parts[0], name)
    client.delete(listed)
    client.set(listed, "foreign")
    with pytest.raises(ServerKeyError):
        cache.set("k", 1, expire=60)
    assert cache.get("k") is None
    client.delete(listed)
    assert cache.set("k", 2, expire=60)

    assert [ident for ident in cache if ident == "k"] == ["k"]
    cache.check(fix=True)


def test_short_put_is_left_to_the_long_one_while_a_step_holds_the_slot(make_cache):
    cache = make_cache(clock=None)
    cache["k"] = "old"
    client, lock = shared_server().client(), cache._engine.parts[0].lock
    client.set(lock, "somebody", px=200)
    cache["k"] = "new"

    assert not client.exists(lock)
    assert cache["k"] == "new"


def test_short_put_takes_one_round_trip(make_cache, monkeypatch):
    cache = make_cache(clock=None)
    cache["first"] = 1
    driver, sent = cache._engine.driver, []
    once = driver._once
    monkeypatch.setattr(driver, "_once", lambda send: sent.append(1) or once(send))
    cache["k"] = 1
    cache["k"] = 2

    assert len(sent) == 2


def deleted(cache, *, is_short):
    """Delete "k" by the short script, or by the long one; return whether it was there."""
    if is_short:
        return cache.delete("k")
    shard, _ = cache._engine._place(("k", 1))
    change, now = commands.delete_change(("k", 1)), cache._engine.clock.time()
    return bool(cache._engine._apply(shard, [change], now, None)[0])


BEFORE["a guard"] = lambda cache: cache._engine.put(
    ("k", 1), (1 << 6 | 1, "x", None), None, None, 0.0, None
)


@pytest.mark.parametrize("before", BEFORE)
def test_short_delete_leaves_what_the_long_one_does(make_cache, tmp_path, before):
    found = []
    for number, is_short in enumerate((True, False)):
        cache = make_cache(tmp_path / str(number), clock=None)
        BEFORE[before](cache)
        answer = deleted(cache, is_short=is_short)
        assert cache.get("k") is None
        found.append((answer, state(cache)))

    assert found[0] == found[1]


def test_short_delete_waits_while_a_step_holds_the_slot(make_cache):
    cache = make_cache(clock=None)
    cache["k"] = "old"
    client, lock = shared_server().client(), cache._engine.parts[0].lock
    client.set(lock, "somebody", px=200)

    assert cache.delete("k")
    assert not client.exists(lock)


def test_short_delete_takes_one_round_trip(make_cache, monkeypatch):
    cache = make_cache(clock=None)
    cache["k"] = 1
    driver, sent = cache._engine.driver, []
    once = driver._once
    monkeypatch.setattr(driver, "_once", lambda send: sent.append(1) or once(send))

    assert cache.delete("k")
    assert not cache.delete("k")
    assert len(sent) == 2


def test_connections_that_the_server_dropped_meanwhile_are_made_anew(make_cache):
    """A delete is sent once only: it must not meet a connection that is gone."""
    cache = make_cache(clock=None)
    cache["k"] = 1
    idle = [connection._sock for connection in cache._engine.driver._held.send.__self__._idle]
    shared_server().client().client_kill_filter(_type="normal", skipme=True)
    for each in idle:
        assert select.select([each], [], [], DEADLINE)[0]

    assert cache.delete("k")


def test_many_threads_share_the_connections(make_cache):
    cache = make_cache(clock=None)
    barrier, wrong = threading.Barrier(20), []

    def work(name):
        barrier.wait()
        for number in range(20):
            cache[name] = number
            if cache[name] != number:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert {name: cache[name] for name in range(20)} == dict.fromkeys(range(20), 19)


def test_pop_of_an_entry_in_grace_leaves_what_was_stored_meanwhile(make_cache, monkeypatch):
    cache, other = make_cache(clock=None), make_cache(clock=None)
    cache.set("k", "old", expire=-1, grace=60)
    cache.set("in grace", "old", expire=-1, grace=60)
    engine = cache._engine
    current = engine._current

    def stored_meanwhile(key):
        found = current(key)
        if key[0] == "k":
            other["k"] = "new"
        return found

    with monkeypatch.context() as patches:
        patches.setattr(engine, "get", lambda *_: None)
        patches.setattr(engine, "_current", stored_meanwhile)
        assert cache.pop("k") is None
        assert cache.pop("in grace") is None

    assert other["k"] == "new"
    assert engine.find_stale(("in grace", 1), engine.clock.time()) is None
