"""Published examples: read from a page, compared with a manifest, and run as they are printed."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import hashlib
import inspect
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

HEADING = re.compile(r"^## (.+)$")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PROMPTS = (">>>", "...")


class Snippet(NamedTuple):
    """One example of a page."""

    name: str
    """The heading above it."""
    language: str
    """`python` for a program, `pycon` for a session, `console` for commands of a shell."""
    text: str
    printed: tuple[str, ...]
    """What the page says it prints, the first time and the next."""
    page: str
    line: int
    """Number of its first line in the page."""

    @property
    def digest(self) -> str:
        """Return what tells whether program and output are those that were published.

        Pages lose line ends and indentation, so white space does not count; nor do the outputs of
        a session, which they lose too.
        """
        text = "".join((self.text, *self.printed))
        if self.language == "pycon":
            text = "".join(line for line in text.splitlines() if line.startswith(PROMPTS))
        return hashlib.sha256("".join(text.split()).encode()).hexdigest()


def snippets(path: Path) -> dict[str, Snippet]:
    """Return the examples of a page by name: the first fenced block below each heading.

    Blocks of `text` that follow are what it prints.
    """
    found: dict[str, Snippet] = {}
    name, language, start, inside = "", None, 0, []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if language is None:
            if heading := HEADING.match(line):
                name = heading[1]
            elif line.startswith("```"):
                language, start, inside = line[3:], number + 1, []
        elif line == "```":
            text = "\n".join(inside) + "\n"
            if language == "text":
                printed = (*found[name].printed, text)
                found[name] = found[name]._replace(printed=printed)
            elif name in found:
                raise ValueError(f"{path.name}: two examples are called {name!r}")
            else:
                found[name] = Snippet(name, language, text, (), path.name, start)
            language = None
        else:
            inside.append(line)
    return found


def run_program(
    snippet: Snippet, namespace: dict[str, Any], replaced: Iterable[tuple[str, str]] = ()
) -> str:
    """Run a program and return what it prints. It may `await` outside of functions.

    Args:
        snippet: The program.
        namespace: What it can use without importing or defining it; it leaves its own there.
        replaced: Texts and what stands for them, such as a host that is not asked.

    Raises:
        ValueError: One of the texts to be replaced is not there.
    """
    text = snippet.text
    for old, new in replaced:
        if old not in text:
            raise ValueError(f"{snippet.page}: {snippet.name!r} does not say {old!r}")
        text = text.replace(old, new)
    # The empty lines make tracebacks show the line of the page.
    text = "\n" * (snippet.line - 1) + text
    code = compile(text, snippet.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(code, namespace))
        else:
            exec(code, namespace)
    return output.getvalue()


def run_session(snippet: Snippet, namespace: dict[str, Any]) -> None:
    """Run a session, which must print what it shows."""
    example = doctest.DocTestParser().get_doctest(
        snippet.text, namespace, snippet.name, snippet.page, snippet.line - 1
    )
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    runner.run(example, out=report.append, clear_globs=False)

    assert runner.failures == 0, "".join(report)
    namespace.update(example.globs)


def assert_is_complete(
    page: Mapping[str, Snippet],
    published: Mapping[str, str],
    *,
    run: Iterable[str],
    not_run: Iterable[str],
) -> None:
    """Fail if an example was forgotten, altered, or is neither run nor listed with a reason.

    Args:
        page: The examples.
        published: Digests of what was published, by name, in its order.
        run: Names of those that are run.
        not_run: Names of those that cannot be.
    """
    assert {name: snippet.digest for name, snippet in page.items()} == dict(published)
    assert list(page) == list(published)
    assert sorted([*run, *not_run]) == sorted(page)
