"""Every command of the command line, on a sound cache."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import re
from pathlib import Path

import pytest

import diskcache
from diskcache import ENOVAL, Cache, JSONDisk
from diskcache.cli import ExitCode
from diskcache.cli.main import build_parser, main

DOCS = Path(__file__).parents[2] / "docs"
LARGE = bytes(range(256)) * 200


@pytest.fixture
def run(capsys):
    """Run a command in this process; return its code and what it printed."""

    def run(*argv):
        code = main([str(argument) for argument in argv])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def run_json(run):
    """Run a command with `--json`; return its code and the parsed document."""

    def run_json(*argv):
        code, out, err = run(argv[0], "--json", *argv[1:])

        assert err == ""
        return code, json.loads(out)

    return run_json


@pytest.fixture
def filled(directory):
    """A directory with some entries; the cache is closed."""
    with Cache(directory, cull_limit=0) as cache:
        cache.set("text", "grün\n", tag="words")
        cache.set("gone", 1, expire=-1, tag="words")
        cache.set("number", 42, expire=3600)
        cache.set(("a", 1), {"list": [1, 2]}, tag=7)
        cache.set("tuple", (1, None))
        cache.set(b"\xff", b"\x00raw")
        cache.set("large", LARGE)
        cache.close()
    return directory


@pytest.fixture
def value_of(filled):
    """Read a value after a command."""

    def value_of(key):
        with Cache(filled) as cache:
            return cache.get(key, ENOVAL)

    return value_of


def stdin(monkeypatch, data, terminal=False):
    """Replace standard input."""
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    stream.isatty = lambda: terminal
    monkeypatch.setattr("sys.stdin", stream)


# -- info --------------------------------------------------------------------------------------


def test_info_json_has_every_figure(run_json, filled):
    code, data = run_json("info", filled)

    assert code == 0
    assert data["directory"] == str(filled)
    assert data["entries"] == 7
    assert data["size_limit"] == 2**30
    assert data["eviction_policy"] == "least-recently-stored"
    assert data["disk_usage"] > len(LARGE)
    assert data["readonly"] is True
    assert {"version", "sqlite", "cache_id", "volume", "hits", "misses", "off"} <= data.keys()
    assert {"untrusted", "corrupt", "pickle"} <= data.keys()


def test_info_plain_has_human_units(run, filled):
    code, out, err = run("info", filled)

    assert (code, err) == (0, "")
    assert re.search(r"^entries +7$", out, re.MULTILINE)
    assert re.search(r"^size limit +1\.0 GiB$", out, re.MULTILINE)


def test_info_shows_hit_ratio(run, filled, monkeypatch):
    figures = Cache.info
    monkeypatch.setattr(
        Cache, "info", lambda cache: dataclasses.replace(figures(cache), hits=3, misses=1)
    )

    assert re.search(r"^hit ratio +75\.0%$", run("info", filled)[1], re.MULTILINE)


# -- ls ----------------------------------------------------------------------------------------


def test_ls_json_lists_live_entries_in_insertion_order(run_json, filled):
    code, data = run_json("ls", filled)
    first, second, third, *_ = data["entries"]

    assert code == 0
    assert data["truncated"] is False
    assert [entry["key"].get("value") for entry in data["entries"]] == [
        "text",
        "number",
        None,
        "tuple",
        None,
        "large",
    ]
    assert first.keys() == second.keys()
    assert first["key"] == {"type": "str", "value": "text"}
    assert first["tag"] == {"type": "str", "value": "words"}
    assert first["expire_time"] is first["expires_in"] is None
    assert first["loadable"] is True
    assert second["tag"] is None
    assert 3500 < second["expires_in"] <= 3600
    assert third["key"] == {"type": "tuple", "repr": "('a', 1)"}
    assert third["tag"] == {"type": "int", "value": 7}


def test_ls_json_shows_sizes(run_json, filled):
    sizes = {
        entry["key"].get("value"): entry["size"] for entry in run_json("ls", filled)[1]["entries"]
    }

    assert sizes["text"] == len("grün\n".encode())
    assert sizes["large"] == len(LARGE)


def test_ls_plain_is_a_table(run, filled):
    code, out, err = run("ls", filled)
    header, *rows = out.splitlines()

    assert (code, err) == (0, "")
    assert header.split()[0] == "key"
    assert rows[0].split()[0] == "text"
    assert re.search(r" 5\d min \d+ s\b", rows[1])
    assert rows[2].startswith("('a', 1)")
    assert rows[4].startswith("b'\\xff'")
    assert "50.0 KiB" in rows[5]
    assert len(rows) == 6


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        (["--prefix", "t"], ["text", "tuple"]),
        (["--tag", "words"], ["text"]),
        (["--tag", "7", "--tag-type", "int"], [None]),
        (["--tag", "7"], []),
        (["--prefix", "nothing"], []),
    ],
)
def test_ls_filters(run_json, filled, options, keys):
    data = run_json("ls", filled, *options)[1]

    assert [entry["key"].get("value") for entry in data["entries"]] == keys


@pytest.mark.parametrize(
    ("limit", "count", "truncated"), [(0, 6, False), (2, 2, True), (6, 6, False)]
)
def test_ls_limit(run_json, filled, limit, count, truncated):
    data = run_json("ls", filled, "--limit", limit)[1]

    assert (len(data["entries"]), data["truncated"]) == (count, truncated)


def test_ls_plain_says_that_it_stopped(run, filled):
    assert "--limit 2 was reached" in run("ls", filled, "--limit", 2)[1]


def test_ls_nothing_says_so(run, filled):
    assert run("ls", filled, "--prefix", "zzz")[:2] == (0, "no entries\n")


def test_ls_hostile_key_does_not_steer_the_terminal(run, directory):
    with Cache(directory) as cache:
        cache["\x1b]0;owned\x07"] = 1

    out = run("ls", directory)[1]

    assert "\x1b" not in out
    assert "\\x1b]0;owned\\x07" in out


# -- get ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["text"], "grün\n\n"),
        (["number"], "42\n"),
        (["tuple"], "(1, None)\n"),
        (["('a', 1)", "--type", "literal"], "{'list': [1, 2]}\n"),
        (["b'\\xff'", "--type", "literal"], "b'\\x00raw'\n"),
    ],
)
def test_get_plain(run, filled, arguments, printed):
    assert run("get", filled, *arguments) == (0, printed, "")


def test_get_json(run_json, filled):
    assert run_json("get", filled, "text") == (
        0,
        {
            "key": {"type": "str", "value": "text"},
            "value": {"type": "str", "value": "grün\n"},
            "tag": {"type": "str", "value": "words"},
            "expire_time": None,
        },
    )


@pytest.mark.parametrize(
    ("arguments", "data"),
    [
        (["text"], "grün\n".encode()),
        (["large"], LARGE),
        (["b'\\xff'", "--type", "literal"], b"\x00raw"),
    ],
)
def test_get_raw_prints_exactly_the_value(capfdbinary, filled, arguments, data):
    code = main(["get", str(filled), "--raw", *arguments])

    assert (code, capfdbinary.readouterr().out) == (0, data)


def test_get_raw_of_other_value_is_refused(run, filled):
    code, out, err = run("get", filled, "tuple", "--raw")

    assert (code, out) == (ExitCode.USAGE, "")
    assert "'tuple'" in err


@pytest.mark.parametrize("key", ["missing", "gone"])
def test_get_missing_or_expired_key_is_code_1(run, filled, key):
    code, out, err = run("get", filled, key)

    assert (code, out) == (ExitCode.FINDINGS, "")
    assert err == f"diskcache: error: no such key: '{key}'\n"


def test_get_does_not_count(run, filled):
    with Cache(filled) as cache:
        cache.stats(enable=True)
    run("get", filled, "text")
    with Cache(filled) as cache:
        assert cache.stats() == (0, 0)


# -- set ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("str", "1", "1"),
        ("int", "-5", -5),
        ("float", "1e3", 1000.0),
        ("bytes", "grün", "grün".encode()),
        ("json", '{"a": [1, null]}', {"a": [1, None]}),
        ("literal", "(1, {2})", (1, {2})),
    ],
)
def test_set_types_values_and_keys(run, value_of, filled, kind, text, value):
    options = ["--type", kind] if kind != "json" else []
    key = value if options else "key"

    assert (
        run("set", filled, *options, "--value-type", kind, "--", text if options else "key", text)[
            0
        ]
        == 0
    )
    found = value_of(key)
    assert (found, type(found)) == (value, type(value))


def test_set_prints_key(run, run_json, filled):
    assert run("set", filled, "k", "v") == (0, "stored 'k'\n", "")
    assert run_json("set", filled, "k", "v") == (
        0,
        {"key": {"type": "str", "value": "k"}, "stored": True},
    )


def test_set_expire_and_tag(run, run_json, filled):
    run("set", filled, "k", "v", "--expire", "100", "--tag", "9", "--tag-type", "int")
    data = run_json("get", filled, "k")[1]

    assert data["tag"] == {"type": "int", "value": 9}
    assert data["expire_time"] is not None


@pytest.mark.parametrize("arguments", [["-"], ["--file", "-"]])
def test_set_reads_stdin_unchanged(run, value_of, filled, monkeypatch, arguments):
    stdin(monkeypatch, "grün\r\n".encode())

    assert run("set", filled, "k", *arguments)[0] == 0
    assert value_of("k") == "grün\r\n"


@pytest.mark.parametrize(
    ("kind", "content", "value"),
    [("str", b"a\r\n", "a\r\n"), ("json", b"[1]\n", [1]), ("bytes", b"\x00\xff", b"\x00\xff")],
)
def test_set_reads_file(run, value_of, filled, tmp_path, kind, content, value):
    source = tmp_path / "source"
    source.write_bytes(content)

    assert run("set", filled, "k", "--file", source, "--value-type", kind)[0] == 0
    assert value_of("k") == value


def test_set_large_file_comes_back_raw(filled, tmp_path, capfdbinary):
    source = tmp_path / "source"
    source.write_bytes(LARGE)
    main(["set", str(filled), "k", "--file", str(source), "--value-type", "bytes"])
    capfdbinary.readouterr()
    main(["get", str(filled), "k", "--raw"])

    assert capfdbinary.readouterr().out == LARGE


@pytest.mark.parametrize("empty", [True, False])
def test_set_create_makes_cache_where_nothing_is(run, directory, empty):
    if empty:
        directory.mkdir()

    assert run("set", directory, "k", "v", "--create")[0] == 0
    with Cache(directory) as cache:
        assert cache["k"] == "v"


def test_set_create_refuses_other_folder(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")

    assert run("set", tmp_path, "k", "v", "--create")[0] == ExitCode.NOT_A_CACHE
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_set_too_large_value_is_refused_aloud(run, directory):
    with Cache(directory, size_limit=100_000):
        pass
    code, _, err = run("set", directory, "k", "x" * 200_000)

    assert code == ExitCode.FAILED
    assert "size limit" in err


# -- Removing ----------------------------------------------------------------------------------


def test_delete_counts_and_names_missing_keys(run, run_json, value_of, filled):
    code, out, err = run("delete", filled, "text", "nope", "number")

    assert (code, out) == (ExitCode.FINDINGS, "removed 2 entries\n")
    assert err == "diskcache: no such key: 'nope'\n"
    assert value_of("text") is ENOVAL
    assert run_json("delete", filled, "tuple") == (0, {"removed": 1, "missing": []})
    assert run_json("delete", filled, "gone") == (
        1,
        {"removed": 0, "missing": [{"type": "str", "value": "gone"}]},
    )


@pytest.mark.parametrize(
    ("arguments", "removed"),
    [
        (["words"], 2),
        (["7", "--tag-type", "int"], 1),
        (["7"], 0),
        (["--untagged"], 4),
    ],
)
def test_evict_removes_by_tag(run_json, filled, arguments, removed):
    assert run_json("evict", filled, *arguments) == (0, {"removed": removed})


@pytest.mark.parametrize("arguments", [[], ["words", "--untagged"]])
def test_evict_needs_exactly_one_choice(run, filled, arguments):
    assert run("evict", filled, *arguments)[0] == ExitCode.USAGE


def test_expire_removes_only_what_is_over(run, run_json, filled):
    assert run("expire", filled)[:2] == (0, "removed 1 entry\n")
    assert run_json("expire", filled) == (0, {"removed": 0})
    assert run_json("info", filled)[1]["entries"] == 6


def test_cull_gets_under_the_limit(run_json, directory):
    with Cache(directory, cull_limit=0, size_limit=200_000) as cache:
        for number in range(10):
            cache[number] = bytes(40_000)
    code, data = run_json("cull", directory)

    assert code == 0
    assert 0 < data["removed"] < 10
    with Cache(directory) as cache:
        assert cache.volume() <= 200_000
        assert len(cache) == 10 - data["removed"]


def test_clear_in_a_script_needs_no_confirmation(run, filled, monkeypatch):
    stdin(monkeypatch, b"")

    assert run("clear", filled)[:2] == (0, "removed 7 entries\n")


def test_clear_on_terminal_wants_yes(run, run_json, filled, monkeypatch):
    stdin(monkeypatch, b"", terminal=True)
    code, out, err = run("clear", filled)

    assert (code, out) == (ExitCode.USAGE, "")
    assert "all 7 entries" in err
    assert run_json("info", filled)[1]["entries"] == 7
    assert run_json("clear", filled, "--yes") == (0, {"removed": 7})


# -- check -------------------------------------------------------------------------------------


def test_check_sound_cache_is_code_0(run, run_json, filled):
    assert run("check", filled) == (0, "no problems found\n", "")
    assert run_json("check", filled) == (0, {"findings": [], "fixed": 0, "remaining": 0})


def test_check_reports_and_fixes(run, run_json, filled):
    stray = filled / "ab" / "cd" / ("0" * 28 + ".val")
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_text("lost")
    code, data = run_json("check", filled)

    assert (code, data["fixed"], data["remaining"]) == (ExitCode.FINDINGS, 0, 1)
    assert [finding["category"] for finding in data["findings"]] == ["UnknownFileWarning"]
    assert str(stray) in data["findings"][0]["message"]
    assert stray.exists()
    code, out, _ = run("check", filled)
    assert code == ExitCode.FINDINGS
    assert out.splitlines() == [
        f"UnknownFileWarning: {data['findings'][0]['message']}",
        "1 problem found; mend it with: check --fix",
    ]
    code, data = run_json("check", filled, "--fix")
    assert (code, data["remaining"]) == (0, 0)
    assert data["fixed"] == len(data["findings"])
    assert not stray.exists()
    assert run("check", filled)[0] == 0


def test_check_fix_leaves_files_of_others(run, filled):
    stray = filled / "notes.txt"
    stray.write_text("mine")
    code, out, _ = run("check", filled, "--fix")

    assert (code, stray.read_text()) == (ExitCode.FINDINGS, "mine")
    assert "fixed 0 of 1\n" in out


# -- The parser and its documentation ----------------------------------------------------------


def subparsers():
    """Return the parser of each command by name."""
    actions = build_parser()._actions
    return next(
        action.choices for action in actions if isinstance(action, argparse._SubParsersAction)
    )


COMMANDS = sorted(subparsers())


def test_commands_are_complete():
    looking = {"info", "ls", "get", "check"}
    changing = {"set", "delete", "evict", "expire", "cull", "clear"}

    copying = {"backup", "copy", "export", "import"}

    assert set(COMMANDS) == looking | changing | copying | {"demo", "migrate"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(command):
    parser = subparsers()[command]

    assert parser.description.endswith(".")
    assert [action.dest for action in parser._actions if not action.help] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_documented(command):
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {command}", 1)[1].split("\n## ", 1)[0]
    common = {"-h", "--help", "--json", "--timeout", "--disk"}
    options = {
        option for action in subparsers()[command]._actions for option in action.option_strings
    }

    assert {option for option in options - common if f"`{option}" not in section} == set()


def test_exit_codes_are_documented():
    text = (DOCS / "cli.md").read_text(encoding="utf-8")

    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == set(ExitCode)
    assert {
        int(code) for code in re.findall(r"^  (\d+)  ", build_parser().epilog, re.MULTILINE)
    } == {*ExitCode}


def test_no_command_prints_help_and_is_a_usage_error(run):
    code, out, err = run()

    assert (code, out) == (ExitCode.USAGE, "")
    assert "commands:" in err


def test_help_and_version_are_code_0(run):
    assert run("--help")[0] == 0
    assert run("ls", "--help")[0] == 0
    assert run("--version") == (0, f"diskcache {diskcache.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["ls"],
        ["ls", "DIR", "--limit", "-1"],
        ["ls", "DIR", "--limit", "many"],
        ["ls", "DIR", "--timeout", "nan"],
        ["ls", "DIR", "--json", "--frob"],
        ["get", "DIR", "k", "--type", "complex"],
        ["get", "DIR", "x", "--type", "int"],
        ["get", "DIR", "__import__('os').getpid()", "--type", "literal"],
        ["get", "DIR", "(" * 500, "--type", "literal"],
        ["get", "DIR", "{", "--type", "json"],
        ["set", "DIR", "k"],
        ["set", "DIR", "k", "v", "--file", "f"],
        ["set", "DIR", "k", "v", "--value-type", "int"],
        ["set", "DIR", "k", "--file", "/nonexistent/file"],
    ],
)
def test_usage_error_is_code_2(run, filled, arguments):
    code, out, err = run(*(str(filled) if part == "DIR" else part for part in arguments))

    assert (code, out) == (ExitCode.USAGE, "")
    assert err
    assert "Traceback" not in err


def test_set_binary_stdin_as_text_is_a_usage_error(run, filled, monkeypatch):
    stdin(monkeypatch, b"\xff\xfe")
    code, _, err = run("set", filled, "k", "-")

    assert code == ExitCode.USAGE
    assert "--value-type bytes" in err


def test_expire_infinite_never_ends(run, run_json, filled):
    assert run("set", filled, "k", "v", "--expire", "inf")[0] == 0
    code, out, _ = run("get", filled, "k", "--json")

    assert code == 0
    assert json.loads(out)["expire_time"] is None
    assert run_json("ls", filled, "--prefix", "k")[1]["entries"][0]["expires_in"] is None


@pytest.mark.parametrize(
    "words",
    [
        ("info", "DIR"),
        ("ls", "DIR"),
        ("get", "DIR", "key"),
        ("set", "DIR", "other", "1"),
        ("delete", "DIR", "key"),
        ("evict", "DIR", "tag"),
        ("expire", "DIR"),
        ("cull", "DIR"),
        ("clear", "DIR"),
        ("check", "DIR", "--fix"),
        ("migrate", "DIR", "--dry-run"),
        ("backup", "DIR", "NEW"),
        ("copy", "DIR", "NEW"),
        ("export", "DIR", "FILE"),
        ("import", "ARCHIVE", "NEW"),
    ],
    ids=lambda words: words[0],
)
def test_command_with_the_disk_of_the_directory_succeeds(run, directory, tmp_path, words):
    places = {"DIR": directory} | {
        name: tmp_path / name for name in ("NEW", "FILE", "ARCHIVE") if name in words
    }
    with Cache(directory, disk=JSONDisk) as cache:
        cache.set("key", {"a": 1}, tag="tag")
        if "ARCHIVE" in words:
            cache.export(places["ARCHIVE"])

    code, _, err = run(*(places.get(word, word) for word in words), "--disk", "JSONDisk")

    assert (code, err) == (ExitCode.OK, "")
    if "NEW" in words:
        with Cache(places["NEW"], disk=JSONDisk) as cache:
            assert cache["key"] == {"a": 1}


def test_disk_for_a_server_is_refused(run):
    code, _, err = run("info", "redis://localhost:1/0", "--disk", "JSONDisk")

    assert code == ExitCode.USAGE
    assert "--disk is for directories" in err
