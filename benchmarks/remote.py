"""A server: this library beside redis-py alone, in turns, in threads and in event loops.

    .venv/bin/python benchmarks/remote.py [--uvloop] [--rounds N]

Starts a `redis-server` or `valkey-server` of its own. Prints, of the fastest round, microseconds of
an operation by the clock, and of the processor in this process; other load makes the former large.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import redis
from redis import asyncio as awaited

from diskcache import aio, connect

VALUE = "x" * 100
COUNT = 2000
AT_ONCE = 100
LIMITS: dict[str, Any] = {"max_connections": 50, "timeout": 5}


def started() -> tuple[subprocess.Popen[bytes], int]:
    """Return a server, and the port of the loopback interface where it listens."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        raise SystemExit("neither redis-server nor valkey-server is installed")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    for _ in range(1000):
        with suppress(redis.RedisError), redis.Redis(port=port) as client:
            client.ping()
            return process, port
        time.sleep(0.01)
    process.kill()
    raise SystemExit(f"{binary} did not start")


class Best:
    """The fastest round of each row."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._best: dict[str, tuple[float, float]] = {}

    def note(self, name: str, began: tuple[float, float]) -> None:
        """Note a round that began at these times."""
        wall, own = time.perf_counter() - began[0], time.process_time() - began[1]
        before = self._best.get(name, (wall, own))
        self._best[name] = min(wall, before[0]), min(own, before[1])

    def tell(self) -> None:
        """Print them, each beside that of redis-py."""
        print(self.title)
        for name, (wall, own) in self._best.items():
            base = self._best[f"redis-py {name.split()[-1]}"]
            print(
                f"  {name:16} {wall / COUNT * 1e6:7.1f} us {wall / base[0]:5.2f}x"
                f"   processor {own / COUNT * 1e6:7.1f} us {own / base[1]:5.2f}x"
            )


def now() -> tuple[float, float]:
    """Return the time, and that of the processor."""
    return time.perf_counter(), time.process_time()


def in_threads(port: int, rounds: int) -> None:
    """Measure what blocks."""
    raw = redis.Redis(connection_pool=redis.BlockingConnectionPool(port=port, **LIMITS))
    cache = connect(f"redis://127.0.0.1:{port}?namespace=bench", memory_limit=0)
    rows: dict[str, Callable[[], Any]] = {
        "redis-py get": lambda: raw.get("key"),
        "RemoteCache get": lambda: cache.get("key"),
        "redis-py set": lambda: raw.set("key", VALUE),
        "RemoteCache set": lambda: cache.set("key", VALUE),
    }
    best = Best("blocking, one after the other")
    for _ in range(rounds):
        for name, operation in rows.items():
            operation()
            began = now()
            for _ in range(COUNT):
                operation()
            best.note(name, began)
    best.tell()
    cache.close()
    raw.close()


async def in_loop(port: int, rounds: int) -> None:
    """Measure what is awaited: one after the other, and many at once."""
    pool = awaited.BlockingConnectionPool(port=port, socket_timeout=5, **LIMITS)
    raw = awaited.Redis(connection_pool=pool)
    async with aio.connect(f"redis://127.0.0.1:{port}?namespace=bench", memory_limit=0) as cache:
        rows: dict[str, Callable[[], Awaitable[Any]]] = {
            "redis-py get": lambda: raw.get("key"),
            "AsyncRemote get": lambda: cache.get("key"),
            "redis-py set": lambda: raw.set("key", VALUE),
            "AsyncRemote set": lambda: cache.set("key", VALUE),
        }
        one, many = Best("awaited, one after the other"), Best(f"awaited, {AT_ONCE} at once")
        for _ in range(rounds):
            for name, operation in rows.items():
                await operation()
                began = now()
                for _ in range(COUNT):
                    await operation()
                one.note(name, began)
                began = now()
                for _ in range(COUNT // AT_ONCE):
                    await asyncio.gather(*(operation() for _ in range(AT_ONCE)))
                many.note(name, began)
        one.tell()
        many.tell()
    await raw.aclose()
    await pool.disconnect()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uvloop", action="store_true", help="another event loop")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    server, port = started()
    try:
        in_threads(port, given.rounds)
        if given.uvloop:
            import uvloop

            uvloop.run(in_loop(port, given.rounds))
        else:
            asyncio.run(in_loop(port, given.rounds))
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
