"""The environment of version 5.6.3, and the facts about this machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OLD_VERSION = "5.6.3"
DJANGO = "django>=4.2"
"""For the rows of `DjangoCache`."""
OLD_HOME = ROOT / ".bench" / "v5"
PEERS = (
    "lmdb", "rocksdict", "diskcache_rs", "sqlitedict", "joblib", DJANGO, "redis[hiredis]",
    "pymemcache", "cashews[redis]", "aiocache[redis]",
)  # fmt: skip
"""Packages that other ways to keep things come in."""
PEERS_HOME = ROOT / ".bench" / "peers"


class EnvironmentProblemError(Exception):
    """The environment for the comparison cannot be made."""


def old_python(home: Path = OLD_HOME) -> str:
    """Return the interpreter of an environment with version 5.6.3, made now if it is not there.

    Raises:
        EnvironmentProblemError: It cannot be made.
    """
    python = home / "bin" / "python"
    if _has_old_version(python):
        return str(python)
    print(f"making an environment for diskcache {OLD_VERSION} in {home}", file=sys.stderr)
    packages = (f"diskcache=={OLD_VERSION}", DJANGO)
    commands = (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-input", *packages],
    )
    for command in commands:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise EnvironmentProblemError(
                f"no environment for diskcache {OLD_VERSION}: {' '.join(command)} failed:\n"
                f"{done.stderr.strip()}\n"
                "name one with --old-python PATH, or measure without it: --side 6"
            )
    # Whatever the project ignores, this folder ignores itself.
    (home.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    return str(python)


def peers_python(home: Path = PEERS_HOME) -> str:
    """Return the interpreter of an environment with the peers, made now if it is not there.

    A package that cannot be installed is left out: whoever asks for it finds it missing.

    Raises:
        EnvironmentProblemError: There can be no environment at all.
    """
    python = home / "bin" / "python"
    done = home / ".installed"
    if done.exists() and done.read_text(encoding="utf-8") == "\n".join(PEERS):
        return str(python)
    print(f"making an environment for {', '.join(PEERS)} in {home}", file=sys.stderr)
    _execute([sys.executable, "-m", "venv", "--clear", str(home)])
    for package in PEERS:
        try:
            _execute([str(python), "-m", "pip", "install", "--quiet", "--no-input", package])
        except EnvironmentProblemError as problem:
            print(problem, file=sys.stderr)
    (home.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    done.write_text("\n".join(PEERS), encoding="utf-8")
    return str(python)


def _execute(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise EnvironmentProblemError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")


def main() -> int:
    """Make the environment, if it can be made."""
    try:
        print(old_python())
    except EnvironmentProblemError as exc:
        print(exc, file=sys.stderr)
        return 2
    return 0


def _has_old_version(python: Path) -> bool:
    """Tell whether *python* is there and imports the version to compare with."""
    if not python.exists():
        return False
    program = "import diskcache, django; print(diskcache.__version__)"
    command = [str(python), "-I", "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() == OLD_VERSION


def machine(directory: str) -> dict[str, Any]:
    """Return what a reader must know to judge the figures."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load": [round(number, 2) for number in os.getloadavg()],
        "file system": _file_system(directory),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _file_system(directory: str) -> str:
    """Return the type of the file system that holds *directory*."""
    real = os.path.realpath(directory)
    best = ("", "unknown")
    try:
        with open("/proc/self/mounts", encoding="utf-8") as lines:
            for line in lines:
                _, point, kind = line.split()[:3]
                inside = real == point or real.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best[0]):
                    best = (point, kind)
    except OSError:
        pass
    return best[1]


if __name__ == "__main__":
    sys.exit(main())
