"""What type checkers know about registration and copies. Checked, never run."""

from __future__ import annotations

import enum
import io
from dataclasses import dataclass
from pathlib import Path
from typing import assert_type

from diskcache import (
    Archive,
    Cache,
    Copied,
    Deque,
    ExportReport,
    FanoutCache,
    ImportReport,
    Index,
    register,
    unregister,
)


@register
class Colour(enum.Enum):
    RED = 1


@register
@dataclass
class Point:
    x: int


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


def registering() -> None:
    assert_type(Colour(1), Colour)
    assert_type(Point(1).x, int)
    assert_type(register(Money, lambda money: money.cents, Money, name="money"), type[Money])
    assert_type(register(Money, lambda money: money.cents, lambda state: Money(state)), type[Money])
    register(Money, lambda money: money.euros, Money)  # type: ignore[attr-defined]
    register(Money, name=5)  # type: ignore[arg-type]
    unregister(Money)


def copying(cache: Cache, fanout: FanoutCache, deque: Deque, index: Index) -> None:
    def show(done: int, total: int) -> None: ...

    for each in (cache, fanout, deque, index):
        assert_type(each.backup(Path("copy"), progress=show), Copied)
        assert_type(each.export("file", pickles=False, progress=show), ExportReport)
        assert_type(each.import_from(io.BytesIO()), ImportReport)
    with Archive("file") as archive:
        assert_type(cache.import_from(archive), ImportReport)
        assert_type(archive.shards, int)


def compressing() -> None:
    Cache(compress="zstd", compress_min=100, compress_level=3)
    FanoutCache(compress="zlib")
    Cache(compress=None)
    Cache(compress="lz4")  # type: ignore[arg-type]
