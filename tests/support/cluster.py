"""A cluster of three masters, one of which has a replica, on the loopback interface."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from tests.support.servers import DEADLINE, Server, free_port

SLOTS = 16384
NODE_TIMEOUT = 800
"""Milliseconds after which a node counts as dead, where tests have nodes die."""


class Cluster:
    """Three masters, and a replica of the first.

    Args:
        node_timeout: Milliseconds after which a node counts as dead.
    """

    def __init__(self, node_timeout: int = NODE_TIMEOUT) -> None:
        self._node_timeout = node_timeout
        self.buses: list[int] = []
        self.nodes: list[Server] = []
        for attempt in range(8):
            if len(self.nodes) < 4:
                self._add_node(may_fail=attempt < 4)
        self._form()

    def _add_node(self, *, may_fail: bool) -> None:
        bus = free_port()
        try:
            node = Server(
                "--cluster-enabled", "yes", "--cluster-node-timeout", str(self._node_timeout),
                "--cluster-port", str(bus), "--repl-diskless-sync-delay", "0",
                "--maxmemory", "20mb", "--maxmemory-policy", "noeviction",
                "--cluster-replica-validity-factor", "0",
            )  # fmt: skip
        except redis.ConnectionError:
            # Somebody else took the port of its bus meanwhile.
            if not may_fail:
                raise
        else:
            self.nodes.append(node)
            self.buses.append(bus)

    def _form(self) -> None:
        third = SLOTS // 3 + 1
        for number in range(3):
            last = min((number + 1) * third, SLOTS) - 1
            self.run(number, "CLUSTER", "ADDSLOTSRANGE", number * third, last)
            # Without different epochs two nodes may claim one slot.
            with suppress(redis.ResponseError):
                self.run(number, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node, bus in list(zip(self.nodes, self.buses, strict=True))[1:]:
            self.run(0, "CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        wait_for(lambda: all(self._knows(number) == 4 for number in range(4)))
        self.run(3, "CLUSTER", "REPLICATE", self.name(0))
        wait_for(lambda: all("cluster_state:ok" in self.info(number) for number in range(3)))
        wait_for(lambda: self.nodes[3].client().info("replication")["master_link_status"] == "up")

    def run(self, number: int, *words: Any) -> Any:
        """Run a command on one node."""
        with redis.Redis(port=self.nodes[number].port) as client:
            return client.execute_command(*words)

    def info(self, number: int) -> str:
        """Return what a node knows of the cluster."""
        return bytes(self.run(number, "CLUSTER", "INFO")).decode()

    def name(self, number: int) -> str:
        """Return the name of a node."""
        return bytes(self.run(number, "CLUSTER", "MYID")).decode()

    def _knows(self, number: int) -> int:
        return int(self.info(number).split("cluster_known_nodes:")[1].split()[0])

    def url(self, namespace: str) -> str:
        """Return the address of a cache on it."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])
        return f"redis+cluster://{hosts}?namespace={namespace}"

    def owner_of(self, slot: int) -> int:
        """Return which node has a slot, as it says itself."""
        return slot // (SLOTS // 3 + 1)

    def await_replica(self) -> None:
        """Wait until the replica has all that its master was told."""
        await_replica(self.nodes[0], self.nodes[3])

    def move(self, slot: int, source: int, target: int, pause: Callable[[], None]) -> None:
        """Move a slot to another master, key by key, and call *pause* in between."""
        self.run(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.name(source))
        self.run(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.name(target))
        port = self.nodes[target].port
        while keys := self.run(source, "CLUSTER", "GETKEYSINSLOT", slot, 3):
            self.run(source, "MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
            pause()
        for number in (target, source, *range(3)):
            self.run(number, "CLUSTER", "SETSLOT", slot, "NODE", self.name(target))

    def remove(self) -> None:
        """Kill all nodes."""
        for node in self.nodes:
            node.remove()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so; nodes tell each other in their own time."""
    deadline = time.monotonic() + DEADLINE
    while True:
        with suppress(redis.RedisError):
            if condition():
                return
        assert time.monotonic() < deadline, "the cluster does not form"
        time.sleep(0.05)


def await_replica(master: Server, replica: Server) -> None:
    """Wait until a replica has all that its master was told.

    WAIT is no way to do that: it waits for what was written by its own connection.
    """
    told = master.client().info("replication")["master_repl_offset"]
    wait_for(lambda: replica.client().info("replication")["slave_repl_offset"] >= told)


_shared: list[Cluster] = []


def shared_cluster() -> Cluster:
    """Return the cluster that most tests of a process share."""
    if not _shared:
        # Its nodes stay: none is to be taken for dead because the machine was busy.
        _shared.append(Cluster(node_timeout=60_000))
    return _shared[0]
