"""The benchmark of eviction policies reads traces, replays them rightly, and judges rightly."""

import json
import lzma
import random
import struct
from importlib.util import find_spec

import pytest

from tests.support.benchmarks import BENCHMARKS, LIMIT, MACHINE, modules, script
from tests.support.legacy import old_python

pytestmark = pytest.mark.timeout(LIMIT + 100)

FIFO, LRU, LFU, S3 = POLICIES = (
    "least-recently-stored",
    "least-recently-used",
    "least-frequently-used",
    "s3-fifo",
)


@pytest.fixture
def load(monkeypatch):
    """Import a module of the benchmarks, and forget it afterwards."""
    with modules(monkeypatch) as load_one:
        yield load_one


def write_trace(folder, name, *columns):
    numbers = [number for column in columns for number in column]
    path = folder / name
    path.write_bytes(lzma.compress(struct.pack(f">{len(numbers)}i", *numbers)))
    return path


def skewed(count, keys, seed=3):
    """Return keys of which some are asked for often, some in turn, and some once."""
    chance = random.Random(seed)
    often = [int(keys * chance.random() ** 3) for _ in range(count)]
    return [key if place % 7 else keys + place % (3 * keys) for place, key in enumerate(often)]


class TestTraces:
    def test_keys_are_read_in_order(self, load, tmp_path):
        path = write_trace(tmp_path, "one.int32be.xz", [7, 256, -1, 7])

        trace = load("eviction_traces").read(path)

        assert (trace.name, list(trace.keys), trace.sizes) == ("one", [7, 256, -1, 7], None)
        assert trace.footprint == 3

    def test_sizes_follow_all_keys(self, load, tmp_path):
        path = write_trace(tmp_path, "two.key-size-int32be.xz", [1, 2, 1], [10, 20, 10])

        trace = load("eviction_traces").read(path)

        assert (list(trace.keys), list(trace.sizes), trace.footprint) == (
            [1, 2, 1],
            [10, 20, 10],
            30,
        )

    def test_first_requests_of_a_sized_trace_have_their_own_sizes(self, load, tmp_path):
        path = write_trace(tmp_path, "two.key-size-int32be.xz", [1, 2, 3], [10, 20, 30])

        trace = load("eviction_traces").read(path, 2)

        assert (list(trace.keys), list(trace.sizes)) == ([1, 2], [10, 20])

    @pytest.mark.parametrize(
        "content", [b"no archive", lzma.compress(b"12345"), lzma.compress(b"")]
    )
    def test_damaged_file_is_named(self, load, tmp_path, content):
        traces = load("eviction_traces")
        path = tmp_path / "bad.int32be.xz"
        path.write_bytes(content)

        with pytest.raises(traces.TraceError, match=r"bad\.int32be\.xz"):
            traces.read(path)

    def test_caches_of_next_to_nothing_are_left_out(self, load, tmp_path):
        traces = load("eviction_traces")
        trace = traces.read(write_trace(tmp_path, "one.int32be.xz", range(199)))

        assert traces.sizes(trace, [0.1, 0.3]) == [(0.3, 59, 59)]

    def test_sized_trace_is_limited_by_bytes(self, load, tmp_path):
        traces = load("eviction_traces")
        path = write_trace(tmp_path, "two.key-size-int32be.xz", range(100), [50] * 100)

        assert traces.sizes(traces.read(path), [0.3]) == [(0.3, 1500, 30)]

    def test_missing_trace_is_an_error(self, tmp_path):
        assert "no traces in" in script("eviction.py", tmp_path, expected=2).stderr

        write_trace(tmp_path, "one.int32be.xz", [1])

        done = script("eviction.py", tmp_path, "--only-traces", "other", expected=2)
        assert "no trace 'other'" in done.stderr


def misses(store, keys, tick=lambda: None):
    """Replay *keys*; return those that missed."""
    missed = []
    for key in keys:
        tick()
        if store.get(key) is None:
            missed.append(key)
            store.set(key, key)
    return missed


class TestModels:
    @pytest.mark.parametrize(("policy", "victim"), [(FIFO, "a"), (LRU, "b"), (LFU, "b"), (S3, "b")])
    def test_victim_of_three_of_which_the_first_was_read(self, load, policy, victim):
        model = load("eviction_model").MODELS[policy](3)
        for key in "abc":
            model.set(key, key)
        model.get("a")
        model.set("d", "d")

        assert set("abcd") - set(model.rows) == {victim}

    def test_frequency_ages(self, load):
        model = load("eviction_model").Frequent(2)
        model.set("a", "a")
        for _ in range(3):
            model.get("a")

        misses(model, range(20))

        assert "a" not in model.rows

    def test_entry_larger_than_the_limit_is_not_stored(self, load):
        model = load("eviction_model").S3Fifo(100, by_bytes=True)

        assert model.set(1, bytes(101)) is False
        assert model.set(1, bytes(100)) is True

    def test_large_values_leave_the_long_queue_first(self, load):
        model = load("eviction_model").S3Fifo(10_000, by_bytes=True)
        for key in range(40):
            model.set(key, bytes(10 if key % 2 else 400))
            model.get(key)

        for key in range(100, 125):
            model.set(key, bytes(300))

        small, large = (
            {key for key in model.rows if key < 40 and key % 2 == odd} for odd in (1, 0)
        )
        assert len(small) > len(large)

    @pytest.mark.parametrize("limit", [1, 2, 3, 4])
    def test_nothing_misses_less_than_a_look_ahead(self, load, limit):
        keys = skewed(14, 5)

        found, _ = load("eviction_model").farthest(keys, None, limit)

        assert found == least_misses(keys, limit)

    def test_look_ahead_counts_bytes(self, load):
        found = load("eviction_model").farthest([1, 2, 1, 2], [10, 25, 10, 25], 30)

        assert found == (3, 60)


def least_misses(keys, limit, place=0, inside=frozenset()):
    """Try everything: whatever may be kept after each request."""
    if place == len(keys):
        return 0
    key = keys[place]
    if key in inside:
        return least_misses(keys, limit, place + 1, inside)
    kept = inside | {key}
    choices = [kept] if len(kept) <= limit else [kept - {one} for one in kept]
    return 1 + min(least_misses(keys, limit, place + 1, choice) for choice in choices)


class TestRealCaches:
    @pytest.mark.parametrize("limit", [12, 45, 150, 600])
    @pytest.mark.parametrize("policy", POLICIES)
    def test_cache_misses_what_its_model_misses(
        self, load, make_cache, clock, caplog, policy, limit
    ):
        caplog.set_level("ERROR")
        keys = skewed(2500, 400)
        model = load("eviction_model").MODELS[policy](limit)
        cache = make_cache(eviction_policy=policy, count_limit=limit)

        found = misses(cache, keys, lambda: clock.advance(0.001))

        assert found == misses(model, keys)
        assert set(cache) == set(model.rows)


class TestReplay:
    def test_every_cache_is_replayed_by_one_process_and_by_two(self, tmp_path):
        folder = tmp_path / "traces"
        folder.mkdir()
        keys = skewed(400, 60)
        write_trace(folder, "alike.int32be.xz", keys)
        write_trace(
            folder, "sized.key-size-int32be.xz", keys, [500 + 50 * (key % 9) for key in keys]
        )
        figures = tmp_path / "figures.json"

        script(
            "eviction.py", folder, "--only", S3, "Belady", "--shares", 0.3, "--processes", 1, 2,
            "--directory", tmp_path, "--json", figures,
        )  # fmt: skip

        document = json.loads(figures.read_text())
        rows = {(row["trace"], row["contender"], row["processes"]): row for row in document["rows"]}
        assert len(rows) == 6
        assert all(row["wrong"] == 0 for row in rows.values())
        best = rows["alike", "Belady", 1]["misses"]
        assert all(best <= row["misses"] < 400 for row in rows.values() if row["trace"] == "alike")
        assert all(
            20 <= row["rows left"] <= row["limit"]
            for (trace, contender, _), row in rows.items()
            if trace == "alike" and contender != "Belady"
        )
        assert rows["sized", S3, 2]["missed_bytes"] > 500 * rows["sized", S3, 2]["misses"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "traces"]

    def test_old_version_holds_as_many_entries(self, load, tmp_path):
        python = old_python()
        write_trace(tmp_path, "alike.int32be.xz", skewed(300, 60))
        figures = tmp_path / "figures.json"

        script(
            "eviction.py", tmp_path, "--only", f"5.6.3 {FIFO}", "--shares", 0.3, "--processes", 1,
            "--old-python", python, "--directory", tmp_path, "--json", figures,
        )  # fmt: skip

        (row,) = json.loads(figures.read_text())["rows"]
        assert row["limit"] - 10 <= row["rows left"] <= row["limit"]

    def test_run_goes_on_where_it_ended(self, load, tmp_path):
        write_trace(tmp_path, "alike.int32be.xz", skewed(300, 60))
        figures = tmp_path / "figures.json"
        common = (tmp_path, "--shares", 0.3, "--processes", 1, "--json", figures, "--resume")
        first = script("eviction.py", *common, "--only", f"model of {FIFO}")

        second = script("eviction.py", *common, "--only", f"model of {FIFO}", f"model of {S3}")

        assert "1/1 " in first.stderr
        assert "1/1 " in second.stderr
        assert len(json.loads(figures.read_text())["rows"]) == 2

    def test_caches_in_memory_keep_to_their_limits(self, tmp_path):
        # Not imported here: theine starts a thread that stays.
        if not all(map(find_spec, ("theine", "cachebox"))):
            pytest.skip("needs the extra bench")
        write_trace(tmp_path, "alike.int32be.xz", skewed(300, 60))
        figures = tmp_path / "figures.json"

        script(
            "eviction.py", tmp_path, "--only", "theine", "cachebox LRU", "cachebox LFU",
            "--shares", 0.3, "--json", figures,
        )  # fmt: skip

        rows = json.loads(figures.read_text())["rows"]
        assert len(rows) == 3
        assert all(0 < row["rows left"] <= row["limit"] for row in rows)
        assert all(row["limit"] < row["misses"] < 300 and not row["wrong"] for row in rows)

    def test_process_that_fails_ends_the_others(self, load):
        rows = load("eviction_rows")
        requests = rows.Requests(load("eviction_traces").Trace("t", [1, 2], None), b"")

        def opened():
            raise OSError("no such place")

        with pytest.raises(RuntimeError, match="no such place"):
            rows.by_processes(opened, requests, 2)

    def test_wrong_value_is_counted(self, load):
        rows = load("eviction_rows")
        requests = rows.Requests(load("eviction_traces").Trace("t", [1, 2, 1], None), b"")
        store = rows.Store({1: 1, 2: 5}.get, None, lambda: 2)

        assert rows.replay(store, requests, range(3)) == (0, 0, 1)


class TestReport:
    def document(self, **found):
        """Return a run on one trace of 1000 requests, of misses in a cache of 200 and of 50."""
        rows = [
            {
                "trace": "t", "footprint": 500, "is sized": False, "share": share, "limit": limit,
                "rows": limit, "contender": name.replace("_", "-").rstrip("4"),
                "processes": 4 if name.endswith("4") else 1, "misses": missed,
                "missed_bytes": missed, "wrong": 0,
            }
            for name, pair in found.items()
            for (share, limit), missed in zip([(0.4, 200), (0.1, 50)], pair, strict=True)
        ]  # fmt: skip
        return {"machine": MACHINE, "requests": {"t": 1000}, "versions": {}, "rows": rows}

    def claims(self, load, **found):
        return [
            claim.rpartition(": ")[2]
            for claim in load("eviction_report").claims(self.document(**found))
        ]

    def test_claims_hold(self, load):
        found = {"least_recently_stored": (400, 600), "s3_fifo": (340, 540), "theine": (360, 580)}
        shared = {"least_recently_stored4": (404, 606), "s3_fifo4": (344, 546)}

        assert self.claims(load, **found, **shared) == [
            "yes (15.0)", "yes (12.5)", "yes (15.0)", "yes (5.8)", "yes (0.1)",
        ]  # fmt: skip

    def test_claims_fail(self, load):
        found = {"least_recently_stored": (400, 600), "s3_fifo": (412, 540), "theine": (360, 580)}
        shared = {"least_recently_stored4": (400, 600), "s3_fifo4": (420, 560)}

        assert self.claims(load, **found, **shared) == [
            "NO (-2.9)", "NO (3.5)", "NO (-2.9)", "NO (-3.1)", "NO (2.6)",
        ]  # fmt: skip

    def test_what_was_not_measured_is_not_judged(self, load):
        assert self.claims(load, least_recently_stored=(400, 600)) == ["not measured"] * 5

    def test_worse_is_measured_by_what_is_worse(self, load):
        score = load("eviction_report").score

        assert (score(400, 300), score(300, 400), score(0, 0)) == (25.0, -25.0, 0.0)

    def test_tables_show_scores_and_ratios(self, load):
        document = self.document(least_recently_stored=(400, 600), s3_fifo=(340, 540))

        text = load("eviction_report").text(document, as_markdown=True)

        assert "| s3-fifo | +15.0 | +15.0 | +12.5 |  |  |" in text
        assert "| trace, size | entries | LRS | s3-fifo |" in text
        assert "| t 40 % | 200 | 0.4000 | 0.3400 |" in text

    def test_failures_are_told(self, load):
        document = self.document(s3_fifo=(340, 540))
        document["rows"][0] = {**document["rows"][0], "error": "KilledError: too long"}
        document["rows"][1]["wrong"] = 2

        assert load("eviction_report").failures(document) == [
            "failed: t 40 %, 1 x s3-fifo: KilledError: too long",
            "failed: t 10 %, 1 x s3-fifo: 2 hits with a wrong value",
        ]

    def test_plot_is_drawn(self, load, tmp_path):
        pytest.importorskip("matplotlib")
        document = self.document(least_recently_stored=(400, 600), s3_fifo=(340, 540))

        assert load("eviction_report").plot(document, tmp_path / "plot.svg") is True
        assert "size of cache" in (tmp_path / "plot.svg").read_text()


class TestPublished:
    """What the page on eviction shows is what was measured."""

    @pytest.fixture
    def document(self):
        path = BENCHMARKS / "measured" / "eviction.json"
        return json.loads(path.read_text(encoding="utf-8"))

    def test_page_has_the_tables_of_the_run(self, load, document):
        reports = load("eviction_report")
        page = (BENCHMARKS.parent / "docs" / "eviction.md").read_text(encoding="utf-8")

        for lines in (reports.summary(document), *(reports.ratios(document, n) for n in (1, 4))):
            assert load("report").markdown(lines) in page

    def test_claims_hold(self, load, document):
        claims = load("eviction_report").claims(document)

        assert all(": yes (" in claim for claim in claims), claims
        assert load("eviction_report").failures(document) == []
