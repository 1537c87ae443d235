"""The case studies run, in small, and what they count is true. Their figures are in the pages."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from tests.support.benchmarks import BENCHMARKS, LIMIT, script

pytestmark = pytest.mark.timeout(LIMIT + 100)

SOON = ("--seconds", 0.6, "--processes", 2, "--threads", 2, "--making", 0.1, "--expire", 0.15)
SMALL = ("--pages", 20, "--delay", 0.02, "--crawlers", 2, "--killed", 2)


@pytest.fixture
def load(monkeypatch):
    """Import a case study, and forget it and what it imports afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)

    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == BENCHMARKS:
            del sys.modules[name]


CACHED = ("memoize", "memoize behind a barrier", "memoize_stampede")
"""Ways by which most requests find the page made."""


def landing_page(figures):
    """Run the case study; return what it printed, its figures, and what was seen of each way.

    A run of 0.6 s that is held up for most of that is asked for few pages: it is repeated.
    """
    for _ in range(5):
        done = script("case_landing_page.py", *SOON, "--pause", 0.005, "--json", figures)
        document = json.loads(figures.read_text())
        seen = {one["way"]: one for one in document["seen"]}
        if all(2 * len(seen[way]["made"]) < len(seen[way]["asked"]) for way in CACHED):
            break
    return done.stdout, document, seen


def test_landing_page_is_made_as_often_as_each_way_has_it(tmp_path):
    printed, document, seen = landing_page(tmp_path / "figures.json")

    assert list(seen) == [
        "no cache", "memoize", "memoize behind a barrier", "memoize_stampede",
    ]  # fmt: skip
    assert len(seen["no cache"]["made"]) == len(seen["no cache"]["asked"])
    at_once = {one["way"]: one["at once, at the start"] for one in document["figures"]}
    assert at_once["no cache"] > 1
    assert at_once["memoize behind a barrier"] == 1
    for way in CACHED:
        assert len(seen[way]["made"]) < len(seen[way]["asked"]) / 2
        assert way in printed


def test_crawlers_fetch_every_page_and_go_on_after_being_killed(tmp_path):
    figures = tmp_path / "figures.json"

    done = script("case_web_crawler.py", *SMALL, "--json", figures)

    whole, killed = json.loads(figures.read_text())["runs"]
    assert (whole["fetched"], whole["requests"], whole["again"]) == (20, 20, 0)
    assert killed["fetched"] == 20
    assert killed["kept"] >= 8
    assert killed["requests"] == 20 + killed["again"]
    assert killed["again"] <= killed["in_hand"]
    assert done.stdout.count("\n") == 5


class TestLandingPage:
    def test_overlapping_spans_are_counted(self, load):
        case = load("case_landing_page")

        assert case.most_at_once([(0, 2), (1, 3), (2, 4), (5, 6)]) == 2

    def test_figures_leave_out_what_was_before(self, load):
        case = load("case_landing_page")
        seen = {"way": "a way", "asked": [(0, 1), (2, 2.5), (3, 3.01)], "made": [(0, 1), (2, 2.5)]}

        figures = case.summary(seen, 1)

        assert (figures["requests"], figures["made"], figures["slow %"]) == (2, 1, 50)

    def test_longest_answer_counts_for_as_long_as_it_is_waited_for(self, load):
        case = load("case_landing_page")

        assert case.longest([(0.1, 2.2), (1.5, 1.6)], [0, 1, 2, 3], 1) == [2100, 2100, 2100, 0]


@pytest.mark.parametrize("name", ["case_landing_page", "case_web_crawler"])
def test_plot_is_drawn(load, tmp_path, name):
    pytest.importorskip("matplotlib")
    case = load(name)
    path = tmp_path / "plot.svg"

    if name == "case_landing_page":
        seen = [
            {"way": way, "asked": [(0, 0.2), (0.5, 0.6)], "made": [(0, 0.2)]} for way in case.WAYS
        ]
        drawn = case.plot(seen, case.Plan(1, 1, 1, 0.1, 1, 0.1), path)
    else:
        drawn = case.plot([case.Run(2, True, 1, 4, 1, 3, 1, 1, [(0, 1), (1, 3)])], path)

    assert drawn
    assert "<svg" in path.read_text()
