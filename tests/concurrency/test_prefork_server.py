"""A server that opens a cache and then forks its workers serves every request from it.

Properties: a count of requests is exact over workers that are forked, replaced after some requests
and killed; nobody hangs; the directory is sound afterwards. The server is gunicorn, which loads
the program before it forks, as operators do to save memory.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from diskcache import Cache, FanoutCache
from tests.support.crew import ROOT, in_threads
from tests.support.leaks import assert_tidy

pytest.importorskip("gunicorn")

APPLICATION = """
import json, os
from diskcache import Cache, FanoutCache

cache = Cache(os.environ["PLACE"] + "/cache")
shards = FanoutCache(os.environ["PLACE"] + "/shards", 2)
cache["opened by"] = os.getpid()
shards["opened by"] = os.getpid()

def application(environ, start_response):
    name = environ["PATH_INFO"]
    if name == "/leave":
        # It is killed inside a transaction, with a value file that nobody names yet.
        with cache.transact():
            cache["never"] = b"x" * 100_000
            os.kill(os.getpid(), 9)
    with cache.transact():
        count = cache.incr("requests")
        cache["large"] = bytes([count % 256]) * 50_000
    shards[name] = count
    body = json.dumps({
        "pid": os.getpid(), "count": count, "parent": cache["opened by"],
        "whole": len(set(cache["large"])) == 1, "again": shards[name] == count,
    }).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]
"""


class Server:
    """gunicorn with three workers, each of which is replaced after 15 requests."""

    def __init__(self, place: Path) -> None:
        (place / "application_of_a_test.py").write_text(APPLICATION, encoding="utf-8")
        self._log = (place / "log").open("wb")
        command = [
            sys.executable, "-W", "ignore", "-m", "gunicorn", "application_of_a_test:application",
            "--preload", "--workers", "3", "--threads", "2", "--worker-class", "gthread",
            "--max-requests", "15", "--graceful-timeout", "5", "--bind", "127.0.0.1:0",
            "--worker-tmp-dir", str(place),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            cwd=place,
            env={**os.environ, "PLACE": str(place), "PYTHONPATH": f"{ROOT}{os.pathsep}{place}"},
            stderr=self._log,
            stdout=self._log,
        )
        self._place = place
        self.address = self._found_address()

    def log(self) -> str:
        return (self._place / "log").read_text(encoding="utf-8", errors="replace")

    def _found_address(self) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            _, found, rest = self.log().partition("Listening at: ")
            if found and "\n" in rest:
                return rest.split()[0]
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"the server does not start: {self.log()}")

    def ask(self, path: str) -> dict[str, object] | None:
        """Return the answer; None if the worker died over the question."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=60) as answer:
                return json.load(answer)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError):
            return None

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._log.close()


def ask_many(server: Server, name: int, deadly: bool) -> list[dict[str, object] | None]:
    answers = []
    for number in range(30):
        if deadly and number in (8, 20):
            assert server.ask("/leave") is None
        answers.append(server.ask(f"/{name}/{number}"))
    return answers


def test_every_request_is_counted_by_workers_that_come_and_go(tmp_path):
    server = Server(tmp_path)
    try:
        answers = in_threads(
            *(lambda name=name: ask_many(server, name, name == 0) for name in range(4)), limit=100
        )
    finally:
        status = server.stop()
    given = [answer for some in answers for answer in some if answer is not None]

    assert status == 0, server.log()
    assert "Traceback" not in server.log()
    # A worker that is killed takes the requests of its other thread with it.
    assert len(given) >= 100
    assert all(answer["whole"] and answer["again"] for answer in given)
    assert len({answer["count"] for answer in given}) == len(given)
    assert len({answer["pid"] for answer in given} - {given[0]["parent"]}) > 3
    with Cache(tmp_path / "cache") as cache, FanoutCache(tmp_path / "shards", 2) as shards:
        assert len(given) <= cache["requests"] <= 120
        assert "never" not in cache
        cache["next writer"] = 1
        assert [str(finding.message) for finding in (*cache.check(), *shards.check())] == []
        assert len(shards) >= len(given) + 1
    assert_tidy(tmp_path / "cache")
