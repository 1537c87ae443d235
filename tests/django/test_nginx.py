"""A file of the cache is sent by nginx, which the site tells where it lies."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.cache import cache
from django.core.wsgi import get_wsgi_application

from tests.support.leaks import value_files
from tests.support.optional import skip_or_fail
from tests.support.servers import DEADLINE, free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
CONTENT = b"sent by nginx\n" * 5000
CONFIGURATION = """
{user}
daemon off;
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{site}; }}
        location {cache}/ {{ internal; root /; }}
    }}
}}
"""


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def directory():
    """A directory that other users can reach, as one below /var/cache would be."""
    top = tempfile.mkdtemp(prefix="diskcache-nginx-")
    os.chmod(top, 0o755)
    yield Path(top) / "cache"
    shutil.rmtree(top)


@contextmanager
def served():
    """The site on a port of its own."""
    server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def in_front(work, site_port, directory):
    """An nginx in front of the site; as root it serves as somebody else, as it does in life."""
    if NGINX is None:
        skip_or_fail("nginx is not installed")
    port = free_port()
    configuration = work / "nginx.conf"
    user = "user nobody nogroup;" if os.geteuid() == 0 else ""
    configuration.write_text(
        CONFIGURATION.format(work=work, port=port, site=site_port, cache=directory, user=user)
    )
    process = subprocess.Popen(
        [NGINX, "-c", str(configuration), "-e", str(work / "error.log")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


def wait_for(port, process):
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    raise AssertionError("nginx does not listen")


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE) as response:
            return response.status, response.read(), dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b"", dict(error.headers)


def test_file_is_sent_by_nginx(site, directory, tmp_path):
    site({"mode": 0o755})
    cache.set("notes", CONTENT, read=False)
    (path,) = value_files(directory)
    with served() as port, in_front(tmp_path, port, directory) as url:
        status, content, headers = fetch(f"{url}/media/notes")
        direct, _, _ = fetch(f"{url}{path}")
        missing, _, _ = fetch(f"{url}/media/missing")

    assert (status, content) == (200, CONTENT)
    assert headers["Content-Type"] == "text/plain"
    assert "X-Accel-Redirect" not in headers
    assert headers["Server"].startswith("nginx")
    assert (direct, missing) == (404, 404)


@pytest.mark.skipif(os.geteuid() != 0, reason="without root, nginx serves as the same user")
def test_files_are_closed_to_nginx_unless_mode_opens_them(site, directory, tmp_path):
    cache.set("notes", CONTENT)
    with served() as port, in_front(tmp_path, port, directory) as url:
        status, content, _ = fetch(f"{url}/media/notes")

    assert (status, content) == (403, b"")
