"""The thread of a process that hears what changes on the servers, for all caches of a namespace."""

from __future__ import annotations

import logging
import os
import random
import selectors
import socket
import ssl
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic
from typing import Any, Final

from diskcache.bridging import here
from diskcache.clock import SYSTEM_CLOCK, Clock
from diskcache.engines.redis.address import Address
from diskcache.engines.redis.commands import Call
from diskcache.engines.redis.driver import POOL, Driver
from diskcache.engines.redis.errors import translating
from diskcache.engines.redis.looped import LOOK, nap
from diskcache.engines.redis.tracking import BEAT, Line, LineLostError, Tracking, prefixes
from diskcache.errors import DiskCacheError

log: Final = logging.getLogger("diskcache")

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts to connect."""
PATIENCE: Final = 1.0
"""Seconds to wait for a connection at most; `close` waits for the thread."""
PIECE: Final = 2**16
"""Bytes that are received at once."""


class TrackedDriver(Driver):
    """A driver that lets nothing in memory outlive what it writes."""

    def __init__(
        self,
        address: Address,
        timeout: float,
        clock: Clock,
        connections: int = POOL,
        *,
        tracking: Tracking,
    ) -> None:
        super().__init__(address, timeout, clock, connections)
        self._tracking = tracking

    def call(self, call: Call, wait: float | None = None) -> Any:
        """Run a script; what it has written, or may have, is no hit from then on."""
        answer = None
        try:
            answer = super().call(call, wait)
        finally:
            self._tracking.invalidate(call.written(answer))
        return answer

    @contextmanager
    def masters(self) -> Iterator[list[Any]]:
        """Yield a connection of redis-py to each master; not connected, but closed at the end."""
        places: list[dict[str, Any]]
        with self._using() as held, ExitStack() as stack:
            client: Any = held.client
            one, places = client, [{}]
            if self.address.is_cluster:
                places = _masters_of(client)
                for node in client.get_primaries():
                    one = client.get_redis_connection(node)
            pool = one.connection_pool
            made = [
                pool.connection_class(**{**pool.connection_kwargs, "protocol": 3, **place})
                for place in places
            ]
            for connection in made:
                stack.callback(self._disconnect, connection)
            yield made

    def _disconnect(self, connection: Any) -> None:
        with suppress(DiskCacheError), translating(self.where):
            connection.disconnect()


def _masters_of(client: Any) -> list[dict[str, Any]]:
    """Return host and port of all masters of a cluster, those that have no slot yet included."""
    found = {(node.host, int(node.port)) for node in client.get_primaries()}
    for name, node in client.cluster_nodes().items():
        flags = set(node["flags"].split(","))
        if "master" in flags and not node["slots"] and not flags & {"fail", "noaddr", "handshake"}:
            host, _, port = name.rpartition(":")
            found.add((host, int(port)))
    return [{"host": host, "port": port} for host, port in sorted(found)]


class Listener:
    """A thread that listens to all masters, until it is stopped or nobody needs it.

    Args:
        address: Where the servers are.
        timeout: Seconds to wait for a connection, `PATIENCE` at most.
        tracking: What it hears is told here.
        shards: How many there are.
        is_needed: Whether somebody listens.
    """

    def __init__(
        self,
        address: Address,
        timeout: float,
        tracking: Tracking,
        shards: int,
        is_needed: Callable[[], bool],
    ) -> None:
        self._driver = TrackedDriver(
            address,
            min(timeout or PATIENCE, PATIENCE),
            SYSTEM_CLOCK,
            connections=2,
            tracking=tracking,
        )
        self._address = address
        self._tracking = tracking
        self._starts = prefixes(address.namespace, shards)
        self._is_needed = is_needed
        self._is_stopped = False
        self._told, self._bell = socket.socketpair()
        self._told.setblocking(False)
        self.trouble = ""
        """Why nothing is kept for now; empty if something is, or soon will be."""
        self._epoch = 0
        self._channels: list[socket.socket] = []
        self._thread = threading.Thread(
            target=self._run, name=f"diskcache-listening-{address.namespace}", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            self.abandon()
            raise

    def stop(self) -> None:
        """End the thread, and close its connections."""
        self._is_stopped = True
        with suppress(OSError):
            self._bell.send(b"!")
        if self._thread is not threading.current_thread():
            while here.call is not None and self._thread.is_alive():
                nap(SYSTEM_CLOCK, LOOK)
            self._thread.join()

    def abandon(self) -> None:
        """Close what is open, without a word to the servers: a parent may go on using it."""
        for channel in (self._told, self._bell, *self._channels):
            channel.close()

    # -- In the thread --

    def _run(self) -> None:
        try:
            self._go_on()
        finally:
            self.abandon()

    def _go_on(self) -> None:
        pause = FIRST_PAUSE
        while not self._is_over():
            began = monotonic()
            try:
                self._listen()
            except (DiskCacheError, LineLostError, OSError, ValueError) as exc:
                self._note(exc)
            finally:
                self._tracking.lost(self._epoch)
                self._driver.close()
            pause = FIRST_PAUSE if monotonic() - began > LONGEST_PAUSE else pause
            self._wait(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _is_over(self) -> bool:
        return self._is_stopped or not self._is_needed()

    def _note(self, exc: Exception) -> None:
        if not self.trouble and not self._is_stopped:
            log.info("nothing is kept in memory of %s for now: %s", self._address.safe, exc)
        self.trouble = str(exc) or type(exc).__name__

    def _wait(self, pause: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._told, selectors.EVENT_READ)
            selector.select(0 if self._is_stopped else pause)

    def _listen(self) -> None:
        """Connect to all masters, and hear what they say until one of them is lost."""
        with (
            translating(self._address.safe),
            self._driver.masters() as connections,
            selectors.DefaultSelector() as selector,
        ):
            lines: dict[Any, Line] = {}
            self._channels.clear()
            selector.register(self._told, selectors.EVENT_READ)
            for connection in connections:
                connection.connect()
                # redis-py has no other way to wait for several connections at once.
                channel = connection._sock  # noqa: SLF001
                line = Line(self._tracking, self._starts, is_cluster=self._address.is_cluster)
                channel.setblocking(False)
                channel.sendall(line.greeting())
                lines[channel] = line
                self._channels.append(channel)
                selector.register(channel, selectors.EVENT_READ)
            self._hear(lines, selector)

    def _hear(self, lines: dict[Any, Line], selector: selectors.BaseSelector) -> None:
        has_begun = False
        while not self._is_over():
            now = monotonic()
            for channel, line in lines.items():
                if words := line.beat(now):
                    channel.sendall(words)
            for key, _ in selector.select(BEAT / 2):
                if key.fileobj in lines:
                    _receive(key.fileobj, lines[key.fileobj])
            good_until = min(line.good_until for line in lines.values())
            if has_begun:
                self._tracking.trust(self._epoch, good_until)
            elif good_until > 0:
                has_begun = True
                self.trouble = ""
                self._epoch = self._tracking.begin(good_until)


def _receive(channel: Any, line: Line) -> None:
    """Take all that there is to be had.

    Raises:
        LineLostError: The server has closed the connection.
    """
    while True:
        try:
            data = channel.recv(PIECE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        if not data:
            raise LineLostError("the server has closed the connection")
        line.receive(data)
        if len(data) < PIECE and not isinstance(channel, ssl.SSLSocket):
            return


class Site:
    """What all caches of a process that are at one address have in common. Thread-safe."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.tracking = Tracking(address.namespace)
        self.reset()

    def reset(self) -> None:
        """Be as new, in a child that has none of the threads."""
        self._lock = threading.RLock()
        self._users: weakref.WeakSet[Any] = weakref.WeakSet()
        self.listener: Listener | None = None
        self.tracking.reset()

    def join(self, user: object, timeout: float, shards: int) -> Listener | None:
        """Listen to the servers for as long as a user is there.

        None while there can be no thread, because the interpreter ends, or no more descriptors.
        """
        with self._lock:
            self._users.add(user)
            if self.listener is None:
                with suppress(RuntimeError, OSError):
                    self.listener = Listener(
                        self._address, timeout, self.tracking, shards, self._is_needed
                    )
            return self.listener

    def _is_needed(self) -> bool:
        """Tell the listener whether to go on; once it is told not to, another one may begin."""
        with self._lock:
            if self._users:
                return True
            self.listener = None
            return False

    def leave(self, user: object) -> None:
        """Stop listening, if nobody else needs it."""
        if sys.is_finalizing():
            # The thread has stopped where it was, perhaps with a lock, and never ends.
            return
        with self._lock:
            self._users.discard(user)
            listener = self.listener
            if listener is None or self._users:
                return
            self.listener = None
        listener.stop()


_sites: Final[weakref.WeakValueDictionary[Any, Site]] = weakref.WeakValueDictionary()
_lock = threading.RLock()


def site_of(address: Address) -> Site:
    """Return what this process has in common for an address and a namespace."""
    key = (address.url, address.namespace)
    with _lock:
        site = _sites.get(key)
        if site is None:
            site = _sites[key] = Site(address)
        return site


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - a thread that is not here may hold it
    _lock = threading.RLock()
    for site in list(_sites.values()):
        listener = site.listener
        site.reset()
        if listener is not None:
            listener.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
