"""The page on testing: its files run in pytest, and its tables are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from diskcache.testing import plugin
from diskcache.testing.faults import GROUPS
from diskcache.testing.variants import CAPABILITIES
from tests.support.pages import ROOT, sections, table

PAGE = ROOT / "docs" / "testing.md"
FILE = re.compile(r"^```python file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(where, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error",
         "--strict-markers", *arguments],
        cwd=where, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.mark.timeout(500)
def test_files_of_the_page_pass(tmp_path):
    for name, text in FILE.findall(PAGE.read_text(encoding="utf-8")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "test_careless.py").write_text(
        "def test_leaves_a_file_open(diskcache_cache):\n"
        "    diskcache_cache['a'] = b'x' * 100_000\n"
        "    globals()['held'] = diskcache_cache.read('a')\n"
        "def test_leaves_damage(diskcache_cache, diskcache_directory):\n"
        "    diskcache_cache['a'] = b'x' * 100_000\n"
        "    next(diskcache_directory.rglob('*.val')).unlink()\n"
    )
    fixtures = run(tmp_path, "test_sessions.py", "test_careless.py", "-p", "no:randomly")
    contract = run(tmp_path / "contract", "-k", "TestMapping or TestClear")

    assert "4 passed, 2 errors" in fixtures.stdout, fixtures.stdout
    assert "still open: " in fixtures.stdout
    assert re.search(r"ERROR test_careless.py::test_leaves_damage", fixtures.stdout)
    assert contract.returncode == 0, contract.stdout
    assert re.search(r"[1-9]\d passed", contract.stdout)


def test_capabilities_of_the_page_are_those_of_the_code():
    named = {
        row[0].strip("`")
        for row in table(sections("docs/testing.md")["The contract"], "capability")
    }

    assert named == CAPABILITIES


def test_fixtures_of_the_page_are_those_of_the_code():
    named = {
        row[0].strip("`")
        for row in table(sections("docs/testing.md")["Temporary caches"], "fixture")
    }

    assert named == {name for name in vars(plugin) if "diskcache" in name}


def test_groups_of_operations_are_on_the_page():
    assert all(f"`'{name}'`" in PAGE.read_text(encoding="utf-8") for name in GROUPS)
