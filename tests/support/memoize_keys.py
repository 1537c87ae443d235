"""A program that prints the keys of some memoized calls; it needs nothing but the library."""

from __future__ import annotations

import datetime
import decimal
import fractions
import json
import shutil
import uuid

from diskcache import Cache
from diskcache.codecs.keys import shard_hash

CALLS = {
    "nothing": ((), {}),
    "numbers": ((0, -1, 2**63 - 1, 2**70, 1.5, -0.0, float("inf"), 2 + 3j), {}),
    "one": ((1,), {}),
    "one-as-float": ((1.0,), {}),
    "true": ((True,), {}),
    "text": (("", "a", "ü", "line\r\n", "\0"), {}),
    "bytes": ((b"", b"a", bytearray(b"a")), {}),
    "none": ((None, False), {}),
    "containers": (((1, (2,)), [1, [2]], {"b": 1, "a": [2]}, {3, 1, 2}, frozenset("xyz")), {}),
    "keywords": ((1,), {"z": None, "a": {"k": (1,)}}),
    "moments": (
        (
            datetime.date(2024, 2, 29),
            datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=datetime.UTC),
            datetime.time(1, 2),
            datetime.timedelta(1, 2, 3),
        ),
        {},
    ),
    "exact": ((decimal.Decimal("1.10"), fractions.Fraction(1, 3), uuid.UUID(int=5), range(3)), {}),
}


def function(*args, **kwargs):
    return args, kwargs


function.__module__, function.__qualname__ = "module", "Class.function"


def made(typed):
    """Return the bytes of every key, and which of eight shards it is in."""
    with Cache() as cache:
        try:
            decorated = cache.memoize(typed=typed)(function)
            encoded = {
                name: cache._encode_key(decorated.__cache_key__(*args, **kwargs))
                for name, (args, kwargs) in CALLS.items()
            }
        finally:
            shutil.rmtree(cache.directory, ignore_errors=True)
    return {
        name: f"{key.hex()} {raw} {shard_hash(key, raw) % 8}"
        for name, (key, raw) in encoded.items()
    }


if __name__ == "__main__":
    print(json.dumps({"plain": made(False), "typed": made(True)}, indent=1))
