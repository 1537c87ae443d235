"""The examples of another page on the package, as it prints them."""

from pathlib import Path

import pytest

from tests.seeds.conftest import MANIFEST
from tests.support.django import skip_without_django_cache
from tests.support.snippets import assert_is_complete, snippets

PAGE = snippets(Path(__file__).with_name("002.md"))

IMPORTS = [name for name in PAGE if name.startswith("import ")]

RUN = [*IMPORTS, "quickstart"]

NOT_RUN = {
    "install": "a command of a shell, which asks a network; tests/unit/test_packaging.py installs",
}


def test_every_example_is_run_or_listed():
    assert_is_complete(PAGE, MANIFEST["002"], run=RUN, not_run=NOT_RUN)


@pytest.mark.parametrize("name", IMPORTS)
def test_import_gives_the_name(stage, name):
    if name == "import DjangoCache":
        skip_without_django_cache()

    _, names = stage.run(PAGE[name])

    assert name.partition(" ")[2] in names


def test_quickstart_prints_what_was_stored_and_removed(stage):
    output, names = stage.run(PAGE["quickstart"])

    assert output.splitlines() == [
        "Value for 'my_key': Hello, DiskCache!",
        "Value for 'another_key': {'data': [1, 2, 3]}",
        "Value for 'non_existent_key': default_value",
        "'my_key' is in the cache.",
        "'my_key' after deletion: DELETED",
        f"Cleaned up cache directory: {names['cache_dir']}",
    ]
    assert list(stage.folder.iterdir()) == []
