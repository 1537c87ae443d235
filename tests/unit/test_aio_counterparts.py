"""What a cache can do, its counterpart for event loops can do, with the same parameters."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import diskcache
from diskcache import aio
from diskcache.aio.methods import Mirror

KINDS = {
    diskcache.Cache: aio.AsyncCache,
    diskcache.FanoutCache: aio.AsyncFanoutCache,
    diskcache.RemoteCache: aio.AsyncRemoteCache,
    diskcache.Deque: aio.AsyncDeque,
    diskcache.Index: aio.AsyncIndex,
}
LOCKS = {
    diskcache.Lock: aio.AsyncLock,
    diskcache.RLock: aio.AsyncRLock,
    diskcache.BoundedSemaphore: aio.AsyncBoundedSemaphore,
    diskcache.Semaphore: aio.AsyncSemaphore,
}
each_kind = pytest.mark.parametrize("kind", [*KINDS, *LOCKS], ids=lambda kind: kind.__name__)

SPECIAL = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "contains": "__contains__",
    "delitem": "__delitem__",
    "getitem": "__getitem__",
    "len": "__len__",
    "reversed": "__reversed__",
    "setitem": "__setitem__",
}
"""Methods for what a statement without `await` does."""

_STALE = "what was last read: `len`, `volume` and `stats` read it"
_NEW = "makes an object by reading others: `sync` has it"
_COMPARING = "compares item by item: compare lists, or `sync`"

ABSENT = {
    "close": "`aclose`",
    "count Cache": _STALE,
    "count RemoteCache": _STALE,
    "hits": _STALE,
    "misses": _STALE,
    "size": _STALE,
    "cache Deque": "`sync.cache`",
    "cache Index": "`sync.cache`",
    "copy": "`AsyncDeque(deque.sync.copy())`",
    "fromkeys": _NEW,
    "__add__": _NEW,
    "__mul__": _NEW,
    "__rmul__": _NEW,
    "__or__": _NEW,
    "__ror__": _NEW,
    "__iadd__": "`extend`",
    "__imul__": "`extend`",
    "__ior__": "`update`",
    "__eq__": _COMPARING,
    "__lt__": _COMPARING,
    "__le__": _COMPARING,
    "__gt__": _COMPARING,
    "__ge__": _COMPARING,
    "__getattr__": "settings of a disk, and pragmas: `sync` has them",
}
"""What is deliberately not there, and what there is instead. A name may go with one class."""

PLAIN = {
    "__init__", "__new__", "__repr__", "__hash__", "__reduce__", "__getstate__", "__setstate__",
    "__class_getitem__", "__init_subclass__", "__subclasshook__", "__dict__", "__weakref__",
    "__module__", "__doc__", "__annotations__", "__abstractmethods__", "__slots__",
    "__orig_bases__", "__parameters__",
}  # fmt: skip
"""What every object has."""


def public(kind):
    """Return the names of what a class offers, beyond what every object has."""
    own = {name for base in kind.__mro__ if base is not object for name in vars(base)}
    return {
        name
        for name in own - PLAIN
        if not name.startswith("_") or (name.startswith("__") and name.endswith("__"))
    }


def counterpart_of(name):
    return {special: mine for mine, special in SPECIAL.items()}.get(name, name)


@each_kind
def test_every_public_name_has_a_counterpart_or_is_deliberately_absent(kind):
    awaited = {**KINDS, **LOCKS}[kind]
    absent = {
        name.partition(" ")[0] for name in ABSENT if name.partition(" ")[2] in ("", kind.__name__)
    }
    missing = {
        name
        for name in public(kind)
        if not hasattr(awaited, counterpart_of(name)) and name not in absent
    }

    assert missing == set()


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_absent_is_there_in_an_ordinary_cache(name):
    bare, _, only = name.partition(" ")

    assert any(hasattr(kind, bare) for kind in KINDS if only in ("", kind.__name__))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_counterparts_take_what_the_methods_take(kind):
    awaited = KINDS[kind]
    different = {
        name
        for name in public(kind)
        if inspect.isfunction(getattr(kind, name, None))
        and inspect.isfunction(getattr(awaited, counterpart_of(name), None))
        and name not in ("__enter__", "__exit__")
        and list(inspect.signature(getattr(kind, name)).parameters)
        != list(inspect.signature(getattr(awaited, counterpart_of(name))).parameters)
    }

    assert different == set()


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_what_may_wait_is_awaited(kind):
    at_once = {
        "cache", "deque", "index", "memoize", "sync", "transact", "fromcache", "__getitem__", "on",
        "bypass",
    }  # fmt: skip
    found = {
        name
        for name in public(kind) - at_once
        if not isinstance(inspect.getattr_static(kind, name), Mirror)
        and not inspect.iscoroutinefunction(getattr(kind, name))
        and not inspect.isasyncgenfunction(getattr(kind, name))
    }

    # A queue searches by `index`; a `FanoutCache` makes an index by it.
    assert found == set()
    assert kind is not aio.AsyncDeque or inspect.iscoroutinefunction(kind.index)


def test_patterns_of_types_are_those_of_the_cache():
    source = Path(diskcache.__file__).parent
    shapes = [
        next(
            node
            for node in ast.parse(
                (source / path).read_text(encoding="utf-8").replace("async def", "def")
            ).body
            if isinstance(node, ast.ClassDef) and node.name in {"Shapes", "AsyncShapes"}
        )
        for path in ("cache/shapes.py", "aio/shapes.py")
    ]
    first, second = ([ast.unparse(node) for node in shape.body[1:]] for shape in shapes)

    assert first == second


@pytest.mark.parametrize("name", ["size_limit", "directory", "timeout"])
def test_attribute_cannot_be_assigned(name, tmp_path):
    cache = aio.AsyncCache(tmp_path)

    with pytest.raises(AttributeError, match="reset"):
        setattr(cache, name, 1)
    cache.sync.close()
