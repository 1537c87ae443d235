"""The exchange of a command and its answer on a connection of redis-py without its client.

The client of redis-py costs more than the exchange: it packs word by word, measures itself for
observers, and makes functions for attempts that this library decides on. What is used here is what
a connection and a pool are for, the same in all versions from 5.0 on: a pool hands out connections
that are connected and hold no old answer.

Exchanges take turns, so that nobody has to wait in a pool: threads that come and go would overtake
those that wait there, for as long as they liked.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import redis
from redis import exceptions as theirs

from diskcache.engines.redis.protocol import packed

KEPT: Final = 8
"""Connections that stay at hand, if that is a quarter of all or less."""
NEEDS_NAME: Final = tuple(int(part) for part in redis.__version__.split(".")[:2]) < (5, 3)
"""Whether pools want to know the command; later ones warn of whoever tells."""


class Wire:
    """Exchanges with one server, each on a connection of a pool.

    A few connections stay here between two exchanges, where taking and giving back is two steps of
    a list; the pool counts them as in use, and closes them with the others.

    Args:
        pool: Where connections come from.
        kept: How many may stay.
    """

    def __init__(self, pool: Any, kept: int) -> None:
        self._pool = pool
        self._kept = kept
        self._idle: list[Any] = []

    def send(self, *words: Any) -> Any:
        """Send a command and return what the server answers, as it comes."""
        pieces = packed(words)
        connection = self._taken(words[0])
        is_whole = False
        try:
            connection.send_packed_command(pieces)
            answer = connection.read_response()
            is_whole = True
        except theirs.ResponseError:
            is_whole = True
            raise
        finally:
            if not is_whole:
                # A signal may interrupt between the two: the answer would be that of the next one.
                connection.disconnect()
            if is_whole and len(self._idle) < self._kept:
                self._idle.append(connection)
            else:
                self._pool.release(connection)
        return answer

    def _taken(self, name: str) -> Any:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._pool.get_connection(*(name,) if NEEDS_NAME else ())
        try:
            is_old = connection.can_read()
        except (theirs.RedisError, OSError):
            is_old = True
        if is_old:
            # The server has closed it, or says what nobody asked: sending connects anew.
            connection.disconnect()
        return connection


class Turns:
    """Lets so many threads at a time do something; the others wait, and come in their order.

    Nothing here holds a lock, so a signal handler may take a turn whatever it interrupts.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._free = [True] * count
        self._waiting: deque[threading.Lock] = deque()

    def take(self, timeout: float) -> None:
        """Wait for a turn.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            redis.TimeoutError: It did not come.
        """
        if not self._waiting:
            try:
                self._free.pop()
            except IndexError:
                pass
            else:
                return
        self._wait(timeout)

    def give_back(self) -> None:
        """End a turn; who has waited longest is next."""
        self._free.append(True)
        if self._waiting:
            self._pass_on()

    def _wait(self, timeout: float) -> None:
        mine = threading.Lock()
        mine.acquire()
        self._waiting.append(mine)
        # One may have become free before anybody saw that this thread waits.
        self._pass_on()
        is_mine = False
        try:
            is_mine = mine.acquire(timeout=timeout)
        finally:
            if not is_mine:
                self._go_away(mine)
        if not is_mine:
            raise theirs.TimeoutError(f"all connections were in use for {timeout} seconds")

    def _go_away(self, mine: threading.Lock) -> None:
        try:
            self._waiting.remove(mine)
        except ValueError:
            # The turn came too late.
            self.give_back()

    def _pass_on(self) -> None:
        while self._waiting:
            try:
                self._free.pop()
            except IndexError:
                return
            try:
                self._waiting.popleft().release()
            except IndexError:
                self._free.append(True)


def kept_of(pool: Any) -> int:
    """Return how many connections of a pool stay at hand.

    Behind sentinels a pool drops connections to what is no longer the master: none may stay.
    """
    is_plain = type(pool) is redis.BlockingConnectionPool
    return min(KEPT, pool.max_connections // 4) if is_plain else 0


def turns_of(client: Any, connections: int) -> int:
    """Return how many exchanges a client has at a time: with those at hand, as many as connections.

    Args:
        client: A client of redis-py.
        connections: Most connections to one server.
    """
    pool = getattr(client, "connection_pool", None)
    return connections if pool is None else max(1, pool.max_connections - kept_of(pool))


def sender(client: Any) -> Callable[..., Any]:
    """Return what sends a command and returns the answer as it comes: a function of its words.

    Args:
        client: A client of redis-py; that of a cluster sends by itself.
    """
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        execute: Callable[..., Any] = client.execute_command
        return execute
    return Wire(pool, kept_of(pool)).send
