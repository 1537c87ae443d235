"""The examples of a page on the package, as it prints them."""

from datetime import date
from pathlib import Path

import pytest

from diskcache import Cache, json_serializer
from tests.seeds.conftest import MANIFEST
from tests.support.snippets import assert_is_complete, snippets

PAGE = snippets(Path(__file__).with_name("000.md"))

RUN = ("import Cache", "import json_serializer", "json_serializer", "quickstart")

NOT_RUN = {
    "install": "a command of a shell, which asks a network; tests/unit/test_packaging.py installs",
}


def test_every_example_is_run_or_listed():
    assert_is_complete(PAGE, MANIFEST["000"], run=RUN, not_run=NOT_RUN)


@pytest.mark.parametrize("name", ["import Cache", "import json_serializer"])
def test_import_gives_the_name(stage, name):
    _, names = stage.run(PAGE[name])

    assert name.partition(" ")[2] in names


def test_quickstart_prints_what_was_stored(stage):
    output, _ = stage.run(PAGE["quickstart"])

    assert output.splitlines() == [
        "Retrieved value: Hello, DiskCache!",
        "Another key's value: 123",
        "Reopened cache value: Hello, DiskCache!",
    ]
    assert list(stage.folder.iterdir()) == []


def test_json_serializer_is_a_keyword_of_the_cache(stage):
    stage.run(PAGE["json_serializer"], Cache=Cache, json_serializer=json_serializer)


class YourCustomClass:
    pass


class TestCommonErrors:
    """The errors and warnings that the page lists, in its words."""

    @pytest.mark.parametrize("value", [YourCustomClass(), date(2026, 5, 12)])
    def test_value_that_json_cannot_write_is_a_type_error(self, make_cache, value):
        cache = make_cache(serializer=json_serializer)
        name = type(value).__name__

        with pytest.raises(TypeError, match=f"Object of type {name} is not JSON serializable"):
            cache["key"] = value

    def test_custom_object_is_written_by_its_json_method(self, make_cache):
        class Point:
            def __json__(self):
                return {"x": 1}

        cache = make_cache(serializer=json_serializer)
        cache["key"] = Point()

        assert cache["key"] == {"x": 1}

    def test_custom_pair_of_functions_is_a_serializer(self, make_cache):
        cache = make_cache(serializer=(lambda value: repr(value).encode(), lambda data: data[::-1]))
        cache["key"] = 12

        assert cache["key"] == b"21"

    def test_directory_without_permission_is_a_permission_error(self, directory, monkeypatch):
        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("os.makedirs", refuse)
        with pytest.raises(PermissionError, match=r"Permission denied|permission"):
            Cache(directory)
