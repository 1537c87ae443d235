"""What the processes of these tests do; importable, so that a spawned one finds it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from diskcache import Cache, FanoutCache

LARGE = 40_000


def count(directory: Path, steps: int) -> None:
    with Cache(directory) as cache:
        for _ in range(steps):
            cache.incr("total")
            with cache.transact():
                cache["pairs"] = cache.get("pairs", 0) + 1


def claim(directory: Path, name: int, keys: int) -> list[int]:
    with Cache(directory) as cache:
        return [key for key in range(keys) if cache.add(key, name)]


def hand_over(directory: Path, name: int, items: int) -> list[Any]:
    """Push items of one's own and pull anybody's, until as many are pulled as were pushed."""
    found: list[Any] = []
    with Cache(directory) as cache:
        for number in range(items):
            cache.push((name, number), prefix="q", side="back" if number % 2 else "front")
            cache.push(b"x" * LARGE, prefix="large")
            cache.pull(prefix="large")
        while len(found) < items:
            key, value = cache.pull(prefix="q")
            if key is not None:
                found.append(value)
    return found


def overwrite_or_read(directory: Path, is_writer: bool, seconds: float) -> int:
    """Overwrite a large value, or read it, for a while, and some times; return how often."""
    deadline = time.monotonic() + seconds
    rounds = 0
    with Cache(directory) as cache:
        while time.monotonic() < deadline or rounds <= 10:
            rounds += 1
            if is_writer:
                cache["k"] = bytes([rounds % 256]) * (LARGE + rounds)
                continue
            value = cache["k"]
            assert value == value[:1] * len(value)
            assert len(value) >= LARGE
            with cache.read("k") as file:
                assert len(file.read()) >= LARGE
    return rounds


def store_small(directory: Path, name: int, entries: int) -> None:
    with Cache(directory) as cache:
        for number in range(entries):
            assert cache.set((name, number), number) is True


def open_fresh(directory: Path, name: int) -> bytes:
    """Open a directory that others make at the same time; return the name of the cache."""
    with Cache(directory) as cache:
        cache[name] = name
        assert cache[name] == name
        return bytes.fromhex(cache.info().cache_id)


def use_given(cache: Cache, name: int) -> dict[int, Any]:
    """Use an object that was pickled, or inherited."""
    for _ in range(20):
        cache.incr("total")
    cache[name] = b"x" * LARGE
    return {key: len(cache[key]) for key in (name, "parent")}


def store_fanned_out(directory: Path, name: int, small: int, large: int) -> int:
    """Store entries in a `FanoutCache`; return how many writes were refused."""
    with FanoutCache(directory) as cache:
        for number in range(small):
            assert cache.set((name, number), number) is True
        for number in range(large):
            assert cache.set((name, "large", number), bytes([number]) * LARGE) is True
        return cache.info().refused


def store_hastily(directory: Path, name: int, entries: int) -> tuple[list[int], int]:
    """Store entries without waiting; return which were said to be stored, and how many refused."""
    with FanoutCache(directory, timeout=0) as cache:
        stored = [
            number
            for number in range(entries)
            if cache.set((name, number), bytes([number % 256]) * (LARGE if number % 10 == 0 else 5))
        ]
        return stored, cache.info().refused


def churn(directory: Path, name: int, seconds: float) -> int:
    """Write pairs that belong together until time is up; return how many."""
    until = time.monotonic() + seconds
    number = 0
    with Cache(directory) as cache:
        while time.monotonic() < until:
            number += 1
            with cache.transact(retry=True):
                cache[name, "large"] = number.to_bytes(4, "big") * (LARGE // 4 + name)
                cache[name, "small"] = number
            if number % 5 == 0:
                cache.delete((name, "gone"), retry=True)
            elif number % 5 == 1:
                cache.set((name, "gone"), b"g" * LARGE, retry=True)
    return number
