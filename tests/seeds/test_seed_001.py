"""The examples of the tutorial, as it prints them."""

from pathlib import Path

import pytest

import diskcache
from tests.seeds.conftest import MANIFEST
from tests.support.django import run_with_caches, skip_without_django_cache
from tests.support.snippets import assert_is_complete, snippets

PAGE = snippets(Path(__file__).with_name("001.md"))

SESSIONS = [name for name, snippet in PAGE.items() if snippet.language == "pycon"]

RUN = [*SESSIONS, "asyncio"]

NOT_RUN = {
    "install": "a command of a shell, which asks a network; tests/unit/test_packaging.py installs",
    "clone": "a command of a shell: it fetches another project",
    "tarball": "a command of a shell: it fetches another project",
    "zipball": "a command of a shell: it fetches another project",
    "setup.py": "a command of a shell: this project has no setup.py; pip installs it",
    "Django settings": "lost its first and last lines; they are put back below",
    "Django view": "lost its `try:`, so it is not Python; it is put back below",
    "JSONDisk": "lost its imports and its last line, so it is not Python; they are put back below",
}

DIFFERENT = {
    "settings": (
        ">>> cache.count           # Stale attribute.\n0\n",
        ">>> cache.count           # Stale attribute.\n1\n",
        "a total is read when it is first asked for, and not when the cache is opened",
    ),
}
"""What is printed otherwise than by version 5: there, here, why."""


def test_every_example_is_run_or_listed():
    assert_is_complete(PAGE, MANIFEST["001"], run=RUN, not_run=NOT_RUN)


def test_sessions_print_what_they_show(stage):
    """They build on each other, from the first to the last."""
    names = {"__name__": "__main__"}
    for name in SESSIONS:
        snippet = PAGE[name]
        if name in DIFFERENT:
            there, here, _ = DIFFERENT[name]
            assert there in snippet.text
            snippet = snippet._replace(text=snippet.text.replace(there, here))
        stage.session(snippet, names)
        if name == "get with more":
            names["reader"].close()  # The tutorial leaves it open.

    assert names["warnings"] == [], "what `check` found"
    assert names["timestamp"] is None


def test_asyncio_stores_through_a_pool_of_threads(stage):
    cache = diskcache.Cache()
    stage.run(PAGE["asyncio"], cache=cache)

    assert cache["test-key"] == "test-value"


JSON_DISK_HEAD = """\
import json, zlib, diskcache
from diskcache import Cache, UNKNOWN

"""
JSON_DISK_TAIL = """\
    cache[('a', 1)] = {'b': [1, 2]}
    cache.set('large', 'x' * 100_000, tag='t')
    print(cache[('a', 1)], len(cache['large']), list(cache), cache.evict('t'))
    print(cache.disk.compress_level, type(cache.disk) is JSONDisk)
"""


def test_json_disk_works_as_a_disk_of_the_user(stage):
    snippet = PAGE["JSONDisk"]
    whole = snippet._replace(text=JSON_DISK_HEAD + snippet.text + JSON_DISK_TAIL)
    output, _ = stage.run(whole)

    assert output.splitlines() == [
        "{'b': [1, 2]} 100000 [['a', 1], 'large'] 1",
        "6 True",
    ]


class TestDjango:
    """The two examples for Django, with the lines put back that the printed page lost."""

    @pytest.fixture(autouse=True)
    def there(self):
        skip_without_django_cache()

    def settings(self, folder):
        text = PAGE["Django settings"].text.replace("/path/to/cache/directory", str(folder))
        return "CACHES = {\n" + text + "        },\n    },\n}\n"

    def test_settings_make_a_cache_of_that_size_and_number_of_shards(self, tmp_path):
        output = run_with_caches(
            self.settings(tmp_path / "cache"),
            "from diskcache import DjangoCache\n"
            "inner = caches['default']\n"
            "print(isinstance(inner, DjangoCache), inner.default_timeout)\n"
            "print(cache.set('k', 'v'), cache.get('k'), inner._cache.size_limit)\n"
            "print(len(list(Path(inner.directory).glob('[0-9][0-9][0-9]'))))\n"
            "cache.close()\n",
            tmp_path,
        )

        assert output.splitlines() == ["True 300", "True v 1073741824", "8"]

    def test_view_answers_with_the_path_of_the_file(self, tmp_path):
        view = PAGE["Django view"].text
        view = view.replace("        with", "    try:\n        with").replace(
            "        # Handle", "        return HttpResponse(status=404)\n        # Handle"
        )
        output = run_with_caches(
            self.settings(tmp_path / "cache"),
            "from django.http import HttpResponse\n" + view + "from io import BytesIO\n"
            "cache.set('film', BytesIO(b'content'), read=True)\n"
            "path = media(None, 'film')['X-Accel-Redirect']\n"
            "print(path.startswith(str(folder)), Path(path).read_bytes())\n"
            "print(media(None, 'missing').status_code)\n"
            "cache.close()\n",
            tmp_path,
        )

        assert output.splitlines() == ["True b'content'", "404"]
