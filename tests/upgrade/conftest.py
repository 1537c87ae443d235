"""Directories made by version 5.6.3 itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.legacy import FILL, OldProcess, old_python


@pytest.fixture(scope="session")
def python_of_old() -> str:
    """An interpreter with version 5.6.3."""
    return old_python()


@pytest.fixture(scope="session")
def old(python_of_old: str) -> Iterator[OldProcess]:
    """A process with version 5.6.3, shared by all tests: it keeps nothing open."""
    process = OldProcess(python_of_old)
    yield process
    process.stop()


@pytest.fixture
def start_old(python_of_old: str) -> Iterator[Callable[[], OldProcess]]:
    """Start processes with version 5.6.3 of a test's own."""
    started: list[OldProcess] = []

    def start() -> OldProcess:
        started.append(OldProcess(python_of_old))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def fill(old: OldProcess, directory: Path) -> Callable[..., None]:
    """Have version 5.6.3 make a cache of pairs, or of entries with expiry and tag."""

    def fill_one(entries: Any, where: Path = directory, **settings: Any) -> None:
        pairs = entries.items() if isinstance(entries, dict) else entries
        full = [(*entry, None, None)[:4] for entry in pairs]
        old.run(FILL, directory=str(where), entries=full, settings=settings)

    return fill_one
