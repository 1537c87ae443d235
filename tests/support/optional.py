"""What to do when a tool that a test needs is not there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test; fail it where everything must be there."""
    if os.environ.get("DISKCACHE_CI"):
        pytest.fail(f"{reason} (and DISKCACHE_CI is set)")
    pytest.skip(reason)
