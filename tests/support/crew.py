"""Many threads, or many processes, that start together and may not take for ever."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def in_threads(*functions: Callable[[], Any], limit: float = 60) -> list[Any]:
    """Run *functions*, each in a thread of its own, and return what they returned, in order.

    The first error of a thread is raised here.
    """
    start = threading.Barrier(len(functions))
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            start.wait(limit)
            results[number] = functions[number]()
        except BaseException as exc:  # noqa: BLE001 - it is raised again below
            errors.append(exc)

    threads = [
        threading.Thread(target=run, args=(number,), daemon=True)
        for number in range(len(functions))
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))

    assert not any(thread.is_alive() for thread in threads), f"a thread hangs after {limit} s"
    if errors:
        raise errors[0]
    return results


def in_processes(
    function: Callable[..., Any],
    arguments: list[tuple[Any, ...]],
    *,
    method: str = "fork",
    limit: float = 60,
) -> list[Any]:
    """Run *function* once for each of *arguments*, each in a process, and return the results.

    The processes start together. One that fails or hangs fails the test; all are gone afterwards.
    """
    context = multiprocessing.get_context(method)
    barrier = context.Barrier(len(arguments))
    pairs = [context.Pipe(duplex=False) for _ in arguments]
    children = [
        context.Process(target=_report, args=(sender, barrier, limit, function, given))
        for (_, sender), given in zip(pairs, arguments, strict=True)
    ]
    with warnings.catch_warnings():
        # Newer interpreters warn of forks beside threads, which is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        for child in children:
            child.start()
    for _, sender in pairs:
        sender.close()
    deadline = time.monotonic() + limit
    try:
        return [_received(receiver, deadline) for receiver, _ in pairs]
    finally:
        for child in children:
            child.join(max(deadline - time.monotonic(), 0))
            if child.is_alive():
                child.kill()
                child.join()
            child.close()
        for receiver, _ in pairs:
            receiver.close()


def _report(sender: Any, barrier: Any, limit: float, function: Any, given: Any) -> None:
    try:
        barrier.wait(limit)
        answer = (True, function(*given))
    except BaseException:  # noqa: BLE001 - it is raised in the parent
        answer = (False, traceback.format_exc())
    sender.send(answer)
    sender.close()


def _received(receiver: multiprocessing.connection.Connection, deadline: float) -> Any:
    assert receiver.poll(max(deadline - time.monotonic(), 0)), "a process hangs"
    try:
        succeeded, result = receiver.recv()
    except EOFError:
        raise AssertionError("a process died") from None

    assert succeeded, result
    return result


def run_script(
    text: str, *arguments: object, limit: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run *text* in a new interpreter, which can import the tests; return what became of it.

    It is over when every process that has its output has ended. After *limit* all are killed.
    """
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "ignore", "-c", text, *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        raise AssertionError(f"a script hangs after {limit} s: {errors}") from None
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
