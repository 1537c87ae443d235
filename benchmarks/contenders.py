"""Other ways to keep things, each behind the same four calls; and the rows that time them.

Every contender runs in a process of its own, this module with it: in the environment of this
project, of version 5.6.3, or of the peers. It uses nothing else than the standard library and the
package of its contender, and answers lines of JSON as `worker` does.

What a contender is asked for is what all promise: that what was stored is there after the process
was killed. Nothing is flushed to the disk at each write, as is the default here; LMDB, which does
so, is told not to (`sync=False`). sqlitedict commits each write, in WAL mode.
"""

from __future__ import annotations

import asyncio
import os
import random
import shelve
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from time import perf_counter
from typing import Any, NamedTuple

from operations import HOT, Bench, Fresh, Place, Row, key_of, repeated
from worker import serve, versions

Call = Callable[..., Any]

SIZES = {"40 B": 40, "4 kB": 4000, "100 kB": 100_000}
"""Bytes in a value."""
WRITES = {"40 B": 2000, "4 kB": 2000, "100 kB": 100}
"""Operations in a round of writes: what makes a log long enough to be copied."""
LEAST_SECONDS = 0.02
"""A round of reads takes at least as long."""
MOST_SECONDS = 0.6
"""A round of writes takes about as long at most: slow contenders do fewer."""
TRIED = 20
"""Writes that tell how slow a contender is."""
WHO = "DISKCACHE_BENCH_CONTENDER"
"""Variable that says which contender a process is."""
REDIS, MEMCACHED = "DISKCACHE_BENCH_REDIS", "DISKCACHE_BENCH_MEMCACHED"
"""Variables that say at which port of loopback a server listens."""


NO_SUCH_OPERATION = "no such operation"


class Store(NamedTuple):
    """A contender that is open. None: it has no such operation."""

    get: Call | None
    item: Call | None = None
    set: Call | None = None
    delete: Call | None = None
    close: Callable[[], object] = lambda: None


class MissingError(Exception):
    """A contender is not on this machine."""


# -- The contenders --


def diskcache(folder: str) -> Store:
    from diskcache import Cache

    cache = Cache(folder)
    return Store(cache.get, cache.__getitem__, cache.set, cache.delete, cache.close)


def in_memory(_: str) -> Store:
    """Remember results in this process, as long as it lives."""
    values: dict[str, bytes] = {}
    # Enough for whatever is read here.
    remembered = lru_cache(maxsize=10_000)(values.__getitem__)
    return Store(remembered, set=values.__setitem__)


def py_lmdb(folder: str) -> Store:
    import lmdb

    env = lmdb.open(folder, map_size=1 << 32, sync=False)

    def get(key: str) -> Any:
        with env.begin() as transaction:
            return transaction.get(key.encode())

    def put(key: str, value: bytes) -> None:
        with env.begin(write=True) as transaction:
            transaction.put(key.encode(), value)

    def delete(key: str) -> None:
        with env.begin(write=True) as transaction:
            transaction.delete(key.encode())

    return Store(get, None, put, delete, env.close)


def rocksdict(folder: str) -> Store:
    from rocksdict import Rdict

    store = Rdict(os.path.join(folder, "rocks"))
    return Store(store.get, store.__getitem__, store.__setitem__, store.__delitem__, store.close)


def diskcache_rs(folder: str) -> Store:
    from diskcache_rs import Cache

    cache = Cache(folder)
    return Store(cache.get, cache.__getitem__, cache.set, cache.delete, cache.close)


def sqlitedict(folder: str) -> Store:
    from sqlitedict import SqliteDict

    store = SqliteDict(os.path.join(folder, "dict.sqlite"), journal_mode="WAL")

    def put(key: str, value: bytes) -> None:
        store[key] = value
        store.commit()

    def delete(key: str) -> None:
        del store[key]
        store.commit()

    return Store(store.get, store.__getitem__, put, delete, store.close)


def shelf(folder: str) -> Store:
    store = shelve.open(os.path.join(folder, "shelf"))  # noqa: SIM115 - `close` is the contender's
    return Store(store.get, store.__getitem__, store.__setitem__, store.__delitem__, store.close)


def joblib(folder: str) -> Store:
    """Call a function whose results are kept: a hit is a get, a miss the set of a new key."""
    from joblib import Memory

    values: dict[str, bytes] = {}

    def remembered(key: str) -> bytes:
        return values[key]

    call = Memory(folder, verbose=0).cache(remembered)

    def put(key: str, value: bytes) -> None:
        values[key] = value
        call(key)

    return Store(call, set=put)


def django_files(folder: str) -> Store:
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    from django.core.cache.backends.filebased import FileBasedCache

    cache = FileBasedCache(folder, {"timeout": None, "max_entries": 1_000_000})
    return Store(cache.get, None, cache.set, cache.delete)


def emptied(contender: str) -> tuple[Any, str]:
    """Return a client of the database that a contender has for itself, and its address."""
    from redis import Redis

    port, number = os.environ[REDIS], DATABASES[contender]
    client = Redis("127.0.0.1", int(port), number)
    client.flushdb()
    return client, f"redis://127.0.0.1:{port}/{number}"


def redis(_: str) -> Store:
    client, _ = emptied(os.environ[WHO])
    return Store(client.get, client.__getitem__, client.set, client.delete, client.close)


def remote(_: str) -> Store:
    """This version on a server, every read of which is a round trip."""
    return opened_remote(memory_limit=0)


def remote_in_memory(_: str) -> Store:
    """The same, keeping in memory what the server says is still so."""
    return opened_remote()


def opened_remote(**keywords: Any) -> Store:
    from diskcache import connect

    client, url = emptied(os.environ[WHO])
    client.close()
    cache = connect(f"{url}?namespace=bench", **keywords)
    if not keywords and "memory_limit" in cache.info().off:
        cache.close()
        raise MissingError(NO_SUCH_OPERATION)
    return Store(cache.get, cache.__getitem__, cache.set, cache.delete, cache.close)


def django_redis(_: str) -> Store:
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    from django.core.cache.backends.redis import RedisCache

    client, url = emptied(os.environ[WHO])
    client.close()
    cache = RedisCache(url, {"timeout": None})
    return Store(cache.get, None, cache.set, cache.delete, cache.close)


def cashews(_: str) -> Store:
    from cashews import Cache

    client, url = emptied(os.environ[WHO])
    client.close()
    cache = Cache()
    cache.setup(url)
    return awaited(cache.get, cache.set, cache.delete, cache.close)


def aiocache(_: str) -> Store:
    from aiocache import RedisCache
    from aiocache.serializers import PickleSerializer

    client, _ = emptied(os.environ[WHO])
    client.close()
    place = {"port": int(os.environ[REDIS]), "db": DATABASES[os.environ[WHO]]}
    cache = RedisCache(serializer=PickleSerializer(), **place)
    return awaited(cache.get, cache.set, cache.delete, cache.close)


def awaited(get: Call, put: Call, delete: Call, close: Call) -> Store:
    """Return coroutine functions as functions: a turn of an event loop for each call."""
    loop = asyncio.new_event_loop()

    def blocking(function: Call) -> Call:
        return lambda *args: loop.run_until_complete(function(*args))

    def end() -> None:
        blocking(close)()
        loop.close()

    return Store(blocking(get), None, blocking(put), blocking(delete), end)


def memcached(_: str) -> Store:
    from pymemcache.client.base import Client

    client = Client(("127.0.0.1", int(os.environ[MEMCACHED])), no_delay=True)
    client.flush_all()

    def put(key: str, value: bytes) -> None:
        client.set(key, value, noreply=False)

    def delete(key: str) -> None:
        client.delete(key, noreply=False)

    return Store(client.get, None, put, delete, client.close)


NEW, OLD, PEER = "new", "old", "peer"


class Contender(NamedTuple):
    """How one is shown, and where it runs."""

    title: str
    where: str
    """The environment: `NEW`, `OLD` or `PEER`."""
    open: Callable[[str], Store]
    package: str = ""
    """Whose version is reported."""
    variable: str = ""
    """What says where its server listens."""


CONTENDERS = {
    "diskcache": Contender("diskcache 6", NEW, diskcache, "diskcache"),
    "diskcache 5": Contender("diskcache 5.6.3", OLD, diskcache, "diskcache"),
    "lru_cache": Contender("functools.lru_cache", NEW, in_memory),
    "lmdb": Contender("py-lmdb", PEER, py_lmdb, "lmdb"),
    "rocksdict": Contender("rocksdict", PEER, rocksdict, "rocksdict"),
    "diskcache_rs": Contender("diskcache_rs", PEER, diskcache_rs, "diskcache_rs"),
    "sqlitedict": Contender("sqlitedict", PEER, sqlitedict, "sqlitedict"),
    "shelve": Contender("shelve", NEW, shelf),
    "joblib": Contender("joblib.Memory", PEER, joblib, "joblib"),
    "django": Contender("Django, files", PEER, django_files, "django"),
    "redis": Contender("Redis, loopback", PEER, redis, "redis", REDIS),
    "redis-py": Contender("Redis, client of diskcache", NEW, redis, "redis", REDIS),
    "remote": Contender("diskcache 6 on Redis", NEW, remote, "diskcache", REDIS),
    "remote hot": Contender(
        "diskcache 6 on Redis, memory", NEW, remote_in_memory, "diskcache", REDIS
    ),
    "django redis": Contender("Django, Redis", PEER, django_redis, "django", REDIS),
    "cashews": Contender("cashews, Redis", PEER, cashews, "cashews", REDIS),
    "aiocache": Contender("aiocache, Redis", PEER, aiocache, "aiocache", REDIS),
    "memcached": Contender("memcached, loopback", PEER, memcached, "pymemcache", MEMCACHED),
}


DATABASES = {name: place for place, name in enumerate(
    name for name, contender in CONTENDERS.items() if contender.variable == REDIS
)}  # fmt: skip
"""Numbers of databases on the one server: rounds alternate, and nobody may empty another's."""


# -- The rows --

GET, ITEM, EXISTING, FRESH, DELETE = (
    "get, hot",
    "[], hot",
    "set, key exists",
    "set, new key",
    "delete",
)
OPERATIONS = (GET, ITEM, EXISTING, FRESH, DELETE)
MEMOIZERS = frozenset({"joblib", "lru_cache"})
"""Contenders that cannot replace what they have, nor remove one entry."""


def wanted(store: Store, contender: str, operation: str) -> bool:
    """Tell whether a contender has an operation."""
    if operation in {GET, ITEM}:
        return (store.get if operation == GET else store.item) is not None
    if contender == "lru_cache":
        return False
    return contender not in MEMOIZERS or operation == FRESH


def row_named(name: str) -> Row:
    """Return the row `OPERATION/SIZE` for the contender that this process is."""
    operation, size = name.split("/")
    contender = os.environ[WHO]

    def make(place: Place) -> Bench:
        store = CONTENDERS[contender].open(place.folder)
        if not wanted(store, contender, operation):
            store.close()
            raise MissingError(NO_SUCH_OPERATION)
        payload = random.Random(1).randbytes(SIZES[size] - 8)
        if operation in {GET, ITEM}:
            return reading(store, operation, payload, place.n)
        return writing(store, operation, payload, place.n)

    return Row(name, WRITES[size], make)


def distinct(payload: bytes, number: int) -> bytes:
    """Return a value that no other number has."""
    return payload + number.to_bytes(8, "big")


def reading(store: Store, operation: str, payload: bytes, n: int) -> Bench:
    """Read the hot keys, for long enough to be measured; *n* reads at least."""
    method = store.get if operation == GET else store.item
    keys = [key_of(number) for number in range(HOT)]
    for number, key in enumerate(keys):
        store.set(key, distinct(payload, number))
    chosen = repeated(keys, min(n, 1000))
    if [method(key) for key in keys] != [distinct(payload, number) for number in range(HOT)]:
        raise ValueError("what was read is not what was stored")
    start = perf_counter()
    for key in chosen:
        method(key)
    turns = max(int(LEAST_SECONDS / (perf_counter() - start)), 1) if n >= HOT else 1

    def run() -> None:
        for _ in range(turns):
            for key in chosen:
                method(key)

    return Bench(run, turns * len(chosen), close=store.close)


def writing(store: Store, operation: str, payload: bytes, n: int) -> Bench:
    """Write keys that exist, or that do not, or remove them."""
    put, delete, fresh = store.set, store.delete, Fresh(0)
    start = perf_counter()
    put_all(put, [(key_of(number), distinct(payload, number)) for number in fresh.take(TRIED)])
    n = min(n, max(int(MOST_SECONDS * TRIED / (perf_counter() - start)), TRIED))
    entries: list[tuple[str, bytes]] = []
    first = fresh.take(n) if operation == EXISTING else range(0)
    put_all(put, [(key_of(number), distinct(payload, number)) for number in first])
    turn = Fresh(1)

    def before() -> None:
        shift = turn.take(1)[0] * n
        numbers = first or fresh.take(n)
        entries[:] = [(key_of(number), distinct(payload, number + shift)) for number in numbers]
        if operation == DELETE:
            put_all(put, entries)

    def remove() -> None:
        for key, _ in entries:
            delete(key)

    run = remove if operation == DELETE else lambda: put_all(put, entries)
    return Bench(run, n, before=before, close=store.close)


def put_all(put: Call, entries: list[tuple[str, bytes]]) -> None:
    for key, value in entries:
        put(key, value)


def hello() -> dict[str, Any]:
    """Return what this process runs on."""
    contender = CONTENDERS[os.environ[WHO]]
    if contender.variable and contender.variable not in os.environ:
        raise MissingError(f"no server for {contender.title}")
    if contender.package == "diskcache":
        return versions()
    found = {"python": sys.version.split()[0]}
    if contender.open is shelf:
        found["dbm"] = kind_of_shelf()
    return {**found, contender.package: version(contender.package)} if contender.package else found


def kind_of_shelf() -> str:
    """Return which module of `dbm` is used here: that differs from machine to machine."""
    import dbm
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "shelf")
        shelve.open(path).close()
        return dbm.whichdb(path) or "dbm"


if __name__ == "__main__":
    serve(row_named, hello)
