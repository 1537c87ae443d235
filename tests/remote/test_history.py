"""What processes read of a server is what memory promises; a fault in the product shows."""

from __future__ import annotations

import subprocess
import sys

from tests.remote.history import ROOT, run
from tests.support.servers import need_server

OPERATIONS = 15_000
"""A few seconds; `python -m tests.remote.history` does a million, and knows more faults."""


def test_history_of_several_processes_keeps_the_promise():
    need_server()
    report = run(OPERATIONS)

    assert not report.broken, str(report)
    assert report.operations > OPERATIONS * 0.95


def test_history_shows_reads_in_flight_that_are_kept():
    need_server()
    report = run(OPERATIONS, "late")

    assert report.broken, str(report)


def test_every_fault_still_fits_the_product():
    faults = "from tests.remote.history import MUTATIONS; [make() for make in MUTATIONS.values()]"
    done = subprocess.run([sys.executable, "-c", faults], check=False, cwd=ROOT, timeout=60)

    assert done.returncode == 0
