"""The scripts of an article, each run twice, as two runs of the program would be."""

import doctest
import re
from pathlib import Path

import pytest

import diskcache
from tests.seeds.conftest import MANIFEST
from tests.support.snippets import FLAGS, assert_is_complete, snippets

PAGE = snippets(Path(__file__).with_name("003.md"))

SCRIPTS = [name for name in PAGE if name.endswith(".py")]

NOT_RUN = {
    "JSONDisk": "an argument, not a program; its values are JSON text in compressed form, and not"
    " readable as the article says: `json_serializer` writes them so",
}

SERVICE = "https://jsonplaceholder.typicode.com"
"""Replaced by a server on loopback."""

DIFFERENT = {
    "cache_operations.py": [
        (
            "Cache size (bytes): 8192",
            "Cache size (bytes): #",
            "no version of the database is that small: 5.6.3 prints 32768",
        )
    ],
    "cache_size.py": [
        (
            "Volume (bytes): 1245184",
            "Volume (bytes): #",
            "a matter of page sizes: 5.6.3 prints 1056768",
        )
    ],
    "enrichment_pipeline.py": [
        (
            "(5 from cache, 0 from API)",
            "(0 from cache, 5 from API)",
            "the key that it looks for is of its own making: `__cache_key__` gives the real one",
        )
    ],
}
"""What is printed otherwise than the article says: there, here, why."""


def test_every_example_is_run_or_listed():
    assert_is_complete(PAGE, MANIFEST["003"], run=SCRIPTS, not_run=NOT_RUN)


def expected(name, run):
    """Return what run number *run* is to print; its last output holds for later runs too."""
    printed = PAGE[name].printed
    text = printed[min(run, len(printed) - 1)]
    for there, here, _ in DIFFERENT.get(name, ()):
        text = text.replace(there, here)
    return text


def assert_prints(name, run, output):
    """Compare without seconds and volumes; a line of three dots stands for any lines."""
    output = re.sub(r"(Cache size|Volume) \(bytes\): \d+", r"\1 (bytes): #", output)
    output, wanted = (re.sub(r"\d+\.\d+s", "#s", text) for text in (output, expected(name, run)))

    assert doctest.OutputChecker().check_output(wanted, output, FLAGS), (
        f"expected:\n{wanted}\ngot:\n{output}"
    )


def run(stage, name, site):
    """Run a script, with a server on loopback in the place of the service."""
    replaced = [(SERVICE, site.url)] if SERVICE in PAGE[name].text else []
    return stage.run(PAGE[name], *replaced)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_prints_what_the_article_says_in_two_runs(stage, site, name):
    pytest.importorskip("requests")
    for number in range(2):
        output, _ = run(stage, name, site)
        if name == "memoize_demo.py" and number:
            assert "[CACHE MISS]" not in output, "what the first run stored is gone"
            continue
        assert_prints(name, number, output)


def test_first_run_of_quick_script_waits_a_second_and_the_next_does_not(stage, monkeypatch):
    naps = []
    monkeypatch.setattr("time.sleep", naps.append)
    stage.run(PAGE["quick_diskcache.py"])
    stage.run(PAGE["quick_diskcache.py"])

    assert naps == [1]


def test_service_is_asked_once_for_each_user_and_list_of_posts(stage, site):
    pytest.importorskip("requests")
    for _ in range(2):
        run(stage, "memoize_demo.py", site)

    assert site.asked == ["/users/1", "/posts?userId=1"]


def test_pipeline_asks_the_service_once_for_each_user(stage, site):
    """The count of hits that it prints is wrong; the cache works all the same."""
    pytest.importorskip("requests")
    first, _ = run(stage, "enrichment_pipeline.py", site)
    second, names = run(stage, "enrichment_pipeline.py", site)

    people = [line for line in first.splitlines() if line.startswith("  ")]
    assert len(people) == 5
    assert people == [line for line in second.splitlines() if line.startswith("  ")]
    assert site.asked == [f"/users/{number}" for number in range(1, 6)]
    fetch = names["fetch_user_details"]
    assert all(fetch.__cache_key__(number) in names["CACHE"] for number in range(1, 6))


def test_evict_without_a_tag_removes_every_entry_without_one(stage):
    """As the comment in the script says, and other than in 5.6.3, which removed nothing."""
    _, names = stage.run(PAGE["cache_size.py"])

    assert names["evicted"] == 100


def test_json_disk_is_an_argument_of_the_cache(stage):
    cache = eval(f"diskcache.Cache({PAGE['JSONDisk'].text.strip()})", {"diskcache": diskcache})
    cache["key"] = [1, {"a": None}]

    assert cache["key"] == [1, {"a": None}]
    cache.close()
