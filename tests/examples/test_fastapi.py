"""The example for FastAPI: two processes, many requests, one computation."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time

import pytest

from diskcache import Cache
from tests.support.crew import ROOT
from tests.support.optional import skip_or_fail
from tests.support.servers import free_port

REQUESTS = 200
LIMIT = 60


@pytest.fixture
def httpx():
    for name in ("fastapi", "uvicorn", "httpx"):
        try:
            found = __import__(name)
        except ImportError:
            skip_or_fail(f"{name} is not installed")
    return found


@pytest.fixture
def address(directory, tmp_path, httpx):
    """Where the example runs, with two worker processes."""
    port = free_port()
    log = tmp_path / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "examples" / "fastapi"),
             "--workers", "2", "--port", str(port), "--log-level", "info", "app:app"],
            env={**os.environ, "REPORTS": str(directory)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + LIMIT
        while log.read_text().count("startup complete") < 2:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(LIMIT)
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.mark.timeout(150)
def test_two_hundred_requests_for_a_cold_key_compute_once(address, directory, httpx):
    async def ask():
        async with httpx.AsyncClient(base_url=address, timeout=LIMIT, limits=limits) as client:
            answers = await asyncio.gather(*[client.get("/reports/sales") for _ in range(REQUESTS)])
            return answers, (await client.delete("/reports")).json()

    limits = httpx.Limits(max_connections=REQUESTS)
    deadline, processes = time.monotonic() + LIMIT, set()
    # One process may take all connections, while the other one does not get to run.
    for number in itertools.count(1):
        assert time.monotonic() < deadline, processes
        answers, forgotten = asyncio.run(ask())
        processes = {answer.headers["x-process"] for answer in answers}

        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.text for answer in answers}) == 1
        assert answers[0].json()["number"] == number
        assert forgotten == {"forgotten": 1}
        if len(processes) == 2:
            break
    assert httpx.get(f"{address}/reports/sales", timeout=LIMIT).json()["number"] == number + 1
    with Cache(directory) as cache:
        assert cache["computed sales"] == number + 1
