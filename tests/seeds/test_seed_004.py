"""The examples of a guide, as it prints them."""

import asyncio
import re
import urllib.request
import warnings
from functools import partial
from pathlib import Path

import pytest

import diskcache
from diskcache import Cache, Disk, StringIterableWarning
from tests.seeds.conftest import MANIFEST
from tests.support.django import run_with_caches, skip_without_django_cache
from tests.support.snippets import assert_is_complete, snippets

PAGE = snippets(Path(__file__).with_name("004.md"))

PROGRAMS = {
    "pattern 1: basic operations": "value\nTrue\n",
    "pattern 2: memoize": "",
    "pattern 3: stampede": "",
    "pattern 4: fanout": "",
    "pattern 5: tags": "",
    "pattern 6: persistent results": "1\n",
    "pattern 8: asyncio": "",
    "pattern 9: JSONDisk": "",
    "pattern 10: lock": "Exclusive access to resource\n",
    "pattern 11: throttle": "",
    "Cache class": "",
    "FanoutCache class": "",
    "eviction policies": "",
    "thread and process safety": "",
    "expiration": "None\n",
    "tags": "Evicted 2 entries\n",
    "statistics": "Hits: 100, Misses: 50\nCache volume: # bytes\n",
    "CompressedDisk": "",
    "from lru_cache": "",
    "from Redis: after": "",
    "warming": "",
    "two tiers": "",
    "temporary cache for tests": "",
    "context manager": "",
}
"""Programs that run as printed, and what they print."""

DJANGO = ("pattern 7: Django settings", "Django settings", "from the file cache of Django")
"""Programs that run as printed in a configured Django; see the class for it."""

RUN = [*PROGRAMS, *DJANGO, "FastAPI", "Deque and Index classes"]

NOT_RUN = {
    "web crawler": "`Deque('data/todo')` holds the characters of that string, as the tutorial and"
    " `collections.deque` have it; run below with `directory=`",
    "install with pip": "a command of a shell, which asks a network",
    "install with uv": "a command of a shell, which asks a network",
    "install for development": "commands of a shell: they fetch another project",
    "from Redis: before": "the program before it was changed: it uses no part of this library, and"
    " needs a server",
}

GIVEN = {
    "pattern 5: tags": {"data1": 1, "data2": 2, "data3": 3},
    "tags": {"data1": 1, "data2": 2, "data3": 3},
    "pattern 11: throttle": {"make_expensive_api_request": lambda: "answer"},
    "FanoutCache class": {"Disk": Disk},
    "warming": {
        "load_common_queries": lambda: ["one", "two"],
        "expensive_database_query": str.upper,
    },
    "two tiers": {"expensive_operation": str.upper},
}
"""Names that a program uses without defining them."""


def test_every_example_is_run_or_listed():
    assert_is_complete(PAGE, MANIFEST["004"], run=RUN, not_run=NOT_RUN)


@pytest.fixture
def run(stage):
    """Run an example of the page with what it needs; return what it printed, and its names."""

    def run_one(name, *replaced, **given):
        given = {**GIVEN.get(name, {}), **given}
        if name in {"pattern 10: lock", "pattern 11: throttle"}:
            # In the list of patterns both use the cache of an earlier one.
            given["cache"] = Cache("patterns")
        return stage.run(PAGE[name], *replaced, **given)

    return run_one


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_prints_what_it_says(run, name):
    output, _ = run(name)

    assert re.sub(r"\d+ bytes", "# bytes", output) == PROGRAMS[name]


class TestWhatProgramsDo:
    """What the text beside the programs says that they do."""

    def test_memoized_call_takes_its_time_once(self, run, monkeypatch):
        naps = []
        monkeypatch.setattr("time.sleep", naps.append)
        _, names = run("pattern 2: memoize")

        assert (names["result"], naps) == (3, [2])

    def test_stampede_result_is_there_for_every_later_call(self, run, monkeypatch):
        naps = []
        monkeypatch.setattr("time.sleep", naps.append)
        _, names = run("pattern 3: stampede")

        assert [names["generate_landing_page"]() for _ in range(3)] == ["Landing Page"] * 3
        assert naps == [0.2]

    def test_fanout_has_the_shards_it_was_given(self, run):
        _, names = run("pattern 4: fanout")

        assert (names["value"], names["cache"].info().shards) == ("value", 8)

    def test_tag_is_evicted(self, run):
        _, names = run("pattern 5: tags")

        assert len(names["cache"]) == 0

    def test_index_keeps_what_was_crawled(self, run):
        _, names = run("pattern 6: persistent results")

        assert names["data"]["status"] == 200

    def test_awaited_value_is_the_one_that_was_stored(self, run):
        _, names = run("pattern 8: asyncio")

        assert names["value"] == "test-value"

    def test_json_disk_of_the_user_keeps_keys_and_values(self, run):
        _, names = run("pattern 9: JSONDisk")
        cache = names["cache"]
        cache[("a", 1)] = {"b": [1, 2]}

        assert (cache[["a", 1]], list(cache)) == ({"b": [1, 2]}, [["a", 1]])

    def test_lock_is_free_after_the_block(self, run):
        _, names = run("pattern 10: lock")

        assert names["lock"].acquire(blocking=False)
        names["lock"].release()

    def test_throttled_call_waits_when_the_bucket_is_empty(self, run, monkeypatch):
        """It does not raise, as the guide says elsewhere, unless asked to: see `blocking`."""
        output, names = run("pattern 11: throttle")
        naps, now = [], names["cache"]["__main__.api_call"][0]
        moment = [now]

        def sleep(seconds):
            naps.append(seconds)
            moment[0] += seconds

        monkeypatch.setattr("time.time", lambda: moment[0])
        monkeypatch.setattr("time.sleep", sleep)
        answers = [names["api_call"]() for _ in range(10)]

        assert (output, answers, sum(naps)) == ("", ["answer"] * 10, pytest.approx(6))

    def test_every_write_of_four_processes_is_there(self, run):
        _, names = run("thread and process safety")

        assert len(names["cache"]) == 4000
        assert names["cache"]["worker_3_key_999"] == "value_999"

    def test_policies_are_those_that_were_asked_for(self, run, monkeypatch):
        made = []

        class Noted(Cache):
            def __init__(self, **keywords):
                super().__init__(**keywords)
                made.append(self.eviction_policy)

        monkeypatch.setattr(diskcache, "Cache", Noted)
        run("eviction policies")

        assert made == [
            "least-recently-stored",
            "least-recently-used",
            "least-frequently-used",
            "none",
        ]

    def test_compressed_keys_are_found_and_listed(self, run):
        _, names = run("CompressedDisk")
        cache = names["cache"]
        cache["a", 1] = "value"

        assert (cache["a", 1], list(cache)) == ("value", [("a", 1)])

    def test_warming_stores_every_query(self, run):
        _, names = run("warming")
        names["warm_cache"]()

        with Cache("mycache") as cache:
            assert sorted(cache) == ["query:one", "query:two"]

    def test_two_tiers_compute_once(self, run):
        computed = []
        _, names = run("two tiers", expensive_operation=lambda key: computed.append(key) or 7)

        assert [names["get_value"]("k") for _ in range(3)] == [7, 7, 7]
        assert computed == ["k"]

    def test_test_function_passes_and_cleans_up(self, run, stage):
        _, names = run("temporary cache for tests")
        names["test_cache_operations"]()

        assert list(stage.folder.iterdir()) == []

    def test_memoized_function_replaces_the_one_of_lru_cache(self, run):
        _, names = run("from lru_cache")
        function = names["expensive_function"]

        assert (function(4), function.__cache_key__(4) in names["cache"]) == (8, True)


def test_path_given_to_a_deque_warns_and_names_the_argument(run):
    with pytest.warns(StringIterableWarning, match=r"Deque\(directory='data/queue'\)"):
        _, names = run("Deque and Index classes")

    assert (names["item"], names["value"]) == ("item", "value")
    assert list(names["deque"]) == list("data/queue")


def test_fastapi_answers_the_second_request_from_the_cache(run, site, capsys):
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("fastapi")
    _, names = run("FastAPI")

    async def ask():
        transport = httpx.ASGITransport(app=names["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return [
                (await client.get("/fetch", params={"url": site.url + "/page/0"})).json()
                for _ in range(2)
            ]

    first, second = asyncio.run(ask())

    assert first == second == {"content": '<a href="/page/1"><a href="/page/2">'}
    assert site.asked == ["/page/0"]
    assert capsys.readouterr().out.splitlines() == [
        f"Making new request for {site.url}/page/0",
        f"Using cached content for {site.url}/page/0",
    ]


class TestWebCrawler:
    def crawl(self, run, site, *replaced):
        pytest.importorskip("requests")
        links = partial(re.findall, 'href="([^"]+)"')
        return run(
            "web crawler",
            *replaced,
            extract_links=lambda text: [site.url + link for link in links(text)],
        )

    def test_directories_of_a_string_warn(self, run, site):
        """As printed it looks for the pages `d`, `a`, `t` and so on, and four processes fail."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", StringIterableWarning)
            with pytest.raises(StringIterableWarning, match=r"Deque\(directory='data/todo'\)"):
                self.crawl(run, site)

    def test_four_processes_crawl_every_page_once(self, run, site):
        with diskcache.Deque([site.url + "/page/0"], directory="data/todo"):
            output, names = self.crawl(run, site, ("'data/todo'", "directory='data/todo'"))

        assert output == "Crawled 15 pages\n"
        assert sorted(site.asked) == sorted(f"/page/{number}" for number in range(15))
        assert names["results"][site.url + "/page/14"] == ""


class TestDjango:
    """The examples for Django, with other paths."""

    @pytest.fixture(autouse=True)
    def there(self):
        skip_without_django_cache()

    @pytest.mark.parametrize(
        ("name", "location"),
        [
            ("pattern 7: Django settings", "/var/cache/django"),
            ("from the file cache of Django", "/var/tmp/django_cache"),
        ],
    )
    def test_settings_make_a_cache_that_keeps_what_it_is_given(self, tmp_path, name, location):
        output = run_with_caches(
            PAGE[name].text.replace(location, str(tmp_path / "cache")),
            "print(type(caches['default']).__name__, cache.set('k', [1]), cache.get('k'))\n"
            "cache.close()\n",
            tmp_path,
        )

        assert output.splitlines() == ["DjangoCache True [1]"]

    def test_view_computes_once(self, tmp_path):
        settings, usage = PAGE["Django settings"].text.split("# Usage in views\n")
        output = run_with_caches(
            settings.replace("/path/to/cache/directory", str(tmp_path / "cache")),
            "def expensive_computation():\n"
            "    print('computing')\n"
            "    return 42\n" + usage + "print(my_view(None), my_view(None))\n"
            "cache.close()\n",
            tmp_path,
        )

        assert output.splitlines() == ["computing", "42 42"]


def test_site_on_loopback_is_the_one_that_answers(site):
    with urllib.request.urlopen(site.url + "/page/13") as answer:
        assert answer.read() == b""
