"""Case study: crawlers that share a queue and their results, and may be killed.

A web site on loopback answers each request after a while, as one far away would. Crawlers, each a
process, take addresses from a `Deque`, and store what they fetch in an `Index`. First the whole
site is crawled by one process, two, and so on; then by several that are killed in the middle and
started again. docs/case-study-web-crawler.md tells what it shows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import environment
import report

from diskcache import Deque, Index

LINK = re.compile('href="(/page/[0-9]+)"')
NAP = 0.005
"""Seconds between two looks of a crawler that has nothing to do."""
KILLED_AT = 0.4
"""Part of the site that is fetched when the crawlers are killed."""
WATCH_EVERY = 0.02
"""Seconds between two looks at how far the crawlers are."""


# -- The site --


class Site(ThreadingHTTPServer):
    """Pages that link to each other; all can be reached from the first."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, pages: int, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.pages, self.delay = pages, delay
        self.asked: list[str] = []

    def text(self, number: int) -> str:
        """Return a page: it links to two further on, and to three anywhere."""
        chance = random.Random(number)
        links = [2 * number + 1, 2 * number + 2, *(chance.randrange(self.pages) for _ in range(3))]
        return "".join(f'<a href="/page/{link}">next</a>' for link in links if link < self.pages)


class Answer(BaseHTTPRequestHandler):
    """One request, answered after the delay of the site."""

    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        time.sleep(self.server.delay)
        body = self.server.text(int(self.path.rpartition("/")[2])).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        # A crawler that was killed does not listen any more.
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(pages: int, delay: float) -> Iterator[Site]:
    """Answer requests in threads of this process."""
    site = Site(pages, delay)
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        thread.join()
        site.server_close()


# -- The crawler --


class State(NamedTuple):
    """All that crawlers share, and all that is left when they are killed."""

    todo: Deque
    """Addresses to fetch."""
    seen: Index
    """Addresses that were ever put there."""
    results: Index
    """Texts by address."""


def opened(folder: str) -> State:
    return State(
        Deque(directory=os.path.join(folder, "todo")),
        Index(os.path.join(folder, "seen")),
        Index(os.path.join(folder, "results")),
    )


def note(state: State, address: str) -> None:
    """Have an address fetched, unless somebody else has."""
    if state.seen.cache.add(address, None):
        state.todo.append(address)


def resume(state: State) -> int:
    """Queue what was seen and not fetched; return how many. Call it while nobody crawls."""
    state.todo.clear()
    left = [address for address in state.seen if address not in state.results]
    state.todo.extend(left)
    return len(left)


def crawl(base: str, folder: str) -> None:
    """Fetch until everything that was seen is fetched."""
    state = opened(folder)
    while len(state.results) < len(state.seen):
        try:
            address = state.todo.popleft()
        except IndexError:
            time.sleep(NAP)  # Others are fetching, and may find more.
            continue
        with urllib.request.urlopen(base + address) as answer:
            text = answer.read().decode()
        for link in LINK.findall(text):
            note(state, link)
        # Last, so that there is never less seen than fetched while something is to be done.
        state.results[address] = text


def crawl_together(start: Any, base: str, folder: str) -> None:
    """Crawl once all crawlers are there: starting an interpreter is no crawling."""
    start.wait()
    crawl(base, folder)


# -- Runs --


class Run(NamedTuple):
    """What one run showed."""

    crawlers: int
    killed: bool
    seconds: float
    requests: int
    again: int
    """Pages that were asked for more than once."""
    fetched: int
    kept: int
    """Pages that were there when the crawlers were killed."""
    in_hand: int
    """Pages that were seen, not queued and not stored then."""
    progress: list[tuple[float, int]]
    """Seconds since the start, and pages stored by then."""


class Crew:
    """Processes that crawl together, and how far they are."""

    def __init__(self, base: str, folder: str, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.state = opened(folder)
        self.began = time.monotonic()
        self.progress: list[tuple[float, int]] = []
        self._arguments = (base, folder)
        self._context = context
        self._count = count
        self.children: list[Any] = []

    def start(self) -> None:
        # Kept: a barrier that nobody holds is gone before a child can open it.
        self._gate = self._context.Barrier(self._count)
        arguments = (self._gate, *self._arguments)
        self.children = [
            self._context.Process(target=crawl_together, args=arguments) for _ in range(self._count)
        ]
        for child in self.children:
            child.start()

    def watch(self, pages: float) -> None:
        """Note the progress until all have ended, or *pages* are stored."""
        while any(child.is_alive() for child in self.children):
            stored = len(self.state.results)
            self.progress.append((time.monotonic() - self.began, stored))
            if stored >= pages:
                return
            time.sleep(WATCH_EVERY)

    def kill(self) -> None:
        for child in self.children:
            child.kill()
        self.join()

    def join(self) -> None:
        for child in self.children:
            child.join()


def run(site: Site, folder: str, count: int, *, killed: bool = False) -> Run:
    """Crawl the site with *count* processes; with *killed* kill all once, and start again."""
    site.asked.clear()
    base = f"http://127.0.0.1:{site.server_port}"
    crew = Crew(base, os.path.join(folder, f"{count}-{killed}"), count)
    state = crew.state
    note(state, "/page/0")
    crew.start()
    kept = in_hand = 0
    if killed:
        crew.watch(site.pages * KILLED_AT)
        crew.kill()
        kept = len(state.results)
        in_hand = len(state.seen) - kept - len(state.todo)
        resume(state)
        crew.start()
    crew.watch(float("inf"))
    crew.join()
    # Time runs from the first page that was stored to the last.
    first = next((at for at, stored in crew.progress if stored), 0.0)
    most = crew.progress[-1][1]
    last = next(at for at, stored in crew.progress if stored == most)
    times = Counter(site.asked)
    result = Run(
        count, killed, last - first, len(site.asked), sum(n > 1 for n in times.values()),
        len(state.results), kept, in_hand,
        [(at - first, stored) for at, stored in crew.progress if first <= at <= last],
    )  # fmt: skip
    for part in (state.todo, state.seen, state.results):
        part.cache.close()
    return result


# -- What it shows --


def table(runs: Sequence[Run]) -> str:
    """Return the runs as text."""
    heads = (
        "crawlers", "killed", "s", "pages/s", "pages", "requests", "kept", "in hand", "again",
    )  # fmt: skip
    lines = [
        (
            str(one.crawlers),
            f"at {KILLED_AT:.0%}" if one.killed else "",
            f"{one.seconds:.2f}",
            f"{one.fetched / one.seconds:.0f}" if one.seconds else "",
            *map(str, (one.fetched, one.requests)),
            *((str(one.kept), str(one.in_hand)) if one.killed else ("", "")),
            str(one.again),
        )
        for one in runs
    ]
    return report.aligned([heads, *lines])


def plot(runs: Sequence[Run], path: Path) -> bool:
    """Draw pages stored over time; False if matplotlib is not installed."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        return False
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "diskcache"
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for one in runs:
        label = f"{one.crawlers} crawler{'s' * (one.crawlers > 1)}"
        style = {"linestyle": "--", "color": "black"} if one.killed else {}
        label += ", killed and resumed" if one.killed else ""
        axes.plot(*zip(*one.progress, strict=True), label=label, **style)
    axes.set_xlabel("seconds")
    axes.set_ylabel("pages stored")
    axes.legend()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    return True


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pages", type=int, default=400, help="of the site (default: 400)")
    parser.add_argument(
        "--delay", type=float, default=0.025, help="seconds that it takes to answer"
    )
    parser.add_argument(
        "--crawlers", type=int, nargs="+", default=[1, 2, 4, 8], help="processes of each run"
    )
    parser.add_argument("--killed", type=int, default=4, help="processes of the run that is killed")
    parser.add_argument("--directory", help="where the state is kept (default: as tempfile)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all runs here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them (needs 'bench')")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Crawl, print the table, write what was asked for, and say whether every page was fetched."""
    options = parse(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="diskcache-case-", dir=options.directory) as folder,
        served(options.pages, options.delay) as site,
    ):
        machine = environment.machine(folder)
        runs = [run(site, folder, count) for count in options.crawlers]
        runs.append(run(site, folder, options.killed, killed=True))
    print(
        f"{machine['processor']}, {machine['usable cores']} cores, {machine['file system']};"
        f" {options.pages} pages, each answered after {options.delay * 1e3:g} ms\n"
    )
    print(table(runs))
    if options.json:
        document = {"machine": machine, "runs": [one._asdict() for one in runs]}
        options.json.write_text(json.dumps(document) + "\n", encoding="utf-8")
    if options.plot and not plot(runs, options.plot):
        print(
            "no plot: matplotlib is not installed; install it with: pip install 'diskcache[bench]'",
            file=sys.stderr,
        )
    return 0 if all(one.fetched == options.pages for one in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
