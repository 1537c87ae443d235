"""A damaged directory of version 5 is upgraded, or refused with an error of this library."""

from __future__ import annotations

import contextlib
import datetime
import random
import shutil
import warnings

import pytest

from diskcache import Cache, DiskCacheError
from tests.support.leaks import open_below

ENTRIES = [
    *(((n, "k") if n % 2 else f"t{n}", [n, {"a": None}], None, "t") for n in range(40)),
    *((f"day {n}", datetime.date(2020, 1, 1 + n), 1000) for n in range(20)),
    ("large", "x" * 50_000),
]


@pytest.mark.parametrize("seed", range(3))
def test_flipped_and_missing_bytes_raise_no_foreign_error(fill, directory, tmp_path, seed):
    fill(ENTRIES, tag_index=1)
    whole = (directory / "cache.db").read_bytes()
    dice = random.Random(seed)
    copy = tmp_path / "copy"
    for _ in range(40):
        shutil.copytree(directory, copy)
        data = bytearray(whole)
        for _ in range(dice.choice([1, 2, 8, 40])):
            data[dice.randrange(len(data))] = dice.randrange(256)
        if dice.random() < 0.2:
            del data[dice.randrange(len(data)) :]
        (copy / "cache.db").write_bytes(data)
        with contextlib.suppress(DiskCacheError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Cache(copy).close()

        assert open_below(copy) == []
        shutil.rmtree(copy)
