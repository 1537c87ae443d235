"""The examples in docstrings print what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import tempfile

import pytest

import diskcache

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples():
    """Return the docstrings with examples, by name."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [
        diskcache,
        *(
            importlib.import_module(found.name)
            for found in pkgutil.walk_packages(diskcache.__path__, "diskcache.")
            if not found.name.endswith("__main__")
        ),
    ]
    return {
        test.name: test
        for module in modules
        for test in finder.find(module, module.__name__)
        if test.examples
    }


EXAMPLES = examples()


@pytest.fixture
def fanout(directory):
    """What `cache` is in the examples of `FanoutCache`."""
    with diskcache.FanoutCache(directory) as cache:
        yield cache


@pytest.fixture
def django(directory):
    """What `cache` is in the examples of `DjangoCache`."""
    cache = diskcache.DjangoCache(directory, {})
    yield cache
    cache.close()


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_example_prints_what_it_shows(example, request, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    package = ".".join(example.name.split(".")[:2])
    kinds = {"diskcache.fanout": "fanout", "diskcache.integrations": "django"}
    kind = kinds.get(package, "cache")
    cache = request.getfixturevalue(kind)
    report = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    example.globs = {**example.globs, "cache": cache}
    runner.run(example, out=report.append)

    assert runner.failures == 0, "".join(report)


def test_examples_are_found():
    assert "diskcache.keys.full_name" in EXAMPLES
