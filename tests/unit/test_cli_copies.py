"""`backup`, `export` and `import` on the command line."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from diskcache import Cache, FanoutCache, JSONDisk
from diskcache.cli.main import main
from diskcache.cli.render import Output


@pytest.fixture
def run(capsysbinary):
    """Run a command in this process; return its code and what it printed."""

    def run(*argv):
        code = main([str(argument) for argument in argv])
        printed = capsysbinary.readouterr()
        return code, printed.out, printed.err.decode()

    return run


@pytest.fixture
def filled(directory):
    with Cache(directory, size_limit=5_000_000, cull_limit=3) as cache:
        cache.set("text", "grün", tag="words")
        cache.set("large", "x" * 100_000, expire=1000)
        cache.set(("a", 1), [1, 2])
    return directory


def test_export_and_import_by_a_file(run, filled, tmp_path):
    code, out, err = run("export", filled, tmp_path / "archive")
    assert (code, err) == (0, "")
    assert out.startswith(b"exported 3 entries, ")

    assert run("import", tmp_path / "archive", tmp_path / "new") == (0, b"imported 3 entries\n", "")
    with Cache(tmp_path / "new") as cache:
        assert cache.get("text", tag=True) == ("grün", "words")
        assert cache[("a", 1)] == [1, 2]
        assert (cache.size_limit, cache.cull_limit) == (5_000_000, 3)


def test_export_through_a_pipe(filled, tmp_path):
    command = [sys.executable, "-m", "diskcache"]
    with subprocess.Popen(
        [*command, "export", filled, "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as sender:
        receiver = subprocess.run(
            [*command, "import", "-", tmp_path / "new", "--json"],
            stdin=sender.stdout, capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        assert b"exported 3 entries" in sender.stderr.read()
    assert json.loads(receiver.stdout) == {
        "entries": 3,
        "skipped": 0,
        "refused": 0,
        "earlier": 0,
    }


def test_reports_as_json(run, filled, tmp_path):
    assert json.loads(run("export", "--json", filled, tmp_path / "a")[1])["entries"] == 3
    code, out, err = run("export", "--json", filled, "-")
    assert (code, out[:8]) == (0, b"DcArch01")
    assert json.loads(err) == {"entries": 3, "skipped": 0, "size": len(out)}
    found = json.loads(run("backup", "--json", filled, tmp_path / "copy")[1])
    assert (found["entries"], found["files"], found["lost"]) == (3, 1, 0)


def test_backup_makes_a_cache(run, filled, tmp_path):
    code, out, err = run("backup", filled, tmp_path / "copy")

    assert (code, err) == (0, "")
    assert out.startswith(b"copied 3 entries, ")
    assert run("check", tmp_path / "copy")[0] == 0


@pytest.mark.damaged("a file is missing")
def test_backup_that_left_entries_out_says_so(run, filled, tmp_path):
    next(filled.glob("*/*/*.val")).unlink()

    code, out, _ = run("backup", filled, tmp_path / "copy")

    assert code == 1
    assert b"1 left out" in out


def test_backup_to_something_that_is_there_is_a_usage_error(run, filled):
    code, out, err = run("backup", filled, filled)

    assert (code, out) == (2, b"")
    assert "must be missing or empty" in err


def test_import_goes_on_after_damage(run, filled, tmp_path):
    data = run("export", filled, "-")[1]
    (tmp_path / "cut").write_bytes(data[:-10])
    (tmp_path / "whole").write_bytes(data)

    code, out, err = run("import", tmp_path / "cut", tmp_path / "new")
    assert (code, out) == (5, b"")
    assert "truncated in block" in err
    assert run("import", tmp_path / "whole", tmp_path / "new")[:2] == (
        0,
        b"imported 0 entries; 3 imported earlier\n",
    )


def test_import_that_left_entries_out_says_so(run, tmp_path):
    with Cache(tmp_path / "s", secret=b"s" * 32) as cache:
        cache["thing"], cache["plain"], cache["large"] = object, 1, "x" * 200_000
        cache.export(tmp_path / "archive")
    with Cache(tmp_path / "t", size_limit=100_000) as cache:
        cache["mine"] = 1

    code, out, _ = run("import", tmp_path / "archive", tmp_path / "t")

    assert code == 1
    assert b"1 larger than the size limit" in out
    code, out, _ = run("export", "--no-pickles", tmp_path / "s", tmp_path / "other")
    assert code == 0


def test_pickles_that_may_not_be_loaded_are_told(run, tmp_path):
    with Cache(tmp_path / "s", secret=b"s" * 32) as cache:
        cache["thing"] = slice
        cache["pickled"] = io.StringIO
        cache.export(tmp_path / "archive")
        left_out = cache.export(io.BytesIO(), pickles=False).skipped

    code, out, _ = run("import", tmp_path / "archive", tmp_path / "t")

    assert code == 1
    assert f"{left_out} left out: pickles".encode() in out
    assert b"left out" in run("export", "--no-pickles", tmp_path / "s", tmp_path / "b")[1]


def test_shards_are_copied_and_made_again(run, tmp_path):
    with FanoutCache(tmp_path / "f", shards=3) as cache:
        for number in range(20):
            cache[number] = number
    assert run("backup", tmp_path / "f", tmp_path / "g")[0] == 0
    assert run("export", tmp_path / "f", tmp_path / "archive")[0] == 0
    assert run("import", tmp_path / "archive", tmp_path / "h")[0] == 0
    assert run("import", tmp_path / "archive", tmp_path / "g")[0] == 0
    for name in "gh":
        with FanoutCache(tmp_path / name) as cache:
            assert cache.info().shards == 3
            assert sum(cache[number] for number in range(20)) == 190


def test_archive_of_another_writer_is_refused_before_anything_is_made(run, tmp_path):
    with Cache(tmp_path / "s", disk=JSONDisk) as cache:
        cache["k"] = 1
        cache.export(tmp_path / "archive")

    code, _, err = run("import", tmp_path / "archive", tmp_path / "new")

    assert code == 5
    assert "JSONDisk" in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("export", "{missing}", "{file}"), 3),
        (("backup", "{missing}", "{file}"), 3),
        (("import", "{missing}", "{new}"), 2),
        (("import", "{text}", "{new}"), 5),
        (("import", "{archive}", "{full}"), 3),
        (("export", "{cache}"), 2),
    ],
    ids=repr,
)
def test_what_makes_no_sense_is_refused(run, filled, tmp_path, argv, code):
    places = {name: tmp_path / name for name in ("missing", "file", "new", "text", "archive")}
    places |= {"full": tmp_path / "full", "cache": filled}
    places["text"].write_text("not an archive")
    places["full"].mkdir()
    (places["full"] / "letter").write_text("dear")
    with Cache(filled) as cache:
        cache.export(places["archive"])

    assert run(*(argument.format(**places) for argument in argv))[0] == code
    assert not places["new"].exists()
    assert [each.name for each in places["full"].iterdir()] == ["letter"]


def test_unknown_policy_of_an_archive_is_not_taken_over(run, filled, tmp_path, monkeypatch):
    with Cache(filled) as cache:
        monkeypatch.setitem(cache._settings, "eviction_policy", "own")
        cache.export(tmp_path / "archive")

    assert run("import", tmp_path / "archive", tmp_path / "new")[0] == 0


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_meter_is_shown_on_a_terminal_only():
    pytest.importorskip("rich")
    for stream, expected in ((Terminal(), True), (io.StringIO(), False)):
        with Output(stdout=io.StringIO(), stderr=stream).meter("export x") as meter:
            meter(1, 2)
            meter(2, 2)
        assert ("export x" in stream.getvalue()) is expected
    quiet = Terminal()
    with Output(as_json=True, stdout=io.StringIO(), stderr=quiet).meter("export x") as meter:
        meter(1, 2)
    assert quiet.getvalue() == ""
