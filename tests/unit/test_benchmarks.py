"""The benchmarks run, and judge what they measured rightly. Figures are nobody's promise here."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.support.benchmarks import LIMIT, MACHINE, modules, script

pytestmark = pytest.mark.timeout(LIMIT + 100)


@pytest.fixture
def load(monkeypatch):
    """Import a module of the benchmarks, and forget it afterwards."""
    with modules(monkeypatch) as load_one:
        yield load_one


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

    @pytest.mark.parametrize("asked", [("--hits",), ("--entries", 24)], ids=["hits", "sets"])
    def test_policies_are_compared_with_the_first_one(self, asked):
        printed = script("full_cache.py", *asked, "--rounds", 1).stdout

        lines = [line.split() for line in printed.splitlines()[1:]]
        assert [line[-7 if asked[0] == "--entries" else 0] for line in lines] == [
            "least-recently-stored",
            "least-recently-used",
            "least-frequently-used",
            "s3-fifo",
        ]
        assert lines[0][-1] == lines[0][-3] == "1.00"

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


class TestPeers:
    def test_contenders_are_measured_and_missing_ones_are_not_here(self, tmp_path):
        figures = tmp_path / "figures.json"
        here, missing = ("diskcache", "lru_cache", "shelve"), ("lmdb", "redis")

        done = script(
            "peers.py", "--only", *here, *missing, "--sizes", "40 B", "--passes", 1, "--rounds", 1,
            "--scale", 0.005, "--peers-python", sys.executable, "--directory", tmp_path,
            "--json", figures, "--markdown",
        )  # fmt: skip

        rows = {row["operation"]: row for row in json.loads(figures.read_text())["rows"]}
        assert list(rows) == ["get, hot", "[], hot", "set, key exists", "set, new key", "delete"]
        assert all(row["diskcache"]["samples"][0] > 0 for row in rows.values())
        assert rows["get, hot"]["lru_cache"]["samples"][0] > 0
        assert "| py-lmdb | not here | not here | not here | not here | not here |" in done.stdout
        assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]

    @pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server")
    def test_cache_on_a_server_is_measured_beside_the_client_alone(self, tmp_path):
        figures = tmp_path / "figures.json"

        done = script(
            "peers.py", "--only", "redis-py", "remote", "--sizes", "40 B", "--passes", 1,
            "--rounds", 1, "--scale", 0.005, "--directory", tmp_path, "--json", figures,
        )  # fmt: skip

        for row in json.loads(figures.read_text())["rows"]:
            assert row["redis-py"]["samples"][0] > 0
            assert row["remote"]["samples"][0] > 0
        assert "on a server within 1.3x of Redis, client of diskcache:" in done.stdout

    @pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server")
    def test_capacity_of_a_server_is_measured(self, tmp_path):
        figures = tmp_path / "figures.json"

        script("capacity.py", "--rounds", 1, "--scale", 0.005, "--json", figures)

        found = json.loads(figures.read_text())
        assert len(found["rows"]) == 21
        assert all(row["received"] > 0 for row in found["rows"])
        assert 0 < found["polls"] < 1000

    def document(self, **times):
        cells = {name: {"samples": [seconds]} for name, seconds in times.items()}
        row = {"name": "get, hot/40 B", "operation": "get, hot", "size": "40 B", **cells}
        return {
            "machine": MACHINE,
            "versions": {"diskcache": {"diskcache": "6.0.0"}, "lmdb": {"lmdb": "1.2"}},
            "options": {"rounds": 1, "sizes": ["40 B"]},
            "contenders": ["diskcache", "lmdb", "redis"],
            "rows": [row],
        }

    def test_claim_names_the_rows_that_contradict_it(self, load):
        claims = load("peers").claims(self.document(diskcache=3e-7, lmdb=2e-7, redis=4e-5))

        assert "hot reads ahead of py-lmdb: NO (get, hot/40 B: 1.50x)" in claims
        assert "up to 4 kB ahead of Redis, loopback: yes" in claims
        assert "up to 4 kB ahead of memcached, loopback: not measured" in claims

    def test_plot_is_drawn(self, load, tmp_path):
        pytest.importorskip("matplotlib")

        assert load("peers").plot(self.document(diskcache=3e-7), tmp_path / "plot.svg") is True
        assert "values of 40 B" in (tmp_path / "plot.svg").read_text()

    def test_server_that_ends_at_once_is_not_waited_for(self, load):
        peers = load("peers")
        with subprocess.Popen([sys.executable, "-c", ""]) as ended:
            ended.wait()

            assert peers.listens(peers.free_port(), ended) is False


class TestScale:
    def test_every_row_is_measured_at_every_size(self, tmp_path, load):
        figures = tmp_path / "figures.json"

        script(
            "scale.py", "--smallest", 300, "--largest", 3000, "--rounds", 1, "--scale", 0.01,
            "--alone", 0.05, "--directory", tmp_path, "--json", figures,
            "--plot", tmp_path / "plot.svg",
        )  # fmt: skip

        found = json.loads(figures.read_text())
        assert found["sizes"] == [300, 3000]
        assert {row["name"] for row in found["rows"]} == {row.name for row in load("scale").ROWS}
        assert all(
            len(row[size]["samples"]) == 1 for row in found["rows"] for size in ("300", "3000")
        )
        assert found["clear"]["removed"] >= 3000
        assert found["clear"]["cleared"]["writes"] > 0

    def document(self, small, large, longest):
        row = {"name": "a row", "300": {"samples": [small], "facts": [{"RSS MB": 30.0}]},
               "3000": {"samples": [large], "facts": [{"RSS MB": 40.0}]}}  # fmt: skip
        writer = {"seconds": 1.0, "writes": 10, "p99.9 ms": 1.0, "longest ms": longest}
        return {
            "machine": MACHINE,
            "options": {"rounds": 1},
            "sizes": [300, 3000],
            "fill": {"300": 5.0, "3000": 6.0},
            "bytes": {"300": 1_000_000, "3000": 9_000_000},
            "clear": {"entries": 3000, "removed": 3000, "alone": writer, "cleared": writer},
            "rows": [row],
        }

    @pytest.mark.parametrize(("large", "verdict"), [(1.9e-6, "yes"), (2.1e-6, "NO (a row: 2.10x)")])
    def test_growth_is_that_of_the_largest_over_the_smallest(self, load, large, verdict):
        claims = load("scale").claims(self.document(1e-6, large, 5.0))

        assert claims[0] == f"no operation grows by more than 2x: {verdict}"

    @pytest.mark.parametrize(("longest", "verdict"), [(99.0, "yes"), (101.0, "NO")])
    def test_wait_of_the_other_writer_is_judged(self, load, longest, verdict):
        claims = load("scale").claims(self.document(1e-6, 1e-6, longest))

        assert f"waits at most 100 ms: {verdict} (" in claims[1]

    def test_table_shows_memory_and_bytes(self, load):
        text = load("scale").text(self.document(1e-6, 2e-6, 5.0), as_markdown=True)

        assert "| a row | 1.00 | 2.00 | 2.00x |" in text
        assert "| memory of the process, MB | 30 | 40 |  |" in text
        assert "| database, MB | 1 | 9 |  |" in text

    def test_keys_are_distinct_and_scattered(self, load):
        keys = [load("scale_rows").key_at(number) for number in range(10_000)]

        assert len(set(keys)) == 10_000
        assert sorted(keys) != keys

    def test_sizes_are_ten_times_apart_up_to_the_largest(self, load):
        assert load("scale").sizes(10, 2000) == [10, 100, 1000, 2000]


class TestConcurrency:
    def test_processes_and_threads_are_measured(self, tmp_path):
        figures = tmp_path / "figures.json"

        script(
            "concurrency.py", "--counts", 1, 2, "--writes", 0, 50, "--rounds", 1,
            "--seconds", 0.05, "--side", 6, "--json", figures, "--plot", tmp_path / "plot.svg",
        )  # fmt: skip

        rows = {row["name"]: row["6"] for row in json.loads(figures.read_text())["rows"]}
        assert len(rows) == 8
        assert all(row["samples"][0] > 0 for row in rows.values())
        facts = rows["2 processes, 50 % writes"]["facts"][0]
        assert facts["writes p50 us"] <= facts["writes p99.9 us"]
        assert 0 < facts["slowest writer of mean"] <= 1
        assert "writes p50 us" not in rows["2 threads, 0 % writes"]["facts"][0]

    def test_percentages_that_are_none_are_an_error(self):
        done = script("concurrency.py", "--writes", 101, expected=2)

        assert "from 0 to 100" in done.stderr

    def test_plan_writes_as_often_as_asked(self, load):
        operations = load("crowd_rows").plan(1, 0.1)

        assert sum(is_write for is_write, _, _ in operations) * 10 == len(operations)

    def test_share_is_that_of_the_slowest_writer(self, load):
        rows = load("crowd_rows")
        even, slow = ([1e-6] * 30, [1e-6] * 10)
        done = [rows.Done(1.0, rows.array("d"), rows.array("d", one)) for one in (even, slow)]

        assert rows.summary(done)["slowest writer of mean"] == pytest.approx(0.5)

    def row(self, old, new, share):
        def side(seconds, wait):
            facts = {"writes p99.9 us": wait, "slowest writer of mean": share}
            return {"samples": [seconds], "facts": [facts]}

        name = "8 processes, 100 % writes"
        row = {"name": name, "way": "processes", "count": 8, "writes": 100}
        return {**row, "5": side(*old), "6": side(*new)}

    def test_claims_hold_where_this_version_is_ahead(self, load):
        row = self.row((3.1e-5, 9000.0), (2e-5, 8000.0), 0.4)

        assert load("concurrency").claims({"rows": [row]}) == [
            "8 processes, 100 % writes: 1.5x the throughput: yes (1.55x)",
            "8 processes, 100 % writes: 99.9 % of writes wait less: yes (8.0 ms, 5.6.3 9.0 ms)",
            "the slowest writer gets at least a third of the mean: yes",
        ]

    def test_claims_fail_where_it_is_not(self, load):
        row = self.row((2.9e-5, 8000.0), (2e-5, 9000.0), 0.3)

        found = load("concurrency").claims({"rows": [row]})

        assert all("NO" in claim for claim in found)
        assert found[2].endswith("NO (8 processes, 100 % writes: 0.30)")
