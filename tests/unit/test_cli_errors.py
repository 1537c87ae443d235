"""The command line where things go wrong: hostile directories, busy and damaged caches, signals."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import diskcache
from diskcache import Cache
from diskcache.cli import ExitCode, commands
from diskcache.cli.main import main

SOURCE = str(Path(diskcache.__file__).parents[1])
ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCE, "PYTHONWARNINGS": ""}

COMMANDS = {
    "info": [],
    "ls": [],
    "get": ["key"],
    "set": ["key", "value"],
    "delete": ["key"],
    "evict": ["tag"],
    "expire": [],
    "cull": [],
    "clear": ["--yes"],
    "check": ["--fix"],
}


def python(*arguments, **keywords):
    """Run Python in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **keywords,
    )


def snapshot(directory):
    """Return names, types, modes, times and contents of everything at *directory*.

    Read by another process: a descriptor closed in this one would drop SQLite's locks.
    """
    script = """
import hashlib, os, sys
root = sys.argv[1]
for path in sorted([root, *(os.path.join(f, n) for f, d, s in os.walk(root) for n in d + s)]):
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        print(path, 'missing')
        continue
    content = hashlib.sha256(open(path, 'rb').read()).hexdigest() if os.path.isfile(path) else ''
    print(path, oct(found.st_mode), found.st_size, found.st_mtime_ns, found.st_ino, content)
"""
    done = python("-c", script, str(directory))

    assert done.returncode == 0, done.stderr
    return done.stdout


def missing(path):
    pass


def empty(path):
    path.mkdir()


def ordinary_folder(path):
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    (path / "sub").mkdir()


def a_file(path):
    path.write_text("mine")


def empty_database(path):
    path.mkdir()
    (path / "cache.db").touch()


def folder_as_database(path):
    (path / "cache.db").mkdir(parents=True)


def text_as_database(path):
    path.mkdir()
    (path / "cache.db").write_text("this is not a database, but it is longer than its header" * 100)


def short_text_as_database(path):
    path.mkdir()
    (path / "cache.db").write_text("x")


def foreign_database(path, pragma=""):
    path.mkdir()
    script = f"""
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
{pragma}
db.execute('CREATE TABLE Bills (key TEXT, amount INTEGER)')
db.execute('INSERT INTO Bills VALUES (1, 2)')
db.commit()
db.close()
"""
    done = python("-c", script, str(path / "cache.db"))

    assert done.returncode == 0, done.stderr


def foreign_wal_database(path):
    foreign_database(path, "db.execute('PRAGMA journal_mode=WAL')")


def foreign_database_named_alike(path):
    foreign_database(path, "db.execute('CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB)')")


def shards(path):
    with Cache(path / "000"):
        pass


HOSTILE = [
    missing,
    empty,
    ordinary_folder,
    a_file,
    empty_database,
    folder_as_database,
    text_as_database,
    short_text_as_database,
    foreign_database,
    foreign_wal_database,
    foreign_database_named_alike,
    shards,
]


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_no_cache_is_code_3_and_untouched(capsys, directory, make):
    make(directory)
    before = snapshot(directory)
    for command, arguments in COMMANDS.items():
        code = main([command, str(directory), *arguments])
        printed = capsys.readouterr()

        assert (command, code, printed.out) == (command, ExitCode.NOT_A_CACHE, "")
        assert printed.err.startswith("diskcache: error: ")
        assert str(directory) in printed.err
        assert printed.err.count("\n") == 1
        assert snapshot(directory) == before, command


def test_missing_directory_is_named_as_such(capsys, directory):
    main(["info", str(directory)])

    assert capsys.readouterr().err == (
        f"diskcache: error: {str(directory)!r} is not a cache: no such directory\n"
    )


def test_shards_are_pointed_at(capsys, directory):
    shards(directory)
    main(["info", str(directory)])

    assert str(directory / "000") in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "ls", "get"])
def test_looking_changes_nothing(capsys, directory, command):
    with Cache(directory, statistics=1, eviction_policy="least-recently-used") as cache:
        cache.set("key", "value", tag="t")
        cache.set("large", b"x" * 100_000)
    before = snapshot(directory)

    assert main([command, str(directory), *COMMANDS[command]]) == 0
    capsys.readouterr()
    assert snapshot(directory) == before


# -- As a process ------------------------------------------------------------------------------


def test_module_runs_as_a_program(directory):
    done = python("-m", "diskcache", "set", str(directory), "k", "-", "--create", input="grün")
    assert (done.returncode, done.stdout, done.stderr) == (0, "stored 'k'\n", "")

    done = python("-m", "diskcache", "get", str(directory), "k", "--raw")
    assert (done.returncode, done.stdout, done.stderr) == (0, "grün", "")


def test_program_without_rich_prints_plain_text(directory):
    with Cache(directory) as cache:
        cache["k"] = 1
    script = "import sys; sys.modules['rich'] = None\nfrom diskcache.cli.main import main\n"
    done = python("-c", script + f"sys.exit(main(['ls', {str(directory)!r}]))")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split() == ["k", "str", "int", "-", "-", "-"]


def test_broken_pipe_is_silent(directory):
    with Cache(directory) as cache, cache.transact():
        for number in range(3000):
            cache[f"key {number} " + "x" * 50] = number
    process = subprocess.Popen(
        [sys.executable, "-m", "diskcache", "ls", str(directory), "--limit", "0"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()

    assert (process.wait(60), err) == (ExitCode.BROKEN_PIPE, b"")


def test_interrupt_is_one_line(capsys, directory, monkeypatch):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "info", interrupted)

    assert main(["info", str(directory)]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == "diskcache: interrupted\n"


# -- Busy and damaged --------------------------------------------------------------------------


HOLDER = """
import sys
from diskcache import Cache
cache = Cache(sys.argv[1])
with cache.transact():
    cache['held'] = 1
    print('ready', flush=True)
    sys.stdin.readline()
cache.close()
"""


@pytest.fixture
def busy(directory):
    """A cache whose write lock another process holds for the length of the test."""
    with Cache(directory) as cache:
        cache["key"] = "value"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout.readline() == b"ready\n"
        yield directory
        holder.stdin.close()
        assert holder.wait(60) == 0


@pytest.mark.parametrize("command", ["set", "delete", "evict", "expire", "cull", "clear"])
def test_busy_cache_is_code_4(capsys, busy, command):
    code = main([command, str(busy), *COMMANDS[command], "--timeout", "0.05"])
    printed = capsys.readouterr()

    assert (code, printed.out) == (ExitCode.BUSY, "")
    assert "is busy" in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("command", ["info", "ls", "get"])
def test_busy_cache_can_be_looked_at(capsys, busy, command):
    assert main([command, str(busy), *COMMANDS[command], "--timeout", "0.05"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_damaged_cache_ends_with_one_line(directory, command):
    with Cache(directory) as cache:
        for number in range(500):
            cache[number] = "x" * 200
    script = """
import sys
with open(sys.argv[1], 'r+b') as file:
    file.seek(1024)
    size = file.seek(0, 2)
    file.seek(1024)
    file.write(b'\\xa5' * (size - 1024))
"""
    assert python("-c", script, str(directory / "cache.db")).returncode == 0
    done = python("-m", "diskcache", command, str(directory), *COMMANDS[command])

    assert "Traceback" not in done.stderr
    if command == "check":
        assert done.returncode in (ExitCode.OK, ExitCode.FINDINGS)
    else:
        assert done.returncode in (ExitCode.FAILED, ExitCode.NOT_A_CACHE)
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("diskcache: error: ")


def test_value_whose_file_is_gone_is_no_such_key(capsys, directory):
    with Cache(directory) as cache:
        cache["large"] = b"x" * 100_000
    for path in directory.rglob("*.val"):
        path.unlink()
    code = main(["get", str(directory), "large"])

    assert code in (ExitCode.FINDINGS, ExitCode.FAILED)
    assert capsys.readouterr().err.count("\n") >= 1


# -- Entries that may not be loaded ------------------------------------------------------------


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (self.mark,))


@pytest.fixture
def planted(directory, tmp_path, recwarn):
    """A cache with an unsigned pickle that leaves a mark when loaded."""
    mark = tmp_path / "mark"
    with Cache(directory, pickle="unsafe") as cache:
        cache["plain"] = 1
        cache["bomb"] = Bomb(str(mark))
    recwarn.clear()
    yield directory
    assert not mark.exists(), "a pickle without a signature was loaded"


def test_get_untrusted_entry_says_so(capsys, planted):
    code = main(["get", str(planted), "bomb"])
    printed = capsys.readouterr()

    assert (code, printed.out) == (ExitCode.FAILED, "")
    assert "may not be loaded" in printed.err.splitlines()[-1]
    assert "Traceback" not in printed.err


def test_ls_shows_untrusted_entry_as_such(capsys, planted):
    assert main(["ls", "--json", str(planted)]) == 0
    data = json.loads(capsys.readouterr().out)

    assert {entry["key"]["value"]: entry["loadable"] for entry in data["entries"]} == {
        "plain": True,
        "bomb": False,
    }
    assert main(["ls", str(planted)]) == 0
    assert "may not be loaded" in capsys.readouterr().out


def test_untrusted_entry_can_be_deleted(capsys, planted):
    assert main(["delete", str(planted), "bomb"]) == 0
    assert capsys.readouterr().out == "removed 1 entry\n"


def test_check_of_a_directory_that_may_not_be_written_looks_without_the_lock(
    capsys, tmp_path, monkeypatch
):
    directory = tmp_path / "cache"
    with Cache(directory) as cache:
        cache["key"] = b"v" * 50_000
    (directory / "stray.txt").touch()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, how: how != os.W_OK and access(path, how))
    with Cache(directory) as cache, cache.transact():
        assert main(["check", str(directory), "--timeout", "0"]) == ExitCode.FINDINGS

    assert "stray.txt" in capsys.readouterr().out


def test_warning_of_a_directory_that_is_opened_again_is_told_once(capsys, tmp_path):
    Cache(tmp_path / "cache").close()
    (tmp_path / "link").symlink_to("cache")

    assert main(["check", "--fix", str(tmp_path / "link")]) == ExitCode.OK
    assert capsys.readouterr().err.count("is a symbolic link") == 1


def test_warnings_are_one_line_each(capsys, planted):
    main(["get", str(planted), "bomb"])
    lines = capsys.readouterr().err.splitlines()

    assert [line.split(": ")[:2] for line in lines] == [
        ["diskcache", "warning"],
        ["diskcache", "error"],
    ]


def test_snapshot_sees_a_changed_byte(tmp_path):
    (tmp_path / "f").write_bytes(b"a")
    before = snapshot(tmp_path)
    os.utime(tmp_path / "f", ns=(0, 0))
    touched = snapshot(tmp_path)

    assert touched != before
    assert hashlib.sha256(b"a").hexdigest() in touched
