"""Version 5.6.3 as a process beside the tests: it is never importable here."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.optional import skip_or_fail

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import pickle, sys
scope = {'__name__': '__main__'}
exec('import diskcache, datetime, decimal, collections, threading, time', scope)
source, sink = sys.stdin.buffer, sys.stdout.buffer
while head := source.read(8):
    code, names = pickle.loads(source.read(int.from_bytes(head, 'big')))
    scope.update(names, result=None)
    try:
        exec(code, scope)
        answer = pickle.dumps((True, scope['result']))
    except BaseException as exc:
        answer = pickle.dumps((False, (type(exc).__name__, str(exc))))
    sink.write(len(answer).to_bytes(8, 'big') + answer)
    sink.flush()
"""


class OldVersionError(Exception):
    """What version 5 raised; `args` are the name of the class and the message."""


class OldProcess:
    """A process that runs code with version 5.6.3."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, "-I", "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(self, code: str, **names: Any) -> Any:
        """Run *code*, which may use *names*, and return what it leaves in `result`."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        data = pickle.dumps((code, names))
        stdin.write(len(data).to_bytes(8, "big") + data)
        stdin.flush()
        done, result = pickle.loads(stdout.read(int.from_bytes(stdout.read(8), "big")))
        if not done:
            raise OldVersionError(*result)
        return result

    def kill(self) -> None:
        """End the process as a power failure would."""
        self._process.kill()
        self.stop()

    def stop(self) -> None:
        """End the process; what it has open is closed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def old_python() -> str:
    """Return an interpreter that imports version 5.6.3; skip the test if there is none."""
    path = ROOT / "benchmarks" / "environment.py"
    spec = importlib.util.spec_from_file_location("environment_of_version_5", path)
    if spec is None or spec.loader is None or not path.exists():
        skip_or_fail("benchmarks/environment.py is not here")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        return str(module.old_python())
    except module.EnvironmentProblemError as exc:
        print(exc, file=sys.stderr)
        skip_or_fail(f"version {module.OLD_VERSION} cannot be installed here")


FILL = """
cache = diskcache.Cache(directory, **settings)
for key, value, expire, tag in entries:
    cache.set(key, value, expire=expire, tag=tag)
cache.close()
del cache
"""
"""Makes a cache of *entries*: key, value, seconds until expiry, tag."""
