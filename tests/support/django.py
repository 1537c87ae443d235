"""Programs that need Django, each in an interpreter of its own: it is configured once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.crew import run_script

CONFIGURE = """
import sys
from pathlib import Path

folder = Path(sys.argv[1])
names = {}
exec(Path(sys.argv[2]).read_text(), names)

import django
from django.conf import settings

settings.configure(
    CACHES=names["CACHES"],
    SECRET_KEY="a key for tests alone, long enough",
    ALLOWED_HOSTS=["*"],
)
django.setup()

from django.core.cache import cache, caches
"""


def skip_without_django_cache() -> None:
    """Skip the test where Django is not installed."""
    pytest.importorskip("django")


def run_with_caches(settings: str, program: str, folder: Path) -> str:
    """Configure Django as *settings* says, run *program*, and return what it prints.

    Args:
        settings: Python text that assigns `CACHES`.
        program: Python text, which has `cache`, `caches`, `folder`, `names`.
        folder: A folder of the test.
    """
    path = folder / "settings_of_example.py"
    path.write_text(settings, encoding="utf-8")
    done = run_script(CONFIGURE + program, folder, path)

    assert done.returncode == 0, done.stderr
    return done.stdout
