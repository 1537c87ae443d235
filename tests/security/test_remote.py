"""Whoever can write to a server cannot run code in its clients, nor hang them."""

from __future__ import annotations

import pickle
import random

import pytest

from diskcache import Deque, Index, LoaderError, connect
from diskcache.codecs import plain
from diskcache.engines.redis import keyspace
from tests.security import hostile, paths
from tests.support.servers import need_server, shared_server

pytestmark = pytest.mark.usefixtures("quiet")

FORMS = {
    "protocol 5": 4,
    "protocol 2": 4,
    "with an empty signature": 4,
    "with a signature of ones": 4,
    "of a key": 4,
    "compressed": 20,
    **{f"mode {mode}": mode for mode in (-1, 0, 5, 6, 7, 9, 15, 17, 22, 25, 37, 68, 2**62)},
}
"""By name of the payload, or without one of that name: the mode of the entry."""

OPTIONS = [{}, {"secret": hostile.SECRET}, {"secret": hostile.SECRET, "strict": True}]


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens a cache of this test; its keys are removed afterwards."""
    need_server()
    url = shared_server().url(f"hostile-{tmp_path.name}")
    made = []

    def opened(**options):
        # Objects that cases make of it and leave behind would go on listening to the server.
        made.append(connect(url, memory_limit=0, **options))
        return made[-1]

    yield opened
    for cache in made:
        cache.close()
    client = shared_server().client()
    for key in client.keys(f"*hostile-{tmp_path.name}*"):
        client.delete(key)


def plant(cache, marker, form):
    """Store a payload under all keys that cases look for, as the server would have it."""
    payloads = hostile.payloads(marker)
    data = payloads.get(form) or payloads["protocol 5"]
    for key in paths.PLACES.values():
        for prefix in (b"", b"\x01\x02"):
            payload = (FORMS[form] % 2**63, prefix + data, None)
            cache._engine.put(key, payload, None, paths.TAG, cache._now(), None)


def run(cases, thing):
    for case in cases.values():
        hostile.attempt(lambda case=case: case(thing))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_value_on_a_server_is_not_loaded(opened, marker, form, options):
    cache = opened(**options)
    plant(cache, marker, form)
    run(paths.READING | paths.REMOTE, cache)
    for name, case in paths.CHANGING.items():
        if name in ("clear", "evict"):
            plant(cache, marker, form)
        hostile.attempt(lambda case=case: case(cache))

    assert not marker.exists()


def test_value_on_a_server_is_not_loaded_by_structures_and_recipes(opened, marker):
    cache = opened(secret=hostile.SECRET)
    plant(cache, marker, "with a signature of ones")
    run(paths.RECIPES, cache)
    for kind, cases in ((Deque, paths.DEQUE), (Index, paths.INDEX)):
        plant(cache, marker, "with a signature of ones")
        # A state in the form of version 5 is that of a directory.
        cases = {name: case for name, case in cases.items() if name != "__setstate__"}
        run(cases, kind.fromcache(cache))

    assert not marker.exists()


def test_payload_that_is_trusted_leaves_its_mark(opened, marker):
    """The other tests can fail."""
    cache = opened(pickle="unsafe")
    plant(cache, marker, "protocol 5")
    cache.get(paths.KEY)
    hostile.attempt(lambda: pickle.loads(hostile.payloads(marker)["protocol 5"]))

    assert marker.exists()


NOISE = random.Random(1).randbytes(500)
RECORDS = {
    "nothing": b"",
    "noise": NOISE,
    "a class": plain.dumps(("failed", "os.system", ("true",), "t")),
    "a function": plain.dumps(("failed", "builtins.exec", ("1",), "t")),
    "another shape": plain.dumps(("failed", 1, 2, 3)),
    "waits": plain.dumps(("waits", ("/etc", "../passwd"), 5)),
    "a list": plain.dumps(["waits"]),
}


@pytest.mark.parametrize("record", RECORDS)
def test_lease_that_a_stranger_wrote_does_no_harm(opened, record):
    cache = opened()
    place, share = cache._flight_place(("k", 1))
    client, key = shared_server().client(), share(place).key
    client.set(key, b"f" * 32 + RECORDS[record], px=200)
    client.set(key + b":" + b"f" * 32, RECORDS[record])
    try:
        assert cache.get_or_set("k", lambda: 1) == 1
    except LoaderError:
        assert record.startswith("a ")
    client.delete(key, key + b":" + b"f" * 32)

    assert cache.get_or_set("k", lambda: 1) == 1


@pytest.mark.parametrize(
    "data", [b"", b"1", b"1" * 45, b"2" * 100, NOISE[:300], b"1b" + b"\xff" * 60]
)
def test_entry_that_is_none_is_missing(opened, data):
    cache = opened()
    cache["k"] = 1
    shard, ident = cache._engine._place(("k", 1))
    shared_server().client().set(shard.entry + ident, data)

    assert cache.get("k", "missing") == "missing"
    assert keyspace.read_entry(data) is None or "k" not in cache
    cache["k"] = 2
    assert cache["k"] == 2
