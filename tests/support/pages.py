"""Parts of a page of the documentation: sections, tables, fenced blocks."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def sections(name: str) -> dict[str, str]:
    """Return the text below each heading of a page, by heading."""
    found: dict[str, list[str]] = {"": []}
    heading, is_code = "", False
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        is_code ^= line.lstrip().startswith("```")
        if line.startswith("#") and not is_code:
            heading = line.lstrip("# ")
        found.setdefault(heading, []).append(line)
    return {heading: "\n".join(lines) + "\n" for heading, lines in found.items()}


def table(section: str, header: str) -> list[list[str]]:
    """Return the cells of the table whose first column is called *header*.

    Raises:
        LookupError: There is no such table.
    """
    lines = iter(section.splitlines())
    for line in lines:
        if line.startswith("|") and _cells(line)[0] == header:
            next(lines)  # The rule below the header.
            rows = []
            for row in lines:
                if not row.startswith("|"):
                    break
                rows.append(_cells(row))
            return rows
    raise LookupError(f"no table with a column {header!r}")


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def fenced(section: str, language: str) -> list[str]:
    """Return the text of the fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def squeezed(text: str) -> str:
    """Return *text* with single spaces: where its lines end does not matter."""
    return " ".join(text.split())
