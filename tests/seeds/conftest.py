"""Where published examples run: in a folder of their own, on a clock that does not wait."""

from __future__ import annotations

import gc
import json
import multiprocessing
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from diskcache import Cache
from tests.conftest import assert_left_clean, findings_of
from tests.support.snippets import Snippet, run_program, run_session

HERE = Path(__file__).parent
MANIFEST: dict[str, dict[str, str]] = json.loads((HERE / "manifest.json").read_text("utf-8"))

PEOPLE = (
    ("Leanne Graham", "Sincere@april.biz", "Romaguera-Crona"),
    ("Ervin Howell", "Shanna@melissa.tv", "Deckow-Crist"),
    ("Clementine Bauch", "Nathan@yesenia.net", "Romaguera-Jacobson"),
    ("Patricia Lebsack", "Julianne.OConner@kory.org", "Robel-Corkery"),
    ("Chelsey Dietrich", "Lucio_Hettinger@annie.ca", "Keebler LLC"),
)
"""The first users of the service that the examples ask."""


class Stage:
    """Runs examples, and knows what they need besides."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(
        self, snippet: Snippet, *replaced: tuple[str, str], **given: Any
    ) -> tuple[str, dict[str, Any]]:
        """Run a program; return what it printed, and its names.

        Absolute paths lead into the folder of the test.

        Args:
            snippet: The program.
            replaced: Other texts and what stands for them.
            given: Names that it uses and does not define.
        """
        namespace = {"__name__": "__main__", **given}
        paths = [("'/tmp/", f"'{self.folder}/")] if "'/tmp/" in snippet.text else []
        return run_program(snippet, namespace, [*paths, *replaced]), namespace

    def session(self, snippet: Snippet, namespace: dict[str, Any]) -> None:
        """Run a session in the names of earlier ones."""
        run_session(snippet, namespace)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let `time.sleep` return at once, with `time.time` that much later; no other time passes."""
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    return sleep


@pytest.fixture
def stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wall: Callable[[float], None]
) -> Iterator[Stage]:
    """Run examples in an empty folder; check and close all caches that they leave."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # Programs that start processes without asking whether they are the main one need a fork.
    monkeypatch.setattr(multiprocessing, "Process", multiprocessing.get_context("fork").Process)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        yield Stage(tmp_path)
    left = caches_below(tmp_path)
    found = findings_of(left)
    for cache in left:
        cache.close()

    assert found == []
    assert_left_clean({path.parent for path in tmp_path.rglob("cache.db")}, damaged=False)


def caches_below(folder: Path) -> list[Cache]:
    """Return the caches of this process that are in a folder; shards are caches.

    Tests of constructors that fail may have left some that are half made, and are nowhere.
    """
    return [
        found
        for found in gc.get_objects()
        if issubclass(type(found), Cache)
        and Path(vars(found).get("_real_directory", "/")).is_relative_to(folder.resolve())
    ]


class Site(HTTPServer):
    """A web server on loopback: users and their posts as JSON, and pages that link to others."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    """What the site says."""

    def do_GET(self) -> None:
        site = self.server
        assert isinstance(site, Site)
        site.asked.append(self.path)
        kind, text = self.answer()
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self) -> tuple[str, str]:
        if self.path.startswith("/users/"):
            number = int(self.path.rpartition("/")[2])
            name, email, company = PEOPLE[number - 1]
            user = {"id": number, "name": name, "email": email, "company": {"name": company}}
            return "application/json", json.dumps(user)
        if self.path.startswith("/posts"):
            return "application/json", json.dumps([{"id": number} for number in range(10)])
        number = int(self.path.rpartition("/")[2] or 0)
        links = [f"/page/{link}" for link in (2 * number + 1, 2 * number + 2) if link < 15]
        return "text/html", "".join(f'<a href="{link}">' for link in links)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server on loopback, instead of those that the examples ask."""
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
