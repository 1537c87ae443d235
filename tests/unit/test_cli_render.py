"""Values, units and tables as text and JSON."""

from __future__ import annotations

import io
import json
import math
import sys

import pytest

from diskcache.cli import render
from diskcache.cli.render import Output, described, human_bytes, human_seconds, shown


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20, "1.0 MiB"),
        (5 * 2**30, "5.0 GiB"),
        (2**60, "1,024.0 PiB"),
    ],
)
def test_human_bytes_picks_largest_unit(count, text):
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.2 s"),
        (59.9, "59 s"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (90_061, "1 d 1 h"),
        (math.inf, "never"),
    ],
)
def test_human_seconds_shows_two_units(seconds, text):
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain key", "plain key"),
        ("grün", "grün"),
        ("", "''"),
        (" padded", "' padded'"),
        ("two\nlines", "'two\\nlines'"),
        ("\x1b[31mred", "'\\x1b[31mred'"),
        ("\ud800", "'\\ud800'"),
        (b"a", "b'a'"),
        (("a", 1), "('a', 1)"),
        (5, "5"),
    ],
)
def test_shown_never_steers_the_terminal(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 2**70, 1.5, "text", "\ud800", [1, [None]], {"a": {"b": [1.0, "x"]}}, [], {}],
)
def test_described_value_survives_json(value):
    data = json.loads(json.dumps(described(value), allow_nan=False))

    assert data["value"] == value
    assert type(data["value"]) is type(value)
    assert data["type"] == type(value).__name__


@pytest.mark.parametrize(
    "value", [(1, 2), {1, 2}, {1: 2}, [(1,)], math.inf, math.nan, 1j, {"a": b"x"}, bytearray(b"a")]
)
def test_described_inexact_value_is_given_as_repr(value):
    assert described(value) == {"type": type(value).__name__, "repr": repr(value)}


def test_described_bytes_are_base64():
    assert described(b"\x00\xff") == {"type": "bytes", "base64": "AP8="}


def test_table_plain_aligns_text_left_and_numbers_right():
    stream = io.StringIO()

    Output(stdout=stream).table(("name", "n"), [("a", 1), ("long name", 1000)])

    assert stream.getvalue() == "name           n\na              1\nlong name  1,000\n"


def test_table_on_terminal_shows_markup_as_text():
    pytest.importorskip("rich")
    stream = Terminal()

    Output(stdout=stream).table(("name", "n"), [("[red]key[/red]", 12)])

    assert "[red]key[/red]" in stream.getvalue()
    assert "12" in stream.getvalue()


def test_table_on_terminal_without_rich_is_plain(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    stream = Terminal()

    Output(stdout=stream).table(("name",), [("a",)])

    assert stream.getvalue() == "name\na\n"


def test_line_escapes_what_the_encoding_lacks():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    Output(stdout=stream).line("grün \ud800")
    stream.flush()

    assert raw.getvalue() == b"gr\\xfcn \\ud800\n"


def test_note_is_one_line_on_stderr():
    out, err = io.StringIO(), io.StringIO()

    Output(stdout=out, stderr=err).note("error: first\n  second")

    assert (out.getvalue(), err.getvalue()) == ("", "diskcache: error: first second\n")


def test_progress_plain_prints_each_quarter_once():
    stream = io.StringIO()

    with Output(stdout=stream).progress("work", 8) as advance:
        for _ in range(8):
            advance(1)

    assert stream.getvalue().splitlines() == [
        "  work:  25 % (2 of 8)",
        "  work:  50 % (4 of 8)",
        "  work:  75 % (6 of 8)",
        "  work: 100 % (8 of 8)",
    ]


def test_progress_on_terminal_ends_complete_and_starts_no_thread():
    pytest.importorskip("rich")
    import threading

    stream = Terminal()
    before = set(threading.enumerate())
    with Output(stdout=stream).progress("work", 3) as advance:
        during = set(threading.enumerate())
        for _ in range(3):
            advance(1)

    assert during <= before
    assert "3/3" in stream.getvalue()


def test_progress_with_json_prints_nothing():
    stream = Terminal()

    with Output(as_json=True, stdout=stream).progress("work", 3) as advance:
        advance(3)

    assert stream.getvalue() == ""


def test_working_without_terminal_prints_nothing():
    out, err = Terminal(), io.StringIO()

    with Output(stdout=out, stderr=err).working("check"):
        pass

    assert err.getvalue() == ""


def test_rich_is_not_needed_to_import():
    assert "rich" not in vars(render)
