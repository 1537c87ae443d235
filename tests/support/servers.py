"""Private servers of the tests: started on a free loopback port, stopped when the run ends."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from diskcache.cache.watching import bare_engine

BINARY = shutil.which("redis-server") or shutil.which("valkey-server")
MEMORY = "90mb"
DEADLINE = 60
"""Seconds for a server to start, and for what comes of itself."""


def need_server() -> None:
    """Skip a test where no server is installed; fail where everything must be there."""
    if BINARY is None:
        reason = "neither redis-server nor valkey-server is installed"
        if os.environ.get("DISKCACHE_CI"):
            pytest.fail(f"{reason} (and DISKCACHE_CI is set)")
        pytest.skip(reason)


_reserved: list[socket.socket] = []
"""Sockets that keep ports for this process. They do not listen: who says `SO_REUSEADDR`, as servers
do, may listen beside them, but no port that is given by chance is one of theirs."""


def free_port() -> int:
    """Return a port of the loopback interface that is nobody's but this process's, to its end."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", 0))
    _reserved.append(found)
    port: int = found.getsockname()[1]
    return port


class Server:
    """A server process with a folder of its own.

    Args:
        *options: More words of its command line.
        port: Where it listens; None for a free port.
    """

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.options = options
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="diskcache-server-"))
        self.process: subprocess.Popen[bytes] | None = None
        atexit.register(self.remove)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        need_server()
        self.process = subprocess.Popen(self.words(), stdout=subprocess.DEVNULL)
        self.await_answer()

    def words(self) -> list[str]:
        """Return the command line."""
        memory = () if "--maxmemory" in self.options else ("--maxmemory", MEMORY)
        return [
            str(BINARY), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "no", "--dir", str(self.folder), *memory, *self.options,
        ]  # fmt: skip

    def await_answer(self) -> None:
        """Wait until it answers, with a password or without."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                with self.client() as client:
                    client.ping()
            except redis.AuthenticationError:
                return
            except redis.RedisError:
                is_dead = self.process is not None and self.process.poll() is not None
                if is_dead or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def client(self) -> redis.Redis:
        """Return a client of redis-py."""
        return closed_in_time(redis.Redis(host="127.0.0.1", port=self.port))

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        """Kill it, and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, namespace: str = "test", **query: object) -> str:
        """Return the address of a cache on it."""
        rest = "".join(f"&{name}={value}" for name, value in query.items())
        return f"redis://127.0.0.1:{self.port}/0?namespace={namespace}{rest}"


def closed_in_time(client: redis.Redis) -> redis.Redis:
    """Return a client whose connections are closed before it is finalized.

    A client is part of a cycle once a command has failed, or was sent twice because the server was
    about to start. In a cycle a socket may be finalized before what would close it, and warns.
    """
    weakref.finalize(client, client.connection_pool.disconnect).atexit = False
    return client


def await_memory(cache: Any) -> None:
    """Wait until a cache on a server keeps in memory what it reads."""
    engine = bare_engine(cache)
    engine.look(("", 1), 0.0)
    deadline = time.monotonic() + DEADLINE
    while not engine.site.tracking.is_live:
        assert time.monotonic() < deadline, "the server tells of no changes"
        time.sleep(0.001)


class TlsServer(Server):
    """A server that speaks TLS only.

    Args:
        keys: Folder with `ca.pem`, `cert.pem` and `key.pem`.
        *options: More words of its command line.
    """

    def __init__(self, keys: Path, *options: str) -> None:
        self.keys = keys
        files = ("--tls-ca-cert-file", "ca.pem"), ("--tls-cert-file", "cert.pem")
        words = [
            word
            for option, name in (*files, ("--tls-key-file", "key.pem"))
            for word in (option, str(keys / name))
        ]
        ask = () if "--tls-auth-clients" in options else ("--tls-auth-clients", "no")
        # What is given last counts.
        port = free_port()
        super().__init__(*words, *ask, *options, "--port", "0", "--tls-port", str(port), port=port)

    def client(self) -> redis.Redis:
        """Return a client that has a certificate, too."""
        return closed_in_time(
            redis.Redis(
                host="127.0.0.1",
                port=self.port,
                ssl=True,
                ssl_ca_certs=str(self.keys / "ca.pem"),
                ssl_certfile=str(self.keys / "cert.pem"),
                ssl_keyfile=str(self.keys / "key.pem"),
            )
        )


_shared: list[Server] = []


def shared_server() -> Server:
    """Return the server that most tests of a process share."""
    need_server()
    if not _shared:
        _shared.append(Server())
    return _shared[0]
