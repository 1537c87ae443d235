"""Threads that start together, and what is under way in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from diskcache import flight
from diskcache.computing import looping


def in_threads(*functions: Callable[[], Any], limit: float = 60) -> list[Any]:
    """Call functions in threads that start together; return what they returned, in order."""
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], Any]) -> Any:
        start.wait(limit)
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(run, function) for function in functions]
        return [future.result(limit) for future in futures]


def expected() -> int:
    """Return how many wait for what somebody computes."""
    return sum(len(one._futures) for one in list(flight._flights.values()))


def until_expected(count: int = 1, limit: float = 60) -> None:
    """Wait until so many wait for what somebody computes."""
    deadline = time.monotonic() + limit
    while expected() < count:
        assert time.monotonic() < deadline, "nobody waits"
        threading.Event().wait(0.001)


async def until_alone(condition=lambda: True) -> None:
    """Let other tasks run until there are none, and a condition is true."""
    while len(asyncio.all_tasks()) > 1 or not condition():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.001)


async def until_true(condition) -> None:
    """Let other tasks run until a condition is true."""
    while not condition():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)


def _is_under_way() -> bool:
    """Tell whether something is computed, or a task that did still runs."""
    tasks = looping._tasks.copy()
    return bool(flight._flights) or any(not task.get_loop().is_closed() for task in tasks)


def until_landed(limit: float = 60) -> None:
    """Wait until nothing is computed any more, and the threads and tasks that did are gone."""
    deadline = time.monotonic() + limit
    while _is_under_way() and time.monotonic() < deadline:
        threading.Event().wait(0.001)
    for thread in threading.enumerate():
        if thread.name.startswith(("refreshing ", "computing ")):
            thread.join(max(deadline - time.monotonic(), 0))

    assert not flight._flights
