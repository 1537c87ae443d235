"""The page on the architecture names the modules that there are."""

from __future__ import annotations

import re

from tests.support.pages import ROOT, sections, table

PACKAGE = ROOT / "src" / "diskcache"
MODULES = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
NAMED = {
    name
    for row in table(sections("ARCHITECTURE.md")["Files"], "module")
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", row[0])
}


def test_modules_on_the_page_are_there():
    assert {name for name in NAMED if not (PACKAGE / name).exists()} == set()


def test_modules_that_are_there_are_on_the_page():
    folders = tuple(name for name in NAMED if name.endswith("/"))
    unnamed = {
        name
        for name in MODULES - NAMED
        if not name.endswith(("__init__.py", "__main__.py")) and not name.startswith(folders)
    }

    assert unnamed == set()
