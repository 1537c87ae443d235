"""What the pages say is true: their code runs, and their links lead somewhere."""

from __future__ import annotations

import doctest
import re
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
}
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w+-]*)(?P<info>[^\n`]*)$")
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|mailto:|#)([^)\s#]+)")
PROMPT = re.compile(r"^>>> ", re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

each_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    line: int
    """Number of its first line in the page."""
    text: str


def blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    opening, start, inside = None, 0, []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = FENCE.match(line)
        if opening is None:
            if fence:
                opening, start, inside = fence, number + 1, []
        elif line.strip() == "```":
            yield Block(opening["language"], start, "\n".join(inside) + "\n")
            opening = None
        else:
            inside.append(line.removeprefix(opening["indent"]))


def run_block(block: Block, namespace: dict[str, object], name: str) -> None:
    """Run a block; one with prompts must also print what it shows."""
    if PROMPT.search(block.text):
        example = doctest.DocTestParser().get_doctest(
            block.text, namespace, name, name, block.line - 1
        )
        report: list[str] = []
        runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
        runner.run(example, out=report.append, clear_globs=False)

        assert runner.failures == 0, "".join(report)
        namespace.update(example.globs)
    else:
        # The empty lines make tracebacks show the line of the page.
        exec(compile("\n" * (block.line - 1) + block.text, name, "exec"), namespace)


@pytest.fixture
def module(monkeypatch, tmp_path):
    """A module for the code of a page, so that what it defines can be pickled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = types.ModuleType("page_of_the_documentation")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


@each_page
def test_python_on_the_page_runs(page, module):
    """The blocks of a page run in turn, each seeing what those before it left."""
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language in {"python", "pycon"}:
            run_block(block, vars(module), page.name)


@each_page
def test_links_lead_to_files_that_are_there(page):
    dead = [
        target
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert dead == []


@pytest.mark.parametrize(
    "name",
    [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "README.md",
        "docs/decisions.md",
        "docs/on-disk-format.md",
    ],
)
def test_page_is_there(name):
    assert name in PAGES


def test_blocks_are_found_with_language_and_line():
    text = "a\n```python\nx = 1\n```\n\n* b\n\n  ```\n  plain\n  ```\n"

    assert list(blocks(text)) == [Block("python", 3, "x = 1\n"), Block("", 9, "plain\n")]


def test_block_with_prompts_must_print_what_it_shows(module):
    run_block(Block("python", 1, ">>> x = 1\n>>> x\n1\n"), vars(module), "page")

    assert module.x == 1
    with pytest.raises(AssertionError, match="Expected"):
        run_block(Block("python", 1, ">>> x\n2\n"), vars(module), "page")


def test_block_without_prompts_sees_what_came_before(module):
    run_block(Block("python", 1, "x = 1\n"), vars(module), "page")
    run_block(Block("python", 1, "y = x + 1\n"), vars(module), "page")

    assert module.y == 2
