"""Mutated directories and bytes: no crash, no hang, no execution, no flood of memory.

`make fuzz` runs these for ten minutes, `make fuzz SECONDS=3600` for an hour, and finds others each
time. Among all tests they are the same ones in each run, so that a run fails for what was changed.
"""

from __future__ import annotations

import os
import shutil
import time
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.cache import LRUCache
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from diskcache.codecs import plain
from tests.security import hostile, mutations
from tests.security.fuzzing import Watched, rounds

IS_LONG = "DISKCACHE_FUZZ_SECONDS" in os.environ
SECONDS = float(os.environ.get("DISKCACHE_FUZZ_SECONDS", "15"))
"""For all of it: five sixths for directories, the rest for bytes."""
START = int(os.environ.get("DISKCACHE_FUZZ_SEED", time.time_ns() % 10**9 if IS_LONG else 0))
ROUNDS = None if IS_LONG else 10
"""As many at most, however fast the machine is."""

fuzzed = settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.fixture(autouse=True)
def same_constants(monkeypatch):
    """Hypothesis tries constants of what is imported, which depends on the tests run before."""
    if not IS_LONG:
        monkeypatch.setattr(providers, "_get_local_constants", Constants)
        monkeypatch.setattr(providers, "CONSTANTS_CACHE", LRUCache(1024))


@pytest.fixture
def watched():
    process = Watched()
    yield process
    process.close()


@pytest.mark.timeout(SECONDS * 3 + 120)
def test_mutated_directory_does_no_harm(tmp_path, watched):
    template = mutations.make_template(tmp_path / "template")
    place = tmp_path / "place"

    def try_once(changes):
        shutil.rmtree(place, ignore_errors=True)
        (place / "outside").mkdir(parents=True)
        (place / "outside" / "file").write_bytes(b"not yours")
        before = hostile.snapshot(place / "outside")
        shutil.copytree(template, place / "cache")
        for change in changes:
            change.apply(place / "cache")

        assert watched.use(place / "cache", len(changes)) == []
        assert hostile.snapshot(place / "outside") == before

    def one_round(number):
        @seed(START + number)
        @fuzzed
        @given(st.lists(mutations.mutations(), min_size=1, max_size=6))
        def attack(changes):
            try_once(changes)

        attack()

    for number in islice(rounds(SECONDS * 5 / 6), ROUNDS):
        one_round(number)


def encoded():
    """Return bytes that are nearly what the codecs write."""
    examples = [
        plain.dumps({"a": (1, None, {2.5}), 2: [1.5] * 20, (1,): b"x"}),
        plain.dumps([(i, f"row {i}", i / 3) for i in range(20)]),
        b"\x01" + bytes(20) + plain.dumps([1]),
        *hostile.payloads(Path("executed")).values(),
    ]
    near = st.builds(
        lambda data, at, patch: (
            data[: int(at * len(data))] + patch + data[int(at * len(data)) :][len(patch) :]
        ),
        st.sampled_from(examples),
        st.floats(0, 1, allow_nan=False),
        st.binary(max_size=6),
    )
    nested = st.builds(
        lambda start, count, end: start * count + end,
        st.sampled_from(
            [b"\x91", b"\x81", b"\x92", b"\xc7\x05\x10", b"\xdd\xff\xff\xff\xff", b"["]
        ),
        st.integers(1, 3000),
        st.binary(max_size=4),
    )
    return st.one_of(st.binary(max_size=200), near, near, nested)


@pytest.mark.timeout(SECONDS * 3 + 120)
def test_mutated_bytes_do_no_harm(watched):
    def one_round(number):
        @seed(START + number)
        @settings(fuzzed, max_examples=200)
        @given(encoded())
        def attack(data):
            assert watched.decode(data) == []

        attack()

    for number in islice(rounds(SECONDS / 6), ROUNDS):
        one_round(number)

    assert not Path("executed").exists()
