"""Fixtures of the attack suite."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def quiet() -> Iterator[None]:
    """Warnings are another test's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("diskcache").setLevel(logging.CRITICAL)
        yield
        logging.getLogger("diskcache").setLevel(logging.NOTSET)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that a payload makes when it is executed."""
    return tmp_path / "executed"
