"""The benchmark of the upgrade runs."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.legacy import ROOT


def test_every_kind_of_entry_is_measured(python_of_old, tmp_path):
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "benchmarks" / "upgrade.py"), "--entries", "200",
            "--rounds", "1", "--kinds", "native", "objects", "--old-python", python_of_old,
            "--json", str(figures),
        ],
        check=False, capture_output=True, text=True, timeout=100,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    rows = json.loads(figures.read_text())["rows"]
    assert [row["entries"] for row in rows] == ["200 native", "200 objects"]
    assert "| 200 native |" in done.stdout
