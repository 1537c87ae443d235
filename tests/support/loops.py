"""Loops that asynchronous tests run in."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

LOOPS = ["asyncio", "uvloop"]


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """Return a new loop of a kind; skip the test if it is not here."""
    if name == "asyncio":
        return asyncio.new_event_loop()
    try:
        made: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    except ImportError as exc:
        # A run in which everything must be there fails on these words.
        pytest.skip(f"could not import 'uvloop': {exc}")
    return made


def runner_of(name: str) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Return what runs a coroutine in a new loop of a kind; skip the test if it is not here."""
    new_loop(name).close()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=lambda: new_loop(name)) as runner:
            return runner.run(coroutine)

    return run
