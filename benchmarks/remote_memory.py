"""Measure the memory tier of a cache on a server, and what hearing of changes costs the server.

    python benchmarks/remote_memory.py [hot | server]

Starts a private `redis-server` or `valkey-server`. Times are microseconds, the least of several
rounds; CPU is that of the server, as it tells itself.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from timeit import repeat

import redis

from diskcache import Cache, connect

BINARY = shutil.which("redis-server") or shutil.which("valkey-server")
LISTENERS = 20
KEYS = 2_000
COMMANDS = 100_000
PIECE = 100
SINGLES = 5_000


@contextmanager
def server() -> Iterator[int]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen([str(BINARY), *words], stdout=subprocess.DEVNULL)
        try:
            while True:
                try:
                    redis.Redis(port=port).ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.02)
            yield port
        finally:
            process.kill()
            process.wait()


def least(work: Callable[[], object], number: int) -> float:
    return min(repeat(work, number=number, repeat=7)) / number * 1e6


def hot(port: int) -> None:
    """Reads from memory and from the server."""
    url = f"redis://127.0.0.1:{port}/0?namespace=bench"
    with ExitStack() as stack:
        local = stack.enter_context(Cache(stack.enter_context(tempfile.TemporaryDirectory())))
        remote = stack.enter_context(connect(url))
        through = stack.enter_context(connect(url, memory_limit=0))
        raw = redis.Redis(port=port)
        for cache in (local, remote):
            cache.set_many({"text": "v" * 40, "data": {"id": 1, "tags": ["a", "b"]}})
            for _ in range(100):
                cache.get_many(["text", "data"])
                time.sleep(0.005)
                _ = cache.get("text"), cache.get("data")
        raw.set("text", "v" * 40)
        for name, cache, number in (
            ("Cache, memory", local, 100_000),
            ("RemoteCache, memory", remote, 100_000),
            ("RemoteCache, memory_limit=0", through, 2_000),
        ):
            get = cache.get
            one, two = (
                least(lambda get=get: get("text"), number),
                least(lambda get=get: get("data"), number // 10),
            )
            print(f"{name:32} text {one:8.2f}   dict {two:8.2f}")
        print(f"{'redis-py GET':32} text {least(lambda: raw.get('text'), 2_000):8.2f}")


class Listeners:
    """Connections that are told of changes; a thread takes what they are told."""

    def __init__(self, port: int, *words: str) -> None:
        self.channels = []
        self.bytes = 0
        for _ in range(LISTENERS if words else 0):
            channel = socket.create_connection(("127.0.0.1", port))
            channel.sendall(_command("HELLO", "3"))
            time.sleep(0.002)
            if words != ("REDIRECT",):
                channel.sendall(_command("CLIENT", "TRACKING", "ON", *words))
            time.sleep(0.002)
            channel.recv(65536)
            channel.setblocking(False)
            self.channels.append(channel)

    def take(self) -> None:
        for channel in self.channels:
            try:
                while data := channel.recv(2**20):
                    self.bytes += len(data)
            except BlockingIOError:
                pass

    def close(self) -> None:
        for channel in self.channels:
            channel.close()


def _command(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(
        b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words
    )


def cpu(client: redis.Redis) -> float:
    found = client.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def key(number: int) -> str:
    return f"{{bench:0}}:e:2key-{number}"


def write(client: redis.Redis, listeners: Listeners, commands: int = COMMANDS) -> None:
    for start in range(0, commands, PIECE):
        with client.pipeline(transaction=False) as pipeline:
            for each in range(start, start + PIECE):
                pipeline.set(key(each % KEYS), "v" * 40)
            pipeline.execute()
        listeners.take()


def cost_of_broadcasts(port: int) -> None:
    """The designs that broadcast: what a write costs with nobody listening, and with 20."""
    narrow = ("e:", "g:", "v")
    kinds = {
        "nobody listens": (),
        "one prefix": ("BCAST", "PREFIX", "{bench:"),
        "3 prefixes (1 shard)": _prefixed(f"{{bench:0}}:{kind}" for kind in narrow),
        "48 prefixes (16 shards)": _prefixed(
            f"{{bench:{n}}}:{kind}" for n in range(16) for kind in narrow
        ),
    }
    client = redis.Redis(port=port)
    for name, words in kinds.items():
        listeners = Listeners(port, *words)
        write(client, listeners)
        before, listeners.bytes = cpu(client), 0
        write(client, listeners)
        used = (cpu(client) - before) / COMMANDS * 1e6
        time.sleep(0.2)
        listeners.take()
        told = listeners.bytes / COMMANDS / LISTENERS
        print(f"write, {name:26} server CPU {used:6.2f}   bytes to each listener {told:6.1f}")
        before = cpu(client)
        for each in range(SINGLES):
            client.set(key(each % KEYS), "v" * 40)
            listeners.take()
        used = (cpu(client) - before) / SINGLES * 1e6
        print(f"one by one, {name:20} server CPU {used:6.2f}")
        listeners.close()


def _prefixed(prefixes: Iterator[str]) -> tuple[str, ...]:
    return ("BCAST", *(word for prefix in prefixes for word in ("PREFIX", prefix)))


def cost_of_redirection(port: int) -> None:
    """The design in which the server remembers who read what."""
    client = redis.Redis(port=port)
    for name, is_tracked in (("not tracked", False), ("tracked, redirected", True)):
        listeners = Listeners(port, "REDIRECT")
        readers = [_reader(port, channel, is_tracked=is_tracked) for channel in listeners.channels]
        reading = writing = 0.0
        for _ in range(5):
            before = cpu(client)
            for reader in readers:
                read(reader)
            reading += cpu(client) - before
            table = client.info("stats")["tracking_total_items"]
            before = cpu(client)
            write(client, listeners, KEYS)
            writing += cpu(client) - before
        count = 5 * KEYS
        print(
            f"{name:22} server CPU of a read {reading / count / LISTENERS * 1e6:6.2f}, of a write"
            f" {writing / count * 1e6:6.2f}   bytes to each listener"
            f" {listeners.bytes / count / LISTENERS:6.1f}   pairs remembered {table}"
        )
        for reader in readers:
            reader.close()
        listeners.close()


def _reader(port: int, channel: socket.socket, *, is_tracked: bool) -> redis.Redis:
    channel.sendall(_command("CLIENT", "ID"))
    time.sleep(0.02)
    ident = channel.recv(1000).strip().removeprefix(b":")

    def connected(connection: redis.Connection) -> None:
        connection.on_connect()
        if is_tracked:
            connection.send_command("CLIENT", "TRACKING", "ON", "REDIRECT", ident)
            connection.read_response()

    return redis.Redis(port=port, redis_connect_func=connected)


def read(reader: redis.Redis) -> None:
    for start in range(0, KEYS, PIECE):
        with reader.pipeline(transaction=False) as pipeline:
            for each in range(start, start + PIECE):
                pipeline.mget(key(each), "{bench:0}:v")
            pipeline.execute()


def main() -> None:
    if BINARY is None:
        sys.exit("neither redis-server nor valkey-server is installed")
    asked = sys.argv[1:] or ["hot", "server"]
    with server() as port:
        if "hot" in asked:
            hot(port)
        if "server" in asked:
            cost_of_broadcasts(port)
            cost_of_redirection(port)
    assert threading.active_count() == 1


if __name__ == "__main__":
    main()
