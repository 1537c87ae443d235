"""Memory answers what the server has told to be unchanged, and nothing else."""

from __future__ import annotations

import gc
import os
import pickle
import secrets
import shutil
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from zlib import crc32

import pytest

from diskcache import Deque, DiskCacheError, Index, SettingError, connect
from diskcache.engines.redis import tracking
from diskcache.engines.redis.listening import TrackedDriver
from diskcache.sentinels import UNKNOWN
from tests.support.cluster import Cluster
from tests.support.servers import (
    BINARY,
    DEADLINE,
    Server,
    await_memory,
    free_port,
    need_server,
    shared_server,
)
from tests.support.variants import REMOTE_EAGER

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def variant():
    need_server()
    return REMOTE_EAGER


class Place:
    """A namespace on the server that tests share."""

    def __init__(self):
        self.server = shared_server()
        self.port = self.server.port
        self.namespace = f"memory-{secrets.token_hex(4)}"

    def url(self):
        return self.server.url(self.namespace)


@pytest.fixture
def server():
    """A namespace of this test alone."""
    need_server()
    return Place()


@pytest.fixture
def opened():
    """Open caches that keep what they read at once, and close them at the end."""
    made = []

    def open_one(url, **settings):
        cache = connect(url, **settings)
        made.append(cache)
        if cache._tier.limit:
            cache._tier._expected = bytearray(b"\1") * 2**17
            await_memory(cache)
        return cache

    yield open_one
    for cache in made:
        cache.close()


def in_memory(cache, key):
    """Tell whether the next read of a key is answered by memory."""
    return cache._promptly(key) is not UNKNOWN


def eventually(condition):
    """Wait for what comes by another connection."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kept(cache, key):
    """Read a key until memory answers; what was written just before may be told late."""
    eventually(lambda: (cache.get(key), in_memory(cache, key))[1])
    return cache[key]


def hear_all(place, cache):
    """Wait until this process was told of all that has been written: it is told in order."""
    tracked, ident = cache._engine.site.tracking, b"2heard"
    slot = crc32(ident) & tracking.LAST_SLOT
    before = tracked._words[slot]
    with place.server.client() as client:
        where = cache._engine.parts[0].entry + ident
        eventually(lambda: (client.set(where, b""), tracked._words[slot] != before)[1])


def other_process(server):
    """Return a cache whose writes this process hears of as of those of another one."""
    return connect(server.url().replace("127.0.0.1", "localhost"), memory_limit=0)


WRITES = {
    "set": lambda cache: cache.set("a", 2),
    "[]=": lambda cache: cache.__setitem__("a", 2),
    "add": lambda cache: cache.delete("a") and cache.add("a", 2),
    "incr": lambda cache: cache.incr("a"),
    "incr float": lambda cache: cache.incr("a", 0.5),
    "delete": lambda cache: cache.delete("a"),
    "pop": lambda cache: cache.pop("a"),
    "touch": lambda cache: cache.touch("a", 1000),
    "update": lambda cache: cache.update("a", lambda value: value + 5),
    "set_many": lambda cache: cache.set_many({"a": 3, "b": 4}),
    "delete_many": lambda cache: cache.delete_many(["a"]),
    "evict": lambda cache: cache.evict("t"),
    "clear": lambda cache: cache.clear(),
    "popitem": lambda cache: cache.peekitem(last=False),
}


def state(cache):
    return cache.get("a", expire_time=True, tag=True)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writes_of_this_process_are_read_at_once(server, opened, write):
    cache, through = opened(server.url()), opened(server.url(), memory_limit=0)
    alike = opened(server.url())
    for _ in range(20):
        cache.set("a", 1, tag="t", expire=500)
        cache.get("a")
        alike.get("a")
        write(cache)

        assert state(cache) == state(alike) == state(through)
        write(through)
        assert state(cache) == state(through)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writes_of_others_are_read_once_they_are_told(server, opened, write):
    cache = opened(server.url())
    with other_process(server) as other:
        cache.set("a", 1, tag="t", expire=500)
        assert kept(cache, "a") == 1
        write(other)
        eventually(lambda: state(cache) == state(other))


def test_push_is_read_where_a_miss_was_known(server, opened):
    cache = opened(server.url())
    assert cache.get(500000000000000) is None
    assert cache.push("x") == 500000000000000

    assert cache.get(500000000000000) == "x"


def test_evict_reaches_only_entries_with_the_tag(server, opened):
    cache = opened(server.url())
    with other_process(server) as other:
        cache.set("a", 1, tag="t")
        cache.set("b", 2, tag="u")
        hear_all(server, cache)
        kept(cache, "a")
        kept(cache, "b")
        other.evict("t")
        eventually(lambda: cache.get("a") is None)

        # Nobody reads it, so what is gone stays so; a thread that is held up answers nothing.
        eventually(lambda: in_memory(cache, "b"))


def evict_without_sweeping(server, cache):
    """Do the first step of `evict("t")`, and die."""
    with server.server.client() as client:
        assert client.delete(cache._engine.parts[0].tag_version(b"2t"))


def test_entry_whose_tag_was_evicted_by_a_process_that_died_is_forgotten(server, opened):
    cache = opened(server.url())
    cache.set("a", 1, tag="t")
    kept(cache, "a")
    evict_without_sweeping(server, cache)

    eventually(lambda: cache.get("a") is None)


def test_tag_evicted_while_an_entry_is_read_is_not_kept(server, opened, monkeypatch):
    """The tag goes before its version is asked for, or after: it is told before all is kept."""
    cache = opened(server.url())
    cache.set("a", 1, tag="t")
    command = cache._engine.driver.read

    def slow(*words):
        answer = command(*words)
        if words[0] == "GET":
            evict_without_sweeping(server, cache)
            eventually(lambda: not cache._engine.site.tracking._tagged)
        return answer

    monkeypatch.setattr(cache._engine.driver, "read", slow)
    assert cache.get("a") == 1
    monkeypatch.undo()

    assert cache.get("a") is None


def test_read_in_flight_during_a_write_is_not_kept(server, opened, monkeypatch):
    cache = opened(server.url())
    cache["a"] = 1
    command = cache._engine.driver.read

    def slow(*words):
        answer = command(*words)
        if words[0] == "MGET" and not slow.has_written:
            slow.has_written = True
            cache["a"] = 2
        return answer

    slow.has_written = False
    monkeypatch.setattr(cache._engine.driver, "read", slow)
    assert cache["a"] == 1
    monkeypatch.undo()

    assert cache["a"] == 2


def test_mutable_values_are_copies(server, opened):
    cache = opened(server.url())
    cache["a"] = {"n": [1]}
    hear_all(server, cache)
    kept(cache, "a")
    cache["a"]["n"].append(2)

    eventually(lambda: in_memory(cache, "a"))
    assert cache["a"] == {"n": [1]}
    assert cache["a"] is not cache["a"]


def test_entry_expires_in_memory_by_the_clock(make_cache, clock):
    cache = make_cache()
    cache.set("a", 1, expire=1000)
    kept(cache, "a")
    clock.advance(1000.1)

    assert cache.get("a") is None
    assert "a" not in cache


def test_flushall_empties_memory(own_server, opened):
    cache = opened(own_server.url())
    cache["a"] = 1
    kept(cache, "a")
    own_server.client().flushall()

    eventually(lambda: cache.get("a") is None)


def test_memory_is_bounded_and_counted(server, opened):
    cache = opened(server.url(), memory_limit=100_000)
    for number in range(300):
        cache[number] = b"x" * 1000
        kept(cache, number)

    assert 50_000 < cache._tier.volume <= 100_000


def test_memory_that_is_off_keeps_nothing_and_starts_nothing(server, opened):
    cache = opened(server.url(), memory_limit=0)
    cache["a"] = 1
    before = threading.active_count()
    for _ in range(5):
        assert cache["a"] == 1
        assert "a" in cache

    assert threading.active_count() == before
    assert not in_memory(cache, "a")


def test_hits_are_counted_by_statistics(server, opened):
    cache = opened(server.url(), statistics=True)
    cache["a"] = 1
    kept(cache, "a")
    cache.stats(reset=True)
    for _ in range(50):
        cache.get("a")
        cache.get("b")

    assert cache.stats() == (50, 50)


def test_timeout_of_zero_does_not_keep_from_listening(server, opened):
    cache = opened(server.url(), timeout=0)
    cache["a"] = 1

    assert kept(cache, "a") == 1


def test_copies_have_the_same_limit(server, opened):
    cache = opened(server.url(), memory_limit=5000)
    with pickle.loads(pickle.dumps(cache)) as other:
        assert other._tier is cache._tier
        assert other._tier.limit == 5000


@pytest.mark.parametrize("limit", [-1, "1", None])
def test_limit_that_is_no_number_of_bytes_is_refused(server, limit):
    with pytest.raises(SettingError, match="memory_limit"):
        connect(server.url(), memory_limit=limit)


def test_namespaces_of_one_url_have_nothing_in_common(server, opened):
    one, other = (opened(server.url(), namespace=server.namespace + name) for name in "ab")
    one["a"], other["a"] = 1, 2

    assert (kept(one, "a"), kept(other, "a")) == (1, 2)


def test_thread_that_cannot_be_started_is_done_without(server, monkeypatch):
    with connect(server.url()) as cache:
        cache["a"] = 1
        cache._tier._expected = bytearray(b"\1") * 2**17

        def refuse(_):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert cache["a"] == cache["a"] == 1


def test_structures_do_not_read_from_memory(server, opened):
    cache = opened(server.url())
    with other_process(server) as other:
        index, theirs = Index.fromcache(cache), Index.fromcache(other)
        index["a"] = 1
        for number in range(50):
            assert index["a"] == number + 1
            cache.get("a")
            theirs["a"] = number + 2
        line = Deque.fromcache(cache.cache("line"))
        line.append(1)
        line[0] = 2
        assert list(line) == [2]


def test_step_of_a_structure_sees_what_it_has_written(server, opened):
    cache = opened(server.url())
    cache["a"] = 1
    kept(cache, "a")
    with cache._engine.transaction(1):
        cache["a"] = 2
        assert cache["a"] == 2

    assert cache["a"] == 2


# -- Connections --


def test_close_leaves_no_thread_and_no_connection(own_server, opened):
    cache, other = opened(own_server.url()), opened(own_server.url())
    cache["a"] = 1
    kept(cache, "a")
    names = {thread.name for thread in threading.enumerate()}
    assert "diskcache-listening-test" in names
    cache.close()
    # The thread is that of both.
    assert cache._engine.site.listener is not None
    other.close()

    assert "diskcache-listening-test" not in {thread.name for thread in threading.enumerate()}
    eventually(lambda: own_server.client().info("clients")["connected_clients"] == 1)
    await_memory(cache)
    assert kept(cache, "a") == 1


def test_thread_ends_with_the_last_cache_that_was_not_closed(own_server):
    cache = connect(own_server.url())
    await_memory(cache)
    del cache
    gc.collect()

    eventually(lambda: "diskcache-listening-test" not in {t.name for t in threading.enumerate()})


CLOSED_LATE = """
import sys
from diskcache import connect
from tests.support.servers import await_memory

class Owner:
    def __init__(self):
        self.cache = connect(sys.argv[1])
        await_memory(self.cache)

    def __del__(self):
        self.cache.close()
        print("closed")

sys.modules["owner"] = Owner()
"""


def test_cache_that_is_closed_while_the_interpreter_ends_waits_for_nobody(server):
    words = [sys.executable, "-c", CLOSED_LATE, server.url()]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60, cwd=ROOT)

    assert (done.stdout, done.stderr, done.returncode) == ("closed\n", "", 0)


def test_connection_that_is_lost_empties_memory_until_there_is_another(own_server, opened):
    cache = opened(own_server.url())
    cache["a"] = 1
    kept(cache, "a")
    client = own_server.client()
    for each in client.client_list():
        if "t" in each["flags"] or "B" in each["flags"]:
            client.client_kill_filter(_id=each["id"])
    eventually(lambda: not in_memory(cache, "a"))
    client.set(cache._engine.parts[0].entry + b"2a", b"")

    assert cache.get("a") is None
    eventually(lambda: cache._engine.site.tracking.is_live)
    cache["a"] = 2
    assert kept(cache, "a") == 2


def test_connections_are_made_anew_after_one_was_lost_that_tells_of_changes(own_server, opened):
    """What was lost may have been a master, and the others may still lead there."""
    cache, client = opened(own_server.url() + "&client_name=mine"), own_server.client()

    def connections():
        mine = [each for each in client.client_list() if each["name"] == "mine"]
        return {each["id"] for each in mine if "t" not in each["flags"]}

    cache["a"] = 1
    kept(cache, "a")
    before = connections()
    cache["b"] = 1
    kept(cache, "b")
    assert connections() == before
    for each in client.client_list():
        if "t" in each["flags"]:
            client.client_kill_filter(_id=each["id"])
    eventually(lambda: cache._engine.site.tracking.epoch > 1)
    kept(cache, "a")

    assert not connections() & before


def test_server_that_is_silent_for_a_second_is_not_believed(own_server, opened):
    cache = opened(own_server.url(), on_error="miss")
    cache["a"] = 1
    kept(cache, "a")
    own_server.process.send_signal(19)
    began = last = time.monotonic()
    while True:
        asked = time.monotonic()
        if not in_memory(cache, "a"):
            break
        last = asked
        time.sleep(0.001)
    own_server.process.send_signal(18)

    assert last - began <= tracking.TRUST + 0.05
    eventually(lambda: cache.get("a") == 1 and in_memory(cache, "a"))


def test_server_that_was_restarted_is_listened_to_again(own_server, opened):
    cache = opened(own_server.url(), on_error="miss")
    cache["a"] = 1
    kept(cache, "a")
    tracked = cache._engine.site.tracking
    before = tracked.epoch
    own_server.stop()
    own_server.start()
    eventually(lambda: tracked.epoch > before and tracked.is_live)

    assert cache.get("a") is None
    eventually(lambda: cache.set("a", 2))
    assert kept(cache, "a") == 2


def test_server_that_refuses_to_tell_is_read_each_time(own_server, opened):
    own_server.client().execute_command("ACL", "SETUSER", "default", "-client|tracking")
    with connect(own_server.url()) as cache:
        cache["a"] = 1
        cache._tier._expected = bytearray(b"\1") * 2**17
        for _ in range(20):
            assert cache["a"] == 1
            time.sleep(0.01)

        assert not in_memory(cache, "a")
        eventually(lambda: "tracking" in cache.info().off.get("memory_limit", ""))


def test_forked_child_starts_empty_and_listens_by_itself(server, opened):
    cache = opened(server.url())
    cache["a"] = 1
    kept(cache, "a")
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Newer interpreters warn of a fork beside threads, which is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        outcome = b"no"
        try:
            was_empty = not in_memory(cache, "a")
            cache._tier._expected = bytearray(b"\1") * 2**17
            await_memory(cache)
            is_right = kept(cache, "a") == 1
            with other_process(server) as other:
                other["a"] = 2
                eventually(lambda: cache["a"] == 2)
            cache.close()
            outcome = b"yes" if was_empty and is_right else b"no"
        finally:
            os.write(write, outcome)
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(read, 10) == b"yes"
    os.close(read)
    os.close(write)

    eventually(lambda: cache["a"] == 2)
    assert kept(cache, "a") == 2


def test_memory_works_over_a_unix_socket_and_with_a_password(opened, tmp_path):
    need_server()
    path = tmp_path / "s"
    server = Server("--unixsocket", str(path))
    server.client().config_set("requirepass", "word")
    for url in (
        f"unix://:word@{path}?db=0&namespace=test",
        server.url().replace("redis://", "redis://:word@"),
    ):
        cache = opened(url)
        cache["a"] = 1
        assert kept(cache, "a") == 1
        cache.close()
    server.remove()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_memory_works_with_tls(opened, tmp_path):
    need_server()
    key, certificate, port = tmp_path / "key", tmp_path / "certificate", free_port()
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=test"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(words, check=True, capture_output=True)
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate)]
    options += ["--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)]
    options += ["--tls-auth-clients", "no"]
    if not starts(options, tmp_path / "socket"):
        pytest.skip("the server is built without TLS")
    server = Server(*options)
    cache = opened(f"rediss://127.0.0.1:{port}/0?namespace=test&ssl_ca_certs={certificate}")
    with other_process(server) as other:
        for number in range(100):
            other["a"] = number
            other[number] = b"x" * 1000
        eventually(lambda: cache.get("a") == 99)
        assert kept(cache, "a") == 99
    cache.close()
    server.remove()


def starts(options, path):
    """Tell whether a server goes on with such options."""
    words = [str(BINARY), "--port", "0", "--save", "", "--unixsocket", str(path), *options]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        eventually(lambda: path.exists() or process.poll() is not None)
        has_ended = process.poll() is not None
        process.kill()
    return not has_ended


def test_memory_works_behind_sentinels(own_server, opened, tmp_path):
    port, settings = free_port(), tmp_path / "sentinel.conf"
    settings.write_text(f"port {port}\nsentinel monitor main 127.0.0.1 {own_server.port} 1\n")
    words = [str(BINARY), str(settings), "--sentinel"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"redis+sentinel://127.0.0.1:{port}/main?namespace=test"
            eventually(lambda: is_served(url))
            cache = opened(url)
            with other_process(own_server) as other:
                other["a"] = 1
                assert kept(cache, "a") == 1
                other["a"] = 2
                eventually(lambda: cache["a"] == 2)
            cache.close()
        finally:
            process.kill()


def is_served(url):
    """Tell whether a cache can be opened."""
    try:
        connect(url).close()
    except DiskCacheError:
        return False
    return True


# -- Clusters --


@pytest.fixture(scope="module")
def cluster():
    need_server()
    made = Cluster()
    yield made
    made.remove()


def test_cluster_is_listened_to_at_every_master(cluster, opened):
    cache = opened(cluster.url("test"))
    with connect(cluster.url("test").replace("127.0.0.1", "localhost"), memory_limit=0) as other:
        for number in range(60):
            cache[number] = 1
        # While it is told of the writes, what was read before may be forgotten again.
        eventually(lambda: all((cache[n], in_memory(cache, n))[1] for n in range(60)))
        for number in range(60):
            other[number] = 2
        eventually(lambda: all(cache[number] == 2 for number in range(60)))
        other.clear()
        eventually(lambda: all(number not in cache for number in range(60)))


def test_replica_that_takes_over_empties_memory(cluster, opened):
    cache = opened(cluster.url("other"))
    for number in range(60):
        cache[number] = 1
    cluster.await_replica()
    for number in range(60):
        kept(cache, number)
    epoch = cache._engine.site.tracking.epoch
    cluster.kill_first()
    eventually(lambda: not any(in_memory(cache, number) for number in range(60)))
    cluster.await_successor()
    eventually(lambda: cache._engine.site.tracking.epoch > epoch)
    with connect(cluster.url("other").replace("127.0.0.1", "localhost"), memory_limit=0) as other:
        for number in range(60):
            assert kept(cache, number) == 1
            other[number] = 2
        eventually(lambda: all(cache[number] == 2 for number in range(60)))


def test_connections_older_than_those_that_tell_of_changes_are_not_read_from(server, opened):
    """They may lead to a master that another one has replaced meanwhile, of which nobody tells."""
    cache = opened(server.url(), memory_limit=0)
    driver = cache._engine.driver
    before = driver._held
    await_memory(cache)
    cache._engine.look(("", 1), 0.0)

    assert before.is_doomed
    after = driver._held
    cache._engine.look(("", 1), 0.0)
    assert driver._held is after


def test_master_that_is_replaced_while_a_cache_connects_is_not_read_from(
    server, opened, monkeypatch
):
    opened(server.url())
    found = []
    policy = TrackedDriver.policy

    def replaced(driver):
        if driver.address.namespace == server.namespace and not found:
            found.append(driver._held)
            driver._tracking.begin(float("inf"))
        return policy(driver)

    monkeypatch.setattr(TrackedDriver, "policy", replaced)
    cache = opened(server.url())
    cache._engine.look(("", 1), 0.0)

    assert [held.is_doomed for held in found] == [True]
