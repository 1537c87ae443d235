"""A client of one event loop, with the face of one that blocks, for bridged calls.

Implementation note.

Each exchange with the server has its own time limit, which covers connecting, sending and the
answer. Whatever interrupts it, the limit or the cancelling of the task, redis-py drops the
connection: an answer that is on its way meets nobody. Connections are bounded by a semaphore of
this module; the pools of redis-py would raise where it waits, in the order in which tasks came.

An asynchronous generator that is never asked again closes the connections: loops end theirs before
they are closed, as `asyncio.run` does, and so nothing has to be told to this module.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

from redis import asyncio as awaited
from redis import exceptions as theirs
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from diskcache.bridging import here, wait
from diskcache.clock import SYSTEM_CLOCK, Clock
from diskcache.computing.looping import start_task

T = TypeVar("T")

LOOK: Final = 0.002
"""Seconds between two looks of an event loop at a thread that is about to end."""
CLOSING: Final = "diskcache-close"
"""Name of the tasks that close connections."""

OPTIONS: Final[dict[str, Any]] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": None}
"""Options of connections that are others than where a thread waits."""

_inherited: Final[list[Any]] = []
"""Clients of event loops of the parent, in a forked child: to close them there would take their
sockets out of what the loops of the parent look at."""


def nap(clock: Clock, seconds: float) -> None:
    """Let time pass: of a thread by the clock; in a bridged call other tasks run meanwhile."""
    if here.call is None:
        clock.sleep(seconds)
    elif clock.sleep == SYSTEM_CLOCK.sleep:
        wait(asyncio.sleep(seconds))
    else:
        clock.sleep(seconds)
        wait(asyncio.sleep(0))


def sharing_authorities(kind: type[Any]) -> type[Any]:
    """Return a kind of connections with TLS that read the authorities once, and not each of them.

    It takes twenty milliseconds, in which the loop does nothing else.
    """
    first: list[Any] = []

    def begin(connection: Any, **options: Any) -> None:
        kind.__init__(connection, **options)
        if not first:
            first.append(connection.ssl_context)
        connection.ssl_context = first[0]

    return type("SharingAuthorities", (kind,), {"__init__": begin})


class Clients:
    """The clients of one driver: one for each event loop. Thread-safe.

    Args:
        timeout: Seconds for each exchange.
        connections: Exchanges of a client at a time.
    """

    def __init__(self, timeout: float, connections: int) -> None:
        self._timeout = timeout
        self._connections = connections
        self._lock = threading.Lock()
        self._found: dict[asyncio.AbstractEventLoop, Looped] = {}

    def of_loop(self, connect: Callable[..., Any]) -> Looped:
        """Return the client of the loop that runs here.

        Args:
            connect: Makes a client of a package and of options of connections.
        """
        loop = asyncio.get_running_loop()
        found = self._found.get(loop)
        if found is None:
            found = Looped(connect(awaited, **OPTIONS), self._timeout, self._connections)
            with self._lock:
                # Connections refer to their loop: what is left of closed ones goes here.
                rest = {each: its for each, its in self._found.items() if not each.is_closed()}
                self._found = {**rest, loop: found}
        return found

    def close(self) -> None:
        """Close all of them, and make new ones when they are needed."""
        with self._lock:
            found, self._found = self._found, {}
        for each in found.values():
            each.close()

    def inherit(self) -> None:
        """Begin anew in a forked child."""
        _inherited.append(self._found)
        self._lock, self._found = threading.Lock(), {}


class Looped:
    """The client of one event loop: each method has the task of the bridged call await it.

    Args:
        client: A client of `redis.asyncio`.
        timeout: Seconds for each exchange.
        connections: Exchanges at a time; the next one waits as long for its turn.
    """

    def __init__(self, client: Any, timeout: float, connections: int) -> None:
        self._client = client
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(connections)
        self._closer: AsyncGenerator[None, None] | None = None
        self._users = 0
        self._is_doomed = False

    @property
    def client(self) -> Looped:
        """What sends commands: this object."""
        return self

    # -- Commands --

    def exchange(self, send: Callable[[Looped], T]) -> T:
        """Send something and return the answer; each exchange waits for its turn by itself."""
        return send(self)

    def execute_command(self, *command: Any) -> Any:
        """Send a command and return its answer."""
        return wait(self._exchange(self._client.execute_command, command, {}))

    send = execute_command

    def hgetall(self, key: bytes) -> Any:
        """Return a whole hash."""
        return wait(self._exchange(self._client.hgetall, (key,), {}))

    def time(self, **options: Any) -> Any:
        """Return the time of the server."""
        return wait(self._exchange(self._client.time, (), options))

    def info(self, section: str, **options: Any) -> Any:
        """Return what the server tells of itself."""
        return wait(self._exchange(self._client.info, (section,), options))

    def pipeline(self, *, transaction: bool) -> _Pipeline:
        """Return what sends many commands at once."""
        pipeline = self._client.pipeline(transaction=transaction)
        return _Pipeline(
            pipeline, lambda **options: wait(self._exchange(pipeline.execute, (), options))
        )

    def scan_iter(self, **options: Any) -> Iterator[Any]:
        """Yield keys of the server."""
        found = self._client.scan_iter(**options)
        with suppress(StopAsyncIteration):
            while True:
                yield wait(self._exchange(found.__anext__, (), {}))

    async def _exchange(
        self, method: Callable[..., Awaitable[Any]], args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        if self._closer is None:
            self._closer = closer = _closing(self._client)
            # An object that is dropped, perhaps with a cycle of others, is closed all the same.
            weakref.finalize(self, _close_later, self._loop, closer).atexit = False
            await anext(closer)
        slots = self._slots
        is_waiting = slots.locked()
        try:
            async with asyncio.timeout(self._timeout) as limit, slots:
                if is_waiting:
                    # The time of the exchange begins now.
                    limit.reschedule(self._loop.time() + self._timeout)
                    is_waiting = False
                return await method(*args, **keywords)
        except BaseException as exc:
            _forget_lost(self._client)
            if not isinstance(exc, TimeoutError):
                raise
            why = "all connections were in use for" if is_waiting else "no answer within"
            raise theirs.TimeoutError(f"{why} {self._timeout} seconds") from exc

    # -- Use and end --

    def enter(self) -> None:
        """Note that a call uses the client."""
        self._users += 1

    def leave(self) -> None:
        """Note that it does not any more; the last one closes a client that is to be closed."""
        self._users -= 1
        if self._is_doomed and not self._users:
            wait(self._end())

    def close(self) -> None:
        """Close it when nobody uses it any more, from whatever thread."""
        self._is_doomed = True
        if self._loop.is_closed():
            return
        if here.call is not None and asyncio.get_running_loop() is self._loop:
            if not self._users:
                wait(self._end())
            return
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._close_unless_used)

    def _close_unless_used(self) -> None:
        if not self._users:
            start_task(self._end(), CLOSING)

    async def _end(self) -> None:
        closer, self._closer = self._closer, None
        if closer is not None:
            await closer.aclose()


class _Pipeline:
    """Commands that are sent together."""

    def __init__(self, pipeline: Any, execute: Callable[..., list[Any]]) -> None:
        self.execute_command = pipeline.execute_command
        self.execute = execute

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing: a connection is taken, and given back, where it executes."""


_dropped: Final[dict[asyncio.AbstractEventLoop, set[AsyncGenerator[None, None]]]] = {}
"""What is to be closed, of clients that were dropped. A loop that ends cancels the task that would
do it, and waits for generators that somebody refers to."""


def _close_later(loop: asyncio.AbstractEventLoop, closer: AsyncGenerator[None, None]) -> None:
    for each in [each for each in list(_dropped) if each.is_closed()]:
        _dropped.pop(each, None)
    if not loop.is_closed():
        _dropped.setdefault(loop, set()).add(closer)
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: start_task(_closed(loop, closer), CLOSING))


async def _closed(loop: asyncio.AbstractEventLoop, closer: AsyncGenerator[None, None]) -> None:
    await closer.aclose()
    _dropped.get(loop, set()).discard(closer)


async def _closing(client: Any) -> AsyncGenerator[None, None]:
    """Close a client when this generator is closed, at the latest with its loop."""
    try:
        yield
    finally:
        with suppress(theirs.RedisError, OSError):
            # The other name is that of redis-py 5.0.0.
            await getattr(client, "aclose", client.close)()
        for node in _nodes_of(client):
            for connection in set(node._free).difference(node._connections):  # noqa: SLF001
                with suppress(theirs.RedisError, OSError):
                    await connection.disconnect()
        pool = getattr(client, "connection_pool", None)
        # The master behind sentinels has clients of them besides.
        manager = getattr(pool, "sentinel_manager", None)
        sentinels = [] if manager is None else [each.connection_pool for each in manager.sentinels]
        for each in [pool, *sentinels]:
            if each is not None:
                with suppress(theirs.RedisError, OSError):
                    await each.disconnect()


def _forget_lost(client: Any) -> None:
    """Make room for new connections to a cluster after an exchange that failed.

    Up to version 7.0 redis-py counts one that it did not get to send by as in use, for ever. It is
    not connected. Nor is one that another task is just connecting: that goes on, uncounted.
    """
    for node in _nodes_of(client):
        if len(node._connections) > len(node._free):  # noqa: SLF001
            free = set(node._free)  # noqa: SLF001
            node._connections[:] = [  # noqa: SLF001
                each
                for each in node._connections  # noqa: SLF001
                if each.is_connected or each in free
            ]


def _nodes_of(client: Any) -> list[Any]:
    """Return the nodes of a cluster as its client has them; none of a server alone."""
    return list(client.get_nodes()) if isinstance(client, awaited.RedisCluster) else []
