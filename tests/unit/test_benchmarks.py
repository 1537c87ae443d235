"""The benchmarks run, and judge what they measured rightly. Figures are nobody's promise here."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def script(name, *arguments, expected=0):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done


@pytest.fixture
def load(monkeypatch):
    """Import a module of the benchmarks, and forget it afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = (
        "count",
        "django_backends",
        "environment",
        "operations",
        "report",
        "rows",
        "run",
        "structures",
    )

    def load_one(name):
        return importlib.import_module(name)

    yield load_one
    for name in names:
        sys.modules.pop(name, None)


def measured(name="a row", old=(8e-6, 9e-6), new=(2e-6, 4e-6), stage=None, final=None):
    return {
        "name": name,
        "n": 10,
        "stage": stage,
        "final": final,
        "5": {"samples": list(old), "facts": []},
        "6": {"samples": list(new), "facts": []},
    }


def document(*rows):
    machine = {
        "processor": "a processor",
        "usable cores": 2,
        "file system": "ext4",
        "load": [0.1, 0.1, 0.1],
        "time": "2026-01-01T00:00:00+00:00",
    }
    versions = {"6": {"diskcache": "6.0.0", "python": "3.11.7", "sqlite": "3.54.1"}}
    return {
        "machine": machine,
        "versions": versions,
        "options": {"rounds": 2, "scale": 1.0, "clock": "elapsed"},
        "rows": list(rows),
    }


ONCE = ("run.py", "--side", "6", "--passes", 1, "--rounds", 1)


class TestRun:
    def test_every_row_runs_and_is_written_to_json(self, tmp_path, load):
        figures = tmp_path / "figures.json"

        script(*ONCE, "--scale", 0.001, "--json", figures)

        rows = json.loads(figures.read_text())["rows"]
        assert [row["name"] for row in rows] == [row.name for row in load("rows").ROWS]
        assert all(len(row["6"]["samples"]) == 1 for row in rows)
        assert all(row["6"]["samples"][0] > 0 for row in rows)

    def test_full_cache_culls_about_one_entry_per_set(self, tmp_path):
        figures = tmp_path / "figures.json"

        script(*ONCE, "--only", "full", "--scale", 0.1, "--json", figures)

        facts = json.loads(figures.read_text())["rows"][0]["6"]["facts"][0]
        assert facts["culled per set"] > 0.5
        assert facts["volume of limit"] < 1.05

    def test_caches_are_removed_afterwards(self, tmp_path):
        script(*ONCE, "--only", "^get, hot$", "--scale", 0.01, "--directory", tmp_path)

        assert list(tmp_path.iterdir()) == []

    def test_passes_add_their_rounds(self, tmp_path):
        figures = tmp_path / "figures.json"

        rounds = ("--passes", 2, "--rounds", 3, "--scale", 0.01)
        script("run.py", "--side", "6", "--only", "^get, hot$", *rounds, "--json", figures)

        rows = json.loads(figures.read_text())["rows"]
        assert [len(row["6"]["samples"]) for row in rows] == [6]

    def test_unknown_pattern_is_an_error(self):
        done = script("run.py", "--only", "no such row", expected=2)

        assert "no row matches 'no such row'" in done.stderr

    def test_failing_row_is_reported_and_others_go_on(self, load, tmp_path):
        run, rows = load("run"), load("rows")
        worker = run.Side(sys.executable, str(tmp_path), quiet=True)
        try:
            bad = rows.ROWS[0]._replace(name="no such row")
            failed = run.measure(bad, {"6": worker}, 1, 0.001)
            good = run.measure(rows.ROWS[0], {"6": worker}, 1, 0.001)
        finally:
            worker.close()

        assert failed["6"]["samples"] == []
        assert "StopIteration" in failed["6"]["error"]
        assert len(good["6"]["samples"]) == 1

    def test_environment_that_cannot_be_made_names_the_remedy(self, load, tmp_path):
        environment = load("environment")
        (tmp_path / "file").touch()

        with pytest.raises(environment.EnvironmentProblemError, match="--old-python PATH"):
            environment.old_python(tmp_path / "file" / "v5")


class TestReport:
    def test_ratio_compares_the_least_samples(self, load):
        report = load("report")

        assert report.ratio(measured(old=(8e-6, 9e-6), new=(2e-6, 4e-6))) == pytest.approx(4)

    def test_side_that_was_not_measured_has_no_ratio(self, load):
        report = load("report")

        assert report.ratio(measured(new=())) is None

    @pytest.mark.parametrize(("target", "text"), [(3.9, "3.9x yes"), (4.1, "4.1x NO"), (None, "")])
    def test_verdict_says_whether_target_is_reached(self, load, target, text):
        report = load("report")

        assert report.verdict(measured(stage=target), "stage") == text

    def test_table_names_rows_below_target(self, load):
        report = load("report")

        text = report.table(document(measured("slow", stage=9), measured("fast", stage=2)))

        assert text.endswith("below the target for now: slow")

    def test_comparison_leaves_out_what_the_machine_changed(self, load):
        report = load("report")
        twice_as_slow_a_machine = measured(old=(16e-6,), new=(4e-6,))

        text = report.comparison(document(twice_as_slow_a_machine), document(measured()))

        assert text.splitlines()[1].split() == ["a", "row", "2.00", "4.00", "+100%", "+100%"]

    def test_comparison_marks_what_became_slower(self, load):
        report = load("report")

        text = report.comparison(document(measured(new=(4e-6,))), document(measured()))

        assert text.endswith("slower")

    def test_plot_without_matplotlib_is_skipped(self, load, tmp_path, monkeypatch):
        report = load("report")
        monkeypatch.setitem(sys.modules, "matplotlib", None)

        assert report.plot(document(measured()), tmp_path / "plot.png") is False
        assert list(tmp_path.iterdir()) == []

    def test_plot_is_drawn(self, load, tmp_path):
        pytest.importorskip("matplotlib")
        report = load("report")

        assert report.plot(document(measured(stage=3, final=5)), tmp_path / "plot.png") is True
        assert (tmp_path / "plot.png").stat().st_size > 1000


class TestCount:
    def test_read_is_one_statement_and_a_write_three(self, tmp_path):
        figures = tmp_path / "figures.json"

        script(
            "count.py", "--only", "^set, key exists$|^get$", "--no-strace", "--n", "10",
            "--json", figures,
        )  # fmt: skip

        counts = json.loads(figures.read_text())
        assert (counts["get"]["statements"], counts["get"]["frames"]) == (1, 0)
        assert counts["set, key exists"]["statements"] <= 3
        assert counts["set, key exists"]["frames"] >= 1

    def test_summary_of_system_calls_is_understood(self, load):
        text = (
            "% time     seconds  usecs/call     calls    errors syscall\n"
            "------ ----------- ----------- --------- --------- ----------------\n"
            " 60.00    0.000300           1       300        12 futex\n"
            " 40.00    0.000200           2       100           pwrite64\n"
            "------ ----------- ----------- --------- --------- ----------------\n"
            "100.00    0.000500           1       400        12 total\n"
        )

        assert load("count").parse_summary(text) == {"futex": 300, "pwrite64": 100}


def test_format_probe_runs(tmp_path):
    figures = tmp_path / "figures.json"

    script("format.py", "--plan", "index", "--rounds", 1, "--scale", 0.01, "--json", figures)

    assert len(json.loads(figures.read_text())[0]["best"]) == 6
