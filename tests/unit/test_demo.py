"""The demonstration on a small tree: what runs, what does not, and what is left."""

from __future__ import annotations

import argparse
import inspect
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import diskcache
from diskcache import Cache
from diskcache.cli import CommandError, ExitCode, crew, demo
from diskcache.cli.main import main

FILES = {
    "alpha.py": "import sys\n\ndef first(x):\n    return 1 if x else 2\n",
    "beta.py": "import alpha, sys\n\ndef worst(x):\n" + "    if x: pass\n" * 20,
    "broken.py": "def (\n",
    "empty.py": "",
    "pack/__init__.py": "from . import inner\n",
    "pack/inner.py": "from ..alpha import first\n",
    **{f"pack/part{number}.py": f"import alpha\nNUMBER = {number}\n" for number in range(20)},
}


@pytest.fixture
def tree(tmp_path):
    """A small tree of sources."""
    root = tmp_path / "tree"
    for name, source in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)
    return root


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def run_demo(capsys, tree, temporary):
    """Run the demonstration in this process; return its code and what it measured."""

    def run_demo(directory, *options, root=tree):
        code = main(["demo", "--json", str(directory), "--root", str(root), *options])
        printed = capsys.readouterr()

        assert printed.err == ""
        assert multiprocessing.active_children() == []
        assert list(temporary.iterdir()) == []
        return code, json.loads(printed.out)

    return run_demo


def counts(data, number):
    """Return files, hits and misses of one run."""
    run = data["runs"][number]
    return tuple(run[name] for name in ("files", "hits", "misses"))


def test_demo_changed_file_alone_is_computed_again(run_demo, directory):
    n = len(FILES)
    code, data = run_demo(directory, "--processes", "2")

    assert (code, data["broken_promises"], data["warm"]) == (0, [], False)
    assert counts(data, 0) == (n, 0, n)
    assert counts(data, 1) == (n, n, 0)
    assert counts(data, 2) == (n, n - 1, 1)
    assert data["changed"] == "beta.py"
    assert data["recomputed"] == ["beta.py"]


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_demo_runs_as_a_program_under_each_start_method(directory, tree, tmp_path_factory, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform cannot {method}")
    temporary = tmp_path_factory.mktemp("t")  # A short path: sockets need one.
    options = ["--json", "--root", str(tree), "--start-method", method, "--processes", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "diskcache", "demo", str(directory), *options],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(diskcache.__file__).parents[1]),
            "TMPDIR": str(temporary),
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(done.stdout)
    assert [run["misses"] for run in data["runs"]] == [len(FILES), 0, 1]
    assert data["recomputed"] == ["beta.py"]
    assert list(temporary.iterdir()) == []


def test_demo_figures_are_measured(run_demo, directory):
    data = run_demo(directory)[1]
    first, again, _ = data["runs"]

    assert data["cold_seconds"] == first["seconds"] > 0
    assert data["speed_up"] == first["seconds"] / again["seconds"]
    assert data["processes"] >= 2
    assert data["entries"] == len(FILES) + 2
    assert data["disk_usage"] > 0
    assert data["summary"]["files"] == len(FILES)
    assert data["summary"]["unparsable"] == 1
    assert data["summary"]["complex_functions"][0] == [21, "worst", "beta.py", 3]
    assert data["summary"]["imported_modules"][:2] == [["alpha", 22], ["sys", 2]]


def test_demo_again_starts_warm(run_demo, directory):
    cold = run_demo(directory)[1]
    code, data = run_demo(directory)

    assert (code, data["warm"]) == (0, True)
    assert [run["misses"] for run in data["runs"]] == [0, 0, 1]
    assert data["cold_seconds"] == cold["cold_seconds"]
    assert data["summary"] == cold["summary"]


def test_demo_results_are_found_from_another_folder(run_demo, directory, tree, tmp_path):
    run_demo(directory)
    moved = tmp_path / "moved"
    shutil.move(tree, moved)
    data = run_demo(directory, root=moved)[1]

    assert counts(data, 0) == (len(FILES), len(FILES), 0)
    assert data["cold_seconds"] is data["speed_up"] is None


def test_demo_file_changed_before_is_computed_alone(run_demo, directory, tree):
    run_demo(directory)
    (tree / "alpha.py").write_text("import os\n")
    data = run_demo(directory)[1]

    assert counts(data, 0) == (len(FILES), len(FILES) - 1, 1)


def test_demo_plain_tells_the_story(capsys, directory, tree, temporary):
    assert main(["demo", str(directory), "--root", str(tree)]) == 0
    out = capsys.readouterr().out

    assert "first run: 100 %" in out
    assert "recomputed  beta.py\n" in out
    assert "worst" in out
    assert f"ls {directory}" in out
    assert "started warm" not in out
    assert main(["demo", str(directory), "--root", str(tree)]) == 0
    out = capsys.readouterr().out
    assert "started warm" in out
    assert f"{len(FILES)} results were there" in out


def test_demo_commands_to_look_inside_work(run_demo, capsys, directory):
    data = run_demo(directory)[1]
    commands = [shlex.split(command) for command in data["look_inside"]]

    assert [command[1:3] for command in commands] == [["-m", "diskcache"]] * len(commands)
    printed = {}
    for command in commands[:-1]:
        assert main(command[3:]) == 0, command
        printed[tuple(command[3:])] = capsys.readouterr().out
    result = next(out for command, out in printed.items() if "literal" in command)
    assert "'path': 'beta.py'" in result


def test_demo_without_directory_keeps_a_temporary_one(capsys, tree, temporary):
    assert main(["demo", "--json", "--root", str(tree)]) == 0
    data = json.loads(capsys.readouterr().out)

    assert [str(path) for path in temporary.iterdir()] == [data["directory"]]
    with Cache(data["directory"]) as cache:
        assert len(cache) == data["entries"]


def test_demo_leaves_other_caches_alone(capsys, directory, tree):
    with Cache(directory) as cache:
        cache["precious"] = 1
    code = main(["demo", str(directory), "--root", str(tree)])

    assert code == ExitCode.USAGE
    assert "something else" in capsys.readouterr().err
    with Cache(directory) as cache:
        assert list(cache) == ["precious"]


def test_demo_leaves_other_folders_alone(capsys, tmp_path, tree):
    assert main(["demo", str(tree), "--root", str(tree)]) == ExitCode.NOT_A_CACHE
    assert not (tree / "cache.db").exists()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("root", ["missing", "."])
def test_demo_without_sources_is_a_usage_error(capsys, directory, tmp_path, root):
    code = main(["demo", str(directory), "--root", str(tmp_path / root)])

    assert code == ExitCode.USAGE
    assert "--root" in capsys.readouterr().err
    assert not directory.exists()


# -- When something goes wrong -----------------------------------------------------------------


def test_broken_promises_are_noticed():
    report = {"path": "a", "lines": 1, "functions": [], "imports": [], "error": None}
    other = {**report, "lines": 2}
    first = demo.Run("", 1.0, ["a", "b"], {"a": report, "b": report}, {})
    again = first._replace(computed=[])
    third = first._replace(computed=["a"], reports={"a": other, "b": report})

    assert demo._broken_promises((first, again, third), "a") == []
    assert len(demo._broken_promises((first, first, third), "a")) == 1
    assert len(demo._broken_promises((first, again, again), "a")) == 1
    assert len(demo._broken_promises((first, again, first), "a")) == 1
    assert len(demo._broken_promises((first, again, third), "b")) == 2
    damaged = again._replace(reports={"a": other, "b": report})
    assert len(demo._broken_promises((first, damaged, third), "a")) == 1


def test_broken_promise_is_code_5(capsys, directory, tree, temporary, monkeypatch):
    monkeypatch.setattr(demo, "_broken_promises", lambda *_: ["it forgot"])

    assert main(["demo", str(directory), "--root", str(tree)]) == ExitCode.FAILED
    assert capsys.readouterr().err == "diskcache: error: it forgot\n"


def test_worker_that_cannot_read_a_file_gives_up_in_one_line(directory, tree):
    paths = ["alpha.py", "not there.py"]
    with pytest.raises(CommandError, match="gave up: FileNotFoundError") as caught:
        list(crew.analyse_files(str(directory), str(tree), paths, processes=1, method="spawn"))

    assert caught.value.code == ExitCode.FAILED
    assert multiprocessing.active_children() == []


def test_workers_end_when_the_generator_is_closed_early(directory, tree):
    paths = sorted(FILES)
    with Cache(directory):
        pass
    work = crew.analyse_files(str(directory), str(tree), paths, processes=2, method="spawn")
    next(work)
    started = len(multiprocessing.active_children())
    work.close()

    assert started == 2
    assert multiprocessing.active_children() == []


def test_dead_worker_is_an_error(directory, tree):
    with Cache(directory):
        pass
    paths = sorted(FILES)
    work = crew.analyse_files(str(directory), str(tree), paths, processes=2, method="spawn")
    next(work)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(CommandError, match="worker process"):
        list(work)

    assert multiprocessing.active_children() == []


def test_worker_that_died_after_an_answer_is_an_error(directory, tree):
    with Cache(directory):
        pass
    paths = sorted(FILES)
    work = crew.analyse_files(str(directory), str(tree), paths, processes=1, method="spawn")
    next(work)
    (worker,) = multiprocessing.active_children()
    (pipe,) = work.gi_frame.f_locals["workers"]
    # The answer to what it was asked next lies in the pipe when it dies.
    assert pipe.poll(60)
    worker.kill()
    worker.join()
    with pytest.raises(CommandError, match="worker process died with exit code -9"):
        list(work)

    assert multiprocessing.active_children() == []


def test_key_is_made_of_path_and_content_alone(cache):
    analysis, computed = crew.memoized(cache)
    digest = crew.digest_of(b"import a\n")
    first = analysis("x.py", digest, source=b"import a\n")

    assert analysis("x.py", digest, source=b"import a\n") == first
    assert computed == ["x.py"]
    assert list(cache) == [(crew.NAME, "x.py", digest, None)]
    analysis("y.py", digest, source=b"import a\n")
    analysis("x.py", crew.digest_of(b""), source=b"")
    assert computed == ["x.py", "y.py", "x.py"]


# -- Signals -----------------------------------------------------------------------------------


@pytest.fixture
def started(directory, tmp_path):
    """The demonstration in a process group of its own, in the middle of its first run."""
    large = tmp_path / "large"
    large.mkdir()
    source = inspect.getsource(argparse)
    for number in range(160):
        (large / f"part{number}.py").write_text(f"{source}\nNUMBER = {number}\n")
    # A shell has what it starts in the background ignore Ctrl-C, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "diskcache",
            "demo",
            str(directory),
            "--root",
            str(large),
            "--processes",
            "2",
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(diskcache.__file__).parents[1]),
            "TMPDIR": str(tmp_path),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        signal.signal(signal.SIGINT, before)
        while "25 %" not in process.stdout.readline():
            assert process.poll() is None
        yield process


def test_interrupted_demo_ends_with_one_line(started, directory):
    os.killpg(started.pid, signal.SIGINT)
    # The pipes end when the last process that holds them does, the workers included.
    out, err = started.communicate(timeout=60)

    assert (started.returncode, err) == (ExitCode.INTERRUPTED, "diskcache: interrupted\n")
    assert "Look inside" not in out
    with Cache(directory) as cache:
        assert cache.check() == []
        assert len(cache) > 1


def test_workers_end_when_their_parent_is_killed(started, directory):
    started.kill()
    out, _ = started.communicate(timeout=60)

    assert started.returncode == -signal.SIGKILL
    assert "Look inside" not in out
    with Cache(directory) as cache:
        assert cache.check() == []
