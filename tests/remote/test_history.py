"""What processes read of a server is what memory promises; a fault in the product shows."""

from __future__ import annotations

from tests.remote.history import run
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

    assert report.broken["read what this process had replaced"], str(report)
    assert report.broken["read what the server had told to be replaced"], str(report)
