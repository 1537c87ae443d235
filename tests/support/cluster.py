"""A cluster of three masters, one of which has a replica, on the loopback interface."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from tests.support.servers import DEADLINE, Server, free_port

SLOTS = 16384
PATIENCE = 60_000
"""Milliseconds after which a node counts as dead: no machine is held up for so long."""
HASTE = 800
"""The same where a test kills a node, and while they get to know each other."""


class Cluster:
    """Three masters, and a replica of the first."""

    def __init__(self) -> None:
        self.buses = [free_port() for _ in range(4)]
        self.nodes = [
            Server(
                "--cluster-enabled", "yes", "--cluster-node-timeout", str(HASTE),
                "--cluster-port", str(bus), "--repl-diskless-sync-delay", "0",
                "--maxmemory", "20mb", "--maxmemory-policy", "noeviction",
                "--cluster-replica-validity-factor", "0",
            )
            for bus in self.buses
        ]  # fmt: skip
        self._form()

    def _form(self) -> None:
        third = SLOTS // 3 + 1
        for number in range(3):
            last = min((number + 1) * third, SLOTS) - 1
            self.run(number, "CLUSTER", "ADDSLOTSRANGE", number * third, last)
            # Without different epochs two nodes may claim one slot.
            with suppress(redis.ResponseError):
                self.run(number, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        # They are told of each other, because gossip takes its time.
        for number in range(3):
            for node, bus in list(zip(self.nodes, self.buses, strict=True))[number + 1 :]:
                self.run(number, "CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        names = {self.name(number) for number in range(4)}
        wait_for(lambda: all(set(self._flags(number)) == names for number in range(4)))
        self.run(3, "CLUSTER", "REPLICATE", self.name(0))
        wait_for(lambda: all(self._sees(number, "slave") for number in range(4)))
        self._bear(PATIENCE)
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

    def _flags(self, number: int) -> dict[str, str]:
        """Return the flags of all nodes that a node knows, by name."""
        lines = bytes(self.run(number, "CLUSTER", "NODES")).decode().splitlines()
        return {line.split()[0]: line.split()[2] for line in lines}

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
            self.run(source, "MIGRATE", "127.0.0.1", port, "", 0, 60_000, "KEYS", *keys)
            pause()
        for number in (target, source, *range(3)):
            self.run(number, "CLUSTER", "SETSLOT", slot, "NODE", self.name(target))

    def kill_first(self) -> None:
        """Kill the master that has a replica, which takes its place soon."""
        self._bear(HASTE)
        self.nodes[0].stop()

    def _bear(self, limit: int) -> None:
        for number in range(4):
            self.run(number, "CONFIG", "SET", "cluster-node-timeout", limit)

    def await_successor(self) -> None:
        """Wait until the others know that the replica is a master, and have all slots again."""
        for number in (1, 2, 3):
            wait_for(lambda number=number: self._sees(number, "master"))

    def _sees(self, number: int, kind: str) -> bool:
        """Tell whether a node knows all slots, and what the last one is."""
        flags = self._flags(number).get(self.name(3), "")
        return kind in flags and "cluster_state:ok" in self.info(number)

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
        assert time.monotonic() < deadline, "what is waited for does not come"
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
        _shared.append(Cluster())
    return _shared[0]
