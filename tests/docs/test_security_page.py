"""The security policy names tests, and every one of them exists."""

from __future__ import annotations

import ast
import re

from tests.support.pages import ROOT, sections, table

CLAIMS = table(sections("SECURITY.md")["The claims and their tests"], "claim")
TESTS = {
    node.name
    for folder in ("tests", "src/diskcache/testing")
    for path in (ROOT / folder).rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
}


def test_every_claim_names_tests_and_every_test_exists():
    named = {claim: re.findall(r"`(test_\w+)`", tests) for claim, tests in CLAIMS}

    assert [claim for claim, tests in named.items() if not tests] == []
    assert {test for tests in named.values() for test in tests} - TESTS == set()


def test_every_attack_of_the_suite_is_named_by_a_claim_or_stands_beside_one():
    """A claim without a test is empty; a file of tests without a claim is not announced."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    unnamed = [
        path.name
        for path in sorted((ROOT / "tests" / "security").glob("test_*.py"))
        if not any(f"`{name}`" in text for name in re.findall(r"def (test_\w+)", path.read_text()))
    ]

    assert unnamed == []
