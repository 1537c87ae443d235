"""A backup made beside live writers is the state of one moment.

Properties: what one transaction wrote is in the copy together or not at all; every value file of
the copy is there and whole; nothing of the copy is left over; the original is sound; writers are
not refused.
"""

from __future__ import annotations

import io
import threading

from diskcache import Cache
from tests.concurrency import workers
from tests.support.crew import in_processes
from tests.support.leaks import assert_tidy

WRITERS = 3
SECONDS = 1.2


def test_backups_beside_writers_are_of_one_moment(directory, tmp_path):
    with Cache(directory) as cache:
        for name in range(WRITERS):
            cache[name, "large"] = bytes(4) * (workers.LARGE // 4 + name)
            cache[name, "small"] = 0
    written: list[int] = []
    arguments = [(directory, name, SECONDS) for name in range(WRITERS)]
    writing = threading.Thread(
        target=lambda: written.extend(in_processes(workers.churn, arguments))
    )
    writing.start()
    made = []
    with Cache(directory) as cache:
        while writing.is_alive() or len(made) < 3:
            made.append(tmp_path / f"copy{len(made)}")
            assert cache.backup(made[-1]).lost == 0
            cache.export(io.BytesIO())
        writing.join()
        assert cache.check() == []

    assert len(written) == WRITERS
    for path in made:
        with Cache(path) as copy:
            assert [str(each.message) for each in copy.check()] == []
            for name in range(WRITERS):
                small = copy[name, "small"]
                assert copy[name, "large"] == small.to_bytes(4, "big") * (workers.LARGE // 4 + name)
        assert_tidy(path)
