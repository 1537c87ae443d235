"""The same damage, and the same full disks, for this version and for 5.6.3, seen from outside.

    python -m tests.faults.compare

Full disks need root, for a small file system. Two lines of figures per version.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = ("open", "get", "delete", "clear", "cull", "close", "set afterwards")


def fill(directory: str) -> None:
    """Make a cache to be damaged."""
    from diskcache import Cache

    with Cache(directory) as cache:
        for number in range(300):
            cache[f"k{number}"] = f"{number}:" + "x" * (number % 100)


def use(directory: str) -> None:
    """Print whether a cache works, how many entries it has, and how many are wrong."""
    from diskcache import Cache

    warnings.simplefilter("ignore")
    works, entries, wrong = False, 0, 0
    for _ in range(2):
        try:
            with Cache(directory, timeout=1) as cache:
                found = {n: cache.get(f"k{n}") for n in range(300)}
                cache["new"] = 1
                works = cache["new"] == 1
                entries = sum(value is not None for value in found.values())
                wrong = sum(
                    value not in (None, f"{n}:" + "x" * (n % 100)) for n, value in found.items()
                )
                break
        except Exception:  # noqa: BLE001 - whatever it is, it does not work
            continue
    print(json.dumps([works, entries, wrong]))


def full(place: str, size: int) -> None:
    """Fill a small disk; print which operations work then."""
    from diskcache import Cache

    ballast = Path(place, "ballast")
    ballast.write_bytes(bytes(2**20))
    cache = Cache(f"{place}/cache", size_limit=2**20, cull_limit=0, timeout=1)
    number = 0
    with contextlib.suppress(Exception):
        while number < 200_000:
            cache.set(number, os.urandom(size))
            number += 1
    cache.close()
    with open(ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    works = dict.fromkeys(OPERATIONS, False)

    def attempt(name: str, operate: Any) -> Any:
        try:
            result = operate()
        except Exception:  # noqa: BLE001 - whatever it is, it does not work
            return None
        works[name] = True
        return result

    cache = attempt("open", lambda: Cache(f"{place}/cache", timeout=1))
    if cache is not None:
        attempt("get", lambda: cache[0])
        attempt("delete", lambda: cache.delete(0))
        attempt("cull", cache.cull)
        attempt("clear", cache.clear)
        attempt("close", cache.close)
    os.truncate(ballast, 0)

    def afterwards() -> None:
        with Cache(f"{place}/cache", timeout=1) as again:
            again["after"] = b"x" * 50_000

    attempt("set afterwards", afterwards)
    print(json.dumps(works))


def damages(size: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield offsets and what is written there; None cuts the file."""
    dice = random.Random(1)
    yield 0, bytes(100)
    for offset in range(0, size, 2048):
        yield offset, dice.randbytes(2048)
    for share in range(10):
        yield size * share // 10, None


def of_damage(script: list[str]) -> str:
    root = tempfile.mkdtemp(prefix="diskcache-damage-")
    subprocess.run([*script, "fill", f"{root}/original"], check=True)
    size = os.path.getsize(f"{root}/original/cache.db")
    tried = usable = entries = wrong = 0
    for offset, data in damages(size):
        shutil.copytree(f"{root}/original", f"{root}/copy")
        with open(f"{root}/copy/cache.db", "r+b") as file:
            file.truncate(offset) if data is None else file.seek(offset)
            file.write(data or b"")
        works, kept, bad = json.loads(subprocess.check_output([*script, "use", f"{root}/copy"]))
        tried, usable, entries, wrong = tried + 1, usable + works, entries + kept, wrong + bad
        shutil.rmtree(f"{root}/copy")
    shutil.rmtree(root)
    return f"works at the second open {usable} of {tried}, entries kept {entries}, wrong {wrong}"


def of_full_disks(script: list[str]) -> str:
    works = dict.fromkeys(OPERATIONS, 0)
    for size in (300, 1500, 40_000):
        place = tempfile.mkdtemp(prefix="diskcache-full-")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=True)
        try:
            found = json.loads(subprocess.check_output([*script, "full", place, str(size)]))
        finally:
            subprocess.run(["umount", "-l", place], check=True)
            os.rmdir(place)
        for name, does in found.items():
            works[name] += does
    return "works on a full disk: " + ", ".join(f"{name} {n} of 3" for name, n in works.items())


def main() -> None:
    """Run both."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from environment import old_python

    for version, python in (("6", sys.executable), ("5.6.3", old_python())):
        script = [python, str(Path(__file__).resolve())]
        print(version, of_damage(script))
        if os.geteuid() == 0:
            print(version, of_full_disks(script))


if __name__ == "__main__":
    if sys.argv[1:2] == ["full"]:
        full(sys.argv[2], int(sys.argv[3]))
    elif len(sys.argv) > 2:
        {"fill": fill, "use": use}[sys.argv[1]](sys.argv[2])
    else:
        main()
