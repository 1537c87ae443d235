"""Measure what operations of a cache on a server cost the server; docs/capacity.md counts with it.

A private server on a free port of loopback is asked by one client. Counted are its processor time,
the bytes that it reads and writes, and the memory that entries take: none of them depends much on
how busy the machine is. The least of several rounds counts.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import environment
import report
from contenders import REDIS
from peers import servers

SIZES = {"40 B": 40, "4 kB": 4000, "100 kB": 100_000}
COUNTS = {"40 B": 4000, "4 kB": 4000, "100 kB": 300}
"""Operations in a round."""
WAITED = 2.0
"""Seconds for which somebody waits for a computation."""
NOT_HERE = 1


class Cost(NamedTuple):
    """What one operation costs."""

    operation: str
    size: str
    server: float
    """Microseconds of the processor of the server."""
    client: float
    """Microseconds of the processor of the client."""
    received: float
    """Bytes that the server receives."""
    sent: float
    """Bytes that it sends."""


class Meter:
    """Reads the counters of a server."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def read(self) -> tuple[float, float, float, float]:
        """Return processor time of server and client, and bytes received and sent."""
        cpu, stats = self.client.info("cpu"), self.client.info("stats")
        server = cpu["used_cpu_sys"] + cpu["used_cpu_user"]
        received, sent = stats["total_net_input_bytes"], stats["total_net_output_bytes"]
        return server, time.process_time(), received, sent

    def least(self, work: Callable[[], object], count: int, rounds: int) -> list[float]:
        """Return what each of *count* operations costs, of the round that costs least."""
        found = []
        for _ in range(rounds):
            before = self.read()
            work()
            found.append([(b - a) / count for a, b in zip(before, self.read(), strict=True)])
        return min(found)


def costs(cache: Any, meter: Meter, rounds: int, scale: float) -> Iterator[Cost]:
    """Yield what operations cost, for values of all sizes."""
    for size, length in SIZES.items():
        count = max(int(COUNTS[size] * scale), 10)
        value = random.Random(1).randbytes(length)
        keys = [f"key-{number:06}" for number in range(count)]
        for operation, work in works(cache, keys, value).items():
            server, client, received, sent = meter.least(work, count, rounds)
            yield Cost(operation, size, server * 1e6, client * 1e6, received, sent)
        cache.clear()


def works(cache: Any, keys: list[str], value: bytes) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    turn = iter(range(sys.maxsize))

    def each(do: Callable[[str], object]) -> Callable[[], object]:
        return lambda: [do(key) for key in keys]

    def computed() -> None:
        number = next(turn)
        for key in keys:
            cache.get_or_set(f"{key}:{number}", lambda: value)

    def fresh() -> None:
        number = next(turn)
        for key in keys:
            cache.set(f"{key}.{number}", value)

    return {
        "set, new key": fresh,
        "set, with a tag": each(lambda key: cache.set(f"t-{key}", value, tag="tag")),
        "set": each(lambda key: cache.set(key, value)),
        "get": each(cache.get),
        "get, with a tag": each(lambda key: cache.get(f"t-{key}")),
        "get, a miss": each(lambda key: cache.get(f"no-{key}")),
        "get_or_set, computing": computed,
    }


def memory(cache: Any, client: Any, scale: float) -> dict[str, float]:
    """Return bytes of memory that an entry takes besides its value, by the size of the value."""
    found = {}
    for size, length in SIZES.items():
        count = max(int(COUNTS[size] * scale), 10)
        cache.clear()
        before = client.info("memory")["used_memory"]
        for number in range(count):
            cache.set(f"key-{number:06}", bytes(length))
        after = client.info("memory")["used_memory"]
        found[size] = (after - before) / count - length
    return found


def polls(cache: Any, client: Any) -> float:
    """Return how many commands a second one process sends that waits for another."""
    # What tells others that a value is being computed is no part of the interface.
    place, share = cache._flight_place(cache._encode_key("waited"))  # noqa: SLF001
    lease = share(place)
    lease.take()
    waiter = threading.Thread(target=cache.get_or_set, args=("waited", lambda: 1))
    waiter.start()
    time.sleep(0.5)
    before = client.info("commandstats").get("cmdstat_mget", {}).get("calls", 0)
    time.sleep(WAITED)
    after = client.info("commandstats").get("cmdstat_mget", {}).get("calls", 0)
    lease.release(())
    waiter.join()
    return float(after - before) / WAITED


def run(options: argparse.Namespace) -> dict[str, Any] | None:
    """Measure, and return the document; None without a server."""
    from redis import Redis

    from diskcache import connect

    with (
        tempfile.TemporaryDirectory(prefix="diskcache-servers-") as folder,
        servers(["remote"], folder) as variables,
    ):
        if REDIS not in variables:
            return None
        port = int(variables[REDIS])
        client = Redis("127.0.0.1", port)
        with connect(f"redis://127.0.0.1:{port}/0?namespace=bench", memory_limit=0) as cache:
            document = {
                "machine": environment.machine(folder),
                "rows": [
                    cost._asdict()
                    for cost in costs(cache, Meter(client), options.rounds, options.scale)
                ],
                "memory": memory(cache, client, options.scale),
                "polls": polls(cache, client),
            }
        client.close()
        return document


def text(document: dict[str, Any], *, as_markdown: bool) -> str:
    """Return the figures as tables."""
    head = ("values of", "operation", "server us", "client us", "bytes in", "bytes out")
    lines = [
        (row["size"], row["operation"], f"{row['server']:.1f}", f"{row['client']:.1f}",
         f"{row['received']:.0f}", f"{row['sent']:.0f}")
        for row in document["rows"]
    ]  # fmt: skip
    beside = ", ".join(f"{size}: {count:.0f}" for size, count in document["memory"].items())
    return "\n\n".join(
        (
            report.place(document["machine"]),
            report.laid_out([head, *lines], as_markdown=as_markdown),
            f"bytes of memory beside the value: {beside}",
            f"commands a second of a process that waits: {document['polls']:.0f}",
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies operations per round")
    parser.add_argument("--markdown", action="store_true", help="print tables for a page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    options = parser.parse_args(arguments)
    document = run(options)
    if document is None:
        print("redis-server is not installed", file=sys.stderr)
        return NOT_HERE
    print(text(document, as_markdown=options.markdown))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
