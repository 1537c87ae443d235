"""A process that uses what somebody mutated, and one that watches it.

The watcher notices what no test inside the process could: that it dies, hangs, or needs more
memory than it may. Run as a program, this module is the watched process: it is told directories
on its standard input, and answers with what went wrong.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diskcache import Cache, CodecError, Deque, DiskCacheError, Index, UntrustedPickleError
from diskcache.codecs import Keyring, Signer, ValueCodec, secretfile
from diskcache.codecs.values import load_json
from tests.security import hostile, paths

ROOT = Path(__file__).resolve().parents[2]
MEMORY: int = 64 * 2**20
"""Bytes that one directory may cost, beyond what the process has anyway."""
PATIENCE = 60.0
"""Seconds after which a process counts as hung."""
MARKER = "executed"
"""Name of the file that a loaded payload leaves beside a directory."""

MISSING = (KeyError, IndexError)
SPECIAL: dict[str, tuple[type[Exception], ...]] = {
    # What is there may be no number, or of a type that cannot be compared.
    **dict.fromkeys(("incr", "decr", "__lt__", "__le__", "__gt__", "__ge__"), (TypeError,)),
    **dict.fromkeys(("remove", "index"), (ValueError,)),
}
"""What methods raise by their contract, whatever the directory holds."""


# -- The watched process -----------------------------------------------------------------------


def problems_of(cases: dict[str, paths.Case], thing: Any, dice: random.Random) -> Iterator[str]:
    """Run all cases on one object, in any order; yield what no contract allows."""
    names = list(cases)
    dice.shuffle(names)
    for name in names:
        found = hostile.attempt(lambda name=name: cases[name](thing))
        if not isinstance(found, Exception) or isinstance(found, (DiskCacheError, *MISSING)):
            continue
        allowed = SPECIAL.get(name.partition(":")[0], ())
        if type(found) in allowed:
            continue
        yield f"{type(thing).__name__}.{name}: " + "".join(traceback.format_exception(found)[-4:])


def exercised(directory: str, dice: random.Random) -> list[str]:
    """Use a directory in every way; return what no contract allows."""
    found: list[str] = []

    def within(kind: Callable[[Any], Any], *tables: dict[str, paths.Case]) -> None:
        try:
            with Cache(directory, secret=hostile.SECRET, timeout=5) as cache:
                thing = kind(cache)
                for table in tables:
                    found.extend(problems_of(table, thing, dice))
        except DiskCacheError:
            pass
        except Exception:  # noqa: BLE001 - it is reported
            found.append(traceback.format_exc(limit=-4))

    within(lambda cache: cache, paths.READING)
    structure = dice.choice([(Index, paths.INDEX), (Deque, paths.DEQUE)])
    within(structure[0].fromcache, structure[1])
    within(lambda cache: cache, paths.RECIPES, paths.CHANGING, paths.READING)
    return found


def decoded(data: bytes) -> list[str]:
    """Give bytes to everything that decodes bytes; return what no contract allows."""
    codec = ValueCodec(signer=Signer(Keyring(hostile.SECRET), bytes(16)))
    modes = [mode | packed for packed in (0, 16, 32, 48) for mode in range(2, 16)]
    decoders: dict[str, Callable[[], Any]] = {
        **{f"mode {mode}": lambda m=mode: codec.decode(m, data, b"k") for mode in modes},
        "key": lambda: codec.decode_key(data, 0),
        "json": lambda: load_json(data),
        "text": lambda: codec.decode(5, data.decode("latin-1"), b"k"),
        "secret": lambda: secretfile.parse_secrets(data.decode("latin-1"), "x"),
    }
    found = []
    for name, decode in decoders.items():
        result = hostile.attempt(decode)
        if isinstance(result, Exception) and not isinstance(result, DiskCacheError):
            found.append(f"{name}: " + "".join(traceback.format_exception(result)[-4:]))
        elif name == "key" and not isinstance(result, (CodecError, UntrustedPickleError)):
            hash_or_not(result)
    return found


def hash_or_not(key: Any) -> None:
    """Do what a program does with a key that it was given."""
    hostile.attempt(lambda: {key: repr(key)})


def serve() -> None:
    """Answer requests until there are none."""
    warnings.simplefilter("ignore")
    logging.getLogger("diskcache").addHandler(logging.NullHandler())
    logging.getLogger("diskcache").propagate = False
    # What a bomb asks for beyond all measure fails here, instead of elsewhere.
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        request = json.loads(line)
        faulthandler.dump_traceback_later(PATIENCE * 0.8)
        gc.collect()
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        if request["directory"] is not None:
            found = exercised(request["directory"], random.Random(request["seed"]))
        else:
            found = decoded(bytes.fromhex(request["data"]))
        used = memory("VmHWM") - before
        if used > MEMORY:
            found.append(f"{used // 2**20} MB of memory")
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(found), flush=True)


def memory(name: str) -> int:
    """Return a figure of this process's memory, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) * 1024


# -- The watching process ----------------------------------------------------------------------


class Watched:
    """The watched process, started again when it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it is open as long as this is

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.security.fuzzing"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=environ,
                cwd=ROOT,
            )
        return self._process

    def use(self, directory: Path, seed: int = 0) -> list[str]:
        """Have a directory used; return what went wrong."""
        found = self._ask({"directory": str(directory), "seed": seed})
        if (directory.parent / MARKER).exists():
            found.append("a payload was executed")
        return found

    def decode(self, data: bytes) -> list[str]:
        """Have bytes decoded; return what went wrong."""
        return self._ask({"directory": None, "data": data.hex(), "seed": 0})

    def _ask(self, request: dict[str, Any]) -> list[str]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        if not ready:
            self.stop()
            return [f"still not done after {PATIENCE} seconds: {self._last_words()}"]
        line = process.stdout.readline()
        if not line:
            code = process.wait(PATIENCE)
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return [f"the process died: {name}: {self._last_words()}"]
        found: list[str] = json.loads(line)
        return found

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-3000:]

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def close(self) -> None:
        """End the process for good."""
        self.stop()
        self._errors.close()


def rounds(seconds: float) -> Iterator[int]:
    """Yield numbers until the time is over."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        yield number
        number += 1


if __name__ == "__main__":
    serve()
