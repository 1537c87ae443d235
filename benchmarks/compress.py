"""What compression saves and costs, for values as caches hold them.

Run it from a checkout, with the extra `zstd` installed. (It is not called `compression`: a script
stands before the standard library, which has a package of that name.)

    python benchmarks/compress.py            # bytes, ratios, microseconds by method and level
    python benchmarks/compress.py --cache    # set and get through a cache, with and without

Every value is made here, the same in each run. Times are the least of several rounds.
"""

from __future__ import annotations

import argparse
import datetime
import json
import pickle
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diskcache import Cache
from diskcache.codecs import plain
from diskcache.codecs.compression import Packer, unpack

LEVELS = {"zlib": (1, 6, 9), "zstd": (1, 3, 9, 19)}
WORDS = (
    "the of and a to in is you that it he was for on are as with his they at be this have from or"
    " one had by word but not what all were we when your can said there use an each which she do"
    " how their if will up other about out many then them these so some her would make like him"
    " into time has look two more write go see number no way could people my than first water"
    " been call who oil its now find long down day did get come made may part error cache request"
    " response timeout retry handler session server client version commit branch merge review"
).split()


def sentence(chooser: random.Random, words: int) -> str:
    return " ".join(chooser.choice(WORDS) for _ in range(words)).capitalize() + "."


def api_page(entries: int) -> Any:
    """A page of issues, as the API of a code host returns it."""
    chooser = random.Random(1)
    base = "https://api.example.com/repos/acme/widgets"
    return [
        {
            "id": 1_000_000_000 + number * 7919,
            "number": number,
            "url": f"{base}/issues/{number}",
            "comments_url": f"{base}/issues/{number}/comments",
            "title": sentence(chooser, 8),
            "user": {
                "login": f"{chooser.choice(WORDS)}{chooser.randrange(99)}",
                "id": chooser.randrange(10**7),
                "type": "User",
                "site_admin": False,
            },
            "labels": [{"name": chooser.choice(WORDS), "color": f"{chooser.randrange(2**24):06x}"}],
            "state": chooser.choice(["open", "closed"]),
            "comments": chooser.randrange(40),
            "created_at": f"2026-0{chooser.randrange(1, 9)}-1{chooser.randrange(9)}T08:15:00Z",
            "body": " ".join(sentence(chooser, 12) for _ in range(6)),
        }
        for number in range(entries)
    ]


def html_page(rows: int) -> str:
    """A page of a shop, rendered by templates."""
    chooser = random.Random(2)
    items = "\n".join(
        '      <li class="product-card product-card--compact"'
        f' data-id="{chooser.randrange(10**6)}">'
        '\n        <a class="product-card__link"'
        f' href="/products/{chooser.choice(WORDS)}-{number}">'
        f'<img loading="lazy" src="/media/{chooser.randrange(16**8):08x}.webp" alt=""></a>'
        f'\n        <h3 class="product-card__title">{sentence(chooser, 5)}</h3>'
        f'\n        <span class="price">{chooser.randrange(1, 900)}.99&nbsp;EUR</span>\n      </li>'
        for number in range(rows)
    )
    return f"<!doctype html>\n<html><body>\n    <ul>\n{items}\n    </ul>\n</body></html>\n"


@dataclass
class Reading:
    sensor: str
    at: datetime.datetime
    value: float
    flags: tuple[str, ...]


def objects(count: int) -> list[Reading]:
    chooser = random.Random(3)
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return [
        Reading(
            f"hall-{number % 12}/temperature",
            start + datetime.timedelta(seconds=number * 30),
            round(20 + chooser.gauss(0, 2), 2),
            ("ok",) if chooser.random() < 0.9 else ("ok", "late"),
        )
        for number in range(count)
    ]


def payloads() -> dict[str, bytes]:
    """Values as their bytes before compression."""
    import numpy

    numbers = numpy.random.default_rng(4)
    return {
        "JSON page, 5 entries": plain.dumps(api_page(5)),
        "JSON page, 100 entries": plain.dumps(api_page(100)),
        "JSON text of it": json.dumps(api_page(100)).encode(),
        "HTML, 60 products": html_page(60).encode(),
        "pickle, 500 objects": pickle.dumps(objects(500), 5),
        "numpy, 100 000 int64 counts": plain.dumps(numbers.poisson(40, 100_000)),
        "numpy, mask of 1 000 000": plain.dumps(numbers.random(1_000_000) < 0.01),
        "numpy, 768 x 100 float32": plain.dumps(
            numbers.normal(size=(100, 768)).astype(numpy.float32)
        ),
    }


def best(call: Callable[[], Any], seconds: float = 0.15) -> float:
    """Return the least time of a call, in microseconds."""
    least, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - begun)
    return least * 1e6


def compare_methods() -> None:
    print("| value | bytes | method, level | stored | share | pack, us | unpack, us |")
    print("|---|---|---|---|---|---|---|")
    for name, data in payloads().items():
        for method, levels in LEVELS.items():
            for level in levels:
                row = measured(Packer(method, 0, level), data)
                print(f"| {name} | {len(data):,} | {method} {level} | {row} |")


def measured(packer: Packer, data: bytes) -> str:
    packed = packer.pack(data)
    took = best(lambda: packer.pack(data))
    if packed is None:
        return f"as it is | 1.00 | {took:,.0f} | 0"
    back = best(lambda: unpack(*packed))
    share = len(packed[1]) / len(data)
    return f"{len(packed[1]):,} | {share:.2f} | {took:,.0f} | {back:,.0f}"


def compare_caches() -> None:
    values = {
        "JSON page, 5 entries": api_page(5),
        "JSON page, 100 entries": api_page(100),
        "HTML, 60 products": html_page(60),
    }
    print("| value | compress | set, us | get, us | volume of 200 |")
    print("|---|---|---|---|---|")
    for name, value in values.items():
        for options in ({}, {"compress": "zlib", "compress_level": 1}, {"compress": "zstd"}):
            folder = tempfile.mkdtemp()
            try:
                with Cache(folder, **options) as cache:
                    for number in range(200):
                        cache[number] = value
                    put = best(lambda c=cache, v=value: c.set(0, v), 0.5)
                    got = best(lambda c=cache: c.get(1), 0.5)
                    shown = " ".join(map(str, options.values())) or "no"
                    print(f"| {name} | {shown} | {put:,.0f} | {got:,.0f} | {cache.volume():,} |")
            finally:
                shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cache", action="store_true", help="measure set and get of a cache")
    if parser.parse_args().cache:
        compare_caches()
    else:
        compare_methods()


if __name__ == "__main__":
    main()
