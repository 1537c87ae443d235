"""The page on `Cache` lists every method, with its parameters and their defaults."""

from __future__ import annotations

import inspect
import re

from diskcache import Cache
from diskcache.settings import METADATA, SPECS
from tests.support.pages import ROOT

TEXT = (ROOT / "docs" / "cache.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1].strip(" `") for line in TEXT.splitlines() if line.startswith("| `")]
CALLS = {row.partition("(")[0]: row for row in ROWS if re.fullmatch(r"[a-z_]+\(.*\)", row)}
OPERATORS = {"cache[key] = value", "cache[key]", "key in cache", "del cache[key]"}
FUNCTIONS = {"iter(cache)", "reversed(cache)", "len(cache)"}


def methods():
    """Return the public methods, each as it is called, without types."""
    found = {}
    for name, member in inspect.getmembers(Cache, inspect.isfunction):
        if not name.startswith("_"):
            parameters = list(inspect.signature(member).parameters.values())[1:]
            bare = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
            found[name] = f"{name}{inspect.Signature(bare)}"
    return found


def test_calls_of_the_page_are_those_of_the_class():
    shown = {name: call for name, call in CALLS.items() if call not in FUNCTIONS}

    assert shown == methods()


def test_operators_of_the_page_are_there():
    assert {row for row in ROWS if row not in CALLS.values()} == OPERATORS
    assert set(CALLS.values()) >= FUNCTIONS


def test_attributes_are_settings_totals_and_those_of_the_page():
    shown = set(re.findall("`([a-z]+)`", TEXT[TEXT.index("\nAttributes:") :]))
    members = {name: member for base in Cache.__mro__ for name, member in vars(base).items()}
    public = {name for name, member in members.items() if name[0] != "_" and not callable(member)}

    assert public - set(SPECS) == shown
    assert set(METADATA) <= shown
