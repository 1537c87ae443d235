"""A master, its replica, and a sentinel that watches them, on the loopback interface."""

from __future__ import annotations

import redis

from tests.support.cluster import await_replica, wait_for
from tests.support.servers import BINARY, Server

DOWN = 60_000
"""Milliseconds without an answer after which the master counts as dead: no machine is held up for
so long."""
HASTE = 500
"""The same, where a test kills it."""


class Sentinel(Server):
    """A sentinel: it writes what it learns into its configuration."""

    def __init__(self, master: int) -> None:
        self._master = master
        super().__init__()

    def words(self) -> list[str]:
        """Return the command line."""
        path = self.folder / "sentinel.conf"
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor watched 127.0.0.1 {self._master} 1",
            f"sentinel down-after-milliseconds watched {DOWN}",
            "sentinel failover-timeout watched 5000",
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [str(BINARY), str(path), "--sentinel"]


class Watched:
    """A master, its replica, and their sentinel."""

    def __init__(self) -> None:
        self.master = Server("--repl-diskless-sync-delay", "0", "--maxmemory", "20mb")
        self.replica = Server("--replicaof", f"127.0.0.1 {self.master.port}", "--maxmemory", "20mb")
        wait_for(lambda: self.replica.client().info("replication")["master_link_status"] == "up")
        self.sentinel = Sentinel(self.master.port)
        wait_for(lambda: self._knows_replica())

    def _knows_replica(self) -> bool:
        with redis.Redis("127.0.0.1", self.sentinel.port) as client:
            found = client.sentinel_slaves("watched")
            return bool(found) and not found[0]["is_disconnected"]

    def await_replica(self) -> None:
        """Wait until the replica has all that its master was told."""
        await_replica(self.master, self.replica)

    def kill_master(self) -> None:
        """Kill the master, whose place the replica takes soon."""
        with redis.Redis("127.0.0.1", self.sentinel.port) as client:
            client.sentinel_set("watched", "down-after-milliseconds", HASTE)
        self.master.stop()

    def url(self, namespace: str) -> str:
        """Return the address of a cache on the master that the sentinel names."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/watched/0?namespace={namespace}"

    def remove(self) -> None:
        """Kill all of them."""
        for server in (self.sentinel, self.replica, self.master):
            server.remove()
