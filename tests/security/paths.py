"""Every way in which a program reads or changes what is in a directory, one line each.

A case is called with an open cache (or with what is built on one, or with the path of the
directory) in which `KEY`, the first entry of each queue, and whatever else is named here hold what
an attacker planted. Its name is that of the method, and what else there is to say behind a colon.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import io
import os
import pickle
import tempfile
from collections.abc import Callable
from typing import Any

import diskcache
from diskcache import Cache, Deque, FanoutCache, Index
from diskcache.cache.remote import RemoteCache
from diskcache.cli.main import build_parser, main
from diskcache.codecs.keys import encode_key
from diskcache.keys import QUEUE_START, queue_key
from tests.security import hostile

KEY = "k"
PREFIX = "q"
MEMO = ("f", 1, None)
"""Key of `memoized(cache)(1)`."""
TAG = "planted"

PLACES = {
    "key": (KEY, 1),
    "queue": (QUEUE_START, 1),
    "queue with a prefix": (queue_key(PREFIX, QUEUE_START), 1),
    "memoized result": encode_key(MEMO),
}
"""Encoded keys of the entries that the cases look for."""

Case = Callable[[Any], Any]


def listened(cache: Any) -> object:
    """Read while somebody listens."""
    told: list[object] = []
    off = cache.on("hit", told.append)
    try:
        return cache.get(KEY), told
    finally:
        off()


def bypassed(cache: Any) -> object:
    """Read past the cache."""
    with cache.bypass():
        return cache.get(KEY)


def memoized(cache: Any) -> Any:
    """Return a memoized function whose results are under `MEMO`."""
    return cache.memoize(name="f")(lambda number: number)


STALE = {"expire": 10, "grace": 10, "errors": {ValueError: 1}}


def controlled(cache: Any) -> Any:
    """Do all that a memoized function can do besides being called."""
    function = memoized(cache)
    done = function.peek(1), function.refresh(1), function.invalidate(1), function.clear()
    return done, function.cache_info()


def entered(cache: Any) -> Any:
    """Use a cache in a block."""
    with cache as inside:
        return inside.get(KEY)


def in_transaction(cache: Any) -> Any:
    """Read in a transaction."""
    with cache.transact():
        return cache.get(KEY)


def put_back(cache: Any) -> Any:
    """Make an object by `__setstate__`, and read by it."""
    other = type(cache).__new__(type(cache))
    other.__setstate__(cache.__getstate__())
    return closing(other, lambda it: it.get(KEY))


def reduced(cache: Any) -> Any:
    """Make an object by unpickling it, and read by it."""
    options = {**cache._options} if hasattr(cache, "_options") else {}
    if "clock" in options:
        return None
    return closing(pickle.loads(pickle.dumps(cache)), lambda it: it.get(KEY))


def closing(thing: Any, use: Case) -> Any:
    """Use a cache, or what is built on one, and close it."""
    try:
        return use(thing)
    finally:
        getattr(thing, "cache", thing).close() if not isinstance(thing, FanoutCache) else (
            thing.close()
        )


def backed_up(cache: Any) -> Any:
    """Copy the directory of a cache, or of what is built on one, and read from the copy."""
    kind = FanoutCache if isinstance(cache, FanoutCache) else Cache
    with tempfile.TemporaryDirectory() as folder:
        cache.backup(os.path.join(folder, "copy"))
        other = kind(os.path.join(folder, "copy"), secret=hostile.SECRET)
        return closing(other, lambda it: [it.get(KEY), it.check()])


def exported(cache: Any) -> bytes:
    """Return an archive of a cache."""
    stream = io.BytesIO()
    cache.export(stream)
    return stream.getvalue()


def moved(cache: Any) -> Any:
    """Write an archive, and read from a cache that it was imported into."""
    with tempfile.TemporaryDirectory() as folder:
        other = Cache(folder, secret=hostile.SECRET)
        archive = io.BytesIO(exported(cache))
        return closing(other, lambda it: [it.import_from(archive), it.get(KEY)])


READING: dict[str, Case] = {
    "get": lambda c: c.get(KEY),
    "get: all": lambda c: c.get(KEY, expire_time=True, tag=True),
    "get: file": lambda c: close(c.get(KEY, read=True)),
    "get: from memory": lambda c: [c.get(KEY) for _ in range(4)],
    "read": lambda c: close(c.read(KEY)),
    "__getitem__": lambda c: c[KEY],
    "__contains__": lambda c: KEY in c,
    "get_many": lambda c: c.get_many([KEY, MEMO, "missing"]),
    "peek": lambda c: c.peek(),
    "peek: prefix": lambda c: c.peek(PREFIX, side="back", expire_time=True, tag=True),
    "peekitem": lambda c: c.peekitem(),
    "peekitem: first": lambda c: c.peekitem(last=False, expire_time=True, tag=True),
    "__iter__": iter,
    "__reversed__": reversed,
    "iterkeys": lambda c: c.iterkeys(),
    "iterkeys: reverse": lambda c: c.iterkeys(reverse=True),
    "iterkeys: prefix": lambda c: c.iterkeys(prefix=KEY),
    "keys": lambda c: c.keys(),
    "keys: tag": lambda c: c.keys(tag=TAG),
    "values": lambda c: c.values(),
    "values: prefix": lambda c: c.values(prefix=""),
    "items": lambda c: c.items(),
    "items: prefix": lambda c: c.items(prefix=KEY),
    "items: tag": lambda c: c.items(tag=TAG),
    "__len__": len,
    "__repr__": repr,
    "__enter__": entered,
    "__exit__": entered,
    "__getstate__": lambda c: c.__getstate__(),
    "__setstate__": put_back,
    "__reduce__": reduced,
    "__reduce__: copy": lambda c: closing(copy.copy(c), lambda it: it.get(KEY)),
    "get: version": lambda c: c.get(KEY, version=True, expire_time=True),
    "get: stale": lambda c: c.get(KEY, stale=True, tag=True),
    "memoize": lambda c: memoized(c)(1),
    "transact": in_transaction,
    "volume": lambda c: c.volume(),
    "disk_usage": lambda c: c.disk_usage(),
    "stats": lambda c: c.stats(),
    "info": lambda c: c.info(),
    "check": lambda c: c.check(),
    "reset: read": lambda c: [c.reset(name) for name in (*diskcache.DEFAULT_SETTINGS, "count")],
    "__getattr__": lambda c: list(getattr(c, "_sql", list)("SELECT * FROM Cache")),
    "backup": backed_up,
    "export": moved,
    "export: no pickles": lambda c: c.export(io.BytesIO(), pickles=False),
    "close": lambda c: c.close(),
    "close: everywhere": lambda c: c.close(everywhere=True),
}
"""Methods of caches that leave the entries there."""

CHANGING: dict[str, Case] = {
    "set": lambda c: c.set(KEY, 1, expire=10, tag="t"),
    "set: large": lambda c: c.set(KEY, bytes(40_000)),
    "set: grace": lambda c: c.set(KEY, 1, expire=10, grace=10),
    "set: version": lambda c: c.set(KEY, 1, if_version=c.get(KEY, version=True)[1]),
    "update": lambda c: c.update(KEY, lambda _: 1),
    "get_or_set": lambda c: c.get_or_set(KEY, int),
    "get_or_set: stale": lambda c: c.get_or_set(KEY, int, **STALE),
    "get_or_set_many": lambda c: c.get_or_set_many([KEY, "missing"], dict.fromkeys),
    "on": listened,
    "bypass": bypassed,
    "memoize: control": controlled,
    "memoize: stale": lambda c: c.memoize(name="f", **STALE)(str)(1),
    "set: file": lambda c: c.set(KEY, io.BytesIO(b"content"), read=True),
    "__setitem__": lambda c: c.__setitem__(KEY, (1, 2)),
    "set_many": lambda c: c.set_many({KEY: 1, "new": bytes(40_000)}),
    "add": lambda c: c.add(KEY, 1),
    "touch": lambda c: c.touch(KEY, 5),
    "incr": lambda c: c.incr(KEY),
    "decr": lambda c: c.decr(KEY, default=None),
    "pop": lambda c: c.pop(KEY),
    "pop: all": lambda c: c.pop(KEY, expire_time=True, tag=True),
    "pull": lambda c: c.pull(),
    "pull: prefix": lambda c: c.pull(PREFIX, side="back", expire_time=True, tag=True),
    "push": lambda c: c.push(1),
    "push: prefix": lambda c: c.push((1, 2), PREFIX, side="front"),
    "delete": lambda c: c.delete(KEY),
    "__delitem__": lambda c: c.__delitem__(KEY),
    "delete_many": lambda c: c.delete_many([KEY, MEMO, "missing"]),
    "expire": lambda c: c.expire(),
    "expire: far": lambda c: c.expire(now=1e12),
    "evict": lambda c: c.evict(TAG),
    "evict: untagged": lambda c: c.evict(None),
    "cull": lambda c: c.cull(),
    "reset": lambda c: (c.reset("size_limit", 10), c.cull()),
    "clear": lambda c: c.clear(),
    "check: fix": lambda c: c.check(fix=True),
    "stats: reset": lambda c: c.stats(reset=True),
    "import_from": lambda c: c.import_from(io.BytesIO(exported(c))),
    "create_tag_index": lambda c: c.create_tag_index(),
    "drop_tag_index": lambda c: c.drop_tag_index(),
}
"""Methods of caches that change entries, or how they are kept."""


def close(found: Any) -> Any:
    """Read and close what may be an open file."""
    if hasattr(found, "read"):
        with found:
            return found.read()
    return found


SHARDED: dict[str, Case] = {
    "cache": lambda c: c.cache("part").get(KEY),
    "deque": lambda c: list(c.deque("part")),
    "index": lambda c: dict(c.index("part")),
    "__getattr__": lambda c: c.sqlite_nonsense,
}
"""What a `FanoutCache` has besides."""


REMOTE: dict[str, Case] = {
    "cache": lambda c: c.cache("part").get(KEY),
    "get: other types": lambda c: [c.get(KEY, read=True), c.peekitem(), c.pull()],
    "export: there": moved,
}
"""What a `RemoteCache` has besides."""


def mutated(name: str, *arguments: Any) -> Case:
    """Return the case of an operator that changes its left side."""
    return lambda thing: getattr(thing, name)(*arguments)


def fresh(make: Case) -> Case:
    """Return the case of a method that makes a cache of its own, which is then closed."""
    return lambda thing: closing(make(thing), lambda it: list(it))


DEQUE: dict[str, Case] = {
    "__getitem__": lambda d: d[0],
    "__getitem__: inner": lambda d: d[1],
    "__setitem__": lambda d: d.__setitem__(1, 5),
    "__delitem__": lambda d: d.__delitem__(0),
    "__iter__": iter,
    "__reversed__": reversed,
    "__contains__": lambda d: "x" in d,
    "__len__": len,
    "__repr__": repr,
    "__enter__": lambda d: d.__enter__(),
    "__exit__": lambda d: d.__exit__(None, None, None),
    "__eq__": lambda d: d == [1, 2],
    "__lt__": lambda d: d < [1],
    "__le__": lambda d: d <= [1],
    "__gt__": lambda d: d > [1],
    "__ge__": lambda d: d >= [1],
    "__add__": fresh(lambda d: d + d),
    "__mul__": fresh(lambda d: d * 2),
    "__rmul__": fresh(lambda d: 2 * d),
    "__iadd__": mutated("__iadd__", [1]),
    "__imul__": mutated("__imul__", 2),
    "__getstate__": lambda d: d.__getstate__(),
    "__setstate__": lambda d: closing(restored(d), lambda it: it.peekleft()),
    "__reduce__": lambda d: d.__reduce__(),
    "append": lambda d: d.append(1),
    "appendleft": lambda d: d.appendleft(1),
    "extend": lambda d: d.extend([1, 2]),
    "extend: itself": lambda d: d.extend(d),
    "extendleft": lambda d: d.extendleft([1, 2]),
    "pop": lambda d: d.pop(),
    "popleft": lambda d: d.popleft(),
    "peek": lambda d: d.peek(),
    "peekleft": lambda d: d.peekleft(),
    "insert": lambda d: d.insert(1, 5),
    "remove": lambda d: d.remove("x"),
    "count": lambda d: d.count("x"),
    "index": lambda d: d.index("x"),
    "backup": backed_up,
    "export": exported,
    "import_from": lambda d: [
        archive := io.BytesIO(exported(d)),
        d.clear(),
        d.import_from(archive),
        list(d),
    ],
    "rotate": lambda d: d.rotate(),
    "rotate: back": lambda d: d.rotate(-1),
    "reverse": lambda d: d.reverse(),
    "copy": lambda d: list(d.copy()),
    "fromcache": lambda d: list(Deque.fromcache(d.cache, maxlen=1)),
    "transact": lambda d: d.transact().__class__,
    "clear": lambda d: d.clear(),
}


def restored(thing: Any) -> Any:
    """Return another object made by `__setstate__`."""
    other = type(thing).__new__(type(thing))
    other.__setstate__(thing.__getstate__())
    return other


INDEX: dict[str, Case] = {
    "__getitem__": lambda i: i[KEY],
    "get": lambda i: i.get(KEY),
    "__contains__": lambda i: KEY in i,
    "__setitem__": lambda i: i.__setitem__(KEY, 1),
    "__delitem__": lambda i: i.__delitem__(KEY),
    "__iter__": iter,
    "__reversed__": reversed,
    "__len__": len,
    "__repr__": repr,
    "__enter__": lambda i: i.__enter__(),
    "__exit__": lambda i: i.__exit__(None, None, None),
    "__eq__": lambda i: i == {KEY: 1},
    "__eq__: itself": lambda i: i == i,  # noqa: PLR0124 - it reads every entry
    "__or__": fresh(lambda i: i | {}),
    "__ror__": fresh(lambda i: {} | i),
    "__ior__": mutated("__ior__", {"n": 1}),
    "__getstate__": lambda i: i.__getstate__(),
    "__setstate__": lambda i: closing(restored(i), lambda it: it.get(KEY)),
    "__reduce__": lambda i: i.__reduce__(),
    "keys": lambda i: list(i.keys()),
    "values": lambda i: list(i.values()),
    "values: reversed": lambda i: list(reversed(i.values())),
    "items": lambda i: list(i.items()),
    "items: contains": lambda i: (KEY, 1) in i.items(),
    "items: reversed": lambda i: list(reversed(i.items())),
    "setdefault": lambda i: i.setdefault(KEY, 1),
    "pop": lambda i: i.pop(KEY),
    "popitem": lambda i: i.popitem(),
    "popitem: first": lambda i: i.popitem(last=False),
    "peekitem": lambda i: i.peekitem(),
    "peekitem: first": lambda i: i.peekitem(last=False),
    "push": lambda i: i.push(1, PREFIX),
    "pull": lambda i: i.pull(),
    "pull: prefix": lambda i: i.pull(PREFIX, side="back"),
    "update": lambda i: i.update({KEY: 1}),
    "memoize": lambda i: memoized(i)(1),
    "backup": backed_up,
    "export": exported,
    "import_from": lambda i: i.import_from(io.BytesIO(exported(i))),
    "fromcache": lambda i: dict(Index.fromcache(i.cache)),
    "fromkeys": lambda i: closing(type(i).fromkeys([1]), list),
    "transact": lambda i: i.transact().__class__,
    "clear": lambda i: i.clear(),
}

RECIPES: dict[str, Case] = {
    "Lock": lambda c: use(diskcache.Lock(c, KEY, expire=1)),
    "RLock": lambda c: use(diskcache.RLock(c, KEY, expire=1)),
    "Semaphore": lambda c: use(diskcache.Semaphore(c, KEY, 2, expire=1)),
    "BoundedSemaphore": lambda c: use(diskcache.BoundedSemaphore(c, KEY, expire=1)),
    "Averager": lambda c: (diskcache.Averager(c, KEY).get(), diskcache.Averager(c, KEY).pop()),
    "Averager: add": lambda c: diskcache.Averager(c, KEY).add(1),
    "throttle": lambda c: diskcache.throttle(c, 100, 1, name=KEY)(int)(),
    "barrier": lambda c: diskcache.barrier(c, diskcache.Lock, name="fresh")(int)(),
    "memoize_stampede": lambda c: diskcache.memoize_stampede(c, 60, name="f")(str)(1),
}


def use(lock: Any) -> Any:
    """Take a lock if it is free, and give it back."""
    lock.locked()
    taken = lock.acquire(blocking=False)
    if taken:
        lock.release()
    return taken


def command(*arguments: str) -> Case:
    """Return the case of a command of the command line, which is given the directory."""
    name, *rest = arguments
    return lambda directory: main([name, str(directory), *rest])


def copying(name: str, *more: str) -> Case:
    """Return the case of a command that makes a copy, which is read then."""

    def copied(directory: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            target = os.path.join(folder, "copy")
            made = main([name, str(directory), target, *more])
            if name == "export":
                made = main(["import", target, os.path.join(folder, "cache")])
                target = os.path.join(folder, "cache")
            return made, main(["get", target, KEY])

    return copied


def transferred(directory: Any) -> object:
    """Copy entries to another directory."""
    with tempfile.TemporaryDirectory() as folder:
        return main(["copy", str(directory), os.path.join(folder, "copy")])


def imported(directory: Any) -> Any:
    """Write an archive, and read it into where it came from."""
    with tempfile.TemporaryDirectory() as folder:
        archive = os.path.join(folder, "archive")
        return main(["export", str(directory), archive]), main(["import", archive, str(directory)])


CLI: dict[str, Case] = {
    "info": command("info"),
    "info: json": command("info", "--json"),
    "ls": command("ls"),
    "ls: json": command("ls", "--json", "--prefix", KEY),
    "get": command("get", KEY),
    "get: raw": command("get", KEY, "--raw"),
    "get: json": command("get", KEY, "--json"),
    "get: literal": command("get", repr(MEMO), "--type", "literal"),
    "backup": copying("backup"),
    "export": copying("export"),
    "export: no pickles": copying("export", "--no-pickles"),
    "import": imported,
    "copy": transferred,
    "migrate: dry run": command("migrate", "--dry-run"),
    "migrate": command("migrate"),
    "check": command("check"),
    "check: fix": command("check", "--fix"),
    "set": command("set", KEY, "value"),
    "delete": command("delete", KEY, "missing"),
    "evict": command("evict", TAG),
    "expire": command("expire"),
    "cull": command("cull"),
    "clear": command("clear", "--yes"),
}

DJANGO: dict[str, Case] = {
    "get": lambda c: c.get(KEY),
    "get: all": lambda c: c.get(KEY, expire_time=True, tag=True),
    "get: file": lambda c: close(c.get(KEY, read=True)),
    "get: from memory": lambda c: [c.get(KEY) for _ in range(4)],
    "read": lambda c: close(c.read(KEY)),
    "get_many": lambda c: c.get_many([KEY, "missing"]),
    "has_key": lambda c: c.has_key(KEY),
    "__contains__": lambda c: KEY in c,
    "__getattr__": lambda c: c.nonsense,
    "__repr__": repr,
    "__reduce__": lambda c: pickle.loads(pickle.dumps(c)).get(KEY),
    "memoize": lambda c: memoized(c)(1),
    "get_backend_timeout": lambda c: c.get_backend_timeout(),
    "make_key": lambda c: c.make_key(KEY),
    "make_and_validate_key": lambda c: c.make_and_validate_key(KEY),
    "validate_key": lambda c: c.validate_key(KEY),
    "info": lambda c: c.info(),
    "stats": lambda c: c.stats(),
    "cache": lambda c: c.cache("part").get(KEY),
    "deque": lambda c: list(c.deque("part")),
    "index": lambda c: dict(c.index("part")),
    "create_tag_index": lambda c: c.create_tag_index(),
    "drop_tag_index": lambda c: c.drop_tag_index(),
    "touch": lambda c: c.touch(KEY, 5),
    "add": lambda c: c.add(KEY, 1),
    "get_or_set": lambda c: c.get_or_set(KEY, 1),
    "on": listened,
    "bypass": bypassed,
    "incr": lambda c: c.incr(KEY),
    "decr": lambda c: c.decr(KEY, default=None),
    "incr_version": lambda c: c.incr_version(KEY),
    "decr_version": lambda c: c.decr_version(KEY),
    "expire": lambda c: c.expire(),
    "cull": lambda c: c.cull(),
    "pop": lambda c: c.pop(KEY, expire_time=True, tag=True),
    "set": lambda c: c.set(KEY, 1, 10, tag="t"),
    "set_many": lambda c: c.set_many({KEY: 1, "new": bytes(40_000)}),
    "delete": lambda c: c.delete(KEY),
    "delete_many": lambda c: c.delete_many([KEY, "missing"]),
    "evict": lambda c: c.evict(TAG),
    "close": lambda c: c.close(),
    "clear": lambda c: c.clear(),
}
"""Methods of `DjangoCache`; the asynchronous ones are taken through `OffLoop`."""


class OffLoop:
    """A cache object whose methods run their asynchronous counterparts."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        counterpart = getattr(self._cache, f"a{name}", None)
        if counterpart is None:
            return getattr(self._cache, name)

        def method(*args: Any, **kwargs: Any) -> Any:
            async def run() -> Any:
                return await counterpart(*args, **kwargs)

            return asyncio.run(run())

        return method


NO_CASE = {"__init__", "demo", "bench"}
"""Making an object is the beginning of every case; the others make their own directories."""


def methods(kind: type, *packages: str) -> set[str]:
    """Return the public methods of a class, those with two underscores included.

    Those that it has of classes in other *packages* are included too.
    """
    return {
        name
        for owner in kind.__mro__
        if owner.__module__.startswith(("diskcache", *packages))
        for name, member in vars(owner).items()
        if inspect.isfunction(member) or isinstance(member, (classmethod, staticmethod))
        if not name.startswith("_") or name.endswith("__")
    }


def commands() -> set[str]:
    """Return the commands of the command line."""
    actions = build_parser()._subparsers
    assert actions is not None
    return set(actions._group_actions[0].choices or ())


def covered(*tables: dict[str, Case]) -> set[str]:
    """Return what the cases of some tables are about."""
    return {name.partition(":")[0] for table in tables for name in table}


CACHES: dict[type, set[str]] = {
    Cache: covered(READING, CHANGING),
    FanoutCache: covered(READING, CHANGING, SHARDED),
    RemoteCache: covered(READING, CHANGING, REMOTE),
    Deque: covered(DEQUE),
    Index: covered(INDEX),
}
