"""Running the scripts of the benchmarks, and looking into their modules."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

LIMIT = 400
"""Seconds after which a script is given up: some take half a minute, and machines are slow."""

MACHINE = {
    "processor": "a processor",
    "usable cores": 2,
    "file system": "ext4",
    "load": [0.1, 0.1, 0.1],
    "time": "2026-01-01T00:00:00+00:00",
}


def script(name: str, *arguments: Any, expected: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a script of the benchmarks to its end."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done


@contextmanager
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Give what imports a module of the benchmarks; forget all of them afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (BENCHMARKS / f"{name}.py").exists():
            del sys.modules[name]
