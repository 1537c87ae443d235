"""The synchronous driver: connections, time limits, scripts that the server may not know yet."""

from __future__ import annotations

import os
import random
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis
from redis import exceptions as theirs
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from diskcache.bridging import here
from diskcache.clock import Clock
from diskcache.engines.redis.breaker import Breaker
from diskcache.engines.redis.commands import Call, Command, refusal_of
from diskcache.engines.redis.errors import FOREIGN, is_moving, translated, translating
from diskcache.engines.redis.looped import Clients, Looped, nap, sharing_authorities
from diskcache.engines.redis.scripts import Script
from diskcache.engines.redis.wire import Turns, sender, turns_of
from diskcache.errors import (
    ServerAccessError,
    ServerError,
    ServerKeyError,
    ServerUnavailableError,
    Timeout,
    TransactionError,
)

if TYPE_CHECKING:
    from diskcache.engines.redis.address import Address

T = TypeVar("T")

POOL: Final = 50
"""Connections of one cache object in one process at most."""
FIRST_NAP: Final = 0.001
LONGEST_NAP: Final = 0.05
"""Seconds between two attempts while a transaction of others holds a shard."""
FAILOVER: Final = 10.0
"""Seconds for which a read is tried again while a cluster puts a replica in a master's place."""
PIECE: Final = 500
"""Commands sent at once."""


class _Held:
    """A client, and how many threads are using it; the last one closes it once it is doomed.

    One that is dropped, perhaps with a cycle of others, is closed before anything in that cycle is
    finalized: the collector calls what refers weakly to garbage first.
    """

    def __init__(self, client: Any, connections: int, timeout: float) -> None:
        self.client = client
        self.disconnect = weakref.finalize(self, _disconnect, client)
        """Closes its connections, once."""
        self.disconnect.atexit = False
        self.send = sender(client)
        self.users = 0
        self.is_doomed = False
        self._turns = Turns(turns_of(client, connections))
        self._timeout = timeout

    def exchange(self, send: Callable[[Any], T]) -> T:
        """Send something when it is this thread's turn, and return the answer."""
        try:
            self._turns.take(self._timeout)
            try:
                return send(self)
            finally:
                self._turns.give_back()
        except (theirs.RedisError, theirs.RedisClusterException):
            raise
        except BaseException:
            # What a signal handler raises anywhere in redis-py may leave a connection half-made, or
            # with an answer unread, or out of its pool for ever.
            self.is_doomed = True
            raise


def _disconnect(client: Any) -> None:
    with suppress(theirs.RedisError, OSError):
        client.close()
    pool = getattr(client, "connection_pool", None)
    # The master behind sentinels has clients of them besides.
    manager = getattr(pool, "sentinel_manager", None)
    sentinels = [] if manager is None else [each.connection_pool for each in manager.sentinels]
    for each in [pool, *sentinels]:
        if each is not None:
            with suppress(theirs.RedisError, OSError):
                each.disconnect()


class Driver:
    """Sends commands and scripts. Thread-safe; a forked child connects anew.

    In a bridged call the client is one of `redis.asyncio` and of the loop that runs; see `looped`.

    Args:
        address: Where the server is.
        timeout: Seconds to wait for a connection, and for each answer.
        clock: Where time comes from, for waiting.
        connections: Most connections at a time; who needs one more waits.
    """

    def __init__(
        self, address: Address, timeout: float, clock: Clock, connections: int = POOL
    ) -> None:
        self.address = address
        self.where = address.safe
        self.clock = clock
        self.breaker = Breaker(clock.monotonic)
        self._timeout = timeout
        self._connections = connections
        # A signal handler may use the cache while its thread holds it.
        self._lock = threading.RLock()
        self._held: _Held | None = None
        self._looped = Clients(timeout, connections)
        self._pid = os.getpid()

    # -- Connections --

    @contextmanager
    def _using(self) -> Iterator[_Held | Looped]:
        """Yield what has the client of redis-py; it is not closed meanwhile."""
        held = self._taken()
        try:
            yield held
        finally:
            self._given_back(held)

    def _taken(self) -> _Held | Looped:
        if self._pid != os.getpid():
            # The lock, and the clients, may be in use by threads that are not here.
            self._lock, self._held = threading.RLock(), None
            self._looped.inherit()
            self._pid = os.getpid()
        if here.call is not None:
            looped = self._looped.of_loop(self._connect)
            looped.enter()
            return looped
        with self._lock:
            if self._held is None or self._held.is_doomed:
                self._held = _Held(self._connect(), self._connections, self._timeout)
            held = self._held
            held.users += 1
        return held

    def _given_back(self, held: _Held | Looped) -> None:
        if isinstance(held, Looped):
            held.leave()
            return
        with self._lock:
            held.users -= 1
            is_last = held.is_doomed and not held.users
        if is_last:
            held.disconnect()

    def _connect(self, library: Any = redis, **other: Any) -> Any:
        """Return a client of redis-py, or of its counterpart for event loops.

        Args:
            library: The package; its annotations are not complete.
            **other: Options of connections that are otherwise there.
        """
        shared: dict[str, Any] = {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            # Nobody but this driver knows what may be sent twice.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            **other,
        }
        kind, hosts, options = self.address.kind, self.address.hosts, dict(self.address.options)
        if options.get("ssl") and options.get("ssl_cert_reqs") != "none":
            # Before version 6 redis-py compared no host unless told to.
            options.setdefault("ssl_check_hostname", True)
        if kind == "cluster":
            nodes = [library.cluster.ClusterNode(host, port) for host, port in hosts]
            return library.RedisCluster(
                startup_nodes=nodes, max_connections=self._connections, **options, **shared
            )
        if kind == "sentinel":
            own = _taken_for_sentinels(options)
            sentinel = library.Sentinel(list(hosts), sentinel_kwargs={**own, **shared}, **shared)
            return sentinel.master_for(
                self.address.service, max_connections=self._connections, **options
            )
        pooled, pool = {"max_connections": self._connections, **shared}, library.ConnectionPool
        if library is redis:
            pooled["timeout"], pool = self._timeout, library.BlockingConnectionPool
        if "url" in options:
            return library.Redis(connection_pool=pool.from_url(options["url"], **pooled))
        ((host, port), *_) = hosts
        plain = dict(options)
        if plain.pop("ssl", False):
            kind = library.SSLConnection
            pooled["connection_class"] = kind if library is redis else sharing_authorities(kind)
        return library.Redis(connection_pool=pool(host=host, port=port, **plain, **pooled))

    def close(self) -> None:
        """Close all connections but those in use; the next operation connects again."""
        with self._lock:
            held, self._held = self._held, None
            is_last = held is not None and not held.users
            if held is not None:
                held.is_doomed = True
        if held is not None and is_last:
            held.disconnect()
        self._looped.close()

    # -- Sending --

    def command(self, *command: Any) -> Any:
        """Send a command that reads, or may be sent twice, and return the answer."""
        return self._guarded(lambda held: held.client.execute_command(*command), safe=True)

    def read(self, *command: Any) -> Any:
        """Do as `command` where the answer is what the server says as it is, such as of `MGET`."""
        return self._guarded(lambda held: held.send(*command), safe=True)

    def call(self, call: Call, wait: float | None = None) -> Any:
        """Run a script and return its answer.

        Args:
            call: The script.
            wait: Seconds to wait while a transaction of others holds the shard; None for no limit.

        Raises:
            Timeout: It was held all the time.
            TransactionError: The transaction that the call belongs to has lost the shard.
        """
        pause, deadline = FIRST_NAP, None
        while True:
            answer = self.evaluate(
                call.script, call.all_keys(), call.all_args(), call.is_idempotent
            )
            refusal = refusal_of(answer)
            if refusal is None:
                return answer
            if refusal.word == b"tag":
                call = call.with_tag(refusal.tag)
                continue
            if refusal.word == b"lost":
                raise transaction_lost(self.where)
            now = self.clock.monotonic()
            if deadline is None and wait is not None:
                deadline = now + wait
            if deadline is not None and now >= deadline:
                raise Timeout
            nap(self.clock, pause * random.uniform(0.5, 1))
            pause = min(pause * 1.5, LONGEST_NAP)

    def evaluate(
        self, script: Script, keys: Sequence[bytes], args: Sequence[Any], safe: bool
    ) -> Any:
        """Run a script once, and return its answer; *safe* is one that may be sent again."""
        return self._guarded(lambda held: _evaluate(held.send, script, keys, args), safe=safe)

    def commands(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands that read, many at a time, and return their answers."""
        answers: list[Any] = []
        for start in range(0, len(commands), PIECE):
            piece = commands[start : start + PIECE]
            if len(piece) == 1:
                answers.append(self.command(*piece[0]))
            else:
                answers += self._guarded(lambda held: _pipelined(held.client, piece), safe=True)  # noqa: B023
        return answers

    def answers(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands that may be sent twice, and return their answers.

        The answer of one that met a key of a foreign type is the error: it is no matter of the
        others.
        """
        answers: list[Any] = []
        for start in range(0, len(commands), PIECE):
            piece = commands[start : start + PIECE]
            answers += self._guarded(lambda held: self._each(held.client, piece), safe=True)  # noqa: B023
        return answers

    def _each(self, client: Any, commands: Sequence[Command]) -> list[Any]:
        answers = _answers(client, commands)
        for place, answer in enumerate(answers):
            if isinstance(answer, Exception):
                answers[place] = error = translated(answer, self.where)
                if not isinstance(error, ServerKeyError):
                    raise answer
        return answers

    def evaluate_all(
        self, script: Script, calls: Sequence[tuple[Sequence[bytes], Sequence[Any]]]
    ) -> list[Any]:
        """Run a script that may be sent again for each of many keys and arguments, all at once."""
        commands: list[Command] = []
        slots: set[bytes] = set()
        for keys, args in calls:
            slot = keys[0].partition(b"}")[0]
            # The first one in each slot makes the script known to the others.
            name, body = ("EVALSHA", script.digest) if slot in slots else ("EVAL", script.text)
            slots.add(slot)
            commands.append((name, body, len(keys), *keys, *args))
        return self.answers(commands)

    # -- What a server tells of itself --

    def time(self) -> tuple[int, int]:
        """Return the time of the server, in seconds and microseconds."""
        answer = self._guarded(lambda held: held.client.time(**self._anywhere()), safe=True)
        seconds, micros = _of_one_node(answer)
        return int(seconds), int(micros)

    def hash(self, key: bytes) -> dict[bytes, bytes]:
        """Return a whole hash."""
        found: dict[bytes, bytes] = self._guarded(lambda held: held.client.hgetall(key), safe=True)
        return found

    def policy(self) -> str:
        """Return the maxmemory-policy, if it has an effect; empty where it is not told."""
        with suppress(ServerError):
            found = self._info("memory")
            if int(found.get("maxmemory", 0)):
                return str(found.get("maxmemory_policy", ""))
        return ""

    def server(self) -> str:
        """Return name and version of the server; empty where they are not told."""
        found: dict[str, Any] = {}
        with suppress(ServerAccessError):
            found = self._info("server")
        if "valkey_version" in found:
            return f"Valkey {found['valkey_version']}"
        return f"Redis {found['redis_version']}" if "redis_version" in found else ""

    def _info(self, section: str) -> dict[str, Any]:
        answer = self._guarded(
            lambda held: held.client.info(section, **self._anywhere()), safe=True
        )
        found: dict[str, Any] = _of_one_node(answer)
        return found

    def _anywhere(self) -> dict[str, Any]:
        return {"target_nodes": RedisCluster.RANDOM} if self.address.is_cluster else {}

    def scan(self, start: bytes, count: int) -> Iterator[list[bytes]]:
        """Yield the keys that begin with *start*, many at a time."""
        # A prefix of keys of this library; only the end of it may hold what a pattern means.
        pattern = start.replace(b"\\", b"\\\\") + b"*"
        with translating(self.where), self._using() as held:
            found = held.client.scan_iter(match=pattern, count=count)
            while piece := held.exchange(lambda _: list(islice(found, count))):
                yield piece

    def _once(self, send: Callable[[_Held | Looped], T]) -> T:
        """Send something once, with errors of this library; every operation goes through here."""
        try:
            # The client of a cluster connects while it is made.
            held = self._taken()
            try:
                return held.exchange(send)
            finally:
                self._given_back(held)
        except FOREIGN as exc:
            raise translated(exc, self.where) from exc

    def _guarded(self, send: Callable[[_Held | Looped], T], *, safe: bool) -> T:
        """Send something, with errors of this library.

        What is *safe* is sent again where a connection broke, and on a cluster until a replica
        has taken the place of its master.
        """
        self.breaker.enter()
        deadline = None
        while True:
            try:
                result = self._once(send)
            except ServerUnavailableError as exc:
                now = self.clock.monotonic()
                if deadline is None:
                    is_cluster = self.address.kind != "server"
                    deadline = now + (min(self._timeout, FAILOVER) if is_cluster else 0)
                    if safe and not isinstance(exc, TimeoutError):
                        continue
                if (safe or not exc.is_sent) and now < deadline:
                    nap(self.clock, LONGEST_NAP)
                    continue
                if not is_moving(exc.__cause__):
                    self.breaker.fail(exc)
                raise
            except ServerError:
                self.breaker.succeed()
                raise
            self.breaker.succeed()
            return result


def _taken_for_sentinels(options: dict[str, Any]) -> dict[str, Any]:
    """Take what is for connections to sentinels out of options, and return it with that on TLS."""
    start = "sentinel_"
    own = {name: options.pop(name) for name in list(options) if name.startswith(start)}
    found = {name.removeprefix(start): value for name, value in own.items()}
    return {**{name: value for name, value in options.items() if name.startswith("ssl")}, **found}


def _of_one_node(answer: Any) -> Any:
    """Return what one node answered, where a cluster tells which one it was."""
    if isinstance(answer, dict) and len(answer) == 1:
        (only,) = answer.values()
        if isinstance(only, (dict, tuple)):
            return only
    return answer


def _evaluate(
    send: Callable[..., Any], script: Script, keys: Sequence[bytes], args: Sequence[Any]
) -> Any:
    """Run a script by its name, or by its text where the server does not know it."""
    try:
        return send("EVALSHA", script.digest, len(keys), *keys, *args)
    except theirs.NoScriptError:
        return send("EVAL", script.text, len(keys), *keys, *args)


def _pipelined(client: Any, commands: Sequence[Command], *, raising: bool = True) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = pipeline.execute(raise_on_error=raising)
    return answers


def _answers(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands at once, and return answers and errors."""
    if len(commands) > 1:
        return _pipelined(client, commands, raising=False)
    try:
        return [client.execute_command(*command) for command in commands]
    except theirs.ResponseError as exc:
        return [exc]


def transaction_lost(where: str) -> TransactionError:
    """Return the error of a transaction whose time ran out."""
    return TransactionError(
        f"the change took too long, and others may write to {where} again: nothing of it was"
        " stored; try again with fewer entries"
    )
