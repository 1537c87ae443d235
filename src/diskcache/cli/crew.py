"""Worker processes of the demonstration: they share one cache directory and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, NamedTuple, cast

from diskcache import Cache, DiskCacheError
from diskcache.cli import CommandError, ExitCode
from diskcache.cli.analysis import Report, analyse

NAME: Final = "demo/1 python{}.{}".format(*sys.version_info[:2])
"""Starts the keys of all results. Another Python has another grammar, so it has other keys."""

TAG: Final = "demo"
"""Tag of all results."""

CHUNK: Final = 8
"""Files per message: few enough to spread evenly, and to stop soon when interrupted."""

PATIENCE: Final = 1.0
"""Seconds after which an idle worker looks whether the process that started it still lives."""

GRACE: Final = 5.0
"""Seconds that a worker is given to end by itself."""


class Done(NamedTuple):
    """What a worker reports about one file."""

    report: Report
    digest: str
    computed: bool
    """Whether the analysis ran, rather than come from the cache."""


Analysis = Callable[..., Report]


def memoized(cache: Cache) -> tuple[Analysis, list[str]]:
    """Return the analysis with the memory of *cache*, and the list of paths it really analyses.

    Its key is the path below the root and the hash of the source: another directory, machine or
    order of files finds the same results, and a changed file finds none.
    """
    computed: list[str] = []

    @cache.memoize(name=NAME, tag=TAG, ignore={"source"})
    def analysis(path: str, digest: str, *, source: bytes) -> Report:
        # The digest is part of the key and has no other use here.
        del digest
        computed.append(path)
        return analyse(path, source)

    return analysis, computed


def digest_of(source: bytes) -> str:
    """Return the hash of a source file."""
    return hashlib.blake2b(source, digest_size=16).hexdigest()


# -- In a worker -------------------------------------------------------------------------------


def _work(directory: str, root: str, pipe: Connection, inherited: Sequence[Connection]) -> None:
    """Answer chunks of paths with reports until the pipe closes; send text if that fails."""
    # A pipe is closed only when no process holds its other end any more.
    for other in inherited:
        other.close()
    # Ctrl-C reaches every process of the terminal; the parent's end of it is enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent opened the same directory and has passed on what there is to warn about.
    warnings.simplefilter("ignore")
    with contextlib.closing(pipe):
        try:
            with contextlib.closing(Cache(directory)) as cache:
                _serve(cache, root, pipe)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            # This is how the parent says that it wants no more.
            return
        except (DiskCacheError, OSError) as exc:
            with contextlib.suppress(OSError):
                pipe.send(f"{type(exc).__name__}: {exc}")


def _serve(cache: Cache, root: str, pipe: Connection) -> None:
    """Answer chunks until there is nobody left to ask."""
    parent = multiprocessing.parent_process()
    analysis, computed = memoized(cache)
    while True:
        while not pipe.poll(PATIENCE):
            if parent is not None and not parent.is_alive():
                return
        pipe.send([_one(root, path, analysis, computed) for path in pipe.recv()])


def _one(root: str, path: str, analysis: Analysis, computed: list[str]) -> Done:
    """Read, hash and analyse one file."""
    with open(os.path.join(root, path), "rb") as file:
        source = file.read()
    digest = digest_of(source)
    before = len(computed)
    report = analysis(path, digest, source=source)
    return Done(report, digest, len(computed) > before)


# -- In the parent -----------------------------------------------------------------------------


def analyse_files(
    directory: str,
    root: str,
    paths: Sequence[str],
    *,
    processes: int,
    method: str | None = None,
) -> Generator[Done, None, None]:
    """Yield what is known about each file, in any order, computed or from the cache.

    No process is left when the generator ends or is closed.

    Args:
        directory: Cache directory that the workers share.
        root: Folder that *paths* are relative to.
        paths: Files to analyse.
        processes: How many workers to start.
        method: How to start them: `'spawn'`, `'fork'`, `'forkserver'`; the platform's way if None.

    Raises:
        CommandError: A worker died.
    """
    context: Any = multiprocessing.get_context(method)
    chunks = [list(paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK)]
    chunks.reverse()
    workers: dict[Connection, BaseProcess] = {}
    try:
        for _ in range(min(processes, len(chunks))):
            ours, theirs = context.Pipe()
            inherited = (*workers, ours) if context.get_start_method() == "fork" else ()
            process = context.Process(
                target=_work, args=(directory, root, theirs, inherited), daemon=True
            )
            process.start()
            theirs.close()
            workers[ours] = process
        for pipe, worker in workers.items():
            _ask(pipe, worker, chunks.pop())
        yield from _exchange(workers, chunks)
    finally:
        _dismiss(workers)


def _exchange(workers: dict[Connection, BaseProcess], chunks: list[list[str]]) -> Iterator[Done]:
    """Hand out chunks to whoever is free, and yield the answers."""
    busy = set(workers)
    while busy:
        for ready in wait(list(busy)):
            pipe = cast("Connection", ready)
            answer = _answer(pipe, workers[pipe])
            if chunks:
                _ask(pipe, workers[pipe], chunks.pop())
            else:
                busy.discard(pipe)
            yield from answer


def _ask(pipe: Connection, worker: BaseProcess, paths: list[str]) -> None:
    """Have a worker analyse files.

    Raises:
        CommandError: It died, perhaps after an answer.
    """
    try:
        pipe.send(paths)
    except OSError as exc:
        raise _died(worker) from exc


def _died(worker: BaseProcess) -> CommandError:
    worker.join(GRACE)
    return CommandError(f"a worker process died with exit code {worker.exitcode}", ExitCode.FAILED)


def _answer(pipe: Connection, worker: BaseProcess) -> list[Done]:
    """Return what a worker sent.

    Raises:
        CommandError: It sent a complaint, or died.
    """
    try:
        answer = pipe.recv()
    except (EOFError, OSError) as exc:
        raise _died(worker) from exc
    if isinstance(answer, str):
        raise CommandError(f"a worker process gave up: {answer}", ExitCode.FAILED)
    return cast("list[Done]", answer)


def _dismiss(workers: dict[Connection, BaseProcess]) -> None:
    """End all workers: ask by closing their pipes, and insist after a while."""
    for pipe in workers:
        pipe.close()
    for process in workers.values():
        process.join(GRACE)
        if process.is_alive():
            process.terminate()
            process.join()
        process.close()
