"""Whatever plain data version 5.6.3 stores, it comes back equal, and of the same type."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diskcache import Cache, FanoutCache

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.binary(max_size=8)
)  # fmt: skip
KEYS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)
VALUES = st.recursive(
    SCALARS | st.sets(st.integers()) | st.text(min_size=30, max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
    | st.tuples(inner, inner),
    max_leaves=12,
)  # fmt: skip

FILL = """
cache = kind(directory, **shards, disk_min_file_size=smallest, disk_pickle_protocol=protocol)
for key, value in entries: cache[key] = value
cache.close(); del cache
"""


def shape(value):
    """Return what tells values apart that are equal, such as 1 and True."""
    if isinstance(value, dict):
        return dict, [(shape(key), shape(inner)) for key, inner in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [shape(inner) for inner in value]
    if isinstance(value, set):
        return set, sorted(map(repr, value))
    return type(value), repr(value)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    entries=st.lists(st.tuples(KEYS, VALUES), max_size=12),
    smallest=st.sampled_from([0, 30, 2**15]),
    protocol=st.sampled_from([4, 5]),
    shards=st.booleans(),
)
def test_plain_contents_come_back(old, entries, smallest, protocol, shards):
    where = Path(tempfile.mkdtemp())
    old.run(
        FILL.replace("kind", "diskcache.FanoutCache" if shards else "diskcache.Cache"),
        directory=str(where), entries=entries, smallest=smallest, protocol=protocol,
        shards={"shards": 2} if shards else {},
    )  # fmt: skip
    with FanoutCache(where) if shards else Cache(where) as cache:
        # Equal keys of one type are one, as are an int and a float that are equal.
        model = Cache(where / "model")
        for key, value in entries:
            model[key] = value
        for key in model:
            assert shape(cache[key]) == shape(model[key])
        assert len(cache) == len(model)
        assert [str(finding.message) for finding in cache.check()] == []
        if not shards:
            unique = {repr(key) for key in model}
            assert {repr(key) for key in cache} == unique
        model.close()
    shutil.rmtree(where)
